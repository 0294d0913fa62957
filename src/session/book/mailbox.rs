//! The messages in a target that is a mailbox on a server and that no record claims.

use std::collections::{HashMap, HashSet};

use crate::message::file::digest_in_mailbox;
use crate::message::{FileDigest, FileId};
use crate::state::{Detail, Kind, Store, Unclaimed};

use super::super::trouble::{During, Failed};
use super::Book;

impl Book<'_> {
    /// Takes stock of messages in a mailbox that may be there unrecorded: which of them no record claims. Others may have
    /// put them there, too.
    pub async fn take_stock_of(
        &mut self,
        mailbox: String,
        store: &Store,
        messages: Vec<FileId>,
    ) -> Result<(), Failed> {
        let known = store.unclaimed(&self.memory.key).await.during("read the state")?;
        let known: HashSet<FileId> = known
            .into_iter()
            .filter_map(|known| match known {
                Unclaimed::File(file) => Some(file),
                Unclaimed::Digest(_) => None,
            })
            .collect();
        let mut claims: HashMap<FileDigest, usize> = HashMap::new();
        if !messages.is_empty() {
            let entries = &self.memory.entries;
            let is_delivered = |entry: &usize| entries.get(*entry).2.kind == Kind::Delivered;
            let delivered: Vec<usize> = (0..entries.len()).filter(is_delivered).collect();
            self.load(store, delivered.clone()).await?;
            for entry in delivered {
                let Detail { identities: [Some(identity), _], content: Some(content), .. } =
                    self.details[&entry]
                else {
                    continue;
                };
                *claims.entry(digest_in_mailbox(&mailbox, identity, content)).or_default() += 1;
            }
        }
        for message in messages.into_iter().filter(|message| !known.contains(message)) {
            match claims.get_mut(&message.digest).filter(|claims| **claims > 0) {
                Some(claims) => *claims -= 1,
                None => self.unclaimed.entry(message.digest).or_default().push(message),
            }
        }
        for message in known {
            self.unclaimed.entry(message.digest).or_default().push(message);
        }
        self.mailbox = Some(mailbox);
        Ok(())
    }

    /// Gives the messages in a mailbox that no record has claimed.
    pub fn left_unclaimed(&self) -> Vec<Unclaimed> {
        match &self.mailbox {
            Some(_) => self.unclaimed.values().flatten().copied().map(Unclaimed::File).collect(),
            None => Vec::new(),
        }
    }
}
