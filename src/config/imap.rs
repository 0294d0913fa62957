//! The target that is a mailbox: `imap`.

use super::account::TlsMode;
use super::host::is_loopback;
use super::oauth2::Credential;
use super::oauth2_keys::{BY_PASSWORD, BY_TOKENS, suits};
use super::places::Places;
use super::rows::{Form, Key, Kind, inline, key, mapping};
use super::server::{Keys, is_unusual, of_target, wrong};
use super::target::{Login, Mailbox, MessageDate, Provider, Route};
use super::tree::{Complaint, Content, Node};
use super::values::{AUTH, BOOLEAN, HOST, PORT, USER, choice, row_of};
use crate::sasl::{Auth, Mechanism};

pub(super) const IMAP_KEYS: &[Key<Mailbox>] = of_target!(
    [
        key!(
            "provider",
            provider,
            row_of!(PROVIDERS),
            "A provider whose server it is: gmail, outlook, fastmail, icloud or yahoo."
        ),
        key!("host", host, HOST, "The server's name or address."),
        key!("port", port, PORT, "The TCP port; 993, or 143 without `tls: implicit`."),
    ],
    [
        key!("auth", auth, AUTH, "Mechanisms that may be used: auto, or a list in order of preference."),
        key!("user", login.user, USER, "Who logs in there; required."),
        key!("password", login.credential, BY_PASSWORD, "The password, or where it comes from; or `oauth2`."),
        key!(
            "oauth2",
            login.credential,
            BY_TOKENS,
            "Tokens in the place of a password: where they come from."
        ),
        key!("folder", folder, FOLDER, "The folder, with a slash between its parts; INBOX."),
        key!("create", create, BOOLEAN, "Whether a missing folder is made; true."),
        key!("flags", flags, FLAGS, "Flags of each message."),
        key!("date", date, choice!(DATES), "The date of each message: received, header or now."),
    ]
);

pub(super) const IMAP: Form<Mailbox> = Form { kind: Kind::Server("implicit"), read: imap, show };

const DATES: [(&str, MessageDate); 3] =
    [("received", MessageDate::Received), ("header", MessageDate::Header), ("now", MessageDate::Now)];

/// What most providers have.
const USUAL: Provider = Provider {
    name: "",
    host: "",
    port: 993,
    has_all_mail: false,
    date: MessageDate::Received,
    append_limit: None,
    octets_a_day: None,
};

/// Providers with the keys that they stand for. Octets a day are what an account may upload: more has it suspended.
const PROVIDERS: &[Provider] = &[
    Provider {
        name: "gmail",
        host: "imap.gmail.com",
        has_all_mail: true,
        append_limit: Some(35_651_584),
        octets_a_day: Some(400 << 20),
        ..USUAL
    },
    Provider { name: "outlook", host: "outlook.office365.com", ..USUAL },
    Provider { name: "fastmail", host: "imap.fastmail.com", ..USUAL },
    Provider { name: "icloud", host: "imap.mail.me.com", ..USUAL },
    Provider { name: "yahoo", host: "imap.mail.yahoo.com", ..USUAL },
];

const FOLDER: Form<String> = Form { read: |node, _| folder(node), ..HOST };

const FLAGS: Form<Vec<String>> = Form::new(
    |node, _| flags(node),
    |flags| {
        let quoted: Vec<String> = flags.iter().map(|flag| format!("'{flag}'")).collect();
        if quoted.is_empty() { String::new() } else { format!("[{}]", quoted.join(", ")) }
    },
);

fn imap(node: &Node<'_>, places: &Places) -> Result<Mailbox, Complaint> {
    let what = "a mapping such as { host: imap.example.org, user: alice, password: { file: ~/imap } }";
    let usual = Mailbox {
        provider: None,
        host: String::new(),
        port: 0,
        route: Route::bare(TlsMode::Implicit),
        auth: Auth::Auto,
        login: Login::default(),
        folder: "INBOX".to_owned(),
        create: true,
        flags: Vec::new(),
        date: MessageDate::Received,
    };
    let mut mailbox = mapping(node, places, what, IMAP_KEYS, usual)?;
    let keys = Keys(node.mapping(what)?);
    keys.agree(mailbox.route.tls.mode, IMAP_KEYS)?;
    complete(&mut mailbox, node, keys)?;
    protect(&mailbox, keys)?;
    Ok(mailbox)
}

/// Fills in what follows from other keys.
fn complete(mailbox: &mut Mailbox, node: &Node<'_>, keys: Keys<'_, '_>) -> Result<(), Complaint> {
    let Mailbox { provider, host, port, route, auth, login, date, .. } = mailbox;
    match (keys.find("host"), *provider) {
        (None, None) => return Err(node.wrong("needs `host` or `provider`")),
        (None, Some(provider)) => provider.host.clone_into(host),
        (Some(_), _) => {}
    }
    if keys.find("port").is_none() {
        *port = match route.tls.mode {
            TlsMode::Implicit => provider.map_or(993, |provider| provider.port),
            TlsMode::StartTls | TlsMode::None => 143,
        };
    }
    if let (Some(provider), None) = (provider, keys.find("date")) {
        *date = provider.date;
    }
    keys.has_one_credential()?;
    // A certificate alone says who it is.
    let is_certified = login.credential == Credential::Nothing
        && route.tls.client.is_some()
        && match &auth {
            Auth::Auto => true,
            Auth::List(list) => list.contains(&Mechanism::External),
        };
    if is_certified {
        *auth = Auth::List(vec![Mechanism::External]);
    }
    match keys.find("user") {
        Some(_) if is_certified || login.credential != Credential::Nothing => Ok(()),
        Some(_) | None => Err(node.wrong("needs `user`, and `password` or `oauth2`")),
    }
}

/// Checks how the log-in is shown.
fn protect(mailbox: &Mailbox, keys: Keys<'_, '_>) -> Result<(), Complaint> {
    let Mailbox { host, route, auth, login, .. } = mailbox;
    if let Some(entry) = keys.find("auth") {
        suits(auth, login.credential.oauth2()).map_err(|what| wrong(entry, what))?;
        if matches!(auth, Auth::List(list) if list.contains(&Mechanism::Apop)) {
            return Err(wrong(entry, "has apop in it, which is a command of POP3"));
        }
    }
    // What is this machine to a proxy is none of ours.
    let is_near = is_loopback(host) && route.proxy.is_none();
    if let (TlsMode::None, Auth::Auto, false) = (route.tls.mode, auth, is_near)
        && let Some(entry) = keys.find("password").or_else(|| keys.find("oauth2"))
    {
        let what = "is sent to another machine without TLS only if `auth` lists the mechanism: write `tls: implicit`";
        return Err(wrong(entry, what));
    }
    Ok(())
}

fn show(mailbox: &Mailbox) -> String {
    // On one line there is room for what is unusual.
    let is_worth_it = |key: &&Key<Mailbox>| match key.name {
        "auth" => mailbox.auth != Auth::Auto,
        "create" => !mailbox.create,
        "date" => mailbox.date != MessageDate::Received,
        name => is_unusual(name, &mailbox.route),
    };
    inline(IMAP_KEYS.iter().filter(is_worth_it), mailbox)
}

fn folder(node: &Node<'_>) -> Result<String, Complaint> {
    let text = node.text("the name of a folder")?;
    let is_sound =
        |part: &str| !part.is_empty() && !part.contains(|c: char| c.is_control() || "*%".contains(c));
    if text.split('/').all(is_sound) {
        Ok(text.to_owned())
    } else {
        Err(node.wrong("must be the name of a folder such as INBOX or Lists/rust: no *, no %, and a slash only between parts"))
    }
}

fn flags(node: &Node<'_>) -> Result<Vec<String>, Complaint> {
    let Content::List(items) = &node.content else {
        return Err(node.wrong("must be a list such as ['\\Seen', work]"));
    };
    let mut flags = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let text = item.text("a flag")?;
        if !is_flag(text) {
            let what = "must be \\Seen, \\Flagged, \\Answered, \\Draft, \\Deleted or a word of letters, digits and $-_.";
            return Err(item.wrong(what).under(&format!("[{index}]")));
        }
        flags.push(text.to_owned());
    }
    Ok(flags)
}

/// RFC 9051, 2.3.2: a system flag, or a keyword, which is an atom.
fn is_flag(text: &str) -> bool {
    const SYSTEM: [&str; 5] = ["Seen", "Flagged", "Answered", "Draft", "Deleted"];
    match text.strip_prefix('\\') {
        Some(name) => SYSTEM.iter().any(|known| known.eq_ignore_ascii_case(name)),
        None => {
            !text.is_empty()
                && text.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"$-_.".contains(&octet))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::oauth2::Credential;
    use crate::config::{Config, Target};

    fn read(imap: &str) -> Result<Mailbox, String> {
        let yaml = format!(
            "accounts: {{ a: {{ host: h, user: u, deliver: {{ imap: {{ {imap} }} }} }} }}\nstate: /s"
        );
        let config = Config::from_yaml(&yaml, Path::new("f")).map_err(|error| error.to_string())?;
        match config.accounts.into_iter().next().and_then(|account| account.deliver.into_iter().next()) {
            Some(to) => match to.target {
                Target::Imap(mailbox) => Ok(*mailbox),
                other => panic!("{other}"),
            },
            None => panic!("there is no target"),
        }
    }

    #[test]
    fn a_provider_stands_for_its_server_and_what_is_written_stands_before_it() {
        for (name, host, octets) in [
            ("gmail", "imap.gmail.com", Some(400 << 20)),
            ("outlook", "outlook.office365.com", None),
            ("fastmail", "imap.fastmail.com", None),
            ("icloud", "imap.mail.me.com", None),
            ("yahoo", "imap.mail.yahoo.com", None),
        ] {
            let mailbox = read(&format!("provider: {name}, user: u, password: p")).unwrap();
            assert_eq!((&*mailbox.host, mailbox.port, mailbox.octets_a_day()), (host, 993, octets));
            assert_eq!((mailbox.date, &*mailbox.folder), (MessageDate::Received, "INBOX"));
        }
        let other =
            read("provider: gmail, host: proxy, port: 1993, date: now, user: u, password: p").unwrap();
        assert_eq!((&*other.host, other.port, other.date), ("proxy", 1993, MessageDate::Now));
        assert_eq!(other.octets_a_day(), Some(400 << 20));
    }

    #[test]
    fn a_client_certificate_needs_no_password() {
        let certificate = "host: h, user: u, tls_client_cert: /c, tls_client_key: /k";
        for auth in ["", ", auth: [external]", ", auth: [external, plain]"] {
            let mailbox = read(&format!("{certificate}{auth}")).unwrap();
            assert_eq!(mailbox.login.credential, Credential::Nothing);
            assert_eq!(mailbox.auth, Auth::List(vec![Mechanism::External]));
            assert!(!show(&mailbox).contains("password"));
        }
        for wrong in [format!("{certificate}, auth: [plain]"), "host: h, user: u, auth: [external]".into()] {
            assert!(read(&wrong).unwrap_err().contains("`password` or `oauth2`"), "{wrong}");
        }
    }
}
