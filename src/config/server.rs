//! How a server is reached and protected: the keys that accounts and targets have in common.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::account::{ClientCertificate, Tls, TlsMode, TlsVersion};
use super::fields::{Field, Place, or, spot};
use super::places::Places;
use super::tree::{Complaint, Entry};
use super::values;

/// The keys, in the order of the manual.
pub(super) const KEYS: [&str; 9] = [
    "tls",
    "tls_ca",
    "tls_pin",
    "tls_client_cert",
    "tls_client_key",
    "tls_server_name",
    "tls_min",
    "bind",
    "timeout",
];

/// The keys that were given.
#[derive(Clone, Default)]
pub(super) struct ServerFields {
    pub(super) tls: Option<Field<TlsMode>>,
    tls_ca: Option<Field<PathBuf>>,
    tls_pin: Option<Field<Vec<[u8; 32]>>>,
    tls_client_cert: Option<Field<PathBuf>>,
    tls_client_key: Option<Field<PathBuf>>,
    tls_server_name: Option<Field<String>>,
    tls_min: Option<Field<TlsVersion>>,
    pub(super) bind: Option<Field<IpAddr>>,
    pub(super) timeout: Option<Field<Duration>>,
}

impl ServerFields {
    /// Reads one key, in place of what it was before.
    ///
    /// # Errors
    ///
    /// A complaint about the value, or nothing if it is none of these keys.
    pub(super) fn take(
        &mut self,
        entry: &Entry<'_>,
        place: Place,
        places: &Places,
    ) -> Result<(), Option<Complaint>> {
        let value = &entry.value;
        match &*entry.key {
            "tls" => place.put(&mut self.tls, values::choice(value, &values::TLS_MODES)),
            "tls_ca" => place.put(&mut self.tls_ca, values::path(value, places)),
            "tls_pin" => place.put(&mut self.tls_pin, values::pins(value)),
            "tls_client_cert" => place.put(&mut self.tls_client_cert, values::path(value, places)),
            "tls_client_key" => place.put(&mut self.tls_client_key, values::path(value, places)),
            "tls_server_name" => place.put(&mut self.tls_server_name, values::host(value)),
            "tls_min" => place.put(&mut self.tls_min, values::choice(value, &values::TLS_VERSIONS)),
            "bind" => place.put(&mut self.bind, values::address(value)),
            "timeout" => place.put(&mut self.timeout, values::positive(value)),
            _ => return Err(None),
        }?;
        Ok(())
    }

    /// Finds keys that contradict each other; `default` is what `tls` is if it was not given.
    pub(super) fn conflicts(&self, default: TlsMode) -> Vec<Complaint> {
        let mut wrong = Vec::new();
        if let (Some(cert), None) = (&self.tls_client_cert, &self.tls_client_key) {
            wrong.push(Complaint::new(cert.at, "needs `tls_client_key` too").under(".tls_client_cert"));
        }
        if let (None, Some(key)) = (&self.tls_client_cert, &self.tls_client_key) {
            wrong.push(Complaint::new(key.at, "needs `tls_client_cert` too").under(".tls_client_key"));
        }
        let (what, level) = match &self.tls {
            Some(tls) if tls.value == TlsMode::None => {
                ("has no meaning with `tls: none`: remove one of them", Some(tls.level))
            }
            None if default == TlsMode::None => {
                ("has no meaning with `tls: none`, which is the default: remove it, or change that", None)
            }
            Some(_) | None => return wrong,
        };
        for (key, place) in self.tls_keys() {
            if let Some(place) = place.filter(|place| Some(place.level) >= level) {
                wrong.push(Complaint::new(place.at, what).under(&format!(".{key}")));
            }
        }
        wrong
    }

    /// Gives the keys that were given of those that mean nothing where no TCP connection is made, and where.
    pub(super) fn of_network(&self) -> impl Iterator<Item = (&'static str, Place)> {
        let own = [("tls", spot(self.tls.as_ref())), ("bind", spot(self.bind.as_ref()))];
        own.into_iter().chain(self.tls_keys()).filter_map(|(key, place)| Some((key, place?)))
    }

    fn tls_keys(&self) -> [(&'static str, Option<Place>); 6] {
        [
            ("tls_ca", spot(self.tls_ca.as_ref())),
            ("tls_pin", spot(self.tls_pin.as_ref())),
            ("tls_client_cert", spot(self.tls_client_cert.as_ref())),
            ("tls_client_key", spot(self.tls_client_key.as_ref())),
            ("tls_server_name", spot(self.tls_server_name.as_ref())),
            ("tls_min", spot(self.tls_min.as_ref())),
        ]
    }

    /// Gives when the handshake happens.
    pub(super) fn mode(&self, default: TlsMode) -> TlsMode {
        self.tls.as_ref().map_or(default, |tls| tls.value)
    }

    /// Gives how the connection is protected.
    pub(super) fn tls(self, default: TlsMode) -> Tls {
        let mode = self.mode(default);
        if mode == TlsMode::None {
            // What the defaults say about TLS does not concern an account that goes without.
            return Tls::bare(mode);
        }
        let client = match (self.tls_client_cert, self.tls_client_key) {
            (Some(chain), Some(key)) => Some(ClientCertificate { chain: chain.value, key: key.value }),
            (Some(_), None) | (None, Some(_)) | (None, None) => None,
        };
        Tls {
            mode,
            ca: self.tls_ca.map(|field| field.value),
            pins: or(self.tls_pin, Vec::new()),
            client,
            server_name: self.tls_server_name.map(|field| field.value),
            min: or(self.tls_min, TlsVersion::Tls12),
        }
    }
}
