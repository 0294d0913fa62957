//! The targets that are servers: `smtp` and `lmtp`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::account::{Password, Tls, TlsMode};
use super::host::is_loopback;
use super::oauth2::OAuth2;
use super::oauth2_keys::{OAUTH2, credential, parts};
use super::places::Places;
use super::proxy::Proxy;
use super::recipients::{RECIPIENTS, SENDER};
use super::rows::{Form, Key, inline, key, mapping};
use super::server::{Given, OF_TLS, conflicts, of_target, with_tls};
use super::target::{Login, MailServer, Place, Recipients, Sender};
use super::tree::{Complaint, Entry, Node};
use super::values::{HOST, PASSWORD, PATH, PORT, USER};

pub(super) const SMTP_KEYS: &[Key<Written>] = of_target!(
    [
        key!("host", host, HOST, "The server's name or address; localhost."),
        key!("port", port, PORT, "The TCP port; 25, or 465 for `tls: implicit`."),
    ],
    [
        key!("user", user, USER, "Who logs in there."),
        key!("password", password, PASSWORD, "The password, or where it comes from; or `oauth2`."),
        key!("oauth2", oauth2, OAUTH2, "Tokens in the place of a password: where they come from."),
        key!("to", to, RECIPIENTS, "Recipients: a list, or the header that tells them; required."),
        key!("from", from, SENDER, "The sender of the envelope: keep, or an address."),
    ]
);

pub(super) const LMTP_KEYS: &[Key<Written>] = of_target!(
    [
        key!("socket", socket, PATH, "The Unix socket on which it listens; or `host`."),
        key!("host", host, HOST, "The server's name or address; or `socket`."),
        key!("port", port, PORT, "The TCP port; 24."),
    ],
    [key!("to", to, RECIPIENTS, "Recipients: a list, or the header that tells them; required."),]
);

pub(super) const SMTP: Form<MailServer> = Form { read: smtp, show: |server| show(SMTP_KEYS, server) };
pub(super) const LMTP: Form<MailServer> = Form { read: lmtp, show: |server| show(LMTP_KEYS, server) };

/// What stands under `smtp` or `lmtp`.
pub(super) struct Written {
    socket: Option<PathBuf>,
    host: Option<String>,
    port: Option<u16>,
    tls: Tls,
    bind: Option<IpAddr>,
    proxy: Option<Proxy>,
    timeout: Option<Duration>,
    user: Option<String>,
    password: Option<Password>,
    oauth2: Option<OAuth2>,
    to: Option<Recipients>,
    from: Sender,
}

fn smtp(node: &Node<'_>, places: &Places) -> Result<MailServer, Complaint> {
    let what = "a mapping such as { host: localhost, to: [alice] }";
    let mut written = mapping(node, places, what, SMTP_KEYS, Written::new())?;
    let own = node.mapping(what)?;
    let entry = |key: &str| own.iter().find(|entry| entry.key == key);
    let host = written.host.get_or_insert_with(|| "localhost".to_owned());
    match (entry("user"), entry("password").or_else(|| entry("oauth2"))) {
        (Some(user), None) => return Err(wrong(user, "needs `password` or `oauth2` too")),
        (None, Some(password)) => return Err(wrong(password, "needs `user` too")),
        // What is this machine to a proxy is none of ours.
        (Some(_), Some(password))
            if written.tls.mode == TlsMode::None && (!is_loopback(host) || written.proxy.is_some()) =>
        {
            let what = "is sent to another machine only over TLS: write `tls: starttls` or `tls: implicit`";
            return Err(wrong(password, what));
        }
        (Some(_), Some(_)) | (None, None) => {}
    }
    let default_port = match written.tls.mode {
        TlsMode::Implicit => 465,
        TlsMode::StartTls | TlsMode::None => 25,
    };
    written.server(node, own, default_port)
}

fn lmtp(node: &Node<'_>, places: &Places) -> Result<MailServer, Complaint> {
    let what = "a mapping such as { socket: /run/dovecot/lmtp, to: [alice] }";
    let written = mapping(node, places, what, LMTP_KEYS, Written::new())?;
    if written.socket.is_none() && written.host.is_none() {
        return Err(node.wrong("needs `socket` or `host`"));
    }
    // RFC 2033, 5: never port 25; 24 is what most servers take.
    written.server(node, node.mapping(what)?, 24)
}

impl Written {
    fn new() -> Self {
        Self {
            socket: None,
            host: None,
            port: None,
            tls: Tls::bare(TlsMode::None),
            bind: None,
            proxy: None,
            timeout: None,
            user: None,
            password: None,
            oauth2: None,
            to: None,
            from: Sender::Keep,
        }
    }

    fn of(server: &MailServer) -> Self {
        let MailServer { place, timeout, login, to, from } = server;
        let (user, credential) = login.clone().map(|login| (login.user, login.credential)).unzip();
        let (password, oauth2) = credential.map_or((None, None), parts);
        let written = Self {
            timeout: *timeout,
            user,
            password,
            oauth2,
            to: Some(to.clone()),
            from: from.clone(),
            ..Self::new()
        };
        match place.clone() {
            Place::Socket(path) => Self { socket: Some(path), ..written },
            Place::Tcp { host, port, bind, proxy, tls } => Self {
                host: Some(host),
                port: Some(port),
                bind,
                proxy: proxy.map(|proxy| *proxy),
                tls,
                ..written
            },
        }
    }

    /// Checks what keys mean together, and fills in the defaults.
    fn server(self, node: &Node<'_>, own: &[Entry<'_>], default_port: u16) -> Result<MailServer, Complaint> {
        let given = Given { own, defaults: &[] };
        if let Some((entry, what)) = conflicts(given, self.tls.mode).into_iter().next() {
            return Err(wrong(entry, what));
        }
        let Some(to) = self.to else { return Err(node.wrong("`to` is missing: the recipients' addresses")) };
        let place = match (self.socket, self.host) {
            (Some(path), _) => {
                let mut of_network = ["host", "port", "tls", "bind", "proxy"].iter().chain(&OF_TLS);
                if let Some((entry, _)) = of_network.find_map(|key| given.find(key)) {
                    return Err(wrong(entry, "has no meaning with `socket`: remove it, or change that"));
                }
                Place::Socket(path)
            }
            (None, host) => Place::Tcp {
                host: host.unwrap_or_default(),
                port: self.port.unwrap_or(default_port),
                bind: self.bind,
                proxy: self.proxy.map(Box::new),
                tls: self.tls,
            },
        };
        let credential = credential(own, self.password, self.oauth2)?;
        let login = self.user.zip(credential).map(|(user, credential)| Login { user, credential });
        Ok(MailServer { place, timeout: self.timeout, login, to, from: self.from })
    }
}

fn show(keys: &[Key<Written>], server: &MailServer) -> String {
    let written = Written::of(server);
    // On one line there is room for what is unusual.
    let is_worth_it = |key: &&Key<Written>| match key.name {
        "tls" => written.socket.is_none(),
        "tls_min" => written.tls.min != Tls::bare(written.tls.mode).min,
        _ => true,
    };
    inline(keys.iter().filter(is_worth_it), &written)
}

fn wrong(entry: &Entry<'_>, what: &str) -> Complaint {
    Complaint::new(entry.at, what).under(&format!(".{}", entry.key))
}
