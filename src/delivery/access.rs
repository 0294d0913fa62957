//! What a target is used with, besides its configuration.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::TargetError;
use crate::clock::WallClock;
use crate::net::Connector;
use crate::secret::Secret;
use crate::stop::Stop;

/// What a target is used with, besides what its configuration says.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// The account's name, for the log, and for targets that are told it.
    pub account: String,
    /// The account's user, for the same targets.
    pub user: String,
    pub connector: Connector,
    /// The password of the target's user, if it has one.
    pub secret: Option<Secret>,
    /// What else it is used with, as `Target::secrets` lists them.
    pub more: Vec<Secret>,
    /// The longest wait for a connection.
    pub timeout: Duration,
    /// Tells when the process was asked to end.
    pub stop: Stop,
    /// Gets another access token in the place of one that was refused, for targets that see them with each request.
    pub renew: Option<Errand<Secret, Result<Secret, TargetError>>>,
    /// Keeps durably what [`super::Sink::news`] would say, before something is done that is not to be repeated; the error
    /// is in words.
    pub keep: Option<Errand<Vec<u8>, Result<(), String>>>,
    /// What [`super::Sink::news`] said in an earlier session.
    pub remembered: Option<Vec<u8>>,
    /// Octets that were uploaded there today, if there is a budget for that.
    pub uploaded: u64,
    /// Tells the time that names of files begin with, and when what a server lost is tried again.
    pub clock: WallClock,
}

/// Something that a target has done for it by whoever opened it.
pub struct Errand<I, O>(Arc<Run<I, O>>);

type Run<I, O> = dyn Fn(I) -> Pin<Box<dyn Future<Output = O> + Send>> + Send + Sync;

impl<I: 'static, O: 'static> Errand<I, O> {
    pub fn new<F: Future<Output = O> + Send + 'static>(run: impl Fn(I) -> F + Send + Sync + 'static) -> Self {
        Self(Arc::new(move |input| -> Pin<Box<dyn Future<Output = O> + Send>> { Box::pin(run(input)) }))
    }

    /// Has it done.
    pub(super) async fn run(&self, input: I) -> O {
        (self.0)(input).await
    }
}

impl<I, O> Clone for Errand<I, O> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<I, O> fmt::Debug for Errand<I, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Errand")
    }
}
