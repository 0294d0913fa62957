//! What a user is told when an account's poll failed: account, host, step, class, the server's words, a hint.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::OnceLock;

use serde::{Serialize, Serializer};

use crate::text::Shown;

/// Says what kind of trouble a [`Failure`] is; it decides exit status and how long to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// Name resolution, connection, time limit, a connection that ended early: the network or the server is away.
    Network,
    /// TLS: the certificate or the handshake.
    Tls,
    /// The server broke the protocol.
    Protocol,
    /// The server refused for now (`[SYS/TEMP]`, or a refusal without a code).
    Refused,
    /// The maildrop is locked by another session, here or elsewhere (`[IN-USE]`).
    InUse,
    /// The server wants longer pauses between log-ins (`[LOGIN-DELAY]`).
    LoginDelay,
    /// The server refused the credentials, or there are none.
    Credentials,
    /// The server says that a person must act (`[SYS/PERM]`).
    Permanent,
    /// The delivery target failed as a whole (disk full, not writable).
    Target,
    State,
    /// A hook of the user's that the poll depends on failed, or what the password comes from gave no answer in time.
    Hook,
    /// A message could not be fetched or delivered; the others were.
    Message,
    /// Ended by a signal before the work was done.
    Stopped,
    /// A defect of this program.
    Internal,
    /// What the configuration names is not there, or not as it must be; nothing was contacted.
    Configuration,
}

/// How a failure bears on the next poll of a daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backoff {
    /// It does not.
    No,
    /// Each failure in a row doubles the wait.
    Doubling,
    /// As long as it gets: nothing changes until a person acts.
    Longest,
}

/// Whether a failure that lasts is told by a message of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Notice {
    Own,
    /// Nothing is wrong, nothing would be remembered of it, or messages that are held tell it.
    None,
}

/// What follows from each class, in their order: its name for machines (JSON results, the state file, hooks), the exit
/// status of a one-shot run that met it (sysexits.h: 75 `EX_TEMPFAIL`, 77 `EX_NOPERM`, 78 `EX_CONFIG`), when to poll again, the notice.
const CLASSES: [(Class, &str, u8, Backoff, Notice); 15] = [
    (Class::Network, "network", 75, Backoff::Doubling, Notice::Own),
    (Class::Tls, "tls", 75, Backoff::Doubling, Notice::Own),
    (Class::Protocol, "protocol", 75, Backoff::Doubling, Notice::Own),
    (Class::Refused, "refused", 75, Backoff::Doubling, Notice::Own),
    (Class::InUse, "in-use", 75, Backoff::Doubling, Notice::Own),
    (Class::LoginDelay, "login-delay", 75, Backoff::Doubling, Notice::Own),
    // A refused password is not sent again before its time; the session sees to that. Coming back sooner is what notices
    // a password that was changed.
    (Class::Credentials, "credentials", 77, Backoff::Doubling, Notice::Own),
    // RFC 3206, 4: [SYS/PERM] is not resolved by trying again.
    (Class::Permanent, "permanent", 75, Backoff::Longest, Notice::Own),
    // The target may have room for a notice, or be back.
    (Class::Target, "target", 75, Backoff::Doubling, Notice::Own),
    (Class::State, "state", 75, Backoff::Doubling, Notice::None),
    (Class::Hook, "hook", 75, Backoff::Doubling, Notice::Own),
    // A message that is held has a growing wait of its own, and the others came through.
    (Class::Message, "message", 75, Backoff::No, Notice::None),
    // Whoever stops the process has no next poll.
    (Class::Stopped, "stopped", 75, Backoff::No, Notice::None),
    (Class::Internal, "internal", 75, Backoff::Doubling, Notice::Own),
    // Before anything is begun: no account's poll ends so.
    (Class::Configuration, "configuration", 78, Backoff::Longest, Notice::None),
];

// Each class has the row of its number; the last class is named here.
const _: () = {
    assert!(CLASSES.len() == Class::Configuration as usize + 1);
    let mut row = 0;
    while row < CLASSES.len() {
        assert!(CLASSES[row].0 as usize == row);
        row += 1;
    }
};

impl Class {
    pub fn exit_status(self) -> u8 {
        CLASSES[self as usize].2
    }

    pub fn backoff(self) -> Backoff {
        CLASSES[self as usize].3
    }

    /// Says whether it is told by a notice of its own if it lasts.
    pub fn has_a_notice(self) -> bool {
        CLASSES[self as usize].4 == Notice::Own
    }

    /// Finds the class of this name; a newer version may have written one that is not known here.
    pub fn named(name: &str) -> Option<Self> {
        CLASSES.iter().find(|(_, known, ..)| *known == name).map(|(class, ..)| *class)
    }

    pub fn name(self) -> &'static str {
        CLASSES[self as usize].1
    }
}

impl Serialize for Class {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// Says why this process could not use a path, if it was kept from it; without `error` nothing is known but the path.
type Explain = fn(path: &Path, error: Option<&io::Error>) -> Option<String>;

static EXPLAIN: OnceLock<Explain> = OnceLock::new();

/// Has failures on paths explained by who keeps this process from files.
pub(crate) fn set_explanation(explain: Explain) {
    // There is one, as there is one process.
    let _ = EXPLAIN.set(explain);
}

/// Gives a hint for a failed operation on a path, if this process is kept from it.
pub(crate) fn explained(path: &Path, error: Option<&io::Error>) -> Option<String> {
    EXPLAIN.get()?(path, error)
}

/// The end of a poll that did not succeed, in the words a user needs.
///
/// Display is one to three lines, without the program's name:
///
/// ```text
/// home: pop.example.org:995: log in as alice (PLAIN): refused
///   server: [AUTH] Authentication failed.
///   hint: check the password
/// ```
///
/// As JSON, which the manual describes, it has class, host, doing, what, server and hint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    #[serde(skip)]
    pub account: String,
    pub class: Class,
    /// `host:port`, empty when no server was involved.
    pub host: String,
    /// What was being done, as a verb phrase: `log in as alice (PLAIN)`.
    pub doing: String,
    /// What went wrong: `refused`, `gave up after 60s waiting for the greeting`.
    pub what: String,
    /// The server's own words, if it said any: octets that need not be text at all, and are shown as such everywhere.
    #[serde(rename = "server", serialize_with = "shown")]
    pub said: Option<Vec<u8>>,
    /// What the user can do, if that is known.
    pub hint: Option<String>,
}

fn shown<S: Serializer>(said: &Option<Vec<u8>>, serializer: S) -> Result<S::Ok, S::Error> {
    said.as_ref().map(|said| Shown(said).to_string()).serialize(serializer)
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.account)?;
        if !self.host.is_empty() {
            write!(f, "{}: ", self.host)?;
        }
        if !self.doing.is_empty() {
            write!(f, "{}: ", self.doing)?;
        }
        f.write_str(&self.what)?;
        if let Some(said) = &self.said {
            write!(f, "\n  server: {}", Shown(said))?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

/// What servers say when it is not the credentials: the maildrop is locked, they are busy, or what stands behind them is
/// away. RFC 1939's own example of a refused PASS is a locked maildrop; nginx says "internal server error".
const LOCKED: [&[u8]; 10] = [
    b"lock",
    b"busy",
    b"in use",
    b"another session",
    b"temporar",
    b"try again",
    b"too many",
    b"unavailable",
    b"server error",
    b"could not connect",
];

/// Says whether these are words of a lock, or of a server that is away.
pub fn speaks_of_a_lock(said: &[u8]) -> bool {
    let said = said.to_ascii_lowercase();
    LOCKED.iter().any(|words| memchr::memmem::find(&said, words).is_some())
}

/// Says whether these are words of a server that wants TLS.
pub fn speaks_of_tls(said: &[u8]) -> bool {
    let said = said.to_ascii_lowercase();
    let words: [&[u8]; 6] = [b"tls", b"ssl", b"encrypt", b"secure", b"plaintext", b"cleartext"];
    words.iter().any(|word| memchr::memmem::find(&said, word).is_some())
}

/// Says whether these are words of a mailbox that has POP switched off: "Your account is not enabled for POP access".
pub fn speaks_of_pop_off(said: &[u8]) -> bool {
    let said = said.to_ascii_lowercase();
    let has = |words: &[u8]| memchr::memmem::find(&said, words).is_some();
    let off: [&[u8]; 5] = [b"not enabled", b"disabled", b"not activated", b"switched off", b"turned off"];
    has(b"pop") && off.iter().any(|words| has(words))
}

/// What some providers' words mean for whoever has to do something, and what the words are.
const MEANINGS: [(&str, &str); 9] = [
    (
        "smtpclientauthentication is disabled",
        "sending with a log-in is switched off for this mailbox: its administrator switches \"Authenticated SMTP\" on",
    ),
    ("basic authentication is disabled", NO_PASSWORDS),
    ("basic auth is disabled", NO_PASSWORDS),
    ("application-specific password", APP_PASSWORD),
    ("app password", APP_PASSWORD),
    ("web login required", "log in in a browser once and answer what is asked there, then try again"),
    (
        "log in via your web browser",
        "log in in a browser once and answer what is asked there, then try again",
    ),
    (
        "authenticated but not connected",
        "the token is of another user than the mailbox, or the application may not open this mailbox",
    ),
    ("imap access is disabled", "IMAP is switched off for this mailbox: switch it on in its settings"),
];
const NO_PASSWORDS: &str =
    "this server takes no passwords any more: write `oauth2` in the place of `password`";
const APP_PASSWORD: &str =
    "the server wants an app password, which is made in the account's security settings, or `oauth2`";

/// Says what a provider's words mean, where that is more than they say.
pub fn meaning(said: &[u8]) -> Option<&'static str> {
    let said = said.to_ascii_lowercase();
    let is_in = |words: &str| memchr::memmem::find(&said, words.as_bytes()).is_some();
    MEANINGS.iter().find(|(words, _)| is_in(words)).map(|(_, meaning)| *meaning)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mailbox_that_has_pop_switched_off_is_told_from_a_wrong_password() {
        for said in [
            "[SYS/PERM] Your account is not enabled for POP access. Please visit your Gmail settings page",
            "[AUTH] POP3 is disabled",
            "login failure or POP3 disabled, try later",
        ] {
            assert!(speaks_of_pop_off(said.as_bytes()), "{said}");
        }
        for said in ["[AUTH] Username and password not accepted.", "POP3 server ready", "account is disabled"]
        {
            assert!(!speaks_of_pop_off(said.as_bytes()), "{said}");
        }
    }

    #[test]
    fn what_a_provider_says_of_its_switches_is_told_in_words_of_what_to_do() {
        for (said, told) in [
            (
                "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Tenant.",
                "\"Authenticated SMTP\"",
            ),
            ("535 5.7.139 Authentication unsuccessful, basic authentication is disabled.", "`oauth2`"),
            ("[AUTH] Application-specific password required: https://support.google.com", "app password"),
            ("[AUTH] Web login required.", "in a browser once"),
            ("NO User is authenticated but not connected.", "another user"),
        ] {
            assert!(meaning(said.as_bytes()).is_some_and(|meaning| meaning.contains(told)), "{said}");
        }
        assert_eq!(meaning(b"[AUTH] Username and password not accepted."), None);
    }

    #[test]
    fn a_failure_names_account_host_step_words_and_hint() {
        let failure = Failure {
            account: "home".into(),
            host: "pop.example.org:995".into(),
            doing: "log in as alice (PLAIN)".into(),
            class: Class::Credentials,
            what: "refused".into(),
            said: Some(b"[AUTH] no\x07".to_vec()),
            hint: Some("check the password".into()),
        };
        assert_eq!(
            failure.to_string(),
            "home: pop.example.org:995: log in as alice (PLAIN): refused\n  server: [AUTH] no\\u{7}\n  hint: check the password"
        );
        assert_eq!(failure.class.exit_status(), 77);
    }
}
