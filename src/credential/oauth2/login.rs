//! A client and a user, and what is kept of them.

use std::path::Path;
use std::time::Duration;

use super::super::error::CredentialError;
use super::super::sources;
use super::error::OAuth2Error;
use super::kept::Kept;
use crate::clock::Timestamp;
use crate::config::oauth2::{ClientProof, OAuth2Client};
use crate::net::{Connector, Endpoint};
use crate::secret::Secret;
use crate::state::tokens;

/// What tokens are had with, besides what is configured of them.
#[derive(Debug, Clone, Copy)]
pub struct Means<'a> {
    pub connector: &'a Connector,
    /// How providers are reached: certificates, source address and time limit are the account's.
    pub through: Endpoint<'a>,
    /// The state file, beside which tokens are kept.
    pub state: &'a Path,
    pub now: Timestamp,
}

impl Means<'_> {
    pub(super) fn patience(&self) -> Duration {
        self.through.timeout
    }
}

/// A client and a user: accounts and targets that share both share their tokens.
#[derive(Debug, Clone, Copy)]
pub struct Login<'a> {
    pub client: &'a OAuth2Client,
    pub user: &'a str,
}

impl Login<'_> {
    /// Names it, for its lock and its file.
    pub(super) fn name(&self) -> String {
        let OAuth2Client { token_url, client_id, .. } = self.client;
        format!("{token_url} {client_id} {}", self.user)
    }

    pub(super) fn anew(&self, secrets: &[Secret]) -> Result<Kept, OAuth2Error> {
        let whose = format!("{} at {}", self.user, self.client.token_url.authority());
        Kept::new(whose, secrets).map_err(OAuth2Error::Random)
    }

    /// Fetches the configured secrets: the refresh token first, if there is one.
    pub(super) async fn secrets(&self, means: &Means<'_>) -> Result<Vec<Secret>, CredentialError> {
        let client = self.client;
        let of_client = match &client.client {
            ClientProof::Secret(source) => Some(source),
            ClientProof::None | ClientProof::BuiltIn(_) | ClientProof::Certificate(_) => None,
        };
        let mut secrets = Vec::new();
        for source in client.refresh_token.iter().chain(of_client) {
            let patience = means.patience();
            secrets.push(sources::password(source, &client.token_url.host, self.user, patience).await?);
        }
        Ok(secrets)
    }
}

pub(super) async fn read(means: &Means<'_>, name: &str) -> Result<Option<Kept>, OAuth2Error> {
    let octets = tokens::read(means.state, name, means.patience()).await?;
    Ok(octets.and_then(|octets| Kept::read(&octets)))
}

pub(super) async fn turn(means: &Means<'_>, name: &str) -> Result<tokens::Turn, OAuth2Error> {
    let turn = tokens::turn(means.state, name, means.patience()).await?;
    turn.ok_or(OAuth2Error::Busy { after: means.patience() })
}
