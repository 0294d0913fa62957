//! The configuration file as its author meets it: what is accepted, and the words for every mistake.

mod mistakes;
mod slips;
mod targets;

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use postrider::testing::config::{
    Account, CommandLine, Config, FirstSync, Interval, Keep, Order, Password, Pipelining, SessionLimits,
    Target, TlsMode, TlsVersion, show,
};
use postrider::testing::sasl::{Auth, Mechanism};
use postrider::testing::secret::Secret;

use crate::support::mounted::{Image, Mounted};
use crate::support::postrider::Home;

const FILE: &str = "FILE";

fn read(text: &str) -> Result<Config, String> {
    // `state` keeps the outcome independent of the environment of the tests.
    let text = if text.contains("accounts:") { format!("{text}\nstate: /s\n") } else { text.to_owned() };
    Config::from_yaml(&text, Path::new(FILE)).map_err(|error| error.to_string())
}

/// An account that is sound, with room for more keys.
fn with(keys: &str) -> String {
    format!("accounts:\n  home:\n    host: h\n    user: u\n    deliver: {{maildir: /m}}\n    {keys}\n")
}

fn account(keys: &str) -> Account {
    read(&with(keys)).unwrap().accounts.remove(0)
}

#[test]
fn a_minimal_account_has_every_default() {
    let config =
        read("accounts: {home: {host: POP.Example.org, user: alice, deliver: {maildir: /m}}}").unwrap();
    let account = &config.accounts[0];
    assert_eq!(config.file, Some(PathBuf::from(FILE)));
    assert_eq!(
        config.daemon,
        SessionLimits { max_sessions: 64, max_sessions_per_host: 4, startup_spread: Duration::from_secs(30) }
    );
    assert_eq!(
        (account.name.as_str(), account.host.as_str(), account.port),
        ("home", "pop.example.org", 995)
    );
    assert_eq!(account.maildrop_id, "alice@pop.example.org");
    assert_eq!((account.tls.mode, account.tls.min), (TlsMode::Implicit, TlsVersion::Tls12));
    assert_eq!((&account.auth, &account.password), (&Auth::Auto, &None));
    assert_eq!((account.bind, &account.connect), (None, &None));
    assert_eq!(account.timeout, Duration::from_secs(60));
    assert_eq!(account.interval, Interval::Every(Duration::from_secs(300)));
    assert_eq!(
        (account.keep, account.first_sync, account.order),
        (Keep::Forever, FirstSync::All, Order::Oldest)
    );
    assert_eq!((account.max_size, account.max_messages), (None, None));
    assert_eq!((account.pipelining, account.enabled), (Pipelining::Auto, true));
    assert_eq!(account.deliver, [Target::Maildir("/m".into()).into()]);
}

#[test]
fn defaults_hold_until_an_account_says_otherwise() {
    let text = "
defaults:
  host: pop.example.org
  deliver: { maildir: /m }
  interval: 1h
  tls: starttls
  max_size: 10M
accounts:
  # the order is the file's
  zoe: { user: zoe }
  ann: { user: ann, interval: manual, tls: implicit, port: 1995, max_size: none }
";
    let accounts = read(text).unwrap().accounts;
    let of = |index: usize| &accounts[index];
    assert_eq!((of(0).name.as_str(), of(1).name.as_str()), ("zoe", "ann"));
    assert_eq!(
        (of(0).interval, of(1).interval),
        (Interval::Every(Duration::from_secs(3600)), Interval::Manual)
    );
    assert_eq!((of(0).port, of(1).port), (110, 1995));
    assert_eq!((of(0).max_size, of(1).max_size), (Some(10 << 20), None));
}

#[test]
fn what_defaults_say_about_tls_does_not_concern_an_account_without() {
    let text = "
defaults: { host: h, tls_ca: /ca.pem, deliver: {maildir: /m} }
accounts: { a: { user: u, tls: none, auth: [user-pass] } }
";
    assert_eq!(read(text).unwrap().accounts[0].tls.ca, None);
}

#[test]
fn passwords_come_in_every_form_and_their_text_is_kept() {
    let literal = |text: &str| Some(Password::Literal(Secret::new(text)));
    let shell = |line: &str| Some(Password::Command(CommandLine::Shell(line.into())));
    let argv = CommandLine::Argv(vec!["pass".into(), "show".into(), "a b".into()]);
    for (written, password) in [
        ("hunter2", literal("hunter2")),
        ("0123", literal("0123")),
        ("1e3", literal("1e3")),
        ("true", literal("true")),
        ("' it''s: #1 '", literal(" it's: #1 ")),
        ("\"\\x41\\u00e4\"", literal("Aä")),
        ("{command: pass show home}", shell("pass show home")),
        ("{command: [pass, show, a b]}", Some(Password::Command(argv))),
        ("{file: /f}", Some(Password::File("/f".into()))),
        ("{env: MAIL_PASSWORD}", Some(Password::Env("MAIL_PASSWORD".into()))),
        ("{credential: home}", Some(Password::Credential("home".into()))),
        ("{netrc: /n}", Some(Password::Netrc("/n".into()))),
    ] {
        assert_eq!(account(&format!("password: {written}")).password, password, "{written}");
    }
}

#[test]
fn the_user_is_taken_as_it_is_written() {
    for (written, user) in
        [("'alice  smith '", "alice  smith "), ("007", "007"), ("a\\b", "a\\b"), ("Ä@x", "Ä@x")]
    {
        let text = format!("accounts: {{a: {{host: h, deliver: {{maildir: /m}}, user: {written}}}}}");
        assert_eq!(read(&text).unwrap().accounts[0].user, user);
    }
}

#[test]
fn pins_are_read_with_and_without_colons_in_either_case() {
    let plain = "ab".repeat(32);
    let colons = vec!["AB"; 32].join(":");
    for written in [format!("sha256:{plain}"), format!("SHA256:{colons}"), format!("[sha256:{plain}]")] {
        assert_eq!(account(&format!("tls_pin: {written}")).tls.pins, [[0xab; 32]]);
    }
    let both = format!("tls_pin: [sha256:{plain}, 'sha256:{}']", "00".repeat(32));
    assert_eq!(account(&both).tls.pins, [[0xab; 32], [0; 32]]);
}

#[test]
fn every_mechanism_of_the_manual_can_be_listed() {
    let all =
        "[external, scram-sha-256-plus, scram-sha-256, scram-sha-1, plain, login, user-pass, cram-md5, apop]";
    let Auth::List(list) = account(&format!("auth: {all}")).auth else { panic!("not a list") };
    assert_eq!(list.len(), 9);
    assert_eq!((list[0], list[8]), (Mechanism::External, Mechanism::Apop));
}

#[test]
fn a_small_text_cannot_become_a_large_configuration() {
    let long = "a".repeat(1 << 20);
    let accounts: String = (0..100).map(|index| format!("  a{index}: {{host: h{index}}}\n")).collect();
    let text = format!("defaults: {{user: {long}, deliver: {{maildir: /m}}}}\naccounts:\n{accounts}");
    assert_eq!(read(&text), Err("FILE:1:1: defaults: too much text for so many accounts".into()));
}

const EVERYTHING: &str = r#"
state: "/var/lib/it's/state.db"
daemon: { max_sessions: 7, max_sessions_per_host: 2, startup_spread: 0s }
notify: { after: 5, remind: 12h, deliver: false }
metrics_file: "/m: #"
sandbox: off
hosts: { POP.example.org: { max_sessions: 20 }, '::1': { max_sessions: 1 } }
fleet:
  accounts: mail.boxes
  allow_networks: [10.0.0.0/8, '::1']
  targets:
    desk: { http: { url: https://desk.example.org/in } }
    all: [{ maildir: '/srv/%(tenant)/%(account)', name: a, shared: true }, { lmtp: { host: mx, to: ['%(account)@x'] } }]
  providers: { g: { provider: google, client_id: ID }, broker: { token_command: [b, '%(account)'] } }
defaults: { host: pop.example.org, deliver: { maildir: "/m \u2028 \t #" } }
accounts:
  "null": { user: 'yes', password: 'a: b', keep: none, interval: manual }
  "42":
    user: "ä # \\ ' \u202e"
    password: { command: [sh, -c, "echo \"'$x'\n\"", ''] }
    tls: starttls
    tls_ca: /ca
    tls_pin: [sha256:PIN, 'sha256:NIP']
    tls_client_cert: /c
    tls_client_key: /k
    tls_server_name: "::1"
    tls_min: "1.3"
    auth: [apop, scram-sha-256-plus]
    bind: 192.0.2.1
    timeout: 90s
    interval: 1d
    keep: 14d
    first_sync: none
    order: newest
    max_size: 1536
    max_messages: 3
    pipelining: off
    hooks: { before: "a 'b'\n#", after: [c, '%d'], on_new: e, on_error: f, on_recover: g }
    enabled: false
    maildrop_id: '- odd: {id}'
  ssh: { user: u, tls: none, auth: [plain], connect: "ssh host 'a\nb'", password: { env: X } }
  netrc: { user: n, connect: [nc, h, 110], password: { netrc: "/n'n" } }
  file: { user: f, password: { file: "/f " }, deliver: { mbox: "/m # " } }
  shell: { user: s, deliver: { pipe: "mda -d 'a b' %s # x" } }
  argv: { user: a, deliver: { pipe: { command: [mda, '%(from)', "%( \n", -x], timeout: 90s, from_line: true, user: mail } } }
  credential: { user: c, password: { credential: c.d } }
"#;

fn everything() -> Config {
    let text = EVERYTHING.replace("PIN", &"0f".repeat(32)).replace("NIP", &"F0".repeat(32));
    Config::from_yaml(&text, Path::new(FILE)).unwrap()
}

#[test]
fn what_is_shown_can_be_loaded_and_means_the_same_but_for_the_secrets() {
    let mut config = everything();
    let shown = show(&config);
    config.accounts[0].password = Some(Password::Literal(Secret::new("[secret]")));
    assert_eq!(Config::from_yaml(&shown, Path::new(FILE)).unwrap(), config, "{shown}");
    assert_eq!(show(&config), shown);
}

#[test]
fn a_database_is_shown_whole_but_for_its_secrets() {
    let state = "state: { postgres: { url: 'postgresql://p@db.example.org/p', password: { env: P }, tls: starttls, tls_min: '1.2', \
                 secrets_key: [{ credential: new }, '[secret]'], timeout: 5s } }";
    let text = format!("{state}\naccounts: {{a: {{host: h, user: u, deliver: {{maildir: /m}}}}}}");
    let shown = show(&Config::from_yaml(&text.replace("[secret]", "hunter2"), Path::new(FILE)).unwrap());
    assert!(!shown.contains("hunter2") && shown.contains("{ credential: new }, '[secret]'"), "{shown}");
    let again = Config::from_yaml(&shown, Path::new(FILE)).unwrap();
    assert_eq!(again, Config::from_yaml(&text, Path::new(FILE)).unwrap());
}

#[test]
fn a_database_that_is_none_is_told_with_its_place() {
    for (state, told) in [
        (
            "{ postgres: {} }",
            "1:20: state.postgres: has no `url`: it must be a mapping such as { url: postgresql://postrider@db.example.org/postrider }",
        ),
        ("{ mysql: {} }", "1:10: state.mysql: unknown key; valid keys are postgres"),
        (
            "{ postgres: { url: 'postgresql://u:hunter2@h/d' } }",
            "1:27: state.postgres.url: a password in it would be shown: write `password` beside it",
        ),
    ] {
        let text = format!("state: {state}\naccounts: {{a: {{host: h, user: u, deliver: {{maildir: /m}}}}}}");
        let error = Config::from_yaml(&text, Path::new(FILE)).unwrap_err().to_string();
        assert_eq!(error, format!("{FILE}:{told}"));
    }
}

#[test]
fn no_secret_is_shown() {
    let shown = show(&everything());
    assert!(shown.contains("    password: '[secret]'\n") && !shown.contains("a: b"), "{shown}");
    assert!(!format!("{:?}", everything()).contains("a: b"));
}

#[test]
fn config_check_warns_with_file_and_line_and_succeeds() {
    let home = Home::new();
    home.configure(
        "accounts:\n  a:\n    host: h\n    port: 110\n    user: u\n    password: abc #123\n    tls_ca: /nowhere/ca.pem\n    deliver: { maildir: /m }\n",
    );
    let ended = home.must(&["config", "check"], 0);
    for (line, words) in [(4, "is 110"), (6, "ends before the `#`"), (7, "/nowhere/ca.pem is not there")] {
        let told = ended.stderr.lines().find(|told| told.contains(&format!("config.yaml:{line}:")));
        assert!(told.is_some_and(|told| told.contains(words)), "{line}: {}", ended.stderr);
    }
    assert!(ended.stdout.contains("1 account, no mistakes"), "{}", ended.stdout);
}

#[test]
fn config_check_warns_of_directories_users_and_files_that_cannot_be_used() {
    let home = Home::new();
    home.write("ca.pem", "no certificate\n");
    home.write("key.pem", "x\n-----BEGIN EC PRIVATE KEY-----\n");
    home.configure(
        "metrics_file: /nowhere/metrics\naccounts:\n  a:\n    host: h\n    user: u\n    tls_ca: ~/ca.pem\n    \
         tls_client_cert: ~/ca.pem\n    tls_client_key: ~/key.pem\n    deliver:\n      mbox: /nowhere/mbox\n  b:\n    \
         host: h\n    user: v\n    deliver:\n      pipe:\n        command: cat\n        user: nobody-of-this-name\n  c:\n    \
         host: h\n    user: w\n    deliver:\n      pipe:\n        command: cat\n        user: root\n    \
         password: { file: / }\n",
    );
    let ended = home.must(&["config", "check"], 0);
    let told: Vec<_> =
        ended.stderr.lines().filter_map(|line| line.split_once("config.yaml:")).map(|told| told.1).collect();
    let expected = [
        "1:15: metrics_file: /nowhere is not there",
        "6:13: accounts.a.tls_ca: ",
        "7:22: accounts.a.tls_client_cert: ",
        "10:13: accounts.a.deliver.mbox: /nowhere is not there",
        "17:15: accounts.b.deliver.pipe.user: the user nobody-of-this-name is not there",
        "25:23: accounts.c.password.file: / is a directory",
    ];
    assert_eq!(told.len(), expected.len(), "{told:?}");
    assert!(told.iter().zip(expected).all(|(told, expected)| told.starts_with(expected)), "{told:?}");
    assert!(
        told[1].ends_with("ca.pem holds nothing in PEM that begins with -----BEGIN ... CERTIFICATE-----")
    );
}

#[test]
fn a_password_whose_tail_became_a_key_is_not_shown() {
    let home = Home::new();
    let rest = "host: h, user: u, deliver: { maildir: /m }";
    home.configure(&format!("accounts: {{ a: {{ {rest}, password: hunter, horse2 }} }}\n"));
    let told = home.must(&["config", "check"], 78).stderr;
    assert!(told.contains("accounts.a: unknown key") && !told.contains("horse2"), "{told}");
}

#[test]
fn config_check_waits_for_no_file_whose_file_system_does_not_answer() {
    let home = Home::new();
    let Some(disk) = Mounted::image(home.path("disk"), Image::ExFat, 4 << 10) else { return };
    home.configure(
        "accounts:\n  a:\n    host: h\n    user: u\n    password: x\n    tls_ca: ~/disk/ca.pem\n    deliver: { maildir: /m }\n",
    );
    let process = disk.process();
    kill(process, Signal::SIGSTOP).unwrap();
    let ended = home.run(&["config", "check"]);
    kill(process, Signal::SIGCONT).unwrap();
    assert_eq!((ended.status, &*ended.stdout), (Some(75), ""), "{}", ended.stderr);
    assert!(ended.stderr.contains("config.yaml:6:13: accounts.a.tls_ca: "), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("disk/ca.pem: the file system has not answered for 5s"),
        "{}",
        ended.stderr
    );
    let ended = home.must(&["config", "check"], 0);
    assert!(ended.stderr.contains("disk/ca.pem is not there"), "{}", ended.stderr);
}

#[test]
fn what_a_command_line_assigns_is_shown_nowhere() {
    let home = Home::new();
    home.configure(
        "accounts:\n  a:\n    host: h\n    user: u\n    password: { command: \"TOKEN=hunter2 exit 3\" }\n    connect: \"PASS='hunter2 x' false\"\n    hooks: { after: \"K=hunter2 false\" }\n    deliver: { pipe: \"P=hunter2 false\" }\n",
    );
    let shown = home.must(&["config", "show"], 0);
    let polled = home.run(&["sync", "-vvv"]);
    for text in [&shown.stdout, &shown.stderr, &polled.stdout, &polled.stderr] {
        assert!(!text.contains("hunter2"), "{text}");
    }
    assert!(shown.stdout.contains("TOKEN=[secret] exit 3"), "{}", shown.stdout);
    assert!(polled.stderr.contains("the password command"), "{}", polled.stderr);
}

#[test]
fn two_ports_of_one_host_are_told_to_have_a_maildrop_id_each() {
    let home = Home::new();
    let account = |name: &str, port: u16| {
        format!(
            "  {name}:\n    host: h\n    port: {port}\n    user: u\n    password: x\n    deliver: {{ maildir: /m }}\n"
        )
    };
    home.configure(&format!("accounts:\n{}{}", account("a", 1995), account("b", 2995)));
    let ended = home.must(&["config", "check"], 78);
    assert!(
        ended.stderr.contains("if their two ports are two maildrops, give each a `maildrop_id`"),
        "{}",
        ended.stderr
    );
}

#[test]
fn each_key_has_its_line_of_help_and_its_place_in_the_manual() {
    let manual = include_str!("../../man/postrider.yaml.5");
    let items: Vec<&str> = manual.lines().filter(|line| line.starts_with(".It Ic")).collect();
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let listed = Home::new().must(&["config", "keys"], 0).stdout;
    for line in listed.lines() {
        let (path, about) = line.split_once("  ").expect(line);
        let key = path.rsplit('.').next().unwrap();
        let has_it = |item: &&&str| item.split(|c| !is_word(c)).any(|word| word == key);
        assert!(items.iter().any(|item| has_it(&item)), "{path} stands nowhere in the manual");
        assert!(about.trim().ends_with('.') && !about.trim().contains(". "), "{line}");
    }
    for path in
        ["state", "daemon.max_sessions", "accounts.NAME.first_sync", "accounts.NAME.deliver.smtp.tls_ca"]
    {
        assert!(listed.contains(&format!("{path} ")), "{path}: {listed}");
    }
}
