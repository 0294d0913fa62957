//! What came of confining.

pub(super) enum Confined {
    Wholly,
    /// To the needs, as far as an older kernel can: the word says how far.
    Partly(String),
    /// Not at all, and why.
    Not(String),
}
