//! Status lines and their response codes (RFC 1939, 3; RFC 2449, 8; RFC 3206).

use std::ops::Range;

/// The status indicator of a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Ok,
    Err,
    /// `+` and a challenge (RFC 5034, 4).
    Continue,
}

/// A status line, without its line end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply<'a> {
    pub status: Status,
    /// What follows the status indicator and one blank.
    pub text: &'a [u8],
}

/// A response code: why the server refuses, for programs to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// `[IN-USE]`: another session has the maildrop (RFC 2449, 8.1.2).
    InUse,
    /// `[LOGIN-DELAY]`: logged in too recently (RFC 2449, 8.1.1).
    LoginDelay,
    /// `[SYS/TEMP]`: will pass by itself (RFC 3206, 4).
    SysTemp,
    /// `[SYS/PERM]`: a person must act (RFC 3206, 4).
    SysPerm,
    /// `[AUTH]`: the credentials are at fault (RFC 3206, 5).
    Auth,
    Other,
}

impl Code {
    /// Says whether it tells of the server's own state, so that the message it stands for is not to blame.
    pub fn is_of_server(self) -> bool {
        match self {
            Self::InUse | Self::LoginDelay | Self::SysTemp | Self::Auth => true,
            Self::SysPerm | Self::Other => false,
        }
    }
}

/// Says whether a line is a status line, whatever it stands for.
pub fn is_status(line: &[u8]) -> bool {
    split(line).is_some_and(|(status, _)| status != Status::Continue)
}

/// Finds the status indicator of a line: the status and where its text lies.
///
/// `None` if the line is no reply: it begins with neither `+` nor `-ERR`.
pub(super) fn split(line: &[u8]) -> Option<(Status, Range<usize>)> {
    let begins = |word: &[u8]| {
        line.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word))
            && line.get(word.len()).is_none_or(|next| next.is_ascii_whitespace() || *next == b'[')
    };
    let (status, end) = if begins(b"+OK") {
        (Status::Ok, 3)
    } else if begins(b"-ERR") {
        (Status::Err, 4)
    } else if line.first() == Some(&b'+') {
        // Servers are seen to leave out the blank after the plus sign.
        (Status::Continue, 1)
    } else {
        return None;
    };
    let start = end + usize::from(line.get(end).is_some_and(u8::is_ascii_whitespace));
    Some((status, start..line.len()))
}

impl<'a> Reply<'a> {
    /// Parses a status line without its line end; `None` if it is none.
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        split(line).map(|(status, text)| Self { status, text: &line[text] })
    }

    /// Says whether it is `+OK`.
    pub fn is_ok(&self) -> bool {
        self.status == Status::Ok
    }

    /// Finds the response code, if the text begins with one. The words are compared without regard to case; of a
    /// hierarchical code the first levels decide.
    pub fn code(&self) -> Option<Code> {
        let rest = self.text.trim_ascii_start().strip_prefix(b"[")?;
        let word = &rest[..memchr::memchr(b']', rest)?];
        let mut levels = word.split(|octet| *octet == b'/');
        let mut level = || levels.next().map(<[u8]>::to_ascii_uppercase).unwrap_or_default();
        Some(match (&*level(), &*level()) {
            (b"IN-USE", _) => Code::InUse,
            (b"LOGIN-DELAY", _) => Code::LoginDelay,
            (b"AUTH", _) => Code::Auth,
            (b"SYS", b"PERM") => Code::SysPerm,
            (b"SYS", _) => Code::SysTemp,
            _ => Code::Other,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_indicator_decides_and_one_blank_is_taken_off() {
        for (line, status, text) in [
            (&b"+OK"[..], Status::Ok, &b""[..]),
            (b"+OK ", Status::Ok, b""),
            (b"+ok  two blanks", Status::Ok, b" two blanks"),
            (b"-ERR [AUTH] no", Status::Err, b"[AUTH] no"),
            (b"-err[SYS/TEMP] glued", Status::Err, b"[SYS/TEMP] glued"),
            (b"+ Y2hhbGxlbmdl", Status::Continue, b"Y2hhbGxlbmdl"),
            (b"+", Status::Continue, b""),
            (b"+Y2hh", Status::Continue, b"Y2hh"),
            (b"+OKAY", Status::Continue, b"OKAY"),
        ] {
            assert_eq!(Reply::parse(line), Some(Reply { status, text }), "{line:?}");
        }
    }

    #[test]
    fn what_begins_otherwise_is_no_reply() {
        for line in [&b""[..], b"OK", b"* OK IMAP4", b"220 mail ESMTP", b"-ERROR", b"-- ", b" +OK"] {
            assert_eq!(Reply::parse(line), None, "{line:?}");
        }
    }

    #[test]
    fn response_codes_are_found_at_the_start_of_the_text_only() {
        let code = |line: &'static [u8]| Reply::parse(line).unwrap().code();
        assert_eq!(code(b"-ERR [IN-USE] Do you have another POP session running?"), Some(Code::InUse));
        assert_eq!(
            code(b"-ERR [login-delay] minimum time between mail checks violation"),
            Some(Code::LoginDelay)
        );
        assert_eq!(code(b"-ERR [AUTH] PAM authentication failed"), Some(Code::Auth));
        assert_eq!(code(b"-ERR [SYS/TEMP] try later"), Some(Code::SysTemp));
        assert_eq!(code(b"-ERR [SYS/PERM/DISK] gone"), Some(Code::SysPerm));
        assert_eq!(code(b"-ERR [XYZ] what"), Some(Code::Other));
        assert_eq!(code(b"-ERR no [AUTH] here"), None);
        assert_eq!(code(b"-ERR [AUTH without end"), None);
    }
}
