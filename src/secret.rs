//! Octets that no log, error or debug print can show.

use std::fmt;

use zeroize::Zeroizing;

/// Holds a password, token or key; wiped when dropped, and shown as `[secret]` by `Debug` and `Display`.
///
/// [`Secret::reveal`] is the only way to the octets, so that every use can be found by its name.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    pub fn new(octets: impl Into<Vec<u8>>) -> Self {
        Self(Zeroizing::new(octets.into()))
    }

    /// Gives the octets to whoever must put them on the wire.
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// Whether a person is there who can be asked for a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// On the controlling terminal.
    Terminal,
    /// A missing one is an error.
    Never,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_printed() {
        let secret = Secret::new(*b"hunter2");
        assert_eq!(format!("{secret} {secret:?}"), "[secret] [secret]");
        assert_eq!(secret.reveal(), b"hunter2");
    }
}
