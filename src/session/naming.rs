//! How a server names its messages. Pure.

use std::collections::HashSet;

use sha2::{Digest, Sha256};

use crate::message::Listing;
use crate::state::Naming;

use super::which::{Evidence, Showing, UniqueIds};

/// Listings in a row with messages that UIDL leaves out, after which those go by their place.
pub const HOLES: u32 = 3;
/// Listings in a row that share no unique-id with the one before, after which all go by their place.
pub const RENAMES: u32 = 2;
/// Unique-ids of a listing of which digests are kept, to see whether the next one shares any.
const SAMPLE: usize = 8;

/// Says whether the unique-ids are nothing but the message-numbers.
pub fn is_numbers(listing: &Listing) -> bool {
    let is_number = |index: usize| {
        let message = listing.shown(index);
        message.uid == message.number.to_string().as_bytes()
    };
    !listing.is_empty() && (0..listing.len()).all(is_number)
}

/// Judges how the server names its messages.
pub fn naming(of: &Evidence<'_>) -> Naming {
    let (listing, entries, before) = (of.listing, of.entries, of.naming);
    let any_hole = (0..listing.len()).any(|index| listing.shown(index).is_hole);
    let holes = match of.showing {
        Showing::Again => before.holes,
        Showing::First if any_hole => before.holes.saturating_add(1),
        Showing::First => 0,
    };
    if of.unique_ids != UniqueIds::Given || listing.is_empty() || any_hole {
        return Naming { holes, ..before.clone() };
    }
    let is_shared = |index: usize| {
        let uid = listing.shown(index).uid;
        if before.sample.is_empty() {
            // What is held has no record.
            of.held.iter().any(|held| held.uid.as_bytes() == uid)
                || entries.of(uid).any(|entry| !entries.get(entry).2.is_missed())
        } else {
            before.sample.chunks_exact(8).any(|sample| sample == sampled(uid))
        }
    };
    let mut renames = before.renames;
    if listing.by_uid().any(is_shared) {
        renames = 0;
    } else if before.sample.is_empty() {
        let known: HashSet<u64> = (0..entries.len())
            .filter(|entry| !entries.is_made(*entry))
            .map(|entry| entries.get(entry).2)
            // One that was deleted more than once was listed again in spite of that.
            .filter(|known| !known.is_missed() && (!known.deleted || known.delete_tries > 1))
            .map(|known| known.octets)
            .chain(of.held.iter().map(|held| held.octets))
            .collect();
        renames += u32::from((0..listing.len()).any(|index| known.contains(&listing.shown(index).octets)));
    }
    let sample = match renames >= RENAMES {
        true => (0..listing.len().min(SAMPLE)).flat_map(|index| sampled(listing.shown(index).uid)).collect(),
        false => Vec::new(),
    };
    Naming { renames, holes, sample }
}

fn sampled(uid: &[u8]) -> [u8; 8] {
    *Sha256::digest(uid).first_chunk().expect("SHA-256 has 32 octets")
}
