//! A private popa3d 1.0.3 (Debian: popa3d): the small POP3 server over an mbox.
//!
//! What is peculiar about it:
//! - A unique-id is a digest of the Received and Delivered-To lines alone: messages without them all share one.
//! - No CAPA, no TLS, no AUTH, no APOP; a refusal is `-ERR` and no word more.
//! - It writes the mbox anew at QUIT if something was deleted; mail that came meanwhile stays.

use super::chroot::{Inetd, Root, libraries};
use super::mbox_file::MboxFile;
use super::real_server::{CRYPTED, RealServer, USER, Way};

const PROGRAM: &str = "/usr/sbin/popa3d";

/// A running popa3d; it ends when this is dropped.
#[derive(Debug)]
pub struct Popa3d {
    inetd: Inetd,
    maildrop: MboxFile,
    /// Goes last.
    _root: Root,
}

impl RealServer for Popa3d {
    fn start() -> Self {
        let security = libraries() + "/security";
        let root = Root::new(&[PROGRAM, &format!("{security}/pam_unix.so")]);
        root.users(USER, CRYPTED, &["popa3d"]);
        root.write("etc/pam.d/popa3d", "auth required pam_unix.so\naccount required pam_unix.so\n", 0o644, 0);
        root.folder("var/lib/popa3d", 0o755, 0);
        root.folder("var/mail", 0o1777, 0);
        let maildrop = MboxFile::at(root.at("var/mail").join(USER));
        let command = root.inetd_command(PROGRAM);
        let inetd = Inetd::start(root.at("var/log"), command);
        Self { inetd, maildrop, _root: root }
    }

    fn ways(&self) -> Vec<Way> {
        vec![(self.inetd.port, "none")]
    }

    fn mechanisms(&self) -> &'static [&'static str] {
        &["user-pass"]
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
