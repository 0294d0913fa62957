//! What a target is used with, besides its configuration.

use std::time::Duration;

use tokio::sync::watch;

use crate::clock::WallClock;
use crate::net::Connector;
use crate::secret::Secret;

/// What a target is used with, besides what its configuration says.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// The account's name, for the log.
    pub account: String,
    /// Makes the connections.
    pub connector: Connector,
    /// The password of the target's user, if it has one.
    pub secret: Option<Secret>,
    /// The longest wait for a connection.
    pub timeout: Duration,
    /// Tells when the process was asked to end.
    pub stop: Stop,
    /// What [`super::Sink::news`] said in an earlier session.
    pub remembered: Option<Vec<u8>>,
    /// Tells the time that names of files begin with, and when what a server lost is tried again.
    pub clock: WallClock,
}

/// How long a message that is being delivered may take once the process was asked to end.
pub(super) const GRACE: Duration = Duration::from_secs(4);

/// Tells when the process was asked to end. Where messages are delivered one after the other, none is begun from then
/// on.
#[derive(Debug, Clone, Default)]
pub struct Stop(Option<watch::Receiver<bool>>);

impl Stop {
    pub(super) fn is_set(&self) -> bool {
        self.0.as_ref().is_some_and(|stop| *stop.borrow())
    }

    /// Resolves once the process was asked to end.
    pub(super) async fn set(&self) {
        if let Some(stop) = &self.0
            && stop.clone().wait_for(|stop| *stop).await.is_ok()
        {
            return;
        }
        // Nobody is there who could ask.
        std::future::pending::<()>().await;
    }
}

impl From<watch::Receiver<bool>> for Stop {
    /// True is the request to end.
    fn from(stop: watch::Receiver<bool>) -> Self {
        Self(Some(stop))
    }
}
