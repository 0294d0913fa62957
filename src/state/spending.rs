//! What may be uploaded in a day where a provider says how much that is: one budget for all that use its log-in.

/// A wish to use some of a day's budget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spending {
    /// Whose budget it is.
    pub name: String,
    /// Days since 1970, UTC.
    pub day: i64,
    /// Octets that may be uploaded in a day.
    pub most: u64,
    /// Octets that are to be uploaded.
    pub octets: u64,
    /// Octets that an earlier wish was granted, and that were not.
    pub unspent: u64,
}

impl Spending {
    /// Gives the octets that were used on a day, as [`super::Store::spend`] has kept them.
    pub fn used(kept: &[u8], day: i64) -> u64 {
        let text = std::str::from_utf8(kept).unwrap_or_default();
        let of_day = text.split_once(' ').filter(|(kept, _)| kept.parse() == Ok(day));
        of_day.and_then(|(_, octets)| octets.parse().ok()).unwrap_or(0)
    }
}
