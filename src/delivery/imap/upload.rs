//! Messages on their way into a mailbox: APPEND after APPEND, announced and sent before earlier ones are answered where
//! the server lets it, and several in one command (RFC 3502) where it has that.

use std::collections::VecDeque;

use super::dialogue::{Broken, Dialogue, Word};
use super::known::KnownBy;
use crate::delivery::reading::Parts;
use crate::delivery::spool::{Content, Spooled};
use crate::imap::{Append, Literal, Mailbox, Status};
use crate::stop::Stop;

/// Commands under way at most, and octets that are not written.
const WINDOW_COMMANDS: usize = 64;
const WINDOW_OCTETS: u64 = 256 << 10;

/// Messages of one command at most, and octets of them: they are kept together, or none of them.
const GROUP: usize = 16;
const GROUP_OCTETS: u64 = 1 << 20;

/// A message that is to be appended.
#[derive(Debug)]
pub(super) struct Letter {
    pub(super) message: Spooled,
    /// By what it is known in the mailbox, if it is known.
    pub(super) known: Option<KnownBy>,
    pub(super) date: Option<String>,
    /// Octets that it has there, less those that we have put on top.
    pub(super) octets: u64,
    /// Its header says by which way it came.
    pub(super) is_traced: bool,
}

/// A letter and its number.
pub(super) type Numbered<'a> = (usize, &'a Letter);

/// How many messages go in one command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Together {
    /// As many as may be.
    Several,
    /// One: of several the server refused one, and did not say which.
    One,
    /// One, and no other before its answer: at one of several the connection broke.
    Alone,
}

/// What came of an upload.
#[derive(Debug, Default)]
pub(super) struct Uploaded {
    /// What the server said to messages, by their numbers.
    pub(super) answers: Vec<(usize, Status)>,
    /// The server refused several messages together, which are to be sent one by one.
    pub(super) is_refused_together: bool,
    /// How the connection broke, if it did.
    pub(super) broken: Option<Broken>,
    /// Messages whose last octet went out, and which were not answered.
    pub(super) doubtful: Vec<usize>,
    /// The messages that were being sent when the connection broke.
    pub(super) cut: Vec<usize>,
}

/// Messages that go over one connection.
pub(super) struct Upload<'a> {
    dialogue: &'a mut Dialogue,
    mailbox: &'a Mailbox,
    flags: &'a [String],
    stop: &'a Stop,
    under_way: VecDeque<UnderWay>,
    uploaded: Uploaded,
}

/// A command that is not answered.
struct UnderWay {
    tag: u64,
    letters: Vec<usize>,
    /// The place of its last octet among all that are sent; `None` until that is queued.
    last: Option<u64>,
}

impl<'a> Upload<'a> {
    pub(super) fn new(
        dialogue: &'a mut Dialogue,
        mailbox: &'a Mailbox,
        flags: &'a [String],
        stop: &'a Stop,
    ) -> Self {
        Self { dialogue, mailbox, flags, stop, under_way: VecDeque::new(), uploaded: Uploaded::default() }
    }

    /// Sends messages and waits for all answers. None is begun once the process must end.
    pub(super) async fn run(mut self, letters: &[Numbered<'_>], together: Together) -> Uploaded {
        if let Err(broken) = self.send_all(letters, together).await {
            for UnderWay { letters, last, .. } in self.under_way {
                match last {
                    Some(last) if self.dialogue.may_have(last) => self.uploaded.doubtful.extend(letters),
                    Some(_) => {}
                    None => self.uploaded.cut = letters,
                }
            }
            self.uploaded.broken = Some(broken);
        }
        self.uploaded
    }

    async fn send_all(&mut self, mut letters: &[Numbered<'_>], together: Together) -> Result<(), Broken> {
        while !letters.is_empty() && !self.stop.is_asked() {
            let (group, rest) = letters.split_at(self.group(letters, together));
            self.send(group).await?;
            while together == Together::Alone && !self.under_way.is_empty() {
                self.hear().await?;
            }
            letters = rest;
        }
        while !self.under_way.is_empty() {
            self.hear().await?;
        }
        Ok(())
    }

    /// Counts the messages that go in the next command.
    fn group(&self, letters: &[Numbered<'_>], together: Together) -> usize {
        if together != Together::Several || !self.dialogue.capabilities.has("MULTIAPPEND") {
            return 1;
        }
        let mut octets = 0;
        let fits = |(_, letter): &&Numbered<'_>| {
            octets += letter.message.octets;
            octets <= GROUP_OCTETS && self.literal(letter) == Literal::NonSynchronizing
        };
        letters.iter().take(GROUP).take_while(fits).count().max(1)
    }

    fn literal(&self, letter: &Letter) -> Literal {
        match letter.message.known.has_nul {
            true => Literal::Binary,
            false => self.dialogue.capabilities.literal(letter.message.octets),
        }
    }

    /// Sends the messages of one command.
    async fn send(&mut self, group: &[Numbered<'_>]) -> Result<(), Broken> {
        let mut tag = None;
        for (_, letter) in group {
            let append = Append {
                mailbox: self.mailbox,
                flags: self.flags,
                date: letter.date.as_deref(),
                octets: letter.message.octets,
                literal: self.literal(letter),
            };
            match tag {
                None => {
                    let announced = self.dialogue.announce(&append)?;
                    let letters = group.iter().map(|(number, _)| *number).collect();
                    self.under_way.push_back(UnderWay { tag: announced, letters, last: None });
                    tag = Some(announced);
                }
                Some(_) => self.dialogue.announce_another(&append),
            }
            if append.literal != Literal::NonSynchronizing && !self.is_wanted().await? {
                // Refused before it was sent.
                return Ok(());
            }
            self.send_content(&letter.message).await?;
        }
        let last = self.dialogue.queue_end();
        // An answer that came early has taken it away.
        if let Some(command) = self.under_way.iter_mut().find(|command| Some(command.tag) == tag) {
            command.last = Some(last);
        }
        self.make_room().await?;
        while self.under_way.len() >= WINDOW_COMMANDS {
            self.hear().await?;
        }
        Ok(())
    }

    /// Waits until the server wants the message of the last command; it may say no to it.
    async fn is_wanted(&mut self) -> Result<bool, Broken> {
        loop {
            match self.dialogue.word().await? {
                Word::Continue(_) => {
                    self.dialogue.goes_on();
                    return Ok(true);
                }
                Word::Answer(tag, status) => self.answered(tag, status)?,
            }
            if self.under_way.back().is_none_or(|command| command.last.is_some()) {
                return Ok(false);
            }
        }
    }

    async fn send_content(&mut self, message: &Spooled) -> Result<(), Broken> {
        match &message.content {
            Content::Memory(octets) => self.dialogue.queue(octets.as_ref()),
            Content::File(file) => {
                let unreadable =
                    |error| Broken::new(format!("cannot read the message from the spool: {error}"));
                let mut parts = Parts::of(file, message.octets).map_err(unreadable)?;
                while parts.are_left() {
                    self.make_room().await?;
                    self.dialogue.queue(&parts.next().await.map_err(unreadable)?);
                }
            }
        }
        Ok(())
    }

    /// Waits until there is room for more octets.
    async fn make_room(&mut self) -> Result<(), Broken> {
        while self.dialogue.unwritten() > WINDOW_OCTETS {
            match self.dialogue.written().await? {
                Some(Word::Answer(tag, status)) => self.answered(tag, status)?,
                Some(Word::Continue(_)) | None => {}
            }
        }
        Ok(())
    }

    async fn hear(&mut self) -> Result<(), Broken> {
        match self.dialogue.word().await? {
            Word::Answer(tag, status) => self.answered(tag, status),
            Word::Continue(_) => Ok(()),
        }
    }

    fn answered(&mut self, tag: u64, status: Status) -> Result<(), Broken> {
        let Some(at) = self.under_way.iter().position(|command| command.tag == tag) else { return Ok(()) };
        let is_sent = self.under_way[at].last.is_some_and(|last| self.dialogue.may_have(last));
        if status.is_ok() && !is_sent {
            // It cannot have what was not sent.
            return Err(Broken::new("server says that it has taken a message of which it has not had all"));
        }
        let Some(UnderWay { letters, .. }) = self.under_way.remove(at) else { return Ok(()) };
        if letters.len() > 1 && !status.is_ok() {
            self.uploaded.is_refused_together = true;
            return Ok(());
        }
        let answers = letters.into_iter().map(|letter| (letter, status.clone()));
        self.uploaded.answers.extend(answers);
        Ok(())
    }
}
