//! What a daemon tells those who do not read its log: metrics in a file, and a message about a failure that lasts.

use std::fs;
use std::time::Duration;

use crate::support::maildrop::{Maildrop, Protection, Settings};
use crate::support::postrider::{Home, LIMIT};
use crate::support::process::{free_port, wait_until};
use nix::sys::signal::Signal;

const SOON: Duration = Duration::from_secs(60);

fn account(name: &str, port: u16) -> String {
    format!(
        "  {name}: {{ host: 127.0.0.1, port: {port}, tls: none, auth: [plain], user: alice, password: correct horse, interval: \
         1s, maildrop_id: {name}, deliver: {{ maildir: ~/{name} }} }}\n"
    )
}

#[test]
fn a_daemon_counts_into_a_file_and_tells_of_a_failure_that_lasts_in_the_target() {
    let server = Maildrop::start(Settings { tls: Protection::None, ..Settings::default() });
    server.put("one", b"Subject: 1\r\n\r\n0123456789\r\n".to_vec());
    let home = Home::new();
    home.configure(&format!(
        "metrics_file: ~/metrics/postrider.prom\ndaemon: {{ startup_spread: 0s }}\naccounts:\n{}{}",
        account("good", server.port()),
        account("bad", free_port())
    ));
    fs::create_dir(home.path("metrics")).unwrap();
    // As the service files have it; who collects the metrics is another user.
    let running = home.start_private(&["daemon"]);
    let page = || fs::read_to_string(home.path("metrics/postrider.prom")).unwrap_or_default();
    let has = |line: &str| page().lines().any(|found| found == line);
    let counted = wait_until(SOON, || {
        has("postrider_messages_total{account=\"good\"} 1")
            && page().contains("postrider_failures_total{account=\"bad\",class=\"network\"} ")
    });
    assert!(counted, "{}", page());
    assert_eq!(home.mode("metrics/postrider.prom"), 0o644);
    // By itself: nothing about it is in the configuration.
    assert!(wait_until(SOON, || !home.maildir("bad").is_empty()));
    let notice = String::from_utf8(home.maildir("bad").remove(0)).unwrap();
    assert!(notice.contains("Subject: postrider: cannot fetch mail for bad (network)\n"), "{notice}");
    server.put("two", b"Subject: 2\r\n\r\n".to_vec());
    assert!(wait_until(SOON, || home.maildir("good").len() == 2));
    running.signal(Signal::SIGTERM);
    assert_eq!(running.wait(LIMIT).status, Some(0));
    // The last count is written at the end at the latest.
    assert!(has("postrider_messages_total{account=\"good\"} 2"), "{}", page());
    assert!(page().contains("postrider_last_success_timestamp_seconds{account=\"good\"} 1"));
    assert!(!page().contains("postrider_last_success_timestamp_seconds{account=\"bad\"}"));
    assert_eq!(fs::read_dir(home.path("metrics")).unwrap().count(), 1);
    assert_eq!(home.maildir("bad").len(), 1, "it is told once");
}

#[test]
fn the_last_success_of_an_earlier_process_is_known_also_while_polls_fail_and_in_another_file() {
    let server = Maildrop::start(Settings { tls: Protection::None, ..Settings::default() });
    let home = Home::new();
    let accounts = account("good", server.port());
    let configure = |file: &str| {
        home.configure(&format!("metrics_file: ~/metrics/{file}\naccounts:\n{accounts}"));
    };
    fs::create_dir(home.path("metrics")).unwrap();
    configure("one");
    home.must(&["sync"], 0);
    drop(server);
    let running = home.start(&["daemon"]);
    let page = |file: &str| fs::read_to_string(home.path("metrics").join(file)).unwrap_or_default();
    let succeeded = "postrider_last_success_timestamp_seconds{account=\"good\"} 1";
    assert!(wait_until(SOON, || page("one").contains(succeeded)), "{}", page("one"));
    assert!(wait_until(SOON, || page("one").contains("class=\"network\"} ")), "{}", page("one"));
    assert!(page("one").contains(succeeded), "{}", page("one"));
    for unknown in ["postrider_held_messages{", "postrider_backlog_messages{"] {
        assert!(!page("one").contains(unknown), "{}", page("one"));
    }
    configure("two");
    running.signal(Signal::SIGHUP);
    assert!(wait_until(SOON, || page("two").contains(succeeded)), "{}", page("two"));
    running.signal(Signal::SIGTERM);
    assert_eq!(running.wait(LIMIT).status, Some(0));
}

#[test]
fn metrics_that_cannot_be_written_are_told_once_and_hold_up_nothing() {
    let server = Maildrop::start(Settings { tls: Protection::None, ..Settings::default() });
    let home = Home::new();
    home.configure(&format!("metrics_file: ~/missing/m\naccounts:\n{}", account("good", server.port())));
    server.put("one", b"Subject: 1\r\n\r\n".to_vec());
    let running = home.start(&["daemon"]);
    assert!(wait_until(SOON, || home.maildir("good").len() == 1));
    running.signal(Signal::SIGTERM);
    let ended = running.wait(LIMIT);
    assert_eq!(ended.status, Some(0));
    assert_eq!(ended.stderr.matches("cannot write the metrics to ").count(), 1, "{}", ended.stderr);
}
