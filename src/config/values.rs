//! The values of the keys: each checked by itself, turned into the type that cannot be wrong, and written again.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::account::{CommandLine, FirstSync, Interval, Keep, Password, TlsMode, TlsVersion};
use super::command_line::{masked, masked_words};
use super::host::host_name;
use super::http_url::HttpUrl;
use super::places::Places;
use super::proxy::Proxy;
use super::rows::{self, Form, Key, Kind, inline, only, unknown, variant};
use super::suggest::nearest;
use super::tls;
use super::tree::{Complaint, Content, Node};
use super::units::{self, show_duration, show_size};
use super::yaml::{list, text};
use crate::sasl::{Auth, MECHANISMS, Mechanism};
use crate::secret::Secret;

pub(super) const TLS_MODES: [(&str, TlsMode); 3] =
    [("implicit", TlsMode::Implicit), ("starttls", TlsMode::StartTls), ("none", TlsMode::None)];
pub(super) const TLS_VERSIONS: [(&str, TlsVersion); 2] =
    [("1.2", TlsVersion::Tls12), ("1.3", TlsVersion::Tls13)];

pub(super) const HOST: Form<String> = Form::new(|node, _| host(node), |host| text(host));
/// The mailbox name: any text that fits into one line of the protocol.
pub(super) const USER: Form<String> =
    Form { kind: Kind::Text, read: |node, _| line(node, "a mailbox name"), ..HOST };
pub(super) const LOCAL_USER: Form<String> =
    Form { kind: Kind::LocalUser, read: |node, _| line(node, "a user of this system"), ..HOST };
pub(super) const MAILDROP: Form<String> =
    Form { read: |node, _| line(node, "a text such as user@host"), ..HOST };
const VARIABLE: Form<String> = Form { read: |node, _| variable(node), ..HOST };
const CREDENTIAL: Form<String> = Form { read: |node, _| credential(node), ..HOST };
pub(super) const PORT: Form<u16> = Form::new(|node, _| port(node), u16::to_string);
pub(super) const ADDRESS: Form<IpAddr> =
    Form::new(|node, _| address(node), |address| text(&address.to_string()));
pub(super) const URL: Form<HttpUrl> = Form::new(
    |node, _| HttpUrl::parse(node.text("a URL that begins with https://")?).map_err(|what| node.wrong(what)),
    |url| (HOST.show)(&url.to_string()),
);
/// A proxy's URL; its password is masked where it is shown.
pub(super) const PROXY: Form<Proxy> = Form::new(
    |node, _| Proxy::parse(node.text("the URL of a proxy")?).map_err(|what| node.wrong(what)),
    |proxy| text(&proxy.to_string()),
);
/// What is made, with all that leads to it.
pub(super) const PLACE: Form<PathBuf> = Form::new(path, |path| text(&path.to_string_lossy()));
pub(super) const FILE: Form<PathBuf> = Form { kind: Kind::File, ..PLACE };
pub(super) const NEW_FILE: Form<PathBuf> = Form { kind: Kind::NewFile, ..PLACE };
pub(super) const CERTIFICATES: Form<PathBuf> = Form { kind: Kind::Pem("CERTIFICATE"), ..PLACE };
pub(super) const PRIVATE_KEY: Form<PathBuf> = Form { kind: Kind::Pem("PRIVATE KEY"), ..PLACE };
pub(super) const BOOLEAN: Form<bool> = Form::new(|node, _| boolean(node), bool::to_string);
/// A duration that may be nothing.
pub(super) const DURATION: Form<Duration> =
    Form::new(|node, _| duration(node), |duration| show_duration(*duration));
/// A duration that is not nothing.
pub(super) const POSITIVE: Form<Duration> = Form { read: |node, _| positive(node), ..DURATION };
pub(super) const INTERVAL: Form<Interval> = Form::new(
    |node, _| interval(node),
    |interval| match interval {
        Interval::Every(interval) => show_duration(*interval),
        Interval::Manual => "manual".to_owned(),
    },
);
pub(super) const KEEP: Form<Keep> = Form::new(
    |node, _| keep(node),
    |keep| match keep {
        Keep::Forever => "forever".to_owned(),
        Keep::None => "none".to_owned(),
        Keep::For(duration) => show_duration(*duration),
    },
);
pub(super) const FIRST_SYNC: Form<FirstSync> =
    Form::new(|node, _| first_sync(node), |first| first.to_string());
pub(super) const SIZE: Form<Option<u64>> =
    Form::new(|node, _| size_or_none(node), |size| size.map_or_else(none, show_size));
pub(super) const MOST_MESSAGES: Form<Option<usize>> =
    Form::new(|node, _| count_or_none(node), |most| most.map_or_else(none, |most| most.to_string()));
/// One fingerprint or a list; none is not written.
pub(super) const PINS: Form<Vec<[u8; 32]>> = Form::new(
    |node, _| pins(node),
    |pins| if pins.is_empty() { String::new() } else { list(pins.iter().map(tls::pin)) },
);
pub(super) const AUTH: Form<Auth> = Form::new(
    |node, _| auth(node),
    |auth| match auth {
        Auth::Auto => "auto".to_owned(),
        Auth::List(mechanisms) => list(mechanisms.iter().map(|each| each.name().to_owned())),
    },
);
pub(super) const COMMAND: Form<CommandLine> = Form {
    kind: Kind::Command,
    read: |node, _| command(node),
    show: |line| match line {
        CommandLine::Shell(shell) => text(&masked(shell)),
        CommandLine::Argv(argv) => list(masked_words(argv).iter().map(|word| text(word))),
    },
};
pub(super) const PASSWORD: Form<Password> = Form {
    kind: Kind::Text,
    read: password,
    show: |password| match password {
        Password::Literal(secret) => format!("'{secret}'"),
        source => inline(SOURCES, source),
    },
};

/// Where a password may come from.
pub(super) const SOURCES: &[Key<Password>] = &[
    variant!("command", Password::Command, COMMAND, "A command that prints it."),
    variant!("file", Password::File, FILE, "A file that holds it."),
    variant!("env", Password::Env, VARIABLE, "An environment variable that holds it."),
    variant!("credential", Password::Credential, CREDENTIAL, "A credential that systemd passes."),
    variant!("netrc", Password::Netrc, FILE, "A netrc file's entry for host and user."),
];

const FIRST_SYNCS: [(&str, FirstSync); 2] = [("all", FirstSync::All), ("none", FirstSync::None)];
const KEEPS: [(&str, Keep); 2] = [("forever", Keep::Forever), ("none", Keep::None)];

/// Makes the form of a value that is one of some words: a list of pairs of word and value.
macro_rules! choice {
    ($choices:expr) => {
        Form::new(
            |node, _| super::values::chosen(node, &$choices),
            |value| super::values::name_of(&$choices, value).to_owned(),
        )
    };
}

/// Makes the form of a value that is the name of a row of a table.
macro_rules! row_of {
    ($rows:expr) => {
        Form::new(
            |node, _| {
                let names = $rows.iter().map(|row| (row.name, row)).collect::<Vec<_>>();
                super::values::chosen(node, &names)
            },
            |row| row.name.to_owned(),
        )
    };
}

pub(super) use {choice, row_of};

/// Gives the name of a value that a list of choices has.
pub(super) fn name_of<T: PartialEq>(choices: &[(&'static str, T)], value: &T) -> &'static str {
    choices.iter().find(|(_, known)| known == value).map_or("", |(name, _)| name)
}

/// Reads one of some words.
pub(super) fn chosen<T: Copy>(node: &Node<'_>, choices: &[(&str, T)]) -> Result<T, Complaint> {
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

fn port(node: &Node<'_>) -> Result<u16, Complaint> {
    let wrong = || node.wrong("must be a number from 1 to 65535");
    count(node, usize::from(u16::MAX)).ok().and_then(|port| u16::try_from(port).ok()).ok_or_else(wrong)
}

fn count_or_none(node: &Node<'_>) -> Result<Option<usize>, Complaint> {
    match &node.content {
        Content::Plain(text) if text == "none" => Ok(None),
        Content::Plain(_) | Content::Quoted(_) | Content::List(_) | Content::Mapping(_) => {
            count(node, u32::MAX as usize)
                .map(Some)
                .map_err(|_| node.wrong("must be none or a number above 0"))
        }
    }
}

fn size_or_none(node: &Node<'_>) -> Result<Option<u64>, Complaint> {
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

fn duration(node: &Node<'_>) -> Result<Duration, Complaint> {
    let text = node.text("a duration such as 30s, 5m, 2h or 14d")?;
    units::duration(text).map_err(|error| node.wrong(error.to_string()))
}

fn positive(node: &Node<'_>) -> Result<Duration, Complaint> {
    match duration(node)? {
        Duration::ZERO => Err(node.wrong("must be above 0s")),
        duration => Ok(duration),
    }
}

fn interval(node: &Node<'_>) -> Result<Interval, Complaint> {
    match node.text("manual or a duration such as 5m")? {
        "manual" => Ok(Interval::Manual),
        _ => positive(node).map(Interval::Every),
    }
}

fn keep(node: &Node<'_>) -> Result<Keep, Complaint> {
    choice_or_duration(node, KEEPS, Keep::For, "`none` deletes a message as soon as it is delivered")
}

fn first_sync(node: &Node<'_>) -> Result<FirstSync, Complaint> {
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
fn line(node: &Node<'_>, what: &str) -> Result<String, Complaint> {
    let text = node.text(what)?;
    if text.is_empty() {
        return Err(node.wrong(format!("is empty, must be {what}")));
    }
    if text.contains(char::is_control) {
        return Err(node.wrong(format!("must be {what} without control characters")));
    }
    Ok(text.to_owned())
}

fn host(node: &Node<'_>) -> Result<String, Complaint> {
    host_name(node.text("a host name or address")?).map_err(|what| node.wrong(what))
}

fn address(node: &Node<'_>) -> Result<IpAddr, Complaint> {
    let what = "an IP address of this machine";
    node.text(what)?.parse().map_err(|_| node.wrong(format!("must be {what}")))
}

fn path(node: &Node<'_>, places: &Places) -> Result<PathBuf, Complaint> {
    places.absolute(node.text("a path")?).map_err(|what| node.wrong(what))
}

fn pins(node: &Node<'_>) -> Result<Vec<[u8; 32]>, Complaint> {
    match &node.content {
        Content::List(items) if items.is_empty() => Err(node.wrong("is an empty list")),
        Content::List(items) => each(items, pin),
        Content::Plain(_) | Content::Quoted(_) | Content::Mapping(_) => Ok(vec![pin(node)?]),
    }
}

fn auth(node: &Node<'_>) -> Result<Auth, Complaint> {
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
    let what = "a command for the shell, or a list of program and arguments";
    node.text(what)?;
    let shell = sound(node)?;
    if shell.trim().is_empty() {
        return Err(node.wrong(format!("is empty, must be {what}")));
    }
    Ok(CommandLine::Shell(shell))
}

fn password(node: &Node<'_>, places: &Places) -> Result<Password, Complaint> {
    let what = "a password, or a mapping with one of `command`, `file`, `env`, `credential`, `netrc`";
    if let Content::Plain(_) | Content::Quoted(_) = &node.content {
        return match node.text(what)? {
            "" => Err(node.wrong(format!("is empty, must be {what}"))),
            literal => Ok(Password::Literal(Secret::new(literal))),
        };
    }
    let entry = only(node, what)?;
    let mut source = Password::Env(String::new());
    match rows::read(entry, places, SOURCES, &mut source) {
        Ok(()) => Ok(source),
        Err(Some(complaint)) => Err(complaint),
        Err(None) => {
            let mut complaint = unknown(entry, SOURCES);
            // What looks like no known key may be the password.
            if nearest(&entry.key, &rows::names(SOURCES)).is_none() {
                complaint.below = String::new();
            }
            Err(complaint)
        }
    }
}

pub(super) fn each<'n, 't, T>(
    items: &'n [Node<'t>],
    read: impl Fn(&'n Node<'t>) -> Result<T, Complaint>,
) -> Result<Vec<T>, Complaint> {
    let numbered = items.iter().enumerate();
    numbered.map(|(index, item)| read(item).map_err(|wrong| wrong.under(&format!("[{index}]")))).collect()
}

fn mechanism(node: &Node<'_>) -> Result<Mechanism, Complaint> {
    let text = node.text("a mechanism")?;
    if text == "auto" {
        return Err(node.wrong("stands alone: write `auth: auto`, without a list"));
    }
    Mechanism::from_name(text).ok_or_else(|| {
        let known: Vec<&str> = MECHANISMS.iter().map(|row| row.mechanism.name()).collect();
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

fn none() -> String {
    "none".to_owned()
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
