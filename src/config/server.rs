//! How a server is reached and protected: the keys that accounts and targets have in common, and what they mean
//! together.

use super::account::TlsMode;
use super::tree::Entry;

/// Makes the rows of a mapping whose `tls` is a [`super::account::Tls`]: some rows, those of TLS, and more rows.
macro_rules! with_tls {
    ([$($before:expr),* $(,)?], [$($after:expr),* $(,)?]) => {{
        use $crate::config::account::TlsMode;
        use $crate::config::{rows, values};
        &[
            $($before,)*
            rows::key!("tls", tls.mode, values::choice!(values::TLS_MODES), "When TLS begins: implicit, starttls or none."),
            rows::key!("tls_ca", tls.ca, values::PATH, "A file of certificates that are trusted instead of the system's."),
            rows::key!("tls_pin", tls.pins, values::PINS, "Fingerprints of the server's certificate, in place of all other checks."),
            Key {
                name: "tls_client_cert",
                about: "A file with the client's certificate chain.",
                read: |entry, places, into| {
                    into.tls.client.get_or_insert_default().chain = (values::PATH.read)(&entry.value, places)?;
                    Ok(())
                },
                show: |from| from.tls.client.as_ref().map_or_else(String::new, |client| (values::PATH.show)(&client.chain)),
            },
            Key {
                name: "tls_client_key",
                about: "A file with the client's private key.",
                read: |entry, places, into| {
                    into.tls.client.get_or_insert_default().key = (values::PATH.read)(&entry.value, places)?;
                    Ok(())
                },
                show: |from| from.tls.client.as_ref().map_or_else(String::new, |client| (values::PATH.show)(&client.key)),
            },
            rows::key!("tls_server_name", tls.server_name, values::HOST, "The name to verify when it is not the host."),
            Key {
                name: "tls_min",
                about: "The lowest version of TLS that is accepted: 1.2 or 1.3.",
                read: |entry, places, into| {
                    into.tls.min = (values::choice!(values::TLS_VERSIONS).read)(&entry.value, places)?;
                    Ok(())
                },
                show: |from| match from.tls.mode {
                    TlsMode::Implicit | TlsMode::StartTls => format!("'{}'", values::name_of(&values::TLS_VERSIONS, &from.tls.min)),
                    // Refused beside `tls: none`, where it means nothing.
                    TlsMode::None => String::new(),
                },
            },
            $($after,)*
        ]
    }};
}

/// Makes the rows of a target that is a server: some rows, those of TLS and of the way there, and more rows.
macro_rules! of_target {
    ([$($before:expr),* $(,)?], [$($after:expr),* $(,)?]) => {
        with_tls!(
            [$($before,)*],
            [
                rows::key!("bind", bind, values::ADDRESS, "The address of this machine to connect from."),
                rows::key!("proxy", proxy, values::PROXY, "A proxy that connects to the server: socks5:// or http://."),
                rows::key!("timeout", timeout, values::POSITIVE, "The longest wait for a connect or for an answer."),
                $($after,)*
            ]
        )
    };
}

pub(super) use {of_target, with_tls};

/// Keys that mean nothing without TLS.
pub(super) const OF_TLS: [&str; 6] =
    ["tls_ca", "tls_pin", "tls_client_cert", "tls_client_key", "tls_server_name", "tls_min"];

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

/// Finds keys of TLS that contradict each other, and says what is wrong with each.
pub(super) fn conflicts<'n, 't>(given: Given<'n, 't>, mode: TlsMode) -> Vec<(&'n Entry<'t>, &'static str)> {
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
    let meaningless = OF_TLS.iter().filter_map(|key| given.find(key)).filter(|(_, at)| *at >= level);
    wrong.extend(meaningless.map(|(entry, _)| (entry, what)));
    wrong
}
