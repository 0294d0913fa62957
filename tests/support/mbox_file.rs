//! A maildrop in mbox form, as a local delivery and a local reader treat it, and what small servers over one have in
//! common: inetd starts a process for each connection, and there is no TLS.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;

use super::chroot::{Inetd, MAIL, Root, libraries};
use super::real_server::{CRYPTED, RealServer, USER, Way};

const FROM: &[u8] = b"From test@example.org Mon Jan  1 00:00:00 2024\n";

/// An mbox of the user that belongs to mail.
#[derive(Debug)]
pub struct MboxFile(PathBuf);

impl MboxFile {
    /// Makes an empty one.
    pub fn at(path: PathBuf) -> Self {
        fs::write(&path, b"").expect("a maildrop");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("its mode");
        chown(&path, Some(MAIL), Some(MAIL)).expect("its owner");
        Self(path)
    }

    /// Appends messages in one write.
    pub fn append(&self, messages: &[Vec<u8>]) {
        let octets: Vec<u8> = messages.iter().flat_map(|message| entry(message)).collect();
        let mut file = OpenOptions::new().append(true).open(&self.0).expect("the maildrop");
        file.write_all(&octets).expect("what was appended");
    }

    /// Counts the messages.
    pub fn count(&self) -> usize {
        self.entries().len()
    }

    /// Takes all messages away.
    pub fn empty(&self) {
        fs::write(&self.0, b"").expect("the maildrop");
    }

    /// Writes into each header what a local reader does that has shown the message.
    pub fn mark_read(&self) {
        let marked = self.entries().into_iter().map(|entry| {
            let end = entry.windows(2).position(|two| two == b"\n\n").map_or(entry.len(), |end| end + 1);
            [&entry[..end], b"Status: RO\n", &entry[end..]].concat()
        });
        fs::write(&self.0, marked.collect::<Vec<_>>().concat()).expect("the maildrop");
    }

    fn entries(&self) -> Vec<Vec<u8>> {
        let octets = fs::read(&self.0).expect("the maildrop");
        let mut entries: Vec<Vec<u8>> = Vec::new();
        for line in octets.split_inclusive(|octet| *octet == b'\n') {
            match entries.last_mut() {
                Some(entry) if !line.starts_with(b"From ") => entry.extend(line),
                _ => entries.push(line.to_vec()),
            }
        }
        entries
    }
}

fn entry(message: &[u8]) -> Vec<u8> {
    let mut entry = FROM.to_vec();
    for line in message.split_inclusive(|octet| *octet == b'\n') {
        if line.starts_with(b"From ") {
            entry.push(b'>');
        }
        entry.extend(line);
    }
    if !entry.ends_with(b"\n") {
        entry.push(b'\n');
    }
    entry.push(b'\n');
    entry
}

/// A server over an mbox; it ends when this is dropped.
#[derive(Debug)]
pub struct Parts {
    inetd: Inetd,
    maildrop: MboxFile,
    /// Goes last.
    pub root: Root,
}

impl Parts {
    /// Starts a program, which runs as these users and asks PAM by this name, once `configure` has written its files.
    pub fn start(program: &'static str, users: &[&str], pam: &str, configure: impl FnOnce(&Root)) -> Self {
        let root = Root::new(&[program, &format!("{}/security/pam_unix.so", libraries())]);
        root.users(USER, CRYPTED, users);
        let rules = "auth required pam_unix.so\naccount required pam_unix.so\n";
        root.write(&format!("etc/pam.d/{pam}"), rules, 0o644, 0);
        root.folder("var/mail", 0o1777, 0);
        configure(&root);
        let maildrop = MboxFile::at(root.at("var/mail").join(USER));
        let inetd = Inetd::start(root.at("var/log"), root.inetd_command(program));
        Self { inetd, maildrop, root }
    }
}

pub trait OverMbox {
    const MECHANISMS: &'static [&'static str];
    fn run() -> Self;
    fn parts(&self) -> &Parts;
}

impl<S: OverMbox> RealServer for S {
    fn start() -> Self {
        Self::run()
    }

    fn ways(&self) -> Vec<Way> {
        vec![(self.parts().inetd.port, "none")]
    }

    fn mechanisms(&self) -> &'static [&'static str] {
        Self::MECHANISMS
    }

    fn authority(&self) -> &str {
        ""
    }

    fn put(&self, messages: &[Vec<u8>]) {
        self.parts().maildrop.append(messages);
    }

    fn left(&self) -> usize {
        self.parts().maildrop.count()
    }

    fn replace(&mut self, messages: &[Vec<u8>]) {
        self.parts().maildrop.empty();
        self.put(messages);
    }

    fn rebuild(&mut self) {
        self.parts().maildrop.mark_read();
    }

    fn crash(&mut self) {
        self.parts().inetd.kill_sessions();
    }
}
