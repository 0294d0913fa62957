//! What a message consists of, compared with what lies in the maildir.

use std::io;

use crate::disk::OpenFile;
use crate::message::{self, Fingerprinter, trace};

/// A message's octets, to be compared with a file.
#[derive(Debug, Clone, Copy)]
pub(super) enum Content<'a> {
    Octets(&'a [u8]),
    File(&'a OpenFile, u64),
}

impl Content<'_> {
    /// Says whether a file has just these octets, but for a `Received` line of ours on top of either, which tells when
    /// a message came, and for the fields that servers write.
    pub(super) fn is_in(self, existing: &OpenFile) -> io::Result<bool> {
        let existing = Content::File(existing, existing.size()?);
        Ok(self.digest()? == existing.digest()?)
    }

    fn digest(self) -> io::Result<message::Content> {
        let mut room = vec![0; COMPARED];
        let mut offset = self.trace(&mut room)?;
        let mut fingerprinter = Fingerprinter::new();
        while offset < self.size() {
            let count = COMPARED.min(usize::try_from(self.size() - offset).unwrap_or(COMPARED));
            let octets = self.read(&mut room[..count], offset)?;
            if octets.is_empty() {
                break;
            }
            fingerprinter.write(octets);
            offset += octets.len() as u64;
        }
        Ok(fingerprinter.finish().content)
    }

    fn size(self) -> u64 {
        match self {
            Self::Octets(octets) => octets.len() as u64,
            Self::File(_, size) => size,
        }
    }

    /// Gives the octets of our `Received` line.
    fn trace(self, room: &mut [u8]) -> io::Result<u64> {
        let most = room.len().min(trace::LONGEST).min(usize::try_from(self.size()).unwrap_or(usize::MAX));
        Ok(trace::length(self.read(&mut room[..most], 0)?) as u64)
    }

    /// Gives as many octets as there is room for, fewer at the end of the file.
    fn read<'r>(self, room: &'r mut [u8], offset: u64) -> io::Result<&'r [u8]>
    where
        Self: 'r,
    {
        match self {
            Self::Octets(octets) => {
                let start = usize::try_from(offset).expect("less than the slice's length");
                Ok(&octets[start..start + room.len()])
            }
            Self::File(file, _) => {
                let count = file.read_at(room, offset)?;
                Ok(&room[..count])
            }
        }
    }
}

/// Octets that are compared at once.
const COMPARED: usize = 16 << 10;
