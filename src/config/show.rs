//! The effective configuration as text.

use std::fmt::Write as _;

use super::account::{Account, Auth, CommandLine, Hooks, Interval, Keep, Password, Tls, TlsMode};
use super::command_line;
use super::recipients::OCCURRENCES;
use super::target::{CatchAll, MailServer, Occurrence, Pipe, Place, Recipients, Sender, Target, Unknown};
use super::units::{show_duration, show_size};
use super::values::{CONFINEMENTS, ORDERS, PIPELININGS, TLS_VERSIONS, name_of};
use super::{Config, Daemon, Notify};

/// Writes the configuration as YAML with every default filled in and every secret shown as `'[secret]'`; with the
/// secrets put back it can be loaded and means the same.
pub fn show(config: &Config) -> String {
    let Config { file, accounts, state, daemon, notify, metrics_file, sandbox } = config;
    let Daemon { max_sessions, max_sessions_per_host, startup_spread } = daemon;
    let mut out = String::new();
    if let Some(file) = file {
        // One line, whatever the path: a line end in it would end the comment.
        let shown = file.to_string_lossy().replace(char::is_control, "?");
        line(&mut out, 0, "# read from", &shown);
    }
    line(&mut out, 0, "state:", &text(&state.to_string_lossy()));
    line(&mut out, 0, "daemon:", "");
    line(&mut out, 2, "max_sessions:", &max_sessions.to_string());
    line(&mut out, 2, "max_sessions_per_host:", &max_sessions_per_host.to_string());
    line(&mut out, 2, "startup_spread:", &show_duration(*startup_spread));
    if let Some(Notify { after, remind, deliver }) = notify {
        let notify = format!("{{ after: {after}, remind: {}, deliver: {deliver} }}", show_duration(*remind));
        line(&mut out, 0, "notify:", &notify);
    }
    if let Some(path) = metrics_file {
        line(&mut out, 0, "metrics_file:", &text(&path.to_string_lossy()));
    }
    line(&mut out, 0, "sandbox:", name_of(&CONFINEMENTS, sandbox));
    line(&mut out, 0, "accounts:", "");
    for each in accounts {
        account(&mut out, each);
    }
    out
}

fn account(out: &mut String, account: &Account) {
    line(out, 2, &format!("{}:", text(&account.name)), "");
    let mut key = |key: &str, value: &str| line(out, 4, &format!("{key}:"), value);
    key("host", &text(&account.host));
    key("user", &text(&account.user));
    key("port", &account.port.to_string());
    for (name, value) in tls(&account.tls) {
        key(name, &value);
    }
    match &account.auth {
        Auth::Auto => key("auth", "auto"),
        Auth::List(mechanisms) => key("auth", &list(mechanisms.iter().map(|each| each.name().to_owned()))),
    }
    if let Some(source) = &account.password {
        key("password", &password(source));
    }
    if let Some(connect) = &account.connect {
        key("connect", &command(connect));
    }
    if let Some(bind) = account.bind {
        key("bind", &text(&bind.to_string()));
    }
    key("timeout", &show_duration(account.timeout));
    match account.interval {
        Interval::Every(interval) => key("interval", &show_duration(interval)),
        Interval::Manual => key("interval", "manual"),
    }
    match account.keep {
        Keep::Forever => key("keep", "forever"),
        Keep::None => key("keep", "none"),
        Keep::For(duration) => key("keep", &show_duration(duration)),
    }
    key("first_sync", &account.first_sync.to_string());
    key("order", name_of(&ORDERS, &account.order));
    key("max_size", &account.max_size.map_or_else(|| "none".to_owned(), show_size));
    key("max_messages", &account.max_messages.map_or_else(|| "none".to_owned(), |most| most.to_string()));
    key("pipelining", name_of(&PIPELININGS, &account.pipelining));
    match &account.deliver {
        Target::Maildir(path) => key("deliver", &format!("{{ maildir: {} }}", text(&path.to_string_lossy()))),
        Target::Pipe(target) => key("deliver", &format!("{{ pipe: {} }}", pipe(target))),
        Target::Mbox(path) => key("deliver", &format!("{{ mbox: {} }}", text(&path.to_string_lossy()))),
        Target::Smtp(target) => key("deliver", &format!("{{ smtp: {} }}", server(target))),
        Target::Lmtp(target) => key("deliver", &format!("{{ lmtp: {} }}", server(target))),
    }
    key("received", if account.received { "true" } else { "false" });
    let Hooks { before, after, on_new, on_error, on_recover } = &account.hooks;
    let hooks = [
        ("before", before),
        ("after", after),
        ("on_new", on_new),
        ("on_error", on_error),
        ("on_recover", on_recover),
    ];
    let hooks: Vec<_> = hooks
        .iter()
        .filter_map(|(name, line)| Some(format!("{name}: {}", command(line.as_ref()?))))
        .collect();
    if !hooks.is_empty() {
        key("hooks", &format!("{{ {} }}", hooks.join(", ")));
    }
    key("enabled", if account.enabled { "true" } else { "false" });
    key("maildrop_id", &text(&account.maildrop_id));
}

/// Gives the keys that say how a connection is protected.
fn tls(tls: &Tls) -> Vec<(&'static str, String)> {
    let Tls { mode, ca, pins, client, server_name, min } = tls;
    let mut keys = vec![("tls", mode.name().to_owned())];
    if let Some(ca) = ca {
        keys.push(("tls_ca", text(&ca.to_string_lossy())));
    }
    if !pins.is_empty() {
        keys.push(("tls_pin", list(pins.iter().map(pin))));
    }
    if let Some(client) = client {
        keys.push(("tls_client_cert", text(&client.chain.to_string_lossy())));
        keys.push(("tls_client_key", text(&client.key.to_string_lossy())));
    }
    if let Some(name) = server_name {
        keys.push(("tls_server_name", text(name)));
    }
    match mode {
        TlsMode::Implicit | TlsMode::StartTls => {
            keys.push(("tls_min", format!("'{}'", name_of(&TLS_VERSIONS, min))));
        }
        // Refused beside `tls: none`, where it means nothing.
        TlsMode::None => {}
    }
    keys
}

fn server(server: &MailServer) -> String {
    let MailServer { place, timeout, login, to, from } = server;
    let mut keys = Vec::new();
    match place {
        Place::Socket(path) => keys.push(format!("socket: {}", text(&path.to_string_lossy()))),
        Place::Tcp { host, port, bind, tls: protection } => {
            keys.push(format!("host: {}, port: {port}", text(host)));
            // On one line there is room for what is unusual.
            let usual = |key: &str| key == "tls_min" && protection.min == Tls::bare(protection.mode).min;
            let given = tls(protection).into_iter().filter(|(key, _)| !usual(key));
            keys.extend(given.map(|(key, value)| format!("{key}: {value}")));
            if let Some(bind) = bind {
                keys.push(format!("bind: {}", text(&bind.to_string())));
            }
        }
    }
    if let Some(timeout) = timeout {
        keys.push(format!("timeout: {}", show_duration(*timeout)));
    }
    if let Some(login) = login {
        keys.push(format!("user: {}, password: {}", text(&login.user), password(&login.password)));
    }
    match to {
        Recipients::List(addresses) => {
            keys.push(format!("to: {}", list(addresses.iter().map(|address| text(address)))))
        }
        Recipients::Header(named) => keys.push(format!("to: {}", catch_all(named))),
    }
    match from {
        // What LMTP does without being told.
        Sender::Keep => {}
        Sender::Address(address) => keys.push(format!("from: {}", text(address))),
    }
    format!("{{ {} }}", keys.join(", "))
}

fn catch_all(catch_all: &CatchAll) -> String {
    let CatchAll { header, occurrence, strip_prefix, domains, map, unknown } = catch_all;
    let mut keys = vec![format!("header: {}, occurrence: {}", text(header), show_occurrence(*occurrence))];
    if let Some(prefix) = strip_prefix {
        keys.push(format!("strip_prefix: {}", text(prefix)));
    }
    if !domains.is_empty() {
        keys.push(format!("domains: {}", list(domains.iter().map(|domain| text(domain)))));
    }
    if !map.is_empty() {
        let pairs: Vec<_> =
            map.iter().map(|(local, address)| format!("{}: {}", text(local), text(address))).collect();
        keys.push(format!("map: {{ {} }}", pairs.join(", ")));
    }
    keys.push(match unknown {
        Unknown::Hold => "unknown: hold".to_owned(),
        Unknown::Address(address) => format!("unknown: {}", text(address)),
    });
    format!("{{ {} }}", keys.join(", "))
}

fn show_occurrence(occurrence: Occurrence) -> String {
    match occurrence {
        Occurrence::Nth(number) => number.to_string(),
        Occurrence::First | Occurrence::Last => name_of(&OCCURRENCES, &occurrence).to_owned(),
    }
}

fn password(source: &Password) -> String {
    match source {
        Password::Literal(_) => "'[secret]'".to_owned(),
        Password::Command(line) => format!("{{ command: {} }}", command(line)),
        Password::File(path) => format!("{{ file: {} }}", text(&path.to_string_lossy())),
        Password::Env(name) => format!("{{ env: {} }}", text(name)),
        Password::Credential(name) => format!("{{ credential: {} }}", text(name)),
        Password::Netrc(path) => format!("{{ netrc: {} }}", text(&path.to_string_lossy())),
    }
}

fn command(line: &CommandLine) -> String {
    match line {
        CommandLine::Shell(shell) => text(&command_line::masked(shell)),
        CommandLine::Argv(argv) => list(argv.iter().map(|word| text(&command_line::masked_word(word)))),
    }
}

fn pipe(pipe: &Pipe) -> String {
    // The account stands above.
    let Pipe { command, timeout, from_line, run_as, account: _, user: _ } = pipe;
    let command = self::command(command);
    let user = run_as.as_ref().map(|user| format!(", user: {}", text(user))).unwrap_or_default();
    format!("{{ command: {command}, timeout: {}, from_line: {from_line}{user} }}", show_duration(*timeout))
}

fn pin(digest: &[u8; 32]) -> String {
    digest.iter().fold("sha256:".to_owned(), |mut pin, octet| {
        let _ = write!(pin, "{octet:02x}"); // writing to a String cannot fail
        pin
    })
}

fn list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(", "))
}

fn line(out: &mut String, indent: usize, key: &str, value: &str) {
    let space = if value.is_empty() { "" } else { " " };
    out.push_str(&format!("{:indent$}{key}{space}{value}\n", ""));
}

/// Writes a text so that YAML reads the same text: as it is if nothing in it can mean anything else, else in quotes.
fn text(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && text.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"/._-@+".contains(&octet))
        && !matches!(
            text.to_ascii_lowercase().as_str(),
            "null" | "true" | "false" | "yes" | "no" | "on" | "off"
        );
    if plain {
        return text.to_owned();
    }
    // Characters that end a line, that YAML does not allow, or that a terminal would obey need escapes.
    let odd = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
    };
    if !text.contains(odd) {
        return format!("'{}'", text.replace('\'', "''"));
    }
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if odd(c) => quoted.push_str(&format!("\\U{:08x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
