//! The targets that are servers: SMTP (RFC 5321) and LMTP (RFC 2033).
//!
//! One connection serves all messages of a session. While it is in use it belongs to the commit alone; only after the
//! last reply was read is it put back, so that an error, a time limit or a commit that is dropped takes it away, and no
//! reply is ever taken for that of another message.
//!
//! A message counts as delivered for a recipient at the server's 250 to its end, and at nothing else. Between that 250
//! and our record lies a window in which a message can repeat, and none in which one is lost.

mod body;
mod connect;
mod dialogue;
mod learned;
mod letter;
mod transaction;

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use super::series::Faults;
use super::spool::Unspooled;
use super::{Access, Outcome, ServerError, TargetError, envelope, spool};
use crate::config::MailServer;
use crate::disk::Disk;
use crate::failure::{Class, speaks_of_tls};
use crate::lock::lock;
use crate::message::{Header, MessageId};
use crate::smtp::{Command, Dialect, Reply};
use crate::stop::GOODBYE;
use dialogue::Broken;
use learned::Learned;
use letter::{Ahead, Done, Letter, Stall, Verdict};
use transaction::Connection;

/// Messages in a row of which a server takes no recipient now, before that is its own trouble: a map that cannot be
/// read, a backend that is away.
const MOST_STALLS: usize = 5;

/// Connections made in a row for a message whose recipients the one before could not take, and in vain: from then on it
/// takes [`MOST_STALLS`] for another one.
const MOST_VAIN: usize = 3;

/// Connections that may break one after the other, each over another message, before the server counts as gone.
const MOST_BREAKS: usize = 3;

/// One account's way into a server. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Server(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    server: MailServer,
    dialect: Dialect,
    access: Access,
    disk: Disk,
    learned: Learned,
    /// The connection while nobody uses it.
    idle: Mutex<Option<Connection>>,
    /// Connections that broke since one served.
    breaks: AtomicUsize,
    /// Messages in a row that were put off since the server could take none of their recipients, or ended at each.
    stalls: AtomicUsize,
    /// Connections in a row that were made for one message, and took it no more than the one before.
    vain: AtomicUsize,
    faults: Faults,
}

/// A message and where it may go.
enum Addressed {
    Letter(Letter),
    /// It cannot be sent to anyone, or need not be.
    Decided(Outcome),
}

impl Server {
    /// Connects to the server, so that nothing is fetched for one that is not there.
    pub(super) async fn open(
        server: &MailServer,
        dialect: Dialect,
        disk: Disk,
        access: Access,
    ) -> Result<Self, TargetError> {
        let learned = Learned::new(access.remembered.as_deref(), access.clock.now());
        let connection = connect::connect(server, dialect, &access, &learned).await?;
        Ok(Self(Arc::new(Shared {
            server: server.clone(),
            dialect,
            access,
            disk,
            learned,
            idle: Mutex::new(Some(connection)),
            breaks: AtomicUsize::new(0),
            stalls: AtomicUsize::new(0),
            vain: AtomicUsize::new(0),
            faults: Faults::default(),
        })))
    }

    pub(super) fn draft(&self, message: MessageId) -> spool::Draft {
        spool::Draft::new(&self.0.disk, message, spool::LineEnds::Crlf)
    }

    pub(super) fn faults(&self) -> &Faults {
        &self.0.faults
    }

    /// Says how many messages were put off in a row before the server turned out to take none.
    pub(super) fn retracted(&self) -> usize {
        self.0.stalls.load(Relaxed)
    }

    pub(super) fn news(&self) -> Option<Vec<u8>> {
        self.0.learned.news()
    }

    pub(super) async fn commit(&self, finished: Vec<spool::Finished>) -> Result<Vec<Outcome>, TargetError> {
        let mut messages = Vec::with_capacity(finished.len());
        for message in finished {
            messages.push(match message.spooled().await {
                Ok(message) => self.address(message),
                Err(Unspooled::Later(reason)) => Addressed::Decided(Outcome::Later(reason)),
                Err(Unspooled::Disk(error)) => return Err(error),
            });
        }
        let idle = lock(&self.0.idle).take();
        let mut round = Round { shared: &self.0, connection: idle, ahead: Ahead::NotSent };
        let mut outcomes = Vec::with_capacity(messages.len());
        for (at, message) in messages.iter().enumerate() {
            let outcome = match message {
                Addressed::Decided(outcome) => Ok(outcome.clone()),
                Addressed::Letter(letter) => round.deliver(letter, &messages[at + 1..]).await,
            };
            match outcome {
                Ok(outcome) => {
                    let stays = outcome != Outcome::NotTried && lock(&self.0.faults.failure).is_none();
                    outcomes.push(outcome);
                    if !stays {
                        outcomes.resize(messages.len(), Outcome::NotTried);
                        return Ok(outcomes);
                    }
                }
                Err(error) if outcomes.iter().all(|outcome| *outcome == Outcome::NotTried) => {
                    return Err(error);
                }
                // What was delivered before must be recorded.
                Err(error) => {
                    *lock(&self.0.faults.failure) = Some(error);
                    outcomes.resize(messages.len(), Outcome::NotTried);
                    return Ok(outcomes);
                }
            }
        }
        if round.ahead == Ahead::NotSent {
            *lock(&self.0.idle) = round.connection;
        }
        Ok(outcomes)
    }

    pub(super) async fn close(&self) {
        let idle = lock(&self.0.idle).take();
        if let Some(connection) = idle {
            leave(connection).await;
        }
    }

    fn address(&self, message: spool::Spooled) -> Addressed {
        let to = match envelope::recipients_of(&self.0.server.to, &message) {
            Ok(to) => to.into_iter().filter(|to| !message.reached.contains(to)).collect::<Vec<_>>(),
            Err(why) => return Addressed::Decided(Outcome::Refused(why)),
        };
        if to.is_empty() {
            // Whoever is to have it has it.
            return Addressed::Decided(Outcome::Delivered);
        }
        let from = envelope::sender(&self.0.server.from, &Header::new(&message.header));
        Addressed::Letter(Letter { from, to, message })
    }
}

impl Shared {
    fn takes_nothing(&self, reply: &Reply) -> TargetError {
        let said = format!("{} {}", reply.code, reply.text()).into_bytes();
        let (what, hint) = if !reply.wants_more_first() {
            ("server takes no messages now", "nothing is lost: what is left is fetched at the next poll")
        } else if speaks_of_tls(&said) {
            ("server wants TLS before a message", "write `tls: starttls` in the target")
        } else {
            ("server wants a log-in before a message", "write `user` and `password` in the target")
        };
        TargetError::Server(Box::new(ServerError {
            place: self.server.address.to_string(),
            what: what.into(),
            said: Some(said),
            hint: Some(hint.into()),
            class: Class::Target,
        }))
    }
}

/// Whose trouble it is that the server took nothing.
enum Stalled {
    /// It took the message, or what it said is the message's trouble.
    Not,
    /// Another connection may do better: this one has taken messages.
    Connection(Reply),
    Server(Reply),
}

/// Whether a connection had served a message when another was begun.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Age {
    Fresh,
    Used,
}

/// One commit's use of the connection.
struct Round<'a> {
    shared: &'a Shared,
    connection: Option<Connection>,
    ahead: Ahead,
}

impl Round<'_> {
    /// Delivers one message; `rest` are those after it.
    async fn deliver(&mut self, letter: &Letter, rest: &[Addressed]) -> Result<Outcome, TargetError> {
        let stop = &self.shared.access.stop;
        loop {
            if stop.is_asked() {
                return Ok(Outcome::NotTried);
            }
            let (mut connection, ahead) = tokio::select! {
                ready = self.ready() => ready?,
                () = stop.asked() => return Ok(Outcome::NotTried),
            };
            if let Some(why) = connection.unfit(letter) {
                // Its own commands have not gone out: `next` has looked, too. Those of the one after it may have.
                (self.connection, self.ahead) = (Some(connection), ahead);
                return Ok(Outcome::Refused(why));
            }
            let age = if connection.served == 0 { Age::Fresh } else { Age::Used };
            let next = rest.iter().find_map(|message| match message {
                Addressed::Letter(next) if connection.unfit(next).is_none() => Some(next),
                Addressed::Letter(_) | Addressed::Decided(_) => None,
            });
            let decided = match connection.hand_over(letter, ahead, next).await {
                Ok(done) => self.handed_over(letter, connection, done).await?,
                Err(broken) => self.broke_off(&connection, age, broken)?,
            };
            if let Some(outcome) = decided {
                return Ok(outcome);
            }
        }
    }

    /// Takes a transaction that came to its end; nothing if the message is to be tried on another connection.
    async fn handed_over(
        &mut self,
        letter: &Letter,
        mut connection: Connection,
        done: Done,
    ) -> Result<Option<Outcome>, TargetError> {
        match connection.broken.take().map(|broken| self.note_break(broken)) {
            None => self.shared.breaks.store(0, Relaxed),
            Some(Ok(())) => {}
            Some(Err(error)) => *lock(&self.shared.faults.failure) = Some(error),
        }
        if done.verdicts.contains(&Verdict::Delivered) {
            self.shared.learned.took_from(&letter.from);
        }
        if (connection.served, connection.taken) == (1, 1) {
            self.shared.vain.store(0, Relaxed);
        }
        let by_sender = matches!(done.stall, Some(Stall::Mail(_)));
        let stalled = self.note_stall(done.stall, connection.taken);
        let retries = matches!(stalled, Stalled::Connection(_));
        if by_sender
            && !retries
            && self.shared.learned.refused_all_at(&letter.from)
            && connection.takes_from_others().await
        {
            self.connection = Some(connection);
            return Ok(Some(letter.outcome(done.verdicts)));
        }
        if retries || connection.closing {
            leave(connection).await;
        } else {
            (self.connection, self.ahead) = (Some(connection), done.ahead);
        }
        match stalled {
            Stalled::Not => Ok(Some(letter.outcome(done.verdicts))),
            // Some servers take so many messages a connection, and then only say this.
            Stalled::Connection(reply) => {
                log::debug!("{}: target: {reply}; making another connection", self.shared.access.account);
                Ok(None)
            }
            Stalled::Server(reply) => Err(self.shared.takes_nothing(&reply)),
        }
    }

    /// Takes a transaction in which the connection broke off; nothing if the message is to be tried on another one.
    fn broke_off(
        &self,
        connection: &Connection,
        age: Age,
        broken: Broken,
    ) -> Result<Option<Outcome>, TargetError> {
        let Access { stop, account, .. } = &self.shared.access;
        // Whatever this says of the server, the message is to be said to be in doubt.
        if connection.dialogue.may_have_the_message() {
            let doubtful = Outcome::InDoubt(broken.may_have_arrived());
            if let Err(error) = self.note_break(broken) {
                *lock(&self.shared.faults.failure) = Some(error);
            }
            return Ok(Some(doubtful));
        }
        match &broken.said {
            Some(line) if line.starts_with('5') => {
                let why = format!("server refused the message before its end: {line}");
                return Ok(Some(Outcome::Refused(why)));
            }
            // The next connection sends nothing so.
            _ if connection.suspected => {
                log::debug!("{account}: target: {broken}; sending less ahead of answers");
                return Ok(None);
            }
            // A connection that has served others may just have been too old.
            _ if age == Age::Used => {
                log::debug!("{account}: target: {broken}");
                return Ok(None);
            }
            _ if stop.is_asked() => return Ok(Some(Outcome::NotTried)),
            Some(_) | None => {}
        }
        let why = match &broken.said {
            Some(line) => format!("{broken}: {line}"),
            None => broken.to_string(),
        };
        self.note_break(broken).map(|()| Some(Outcome::Later(why)))
    }

    /// Judges whose trouble it is that the server took nothing, on a connection on which it has taken so many messages.
    fn note_stall(&self, stall: Option<Stall>, taken: usize) -> Stalled {
        let Shared { stalls, vain, .. } = self.shared;
        match stall {
            None => {
                stalls.store(0, Relaxed);
                Stalled::Not
            }
            Some(Stall::Unready(reply)) => Stalled::Server(reply),
            Some(Stall::Mail(reply)) if taken > 0 => Stalled::Connection(reply),
            Some(Stall::Mail(reply)) => Stalled::Server(reply),
            Some(Stall::Recipients(reply) | Stall::End(reply)) => {
                let are_many = stalls.load(Relaxed) + 1 >= MOST_STALLS;
                if taken > 0 && (are_many || vain.load(Relaxed) < MOST_VAIN) {
                    vain.fetch_add(1, Relaxed);
                    return Stalled::Connection(reply);
                }
                if are_many {
                    return Stalled::Server(reply);
                }
                stalls.fetch_add(1, Relaxed);
                Stalled::Not
            }
        }
    }

    /// Counts a connection that broke; the error says that the server counts as gone.
    fn note_break(&self, broken: Broken) -> Result<(), TargetError> {
        if self.shared.breaks.fetch_add(1, Relaxed) + 1 < MOST_BREAKS {
            return Ok(());
        }
        Err(broken.at(&self.shared.server.address))
    }

    /// Gives a connection on which the server waits for a message, and whether that has been announced.
    async fn ready(&mut self) -> Result<(Connection, Ahead), TargetError> {
        let ahead = std::mem::replace(&mut self.ahead, Ahead::NotSent);
        if let Some(mut connection) = self.connection.take() {
            if ahead == Ahead::Sent || connection.dialogue.is_quiet().await.is_ok() {
                return Ok((connection, ahead));
            }
            log::debug!(
                "{}: target: server has ended the connection; making another",
                self.shared.access.account
            );
        }
        let Shared { server, dialect, access, learned, .. } = self.shared;
        Ok((connect::connect(server, *dialect, access, learned).await?, Ahead::NotSent))
    }
}

/// Says goodbye; whatever the server answers, nothing depends on it.
async fn leave(mut connection: Connection) {
    if connection.closing {
        return;
    }
    let quit = connection.dialogue.command(Command::Quit, GOODBYE);
    let _ = tokio::time::timeout(GOODBYE, quit).await;
}
