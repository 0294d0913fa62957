//! A client and a user, and what is kept of them.

use std::time::Duration;

use super::super::error::CredentialError;
use super::super::sources;
use super::error::OAuth2Error;
use super::kept::{Kept, id_of};
use super::renewals::Renewals;
use crate::clock::Timestamp;
use crate::config::account::Password;
use crate::config::oauth2::{ClientProof, Grant, OAuth2Client};
use crate::net::{Connector, Endpoint};
use crate::secret::Secret;
use crate::state::tokens::{Shelf, Turn};

/// What tokens are had with, besides what is configured of them.
#[derive(Debug, Clone, Copy)]
pub struct Means<'a> {
    pub connector: &'a Connector,
    /// How providers are reached: certificates, source address and time limit are the account's.
    pub through: Endpoint<'a>,
    /// Where tokens are kept.
    pub shelf: &'a Shelf,
    /// What goes on though nobody waits for the token any more.
    pub renewals: &'a Renewals,
    pub now: Timestamp,
}

impl Means<'_> {
    pub(super) fn patience(&self) -> Duration {
        self.through.timeout
    }
}

/// A client and a user: accounts and targets that share both share their tokens.
#[derive(Debug, Clone, Copy)]
pub struct TokenOwner<'a> {
    pub client: &'a OAuth2Client,
    pub user: &'a str,
}

impl TokenOwner<'_> {
    /// Names it, for its lock and its file.
    pub(super) fn name(&self) -> String {
        let OAuth2Client { token_url, client_id, .. } = self.client;
        format!("{token_url} {client_id} {}", self.user)
    }

    pub(super) fn anew(&self, secrets: &[Secret]) -> Result<Kept, OAuth2Error> {
        let whose = format!("{} at {}", self.user, self.client.token_url.authority());
        let mut kept = Kept::new(whose, secrets).map_err(OAuth2Error::Random)?;
        // The same secrets are the same login, whatever was kept of them.
        if self.is_by_secrets() {
            kept.id = id_of(secrets);
        }
        Ok(kept)
    }

    /// Says whether configured secrets alone give it its tokens.
    pub(super) fn is_by_secrets(&self) -> bool {
        self.client.refresh_token.is_some() || self.client.grant == Grant::ClientCredentials
    }

    /// Fetches the configured secrets where that costs next to nothing: a command is run at renewals only.
    pub(super) async fn cheap_secrets(
        &self,
        means: &Means<'_>,
    ) -> Result<Option<Vec<Secret>>, CredentialError> {
        let is_command = |source: &Password| matches!(source, Password::Command(_));
        if self.sources().any(is_command) { Ok(None) } else { self.secrets(means).await.map(Some) }
    }

    /// Names the sources of the configured secrets: the refresh token's first, if there is one.
    fn sources(&self) -> impl Iterator<Item = &Password> {
        let of_client = match &self.client.client {
            ClientProof::Secret(source) => Some(source),
            ClientProof::None | ClientProof::BuiltIn(_) | ClientProof::Certificate(_) => None,
        };
        self.client.refresh_token.iter().chain(of_client)
    }

    /// Fetches the configured secrets: the refresh token first, if there is one.
    pub(super) async fn secrets(&self, means: &Means<'_>) -> Result<Vec<Secret>, CredentialError> {
        let mut secrets = Vec::new();
        for source in self.sources() {
            let patience = means.patience();
            secrets.push(sources::password(source, &self.client.token_url.host, self.user, patience).await?);
        }
        Ok(secrets)
    }
}

pub(super) async fn read(means: &Means<'_>, name: &str) -> Result<Option<Kept>, OAuth2Error> {
    let octets = means.shelf.read(name, means.patience()).await?;
    Ok(octets.and_then(|octets| Kept::read(&octets)))
}

pub(super) async fn turn(means: &Means<'_>, name: &str) -> Result<Turn, OAuth2Error> {
    let turn = means.shelf.turn(name, means.patience()).await?;
    turn.ok_or(OAuth2Error::Busy { after: means.patience() })
}
