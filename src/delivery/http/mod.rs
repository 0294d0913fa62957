//! The target that is an endpoint: each message as the body of a request over HTTP (RFC 9110).
//!
//! | file | what it is |
//! |---|---|
//! | `request` | a message as a request: fields, key, digest, signature |
//! | `judge` | what an answer means |
//! | `way` | the connection, and what it means when that breaks |
//! | `memory` | what is remembered of an endpoint |
//!
//! A message counts as delivered at an answer that says so, after all of it was sent, and at nothing else. Where that
//! answer is lost it is sent again, with the same body and `Idempotency-Key`: an endpoint that looks at the key has
//! it once, whatever is killed or cut off.

pub(super) mod judge;
pub(super) mod memory;
mod request;
pub(super) mod way;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::series::{Faults, one_by_one};
use super::spool::{self, LineEnds, Spooled};
use super::{Access, Outcome, TargetError, file_error};
use crate::clock::Timestamp;
use crate::config;
use crate::disk::{Disk, spool_directory};
use crate::failure::Class;
use crate::lock::lock;
use crate::message::{Content, MessageId};
use crate::net::http::{Answered, HttpError, Reply, Sent};
use judge::{Verdict, judge, words};
use request::{Digests, Secrets, request};
use way::{Again, Way};

/// Octets of an answer that are read.
const MOST: usize = 64 << 10;

/// Connections that may break one after the other before the endpoint counts as gone.
const MOST_BREAKS: usize = 3;

/// One account's way to an endpoint. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Receiver(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    target: config::Receiver,
    disk: Disk,
    way: Way,
    /// Copies of messages that were delivered in this session.
    copies: Mutex<HashMap<Content, u32>>,
    /// Until when nothing is to be sent, if that was said in this session.
    until: Mutex<Option<Timestamp>>,
    faults: Faults,
    /// Connections that broke since one served.
    breaks: AtomicUsize,
    let_in: AtomicBool,
}

impl Receiver {
    /// Connects, so that nothing is fetched for an endpoint that is not there; says nothing to it.
    pub(super) async fn open(
        target: &config::Receiver,
        place: String,
        disk: Disk,
        access: Access,
    ) -> Result<Self, TargetError> {
        let now = access.clock.now();
        let waits = memory::waits(access.remembered.as_deref(), now);
        let config::Receiver { url, route, .. } = target.clone();
        let way = Way { url, place, route, access, idle: Mutex::default() };
        if let Some(until) = waits {
            return Err(way.left_alone(Duration::from_secs((until - now).unsigned_abs())));
        }
        way.open().await?;
        Ok(Self(Arc::new(Shared {
            target: target.clone(),
            disk,
            way,
            copies: Mutex::default(),
            until: Mutex::default(),
            faults: Faults::default(),
            breaks: AtomicUsize::new(0),
            let_in: AtomicBool::new(false),
        })))
    }

    pub(super) fn draft(&self, message: MessageId) -> spool::Draft {
        spool::Draft::new(&self.0.disk, message, LineEnds::Any)
    }

    pub(super) fn faults(&self) -> &Faults {
        &self.0.faults
    }

    pub(super) fn news(&self) -> Option<Vec<u8>> {
        lock(&self.0.until).map(memory::to_octets)
    }

    pub(super) fn was_let_in(&self) -> bool {
        self.0.let_in.load(Relaxed)
    }

    pub(super) async fn commit(&self, finished: Vec<spool::Finished>) -> Result<Vec<Outcome>, TargetError> {
        let shared = &self.0;
        let deliver = |message| shared.deliver(message);
        one_by_one(finished, &shared.way.access.stop, &shared.faults.failure, deliver).await
    }

    pub(super) fn close(&self) {
        lock(&self.0.way.idle).take();
    }
}

impl Shared {
    async fn deliver(&self, message: Arc<Spooled>) -> Result<Outcome, TargetError> {
        let access = &self.way.access;
        let content = message.known.whole.as_ref().map(|whole| whole.content);
        let before = content.and_then(|content| lock(&self.copies).get(&content).copied()).unwrap_or(0);
        let secrets = Secrets { login: access.secret.as_ref(), more: &access.more };
        let copy = message.known.copies.saturating_add(before);
        let digests = Digests::of(&message, copy, self.target.signing_key(secrets), access.clock.now()).await;
        let digests = digests.map_err(|error| file_error("read", &spool_directory(), error))?;
        let make = || {
            request(&self.target, access, secrets, (&message, &digests))
                .map_err(|what| self.way.error(format!("cannot send: {what}"), None, None, Class::Target))
        };
        log::debug!("{}: target: {} octets to {}", access.account, message.octets, self.way.place);
        let answered = self.way.ask(make, Again::Known, MOST).await?;
        let outcome = match answered {
            Answered::Reply { reply, sent } => self.judged(&reply, sent)?,
            Answered::Nothing { error, sent } => self.unanswered(error, sent)?,
        };
        if let (Outcome::Delivered, Some(content)) = (&outcome, content) {
            *lock(&self.copies).entry(content).or_default() += 1;
        }
        Ok(outcome)
    }

    /// Takes an answer, which came after all of the message was sent, or before.
    fn judged(&self, reply: &Reply, sent: Sent) -> Result<Outcome, TargetError> {
        let said = String::from_utf8_lossy(&self.way.masked(words(reply).as_bytes())).into_owned();
        log::debug!("{}: target: {said}", self.way.access.account);
        self.breaks.store(0, Relaxed);
        let verdict = judge(reply, self.target.success.as_deref());
        if verdict != Verdict::Later {
            self.faults.stalls.end();
        }
        let why = || format!("{} answered {said}", self.way.place);
        match verdict {
            Verdict::Taken if sent == Sent::Whole => {
                self.let_in.store(true, Relaxed);
                Ok(Outcome::Delivered)
            }
            // It cannot have what was not sent.
            Verdict::Taken => Ok(self.put_off(why() + " before it had taken all of the message")),
            Verdict::Later => Ok(self.put_off(why())),
            Verdict::Refused => {
                self.let_in.store(true, Relaxed);
                Ok(Outcome::Refused(why()))
            }
            Verdict::Wait(wait) => {
                *lock(&self.until) = Some(memory::until(self.way.access.clock.now(), wait));
                let hint = "nothing is lost: what is left is fetched when that time is over";
                let what = format!("endpoint takes nothing for {}", humantime::format_duration(wait));
                Err(self.way.error(what, Some(said.into_bytes()), Some(hint.to_owned()), Class::Target))
            }
            Verdict::Target(class, what, hint) => {
                self.faults.turned_away.fetch_or(class == Class::Credentials, Relaxed);
                Err(self.way.error(what, Some(said.into_bytes()), hint, class))
            }
        }
    }

    fn put_off(&self, why: String) -> Outcome {
        self.way.put_off(&self.faults, "endpoint takes no messages now", why)
    }

    /// Takes that no answer came.
    fn unanswered(&self, error: HttpError, sent: Sent) -> Result<Outcome, TargetError> {
        match error {
            HttpError::Net(_) | HttpError::Unreadable(_) | HttpError::Request(_) => {
                return Err(self.way.lost(&error));
            }
            HttpError::Protocol(_) if sent == Sent::Part => return Err(self.way.lost(&error)),
            _ => {}
        }
        // Who is silent is so for others, too; who hangs up may mean this one.
        let is_gone = matches!(error, HttpError::TimedOut { .. } | HttpError::Protocol(_))
            || self.breaks.fetch_add(1, Relaxed) + 1 >= MOST_BREAKS;
        if is_gone {
            *lock(&self.faults.failure) = Some(self.way.lost(&error));
        }
        Ok(match sent {
            Sent::Whole => Outcome::InDoubt(format!(
                "in doubt: {error}; the message may have arrived, and is sent again with the same Idempotency-Key"
            )),
            Sent::Part => Outcome::Later(format!("{}: {error}", self.way.place)),
        })
    }
}

impl Way {
    /// Says that the server wanted to be left alone for some time, which is not over.
    pub fn left_alone(&self, left: Duration) -> TargetError {
        let what =
            format!("server wants nothing for another {} (Retry-After)", humantime::format_duration(left));
        let hint = "nothing is lost: what is left is fetched when that time is over";
        self.error(what, None, Some(hint.to_owned()), Class::Target)
    }

    /// Puts a message off; after some in a row it is the fault of the server, of which this is said.
    pub fn put_off(&self, faults: &Faults, what: &str, why: String) -> Outcome {
        if faults.stalls.add() {
            let hint = "nothing is lost: what is left is fetched at the next poll";
            let what = format!("{what}: {why}");
            *lock(&faults.failure) = Some(self.error(what, None, Some(hint.to_owned()), Class::Target));
        }
        Outcome::Later(why)
    }
}
