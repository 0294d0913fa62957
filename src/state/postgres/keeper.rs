//! The store's thread where the state is in a database: it has a connection of its own, carries out what waits together
//! in one transaction, and answers.

use std::sync::Arc;

use tokio::runtime::{Builder, Runtime};
use tokio_postgres::Client;

use super::connection::{BEGIN, Server, usable};
use super::error::{is_contended, is_lost};
use super::transaction::{Fault, Transaction};
use super::tries::{TRIES, pause};
use crate::state::engine::{Answer, Engine, Query};
use crate::state::outlook;
use crate::state::tables::{self, Tables};
use crate::state::writing::Write;
use crate::state::{StateError, Trouble};

/// The same for what a power cut may take back.
const BEGIN_LIGHTLY: &str =
    "BEGIN; SET LOCAL idle_in_transaction_session_timeout = 10000; SET LOCAL synchronous_commit = off";

/// Several queries that see one state, whatever is committed meanwhile.
const LOOK: &str =
    "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL idle_in_transaction_session_timeout = 10000";

/// Owns the connection.
pub struct Keeper {
    server: Server,
    place: String,
    runtime: Runtime,
    client: Option<Arc<Client>>,
}

/// What a transaction is tried for.
pub type Work<'w, T> = &'w mut dyn FnMut(Tables<'_>) -> tables::Result<T>;

impl Keeper {
    /// # Errors
    ///
    /// The system gives no means to wait for the network.
    pub fn new(server: Server) -> Result<Self, StateError> {
        let place = server.place();
        let runtime = Builder::new_current_thread().enable_all().build().map_err(|error| {
            StateError::of_database(&place, Trouble::Unreachable, format!("cannot wait for it: {error}"))
        })?;
        Ok(Self { server, place, runtime, client: None })
    }

    /// Carries out a transaction. It is tried again where others' transactions come between, and where the connection is
    /// lost before the commit was sent; after that nobody knows whether it was done.
    pub(super) fn carry_out<T>(&mut self, begin: &'static str, work: Work<'_, T>) -> Result<T, StateError> {
        for attempt in 1.. {
            let client = self.runtime.block_on(usable(&mut self.client, &self.server))?;
            let patience = self.server.patience();
            let transaction = Transaction::begin(&self.runtime, client.clone(), patience, begin);
            #[cfg(test)]
            self.disturb(&transaction);
            let done = work(Tables::Postgres(&transaction)).and_then(|done| {
                #[cfg(test)]
                self.disturb(&transaction);
                transaction.settle()?;
                Ok(done)
            });
            let error = match done {
                Ok(done) => match transaction.end(&client, "COMMIT") {
                    Ok(()) => return Ok(done),
                    Err(Fault::Server(error)) if is_contended(&error) => Fault::Server(error).into(),
                    Err(fault) => return Err(self.failed(fault.into())),
                },
                Err(fault) => fault,
            };
            match &error {
                tables::Fault::Postgres(Fault::Server(error)) if is_lost(error) => self.client = None,
                // What does not answer is asked no more: the server rolls back when it finds the connection gone.
                tables::Fault::Postgres(Fault::Silent(_)) => return Err(self.failed(error)),
                _ => {
                    if transaction.end(&client, "ROLLBACK").is_err() {
                        self.client = None;
                    }
                }
            }
            let is_worth_it = match &error {
                tables::Fault::Postgres(Fault::Server(error)) => is_contended(error) || is_lost(error),
                _ => false,
            };
            if !is_worth_it || attempt == TRIES {
                return Err(self.failed(error));
            }
            self.runtime.block_on(pause(attempt));
        }
        unreachable!("the last try returns")
    }

    /// Counts what polls have brought, once that is recorded: apart, so that one row of all workers' is no part of their
    /// transactions. Whoever dies in between leaves an hour of which less is told.
    fn count(&mut self, counting: &str) {
        for attempt in 1..=3 {
            let Some(client) = self.client.clone() else { return };
            let patience = self.server.patience();
            let counted = async { tokio::time::timeout(patience, client.batch_execute(counting)).await };
            match self.runtime.block_on(counted) {
                Ok(Ok(())) => return,
                Ok(Err(error)) if is_contended(&error) => self.runtime.block_on(pause(attempt)),
                Ok(Err(error)) => return log::debug!("{}: not counted: {error}", self.place),
                Err(_) => {
                    self.client = None;
                    return log::debug!("{}: not counted: no answer", self.place);
                }
            }
        }
    }

    /// Has the server refuse a transaction now and then.
    #[cfg(test)]
    fn disturb(&self, transaction: &Transaction<'_>) {
        if let Some(refusal) = self.server.refusal() {
            transaction.execute(refusal, &[]).unwrap();
        }
    }

    /// Says what went wrong; a connection that fell silent, or was lost, is not used again.
    fn failed(&mut self, fault: tables::Fault) -> StateError {
        let error = match fault {
            tables::Fault::Postgres(Fault::Server(error)) => StateError::of_postgres(&error, &self.place),
            tables::Fault::Postgres(Fault::Silent(waited)) => StateError::no_answer(&self.place, waited),
            tables::Fault::Postgres(Fault::LeaseLost) => {
                let what =
                    "another process has taken the lease on the maildrop meanwhile; nothing was written";
                StateError::of_database(&self.place, Trouble::LeaseLost, what)
            }
            tables::Fault::Elsewhere(error) => return *error,
            other => StateError::of_database(&self.place, Trouble::Statement, other.to_string()),
        };
        if matches!(&error, StateError::Database { trouble: Trouble::Silent | Trouble::Lost, .. }) {
            self.client = None;
        }
        error
    }
}

impl Engine for Keeper {
    /// Commits the writes together, or, where one of them fails, one by one, so that it spoils no other.
    fn commit(&mut self, mut group: Vec<(Write, Answer<usize>)>) {
        let begin = match group.iter().all(|(write, _)| write.may_be_lost() || write.costs_a_poll()) {
            true => BEGIN_LIGHTLY,
            false => BEGIN,
        };
        // All processes lock rows in one order.
        group.sort_by(|(one, _), (other, _)| one.maildrop().cmp(&other.maildrop()));
        let mut all = |tables: Tables<'_>| group.iter().map(|(write, _)| write.apply(tables)).collect();
        let outcome: Result<Vec<usize>, StateError> = self.carry_out(begin, &mut all);
        match outcome {
            Ok(counts) => {
                let counting = outlook::counting(group.iter().filter_map(|(write, _)| write.brought()));
                for ((_, answer), count) in group.into_iter().zip(counts) {
                    answer.give(Ok(count));
                }
                if let Some(counting) = counting {
                    self.count(&counting);
                }
            }
            Err(error) if group.len() == 1 || is_of_all(&error) => {
                for (_, answer) in group {
                    answer.give(Err(error.clone()));
                }
            }
            Err(_) => {
                for one in group {
                    self.commit(vec![one]);
                }
            }
        }
    }

    fn look(&mut self, query: Query<'_>) -> Result<(), StateError> {
        self.carry_out(LOOK, query)
    }

    fn shut(&mut self) {
        self.client = None;
    }
}

/// Says whether an error is one of the database, so that no other write can do better.
fn is_of_all(error: &StateError) -> bool {
    !matches!(
        error,
        StateError::Database { trouble: Trouble::Statement | Trouble::Value | Trouble::LeaseLost, .. }
    )
}
