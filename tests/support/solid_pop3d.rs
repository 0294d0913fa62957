//! A private solid-pop3d 0.15 (Debian: solid-pop3d) over an mbox.
//!
//! What is peculiar about it:
//! - A unique-id is a digest of the header: messages whose headers are the same share one.
//! - No CAPA, no TLS, no AUTH; APOP with a secret of its own in the user's home, beside USER and PASS.
//! - The maildrop is locked while PASS reads it, with a dot-lock and by fcntl; where another holds the lock, PASS waits
//!   five seconds and is refused: `-ERR can't lock mailbox file`.
//! - An mbox that does not end with an empty line is refused as damaged.

use std::fs;

use super::chroot::MAIL;
use super::mbox_file::{OverMbox, Parts};
use super::real_server::{PASSWORD, USER};

#[derive(Debug)]
pub struct SolidPop3d(Parts);

impl SolidPop3d {
    /// Locks the maildrop as a local delivery does, until [`SolidPop3d::unlock`].
    pub fn lock(&self) {
        // The process that is named runs as long as this test.
        let lock = format!("var/mail/{USER}.lock");
        self.0.root.write(&lock, format!("{}\n", std::process::id()), 0o644, MAIL);
    }

    /// Takes the lock away.
    pub fn unlock(&self) {
        fs::remove_file(self.0.root.at(&format!("var/mail/{USER}.lock"))).expect("the lock");
    }
}

impl OverMbox for SolidPop3d {
    const MECHANISMS: &'static [&'static str] = &["user-pass", "apop"];

    fn run() -> Self {
        Self(Parts::start("/usr/sbin/solid-pop3d", &["solid-pop3d", "spop3d"], "solid-pop3d", |root| {
            let configuration = "<Global>\nMailDropName \"/var/mail/%s\"\nMailDropType mailbox\nLogStatistics no\n</Global>\n";
            root.write("etc/spop3d.conf", configuration, 0o644, 0);
            root.folder("var/lib/solid-pop3d/bulletins", 0o755, 0);
            // As pop_auth writes it.
            let secret: String = PASSWORD.bytes().map(|octet| format!("{:02x}", !octet)).collect();
            root.write(&format!("home/{USER}/.spop3d"), format!("APOPSecret {secret} \n"), 0o600, MAIL);
        }))
    }

    fn parts(&self) -> &Parts {
        &self.0
    }
}
