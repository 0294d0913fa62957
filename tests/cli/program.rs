//! The command as its user meets it where no server is needed: exit status, words, JSON.

use std::fs::{self, OpenOptions};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::maildrop::{Maildrop, Protection, Settings};
use crate::support::postrider::Home;
use crate::support::process::{Ended, free_port};
use crate::support::scripted::{Script, ScriptedServer};

pub fn with(config: &str) -> Home {
    let home = Home::new();
    home.configure(config);
    home
}

/// One account at a port of this machine where nobody listens.
fn with_nobody_there() -> (Home, u16) {
    let port = free_port();
    let home = with(&format!(
        "accounts:\n  home: {{ host: 127.0.0.1, port: {port}, user: alice, password: hunter2, \
         timeout: 5s, deliver: {{ maildir: ~/Mail }} }}\n"
    ));
    (home, port)
}

fn config(home: &Home) -> PathBuf {
    home.path("config/postrider/config.yaml")
}

fn state(home: &Home) -> PathBuf {
    home.path("state/postrider/state.db")
}

/// Another program in the environment of this one.
fn other(home: &Home, program: &str, arguments: &[&str]) -> Command {
    let ours = home.command(&[]);
    let mut command = Command::new(program);
    command.args(arguments).env_clear().current_dir(home.path("")).stdin(Stdio::null());
    command.envs(ours.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command
}

const POSTRIDER: &str = env!("CARGO_BIN_EXE_postrider");

const TWO_ACCOUNTS: &str = "\
defaults: { deliver: { maildir: ~/Mail }, timeout: 5s }
accounts:
  home: { host: pop.example.org, user: alice, password: hunter2 }
  work: { host: pop.example.com, user: alice, password: { env: WORK_PASSWORD } }
";

#[test]
fn help_is_a_command_too() {
    let home = Home::new();
    let page = home.must(&["help", "seen", "mark"], 0).stdout;
    assert_eq!(page, home.must(&["seen", "mark", "--help"], 0).stdout);
    assert_eq!(home.must(&["help"], 0).stdout, home.must(&["--help"], 0).stdout);
}

#[test]
fn help_names_every_command_and_every_exit_status() {
    let ended = Home::new().run(&["--help"]);
    assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""));
    for word in [
        "sync",
        "daemon",
        "check",
        "doctor",
        "setup",
        "login",
        "status",
        "seen",
        "held",
        "config",
        "completions",
        "--config",
        "--log-format",
    ] {
        assert!(ended.stdout.contains(word), "{word}:\n{}", ended.stdout);
    }
    for status in ["   0  ", "   1  ", "   2  ", "  75  ", "  77  ", "  78  "] {
        assert!(ended.stdout.contains(status), "{status}:\n{}", ended.stdout);
    }
}

#[test]
fn version_is_that_of_the_package() {
    let ended = Home::new().run(&["--version"]);
    assert_eq!((ended.status, ended.stdout), (Some(0), format!("postrider {}\n", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn a_wrong_command_line_is_status_2_and_says_why_on_stderr() {
    let home = with(TWO_ACCOUNTS);
    for (arguments, words) in [
        (&[][..], "Usage: postrider"),
        (&["fetch"], "unrecognized subcommand 'fetch'"),
        (&["synk"], "'sync'"),
        (&["sync", "--limit", "0"], "invalid value '0'"),
        (&["sync", "-q", "-v"], "cannot be used with"),
        (&["--log-format", "xml", "sync"], "[possible values: text, json, journal]"),
        (&["seen", "mark", "home"], "<--all|UID>"),
        (&["seen", "forget", "home"], "<--all|UID>"),
        (&["held", "discard", "home"], "<--all|UID>"),
        (&["completions", "tcsh"], "[possible values: bash, zsh, fish]"),
        (&["sync", "hmoe"], r#"no account "hmoe" in"#),
        (&["check", "hmoe"], r#"did you mean "home"?"#),
        (&["seen", "list", "wrok"], r#"did you mean "work"?"#),
        (&["sync", "pops://alice@pop.example.org"], "a URL needs --deliver"),
        (&["sync", "pops://a@b.example", "home", "--deliver", "maildir:~/M"], "a URL stands alone"),
        (&["sync", "home", "--deliver", "maildir:~/M"], "go with a URL only"),
        (&["sync", "imap://a@b.example", "--deliver", "maildir:~/M"], "must begin with pops://"),
        (&["sync", "pops://a@b.example", "--deliver", "nowhere"], "--deliver must be"),
    ] {
        let ended = home.run(arguments);
        assert_eq!(ended.status, Some(2), "{arguments:?}: {ended:?}");
        assert_eq!(ended.stdout, "", "{arguments:?}");
        assert!(ended.stderr.contains(words), "{arguments:?}: {words}: {}", ended.stderr);
    }
    assert!(!state(&home).exists(), "a wrong command line leaves nothing behind");
}

#[test]
fn without_a_configuration_it_is_status_78_and_says_where_one_was_looked_for() {
    let system = "/etc/postrider/config.yaml";
    assert!(!fs::exists(system).unwrap(), "{system} exists, and these tests would poll its accounts");
    let home = Home::new();
    for arguments in
        [&["sync"][..], &["check"], &["config", "check"], &["config", "show"], &["seen", "list", "home"]]
    {
        let ended = home.run(arguments);
        assert_eq!((ended.status, ended.stdout.as_str()), (Some(78), ""), "{arguments:?}: {ended:?}");
        for place in [config(&home).to_str().unwrap(), system] {
            assert!(ended.stderr.contains(place), "{arguments:?}: {}", ended.stderr);
        }
    }
    for command in ["sync", "status"] {
        let missing = home.run(&[command, "--config", "/nowhere/mail.yaml"]);
        assert_eq!((missing.status, missing.stdout.as_str()), (Some(78), ""));
        assert!(missing.stderr.starts_with("postrider: /nowhere/mail.yaml: "), "{}", missing.stderr);
    }
}

#[test]
fn a_mistake_in_the_configuration_is_status_78_with_file_line_and_column() {
    let home = with("accounts:\n  home:\n    hots: pop.example.org\n    password: hunter2\n");
    for arguments in
        [&["sync"][..], &["check"], &["status"], &["config", "check"], &["seen", "mark", "home", "--all"]]
    {
        let ended = home.run(arguments);
        assert_eq!((ended.status, ended.stdout.as_str()), (Some(78), ""), "{arguments:?}: {ended:?}");
        let place = format!("postrider: {}:3:5: ", config(&home).display());
        assert!(ended.stderr.starts_with(&place), "{arguments:?}: {}", ended.stderr);
        assert!(ended.stderr.contains("`host`"), "{arguments:?}: {}", ended.stderr);
        assert!(!ended.stderr.contains("hunter2"), "{arguments:?}: {}", ended.stderr);
    }
    assert!(!state(&home).exists(), "a wrong configuration leaves nothing behind");
}

#[test]
fn a_sound_configuration_is_said_to_be_so_and_shown_without_its_secrets() {
    let home = with(TWO_ACCOUNTS);
    let checked = home.run(&["config", "check"]);
    assert_eq!((checked.status, checked.stderr.as_str()), (Some(0), ""));
    assert_eq!(checked.stdout, format!("{}: 2 accounts, no mistakes\n", config(&home).display()));
    assert_eq!(home.run(&["config", "check", "-q"]).stdout, "");

    let shown = home.run(&["config", "show"]);
    assert_eq!((shown.status, shown.stderr.as_str()), (Some(0), ""));
    assert!(!shown.stdout.contains("hunter2"), "{}", shown.stdout);
    for words in ["home:", "work:", "pop.example.org", "WORK_PASSWORD", "995", "maildir"] {
        assert!(shown.stdout.contains(words), "{words}:\n{}", shown.stdout);
    }
}

#[test]
fn completions_of_each_shell_know_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let ended = Home::new().run(&["completions", shell]);
        assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""), "{shell}");
        for word in ["sync", "forget", "dry-run", "password-command"] {
            assert!(ended.stdout.contains(word), "{shell}: {word}");
        }
    }
}

/// Has a shell complete a line with the script that is made for it; gives what it offers.
fn completed(shell: &str, ask: &str) -> String {
    let home = with(TWO_ACCOUNTS);
    home.write("script", &home.must(&["completions", shell], 0).stdout);
    home.write("other.yaml", "accounts: { elsewhere: { host: h, user: u, deliver: { maildir: /m } } }\n");
    let bin = PathBuf::from(POSTRIDER).parent().unwrap().display().to_string();
    let mut command = other(
        &home,
        shell,
        &[
            match shell {
                "fish" => "--no-config",
                "zsh" => "--no-rcs",
                _ => "--norc",
            },
            "-c",
            ask,
        ],
    );
    let output = command.env("PATH", format!("{bin}:/usr/bin:/bin")).output().unwrap();
    assert!(output.status.success(), "{shell}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn shells_complete_the_names_of_the_accounts() {
    let bash = |words: &str| {
        completed(
            "bash",
            &format!(
                ". ./script; COMP_WORDS=({words} ''); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
                 _postrider_with_accounts postrider '' x; printf '%s\\n' \"${{COMPREPLY[@]}}\""
            ),
        )
    };
    for line in ["postrider sync", "postrider -v check home", "postrider seen list", "postrider held discard"]
    {
        let offered = bash(line);
        assert!(offered.lines().any(|name| name == "work"), "{line}: {offered}");
        let fish = completed("fish", &format!("source script; complete -C '{line} '"));
        assert!(fish.lines().any(|name| name == "work"), "{line}: {fish}");
    }
    for line in ["postrider daemon", "postrider completions", "postrider sync --limit"] {
        assert!(!bash(line).lines().any(|name| name == "work"), "{line}");
    }
    // Those of the file that the line names.
    for line in ["postrider --config ~/other.yaml sync", "postrider sync --config=other.yaml"] {
        let words = line.replace("--config=", "--config = ");
        assert!(bash(&words).lines().any(|name| name == "elsewhere"), "{line}");
        let fish = completed("fish", &format!("source script; complete -C '{line} '"));
        assert!(fish.lines().any(|name| name == "elsewhere"), "{line}: {fish}");
        let zsh = format!(
            "compadd() {{ print -l -- $@ }}; compdef() {{ : }}; words=({line} ''); CURRENT=$#words; \
             functions[names]=\"$(sed -n '/^_postrider_accounts() {{/,/^}}/p' script | sed '1d;$d')\"; names"
        );
        assert!(completed("zsh", &zsh).lines().any(|name| name == "elsewhere"), "{line}");
    }
    completed("zsh", "zsh -n ./script");
    assert_eq!(with(TWO_ACCOUNTS).run(&["config", "accounts"]).stdout, "home\nwork\n");
}

#[test]
fn a_mail_address_in_the_place_of_an_account_is_told_what_to_give_instead() {
    for (home, address, expected) in [
        (with(TWO_ACCOUNTS), "bob@example.net", "postrider sync pops://bob@HOST --deliver maildir:~/Mail"),
        (Home::new(), "alice@example.org", "postrider sync pops://alice@HOST --deliver maildir:~/Mail"),
        (with(TWO_ACCOUNTS), "alice@example.com", "is called work: `postrider sync work`"),
    ] {
        let told = home.run(&["sync", address]).stderr;
        assert!(told.contains(expected), "{told}");
    }
    let told = Home::new().must(&["sync", "alice@example.org", "--deliver", "maildir:~/Mail"], 2).stderr;
    assert!(
        told.contains("name the POP3 server in a URL, such as `postrider sync pops://alice@HOST"),
        "{told}"
    );
}

#[test]
fn what_a_url_left_held_or_seen_is_reached_by_the_url() {
    let server = Maildrop::start(Settings { tls: Protection::None, ..Settings::default() });
    (0..2).for_each(|i| server.put(&format!("uid-{i}"), b"Subject: x\r\n\r\n".to_vec()));
    let (home, url) = (Home::new(), format!("pop://alice;AUTH=+USER@127.0.0.1:{}", server.port()));
    let sync = |deliver: &str, status| {
        let options = ["--tls", "none", "--deliver", deliver, "--password-command", "echo 'correct horse'"];
        home.must(&[&["sync", &url][..], &options].concat(), status).stderr
    };
    let said = sync("pipe:exit 69", 75);
    assert!(said.contains(&format!("`postrider held list '{url}'` shows what is held")), "{said}");
    assert_eq!(home.must(&["held", "list", &url], 0).stdout.lines().count(), 2);
    assert!(home.must(&["held", "retry", &url], 0).stdout.contains("2 messages tried again by the next"));
    home.must(&["held", "discard", &url, "uid-0"], 0);
    sync("maildir:Mail", 0);
    assert_eq!(home.maildir("Mail").len(), 1);
    assert_eq!(home.must(&["seen", "list", &url], 0).stdout.lines().count(), 2);
    home.must(&["seen", "forget", &url, "uid-1"], 0);
    home.must(&["seen", "mark", &url, "uid-1"], 0);
    server.put("uid-2", b"Subject: y\r\n\r\n".to_vec());
    let options = ["--tls", "none", "--password-command", "echo 'correct horse'"];
    let marked = home.must(&[&["seen", "mark", "--all", &url][..], &options].concat(), 0).stdout;
    assert!(marked.contains("1 message marked as seen"), "{marked}");
    home.must(&[&["seen", "mark", &url, "uid-1"][..], &options].concat(), 2);
    home.must(&[&["seen", "mark", "--all", "home"][..], &options].concat(), 2);
    sync("maildir:Mail", 0);
    assert_eq!(home.maildir("Mail").len(), 1);
}

#[test]
fn a_hint_to_who_gave_a_url_names_options_and_no_keys() {
    let script = "S: +OK\nC: STLS\nS: -ERR no\n!expect-close";
    let server = ScriptedServer::start([Script::parse("stls", script)]);
    let url = format!("pop://alice@127.0.0.1:{}", server.port());
    let options = ["--deliver", "maildir:Mail", "--password-command", "echo x"];
    let said = Home::new().must(&[&["sync", &url][..], &options].concat(), 75).stderr;
    assert!(said.contains("write `--tls implicit` if the server has") && !said.contains("`tls:"), "{said}");
}

#[test]
fn status_shows_the_accounts_that_are_named_and_no_others() {
    let home = with(TWO_ACCOUNTS);
    assert_eq!(home.must(&["status", "work"], 0).stdout, "work: never polled\n");
    assert!(home.must(&["status", "wrok"], 2).stderr.contains("did you mean \"work\"?"));
    home.must(&["status", "--max-age", "1h", "work"], 75);
    assert_eq!(home.must(&["status", "--json", "home"], 0).stdout.lines().count(), 1);
}

#[test]
fn bash_takes_its_completions() {
    let script = Home::new().run(&["completions", "bash"]).stdout;
    let output = Command::new("bash").args(["-n", "-c", &script]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn status_before_the_first_poll_says_so_and_makes_no_state_file() {
    let home = with(TWO_ACCOUNTS);
    let ended = home.run(&["status"]);
    assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""));
    assert_eq!(ended.stdout, "home: never polled\nwork: never polled\n");
    let json = home.run(&["status", "--json"]);
    let lines: Vec<Value> = json.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["account"], "home");
    assert_eq!(lines[0]["maildrop"], "alice@pop.example.org");
    assert_eq!((&lines[0]["last_poll"], &lines[0]["seen"]), (&Value::Null, &0.into()));
    assert!(!state(&home).exists());
}

#[test]
fn status_forget_drops_a_maildrop_that_is_no_longer_configured_and_no_other() {
    let (home, _) = with_nobody_there();
    home.must(&["sync"], 75);
    let told = home.must(&["status", "forget", "home"], 2).stderr;
    assert!(told.contains("account home is in the configuration; nothing was changed"), "{told}");
    let row: Value = serde_json::from_str(&home.must(&["status", "--json"], 0).stdout).unwrap();
    let maildrop = row["maildrop"].as_str().unwrap().to_owned();
    home.configure(TWO_ACCOUNTS);
    let shown = home.must(&["status"], 0).stdout;
    assert!(shown.contains(", not in the configuration"), "{shown}");
    let told = home.must(&["status", "forget", "nobody"], 2).stderr;
    assert!(told.contains("no maildrop nobody; nothing was changed\n  hint: "), "{told}");
    let told = home.must(&["status", "forget", &maildrop], 0).stdout;
    assert_eq!(told, format!("{maildrop}: forgotten, 0 recorded messages\n"));
    assert_eq!(home.must(&["status", "--json"], 0).stdout.lines().count(), 2);
}

#[test]
fn status_needs_no_configuration_where_there_is_none() {
    let ended = Home::new().run(&["status"]);
    assert_eq!((ended.status, ended.stdout.as_str(), ended.stderr.as_str()), (Some(0), "", ""));
}

#[test]
fn before_the_first_poll_nothing_is_seen_and_nothing_can_be_forgotten() {
    let home = with(TWO_ACCOUNTS);
    let listed = home.run(&["seen", "list", "home"]);
    assert_eq!((listed.status, listed.stdout.as_str(), listed.stderr.as_str()), (Some(0), "", ""));
    let forgotten = home.run(&["seen", "forget", "home", "QhdPYR"]);
    assert_eq!((forgotten.status, forgotten.stdout.as_str()), (Some(2), ""));
    assert_eq!(forgotten.stderr, "postrider: no recorded unique-id QhdPYR; nothing was changed\n");
}

#[test]
fn a_state_file_that_is_none_is_status_75_and_says_what_to_do() {
    let home = with(TWO_ACCOUNTS);
    fs::create_dir_all(state(&home).parent().unwrap()).unwrap();
    fs::write(state(&home), "not a state file, and long enough to be looked at\n".repeat(100)).unwrap();
    for arguments in [&["status"][..], &["seen", "list", "home"], &["seen", "forget", "home", "x"]] {
        let ended = home.run(arguments);
        assert_eq!((ended.status, ended.stdout.as_str()), (Some(75), ""), "{arguments:?}: {ended:?}");
        assert!(ended.stderr.contains("state.db"), "{arguments:?}: {}", ended.stderr);
        assert!(ended.stderr.contains("\n  hint: "), "{arguments:?}: {}", ended.stderr);
    }
}

#[test]
fn a_server_that_is_not_there_is_status_75_and_one_message_with_account_host_and_step() {
    let (home, port) = with_nobody_there();
    for command in ["sync", "check"] {
        let ended = home.run(&[command]);
        assert_eq!((ended.status, ended.stdout.as_str()), (Some(75), ""), "{command}: {ended:?}");
        let start = format!("postrider: home: 127.0.0.1:{port}: connect: ");
        assert!(ended.stderr.starts_with(&start), "{command}: {}", ended.stderr);
        assert!(ended.stderr.contains("refused"), "{command}: {}", ended.stderr);
        assert_eq!(ended.stderr.matches("postrider: ").count(), 1, "{command}: {}", ended.stderr);
    }
    // It lasts: that is no news, and the status tells it.
    assert_eq!(home.run(&["sync"]).stderr, "");
    let (fresh, _) = with_nobody_there();
    assert_eq!(fresh.run(&["sync", "-q"]).stderr.matches("postrider: ").count(), 1);
}

#[test]
fn json_has_the_failure_on_stdout_and_stderr_has_it_in_the_format_that_was_asked_for() {
    let (home, port) = with_nobody_there();
    let ended = home.run(&["sync", "--json", "--log-format", "json"]);
    assert_eq!(ended.status, Some(75));
    assert_eq!(ended.stdout.lines().count(), 1);
    let result: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!((&result["account"], &result["exit_status"]), (&"home".into(), &75.into()));
    assert_eq!(result["failure"]["class"], "network");
    assert_eq!(result["failure"]["host"], format!("127.0.0.1:{port}"));
    for line in ended.stderr.lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        assert_eq!((&record["level"], &record["account"]), (&"error".into(), &"home".into()));
    }
    let (home, port) = with_nobody_there();
    let journal = home.run(&["sync", "--log-format", "journal"]);
    assert!(journal.stderr.starts_with(&format!("<3>home: 127.0.0.1:{port}: ")), "{}", journal.stderr);
}

#[test]
fn every_account_is_polled_though_others_fail_and_only_those_that_are_named() {
    let home = with(&format!(
        "defaults: {{ host: 127.0.0.1, user: alice, password: x, timeout: 5s, deliver: {{ maildir: ~/Mail }} }}\n\
         accounts:\n  one: {{ port: {}, maildrop_id: one }}\n  two: {{ port: {}, maildrop_id: two }}\n",
        free_port(),
        free_port()
    ));
    let told = |ended: &Ended, name: &str| ended.stderr.matches(&format!("postrider: {name}: 127.")).count();
    let named = home.run(&["sync", "two", "two"]);
    assert_eq!(
        (named.status, told(&named, "one"), told(&named, "two")),
        (Some(75), 0, 1),
        "{}",
        named.stderr
    );
    let _ = fs::remove_dir_all(state(&home).parent().unwrap());
    let both = home.run(&["sync"]);
    assert_eq!((both.status, told(&both, "one"), told(&both, "two")), (Some(75), 1, 1), "{}", both.stderr);
}

#[test]
fn a_url_needs_no_configuration_and_is_named_in_its_failure() {
    let port = free_port();
    let url = format!("pops://alice@127.0.0.1:{port}");
    let command = ["sync", &url, "--deliver", "maildir:~/Mail", "--password-command", "echo hunter2"];
    let ended = Home::new().run(&command);
    assert_eq!((ended.status, ended.stdout.as_str()), (Some(75), ""), "{ended:?}");
    assert!(ended.stderr.starts_with(&format!("postrider: {url}: 127.0.0.1:{port}: ")), "{}", ended.stderr);
    assert!(!ended.stderr.contains("hunter2"), "{}", ended.stderr);
}

#[test]
fn output_that_nobody_reads_is_no_failure_and_output_that_is_lost_is_one() {
    let home = Home::new();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let unread = home.command(&["completions", "bash"]).stdout(writer).output().unwrap();
    assert_eq!((unread.status.code(), String::from_utf8_lossy(&unread.stderr).as_ref()), (Some(0), ""));

    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let lost = home.command(&["completions", "bash"]).stdout(full).output().unwrap();
    let said = String::from_utf8_lossy(&lost.stderr);
    assert_eq!(lost.status.code(), Some(75), "{said}");
    assert!(said.starts_with("postrider: cannot write to standard output: "), "{said}");
}

#[test]
fn standard_streams_that_are_closed_or_full_do_not_change_the_exit_status() {
    let home = with(TWO_ACCOUNTS);
    for (command, status) in [
        ("config show >&- 2>&- <&-", 0),
        ("config check >&- 2>&-", 0),
        ("sync hmoe 2>/dev/full", 2),
        ("sync hmoe 2>&-", 2),
        ("synk 2>/dev/full", 2),
        ("--help >/dev/full", 0),
    ] {
        let script = format!("exec '{POSTRIDER}' {command}");
        let ended = other(&home, "sh", &["-c", &script]).status().unwrap();
        assert_eq!(ended.code(), Some(status), "{command}");
    }
}

#[test]
fn a_sync_of_an_account_that_is_not_enabled_says_so_and_polls_it() {
    let server = Maildrop::start(Settings { tls: Protection::None, ..Settings::default() });
    server.put("one", b"Subject: x\r\n\r\n".to_vec());
    let home = with(&format!(
        "accounts:\n  off: {{ host: 127.0.0.1, port: {}, tls: none, auth: [plain], user: alice, password: correct horse, \
         enabled: false, deliver: {{ maildir: ~/Mail }} }}\n",
        server.port()
    ));
    assert_eq!(home.must(&["sync"], 0).stderr, "postrider: warning: no account is enabled\n");
    // Without a person who looks on, it is told only to who asks: cron would send it as mail at each run.
    let said = home.must(&["sync", "-v", "off"], 0).stderr;
    assert!(said.contains("off: not enabled: polled only because it was named"), "{said}");
    assert_eq!((home.must(&["sync", "off"], 0).stderr, home.maildir("Mail").len()), (String::new(), 1));
}
