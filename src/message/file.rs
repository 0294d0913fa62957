//! What tells a file in a maildir from all others of its maildrop.

use sha2::{Digest as _, Sha256};

use super::{Content, Identity, InMailbox};

/// The digest in the name of a file: of maildrop and content, or, as version 0.1.0 had it, of maildrop and unique-id.
pub type FileDigest = [u8; 16];

/// A file in a maildir: two of one content differ in the time. A message in a mailbox on a server has one, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId {
    /// The digest in its name.
    pub digest: FileDigest,
    /// Microseconds since 1970 in its name; of a message in a mailbox, UID and octets, see [`FileId::of_message`].
    pub time: u64,
}

/// Marks messages in mailboxes: no file has such a time.
const MESSAGE: u64 = 1 << 63;
/// Stands for a file where a target has made one of a message and another.
pub const MERGED: FileId = FileId { digest: *b"merged          ", time: MESSAGE };
/// Octets of a message that can be told; more count as so many.
const MOST_OCTETS: u64 = (1 << 31) - 1;

impl FileId {
    /// Names a message in a mailbox by its UID; `octets` are those of RFC822.SIZE, less what was added on delivery.
    pub fn of_message(digest: FileDigest, uid: u32, octets: u64) -> Self {
        Self { digest, time: MESSAGE | octets.min(MOST_OCTETS) << 32 | u64::from(uid) }
    }

    /// Names a message that is known on a server by an id, of which this is the SHA-256.
    pub fn of_id(digest: FileDigest, id: [u8; 32]) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = id;
        Self { digest, time: MESSAGE | u64::from_be_bytes([a, b, c, d, e, f, g, h]) }
    }

    /// Gives the UID of a message in a mailbox; `None` for a file.
    pub fn uid(self) -> Option<u32> {
        (self.time & MESSAGE != 0).then_some((self.time & u64::from(u32::MAX)) as u32)
    }

    /// Says whether a message in a mailbox has so many octets.
    pub fn has(self, octets: u64) -> bool {
        self.time & MESSAGE != 0 && (self.time & !MESSAGE) >> 32 == octets.min(MOST_OCTETS)
    }

    pub fn to_octets(self) -> [u8; 24] {
        let mut octets = [0; 24];
        octets[..16].copy_from_slice(&self.digest);
        octets[16..].copy_from_slice(&self.time.to_be_bytes());
        octets
    }

    /// Writes several, one after the other.
    pub fn all_to_octets(files: &[Self]) -> Vec<u8> {
        files.iter().flat_map(|file| file.to_octets()).collect()
    }

    /// Reads octets that [`FileId::all_to_octets`] gave.
    pub fn all_from_octets(octets: &[u8]) -> Vec<Self> {
        octets.chunks(24).filter_map(Self::from_octets).collect()
    }

    /// Reads octets that [`FileId::to_octets`] gave.
    pub fn from_octets(octets: &[u8]) -> Option<Self> {
        let (digest, time) = octets.split_first_chunk()?;
        Some(Self { digest: *digest, time: u64::from_be_bytes(time.try_into().ok()?) })
    }
}

/// Digests what a message is: that of one maildrop, with this content. Another value would deliver mail again that lies
/// in maildirs already.
pub fn digest_of_content(maildrop: &str, content: &Content) -> FileDigest {
    digest(&[b"content", maildrop.as_bytes(), &content.0], &[])
}

/// Digests what named a message in version 0.1.0: maildrop, unique-id, and which of those in a listing that shared it.
pub fn digest_of_name(maildrop: &str, uid: &[u8], ordinal: u32) -> FileDigest {
    digest(&[maildrop.as_bytes(), uid], &ordinal.to_be_bytes())
}

/// Digests by what a message in a mailbox on a server is known; the first half is that of what its sender says, and is the
/// same for all messages that may be one. `mailbox` names the mailbox for as long as its messages keep their UIDs.
pub fn name_in_mailbox(mailbox: &str, known: &InMailbox) -> FileDigest {
    let mut name = digest(&[b"sender", mailbox.as_bytes(), &known.sender], &[u8::from(known.is_certain)]);
    name[8..].copy_from_slice(&known.rest);
    name
}

/// Gives the half of such a name that all messages share which may be one.
pub fn sender_of(name: FileDigest) -> FileDigest {
    let mut sender = name;
    sender[8..].fill(0);
    sender
}

/// Digests what is recorded of a message in a mailbox on a server: its identity, or its content if it has none.
pub fn digest_in_mailbox(mailbox: &str, identity: Identity, content: Content) -> FileDigest {
    match identity.is_certain() {
        true => digest(&[b"identity", mailbox.as_bytes(), &identity.digest], &[]),
        false => digest(&[b"octets", mailbox.as_bytes(), &content.0], &[]),
    }
}

/// Lengths go before the parts, so that no two give the same octets.
fn digest(parts: &[&[u8]], last: &[u8]) -> FileDigest {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.update(last);
    *hash.finalize().first_chunk().expect("SHA-256 has 32 octets")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_that_differ_in_anything_have_different_digests() {
        let all = [
            digest_of_name("a", b"bc", 0),
            digest_of_name("ab", b"c", 0),
            digest_of_name("a", b"bc", 1),
            digest_of_name("", b"abc", 0),
            digest_of_name("abc", b"", 0),
            digest_of_content("a", &Content([0; 32])),
            digest_of_content("b", &Content([0; 32])),
            digest_of_content("a", &Content([1; 32])),
        ];
        let digests: std::collections::HashSet<_> = all.iter().collect();
        assert_eq!(digests.len(), all.len());
    }

    #[test]
    fn the_digest_of_a_message_is_the_same_in_every_version() {
        let name = digest_of_name("alice@pop.example.org", b"0000000152f3a1c2", 1);
        assert_eq!(crate::text::hex(&name), "18de2c7ca33aefe0011f906d20c65c5a");
        let content = digest_of_content("alice@pop.example.org", &Content([7; 32]));
        assert_eq!(crate::text::hex(&content), "e5aae98ba6e269ad9981407b60a6527a");
    }

    #[test]
    fn a_file_is_read_back_from_its_octets() {
        let file = FileId { digest: [7; 16], time: 1_764_414_000_123_456 };
        assert_eq!(FileId::from_octets(&file.to_octets()), Some(file));
        assert_eq!(FileId::from_octets(&[0; 16]), None);
        assert_eq!(FileId::from_octets(&[0; 25]), None);
        let two = [file, FileId { time: 1, ..file }];
        assert_eq!(FileId::all_from_octets(&FileId::all_to_octets(&two)), two);
        assert_eq!(FileId::all_from_octets(&[]), []);
    }

    #[test]
    fn a_message_in_a_mailbox_is_told_from_files_and_has_uid_and_octets() {
        let message = FileId::of_message([7; 16], u32::MAX, 4096);
        assert_eq!((message.uid(), message.has(4096), message.has(4097)), (Some(u32::MAX), true, false));
        assert!(FileId::of_message([7; 16], 1, u64::MAX).has(1 << 40));
        let file = FileId { digest: [7; 16], time: 1_764_414_000_123_456 };
        assert_eq!((file.uid(), file.has(0)), (None, false));
    }
}
