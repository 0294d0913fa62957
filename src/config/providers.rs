//! What is known of providers of OAuth2: one table, which the manual and `login` show.

use super::http_url::HttpUrl;
use super::tls::TlsMode;

/// A provider of mailboxes and of tokens for them.
#[derive(Debug, PartialEq, Eq)]
pub struct Provider {
    /// Its name in the configuration.
    pub name: &'static str,
    /// The host that answers for it; another one in national clouds (`authority`).
    pub(super) authorize_host: &'static str,
    pub(super) token_host: &'static str,
    /// Paths, with `TENANT` in the place of the directory.
    pub(super) authorize: &'static str,
    pub(super) token: &'static str,
    /// Where device codes are had; `None` where mail is not among what they are given for.
    pub(super) device: Option<&'static str>,
    /// The directory where none is named; `None`: it has none.
    pub(super) tenant: Option<&'static str>,
    /// The host of the loopback redirect, as the provider wants it registered.
    pub redirect_host: &'static str,
    /// What is asked for besides, so that there is a refresh token.
    pub more: &'static [(&'static str, &'static str)],
    scopes: &'static [(Protocol, &'static str)],
    /// A scope that all log-ins have besides.
    pub(super) always: Option<&'static str>,
    /// The scope of an application's own access (`grant: client_credentials`), if there is such a thing.
    pub(super) application: Option<&'static str>,
    /// Whether a refreshed token must be told its scopes again: its refresh tokens are good for several services.
    pub names_scopes_again: NamesScopesAgain,
    /// How assertions are signed (RFC 7518, 3.1).
    pub assertion: Assertion,
    /// What who packages this has registered.
    pub(super) client_id: Option<&'static str>,
    pub(super) client_secret: Option<&'static str>,
    /// Where the manual says how a client is registered.
    pub manual: &'static str,
}

/// What a token is to be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Pop,
    Imap,
    Smtp,
    /// The API of Gmail.
    Gmail,
}

/// Whether a refresh names the scopes (RFC 6749, 6 leaves it open).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamesScopesAgain {
    Yes,
    No,
}

/// How assertions are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Assertion {
    /// RSASSA-PKCS1-v1_5 with SHA-256, which all servers know.
    Rs256,
    /// RSASSA-PSS with SHA-256, which Entra wants today.
    Ps256,
}

/// The providers with keys of their own.
pub static PROVIDERS: [Provider; 2] = [
    Provider {
        name: "google",
        authorize_host: "accounts.google.com",
        token_host: "oauth2.googleapis.com",
        authorize: "/o/oauth2/v2/auth",
        token: "/token",
        // It has device codes, but not for mail (invalid_scope).
        device: None,
        tenant: None,
        redirect_host: "127.0.0.1",
        more: &[("access_type", "offline"), ("prompt", "consent")],
        scopes: &[
            (Protocol::Pop, "https://mail.google.com/"),
            (Protocol::Imap, "https://mail.google.com/"),
            (Protocol::Smtp, "https://mail.google.com/"),
            (
                Protocol::Gmail,
                "https://www.googleapis.com/auth/gmail.insert https://www.googleapis.com/auth/gmail.labels",
            ),
        ],
        always: None,
        application: None,
        names_scopes_again: NamesScopesAgain::No,
        assertion: Assertion::Rs256,
        client_id: option_env!("POSTRIDER_GOOGLE_CLIENT_ID"),
        // Google's desktop clients have one, which is none: it is in every copy of the program.
        client_secret: option_env!("POSTRIDER_GOOGLE_CLIENT_SECRET"),
        manual: "docs/providers/google.md",
    },
    Provider {
        name: "microsoft",
        authorize_host: "login.microsoftonline.com",
        token_host: "login.microsoftonline.com",
        authorize: "/TENANT/oauth2/v2.0/authorize",
        token: "/TENANT/oauth2/v2.0/token",
        device: Some("/TENANT/oauth2/v2.0/devicecode"),
        tenant: Some("common"),
        redirect_host: "localhost",
        more: &[],
        scopes: &[
            (Protocol::Pop, "https://outlook.office.com/POP.AccessAsUser.All"),
            (Protocol::Imap, "https://outlook.office.com/IMAP.AccessAsUser.All"),
            (Protocol::Smtp, "https://outlook.office.com/SMTP.Send"),
        ],
        always: Some("offline_access"),
        application: Some("https://outlook.office365.com/.default"),
        names_scopes_again: NamesScopesAgain::Yes,
        assertion: Assertion::Ps256,
        client_id: option_env!("POSTRIDER_MICROSOFT_CLIENT_ID"),
        client_secret: None,
        manual: "docs/providers/microsoft.md",
    },
];

impl Provider {
    pub(super) fn scope(&self, protocol: Protocol) -> &'static str {
        self.scopes.iter().find(|(of, _)| *of == protocol).map_or("", |(_, scope)| scope)
    }

    /// Says whether who packages this has registered a client, so that nobody else has to.
    pub fn has_client(&self) -> bool {
        self.client_id.is_some()
    }

    /// Makes a URL of a host and a path of the table.
    pub(super) fn url(
        &self,
        host: &str,
        path: &str,
        tenant: Option<&str>,
        authority: Option<&HttpUrl>,
    ) -> HttpUrl {
        let target = path.replace("TENANT", tenant.or(self.tenant).unwrap_or_default());
        match authority {
            Some(authority) => HttpUrl { target, ..authority.clone() },
            None => HttpUrl { mode: TlsMode::Implicit, host: host.to_owned(), port: 443, target },
        }
    }
}
