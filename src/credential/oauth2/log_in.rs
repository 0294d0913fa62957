//! A person logs in: in a browser, whose last address comes back by itself or is pasted, or by a code on another device.

use std::time::Duration;

use serde_json::Value;
use tokio::sync::mpsc;

use super::super::error::CredentialError;
use super::User;
use super::allow::{Attempt, NotTaken};
use super::device;
use super::endpoint::{self, Form};
use super::error::{OAuth2Error, Origin, Refused};
use super::granted::Granted;
use super::kept::{Kept, lacking};
use super::listen::Return;
use super::login::{Means, TokenOwner, read, turn};
use crate::config::Account;
use crate::config::oauth2::{Grant, OAuth2};
use crate::secret::Secret;
use crate::state::tokens::Room;

/// How long a person may take.
const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// Whoever logs in.
pub struct Person<'a> {
    /// Is told what to do.
    pub say: &'a mut dyn FnMut(&str),
    /// Lines that are typed or pasted; closed where nobody can type.
    pub lines: mpsc::UnboundedReceiver<String>,
}

/// How a person logs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// The provider's way: a browser, where it has an address for that.
    Usual,
    Device,
}

/// A login that an account needs, with all the scopes that accounts and targets want of it.
#[derive(Debug)]
pub struct Needed<'a> {
    login: TokenOwner<'a>,
    scope: String,
    /// Nothing that is good is stored.
    pub is_lacking: bool,
}

/// Gives the logins that an account's source and targets need, each once.
pub async fn needed<'a>(
    means: &Means<'_>,
    account: &'a Account,
    all: &'a [Account],
) -> Result<Vec<Needed<'a>>, CredentialError> {
    let mut needed: Vec<Needed<'a>> = Vec::new();
    for user in User::of(account) {
        let Some(login) = by_person(&user) else { continue };
        let name = login.name();
        if needed.iter().any(|needed| needed.login.name() == name) {
            continue;
        }
        let others = all.iter().chain([account]).flat_map(User::of);
        let mut scope: Vec<String> = Vec::new();
        for other in others.filter(|other| by_person(other).is_some_and(|other| other.name() == name)) {
            let more = login.client.scope(other.protocol);
            for word in more.split_whitespace() {
                if !scope.iter().any(|known| known == word) {
                    scope.push(word.to_owned());
                }
            }
        }
        let scope = scope.join(" ");
        let kept = read(means, &name).await?;
        let is_good = |kept: &Kept| {
            kept.refresh.is_some() && !kept.refused && lacking(&kept.granted, &scope).is_empty()
        };
        let is_lacking = !kept.as_ref().is_some_and(is_good);
        needed.push(Needed { login, scope, is_lacking });
    }
    Ok(needed)
}

/// Gives the login, if a person makes it.
fn by_person<'a>(user: &User<'a>) -> Option<TokenOwner<'a>> {
    match user.oauth2 {
        OAuth2::Client(client) if client.grant == Grant::RefreshToken && client.refresh_token.is_none() => {
            Some(TokenOwner { client, user: user.user })
        }
        OAuth2::Client(_) | OAuth2::Command(_) => None,
    }
}

impl Needed<'_> {
    /// Names whose login it is, and where: `alice at accounts.google.com`.
    pub fn whose(&self) -> String {
        let TokenOwner { client, user } = self.login;
        let at = client.auth_url.as_ref().unwrap_or(&client.token_url);
        format!("{user} at {}", at.authority())
    }

    /// Has a person log in, and stores what comes of it.
    pub async fn log_in(
        &self,
        means: &Means<'_>,
        by: By,
        person: &mut Person<'_>,
    ) -> Result<(), CredentialError> {
        let client = self.login.client;
        let is_granted = match (by, &client.device_url, &client.auth_url) {
            (By::Device, Some(url), _) | (By::Usual, Some(url), None) => {
                let allowed = device::allowed(means, &self.login, url, &self.scope, person.say);
                Some(within(allowed).await?)
            }
            (By::Device, None, _) | (By::Usual, None, None) => return Err(OAuth2Error::NoDevice.into()),
            (By::Usual, _, Some(_)) => None,
        };
        match is_granted {
            Some(answer) => {
                // It is polled for minutes; nobody else's turn waits for that.
                let turn = turn(means, &self.login.name()).await?;
                let room = turn.room().await.map_err(OAuth2Error::State)?;
                self.store(means, room, answer).await
            }
            None => self.by_browser(means, person).await,
        }
    }

    async fn by_browser(&self, means: &Means<'_>, person: &mut Person<'_>) -> Result<(), CredentialError> {
        let client = self.login.client;
        let Some(auth_url) = &client.auth_url else { return Err(OAuth2Error::NoDevice.into()) };
        let back = Return::open(client).await.map_err(OAuth2Error::Listen)?;
        let asked = (self.login.user, self.scope.as_str());
        let attempt =
            Attempt::new(client, auth_url, asked, back.redirect.clone()).map_err(OAuth2Error::Random)?;
        (person.say)(&format!(
            "Open this address in a browser, on any machine, and sign in as {}:\n\n  {}\n",
            asked.0, attempt.url
        ));
        (person.say)(&match back.is_here() {
            true => format!(
                "If that browser is on another machine, it ends with an error at an address that begins with\n{}: \
                 paste that address here.",
                attempt.redirect
            ),
            false => format!("It ends at an address that begins with {}: paste that here.", attempt.redirect),
        });
        let code = within(brought(&back, &attempt, person)).await?;
        let mut form = Form::new("authorization_code");
        form.add_secret("code", &code);
        form.add("redirect_uri", attempt.redirect.as_bytes());
        form.add_secret("code_verifier", &attempt.verifier);
        let turn = turn(means, &self.login.name()).await?;
        // Before the code is spent.
        let room = turn.room().await.map_err(OAuth2Error::State)?;
        let answer = endpoint::ask(means, &self.login, &client.token_url, form).await?.map_err(of_code)?;
        self.store(means, room, answer).await
    }

    /// Stores tokens, if they are good for what is wanted.
    async fn store(&self, means: &Means<'_>, room: Room<'_>, answer: Value) -> Result<(), CredentialError> {
        let granted = Granted::of(answer)?;
        let Some(refresh) = granted.refresh.clone() else { return Err(OAuth2Error::NoRefresh.into()) };
        let scope = granted.scope.clone().unwrap_or_else(|| self.scope.clone());
        let lacking = lacking(&scope, &self.scope);
        // Other providers may have other names for what they were asked for.
        if !lacking.is_empty() && self.login.client.provider.is_some() {
            return Err(OAuth2Error::NotAllowed { lacking }.into());
        }
        let secrets = self.login.secrets(means).await?;
        let mut kept = self.login.anew(&secrets)?;
        (kept.refresh, kept.granted) = (Some(refresh), self.scope.clone());
        kept.take(granted, &self.scope, means.now);
        room.write(kept.write()).await.map_err(OAuth2Error::State)?;
        Ok(())
    }
}

/// Waits for the code: the browser brings it, or a person pastes it.
async fn brought(
    back: &Return,
    attempt: &Attempt,
    person: &mut Person<'_>,
) -> Result<Secret, CredentialError> {
    let Person { say, lines } = person;
    loop {
        let pasted = tokio::select! {
            code = back.code(attempt, *say), if back.is_here() => match code {
                Ok(code) => return Ok(code),
                Err(NotTaken::Refused(error)) => return Err(error.into()),
                Err(NotTaken::NoCode | NotTaken::Foreign) => continue,
            },
            pasted = lines.recv(), if !lines.is_closed() || !lines.is_empty() => pasted,
            else => return Err(CredentialError::Missing),
        };
        match pasted.map(|line| attempt.code(&line)) {
            Some(Ok(code)) => return Ok(code),
            Some(Err(NotTaken::Refused(error))) => return Err(error.into()),
            Some(Err(error)) => say(&format!("That is not the right address: {error}.")),
            None => {}
        }
    }
}

/// Says that it was the code, and no refresh token, that a provider has refused.
fn of_code(error: OAuth2Error) -> OAuth2Error {
    match error {
        OAuth2Error::Refused(refused) => OAuth2Error::Refused(Refused { from: Origin::Code, ..refused }),
        other => other,
    }
}

async fn within<T>(waiting: impl Future<Output = Result<T, CredentialError>>) -> Result<T, CredentialError> {
    match tokio::time::timeout(PATIENCE, waiting).await {
        Ok(done) => done,
        Err(_) => {
            let what = "somebody to allow the access".to_owned();
            Err(CredentialError::TimedOut { what, after: PATIENCE })
        }
    }
}
