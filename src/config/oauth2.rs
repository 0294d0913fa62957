//! Tokens in the place of passwords.

use std::path::PathBuf;

use super::command_line::CommandLine;
use super::http_url::HttpUrl;
use super::password::Password;
use super::providers::{Assertion, NamesScopesAgain, Protocol, Provider};
use super::tls::ClientCertificate;
use crate::secret::Secret;

/// What a user logs in with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Credential {
    Password(Password),
    OAuth2(OAuth2),
    /// The client certificate says who it is, or a person is asked for the password.
    #[default]
    Nothing,
}

/// Where access tokens come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OAuth2 {
    /// A command prints them.
    Command(CommandLine),
    /// A token endpoint gives them.
    Client(Box<OAuth2Client>),
}

/// A client that is registered with a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OAuth2Client {
    /// The provider, if it is one of the table.
    pub provider: Option<&'static Provider>,
    /// The directory at Microsoft, if it is named.
    pub(super) tenant: Option<String>,
    pub(super) authority: Option<HttpUrl>,
    /// Where a person allows the access.
    pub auth_url: Option<HttpUrl>,
    pub token_url: HttpUrl,
    /// Where device codes are had (RFC 8628).
    pub device_url: Option<HttpUrl>,
    pub(super) scope: Option<String>,
    /// Where the browser is sent at the end, if that is configured.
    pub redirect: Option<String>,
    pub client_id: String,
    pub client: ClientProof,
    pub grant: Grant,
    pub refresh_token: Option<Password>,
}

/// How a client shows that it is the one that is registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientProof {
    /// It does not: it is public (RFC 6749, 2.1).
    None,
    Secret(Password),
    /// By a secret that is none: it is in every copy of this build.
    BuiltIn(&'static str),
    /// By a signed assertion (RFC 7523).
    Certificate(ClientCertificate),
}

/// How tokens are had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grant {
    /// A person has allowed it (RFC 6749, 6).
    RefreshToken,
    /// The client has access by itself (RFC 6749, 4.4).
    ClientCredentials,
}

impl Credential {
    pub fn oauth2(&self) -> Option<&OAuth2> {
        match self {
            Self::Password(_) | Self::Nothing => None,
            Self::OAuth2(oauth2) => Some(oauth2),
        }
    }

    /// Gives the secrets that it is configured with, and what each is.
    pub fn secrets(&self) -> Vec<(&Password, &'static str)> {
        match self {
            Self::Password(password) => vec![(password, "the password")],
            Self::OAuth2(oauth2) => oauth2.secrets(),
            Self::Nothing => Vec::new(),
        }
    }
}

impl OAuth2 {
    /// Gives the secrets that it is configured with, and what each is.
    pub fn secrets(&self) -> Vec<(&Password, &'static str)> {
        match self {
            Self::Command(_) => Vec::new(),
            Self::Client(client) => client.secrets(),
        }
    }

    /// Gives the files that it needs besides, and what each is.
    pub fn files(&self) -> Vec<(&PathBuf, &'static str)> {
        match self {
            Self::Command(_) => Vec::new(),
            Self::Client(client) => client.files(),
        }
    }
}

impl OAuth2 {
    /// Puts a client's secret in the place of where it is to be.
    pub fn set_client_secret(&mut self, secret: Secret) {
        if let Self::Client(client) = self {
            client.client = ClientProof::Secret(Password::Literal(secret));
        }
    }
}

impl OAuth2Client {
    /// Gives the scopes that are needed to log in by a protocol, a blank between them; empty where the provider is to
    /// choose.
    pub fn scope(&self, protocol: Protocol) -> String {
        match (self.provider, self.grant) {
            (Some(provider), Grant::ClientCredentials) => provider.application.unwrap_or_default().to_owned(),
            (Some(provider), Grant::RefreshToken) => [Some(provider.scope(protocol)), provider.always]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join(" "),
            (None, _) => self.scope.clone().unwrap_or_default(),
        }
    }

    /// Says whether a refresh names the scopes.
    pub fn names_scopes_again(&self) -> bool {
        self.provider.is_none_or(|provider| provider.names_scopes_again == NamesScopesAgain::Yes)
    }

    /// Says how assertions are signed.
    pub fn assertion(&self) -> Assertion {
        self.provider.map_or(Assertion::Rs256, |provider| provider.assertion)
    }

    fn files(&self) -> Vec<(&PathBuf, &'static str)> {
        let mut files = Vec::new();
        if let ClientProof::Certificate(ClientCertificate { chain, key }) = &self.client {
            files.extend([(chain, "`client_certificate`"), (key, "`client_key`")]);
        }
        files
    }

    fn secrets(&self) -> Vec<(&Password, &'static str)> {
        let client = match &self.client {
            ClientProof::Secret(secret) => Some((secret, "`client_secret`")),
            ClientProof::None | ClientProof::BuiltIn(_) | ClientProof::Certificate(_) => None,
        };
        client
            .into_iter()
            .chain(self.refresh_token.as_ref().map(|token| (token, "`refresh_token`")))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;
    use crate::config::oauth2::OAuth2;
    use crate::config::providers::Protocol;

    #[test]
    fn gmail_is_asked_for_what_an_import_needs_and_no_more() {
        let yaml = "accounts: { a: { host: h, user: u, deliver: { gmail: { user: a@gmail.com, oauth2: { provider: google, client_id: c } } } } }";
        let config = Config::from_yaml(yaml, std::path::Path::new("f")).unwrap();
        let target = config.accounts[0].target();
        let Some(OAuth2::Client(client)) = target.login().and_then(|(_, login)| login.credential.oauth2())
        else {
            panic!("a client")
        };
        assert_eq!(target.facts().protocol, Protocol::Gmail);
        let base = "https://www.googleapis.com/auth/gmail";
        assert_eq!(client.scope(target.facts().protocol), format!("{base}.insert {base}.labels"));
    }
}
