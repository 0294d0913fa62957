//! What a server is like and what happens to it: plain values, drawn by a seed, that shrink by being left out.

mod drawn;

use std::collections::BTreeSet;
use std::fmt::{Debug, Write};

pub use postrider::testing::config::Order;

use Event::*;

pub const MINUTE: i64 = 60;
pub const HOUR: i64 = 60 * MINUTE;
pub const DAY: i64 = 24 * HOUR;

/// A whole story.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    pub uids: Uids,
    pub top: Top,
    pub sizes: Sizes,
    pub writes: Writes,
    pub deletes: Deletes,
    /// Whether PIPELINING is announced.
    pub pipelining: bool,
    pub keep: Keep,
    pub first: First,
    pub order: Order,
    /// The account's `max_messages`.
    pub limit: Option<usize>,
    /// Seconds between polls while things happen.
    pub step: i64,
    /// Polls while things happen; more follow until all is at rest.
    pub polls: usize,
    /// What happens before or in which poll, in order.
    pub events: Vec<(usize, Event)>,
}

/// Where unique-ids come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Uids {
    /// Never used again.
    Honest,
    /// The smallest number that is free.
    Small,
    /// The message-numbers.
    Numbers,
    /// A digest of the header (solid-pop3d).
    Header,
    /// A digest of Received alone (popa3d).
    Received,
    /// Others in each session.
    Random,
    /// A counter that looks like message-numbers for as long as nothing is deleted.
    Plain,
    /// UIDL is an unknown command.
    Missing,
    /// UIDL is answered +OK, and shows nothing.
    Empty,
    /// Every other message has none.
    Holes,
}

/// What TOP shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Top {
    /// The header that RETR shows.
    Works,
    /// Nothing: an unknown command.
    Missing,
    /// A header with another Received line.
    Another,
    /// The header without Message-ID.
    Nameless,
}

/// How octets are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sizes {
    Exact,
    /// Too few until the first RETR.
    Estimate,
}

/// What the server writes into the header of what was fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writes {
    Nothing,
    Status,
    /// Before anything else in the header.
    XUidl,
}

/// What becomes of DELE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deletes {
    Honest,
    /// Answered +OK, and forgotten.
    Ignored,
    /// Answered -ERR.
    Refused,
    /// Carried out even where the session ends without QUIT.
    WithoutQuit,
    /// No QUIT is answered, and none is obeyed where anything was to be deleted.
    LosesQuit,
    /// No QUIT is answered, and each is obeyed.
    AnswersNoQuit,
}

/// The account's `keep`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    Nothing,
    TwoWeeks,
    Forever,
}

/// What the first poll does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum First {
    /// Fetches all.
    All,
    /// `seen mark --all`.
    Marks,
    /// `first_sync: none`.
    Skips,
}

/// Something that happens. Numbers are taken modulo what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A message comes; the number says which earlier one it is like.
    Arrive(Kind, usize, Flaw),
    /// Another client deletes a message that this poll was shown, before its RETR.
    Vanish(usize),
    /// Another client deletes a message.
    OtherDeletes(usize),
    /// The mailbox comes back from a backup: what was deleted is there again.
    Restore,
    /// All unique-ids become others.
    Renumber,
    /// All sizes are counted otherwise.
    Recount,
    /// The last message is exchanged for another of its unique-id and size.
    Swap,
    /// This poll is shown an empty maildrop.
    ShowNothing,
    /// This poll is shown every other message.
    ShowHalf(usize),
    /// UIDL shows nothing this time.
    EmptyUidl,
    /// UIDL leaves out every other message this time.
    Holes(usize),
    /// This poll's deletions are answered and not carried out.
    ForgetDeletions,
    /// The answer to QUIT does not come; the deletions are real, or not.
    LoseQuit { obeyed: bool },
    /// The connection is dropped instead of an answer to the so-manieth command in TRANSACTION state.
    Break(usize),
    /// The program is killed.
    Kill(At),
    /// The state file is lost.
    LoseState,
    /// The state file is restored as it was so many polls ago.
    OldState(usize),
    /// The clock jumps by so many seconds.
    Clock(i64),
    /// A reader opens the new messages.
    Read,
    /// A reader files all messages elsewhere.
    File,
}

/// What a message is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// With a Message-ID, a Date and a Received line of its own.
    Normal,
    /// Without one of them; its header is still no other's.
    Weak,
    /// The header of another, another body, another size.
    SameHeader,
    /// The header of another, another body, the same size.
    SameSize,
    /// The octets of another.
    Equal,
}

/// What is wrong with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    Sound,
    /// The connection breaks at its RETR, before its first octet, the first so many times (0: always).
    BreaksBefore(u32),
    /// Amid it.
    BreaksIn(u32),
    /// After it was sent whole.
    BreaksAfter(u32),
    /// RETR is refused.
    Refused(u32),
    /// RETR is refused with a response code.
    Coded(u32),
    /// Behind it comes a line that answers nothing.
    Garbled(u32),
    /// It comes without an octet.
    Zero(u32),
    /// It is large, and a fifth of it comes.
    Short(u32),
    /// The connection breaks at its DELE.
    DeleBreaks,
    /// RETR is not answered. What follows is, and then the connection ends.
    Unanswered(u32),
    /// The same with an end that lacks its LF.
    Swallows(u32),
    /// RETR is answered twice.
    Doubled(u32),
}

/// When the program is killed in a poll. Numbers are counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// Before the listing is answered.
    Listing,
    /// Before this TOP is answered.
    Top(usize),
    /// Before this RETR is answered.
    Retr(usize),
    /// Amid the answer to it.
    Amid(usize),
    /// Once this message is durable and visible, before it is recorded.
    Delivered(usize),
    /// Once a message is recorded, before its DELE.
    Recorded(usize),
    /// When this DELE has come, before it is answered.
    Dele(usize),
    /// When QUIT has come, before it is obeyed.
    Quit,
    /// When QUIT was obeyed, before it is answered.
    Obeyed,
}

impl Scenario {
    /// Says whether an event like this happens.
    pub fn has(&self, is: impl Fn(&Event) -> bool) -> bool {
        self.events.iter().any(|(_, event)| is(event))
    }

    /// Gives it without events like this.
    pub fn without(&self, is: impl Fn(&Event) -> bool) -> Self {
        let mut scenario = self.clone();
        scenario.events.retain(|(_, event)| !is(event));
        scenario
    }

    /// Gives it with a kill in some polls, by a rule that any story has.
    pub fn with_more_kills(&self) -> Self {
        const POINTS: [At; 11] = [
            At::Delivered(0),
            At::Retr(1),
            At::Quit,
            At::Recorded(0),
            At::Dele(0),
            At::Amid(0),
            At::Obeyed,
            At::Listing,
            At::Top(0),
            At::Delivered(1),
            At::Dele(1),
        ];
        let mut scenario = self.clone();
        for poll in 0..self.polls {
            let count = self.events.len() + 7 * poll;
            if count.is_multiple_of(3) {
                scenario.events.push((poll, Kill(POINTS[count / 3 % POINTS.len()])));
            }
        }
        scenario
    }

    /// Names all that it has of servers, policies and events: each of a kind by one name.
    pub fn kinds(&self) -> BTreeSet<String> {
        let name = |value: &dyn Debug| {
            let shown = format!("{value:?}");
            shown.split(['(', ' ']).next().unwrap_or_default().to_owned()
        };
        let mut kinds = BTreeSet::from([
            format!("uids {}", name(&self.uids)),
            format!("top {}", name(&self.top)),
            format!("sizes {}", name(&self.sizes)),
            format!("writes {}", name(&self.writes)),
            format!("deletes {}", name(&self.deletes)),
            format!("keep {}", name(&self.keep)),
            format!("first {}", name(&self.first)),
            format!("order {}", name(&self.order)),
        ]);
        for (_, event) in &self.events {
            kinds.insert(match event {
                Arrive(kind, _, Flaw::Sound) => format!("message {}", name(kind)),
                Arrive(_, _, flaw) => format!("flaw {}", name(flaw)),
                Kill(at) => format!("kill {}", name(at)),
                other => format!("event {}", name(other)),
            });
        }
        kinds
    }

    /// Gives it as the expression that makes it.
    pub fn told(&self) -> String {
        let mut told = String::from("Scenario {\n");
        let plain = Self::plain();
        let mut line = |name: &str, value: String, usual: String| {
            if value != usual {
                let _ = writeln!(told, "    {name}: {value},");
            }
        };
        line("uids", format!("Uids::{:?}", self.uids), format!("Uids::{:?}", plain.uids));
        line("top", format!("Top::{:?}", self.top), format!("Top::{:?}", plain.top));
        line("sizes", format!("Sizes::{:?}", self.sizes), format!("Sizes::{:?}", plain.sizes));
        line("writes", format!("Writes::{:?}", self.writes), format!("Writes::{:?}", plain.writes));
        line("deletes", format!("Deletes::{:?}", self.deletes), format!("Deletes::{:?}", plain.deletes));
        line("pipelining", self.pipelining.to_string(), plain.pipelining.to_string());
        line("keep", format!("Keep::{:?}", self.keep), format!("Keep::{:?}", plain.keep));
        line("first", format!("First::{:?}", self.first), format!("First::{:?}", plain.first));
        line("order", format!("Order::{:?}", self.order), format!("Order::{:?}", plain.order));
        line("limit", format!("{:?}", self.limit), format!("{:?}", plain.limit));
        line("step", self.step.to_string(), plain.step.to_string());
        line("polls", self.polls.to_string(), String::new());
        let _ = writeln!(told, "    events: vec![");
        for (poll, event) in &self.events {
            let _ = writeln!(told, "        ({poll}, {event:?}),");
        }
        told + "    ],\n    ..Scenario::plain()\n}"
    }

    /// An honest server, hourly polls, everything kept.
    pub fn plain() -> Self {
        Self {
            uids: Uids::Honest,
            top: Top::Works,
            sizes: Sizes::Exact,
            writes: Writes::Nothing,
            deletes: Deletes::Honest,
            pipelining: true,
            keep: Keep::Forever,
            first: First::All,
            order: Order::Oldest,
            limit: None,
            step: HOUR,
            polls: 6,
            events: Vec::new(),
        }
    }
}

impl Uids {
    /// Says whether messages are known by their place, at times at least.
    pub fn are_by_place(self) -> bool {
        !matches!(self, Self::Honest | Self::Small)
    }
}

impl Event {
    /// Says whether what was recorded is lost by it.
    pub fn loses_state(&self) -> bool {
        matches!(self, LoseState | OldState(_))
    }
}

impl Flaw {
    /// Says whether the message never comes whole.
    pub fn lasts(self) -> bool {
        matches!(
            self,
            Self::BreaksBefore(0)
                | Self::Garbled(0)
                | Self::BreaksIn(0)
                | Self::Refused(0)
                | Self::Coded(0)
                | Self::Zero(0)
                | Self::Short(0)
                | Self::Unanswered(0)
                | Self::Swallows(0)
        )
    }

    /// Says whether less of it may come than there is.
    pub fn is_short(self) -> bool {
        matches!(self, Self::Zero(_) | Self::Short(_))
    }
}
