//! What a session writes down as it goes.

use crate::source::Server;
use crate::state::Closing;

use super::Report;
use super::course::Course;

/// What a session writes down as it goes.
pub struct Notes<'a> {
    /// For the sessions that follow in the same poll.
    pub course: &'a mut Course,
    /// For whoever asked for the poll.
    pub report: &'a mut Report,
    pub closing: &'a mut Closing,
    /// For the sessions to come with the same server.
    pub server: &'a mut Server,
}

impl Notes<'_> {
    /// Lends them.
    pub fn lend(&mut self) -> Notes<'_> {
        let Self { course, report, closing, server } = self;
        Notes { course, report, closing, server }
    }
}
