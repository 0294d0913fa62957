//! What a server says, one response at a time.

use std::fmt;

use imap_codec::ResponseCodec;
use imap_codec::decode::Decoder;
use imap_codec::imap_types::core::QuotedChar;
use imap_codec::imap_types::mailbox::Mailbox as Named;
use imap_codec::imap_types::response::{Data as Decoded, Response};

use super::command::Request;
use super::fetch::Fetched;
use super::name::Mailbox;
use crate::text::Shown;

/// What a server says. `T` is where the octets of a streamed literal are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event<T> {
    /// It greets, or turns us away.
    Greeting(Status),
    /// It has done what was asked for, or says why not; with the number in the tag ([`super::Client::tag`]).
    Done(u64, Request, Status),
    /// It wants the rest of a command: its words, in a SASL exchange a challenge in base64.
    Continue(Vec<u8>),
    /// Data, or a word that nobody asked for.
    Data(Data),
    /// Octets of a large literal. The response that they belong to follows, and says there that the literal is empty.
    Octets(T),
}

/// A status response: `OK [UIDNEXT 5] text`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Whether it is a yes.
    pub kind: Kind,
    /// What stands in brackets, if anything does.
    code: Option<String>,
    /// What it says to people.
    text: String,
}

/// What a status response begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Ok,
    No,
    /// The command was not understood.
    Bad,
    /// The server ends the session.
    Bye,
    /// The session begins logged in.
    PreAuth,
}

/// Data of which nobody can say beforehand when it comes (RFC 9051, 7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// A word on the session; after BYE it is over.
    Status(Status),
    /// What the server can do, in capitals.
    Capability(Vec<String>),
    /// The hierarchy's separator, as LIST tells it; `None` where there is no hierarchy.
    Separator(Option<char>),
    /// The mailbox that shows the messages of all others (RFC 6154, 2: `\\All`).
    All(Mailbox),
    /// The prefix and the separator of the first personal namespace, if there is one.
    Namespace(Option<(String, Option<char>)>),
    /// What a mailbox is at.
    Mailbox {
        /// UIDVALIDITY.
        validity: Option<u32>,
        /// UIDNEXT.
        next: Option<u32>,
    },
    /// Octets of a message that a mailbox takes at most.
    AppendLimit(u64),
    /// A message, as far as it was asked for.
    Fetched(Fetched),
    /// Something that means nothing here.
    Other,
}

impl Status {
    /// Reads what stands behind tag or asterisk; `None` if it is no status response.
    pub(super) fn read(line: &[u8]) -> Option<Self> {
        let end = line.iter().position(|octet| *octet == b' ').unwrap_or(line.len());
        let kind = match &line[..end].to_ascii_uppercase()[..] {
            b"OK" => Kind::Ok,
            b"NO" => Kind::No,
            b"BAD" => Kind::Bad,
            b"BYE" => Kind::Bye,
            b"PREAUTH" => Kind::PreAuth,
            _ => return None,
        };
        let rest = line[end..].trim_ascii();
        let bracketed = rest.strip_prefix(b"[").and_then(|rest| {
            let end = memchr::memchr(b']', rest)?;
            Some((&rest[..end], rest[end + 1..].trim_ascii_start()))
        });
        let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
        Some(match bracketed {
            Some((code, rest)) => Self { kind, code: Some(text(code)), text: text(rest) },
            None => Self { kind, code: None, text: text(rest) },
        })
    }

    /// Says whether it is a yes.
    pub fn is_ok(&self) -> bool {
        matches!(self.kind, Kind::Ok | Kind::PreAuth)
    }

    /// Gives the name of the response code, in capitals.
    pub fn code(&self) -> Option<String> {
        self.code.as_ref()?.split_ascii_whitespace().next().map(str::to_ascii_uppercase)
    }

    /// Gives the number that the response code tells under this name, in capitals: `[UIDNEXT 5]`.
    pub fn number(&self, name: &str) -> Option<u32> {
        let mut words = self.code.as_ref()?.split_ascii_whitespace();
        words.next().filter(|word| word.eq_ignore_ascii_case(name)).and(words.next())?.parse().ok()
    }

    /// Gives the capabilities, if the response code tells them.
    pub fn capabilities(&self) -> Option<Vec<String>> {
        let code = self.code.as_ref()?;
        code.get(..11)
            .is_some_and(|name| name.eq_ignore_ascii_case("CAPABILITY "))
            .then(|| words(&code[11..]))
    }
}

/// Shows what the server said, in one line: `NO [OVERQUOTA] full`.
impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            Kind::Ok => "OK",
            Kind::No => "NO",
            Kind::Bad => "BAD",
            Kind::Bye => "BYE",
            Kind::PreAuth => "PREAUTH",
        })?;
        if let Some(code) = &self.code {
            write!(f, " [{}]", Shown(code.as_bytes()))?;
        }
        if self.text.is_empty() { Ok(()) } else { write!(f, " {}", Shown(self.text.as_bytes())) }
    }
}

/// Says whether an untagged response may have literals in it: one that is for people may end as if it had.
pub(super) fn may_have_literals(line: &[u8]) -> bool {
    line.strip_prefix(b"* ").is_some_and(|rest| Status::read(rest).is_none())
}

impl Data {
    /// Reads an untagged response but FETCH, CRLF included; one that cannot be read means nothing.
    pub(super) fn read(octets: &[u8]) -> Self {
        let rest = octets.get(2..).unwrap_or_default().trim_ascii_end();
        if let Some(status) = Status::read(rest) {
            return Self::Status(status);
        }
        let first = rest.split(|octet| *octet == b' ').next().unwrap_or_default();
        if first.eq_ignore_ascii_case(b"CAPABILITY") {
            return Self::Capability(self::words(&String::from_utf8_lossy(&rest[first.len()..])));
        }
        if first.eq_ignore_ascii_case(b"STATUS") {
            return match (Self::mailbox(rest), append_limit(rest)) {
                (Self::Other, Some(limit)) => Self::AppendLimit(limit),
                (mailbox, _) => mailbox,
            };
        }
        if !first.eq_ignore_ascii_case(b"LIST") && !first.eq_ignore_ascii_case(b"NAMESPACE") {
            return Self::Other;
        }
        match ResponseCodec::default().decode(octets) {
            Ok((_, Response::Data(data))) => Self::of(data),
            Ok(_) | Err(_) => Self::Other,
        }
    }

    /// Reads what STATUS tells; the name before it may be spelt in any way, and is the one that was asked for.
    fn mailbox(rest: &[u8]) -> Self {
        let items = memchr::memrchr(b'(', rest).and_then(|open| rest[open + 1..].strip_suffix(b")"));
        let text = String::from_utf8_lossy(items.unwrap_or_default());
        let items: Vec<&str> = text.split_ascii_whitespace().collect();
        let number = |name: &str| {
            let told = items.chunks(2).find(|item| item[0].eq_ignore_ascii_case(name))?;
            told.get(1)?.parse().ok()
        };
        match (number("UIDVALIDITY"), number("UIDNEXT")) {
            (None, None) => Self::Other,
            (validity, next) => Self::Mailbox { validity, next },
        }
    }

    fn of(decoded: Decoded<'_>) -> Self {
        match decoded {
            Decoded::List { items, mailbox, .. } if items.iter().any(|item| is_all(&item.to_string())) => {
                let name = match mailbox {
                    Named::Inbox => "INBOX".to_owned(),
                    Named::Other(name) => String::from_utf8_lossy(name.as_ref()).into_owned(),
                };
                Self::All(Mailbox::spelt(name))
            }
            Decoded::List { delimiter, .. } => Self::Separator(delimiter.map(|delimiter| delimiter.inner())),
            Decoded::Namespace { personal, .. } => {
                Self::Namespace(personal.into_iter().next().map(|first| {
                    let prefix = String::from_utf8_lossy(first.prefix.as_ref()).into_owned();
                    (prefix, first.delimiter.map(|delimiter: QuotedChar| delimiter.inner()))
                }))
            }
            _ => Self::Other,
        }
    }
}

fn is_all(attribute: &str) -> bool {
    attribute.eq_ignore_ascii_case("\\All")
}

/// Reads what the grammar's library does not know: `(APPENDLIMIT 35651584)`, whatever the mailbox is called before that.
fn append_limit(status: &[u8]) -> Option<u64> {
    let items = &status[memchr::memrchr(b'(', status)? + 1..];
    let items = std::str::from_utf8(items.strip_suffix(b")")?).ok()?;
    let (name, limit) = items.trim().split_once(' ')?;
    if name.eq_ignore_ascii_case("APPENDLIMIT") { limit.trim().parse().ok() } else { None }
}

fn words(text: &str) -> Vec<String> {
    text.split_ascii_whitespace().map(str::to_ascii_uppercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(response: &str) -> Data {
        Data::read(format!("{response}\r\n").as_bytes())
    }

    #[test]
    fn the_limit_of_a_mailbox_is_read_whatever_the_mailbox_is_called() {
        for (response, limit) in [
            ("* STATUS INBOX (APPENDLIMIT 1000)", Some(1000)),
            ("* status \"a (b\" (appendlimit 18446744073709551615)", Some(u64::MAX)),
            ("* STATUS INBOX (APPENDLIMIT NIL)", None),
            ("* STATUS INBOX (APPENDLIMIT -1)", None),
            ("* STATUS INBOX APPENDLIMIT 1", None),
            ("* STATUS", None),
        ] {
            let read = match data(response) {
                Data::AppendLimit(limit) => Some(limit),
                _ => None,
            };
            assert_eq!(read, limit, "{response}");
        }
    }

    #[test]
    fn a_status_is_read_whatever_its_code_and_text() {
        let read = |line: &[u8]| Status::read(line).unwrap();
        let status = read(b"NO [OVERQUOTA] Quota exceeded");
        assert_eq!((status.kind, status.code().as_deref()), (Kind::No, Some("OVERQUOTA")));
        assert_eq!(status.to_string(), "NO [OVERQUOTA] Quota exceeded");
        assert_eq!(read(b"ok [AppendUid 1 2]").code().as_deref(), Some("APPENDUID"));
        assert_eq!(read(b"OK").to_string(), "OK");
        assert_eq!(read(b"BAD caf\xe9").to_string(), "BAD caf\u{fffd}");
        assert_eq!(read(b"OK [unended").to_string(), "OK [unended");
        assert_eq!(read(b"OK [] x").code(), None);
        assert_eq!(
            read(b"OK [CAPABILITY IMAP4rev1 Literal+] hi").capabilities(),
            Some(vec!["IMAP4REV1".into(), "LITERAL+".into()])
        );
        assert_eq!(read(b"OK [CAPABILITY]").capabilities(), None);
        assert_eq!(read(b"OK [UidNext 9] x").number("UIDNEXT"), Some(9));
        assert_eq!(read(b"OK [UIDNEXT] x").number("UIDNEXT"), None);
        assert_eq!(Status::read(b"OKAY"), None);
        assert_eq!(Status::read(b"5 EXISTS"), None);
    }

    #[test]
    fn data_that_is_asked_for_is_read_as_servers_send_it() {
        assert_eq!(
            data("* CAPABILITY IMAP4rev1 AUTH=PLAIN "),
            Data::Capability(vec!["IMAP4REV1".into(), "AUTH=PLAIN".into()])
        );
        assert_eq!(data(r#"* LIST (\Noselect) "." """#), Data::Separator(Some('.')));
        assert_eq!(data(r#"* LIST (\Noselect) NIL """#), Data::Separator(None));
        assert_eq!(
            data(r#"* LIST (\HasNoChildren \All) "/" "[Gmail]/Alle &- Nachrichten""#),
            Data::All(Mailbox::spelt("[Gmail]/Alle &- Nachrichten".into()))
        );
        assert_eq!(
            data(r#"* NAMESPACE (("INBOX." ".")) NIL (("Public." "."))"#),
            Data::Namespace(Some(("INBOX.".into(), Some('.'))))
        );
        assert_eq!(data("* NAMESPACE NIL NIL NIL"), Data::Namespace(None));
        assert_eq!(
            data("* STATUS INBOX (UIDVALIDITY 7 UIDNEXT 9)"),
            Data::Mailbox { validity: Some(7), next: Some(9) }
        );
        for spelt in ["{3}\r\na b", "\"Entwürfe (alt)\"", "Entw&APw-rfe"] {
            assert_eq!(
                data(&format!("* STATUS {spelt} (MESSAGES 3 uidnext 9 UIDVALIDITY 7)")),
                Data::Mailbox { validity: Some(7), next: Some(9) },
                "{spelt}"
            );
        }
        for nothing in ["* 5 EXISTS", "* FLAGS ()", "* LIST", "* 5 FETCH", "* STATUS", "* x", "*", ""] {
            assert_eq!(data(nothing), Data::Other, "{nothing}");
        }
        assert_eq!(data("* BYE gone"), Data::Status(Status::read(b"BYE gone").unwrap()));
    }
}
