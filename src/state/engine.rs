//! What a store's thread is asked, and what does it.

use std::panic::{self, AssertUnwindSafe};
use std::sync::mpsc;

use tokio::sync::oneshot;

use super::StateError;
use super::tables::{self, Tables};
use super::writing::Write;

/// Something that the thread is asked to do.
pub(super) enum Request {
    Write(Write, Answer<usize>),
    /// Answers by itself; gives back the failure, if there was one.
    Read(Read),
}

/// Looks, answers, and gives back the failure if there was one.
type Read = Box<dyn FnOnce(&mut dyn Engine) -> Option<StateError> + Send>;

/// Where an answer goes.
pub(super) struct Answer<T>(oneshot::Sender<Result<T, StateError>>);

impl<T> Answer<T> {
    pub(super) fn channel() -> (Self, oneshot::Receiver<Result<T, StateError>>) {
        let (answer, answered) = oneshot::channel();
        (Self(answer), answered)
    }

    /// Answers; gives back the failure, if it was one.
    pub(super) fn give(self, outcome: Result<T, StateError>) -> Option<StateError> {
        let failure = outcome.as_ref().err().cloned();
        // Whoever asked may have gone: a session that was stopped.
        let _ = self.0.send(outcome);
        failure
    }
}

/// A query, which may be made more than once and keeps what it found by itself.
pub(super) type Query<'q> = &'q mut dyn FnMut(Tables<'_>) -> tables::Result<()>;

/// What a store's thread does its work with.
pub(super) trait Engine {
    /// Commits the writes together, then answers.
    fn commit(&mut self, group: Vec<(Write, Answer<usize>)>);

    /// Reads by a query that sees one state.
    fn look(&mut self, query: Query<'_>) -> Result<(), StateError>;

    /// Hears of a failure in reading.
    fn note(&mut self, _failure: Option<StateError>) {}

    /// Lets go of all, since a defect was met.
    fn shut(&mut self) {}
}

/// Does what is asked for, until nobody is left who could ask.
pub(super) fn serve(mut engine: impl Engine, requests: &mpsc::Receiver<Request>) {
    while let Ok(first) = requests.recv() {
        // Whatever came in during the last commit is waiting now: the group grows with the load, and nobody waits for
        // company.
        let group = std::iter::once(first).chain(requests.try_iter());
        // Whoever asked hears of a defect, since nothing answers; all is opened anew for the next group.
        if panic::catch_unwind(AssertUnwindSafe(|| carry_out(&mut engine, group))).is_err() {
            engine.shut();
        }
    }
}

fn carry_out(engine: &mut impl Engine, group: impl Iterator<Item = Request>) {
    let mut writes = Vec::new();
    let mut reads = Vec::new();
    for request in group {
        match request {
            Request::Write(write, answer) => writes.push((write, answer)),
            Request::Read(read) => reads.push(read),
        }
    }
    // Commits first: a large maildrop being loaded need not delay what was delivered.
    if !writes.is_empty() {
        engine.commit(writes);
    }
    for read in reads {
        let failure = read(engine);
        engine.note(failure);
    }
}
