//! Providers of mailboxes that need not be asked where their server is.

use super::address::{Address, is_within};
use super::server::{Miss, Server};
use crate::config::account::TlsMode;
use crate::config::providers::{PROVIDERS, Provider};

/// What is known of a provider.
struct Hoster {
    name: &'static str,
    /// The domains of its addresses.
    domains: &'static [&'static str],
    /// What its customers' mail exchangers are below of.
    exchangers: &'static [&'static str],
    /// Its POP3 server, port 995; `None` if it has none.
    host: Option<&'static str>,
    user: User,
    takes: Takes,
    note: Option<&'static str>,
}

/// What it takes for a mailbox name.
enum User {
    Address,
    LocalPart,
}

/// What it takes for a log-in.
enum Takes {
    Password,
    /// Tokens of a provider in our table.
    Tokens(&'static str),
    Both(&'static str),
}

const GOOGLE: &str = "it takes an app password (https://myaccount.google.com/apppasswords) or OAuth2; switch POP on in \
                      Gmail: Settings, Forwarding and POP/IMAP";
const MICROSOFT: &str =
    "it takes OAuth2 alone; switch POP on in Outlook: Settings, Mail, Forwarding and IMAP";
const APP_PASSWORD: &str = "it takes an app password, made in the security settings of the account";
const SWITCHED_ON: &str = "switch POP on in its settings first";

const fn by_password(
    name: &'static str,
    domains: &'static [&'static str],
    host: &'static str,
    note: Option<&'static str>,
) -> Hoster {
    Hoster {
        name,
        domains,
        exchangers: &[],
        host: Some(host),
        user: User::Address,
        takes: Takes::Password,
        note,
    }
}

const fn without_pop3(
    name: &'static str,
    domains: &'static [&'static str],
    exchangers: &'static [&'static str],
) -> Hoster {
    Hoster { name, domains, exchangers, host: None, user: User::Address, takes: Takes::Password, note: None }
}

static KNOWN: &[Hoster] = &[
    Hoster {
        exchangers: &["google.com", "googlemail.com"],
        takes: Takes::Both("google"),
        ..by_password("Google", &["gmail.com", "googlemail.com"], "pop.gmail.com", Some(GOOGLE))
    },
    Hoster {
        exchangers: &["outlook.com", "mx.microsoft"],
        takes: Takes::Tokens("microsoft"),
        ..by_password(
            "Microsoft",
            &[
                "outlook.com",
                "outlook.de",
                "outlook.fr",
                "outlook.es",
                "outlook.it",
                "hotmail.com",
                "hotmail.de",
                "hotmail.fr",
                "hotmail.es",
                "hotmail.it",
                "hotmail.co.uk",
                "live.com",
                "live.de",
                "live.fr",
                "live.nl",
                "live.co.uk",
                "msn.com",
            ],
            "outlook.office365.com",
            Some(MICROSOFT),
        )
    },
    by_password(
        "Yahoo",
        &[
            "yahoo.com",
            "yahoo.de",
            "yahoo.fr",
            "yahoo.es",
            "yahoo.it",
            "yahoo.ca",
            "yahoo.co.uk",
            "ymail.com",
            "rocketmail.com",
        ],
        "pop.mail.yahoo.com",
        Some(APP_PASSWORD),
    ),
    by_password("AOL", &["aol.com", "aim.com", "verizon.net"], "pop.aol.com", Some(APP_PASSWORD)),
    Hoster {
        exchangers: &["messagingengine.com"],
        ..by_password("Fastmail", &["fastmail.com", "fastmail.fm"], "pop.fastmail.com", Some(APP_PASSWORD))
    },
    by_password("GMX", &["gmx.net", "gmx.de", "gmx.at", "gmx.ch"], "pop.gmx.net", Some(SWITCHED_ON)),
    by_password("GMX", &["gmx.com"], "pop.gmx.com", Some(SWITCHED_ON)),
    Hoster { user: User::LocalPart, ..by_password("WEB.DE", &["web.de"], "pop3.web.de", Some(SWITCHED_ON)) },
    by_password("Posteo", &["posteo.de", "posteo.net"], "posteo.de", None),
    without_pop3("iCloud", &["icloud.com", "me.com", "mac.com"], &["icloud.com"]),
    without_pop3("Proton", &["proton.me", "protonmail.com", "pm.me"], &["protonmail.ch"]),
    without_pop3("Tuta", &["tuta.com", "tutanota.com", "tutanota.de", "tutamail.com"], &["tutanota.de"]),
];

/// Gives the server of an address whose domain is a provider's, or tells that this one has no POP3; `None` for the domains of
/// others. Nobody is asked.
pub(super) fn known(address: &Address) -> Option<Result<(Server, String), Miss>> {
    let known = KNOWN.iter().find(|known| known.domains.contains(&&*address.domain))?;
    Some(known.server(address))
}

/// Does the same for a domain whose mail goes to this host.
pub(super) fn of_exchanger(address: &Address, exchanger: &str) -> Option<Result<(Server, String), Miss>> {
    let is_its = |known: &&Hoster| known.exchangers.iter().any(|domain| is_within(exchanger, domain));
    Some(KNOWN.iter().find(is_its)?.server(address))
}

/// Finds the provider of tokens that a document names as their issuer.
pub(super) fn issuer(host: &str) -> Option<&'static Provider> {
    let name = match host {
        "accounts.google.com" => "google",
        "login.microsoftonline.com" => "microsoft",
        _ => return None,
    };
    provider(name)
}

fn provider(name: &str) -> Option<&'static Provider> {
    PROVIDERS.iter().find(|provider| provider.name == name)
}

impl Hoster {
    fn server(&self, address: &Address) -> Result<(Server, String), Miss> {
        let Some(host) = self.host else {
            return Err(Miss::new(self.name, "has no POP3"));
        };
        let (password, oauth2) = match self.takes {
            Takes::Password => (true, None),
            Takes::Tokens(name) => (false, provider(name)),
            Takes::Both(name) => (true, provider(name)),
        };
        let user = match self.user {
            User::Address => address.to_string(),
            User::LocalPart => address.local.clone(),
        };
        let server = Server {
            host: host.to_owned(),
            port: TlsMode::Implicit.default_port(),
            mode: TlsMode::Implicit,
            user,
            password,
            oauth2,
            note: self.note,
        };
        Ok((server, format!("what is known of {}", self.name)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn of(address: &str) -> Option<Result<(Server, String), Miss>> {
        known(&Address::parse(address).unwrap())
    }

    #[test]
    fn the_server_of_a_known_domain_needs_no_question() {
        let (server, by) = of("alice@GMail.com").unwrap().unwrap();
        assert_eq!(
            (server.to_string().as_str(), &*server.user),
            ("pop.gmail.com:995, TLS", "alice@gmail.com")
        );
        assert!(server.password && server.oauth2.is_some_and(|provider| provider.name == "google"));
        assert_eq!(by, "what is known of Google");
        let (server, _) = of("alice@outlook.com").unwrap().unwrap();
        assert!(!server.password && server.oauth2.is_some_and(|provider| provider.name == "microsoft"));
        assert_eq!(of("alice@web.de").unwrap().unwrap().0.user, "alice");
        assert_eq!(of("alice@icloud.com").unwrap().unwrap_err().came, "has no POP3");
        assert_eq!(of("alice@mail.gmail.com"), None);
        assert_eq!(of("alice@example.org"), None);
    }

    #[test]
    fn whose_mail_goes_to_a_provider_is_its_customer() {
        let of = |exchanger| {
            let address = Address::parse("alice@example.org").unwrap();
            of_exchanger(&address, exchanger).map(|found| found.map(|(server, _)| server.host))
        };
        assert_eq!(of("aspmx.l.google.com").unwrap().unwrap(), "pop.gmail.com");
        let microsoft = "example-org.mail.protection.outlook.com";
        assert_eq!(of(microsoft).unwrap().unwrap(), "outlook.office365.com");
        assert!(of("mx.evilgoogle.com").is_none() && of("mx.example.org").is_none());
    }

    #[test]
    fn no_domain_belongs_to_two_providers() {
        let mut domains = HashSet::new();
        assert!(KNOWN.iter().flat_map(|known| known.domains).all(|domain| domains.insert(*domain)));
        let tokens = |known: &&Hoster| !matches!(known.takes, Takes::Password);
        for known in KNOWN.iter().filter(tokens) {
            let address = Address::parse(&format!("a@{}", known.domains[0])).unwrap();
            assert!(known.server(&address).unwrap().0.oauth2.is_some(), "{}", known.name);
        }
    }
}
