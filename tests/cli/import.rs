//! `import`: what another program's configuration becomes, and what it has fetched.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::support::maildrop::{Maildrop, Protection, Settings};
use crate::support::postrider::Home;

const DAY: i64 = 86_400;

fn server(uids: &[&str]) -> Maildrop {
    let server = Maildrop::start(Settings { tls: Protection::None, ..Settings::default() });
    for uid in uids {
        let message = format!("Message-ID: <{uid}@example.org>\r\nDate: now\r\nSubject: {uid}\r\n\r\n");
        server.put(uid, message.into_bytes());
    }
    server
}

/// A run control file for this server, with a list of what was fetched, and the configuration made of it.
fn fetchmail(server: &Maildrop, options: &str, fetched: &[&str]) -> Home {
    let home = Home::new();
    home.write(
        ".fetchmailrc",
        &format!(
            "poll 127.0.0.1 proto pop3 port {} auth password uidl\n  user alice pass 'correct horse' sslproto '' \
             {options}\n  mda \"cat >> {}\"\n",
            server.port(),
            home.path("got").display()
        ),
    );
    let lines: String = fetched.iter().map(|uid| format!("alice@127.0.0.1 {uid}\n")).collect();
    home.write(".fetchids", &lines);
    let printed = home.must(&["import", "fetchmail"], 0).stdout;
    home.configure(&printed);
    home.must(&["config", "check"], 0);
    home
}

fn got(home: &Home) -> Vec<String> {
    let got = fs::read_to_string(home.path("got")).unwrap_or_default();
    got.lines().filter_map(|line| line.strip_prefix("Subject: ")).map(str::to_owned).collect()
}

#[test]
fn what_another_program_fetched_is_taken_over_once_and_not_fetched_again() {
    let server = server(&["uid-1", "uid-2", "uid-3"]);
    let home = fetchmail(&server, "keep", &["uid-1", "gone", "uid-2"]);
    let list = home.path(".fetchids").display().to_string();
    let taken = home.must(&["import", "fetchmail", "--seen"], 0);
    assert_eq!(taken.stdout, format!("127.0.0.1: 3 messages taken over from {list}\n"));
    let again = home.must(&["import", "fetchmail", "--seen"], 0);
    assert_eq!(again.stdout, format!("127.0.0.1: 0 messages taken over from {list}, 3 recorded already\n"));
    home.must(&["sync"], 0);
    assert_eq!(got(&home), ["uid-3"]);
    home.must(&["sync"], 0);
    assert_eq!(got(&home), ["uid-3"]);
    let listed = home.must(&["seen", "list", "127.0.0.1"], 0).stdout;
    assert_eq!(listed.matches(" imported ").count(), 3, "{listed}");
    assert_eq!(server.uids(), ["uid-1", "uid-2", "uid-3"]);
}

#[test]
fn keep_none_leaves_what_another_program_left_and_says_so_once() {
    let server = server(&["uid-1", "uid-2", "uid-3"]);
    let home = fetchmail(&server, "", &["uid-1", "uid-2"]);
    home.must(&["import", "fetchmail", "--seen"], 0);
    let said = home.must(&["sync"], 0).stderr;
    assert!(said.contains("127.0.0.1: 2 messages that another program fetched stay on the server"), "{said}");
    assert_eq!(home.must(&["sync"], 0).stderr, "");
    assert_eq!(home.must_at(3 * DAY, &["sync"], 0).stderr, "");
    assert_eq!(server.uids(), ["uid-1", "uid-2"]);
    assert_eq!(got(&home), ["uid-3"]);
}

#[test]
fn a_duration_counts_from_the_import_and_deletes_only_what_shows_the_header_it_had() {
    let server = server(&["uid-1", "uid-2", "uid-3"]);
    let home = fetchmail(&server, "", &["uid-1", "uid-2"]);
    let yaml = fs::read_to_string(home.path("config/postrider/config.yaml")).unwrap();
    home.configure(&yaml.replace("keep: none", "keep: 14d"));
    home.must(&["import", "fetchmail", "--seen"], 0);
    home.must(&["sync"], 0);
    home.must_at(13 * DAY, &["sync"], 0);
    home.must_at(13 * DAY + 3600 * 20, &["sync"], 0);
    assert_eq!(server.uids().len(), 3);
    home.must_at(15 * DAY, &["sync"], 0);
    assert_eq!(server.uids().len(), 3, "a clock is believed when it says so twice");
    // Another message in the place of one that was fetched.
    server.remove("uid-2");
    server.put("uid-2", b"Message-ID: <other@x>\r\nDate: now\r\nSubject: other\r\n\r\n".to_vec());
    home.must_at(16 * DAY + 60, &["sync"], 0);
    assert_eq!(server.uids(), ["uid-2"]);
    assert_eq!(got(&home), ["uid-3", "other"]);
}

#[test]
fn unique_ids_are_compared_as_the_other_program_wrote_them() {
    let long = "x".repeat(140);
    let server = server(&["a b", &long, "c"]);
    let home = fetchmail(&server, "keep", &["a", &"x".repeat(128)]);
    home.must(&["import", "fetchmail", "--seen"], 0);
    home.must(&["sync"], 0);
    assert_eq!(got(&home), ["c"]);
    let listed = home.must(&["seen", "list", "127.0.0.1"], 0).stdout;
    assert!(listed.contains(" a b\n") && listed.contains(&format!(" {long}\n")), "{listed}");
    home.must(&["sync"], 0);
    assert_eq!(got(&home), ["c"]);
}

#[test]
fn passwords_go_into_files_of_their_own_and_none_is_overwritten() {
    let home = Home::new();
    let rc = home.write(".fetchmailrc", "poll h proto pop3 user a pass 'one two' is x here\n");
    let printed = home.must(&["import", "fetchmail"], 0).stdout;
    let file = home.path("config/postrider/secrets/h");
    assert!(printed.contains(&format!("password: {{ file: {} }}", file.display())), "{printed}");
    assert!(!printed.contains("one two"), "{printed}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "one two\n");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(file.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(home.must(&["import", "fetchmail"], 0).stdout, printed);
    fs::write(&rc, "poll h proto pop3 user a pass three is x here\n").unwrap();
    let other = home.must(&["import", "fetchmail"], 0).stdout;
    assert!(other.contains("secrets/h-2 }"), "{other}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "one two\n");
    let elsewhere = home.must(&["import", "fetchmail", "--secrets", "elsewhere"], 0).stdout;
    assert!(elsewhere.contains(&home.path("elsewhere/h").display().to_string()), "{elsewhere}");
    let inline = home.must(&["import", "fetchmail", "--inline"], 0).stdout;
    assert!(inline.contains("password: three\n"), "{inline}");
}

#[test]
fn what_is_not_understood_is_told_with_its_place_and_nothing_is_written() {
    let home = Home::new();
    home.write(".fetchmailrc", "# mine\npoll h proto pop3\n  user a pass secret word is x here\n");
    let told = home.must(&["import", "fetchmail"], 78);
    let place = format!("{}:3:22: a text where", home.path(".fetchmailrc").display());
    assert!(told.stderr.contains(&place), "{}", told.stderr);
    assert!(!told.stderr.contains("word"), "{}", told.stderr);
    assert_eq!(told.stdout, "");
    assert!(!home.path("config/postrider/secrets").exists());
    home.write(".fetchmailrc", "poll h proto imap user a pass b\n");
    let told = home.must(&["import", "fetchmail"], 78);
    assert!(told.stderr.contains("`proto imap`: mail is fetched by POP3 alone"), "{}", told.stderr);
    fs::remove_file(home.path(".fetchmailrc")).unwrap();
    home.must(&["import", "fetchmail"], 78);
    home.must(&["import", "fetchmail", "--list", "x"], 2);
}

#[test]
fn what_is_imported_is_written_to_its_place_and_over_nothing() {
    let home = Home::new();
    home.write(".fetchmailrc", "poll h proto pop3 user a pass 'one two' is x here\n");
    let place = home.path("config/postrider/config.yaml");
    let told = home.must(&["import", "fetchmail", "--write"], 0).stdout;
    assert!(told.starts_with(&format!("{} written. ", place.display())), "{told}");
    assert!(told.ends_with("\n  postrider import fetchmail --seen\n  postrider sync\n"), "{told}");
    assert_eq!(fs::metadata(&place).unwrap().permissions().mode() & 0o777, 0o600);
    home.must(&["config", "check"], 0);
    let written = fs::read_to_string(&place).unwrap();
    home.write(".fetchmailrc", "poll other proto pop3 user a pass three is x here\n");
    let told = home.must(&["import", "fetchmail", "--write"], 75).stderr;
    assert!(told.contains("it is there already; without --write it is printed"), "{told}");
    assert_eq!(fs::read_to_string(&place).unwrap(), written);
    assert!(!home.path("config/postrider/secrets/other").exists(), "nothing is written");
    let named = home.path("elsewhere/mine.yaml");
    home.must(&["--config", named.to_str().unwrap(), "import", "fetchmail", "--write"], 0);
    assert!(named.exists() && home.path("elsewhere/secrets/other").exists());
}

#[test]
fn who_writes_and_polls_at_once_gets_nothing_that_the_other_program_had() {
    let server = server(&["uid-1", "uid-2"]);
    let home = fetchmail(&server, "keep", &["uid-1"]);
    fs::remove_dir_all(home.path("config")).unwrap();
    let said = home.must(&["import", "fetchmail", "--write"], 0).stdout;
    let list = home.path(".fetchids").display().to_string();
    for line in [
        "\n1 password written into ".to_owned(),
        format!("\n127.0.0.1: 1 message taken over from {list}\n"),
        "\n  crontab -e    # take out its line: `crontab -l | grep fetchmail`\n".to_owned(),
        "\n  */5 * * * * ".to_owned(),
        "\nThen, before the first sync, take over what fetchmail has fetched by now; else it comes again:\n"
            .to_owned(),
    ] {
        assert!(said.contains(&line), "{line}: {said}");
    }
    assert!(!said.contains("--quit"), "its file has it poll once: {said}");
    home.must(&["sync"], 0);
    assert_eq!(got(&home), ["uid-2"]);
    let written = fs::read_to_string(home.path("config/postrider/config.yaml")).unwrap();
    assert!(!written.contains("--write") && !written.contains("sync"), "{written}");
}

#[test]
fn what_is_only_printed_says_what_is_to_be_done_with_it() {
    let home = Home::new();
    home.write("rc", "set daemon 900\npoll h proto pop3 user a pass 'one two' is x here keep\n");
    home.write(
        ".config/systemd/user/default.target.wants/mail.service",
        "[Service]\nExecStart=/usr/bin/fetchmail --nodetach\n",
    );
    let printed = home.must(&["import", "fetchmail", "rc"], 0);
    let place = home.path("config/postrider/config.yaml").display().to_string();
    for line in [
        "`postrider import fetchmail rc --write` writes it".to_owned(),
        place,
        "\n#   fetchmail --quit\n#   systemctl --user disable --now mail.service\n".to_owned(),
        "\n#   */15 * * * * ".to_owned(),
        "\n#   postrider import fetchmail rc --seen\n#   postrider sync\n".to_owned(),
    ] {
        assert!(printed.stdout.contains(&line), "{line}: {}", printed.stdout);
    }
    let secrets =
        format!("1 password written into {}, for you alone", home.path("config/postrider/secrets").display());
    assert!(printed.stderr.contains(&secrets), "{}", printed.stderr);
    home.configure(&printed.stdout);
    let again = home.must(&["import", "fetchmail", "rc"], 0);
    assert!(again.stdout.contains("is there already: put into it by hand"), "{}", again.stdout);
    assert!(!again.stderr.contains("password"), "it was written before: {}", again.stderr);
}

#[test]
fn each_rc_file_of_getmail_is_an_account_and_those_besides_getmailrc_are_named() {
    let home = Home::new();
    let rc = |user: &str| {
        format!(
            "[retriever]\ntype = SimplePOP3SSLRetriever\nserver = pop.example.org\nusername = {user}\npassword = x\n\
             [destination]\ntype = Maildir\npath = ~/Mail/\n"
        )
    };
    for (name, text) in [
        ("getmailrc", rc("alice")),
        ("work", rc("bob")),
        ("lists", rc("carol")),
        ("work.bak", rc("old")),
        ("notes", "not a configuration".to_owned()),
        ("oldmail-pop.example.org-995-alice", String::new()),
    ] {
        home.write(&format!(".getmail/{name}"), &text);
    }
    let printed = home.must(&["import", "getmail"], 0);
    let users: Vec<&str> =
        printed.stdout.lines().filter_map(|line| line.strip_prefix("    user: ")).collect();
    assert_eq!(users, ["alice", "carol", "bob"], "{}", printed.stdout);
    assert!(printed.stderr.contains("besides getmailrc these are taken"), "{}", printed.stderr);
    assert!(printed.stderr.contains(": lists, work; "), "{}", printed.stderr);
    home.configure(&printed.stdout);
    home.must(&["config", "check"], 0);
}

#[test]
fn who_may_lose_mail_by_an_option_that_the_file_does_not_have_is_warned() {
    let home = Home::new();
    for (options, warned) in [("", true), ("keep", false), ("no keep", true)] {
        home.write(".fetchmailrc", &format!("poll h proto pop3 user a pass b is x here {options}\n"));
        let said = home.must(&["import", "fetchmail"], 0).stderr;
        assert_eq!(said.contains("h: deleted on the server once delivered (`keep: none`)"), warned, "{said}");
    }
    home.write(".mpoprc", "account h\nhost h\nuser a\npassword b\ndelivery maildir ~/Mail\nkeep off\n");
    let said = home.must(&["import", "mpop"], 0).stderr;
    assert!(said.contains("if mpop was called with -k, write `keep: forever`"), "{said}");
}

#[test]
fn accounts_that_are_not_configured_are_told_and_a_list_may_be_named() {
    let server = server(&["uid-1"]);
    let home = fetchmail(&server, "keep", &["uid-1"]);
    fs::rename(home.path(".fetchids"), home.path("list")).unwrap();
    let none = home.must(&["import", "fetchmail", "--seen"], 0).stdout;
    assert!(none.contains("there is no ") && none.contains("nothing taken over"), "{none}");
    home.must(&["import", "fetchmail", "--seen", "--list", "missing"], 78);
    let taken = home.must(&["import", "fetchmail", "--seen", "--list", "list"], 0).stdout;
    assert!(taken.contains("127.0.0.1: 1 message taken over from list"), "{taken}");
    home.configure("accounts: { other: { host: h, user: u, deliver: { maildir: ~/Mail } } }\n");
    let told = home.must(&["import", "fetchmail", "--seen"], 78).stderr;
    assert!(told.contains("no account of the configuration polls alice@127.0.0.1"), "{told}");
}

#[test]
fn getmails_lists_have_times_and_a_dash_for_each_slash() {
    let server = server(&["a/b", "c", "d-e/f"]);
    let home = Home::new();
    let rc = |name: &str, path: &str| {
        format!(
            "[retriever]\ntype = SimplePOP3Retriever\nserver = 127.0.0.1\nport = {}\nusername = {name}\npassword = correct \
             horse\n[destination]\ntype = Maildir\npath = {path}\n[options]\ndelete_after = 14\n",
            server.port()
        )
    };
    home.write(".getmail/one", &rc("alice", "~/Mail/"));
    home.write(".getmail/two", &rc("bob", "Other/"));
    home.write(".getmail/two.bak", "not read");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let old = now - 13 * 86_400;
    let list = format!(".getmail/oldmail-127.0.0.1-{}-alice", server.port());
    home.write(&list, &format!("a-b\0{old}\nd-e-f\0{now}\nno line\n"));
    let printed = home.must(&["import", "getmail"], 0).stdout;
    assert!(
        printed.contains("  one:") && printed.contains("  two:") && printed.contains("keep: 14d"),
        "{printed}"
    );
    assert!(printed.contains(&home.path("Other").display().to_string()), "{printed}");
    home.configure(&printed);
    let taken = home.must(&["import", "getmail", "--seen"], 0).stdout;
    assert!(taken.contains("one: 2 messages taken over") && taken.contains("two: there is no "), "{taken}");
    home.must(&["sync", "one"], 0);
    assert_eq!(home.maildir("Mail").len(), 1, "c alone is new");
    // The time of the list counts: thirteen days of it had passed.
    home.must_at(2 * DAY, &["sync", "one"], 0);
    home.must_at(3 * DAY + 60, &["sync", "one"], 0);
    assert_eq!(server.uids(), ["c", "d-e/f"]);
    assert_eq!(home.maildir("Mail").len(), 1);
}

#[test]
fn what_fdm_would_evaluate_is_told_and_not_run_and_its_includes_are_read() {
    let home = Home::new();
    home.write("more/work.conf", "account \"work\" pop3s server $host user $(touch ran) pass \"x\"\n");
    home.write(
        ".fdm.conf",
        "$host = \"pop.example.org\"\ninclude \"more/work.conf\"\naccount \"home\" pop3s server $host user \"u\" pass $(touch \
         ran; echo p)\nmatch \"x\" in headers action drop\nmatch \"y\" in body action drop\nmatch all action maildir \"%h/Mail\"\n",
    );
    let printed = home.must(&["import", "fdm"], 0).stdout;
    assert!(!home.path("ran").exists());
    assert!(
        printed.contains("work.conf, line 1): left out: its user is what a command prints: touch ran"),
        "{printed}"
    );
    assert!(printed.contains("password: { command: 'touch ran; echo p' }"), "{printed}");
    assert!(printed.contains("# lines 4, 5: no rule here goes by the message"), "{printed}");
    home.configure(&printed);
    home.must(&["config", "check"], 0);
    home.write("more/work.conf", "account \"work\" pop3s\n  nothing\n");
    let told = home.must(&["import", "fdm"], 78).stderr;
    assert!(told.contains("more/work.conf:2:3: `nothing` where `server` was expected"), "{told}");
    for (text, place) in [
        ("account \"a\" pop3 server \"h\" foo\n", ":1:29: `foo` where"),
        ("set timeout never\n", ":1:13: `never` where"),
        ("action \"a\" { keep\n", ":2:1: the end of the file where"),
        ("match all action $none\n", ":1:18: no macro `$none`"),
        ("ifdef $x\nmatch\n", ":3:1: `endif` was expected"),
        ("account \"a\n", ":1:9: a text begins here"),
    ] {
        home.write(".fdm.conf", text);
        let told = home.must(&["import", "fdm"], 78).stderr;
        assert!(told.contains(place), "{text}: {told}");
    }
}

#[test]
fn a_proxy_of_fdm_keeps_its_port_and_one_with_a_password_disables_what_would_go_without_it() {
    let home = Home::new();
    let printed = |proxy: &str| {
        let account =
            "account \"a\" pop3s server \"h\" user \"u\" pass \"p\"\nmatch all action maildir \"%h/Mail\"\n";
        home.write(".fdm.conf", &format!("set proxy \"{proxy}\"\n{account}"));
        home.must(&["import", "fdm"], 0).stdout
    };
    for (theirs, ours) in [
        ("socks://h", "socks5://h:1080"),
        ("socks5://127.0.0.1:9050", "socks5://127.0.0.1:9050"),
        ("http://h", "http://h:80"),
        ("http://h:3128", "http://h:3128"),
        ("http://h/", "http://h:80"),
        ("socks://[::1]:9050/", "socks5://[::1]:9050"),
    ] {
        let printed = printed(theirs);
        assert!(printed.contains(&format!("    proxy: '{ours}'\n")), "{printed}");
    }
    for other in ["https://h:443", "socks://u:secret@h", "http://h/path"] {
        let printed = printed(other);
        assert!(printed.contains("    enabled: false\n") && !printed.contains("secret@"), "{printed}");
    }
}

#[test]
fn who_has_no_configuration_of_a_program_is_told_how_to_name_a_file() {
    let home = Home::new();
    for program in ["fetchmail", "mpop", "getmail", "fdm"] {
        let told = home.must(&["import", program], 78).stderr;
        assert!(told.contains(&format!("name the file to read: `postrider import {program} ")), "{told}");
    }
    let named = home.must(&["import", "mpop", "elsewhere"], 78).stderr;
    assert!(named.contains("elsewhere: cannot read the configuration: No such file"), "{named}");
}
