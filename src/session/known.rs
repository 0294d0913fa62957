//! What a maildrop's row tells of its server to those who know no protocol.

use std::time::Duration;

use crate::source::Server;
use crate::state::Maildrop;

/// Gives the LOGIN-DELAY that the server announced when it was last polled.
pub fn login_delay(known: &Maildrop) -> Option<Duration> {
    Server::announced_delay(known.server.capabilities.as_deref()?)
}
