//! The `Received` line that tells how a message came here (RFC 5321, 4.4).

use std::net::IpAddr;

use super::ToLf;

/// What the line tells of every message of a session.
#[derive(Debug, Clone)]
pub struct Trace {
    from: String,
    by: String,
    account: String,
}

/// Octets within which the line ends: each of its parts is bounded.
pub const LONGEST: usize = 4096;

/// How the line begins, and what stands in no other's.
const BEGINNING: &[u8] = b"Received: from ";
const OURS: &[u8] = b"\n (postrider; account ";

/// Octets of an account's name and of a unique-id that are told; RFC 5322, 2.1.1 lets a line be 998.
const TOLD: usize = 400;

impl Trace {
    /// Takes the host that the messages come from, the name of this machine, and the account.
    pub fn new(from: &str, by: &str, account: &str) -> Self {
        Self { from: domain(from), by: domain(by), account: comment(account.as_bytes()) }
    }

    /// Writes the line, folded, with CRLF; `now` in UTC.
    pub fn line(&self, uid: &[u8], now: jiff::Timestamp) -> Vec<u8> {
        let Self { from, by, account } = self;
        let uid = if uid.is_empty() { "none".to_owned() } else { comment(uid) };
        let now = now.strftime("%a, %d %b %Y %H:%M:%S +0000");
        format!(
            "Received: from {from}\r\n by {by} with POP3\r\n (postrider; account {account};\r\n unique-id {uid});\r\n {now}\r\n"
        )
        .into_bytes()
    }
}

/// Gives the octets of such a line, LF-ended, that a message in a file begins with, 0 if there is none. The first
/// [`LONGEST`] octets of the file are enough.
pub fn length(beginning: &[u8]) -> usize {
    if !beginning.starts_with(BEGINNING) {
        return 0;
    }
    let goes_on = |after: usize| beginning.get(after) == Some(&b' ');
    let end = memchr::memchr_iter(b'\n', beginning).map(|lf| lf + 1).find(|after| !goes_on(*after));
    match end {
        Some(end) if memchr::memmem::find(&beginning[..end], OURS).is_some() => end,
        Some(_) | None => 0,
    }
}

/// Gives the octets of such a line that a message with CRLF begins with, 0 if there is none.
pub fn length_with_crlf(message: &[u8]) -> usize {
    let mut beginning = Vec::new();
    ToLf::default().convert(&message[..message.len().min(LONGEST)], &mut beginning);
    let line = length(&beginning);
    line + memchr::memchr_iter(b'\n', &beginning[..line]).count()
}

/// Writes a host as a domain or an address literal.
fn domain(host: &str) -> String {
    match host.parse() {
        Ok(IpAddr::V4(address)) => format!("[{address}]"),
        Ok(IpAddr::V6(address)) => format!("[IPv6:{address}]"),
        Err(_) => {
            let plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
            let name: String = host.chars().filter(plain).take(255).collect();
            if name.is_empty() { "localhost".to_owned() } else { name }
        }
    }
}

/// Writes octets so that they end no comment and no line.
fn comment(octets: &[u8]) -> String {
    let mut text = String::with_capacity(octets.len());
    for octet in octets.iter().take(TOLD) {
        match octet {
            b'(' | b')' | b'\\' => text.extend(['\\', char::from(*octet)]),
            b' '..=b'~' => text.push(char::from(*octet)),
            _ => text.push('?'),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> jiff::Timestamp {
        jiff::Timestamp::from_second(1_795_448_355 + second).unwrap()
    }

    #[test]
    fn the_line_has_what_rfc_5321_wants_and_whose_message_it_was() {
        let line = Trace::new("pop.example.org", "mail.example.net", "home").line(b"1f-3", at(0));
        let expected = "Received: from pop.example.org\r\n by mail.example.net with POP3\r\n \
                        (postrider; account home;\r\n unique-id 1f-3);\r\n Mon, 23 Nov 2026 15:39:15 +0000\r\n";
        assert_eq!(String::from_utf8(line).unwrap(), expected);
        let line = Trace::new("2001:db8::1", "", "home").line(b"", at(0));
        assert!(line.starts_with(b"Received: from [IPv6:2001:db8::1]\r\n by localhost with POP3\r\n"));
    }

    #[test]
    fn nothing_from_outside_ends_the_comment_or_the_line() {
        let uid = [b"a)\\(\r\nX: y\xff".as_slice(), &[b'('; 2000]].concat();
        let line = Trace::new("a b\r\nX: y", "c)d", "grün\n(").line(&uid, at(0));
        assert!(line.is_ascii());
        let text = String::from_utf8(line).unwrap();
        assert!(text.lines().skip(1).all(|line| line.starts_with(' ') && line.len() < 998), "{text}");
        assert!(
            text.starts_with("Received: from abXy\r\n by cd with POP3\r\n (postrider; account gr??n?\\(;"),
            "{text}"
        );
        assert!(text.contains("unique-id a\\)\\\\\\(??X: y?\\("), "{text}");
        assert!(text.len() < LONGEST);
    }

    #[test]
    fn the_line_is_known_again_and_no_other_is_taken_for_it() {
        let line = Trace::new("pop.example.org", "mail", "home").line(b"1", at(0));
        let sent = [line.as_slice(), b"Received: from x\r\n\r\nbody"].concat();
        assert_eq!((length_with_crlf(&sent), length_with_crlf(&sent[1..])), (line.len(), 0));
        let line = String::from_utf8(line).unwrap().replace("\r\n", "\n");
        assert_eq!(length(format!("{line}Received: from x\n y\n\nbody").as_bytes()), line.len());
        assert_eq!(length(format!("Subject: x\n{line}\n").as_bytes()), 0);
        assert_eq!(length(format!("Received: from x\n by y\n{line}\n").as_bytes()), 0);
        assert_eq!(length(line.trim_end().as_bytes()), 0, "it has no end");
        assert_eq!(length(b""), 0);
    }
}
