//! The commands around polls, and the message that tells of a failure that lasts.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::support::mail_server::MailServer;
use crate::support::maildrop::{Lock, Maildrop, Protection, Settings, What};
use crate::support::postrider::{Home, LIMIT};
use crate::support::process::{free_port, wait_until};
use nix::sys::signal::Signal;
use postrider::testing::state::Lease;

fn configure(home: &Home, server: &Maildrop, port: u16, top: &str, keys: &str) {
    home.write("ca.pem", &server.certificate.authority_pem);
    let deliver = if keys.contains("deliver:") { "" } else { "    deliver: { maildir: ~/Mail }\n" };
    home.configure(&format!(
        "{top}accounts:\n  home:\n    host: 127.0.0.1\n    port: {port}\n    user: alice\n    password: correct horse\n    \
         tls_ca: ~/ca.pem\n{deliver}{keys}"
    ));
}

/// Each hook writes a line: its name and what it was told, the first line of the error alone.
fn recording() -> String {
    let hooks = ["before", "after", "on_new", "on_error", "on_recover"].map(|name| {
        format!(
            "      {name}: 'echo \"{name} $POSTRIDER_ACCOUNT $POSTRIDER_NEW [$POSTRIDER_CLASS] $(echo \"$POSTRIDER_ERROR\" | head \
             -n 1)\" >> ~/told'\n"
        )
    });
    format!("    hooks:\n{}", hooks.concat())
}

fn told(home: &Home) -> Vec<String> {
    let text = fs::read_to_string(home.path("told")).unwrap_or_default();
    let _ = fs::remove_file(home.path("told"));
    text.lines().map(|line| line.trim_end().to_owned()).collect()
}

#[test]
fn hooks_are_told_what_happened_and_of_trouble_when_it_begins_and_ends() {
    let (server, home) = (Maildrop::start(Settings::default()), Home::new());
    let good = || configure(&home, &server, server.port(), "", &recording());
    let dead = || configure(&home, &server, free_port(), "", &recording());
    server.put("one", b"Subject: 1\r\n\r\n".to_vec());
    server.put("two", b"Subject: 2\r\n\r\n".to_vec());
    good();
    home.must(&["sync"], 0);
    assert_eq!(told(&home), ["before home 0 []", "after home 2 []", "on_new home 2 []"]);
    home.must(&["sync"], 0);
    home.must(&["check"], 1);
    home.must(&["sync", "--dry-run"], 0);
    assert_eq!(told(&home), ["before home 0 []", "after home 0 []"], "a look runs none");
    dead();
    home.must(&["sync"], 75);
    let first = told(&home);
    assert_eq!(first.len(), 3, "{first:?}");
    assert!(first[1].starts_with("after home 0 [network] home: 127.0.0.1:"), "{first:?}");
    assert!(first[2].starts_with("on_error home 0 [network] home: 127.0.0.1:"), "{first:?}");
    for _ in 0..2 {
        home.must(&["sync"], 75);
        assert_eq!(told(&home).len(), 2, "before and after alone");
    }
    good();
    home.must(&["sync"], 0);
    assert_eq!(told(&home), ["before home 0 []", "after home 0 []", "on_recover home 0 []"]);
    home.must(&["sync"], 0);
    assert_eq!(told(&home), ["before home 0 []", "after home 0 []"]);
}

#[test]
fn a_server_that_says_in_use_is_a_trouble_and_a_poll_of_our_own_beside_this_one_is_none() {
    let exclusive = Settings { lock: Lock::Exclusive, tls: Protection::None, ..Settings::default() };
    let (server, home) = (Maildrop::start(exclusive), Home::new());
    home.configure(&format!(
        "notify: {{ after: 1 }}\naccounts:\n  home:\n    host: 127.0.0.1\n    port: {}\n    user: alice\n    password: correct \
         horse\n    tls: none\n    auth: [plain]\n    maildrop_id: home\n    timeout: 1s\n    deliver: {{ maildir: ~/Mail }}\n{}",
        server.port(),
        recording()
    ));
    home.must(&["sync"], 0);
    told(&home);

    let state = home.path("state/postrider/state.db");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let lease = runtime.block_on(Lease::take(&state, "home", Duration::ZERO)).unwrap().unwrap();
    assert!(home.must(&["sync"], 75).stderr.contains("another postrider has had this maildrop"));
    let ours = told(&home);
    assert!(ours.len() == 1 && ours[0].starts_with("after home 0 [in-use] "), "{ours:?}");
    assert!(home.maildir("Mail").is_empty());
    drop(lease);

    let mut other = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    other.write_all(b"USER alice\r\nPASS correct horse\r\nNOOP\r\n").unwrap();
    let answers: Vec<_> = BufReader::new(other.try_clone().unwrap()).lines().take(4).collect();
    assert!(answers.iter().all(|answer| answer.as_ref().unwrap().starts_with("+OK")), "{answers:?}");
    for again in [false, true] {
        home.must(&["sync"], 75);
        let theirs = told(&home);
        assert_eq!(
            theirs.iter().any(|told| told.starts_with("on_error home 0 [in-use] ")),
            !again,
            "{theirs:?}"
        );
        assert_eq!(home.maildir("Mail").len(), 1, "one notice");
    }
    drop(other);
    // The second sync asked nobody: after a refused log-in a quarter of an hour is waited for.
    server.wait_for(3, |what| *what == What::Closed);
    home.must(&["sync", "--force"], 0);
    assert_eq!(told(&home), ["before home 0 []", "after home 0 []", "on_recover home 0 []"]);
}

#[test]
fn without_what_the_hook_before_was_to_prepare_the_server_is_not_called_upon() {
    let (server, home) = (Maildrop::start(Settings::default()), Home::new());
    let keys = "    hooks: { before: 'echo no tunnel >&2; exit 3', on_error: 'echo on_error >> ~/told' }\n";
    configure(&home, &server, server.port(), "", keys);
    let failed = home.must(&["sync"], 75).stderr;
    let expected =
        "postrider: home: prepare the poll: the hook `before` (echo) failed: exit status: 3: no tunnel\n";
    assert!(failed.starts_with(expected), "{failed}");
    assert_eq!(home.must(&["sync"], 75).stderr, "");
    assert_eq!(server.count(|what| matches!(what, What::Connected)), 0);
    assert_eq!(told(&home), ["on_error"]);
    // One after the poll that fails is told, and changes nothing.
    let keys = "    hooks: { after: [/nonexistent/program] }\n";
    configure(&home, &server, server.port(), "", keys);
    let ended = home.must(&["sync"], 0);
    assert!(
        ended.stderr.contains("cannot run the hook `after` (/nonexistent/program): No such file"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_hook_that_hangs_keeps_nobody_from_ending_the_program() {
    let (server, home) = (Maildrop::start(Settings::default()), Home::new());
    for hook in ["before", "after"] {
        let keys =
            format!("    hooks: {{ {hook}: 'echo $$ > ~/pid.new; mv ~/pid.new ~/pid; sleep 1000; true' }}\n");
        configure(&home, &server, server.port(), "", &keys);
        let running = home.start(&["sync"]);
        assert!(wait_until(Duration::from_secs(20), || home.path("pid").exists()));
        let pid: i32 = fs::read_to_string(home.path("pid")).unwrap().trim().parse().unwrap();
        fs::remove_file(home.path("pid")).unwrap();
        running.signal(Signal::SIGTERM);
        let began = std::time::Instant::now();
        running.wait(LIMIT);
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        let is_gone = || nix::sys::signal::killpg(nix::unistd::Pid::from_raw(pid), None).is_err();
        assert!(
            wait_until(Duration::from_secs(5), is_gone),
            "{hook}: the shell and its sleep are still there"
        );
    }
}

#[test]
fn a_failure_that_lasts_is_told_once_in_the_accounts_own_target() {
    let (server, home) = (Maildrop::start(Settings::default()), Home::new());
    let notify = "notify: { after: 2, remind: 1d }\n";
    let dead = || configure(&home, &server, free_port(), notify, "");
    let good = || configure(&home, &server, server.port(), notify, "");
    let notices = || home.maildir("Mail").len();
    good();
    home.must(&["sync"], 0);
    dead();
    home.must(&["sync"], 75);
    assert_eq!(notices(), 0);
    for _ in 0..3 {
        home.must(&["sync"], 75);
        assert_eq!(notices(), 1);
    }
    let notice = String::from_utf8(home.maildir("Mail").remove(0)).unwrap();
    let (header, body) = notice.split_once("\n\n").unwrap();
    for line in [
        "Subject: postrider: cannot fetch mail for home (network)",
        "Auto-Submitted: auto-generated",
        "Date: ",
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=utf-8",
    ] {
        assert!(header.lines().any(|found| found.starts_with(line)), "{line}: {header}");
    }
    assert!(header.lines().any(|line| line.starts_with("From: postrider <postrider@")), "{header}");
    for words in ["Failed polls in a row: 2", "Last success: 20", "home: 127.0.0.1:", "No mail is lost"] {
        assert!(body.contains(words), "{words}: {body}");
    }
    // When it is over it is forgotten, and the next trouble is another one.
    good();
    home.must(&["sync"], 0);
    dead();
    home.must(&["sync"], 75);
    assert_eq!(notices(), 1);
    home.must(&["sync"], 75);
    assert_eq!(notices(), 2);
}

#[test]
fn a_target_that_failed_and_takes_a_notice_gets_one() {
    let (server, home) = (Maildrop::start(Settings::default()), Home::new());
    server.put("uid-1", "Subject: one\r\n\r\n");
    let hooks = "    hooks: { before: 'echo > ~/Mail', after: 'rm ~/Mail' }\n";
    configure(&home, &server, server.port(), "notify: { after: 2 }\n", hooks);
    let said = home.must(&["sync"], 75).stderr;
    assert!(said.contains("open the target") && !home.path("Mail").exists(), "{said}");
    home.must(&["sync"], 75);
    let notice = String::from_utf8(home.maildir("Mail").remove(0)).unwrap();
    assert!(notice.contains("Subject: postrider: cannot fetch mail for home (target)"), "{notice}");
    // One that does not is told of once, with the poll.
    std::fs::remove_dir_all(home.path("Mail")).unwrap();
    configure(&home, &server, server.port(), "notify: { after: 1 }\n", "");
    home.write("Mail", "no directory");
    assert_eq!(home.must(&["sync"], 75).stderr, "");
}

#[test]
fn a_notice_goes_to_the_second_target_where_the_first_takes_none() {
    let (server, home) = (Maildrop::start(Settings::default()), Home::new());
    let keys = "    deliver: [{ maildir: /proc/nothing }, { maildir: ~/Mail }]\n";
    configure(&home, &server, free_port(), "notify: { after: 1 }\n", keys);
    home.must(&["sync"], 75);
    let notice = String::from_utf8(home.maildir("Mail").remove(0)).unwrap();
    assert!(notice.contains("Subject: postrider: cannot fetch mail for home"), "{notice}");
    assert_eq!(home.maildir("Mail").len(), 1);
}

#[test]
fn without_the_key_and_with_deliver_false_a_single_run_puts_nothing_into_the_target() {
    let (server, home) = (Maildrop::start(Settings::default()), Home::new());
    for top in ["", "notify: { after: 1, deliver: false }\n"] {
        configure(&home, &server, free_port(), top, "");
        (0..4).for_each(|_| drop(home.must(&["sync"], 75)));
        assert!(home.maildir("Mail").is_empty());
    }
}

#[test]
fn the_notice_goes_through_a_mail_server_too_also_where_a_header_tells_the_recipients() {
    let (server, home, mail) =
        (Maildrop::start(Settings::default()), Home::new(), MailServer::start(&["PIPELINING"]));
    let keys = format!(
        "    deliver: {{ smtp: {{ host: 127.0.0.1, port: {}, to: {{ header: X-Original-To, domains: [example.org], unknown: \
         post@example.org }} }} }}\n",
        mail.port()
    );
    configure(&home, &server, free_port(), "notify: { after: 1 }\n", &keys);
    home.must(&["sync"], 75);
    let arrived = mail.arrived();
    assert_eq!(arrived.len(), 1);
    assert_eq!(arrived[0].rcpt, ["<post@example.org>"]);
    assert!(arrived[0].mail.starts_with("<postrider@"), "{}", arrived[0].mail);
}
