//! The targets that are servers: `smtp` and `lmtp`.

use super::account::TlsMode;
use super::host::is_loopback;
use super::oauth2_keys::{BY_PASSWORD, BY_TOKENS};
use super::places::Places;
use super::recipients::{RECIPIENTS, SENDER};
use super::rows::{Form, Key, Kind, Mark, inline, key, mapping, marked, part};
use super::server::{Keys, is_unusual, of_target, wrong};
use super::target::{Address, MailServer, Recipients, Route, Sender};
use super::tree::{Complaint, Node};
use super::values::{FILE, HOST, PORT, USER};

pub(super) const SMTP_KEYS: &[Key<MailServer>] = of_target!(
    [
        Key { about: "The server's name or address; localhost.", ..NAME },
        Key { about: "The TCP port; 25, or 465 for `tls: implicit`.", ..NUMBER },
    ],
    [
        part!("user", login => user, USER, "Who logs in there."),
        part!(
            "password",
            login => credential,
            BY_PASSWORD,
            "The password, or where it comes from; or `oauth2`."
        ),
        part!(
            "oauth2",
            login => credential,
            BY_TOKENS,
            "Tokens in the place of a password: where they come from."
        ),
        key!("to", to, RECIPIENTS, "Recipients: a list, or the header that tells them; required."),
        key!("from", from, SENDER, "The sender of the envelope: keep, or an address."),
    ]
);

pub(super) const LMTP_KEYS: &[Key<MailServer>] = of_target!(
    [
        SOCKET,
        Key { about: "The server's name or address; or `socket`.", ..NAME },
        Key { about: "The TCP port; 24.", ..NUMBER },
    ],
    [key!("to", to, RECIPIENTS, "Recipients: a list, or the header that tells them; required."),]
);

pub(super) const SMTP: Form<MailServer> =
    Form { kind: Kind::Server("none"), read: smtp, show: |server| show(SMTP_KEYS, server) };
pub(super) const LMTP: Form<MailServer> = Form::new(lmtp, |server| show(LMTP_KEYS, server));

const SOCKET: Key<MailServer> = Key {
    name: "socket",
    about: "The Unix socket on which it listens; or `host`.",
    kind: FILE.kind,
    marks: &[],
    read: |entry, places, into| {
        into.address = Address::Socket((FILE.read)(&entry.value, places)?);
        Ok(())
    },
    show: |from| match &from.address {
        Address::Socket(path) => (FILE.show)(path),
        Address::Tcp { .. } => String::new(),
    },
};

const NAME: Key<MailServer> = Key {
    name: "host",
    about: "",
    kind: Kind::Inside,
    marks: &[],
    read: |entry, places, into| {
        let read = (HOST.read)(&entry.value, places)?;
        if let Address::Tcp { host, .. } = &mut into.address {
            *host = read;
        }
        Ok(())
    },
    show: |from| match &from.address {
        Address::Tcp { host, .. } => (HOST.show)(host),
        Address::Socket(_) => String::new(),
    },
};

const NUMBER: Key<MailServer> = Key {
    name: "port",
    about: "",
    kind: Kind::Inside,
    marks: &[],
    read: |entry, places, into| {
        let read = (PORT.read)(&entry.value, places)?;
        if let Address::Tcp { port, .. } = &mut into.address {
            *port = read;
        }
        Ok(())
    },
    show: |from| match &from.address {
        Address::Tcp { port, .. } => (PORT.show)(port),
        Address::Socket(_) => String::new(),
    },
};

fn smtp(node: &Node<'_>, places: &Places) -> Result<MailServer, Complaint> {
    let what = "a mapping such as { host: localhost, to: [alice] }";
    let mut server = mapping(node, places, what, SMTP_KEYS, usual("localhost", 25))?;
    let keys = Keys(node.mapping(what)?);
    let Address::Tcp { host, port } = &mut server.address else { unreachable!("there is no such key") };
    match (keys.find("user"), keys.find("password").or_else(|| keys.find("oauth2"))) {
        (Some(user), None) => return Err(wrong(user, "needs `password` or `oauth2` too")),
        (None, Some(password)) => return Err(wrong(password, "needs `user` too")),
        // What is this machine to a proxy is none of ours.
        (Some(_), Some(password))
            if server.route.tls.mode == TlsMode::None
                && (!is_loopback(host) || server.route.proxy.is_some()) =>
        {
            let what = "is sent to another machine only over TLS: write `tls: starttls` or `tls: implicit`";
            return Err(wrong(password, what));
        }
        (Some(_), Some(_)) | (None, None) => {}
    }
    if server.route.tls.mode == TlsMode::Implicit && keys.find("port").is_none() {
        *port = 465;
    }
    agree(server, node, keys)
}

fn lmtp(node: &Node<'_>, places: &Places) -> Result<MailServer, Complaint> {
    let what = "a mapping such as { socket: /run/dovecot/lmtp, to: [alice] }";
    // RFC 2033, 5: never port 25; 24 is what most servers take.
    let server = mapping(node, places, what, LMTP_KEYS, usual("", 24))?;
    let keys = Keys(node.mapping(what)?);
    if keys.find("socket").is_none() && keys.find("host").is_none() {
        return Err(node.wrong("needs `socket` or `host`"));
    }
    agree(server, node, keys)
}

fn usual(host: &str, port: u16) -> MailServer {
    MailServer {
        address: Address::Tcp { host: host.to_owned(), port },
        route: Route::bare(TlsMode::None),
        login: None,
        to: Recipients::List(Vec::new()),
        from: Sender::Keep,
    }
}

/// Checks what keys mean together.
fn agree(server: MailServer, node: &Node<'_>, keys: Keys<'_, '_>) -> Result<MailServer, Complaint> {
    keys.agree(server.route.tls.mode, SMTP_KEYS)?;
    if keys.find("to").is_none() {
        return Err(node.wrong("`to` is missing: the recipients' addresses"));
    }
    if let Address::Socket(_) = &server.address {
        let mut of_network =
            ["host", "port", "tls", "bind", "proxy"].into_iter().chain(marked(LMTP_KEYS, Mark::Tls));
        if let Some(entry) = of_network.find_map(|key| keys.find(key)) {
            return Err(wrong(entry, "has no meaning with `socket`: remove it, or change that"));
        }
    }
    keys.has_one_credential()?;
    Ok(server)
}

fn show(keys: &[Key<MailServer>], server: &MailServer) -> String {
    // On one line there is room for what is unusual.
    let is_worth_it = |key: &&Key<MailServer>| match key.name {
        "tls" => matches!(server.address, Address::Tcp { .. }),
        name => is_unusual(name, &server.route),
    };
    inline(keys.iter().filter(is_worth_it), server)
}
