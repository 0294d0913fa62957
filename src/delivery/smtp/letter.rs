//! A message with its envelope, and what becomes of it for each recipient.

use crate::delivery::spool::{Content, Spooled};
use crate::delivery::{Others, Outcome};
use crate::smtp::Reply;

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
    /// That the server took nothing, if that may be its own trouble and not the message's.
    pub(super) stall: Option<Stall>,
}

/// The server could not take a message now, and may be no better with the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stall {
    /// 4yz to MAIL: no messages at all now (Postfix's rate limits, OpenSMTPD's hundred messages a connection).
    Mail(Reply),
    /// 4yz to RCPT, and no recipient was taken.
    Recipients(Reply),
    /// It ends the connection instead of taking the message (421): its filter may be away, or choke on this one.
    End(Reply),
    /// It wants TLS or a log-in first (530), whatever the message.
    Unready(Reply),
}

/// Whether the commands of a message have left with the end of the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ahead {
    Sent,
    NotSent,
}

/// What the server said to MAIL, RCPT and DATA.
#[derive(Default)]
pub(super) struct Answered {
    /// Of the sender and the recipients; `Delivered`: nothing against it so far.
    pub(super) verdicts: Vec<Verdict>,
    /// The reply to DATA, if it was sent and is worth looking at.
    pub(super) data: Option<Reply>,
    pub(super) stall: Option<Stall>,
}

impl Letter {
    /// Puts together what became of a message for all its recipients.
    pub(super) fn outcome(&self, verdicts: Vec<Verdict>) -> Outcome {
        let mut delivered = self.message.reached.clone();
        let mut later = None;
        let mut refused = None;
        for (to, verdict) in self.to.iter().zip(verdicts) {
            match verdict {
                Verdict::Delivered => delivered.push(to.clone()),
                Verdict::Later(why) => drop(later.get_or_insert(why)),
                Verdict::Refused(why) => drop(refused.get_or_insert(why)),
            }
        }
        let gained = delivered.len() > self.message.reached.len();
        match (later, refused) {
            (None, None) => Outcome::Delivered,
            (Some(reason), _) if gained => Outcome::Partly { delivered, reason, others: Others::Later },
            (None, Some(reason)) if gained => Outcome::Partly { delivered, reason, others: Others::Refused },
            (Some(why), _) => Outcome::Later(why),
            (None, Some(why)) => Outcome::Refused(why),
        }
    }

    /// Says whether there may be an octet above 127; a large message is not read for that.
    pub(super) fn may_be_eight_bit(&self) -> bool {
        match &self.message.content {
            Content::Memory(octets) => !octets.as_ref().is_ascii(),
            Content::File(_) => true,
        }
    }
}

/// Puts another verdict in the place of each [`Verdict::Delivered`].
pub(super) fn replace_delivered(verdicts: &mut [Verdict], by: &Verdict) {
    verdicts.iter_mut().filter(|verdict| **verdict == Verdict::Delivered).for_each(|each| *each = by.clone());
}
