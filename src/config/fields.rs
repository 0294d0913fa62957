//! The keys of an account while its configuration is read: some from `defaults`, some its own.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::account::{
    Account, Auth, ClientCertificate, CommandLine, FirstSync, Hooks, Interval, Keep, Order, Password,
    Pipelining, Tls, TlsMode, TlsVersion,
};
use super::file::Secrets;
use super::places::Places;
use super::target::{Login, Target};
use super::tree::{Complaint, Entry, Position};
use super::values::{self, NOT_YET};

/// The keys of an account, in the order of the manual.
pub(super) const KEYS: [&str; 29] = [
    "host",
    "user",
    "port",
    "tls",
    "tls_ca",
    "tls_pin",
    "tls_client_cert",
    "tls_client_key",
    "tls_server_name",
    "tls_min",
    "auth",
    "password",
    "oauth2",
    "proxy",
    "connect",
    "bind",
    "timeout",
    "interval",
    "keep",
    "first_sync",
    "order",
    "max_size",
    "max_messages",
    "pipelining",
    "deliver",
    "received",
    "enabled",
    "maildrop_id",
    "hooks",
];

pub(super) const TIMEOUT: Duration = Duration::from_secs(60);
pub(super) const INTERVAL: Duration = Duration::from_secs(5 * 60);

/// Where a key stands; what an account says itself weighs more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Defaults,
    Account,
}

/// A value, where it stands and at what level.
#[derive(Clone)]
pub(super) struct Field<T> {
    pub(super) value: T,
    pub(super) at: Position,
    pub(super) level: Level,
}

/// The keys that were given.
#[derive(Clone, Default)]
pub(super) struct Fields {
    /// Whether a key was given wrongly, so that what is missing is not worth a word.
    pub(super) broken: bool,
    pub(super) maildrop_id: Option<Field<String>>,
    host: Option<Field<String>>,
    user: Option<Field<String>>,
    port: Option<Field<u16>>,
    tls: Option<Field<TlsMode>>,
    tls_ca: Option<Field<PathBuf>>,
    tls_pin: Option<Field<Vec<[u8; 32]>>>,
    tls_client_cert: Option<Field<PathBuf>>,
    tls_client_key: Option<Field<PathBuf>>,
    tls_server_name: Option<Field<String>>,
    tls_min: Option<Field<TlsVersion>>,
    auth: Option<Field<Auth>>,
    password: Option<Field<Password>>,
    connect: Option<Field<CommandLine>>,
    bind: Option<Field<IpAddr>>,
    timeout: Option<Field<Duration>>,
    interval: Option<Field<Interval>>,
    keep: Option<Field<Keep>>,
    first_sync: Option<Field<FirstSync>>,
    order: Option<Field<Order>>,
    max_size: Option<Field<Option<u64>>>,
    max_messages: Option<Field<Option<usize>>>,
    pipelining: Option<Field<Pipelining>>,
    deliver: Option<Field<Target>>,
    received: Option<Field<bool>>,
    hooks: Option<Field<Hooks>>,
    enabled: Option<Field<bool>>,
}

impl Fields {
    /// Reads one key, in place of what it was before; says if its value is a literal secret.
    ///
    /// # Errors
    ///
    /// A complaint about the value, or nothing if the key is unknown.
    pub(super) fn take(
        &mut self,
        entry: &Entry<'_>,
        level: Level,
        places: &Places,
    ) -> Result<Option<Secrets>, Option<Complaint>> {
        let value = &entry.value;
        let at = if value.is_nothing() { entry.at } else { value.at };
        let place = Place { at, level };
        match &*entry.key {
            "host" => place.put(&mut self.host, values::host(value)),
            "user" => place.put(&mut self.user, values::user(value)),
            "port" => place.put(&mut self.port, values::port(value)),
            "tls" => place.put(&mut self.tls, values::choice(value, &values::TLS_MODES)),
            "tls_ca" => place.put(&mut self.tls_ca, values::path(value, places)),
            "tls_pin" => place.put(&mut self.tls_pin, values::pins(value)),
            "tls_client_cert" => place.put(&mut self.tls_client_cert, values::path(value, places)),
            "tls_client_key" => place.put(&mut self.tls_client_key, values::path(value, places)),
            "tls_server_name" => place.put(&mut self.tls_server_name, values::host(value)),
            "tls_min" => place.put(&mut self.tls_min, values::choice(value, &values::TLS_VERSIONS)),
            "auth" => place.put(&mut self.auth, values::auth(value)),
            "password" => {
                let password = values::password(value, places)?;
                let literal = matches!(password, Password::Literal(_)).then_some(Secrets::Inside);
                place.put(&mut self.password, Ok(password))?;
                return Ok(literal);
            }
            "connect" => place.put(&mut self.connect, values::command(value)),
            "bind" => place.put(&mut self.bind, values::address(value)),
            "timeout" => place.put(&mut self.timeout, values::positive(value)),
            "interval" => place.put(&mut self.interval, values::interval(value)),
            "keep" => place.put(&mut self.keep, values::keep(value)),
            "first_sync" => place.put(&mut self.first_sync, values::choice(value, &values::FIRST_SYNCS)),
            "order" => place.put(&mut self.order, values::choice(value, &values::ORDERS)),
            "max_size" => place.put(&mut self.max_size, values::size_or_none(value)),
            "max_messages" => place.put(&mut self.max_messages, values::count_or_none(value)),
            "pipelining" => place.put(&mut self.pipelining, values::choice(value, &values::PIPELININGS)),
            "deliver" => {
                let target = values::deliver(value, places)?;
                let literal =
                    matches!(target.login(), Some((_, Login { password: Password::Literal(_), .. })))
                        .then_some(Secrets::Inside);
                place.put(&mut self.deliver, Ok(target))?;
                return Ok(literal);
            }
            "received" => place.put(&mut self.received, values::boolean(value)),
            "enabled" => place.put(&mut self.enabled, values::boolean(value)),
            "maildrop_id" => {
                place.put(&mut self.maildrop_id, values::line(value, "a text such as user@host"))
            }
            "hooks" => place.put(&mut self.hooks, super::hooks::hooks(value)),
            "oauth2" | "proxy" => Err(Complaint::new(entry.at, NOT_YET)),
            _ => return Err(None),
        }?;
        Ok(None)
    }

    /// Fills in the defaults and checks what keys mean together; `at` is where the account's name stands.
    pub(super) fn account(self, name: &str, at: Position) -> Result<Account, Vec<Complaint>> {
        let mut wrong = self.conflicts();
        let (Some(host), Some(user), Some(deliver)) = (&self.host, &self.user, &self.deliver) else {
            for (key, missing) in [
                ("host", self.host.is_none()),
                ("user", self.user.is_none()),
                ("deliver", self.deliver.is_none()),
            ] {
                if missing {
                    wrong.push(Complaint::new(at, format!("`{key}` is missing")));
                }
            }
            return Err(wrong);
        };
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let (host, user, deliver) = (host.value.clone(), user.value.clone(), deliver.value.clone());
        let mode = or(self.tls, TlsMode::Implicit);
        let client = match (self.tls_client_cert, self.tls_client_key) {
            (Some(chain), Some(key)) => Some(ClientCertificate { chain: chain.value, key: key.value }),
            (Some(_), None) | (None, Some(_)) | (None, None) => None,
        };
        let tls = Tls {
            mode,
            ca: self.tls_ca.map(|field| field.value),
            pins: or(self.tls_pin, Vec::new()),
            client,
            server_name: self.tls_server_name.map(|field| field.value),
            min: or(self.tls_min, TlsVersion::Tls12),
        };
        Ok(Account {
            name: name.to_owned(),
            port: or(self.port, mode.default_port()),
            maildrop_id: self.maildrop_id.map_or_else(|| format!("{user}@{host}"), |field| field.value),
            host,
            received: or(self.received, deliver.traces()),
            deliver: deliver.of_account(name, &user),
            user,
            tls: match mode {
                TlsMode::Implicit | TlsMode::StartTls => tls,
                // What the defaults say about TLS does not concern an account that goes without.
                TlsMode::None => Tls::bare(mode),
            },
            auth: or(self.auth, Auth::Auto),
            password: self.password.map(|field| field.value),
            bind: self.bind.filter(|_| self.connect.is_none()).map(|field| field.value),
            connect: self.connect.map(|field| field.value),
            timeout: or(self.timeout, TIMEOUT),
            interval: or(self.interval, Interval::Every(INTERVAL)),
            keep: or(self.keep, Keep::Forever),
            first_sync: or(self.first_sync, FirstSync::All),
            order: or(self.order, Order::Oldest),
            max_size: or(self.max_size, None),
            max_messages: or(self.max_messages, None),
            pipelining: or(self.pipelining, Pipelining::Auto),
            hooks: or(self.hooks, Hooks::default()),
            enabled: or(self.enabled, true),
        })
    }

    /// Finds keys that contradict each other.
    fn conflicts(&self) -> Vec<Complaint> {
        let mut wrong = Vec::new();
        if let (Some(cert), None) = (&self.tls_client_cert, &self.tls_client_key) {
            wrong.push(Complaint::new(cert.at, "needs `tls_client_key` too").under(".tls_client_cert"));
        }
        if let (None, Some(key)) = (&self.tls_client_cert, &self.tls_client_key) {
            wrong.push(Complaint::new(key.at, "needs `tls_client_cert` too").under(".tls_client_key"));
        }
        if let (Some(connect), Some(bind)) = (&self.connect, &self.bind)
            && bind.level >= connect.level
        {
            wrong.push(
                Complaint::new(bind.at, "has no meaning with `connect`: remove one of them").under(".bind"),
            );
        }
        if let Some(tls) = self.tls.as_ref().filter(|tls| tls.value == TlsMode::None) {
            let tls_keys = [
                ("tls_ca", spot(self.tls_ca.as_ref())),
                ("tls_pin", spot(self.tls_pin.as_ref())),
                ("tls_client_cert", spot(self.tls_client_cert.as_ref())),
                ("tls_client_key", spot(self.tls_client_key.as_ref())),
                ("tls_server_name", spot(self.tls_server_name.as_ref())),
                ("tls_min", spot(self.tls_min.as_ref())),
            ];
            for (key, place) in tls_keys {
                if let Some(place) = place.filter(|place| place.level >= tls.level) {
                    let what = "has no meaning with `tls: none`: remove one of them";
                    wrong.push(Complaint::new(place.at, what).under(&format!(".{key}")));
                }
            }
            match &self.auth {
                Some(Field { value: Auth::List(_), .. }) => {}
                Some(Field { value: Auth::Auto, .. }) | None => {
                    wrong.push(Complaint::new(tls.at, NO_TLS_NO_PASSWORD).under(".tls"));
                }
            }
        }
        wrong
    }
}

/// What is wrong with `tls: none` and `auth: auto`.
const NO_TLS_NO_PASSWORD: &str = "without TLS, `auth: auto` sends no password and cannot log in: write `tls: starttls` or \
     `tls: implicit`, or name the mechanisms: `auth: [scram-sha-256]`, or `auth: [user-pass]` to send the password in the clear";

/// Where a value stands.
#[derive(Clone, Copy)]
struct Place {
    at: Position,
    level: Level,
}

impl Place {
    fn put<T>(self, slot: &mut Option<Field<T>>, read: Result<T, Complaint>) -> Result<(), Complaint> {
        *slot = Some(Field { value: read?, at: self.at, level: self.level });
        Ok(())
    }
}

fn spot<T>(field: Option<&Field<T>>) -> Option<Place> {
    field.map(|field| Place { at: field.at, level: field.level })
}

fn or<T>(field: Option<Field<T>>, default: T) -> T {
    field.map_or(default, |field| field.value)
}
