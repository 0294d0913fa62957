//! By what a message is known again, whatever its server calls it: its identity, made of its header, and its content.

use std::fmt;

use sha2::{Digest as _, Sha256};

use super::arrival;
use super::fields::{Field, Fields, TELLING, end_of_header, position};
use super::in_mailbox::{InMailbox, ToMailbox};

/// Fields that servers write into a message, or change in it, after it has come.
const SERVERS: [&str; 6] = ["status", "x-status", "x-uidl", "x-keywords", "content-length", "lines"];
/// Octets of a header that are looked at. What lies behind them counts as body; no mail has so many.
const LARGEST_HEADER: usize = 256 << 10;

/// A digest of the fields that tell messages apart.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Begins a SHA-256.
    pub digest: [u8; 16],
    pub certainty: Certainty,
}

/// How much an identity proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Certainty {
    /// Made of Message-ID, Date, From, Subject and the traces of the way; two messages of one identity are one.
    Certain,
    /// No Message-ID, or neither Date nor Received: made of all fields but those that servers write. Another one proves
    /// another message; the same proves nothing.
    Weak,
}

/// SHA-256 of the octets of a message less the fields that servers write.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Content(pub [u8; 32]);

/// What a message that came whole, or its header alone, is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint {
    pub identity: Identity,
    /// What it consists of; of a header alone it means nothing.
    pub content: Content,
    /// SHA-256 of the whole header, as version 0.1.0 recorded it: as it came, and less the servers' fields.
    pub header: [[u8; 32]; 2],
    /// Octets that came.
    pub octets: u64,
    /// Octets of the servers' fields among them.
    pub fields: u64,
    /// Lines of those.
    pub lines: u64,
    /// When it arrived, in seconds since 1970: by the topmost `Received` line, else by `Date`.
    pub arrived: Option<i64>,
    /// By what it is known in a mailbox on a server; nothing where that was not asked for.
    pub in_mailbox: InMailbox,
}

/// Takes a message as it streams by, unstuffed, as the server sends it, so that RETR and `TOP n 0` of one message give
/// the same identity. A header that no empty line ends is the whole message.
#[derive(Debug, Clone)]
pub struct Fingerprinter {
    /// The header, until it has ended.
    header: Vec<u8>,
    read: Option<Read>,
    content: Sha256,
    mailbox: Mailbox,
    octets: u64,
}

/// Whether it is asked by what a message is known in a mailbox on a server.
#[derive(Debug, Clone)]
enum Mailbox {
    Unasked,
    Asked,
    /// The header has ended.
    Known(Box<ToMailbox>),
}

/// What a header says.
#[derive(Debug, Clone, Copy)]
struct Read {
    identity: Identity,
    header: [[u8; 32]; 2],
    fields: u64,
    lines: u64,
    arrived: Option<i64>,
}

impl Fingerprinter {
    /// Takes a message that no mailbox on a server has, or will have.
    pub fn new() -> Self {
        let (header, mailbox) = (Vec::new(), Mailbox::Unasked);
        Self { header, read: None, content: Sha256::new(), mailbox, octets: 0 }
    }

    /// Takes a message that a mailbox on a server has, or will have.
    pub fn with_mailbox() -> Self {
        Self { mailbox: Mailbox::Asked, ..Self::new() }
    }

    pub fn write(&mut self, octets: &[u8]) {
        self.octets += octets.len() as u64;
        if self.read.is_some() {
            return self.pass(octets);
        }
        let most = LARGEST_HEADER - self.header.len();
        let (start, body) = octets.split_at(octets.len().min(most));
        if self.header.is_empty()
            && let Some(end) = end_of_header(start, 0)
        {
            self.read_header(&octets[..end]);
            return self.pass(&octets[end..]);
        }
        // The LF before an empty line may lie in what came before.
        let from = self.header.len().saturating_sub(2);
        self.header.extend_from_slice(start);
        let end = end_of_header(&self.header, from);
        if end.is_some() || start.len() == most {
            let gathered = std::mem::take(&mut self.header);
            let (header, rest) = gathered.split_at(end.unwrap_or(gathered.len()));
            self.read_header(header);
            self.pass(rest);
            self.pass(body);
        }
    }

    fn pass(&mut self, body: &[u8]) {
        self.content.update(body);
        if let Mailbox::Known(mailbox) = &mut self.mailbox {
            mailbox.write(body);
        }
    }

    /// Gives what the message is known by.
    pub fn finish(mut self) -> Fingerprint {
        let Read { identity, header, fields, lines, arrived } = match self.read {
            Some(read) => read,
            None => {
                let header = std::mem::take(&mut self.header);
                self.read_header(&header)
            }
        };
        let content = Content(self.content.finalize().into());
        let in_mailbox = match self.mailbox {
            Mailbox::Known(mailbox) => mailbox.finish(),
            Mailbox::Unasked | Mailbox::Asked => InMailbox::default(),
        };
        Fingerprint { identity, content, header, octets: self.octets, fields, lines, arrived, in_mailbox }
    }

    /// Reads the whole header.
    fn read_header(&mut self, header: &[u8]) -> Read {
        let (mut telling, mut field) = (Sha256::new(), Field::default());
        let (mut message_id, mut dated, mut fields, mut lines) = (false, false, 0, 0);
        let (mut received, mut date) = (None, None);
        // What is not digested yet, and how far the fields were looked at.
        let (mut from, mut at) = (0, 0);
        for octets in Fields(header) {
            at += octets.len();
            if position(octets, &SERVERS).is_some() {
                fields += octets.len() as u64;
                lines += memchr::memchr_iter(b'\n', octets).count() as u64;
                self.content.update(&header[from..at - octets.len()]);
                from = at;
                continue;
            }
            if position(octets, &TELLING).is_none() {
                continue;
            }
            field.read(octets);
            telling.update(&field.said);
            let (name, value) = (field.name(), field.value());
            message_id |= name == b"message-id" && !value.is_empty();
            dated |= (name == b"date" || name == b"received") && !value.is_empty();
            match name {
                b"received" => drop(received.get_or_insert_with(|| arrival::of_received(value))),
                b"date" => drop(date.get_or_insert_with(|| arrival::of_date(value))),
                _ => {}
            }
        }
        self.content.update(&header[from..]);
        // So far its content is the header less the servers' fields.
        let less = self.content.clone().finalize().into();
        let sent = if fields == 0 { less } else { Sha256::digest(header).into() };
        if let Mailbox::Asked = self.mailbox {
            self.mailbox = Mailbox::Known(Box::new(ToMailbox::new(header)));
        }
        let (hash, certainty) = match message_id && dated {
            true => (telling, Certainty::Certain),
            false => (said(header), Certainty::Weak),
        };
        let digest = *hash.finalize().first_chunk().expect("SHA-256 has 32 octets");
        let arrived = received.flatten().or(date.flatten());
        let identity = Identity { digest, certainty };
        let read = Read { identity, header: [sent, less], fields, lines, arrived };
        self.read = Some(read);
        read
    }
}

/// Digests all that a header says less the servers' fields.
fn said(header: &[u8]) -> Sha256 {
    let (mut all, mut field) = (Sha256::new(), Field::default());
    for octets in Fields(header) {
        if position(octets, &SERVERS).is_none() {
            field.read(octets);
            all.update(&field.said);
        }
    }
    all
}

impl Default for Fingerprinter {
    fn default() -> Self {
        Self::new()
    }
}

/// Gives what a message that is there whole is known by.
impl From<&[u8]> for Fingerprint {
    fn from(octets: &[u8]) -> Self {
        let mut fingerprinter = Fingerprinter::with_mailbox();
        fingerprinter.write(octets);
        fingerprinter.finish()
    }
}

impl Identity {
    /// Stands for a header that cannot be had.
    pub const NONE: Self = Self { digest: [0; 16], certainty: Certainty::Weak };

    /// Says whether two messages of this identity are one.
    pub fn is_certain(self) -> bool {
        self.certainty == Certainty::Certain
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}({})", self.certainty, crate::text::hex(&self.digest[..4]))
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Content({})", crate::text::hex(&self.0[..4]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(octets: &[u8]) -> Fingerprint {
        octets.into()
    }

    const CERTAIN: &[u8] =
        b"Received: by a\r\nMessage-ID: <1@a>\r\nDate: today\r\nFrom: a\r\nSubject: s\r\nX: y\r\n\r\nbody\r\n";

    #[test]
    fn a_message_has_one_fingerprint_at_every_split() {
        let message = b"A: 1\r\nStatus: RO\r\nB: \r2\r\n\r x\r\n\r\nbody\r\n\r\nStatus: x\r\n";
        for message in [&message[..], b"\r\nbody", b"\n", b"", b"A: 1\n\nb", b"no end", b"A: 1\r\n", CERTAIN]
        {
            let expected = whole(message);
            for first in 0..=message.len() {
                for second in first..=message.len() {
                    let mut fingerprinter = Fingerprinter::with_mailbox();
                    for piece in [&message[..first], &message[first..second], &message[second..]] {
                        fingerprinter.write(piece);
                    }
                    assert_eq!(fingerprinter.finish(), expected, "{first} {second}");
                }
            }
        }
    }

    #[test]
    fn a_header_alone_has_the_identity_of_its_message() {
        for (message, header) in [
            (CERTAIN, &CERTAIN[..CERTAIN.len() - 6]),
            (CERTAIN, &CERTAIN[..CERTAIN.len() - 8]),
            (b"A: 1\r\n\r\nbody", b"A: 1\r\n\r\n"),
        ] {
            assert_eq!(whole(message).identity, whole(header).identity);
            assert_eq!(whole(message).header, whole(header).header);
        }
    }

    #[test]
    fn what_servers_write_into_a_message_changes_neither_identity_nor_content() {
        for message in [CERTAIN, b"A: 1\r\nB: 2\r\n\r\nbody\r\n"] {
            let text = String::from_utf8(message.to_vec()).unwrap();
            for added in
                ["Status: RO\r\n", "X-Status: A\r\nX-UIDL: 5\r\n", "Content-Length: 9\r\n  1\r\nLINES: 4\r\n"]
            {
                let [front, back] =
                    [added.to_owned() + &text, text.replacen("\r\n\r\n", &format!("\r\n{added}\r\n"), 1)];
                for changed in [front, back] {
                    let (plain, changed) = (whole(message), whole(changed.as_bytes()));
                    assert_eq!((changed.identity, changed.content), (plain.identity, plain.content));
                    assert_eq!(changed.header[1], plain.header[0]);
                    assert_ne!(changed.header[0], plain.header[0]);
                    assert_eq!(changed.octets - changed.fields, plain.octets);
                }
            }
        }
    }

    #[test]
    fn a_message_arrived_when_its_topmost_received_line_says_so_else_its_date() {
        let (first, second, date) = (
            "Received: by a; 2 Jan 1970 00:00 GMT\r\n",
            "Received: by b\r\n",
            "Date: 1 Jan 1970 00:01 GMT\r\n",
        );
        for (header, arrived) in [
            (format!("{date}{first}{second}"), Some(86_400)),
            (format!("{second}{first}{date}"), Some(60)),
            (format!("Date: x\r\n{date}"), None),
            (format!("X: {date}"), None),
        ] {
            assert_eq!(whole(header.as_bytes()).arrived, arrived, "{header}");
        }
    }

    #[test]
    fn an_identity_is_certain_with_a_message_id_and_a_date_or_a_trace() {
        for (header, certain) in [
            ("Message-ID: <1@a>\r\nDate: d\r\n\r\n", true),
            ("MESSAGE-id : <1@a>\r\nReceived: by b\r\n\r\n", true),
            ("Message-ID: <1@a>\r\nSubject: s\r\n\r\n", false),
            ("Message-ID:\r\nDate: d\r\n\r\n", false),
            ("Date: d\r\nReceived: by b\r\n\r\n", false),
            ("\r\nMessage-ID: <1@a>\r\nDate: d\r\n\r\n", false),
            ("", false),
        ] {
            assert_eq!(whole(header.as_bytes()).identity.is_certain(), certain, "{header}");
        }
    }

    #[test]
    fn folding_blanks_and_other_fields_do_not_make_another_certain_identity_and_any_telling_field_does() {
        let folded = b"Received:  by\r\n\ta\r\nmessage-id: <1@a> \r\nDate: today\r\nFROM: a\r\nSubject:\r\n s\r\n\r\nx";
        assert_eq!(whole(folded).identity, whole(CERTAIN).identity);
        let certain = String::from_utf8(CERTAIN.to_vec()).unwrap();
        for (from, to) in [
            ("by a", "by b"),
            ("<1@a>", "<2@a>"),
            ("today", "now"),
            ("From: a", "From: b"),
            ("Subject: s", "Subject: t"),
            ("X: y", "Delivered-To: y"),
            ("X: y", "Received: y"),
            ("X: y", "Envelope-To: y"),
            ("X: y", "X-Original-To: y"),
        ] {
            let other = certain.replacen(from, to, 1);
            assert_ne!(whole(other.as_bytes()).identity, whole(CERTAIN).identity, "{to}");
        }
        assert_ne!(whole(b"A: 1\r\nX: y\r\n\r\n").identity, whole(b"A: 1\r\nX: z\r\n\r\n").identity, "weak");
    }

    #[test]
    fn one_octet_makes_another_content() {
        assert_ne!(whole(b"A: 1\r\n\r\nbody").content, whole(b"A: 1\r\n\r\nbodz").content);
        assert_ne!(whole(b"A: 1\r\n\r\nbody").content, whole(b"A: 1 \r\n\r\nbody").content);
        assert_ne!(whole(b"A: 1\r\n\r\n").content, whole(b"A: 1\r\n").content);
    }

    #[test]
    fn a_header_without_end_is_bounded() {
        let line = b"X-Endless: yes\r\n";
        let mut fingerprinter = Fingerprinter::with_mailbox();
        for _ in 0..2 * LARGEST_HEADER / line.len() {
            fingerprinter.write(line);
            assert!(fingerprinter.header.capacity() <= 2 * LARGEST_HEADER);
        }
        let all = line.repeat(2 * LARGEST_HEADER / line.len());
        assert_eq!(fingerprinter.finish(), whole(&all));
    }
}
