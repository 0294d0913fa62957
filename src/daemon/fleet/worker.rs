//! The task of a worker: claims what is due into free places, closes what has ended, and tidies up after the dead.

mod claiming;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

use crate::daemon::schedule::Dice;
use crate::session::Answer;
use crate::state::StateError;
use crate::state::postgres::beat::{self, Identity};
use crate::state::postgres::{Claim, Close, Leases, NOBODY, Peer};

use super::accounts::{Accounts, CHUNK};
use super::floor::{Door, Floor, Limits, News};
use super::gone::Gone;
use super::session::{Begin, Event, Roster, Told};
use super::share::taken_over;
use super::troubles::Troubles;

/// Looks for what is due come so often while little is.
const TICK: Duration = Duration::from_secs(1);
/// And so often while more is than was looked at.
const SHORT_TICK: Duration = Duration::from_millis(200);
/// So many sessions that have ended are closed at once, before the second is over.
const MANY: usize = 20;
/// Between two looks at whether workers have about as many maildrops each.
const SHARING: Duration = Duration::from_secs(60);

/// A lease that is held.
struct Held {
    maildrop: i64,
    /// Where it has a place, until it has left.
    door: Option<Arc<Door>>,
    is_released: bool,
    /// How it is to be closed, once its session has ended.
    close: Option<Close>,
}

/// Whether more is due than was claimed, and can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waiting {
    None,
    Some,
}

/// How far a worker is on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Drain {
    Not,
    /// Nothing more is claimed.
    Begun,
    /// The others know it.
    Seen,
}

pub struct Worker {
    leases: Leases,
    beats: Leases,
    silence: Duration,
    floor: Floor,
    dice: Dice,
    accounts: Accounts,
    roster: Roster,
    generation: u64,
    /// What is of no account.
    gone: Gone,
    /// By token.
    held: HashMap<i64, Held>,
    closes: Vec<Close>,
    /// Log-ins at servers that want to be left alone after it, and for how long.
    log_ins: Vec<(Claim, Duration)>,
    /// Who else there is: what they polled last may be taken over.
    others: Vec<i64>,
    share_at: Instant,
    drain: Drain,
    /// All is to be made due.
    is_woken: bool,
    troubles: Troubles,
}

impl Worker {
    pub fn new(leases: Leases, beats: Leases, limits: Limits, silence: Duration) -> Self {
        Self {
            leases,
            beats,
            silence,
            floor: Floor::new(limits),
            dice: Dice::new(getrandom::u64().unwrap_or_else(|_| std::process::id().into())),
            accounts: Accounts::default(),
            roster: Roster::OfFile,
            generation: 0,
            gone: Gone::new(),
            held: HashMap::new(),
            closes: Vec::new(),
            log_ins: Vec::new(),
            others: Vec::new(),
            share_at: Instant::now(),
            drain: Drain::Not,
            is_woken: false,
            troubles: Troubles::default(),
        }
    }

    /// Works until it is told to finish; a worker that is evicted goes on under another identity.
    pub async fn run(
        mut self,
        begin: mpsc::UnboundedSender<Result<Begin, StateError>>,
        mut events: mpsc::UnboundedReceiver<Event>,
        released: mpsc::UnboundedSender<Event>,
    ) {
        loop {
            let joined = beat::join(&self.beats, self.silence).await;
            if let Err(error) = &joined
                && error.is_of_newer_tables()
            {
                let _ = begin.send(Err(error.clone()));
                let _ = self.hear_the_end(&mut events).await.send(());
                return;
            }
            let Some((identity, pulse)) = self.troubles.noted("join the fleet", joined) else {
                tokio::select! {
                    () = sleep(TICK) => continue,
                    told = self.hear_the_end(&mut events) => {
                        let _ = told.send(());
                        return;
                    }
                }
            };
            let beating = tokio::spawn(beat::beat(self.beats.clone(), identity.id, self.silence, pulse));
            let out = Out { begin: &begin, released: &released };
            let finished = self.work(&identity, beating, &mut events, &out).await;
            match finished {
                Some(told) => {
                    self.leave(&identity).await;
                    let _ = told.send(());
                    return;
                }
                None => {
                    log::warn!(
                        "this worker was not heard of for too long, and was evicted; it goes on as a new one"
                    );
                    // Whoever has their maildrops by now, their sessions have ended or will not write.
                    self.closes.clear();
                    self.log_ins.clear();
                    for (_, mut held) in std::mem::take(&mut self.held) {
                        self.left(&mut held, Answer::None, None);
                    }
                }
            }
        }
    }

    /// Waits to be told to finish, and hears the rest meanwhile.
    async fn hear_the_end(&mut self, events: &mut mpsc::UnboundedReceiver<Event>) -> oneshot::Sender<()> {
        while let Some(event) = events.recv().await {
            if let Some(told) = self.hear(event) {
                return told;
            }
        }
        std::future::pending().await
    }

    /// Works under one identity, until it is told to finish (who waits for that) or is evicted.
    async fn work(
        &mut self,
        identity: &Identity,
        beating: JoinHandle<()>,
        events: &mut mpsc::UnboundedReceiver<Event>,
        out: &Out<'_>,
    ) -> Option<oneshot::Sender<()>> {
        let mut beating = Beating(beating);
        let (mut tick_at, mut tidy_at) = (Instant::now(), Instant::now());
        loop {
            tokio::select! {
                biased;
                _ = &mut beating.0 => return None,
                () = sleep_until(tick_at) => {}
                event = events.recv() => {
                    let mut next = event;
                    while let Some(event) = next {
                        if let Some(told) = self.hear(event) {
                            return Some(told);
                        }
                        next = events.try_recv().ok();
                    }
                    self.note_log_ins().await;
                    if self.closes.len() < MANY {
                        continue;
                    }
                }
            }
            if Instant::now() >= tidy_at {
                self.tidy(identity, out).await;
                let third = self.silence / 3;
                tidy_at = Instant::now() + self.dice.between(third / 2, third);
            }
            self.enter().await;
            self.wake_all().await;
            self.close().await;
            self.tidy_gone().await;
            if self.drain == Drain::Begun {
                let told = self.leases.drain(identity.id).await;
                if self.troubles.noted("say that it ends", told).is_some() {
                    self.drain = Drain::Seen;
                }
            }
            let waiting = match self.drain {
                Drain::Not if !identity.term.is_over() => self.claim(identity, out).await,
                Drain::Not | Drain::Begun | Drain::Seen => Waiting::None,
            };
            tick_at = Instant::now()
                + match waiting {
                    Waiting::Some => SHORT_TICK,
                    Waiting::None => TICK.min(self.silence / 4),
                };
        }
    }

    /// Takes an event in; gives whoever wants to be told of the end.
    fn hear(&mut self, event: Event) -> Option<oneshot::Sender<()>> {
        match event {
            Event::LogsIn(claim, delay) => self.log_ins.push((claim, delay)),
            Event::Left { token, answer, why } => {
                if let Some(mut held) = self.held.remove(&token) {
                    self.left(&mut held, answer, why);
                    self.held.insert(token, held);
                }
            }
            Event::Ended(close) => {
                let token = close.claim.token;
                if let Some(held) = self.held.get_mut(&token) {
                    held.close = Some(close);
                    self.settle(token);
                }
            }
            Event::Released(token) => {
                if let Some(held) = self.held.get_mut(&token) {
                    held.is_released = true;
                    self.settle(token);
                }
            }
            Event::Accounts(told) => {
                let Told { polled, elsewhere, besides, limits, roster, generation } = *told;
                (self.roster, self.generation) = (roster, generation);
                self.gone.set(roster, &elsewhere, &besides);
                self.gone.retire(self.accounts.set(polled, limits.startup_spread));
                self.floor.set_limits(limits);
            }
            Event::WakeAll => self.is_woken = true,
            Event::Drain if self.drain == Drain::Not => self.drain = Drain::Begun,
            Event::Drain => {}
            Event::Finish(told) => return Some(told),
        }
        None
    }

    /// Gives a lease back once its session has ended and nothing of it is under way.
    fn settle(&mut self, token: i64) {
        let Some(Held { is_released: true, close: Some(close), .. }) = self.held.get(&token) else { return };
        self.closes.push(*close);
        if let Some(mut held) = self.held.remove(&token) {
            self.left(&mut held, Answer::None, None);
        }
    }

    /// Takes note that a session has left its host, if it had not, and why that failed. A host that is away is told once, for all
    /// of its accounts.
    fn left(&mut self, held: &mut Held, answer: Answer, why: Option<String>) {
        let Some(door) = held.door.take() else { return };
        let why = why.map_or_else(String::new, |why| format!(": {why}"));
        match self.floor.left(held.maildrop, &door, answer) {
            Some(News::Away) => log::error!(
                "{door}: several accounts in a row could not reach it, the last of them{why}; it is tried by two at a time until it \
                 answers, and not told of each account"
            ),
            Some(News::Back) => log::warn!("{door}: answers again"),
            None => {}
        }
    }

    /// Takes note of log-ins at servers that want time between two of them: whoever takes over keeps to that.
    async fn note_log_ins(&mut self) {
        if !self.log_ins.is_empty() {
            let noted = self.leases.log_in(&self.log_ins).await;
            if self.troubles.noted("take note of log-ins", noted).is_some() {
                self.log_ins.clear();
            }
        }
    }

    /// Makes rows for accounts that have none.
    async fn enter(&mut self) {
        if !self.accounts.are_entered() {
            let entered = self.accounts.enter(&self.leases, &mut self.dice, self.floor.places()).await;
            self.troubles.noted("enter accounts", entered);
        }
        if self.knows_all() {
            self.accounts.started();
        }
    }

    async fn wake_all(&mut self) {
        if !std::mem::take(&mut self.is_woken) {
            return;
        }
        for some in self.accounts.by_themselves().chunks(CHUNK) {
            let woken = self.leases.wake(some).await;
            self.troubles.noted("have all polled", woken);
        }
    }

    async fn close(&mut self) {
        while !self.closes.is_empty() {
            let some = self.closes.len().min(CHUNK);
            let closed = self.leases.close(&self.closes[..some]).await;
            if self.troubles.noted("close polls", closed).is_none() {
                return;
            }
            let closed = self.closes.drain(..some).map(|close| close.claim.maildrop);
            let is_gone = |maildrop: &i64| self.accounts.get(*maildrop).is_none();
            self.gone.retire(closed.filter(is_gone));
        }
    }

    /// Says whether all accounts that there are have been read, and have their rows.
    fn knows_all(&self) -> bool {
        self.roster != Roster::OfFile && self.accounts.are_entered()
    }

    async fn tidy_gone(&mut self) {
        // Without work the database is not asked, and has not answered.
        if self.knows_all() && self.gone.is_untidy() {
            let tidied = self.gone.tidy(&self.leases, &self.accounts).await;
            self.troubles.noted("tidy up after accounts that are gone", tidied);
        }
    }

    /// Evicts those that are silent, frees what the dead held, and gives back what this worker does not know to hold.
    async fn tidy(&mut self, identity: &Identity, out: &Out<'_>) {
        match self.leases.may_go_on().await {
            // Sessions that are under way write what those tables still take.
            Err(error) if error.is_of_newer_tables() => {
                let _ = self.hear(Event::Drain);
                let _ = out.begin.send(Err(error));
            }
            allowed => drop(self.troubles.noted("see who may use the tables", allowed)),
        }
        // Whoever was away itself hears of the others anew before it judges them.
        if identity.well_for() >= self.silence {
            let evicted = self.leases.evict(self.silence).await;
            for name in self.troubles.noted("evict", evicted).unwrap_or_default() {
                log::warn!("the worker {name} was not heard of for too long: others poll its accounts");
            }
        }
        let swept = self.leases.sweep().await;
        if let Some(swept @ 1..) = self.troubles.noted("sweep", swept) {
            log::info!("{swept} maildrops of workers that are gone are free");
        }
        let closing = self.closes.iter().map(|close| close.claim.token);
        let known: Vec<i64> = self.held.keys().copied().chain(closing).collect();
        let given = self.leases.give_back(identity.id, &known).await;
        self.troubles.noted("give back", given);
        // Without work the database is not asked, and has not answered.
        if self.gone.leaves_some() {
            let left = self.gone.leave(&self.leases).await;
            self.troubles.noted("leave maildrops to others", left);
        }
        let workers = self.leases.workers().await;
        if let Some(workers) = self.troubles.noted("see who is there", workers) {
            let others = workers.iter().filter(|worker| worker.id != identity.id).map(|worker| worker.id);
            self.others = others.chain(NOBODY).collect();
            let is_polling =
                |worker: &&Peer| !worker.is_draining && !worker.is_evicted && worker.heard < self.silence;
            let live: Vec<i64> = workers.iter().filter(is_polling).map(|worker| worker.id).collect();
            self.share(identity.id, &live).await;
        }
    }

    /// Takes its share of the maildrops over from whoever has more, but for those that it cannot poll. Who is busy has enough,
    /// whatever the others have.
    async fn share(&mut self, own: i64, live: &[i64]) {
        if !self.knows_all()
            || self.drain != Drain::Not
            || self.floor.is_busy()
            || Instant::now() < self.share_at
        {
            return;
        }
        let owned = self.leases.owned().await;
        let Some(owned) = self.troubles.noted("count who polls how many", owned) else { return };
        let mut is_done = true;
        for (from, count) in taken_over(own, live, &owned) {
            // Some at a time: each is a row that is written.
            let some = count.min(CHUNK as u64);
            let taken = self.leases.take_over(own, from, some, &self.gone.elsewhere()).await;
            let Some(taken) = self.troubles.noted("take maildrops over", taken) else { return };
            log::debug!("{taken} maildrops are taken over from a worker that has more");
            // There is no more of them that it can poll, or it has all.
            is_done &= taken < some || some == count;
        }
        if is_done {
            self.share_at = Instant::now() + self.dice.between(SHARING / 2, SHARING);
        }
    }

    /// Gives back all that is held.
    async fn leave(&mut self, identity: &Identity) {
        self.close().await;
        let left = self.leases.leave(identity.id).await;
        self.troubles.noted("leave the fleet", left);
    }
}

/// Where sessions are begun, and where it is heard that nothing of one is under way.
struct Out<'a> {
    begin: &'a mpsc::UnboundedSender<Result<Begin, StateError>>,
    released: &'a mpsc::UnboundedSender<Event>,
}

/// Ends with whoever waits for it.
struct Beating(JoinHandle<()>);

impl Drop for Beating {
    fn drop(&mut self) {
        self.0.abort();
    }
}
