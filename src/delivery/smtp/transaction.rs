//! One message after the other over one connection: MAIL, RCPT, DATA, the message, its end.
//!
//! Where the server offers PIPELINING (RFC 2920), MAIL, RCPT and DATA leave together, and behind the end of a message
//! leave those of the next: one round trip a message once it goes, two for the first.

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::Protocol;
use super::dialogue::{Broken, DATA_PATIENCE, Dialogue, END_PATIENCE, PATIENCE, Reply};
use super::extensions::Limit;
use super::stream::Wire;
use crate::delivery::spool::{Content, Spooled};

/// Octets of a message that are read from the spool at once.
const PART: usize = 64 << 10;

/// A message and its envelope.
#[derive(Debug)]
pub(super) struct Letter {
    /// The reverse-path, without angle brackets.
    pub(super) from: String,
    /// The forward-paths, at least one.
    pub(super) to: Vec<String>,
    pub(super) message: Spooled,
}

/// What became of a message for one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The server has it.
    Delivered,
    /// 4yz.
    Later(String),
    /// 5yz.
    Refused(String),
}

/// What a transaction leaves behind.
#[derive(Debug)]
pub(super) struct Done {
    /// One for each recipient, in order.
    pub(super) verdicts: Vec<Verdict>,
    /// Whether the commands of the next message have gone out.
    pub(super) ahead: Ahead,
}

/// A connection that takes messages.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) dialogue: Dialogue,
    protocol: Protocol,
    /// Messages that it has taken or refused.
    pub(super) served: usize,
    /// The server has begun a transaction that did not come to its end.
    begun: bool,
    /// The server said that it closes, or broke off.
    pub(super) closing: bool,
    /// How it broke off between the replies for two recipients.
    pub(super) broken: Option<Broken>,
}

impl Connection {
    pub(super) fn new(dialogue: Dialogue, protocol: Protocol) -> Self {
        Self { dialogue, protocol, served: 0, begun: false, closing: false, broken: None }
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
        self.dialogue.wire.begin();
        let answered = match ahead {
            Ahead::NotSent if !self.dialogue.extensions.pipelining => self.one_by_one(letter).await?,
            Ahead::NotSent | Ahead::Sent => self.together(letter, ahead).await?,
        };
        let Answered { mut verdicts, data } = answered;
        self.served += 1;
        let accepted = verdicts.iter().filter(|verdict| **verdict == Verdict::Delivered).count();
        match data {
            Some(data) if data.code == 354 => {}
            Some(data) if data.code < 400 => return Err(out_of_step(&data, "DATA", "354")),
            Some(data) if accepted > 0 => {
                let verdict = self.verdict(&data, "the message (DATA)");
                replace_delivered(&mut verdicts, &verdict);
                return Ok(Done { verdicts, ahead: Ahead::NotSent });
            }
            // Refused because there are no recipients, which says nothing new; or not even asked.
            Some(_) | None => return Ok(Done { verdicts, ahead: Ahead::NotSent }),
        }
        self.begun = false;
        if accepted == 0 {
            self.end_for_nobody().await;
            return Ok(Done { verdicts, ahead: Ahead::NotSent });
        }
        // A server that gave one reply for several recipients would have its next one taken for theirs.
        let is_alone = self.protocol == Protocol::Smtp || accepted == 1;
        let next = next.filter(|_| self.dialogue.extensions.pipelining && is_alone);
        let commands = next.map(|next| self.commands(next));
        let ahead = if commands.is_some() { Ahead::Sent } else { Ahead::NotSent };
        // The library ends each message with CRLF . CRLF: the message's own last CRLF is the first of these.
        let end = if letter.message.octets == 0 { EMPTY_END } else { END };
        let end = [end, commands.unwrap_or_default().as_bytes()].concat();
        let parts = parts(&letter.message, &self.dialogue.wire)?;
        let first = self.dialogue.message(parts, end).await?;
        self.judge(&mut verdicts, first).await?;
        Ok(Done { verdicts, ahead })
    }

    /// Writes MAIL, RCPT and DATA for a message.
    fn commands(&self, letter: &Letter) -> String {
        // A transaction that was begun and not ended is still there.
        let mut commands = if self.begun { "RSET\r\n".to_owned() } else { String::new() };
        commands += &self.mail(letter);
        letter.to.iter().for_each(|to| commands += &rcpt(to));
        commands + "DATA\r\n"
    }

    fn mail(&self, letter: &Letter) -> String {
        let extensions = &self.dialogue.extensions;
        let mut mail = format!("MAIL FROM:<{}>", letter.from);
        if extensions.size.is_some() {
            // Dots that are doubled do not count (RFC 1870, 5).
            mail += &format!(" SIZE={}", letter.message.octets);
        }
        // A server without it gets the octets as they are all the same: none is known that would change them, and
        // nothing else may.
        if extensions.eight_bit_mime && may_be_eight_bit(&letter.message.content) {
            mail += " BODY=8BITMIME";
        }
        if extensions.smtp_utf8 && letter.to.iter().chain([&letter.from]).any(|address| !address.is_ascii()) {
            mail += " SMTPUTF8";
        }
        mail + "\r\n"
    }

    async fn together(&mut self, letter: &Letter, ahead: Ahead) -> Result<Answered, Broken> {
        let mut first = match ahead {
            Ahead::Sent => None,
            Ahead::NotSent => Some(self.dialogue.command(&self.commands(letter), PATIENCE).await?),
        };
        if self.begun {
            let reset = self.next(&mut first, "RSET").await?;
            if !reset.is_success() {
                return Err(out_of_step(&reset, "RSET", "250"));
            }
            self.begun = false;
        }
        let mail = self.next(&mut first, "MAIL").await?;
        let refusal = self.sender(letter, &mail)?;
        let mut verdicts = vec![refusal.clone().unwrap_or(Verdict::Delivered); letter.to.len()];
        for (to, verdict) in letter.to.iter().zip(&mut verdicts) {
            let reply = self.next(&mut first, "RCPT").await?;
            // Without a sender all recipients are refused too, and the sender is why.
            if refusal.is_none() {
                *verdict = self.recipient(to, &reply)?;
            }
        }
        let data = staying(self.dialogue.reply("DATA", DATA_PATIENCE).await?)?;
        Ok(Answered { verdicts, data: Some(data) })
    }

    async fn one_by_one(&mut self, letter: &Letter) -> Result<Answered, Broken> {
        if self.begun {
            let reset = self.dialogue.command("RSET\r\n", PATIENCE).await?;
            if !reset.is_success() {
                return Err(out_of_step(&reset, "RSET", "250"));
            }
            self.begun = false;
        }
        let mail = staying(self.dialogue.command(&self.mail(letter), PATIENCE).await?)?;
        if let Some(refusal) = self.sender(letter, &mail)? {
            return Ok(Answered { verdicts: vec![refusal; letter.to.len()], data: None });
        }
        let mut verdicts = Vec::with_capacity(letter.to.len());
        for to in &letter.to {
            let reply = staying(self.dialogue.command(&rcpt(to), PATIENCE).await?)?;
            verdicts.push(self.recipient(to, &reply)?);
        }
        if !verdicts.contains(&Verdict::Delivered) {
            return Ok(Answered { verdicts, data: None });
        }
        let data = staying(self.dialogue.command("DATA\r\n", DATA_PATIENCE).await?)?;
        Ok(Answered { verdicts, data: Some(data) })
    }

    /// Gives the next reply: the one that came with the commands, or another.
    async fn next(&mut self, first: &mut Option<Reply>, to: &str) -> Result<Reply, Broken> {
        match first.take() {
            Some(reply) => staying(reply),
            None => staying(self.dialogue.reply(to, PATIENCE).await?),
        }
    }

    /// Takes the reply to MAIL; a verdict if it was no.
    fn sender(&mut self, letter: &Letter, reply: &Reply) -> Result<Option<Verdict>, Broken> {
        if reply.is_success() {
            self.begun = true;
            return Ok(None);
        }
        if reply.code < 400 {
            return Err(out_of_step(reply, "MAIL", "250"));
        }
        Ok(Some(self.verdict(reply, &format!("the sender <{}>", letter.from))))
    }

    /// Takes the reply to RCPT; `Delivered` if it was yes so far.
    fn recipient(&mut self, to: &str, reply: &Reply) -> Result<Verdict, Broken> {
        if reply.is_success() {
            return Ok(Verdict::Delivered);
        }
        if reply.code < 400 {
            return Err(out_of_step(reply, "RCPT", "250"));
        }
        Ok(self.verdict(reply, &format!("the recipient <{to}>")))
    }

    /// Takes the replies to the message itself, of which `first` is one.
    async fn judge(&mut self, verdicts: &mut [Verdict], first: Reply) -> Result<(), Broken> {
        let verdict = self.final_verdict(&first)?;
        match self.protocol {
            Protocol::Smtp => replace_delivered(verdicts, &verdict),
            // RFC 2033, 4.2: a reply for each recipient that was accepted, in their order.
            Protocol::Lmtp => {
                let mut verdict = Some(verdict);
                for accepted in verdicts.iter_mut().filter(|verdict| **verdict == Verdict::Delivered) {
                    *accepted = match verdict.take() {
                        Some(verdict) => verdict,
                        None => self.next_final_verdict().await,
                    };
                }
            }
        }
        Ok(())
    }

    /// Takes the reply for another recipient. Those before it have theirs, whatever becomes of the connection.
    async fn next_final_verdict(&mut self) -> Verdict {
        let answered = if self.closing {
            Err(Broken { what: "server is closing the connection".into(), said: None })
        } else {
            self.dialogue.reply("the message", END_PATIENCE).await
        };
        match answered.and_then(|reply| self.final_verdict(&reply)) {
            Ok(verdict) => verdict,
            Err(broken) => {
                self.closing = true;
                let verdict = Verdict::Later(broken.may_have_arrived());
                self.broken.get_or_insert(broken);
                verdict
            }
        }
    }

    /// Takes a reply to the message itself. Only 250 counts: RFC 5321 has no other yes here.
    fn final_verdict(&mut self, reply: &Reply) -> Result<Verdict, Broken> {
        match reply.code {
            250 => Ok(Verdict::Delivered),
            400.. => Ok(self.verdict(reply, "the message")),
            _ => Err(out_of_step(reply, "the message", "250")),
        }
    }

    fn verdict(&mut self, reply: &Reply, what: &str) -> Verdict {
        self.closing |= reply.is_closing();
        if reply.is_transient() {
            Verdict::Later(format!("server cannot take {what} now: {reply}"))
        } else {
            Verdict::Refused(format!("server refused {what}: {reply}"))
        }
    }

    /// Ends a message that the server asked for and that has no recipient.
    async fn end_for_nobody(&mut self) {
        let nothing = std::iter::empty::<&[u8]>();
        self.closing |= match self.protocol {
            Protocol::Smtp => self.dialogue.message(nothing, EMPTY_END.to_vec()).await.is_err(),
            // Nobody knows how many replies would come: one for each of no recipients.
            Protocol::Lmtp => true,
        };
    }
}

/// Whether the commands of a message have left with the end of the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ahead {
    Sent,
    NotSent,
}

/// What the server said to MAIL, RCPT and DATA.
struct Answered {
    /// Of the sender and the recipients; `Delivered`: nothing against it so far.
    verdicts: Vec<Verdict>,
    /// The reply to DATA, if it was sent and is worth looking at.
    data: Option<Reply>,
}

const END: &[u8] = b"\r\n.\r\n";
/// The end of a message without any octet.
const EMPTY_END: &[u8] = b".\r\n";

fn rcpt(to: &str) -> String {
    format!("RCPT TO:<{to}>\r\n")
}

fn replace_delivered(verdicts: &mut [Verdict], by: &Verdict) {
    verdicts.iter_mut().filter(|verdict| **verdict == Verdict::Delivered).for_each(|each| *each = by.clone());
}

/// Tells a reply from the server's goodbye (RFC 5321, 3.8), after which no other comes.
fn staying(reply: Reply) -> Result<Reply, Broken> {
    if reply.is_closing() {
        return Err(Broken {
            what: "server is closing the connection".into(),
            said: Some(reply.to_string()),
        });
    }
    Ok(reply)
}

fn out_of_step(reply: &Reply, to: &str, expected: &str) -> Broken {
    Broken { what: format!("server sent {reply} to {to}, where {expected} was expected"), said: None }
}

/// Says whether there may be an octet above 127; a large message is not read for that.
fn may_be_eight_bit(content: &Content) -> bool {
    match content {
        Content::Memory(octets) => !octets.as_ref().is_ascii(),
        Content::File(_) => true,
    }
}

/// Gives a message in parts, without its last CRLF. If it cannot be read whole, the wire is told not to end it.
fn parts<'a>(
    message: &'a Spooled,
    wire: &Wire,
) -> Result<impl Iterator<Item = Cow<'a, [u8]>> + use<'a>, Broken> {
    let unreadable = |error: io::Error| Broken {
        what: format!("cannot read the message from the spool: {error}"),
        said: None,
    };
    let (memory, file) = match &message.content {
        Content::Memory(octets) => {
            let octets = octets.as_ref();
            (Some(Cow::Borrowed(octets.strip_suffix(b"\r\n").unwrap_or(octets))), None)
        }
        Content::File(file) => {
            let mut last = [0; 2];
            let length = message.octets;
            if let Some(at) = length.checked_sub(2) {
                file.read_exact_at(&mut last, at).map_err(unreadable)?;
            }
            let length = if &last == b"\r\n" { length - 2 } else { length };
            (None, Some(FileParts { file, at: 0, length, wire: wire.clone() }))
        }
    };
    Ok(memory.into_iter().chain(file.into_iter().flatten()))
}

struct FileParts<'a> {
    file: &'a File,
    at: u64,
    length: u64,
    wire: Wire,
}

impl<'a> Iterator for FileParts<'a> {
    type Item = Cow<'a, [u8]>;

    fn next(&mut self) -> Option<Self::Item> {
        let left = self.length - self.at;
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(PART);
        if count == 0 {
            return None;
        }
        let mut part = vec![0; count];
        if let Err(error) = self.file.read_exact_at(&mut part, self.at) {
            self.wire.unreadable(error.to_string());
            return None;
        }
        self.at += count as u64;
        Some(Cow::Owned(part))
    }
}

#[cfg(test)]
mod tests {
    use lettre::transport::smtp::extension::ClientId;
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream, duplex};
    use tokio::time::Instant;

    use super::super::stream::Greeting;
    use super::*;
    use crate::delivery::spool::{Draft, LineEnds};
    use crate::delivery::{Disk, MessageId};
    use crate::pop3::UniqueId;

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

    async fn hand_over(answers: usize) -> Result<Vec<Verdict>, String> {
        let (ours, theirs) = duplex(1 << 16);
        tokio::spawn(answer(theirs, answers));
        let name = ClientId::Domain("x".into());
        let greeting = Greeting::Awaited;
        let dialogue = Dialogue::open(Box::new(ours), greeting, Protocol::Smtp, &name, "test").await;
        let dialogue = dialogue.map_err(|error| format!("{error:?}"))?;
        let mut connection = Connection::new(dialogue, Protocol::Smtp);
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
        let name = ClientId::Domain("x".into());
        let dialogue = Dialogue::open(Box::new(ours), Greeting::Awaited, Protocol::Smtp, &name, "test").await;
        let mut connection = Connection::new(dialogue.expect("it answers"), Protocol::Smtp);
        let began = Instant::now();
        let broken = connection.hand_over(&letter, Ahead::NotSent, None).await.expect_err("it takes nothing");
        assert!(broken.what.contains("gave up after 3m"), "{broken}");
        assert_eq!(began.elapsed().as_secs(), 180);
        assert!(!connection.dialogue.wire.ended());
    }
}
