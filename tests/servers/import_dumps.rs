//! What `import` makes of the configurations in `tests/import`, by meaning: as the programs' own dumps show them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use postrider::testing::config::{Account, Address, Config, Keep, Password, Recipients, Target, TlsMode};
use serde_json::Value;

use crate::support::postrider::Home;
use crate::support::process::program;

/// What one of the other program's accounts does.
#[derive(Debug, Default)]
struct Expected {
    host: String,
    port: Option<u16>,
    user: String,
    password: Option<String>,
    tls: Option<TlsMode>,
    keep: Option<Keep>,
    timeout: Option<u64>,
    max_size: Option<u64>,
    max_messages: Option<usize>,
    disabled: bool,
}

impl Expected {
    fn is(&self, account: &Account, what: &str) {
        let what = format!("{what}: {}", account.name);
        assert_eq!((&account.host, &account.user), (&self.host, &self.user), "{what}");
        if let Some(port) = self.port {
            assert_eq!(account.port, port, "{what}");
        }
        match (&self.password, &account.password) {
            (Some(password), Some(Password::Literal(found))) => {
                assert_eq!(found.reveal(), password.as_bytes(), "{what}");
            }
            (None, Some(Password::Literal(found))) => {
                panic!("{what}: {:?}", String::from_utf8_lossy(found.reveal()))
            }
            (Some(_), other) => panic!("{what}: {other:?}"),
            (None, _) => {}
        }
        if let Some(tls) = self.tls {
            assert_eq!(account.tls.mode, tls, "{what}");
        }
        if let Some(keep) = self.keep {
            assert_eq!(account.keep, keep, "{what}");
        }
        if let Some(timeout) = self.timeout {
            assert_eq!(account.timeout.as_secs(), timeout, "{what}");
        }
        assert_eq!(account.max_size, self.max_size, "{what}");
        assert_eq!(account.max_messages, self.max_messages, "{what}");
        assert!(!self.disabled || !account.enabled, "{what}");
    }
}

fn data(peer: &str) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/import").join(peer);
    let mut files: Vec<PathBuf> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 12, "{peer}: {files:?}");
    files
}

/// The path of a home, without a slash at its end.
fn root(home: &Home) -> String {
    home.path("x").parent().unwrap().display().to_string()
}

/// A home that has what configurations name in the place of `DIR`, and a copy of the configuration.
fn home(file: &Path) -> (Home, PathBuf) {
    let home = Home::new();
    for maildir in ["Mail", "Archive"] {
        for folder in ["cur", "new", "tmp"] {
            fs::create_dir_all(home.path(maildir).join(folder)).unwrap();
        }
    }
    ["mbox", "ca.pem"].into_iter().for_each(|file| drop(home.write(file, "")));
    let text = fs::read_to_string(file).unwrap().replace("DIR", &root(&home));
    let name = file.file_name().unwrap().to_str().unwrap();
    let copy = home.write(name, &text);
    (home, copy)
}

/// The accounts that are printed, which `config check` finds sound, and the comments.
fn imported(peer: &str, home: &Home, file: &Path) -> (Vec<Account>, String) {
    let printed = home.must(&["import", peer, file.to_str().unwrap(), "--inline"], 0).stdout;
    let config = Config::from_yaml(&printed, file).unwrap_or_else(|error| panic!("{printed}{error}"));
    home.configure(&printed);
    home.must(&["config", "check"], 0);
    (config.accounts, printed)
}

/// Runs a peer, which must end well, and gives what it said.
fn dumped(home: &Home, name: &str, arguments: &[&str]) -> String {
    let path = program(name).unwrap_or_else(|| panic!("{name} is not installed"));
    let mut command = Command::new(path);
    command.args(arguments).env("HOME", root(home)).env_remove("XDG_CONFIG_HOME").stdin(Stdio::null());
    let output = command.current_dir(home.path("")).output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{name} {arguments:?}: {said}");
    said
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn count(value: &Value) -> Option<u64> {
    value.as_u64().filter(|count| *count > 0)
}

/// The dump is Python.
fn fetchmail_dump(home: &Home, file: &Path) -> Value {
    let dump = dumped(home, "fetchmail", &["--configdump", "-f", file.to_str().unwrap()]);
    let dump: String = dump
        .lines()
        .filter(|line| !["fetchmail:", "Logfile "].iter().any(|word| line.starts_with(word)))
        .map(|line| format!("{line}\n"))
        .collect();
    home.write("dump.py", &format!("{dump}\nimport json\nprint(json.dumps(fetchmailrc))\n"));
    let json = dumped(home, "python3", &["dump.py"]);
    serde_json::from_str(&json).unwrap_or_else(|error| panic!("{error}: {json}"))
}

fn fetchmail_expected(server: &Value, user: &Value) -> Expected {
    let flag = |value: &Value| value.as_u64() == Some(1) || value.as_bool() == Some(true);
    let apop = server["protocol"] == "APOP";
    let tls = match (flag(&user["ssl"]), user["sslproto"].as_str()) {
        (true, _) => TlsMode::Implicit,
        (false, Some("")) => TlsMode::None,
        (false, None) if apop && user["sslfingerprint"].is_null() => TlsMode::None,
        (false, _) => TlsMode::StartTls,
    };
    let keep = match (flag(&user["keep"]), flag(&user["flush"])) {
        (true, true) => Keep::For(std::time::Duration::from_secs(1)),
        (true, false) => Keep::Forever,
        (false, _) => Keep::None,
    };
    Expected {
        host: text(&server["via"]).or(text(&server["pollname"])).unwrap(),
        port: server["service"].as_str().map(|service| service.parse().unwrap()),
        user: text(&user["remote"]).unwrap(),
        // Where no password is wanted, it fills the user in.
        password: text(&user["password"]).filter(|password| user["remote"] != *password.as_str()),
        tls: Some(tls),
        keep: Some(keep),
        // 300 is what it has without a word.
        timeout: count(&server["timeout"]).filter(|seconds| *seconds != 300),
        max_size: count(&user["limit"]),
        max_messages: count(&user["fetchlimit"]).map(|most| most as usize),
        disabled: !flag(&server["active"]),
    }
}

fn fetchmail_target(user: &Value, account: &Account, what: &str) {
    let target = &account.deliver[0].target;
    let names = user["localnames"].as_array().unwrap();
    let to = match (user["mda"].as_str(), user["bsmtp"].as_str(), target) {
        (Some(_), _, Target::Pipe(pipe)) => pipe.to.as_ref(),
        (None, Some(_), Target::Maildir(_)) => return,
        (None, None, Target::Smtp(server) | Target::Lmtp(server)) => {
            let is_lmtp = matches!(target, Target::Lmtp(_));
            let hunt = user["smtphunt"][0].as_str().unwrap();
            assert_eq!(is_lmtp, user["lmtp"].as_u64() == Some(1) || hunt.starts_with('/'), "{what}");
            match &server.address {
                Address::Socket(path) => assert_eq!(path.to_str(), Some(hunt), "{what}"),
                Address::Tcp { host, port, .. } => {
                    let (name, service) =
                        hunt.split_once('/').unwrap_or((hunt, if is_lmtp { "24" } else { "25" }));
                    assert_eq!((host.as_str(), port.to_string().as_str()), (name, service), "{what}");
                    if let (Recipients::List(to), [Value::String(local)]) = (&server.to, names.as_slice()) {
                        let expected = match (user["smtpname"].as_str(), user["smtpaddress"].as_str()) {
                            (Some(whole), _) => whole.to_owned(),
                            (None, _) if local.contains('@') => local.clone(),
                            (None, domain) => format!("{local}@{}", domain.unwrap_or(name)),
                        };
                        assert_eq!(*to, [expected], "{what}");
                    }
                }
            }
            Some(&server.to)
        }
        (mda, bsmtp, target) => panic!("{what}: {mda:?} {bsmtp:?} {target:?}"),
    };
    let is_many = matches!(to, Some(Recipients::Header(_)));
    assert_eq!(is_many, names.len() > 1, "{what}: {names:?}");
}

#[test]
fn fetchmail_means_what_the_import_says() {
    for file in data("fetchmail") {
        let (home, copy) = home(&file);
        let what = copy.display().to_string();
        let (accounts, printed) = imported("fetchmail", &home, &copy);
        let dump = fetchmail_dump(&home, &copy);
        let servers = dump["servers"].as_array().unwrap().iter();
        let polled =
            servers.filter(|server| ["POP3", "APOP", "auto"].iter().any(|one| server["protocol"] == **one));
        let users: Vec<(&Value, &Value)> = polled
            .flat_map(|server| server["users"].as_array().unwrap().iter().map(move |user| (server, user)))
            .collect();
        assert_eq!(accounts.len(), users.len(), "{what}: {printed}\n{dump}");
        for ((server, user), account) in users.into_iter().zip(&accounts) {
            fetchmail_expected(server, user).is(account, &what);
            fetchmail_target(user, account, &what);
        }
        let interval = dump["poll_interval"].as_u64().unwrap_or_default();
        assert_eq!(printed.contains(&format!("interval: {interval}s")), interval > 0, "{printed}");
    }
}

#[test]
fn mpop_means_what_the_import_says() {
    for file in data("mpop") {
        let (home, copy) = home(&file);
        let what = copy.display().to_string();
        let (accounts, _) = imported("mpop", &home, &copy);
        let dump = dumped(&home, "mpop", &["-C", copy.to_str().unwrap(), "-P", "-a"]);
        let sections: Vec<&str> = dump.split("using account ").skip(1).collect();
        let names: Vec<&str> =
            sections.iter().map(|section| section.split(" from ").next().unwrap()).collect();
        for account in &accounts {
            let at = names
                .iter()
                .position(|name| *name == account.name)
                .unwrap_or_else(|| panic!("{what}: {names:?}"));
            let value = |key: &str| {
                let line = sections[at].lines().find_map(|line| line.strip_prefix(&format!("{key} = ")));
                line.filter(|value| !["(not set)", "off"].contains(value)).map(str::to_owned)
            };
            let octets = |key: &str| value(key).and_then(|octets| octets.parse().ok());
            let expected = Expected {
                host: value("host").unwrap(),
                port: octets("port").map(|port: u64| u16::try_from(port).unwrap()),
                user: value("user").unwrap(),
                password: None,
                tls: Some(match (value("tls").is_some(), value("tls_starttls").is_some()) {
                    (true, false) => TlsMode::Implicit,
                    (true, true) => TlsMode::StartTls,
                    (false, _) => TlsMode::None,
                }),
                keep: Some(if value("keep").is_some() { Keep::Forever } else { Keep::None }),
                timeout: value("timeout")
                    .and_then(|time| time.split(' ').next()?.parse().ok())
                    .filter(|time| *time != 180),
                max_size: octets("skipsize"),
                ..Expected::default()
            };
            let account = &Account { password: None, ..account.clone() };
            expected.is(account, &what);
            let delivery = value("delivery").unwrap();
            let (method, argument) = delivery.split_once(' ').unwrap();
            match (method, &account.deliver[0].target) {
                ("maildir", Target::Maildir(path)) | ("mbox", Target::Mbox(path)) => {
                    assert_eq!(path.to_str(), Some(argument), "{what}");
                }
                ("mda", Target::Pipe(_)) => {}
                ("exchange", _) => assert!(!account.enabled, "{what}"),
                (method, target) => panic!("{what}: {method} {target:?}"),
            }
            assert_eq!(account.received.unwrap_or_default(), value("received_header").is_some(), "{what}");
        }
    }
}

#[test]
fn what_other_programs_refuse_is_refused_on_the_same_line() {
    let cases = [
        ("fetchmail", "poll h proto pop3\n  user a pass secret word is x here\n", 2),
        ("fetchmail", "poll h proto Pop3 user a\n", 1),
        ("fetchmail", "set daemon often\npoll h\n", 1),
        ("fetchmail", "poll h user a pass b\n  proto pop3\n", 2),
        ("fetchmail", "poll h proto pop3 sslproto auto\n", 1),
        ("fetchmail", "poll\n", 2),
        ("mpop", "host h\n", 1),
        ("mpop", "account a\nhost h\nport x\n", 3),
        ("mpop", "account a\nfoo 1\n", 2),
        ("mpop", "account a : b\n", 1),
    ];
    for (peer, text, line) in cases {
        let home = Home::new();
        let file = home.write("rc", text);
        let told = home.must(&["import", peer, file.to_str().unwrap()], 78).stderr;
        assert!(told.contains(&format!("rc:{line}:")), "{text}: {told}");
        let arguments: &[&str] = match peer {
            "fetchmail" => &["--configdump", "-f", "rc"],
            _ => &["-C", "rc", "-P", "-a"],
        };
        let mut command = Command::new(program(peer).unwrap());
        let output =
            command.args(arguments).env("HOME", home.path("")).current_dir(home.path("")).output().unwrap();
        assert!(!output.status.success(), "{text}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            said.contains(&format!(":{line}:")) || said.contains(&format!("line {line}:")),
            "{text}: {said}"
        );
    }
}

#[test]
fn getmail_means_what_the_import_says() {
    for file in data("getmail") {
        let (home, copy) = home(&file);
        let what = copy.display().to_string();
        let (accounts, printed) = imported("getmail", &home, &copy);
        let name = copy.file_name().unwrap().to_str().unwrap();
        let directory = root(&home);
        let dump = dumped(&home, "getmail", &["--getmaildir", &directory, "--rcfile", name, "--dump"]);
        let retriever = dump.lines().find_map(|line| line.trim().strip_prefix("retriever:")).unwrap();
        let of_retriever = |key: &str| {
            let value = retriever.split(&format!("{key}=\"")).nth(1)?.split('"').next()?;
            Some(value).filter(|value| *value != "None").map(str::to_owned)
        };
        let option = |key: &str| {
            let value = dump.lines().find_map(|line| line.trim().strip_prefix(&format!("{key} : ")));
            value.unwrap_or_else(|| panic!("{key}: {dump}")).to_owned()
        };
        let number = |key: &str| option(key).parse::<u64>().ok().filter(|number| *number > 0);
        let [account] = accounts.as_slice() else { panic!("{printed}") };
        let expected = Expected {
            host: of_retriever("server").unwrap(),
            port: of_retriever("port").map(|port| port.parse().unwrap()),
            user: of_retriever("username").unwrap(),
            tls: Some(if retriever.contains("SSLRetriever(") { TlsMode::Implicit } else { TlsMode::None }),
            keep: Some(match (option("delete") == "True", number("delete_after")) {
                (true, _) => Keep::None,
                (false, Some(days)) => Keep::For(std::time::Duration::from_secs(days * 86_400)),
                (false, None) => Keep::Forever,
            }),
            // 180 is what it has without a word.
            timeout: of_retriever("timeout").map(|time| time.parse().unwrap()).filter(|time| *time != 180),
            max_size: number("max_message_size"),
            max_messages: number("max_messages_per_session").map(|most| most as usize),
            ..Expected::default()
        };
        expected.is(&Account { password: None, ..account.clone() }, &what);
        assert_eq!(account.received.unwrap_or_default(), option("received") == "True", "{what}");
        getmail_targets(&dump, account, &what);
    }
}

/// Each target stands in the dump, and there are as many.
fn getmail_targets(dump: &str, account: &Account, what: &str) {
    let destination = dump.lines().find_map(|line| line.trim().strip_prefix("destination:")).unwrap().trim();
    for to in &account.deliver {
        match &to.target {
            Target::Maildir(path) | Target::Mbox(path) => {
                assert!(destination.contains(&path.display().to_string()), "{what}: {dump}");
            }
            Target::Pipe(pipe) => {
                let shown = if account.deliver.len() == 1 {
                    "MDA_external("
                } else {
                    "MultiDestination(MDA_external "
                };
                assert!(destination.starts_with(shown), "{what}: {dump}");
                assert_eq!(pipe.from_line, destination.contains("unixfrom=\"True\""), "{what}: {dump}");
                if let postrider::testing::config::CommandLine::Argv(words) = &pipe.command {
                    let named = |word: &String| match word.as_str() {
                        "%(from)" => "'%(sender)'".to_owned(),
                        "%(to)" => "'%(recipient)'".to_owned(),
                        other => format!("'{other}'"),
                    };
                    let words: Vec<String> = words[1..].iter().map(named).collect();
                    assert!(destination.contains(&words.join(", ")), "{what}: {words:?} {dump}");
                }
            }
            other => panic!("{what}: {other:?}"),
        }
    }
}

#[test]
fn fdm_means_what_the_import_says() {
    for file in data("fdm") {
        let (home, copy) = home(&file);
        let what = copy.display().to_string();
        let (accounts, printed) = imported("fdm", &home, &copy);
        let dump = dumped(&home, "fdm", &["-nvv", "-f", copy.to_str().unwrap()]);
        let added: Vec<&str> = dump.lines().filter(|line| line.contains("fetch=pop3")).collect();
        assert_eq!(accounts.len(), added.len(), "{printed}\n{dump}");
        let set: &str = dump.lines().find(|line| line.starts_with("options are:")).unwrap();
        let number = |key: &str, default: u64| {
            let value =
                set.split(&format!("{key}=")).nth(1).and_then(|rest| rest.split(',').next()?.parse().ok());
            value.filter(|value| *value != default)
        };
        for (account, added) in accounts.iter().zip(added) {
            let quoted = |behind: &str| {
                let rest = added.split(&format!("{behind} ")).nth(1)?;
                let rest = rest
                    .strip_prefix('"')
                    .map_or_else(|| rest.split(' ').next(), |rest| rest.split('"').next());
                rest.map(str::to_owned)
            };
            assert_eq!(quoted("account").as_deref(), Some(account.name.as_str()), "{what}");
            let text = fs::read_to_string(&copy).unwrap();
            let starttls = text
                .lines()
                .any(|line| line.contains(&format!("\"{}\"", account.name)) && line.contains("starttls"));
            let expected = Expected {
                host: quoted("server").unwrap_or_else(|| "localhost".to_owned()),
                port: quoted("port").and_then(|port| port.parse().ok()),
                user: quoted("user").unwrap(),
                tls: Some(match (added.contains("fetch=pop3s"), starttls) {
                    (true, _) => TlsMode::Implicit,
                    (false, true) => TlsMode::StartTls,
                    (false, false) => TlsMode::None,
                }),
                timeout: number("timeout", 900),
                max_size: number("maximum-size", 33_554_432),
                ..Expected::default()
            };
            expected.is(&Account { password: None, ..account.clone() }, &what);
            assert_eq!(account.received.unwrap_or_default(), !set.contains("no-received"), "{what}");
            fdm_targets(&dump, account, &what);
        }
    }
}

/// Each target stands in an action of the dump.
fn fdm_targets(dump: &str, account: &Account, what: &str) {
    for to in account.deliver.iter().filter(|_| account.enabled) {
        let shown = match &to.target {
            Target::Maildir(path) => {
                format!("maildir \"{}\"", path.display()).replace(&format!("/{}\"", account.name), "/%a\"")
            }
            Target::Mbox(path) => format!("mbox \"{}\"", path.display()),
            Target::Pipe(pipe) => format!("pipe \"{}\"", pipe.command).replace('`', ""),
            Target::Smtp(_) => "smtp server".to_owned(),
            Target::Imap(mailbox) => format!("imaps server \"{}\"", mailbox.host),
            other => panic!("{what}: {other:?}"),
        };
        let plain = shown.replace("%a", &account.name);
        assert!(dump.contains(&shown) || dump.contains(&plain), "{what}: {shown}: {dump}");
    }
}
