//! Access tokens in the place of passwords (RFC 6749): kept until shortly before they end, renewed by one task or process
//! at a time, and a new refresh token stored before the old one is forgotten.
//!
//! | file | what it is |
//! |---|---|
//! | `kept` | what a login leaves from one poll to the next |
//! | `endpoint` | a question to a provider, and what its refusals say |
//! | `granted` | tokens as they come |
//! | `login` | a client and a user, and what is kept of them |
//! | `renewals` | what goes on though nobody waits for it |
//! | `assertion` | a client that signs |
//! | `error` | why there is no token, in words |
//! | [`log_in`] | a person logs in |
//! | [`allow`] | how that is allowed in a browser, without I/O: PKCE, the address to open, the one that comes back |
//! | `listen` | the browser's way back |
//! | `device` | codes for another device (RFC 8628) |

pub mod allow;
mod assertion;
mod device;
mod endpoint;
pub(super) mod error;
mod granted;
mod kept;
mod listen;
pub mod log_in;
mod login;
mod renewals;

use zeroize::Zeroizing;

use super::command;
use super::error::CredentialError;
use crate::clock::Timestamp;
use crate::config::account::CommandLine;
use crate::config::oauth2::{Grant, OAuth2};
use crate::config::providers::Protocol;
use crate::config::{Account, Target};
use crate::secret::Secret;
use crate::state::tokens;

use endpoint::{Form, Question};
pub use error::OAuth2Error;
use granted::{Granted, printed_token};
pub use kept::{AccessToken, Age, Unwanted};
use kept::{Kept, id_of, lacking};
pub use login::Means;
use login::{TokenOwner, read, turn};
pub use renewals::Renewals;

/// Whose tokens, and what for.
#[derive(Debug, Clone, Copy)]
pub struct User<'a> {
    pub oauth2: &'a OAuth2,
    pub user: &'a str,
    pub protocol: Protocol,
}

/// How closely is looked at what identifies credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Secrets are fetched from where they come from, to see whether they have changed.
    AtSecrets,
    /// What was seen at the last renewal counts.
    AtWhatIsKept,
}

impl<'a> User<'a> {
    /// Gives the user of an account's maildrop, if tokens are used there.
    pub fn of_source(account: &'a Account) -> Option<Self> {
        let oauth2 = account.oauth2.as_ref()?;
        Some(Self { oauth2, user: &account.user, protocol: Protocol::Pop })
    }

    /// Gives the user of a target, if tokens are used there.
    pub fn of_target(target: &'a Target) -> Option<Self> {
        let (_, login) = target.login()?;
        let oauth2 = login.credential.oauth2()?;
        Some(Self { oauth2, user: &login.user, protocol: target.facts().protocol })
    }

    /// Gives all of an account's that use tokens.
    pub fn of(account: &'a Account) -> impl Iterator<Item = Self> {
        Self::of_source(account).into_iter().chain(account.targets().filter_map(Self::of_target))
    }

    /// Gives a token that is good for a while.
    pub async fn access_token(
        &self,
        means: &Means<'_>,
        unwanted: Unwanted<'_>,
    ) -> Result<AccessToken, CredentialError> {
        match self.oauth2 {
            OAuth2::Command(line) => self.of_command(means, line, unwanted).await,
            OAuth2::Client(client) => {
                let login = TokenOwner { client, user: self.user };
                // Seldom more than a look at what is kept: whoever asks need not have room for a whole exchange.
                Box::pin(login.access_token(means, &client.scope(self.protocol), unwanted)).await
            }
        }
    }

    /// Gives what stands for the credentials where refusals are remembered: not the token of the hour.
    pub async fn identity(&self, means: &Means<'_>, look: Look) -> Result<Secret, CredentialError> {
        match self.oauth2 {
            OAuth2::Command(line) => Ok(Secret::new(format!("{line:?}"))),
            OAuth2::Client(client) => TokenOwner { client, user: self.user }.identity(means, look).await,
        }
    }

    /// Has the command print a token, unless what it printed last is good still.
    async fn of_command(
        &self,
        means: &Means<'_>,
        line: &CommandLine,
        unwanted: Unwanted<'_>,
    ) -> Result<AccessToken, CredentialError> {
        let name = format!("command {line:?} {}", self.user);
        let good = |kept: Option<Kept>| kept?.fresh("", means.now, unwanted);
        if let Some(token) = good(read(means, &name).await?) {
            return Ok(token);
        }
        let turn = turn(means, &name).await?;
        if let Some(token) = good(read(means, &name).await?) {
            return Ok(token);
        }
        let printed = command::output(line, means.patience()).await?;
        let (token, seconds) = printed_token(line, &printed)?;
        if let Some(seconds) = seconds {
            let mut kept = Kept::new(format!("{} by {line}", self.user), &[]).map_err(OAuth2Error::Random)?;
            kept.add(token.clone(), String::new(), means.now, Some(seconds));
            let room = turn.room().await.map_err(OAuth2Error::State)?;
            room.write(kept.write()).await.map_err(OAuth2Error::State)?;
        }
        let until = seconds.map(|seconds| means.now.saturating_add(seconds.max(0)));
        Ok(AccessToken { secret: Secret::new(token.as_bytes()), age: Age::New, scope: String::new(), until })
    }
}

impl TokenOwner<'_> {
    async fn access_token(
        &self,
        means: &Means<'_>,
        scope: &str,
        unwanted: Unwanted<'_>,
    ) -> Result<AccessToken, CredentialError> {
        let name = self.name();
        // What was had by another secret than is configured now is another's, maybe.
        let secrets = if self.is_by_secrets() { self.cheap_secrets(means).await? } else { None };
        let is_of_these = |kept: &Kept| secrets.as_ref().is_none_or(|secrets| kept.is_of(secrets));
        let good = |kept: &Option<Kept>| {
            let kept = kept.as_ref().filter(|kept| is_of_these(kept))?;
            kept.fresh(scope, means.now, unwanted)
        };
        if let Some(token) = good(&read(means, &name).await?) {
            return Ok(token);
        }
        let turn = turn(means, &name).await?;
        // Whoever had the turn before may have renewed it.
        let kept = read(means, &name).await?;
        if let Some(token) = good(&kept) {
            return Ok(token);
        }
        match self.client.grant {
            Grant::ClientCredentials => self.by_client(means, scope, kept, turn).await,
            Grant::RefreshToken => self.by_refreshing(means, scope, kept, turn).await,
        }
    }

    /// RFC 6749, 4.4.
    async fn by_client(
        &self,
        means: &Means<'_>,
        scope: &str,
        kept: Option<Kept>,
        turn: tokens::Turn,
    ) -> Result<AccessToken, CredentialError> {
        let secrets = self.secrets(means).await?;
        let mut kept = self.kept_by(kept, &secrets)?;
        let mut form = Form::new("client_credentials");
        if !scope.is_empty() {
            form.add("scope", scope.as_bytes());
        }
        let question = Question::new(means, self, &self.client.token_url, form).await?;
        let (scope, now) = (scope.to_owned(), means.now);
        let renewal = Box::pin(async move {
            let room = turn.room().await.map_err(OAuth2Error::State)?;
            let token = kept.take(Granted::of(question.put().await??)?, &scope, now);
            room.write(kept.write()).await.map_err(OAuth2Error::State)?;
            Ok(token)
        });
        means.renewals.run(means.through.account, renewal).await
    }

    /// RFC 6749, 6.
    async fn by_refreshing(
        &self,
        means: &Means<'_>,
        scope: &str,
        kept: Option<Kept>,
        turn: tokens::Turn,
    ) -> Result<AccessToken, CredentialError> {
        let secrets = self.secrets(means).await?;
        let (mut kept, refresh) = self.refreshable(kept, &secrets)?;
        let lacks = if kept.granted.is_empty() { Vec::new() } else { lacking(&kept.granted, scope) };
        if !lacks.is_empty() {
            return Err(OAuth2Error::Lacks { user: self.user.to_owned(), lacking: lacks }.into());
        }
        let mut form = Form::new("refresh_token");
        form.add_secret("refresh_token", &refresh);
        let scope = if kept.granted.is_empty() { scope.to_owned() } else { kept.granted.clone() };
        if self.client.names_scopes_again() && !scope.is_empty() {
            form.add("scope", scope.as_bytes());
        }
        let question = Question::new(means, self, &self.client.token_url, form).await?;
        // The client may have another secret now.
        let anew = if kept.is_of(&secrets) { None } else { Some(self.anew(&secrets)?) };
        let now = means.now;
        let renewal = Box::pin(async move {
            // Before the provider is asked: when it has answered, it may have forgotten the old one.
            let room = turn.room().await.map_err(OAuth2Error::State)?;
            match question.put().await? {
                Ok(answer) => {
                    let token = kept.take(Granted::of(answer)?, &scope, now);
                    if let Some(Kept { id, secrets, .. }) = anew {
                        (kept.id, kept.secrets) = (id, secrets);
                    }
                    room.write(kept.write()).await.map_err(OAuth2Error::State)?;
                    Ok(token)
                }
                Err(error) => {
                    if matches!(&error, OAuth2Error::Refused(refused) if refused.error == "invalid_grant")
                        && !kept.refused
                    {
                        kept.refused = true;
                        room.write(kept.write()).await.map_err(OAuth2Error::State)?;
                    }
                    Err(error)
                }
            }
        });
        means.renewals.run(means.through.account, renewal).await
    }

    /// Gives what is kept, with the refresh token that is in force.
    fn refreshable(&self, kept: Option<Kept>, secrets: &[Secret]) -> Result<(Kept, Secret), OAuth2Error> {
        let kept = match &self.client.refresh_token {
            // It stands in the place of one that the provider may have changed since; a new one wins.
            Some(_) => {
                let mut kept = self.kept_by(kept, secrets)?;
                let configured = secrets.first().map(Secret::reveal).unwrap_or_default();
                let configured = || Zeroizing::new(String::from_utf8_lossy(configured).into_owned());
                kept.refresh.get_or_insert_with(configured);
                Some(kept)
            }
            None => kept,
        };
        let refresh = |kept: Kept| {
            let token = kept.refresh.as_deref().map(|token| Secret::new(token.as_bytes()))?;
            Some((kept, token))
        };
        kept.and_then(refresh).ok_or_else(|| OAuth2Error::NotLoggedIn { user: self.user.to_owned() })
    }

    /// Gives what was kept by these very secrets, else begins anew.
    fn kept_by(&self, kept: Option<Kept>, secrets: &[Secret]) -> Result<Kept, OAuth2Error> {
        match kept.filter(|kept| kept.is_of(secrets)) {
            Some(kept) => Ok(kept),
            None => self.anew(secrets),
        }
    }

    async fn identity(&self, means: &Means<'_>, look: Look) -> Result<Secret, CredentialError> {
        let name = self.name();
        let kept = read(means, &name).await?;
        let secrets = match look {
            Look::AtSecrets => Some(self.secrets(means).await?),
            Look::AtWhatIsKept if self.is_by_secrets() => self.cheap_secrets(means).await?,
            Look::AtWhatIsKept => None,
        };
        let id = match (kept, secrets) {
            (Some(kept), None) => kept.id,
            (Some(kept), Some(secrets)) if kept.is_of(&secrets) => kept.id,
            (_, Some(secrets)) => id_of(&secrets),
            (None, None) => id_of(&self.secrets(means).await?),
        };
        Ok(Secret::new(format!("{name} {id}")))
    }
}

impl Kept {
    /// Takes over what a provider gave; the scope is that which was asked for, unless it says otherwise.
    fn take(&mut self, granted: Granted, asked: &str, now: Timestamp) -> AccessToken {
        let Granted { token, refresh, seconds, scope } = granted;
        let secret = Secret::new(token.as_bytes());
        if let Some(refresh) = refresh {
            self.refresh = Some(refresh);
        }
        self.refused = false;
        let scope = scope.unwrap_or_else(|| asked.to_owned());
        self.add(token, scope.clone(), now, seconds);
        let until = seconds.map(|seconds| now.saturating_add(seconds.max(0)));
        AccessToken { secret, age: Age::New, scope, until }
    }
}
