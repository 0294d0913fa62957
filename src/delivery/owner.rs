//! Root delivers to nobody else's files.
//!
//! What root makes in a user's maildir is root's, and the user can neither read nor remove it; and whoever owns a
//! directory decides, by links and renames at the right moment, where root writes.

use std::path::Path;

use nix::unistd::{Uid, geteuid};

use super::TargetError;
use crate::disk::trust;

/// Refuses a file or directory that belongs to somebody else, if we are root.
pub(super) fn check(owner: Uid, path: &Path) -> Result<(), TargetError> {
    if owner.is_root() || !geteuid().is_root() {
        return Ok(());
    }
    let name = trust::name_of(owner);
    Err(TargetError::Unfit {
        path: path.to_owned(),
        what: format!(
            "belongs to user {name}, and this runs as root, which delivers to nobody else's files; {}, or deliver with \
             `pipe: {{ command: ..., user: {name} }}`",
            trust::as_user(&name)
        ),
    })
}
