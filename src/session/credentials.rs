//! What an account logs in with: a password, or tokens in its place.

use std::time::Duration;

use crate::config::Account;
use crate::config::oauth2::OAuth2;
use crate::credential::CredentialError;
use crate::credential::oauth2::{AccessToken, Age, Look, Means, OAuth2Error, Unwanted, User};
use crate::failure::Class;
use crate::net::{Endpoint, Stage, Stream, Token};
use crate::secret::Secret;
use crate::source;
use crate::state::LogIns;

use super::Environment;
use super::trouble::{During, Failed};

/// What an account logs in with, before anybody was asked for a token.
pub enum Credentials {
    Password(Secret),
    /// What stands for the tokens of all hours.
    Tokens {
        identity: Secret,
    },
}

/// How far an account came on the way to its server.
pub enum Reached {
    /// It is connected, and has this to log in with.
    Server { identity: Secret, secret: Secret, age: Age, stream: Stream },
    /// The provider of tokens, at this place, has refused one.
    Provider { identity: Secret, at: String, refused: Box<OAuth2Error> },
}

impl Credentials {
    /// Gets the password, or what stands for the tokens, whose secrets are looked at, or not.
    pub async fn of(account: &Account, environment: &Environment, look: Look) -> Result<Self, Failed> {
        let Some(user) = User::of_source(account) else {
            let password = source::password(account, environment.ask).await;
            return password.map(Self::Password).during("get the password");
        };
        let identity = user.identity(&means(account, environment), look).await;
        identity.map(|identity| Self::Tokens { identity }).during("get the secrets for an access token")
    }

    /// Gives what identifies them where refusals are remembered.
    pub fn identity(&self) -> &Secret {
        match self {
            Self::Password(secret) | Self::Tokens { identity: secret } => secret,
        }
    }
}

pub async fn token(
    account: &Account,
    environment: &Environment,
    unwanted: Unwanted<'_>,
) -> Result<AccessToken, CredentialError> {
    match User::of_source(account) {
        Some(user) => user.access_token(&means(account, environment), unwanted).await,
        None => Err(CredentialError::Missing),
    }
}

/// Says which tokens are not sent: where credentials were refused, the token was a new one, and would be refused again.
pub fn unwanted(memory: &LogIns) -> Unwanted<'static> {
    match &memory.refused {
        Some(refused) if refused.class == Some(Class::Credentials) => Unwanted::Kept,
        Some(_) | None => Unwanted::None,
    }
}

/// Puts a token into words, without itself.
pub fn stage(token: &AccessToken, environment: &Environment) -> Stage {
    let left = |until| u64::try_from(until - environment.clock.now()).unwrap_or_default();
    let from = match token.age {
        Age::New => "had just now",
        Age::Kept => "kept from an earlier poll",
    };
    let left = token.until.map(|until| Duration::from_secs(left(until)));
    Stage::Token(Token { from, scope: token.scope.clone(), left })
}

/// Tells a provider's refusal, which is remembered, from what else may go wrong with tokens.
pub fn no_token(account: &Account, identity: Secret, error: CredentialError) -> Result<Reached, Failed> {
    match (error, &account.oauth2) {
        (CredentialError::Tokens(refused), Some(OAuth2::Client(client))) if is_refusal(&refused) => {
            Ok(Reached::Provider { identity, at: client.token_url.authority(), refused })
        }
        (error, _) => Err(error).during(format!("get an access token for {}", account.user)),
    }
}

/// Says whether a provider has refused the credentials.
pub fn is_refusal(error: &OAuth2Error) -> bool {
    matches!(error, OAuth2Error::Refused(_)) && error.class() == Class::Credentials
}

/// Gives what tokens are had with: all of an account's go the account's own way.
pub fn means<'a>(account: &'a Account, environment: &'a Environment) -> Means<'a> {
    Means {
        connector: &environment.connector,
        through: Endpoint::from(account),
        shelf: &environment.shelf,
        renewals: &environment.renewals,
        now: environment.clock.now(),
    }
}
