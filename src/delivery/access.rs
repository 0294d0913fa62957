//! What a target is used with, besides its configuration.

use std::time::Duration;

use crate::clock::WallClock;
use crate::net::Connector;
use crate::secret::Secret;
use crate::stop::Stop;

/// What a target is used with, besides what its configuration says.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// The account's name, for the log.
    pub account: String,
    pub connector: Connector,
    /// The password of the target's user, if it has one.
    pub secret: Option<Secret>,
    /// What else it is used with, as `Target::secrets` lists them.
    pub more: Vec<Secret>,
    /// The longest wait for a connection.
    pub timeout: Duration,
    /// Tells when the process was asked to end.
    pub stop: Stop,
    /// What [`super::Sink::news`] said in an earlier session.
    pub remembered: Option<Vec<u8>>,
    /// Tells the time that names of files begin with, and when what a server lost is tried again.
    pub clock: WallClock,
}
