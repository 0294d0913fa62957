//! The key to DELE.

/// Proof that a message is durably recorded as delivered, and that this session has seen it to be that message; only
/// the state makes one.
#[derive(Debug)]
pub struct Recorded<T>(pub(super) T);

impl<T> Recorded<T> {
    /// Gives what it is the proof for.
    pub fn get(&self) -> &T {
        &self.0
    }

    /// Says the same of a part of it.
    pub fn map<U>(self, part: impl FnOnce(T) -> U) -> Recorded<U> {
        Recorded(part(self.0))
    }
}
