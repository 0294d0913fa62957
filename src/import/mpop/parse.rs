//! The lines of mpop's configuration: a command and its argument each.

use std::path::Path;

use super::super::cursor::{At, Cursor, Wrong, shown};

/// What an argument must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Takes {
    Any,
    /// `on`, `off`, or nothing for `on`.
    Switch,
    /// One of these.
    One(&'static [&'static str]),
    Port,
    /// Seconds above 0, or `off`.
    Seconds,
    /// Octets with `k` or `m`, or `off`.
    Size,
    Delivery,
    /// A switch, or in later versions a duration.
    Keep,
}

const AUTHS: &[&str] = &[
    "on",
    "user",
    "plain",
    "scram-sha-1",
    "scram-sha-1-plus",
    "scram-sha-256",
    "scram-sha-256-plus",
    "apop",
    "cram-md5",
    "digest-md5",
    "login",
    "ntlm",
    "oauthbearer",
    "xoauth2",
    "external",
    "gssapi",
];

const COMMANDS: &[(&str, Takes)] = &[
    ("host", Takes::Any),
    ("port", Takes::Port),
    ("source_ip", Takes::Any),
    ("proxy_host", Takes::Any),
    ("proxy_port", Takes::Any),
    ("socket", Takes::Any),
    ("timeout", Takes::Seconds),
    ("pipelining", Takes::One(&["auto", "on", "off"])),
    ("auth", Takes::One(AUTHS)),
    ("user", Takes::Any),
    ("password", Takes::Any),
    ("passwordeval", Takes::Any),
    ("ntlmdomain", Takes::Any),
    ("tls", Takes::Switch),
    ("tls_starttls", Takes::Switch),
    ("tls_trust_file", Takes::Any),
    ("tls_crl_file", Takes::Any),
    ("tls_fingerprint", Takes::Any),
    ("tls_key_file", Takes::Any),
    ("tls_cert_file", Takes::Any),
    ("tls_certcheck", Takes::Switch),
    ("tls_force_sslv3", Takes::Switch),
    ("tls_min_dh_prime_bits", Takes::Any),
    ("tls_priorities", Takes::Any),
    ("tls_host_override", Takes::Any),
    ("delivery", Takes::Delivery),
    ("uidls_file", Takes::Any),
    ("only_new", Takes::Switch),
    ("keep", Takes::Keep),
    ("killsize", Takes::Size),
    ("skipsize", Takes::Size),
    ("filter", Takes::Any),
    ("received_header", Takes::Switch),
    ("eval", Takes::Any),
];

/// A command that was given.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    pub(super) at: At,
    pub(super) key: &'static str,
    pub(super) argument: String,
}

/// An account with all that it inherits, in the order in which it was said.
#[derive(Debug, Clone)]
pub(super) struct Section {
    pub(super) name: String,
    pub(super) at: At,
    pub(super) settings: Vec<Setting>,
}

/// Reads the accounts, each with what it inherits.
pub(super) fn sections(file: &Path, text: &str) -> Result<Vec<Section>, Wrong> {
    let mut sections: Vec<Section> = Vec::new();
    let mut defaults: Vec<Setting> = Vec::new();
    // `None`: before all; `Some(None)`: in the defaults.
    let mut into: Option<Option<usize>> = None;
    let mut lines = Cursor::new(text, None);
    while lines.peek().is_some() {
        lines.take_while(|c| matches!(c, ' ' | '\t' | '\r'));
        let at = lines.at();
        let key = lines.take_while(|c| !matches!(c, ' ' | '\t' | '\r' | '\n'));
        lines.take_while(|c| matches!(c, ' ' | '\t'));
        let argument_at = lines.at();
        let argument = lines.take_while(|c| c != '\n').trim_end_matches([' ', '\t', '\r']);
        lines.next();
        if key.is_empty() || key.starts_with('#') {
            continue;
        }
        let argument = match argument.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
            Some(quoted) => quoted,
            None => argument,
        };
        match key {
            // What is said there comes on top of what an earlier one said.
            "defaults" => into = Some(None),
            "account" => {
                sections.push(begin(file, argument, &argument_at, at, &sections, &defaults)?);
                into = Some(Some(sections.len() - 1));
            }
            _ => {
                let setting = setting(file, key, argument, at, &argument_at)?;
                match into {
                    None => {
                        let what = format!("{} before the first `account` or `defaults`", shown(key));
                        return Err(Wrong::new(file, &setting.at, what));
                    }
                    Some(None) => defaults.push(setting),
                    Some(Some(section)) => sections[section].settings.push(setting),
                }
            }
        }
    }
    Ok(sections)
}

/// `account NAME`, or `account NAME : OTHERS`, whose settings it begins with in the place of the defaults.
fn begin(
    file: &Path,
    argument: &str,
    argument_at: &At,
    at: At,
    sections: &[Section],
    defaults: &[Setting],
) -> Result<Section, Wrong> {
    let (name, bases) = match argument.split_once(':') {
        Some((name, bases)) => (name.trim_end(), bases.split(',').map(str::trim).collect()),
        None => (argument, Vec::new()),
    };
    let wrong = |what: String| Err(Wrong::new(file, argument_at, what));
    if name.is_empty() || name.contains(',') {
        return wrong("must be the name of an account, without colons and commas".to_owned());
    }
    if sections.iter().any(|section| section.name == name) {
        return wrong(format!("account {} is there already", shown(name)));
    }
    let mut settings = if bases.is_empty() { defaults.to_vec() } else { Vec::new() };
    for base in bases {
        match sections.iter().find(|section| section.name == base) {
            Some(section) => settings.extend(section.settings.iter().cloned()),
            None => return wrong(format!("account {} is not there so far", shown(base))),
        }
    }
    Ok(Section { name: name.to_owned(), at, settings })
}

fn setting(file: &Path, key: &str, argument: &str, at: At, argument_at: &At) -> Result<Setting, Wrong> {
    let Some((key, takes)) = COMMANDS.iter().find(|(known, _)| *known == key) else {
        return Err(Wrong::new(file, &at, format!("unknown command {}", shown(key))));
    };
    let wrong = |what: &str| Err(Wrong::new(file, argument_at, format!("`{key}`: {what} was expected")));
    let argument = match takes {
        Takes::Any => argument,
        Takes::Switch if argument.is_empty() => "on",
        Takes::Switch if !["on", "off"].contains(&argument) => return wrong("`on` or `off`"),
        Takes::Keep if argument.is_empty() => "on",
        Takes::Keep if !["on", "off"].contains(&argument) && duration(argument).is_none() => {
            return wrong("`on`, `off` or a duration such as 14d");
        }
        Takes::One(_) if argument.is_empty() && *key == "auth" => "on",
        Takes::One(words) if !words.contains(&argument) => {
            return wrong(&format!("one of {}", words.join(", ")));
        }
        Takes::Port if !argument.parse::<u16>().is_ok_and(|port| port > 0) => {
            return wrong("a number from 1 to 65535");
        }
        Takes::Seconds if argument != "off" && !argument.parse::<u32>().is_ok_and(|seconds| seconds > 0) => {
            return wrong("a number of seconds above 0, or `off`");
        }
        Takes::Size if argument != "off" && size(argument).is_none() => {
            return wrong("a size such as 500k or 10m, or `off`");
        }
        Takes::Delivery if !is_delivery(argument) => {
            return wrong("`mda`, `maildir`, `mbox` or `exchange` and where");
        }
        Takes::Switch
        | Takes::One(_)
        | Takes::Port
        | Takes::Seconds
        | Takes::Size
        | Takes::Delivery
        | Takes::Keep => argument,
    };
    Ok(Setting { at, key, argument: argument.to_owned() })
}

fn is_delivery(argument: &str) -> bool {
    let words = argument.split_once([' ', '\t']);
    words.is_some_and(|(method, _)| ["mda", "maildir", "mbox", "exchange"].contains(&method))
}

/// Reads octets, with `k` or `m` for the units of 1024.
pub(super) fn size(text: &str) -> Option<u64> {
    let (digits, factor) = match text.strip_suffix(['k', 'K']) {
        Some(digits) => (digits, 1024),
        None => text.strip_suffix(['m', 'M']).map_or((text, 1), |digits| (digits, 1024 * 1024)),
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

/// Reads `1d12h` and the like, and gives it in seconds.
pub(super) fn duration(text: &str) -> Option<u64> {
    let (mut rest, mut seconds) = (text, 0_u64);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let unit = match rest.as_bytes()[digits] {
            b'w' => 7 * 86_400,
            b'd' => 86_400,
            b'h' => 3600,
            b'm' => 60,
            b's' => 1,
            _ => return None,
        };
        seconds = seconds.checked_add(rest[..digits].parse::<u64>().ok()?.checked_mul(unit)?)?;
        rest = &rest[digits + 1..];
    }
    (!text.is_empty()).then_some(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_that_of_mpops_keep() {
        assert_eq!(duration("1d12h"), Some(129_600));
        assert_eq!(duration("2w"), Some(1_209_600));
        assert_eq!(duration("12"), None);
        assert_eq!(duration(""), None);
    }

    #[test]
    fn what_mpop_does_not_understand_is_told_with_its_place() {
        for (text, told) in [
            ("host x\n", "f:1:1: `host` before the first `account` or `defaults`"),
            ("account a\n  foo 1\n", "f:2:3: unknown command `foo`"),
            ("account a : b\n", "f:1:9: account `b` is not there so far"),
            ("account a\naccount a\n", "f:2:9: account `a` is there already"),
            ("account a\ntls  maybe\n", "f:2:6: `tls`: `on` or `off` was expected"),
            ("account a\nport x\n", "f:2:6: `port`: a number from 1 to 65535 was expected"),
            (
                "account a\nskipsize 1.5m\n",
                "f:2:10: `skipsize`: a size such as 500k or 10m, or `off` was expected",
            ),
            ("account a,b\n", "f:1:9: must be the name of an account, without colons and commas"),
        ] {
            assert_eq!(sections(Path::new("f"), text).unwrap_err().to_string(), told, "{text}");
        }
    }
}
