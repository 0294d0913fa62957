//! How a server is reached and protected: the keys that accounts and targets have in common, and what they mean
//! together.

use super::account::{Tls, TlsMode};
use super::rows::{Key, Mark, marked, within};
use super::target::Route;
use super::tree::{Complaint, Entry};

/// Makes the rows of a mapping that has a [`super::account::Tls`]: where it is, some rows, those of TLS, and more rows.
macro_rules! with_tls {
    ($($tls:ident).+, [$($before:expr),* $(,)?], [$($after:expr),* $(,)?]) => {{
        use $crate::config::account::TlsMode;
        use $crate::config::{rows, values};
        &[
            $($before,)*
            rows::key!("tls", $($tls).+.mode, values::choice!(values::TLS_MODES), "When TLS begins: implicit, starttls or none.", Row),
            rows::key!("tls_ca", $($tls).+.ca, values::CERTIFICATES, "A file of certificates that are trusted instead of the system's.", Tls),
            rows::key!("tls_pin", $($tls).+.pins, values::PINS, "Fingerprints of the server's certificate, in place of all other checks.", Row, Tls),
            rows::part!("tls_client_cert", $($tls).+.client => chain, values::CERTIFICATES, "A file with the client's certificate chain.", Tls),
            rows::part!("tls_client_key", $($tls).+.client => key, values::PRIVATE_KEY, "A file with the client's private key.", Tls),
            rows::key!("tls_server_name", $($tls).+.server_name, values::HOST, "The name to verify when it is not the host.", Row, Tls),
            Key {
                name: "tls_min",
                about: "The lowest version of TLS that is accepted: 1.2 or 1.3.",
                kind: rows::Kind::Inside,
                marks: &[rows::Mark::Row, rows::Mark::Tls],
                read: |entry, places, into| {
                    into.$($tls).+.min = (values::choice!(values::TLS_VERSIONS).read)(&entry.value, places)?;
                    Ok(())
                },
                show: |from| match from.$($tls).+.mode {
                    TlsMode::Implicit | TlsMode::StartTls => format!("'{}'", values::name_of(&values::TLS_VERSIONS, &from.$($tls).+.min)),
                    // Refused beside `tls: none`, where it means nothing.
                    TlsMode::None => String::new(),
                },
            },
            $($after,)*
        ]
    }};
}

/// Makes the rows of a target that is a server: some rows, those of the route to it, and more rows.
macro_rules! of_target {
    ([$($before:expr),* $(,)?], [$($after:expr),* $(,)?]) => {
        $crate::config::server::with_tls!(
            route.tls,
            [$($before,)*],
            [
                rows::key!("bind", route.bind, values::ADDRESS, "The address of this machine to connect from."),
                rows::key!("proxy", route.proxy, values::PROXY, "A proxy that connects to the server: socks5:// or http://."),
                rows::key!("timeout", route.timeout, values::POSITIVE, "The longest wait for a connect or for the server."),
                $($after,)*
            ]
        )
    };
}

pub(super) use {of_target, with_tls};

/// Where a key stands; what an account says itself weighs more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Defaults,
    Own,
}

/// The keys that were given: those of `defaults` and, laid over them, the account's or target's own.
#[derive(Clone, Copy, Default)]
pub(super) struct Given<'n, 't> {
    pub(super) own: &'n [Entry<'t>],
    pub(super) defaults: &'n [Entry<'t>],
}

impl<'n, 't> Given<'n, 't> {
    pub(super) fn find(&self, key: &str) -> Option<(&'n Entry<'t>, Level)> {
        let find = |entries: &'n [Entry<'t>], level| {
            entries.iter().find(|entry| entry.key == key).map(|entry| (entry, level))
        };
        find(self.own, Level::Own).or_else(|| find(self.defaults, Level::Defaults))
    }
}

/// Says what is wrong with a key of a target.
pub(super) fn wrong(entry: &Entry<'_>, what: &str) -> Complaint {
    Complaint::new(entry.at, what).under(&format!(".{}", entry.key))
}

/// The keys that stand under the kind of a target.
#[derive(Clone, Copy)]
pub(super) struct Keys<'n, 't>(pub(super) &'n [Entry<'t>]);

impl<'n, 't> Keys<'n, 't> {
    pub(super) fn find(self, key: &str) -> Option<&'n Entry<'t>> {
        self.0.iter().find(|entry| entry.key == key)
    }

    /// Complains of the first key of TLS that contradicts another; `keys` are those that there are.
    pub(super) fn agree<T>(self, mode: TlsMode, keys: &[Key<T>]) -> Result<(), Complaint> {
        let given = Given { own: self.0, defaults: &[] };
        conflicts(given, mode, keys).first().map_or(Ok(()), |(entry, what)| Err(wrong(entry, what)))
    }

    /// Complains of a password and tokens at once.
    pub(super) fn has_one_credential(self) -> Result<(), Complaint> {
        match (self.find("password"), self.find("oauth2")) {
            (Some(_), Some(oauth2)) => {
                Err(within(oauth2, oauth2.value.wrong("has no meaning with `password`: remove one of them")))
            }
            _ => Ok(()),
        }
    }
}

/// Says which key of a target is worth its room on one line, whatever it says: not what is usual.
pub(super) fn is_unusual(key: &str, route: &Route) -> bool {
    key != "tls_min" || route.tls.min != Tls::bare(route.tls.mode).min
}

/// Finds keys of TLS that contradict each other, and says what is wrong with each; `keys` are those that there are.
pub(super) fn conflicts<'n, 't, T>(
    given: Given<'n, 't>,
    mode: TlsMode,
    keys: &[Key<T>],
) -> Vec<(&'n Entry<'t>, &'static str)> {
    let mut wrong = Vec::new();
    match (given.find("tls_client_cert"), given.find("tls_client_key")) {
        (Some((cert, _)), None) => wrong.push((cert, "needs `tls_client_key` too")),
        (None, Some((key, _))) => wrong.push((key, "needs `tls_client_cert` too")),
        (Some(_), Some(_)) | (None, None) => {}
    }
    if mode != TlsMode::None {
        return wrong;
    }
    let (what, level) = match given.find("tls") {
        Some((_, level)) => ("has no meaning with `tls: none`: remove one of them", level),
        None => (
            "has no meaning with `tls: none`, which is the default: remove it, or change that",
            Level::Defaults,
        ),
    };
    let meaningless =
        marked(keys, Mark::Tls).filter_map(|key| given.find(key)).filter(|(_, at)| *at >= level);
    wrong.extend(meaningless.map(|(entry, _)| (entry, what)));
    wrong
}
