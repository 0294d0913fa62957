//! The crontab of contrib/, run by Debian's cron in a root directory with a mail server, which takes what cron mails.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::time::Duration;

use crate::support::chroot::{Root, found, libraries};
use crate::support::chrooted_mta::{BOX, ChrootedMta, QUEUE};
use crate::support::maildrop::{Maildrop, Protection, Settings};
use crate::support::postrider::faketime;
use crate::support::process::{Server, free_port, wait_until};

const CRONTAB: &str = include_str!("../../contrib/crontab");
const SYNC: &str = "*/5 * * * * /usr/bin/postrider sync";
/// A minute takes cron two seconds.
const SPEED: &str = "+0 x30";

/// Starts cron, for which time goes faster; for what it starts it does not.
fn start_cron(root: &Root) -> Server {
    let security = libraries() + "/security/pam_permit.so";
    root.add(&found("/usr/sbin/cron"), "/usr/sbin/cron");
    root.add(&found(&security), &security);
    root.add(Path::new(env!("CARGO_BIN_EXE_postrider")), "usr/bin/postrider");
    root.add(&faketime(), "usr/lib/faketime.so");
    // What cron mails with; of a file of its own, since it wants the group's rights.
    let sendmail = root.at("usr/sbin/sendmail");
    fs::copy(found("/usr/sbin/smtpctl"), &sendmail).expect("a copy of smtpctl");
    chown(&sendmail, Some(0), Some(QUEUE)).expect("its group");
    fs::set_permissions(&sendmail, fs::Permissions::from_mode(0o2755)).expect("its mode");
    let pam = ["auth", "account", "session"].map(|what| format!("{what} required pam_permit.so\n"));
    root.write("etc/pam.d/cron", pam.concat(), 0o644, 0);
    for folder in ["dev/shm", "var/spool/cron/crontabs"] {
        root.folder(folder, 0o1777, 0);
    }
    assert_eq!(CRONTAB.matches(SYNC).count(), 1, "contrib/crontab has another line");
    // Each minute, and noting the status, which cron does not look at.
    let line = SYNC.replace("*/5", "*") + "; echo $? >> runs";
    let crontab = format!("MAILTO=box@example.org\n{}", CRONTAB.replace(SYNC, &line));
    own(root, "var/spool/cron/crontabs/box", crontab);
    let environment = [("LD_PRELOAD", "/usr/lib/faketime.so"), ("FAKETIME", SPEED)];
    let mut command = root.command("/usr/sbin/cron", &["-f"], &environment);
    Server::start(&mut command, &root.at("var/cron.log"), &[]).unwrap_or_else(|log| panic!("cron: {log}"))
}

/// Writes a file that is the user's alone, at once.
fn own(root: &Root, path: &str, text: String) {
    root.write("tmp/new", text, 0o600, BOX);
    chown(root.at("tmp/new"), Some(BOX), Some(BOX)).expect("its group");
    fs::rename(root.at("tmp/new"), root.at(path)).expect("a file");
}

fn configure(root: &Root, port: u16) {
    for folder in ["home/box/.config", "home/box/.config/postrider"] {
        root.folder(folder, 0o700, BOX);
    }
    let text = format!(
        "accounts:\n  home:\n    host: 127.0.0.1\n    port: {port}\n    tls: none\n    auth: [plain]\n    user: alice\n    \
         password: correct horse\n    deliver: {{ maildir: ~/Mail }}\n"
    );
    own(root, "home/box/.config/postrider/config.yaml", text);
}

/// Waits until so many runs in a row have ended with this status.
fn wait_for_runs(root: &Root, runs: usize, status: &str) {
    let last = |text: &str| text.lines().rev().take_while(|line| *line == status).count();
    let there = wait_until(Duration::from_secs(90), || {
        fs::read_to_string(root.at("home/box/runs")).is_ok_and(|text| last(&text) >= runs)
    });
    let text = fs::read_to_string(root.at("home/box/runs")).unwrap_or_default();
    assert!(there, "not {runs} runs of status {status}: {text:?}");
}

#[test]
fn under_cron_a_failure_that_lasts_is_mailed_when_it_begins_and_when_it_is_over() {
    let server = Maildrop::start(Settings { tls: Protection::None, ..Settings::default() });
    server.put("uid-1", "Subject: one\r\n\r\nbody\r\n");
    let mta = ChrootedMta::opensmtpd();
    let root = mta.root();
    fs::set_permissions(root.at("home/box"), fs::Permissions::from_mode(0o700)).expect("its mode");
    configure(root, server.port());
    let cron = start_cron(root);
    wait_for_runs(root, 2, "0");
    assert_eq!(fs::read_dir(root.at("home/box/Mail/new")).expect("a maildir").count(), 1);
    configure(root, free_port());
    wait_for_runs(root, 4, "75");
    configure(root, server.port());
    wait_for_runs(root, 3, "0");
    drop(cron);
    let mails = mta.arrived(2);
    assert_eq!(mails.len(), 2, "{mails:#?}");
    let mail = |words: &str| mails.iter().filter(|mail| mail.contains(words)).count();
    assert_eq!(mail("home: 127.0.0.1:"), 1, "{mails:#?}");
    assert_eq!(mail("home: succeeds again, after "), 1, "{mails:#?}");
    assert_eq!(mail("Subject: Cron <box@"), 2, "{mails:#?}");
}
