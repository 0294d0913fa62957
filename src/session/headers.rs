//! Headers by TOP: names for messages whose server has none, and old acquaintances under new unique-ids.

use crate::message::HeaderDigest;
use crate::pop3::{Command, Event, Listing, Request, Status};

use super::wire::{Wire, WireError};

/// TOPs under way at most.
const WINDOW: usize = 256;

/// Digests the headers of the messages at these indices, in order; `None` for those that the server refuses.
///
/// One pipelined `TOP n 0` each (RFC 1939, 7); content for delivery is never taken from TOP, which servers are known
/// to cut.
pub async fn digests(
    wire: &mut Wire,
    listing: &Listing,
    indices: &[usize],
    pipelined: bool,
) -> Result<Vec<Option<[u8; 32]>>, WireError> {
    let mut asked = indices.iter();
    let mut digests = Vec::with_capacity(indices.len());
    let mut digest = HeaderDigest::new();
    loop {
        while wire.unanswered() < if pipelined { WINDOW } else { 1 }
            && let Some(index) = asked.next()
        {
            wire.send(Command::Top(listing.get(*index).number, 0))?;
        }
        if wire.unanswered() == 0 {
            return Ok(digests);
        }
        match wire.event().await? {
            Event::Reply { to: Request::Top(_), status: Status::Err, .. } => digests.push(None),
            Event::Octets { octets, .. } => digest.write(octets),
            Event::End { .. } => digests.push(Some(std::mem::take(&mut digest).finish())),
            Event::Reply { .. } | Event::Line { .. } => {}
        }
    }
}

/// Gives a name made of a digest, `header:0123...`, which no server's unique-id is taken for.
pub fn made_name(of: &str, digest: &[u8; 32]) -> String {
    let hex: String = digest.iter().map(|octet| format!("{octet:02x}")).collect();
    format!("{of}:{hex}")
}

/// Gives every message without a unique-id one made of its header's digest; says how many could not be named.
pub async fn name(wire: &mut Wire, listing: &mut Listing, pipelined: bool) -> Result<usize, WireError> {
    let unnamed: Vec<usize> = (0..listing.len()).filter(|index| listing.get(*index).uid.is_empty()).collect();
    if unnamed.is_empty() {
        return Ok(0);
    }
    let digests = digests(wire, listing, &unnamed, pipelined).await?;
    let mut nameless = 0;
    for (index, digest) in unnamed.into_iter().zip(digests) {
        match digest {
            Some(digest) => {
                listing.name(index, made_name("header", &digest).as_bytes());
            }
            None => nameless += 1,
        }
    }
    listing.index();
    Ok(nameless)
}
