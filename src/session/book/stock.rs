//! What lies in a target, and that no record claims.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::delivery::{Leftover, Sink};
use crate::message::file::{
    digest_in_mailbox, digest_of_content, digest_of_name, name_in_mailbox, sender_of,
};
use crate::message::in_mailbox::UNREAD;
use crate::message::{Content, FileDigest, FileId, Fingerprint, UniqueId};
use crate::state::{Detail, Kind, MaildropKey, Memory, RecordedFiles, Store, Timestamp, Unclaimed};
use crate::text::hex;

use super::super::trouble::{During, Failed};

/// How many files in a row, of those that version 0.1.0 gave one name and counted, may be gone.
const GAP: u32 = 4;

/// What lies in a target, and that no record claims; each may be one message that comes.
#[derive(Debug, Default)]
pub struct Stock {
    maildrop: Arc<str>,
    /// The target, if it is a mailbox on a server.
    mailbox: Option<String>,
    /// By their digests; of messages in a mailbox by what their senders say.
    unclaimed: HashMap<FileDigest, Vec<FileId>>,
    /// How many of the messages that a mailbox has are recorded without anybody knowing which they are.
    claims: HashMap<FileDigest, usize>,
    /// Those of them that earlier sessions found in a mailbox, and the messages that were listed then.
    kept: HashSet<FileId>,
    listed: HashSet<(UniqueId, u32)>,
    /// How many recorded messages consist of the same, where that is counted.
    copies: HashMap<Content, u32>,
    /// Files that were found to belong to no record, for the state.
    pub found: Vec<Unclaimed>,
}

/// Whether messages are to come that may be among those that were found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToCome {
    Nothing,
    Some,
    /// Some that the server has not named yet, so that nobody can say later that they were listed now.
    Unnamed,
}

/// Whose stock is taken, and what is recorded.
#[derive(Clone, Copy)]
pub struct Inventory<'a> {
    pub maildrop: &'a Arc<str>,
    /// The target, as it is recorded.
    pub target: &'a str,
    pub memory: &'a Memory,
    pub store: &'a Store,
}

impl Stock {
    /// Takes stock of what was found in a target.
    pub async fn take(of: Inventory<'_>, sink: &Sink, there: Vec<FileId>) -> Result<Self, Failed> {
        let known = of.store.unclaimed(&of.memory.key).await.during("read the state")?;
        let mut stock = Self {
            maildrop: of.maildrop.clone(),
            mailbox: sink.mailbox().map(|mailbox| mailbox.name().to_owned()),
            ..Self::default()
        };
        match sink.mailbox() {
            Some(mailbox) => {
                let there = there.into_iter().zip(mailbox.recorded_as()).collect();
                stock.messages(of, mailbox.name(), there, (known, mailbox.since())).await?;
            }
            None => stock.files(of, there, known.into_iter().collect()).await?,
        }
        if sink.facts().counts_copies {
            let recorded = of.store.contents(&of.memory.key).await.during("read the state")?;
            let reached = of.memory.reached.iter().filter(|reached| reached.is_in(of.target));
            for content in recorded.into_iter().chain(reached.filter_map(|reached| reached.content)) {
                *stock.copies.entry(content).or_default() += 1;
            }
        }
        if sink.has_ids() {
            let mut files = of.store.files(&of.memory.key).await.during("read the state")?;
            let holders = of.memory.reached.iter().flat_map(|reached| &reached.targets);
            files
                .extend(holders.filter(|holder| holder.target == of.target).filter_map(|holder| holder.file));
            sink.know(files);
        }
        Ok(stock)
    }

    /// Finds the files in a maildir that no record claims.
    async fn files(
        &mut self,
        of: Inventory<'_>,
        files: Vec<FileId>,
        known: HashSet<Unclaimed>,
    ) -> Result<(), Failed> {
        let Memory { entries, left, newest_file, reached, .. } = of.memory;
        let mut claimed: HashSet<FileId> =
            reached.iter().flat_map(|reached| &reached.targets).filter_map(|holder| holder.file).collect();
        let mut digests = HashSet::new();
        if left.is_unclosed() {
            let all: Vec<usize> = (0..entries.len()).collect();
            for (entry, detail) in all.iter().zip(of.details(all.clone()).await?) {
                match detail.files {
                    RecordedFiles::Files(files) => claimed.extend(files),
                    RecordedFiles::ByName => {
                        let (uid, ordinal, _) = entries.get(*entry);
                        digests.insert(digest_of_name(&self.maildrop, uid, ordinal));
                    }
                }
            }
        }
        for file in files {
            let is_found = (left.is_unclosed() || file.time > *newest_file)
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

    /// Finds the messages in a mailbox that no record claims. Others may have put them there, too; records from before
    /// `since` have theirs elsewhere.
    async fn messages(
        &mut self,
        of: Inventory<'_>,
        mailbox: &str,
        messages: Vec<(FileId, FileDigest)>,
        (known, since): (Vec<Unclaimed>, Timestamp),
    ) -> Result<(), Failed> {
        self.kept = known
            .into_iter()
            .filter_map(|known| match known {
                Unclaimed::File(file) => file.uid().map(|_| file),
                Unclaimed::Digest(_) => None,
            })
            .collect();
        if !self.kept.is_empty() {
            let Memory { entries, held, .. } = of.memory;
            let pending = (0..entries.len()).map(|entry| entries.get(entry));
            let pending = pending.filter(|(_, _, known)| known.kind == Kind::Pending);
            let pending = pending.map(|(uid, ordinal, _)| (UniqueId::new(uid), ordinal));
            self.listed = pending.chain(held.iter().map(|held| (held.uid.clone(), held.ordinal))).collect();
        }
        let mut claims: HashMap<FileDigest, usize> = HashMap::new();
        if !messages.is_empty() {
            let Memory { entries, reached, .. } = of.memory;
            let is_delivered = |entry: &usize| {
                let known = entries.get(*entry).2;
                known.kind == Kind::Delivered && known.delivered_at.is_some_and(|at| at >= since)
            };
            let delivered: Vec<usize> = (0..entries.len()).filter(is_delivered).collect();
            let recorded = of.details(delivered).await?.into_iter().filter_map(|detail| match detail {
                Detail { identities: [Some(identity), _], content: Some(content), .. } => {
                    Some((identity, content))
                }
                _ => None,
            });
            let reached = reached.iter().filter(|reached| reached.is_in(of.target));
            let reached = reached.filter_map(|reached| reached.identity.zip(reached.content));
            for (identity, content) in recorded.chain(reached) {
                *claims.entry(digest_in_mailbox(mailbox, identity, content)).or_default() += 1;
            }
        }
        let new = messages.into_iter().filter(|(message, _)| !self.kept.contains(message));
        for (message, recorded) in new {
            match claims.get_mut(&recorded).filter(|claims| **claims > 0) {
                Some(claims) => *claims -= 1,
                None => self.unclaimed.entry(sender_of(message.digest)).or_default().push(message),
            }
        }
        for message in &self.kept {
            self.unclaimed.entry(sender_of(message.digest)).or_default().push(*message);
        }
        claims.retain(|_, claims| *claims > 0);
        self.claims = claims;
        Ok(())
    }

    /// Counts the recorded messages that consist of the same as this one.
    pub fn copies(&self, whole: &Fingerprint) -> u32 {
        self.copies.get(&whole.content).copied().unwrap_or(0)
    }

    /// Takes what may be this message, of which the listing shows name and ordinal.
    pub fn claim(&mut self, (uid, ordinal): (&[u8], u32), whole: &Fingerprint) -> Option<FileId> {
        if self.unclaimed.is_empty() {
            return None;
        }
        if let Some(mailbox) = &self.mailbox {
            let recorded = digest_in_mailbox(mailbox, whole.identity, whole.content);
            self.let_records_claim(recorded, name_in_mailbox(mailbox, &whole.in_mailbox));
            return self.offer((uid, ordinal), whole);
        }
        let mut digests = vec![
            digest_of_content(&self.maildrop, &whole.content),
            digest_of_name(&self.maildrop, uid, ordinal),
        ];
        // As version 0.1.0 named those without a unique-id: by header, or by content without TOP, and those of one name
        // were counted. Some of them may be gone.
        for name in [old_name("header:", &whole.header[0]), old_name("content:", &whole.content.0)] {
            let of_name = |ordinal| digest_of_name(&self.maildrop, name.as_bytes(), ordinal);
            let is_there = |digest: &FileDigest| self.unclaimed.contains_key(digest);
            digests.extend((0..GAP).map(of_name));
            digests.extend((GAP..u32::MAX).map(of_name).take_while(is_there));
        }
        digests.iter().find_map(|digest| {
            let files = self.unclaimed.get_mut(digest)?;
            (!files.is_empty()).then(|| files.remove(0))
        })
    }

    /// Takes away what earlier messages are that were equal to the one that is recorded so: which of those in the mailbox,
    /// nobody knows where the server has changed them.
    fn let_records_claim(&mut self, recorded: FileDigest, name: FileDigest) {
        let Some(claims) = self.claims.remove(&recorded) else { return };
        let messages = self.unclaimed.entry(sender_of(name)).or_default();
        for _ in 0..claims {
            let equal = messages.iter().position(|message| message.digest == name);
            if let Some(at) = equal.or((!messages.is_empty()).then_some(0)) {
                messages.remove(at);
            }
        }
    }

    /// Gives a message in a mailbox that may be this one, the likeliest if there are several, else each in its turn. What
    /// earlier sessions found is none that has come to be listed since.
    fn offer(&mut self, (uid, ordinal): (&[u8], u32), whole: &Fingerprint) -> Option<FileId> {
        let was_listed = !self.kept.is_empty() && self.listed.contains(&(UniqueId::new(uid), ordinal));
        let known = &whole.in_mailbox;
        let name = name_in_mailbox(self.mailbox.as_ref()?, known);
        let messages = self.unclaimed.get_mut(&sender_of(name))?;
        let likeliness = |message: &FileId| {
            let is_equal = message.digest == name;
            let may_be = (was_listed || !self.kept.contains(message))
                && (is_equal || known.is_certain || message.digest[8..] == UNREAD);
            may_be.then_some(1 + 2 * u8::from(is_equal) + u8::from(message.has(whole.octets)))
        };
        let ranked = messages.iter().enumerate().filter_map(|(at, message)| Some((likeliness(message)?, at)));
        let (_, at) = ranked.max_by_key(|(likeliness, at)| (*likeliness, std::cmp::Reverse(*at)))?;
        let message = messages.remove(at);
        messages.push(message);
        Some(message)
    }

    /// Keeps what was found in a mailbox and belongs to no record, as long as messages are to come of which it may be one:
    /// the mailbox is not looked at again.
    pub async fn settle(
        &self,
        maildrop: &MaildropKey,
        store: &Store,
        sink: &Sink,
        to_come: ToCome,
    ) -> Result<Leftover, Failed> {
        if to_come == ToCome::Unnamed {
            return Ok(Leftover::SoughtAgain);
        }
        if to_come == ToCome::Nothing {
            if !self.kept.is_empty() {
                store.forget_messages(maildrop).await.during("write the state")?;
            }
            return Ok(Leftover::Nothing);
        }
        let Some(mailbox) = sink.mailbox() else { return Ok(Leftover::Nothing) };
        let unclaimed = self.unclaimed.values().flatten();
        let found = unclaimed.filter(|found| !self.kept.contains(found) && !mailbox.has_claimed(found));
        let found: Vec<Unclaimed> = found.copied().map(Unclaimed::File).collect();
        if found.is_empty() && self.kept.is_empty() {
            return Ok(Leftover::Nothing);
        }
        if !found.is_empty() {
            store.publishing(maildrop, found).await.during("write the state")?;
        }
        Ok(Leftover::Kept)
    }
}

impl Inventory<'_> {
    async fn details(&self, entries: Vec<usize>) -> Result<Vec<Detail>, Failed> {
        let details = self.store.details(&self.memory.key, &self.memory.entries, entries).await;
        details.during("read the state")
    }
}

/// Makes a name as version 0.1.0 did.
pub(super) fn old_name(of: &str, digest: &[u8; 32]) -> String {
    format!("{of}{}", hex(digest))
}
