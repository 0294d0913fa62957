//! At which message a session broke.

use crate::message::Listing;
use crate::pop3::Request;

use super::server::Trial;

/// How a session broke while messages were retrieved.
#[derive(Debug)]
pub struct Broke {
    pub at: Blamed,
    /// What was asked for and had not come, by index in the listing: answers may have been lost with the connection, so
    /// that it may have been any of these.
    pub under_way: Vec<usize>,
    pub silent: bool,
    /// What the server may not have taken: to be left out at the next attempt.
    pub suspect: Option<Trial>,
    /// The message that had come and whose end was to be proven, and what is to be made of it.
    pub end: Option<(usize, End)>,
}

/// What a session broke at; messages by index in the listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blamed {
    Message(usize),
    /// At this one, after all of it had come.
    Had(usize),
    Deletion(usize),
    /// At the TOP of a message behind which others had been sent.
    Headers,
    /// At nothing that tells.
    Nobody,
}

/// What is to be made of the end of a message behind which the session broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The connection ended, and as much had come as was listed: that is all.
    Certain,
    /// The connection ended, and nothing says that this was all.
    Unproven,
    /// What followed is no reply, and less had come than was listed: it was not the end.
    Doubtful,
    /// What followed is no reply, though as much had come as was listed.
    Followed,
}

/// What was going on when a session broke; messages by index in the listing.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// What is to be answered next.
    pub awaited: Option<Request>,
    /// The message that was coming in.
    pub incoming: Option<usize>,
    /// The one that had come, with nothing behind it that proved its end.
    pub doubtful: Option<usize>,
    /// The one that was to come next.
    pub next: Option<usize>,
}

/// Finds what a session broke at.
pub fn blamed(moment: Moment, listing: &Listing) -> Blamed {
    match (moment.incoming.or(moment.doubtful), moment.awaited) {
        // What follows a message and is no reply may be the rest of it. One that came whole is not doubtful.
        (Some(index), _) => Blamed::Message(index),
        (None, Some(Request::Dele(number))) => listing.find(number).map_or(Blamed::Nobody, Blamed::Deletion),
        (None, Some(Request::Retr(_))) => moment.next.map_or(Blamed::Nobody, Blamed::Message),
        (None, _) => Blamed::Nobody,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{ListingBuilder, MessageNumber};

    #[test]
    fn the_message_that_comes_or_is_to_come_next_is_blamed() {
        let mut builder = ListingBuilder::default();
        (1..=4).for_each(|number| builder.size(Some((MessageNumber(number), 1))));
        let listing = builder.build();
        let blamed = |moment| blamed(moment, &listing);
        let nothing = Moment { awaited: None, incoming: None, doubtful: None, next: None };
        let number = MessageNumber(3);
        let retr = Moment { awaited: Some(Request::Retr(number)), next: Some(2), ..nothing };
        assert_eq!(blamed(retr), Blamed::Message(2));
        assert_eq!(blamed(Moment { doubtful: Some(1), ..retr }), Blamed::Message(1));
        assert_eq!(blamed(Moment { incoming: Some(2), next: Some(3), ..retr }), Blamed::Message(2));
        let dele = Moment { awaited: Some(Request::Dele(number)), ..retr };
        assert_eq!(blamed(dele), Blamed::Deletion(2));
        assert_eq!(blamed(Moment { awaited: Some(Request::Noop), ..nothing }), Blamed::Nobody);
    }
}
