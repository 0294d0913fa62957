//! By what a message is known again in a mailbox on a server that may have changed it: put fields on top, folded them,
//! written others in the place of octets that are not ASCII.

use sha2::{Digest as _, Sha256};

use super::fields::{Field, Fields, TELLING, end_of_header, position};
use super::{Body, ToLines};

/// So many of [`TELLING`], the first, are what the sender says; the others tell the way.
const SENDERS: usize = 4;

/// Digests, of eight octets each, of what servers leave as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct InMailbox {
    /// Of Message-ID, Date, From and Subject.
    pub sender: [u8; 8],
    /// Of the fields that tell the way, of which servers add some; of the body where there is no Message-ID or no Date.
    pub rest: [u8; 8],
    /// There are both.
    pub is_certain: bool,
}

/// What a header says, with the line ends that it has in a mailbox.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Said {
    pub known: InMailbox,
    /// The fields that tell the way, digested one by one, by their names and from the top.
    pub way: Vec<u64>,
}

/// Stands in [`InMailbox::rest`] for a body that nobody has looked at.
pub const UNREAD: [u8; 8] = [0; 8];

impl Said {
    /// Reads a header whose lines end as in a mailbox, up to an empty line.
    pub fn by(message: &[u8]) -> Self {
        let header = end_of_header(message, 0).map_or(message, |end| &message[..end]);
        let mut field = Field::default();
        let mut told: Vec<(usize, u64)> = Vec::new();
        let (mut has_message_id, mut has_date) = (false, false);
        for octets in Fields(header) {
            let Some(at) = position(octets, &TELLING) else { continue };
            field.read(octets);
            let is_empty = field.value().is_empty();
            has_message_id |= at == 0 && !is_empty;
            has_date |= at == 1 && !is_empty;
            told.push((at, digest(field.value())));
        }
        // Some servers give the fields in the order in which they were asked for.
        told.sort_by_key(|(at, _)| *at);
        let (sender, way) = told.split_at(told.partition_point(|(at, _)| *at < SENDERS));
        let way: Vec<u64> = way.iter().map(|(at, digest)| digest ^ *at as u64).collect();
        let mut hash = Sha256::new();
        for (at, digest) in sender {
            hash.update([*at as u8]);
            hash.update(digest.to_be_bytes());
        }
        let is_certain = has_message_id && has_date;
        let rest = if is_certain { digest_of_way(&way) } else { UNREAD };
        Self { known: InMailbox { sender: first(hash), rest, is_certain }, way }
    }

    /// Says whether a header that says this may be that of a message with this way: all of it, and no more than servers add.
    pub fn may_have_come(&self, way: &[u64]) -> bool {
        let mut all = self.way.iter();
        way.iter().all(|step| all.any(|other| other == step))
    }
}

/// Digests a value, less what servers write in another way: blanks, octets that are not ASCII, and what stands for these.
fn digest(value: &[u8]) -> u64 {
    let mut hash = Sha256::new();
    let is_kept = |octet: &u8| octet.is_ascii_graphic() && !matches!(octet, b'X' | b'?');
    value.chunk_by(|one, other| is_kept(one) == is_kept(other)).for_each(|run| {
        if is_kept(&run[0]) {
            hash.update(run);
        }
    });
    u64::from_be_bytes(first(hash))
}

fn digest_of_way(way: &[u64]) -> [u8; 8] {
    let mut hash = Sha256::new();
    way.iter().for_each(|step| hash.update(step.to_be_bytes()));
    first(hash)
}

fn first(hash: Sha256) -> [u8; 8] {
    *hash.finalize().first_chunk().expect("SHA-256 has 32 octets")
}

/// Takes a message as it comes, and knows by what it will be known in a mailbox.
#[derive(Debug, Clone)]
pub struct ToMailbox {
    known: InMailbox,
    body: Option<(ToLines, Body)>,
}

impl ToMailbox {
    /// Begins with the header.
    pub fn new(header: &[u8]) -> Self {
        let mut lines = Vec::new();
        let mut to_lines = ToLines::default();
        to_lines.convert(header, &mut lines);
        to_lines.finish(&mut lines);
        let known = Said::by(&lines).known;
        let mut message = Self { known, body: (!known.is_certain).then(Default::default) };
        message.write(header);
        message
    }

    pub fn write(&mut self, octets: &[u8]) {
        if let Some((to_lines, body)) = &mut self.body {
            let mut lines = Vec::new();
            to_lines.convert(octets, &mut lines);
            body.write(&lines);
        }
    }

    pub fn finish(self) -> InMailbox {
        let Some((mut to_lines, mut body)) = self.body else { return self.known };
        let mut lines = Vec::new();
        to_lines.finish(&mut lines);
        body.write(&lines);
        InMailbox { rest: start_of(body.finish()), ..self.known }
    }
}

/// Gives what stands for a body in [`InMailbox::rest`].
pub fn start_of(body: [u8; 32]) -> [u8; 8] {
    let start = *body.first_chunk().expect("it is longer");
    if start == UNREAD { [0xff; 8] } else { start }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENT: &str = "Received: from a by b; now\r\nReceived: by a\r\nMessage-ID: <1@a>\r\nDate: today\r\nFrom: J\u{fc}rgen \
                        <a@x>\r\nX: y\r\nSubject: Gr\u{fc}\u{df}e\r\n\r\nbody\r\n";

    fn sent(message: &[u8]) -> InMailbox {
        let end = end_of_header(message, 0).unwrap_or(message.len());
        let mut to_mailbox = ToMailbox::new(&message[..end]);
        to_mailbox.write(&message[end..]);
        to_mailbox.finish()
    }

    #[test]
    fn a_message_is_known_whatever_its_server_adds_folds_or_munges() {
        let latin = |text: &str| -> Vec<u8> { text.chars().map(|c| c as u8).collect() };
        let of = sent(&latin(SENT));
        assert!(of.is_certain);
        assert_eq!(sent(SENT.as_bytes()), of);
        let munged = latin(SENT).into_iter().map(|octet| if octet < 128 { octet } else { b'X' }).collect();
        for same in [
            munged,
            SENT.replace(": ", ":\r\n\t").into_bytes(),
            format!("Return-Path: <>\r\nX-Received: x\r\n{SENT}").into_bytes(),
            SENT.replace("Date: today\r\n", "").replace("Received", "date: today\r\nreceived").into_bytes(),
        ] {
            let twice = String::from_utf8_lossy(&same).matches("date: today").count();
            assert_eq!(Said::by(&same).known == of, twice < 2, "{}", String::from_utf8_lossy(&same));
        }
        for (added, may) in [
            (format!("Received: by imap\r\nDelivered-To: bob\r\n{SENT}"), true),
            (format!("Delivered-To: bob\r\n{SENT}").replacen("Received: by a\r\n", "", 1), false),
            (SENT.replacen("now", "then", 1), false),
        ] {
            let said = Said::by(added.as_bytes());
            assert_eq!(said.known.sender, of.sender);
            assert_eq!(said.may_have_come(&Said::by(SENT.as_bytes()).way), may, "{added}");
        }
        for other in ["<1@a>", "today", "<a@x>", "Subject: G"] {
            assert_ne!(sent(SENT.replacen(other, "other", 1).as_bytes()).sender, of.sender, "{other}");
        }
    }

    #[test]
    fn what_has_no_message_id_or_no_date_is_known_by_its_body_with_the_line_ends_of_a_mailbox() {
        for (message, lines) in [
            ("Subject: w\r\n\r\nline1\nline2\r\n", "Subject: w\r\n\r\nline1\r\nline2\r\n"),
            ("Subject: a\rb\r\n\r\nx\r", "Subject: a\r\nb\r\n\r\nx\r\n"),
            ("Subject: a\r\rb\r\n\r\nx\r\n", "Subject: a\r\n\r\nb\r\n\r\nx\r\n"),
            ("Message-ID: <1@a>\r\n\r\nx\r\n", "Message-ID: <1@a>\r\n\r\nx\r\n"),
            ("no end", "no end"),
        ] {
            let mut body = Body::default();
            body.write(lines.as_bytes());
            let known = Said::by(lines.as_bytes()).known;
            assert_eq!(known.rest, UNREAD);
            assert_eq!(
                sent(message.as_bytes()),
                InMailbox { rest: start_of(body.finish()), ..known },
                "{message}"
            );
        }
    }
}
