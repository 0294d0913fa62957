//! One message after the other over one connection: MAIL, RCPT, DATA, the message, its end.
//!
//! Where the server offers PIPELINING (RFC 2920), MAIL, RCPT and DATA leave together, and behind the end of a message
//! leave those of the next: one round trip a message once it goes, two for the first. What of that the server has not
//! shown that it takes is tried with a limit of its own; see [`super::learned`].

mod judge;

use std::time::Duration;

use tokio::time::Instant;

use super::body;
use super::dialogue::{Broken, Dialogue, How};
use super::learned::{Learned, Sent};
use super::letter::{Ahead, Answered, Done, Letter, Stall, Verdict, replace_delivered};
use crate::smtp::{Command, Dialect, Limit, MailBodyParameter, MailParameter, Reply};

/// A connection that takes messages.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) dialogue: Dialogue,
    dialect: Dialect,
    learned: Learned,
    /// Messages that it has taken or refused.
    pub(super) served: usize,
    /// Messages that it has taken.
    pub(super) taken: usize,
    /// The server has begun a transaction that did not come to its end.
    begun: bool,
    /// The server said that it closes, or broke off.
    pub(super) closing: bool,
    /// It broke over commands that were sent ahead, which the next connection will not do so.
    pub(super) suspected: bool,
    /// How it broke off between the replies for two recipients.
    pub(super) broken: Option<Broken>,
}

impl Connection {
    pub(super) fn new(dialogue: Dialogue, dialect: Dialect, learned: Learned) -> Self {
        learned.meet(&dialogue.extensions.keywords);
        Self {
            dialogue,
            dialect,
            learned,
            served: 0,
            taken: 0,
            begun: false,
            closing: false,
            suspected: false,
            broken: None,
        }
    }

    /// Says why this server cannot take the message, before it is asked to.
    pub(super) fn unfit(&self, letter: &Letter) -> Option<String> {
        let extensions = &self.dialogue.extensions;
        if let Some(Limit::Octets(most)) = extensions.size
            && letter.message.octets > most
        {
            return Some(format!("server takes messages of {most} octets at most (SIZE)"));
        }
        let foreign = |address: &&String| !address.is_ascii();
        match letter.to.iter().chain([&letter.from]).find(foreign) {
            Some(address) if !extensions.smtp_utf8 => {
                Some(format!("server does not offer SMTPUTF8, which the address {address} needs"))
            }
            Some(_) | None => None,
        }
    }

    /// Hands a message over. `next` is the message after it, whose commands may follow its end.
    ///
    /// After an error the connection is of no more use, and the same if it is `closing`.
    pub(super) async fn hand_over(
        &mut self,
        letter: &Letter,
        ahead: Ahead,
        next: Option<&Letter>,
    ) -> Result<Done, Broken> {
        self.dialogue.begin();
        let answered = match ahead {
            Ahead::NotSent if !self.may(Sent::Together) => self.one_by_one(letter).await?,
            Ahead::NotSent => self.trying(Sent::Together, letter).await?,
            Ahead::Sent => self.trying(Sent::BehindEnd, letter).await?,
        };
        let Answered { mut verdicts, data, stall } = answered;
        self.served += 1;
        let accepted = verdicts.iter().filter(|verdict| **verdict == Verdict::Delivered).count();
        match data {
            Some(data) if data.code == 354 => {}
            Some(data) if data.code < 400 => return Err(out_of_step(&data, "DATA", "354")),
            Some(data) if accepted > 0 => {
                let verdict = self.verdict(&data, "the message (DATA)");
                replace_delivered(&mut verdicts, &verdict);
                return Ok(Done { verdicts, ahead: Ahead::NotSent, stall: None });
            }
            // Refused because there are no recipients, which says nothing new; or not even asked.
            Some(_) | None => return Ok(Done { verdicts, ahead: Ahead::NotSent, stall }),
        }
        self.begun = false;
        if accepted == 0 {
            self.end_for_nobody().await;
            return Ok(Done { verdicts, ahead: Ahead::NotSent, stall });
        }
        body::send(&mut self.dialogue, &letter.message, accepted).await?;
        // A server that gave one reply for several recipients would have its next one taken for theirs.
        let is_alone = self.dialect == Dialect::Smtp || accepted == 1;
        let ahead = match next.filter(|_| self.may(Sent::BehindEnd) && is_alone) {
            Some(next) => {
                self.queue(next)?;
                Ahead::Sent
            }
            None => Ahead::NotSent,
        };
        let first = self.dialogue.end().await?;
        let closing = first.is_closing().then(|| Stall::End(first.clone()));
        self.judge(&mut verdicts, first).await?;
        self.taken += usize::from(verdicts.contains(&Verdict::Delivered));
        let is_put_off = verdicts.iter().all(|verdict| matches!(verdict, Verdict::Later(_)));
        Ok(Done { verdicts, ahead, stall: closing.filter(|_| is_put_off) })
    }

    /// Queues MAIL, RCPT and DATA for a message.
    fn queue(&mut self, letter: &Letter) -> Result<(), Broken> {
        // A transaction that was begun and not ended is still there.
        if self.begun {
            self.dialogue.send(Command::Rset)?;
        }
        self.dialogue.send(Command::Mail(&letter.from, &self.parameters(letter)))?;
        letter.to.iter().try_for_each(|to| self.dialogue.send(Command::Rcpt(to)))?;
        self.dialogue.send(Command::Data)
    }

    fn parameters(&self, letter: &Letter) -> Vec<MailParameter> {
        let extensions = &self.dialogue.extensions;
        let mut parameters = Vec::new();
        if extensions.size.is_some() {
            // Dots that are doubled do not count (RFC 1870, 5).
            parameters.extend(usize::try_from(letter.message.octets).ok().map(MailParameter::Size));
        }
        // A server without it gets the octets as they are all the same: none is known that would change them, and
        // nothing else may.
        if extensions.eight_bit_mime && letter.may_be_eight_bit() {
            parameters.push(MailParameter::Body(MailBodyParameter::EightBitMime));
        }
        if extensions.smtp_utf8 && letter.to.iter().chain([&letter.from]).any(|address| !address.is_ascii()) {
            parameters.push(MailParameter::SmtpUtfEight);
        }
        parameters
    }

    fn may(&self, sent: Sent) -> bool {
        self.dialogue.extensions.pipelining && self.learned.may(sent)
    }

    /// Asks for a message's turn by commands that leave together, or have left behind the end of the one before, and notes
    /// how the server takes that.
    async fn trying(&mut self, sent: Sent, letter: &Letter) -> Result<Answered, Broken> {
        let limit = self.learned.limit(sent, self.dialogue.round_trip);
        let began = Instant::now();
        let answered = self.together(letter, sent, limit).await;
        match &answered {
            Ok(Answered { data: Some(data), .. }) if data.code == 354 => {
                self.learned.takes(sent);
                self.learned.takes(Sent::Together);
                // What was suspected is another way of sending ahead: this one is slower, and has been answered.
                self.learned.careful(began.elapsed());
            }
            Ok(_) => {}
            Err(broken) => {
                let lost = match broken.how {
                    How::Silence => true,
                    // Some end the connection over it; only what has never worked is suspected of that.
                    How::Ended => limit.is_some() && sent == Sent::BehindEnd,
                    How::Otherwise => false,
                };
                self.suspected |=
                    lost && self.learned.suspect(sent, limit.unwrap_or(self.dialogue.patience.command));
            }
        }
        answered
    }

    /// Takes the replies to commands of which the first are to be sent, or have been.
    async fn together(
        &mut self,
        letter: &Letter,
        sent: Sent,
        limit: Option<Duration>,
    ) -> Result<Answered, Broken> {
        let usual = self.dialogue.patience;
        let patience = limit.map_or(usual.command, |limit| limit.min(usual.command));
        if sent == Sent::Together {
            self.queue(letter)?;
        }
        if self.begun {
            let reset = staying(self.dialogue.reply(patience).await?)?;
            if !reset.is_success() {
                return Err(out_of_step(&reset, "RSET", "250"));
            }
            self.begun = false;
        }
        let mail = self.dialogue.reply(patience).await?;
        if sent == Sent::BehindEnd && limit.is_some() && (500..=504).contains(&mail.code) {
            // Half of what was lost: the sender may be as sound as the next one.
            self.suspected |= self.learned.suspect(sent, patience);
            return Err(out_of_step(&mail, "MAIL", "250"));
        }
        let stalled = self.sender(letter, &mail)?;
        if let (Some(_), true) = (&stalled, self.closing) {
            // It says no more.
            return Ok(stalled.unwrap_or_default());
        }
        let mut replies = Vec::with_capacity(letter.to.len());
        for _ in &letter.to {
            replies.push(staying(self.dialogue.reply(patience).await?)?);
        }
        let data = Some(staying(self.dialogue.reply(patience.min(usual.data)).await?)?);
        // Without a sender all recipients are refused too, and the sender is why.
        match stalled {
            Some(stalled) => Ok(Answered { data, ..stalled }),
            None => Ok(Answered { data, ..self.recipients(letter, &replies)? }),
        }
    }

    async fn one_by_one(&mut self, letter: &Letter) -> Result<Answered, Broken> {
        let patience = self.dialogue.patience;
        if self.begun {
            let reset = self.dialogue.command(Command::Rset, patience.command).await?;
            if !reset.is_success() {
                return Err(out_of_step(&reset, "RSET", "250"));
            }
            self.begun = false;
        }
        let parameters = self.parameters(letter);
        let mail = self.dialogue.command(Command::Mail(&letter.from, &parameters), patience.command).await?;
        let mut slowest = self.dialogue.waited();
        if let Some(stalled) = self.sender(letter, &mail)? {
            return Ok(stalled);
        }
        let mut replies = Vec::with_capacity(letter.to.len());
        for to in &letter.to {
            replies.push(staying(self.dialogue.command(Command::Rcpt(to), patience.command).await?)?);
            slowest = slowest.max(self.dialogue.waited());
        }
        let answered = self.recipients(letter, &replies)?;
        if !answered.verdicts.contains(&Verdict::Delivered) {
            return Ok(answered);
        }
        let data = staying(self.dialogue.command(Command::Data, patience.data).await?)?;
        if data.code == 354 {
            self.learned.careful(slowest.max(self.dialogue.waited()));
        }
        Ok(Answered { data: Some(data), ..answered })
    }

    /// Says whether the server, which twice took nothing from one sender, would take a message from nobody: then it is that
    /// sender whom it does not take, and the other messages need not wait.
    pub(super) async fn takes_from_others(&mut self) -> bool {
        if self.closing {
            return false;
        }
        let taken = match self.dialogue.command(Command::Mail("", &[]), self.dialogue.patience.command).await
        {
            Ok(reply) => reply.is_success(),
            Err(_) => false,
        };
        self.begun |= taken;
        taken
    }

    /// Ends a message that the server asked for and that has no recipient.
    async fn end_for_nobody(&mut self) {
        self.closing |= match self.dialect {
            Dialect::Smtp => match self.dialogue.last_part(&[], 0).await {
                Ok(()) => self.dialogue.end().await.is_err(),
                Err(_) => true,
            },
            // Nobody knows how many replies would come: one for each of no recipients.
            Dialect::Lmtp => true,
        };
    }
}

/// Tells a reply from the server's goodbye (RFC 5321, 3.8), after which no other comes.
fn staying(reply: Reply) -> Result<Reply, Broken> {
    if reply.is_closing() {
        let said = Some(reply.to_string());
        return Err(Broken { said, ..Broken::new("server is closing the connection".into()) });
    }
    Ok(reply)
}

fn out_of_step(reply: &Reply, to: &str, expected: &str) -> Broken {
    Broken::new(format!("server sent {reply} to {to}, where {expected} was expected"))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream, duplex};
    use tokio::time::Instant;

    use super::super::dialogue::{Introduction, NoDialogue, Patience};
    use super::*;
    use crate::delivery::spool::{Draft, LineEnds};
    use crate::disk::Disk;
    use crate::message::{MessageId, UniqueId};
    use crate::net::{Moment, Stream, Watch};
    use crate::smtp::{Client, ClientId};
    use crate::stop::Stop;

    async fn letter() -> Letter {
        let id = MessageId { maildrop: "m".into(), uid: UniqueId::new(*b"1"), ordinal: 0 };
        let mut draft = Draft::new(&Disk::new(), id, LineEnds::Crlf);
        draft.write(b"Subject: x\r\n\r\nx\r\n");
        let message = draft.finish().spooled().await.expect("it stays in memory");
        Letter { from: "a@b".into(), to: vec!["c@d".into()], message }
    }

    /// Answers so many lines that begin a command or end a message, and then nothing more.
    async fn answer(stream: DuplexStream, mut answers: usize) {
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        let mut reply: &[u8] = b"220 x\r\n";
        loop {
            if answers > 0 {
                answers -= 1;
                stream.write_all(reply).await.expect("the client reads");
            }
            reply = loop {
                line.clear();
                if stream.read_line(&mut line).await.expect("the client writes") == 0 {
                    return;
                }
                match line.get(..4) {
                    Some("EHLO") => break b"250-x\r\n250 8BITMIME\r\n",
                    Some("MAIL" | "RCPT") => break b"250 x\r\n",
                    Some("DATA") => break b"354 x\r\n",
                    _ if line == ".\r\n" => break b"250 x\r\n",
                    _ => {}
                }
            };
        }
    }

    async fn dialogue(stream: DuplexStream) -> Result<Dialogue, NoDialogue> {
        let introduction = Introduction {
            dialect: Dialect::Smtp,
            name: &ClientId::Domain("x".into()),
            account: "test",
            patience: Patience::new(None),
            stop: Stop::default(),
            watch: &Watch::default(),
            moment: Moment::BeforeLogIn,
        };
        Dialogue::open(Stream::plain(stream), Client::new(Dialect::Smtp), &introduction).await
    }

    async fn hand_over(answers: usize) -> Result<Vec<Verdict>, String> {
        let (ours, theirs) = duplex(1 << 16);
        tokio::spawn(answer(theirs, answers));
        let dialogue = dialogue(ours).await.map_err(|error| format!("{error:?}"))?;
        let mut connection = Connection::new(dialogue, Dialect::Smtp, Learned::default());
        let done = connection.hand_over(&letter().await, Ahead::NotSent, None).await;
        done.map(|done| done.verdicts).map_err(|broken| broken.what)
    }

    /// RFC 5321, 4.5.3.2.
    #[tokio::test(start_paused = true)]
    async fn no_silence_lasts_longer_than_the_standard_has_it() {
        assert_eq!(hand_over(6).await, Ok(vec![Verdict::Delivered]));
        let rows = [
            (0, 5, "the greeting"),
            (1, 5, "the reply to EHLO"),
            (2, 5, "the reply to MAIL"),
            (3, 5, "the reply to RCPT"),
            (4, 2, "the reply to DATA"),
            (5, 10, "the reply to the message"),
        ];
        for (answers, minutes, to) in rows {
            let began = Instant::now();
            let error = hand_over(answers).await.expect_err("nobody answers");
            assert!(error.contains(&format!("gave up after {minutes}m waiting for {to}")), "{error}");
            assert_eq!(began.elapsed().as_secs() / 60, minutes, "{to}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_takes_nothing_more_is_given_up_after_three_minutes() {
        let id = MessageId { maildrop: "m".into(), uid: UniqueId::new(*b"1"), ordinal: 0 };
        let mut draft = Draft::new(&Disk::new(), id, LineEnds::Crlf);
        draft.write(&[b'x'; 50_000]);
        let message = draft.finish().spooled().await.expect("it stays in memory");
        let letter = Letter { from: String::new(), to: vec!["c@d".into()], message };
        let (ours, theirs) = duplex(1000);
        tokio::spawn(async move {
            let mut theirs = BufReader::new(theirs);
            theirs.write_all(b"220 x\r\n").await.expect("the client reads");
            let mut line = String::new();
            for reply in ["250 x\r\n", "250 x\r\n", "250 x\r\n", "354 x\r\n"] {
                line.clear();
                theirs.read_line(&mut line).await.expect("the client writes");
                theirs.write_all(reply.as_bytes()).await.expect("the client reads");
            }
            std::future::pending::<()>().await;
        });
        let dialogue = dialogue(ours).await.expect("it answers");
        let mut connection = Connection::new(dialogue, Dialect::Smtp, Learned::default());
        let began = Instant::now();
        let broken = connection.hand_over(&letter, Ahead::NotSent, None).await.expect_err("it takes nothing");
        assert!(broken.what.contains("gave up after 3m"), "{broken}");
        assert_eq!(began.elapsed().as_secs(), 180);
        assert!(!connection.dialogue.may_have_the_message());
    }
}
