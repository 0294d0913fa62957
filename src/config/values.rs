//! The values of the keys: each checked by itself, and turned into the type that cannot be wrong.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::Confinement;
use super::account::{
    Auth, CommandLine, FirstSync, Interval, Keep, Order, Password, Pipelining, TlsMode, TlsVersion,
};
use super::mail_server;
use super::places::Places;
use super::suggest::nearest;
use super::target::Target;
use super::tree::{Complaint, Content, Entry, Node};
use super::units;
use crate::sasl::{MECHANISMS, Mechanism};
use crate::secret::Secret;

pub(super) const TLS_MODES: [(&str, TlsMode); 3] =
    [("implicit", TlsMode::Implicit), ("starttls", TlsMode::StartTls), ("none", TlsMode::None)];
pub(super) const TLS_VERSIONS: [(&str, TlsVersion); 2] =
    [("1.2", TlsVersion::Tls12), ("1.3", TlsVersion::Tls13)];
const FIRST_SYNCS: [(&str, FirstSync); 2] = [("all", FirstSync::All), ("none", FirstSync::None)];
const KEEPS: [(&str, Keep); 2] = [("forever", Keep::Forever), ("none", Keep::None)];
pub(super) const CONFINEMENTS: [(&str, Confinement); 2] =
    [("auto", Confinement::Auto), ("off", Confinement::Off)];
pub(super) const ORDERS: [(&str, Order); 2] = [("oldest", Order::Oldest), ("newest", Order::Newest)];
pub(super) const PIPELININGS: [(&str, Pipelining); 3] =
    [("auto", Pipelining::Auto), ("on", Pipelining::On), ("off", Pipelining::Off)];

/// Names that an `auth` list will know.
const LATER_MECHANISMS: [&str; 2] = ["oauthbearer", "xoauth2"];

/// Said of everything that the manual does not know yet.
pub(super) const NOT_YET: &str = "not yet supported";

/// What a command line looks like.
const COMMAND: &str = "a command for the shell, or a list of program and arguments";

/// Gives the name of a value that a list of choices has.
pub(super) fn name_of<T: PartialEq>(choices: &[(&'static str, T)], value: &T) -> &'static str {
    choices.iter().find(|(_, known)| known == value).map_or("", |(name, _)| name)
}

/// Reads one of some words.
pub(super) fn choice<T: Copy>(node: &Node<'_>, choices: &[(&str, T)]) -> Result<T, Complaint> {
    let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
    let text = node.text(&one_of(&names))?;
    match choices.iter().find(|(name, _)| *name == text) {
        Some((_, value)) => Ok(*value),
        None => Err(node.wrong(meant(text, &names))),
    }
}

/// Reads `true` or `false`, unquoted; `yes` and `on` are texts in YAML 1.2.
pub(super) fn boolean(node: &Node<'_>) -> Result<bool, Complaint> {
    match &node.content {
        Content::Plain(text) if text == "true" => Ok(true),
        Content::Plain(text) if text == "false" => Ok(false),
        Content::Plain(_) | Content::Quoted(_) | Content::List(_) | Content::Mapping(_) => {
            Err(node.wrong("must be true or false"))
        }
    }
}

/// Reads a whole number from 1 up.
pub(super) fn count(node: &Node<'_>, most: usize) -> Result<usize, Complaint> {
    let wrong = || node.wrong(format!("must be a number from 1 to {most}"));
    match &node.content {
        Content::Plain(text) if !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_digit()) => {
            text.parse().ok().filter(|count| (1..=most).contains(count)).ok_or_else(wrong)
        }
        Content::Plain(_) | Content::Quoted(_) | Content::List(_) | Content::Mapping(_) => Err(wrong()),
    }
}

pub(super) fn port(node: &Node<'_>) -> Result<u16, Complaint> {
    let wrong = || node.wrong("must be a number from 1 to 65535");
    count(node, usize::from(u16::MAX)).ok().and_then(|port| u16::try_from(port).ok()).ok_or_else(wrong)
}

/// Reads `max_messages`.
pub(super) fn count_or_none(node: &Node<'_>) -> Result<Option<usize>, Complaint> {
    match &node.content {
        Content::Plain(text) if text == "none" => Ok(None),
        Content::Plain(_) | Content::Quoted(_) | Content::List(_) | Content::Mapping(_) => {
            count(node, u32::MAX as usize)
                .map(Some)
                .map_err(|_| node.wrong("must be none or a number above 0"))
        }
    }
}

/// Reads `max_size`.
pub(super) fn size_or_none(node: &Node<'_>) -> Result<Option<u64>, Complaint> {
    let text = node.text("none or a size such as 500k, 25M or 1G")?;
    if text == "none" {
        return Ok(None);
    }
    match units::size(text) {
        Ok(0) => Err(node.wrong("must be above 0; `none` sets no limit")),
        Ok(octets) => Ok(Some(octets)),
        Err(error) => Err(node.wrong(error.to_string())),
    }
}

/// Reads a duration that may be nothing.
pub(super) fn duration(node: &Node<'_>) -> Result<Duration, Complaint> {
    let text = node.text("a duration such as 30s, 5m, 2h or 14d")?;
    units::duration(text).map_err(|error| node.wrong(error.to_string()))
}

/// Reads a duration that is not nothing.
pub(super) fn positive(node: &Node<'_>) -> Result<Duration, Complaint> {
    match duration(node)? {
        Duration::ZERO => Err(node.wrong("must be above 0s")),
        duration => Ok(duration),
    }
}

pub(super) fn interval(node: &Node<'_>) -> Result<Interval, Complaint> {
    match node.text("manual or a duration such as 5m")? {
        "manual" => Ok(Interval::Manual),
        _ => positive(node).map(Interval::Every),
    }
}

pub(super) fn keep(node: &Node<'_>) -> Result<Keep, Complaint> {
    choice_or_duration(node, KEEPS, Keep::For, "`none` deletes a message as soon as it is delivered")
}

pub(super) fn first_sync(node: &Node<'_>) -> Result<FirstSync, Complaint> {
    choice_or_duration(node, FIRST_SYNCS, FirstSync::Within, "`none` takes all that is there as seen")
}

/// Reads one of two words or a duration; `zero` says what to write for none at all.
fn choice_or_duration<T: Copy>(
    node: &Node<'_>,
    choices: [(&str, T); 2],
    of: impl Fn(Duration) -> T,
    zero: &str,
) -> Result<T, Complaint> {
    let names = choices.map(|(name, _)| name);
    let [one, other] = names;
    let what = format!("{one}, {other} or a duration such as 14d");
    let text = node.text(&what)?;
    if let Some((_, value)) = choices.iter().find(|(name, _)| *name == text) {
        return Ok(*value);
    }
    match units::duration(text) {
        Ok(Duration::ZERO) => Err(node.wrong(format!("must be above 0s; {zero}"))),
        Ok(duration) => Ok(of(duration)),
        Err(_) => {
            let did_you_mean = match nearest(text, &names) {
                Some(near) => format!("; did you mean `{near}`?"),
                None => String::new(),
            };
            Err(node.wrong(format!("must be {what}{did_you_mean}")))
        }
    }
}

/// Reads a text of at least one character, none of which is a control character: it goes into lines of a protocol,
/// into logs or into the environment.
pub(super) fn line(node: &Node<'_>, what: &str) -> Result<String, Complaint> {
    let text = node.text(what)?;
    if text.is_empty() {
        return Err(node.wrong(format!("is empty, must be {what}")));
    }
    if text.contains(char::is_control) {
        return Err(node.wrong(format!("must be {what} without control characters")));
    }
    Ok(text.to_owned())
}

/// Reads the mailbox name: any text that fits into one line of the protocol.
pub(super) fn user(node: &Node<'_>) -> Result<String, Complaint> {
    line(node, "a mailbox name")
}

pub(super) fn host(node: &Node<'_>) -> Result<String, Complaint> {
    host_name(node.text("a host name or address")?).map_err(|what| node.wrong(what))
}

/// Checks a host name or address literal; gives it in lower case, so that `maildrop_id` does not depend on how it was
/// typed, and without the brackets of an IPv6 address.
pub(super) fn host_name(text: &str) -> Result<String, &'static str> {
    let address = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if address.parse::<IpAddr>().is_ok() {
        return Ok(address.to_ascii_lowercase());
    }
    if text.is_empty() {
        return Err("is empty, must be a host name or address");
    }
    if text.contains("://") {
        return Err("must be a host name alone, not a URL");
    }
    if text.split_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) {
        return Err("must be a host name alone: write the port as `port: NUMBER`");
    }
    if !text.is_ascii() {
        return Err("must be a host name in its ASCII form (xn--...)");
    }
    // A trailing dot marks a name as complete.
    let labels = text.strip_suffix('.').unwrap_or(text);
    let sound = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-' || octet == b'_')
            && !label.starts_with('-')
    };
    if labels.len() > 253 || !labels.split('.').all(sound) {
        return Err("must be a host name or address");
    }
    Ok(text.to_ascii_lowercase())
}

pub(super) fn address(node: &Node<'_>) -> Result<IpAddr, Complaint> {
    let what = "an IP address of this machine";
    node.text(what)?.parse().map_err(|_| node.wrong(format!("must be {what}")))
}

pub(super) fn path(node: &Node<'_>, places: &Places) -> Result<PathBuf, Complaint> {
    places.absolute(node.text("a path")?).map_err(|what| node.wrong(what))
}

/// Reads `tls_pin`: one fingerprint or a list.
pub(super) fn pins(node: &Node<'_>) -> Result<Vec<[u8; 32]>, Complaint> {
    match &node.content {
        Content::List(items) if items.is_empty() => Err(node.wrong("is an empty list")),
        Content::List(items) => each(items, pin),
        Content::Plain(_) | Content::Quoted(_) | Content::Mapping(_) => Ok(vec![pin(node)?]),
    }
}

pub(super) fn auth(node: &Node<'_>) -> Result<Auth, Complaint> {
    let items = match &node.content {
        Content::List(items) => items,
        Content::Plain(text) | Content::Quoted(text) if text == "auto" => return Ok(Auth::Auto),
        Content::Plain(text) | Content::Quoted(text) => {
            let written = match Mechanism::from_name(text) {
                Some(mechanism) => format!("; write [{}]", mechanism.name()),
                None => String::new(),
            };
            return Err(node.wrong(format!("must be auto or a list of mechanisms{written}")));
        }
        Content::Mapping(_) => return Err(node.wrong("must be auto or a list of mechanisms, not a mapping")),
    };
    if items.is_empty() {
        return Err(node.wrong("is an empty list: write auto, or the mechanisms that may be used"));
    }
    let mut list = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let mechanism = mechanism(item).map_err(|complaint| complaint.under(&format!("[{index}]")))?;
        if list.contains(&mechanism) {
            return Err(item.wrong("stands in the list twice").under(&format!("[{index}]")));
        }
        list.push(mechanism);
    }
    Ok(Auth::List(list))
}

pub(super) fn command(node: &Node<'_>) -> Result<CommandLine, Complaint> {
    let sound = |item: &Node<'_>| {
        let text = item.text("a text")?;
        if text.contains('\0') { Err(item.wrong("must have no NUL in it")) } else { Ok(text.to_owned()) }
    };
    if let Content::List(items) = &node.content {
        let argv = each(items, sound)?;
        return match argv.first() {
            None => Err(node.wrong("is an empty list, must be a program and its arguments")),
            Some(program) if program.is_empty() => Err(items[0].wrong("names no program").under("[0]")),
            Some(_) => Ok(CommandLine::Argv(argv)),
        };
    }
    node.text(COMMAND)?;
    let shell = sound(node)?;
    if shell.trim().is_empty() {
        return Err(node.wrong(format!("is empty, must be {COMMAND}")));
    }
    Ok(CommandLine::Shell(shell))
}

/// Reads where a password comes from.
pub(super) fn password(node: &Node<'_>, places: &Places) -> Result<Password, Complaint> {
    const SOURCES: [&str; 5] = ["command", "file", "env", "credential", "netrc"];
    let what = "a password, or a mapping with one of `command`, `file`, `env`, `credential`, `netrc`";
    if let Content::Plain(_) | Content::Quoted(_) = &node.content {
        return match node.text(what)? {
            "" => Err(node.wrong(format!("is empty, must be {what}"))),
            literal => Ok(Password::Literal(Secret::new(literal))),
        };
    }
    let entry = only(node, what)?;
    let value = &entry.value;
    let source = match &*entry.key {
        "command" => command(value).map(Password::Command),
        "file" => path(value, places).map(Password::File),
        "env" => variable(value).map(Password::Env),
        "credential" => credential(value).map(Password::Credential),
        "netrc" => path(value, places).map(Password::Netrc),
        other if nearest(other, &SOURCES).is_some() => return Err(unknown(entry, &SOURCES)),
        // It may be the password.
        _ => {
            let what = format!("unknown key; valid keys are {}", SOURCES.join(", "));
            return Err(Complaint::new(entry.at, what));
        }
    };
    source.map_err(|complaint| within(entry, complaint))
}

/// Reads where messages go.
pub(super) fn deliver(node: &Node<'_>, places: &Places) -> Result<Target, Complaint> {
    const TARGETS: [&str; 5] = ["maildir", "mbox", "pipe", "smtp", "lmtp"];
    let entry = only(node, "a target such as { maildir: ~/Mail }")?;
    match &*entry.key {
        "maildir" => {
            path(&entry.value, places).map(Target::Maildir).map_err(|complaint| within(entry, complaint))
        }
        "mbox" => path(&entry.value, places).map(Target::Mbox).map_err(|complaint| within(entry, complaint)),
        "pipe" => super::pipe::pipe(&entry.value)
            .map(|pipe| Target::Pipe(Box::new(pipe)))
            .map_err(|complaint| within(entry, complaint)),
        "smtp" => mail_server::smtp(&entry.value, places)
            .map(|server| Target::Smtp(Box::new(server)))
            .map_err(|complaint| within(entry, complaint)),
        "lmtp" => mail_server::lmtp(&entry.value, places)
            .map(|server| Target::Lmtp(Box::new(server)))
            .map_err(|complaint| within(entry, complaint)),
        _ => Err(unknown(entry, &TARGETS)),
    }
}

/// Says that a key is unknown, and which one was probably meant. A key that looks like none is not quoted: it may be a
/// password that slipped into the wrong line.
pub(super) fn unknown(entry: &Entry<'_>, known: &[&str]) -> Complaint {
    let wrong = |what: String| Complaint::new(entry.at, what);
    match nearest(&entry.key, known) {
        _ if entry.key == "<<" => {
            wrong("merge keys are not supported: put what accounts share under `defaults`".to_owned())
        }
        Some(near) => named(entry, wrong(format!("unknown key; did you mean `{near}`?"))),
        None => named(entry, wrong(format!("unknown key; valid keys are {}", known.join(", ")))),
    }
}

/// Puts an unknown key into the path if it looks like one.
fn named(entry: &Entry<'_>, complaint: Complaint) -> Complaint {
    let is_word = entry.key.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-_.".contains(&octet));
    let looks_like_a_key = is_word && entry.key.len() <= 40;
    if looks_like_a_key { complaint.under(&format!(".{}", entry.key)) } else { complaint }
}

/// Puts the key of an entry in front of a complaint's path, and points to the key if there is no value to point to.
pub(super) fn within(entry: &Entry<'_>, complaint: Complaint) -> Complaint {
    let mut complaint = complaint.under(&format!(".{}", entry.key));
    if entry.value.is_nothing() {
        complaint.at = entry.at;
    }
    complaint
}

/// Gives the only entry of a mapping.
fn only<'n, 't>(node: &'n Node<'t>, what: &str) -> Result<&'n Entry<'t>, Complaint> {
    match node.mapping(what)? {
        [entry] => Ok(entry),
        [] => Err(node.wrong(format!("is empty, must be {what}"))),
        [_, second, ..] => Err(Complaint::new(second.at, format!("one key too many: must be {what}"))),
    }
}

/// Reads every item of a list.
fn each<'n, 't, T>(
    items: &'n [Node<'t>],
    read: impl Fn(&'n Node<'t>) -> Result<T, Complaint>,
) -> Result<Vec<T>, Complaint> {
    let numbered = items.iter().enumerate();
    numbered.map(|(index, item)| read(item).map_err(|wrong| wrong.under(&format!("[{index}]")))).collect()
}

fn mechanism(node: &Node<'_>) -> Result<Mechanism, Complaint> {
    let text = node.text("a mechanism")?;
    if LATER_MECHANISMS.contains(&text) {
        return Err(node.wrong(NOT_YET));
    }
    if text == "auto" {
        return Err(node.wrong("stands alone: write `auth: auto`, without a list"));
    }
    Mechanism::from_name(text).ok_or_else(|| {
        let known = MECHANISMS.iter().map(|row| row.mechanism.name());
        let known: Vec<&str> = known.chain(LATER_MECHANISMS).collect();
        node.wrong(meant(text, &known))
    })
}

/// Reads one `sha256:HEX`; OpenSSL writes a colon between octets, others do not.
fn pin(node: &Node<'_>) -> Result<[u8; 32], Complaint> {
    let what = "sha256: and 64 hexadecimal digits";
    let wrong = || node.wrong(format!("must be {what}"));
    let text = node.text(what)?.to_ascii_lowercase();
    let digits: String = text.strip_prefix("sha256:").ok_or_else(wrong)?.replace(':', "");
    if digits.len() != 64 || !digits.bytes().all(|octet| octet.is_ascii_hexdigit()) {
        return Err(wrong());
    }
    let mut pin = [0; 32];
    for (octet, index) in pin.iter_mut().zip((0..).step_by(2)) {
        *octet = u8::from_str_radix(&digits[index..index + 2], 16).map_err(|_| wrong())?;
    }
    Ok(pin)
}

/// Reads the name of an environment variable.
fn variable(node: &Node<'_>) -> Result<String, Complaint> {
    let what = "the name of an environment variable";
    let name = line(node, what)?;
    if name.contains(['=', '$', ' ']) { Err(node.wrong(format!("must be {what}"))) } else { Ok(name) }
}

/// Reads the name of a systemd credential, which is the name of a file.
fn credential(node: &Node<'_>) -> Result<String, Complaint> {
    let what = "the name of a systemd credential";
    let name = line(node, what)?;
    if name.contains('/') || name == "." || name == ".." {
        return Err(node.wrong(format!("must be {what}, not a path")));
    }
    Ok(name)
}

/// Says which words are valid and which one was probably meant.
fn meant(written: &str, names: &[&str]) -> String {
    match nearest(written, names) {
        Some(near) => format!("must be {}; did you mean `{near}`?", one_of(names)),
        None => format!("must be {}", one_of(names)),
    }
}

/// Writes `a, b or c`.
pub(super) fn one_of(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_or_addresses_and_nothing_else() {
        for (text, host) in [
            ("pop.example.org", "pop.example.org"),
            ("POP.Example.ORG.", "pop.example.org."),
            ("localhost", "localhost"),
            ("_dav.example", "_dav.example"),
            ("192.0.2.1", "192.0.2.1"),
            ("2001:DB8::1", "2001:db8::1"),
            ("[::1]", "::1"),
        ] {
            assert_eq!(host_name(text).as_deref(), Ok(host), "{text}");
        }
        let long = "a".repeat(64);
        for text in [
            "",
            ".",
            "a..b",
            "-a",
            "a b",
            "a/b",
            "pop.example.org:995",
            "pops://a",
            "[::1",
            "bücher.example",
            &long,
        ] {
            assert!(host_name(text).is_err(), "{text}");
        }
    }
}
