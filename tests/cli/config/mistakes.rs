//! What is said of every mistake.

use super::{FILE, read, with};

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
