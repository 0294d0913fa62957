//! What became of a message.

use crate::message::FileId;

/// What became of a finished message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is in the target and stays there whatever happens: file and directory are durable.
    Delivered,
    /// The identical message was already there (and is durable now); nothing was added.
    AlreadyThere,
    /// As [`Self::Delivered`], and the target knows it by an id.
    Filed(FileId),
    /// As [`Self::Delivered`], but the target has made one of it and another message, as the warning says: it stays where
    /// it came from.
    Merged(String),
    /// The target could not take it now; the reason is for the user.
    Later(String),
    /// It was sent, and the answer never came: it may be there. The reason is for the user.
    InDoubt(String),
    /// It was sent, the answer never came, and it would be there twice if it was sent again: that is for a person to decide.
    /// The reason is for the user.
    Unknown(String),
    /// The target does not want it; the reason is for the user.
    Refused(String),
    /// Some recipients have it, and others do not.
    Partly {
        /// Who has it, those of earlier sessions included.
        delivered: Vec<String>,
        /// Why others have not; for the user.
        reason: String,
        /// Whether one of them may get it later.
        others: Others,
    },
    /// It was not this message's turn: the target failed before, and [`super::Sink::failure`] says how, or the process was
    /// asked to end.
    NotTried,
}

/// What may become of recipients who did not get a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Others {
    /// At least one could not get it now.
    Later,
    /// All of them were refused.
    Refused,
}

/// What becomes of messages that were found in a mailbox on a server and belong to no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leftover {
    /// Nothing that is still to come can be one of them.
    Nothing,
    /// They are kept in the state.
    Kept,
    /// They are looked for again by the next session.
    SoughtAgain,
}
