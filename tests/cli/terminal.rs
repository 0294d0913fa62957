//! The program on a terminal, as `script` makes one: what a person sees while it waits and works.

use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::support::maildrop::{Fault, Maildrop, Protection, Settings, What};
use crate::support::postrider::{Home, LIMIT};
use crate::support::process::{Running, free_port, wait_until};

fn server() -> Maildrop {
    Maildrop::start(Settings { tls: Protection::None, ..Settings::default() })
}

fn account(name: &str, port: u16) -> String {
    format!(
        "  {name}: {{ host: 127.0.0.1, port: {port}, tls: none, auth: [user-pass], user: alice, \
         password: correct horse, maildrop_id: {name}, deliver: {{ maildir: ~/{name} }} }}\n"
    )
}

/// Runs the program on a terminal of so many columns; what it shows goes into `screen` as it is shown.
fn on_terminal(home: &Home, columns: u32, arguments: &str, environment: &[(&str, &str)]) -> Running {
    let program = home.command(&[]);
    let shown = format!(
        "stty cols {columns} rows 24; exec {} {arguments}",
        program.get_program().to_str().expect("a path of text")
    );
    let mut command = Command::new("script");
    command.args(["--quiet", "--flush", "--return", "--command", &shown]).arg(home.path("screen"));
    command.env_clear().current_dir(home.path(""));
    command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.envs(environment.iter().copied()).env("TERM", "xterm").env("SHELL", "/bin/sh");
    Running::start(&mut command)
}

fn screen(home: &Home) -> String {
    String::from_utf8_lossy(&std::fs::read(home.path("screen")).unwrap_or_default()).into_owned()
}

fn shows(home: &Home, words: &str) {
    assert!(
        wait_until(Duration::from_secs(20), || screen(home).contains(words)),
        "{words}: {}",
        screen(home)
    );
}

#[test]
fn a_sync_says_that_it_waits_for_another_process() {
    let (server, home) = (server(), Home::new());
    server.put("one", b"Subject: 1\r\n\r\n".to_vec());
    home.configure(&format!("accounts:\n{}", account("home", server.port())));
    server.set_fault(Fault::StallAt(1));
    let holder = home.start(&["sync"]);
    server.wait_for(1, |what| matches!(what, What::Faulted(_)));
    let waiting = on_terminal(&home, 80, "sync", &[]);
    shows(&home, "home: waiting for another process that polls this maildrop");
    holder.signal(Signal::SIGKILL);
    holder.wait(LIMIT);
    waiting.signal(Signal::SIGTERM);
    waiting.wait(LIMIT);
    let forgetting = {
        server.set_fault(Fault::StallAt(1));
        let holder = home.start(&["sync"]);
        server.wait_for(2, |what| matches!(what, What::Faulted(_)));
        (on_terminal(&home, 80, "seen forget home one", &[]), holder)
    };
    shows(&home, "home: waiting for another process that polls this maildrop");
    forgetting.1.signal(Signal::SIGKILL);
    forgetting.1.wait(LIMIT);
    forgetting.0.wait(LIMIT);
}

#[test]
fn a_slow_server_is_waited_for_in_words_and_a_check_shows_them_too() {
    let home = Home::new();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    home.configure(&format!("accounts:\n{}", account("home", silent.local_addr().unwrap().port())));
    for command in ["sync", "check", "seen mark --all home"] {
        let running = on_terminal(&home, 80, command, &[]);
        shows(&home, "home: logging in");
        running.signal(Signal::SIGTERM);
        running.wait(LIMIT);
        std::fs::remove_file(home.path("screen")).unwrap();
    }
}

#[test]
fn a_hook_a_password_command_and_a_silent_target_are_waited_for_in_words() {
    let (server, home) = (server(), Home::new());
    server.put("one", b"Subject: 1\r\n\r\n".to_vec());
    let plain = account("home", server.port());
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let smtp = format!(
        "{{ smtp: {{ host: 127.0.0.1, port: {}, to: [a@b.example] }} }}",
        silent.local_addr().unwrap().port()
    );
    for (account, words) in [
        (plain.replace("{ host", "{ hooks: { before: sleep 60 }, host"), "home: running the hook `before`"),
        (plain.replace("correct horse", "{ command: sleep 60 }"), "home: getting the password"),
        (plain.replace("{ maildir: ~/home }", &smtp), "home: opening the target"),
        (
            plain.replace("{ host", "{ hooks: { on_new: sleep 60 }, host"),
            "home: running the hooks after the poll",
        ),
    ] {
        home.configure(&format!("accounts:\n{account}"));
        let running = on_terminal(&home, 80, "sync", &[]);
        shows(&home, words);
        running.signal(Signal::SIGTERM);
        running.wait(LIMIT);
        std::fs::remove_file(home.path("screen")).unwrap();
    }
}

#[test]
fn a_question_for_a_password_stays_on_the_screen() {
    let (server, home) = (server(), Home::new());
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let asks = account("home", server.port()).replace("password: correct horse, ", "");
    let other = account("other", silent.local_addr().unwrap().port());
    for accounts in [asks.clone(), asks + &other] {
        home.configure(&format!("accounts:\n{accounts}"));
        let running = on_terminal(&home, 80, "sync", &[]);
        let question = "Password for alice at 127.0.0.1:";
        shows(&home, question);
        let drawn_over = || screen(&home).split(question).last().is_some_and(|behind| behind.len() > 10);
        assert!(!wait_until(Duration::from_secs(1), drawn_over), "{:?}", screen(&home));
        running.signal(Signal::SIGTERM);
        running.wait(LIMIT);
        std::fs::remove_file(home.path("screen")).unwrap();
    }
}

#[test]
fn many_accounts_share_a_line_and_no_line_is_wider_than_the_terminal() {
    let (server, home) = (server(), Home::new());
    (0..30).for_each(|i| server.put(&i.to_string(), b"Subject: 1\r\n\r\n0123456789\r\n".repeat(40)));
    let names = (0..12).map(|i| account(&format!("受信箱のとても長い名前{i:02}"), server.port()));
    home.configure(&format!("accounts:\n{}", names.collect::<String>()));
    let ended = on_terminal(&home, 40, "sync", &[("NO_COLOR", "1")]).wait(LIMIT);
    let screen = screen(&home);
    assert_eq!(ended.status, Some(0), "{screen}");
    assert!(screen.contains(" of 12 accounts done"), "{screen}");
    assert!(screen.contains("12 accounts: 360 messages delivered"), "{screen}");
    for line in screen.split(['\n', '\r', '\u{1b}']).filter(|line| line.contains(" accounts done")) {
        let text = line.trim_start_matches(|c: char| c == '[' || c.is_ascii_digit() && !line.starts_with(c));
        assert!(unicode_width::UnicodeWidthStr::width(text.trim_end()) <= 41, "{line:?}");
    }
    assert!(!screen.contains("\u{1b}[3") && !screen.contains("\u{1b}[1m"), "no colours: {screen:?}");
}

#[test]
fn status_is_a_table_that_fits_with_what_fails_first_and_away_from_a_terminal_has_no_colours() {
    let (server, home) = (server(), Home::new());
    server.put("one", b"Subject: 1\r\n\r\n".to_vec());
    let long = "受信箱のとても長い名前のメール".repeat(3);
    home.configure(&format!(
        "accounts:\n{}{}{}",
        account("home", server.port()),
        account("broken", free_port()),
        account(&long, free_port())
    ));
    home.must(&["sync"], 75);
    for (environment, colours) in [(&[][..], true), (&[("NO_COLOR", "1")], false)] {
        let ended = on_terminal(&home, 80, "status", environment).wait(LIMIT);
        let screen = screen(&home);
        assert_eq!(ended.status, Some(0), "{screen}");
        assert_eq!(screen.contains("\u{1b}["), colours, "{screen:?}");
        let lines: Vec<&str> = screen.lines().filter(|line| !line.starts_with("Script ")).collect();
        let at = |words: &str| {
            lines.iter().position(|line| line.contains(words)).unwrap_or_else(|| panic!("{screen}"))
        };
        assert!(at("ACCOUNT") < at("broken") && at("broken") < at("home"), "{screen}");
        assert!(
            at("3 accounts: 2 failing, 1 fine") > at("home") && at("last day: 1 message") > at("home"),
            "{screen}"
        );
        assert!(lines[at("home")].contains(" ago") || lines[at("home")].contains("now"), "{screen}");
        if !colours {
            let widest =
                lines.iter().map(|line| unicode_width::UnicodeWidthStr::width(line.trim_end())).max();
            assert!(widest <= Some(80), "{screen}");
        }
        std::fs::remove_file(home.path("screen")).unwrap();
    }
    assert!(!home.must(&["status"], 0).stdout.contains('\u{1b}'));
    on_terminal(&home, 80, "status home broken", &[]).wait(LIMIT);
    let two = screen(&home);
    assert!(two.contains("2 accounts: 1 failing, 1 fine") && !two.contains("last day"), "{two}");
    let alone = on_terminal(&home, 80, "status home", &[]).wait(LIMIT);
    assert_eq!(alone.status, Some(0));
    assert!(
        screen(&home).contains(" 1 message delivered") && !screen(&home).contains("ACCOUNT"),
        "{}",
        screen(&home)
    );
}
