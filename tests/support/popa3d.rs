//! A private popa3d 1.0.3 (Debian: popa3d): the small POP3 server over an mbox.
//!
//! What is peculiar about it:
//! - A unique-id is a digest of the Received and Delivered-To lines alone: messages without them all share one.
//! - No CAPA, no TLS, no AUTH, no APOP; a refusal is `-ERR` and no word more.
//! - It writes the mbox anew at QUIT if something was deleted; mail that came meanwhile stays.

use super::mbox_file::{OverMbox, Parts};

#[derive(Debug)]
pub struct Popa3d(Parts);

impl OverMbox for Popa3d {
    const MECHANISMS: &'static [&'static str] = &["user-pass"];

    fn run() -> Self {
        let configure = |root: &super::chroot::Root| root.folder("var/lib/popa3d", 0o755, 0);
        Self(Parts::start("/usr/sbin/popa3d", &["popa3d"], "popa3d", configure))
    }

    fn parts(&self) -> &Parts {
        &self.0
    }
}
