//! What accounts and targets on the command line are made of, and what can be wrong with them.

use super::host::BadAddress;
use super::values::one_of;
use crate::sasl::{MECHANISMS, Mechanism};

/// Why a URL and a target are no account. Display quotes nothing of the URL, which may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Another scheme or none.
    #[error("cannot read the URL: must begin with pops:// (TLS at once) or pop:// (STLS)")]
    Scheme,
    /// `user:password@host`.
    #[error(
        "cannot read the URL: no password may stand in it, since other users see command lines and shells keep them; \
         leave it out and it is asked for, or use --password-command (a `:` that belongs to the user is written %3A)"
    )]
    Password,
    /// Nothing before the `@`, or no `@`.
    #[error("cannot read the URL: names no user, as in pops://alice@pop.example.org")]
    NoUser,
    /// `%` without two hexadecimal digits, or octets that are no UTF-8, or control characters.
    #[error("cannot read the URL: it must be text, with % followed by two hexadecimal digits")]
    Encoding,
    /// A parameter other than AUTH, or two.
    #[error("cannot read the URL: nothing but one ;AUTH=MECHANISM may follow the user")]
    Parameter,
    #[error("cannot read the URL: unknown mechanism after ;AUTH=: must be *, {}", one_of(&mechanisms()))]
    Mechanism,
    /// Tokens take more words than a URL has.
    #[error("cannot use {what} with a URL: write an account with `oauth2` into the configuration")]
    Tokens { what: &'static str },
    #[error("cannot read the URL: the host {0}")]
    Host(&'static str),
    #[error("cannot read the URL: the port must be a number from 1 to 65535")]
    Port,
    /// Something behind the host.
    #[error("cannot read the URL: nothing may follow host and port (RFC 2384)")]
    Path,
    #[error("cannot deliver there: --deliver must be {}", one_of(&TARGETS.map(|(_, _, written)| written)))]
    Target,
    #[error("cannot deliver there: two of the targets are the same")]
    Twice,
    /// What stands behind `--deliver smtp:` is not what the configuration could say.
    #[error("cannot deliver there: {0}")]
    TargetKey(String),
    /// Something else behind the `?`.
    #[error("cannot deliver there: what stands behind the ? must be KEY=VALUE, joined by &")]
    TargetQuery,
    /// A log-in, whose password would stand on the command line.
    #[error("cannot deliver there: a server that wants a log-in needs a configuration file")]
    TargetLogin,
    #[error("cannot deliver there: names no user, as in imaps://alice@imap.example.org/INBOX")]
    NoTargetUser,
    /// `--deliver maildir:` with a path that is none.
    #[error("cannot deliver there: the path {0}")]
    TargetPath(&'static str),
    #[error("cannot deliver there: cannot tell the working directory; write the path in full")]
    WorkingDirectory,
    /// `--deliver pipe:` with a command that cannot be one.
    #[error("cannot deliver there: the command {0}")]
    TargetCommand(String),
    /// `--deliver https:` with a URL that is none, or must not be used.
    #[error("cannot deliver there: it {0}")]
    TargetUrl(String),
    /// An empty `--password-command`.
    #[error("cannot run the password command: it is empty")]
    Command,
    /// In the clear, and no mechanism named.
    #[error(
        "cannot log in: without TLS no password is sent unless the URL names a mechanism, as in \
         pop://alice;AUTH=SCRAM-SHA-256@pop.example.org, or ;AUTH=+USER to send the password in the clear"
    )]
    Clear,
}

/// What stands before the colon of a target on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TargetScheme {
    Maildir,
    Mbox,
    Pipe,
    Smtp,
    Smtps,
    Lmtp,
    Imap,
    Imaps,
    Https,
    Http,
}

impl TargetScheme {
    pub(super) fn named(text: &str) -> Option<Self> {
        TARGETS.into_iter().find(|(name, _, _)| *name == text).map(|(_, scheme, _)| scheme)
    }
}

/// Each with how its targets are written.
const TARGETS: [(&str, TargetScheme, &str); 10] = [
    ("maildir", TargetScheme::Maildir, "maildir:PATH"),
    ("mbox", TargetScheme::Mbox, "mbox:PATH"),
    ("pipe", TargetScheme::Pipe, "pipe:COMMAND"),
    ("smtp", TargetScheme::Smtp, "smtp://HOST?to=ADDRESS"),
    ("smtps", TargetScheme::Smtps, "smtps://HOST?to=ADDRESS"),
    ("lmtp", TargetScheme::Lmtp, "lmtp:SOCKET?to=ADDRESS, lmtp://HOST?to=ADDRESS"),
    ("imap", TargetScheme::Imap, "imap://USER@HOST/FOLDER"),
    ("imaps", TargetScheme::Imaps, "imaps://USER@HOST/FOLDER"),
    ("https", TargetScheme::Https, "https://HOST/PATH"),
    ("http", TargetScheme::Http, "http://localhost/PATH"),
];

impl From<BadAddress> for UrlError {
    fn from(bad: BadAddress) -> Self {
        match bad {
            BadAddress::Host => Self::Host("must be in brackets if it is an IPv6 address"),
            BadAddress::Port => Self::Port,
        }
    }
}

/// Names a mechanism in a URL: by its SASL name, and with `+` what is not SASL (RFC 2384, 3); `+USER` is ours.
pub(super) fn in_url(mechanism: Mechanism) -> &'static str {
    match mechanism.sasl_name() {
        Some(name) => name,
        None if mechanism == Mechanism::UserPass => "+USER",
        None => "+APOP",
    }
}

fn mechanisms() -> Vec<&'static str> {
    MECHANISMS.iter().map(|row| in_url(row.mechanism)).collect()
}
