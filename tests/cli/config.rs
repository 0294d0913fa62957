//! The configuration file as its author meets it: what is accepted, and the words for every mistake.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use postrider::testing::config::{
    Account, CommandLine, Config, Daemon, FirstSync, Interval, Keep, Order, Password, Pipelining, Target,
    TlsMode, TlsVersion, show,
};
use postrider::testing::sasl::{Auth, Mechanism};
use postrider::testing::secret::Secret;
use proptest::prelude::*;

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
        Daemon { max_sessions: 64, max_sessions_per_host: 4, startup_spread: Duration::from_secs(30) }
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
fn targets_of_a_list_must_be_told_apart_by_name_or_by_kind_and_place() {
    let read = |keys: &str| {
        let text = format!("accounts: {{ a: {{ host: h, user: u, {keys} }} }}\nstate: /s");
        Config::from_yaml(&text, Path::new(FILE)).map_err(|error| error.to_string())
    };
    for (sound, keys) in [
        ("deliver: { maildir: /m }", vec!["maildir:/m"]),
        ("deliver: { maildir: /m, name: here }", vec!["here"]),
        ("deliver: [{ maildir: /m }, { name: b.2, mbox: /b }]", vec!["maildir:/m", "b.2"]),
        ("deliver: [{ pipe: [a, b] }, { pipe: [a, c], name: c }]", vec!["pipe:a", "c"]),
        ("deliver: [{ maildir: /m }, { mbox: /b }], refused: { maildir: /r }", vec!["maildir:/m", "mbox:/b"]),
    ] {
        let config = read(sound).unwrap_or_else(|error| panic!("{sound}: {error}"));
        let known: Vec<String> = config.accounts[0].deliver.iter().map(|to| to.key()).collect();
        assert_eq!(known, keys, "{sound}");
        let again = Config::from_yaml(&show(&config), Path::new(FILE));
        assert_eq!(again.unwrap(), config, "{sound}: {}", show(&config));
    }
    for (wrong, what) in [
        ("deliver: []", "deliver: is empty"),
        ("deliver: [{ maildir: /m }, { mabox: /b }]", "deliver[1].mabox: unknown key; did you mean `mbox`?"),
        ("deliver: [{ maildir: /m }, { maildir: /m }]", "deliver: has the same target twice"),
        ("deliver: [{ pipe: [a, b] }, { pipe: [a, c] }]", "deliver: has the same target twice"),
        ("deliver: [{ mbox: /b, name: x }, { maildir: /m, name: x }]", "deliver: has the same target twice"),
        (
            "deliver: { maildir: /m }, refused: { maildir: /m }",
            "deliver: has the target in it that is `refused`",
        ),
        ("deliver: { name: x }", "deliver: is empty"),
        ("deliver: { maildir: /m, name: 'a:b' }", "deliver.name: must be up to 64 letters"),
        ("deliver: { maildir: /m, mbox: /b }", "deliver: one key too many"),
    ] {
        let told = read(wrong).expect_err(wrong);
        assert!(told.contains(what), "{wrong}: {told}");
    }
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

/// Every mistake in the keys of one account: what stands on line 6 of the file, and where and what is said about it.
#[test]
fn every_mistake_in_a_value_is_told_with_its_place_and_what_to_write() {
    let digits = "a".repeat(63);
    let short_pin = format!("tls_pin: sha256:{digits}");
    let table: &[(&str, &str)] = &[
        // keys
        ("hots: x", "6:5: accounts.home.hots: unknown key; did you mean `host`?"),
        ("max-size: 1", "6:5: accounts.home.max-size: unknown key; did you mean `max_size`?"),
        ("oauth: x", "6:5: accounts.home.oauth: unknown key; did you mean `auth`?"),
        ("oath2: x", "6:5: accounts.home.oath2: unknown key; did you mean `oauth2`?"),
        ("username: x", "6:5: accounts.home.username: unknown key; did you mean `user`?"),
        (
            "<<: {port: 1}",
            "6:5: accounts.home: merge keys are not supported: put what accounts share under `defaults`",
        ),
        ("port: 1\n    port: 2", "7:5: accounts.home.port: given before, on line 6"),
        ("port: ", "6:5: accounts.home.port: must be a number from 1 to 65535"),
        // numbers, booleans, words
        ("port: 0", "6:11: accounts.home.port: must be a number from 1 to 65535"),
        ("port: 65536", "6:11: accounts.home.port: must be a number from 1 to 65535"),
        ("port: abc", "6:11: accounts.home.port: must be a number from 1 to 65535"),
        ("port: '995'", "6:11: accounts.home.port: must be a number from 1 to 65535"),
        ("port: [995]", "6:11: accounts.home.port: must be a number from 1 to 65535"),
        ("enabled: yes", "6:14: accounts.home.enabled: must be true or false"),
        ("enabled: 'true'", "6:14: accounts.home.enabled: must be true or false"),
        ("max_messages: 0", "6:19: accounts.home.max_messages: must be none or a number above 0"),
        ("max_messages: -1", "6:19: accounts.home.max_messages: must be none or a number above 0"),
        (
            "tls: startls",
            "6:10: accounts.home.tls: must be implicit, starttls or none; did you mean `starttls`?",
        ),
        ("tls: yes", "6:10: accounts.home.tls: must be implicit, starttls or none"),
        ("tls: {mode: none}", "6:10: accounts.home.tls: must be implicit, starttls or none, not a mapping"),
        ("tls_min: 1.1", "6:14: accounts.home.tls_min: must be 1.2 or 1.3; did you mean `1.2`?"),
        (
            "first_sync: nine",
            "6:17: accounts.home.first_sync: must be all, none or a duration such as 14d; did you mean `none`?",
        ),
        (
            "first_sync: 0d",
            "6:17: accounts.home.first_sync: must be above 0s; `none` takes all that is there as seen",
        ),
        ("order: newst", "6:12: accounts.home.order: must be oldest or newest; did you mean `newest`?"),
        ("pipelining: true", "6:17: accounts.home.pipelining: must be auto, on or off"),
        // durations and sizes
        (
            "timeout: 60",
            "6:14: accounts.home.timeout: needs a unit: write a duration such as 30s, 5m, 2h or 14d",
        ),
        ("timeout: 0s", "6:14: accounts.home.timeout: must be above 0s"),
        ("timeout: 5 parsecs", "6:14: accounts.home.timeout: must be a duration such as 30s, 5m, 2h or 14d"),
        ("interval: 0m", "6:15: accounts.home.interval: must be above 0s"),
        ("interval:", "6:5: accounts.home.interval: has no value, must be manual or a duration such as 5m"),
        (
            "keep: 0d",
            "6:11: accounts.home.keep: must be above 0s; `none` deletes a message as soon as it is delivered",
        ),
        (
            "keep: forver",
            "6:11: accounts.home.keep: must be forever, none or a duration such as 14d; did you mean `forever`?",
        ),
        ("max_size: 0", "6:15: accounts.home.max_size: must be above 0; `none` sets no limit"),
        ("max_size: 10MB", "6:15: accounts.home.max_size: must be a size in octets such as 500k, 25M or 1G"),
        // TLS
        (&short_pin, "6:14: accounts.home.tls_pin: must be sha256: and 64 hexadecimal digits"),
        ("tls_pin: [sha1:aa]", "6:15: accounts.home.tls_pin[0]: must be sha256: and 64 hexadecimal digits"),
        ("tls_pin: []", "6:14: accounts.home.tls_pin: is an empty list"),
        ("tls_client_cert: /c", "6:22: accounts.home.tls_client_cert: needs `tls_client_key` too"),
        ("tls_client_key: /k", "6:21: accounts.home.tls_client_key: needs `tls_client_cert` too"),
        (
            "tls: none\n    auth: [plain]\n    tls_ca: /ca",
            "8:13: accounts.home.tls_ca: has no meaning with `tls: none`: remove one of them",
        ),
        (
            "tls: none",
            "6:10: accounts.home.tls: without TLS, `auth: auto` sends no password and cannot log in: write `tls: starttls` or \
             `tls: implicit`, or name the mechanisms: `auth: [scram-sha-256]`, or `auth: [user-pass]` to send the password in the clear",
        ),
        // paths
        ("tls_ca: ca.pem", "6:13: accounts.home.tls_ca: must begin with /, ~/ or $HOME/"),
        ("tls_ca: ''", "6:13: accounts.home.tls_ca: is an empty path"),
        (
            "tls_ca: ~",
            "6:5: accounts.home.tls_ca: has no value, must be a path (YAML reads `~` alone as no value: quote it)",
        ),
        (
            "tls_ca: ~bob/ca",
            "6:13: accounts.home.tls_ca: names another user's home directory, which is not expanded: write the path in full",
        ),
        (
            "tls_ca: $X/ca",
            "6:13: accounts.home.tls_ca: names a variable that is not expanded: only ~ and $HOME are",
        ),
        // mechanisms
        (
            "auth: []",
            "6:11: accounts.home.auth: is an empty list: write auto, or the mechanisms that may be used",
        ),
        ("auth: plain", "6:11: accounts.home.auth: must be auto or a list of mechanisms; write [plain]"),
        ("auth: [plain, plain]", "6:19: accounts.home.auth[1]: stands in the list twice"),
        ("auth: [auto]", "6:12: accounts.home.auth[0]: stands alone: write `auth: auto`, without a list"),
        (
            "auth: [xoauth2]",
            "6:11: accounts.home.auth: has oauthbearer or xoauth2 in it, which need `oauth2`",
        ),
        (
            "auth: [scram-sha256]",
            "6:12: accounts.home.auth[0]: must be external, oauthbearer, xoauth2, scram-sha-256-plus, plain, login, user-pass, \
             scram-sha-256, scram-sha-1, cram-md5 or apop; did you mean `scram-sha-256`?",
        ),
        // passwords
        (
            "password: ''",
            "6:15: accounts.home.password: is empty, must be a password, or a mapping with one of `command`, `file`, `env`, `credential`, `netrc`",
        ),
        (
            "password: {comand: x}",
            "6:16: accounts.home.password.comand: unknown key; did you mean `command`?",
        ),
        (
            "password: {hunter2: x}",
            "6:16: accounts.home.password: unknown key; valid keys are command, file, env, credential, netrc",
        ),
        (
            "password: {env: A, file: /f}",
            "6:24: accounts.home.password: one key too many: must be a password, or a mapping with one of `command`, `file`, `env`, `credential`, `netrc`",
        ),
        (
            "password: {command: []}",
            "6:25: accounts.home.password.command: is an empty list, must be a program and its arguments",
        ),
        (
            "password: {command: [a, [b]]}",
            "6:29: accounts.home.password.command[1]: must be a text, not a list",
        ),
        (
            "password: {env: }",
            "6:16: accounts.home.password.env: has no value, must be the name of an environment variable",
        ),
        (
            "password: {credential: a/b}",
            "6:28: accounts.home.password.credential: must be the name of a systemd credential, not a path",
        ),
        (
            "password: @hunter2",
            "6:15: not valid YAML: unquoted text cannot begin with this character (text with `: `, ` #` or a special first character needs quotes)",
        ),
        // connections
        ("bind: eth0", "6:11: accounts.home.bind: must be an IP address of this machine"),
        (
            "connect: nc h 110\n    bind: ::1",
            "7:11: accounts.home.bind: has no meaning with `connect`: remove one of them",
        ),
        (
            "connect: ' '",
            "6:14: accounts.home.connect: is empty, must be a command for the shell, or a list of program and arguments",
        ),
        (
            "maildrop_id: \"a\\nb\"",
            "6:18: accounts.home.maildrop_id: must be a text such as user@host without control characters",
        ),
        // tokens
        (
            "oauth2: {provider: google}",
            "6:13: accounts.home.oauth2: needs `client_id`; docs/providers/google.md says how one is registered",
        ),
        ("oauth2: {provider: yahoo}", "6:24: accounts.home.oauth2.provider: must be google or microsoft"),
        (
            "oauth2: {client_id: x}",
            "6:13: accounts.home.oauth2: needs `provider`, `token_url` or `token_command`",
        ),
        (
            "oauth2: {token_url: https://a.example/t, client_id: x}",
            "6:13: accounts.home.oauth2: needs `auth_url` or `device_url`, where a person allows the access, or `refresh_token`",
        ),
        (
            "oauth2: {token_url: http://a.example/t}",
            "6:25: accounts.home.oauth2.token_url: must be an https:// URL: without TLS only this machine is asked",
        ),
        (
            "oauth2: {provider: google, client_id: x, tenant: y}",
            "6:54: accounts.home.oauth2.tenant: has a meaning with `provider: microsoft` alone",
        ),
        (
            "oauth2: {provider: google, client_id: x, scope: y}",
            "6:53: accounts.home.oauth2.scope: comes with `provider`: remove one of them",
        ),
        (
            "oauth2: {token_command: x, client_id: y}",
            "6:43: accounts.home.oauth2.client_id: has no meaning with `token_command`: remove one of them",
        ),
        (
            "oauth2: {provider: microsoft, client_id: x, client_key: /k}",
            "6:61: accounts.home.oauth2.client_key: needs `client_certificate` too",
        ),
        (
            "oauth2: {provider: microsoft, client_id: x, client_secret: {file: /s}, client_certificate: /c, client_key: /k}",
            "6:96: accounts.home.oauth2.client_certificate: has no meaning with `client_secret`: remove one of them",
        ),
        (
            "oauth2: {provider: microsoft, client_id: x, grant: client_credentials, tenant: t}",
            "6:56: accounts.home.oauth2.grant: needs `client_secret`, or `client_certificate` and `client_key`",
        ),
        (
            "oauth2: {provider: microsoft, client_id: x, grant: client_credentials, client_secret: {file: /s}}",
            "6:56: accounts.home.oauth2.grant: needs `tenant`: the directory's domain or id",
        ),
        (
            "oauth2: {provider: microsoft, client_id: x, tenant: a/b}",
            "6:57: accounts.home.oauth2.tenant: must be a directory's name or id",
        ),
        (
            "password: {file: /p}\n    oauth2: {token_command: x}",
            "7:13: accounts.home.oauth2: has no meaning with `password`: remove one of them",
        ),
        (
            "oauth2: {token_command: x}\n    auth: [plain]",
            "7:11: accounts.home.auth: has in it what wants a password; with `oauth2` there are oauthbearer, xoauth2 and external",
        ),
        ("hooks: {befor: x}", "6:13: accounts.home.hooks.befor: unknown key; did you mean `before`?"),
        (
            "hooks: {after: []}",
            "6:20: accounts.home.hooks.after: is an empty list, must be a program and its arguments",
        ),
        ("hooks: {after: a, after: b}", "6:23: accounts.home.hooks.after: given before, on line 6"),
        ("received: yes", "6:15: accounts.home.received: must be true or false"),
        // YAML
        (
            "bind: *x",
            "6:11: not valid YAML: while parsing node, found unknown anchor (text with `: `, ` #` or a special first character needs quotes)",
        ),
        ("bind: !!str x", "6:17: YAML tags are not supported: quote text that begins with `!`"),
    ];
    for (keys, words) in table {
        assert_eq!(read(&with(keys)), Err(format!("{FILE}:{words}")), "{keys}");
    }
}

#[test]
fn every_mistake_in_the_file_as_a_whole_is_told_with_its_place() {
    let sound = "host: h, user: u, deliver: {maildir: /m}";
    let table: &[(&str, &str)] = &[
        ("", "1:1: the file is empty: it needs `accounts`"),
        ("# nothing\n", "1:1: the file is empty: it needs `accounts`"),
        ("just words", "1:1: must be a mapping with `accounts`, not a text"),
        ("- a", "1:1: must be a mapping with `accounts`, not a list"),
        ("daemon: {}", "1:1: `accounts` is missing: there is nothing to poll"),
        ("accounts:", "1:1: accounts: names no account: there is nothing to poll"),
        ("accounts: {}", "1:11: accounts: names no account: there is nothing to poll"),
        ("accounts: [a]", "1:11: accounts: must be a mapping from account names to their keys"),
        ("accounts:\n  home: alice", "2:9: accounts.home: must be a mapping of account keys, not a text"),
        ("acounts: {}\naccounts: {a: {X}}", "1:1: acounts: unknown key; did you mean `accounts`?"),
        (
            "colour: 1\naccounts: {a: {X}}",
            "1:1: colour: unknown key; valid keys are defaults, accounts, state, daemon, hosts, fleet, notify, metrics_file, sandbox",
        ),
        (
            "host: h\naccounts: {a: {X}}",
            "1:1: host: belongs to an account: put it under `accounts`, its name and a colon, or under `defaults`",
        ),
        ("hosts: {a b: {}}\naccounts: {a: {X}}", "1:9: hosts: a host must be a host name or address"),
        (
            "hosts: {h: {max_sessions: 0}}\naccounts: {a: {X}}",
            "1:27: hosts.h.max_sessions: must be a number from 1 to 100000",
        ),
        (
            "hosts: {h: {max_session: 9}}\naccounts: {a: {X}}",
            "1:13: hosts.h.max_session: unknown key; did you mean `max_sessions`?",
        ),
        (
            "fleet: {allow_networks: [10.1.2.3/8]}",
            "1:26: fleet.allow_networks[0]: must be a network such as 10.1.0.0/16 or fd12:3456::/32, with no bits beyond its length",
        ),
        (
            "fleet: {accounts: 'a; drop'}",
            "1:19: fleet.accounts: must be the name of a table or view: letters, digits and _, and a dot behind a schema",
        ),
        (
            "fleet: {targets: {a: {maildir: '/m/%(user)'}}}",
            "1:22: fleet.targets.a: has a word in it that is neither %(account) nor %(tenant)",
        ),
        (
            "fleet: {targets: {a: {maildir: m}}}",
            "1:32: fleet.targets.a.maildir: must begin with /, ~/ or $HOME/",
        ),
        (
            "fleet: {providers: {g: {provider: gogle}}}",
            "1:35: fleet.providers.g.provider: must be google or microsoft; did you mean `google`?",
        ),
        ("notify: {after: 0}\naccounts: {a: {X}}", "1:17: notify.after: must be a number from 1 to 100000"),
        ("notify: {remind: 0s}\naccounts: {a: {X}}", "1:18: notify.remind: must be above 0s"),
        (
            "notify: {mail: true}\naccounts: {a: {X}}",
            "1:10: notify.mail: unknown key; valid keys are after, remind, deliver",
        ),
        (
            "accounts: {a: {X}}\ndefaults: {interval: 5}",
            "2:22: defaults.interval: needs a unit: write a duration such as 30s, 5m, 2h or 14d",
        ),
        ("accounts: {a: {X}}\naccounts: {b: {X}}", "2:1: accounts: given before, on line 1"),
        ("accounts: {a: {X}, a: {X}}", "1:SECOND: accounts.a: given before, on line 1"),
        ("accounts: {'': {X}}", "1:12: accounts: an account's name is empty"),
        (
            "accounts: {-v: {X}}",
            "1:12: accounts: an account's name must be letters, digits, and - _ . @ + but not first a - or a dot",
        ),
        (
            "accounts: {'pops://a@b': {X}}",
            "1:12: accounts: an account's name must be letters, digits, and - _ . @ + but not first a - or a dot",
        ),
        ("accounts: {a: {deliver: {maildir: /m}, user: u}}", "1:12: accounts.a: `host` is missing"),
        ("accounts: {a: {deliver: {maildir: /m}, host: h}}", "1:12: accounts.a: `user` is missing"),
        ("accounts: {a: {user: u, host: h}}", "1:12: accounts.a: `deliver` is missing"),
        (
            "accounts: {a: {user: u, host: h, deliver: /m}}",
            "1:43: accounts.a.deliver: must be a target such as { maildir: ~/Mail }, not a text",
        ),
        (
            "accounts: {a: {user: u, host: h, deliver: {mbox: m}}}",
            "1:50: accounts.a.deliver.mbox: must begin with /, ~/ or $HOME/",
        ),
        (
            "accounts: {a: {user: u, host: h, deliver: {smtp: {host: x}}}}",
            "1:50: accounts.a.deliver.smtp: `to` is missing: the recipients' addresses",
        ),
        (
            "accounts: {a: {user: u, host: h, deliver: {smtp: {to: [a b@c]}}}}",
            "1:56: accounts.a.deliver.smtp.to[0]: must be an address, without angle brackets, blanks or control characters",
        ),
        (
            "accounts: {a: {user: u, host: h, deliver: {smtp: {to: [a], user: b, password: c, host: mx.example}}}}",
            "1:69: accounts.a.deliver.smtp.password: is sent to another machine only over TLS: write `tls: starttls` or `tls: implicit`",
        ),
        (
            "accounts: {a: {user: u, host: h, deliver: {smtp: {to: [a], user: b}}}}",
            "1:60: accounts.a.deliver.smtp.user: needs `password` or `oauth2` too",
        ),
        (
            "accounts: {a: {user: u, host: h, deliver: {smtp: {to: [a], tls_ca: /ca}}}}",
            "1:60: accounts.a.deliver.smtp.tls_ca: has no meaning with `tls: none`, which is the default: remove it, or change that",
        ),
        (
            "accounts: {a: {user: u, host: h, deliver: {smtp: {to: [a], tls: starttls, tls_client_cert: /c}}}}",
            "1:75: accounts.a.deliver.smtp.tls_client_cert: needs `tls_client_key` too",
        ),
        (
            "accounts: {a: {user: u, host: h, deliver: {lmtp: {to: [a], socket: /s, bind: '::1'}}}}",
            "1:72: accounts.a.deliver.lmtp.bind: has no meaning with `socket`: remove it, or change that",
        ),
        (
            "accounts: {a: {user: u, host: h, deliver: {lmtp: {to: [a], host: h, tls_min: '1.4', tls: starttls}}}}",
            "1:78: accounts.a.deliver.lmtp.tls_min: must be 1.2 or 1.3; did you mean `1.2`?",
        ),
        (
            "accounts: {a: {user: u, host: h, deliver: {smtp: {to: [a], timeout: 0s}}}}",
            "1:69: accounts.a.deliver.smtp.timeout: must be above 0s",
        ),
        (
            "accounts: {a: {user: u, host: h, deliver: {lmtp: {to: [a]}}}}",
            "1:50: accounts.a.deliver.lmtp: needs `socket` or `host`",
        ),
        (
            "accounts: {a: {user: u, host: h, deliver: {lmtp: {to: [a], socket: /s, port: 24}}}}",
            "1:72: accounts.a.deliver.lmtp.port: has no meaning with `socket`: remove it, or change that",
        ),
        (
            "accounts: {a: {user: u, host: h, deliver: {lmtp: {to: [a, a], socket: /s}}}}",
            "1:59: accounts.a.deliver.lmtp.to[1]: stands in the list twice",
        ),
        (
            "accounts: {a: {user: u, host: h, deliver: {lmtp: {to: a, socket: /s}}}}",
            "1:55: accounts.a.deliver.lmtp.to: must be a list of addresses, or a mapping such as { header: X-Original-To }",
        ),
        (
            "accounts: {a: {user: u, host: h, deliver: {lmtp: {to: {}, socket: /s}}}}",
            "1:55: accounts.a.deliver.lmtp.to: `header` is missing: the field that the provider writes",
        ),
        (
            "accounts: {a: {user: u, host: h, deliver: {lmtp: {to: {header: To}, socket: /s}}}}",
            "1:64: accounts.a.deliver.lmtp.to.header: is written by the sender and does not tell who is to have the message: \
             name the field that the provider adds with the envelope's recipient, such as X-Original-To, Delivered-To or \
             Envelope-To",
        ),
        (
            "accounts: {a: {user: u, host: h, deliver: {lmtp: {to: {header: 'X:'}, socket: /s}}}}",
            "1:64: accounts.a.deliver.lmtp.to.header: must be the name of a header field, without its colon, such as \
             X-Original-To",
        ),
        (
            "accounts: {a: {user: u, host: h, deliver: {lmtp: {to: {header: Y, unknown: 'a b'}, socket: /s}}}}",
            "1:76: accounts.a.deliver.lmtp.to.unknown: must be an address, without angle brackets, blanks or control characters",
        ),
        (
            "accounts: {a: {user: u, host: h, deliver: {lmtp: {to: {header: Y, map: {a@b: c}}, socket: /s}}}}",
            "1:78: accounts.a.deliver.lmtp.to.map.a@b: stands for a local part: write it without `@` and domain",
        ),
        (
            "accounts: {a: {user: u, host: h, deliver: {lmtp: {to: {header: Y, map: {a: c, A: d}}, socket: /s}}}}",
            "1:82: accounts.a.deliver.lmtp.to.map.A: is there twice: local parts are compared without case",
        ),
        (
            "accounts: {a: {user: u, host: h, deliver: {lmtp: {to: {header: Y, domains: [a, 'b@c']}, socket: /s}}}}",
            "1:80: accounts.a.deliver.lmtp.to.domains[1]: must be a domain, such as example.org",
        ),
        (
            "accounts: {a: {user: u, host: h, deliver: {lmtp: {to: {header: Y, domain: [a]}, socket: /s}}}}",
            "1:67: accounts.a.deliver.lmtp.to.domain: unknown key; did you mean `domains`?",
        ),
        (
            "accounts: {a: {user: u, host: h, deliver: {lmtp: {to: [a], sockt: /s}}}}",
            "1:60: accounts.a.deliver.lmtp.sockt: unknown key; did you mean `socket`?",
        ),
        (
            "accounts: {a: {user: u, host: h, deliver: {smtp: {to: [a], to: [b]}}}}",
            "1:60: accounts.a.deliver.smtp.to: given before, on line 1",
        ),
        (
            "accounts: {a: {user: u, host: h, deliver: {mail_dir: /m}}}",
            "1:44: accounts.a.deliver.mail_dir: unknown key; did you mean `maildir`?",
        ),
        (
            "accounts: {a: {user: u, host: 'h:995'}}",
            "1:31: accounts.a.host: must be a host name alone: write the port as `port: NUMBER`",
        ),
        (
            "accounts: {a: {user: \"u\\r\\nDELE 1\"}}",
            "1:22: accounts.a.user: must be a mailbox name without control characters",
        ),
        ("accounts: {a: {X}}\nsandbox: of", "2:10: sandbox: must be auto or off; did you mean `off`?"),
        (
            "accounts: {a: {X}}\ndaemon: {max_sessions: 0}",
            "2:24: daemon.max_sessions: must be a number from 1 to 100000",
        ),
        (
            "accounts: {a: {X}}\ndaemon: {max_session: 1}",
            "2:10: daemon.max_session: unknown key; did you mean `max_sessions`?",
        ),
        ("accounts: {a: {X}}\n\tdaemon: 1", "2:2: not valid YAML: a tab cannot indent, only spaces can"),
        (
            "accounts:\n  a: {X}\n  b: {X}\n  c: {X, enabled: false}",
            "3:3: accounts.b: has the same `maildrop_id` (USER@HOST unless set) as account a, and both are enabled: \
             disable one, or set another `maildrop_id` to fetch every message twice",
        ),
    ];
    for (text, words) in table {
        let text = text.replace('X', sound);
        let second = text.rfind(" a: {").map_or(0, |index| index + 2).to_string();
        let error = read(&text).unwrap_err();
        assert_eq!(error, format!("{FILE}:{}", words.replace("SECOND", &second)), "{text}");
    }
}

#[test]
fn all_mistakes_are_told_at_once_in_the_order_of_the_file() {
    let text = "
accounts:
  a: { host: h, prot: 1, user: u, tls: yes }
  b: { host: h, user: u }
daemon: { max_sessions: many }
";
    let error = read(text).unwrap_err();
    let places: Vec<&str> = error.lines().map(|line| &line[..line.find(": ").unwrap()]).collect();
    assert_eq!(places, ["FILE:3:17", "FILE:3:40", "FILE:4:3", "FILE:5:25"], "{error}");
    let many: String = (0..30).map(|index| format!("  a{index}: {{}}\n")).collect();
    let error = read(&format!("accounts:\n{many}")).unwrap_err();
    assert_eq!(error.lines().count(), 21);
    assert!(error.ends_with("FILE: 70 more mistakes"), "{error}");
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
fn servers_as_targets_are_shown_whole_but_for_the_password() {
    let deliver = |target: &str| format!("accounts: {{a: {{host: h, user: u, deliver: {target}}}}}");
    for (target, expected) in [
        (
            "{smtp: {to: [a@b, c@e]}}".to_owned(),
            "{ smtp: { host: localhost, port: 25, tls: none, to: [a@b, c@e] } }",
        ),
        (
            "{smtp: {host: MX, tls: implicit, user: me, password: hunter2, to: [a], from: x@y}}".to_owned(),
            "{ smtp: { host: mx, port: 465, tls: implicit, user: me, password: '[secret]', to: [a], from: x@y } }",
        ),
        (
            "{smtp: {host: mx, tls: starttls, port: 587, tls_ca: /ca.pem, tls_server_name: n, to: [a], from: keep}}".to_owned(),
            "{ smtp: { host: mx, port: 587, tls: starttls, tls_ca: /ca.pem, tls_server_name: n, to: [a] } }",
        ),
        (
            "{lmtp: {host: mx, tls: implicit, tls_client_cert: /c, tls_client_key: /k, tls_min: '1.3', bind: '::1', timeout: 90s, to: [a]}}"
                .to_owned(),
            "{ lmtp: { host: mx, port: 24, tls: implicit, tls_client_cert: /c, tls_client_key: /k, tls_min: '1.3', bind: '::1', \
             timeout: 90s, to: [a] } }",
        ),
        ("{lmtp: {socket: /l, timeout: 2m, to: [a]}}".to_owned(), "{ lmtp: { socket: /l, timeout: 2m, to: [a] } }"),
        (
            "{lmtp: {socket: /l, to: {header: X-Original-To, domains: [a], map: {b: c@d}, strip_prefix: e-, unknown: f@g}}}"
                .to_owned(),
            "{ lmtp: { socket: /l, to: { header: X-Original-To, occurrence: first, strip_prefix: e-, domains: [a], map: { b: \
             c@d }, unknown: f@g } } }",
        ),
        (
            "{lmtp: {socket: /l, to: {header: X-Original-To, occurrence: 2}}}".to_owned(),
            "{ lmtp: { socket: /l, to: { header: X-Original-To, occurrence: 2, unknown: hold } } }",
        ),
        (
            "{lmtp: {socket: /l, to: {header: X-Original-To, occurrence: last}}}".to_owned(),
            "{ lmtp: { socket: /l, to: { header: X-Original-To, occurrence: last, unknown: hold } } }",
        ),
        ("{lmtp: {socket: /run/l, to: [a]}}".to_owned(), "{ lmtp: { socket: /run/l, to: [a] } }"),
        ("{lmtp: {host: '::1', to: [a]}}".to_owned(), "{ lmtp: { host: '::1', port: 24, tls: none, to: [a] } }"),
        ("{http: {url: 'https://Desk.example/in'}}".to_owned(), "{ http: { url: 'https://desk.example/in' } }"),
        (
            "{http: {url: 'http://desk.example/in', tls: none, method: PUT, hmac: hunter2, success: [200, 409], timeout: 5s}}"
                .to_owned(),
            "{ http: { url: 'http://desk.example/in', method: PUT, tls: none, timeout: 5s, hmac: '[secret]', success: [200, \
             409] } }",
        ),
        (
            "{http: {url: 'https://d/', user: u, password: hunter2, headers: {X-Key: hunter2, X-Id: {file: /i}}, tls_min: '1.3'}}"
                .to_owned(),
            "{ http: { url: 'https://d/', tls_min: '1.3', user: u, password: '[secret]', headers: { X-Key: '[secret]', X-Id: \
             { file: /i } } } }",
        ),
        (
            "{gmail: {user: a@gmail.com, oauth2: {token_command: t}}}".to_owned(),
            "{ gmail: { user: a@gmail.com, oauth2: { token_command: t } } }",
        ),
        (
            "{gmail: {user: a, labels: [INBOX, Lists/x], spam: never, date: now, url: 'http://localhost:9/', timeout: 5s, oauth2: \
             {token_command: t}}}"
                .to_owned(),
            "{ gmail: { user: a, oauth2: { token_command: t }, labels: [INBOX, Lists/x], spam: never, date: now, url: \
             'http://localhost:9/', timeout: 5s } }",
        ),
        (
            "{http: {url: 'https://d/', bearer: {env: TOKEN}, bind: '::1'}}".to_owned(),
            "{ http: { url: 'https://d/', bind: '::1', bearer: { env: TOKEN } } }",
        ),
    ] {
        let config = Config::from_yaml(&deliver(&target), Path::new(FILE)).unwrap();
        let shown = show(&config);
        assert!(shown.contains(&format!("deliver: {expected}\n")), "{shown}");
        let again = Config::from_yaml(&shown.replace("[secret]", "hunter2"), Path::new(FILE)).unwrap();
        assert_eq!(again.accounts[0].deliver, config.accounts[0].deliver);
        assert!(!shown.contains("hunter2"));
    }
    let shown = |target: &str| {
        Config::from_yaml(&deliver(target), Path::new(FILE)).unwrap().accounts[0].deliver[0].to_string()
    };
    assert_eq!(shown("{smtp: {to: [a]}}"), "smtp:localhost:25");
    assert_eq!(shown("{lmtp: {host: '::1', to: [a]}}"), "lmtp:[::1]:24");
    assert_eq!(shown("{lmtp: {socket: /run/l, to: [a]}}"), "lmtp:/run/l");
}

#[test]
fn an_endpoint_that_contradicts_itself_or_gives_a_secret_away_is_refused() {
    for (keys, told) in [
        ("{}", "needs `url`"),
        ("{url: 'ftp://d/'}", "url: must be a URL that begins with https://"),
        ("{url: 'https://u:p@d/'}", "url: must be a URL without a user in it"),
        ("{url: 'http://d.example/'}", "url: is an http:// URL of another machine"),
        ("{url: 'http://d.example/', tls: implicit}", "tls: contradicts `url`"),
        ("{url: 'https://d.example/', tls: none}", "tls: contradicts `url`"),
        ("{url: 'https://d.example/', tls: starttls}", "tls: has no starttls in HTTP"),
        (
            "{url: 'http://d.example/', tls: none, user: u, password: p}",
            "password: is sent to another machine only",
        ),
        (
            "{url: 'http://d.example/', tls: none, bearer: p}",
            "bearer: is sent to another machine only over TLS",
        ),
        (
            "{url: 'http://localhost/', proxy: 'socks5://p', bearer: p}",
            "bearer: is sent to another machine only over TLS",
        ),
        ("{url: 'https://d/', user: u}", "user: needs `password` too"),
        ("{url: 'https://d/', password: p}", "needs `user` beside `password`"),
        ("{url: 'https://d/', user: u, bearer: p}", "user: has no meaning with `bearer`"),
        ("{url: 'https://d/', user: 'u:v', password: p}", "user: must have no colon"),
        ("{url: 'https://d/', method: GET}", "method: must be POST or PUT"),
        ("{url: 'https://d/', success: []}", "success: must be a list of statuses"),
        ("{url: 'https://d/', success: [100]}", "success[0]: must be a status from 200 to 599"),
        ("{url: 'https://d/', headers: {Host: x}}", "Host is written by postrider itself"),
        (
            "{url: 'https://d/', headers: {idempotency-KEY: x}}",
            "idempotency-KEY is written by postrider itself",
        ),
        (
            "{url: 'https://d/', headers: {X-Postrider-Uid: x}}",
            "X-Postrider-Uid is written by postrider itself",
        ),
        ("{url: 'https://d/', headers: {'a b': x}}", "the name of a header field"),
        ("{url: 'https://d/', headers: {A: x, a: y}}", "a is given twice"),
        ("{url: 'https://d/', headers: {A: \"x\\r\\nB: y\"}}", "headers.A: must have no control characters"),
        ("{url: 'https://d/', bearer: b, headers: {authorization: x}}", "headers: has Authorization in it"),
        ("{url: 'http://127.0.0.1/', tls_ca: /c}", "tls_ca: has no meaning with `tls: none`"),
    ] {
        let yaml = format!("accounts: {{a: {{host: h, user: u, deliver: {{http: {keys}}}}}}}");
        let error = Config::from_yaml(&yaml, Path::new(FILE)).unwrap_err().to_string();
        assert!(error.contains(told), "{keys}: {error}");
        assert!(!error.contains("u:p@"), "{error}");
    }
}

#[test]
fn a_gmail_that_cannot_be_is_refused() {
    let oauth2 = "oauth2: {token_command: t}";
    for (keys, told) in [
        ("{user: a}".to_owned(), "needs `user` and `oauth2`"),
        (format!("{{{oauth2}}}"), "needs `user` and `oauth2`"),
        (
            "{user: a, oauth2: {provider: microsoft, client_id: c}}".to_owned(),
            "oauth2: has tokens of microsoft",
        ),
        (format!("{{user: a, {oauth2}, labels: INBOX}}"), "labels: must be a list"),
        (format!("{{user: a, {oauth2}, labels: [SENT]}}"), "labels[0]: is given by Gmail alone"),
        (format!("{{user: a, {oauth2}, labels: [x, x]}}"), "labels[1]: stands in the list twice"),
        (format!("{{user: a, {oauth2}, labels: ['']}}"), "labels[0]: must be a label"),
        (format!("{{user: a, {oauth2}, spam: always}}"), "spam: must be classify or never"),
        (format!("{{user: a, {oauth2}, date: received}}"), "date: must be header or now"),
        (format!("{{user: a, {oauth2}, url: 'http://gmail.example/'}}"), "url: must be an https:// URL"),
        (
            format!("{{user: a, {oauth2}, url: 'https://gmail.example/?x'}}"),
            "url: must be a URL without a query",
        ),
        (format!("{{user: a, {oauth2}, tls: none}}"), "tls: contradicts `url`"),
        (format!("{{user: a, {oauth2}, password: p}}"), "password: unknown key"),
    ] {
        let yaml = format!("accounts: {{a: {{host: h, user: u, deliver: {{gmail: {keys}}}}}}}");
        let error = Config::from_yaml(&yaml, Path::new(FILE)).unwrap_err().to_string();
        assert!(error.contains(told), "{keys}: {error}");
    }
}

#[test]
fn a_targets_password_makes_the_file_one_that_others_must_not_read() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.yaml");
    let text = "state: /s\naccounts: {a: {host: h, user: u, deliver: {smtp: {to: [a], user: u, password: hunter2}}}}";
    std::fs::write(&file, text).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    for target in
        ["", "http: {url: 'https://d/', hmac: hunter2}", "http: {url: 'https://d/', headers: {X: hunter2}}"]
    {
        if !target.is_empty() {
            let text = format!("state: /s\naccounts: {{a: {{host: h, user: u, deliver: {{{target}}}}}}}");
            std::fs::write(&file, text).unwrap();
        }
        let error = Config::load(&file).unwrap_err().to_string();
        assert!(error.contains("holds a password and is readable by others"), "{target}: {error}");
    }
}

#[test]
fn no_secret_is_shown() {
    let shown = show(&everything());
    assert!(shown.contains("    password: '[secret]'\n") && !shown.contains("a: b"), "{shown}");
    assert!(!format!("{:?}", everything()).contains("a: b"));
}

/// A change that a slip of the hand or a broken disk makes.
#[derive(Debug, Clone)]
enum Slip {
    Insert(prop::sample::Index, String),
    Remove(prop::sample::Index, usize),
    Repeat(prop::sample::Index, usize),
}

fn slip() -> impl Strategy<Value = Slip> {
    let piece = prop::sample::select(vec![
        " ",
        "\n",
        "\n  ",
        "\n    ",
        "\n      ",
        ":",
        ": ",
        "'",
        "\"",
        "{",
        "}",
        "[",
        "]",
        ",",
        "#",
        " #",
        "- ",
        "\t",
        "&a ",
        "*a",
        "!",
        "|",
        ">",
        "%",
        "@",
        "? ",
        "---\n",
        "\\",
        "\0",
        "\u{feff}",
        "password: ",
        "host: ",
        "port: ",
        "tls_pin: ",
        "deliver: ",
        "auth: [",
        "{command: ",
        "{x: ",
    ]);
    prop_oneof![
        3 => (any::<prop::sample::Index>(), piece).prop_map(|(at, piece)| Slip::Insert(at, piece.to_owned())),
        2 => (any::<prop::sample::Index>(), 1..20_usize).prop_map(|(at, length)| Slip::Remove(at, length)),
        1 => (any::<prop::sample::Index>(), 1..60_usize).prop_map(|(at, length)| Slip::Repeat(at, length)),
    ]
}

fn slipped(text: &str, slips: &[Slip]) -> String {
    let mut letters: Vec<char> = text.chars().collect();
    for slip in slips {
        let at = |index: &prop::sample::Index| index.index(letters.len() + 1);
        match slip {
            Slip::Insert(index, piece) => {
                let at = at(index);
                letters.splice(at..at, piece.chars());
            }
            Slip::Remove(index, length) => {
                let at = at(index);
                letters.drain(at..(at + length).min(letters.len()));
            }
            Slip::Repeat(index, length) => {
                let at = at(index);
                let again: Vec<char> = letters[at..(at + length).min(letters.len())].to_vec();
                letters.splice(at..at, again);
            }
        }
    }
    letters.into_iter().collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn no_error_contains_a_password_whatever_slip_was_made(
        // No name of an account has such characters, and an account's name is shown.
        secret in "[A-Z][!%$~=][a-zA-Z0-9!%$~=]{10,20}",
        slips in prop::collection::vec(slip(), 1..6),
    ) {
        let text = format!("{}\n    password: {secret}\n    keep: 14d\n  work: {{host: h2, user: u, password: '{secret}', deliver: {{maildir: ~/M}}}}\n", with("tls: starttls"));
        if let Err(error) = Config::from_yaml(&slipped(&text, &slips), Path::new(FILE)) {
            let words = format!("{error} {error:?}");
            prop_assert!(!words.contains(&secret), "{}", words);
        }
    }

    #[test]
    fn no_text_makes_the_loader_panic(text in any::<String>(), slips in prop::collection::vec(slip(), 0..12)) {
        let _ = Config::from_yaml(&text, Path::new(FILE));
        let _ = Config::from_yaml(&slipped(EVERYTHING, &slips), Path::new(FILE));
    }

    #[test]
    fn whatever_is_accepted_is_shown_and_read_again(slips in prop::collection::vec(slip(), 0..2)) {
        let text = slipped(&with("user2"), &slips).replace("user2", "timeout: 5s");
        if let Ok(config) = Config::from_yaml(&text, Path::new(FILE)) {
            let again = Config::from_yaml(&show(&config), Path::new(FILE));
            let masked = |mut config: Config| {
                config.accounts.iter_mut().for_each(|account| {
                    if let Some(Password::Literal(secret)) = &mut account.password {
                        *secret = Secret::new("");
                    }
                });
                config
            };
            prop_assert_eq!(again.map(masked).map_err(|error| error.to_string()), Ok(masked(config)));
        }
    }
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
fn fields_that_never_hold_the_envelopes_recipients_are_no_header_of_a_catch_all() {
    let home = Home::new();
    for field in [
        "Received",
        "Received-SPF",
        "List-Id",
        "list-post",
        "Resent-From",
        "DKIM-Signature",
        "Content-Type",
        "Authentication-Results",
        "ARC-Seal",
        "DomainKey-Signature",
    ] {
        home.configure(&format!(
            "accounts: {{ a: {{ host: h, user: u, deliver: {{ smtp: {{ to: {{ header: {field} }} }} }} }} }}\n"
        ));
        let told = home.must(&["config", "check"], 78).stderr;
        assert!(told.contains("so that every message would be held"), "{field}: {told}");
    }
    for field in ["X-Original-To", "Delivered-To", "Envelope-To", "X-Received-For", "Listed"] {
        home.configure(&format!(
            "accounts: {{ a: {{ host: h, user: u, deliver: {{ smtp: {{ to: {{ header: {field} }} }} }} }} }}\n"
        ));
        home.must(&["config", "check"], 0);
    }
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
