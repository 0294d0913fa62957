//! One commit: what becomes of each of its messages.

use std::sync::atomic::Ordering::Relaxed;

use super::dialogue::{Broken, Dialogue};
use super::judge::{self, Blame};
use super::shared::{Shared, spent};
use super::upload::{Letter, Together, Upload, Uploaded};
use crate::delivery::{Outcome, TargetError};
use crate::failure::Class;
use crate::imap::Status;
use crate::lock::lock;

/// Connections that may break one after the other before the server counts as gone.
const MOST_BREAKS: usize = 3;

/// How often a message may be cut off by the server before others have their turn.
const MOST_CUTS: usize = 2;

/// A message of a commit, and what has become of it.
pub(super) struct Message {
    pub(super) letter: Option<Letter>,
    pub(super) state: State,
    /// What it may have been turned out to be another.
    pub(super) is_compared: bool,
    /// It was in doubt and not found.
    pub(super) was_doubtful: bool,
}

impl Message {
    pub(super) fn new(letter: Option<Letter>, state: State) -> Self {
        Self { letter, state, is_compared: false, was_doubtful: false }
    }
}

pub(super) enum State {
    /// It is to be sent; the server has cut it off so often.
    Waiting { cuts: usize },
    /// It was sent, and the answer never came, after a time in which the server may still be at work.
    Doubtful { why: String, is_timeout: bool },
    /// All is said.
    Decided(Outcome),
}

/// One commit.
pub(super) struct Round<'a> {
    pub(super) shared: &'a Shared,
    pub(super) dialogue: Option<Dialogue>,
    pub(super) batch: Vec<Message>,
    pub(super) together: Together,
    /// The folder was made in this commit.
    pub(super) made: bool,
    /// What may be uploaded in a day has been.
    pub(super) spent: bool,
}

impl Round<'_> {
    /// Gives what became of each message.
    pub(super) fn outcomes(self) -> Vec<Outcome> {
        let Self { shared, batch, .. } = self;
        batch.into_iter().map(|message| outcome(shared, message.state)).collect()
    }

    /// Goes on until all is said of each message, the process must end, or the target fails. What is still waiting then
    /// was not sent; what is in doubt stays so.
    pub(super) async fn deliver(&mut self) -> Result<(), TargetError> {
        let stop = self.shared.access.stop.clone();
        while self.batch.iter().any(|message| !matches!(message.state, State::Decided(_))) {
            if stop.is_asked() {
                return Ok(());
            }
            let mut dialogue = match self.dialogue.take() {
                Some(dialogue) => dialogue,
                None => tokio::select! {
                    connected = self.shared.connect() => connected?,
                    () = stop.asked() => return Ok(()),
                },
            };
            let asked = match self.resolve(&mut dialogue).await? {
                Ok(()) => self.recognize_by_asking(&mut dialogue).await?,
                broken => broken,
            };
            if let Err(broken) = asked {
                self.note_break(broken)?;
                continue;
            }
            let uploaded = self.upload(&mut dialogue).await;
            let is_whole = uploaded.broken.is_none();
            self.judge(&mut dialogue, uploaded).await?;
            if is_whole {
                self.dialogue = Some(dialogue);
            }
            if self.spent {
                let most = self.shared.target.octets_a_day().unwrap_or_default();
                return Err(spent(self.shared.connecting(), most));
            }
        }
        Ok(())
    }

    /// Sends what is to be sent.
    async fn upload(&mut self, dialogue: &mut Dialogue) -> Uploaded {
        let Shared { target, access, mailbox, append_limit, .. } = self.shared;
        let provided = target.provider.and_then(|provider| provider.append_limit);
        let limit = append_limit.or(dialogue.capabilities.append_limit()).or(provided);
        let binary = dialogue.capabilities.has("BINARY");
        let mut left = match target.octets_a_day() {
            Some(_) => *lock(&self.shared.granted),
            None => u64::MAX,
        };
        let mut sent = Vec::new();
        for (number, message) in self.batch.iter_mut().enumerate() {
            let (Some(letter), State::Waiting { .. }) = (&message.letter, &message.state) else { continue };
            let spooled = &letter.message;
            if let Some(limit) = limit.filter(|limit| spooled.octets > *limit) {
                let why = format!("server takes messages of {limit} octets at most (APPENDLIMIT)");
                message.state = State::Decided(Outcome::Refused(why));
            } else if spooled.known.has_nul && !binary {
                let why = "there are NULs in it, which the server does not take (it has no BINARY)";
                message.state = State::Decided(Outcome::Refused(why.into()));
            } else if spooled.octets > left {
                self.spent = true;
                break;
            } else {
                left -= spooled.octets;
                sent.push(number);
            }
        }
        self.shared.is_spent.fetch_or(self.spent, Relaxed);
        let numbered = |number: usize| Some((number, self.batch[number].letter.as_ref()?));
        let letters: Vec<_> = sent.into_iter().filter_map(numbered).collect();
        let upload = Upload::new(dialogue, mailbox, &target.flags, &access.stop);
        upload.run(&letters, self.together).await
    }

    /// Takes what came of it.
    async fn judge(&mut self, dialogue: &mut Dialogue, uploaded: Uploaded) -> Result<(), TargetError> {
        let Uploaded { mut answers, is_refused_together, broken, doubtful, cut } = uploaded;
        if is_refused_together && self.together == Together::Several {
            self.together = Together::One;
        }
        answers.sort_by_key(|(number, _)| *number);
        let (mut missing, mut failed, mut unknown) = (None, None, None);
        for (number, status) in answers {
            let Some(letter) = &self.batch[number].letter else { continue };
            let octets = letter.message.octets;
            if status.is_ok() {
                self.took(number);
                continue;
            }
            let blame = judge::blame(&status, octets);
            if blame != Blame::Unknown {
                self.shared.faults.stalls.end();
            }
            let why = format!("{} refused the message: {status}", self.shared.target.server());
            let outcome = match blame {
                Blame::Message => Outcome::Refused(why),
                Blame::MessageNow => Outcome::Later(why),
                Blame::Unknown => {
                    self.shared.faults.stalls.add();
                    unknown = Some(status);
                    Outcome::Later(why)
                }
                Blame::Folder if !self.made => {
                    missing = Some(status);
                    continue;
                }
                Blame::Folder | Blame::Target(_) => {
                    let class = if let Blame::Target(class) = blame { class } else { Class::Target };
                    failed = Some((status, class));
                    continue;
                }
            };
            self.batch[number].state = State::Decided(outcome);
        }
        if self.shared.faults.stalls.are_many() {
            failed = failed.or(unknown.map(|status| (status, Class::Target)));
        }
        if let Some(broken) = broken {
            self.cut_off(&broken, doubtful, cut);
            // A goodbye tells as much as an answer.
            if let Some(bye) = &broken.bye
                && let Blame::Target(class) = judge::blame(bye, 0)
            {
                return Err(self.shared.takes_nothing(bye, class));
            }
            self.note_break(broken)?;
        } else if let Some(status) = missing {
            self.make_folder(dialogue, &status).await?;
        }
        failed.map_or(Ok(()), |(status, class)| Err(self.shared.takes_nothing(&status, class)))
    }

    /// Makes the folder once more: another one, of which nothing is in doubt.
    async fn make_folder(&mut self, dialogue: &mut Dialogue, missing: &Status) -> Result<(), TargetError> {
        self.made = true;
        let (connecting, mailbox) = (self.shared.connecting(), &self.shared.mailbox);
        connecting.create(dialogue, mailbox, missing).await?;
        if self.shared.asked == self.shared.mailbox
            && let Some(at) = connecting.look_at(dialogue, mailbox).await?
        {
            *lock(&self.shared.at) = at;
            let mut memory = lock(&self.shared.memory);
            (memory.validity, memory.from) = (at.validity, Some(at.next));
        }
        Ok(())
    }

    /// Notes that the server took a message.
    fn took(&mut self, number: usize) {
        if let Some(letter) = &self.batch[number].letter {
            self.shared.took(letter);
        }
        self.shared.breaks.store(0, Relaxed);
        self.shared.faults.stalls.end();
        self.batch[number].state = State::Decided(Outcome::Delivered);
    }

    /// Notes what a connection that broke leaves open.
    fn cut_off(&mut self, broken: &Broken, doubtful: Vec<usize>, cut: Vec<usize>) {
        if doubtful.len() + cut.len() > 1 {
            self.together = Together::Alone;
        }
        let said = broken.said.as_ref().map_or_else(String::new, |said| format!(": {said}"));
        let is_refused = broken.bye.as_ref().is_some_and(|bye| judge::blame(bye, 0) == Blame::Message);
        // Of several nobody knows which it was.
        if let (([], [number]) | ([number], []), true) = ((&doubtful[..], &cut[..]), is_refused) {
            let why = format!("{} refused the message{said}", self.shared.target.server());
            self.batch[*number].state = State::Decided(Outcome::Refused(why));
            return;
        }
        for number in doubtful {
            let why = format!("in doubt: {broken}{said}; the message may have arrived, and is looked for");
            self.batch[number].state = State::Doubtful { why, is_timeout: broken.is_silence };
        }
        if let [number] = cut[..]
            && let State::Waiting { cuts } = &mut self.batch[number].state
        {
            *cuts += 1;
            if *cuts >= MOST_CUTS {
                self.batch[number].state = State::Decided(Outcome::Later(format!("{broken}{said}")));
            }
        }
    }

    /// Counts a connection that broke; the error says that the server counts as gone.
    fn note_break(&self, broken: Broken) -> Result<(), TargetError> {
        if self.shared.breaks.fetch_add(1, Relaxed) + 1 < MOST_BREAKS {
            log::debug!("{}: target: {broken}; making another connection", self.shared.access.account);
            return Ok(());
        }
        Err(self.shared.connecting().broken(broken))
    }
}

/// Says what became of a message.
fn outcome(shared: &Shared, state: State) -> Outcome {
    match state {
        State::Decided(outcome) => {
            if matches!(outcome, Outcome::InDoubt(_)) {
                shared.doubts.fetch_add(1, Relaxed);
            }
            outcome
        }
        State::Waiting { .. } => Outcome::NotTried,
        // The target went away, which is no trouble of the message's: the next poll asks first.
        State::Doubtful { .. } => {
            shared.doubts.fetch_add(1, Relaxed);
            Outcome::NotTried
        }
    }
}
