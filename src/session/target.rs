//! Opens the target of an account, unless its server has refused the log-in lately.

use std::path::PathBuf;
use std::sync::Arc;

use super::credentials::{self, is_refusal, means, unwanted};
use super::lockout::{self, Attempted, Refusal, Word};
use super::trouble::{DAY, During, Failed, Trouble, tries_once, waits};
use super::{Environment, Retry};
use crate::config::oauth2::Credential;
use crate::config::target::{Destination, Login, ShowsToken};
use crate::config::{Account, Target};
use crate::credential::oauth2::{AccessToken, Age, Look, OAuth2Error, Unwanted, User};
use crate::credential::{self, CredentialError};
use crate::delivery::{Access, Errand, ServerError, Sink, TargetError, probe};
use crate::failure::{Class, Failure};
use crate::net::Stage;
use crate::secret::{Ask, Secret, masked};
use crate::state::spending::Spending;
use crate::state::{LogIns, Timestamp};

const OPEN: &str = "open the target";
/// A log-in that worked is noted again after this many seconds, not at each poll.
const STILL_WORKS: Timestamp = 60 * 60;

/// Opens the target of an account.
pub(super) async fn open_target(
    account: &Account,
    target: &Target,
    environment: &Environment,
    retry: Retry,
) -> Result<Sink, Failed> {
    let Some((host, login)) = target.login() else {
        return open(account, target, environment, (None, Vec::new())).await?.during(OPEN);
    };
    let log_in = TargetLogIn::read((account, target), environment, host, login).await?;
    log_in.may_try(retry).await.during(OPEN)?;
    let (mut secret, age) = log_in.secret(unwanted(&log_in.memory)).await?;
    let with = |secret: &Secret| (Some(secret.clone()), log_in.more.clone());
    let mut opened = open(account, target, environment, with(&secret)).await?;
    if age == Age::Kept && opened.as_ref().is_err_and(|error| refusal(error).is_some()) {
        // It may have been revoked: one new one, once.
        log::info!("{}: target refuses the access token; getting a new one", account.name);
        (secret, _) = log_in.secret(Unwanted::This(&secret)).await?;
        opened = open(account, target, environment, with(&secret)).await?;
    }
    log_in.note(opened, &secret).await
}

async fn open(
    account: &Account,
    target: &Target,
    environment: &Environment,
    (secret, more): (Option<Secret>, Vec<Secret>),
) -> Result<Result<Sink, TargetError>, Failed> {
    let remembered = match target.memory(&account.maildrop_id) {
        Some(name) => environment.store.target_memory(name).await.during("read the state")?,
        None => None,
    };
    let uploaded = match target.budget() {
        Some((name, _)) => {
            let kept = environment.store.target_memory(name).await.during("read the state")?;
            Spending::used(&kept.unwrap_or_default(), environment.clock.now().div_euclid(DAY))
        }
        None => 0,
    };
    let access = Access {
        renew: renew(account, target, environment),
        keep: keep(account, target, environment),
        remembered,
        more,
        uploaded,
        account: account.name.clone(),
        user: account.user.clone(),
        connector: environment.connector.clone(),
        secret,
        timeout: account.timeout,
        stop: environment.stop.clone(),
        clock: environment.clock.clone(),
    };
    let maildrop = account.maildrop_id.as_str().into();
    Ok(Sink::open(target, maildrop, environment.disk.clone(), access).await)
}

/// Makes what gets another token for a target that sees them with each request.
fn renew(
    account: &Account,
    target: &Target,
    environment: &Environment,
) -> Option<Errand<Secret, Result<Secret, TargetError>>> {
    if target.facts().shows_token == ShowsToken::AtLogIn {
        return None;
    }
    let of = Arc::new((account.clone(), target.clone(), environment.clone()));
    Some(Errand::new(move |refused: Secret| {
        let of = of.clone();
        async move {
            let (account, target, environment) = &*of;
            let user = User::of_target(target).ok_or(CredentialError::Missing);
            let token = match user {
                Ok(user) => {
                    Box::pin(user.access_token(&means(account, environment), Unwanted::This(&refused))).await
                }
                Err(missing) => Err(missing),
            };
            token.map(|token| token.secret).map_err(|error| {
                let (said, hint, class) = match &error {
                    CredentialError::Tokens(error) => {
                        (Some(error.full_said()), error.hint(&account.name), error.class())
                    }
                    _ => (None, None, Class::Target),
                };
                let what = format!("cannot get another access token: {error}");
                TargetError::Server(Box::new(ServerError {
                    place: target.to_string(),
                    what,
                    said,
                    hint,
                    class,
                }))
            })
        }
    }))
}

/// Makes what keeps a target's memory in the middle of a session.
fn keep(
    account: &Account,
    target: &Target,
    environment: &Environment,
) -> Option<Errand<Vec<u8>, Result<(), String>>> {
    let name = target.memory(&account.maildrop_id)?;
    let store = environment.store.clone();
    Some(Errand::new(move |memory| {
        let (store, name) = (store.clone(), name.clone());
        async move { store.remember(name, memory).await.map_err(|error| error.to_string()) }
    }))
}

/// Notes what a target's server said of the credentials in the middle of a session: refused a log-in that was made anew, or
/// took the first message of one where each message shows them.
pub(super) async fn note_log_in(
    (account, target): (&Account, &Target),
    environment: &Environment,
    sink: &Sink,
    failed: Option<&mut TargetError>,
) -> Result<(), Failed> {
    let Some((host, login)) = target.login() else { return Ok(()) };
    if let Credential::OAuth2(_) = login.credential {
        // The token of the hour is over, as far as anybody knows.
        return Ok(());
    }
    if let Some(error) = failed.filter(|_| sink.was_turned_away())
        && let Some(said) = refusal(error)
    {
        let log_in = TargetLogIn::read((account, target), environment, host, login).await?;
        *error = log_in.refused(said, &log_in.identity).await?;
    } else if sink.was_let_in() == Some(true) {
        let name = TargetLogIn::name(target, login);
        let memory = log_ins(environment, &name).await?;
        if memory.refused.is_some() || !lately(&memory, environment.clock.now()) {
            TargetLogIn::read((account, target), environment, host, login).await?.worked().await?;
        }
    }
    Ok(())
}

/// Reads what is remembered of log-ins.
async fn log_ins(environment: &Environment, name: &str) -> Result<LogIns, Failed> {
    let kept = environment.store.target_memory(name.to_owned()).await.during("read the state")?;
    // What cannot be read is as good as nothing.
    Ok(kept.and_then(|kept| serde_json::from_slice(&kept).ok()).unwrap_or_default())
}

/// Says whether a log-in worked not long ago.
fn lately(memory: &LogIns, now: Timestamp) -> bool {
    memory.ok_at.is_some_and(|at| (0..STILL_WORKS).contains(&(now - at)))
}

/// Gives what is said by an error that is a server's refusal of credentials.
fn refusal(error: &TargetError) -> Option<&ServerError> {
    match error {
        TargetError::Server(error) if error.class == Class::Credentials && error.said.is_some() => {
            Some(error)
        }
        _ => None,
    }
}

/// Opens a target of an account as a poll does, and tries whether it can be written into; no message is sent. Gives the
/// directories that messages are written into, with the octets that are free there.
pub async fn examine(
    account: &Account,
    to: &Destination,
    environment: &Environment,
    retry: Retry,
) -> Result<Vec<(PathBuf, u64)>, Failure> {
    let examined = async {
        let environment = &environment.of(account).during(OPEN)?;
        let sink = open_target(account, &to.target, environment, retry).await?;
        sink.close().await;
        probe(&to.target, &environment.disk).await.during("use the target")
    };
    examined.await.map_err(|failed| failed.of_target(to).failure(account))
}

/// A log-in at a target's server, and what is remembered of those before: of all accounts that share it.
struct TargetLogIn<'a> {
    account: &'a Account,
    target: &'a Target,
    environment: &'a Environment,
    login: &'a Login,
    now: Timestamp,
    /// Under what it is remembered.
    name: String,
    /// The password, or what stands for the tokens of all hours.
    identity: Secret,
    /// What else the target is used with.
    more: Vec<Secret>,
    attempted: Attempted,
    memory: LogIns,
}

impl<'a> TargetLogIn<'a> {
    /// Names it, whatever folder it is for.
    fn name(target: &Target, login: &Login) -> String {
        format!("log-in {} {}", login.user, target.server().unwrap_or_default())
    }

    async fn read(
        (account, target): (&'a Account, &'a Target),
        environment: &'a Environment,
        host: &str,
        login: &'a Login,
    ) -> Result<Self, Failed> {
        let name = Self::name(target, login);
        let memory = log_ins(environment, &name).await?;
        let identity = match (&login.credential, User::of_target(target)) {
            (Credential::Password(password), _) => {
                credential::password(password, host, &login.user, account.timeout).await
            }
            (Credential::Nothing, _) if target.needs_no_password() => Ok(Secret::new(Vec::new())),
            (Credential::Nothing, _) if environment.ask == Ask::Terminal => {
                credential::ask(format!("Password for {} at {host}: ", login.user)).await
            }
            (Credential::Nothing, _) => Err(CredentialError::Missing),
            (Credential::OAuth2(_), None) => Err(CredentialError::Missing),
            (Credential::OAuth2(_), Some(user)) => {
                let look = if memory.refused.is_some() { Look::AtSecrets } else { Look::AtWhatIsKept };
                user.identity(&means(account, environment), look).await
            }
        };
        let identity = identity.during("get the target's password")?;
        let mut more = Vec::new();
        for (source, what) in target.secrets() {
            let secret = credential::password(source, host, &login.user, account.timeout).await;
            more.push(secret.during(format!("get {what} of the target"))?);
        }
        let secrets: Vec<&Secret> = [&identity].into_iter().chain(&more).collect();
        let attempted = Attempted::at_target(target, &login.user, &secrets);
        Ok(Self {
            account,
            target,
            environment,
            login,
            now: environment.clock.now(),
            name,
            identity,
            more,
            attempted,
            memory,
        })
    }

    /// Gets the password, or a token.
    async fn secret(&self, unwanted: Unwanted<'_>) -> Result<(Secret, Age), Failed> {
        let watch = self.environment.connector.watch();
        let Some(user) = User::of_target(self.target) else {
            watch.saw(|| Stage::Password);
            return Ok((self.identity.clone(), Age::New));
        };
        match user.access_token(&means(self.account, self.environment), unwanted).await {
            Ok(token) => {
                watch.saw(|| credentials::stage(&token, self.environment));
                let AccessToken { secret, age, .. } = token;
                Ok((secret, age))
            }
            Err(CredentialError::Tokens(error)) if is_refusal(&error) => self.no_token(&error).await,
            Err(error) => Err(error).during("get the target's access token"),
        }
    }

    /// Notes that the provider gives no token.
    async fn no_token<T>(&self, error: &OAuth2Error) -> Result<T, Failed> {
        let said = error.full_said();
        let noted = lockout::refused(&self.attempted, &self.memory, self.now, (&said, Word::Certain));
        let (refused, refusal) = noted.await;
        self.remember(LogIns { refused: Some(refused), ..self.memory.clone() }).await?;
        let hint = [error.hint(&self.account.name), Some(waits(self.account, &refusal))];
        Err(TargetError::Server(Box::new(ServerError {
            place: self.target.to_string(),
            what: format!("the provider of {}'s access tokens refuses one", self.login.user),
            said: Some(said),
            hint: Some(hint.into_iter().flatten().collect::<Vec<_>>().join("; ")),
            class: refusal.class,
        })))
        .during(OPEN)
    }

    /// Refuses to try what the server has refused.
    async fn may_try(&self, retry: Retry) -> Result<(), TargetError> {
        let may = lockout::may_try(&self.attempted, &self.memory, self.now, retry).await;
        may.map_err(|refusal| {
            let Refusal { said, class, .. } = refusal.clone();
            let keys = self.target.facts().log_in_keys;
            let hint = format!("check {keys} of the target; {}", tries_once(self.account));
            TargetError::Server(Box::new(ServerError {
                place: self.target.to_string(),
                what: Trouble::LockedOut(refusal).to_string(),
                said: Some(said),
                hint: Some(hint),
                class,
            }))
        })
    }

    /// Notes what became of it.
    async fn note(self, opened: Result<Sink, TargetError>, secret: &Secret) -> Result<Sink, Failed> {
        match opened {
            // Where each message shows the credentials, nobody has said anything of them.
            Ok(sink) if sink.was_let_in().is_some() => Ok(sink),
            Ok(sink) => self.worked().await.map(|()| sink),
            Err(error) => match refusal(&error) {
                Some(error) => Err(self.refused(error, secret).await?).during(OPEN),
                None => Err(error).during(OPEN),
            },
        }
    }

    /// Notes that the server took it.
    async fn worked(&self) -> Result<(), Failed> {
        let mark = Some(lockout::worked(&self.attempted, &self.memory).mark);
        let LogIns { mark: known, refused, .. } = &self.memory;
        if !lately(&self.memory, self.now) || *known != mark || refused.is_some() {
            self.remember(LogIns { ok_at: Some(self.now), mark, refused: None }).await?;
        }
        Ok(())
    }

    /// Notes that the server refused it.
    async fn refused(&self, error: &ServerError, secret: &Secret) -> Result<TargetError, Failed> {
        let said = masked(error.said.as_deref().unwrap_or_default(), &[secret]);
        let word = (said.as_slice(), Word::Of(error.class));
        let (refused, refusal) = lockout::refused(&self.attempted, &self.memory, self.now, word).await;
        self.remember(LogIns { refused: Some(refused), ..self.memory.clone() }).await?;
        let hint = [error.hint.clone(), Some(waits(self.account, &refusal))];
        let hint = Some(hint.into_iter().flatten().collect::<Vec<_>>().join("; "));
        let class = refusal.class;
        Ok(TargetError::Server(Box::new(ServerError { class, hint, said: Some(said), ..error.clone() })))
    }

    async fn remember(&self, log_ins: LogIns) -> Result<(), Failed> {
        let kept = serde_json::to_vec(&log_ins).unwrap_or_default();
        self.environment.store.remember(self.name.clone(), kept).await.during("write the state")
    }
}
