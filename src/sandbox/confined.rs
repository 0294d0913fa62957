//! What came of confining.

/// What came of confining a process.
pub(super) enum Confined {
    /// To the needs, wholly.
    Wholly,
    /// To the needs, as far as an older kernel can: the word says how far.
    Partly(String),
    /// Not at all, and why.
    Not(String),
}
