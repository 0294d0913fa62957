//! A maildrop in mbox form, as a local delivery and a local reader treat it.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;

use super::chroot::MAIL;

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
