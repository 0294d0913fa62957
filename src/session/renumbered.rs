//! A maildrop whose unique-ids are all new: what was delivered is known by its header.

use std::collections::{HashMap, HashSet};

use crate::pop3::{Listing, UniqueId};
use crate::state::{Delivery, Memory};

use super::headers;
use super::plan::Plan;
use super::poll::Poll;
use super::trouble::{Aborted, During};
use super::wire::Wire;

impl Poll<'_> {
    /// After a renumbering: takes messages whose headers are those of delivered ones as delivered, and says which they
    /// are. All that are not recorded are compared, also those that a limit leaves for later: by then, the maildrop no
    /// longer looks renumbered.
    pub(super) async fn adopt(
        &self,
        wire: &mut Wire,
        listing: &Listing,
        memory: &Memory,
        plan: &Plan,
        pipelined: bool,
    ) -> Result<HashSet<usize>, Aborted> {
        let name = &self.account.name;
        log::warn!(
            "{name}: none of the unique-ids known is left on the server; comparing the headers of the new ones"
        );
        let doing = "compare headers (TOP)";
        let wanted: Vec<usize> =
            plan.steps.iter().filter(|(_, step)| step.is_unrecorded()).map(|(i, _)| *i).collect();
        let digests = headers::digests(wire, listing, &wanted, pipelined).await.during(doing)?;
        let asked: Vec<[u8; 32]> = digests.iter().flatten().copied().collect();
        let mut listed: HashMap<[u8; 32], usize> = HashMap::new();
        asked.iter().for_each(|header| *listed.entry(*header).or_default() += 1);
        let mut found =
            self.environment.store.find_headers(memory.key, asked).await.during(doing)?.into_iter();
        let (mut known, mut adopted) = (Vec::new(), HashSet::new());
        let all = wanted.len();
        for (index, header) in wanted.into_iter().zip(digests) {
            let Some(digest) = header else { continue };
            // Where more messages share a header than were delivered with it, nothing tells which of them is new.
            if found.next().unwrap_or(0) >= listed.get(&digest).copied().unwrap_or(usize::MAX) {
                let message = listing.get(index);
                let (uid, octets) = (UniqueId::new(message.uid), message.octets);
                let delivered_at = Some(self.now);
                known.push((Delivery { uid, ordinal: message.ordinal, octets, header, delivered_at }, ()));
                adopted.insert(index);
            }
        }
        let new = all - known.len();
        log::warn!("{name}: {} messages are known by their headers, {new} are new", known.len());
        self.environment.store.record(memory.key, self.now, known).await.during("write the state")?;
        Ok(adopted)
    }
}
