//! Opens the target of an account.

use super::Environment;
use super::trouble::{During, Failed};
use crate::config::Account;
use crate::credential;
use crate::delivery::{Access, Sink};

/// Opens the target of an account.
pub(super) async fn open_target(account: &Account, environment: &Environment) -> Result<Sink, Failed> {
    let secret = match account.deliver.login() {
        Some((host, login)) => {
            let secret = credential::password(&login.password, host, &login.user, account.timeout).await;
            Some(secret.during("get the target's password")?)
        }
        None => None,
    };
    let remembered = match account.deliver.memory(&account.maildrop_id) {
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
    Sink::open(&account.deliver, maildrop, environment.disk.clone(), access).await.during("open the target")
}
