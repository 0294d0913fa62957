//! A POP3 server that keeps to the letter of RFC 1939 and lies in all that a client would like to believe.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::judge::{Judge, Wrong};
use super::mail::Mail;
use super::scenario::{At, Deletes, Event, Flaw, Kind, Scenario, Sizes, Uids};

/// Sessions that a poll may have at most, however often they break.
const MOST_SESSIONS: usize = 60;
/// How long a client may say nothing while an answer is missing.
const IDLE: Duration = Duration::from_millis(50);
const FOR_EVER: Duration = Duration::from_secs(3600);

/// What went over the wire since it was last asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cost {
    pub sessions: usize,
    pub tops: usize,
    pub retrs: usize,
    pub deles: usize,
}

/// The server, its maildrop, and what has happened to it.
#[derive(Debug)]
pub struct Server {
    pub(super) scenario: Scenario,
    /// What is in the maildrop.
    pub messages: Vec<Mail>,
    /// All that ever came, by id.
    pub all: Vec<Mail>,
    /// What was deleted, and may come back.
    pub(super) removed: Vec<Mail>,
    pub(super) counter: usize,
    pub(super) sessions: usize,
    /// What goes wrong in this poll.
    pub once: Vec<Event>,
    /// What this session shows, by index; and what it has marked.
    pub(super) view: Vec<Mail>,
    pub(super) marked: BTreeSet<usize>,
    pub(super) commands: usize,
    pub(super) in_session: Counted,
    /// An answer is missing, and the client waits for one in the end.
    pub(super) is_behind: bool,
    /// Since the poll began.
    pub cost: Cost,
    /// The groups of messages that only their place tells apart, in the last listing.
    pub groups: usize,
    /// Unique-ids that were shown for two messages at once.
    pub(super) shared: BTreeSet<String>,
    /// What each unique-id and size was last shown for, and in which session.
    pub(super) shown: HashMap<(String, usize), (usize, usize)>,
    /// The dialogue, if it is wanted.
    pub told: Option<Vec<String>>,
    /// Finds what must not be.
    pub judge: Judge,
}

/// What a kill counts.
#[derive(Debug, Default)]
pub(super) struct Counted {
    pub tops: usize,
    pub retrs: usize,
    pub deles: usize,
}

/// How a connection goes on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Answer(Vec<u8>),
    /// The connection is dropped behind these octets.
    Drop(Vec<u8>),
    /// The answer is sent, and the session is over.
    End(Vec<u8>),
    /// The program is killed behind these octets.
    Killed(Vec<u8>),
}

/// Why serving ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    /// The client went, or was sent away.
    Gone,
    /// The client is to be killed now.
    Killed,
}

impl Server {
    pub fn new(scenario: &Scenario, judge: Judge) -> Self {
        Self {
            scenario: scenario.clone(),
            messages: Vec::new(),
            all: Vec::new(),
            removed: Vec::new(),
            counter: 0,
            sessions: 0,
            once: Vec::new(),
            view: Vec::new(),
            marked: BTreeSet::new(),
            commands: 0,
            in_session: Counted::default(),
            is_behind: false,
            cost: Cost::default(),
            groups: 0,
            shared: BTreeSet::new(),
            shown: HashMap::new(),
            told: None,
            judge,
        }
    }

    /// Lets something happen to the maildrop.
    pub fn happen(&mut self, event: &Event) {
        match *event {
            Event::Arrive(kind, like, flaw) => {
                let like = (!self.all.is_empty()).then(|| self.all[like % self.all.len()].clone());
                let flaw = self.visible(flaw);
                let mail = Mail::new(self.all.len(), kind, like.as_ref(), flaw);
                self.put(mail, None);
            }
            Event::OtherDeletes(which) if !self.messages.is_empty() => {
                self.messages.remove(which % self.messages.len());
            }
            Event::Swap => {
                if let Some(old) = self.messages.pop() {
                    let mut new = Mail::new(self.all.len(), Kind::Normal, None, Flaw::Sound);
                    let (has, wanted) = (new.octets().len(), old.octets().len());
                    // The same number of octets, unless it was a very small message.
                    if wanted > has {
                        new.body.extend(vec![b'y'; wanted - has - 2]);
                        new.body.extend(b"\r\n");
                    } else if has > wanted && has - wanted + 60 < new.body.len() {
                        let end = new.body.len() - (has - wanted) - 2;
                        new.body.truncate(end);
                        new.body.extend(b"\r\n");
                    }
                    self.put(new, Some(old.uid));
                }
            }
            Event::Restore => {
                let back = std::mem::take(&mut self.removed);
                for mail in back {
                    self.judge.comes_back(mail.id);
                    self.messages.push(mail);
                }
                self.messages.sort_by_key(|mail| mail.id);
            }
            Event::Renumber => {
                self.counter += 500;
                if matches!(self.scenario.uids, Uids::Honest | Uids::Small | Uids::Plain) {
                    let mut counter = self.counter;
                    for mail in &mut self.messages {
                        counter += 1;
                        mail.uid = format!("k{counter}");
                    }
                    self.counter = counter;
                }
            }
            Event::Recount => self.messages.iter_mut().for_each(|mail| mail.miscounted += 3),
            _ => {}
        }
    }

    /// Gives the flaw that a message may have so that it can be seen: nothing but the sizes shows an answer within a
    /// message, or that what came in the place of another was less than the half of what it is.
    fn visible(&self, flaw: Flaw) -> Flaw {
        let is_short = |event: &Event| matches!(event, Event::Arrive(_, _, flaw) if flaw.is_short());
        let is_missing =
            |event: &Event| matches!(event, Event::Arrive(_, _, Flaw::Unanswered(_) | Flaw::Swallows(_)));
        let is_exact =
            self.scenario.sizes == Sizes::Exact && !self.scenario.has(|event| *event == Event::Recount);
        match flaw {
            Flaw::Unanswered(_) | Flaw::Swallows(_) if self.scenario.has(is_short) => Flaw::Sound,
            Flaw::Swallows(times) if !is_exact => Flaw::Unanswered(times),
            // One answer too many makes up for one too few: where sizes tell nothing, nobody can see either.
            Flaw::Doubled(_) if self.scenario.has(is_missing) => Flaw::Sound,
            // Where less comes than is listed, what follows it makes its end doubtful, each time.
            Flaw::Doubled(_) if self.scenario.has(|event| *event == Event::Recount) => Flaw::Doubled(2),
            flaw => flaw,
        }
    }

    fn put(&mut self, mut mail: Mail, uid: Option<String>) {
        mail.uid = uid.unwrap_or_else(|| self.new_uid(&mail));
        self.judge.comes(&mail);
        self.all.push(mail.clone());
        self.messages.push(mail);
    }

    fn new_uid(&mut self, mail: &Mail) -> String {
        match self.scenario.uids {
            Uids::Small => {
                let is_free = |uid: &String| self.messages.iter().all(|mail| mail.uid != *uid);
                (1..).map(|number| format!("u{number}")).find(is_free).expect("there is a free one")
            }
            Uids::Header => mail.header_digest(),
            Uids::Received => mail.received_digest(),
            Uids::Plain => {
                self.counter += 1;
                self.counter.to_string()
            }
            Uids::Honest | Uids::Numbers | Uids::Random | Uids::Missing | Uids::Empty | Uids::Holes => {
                self.counter += 1;
                format!("k{}", self.counter)
            }
        }
    }

    /// Serves one client, until it goes or is killed.
    pub async fn serve(&mut self, mut socket: TcpStream) -> io::Result<Ended> {
        let _ = socket.set_nodelay(true);
        let (read, mut write) = socket.split();
        let mut read = BufReader::new(read);
        self.begin();
        if self.cost.sessions > MOST_SESSIONS {
            self.judge.find(Wrong::Endless, format!("a poll of {MOST_SESSIONS} sessions goes on"));
            return Ok(Ended::Killed);
        }
        write.write_all(b"+OK ready\r\n").await?;
        let mut line = String::new();
        loop {
            line.clear();
            let patience = if self.is_behind { IDLE } else { FOR_EVER };
            match tokio::time::timeout(patience, read.read_line(&mut line)).await {
                Ok(Ok(octets)) if octets > 0 => {}
                Ok(_) => break,
                Err(_) => {
                    self.tell(|| "the connection is dropped".into());
                    break;
                }
            }
            let line = line.trim_end();
            self.tell(|| format!("C: {line}"));
            match self.answer(line) {
                Next::Answer(octets) => write.write_all(&octets).await?,
                Next::End(octets) => {
                    write.write_all(&octets).await?;
                    write.shutdown().await?;
                    break;
                }
                Next::Drop(octets) => {
                    self.tell(|| "the connection is dropped".into());
                    write.write_all(&octets).await?;
                    write.shutdown().await?;
                    // Closed only when the client has gone, so that all that was sent arrives.
                    let _ = read.read_to_end(&mut Vec::new()).await;
                    break;
                }
                Next::Killed(octets) => {
                    // What was sent may have been read.
                    write.write_all(&octets).await?;
                    return Ok(Ended::Killed);
                }
            }
        }
        self.hang_up();
        Ok(Ended::Gone)
    }

    /// The last session has seen, and the client has noted, what is there: whatever it did not show was missing.
    pub fn is_seen_whole(&mut self) {
        let last = self.sessions;
        self.shown.retain(|_, (_, session)| *session == last);
    }

    /// Ends the session without QUIT, if there is one.
    pub fn hang_up(&mut self) {
        if self.scenario.deletes == Deletes::WithoutQuit {
            self.update();
        }
        self.marked.clear();
        self.view.clear();
    }

    fn begin(&mut self) {
        self.sessions += 1;
        self.cost.sessions += 1;
        (self.commands, self.in_session, self.is_behind) = (0, Counted::default(), false);
        self.marked.clear();
        self.view.clone_from(&self.messages);
        for event in &self.once {
            match *event {
                Event::ShowNothing => self.view.clear(),
                Event::ShowHalf(which) => {
                    let mut index = 0;
                    self.view.retain(|_| {
                        index += 1;
                        index % 2 == which % 2
                    });
                }
                _ => {}
            }
        }
    }

    pub(super) fn tell(&mut self, line: impl FnOnce() -> String) {
        if let Some(told) = &mut self.told {
            told.push(format!("    {}", line()));
        }
    }

    /// Takes an event out of what goes wrong once in this poll.
    pub(super) fn takes(&mut self, is: impl Fn(&Event) -> bool) -> Option<Event> {
        let at = self.once.iter().position(is)?;
        Some(self.once.remove(at))
    }

    pub(super) fn is_killed(&mut self, at: At) -> bool {
        self.takes(|event| *event == Event::Kill(at)).is_some()
    }
}
