//! What a session is asked to do.

/// What a session is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    Sync(Limits),
    /// Say what `Sync` would do; change nothing.
    DryRun(Limits),
    /// Count what is new and what is there; change nothing.
    Check(Retry),
    /// Take what is there now as already fetched (`seen mark --all`).
    MarkAll(Retry),
}

/// When a log-in that the server refused may be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Retry {
    /// When its wait is over.
    #[default]
    InTime,
    /// Once now: a person wants it.
    Now,
}

impl Task {
    /// Says when a refused log-in may be tried again.
    pub fn retry(self) -> Retry {
        match self {
            Self::Sync(limits) | Self::DryRun(limits) => limits.retry,
            Self::Check(retry) | Self::MarkAll(retry) => retry,
        }
    }
}

/// Limits of one run beside the account's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Fetch at most this many messages.
    pub limit: Option<usize>,
    /// After how much others get their turn. Where the server wants time between two log-ins that is no limit, so that each
    /// takes all it can.
    pub turn: Option<Budget>,
    pub deletions: MayDelete,
    /// When a refused log-in may be tried again.
    pub retry: Retry,
}

/// What a session may fetch before others get their turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    pub messages: usize,
    /// After so many octets no other message is begun.
    pub octets: u64,
}

/// Whether this run may delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MayDelete {
    #[default]
    AsConfigured,
    NotNow,
}
