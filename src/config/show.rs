//! The effective configuration, and what may stand in one, as text.

use super::keys::{HOOKS, KEYS};
use super::mail_server::{LMTP_KEYS, SMTP_KEYS};
use super::recipients::CATCH_ALL;
use super::rows::{Key, block};
use super::top::{LIMITS, NOTIFY, TOP};
use super::values::SOURCES;
use super::{Config, deliver, pipe};

/// Writes the configuration as YAML with every default filled in and every secret shown as `'[secret]'`; with the
/// secrets put back it can be loaded and means the same.
pub fn show(config: &Config) -> String {
    let mut out = String::new();
    if let Some(file) = &config.file {
        // One line, whatever the path: a line end in it would end the comment.
        let shown = file.to_string_lossy().replace(char::is_control, "?");
        out += &format!("# read from {shown}\n");
    }
    out += &block(0, TOP, config);
    out += "accounts:\n";
    for account in &config.accounts {
        out += &format!("  {}:\n{}", text(&account.name), block(4, KEYS, account));
    }
    out
}

/// Lists every key, by its path from the top of the file, with one line of help.
pub fn reference() -> Vec<(String, &'static str)> {
    [
        below("", TOP),
        below("daemon.", LIMITS),
        below("notify.", NOTIFY),
        below("accounts.NAME.", KEYS),
        below("accounts.NAME.password.", SOURCES),
        below("accounts.NAME.hooks.", HOOKS),
        below("accounts.NAME.deliver.", deliver::KEYS),
        below("accounts.NAME.deliver.pipe.", pipe::KEYS),
        below("accounts.NAME.deliver.smtp.", SMTP_KEYS),
        below("accounts.NAME.deliver.lmtp.", LMTP_KEYS),
        below("accounts.NAME.deliver.SERVER.to.", CATCH_ALL),
    ]
    .concat()
}

fn below<T>(path: &str, keys: &[Key<T>]) -> Vec<(String, &'static str)> {
    let known = keys.iter().filter(|key| !key.about.is_empty());
    known.map(|key| (format!("{path}{}", key.name), key.about)).collect()
}

pub(super) fn list(items: impl IntoIterator<Item = String>) -> String {
    format!("[{}]", items.into_iter().collect::<Vec<_>>().join(", "))
}

/// Writes a text so that YAML reads the same text: as it is if nothing in it can mean anything else, else in quotes.
pub(super) fn text(text: &str) -> String {
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
