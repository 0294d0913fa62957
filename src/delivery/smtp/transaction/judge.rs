//! What the server's replies mean for a message: taken, later or refused, for each recipient.

use super::super::dialogue::Broken;
use super::super::letter::{Answered, Letter, Stall, Verdict, replace_delivered};
use super::{Connection, out_of_step};
use crate::smtp::{Dialect, Reply};

impl Connection {
    /// Takes the reply to MAIL; what becomes of the message if it was no.
    pub(super) fn sender(&mut self, letter: &Letter, reply: &Reply) -> Result<Option<Answered>, Broken> {
        if reply.is_success() {
            self.begun = true;
            return Ok(None);
        }
        if reply.code < 400 {
            return Err(out_of_step(reply, "MAIL", "250"));
        }
        let verdict = self.verdict(reply, &format!("the sender <{}>", letter.from));
        let stall = if reply.wants_more_first() {
            Some(Stall::Unready(reply.clone()))
        } else if reply.is_transient() && !reply.is_about_the_sender() {
            Some(Stall::Mail(reply.clone()))
        } else {
            None
        };
        Ok(Some(Answered { verdicts: vec![verdict; letter.to.len()], data: None, stall }))
    }

    /// Takes the replies to RCPT; `Delivered` where it was yes so far.
    pub(super) fn recipients(&mut self, letter: &Letter, replies: &[Reply]) -> Result<Answered, Broken> {
        let mut verdicts = Vec::with_capacity(letter.to.len());
        for (to, reply) in letter.to.iter().zip(replies) {
            verdicts.push(match reply.code {
                _ if reply.is_success() => Verdict::Delivered,
                400.. => self.verdict(reply, &format!("the recipient <{to}>")),
                _ => return Err(out_of_step(reply, "RCPT", "250")),
            });
        }
        let is_taken = verdicts.contains(&Verdict::Delivered);
        let found = |is: fn(&Reply) -> bool| replies.iter().find(|reply| is(reply) && !is_taken).cloned();
        let unready = found(Reply::wants_more_first).map(Stall::Unready);
        let stall = unready.or_else(|| found(Reply::is_transient).map(Stall::Recipients));
        Ok(Answered { verdicts, data: None, stall })
    }

    /// Takes the replies to the message itself, of which `first` is one.
    pub(super) async fn judge(&mut self, verdicts: &mut [Verdict], first: Reply) -> Result<(), Broken> {
        let verdict = self.final_verdict(&first)?;
        match self.dialect {
            Dialect::Smtp => replace_delivered(verdicts, &verdict),
            // RFC 2033, 4.2: a reply for each recipient that was accepted, in their order.
            Dialect::Lmtp => {
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
            Err(Broken::new("server is closing the connection".into()))
        } else {
            self.dialogue.reply(self.dialogue.patience.end).await
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

    pub(super) fn verdict(&mut self, reply: &Reply, what: &str) -> Verdict {
        self.closing |= reply.is_closing();
        if reply.is_transient() {
            Verdict::Later(format!("server cannot take {what} now: {reply}"))
        } else {
            Verdict::Refused(format!("server refused {what}: {reply}"))
        }
    }
}
