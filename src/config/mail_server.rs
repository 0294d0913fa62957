//! The targets that are servers: `smtp` and `lmtp`.

use std::net::IpAddr;
use std::path::PathBuf;

use super::account::{Password, TlsMode};
use super::fields::{Level, Place as Spot};
use super::places::Places;
use super::recipients::{address, recipients};
use super::server::{self, ServerFields};
use super::target::{Login, MailServer, Place, Recipients, Sender};
use super::tree::{Complaint, Entry, Node, Position};
use super::values::{self, unknown, within};

const SMTP_KEYS: [&str; 6] = ["host", "port", "user", "password", "to", "from"];
const LMTP_KEYS: [&str; 4] = ["socket", "host", "port", "to"];

/// The keys that were given, and where.
#[derive(Default)]
struct Given {
    socket: Option<(PathBuf, Position)>,
    host: Option<(String, Position)>,
    port: Option<(u16, Position)>,
    server: ServerFields,
    user: Option<(String, Position)>,
    password: Option<(Password, Position)>,
    to: Option<Recipients>,
    from: Option<Sender>,
}

/// Reads what stands under `smtp`.
pub(super) fn smtp(node: &Node<'_>, places: &Places) -> Result<MailServer, Complaint> {
    let given = Given::read(node, places, &SMTP_KEYS, "a mapping such as { host: localhost, to: [alice] }")?;
    let login = match (&given.user, &given.password) {
        (Some((user, _)), Some((password, _))) => {
            Some(Login { user: user.clone(), password: password.clone() })
        }
        (Some((_, at)), None) => return Err(needs(*at, "user", "password")),
        (None, Some((_, at))) => return Err(needs(*at, "password", "user")),
        (None, None) => None,
    };
    let mode = given.mode();
    let host = given.host.as_ref().map_or("localhost", |(host, _)| host);
    if let (Some((_, at)), TlsMode::None) = (&given.password, mode)
        && !is_loopback(host)
    {
        let what = "is sent to another machine only over TLS: write `tls: starttls` or `tls: implicit`";
        return Err(Complaint::new(*at, what).under(".password"));
    }
    let default_port = match mode {
        TlsMode::Implicit => 465,
        TlsMode::StartTls | TlsMode::None => 25,
    };
    given.server(node, "localhost", default_port, login)
}

/// Reads what stands under `lmtp`.
pub(super) fn lmtp(node: &Node<'_>, places: &Places) -> Result<MailServer, Complaint> {
    let what = "a mapping such as { socket: /run/dovecot/lmtp, to: [alice] }";
    let given = Given::read(node, places, &LMTP_KEYS, what)?;
    if given.socket.is_none() && given.host.is_none() {
        return Err(node.wrong("needs `socket` or `host`"));
    }
    // RFC 2033, 5: never port 25; 24 is what most servers take.
    given.server(node, "localhost", 24, None)
}

impl Given {
    fn read(node: &Node<'_>, places: &Places, keys: &[&str], what: &str) -> Result<Self, Complaint> {
        let mut given = Self::default();
        for entry in node.mapping(what)? {
            if !keys.contains(&&*entry.key) && !server::KEYS.contains(&&*entry.key) {
                return Err(unknown(entry, &[keys, &server::KEYS].concat()));
            }
            given.take(entry, places).map_err(|complaint| within(entry, complaint))?;
        }
        Ok(given)
    }

    fn take(&mut self, entry: &Entry<'_>, places: &Places) -> Result<(), Complaint> {
        let value = &entry.value;
        let at = entry.at;
        match &*entry.key {
            "socket" => self.socket = Some((values::path(value, places)?, at)),
            "host" => self.host = Some((values::host(value)?, at)),
            "port" => self.port = Some((values::port(value)?, at)),
            "user" => self.user = Some((values::user(value)?, at)),
            "password" => self.password = Some((values::password(value, places)?, at)),
            "to" => self.to = Some(recipients(value)?),
            "from" => {
                self.from = Some(match value.text("keep or an address")? {
                    "keep" => Sender::Keep,
                    _ => Sender::Address(address(value)?),
                });
            }
            _ => {
                let taken = self.server.take(entry, Spot { at, level: Level::Account }, places);
                // `read` has looked at the key.
                taken.map_err(|complaint| complaint.unwrap_or_else(|| Complaint::new(at, "unknown key")))?;
            }
        }
        Ok(())
    }

    fn mode(&self) -> TlsMode {
        self.server.mode(TlsMode::None)
    }

    fn server(
        self,
        node: &Node<'_>,
        default_host: &str,
        default_port: u16,
        login: Option<Login>,
    ) -> Result<MailServer, Complaint> {
        if let Some(complaint) = self.server.conflicts(TlsMode::None).into_iter().next() {
            return Err(complaint);
        }
        let timeout = self.server.timeout.as_ref().map(|timeout| timeout.value);
        let Some(to) = self.to else { return Err(node.wrong("`to` is missing: the recipients' addresses")) };
        let place = match self.socket {
            Some((path, _)) => {
                let given = [("host", self.host.map(|(_, at)| at)), ("port", self.port.map(|(_, at)| at))];
                let mut given = given.into_iter().filter_map(|(key, at)| Some((key, at?)));
                let mut of_network = self.server.of_network().map(|(key, place)| (key, place.at));
                if let Some((key, at)) = given.next().or_else(|| of_network.next()) {
                    return Err(meaningless(at, key, "`socket`"));
                }
                Place::Socket(path)
            }
            None => Place::Tcp {
                host: self.host.map_or_else(|| default_host.to_owned(), |(host, _)| host),
                port: self.port.map_or(default_port, |(port, _)| port),
                bind: self.server.bind.as_ref().map(|bind| bind.value),
                tls: self.server.tls(TlsMode::None),
            },
        };
        Ok(MailServer { place, timeout, login, to, from: self.from.unwrap_or(Sender::Keep) })
    }
}

/// Says whether what is sent there stays on this machine.
fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn needs(at: Position, key: &str, other: &str) -> Complaint {
    Complaint::new(at, format!("needs `{other}` too")).under(&format!(".{key}"))
}

fn meaningless(at: Position, key: &str, with: &str) -> Complaint {
    Complaint::new(at, format!("has no meaning with {with}: remove it, or change that"))
        .under(&format!(".{key}"))
}
