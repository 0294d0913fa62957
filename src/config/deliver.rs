//! Where messages go: `deliver` in the file, and `--deliver` on the command line.

use std::collections::HashSet;
use std::path::PathBuf;

use super::gmail::GMAIL;
use super::host::host_and_port;
use super::http::{self, HTTP};
use super::imap::IMAP;
use super::mail_server::{LMTP, SMTP};
use super::oauth2::Credential;
use super::percent::decode;
use super::pipe::{self, PIPE};
use super::places::Places;
use super::rows::{self, Form, Key, braced, key, shown, unknown, variant};
use super::target::{Destination, MailServer, Mailbox, Target};
use super::tree::{self, Complaint, Content, Entry, Node, Position};
use super::url_parts::{TargetScheme, UrlError};
use super::values::{BOOLEAN, HOST, NEW_FILE, PLACE};
use super::yaml::{list, text};

/// The kinds of targets.
pub(super) const KEYS: &[Key<Target>] = &[
    variant!("maildir", Target::Maildir, PLACE, "A maildir, made if it is missing."),
    variant!("mbox", Target::Mbox, NEW_FILE, "An mbox, made if it is missing."),
    variant!("pipe", Target::Pipe, PIPE, "A command that takes each message on its standard input."),
    variant!("smtp", Target::Smtp, SMTP, "A server that speaks SMTP."),
    variant!("lmtp", Target::Lmtp, LMTP, "A server that speaks LMTP."),
    variant!("imap", Target::Imap, IMAP, "A mailbox on a server that speaks IMAP."),
    variant!("gmail", Target::Gmail, GMAIL, "A user's Gmail, by its API."),
    variant!("http", Target::Http, HTTP, "An endpoint that takes each message as the body of a request."),
];

/// The keys beside the kind.
pub(super) const BESIDE: &[Key<Destination>] = &[
    key!("name", name, TARGET_NAME, "A name, under which it is noted who has a message."),
    key!("shared", shared, SHARED, "Whether all workers of a fleet see the same maildir, mbox or command."),
];

/// One target, or a list of them.
pub(super) const TARGETS: Form<Vec<Destination>> = Form::new(
    |node, places| match &node.content {
        Content::List(items) if items.is_empty() => Err(node.wrong(format!("is empty, must be {WHAT}"))),
        Content::List(items) => {
            let of = |(at, item)| {
                configured(item, places).map_err(|complaint| complaint.under(&format!("[{at}]")))
            };
            items.iter().enumerate().map(of).collect()
        }
        _ => configured(node, places).map(|target| vec![target]),
    },
    |targets| match &targets[..] {
        [] => String::new(),
        [target] => show(target),
        targets => list(targets.iter().map(show)),
    },
);

pub(super) const TARGET: Form<Destination> = Form::new(configured, show);

const TARGET_NAME: Form<String> = Form { read: |node, _| target_name(node), ..HOST };

const SHARED: Form<bool> =
    Form { show: |shared| if *shared { "true".to_owned() } else { String::new() }, ..BOOLEAN };

const WHAT: &str = "a target such as { maildir: ~/Mail }";

fn configured(node: &Node<'_>, places: &Places) -> Result<Destination, Complaint> {
    let (mut kind, mut to) = (None, Destination::from(Target::Maildir(PathBuf::new())));
    for entry in node.mapping(WHAT)? {
        match rows::read(entry, places, BESIDE, &mut to) {
            Ok(()) => continue,
            Err(Some(complaint)) => return Err(complaint),
            Err(None) if kind.replace(entry).is_none() => {}
            Err(None) => return Err(Complaint::new(entry.at, format!("one key too many: must be {WHAT}"))),
        }
    }
    let Some(entry) = kind else { return Err(node.wrong(format!("is empty, must be {WHAT}"))) };
    let read = rows::read(entry, places, KEYS, &mut to.target);
    read.map_err(|complaint| complaint.unwrap_or_else(|| unknown(entry, KEYS)))?;
    Ok(to)
}

fn show(to: &Destination) -> String {
    braced(shown(BESIDE, to).chain(shown(KEYS, &to.target)))
}

/// Reads what can be told from kind and place, which have a colon.
fn target_name(node: &Node<'_>) -> Result<String, Complaint> {
    let text = node.text("a name such as archive")?;
    name(text).map_err(|what| node.wrong(what))?;
    Ok(text.to_owned())
}

/// Says what is wrong with a name.
pub(super) fn name(text: &str) -> Result<(), &'static str> {
    let is_sound = |octet: u8| octet.is_ascii_alphanumeric() || b"-_.".contains(&octet);
    match text.len() {
        1..=64 if text.bytes().all(is_sound) => Ok(()),
        _ => Err("must be up to 64 letters, digits and -_."),
    }
}

/// Reads one target or several.
pub(super) fn targets(deliver: &[impl AsRef<str>], places: &Places) -> Result<Vec<Destination>, UrlError> {
    let targets: Result<Vec<Destination>, _> =
        deliver.iter().map(|deliver| target(deliver.as_ref(), places).map(Destination::from)).collect();
    let targets = targets?;
    let mut keys = HashSet::new();
    if targets.iter().all(|to| keys.insert(to.key())) { Ok(targets) } else { Err(UrlError::Twice) }
}

/// Reads targets of the command line and writes them as they may stand in the file; a path keeps its `~`.
///
/// # Errors
///
/// A target that is none, or with a secret in it.
pub(super) fn as_yaml(deliver: &[impl AsRef<str>], places: &Places) -> Result<String, UrlError> {
    let read = targets(deliver, places)?;
    let asks = |to: &Destination| {
        to.target.login().is_some_and(|(_, login)| login.credential == Credential::Nothing)
    };
    if read.iter().any(|to| asks(to) && !to.target.needs_no_password()) {
        let what =
            "password: a file asks nobody; say where it comes from, by password_file=PATH and the like";
        return Err(UrlError::TargetKey(what.into()));
    }
    let each = deliver.iter().zip(&read).map(|(given, to)| match given.as_ref().split_once(':') {
        Some((kind @ ("maildir" | "mbox"), place)) if place.starts_with(['~', '$']) => {
            let plain = place.strip_prefix('~').filter(|rest| rest.starts_with('/') && text(rest) == *rest);
            let place = plain.map_or_else(|| text(place), |rest| format!("~{rest}"));
            format!("{{ {kind}: {place} }}")
        }
        _ => show(to),
    });
    let each: Vec<_> = each.collect();
    let yaml = if each.len() == 1 { each.concat() } else { list(each) };
    // A secret is not shown: read again, it is another target.
    let again = tree::parse(&yaml).ok().flatten().and_then(|node| (TARGETS.read)(&node, places).ok());
    match again {
        Some(again) if again == read => Ok(yaml),
        _ => Err(UrlError::TargetCommand("has a secret in it; write it into the configuration".into())),
    }
}

/// Reads `maildir:PATH` and the like; a relative path is relative to the working directory, as on any command line.
///
/// Mail servers are `smtp://HOST:PORT?to=ADDRESS`, the same with `smtps:` (TLS at once) or `lmtp:`, or
/// `lmtp:SOCKET?to=ADDRESS`; behind the `?` stand, joined by `&`, keys and values of the configuration file. The URL of an
/// endpoint is the endpoint's as it is.
fn target(deliver: &str, places: &Places) -> Result<Target, UrlError> {
    let (scheme, place) = deliver.split_once(':').ok_or(UrlError::Target)?;
    let path = || {
        let path = places.expand(place).map_err(UrlError::TargetPath)?;
        std::path::absolute(path).map_err(|_| UrlError::WorkingDirectory)
    };
    match TargetScheme::named(scheme).ok_or(UrlError::Target)? {
        TargetScheme::Maildir => path().map(Target::Maildir),
        TargetScheme::Mbox => path().map(Target::Mbox),
        TargetScheme::Pipe if place.trim().is_empty() => Err(UrlError::TargetCommand("is empty".into())),
        TargetScheme::Pipe => {
            let pipe = pipe::of_shell(place).map_err(UrlError::TargetCommand)?;
            Ok(Target::Pipe(Box::new(pipe)))
        }
        TargetScheme::Smtp => server(place, &[], SMTP, places).map(Target::Smtp),
        TargetScheme::Smtps => server(place, &[("tls", "implicit")], SMTP, places).map(Target::Smtp),
        TargetScheme::Lmtp => server(place, &[], LMTP, places).map(Target::Lmtp),
        TargetScheme::Https | TargetScheme::Http => {
            let receiver = http::of_url(deliver).map_err(UrlError::TargetUrl)?;
            Ok(Target::Http(Box::new(receiver)))
        }
        TargetScheme::Imap => mailbox(place, "starttls", places).map(Target::Imap),
        TargetScheme::Imaps => mailbox(place, "implicit", places).map(Target::Imap),
    }
}

/// Reads what stands behind `smtp:` as the mapping that it would be in the file.
fn server(
    place: &str,
    given: &[(&str, &str)],
    form: Form<MailServer>,
    places: &Places,
) -> Result<Box<MailServer>, UrlError> {
    let (place, query) = place.split_once('?').unwrap_or((place, ""));
    let mut entries: Vec<_> = given.iter().map(|(key, value)| entry(key, plain(value))).collect();
    // `lmtp:/path` and `lmtp:///path`; what stands behind two slashes is a host.
    let host = match place.strip_prefix("//") {
        Some(host) if !host.starts_with('/') => Some(host),
        Some(_) => None,
        None => Some(place).filter(|place| !place.starts_with(['/', '~', '$'])),
    };
    match host {
        Some(host) if host.contains('@') => return Err(UrlError::TargetLogin),
        Some(host) => {
            let (host, port) = host_and_port(host.strip_suffix('/').unwrap_or(host))?;
            if !host.is_empty() {
                entries.push(entry("host", plain(host)));
            }
            entries.extend(port.map(|port| entry("port", plain(&port.to_string()))));
        }
        None => {
            let path = decode(place.strip_prefix("//").unwrap_or(place)).ok_or(UrlError::Encoding)?;
            entries.push(entry("socket", plain(&path)));
        }
    }
    let mut to = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').ok_or(UrlError::TargetQuery)?;
        let (key, value) = (decode(key).ok_or(UrlError::Encoding)?, decode(value).ok_or(UrlError::Encoding)?);
        match &*key {
            "to" => to.extend(value.split(',').map(plain)),
            "user" | "password" => return Err(UrlError::TargetLogin),
            _ if entries.iter().any(|entry| entry.key == key) => {
                return Err(UrlError::TargetKey(format!("{key} is given twice")));
            }
            _ => entries.push(entry(&key, plain(&value))),
        }
    }
    if !to.is_empty() {
        entries.push(entry("to", content(Content::List(to))));
    }
    let read = (form.read)(&content(Content::Mapping(entries)), places);
    read.map(Box::new).map_err(|complaint| UrlError::TargetKey(words(&complaint)))
}

/// Reads what stands behind `imaps:` as the mapping that it would be in the file. The password is asked for, if no key says
/// where it comes from; it never stands there itself.
fn mailbox(place: &str, tls: &str, places: &Places) -> Result<Box<Mailbox>, UrlError> {
    let (place, query) = place.split_once('?').unwrap_or((place, ""));
    let (server, folder) =
        place.trim_start_matches('/').split_once('/').unwrap_or((place.trim_start_matches('/'), ""));
    let Some((user, host)) = server.rsplit_once('@') else { return Err(UrlError::NoTargetUser) };
    if user.contains(':') {
        return Err(UrlError::Password);
    }
    let (host, port) = host_and_port(host)?;
    let decoded = |text: &str| decode(text).ok_or(UrlError::Encoding);
    let mut entries =
        vec![entry("user", plain(&decoded(user)?)), entry("host", plain(host)), entry("tls", plain(tls))];
    entries.extend(port.map(|port| entry("port", plain(&port.to_string()))));
    if !folder.is_empty() {
        entries.push(entry("folder", plain(&decoded(folder)?)));
    }
    let mut is_asked_for = true;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').ok_or(UrlError::TargetQuery)?;
        let (key, value) = (decoded(key)?, decoded(value)?);
        match key.strip_prefix("password_") {
            Some(source) => {
                let source = content(Content::Mapping(vec![entry(source, plain(&value))]));
                entries.push(entry("password", source));
                is_asked_for = false;
            }
            None if key == "password" => return Err(UrlError::Password),
            // The scheme says it but for none.
            None if key == "tls" && value == "none" => {
                entries.retain(|entry| entry.key != "tls");
                entries.push(entry("tls", plain("none")));
            }
            None if entries.iter().any(|entry| entry.key == *key) => {
                return Err(UrlError::TargetKey(format!("{key} is given twice")));
            }
            None if key == "flags" => {
                let flags = value.split(',').map(plain).collect();
                entries.push(entry("flags", content(Content::List(flags))));
            }
            None => entries.push(entry(&key, plain(&value))),
        }
    }
    if is_asked_for {
        entries.push(entry("password", plain("asked for")));
    }
    let read = (IMAP.read)(&content(Content::Mapping(entries)), places);
    let mut mailbox = read.map_err(|complaint| UrlError::TargetKey(words(&complaint)))?;
    if is_asked_for {
        mailbox.login.credential = Credential::Nothing;
    }
    Ok(Box::new(mailbox))
}

/// Says what is wrong, without a place in a file.
fn words(complaint: &Complaint) -> String {
    let key = complaint.below.trim_start_matches('.');
    if key.is_empty() { complaint.what.clone() } else { format!("{key}: {}", complaint.what) }
}

const NOWHERE: Position = Position { line: 1, column: 1 };

fn content(content: Content<'static>) -> Node<'static> {
    Node { at: NOWHERE, content }
}

fn plain(text: &str) -> Node<'static> {
    content(Content::Plain(text.to_owned().into()))
}

fn entry(key: &str, value: Node<'static>) -> Entry<'static> {
    Entry { key: key.to_owned().into(), at: NOWHERE, value, before: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn read(deliver: &str) -> Result<Target, UrlError> {
        target(deliver, &Places { home: Some("/home/alice".into()), ..Places::default() })
    }

    #[test]
    fn a_mail_server_on_the_command_line_is_the_configured_one() {
        for (deliver, configured) in [
            ("smtp://mx.example:2525?to=a@b", "smtp: { host: mx.example, port: 2525, to: [a@b] }"),
            ("smtp:MX.example?to=a@b&to=c@d,e@f", "smtp: { host: mx.example, to: [a@b, c@d, e@f] }"),
            ("smtp:?to=a", "smtp: { to: [a] }"),
            (
                "smtp://[::1]:26/?to=a%2Bb@c&from=x@y",
                "smtp: { host: '::1', port: 26, to: [a+b@c], from: x@y }",
            ),
            ("smtps://mx?to=a+b@c", "smtp: { host: mx, tls: implicit, to: [a+b@c] }"),
            (
                "smtp://mx:587?to=a&tls=starttls&tls_ca=/ca.pem&tls_min=1.3&timeout=90s&bind=::1",
                "smtp: { host: mx, port: 587, to: [a], tls: starttls, tls_ca: /ca.pem, tls_min: '1.3', timeout: 90s, \
                 bind: '::1' }",
            ),
            ("lmtp:/run/dovecot/lmtp?to=alice", "lmtp: { socket: /run/dovecot/lmtp, to: [alice] }"),
            ("lmtp:///run/d%20x?to=alice", "lmtp: { socket: '/run/d x', to: [alice] }"),
            ("lmtp:~/lmtp?to=alice", "lmtp: { socket: /home/alice/lmtp, to: [alice] }"),
            ("lmtp://localhost?to=alice", "lmtp: { host: localhost, to: [alice] }"),
        ] {
            let yaml = format!("accounts: {{a: {{host: h, user: u, deliver: {{{configured}}}}}}}\nstate: /s");
            let config = Config::from_yaml(&yaml, std::path::Path::new("f")).unwrap();
            assert_eq!(read(deliver).as_ref(), Ok(&config.accounts[0].deliver[0].target), "{deliver}");
        }
    }

    #[test]
    fn targets_of_the_command_line_are_written_as_the_file_has_them() {
        let places = Places { home: Some("/home/alice".into()), ..Places::default() };
        let written = |deliver: &[&str]| as_yaml(deliver, &places);
        assert_eq!(written(&["maildir:~/Mail"]).unwrap(), "{ maildir: ~/Mail }");
        assert_eq!(written(&["maildir:~/My Mail"]).unwrap(), "{ maildir: '~/My Mail' }");
        assert_eq!(written(&["mbox:/var/mail/a"]).unwrap(), "{ mbox: /var/mail/a }");
        let both = written(&["maildir:$HOME/M", "smtp://mx?to=a@b"]).unwrap();
        assert!(both.starts_with("[{ maildir: '$HOME/M' }, { smtp: { host: mx, "), "{both}");
        let yaml = format!("accounts: {{a: {{host: h, user: u, deliver: {both}}}}}\nstate: /s");
        assert_eq!(Config::from_yaml(&yaml, std::path::Path::new("f")).unwrap().accounts[0].deliver.len(), 2);
        assert_eq!(written(&["maildir:/a [secret]"]).unwrap(), "{ maildir: '/a [secret]' }");
        for secret in [
            "pipe:TOKEN=hunter2 deliver",
            "https://h/?key=hunter2",
            "smtp://mx?to=a@b&proxy=socks5://u:hunter2@p",
            "imaps://u@h?password_command=A=hunter2 get",
        ] {
            assert!(matches!(written(&[secret]), Err(UrlError::TargetCommand(_))), "{secret}");
        }
        assert_eq!(written(&["nowhere"]), Err(UrlError::Target));
        for scheme in ["pipe:", "imap://", "imaps://", "https://", "http://"] {
            assert!(UrlError::Target.to_string().contains(scheme), "{scheme}");
        }
        assert!(matches!(written(&["imaps://u@h"]), Err(UrlError::TargetKey(_))));
        assert!(written(&["imaps://u@h?password_file=/p"]).unwrap().contains("password: { file: /p }"));
        for plain in
            ["pipe:deliver \"$A\"", "lmtp:/run/lmtp?to=a", "smtps://mx?to=a,b&from=x@y", "https://h/in"]
        {
            assert!(written(&[plain]).is_ok(), "{plain}");
        }
    }

    #[test]
    fn a_mailbox_on_the_command_line_is_the_configured_one() {
        for (deliver, configured) in [
            (
                "imaps://alice@IMAP.example/Lists/Gr%C3%BCn?password_file=/p",
                "imap: { host: imap.example, user: alice, password: { file: /p }, folder: Lists/Grün }",
            ),
            (
                "imap://a%2Fb@c@h:144?password_env=P&flags=\\Seen,work&date=now&create=false",
                "imap: { host: h, port: 144, tls: starttls, user: a/b@c, password: { env: P }, flags: ['\\Seen', work], \
                 date: now, create: false }",
            ),
            (
                "imap://u@127.0.0.1/?tls=none&password_command=pass x",
                "imap: { host: 127.0.0.1, tls: none, user: u, password: { command: pass x } }",
            ),
        ] {
            let yaml = format!("accounts: {{a: {{host: h, user: u, deliver: {{{configured}}}}}}}\nstate: /s");
            let config = Config::from_yaml(&yaml, std::path::Path::new("f")).unwrap();
            assert_eq!(read(deliver).as_ref(), Ok(&config.accounts[0].deliver[0].target), "{deliver}");
        }
        let Ok(Target::Imap(mailbox)) = read("imaps://u@h") else { panic!("it is a mailbox") };
        assert_eq!((mailbox.login.credential, &*mailbox.folder), (Credential::Nothing, "INBOX"));
    }

    #[test]
    fn what_is_wrong_with_a_mail_server_is_said_by_its_key() {
        let key = |text: &str| UrlError::TargetKey(text.to_owned());
        for (deliver, error) in [
            ("smtp://mx", key("`to` is missing: the recipients' addresses")),
            ("lmtp:?to=a", key("needs `socket` or `host`")),
            (
                "smtp://mx?to=a b",
                key("to[0]: must be an address, without angle brackets, blanks or control characters"),
            ),
            (
                "smtp://mx?to=a&tls=startls",
                key("tls: must be implicit, starttls or none; did you mean `starttls`?"),
            ),
            ("smtps://mx?to=a&tls=none", key("tls is given twice")),
            ("lmtp:/s?to=a&bind=::1", key("bind: has no meaning with `socket`: remove it, or change that")),
            ("smtp://alice@mx?to=a", UrlError::TargetLogin),
            ("smtp://mx?to=a&user=alice", UrlError::TargetLogin),
            ("smtp://mx:0?to=a", UrlError::Port),
            ("smtp://mx?to", UrlError::TargetQuery),
            ("smtp://mx?to=%4", UrlError::Encoding),
            ("imap://mx/INBOX", UrlError::NoTargetUser),
            ("imaps://u:secret@mx", UrlError::Password),
            ("imaps://u@mx?password=secret", UrlError::Password),
            (
                "imaps://u@mx/a//b",
                key(
                    "folder: must be the name of a folder such as INBOX or Lists/rust: no *, no %, and a slash only between parts",
                ),
            ),
            ("nntp://mx?to=a", UrlError::Target),
        ] {
            assert_eq!(read(deliver), Err(error), "{deliver}");
        }
        let unknown = read("smtp://mx?to=a&tsl=none").unwrap_err().to_string();
        assert!(unknown.contains("tsl: unknown key; did you mean `tls`?"), "{unknown}");
    }
}
