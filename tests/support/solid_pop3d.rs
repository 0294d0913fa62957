//! A private solid-pop3d 0.15 (Debian: solid-pop3d) over an mbox.
//!
//! What is peculiar about it:
//! - A unique-id is a digest of the header: messages whose headers are the same share one.
//! - No CAPA, no TLS, no AUTH; APOP with a secret of its own in the user's home, beside USER and PASS.
//! - The maildrop is locked while PASS reads it, with a dot-lock and by fcntl; where another holds the lock, PASS waits
//!   five seconds and is refused: `-ERR can't lock mailbox file`.
//! - An mbox that does not end with an empty line is refused as damaged.

use std::fs;

use super::chroot::{Inetd, MAIL, Root, libraries};
use super::mbox_file::MboxFile;
use super::real_server::{CRYPTED, PASSWORD, RealServer, USER, Way};

const PROGRAM: &str = "/usr/sbin/solid-pop3d";

/// A running solid-pop3d; it ends when this is dropped.
#[derive(Debug)]
pub struct SolidPop3d {
    inetd: Inetd,
    maildrop: MboxFile,
    root: Root,
}

impl SolidPop3d {
    /// Locks the maildrop as a local delivery does, until [`SolidPop3d::unlock`].
    pub fn lock(&self) {
        // The process that is named runs as long as this test.
        self.root.write(&format!("var/mail/{USER}.lock"), format!("{}\n", std::process::id()), 0o644, MAIL);
    }

    /// Takes the lock away.
    pub fn unlock(&self) {
        fs::remove_file(self.root.at(&format!("var/mail/{USER}.lock"))).expect("the lock");
    }
}

impl RealServer for SolidPop3d {
    fn start() -> Self {
        let security = libraries() + "/security";
        let root = Root::new(&[PROGRAM, &format!("{security}/pam_unix.so")]);
        root.users(USER, CRYPTED, &["solid-pop3d", "spop3d"]);
        let pam = "auth required pam_unix.so\naccount required pam_unix.so\n";
        root.write("etc/pam.d/solid-pop3d", pam, 0o644, 0);
        let configuration =
            "<Global>\nMailDropName \"/var/mail/%s\"\nMailDropType mailbox\nLogStatistics no\n</Global>\n";
        root.write("etc/spop3d.conf", configuration, 0o644, 0);
        root.folder("var/lib/solid-pop3d/bulletins", 0o755, 0);
        root.folder("var/mail", 0o1777, 0);
        // As pop_auth writes it.
        let secret: String = PASSWORD.bytes().map(|octet| format!("{:02x}", !octet)).collect();
        root.write(&format!("home/{USER}/.spop3d"), format!("APOPSecret {secret} \n"), 0o600, MAIL);
        let maildrop = MboxFile::at(root.at("var/mail").join(USER));
        let inetd = Inetd::start(root.at("var/log"), root.inetd_command(PROGRAM));
        Self { inetd, maildrop, root }
    }

    fn ways(&self) -> Vec<Way> {
        vec![(self.inetd.port, "none")]
    }

    fn mechanisms(&self) -> &'static [&'static str] {
        &["user-pass", "apop"]
    }

    fn authority(&self) -> &str {
        ""
    }

    fn put(&self, messages: &[Vec<u8>]) {
        self.maildrop.append(messages);
    }

    fn left(&self) -> usize {
        self.maildrop.count()
    }

    fn replace(&mut self, messages: &[Vec<u8>]) {
        self.maildrop.empty();
        self.put(messages);
    }

    fn rebuild(&mut self) {
        self.maildrop.mark_read();
    }

    fn crash(&mut self) {
        self.inetd.kill_sessions();
    }
}
