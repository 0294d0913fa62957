//! The files in the target that no record claims.

use std::collections::HashSet;

use crate::message::file::{digest_in_mailbox, digest_of_content, digest_of_name};
use crate::message::{FileDigest, FileId, Fingerprint};
use crate::state::{RecordedFile, Store, Unclaimed};

use super::super::trouble::{During, Failed};
use super::Book;
use super::names::old_name;

/// How many files in a row, of those that version 0.1.0 gave one name and counted, may be gone.
const GAP: u32 = 4;

impl Book<'_> {
    /// Takes stock of the files in the target: which of them no record claims.
    pub async fn take_stock(&mut self, store: &Store, files: Vec<FileId>) -> Result<(), Failed> {
        let entries = &self.memory.entries;
        let unclosed = self.memory.unclosed;
        let may_claim: Vec<usize> = if unclosed { (0..entries.len()).collect() } else { Vec::new() };
        self.load(store, may_claim.clone()).await?;
        let (mut claimed, mut digests) = (HashSet::new(), HashSet::new());
        for entry in may_claim {
            match self.details[&entry].file {
                RecordedFile::File(file) => drop(claimed.insert(file)),
                RecordedFile::ByName => {
                    let (uid, ordinal, _) = entries.get(entry);
                    digests.insert(digest_of_name(self.maildrop, uid, ordinal));
                }
                RecordedFile::Elsewhere => {}
            }
        }
        let known: HashSet<Unclaimed> =
            store.unclaimed(&self.memory.key).await.during("read the state")?.into_iter().collect();
        for file in files {
            let is_found = (unclosed || file.time > self.memory.newest_file)
                && !claimed.contains(&file)
                && !digests.contains(&file.digest);
            if is_found && !known.contains(&Unclaimed::File(file)) {
                self.found.push(Unclaimed::File(file));
            }
            let is_known =
                known.contains(&Unclaimed::File(file)) || known.contains(&Unclaimed::Digest(file.digest));
            if is_found || is_known {
                self.unclaimed.entry(file.digest).or_default().push(file);
            }
        }
        Ok(())
    }

    /// Takes a file that may be this message.
    pub(super) fn claim(&mut self, index: usize, whole: &Fingerprint) -> Option<FileId> {
        if self.unclaimed.is_empty() {
            return None;
        }
        if let Some(mailbox) = &self.mailbox {
            let messages =
                self.unclaimed.get_mut(&digest_in_mailbox(mailbox, whole.identity, whole.content))?;
            return (!messages.is_empty()).then(|| messages.remove(0));
        }
        let shown = self.listing.shown(index);
        let mut digests = vec![
            digest_of_content(self.maildrop, &whole.content),
            digest_of_name(self.maildrop, shown.uid, shown.ordinal),
        ];
        // As version 0.1.0 named those without a unique-id: by header, or by content without TOP, and those of one name
        // were counted. Some of them may be gone.
        for name in [old_name("header:", &whole.header[0]), old_name("content:", &whole.content.0)] {
            let of_name = |ordinal| digest_of_name(self.maildrop, name.as_bytes(), ordinal);
            let is_there = |digest: &FileDigest| self.unclaimed.contains_key(digest);
            digests.extend((0..GAP).map(of_name));
            digests.extend((GAP..u32::MAX).map(of_name).take_while(is_there));
        }
        digests.iter().find_map(|digest| {
            let files = self.unclaimed.get_mut(digest)?;
            (!files.is_empty()).then(|| files.remove(0))
        })
    }
}
