//! Secrets that lie where others may read: sealed with AES-256-GCM, each bound to its place.
//!
//! A sealed secret is nonce (12 octets), ciphertext, tag (16 octets), and beside it the id of its key. What is
//! authenticated with it (RFC 5116's associated data) is [`place`], so that a secret that somebody copies into another
//! row or column opens nowhere.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::secret::Secret;
use crate::text::{Shown, hex};

/// Octets of a key.
const KEY: usize = 32;

/// Octets of a key's digest that its id shows.
const ID: usize = 8;

/// A secret that only a key opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// The id of the key.
    pub key: String,
    /// Nonce, ciphertext, tag.
    pub octets: Vec<u8>,
}

/// Keys that open; the first of them seals.
#[derive(Default)]
pub struct Ring(Vec<(String, LessSafeKey)>);

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ring({} keys)", self.0.len())
    }
}

/// Why a secret is not sealed or not opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    #[error(
        "cannot use key {number} of `secrets_key`: it must be 32 octets in base64, as `openssl rand -base64 32` prints them"
    )]
    Malformed {
        /// Its number, from 1.
        number: usize,
    },
    #[error("there is no key to seal secrets with: set `secrets_key`")]
    NoKey,
    #[error("the secret is sealed with the key {}, which is not in `secrets_key`", Shown(.key.as_bytes()))]
    Missing { key: String },
    /// Another key of the same id cannot be; another row or column can.
    #[error("the sealed secret does not open: it was changed, or sealed for another account")]
    Damaged,
    #[error("cannot seal a secret: the system gives no randomness")]
    Random,
}

/// Names the place of a secret: `account/17/secret`, `token/NAME/kept`. A slash in `row` is the caller's to rule out where
/// it would be ambiguous.
pub fn place(table: &str, row: &str, column: &str) -> String {
    format!("{table}/{row}/{column}")
}

impl Ring {
    /// Reads keys, in base64.
    ///
    /// # Errors
    ///
    /// One that is none.
    pub fn new<'s>(keys: impl IntoIterator<Item = &'s Secret>) -> Result<Self, SealError> {
        let key = |(index, text): (usize, &Secret)| {
            let malformed = SealError::Malformed { number: index + 1 };
            let octets = octets_of(text.reveal()).ok_or(malformed.clone())?;
            let key = UnboundKey::new(&AES_256_GCM, &octets).map_err(|_| malformed)?;
            Ok((hex(&Sha256::digest(&octets)[..ID]), LessSafeKey::new(key)))
        };
        keys.into_iter().enumerate().map(key).collect::<Result<_, _>>().map(Self)
    }

    /// Gives the id of the key that seals.
    pub fn current(&self) -> Option<&str> {
        self.0.first().map(|(id, _)| id.as_str())
    }

    /// Seals a secret for a [`place`].
    pub fn seal(&self, place: &str, secret: &Secret) -> Result<Sealed, SealError> {
        let (id, key) = self.0.first().ok_or(SealError::NoKey)?;
        // Random ones of 96 bits: 2^32 secrets of one key, and then another is due (NIST SP 800-38D, 8.3).
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).map_err(|_| SealError::Random)?;
        let mut sealed = Vec::with_capacity(NONCE_LEN + secret.reveal().len() + AES_256_GCM.tag_len());
        sealed.extend_from_slice(secret.reveal());
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad(place, id), &mut sealed)
            .map_err(|_| SealError::Damaged)?;
        sealed.splice(..0, nonce);
        Ok(Sealed { key: id.clone(), octets: sealed })
    }

    /// Opens a secret that was sealed for this [`place`].
    pub fn open(&self, place: &str, sealed: &Sealed) -> Result<Secret, SealError> {
        let known = self.0.iter().find(|(id, _)| *id == sealed.key);
        let (id, key) = known.ok_or_else(|| SealError::Missing { key: sealed.key.clone() })?;
        let (nonce, sealed) = sealed.octets.split_at_checked(NONCE_LEN).ok_or(SealError::Damaged)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::Damaged)?;
        let mut octets = Zeroizing::new(sealed.to_vec());
        let opened = key.open_in_place(nonce, aad(place, id), &mut octets);
        opened.map(|opened| Secret::new(&*opened)).map_err(|_| SealError::Damaged)
    }
}

/// Says whether this is a key, in base64.
pub fn is_key(text: &[u8]) -> bool {
    octets_of(text).is_some()
}

fn octets_of(text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let octets = STANDARD.decode(text.trim_ascii()).map(Zeroizing::new);
    octets.ok().filter(|octets| octets.len() == KEY)
}

/// What is authenticated with a secret: `account/17/secret/` and the key's id.
fn aad(place: &str, key: &str) -> Aad<Vec<u8>> {
    Aad::from(format!("{place}/{key}").into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(octet: u8) -> Secret {
        Secret::new(STANDARD.encode([octet; KEY]))
    }

    fn ring(keys: &[u8]) -> Ring {
        let keys: Vec<Secret> = keys.iter().map(|octet| text(*octet)).collect();
        Ring::new(&keys).unwrap()
    }

    const ALICE: &str = "account/17/secret";

    #[test]
    fn a_sealed_secret_opens_in_its_place_alone() {
        let (ring, secret) = (ring(&[1]), Secret::new(*b"hunter2"));
        let sealed = ring.seal(ALICE, &secret).unwrap();
        assert_eq!(ring.open(ALICE, &sealed), Ok(secret.clone()));
        assert_eq!(sealed.octets.len(), 12 + 7 + 16);
        for elsewhere in ["account/18/secret", "account/17/refresh", "token/17/secret"] {
            assert_eq!(ring.open(elsewhere, &sealed), Err(SealError::Damaged), "{elsewhere}");
        }
        let again = ring.seal(ALICE, &secret).unwrap();
        assert_ne!(sealed.octets, again.octets, "one nonce twice");
    }

    #[test]
    fn what_another_program_has_sealed_opens() {
        // Python: nonce + AESGCM(key).encrypt(nonce, b"hunter2", b"account/17/secret/72cd6e8422c407fb")
        let hex = "000102030405060708090a0bd3d3fb52458c34ed314d70d7c78f024fc684237f221395";
        let octet = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        let octets = (0..hex.len()).step_by(2).map(octet).collect();
        let sealed = Sealed { key: "72cd6e8422c407fb".to_owned(), octets };
        assert_eq!(ring(&[1]).open(ALICE, &sealed).unwrap().reveal(), b"hunter2");
    }

    #[test]
    fn each_changed_octet_and_each_cut_is_noticed() {
        let ring = ring(&[1]);
        let sealed = ring.seal(ALICE, &Secret::new(*b"hunter2")).unwrap();
        for at in 0..sealed.octets.len() {
            let mut changed = sealed.clone();
            changed.octets[at] ^= 1;
            assert_eq!(ring.open(ALICE, &changed), Err(SealError::Damaged), "{at}");
            changed.octets.truncate(at);
            assert_eq!(ring.open(ALICE, &changed), Err(SealError::Damaged), "{at}");
        }
    }

    #[test]
    fn an_older_key_opens_until_it_is_taken_off_the_ring() {
        let sealed = ring(&[1]).seal(ALICE, &Secret::new(*b"hunter2")).unwrap();
        let both = ring(&[2, 1]);
        assert_eq!(both.open(ALICE, &sealed).unwrap().reveal(), b"hunter2");
        let anew = both.seal(ALICE, &Secret::new(*b"hunter2")).unwrap();
        assert_eq!(Some(anew.key.as_str()), both.current());
        assert_ne!(anew.key, sealed.key);
        let Err(missing) = ring(&[2]).open(ALICE, &sealed) else { panic!("opened") };
        assert_eq!(
            missing.to_string(),
            format!("the secret is sealed with the key {}, which is not in `secrets_key`", sealed.key)
        );
    }

    #[test]
    fn a_key_is_32_octets_in_base64_and_its_id_the_begin_of_their_digest() {
        // printf '\1%.0s' $(seq 32) | sha256sum
        assert_eq!(ring(&[1]).current(), Some("72cd6e8422c407fb"));
        for bad in ["", "c2hvcnQ=", "no base64", &STANDARD.encode([1; 33])] {
            let read = Ring::new(&[text(1), Secret::new(bad)]);
            assert_eq!(read.err(), Some(SealError::Malformed { number: 2 }), "{bad}");
        }
        assert_eq!(ring(&[]).seal(ALICE, &Secret::new(*b"x")), Err(SealError::NoKey));
    }
}
