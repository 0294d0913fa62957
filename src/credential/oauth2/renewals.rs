//! What a provider is asked for and what it gives, together: a provider that gives a new refresh token has forgotten the old one,
//! so that whoever asks must hear the answer, and write it down, though nobody waits for the token any more.

use std::sync::Arc;

use tokio::sync::RwLock;

use super::error::OAuth2Error;
use super::kept::AccessToken;
use crate::credential::CredentialError;
use crate::logging;

/// The renewals that a session has under way. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Renewals(Arc<RwLock<()>>);

impl Renewals {
    /// Renews by a task of its own: dropped, it goes on.
    pub(super) async fn run(
        &self,
        account: &str,
        renewal: impl Future<Output = Result<AccessToken, OAuth2Error>> + Send + 'static,
    ) -> Result<AccessToken, CredentialError> {
        let running = self.0.clone().read_owned().await;
        let renewal = logging::of_account(account.into(), renewal);
        let task = tokio::spawn(async move {
            let renewed = renewal.await;
            drop(running);
            renewed
        });
        let renewed = task.await.map_err(|error| OAuth2Error::NoAnswer { what: error.to_string() })?;
        Ok(renewed?)
    }

    /// Waits until none is under way.
    pub async fn ended(&self) {
        drop(self.0.write().await);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::oneshot;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_renewal_that_nobody_waits_for_goes_on_and_is_not_over_before_it_has_ended() {
        let renewals = Renewals::default();
        renewals.ended().await;
        let (answer, answered) = oneshot::channel();
        let (write, written) = oneshot::channel();
        let renewal = async move {
            let _ = answered.await;
            let _ = write.send(());
            Err(OAuth2Error::NoRefresh)
        };
        let second = Duration::from_secs(1);
        assert!(timeout(second, renewals.run("home", renewal)).await.is_err());
        assert!(timeout(second, renewals.ended()).await.is_err());
        answer.send(()).unwrap();
        renewals.ended().await;
        written.await.unwrap();
    }
}
