//! `login` as a person meets it: in a terminal of tmux, with an address pasted into it, and with a real browser.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use nix::unistd::getuid;

use super::tokens::{Terminal, account, configuration, servers};
use crate::support::authorization_server::{Person, browse};
use crate::support::postrider::Home;
use crate::support::process::{program, wait_until};

/// A terminal of tmux in which a command runs; it ends when this is dropped.
struct Tmux {
    socket: PathBuf,
}

impl Tmux {
    /// Runs the program in a terminal of 100 columns, and shows its exit status behind it.
    fn start(home: &Home, arguments: &[&str]) -> Self {
        let tmux = Self { socket: home.path("tmux") };
        let program = home.command(arguments);
        let mut command = tmux.command(&["-f", "/dev/null", "new-session", "-d", "-x", "100", "-y", "40"]);
        command.args(["sh", "-c", "\"$0\" \"$@\"; echo \"exit status $?\"; exec sleep 600"]);
        command.arg(program.get_program()).args(program.get_args());
        command.env_clear().envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.env("TERM", "xterm").env("SHELL", "/bin/sh");
        let mut started = command.output().expect("tmux (Debian: tmux)");
        // On a machine that has much else to do its server sometimes ends before its client has reached it.
        wait_until(Duration::from_secs(10), || {
            started.status.success() || {
                started = command.output().expect("tmux");
                false
            }
        });
        assert!(started.status.success(), "{started:?}");
        tmux
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("tmux");
        command.arg("-S").arg(&self.socket).args(arguments);
        command
    }

    /// Gives what was shown so far, long lines in one piece.
    fn screen(&self) -> String {
        let shown = self.command(&["capture-pane", "-p", "-J", "-S", "-"]).output().unwrap();
        String::from_utf8_lossy(&shown.stdout).into_owned()
    }

    /// Waits until a line has this in it, and gives that line.
    fn shows(&self, words: &str) -> String {
        let line = || self.screen().lines().find(|line| line.contains(words)).map(str::to_owned);
        assert!(
            wait_until(Duration::from_secs(60), || line().is_some()),
            "no {words:?} in {}",
            self.screen()
        );
        line().unwrap().trim().to_owned()
    }

    /// Pastes a line as a person does.
    fn paste(&self, line: &str) {
        for arguments in [&["set-buffer", line][..], &["paste-buffer", "-p"], &["send-keys", "Enter"]] {
            assert!(self.command(arguments).status().unwrap().success(), "{arguments:?}");
        }
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        let _ = self.command(&["kill-server"]).output();
    }
}

/// Gives the address at which a browser elsewhere ends.
fn ended_at(address: &str) -> String {
    browse(address).unwrap().1.unwrap()
}

#[test]
fn an_address_is_pasted_into_a_terminal_and_each_that_is_not_the_right_one_is_told() {
    let (tokens, server, home) = servers("");
    let keys = tokens.keys("");
    let work = account("work", &server, &keys, "auth: [xoauth2]").replace("user: alice", "user: bob");
    home.configure(&(configuration(&server, &keys, "auth: [xoauth2]") + &work));
    tokens.state().person = Person::Allows("bob".into());
    let of_work = ended_at(&Terminal::start(&home, &["login", "work"]).shows("/authorize?"));
    tokens.state().person = Person::Allows("alice".into());
    let terminal = Tmux::start(&home, &["login", "home"]);
    let address = terminal.shows("/authorize?");
    let own = ended_at(&address);
    let state = own.split("state=").nth(1).unwrap();
    let other = own.replace(state, "another");
    for (pasted, told) in [
        ("http://127.0.0.1:1/", "there is no code in it"),
        (&other, "it is of another log-in than this one"),
        (&of_work, "it is of another log-in than this one"),
    ] {
        let before = terminal.screen().matches(told).count();
        terminal.paste(pasted);
        assert!(
            wait_until(Duration::from_secs(60), || terminal.screen().matches(told).count() > before),
            "{told}"
        );
    }
    // As long as Microsoft's are, and at whatever place it ended.
    let query = own.split_once('?').unwrap().1;
    terminal.paste(&format!("https://elsewhere.example/path?session_state={}&{query}", "x".repeat(3000)));
    terminal.shows("Logged in as alice at 127.0.0.1");
    terminal.shows("exit status 0");
    drop(terminal);
    home.must(&["sync", "home"], 0);
    // An address with an error in it is an answer, too.
    let terminal = Tmux::start(&home, &["login", "work"]);
    let address = terminal.shows("/authorize?");
    tokens.state().person = Person::Declines;
    terminal.paste(&ended_at(&address));
    terminal.shows("refused (access_denied)");
    terminal.shows("The user declined.");
    terminal.shows("exit status 77");
}

#[test]
fn a_browser_follows_the_providers_page_and_brings_the_code_by_itself() {
    let Some(chromium) = program("chromium") else {
        return eprintln!("not tested: there is no chromium");
    };
    let (tokens, server, home) = servers("");
    let keys = tokens.keys("").replace("/authorize'", "/sign-in'");
    home.configure(&configuration(&server, &keys, "auth: [xoauth2]"));
    let mut terminal = Terminal::start(&home, &["login", "home"]);
    let address = terminal.shows("/sign-in?");
    let mut browser = Command::new(chromium);
    browser.args(["--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]);
    browser.args(["--virtual-time-budget=10000", "--dump-dom"]);
    if getuid().is_root() {
        browser.arg("--no-sandbox");
    }
    let profile = format!("--user-data-dir={}", home.path("chromium").display());
    let shown = browser.arg(profile).arg(&address).env("HOME", home.path("")).output().unwrap();
    let page = String::from_utf8_lossy(&shown.stdout);
    assert!(page.contains("You may close this window"), "{page}{}", String::from_utf8_lossy(&shown.stderr));
    let (said, _) = terminal.ends(0);
    assert!(said.contains("Logged in as alice"), "{said}");
    home.must(&["sync"], 0);
}
