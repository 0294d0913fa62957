//! What it means that a server does not take a message.

use crate::delivery::LARGE;
use crate::failure::Class;
use crate::imap::{Kind, Status};

/// Whose trouble a refusal is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Blame {
    /// The message's: it will never be taken.
    Message,
    /// The message's: it may be taken later.
    MessageNow,
    /// Nobody knows whose: it may be taken later.
    Unknown,
    /// The folder is missing.
    Folder,
    /// The target's.
    Target(Class),
}

/// Judges an answer to APPEND that was not yes, by its response code (RFC 5530; RFC 9051, 7.1; RFC 4469).
pub(super) fn blame(status: &Status, octets: u64) -> Blame {
    match status.code().as_deref() {
        Some("TOOBIG" | "CANNOT" | "UNKNOWN-CTE") => Blame::Message,
        // A large one must not keep smaller ones away, which there may be room for.
        Some("OVERQUOTA") if octets > LARGE => Blame::MessageNow,
        Some("TRYCREATE" | "NONEXISTENT") => Blame::Folder,
        code if is_the_targets(code) => Blame::Target(Class::Target),
        Some("AUTHENTICATIONFAILED" | "AUTHORIZATIONFAILED" | "EXPIRED" | "NOPERM" | "PRIVACYREQUIRED") => {
            Blame::Target(Class::Credentials)
        }
        _ if status.kind == Kind::Bad => Blame::Message,
        _ => Blame::Unknown,
    }
}

/// Judges an answer to a command that is about no message.
pub(super) fn class(status: &Status) -> Class {
    match blame(status, 0) {
        Blame::Target(class) => class,
        Blame::Message | Blame::MessageNow | Blame::Unknown | Blame::Folder => Class::Target,
    }
}

/// Says whether a response code tells of trouble that is not the user's, nor a message's, and goes by.
pub(super) fn is_the_targets(code: Option<&str>) -> bool {
    matches!(
        code,
        Some("OVERQUOTA" | "LIMIT" | "UNAVAILABLE" | "INUSE" | "SERVERBUG" | "CORRUPTION" | "CONTACTADMIN")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imap::{Client, Event};
    use crate::line::Protocol as _;

    fn status(line: &str) -> Status {
        let mut client = Client::after_starttls();
        client.send(&crate::imap::Command::Noop).unwrap();
        match client.incoming(format!("P1 {line}\r\n").as_bytes()).unwrap().unwrap().1 {
            Event::Done(_, _, status) => status,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_response_code_says_whose_trouble_a_refusal_is() {
        for (line, octets, whose) in [
            ("NO [TOOBIG] no", 1, Blame::Message),
            ("NO [overquota] full", 1, Blame::Target(Class::Target)),
            ("NO [OVERQUOTA] full", 1 << 20, Blame::MessageNow),
            ("NO [UNAVAILABLE] x", 1, Blame::Target(Class::Target)),
            ("NO [NOPERM] x", 1, Blame::Target(Class::Credentials)),
            ("NO [TRYCREATE] x", 1, Blame::Folder),
            ("NO x", 1, Blame::Unknown),
            ("NO [X-NEW] x", 1, Blame::Unknown),
            ("BAD bare LF", 1, Blame::Message),
        ] {
            assert_eq!(blame(&status(line), octets), whose, "{line}");
        }
    }
}
