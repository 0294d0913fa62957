//! What the tests of delivery targets share.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use postrider::testing::config::Target;
use postrider::testing::delivery::{Access, Draft, MessageId, Outcome, Sink, TargetError};
use postrider::testing::disk::Disk;
use postrider::testing::pop3::UniqueId;

pub const MAILDROP: &str = "alice@pop.example.org";

pub fn id(uid: &str) -> MessageId {
    MessageId { maildrop: MAILDROP.into(), uid: UniqueId::new(uid.as_bytes()), ordinal: 0 }
}

pub async fn open(target: &Target, disk: &Disk) -> Result<Sink, TargetError> {
    let (account, user) = ("home".to_owned(), "alice+lists@example.org".to_owned());
    let access = Access { account, user, timeout: Duration::from_secs(20), ..Access::default() };
    Sink::open(target, MAILDROP.into(), disk.clone(), access).await
}

pub async fn fill(draft: &mut Draft, slices: impl IntoIterator<Item = &[u8]>) -> Result<(), TargetError> {
    for slice in slices {
        draft.write(slice);
        while draft.is_full() {
            draft.flush().await?;
        }
    }
    Ok(())
}

/// Delivers messages in one batch.
pub async fn deliver(sink: &Sink, messages: &[(&str, &[u8])]) -> Result<Vec<Outcome>, TargetError> {
    let mut finished = Vec::new();
    for (uid, octets) in messages {
        let mut draft = sink.draft(id(uid));
        fill(&mut draft, octets.chunks(10_000)).await?;
        finished.push(draft.finish());
    }
    sink.commit(finished).await
}

pub fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Reads the files of `new` and `cur`, sorted by name.
pub fn maildir_files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<(String, PathBuf)> = Vec::new();
    for place in ["Mail/new", "Mail/cur"].map(|place| dir.join(place)).iter().filter(|place| place.exists()) {
        files.extend(names(place).into_iter().map(|name| (name.clone(), place.join(name))));
    }
    files.sort();
    files.into_iter().map(|(_, path)| (path.clone(), fs::read(path).unwrap())).collect()
}

/// Makes a directory in memory where there is one: what is checked here is what is done in which order, and a real
/// disk's thousands of fsyncs would add minutes and nothing else.
pub fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

pub fn maildir(dir: &Path) -> Target {
    Target::Maildir(dir.join("Mail"))
}

pub fn mbox(dir: &Path) -> Target {
    Target::Mbox(dir.join("mbox"))
}

/// Reads the messages of an mbox that begins with `From ` and where an empty line ends each message, unquoted.
pub fn mbox_messages(octets: &[u8]) -> Vec<Vec<u8>> {
    let mut messages: Vec<Vec<u8>> = Vec::new();
    let mut after_empty = true;
    for line in octets.split_inclusive(|octet| *octet == b'\n') {
        if line.starts_with(b"From ") {
            assert!(after_empty, "no empty line before {}", line.escape_ascii());
            messages.push(Vec::new());
        } else {
            let quotes = line.iter().take_while(|octet| **octet == b'>').count();
            let quoted = quotes > 0 && line[quotes..].starts_with(b"From ");
            messages.last_mut().expect("a From line first").extend_from_slice(&line[usize::from(quoted)..]);
        }
        after_empty = line == b"\n";
    }
    for message in &mut messages {
        assert_eq!(message.pop(), Some(b'\n'), "no empty line after a message");
    }
    messages
}

pub fn mbox_file(dir: &Path) -> Vec<Vec<u8>> {
    mbox_messages(&fs::read(dir.join("mbox")).unwrap_or_default())
}

pub fn assert_unlocked(dir: &Path) {
    assert!(!dir.join("mbox.lock").exists(), "the dot-lock is still there");
}

pub fn assert_tmp_is_empty(dir: &Path) {
    assert_eq!(names(&dir.join("Mail/tmp")), Vec::<String>::new());
}
