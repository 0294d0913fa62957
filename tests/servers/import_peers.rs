//! Moving from each of the other programs: it fetches half of a maildrop, and what comes then is fetched by us.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::support::dovecot::{Dovecot, Format, PASSWORD};
use crate::support::mails;
use crate::support::postrider::Home;
use crate::support::process::program;

const DAY: i64 = 86_400;

/// Writes a message into a file of its own; both programs run it.
fn collector(home: &Home) -> String {
    fs::create_dir_all(home.path("got")).unwrap();
    format!("cat > $(mktemp {}/XXXXXX)", home.path("got").display())
}

/// Counts messages by their subjects.
fn got(home: &Home) -> BTreeMap<String, usize> {
    let mut got = BTreeMap::new();
    for file in fs::read_dir(home.path("got")).unwrap() {
        let text = String::from_utf8_lossy(&fs::read(file.unwrap().path()).unwrap()).into_owned();
        let subject =
            text.lines().find_map(|line| line.strip_prefix("Subject: ")).unwrap_or("none").to_owned();
        *got.entry(subject).or_default() += 1;
    }
    got
}

fn run(home: &Home, name: &str, arguments: &[&str]) -> String {
    let path = program(name).unwrap_or_else(|| panic!("{name} is not installed"));
    let mut command = Command::new(path);
    command
        .args(arguments)
        .env("HOME", home.path(""))
        .env_remove("XDG_CONFIG_HOME")
        .current_dir(home.path(""));
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{name}: {said}");
    said
}

/// So many messages that are surely known again by their headers.
fn mail() -> Vec<Vec<u8>> {
    let dated = |message: Vec<u8>| [b"Date: Sun, 29 Nov 2026 12:00:00 +0000\n".to_vec(), message].concat();
    mails::ordinary(8).into_iter().map(dated).collect()
}

/// Moves: the other program fetches four of eight messages, then we the rest, and nothing comes twice. With `keep: 14d`
/// what it fetched is deleted when that is over, by two polls a day apart; what came later stays longer.
fn moves(peer: &str, file: &str, configuration: impl Fn(&Home, &Dovecot) -> String, arguments: &[&str]) {
    let dovecot = Dovecot::start(Format::Maildir, 1);
    let home = Home::new();
    let rc = home.write(file, &configuration(&home, &dovecot));
    let mail = mail();
    dovecot.put("u1", &mail[..4]);
    let said = run(&home, peer, arguments);
    let first = got(&home);
    assert_eq!((first.len(), first.values().sum()), (4, 4), "{peer}: {first:?} {said}");
    dovecot.put("u1", &mail[4..]);
    let printed = home.must(&["import", peer, rc.to_str().unwrap()], 0).stdout;
    home.configure(&printed);
    home.must(&["config", "check"], 0);
    let taken = home.must(&["import", peer, rc.to_str().unwrap(), "--seen"], 0).stdout;
    assert!(taken.contains(": 4 messages taken over from "), "{peer}: {taken}");
    home.must(&["sync"], 0);
    home.must(&["sync"], 0);
    let all = got(&home);
    assert_eq!((all.len(), all.values().sum()), (8, 8), "{peer}: {all:?}");
    assert_eq!(dovecot.left("u1"), 8, "{peer} kept them");
    home.configure(&printed.replace("keep: forever", "keep: 14d"));
    home.must_at(13 * DAY, &["sync"], 0);
    home.must_at(14 * DAY + 600, &["sync"], 0);
    assert_eq!(dovecot.left("u1"), 8, "{peer}: no clock is believed at once");
    home.must_at(15 * DAY + 1200, &["sync"], 0);
    assert_eq!(dovecot.left("u1"), 0, "{peer}: all are as old as that");
    assert_eq!(got(&home), all, "{peer}");
}

#[test]
fn from_fetchmail_nothing_comes_twice_and_nothing_is_missing() {
    let rc = |home: &Home, dovecot: &Dovecot| {
        format!(
            "poll 127.0.0.1 proto pop3 port {} auth password uidl\n  user u1 pass '{PASSWORD}' sslproto '' keep\n  mda \"{}\"\n",
            dovecot.port,
            collector(home)
        )
    };
    moves("fetchmail", ".fetchmailrc", rc, &["-f", ".fetchmailrc", "--pidfile", "pid"]);
}

#[test]
fn from_mpop_nothing_comes_twice_and_nothing_is_missing() {
    let rc = |home: &Home, dovecot: &Dovecot| {
        format!(
            "account a\nhost 127.0.0.1\nport {}\nuser u1\npassword {PASSWORD}\nauth user\nkeep on\nuidls_file {}\ndelivery mda {}\n",
            dovecot.port,
            home.path("uidls").display(),
            collector(home)
        )
    };
    moves("mpop", ".mpoprc", rc, &["-C", ".mpoprc", "-a"]);
}

#[test]
fn from_getmail_nothing_comes_twice_and_nothing_is_missing() {
    let rc = |home: &Home, dovecot: &Dovecot| {
        format!(
            "[retriever]\ntype = SimplePOP3Retriever\nserver = 127.0.0.1\nport = {}\nusername = u1\npassword = {PASSWORD}\n\
             [destination]\ntype = MDA_external\npath = /bin/sh\narguments = ('-c', '{}')\nallow_root_commands = true\n\
             [options]\nread_all = false\nreceived = false\ndelivered_to = false\n",
            dovecot.port,
            collector(home)
        )
    };
    moves("getmail", "rc/getmailrc", rc, &["--getmaildir", "rc"]);
}

#[test]
fn from_getmail_that_verified_no_certificate_the_line_to_write_is_shown_and_then_nothing_comes_twice() {
    let dovecot = Dovecot::start(Format::Maildir, 1);
    let home = Home::new();
    let rc = format!(
        "[retriever]\ntype = SimplePOP3SSLRetriever\nserver = localhost\nport = {}\nusername = u1\npassword = {PASSWORD}\n\
         [destination]\ntype = MDA_external\npath = /bin/sh\narguments = ('-c', '{}')\nallow_root_commands = true\n\
         [options]\nread_all = false\nreceived = false\ndelivered_to = false\n",
        dovecot.tls_port,
        collector(&home)
    );
    home.write("rc/getmailrc", &rc);
    let mail = mail();
    dovecot.put("u1", &mail[..4]);
    run(&home, "getmail", &["--getmaildir", "rc"]);
    assert_eq!(got(&home).values().sum::<usize>(), 4);
    dovecot.put("u1", &mail[4..]);
    let arguments = ["import", "getmail", home.path("rc/getmailrc").to_str().unwrap()].map(str::to_owned);
    let [import, program, file] = &arguments;
    let printed = home.must(&[import, program, file], 0).stdout;
    assert!(
        printed.replace("\n    #  ", "").contains("`postrider doctor` shows the line to write"),
        "{printed}"
    );
    home.configure(&printed);
    home.must(&[import, program, file, "--seen"], 0);
    let pin = format!("tls_pin: {}", dovecot.certificate.pin());
    assert!(home.must(&["sync"], 75).stderr.contains(&pin));
    assert!(home.must(&["doctor"], 75).stdout.contains(&pin));
    home.configure(&printed.replace("    user: u1\n", &format!("    user: u1\n    {pin}\n")));
    home.must(&["sync"], 0);
    let all = got(&home);
    assert_eq!((all.len(), all.values().sum()), (8, 8), "{all:?}");
}

#[test]
fn from_fdm_nothing_comes_twice_and_nothing_is_missing() {
    let rc = |home: &Home, dovecot: &Dovecot| {
        // It fetches as a user of its own where it is started by root.
        let place = home.path("fdm");
        fs::create_dir(&place).unwrap();
        fs::set_permissions(home.path("x").parent().unwrap(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(&place, fs::Permissions::from_mode(0o777)).unwrap();
        format!(
            "set lock-file \"{}\"\naccount \"a\" pop3 server \"127.0.0.1\" port {} user \"u1\" pass \"{PASSWORD}\" new-only \
             cache \"{}\" no-apop keep\nmatch all action pipe \"{}\"\n",
            home.path("lock").display(),
            dovecot.port,
            place.join("cache").display(),
            collector(home)
        )
    };
    moves("fdm", ".fdm.conf", rc, &["-f", ".fdm.conf", "fetch"]);
}
