//! Opens the target of an account, unless its server has refused the log-in lately.

use std::path::PathBuf;

use super::lockout::{self, Attempted, Refusal};
use super::trouble::{During, Failed, Trouble, tries_once, waits};
use super::{Environment, Retry};
use crate::config::Account;
use crate::credential;
use crate::delivery::{Access, ServerError, Sink, TargetError, probe};
use crate::failure::{Class, Failure};
use crate::net::Stage;
use crate::secret::Secret;
use crate::state::{LogIns, Timestamp};

const OPEN: &str = "open the target";
/// A log-in that worked is noted again after this many seconds, not at each poll.
const STILL_WORKS: Timestamp = 60 * 60;

/// Opens the target of an account.
pub(super) async fn open_target(
    account: &Account,
    environment: &Environment,
    retry: Retry,
) -> Result<Sink, Failed> {
    let (secret, log_in) = match account.target().login() {
        Some((host, login)) => {
            let secret = credential::password(&login.password, host, &login.user, account.timeout).await;
            let secret = secret.during("get the target's password")?;
            environment.connector.watch().saw(|| Stage::Password);
            let log_in = TargetLogIn::read(account, environment, &login.user, &secret).await?;
            log_in.may_try(retry).await.during(OPEN)?;
            (Some(secret), Some(log_in))
        }
        None => (None, None),
    };
    let remembered = match account.target().memory(&account.maildrop_id) {
        Some(name) => environment.store.target_memory(name).await.during("read the state")?,
        None => None,
    };
    let access = Access {
        remembered,
        account: account.name.clone(),
        connector: environment.connector.clone(),
        secret,
        timeout: account.timeout,
        stop: environment.stop.clone(),
        clock: environment.clock.clone(),
    };
    let maildrop = account.maildrop_id.as_str().into();
    let opened = Sink::open(account.target(), maildrop, environment.disk.clone(), access).await;
    match log_in {
        Some(log_in) => log_in.note(opened).await,
        None => opened.during(OPEN),
    }
}

/// Opens the target of an account as a poll does, and tries whether it can be written into; no message is sent. Gives the
/// directories that messages are written into, with the octets that are free there.
pub async fn examine(
    account: &Account,
    environment: &Environment,
    retry: Retry,
) -> Result<Vec<(PathBuf, u64)>, Failure> {
    let examined = async {
        let environment = &environment.of(account).during(OPEN)?;
        let sink = open_target(account, environment, retry).await?;
        sink.close().await;
        probe(account.target(), &environment.disk).await.during("use the target")
    };
    examined.await.map_err(|failed| failed.failure(account))
}

/// A log-in at a target's server, and what is remembered of those before: of all accounts that share it.
struct TargetLogIn<'a> {
    account: &'a Account,
    environment: &'a Environment,
    now: Timestamp,
    /// Under what it is remembered.
    name: String,
    attempted: Attempted,
    memory: LogIns,
}

impl<'a> TargetLogIn<'a> {
    async fn read(
        account: &'a Account,
        environment: &'a Environment,
        user: &str,
        secret: &Secret,
    ) -> Result<Self, Failed> {
        let name = format!("log-in {user} {}", account.target());
        let kept = environment.store.target_memory(name.clone()).await.during("read the state")?;
        // What cannot be read is as good as nothing.
        let memory = kept.and_then(|kept| serde_json::from_slice(&kept).ok()).unwrap_or_default();
        let attempted = Attempted::at_target(account.target(), user, secret);
        Ok(Self { account, environment, now: environment.clock.now(), name, attempted, memory })
    }

    /// Refuses to try what the server has refused.
    async fn may_try(&self, retry: Retry) -> Result<(), TargetError> {
        let may = lockout::may_try(&self.attempted, &self.memory, self.now, retry).await;
        may.map_err(|refusal| {
            let Refusal { said, class, .. } = refusal.clone();
            let hint = format!("check `user` and `password` of the target; {}", tries_once(self.account));
            TargetError::Server(Box::new(ServerError {
                place: self.account.target().to_string(),
                what: Trouble::LockedOut(refusal).to_string(),
                said: Some(said),
                hint: Some(hint),
                class,
            }))
        })
    }

    /// Notes what became of it.
    async fn note(self, opened: Result<Sink, TargetError>) -> Result<Sink, Failed> {
        match opened {
            Ok(sink) => {
                let mark = Some(lockout::worked(&self.attempted, &self.memory).mark);
                let LogIns { ok_at, mark: known, refused } = &self.memory;
                let lately = ok_at.is_some_and(|at| (0..STILL_WORKS).contains(&(self.now - at)));
                if !lately || *known != mark || refused.is_some() {
                    self.remember(LogIns { ok_at: Some(self.now), mark, refused: None }).await?;
                }
                Ok(sink)
            }
            Err(TargetError::Server(error)) if error.class == Class::Credentials && error.said.is_some() => {
                let said = error.said.as_deref().unwrap_or_default();
                let noted = lockout::refused(&self.attempted, &self.memory, self.now, (said, error.class));
                let (refused, refusal) = noted.await;
                self.remember(LogIns { refused: Some(refused), ..self.memory.clone() }).await?;
                let hint = [error.hint.clone(), Some(waits(self.account, &refusal))];
                let hint = Some(hint.into_iter().flatten().collect::<Vec<_>>().join("; "));
                Err(TargetError::Server(Box::new(ServerError { class: refusal.class, hint, ..*error })))
                    .during(OPEN)
            }
            Err(error) => Err(error).during(OPEN),
        }
    }

    async fn remember(&self, log_ins: LogIns) -> Result<(), Failed> {
        let kept = serde_json::to_vec(&log_ins).unwrap_or_default();
        self.environment.store.remember(self.name.clone(), kept).await.during("write the state")
    }
}
