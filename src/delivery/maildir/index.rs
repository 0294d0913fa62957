//! Which messages of one maildrop lie in `new` and `cur`.

use std::ffi::OsString;
use std::io;

use super::name::{self, Namer};
use crate::disk::Directory;
use crate::message::{FileDigest as Digest, FileId};

/// Files of one maildrop by digest: about 85 octets each.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// Sorted by digest.
    entries: Vec<Entry>,
    /// For each entry the lengths of what comes before and after the digest in the file's name, and both.
    ends: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    digest: Digest,
    /// Where its ends begin.
    at: u32,
    within: Subdirectory,
}

/// The directory in which a delivered message lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subdirectory {
    New,
    Cur,
}

impl Index {
    /// Reads both directories: `new` first, as messages move from there to `cur`; one that moves meanwhile is seen
    /// in one of them at least.
    pub(super) fn read(
        namer: &Namer,
        new: &Directory,
        cur: &Directory,
    ) -> Result<Self, (Subdirectory, io::Error)> {
        let mut index = Self::default();
        for (within, directory) in [(Subdirectory::New, new), (Subdirectory::Cur, cur)] {
            directory.names(|name| index.add(namer, within, name)).map_err(|error| (within, error))?;
        }
        index.complete();
        Ok(index)
    }

    /// Gives the files that have a digest in their names, and this time if one is given.
    pub(super) fn find<'a>(
        &'a self,
        namer: &'a Namer,
        digest: &Digest,
        time: Option<u64>,
    ) -> impl Iterator<Item = (Subdirectory, OsString)> + use<'a> {
        let first = self.entries.partition_point(|entry| entry.digest < *digest);
        let found = self.entries[first..].partition_point(|entry| entry.digest == *digest);
        self.entries[first..first + found].iter().filter_map(move |entry| {
            let ends = &self.ends[entry.at as usize..];
            let (head, tail) = (usize::from(ends[0]), usize::from(ends[1]));
            let (head, tail) = (&ends[2..2 + head], &ends[2 + head..2 + head + tail]);
            let is_meant = time.is_none() || name::time(head) == time;
            is_meant.then(|| (entry.within, namer.join(&entry.digest, head, tail)))
        })
    }

    pub(super) fn files(&self) -> Vec<FileId> {
        let of = |entry: &Entry| {
            let head = &self.ends[entry.at as usize + 2..][..usize::from(self.ends[entry.at as usize])];
            Some(FileId { digest: entry.digest, time: name::time(head)? })
        };
        self.entries.iter().filter_map(of).collect()
    }

    /// Says whether there is a file that a message may be.
    pub(super) fn has(&self, digest: &Digest) -> bool {
        self.entries.binary_search_by(|entry| entry.digest.cmp(digest)).is_ok()
    }

    /// Ends the adding of names.
    fn complete(&mut self) {
        self.entries.sort_unstable();
        self.entries.shrink_to_fit();
        self.ends.shrink_to_fit();
    }

    fn add(&mut self, namer: &Namer, within: Subdirectory, name: &[u8]) {
        let Some((digest, head, tail)) = namer.parse(name) else { return };
        // File names have 255 octets at most, so all three fit up to 4 GiB of names.
        let lengths = (u32::try_from(self.ends.len()), u8::try_from(head.len()), u8::try_from(tail.len()));
        let (Ok(at), Ok(heads), Ok(tails)) = lengths else { return };
        self.entries.push(Entry { digest, at, within });
        self.ends.extend([heads, tails]);
        self.ends.extend_from_slice(head);
        self.ends.extend_from_slice(tail);
    }
}

#[cfg(test)]
mod tests {
    use super::super::name::{MayBe, Named};
    use super::*;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn every_file_of_a_digest_is_found_under_its_name() {
        let namer = Namer::new("a", OsStr::new("host"));
        let mut index = Index::default();
        let names: Vec<(Subdirectory, String)> = (0..100u8)
            .flat_map(|n| {
                let name =
                    namer.name(&Named { digest: [n % 50; 16], time: namer.time(), may_be: MayBe::None });
                [(Subdirectory::New, name.clone() + ",S=1"), (Subdirectory::Cur, name + ",S=1:2,S")]
            })
            .collect();
        for (within, name) in &names {
            index.add(&namer, *within, name.as_bytes());
        }
        index.add(&namer, Subdirectory::New, b"1795404334.M857660P24084Q1.host");
        index.complete();
        for n in 0..50 {
            let mut found: Vec<_> = index.find(&namer, &[n; 16], None).collect();
            let digits = format!("{n:02x}").repeat(16) + ".host";
            let mut expected: Vec<_> = names
                .iter()
                .filter(|(_, name)| name.contains(&digits))
                .map(|(within, name)| (*within, OsString::from(name)))
                .collect();
            found.sort();
            expected.sort();
            assert_eq!(found, expected);
            assert!(index.has(&[n; 16]));
        }
        assert!(!index.has(&[50; 16]));
        assert_eq!(index.find(&namer, &[50; 16], None).count(), 0);
    }

    #[test]
    fn a_hundred_thousand_messages_take_less_than_ten_megabytes() {
        let namer = Namer::new("a", OsStr::new("mail.department.example.org"));
        let mut index = Index::default();
        for n in 0..100_000u128 {
            let name = namer.join(
                &n.to_be_bytes(),
                b"1732345678.M123456R",
                b".mail.department.example.org,S=4321:2,RS",
            );
            index.add(&namer, Subdirectory::Cur, name.as_bytes());
        }
        index.complete();
        let octets = index.entries.capacity() * size_of::<Entry>() + index.ends.capacity();
        assert!(octets < 10_000_000, "{octets}");
    }
}
