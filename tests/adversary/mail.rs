//! Messages as the server has them, and what a reader would call the same one.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::scenario::{Flaw, Kind, Top, Writes};

/// Octets of which a short message sends a fifth.
const LARGE: usize = 5000;

/// A message in the maildrop.
#[derive(Debug, Clone)]
pub struct Mail {
    /// Counts those that ever came.
    pub id: usize,
    /// Lines with CRLF; no empty line.
    pub header: Vec<u8>,
    pub body: Vec<u8>,
    /// It has a Message-ID, and a Date or a Received line.
    pub is_certain: bool,
    pub flaw: Flaw,
    /// What the server has written into the header since.
    pub writes: Writes,
    pub uid: String,
    /// RETR was answered.
    pub was_fetched: bool,
    /// Octets that the server counts too many.
    pub miscounted: usize,
    /// How often its flaw has shown.
    pub flawed: u32,
}

impl Mail {
    /// Makes a message; `like` is the one that its kind refers to.
    pub fn new(id: usize, kind: Kind, like: Option<&Mail>, flaw: Flaw) -> Self {
        let mut mail = match (kind, like) {
            (Kind::SameHeader | Kind::SameSize | Kind::Equal, Some(like)) => like.clone(),
            (Kind::Weak, _) => Self::of(id, weak_header(id), false),
            (Kind::Normal | Kind::SameHeader | Kind::SameSize | Kind::Equal, _) => {
                Self::of(id, header(id), true)
            }
        };
        match (kind, like) {
            (Kind::SameHeader, Some(like)) => mail.body = body(id, like.body.len() + 1000 + id),
            (Kind::SameSize, Some(like)) => mail.body = body(id, like.body.len()),
            (Kind::Equal, Some(_)) => {}
            _ => {
                let size = if matches!(flaw, Flaw::Short(_)) { LARGE } else { 400 + 10 * (id % 3) };
                mail.body = body(id, size - mail.header.len() - 2);
            }
        }
        // Less than half of a small message may come: that is no sign of anything.
        let is_short = matches!(flaw, Flaw::Short(_)) && mail.octets().len() < LARGE;
        let flaw = if is_short { Flaw::Sound } else { flaw };
        Self {
            id,
            flaw,
            writes: Writes::Nothing,
            uid: String::new(),
            was_fetched: false,
            miscounted: 0,
            flawed: 0,
            ..mail
        }
    }

    fn of(id: usize, header: Vec<u8>, is_certain: bool) -> Self {
        Self {
            id,
            header,
            body: Vec::new(),
            is_certain,
            flaw: Flaw::Sound,
            writes: Writes::Nothing,
            uid: String::new(),
            was_fetched: false,
            miscounted: 0,
            flawed: 0,
        }
    }

    /// Gives the octets that RETR shows now.
    pub fn octets(&self) -> Vec<u8> {
        [&self.shown_header()[..], b"\r\n", &self.body].concat()
    }

    /// Gives the octets less what a server writes: the same for as long as it is the same message.
    pub fn content(&self) -> Vec<u8> {
        [&self.header[..], b"\r\n", &self.body].concat()
    }

    /// Gives the part that comes where a server sends less than it has.
    pub fn short(&self) -> Vec<u8> {
        match self.flaw {
            Flaw::Short(_) => [&self.content()[..LARGE / 5], b"\r\n"].concat(),
            _ => Vec::new(),
        }
    }

    /// Gives the header that TOP shows.
    pub fn top(&self, top: Top) -> Vec<u8> {
        let header = self.shown_header();
        match top {
            Top::Works | Top::Missing => header,
            Top::Another => [b"Received: by a cache of headers\r\n".as_slice(), &header].concat(),
            Top::Nameless => {
                let lines = header.split_inclusive(|octet| *octet == b'\n');
                lines.filter(|line| !line.starts_with(b"Message-ID:")).flatten().copied().collect()
            }
        }
    }

    /// Digests the header, as solid-pop3d does for its unique-ids.
    pub fn header_digest(&self) -> String {
        format!("h{:016x}", hash(&self.header))
    }

    /// Digests the Received lines alone, as popa3d does for its unique-ids.
    pub fn received_digest(&self) -> String {
        let lines = self.header.split_inclusive(|octet| *octet == b'\n');
        let received: Vec<u8> =
            lines.filter(|line| line.starts_with(b"Received:")).flatten().copied().collect();
        format!("r{:016x}", hash(&received))
    }

    fn shown_header(&self) -> Vec<u8> {
        match self.writes {
            Writes::Nothing => self.header.clone(),
            Writes::Status => [&self.header[..], b"Status: RO\r\n"].concat(),
            Writes::XUidl => [b"X-UIDL: 0123456789abcdef\r\n", &self.header[..]].concat(),
        }
    }
}

/// Gives a file's octets as the server had them, less the lines that a server writes into a header.
pub fn without_written(file: &[u8]) -> Vec<u8> {
    let mut content = Vec::with_capacity(file.len() + 32);
    let mut in_header = true;
    for line in file.split_inclusive(|octet| *octet == b'\n') {
        in_header &= line != b"\n";
        if in_header && (line.starts_with(b"Status:") || line.starts_with(b"X-UIDL:")) {
            continue;
        }
        match line.strip_suffix(b"\n") {
            Some(line) => content.extend([line, b"\r\n"].concat()),
            None => content.extend(line),
        }
    }
    content
}

fn header(id: usize) -> Vec<u8> {
    format!(
        "Received: from relay{} by mx.example.org; Mon, 1 Jan 2024 10:00:00 +0000\r\nDate: Mon, 1 Jan 2024 10:00:00 \
         +0000\r\nFrom: bob@example.net\r\nSubject: letter {id}\r\nMessage-ID: <{id}@example.net>\r\n",
        id % 2
    )
    .into_bytes()
}

/// No Message-ID, or neither Date nor Received.
fn weak_header(id: usize) -> Vec<u8> {
    if id.is_multiple_of(3) {
        return format!("From: cron@example.net\r\nSubject: status {id}\r\nMessage-ID: <{id}@cron>\r\n")
            .into_bytes();
    }
    format!(
        "Received: from relay{} by mx.example.org; Mon, 1 Jan 2024 10:00:00 +0000\r\nFrom: \
         cron@example.net\r\nSubject: status {id}\r\n",
        id % 2
    )
    .into_bytes()
}

/// Makes a body of so many octets that no other message has.
fn body(id: usize, octets: usize) -> Vec<u8> {
    let line = format!(".body {id}\r\n").into_bytes();
    let filler = octets - line.len();
    let mut body = line;
    while body.len() < octets {
        let rest = octets - body.len();
        // Lines of 60 octets, and none that would have no room for its end.
        let length = if rest > 62 { 60 } else { rest };
        body.extend(std::iter::repeat_n(b'x', length - 2));
        body.extend(b"\r\n");
    }
    debug_assert!(filler >= 2 && body.len() == octets);
    body
}

fn hash(octets: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    octets.hash(&mut hasher);
    hasher.finish()
}
