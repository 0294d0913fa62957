//! Plays a story: polls against the server, with everything that happens between and amid them.

mod end;
mod serve;
mod told;

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::Duration;

use postrider::testing::config::{Account, Config, Destination, FirstSync, Keep as Kept, Target};
use postrider::testing::session::{self, Environment, Limits, Report, Retry, Task, WallClock};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use super::imap_server::{Drop, Habits, ImapServer};
use super::judge::{Finding, Judge, Wrong};
use super::kills::{self, Records, Stroke};
use super::scenario::{At, DAY, Event, First, Keep, MINUTE, Scenario};
use super::server::{Cost, Server};
use super::workers::{Fate, Left, Polling, Workers};
use serve::{Running, Session, serve};
use told::{told_time, without_repeats};

/// Polls after the last event until all must be at rest.
const SETTLE: usize = 8;
/// Polls after those, two days apart: what is tried once a day has its turn.
const DAILY: usize = 4;
/// When a story begins.
const BEGINNING: i64 = 1_700_000_000;

/// What sessions share, so that one costs little.
pub struct Bench {
    runtime: Runtime,
    listener: TcpListener,
    scratch: PathBuf,
    account: Account,
    into: Into,
    stories: usize,
}

/// What messages are delivered into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Into {
    Maildir,
    /// A mailbox on a server that drops connections.
    Mailbox,
    /// A maildir that the workers of a fleet share, as they share the state.
    SharedMaildir,
}

/// How a story went.
#[derive(Debug)]
pub struct Played {
    pub found: Vec<Finding>,
    /// The whole of it, if it was wanted.
    pub told: Vec<String>,
    /// Messages ever delivered, again and again included.
    pub delivered: usize,
    /// Messages on the server at the end.
    pub left: usize,
}

impl Played {
    /// Tells it.
    pub fn words(&self) -> String {
        self.told.join("\n")
    }
}

impl Bench {
    pub fn new(into: Into) -> Self {
        kills::install();
        let memory = Path::new("/dev/shm");
        let base = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let thread = format!("{:?}", std::thread::current().id()).replace(['(', ')'], "-");
        let scratch = base.join(format!("postrider-adversary-{}-{into:?}-{thread}", std::process::id()));
        let _ = fs::remove_dir_all(&scratch);
        fs::create_dir_all(&scratch).expect("a scratch directory");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a free loopback port");
        let port = listener.local_addr().expect("the listener's address").port();
        let account = account(port);
        Self { runtime, listener, scratch, account, into, stories: 0 }
    }

    /// Plays a story from its beginning to its rest.
    pub fn play(&mut self, scenario: &Scenario, is_told: bool) -> Played {
        self.stories += 1;
        let folder = self.scratch.join(self.stories.to_string());
        fs::create_dir_all(&folder).expect("a directory");
        let mail = folder.join("Mail");
        let mut account = self.account.clone();
        let (mailbox, changed);
        let scenario = match self.into {
            Into::SharedMaildir => {
                mailbox = None;
                let to = Destination { shared: true, ..Target::Maildir(mail.clone()).into() };
                account.deliver = vec![to];
                changed = scenario.with_more_kills();
                &changed
            }
            Into::Maildir => {
                mailbox = None;
                account.deliver = vec![Target::Maildir(mail.clone()).into()];
                scenario
            }
            Into::Mailbox => {
                let server = ImapServer::start(Habits::default());
                account.deliver = target(&server);
                mailbox = Some(server);
                // A mailbox is not looked at by one who remembers that all was well; and it is looked at once, for the messages
                // that the maildrop counts then.
                let looks = scenario.has(|event| matches!(event, Event::LoseState | Event::Kill(_)));
                changed = scenario.without(|event| match event {
                    Event::OldState(_) => true,
                    Event::ShowHalf(_) | Event::ShowNothing => looks,
                    _ => false,
                });
                for folder in ["new", "cur"] {
                    fs::create_dir_all(mail.join(folder)).expect("a directory");
                }
                &changed
            }
        };
        account.keep = match scenario.keep {
            Keep::Nothing => Kept::None,
            Keep::TwoWeeks => Kept::For(Duration::from_secs(14 * 86_400)),
            Keep::Forever => Kept::Forever,
        };
        account.first_sync = if scenario.first == First::Skips { FirstSync::None } else { FirstSync::All };
        (account.order, account.max_messages) = (scenario.order, scenario.limit);
        let mut server = Server::new(scenario, Judge::new(scenario, &mail, mailbox.clone()));
        server.told = is_told.then(Vec::new);
        let clock = Arc::new(AtomicI64::new(BEGINNING));
        let state = match self.into {
            Into::Maildir | Into::Mailbox => State::File(None),
            Into::SharedMaildir => State::Shared(Box::new(Workers::new(&folder, &clock))),
        };
        let mut story = Story {
            scenario,
            account,
            server,
            clock: clock.clone(),
            folder: folder.clone(),
            state,
            last: Cost::default(),
            report: None,
            skips_first: scenario.first == First::Skips,
            is_first_told: true,
            kept: HashMap::new(),
            calm: true,
            mailbox,
        };
        let Self { runtime, listener, .. } = self;
        runtime.block_on(Box::pin(story.run(listener)));
        story.judge_the_end(&mail);
        let played = Played {
            delivered: story.server.judge.total(),
            left: story.server.messages.len(),
            told: without_repeats(story.server.told.take().unwrap_or_default()),
            found: story.server.judge.found,
        };
        drop(story.state);
        let _ = fs::remove_dir_all(&folder);
        played
    }
}

impl std::ops::Drop for Bench {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.scratch);
    }
}

/// A story that is being played.
struct Story<'a> {
    scenario: &'a Scenario,
    account: Account,
    server: Server,
    clock: Arc<AtomicI64>,
    folder: PathBuf,
    state: State,
    /// What the last poll cost.
    last: Cost,
    report: Option<Report>,
    /// The next poll that succeeds is the first, and takes what is there as fetched.
    skips_first: bool,
    /// Whether that is sure: a program that was killed may have got so far, or not.
    is_first_told: bool,
    /// The same at those polls whose state is kept.
    kept: HashMap<usize, bool>,
    /// Nothing is made to go wrong in this poll.
    calm: bool,
    /// The target's server, if it has one.
    mailbox: Option<ImapServer>,
}

/// Where the state is, and who uses it.
enum State {
    /// The program that runs, unless it was killed.
    File(Option<Box<Environment>>),
    Shared(Box<Workers>),
}

/// A program that polls.
enum Polls {
    Alone(Box<Environment>),
    Worker(Box<Polling>),
}

impl Polls {
    fn environment(&self) -> &Environment {
        match self {
            Self::Alone(environment) => environment,
            Self::Worker(polling) => &polling.environment,
        }
    }
}

impl Story<'_> {
    async fn run(&mut self, listener: &TcpListener) {
        for poll in 0..self.scenario.polls + SETTLE + DAILY + 1 {
            let step = match poll.checked_sub(self.scenario.polls + SETTLE) {
                None => self.scenario.step,
                Some(daily) if daily < DAILY => 2 * DAY,
                Some(_) => MINUTE,
            };
            self.clock.fetch_add(step, Relaxed);
            self.server.once.clear();
            self.keep_state(poll);
            let events: Vec<Event> =
                self.scenario.events.iter().filter(|(at, _)| *at == poll).map(|(_, event)| *event).collect();
            for event in events {
                self.tell(format!("poll {poll}: {event:?}"));
                self.happen(poll, event);
            }
            self.server.judge.begins(self.clock.load(Relaxed), step);
            let there: Vec<_> = self.server.messages.iter().map(|mail| mail.id).collect();
            self.tell(format!(
                "== poll {poll}, {}: messages {there:?}",
                told_time(self.clock.load(Relaxed) - BEGINNING)
            ));
            self.calm = self.server.once.is_empty();
            self.plan_a_drop(poll);
            self.poll(poll, listener).await;
            let is_clean = self.is_clean();
            if is_clean {
                self.server.is_seen_whole();
            }
            self.server.judge.poll_is_over(is_clean);
            if !self.server.judge.found.is_empty() {
                return;
            }
        }
    }

    /// Has the target's server drop the connection in some polls that something happens in, by a rule that any story has.
    fn plan_a_drop(&mut self, poll: usize) {
        let Some(server) = &self.mailbox else { return };
        const POINTS: [Drop; 6] = [
            Drop::BeforeLiteral,
            Drop::InLiteral,
            Drop::AfterLiteral,
            Drop::BeforeOk,
            Drop::AfterOk,
            Drop::Renewed,
        ];
        let count = self.scenario.events.len() + 7 * poll;
        let drops = poll < self.scenario.polls && count.is_multiple_of(3);
        let at = server.appends() + 1 + count % 4;
        let drops = drops.then_some((at, POINTS[count / 3 % POINTS.len()]));
        server.change(|habits| habits.drops = drops);
        self.calm &= drops.is_none();
        if let Some((at, point)) = drops {
            self.tell(format!("    the target drops its message {at}: {point:?}"));
        }
    }

    fn happen(&mut self, poll: usize, event: Event) {
        match event {
            Event::LoseState => {
                self.lose_state(None);
                self.skips_first = self.scenario.first == First::Skips;
                self.server.judge.loses_state(false);
            }
            Event::OldState(ago) => {
                let before = poll.checked_sub(ago);
                self.lose_state(before);
                self.skips_first = self.scenario.first == First::Skips;
                if let Some(skips_first) = before.and_then(|before| self.kept.get(&before)) {
                    self.skips_first = *skips_first;
                }
                self.server.judge.loses_state(true);
            }
            Event::Clock(seconds) => {
                self.clock.fetch_add(seconds, Relaxed);
            }
            Event::Read => self.server.judge.reads_all(),
            Event::File => self.server.judge.files_all(),
            Event::ShowNothing
            | Event::ShowHalf(_)
            | Event::EmptyUidl
            | Event::Holes(_)
            | Event::ForgetDeletions
            | Event::Vanish(_)
            | Event::LoseQuit { .. }
            | Event::Break(_)
            | Event::Kill(_) => self.server.once.push(event),
            Event::Arrive(..)
            | Event::OtherDeletes(_)
            | Event::Restore
            | Event::Renumber
            | Event::Recount
            | Event::Swap => self.server.happen(&event),
        }
    }

    /// Copies the state file as a backup does, if the story will have it back.
    fn keep_state(&mut self, poll: usize) {
        let is_wanted =
            |&(at, event): &(usize, Event)| matches!(event, Event::OldState(ago) if at == poll + ago);
        if self.scenario.events.iter().any(is_wanted) {
            match &mut self.state {
                State::File(program) => {
                    *program = None;
                    let _ = fs::copy(self.folder.join("state.db"), self.folder.join(format!("kept-{poll}")));
                }
                State::Shared(workers) => workers.keep(poll),
            }
            self.kept.insert(poll, self.skips_first);
        }
    }

    /// Puts what was kept before a poll, or nothing, in the place of the state.
    fn lose_state(&mut self, before: Option<usize>) {
        match &mut self.state {
            State::Shared(workers) => workers.restore(before),
            State::File(program) => {
                *program = None;
                for name in ["state.db", "state.db-wal", "state.db-shm"] {
                    let _ = fs::remove_file(self.folder.join(name));
                }
                if let Some(before) = before {
                    // None was there yet, maybe.
                    let _ =
                        fs::copy(self.folder.join(format!("kept-{before}")), self.folder.join("state.db"));
                }
            }
        }
    }

    /// Polls once.
    async fn poll(&mut self, poll: usize, listener: &TcpListener) {
        self.server.cost = Cost::default();
        let marks_all = poll == 0 && self.scenario.first == First::Marks;
        let task = if marks_all { Task::MarkAll(Retry::InTime) } else { Task::Sync(Limits::default()) };
        let kills = |wanted: fn(At) -> Option<usize>| {
            self.server.once.iter().find_map(|event| match event {
                Event::Kill(at) => wanted(*at),
                _ => None,
            })
        };
        let delivered = kills(|at| if let At::Delivered(count) = at { Some(count) } else { None });
        let recorded = kills(|at| if let At::Recorded(count) = at { Some(count) } else { None });
        let events = self.scenario.events.len();
        let fate = Workers::fate(poll, events);
        let (polls, stroke) = self.begin(poll + events, fate).await;
        kills::begin(delivered.map(|count| (count, stroke.clone())), self.server.told.is_some());
        let progress = Records::new(recorded, stroke.clone());
        let overtaken = RefCell::new(None);
        let ended = {
            let session = session::run(&self.account, polls.environment(), task, &progress);
            // Whoever polls while the other is stopped.
            let other = async {
                let State::Shared(workers) = &mut self.state else { return Report::default() };
                polls.environment().disk.settled().await;
                let polling = workers.claim(poll + events + 1, &self.account).await;
                let report = session::run(&self.account, &polling.environment, task, &()).await;
                workers.end(polling).await;
                overtaken.replace(Some(report.clone()));
                report
            };
            let other = (fate == Fate::Overtaken).then(|| -> Running<'_> { Box::pin(other) });
            // It is too large for the stack of a test's thread.
            serve(Box::pin(session), &mut self.server, listener, (&stroke, other)).await
        };
        let told = kills::end();
        if let Some(lines) = &mut self.server.told {
            lines.extend(told);
        }
        self.last = self.server.cost;
        self.end(polls, ended, overtaken.into_inner()).await;
        self.note_marks(marks_all);
    }

    /// Gives the program that polls, and what befalls it if something does.
    async fn begin(&mut self, turn: usize, fate: Fate) -> (Polls, Stroke) {
        match &mut self.state {
            State::File(program) => {
                let started = || {
                    let clock = WallClock::Set(self.clock.clone());
                    Box::new(Environment { clock, ..Environment::new(self.folder.join("state.db")) })
                };
                (Polls::Alone(program.take().unwrap_or_else(started)), Stroke::Kill)
            }
            State::Shared(workers) => {
                let polling = workers.claim(turn, &self.account).await;
                let stroke = polling.stroke(fate);
                (Polls::Worker(Box::new(polling)), stroke)
            }
        }
    }

    /// Takes note of how a poll ended, or that of whoever has overtaken it.
    async fn end(&mut self, polls: Polls, ended: Session, overtaken: Option<Report>) {
        self.report = match &ended {
            Session::Over(report) => Some((**report).clone()),
            Session::Killed => None,
            Session::Panicked => {
                self.server.judge.find(Wrong::Panicked, "a session panicked; its words are above".into());
                None
            }
        };
        if let Some(failure) = self.report.as_ref().and_then(|report| report.failure.as_ref()) {
            self.tell(format!("    failed: {failure}"));
        }
        let is_over = self.report.is_some();
        let is_cut_short = match (&mut self.state, polls) {
            (State::File(program), Polls::Alone(environment)) => {
                match is_over {
                    true => *program = Some(environment),
                    false => environment.disk.settled().await,
                }
                !is_over
            }
            (State::Shared(workers), Polls::Worker(polling)) => match is_over {
                true => {
                    let left = workers.end(*polling).await;
                    if left == Left::Late {
                        let words = "something was recorded under a lease that was lost".into();
                        self.server.judge.find(Wrong::RecordedLate, words);
                    }
                    left != Left::Held
                }
                false => {
                    polling.environment.disk.settled().await;
                    true
                }
            },
            (State::File(_), Polls::Worker(_)) | (State::Shared(_), Polls::Alone(_)) => false,
        };
        if is_cut_short {
            self.server.judge.forgets();
            self.is_first_told &= !self.skips_first;
            self.tell(if is_over { "    LEASE LOST" } else { "    KILLED" }.into());
            self.report = overtaken;
        }
    }

    /// Says whether nothing went wrong in this poll.
    fn is_clean(&self) -> bool {
        let went_well = |report: &Report| report.failure.is_none() && report.left == 0 && report.held == 0;
        self.report.as_ref().is_some_and(went_well) && self.calm
    }

    /// Notes what the first poll has taken as fetched.
    fn note_marks(&mut self, marks_all: bool) {
        let is_over = self.report.as_ref().is_some_and(|report| report.failure.is_none());
        if marks_all || self.skips_first {
            self.server.judge.marks(is_over && self.is_first_told);
            self.skips_first &= !is_over;
        }
    }

    fn tell(&mut self, line: String) {
        if let Some(told) = &mut self.server.told {
            told.push(line);
        }
    }
}

/// Reads the target that is a mailbox on this server.
fn target(server: &ImapServer) -> Vec<Destination> {
    let target = server.target("");
    let yaml = format!("accounts: {{ a: {{ host: h, user: u, deliver: {target} }} }}\nstate: /s");
    let config = Config::from_yaml(&yaml, Path::new("/etc/postrider/config.yaml")).expect("a configuration");
    config.accounts.into_iter().next().expect("one account").deliver
}

fn account(port: u16) -> Account {
    let yaml = format!(
        "accounts:\n  story:\n    host: 127.0.0.1\n    port: {port}\n    user: alice\n    password: secret\n    tls: none\n    auth: [user-pass]\n    timeout: 5s\n    deliver: {{ maildir: /nonexistent }}\n"
    );
    let config = Config::from_yaml(&yaml, Path::new("/etc/postrider/config.yaml")).expect("a configuration");
    config.accounts.into_iter().next().expect("one account")
}
