//! The keys of an account while its configuration is read: some from `defaults`, some its own.

use std::time::Duration;

use super::account::{
    Account, Auth, CommandLine, FirstSync, Hooks, Interval, Keep, Order, Password, Pipelining, TlsMode,
};
use super::file::Secrets;
use super::places::Places;
use super::server::ServerFields;
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
    server: ServerFields,
    auth: Option<Field<Auth>>,
    password: Option<Field<Password>>,
    connect: Option<Field<CommandLine>>,
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
            "auth" => place.put(&mut self.auth, values::auth(value)),
            "password" => {
                let password = values::password(value, places)?;
                let literal = matches!(password, Password::Literal(_)).then_some(Secrets::Inside);
                place.put(&mut self.password, Ok(password))?;
                return Ok(literal);
            }
            "connect" => place.put(&mut self.connect, values::command(value)),
            "interval" => place.put(&mut self.interval, values::interval(value)),
            "keep" => place.put(&mut self.keep, values::keep(value)),
            "first_sync" => place.put(&mut self.first_sync, values::first_sync(value)),
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
            _ => return self.server.take(entry, place, places).map(|()| None),
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
        let mode = self.server.mode(TlsMode::Implicit);
        let (bind, timeout) = (self.server.bind.clone(), self.server.timeout.clone());
        let mut account = Account {
            name: name.to_owned(),
            port: or(self.port, mode.default_port()),
            maildrop_id: self.maildrop_id.map_or_else(|| format!("{user}@{host}"), |field| field.value),
            host,
            received: or(self.received, deliver.traces()),
            deliver,
            user,
            tls: self.server.tls(TlsMode::Implicit),
            auth: or(self.auth, Auth::Auto),
            password: self.password.map(|field| field.value),
            bind: bind.filter(|_| self.connect.is_none()).map(|field| field.value),
            connect: self.connect.map(|field| field.value),
            timeout: or(timeout, TIMEOUT),
            interval: or(self.interval, Interval::Every(INTERVAL)),
            keep: or(self.keep, Keep::Forever),
            first_sync: or(self.first_sync, FirstSync::All),
            order: or(self.order, Order::Oldest),
            max_size: or(self.max_size, None),
            max_messages: or(self.max_messages, None),
            pipelining: or(self.pipelining, Pipelining::Auto),
            hooks: or(self.hooks, Hooks::default()),
            enabled: or(self.enabled, true),
        };
        account.complete(|_| true);
        Ok(account)
    }

    /// Finds keys that contradict each other.
    fn conflicts(&self) -> Vec<Complaint> {
        let mut wrong = self.server.conflicts(TlsMode::Implicit);
        if let (Some(connect), Some(bind)) = (&self.connect, &self.server.bind)
            && bind.level >= connect.level
        {
            wrong.push(
                Complaint::new(bind.at, "has no meaning with `connect`: remove one of them").under(".bind"),
            );
        }
        if let Some(tls) = self.server.tls.as_ref().filter(|tls| tls.value == TlsMode::None) {
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
pub(super) struct Place {
    pub(super) at: Position,
    pub(super) level: Level,
}

impl Place {
    /// Puts a value that was read into its slot.
    pub(super) fn put<T>(
        self,
        slot: &mut Option<Field<T>>,
        read: Result<T, Complaint>,
    ) -> Result<(), Complaint> {
        *slot = Some(Field { value: read?, at: self.at, level: self.level });
        Ok(())
    }
}

pub(super) fn spot<T>(field: Option<&Field<T>>) -> Option<Place> {
    field.map(|field| Place { at: field.at, level: field.level })
}

pub(super) fn or<T>(field: Option<Field<T>>, default: T) -> T {
    field.map_or(default, |field| field.value)
}
