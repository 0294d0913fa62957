//! How the sessions of one poll follow each other: further ones make deletions real in between, and go on behind a
//! message at which one broke.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use crate::config::Account;
use crate::failure::Class;
use crate::message::{Listing, UniqueId};
use crate::source::{Broke, Trial};
use crate::state::Closing;

use super::trouble::{AttemptFailed, Failed, Trouble};
use super::{Budget, Limits, Report, Task};

/// Sessions in a row that broke and brought nothing, after which the rest is left for the next poll.
const FRUITLESS: u32 = 20;
/// Sessions of a poll that may break in all, whatever they brought.
const BROKEN: u32 = 40;
/// Deletions of a session that are few. Sessions that follow for those are counted, too.
const FEW: usize = 100;
/// The same as [`FRUITLESS`] for sessions that fell silent, each of which took a whole time limit.
const SILENT: u32 = 5;
/// Sessions that may break in doubt before one goes in step, which takes a round trip a message.
const DOUBTFUL: u32 = 2;
/// How often a maildrop that is locked behind our own session is tried again: the server may still be at its end.
const LOCKED: u32 = 4;
/// Added to a server's LOGIN-DELAY, which it may count in whole seconds.
const GRACE: Duration = Duration::from_secs(1);

/// The sessions of one poll.
#[derive(Debug)]
pub struct Course {
    /// What the sessions leave out because one went wrong with it: each attempt one thing more.
    pub left_out: Vec<Trial>,
    /// Sessions that broke and left messages of which nobody knows whether they came in the place of others.
    doubtful: u32,
    /// A session broke all the same, so that what it left out was not why.
    pub broke_without: bool,
    pub next: Next,
    sessions: u32,
    broken: u32,
    fruitless: u32,
    silent: u32,
    locked: u32,
    /// Sessions that followed for the sake of few deletions.
    small: u32,
    /// Deletions of the sessions before.
    deleted: usize,
    /// Why the last session broke, if it did.
    broke: Option<Failed>,
    /// Why deletions of a session are not real, if another one followed all the same.
    unreal: Option<Failed>,
    /// Messages that were under way when a session broke: it may have been any of them, so they are asked for singly.
    careful: HashSet<(UniqueId, u32)>,
    /// The same by place in the listing and size, as some servers give them other unique-ids in each session.
    careful_there: HashSet<(usize, u64)>,
    /// Messages that were had and delivered, in any session.
    had: usize,
    /// Messages that were tried and were not, in any session, and why the last one was not.
    missed: HashSet<(UniqueId, u32)>,
    last_missed: Option<String>,
    /// What the session that goes on has met so far.
    met: Met,
}

/// What a session has met that asks for another one.
#[derive(Debug, Default)]
pub struct Met {
    pub broke: Option<Broke>,
    /// Messages were delivered, or deletions became real.
    pub fruitful: bool,
    /// Messages and deletions that wait until the deletions of this session are real.
    pub postponed: usize,
    /// They are not, as QUIT was not answered with `+OK`.
    pub is_unreal: bool,
}

/// A session that has ended.
#[derive(Debug, Clone, Copy)]
pub struct Ended<'a> {
    pub account: &'a Account,
    pub task: Task,
    pub logged_in: Instant,
    /// The process was asked to end.
    pub is_stopped: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    End,
    /// The same session, without what the server may not have taken.
    Attempt,
    /// Another one, after this time.
    Session(Duration),
    /// The rest is left, since the server wants this time between two log-ins.
    Later(Duration),
}

impl Course {
    /// Says whether no session has ended yet.
    pub fn is_first(&self) -> bool {
        self.sessions == 0
    }

    pub fn new() -> Self {
        let (careful, careful_there, met) = (HashSet::new(), HashSet::new(), Met::default());
        Self {
            left_out: Vec::new(),
            doubtful: 0,
            broke_without: false,
            next: Next::End,
            sessions: 0,
            broken: 0,
            fruitless: 0,
            silent: 0,
            locked: 0,
            small: 0,
            deleted: 0,
            broke: None,
            unreal: None,
            careful,
            careful_there,
            had: 0,
            missed: HashSet::new(),
            last_missed: None,
            met,
        }
    }

    pub fn begin(&mut self) {
        (self.met, self.next) = (Met::default(), Next::End);
    }

    /// Takes note of a session that broke and left messages that may have come in the place of others.
    pub fn leaves_doubt(&mut self) {
        self.doubtful += 1;
    }

    /// Says whether every command is to wait for the answer to the one before: where LIST counts otherwise than RETR
    /// sends, all that came before a break is in doubt, and only so it is found out at what the sessions break.
    pub fn goes_in_step(&self) -> bool {
        self.doubtful >= DOUBTFUL
    }

    /// Says that no further session follows, so that the poll is to be written down.
    pub fn is_over(&self) -> bool {
        matches!(self.next, Next::End | Next::Later(_))
    }

    /// Takes note of what a session met.
    pub fn note(&mut self, met: Met, listing: &Listing) {
        if let Some(broke) = &met.broke {
            for index in &broke.under_way {
                let message = listing.get(*index);
                self.careful.insert((UniqueId::new(message.uid), message.ordinal));
                self.careful_there.insert((*index, message.octets));
            }
        }
        self.met = met;
    }

    /// Keeps why a session failed that another one follows.
    pub fn keep(&mut self, failed: Option<Failed>) {
        match self.met.is_unreal {
            true => self.unreal = failed,
            false => self.broke = failed,
        }
    }

    /// Gives why deletions of the poll are not real, once it is over.
    pub fn left_undone(&mut self) -> Option<Failed> {
        self.unreal.take_if(|_| matches!(self.next, Next::End | Next::Later(_)))
    }

    /// Takes note of how many messages a session had and delivered, and of which it did not, and why.
    pub fn tried(&mut self, had: usize, missed: impl Iterator<Item = ((UniqueId, u32), String)>) {
        self.had += had;
        for (name, reason) in missed {
            self.missed.insert(name);
            self.last_missed = Some(reason);
        }
    }

    /// Says so if messages were tried in this poll and none was had and delivered; `held` says how many are held by now.
    pub fn all_missed(&self, held: usize) -> Option<Failed> {
        let reason = self.last_missed.clone().filter(|_| self.had == 0)?;
        let count = self.missed.len();
        Some(Failed { doing: "fetch".into(), trouble: Trouble::AllRefused { count, held, reason } })
    }

    /// Gives what the server may not have taken, by the place at which the session broke.
    pub fn suspect(&self) -> Option<Trial> {
        self.met.broke.as_ref()?.suspect
    }

    /// Has a session that could not be opened behind one that broke say what that one broke at: that is why.
    pub fn say_why_it_broke(&mut self, aborted: &mut Failed, closing: &Closing) {
        let is_away = closing.listed_at.is_none() && aborted.trouble.class() == Class::Network;
        if let Some(broke) = self.broke.take_if(|_| is_away).or(self.unreal.take_if(|_| is_away)) {
            *aborted = broke;
        }
    }

    /// Finds the messages that are to be asked for singly.
    pub fn careful(&self, listing: &Listing) -> HashSet<usize> {
        if self.careful.is_empty() {
            return HashSet::new();
        }
        let is_meant = |index: &usize| {
            let message = listing.get(*index);
            self.careful_there.contains(&(*index, message.octets))
                || self.careful.contains(&(UniqueId::new(message.uid), message.ordinal))
        };
        (0..listing.len()).filter(is_meant).collect()
    }

    /// Gives what a session may do of what the poll may do.
    pub fn limits(&self, limits: Limits, account: &Account, report: &Report) -> Limits {
        let turn = limits.turn.filter(|_| report.login_delay.is_none_or(|delay| delay.is_zero()));
        let messages = turn.map(|turn| turn.messages);
        let most = [account.max_messages, limits.limit, messages].into_iter().flatten().min();
        let left = |turn: Budget| turn.octets.saturating_sub(report.delivered_octets);
        let turn = turn.map(|turn| Budget { octets: left(turn), ..turn });
        Limits { limit: most.map(|most| most.saturating_sub(report.settled)), turn, ..limits }
    }

    /// Decides what follows a session that ended so.
    pub fn end(&mut self, failed: Option<&AttemptFailed>, of: &Ended<'_>, report: &mut Report) {
        self.sessions += 1;
        self.next = match failed {
            Some(AttemptFailed { suspect: Some(trial), .. }) if !self.left_out.contains(trial) => {
                Next::Attempt
            }
            Some(_) | None if of.is_stopped => Next::End,
            Some(_) | None => match of.task {
                Task::Sync(_) | Task::MarkAll(_) => self.after(failed, of, report),
                Task::DryRun(_) | Task::Check(_) => Next::End,
            },
        };
        self.broke_without |= self.met.broke.is_some() && !self.left_out.is_empty();
        if self.is_over() {
            report.left += self.met.postponed;
        }
    }

    fn after(&mut self, failed: Option<&AttemptFailed>, of: &Ended<'_>, report: &Report) -> Next {
        let class = failed.map(|end| end.aborted.trouble.class());
        let wait = match (self.met.broke.is_some(), class) {
            (true, Some(_)) if self.goes_on_behind_a_break() => Duration::ZERO,
            (false, None) if self.met.postponed > 0 && self.met.fruitful && self.goes_on(report) => {
                Duration::ZERO
            }
            // Those deletions are not tried again in this poll, so that what waits behind them has its turn.
            (false, Some(_)) if self.met.postponed > 0 && self.met.is_unreal && self.goes_on(report) => {
                Duration::ZERO
            }
            (false, Some(Class::InUse)) if self.sessions > 1 && self.locked < LOCKED => {
                self.locked += 1;
                Duration::from_secs(1 << self.locked)
            }
            _ => return Next::End,
        };
        let delay = report.login_delay.map_or(Duration::ZERO, |delay| delay + GRACE);
        let left = delay.saturating_sub(of.logged_in.elapsed());
        if !left.is_zero() && report.login_delay > Some(of.account.timeout) {
            return Next::Later(delay);
        }
        Next::Session(left.max(wait))
    }

    /// Counts sessions that follow, so that a server that lies does not keep a poll going for ever.
    fn goes_on(&mut self, report: &Report) -> bool {
        let few = report.deleted - self.deleted < FEW;
        self.deleted = report.deleted;
        self.small += u32::from(few);
        self.small < BROKEN
    }

    fn goes_on_behind_a_break(&mut self) -> bool {
        let Met { broke, fruitful, .. } = &self.met;
        self.broken += 1;
        if *fruitful {
            (self.fruitless, self.silent) = (0, 0);
        } else {
            self.fruitless += 1;
            self.silent += u32::from(broke.as_ref().is_some_and(|broke| broke.silent));
        }
        self.broken < BROKEN && self.fruitless < FRUITLESS && self.silent < SILENT
    }
}
