//! The proof that a server has the key of the certificate that it shows: the signature of the TLS handshake.
//!
//! The TLS library reads a certificate as X.509 v3 before it looks at that signature, and its provider of cryptography
//! knows RSA from 2048 bits on. What a pin accepts may be older: here the key alone is taken out of the certificate,
//! whatever else stands in it, and RSA from 1024 bits on is verified. One number is raised to a power for that
//! (`num-bigint`, which X.509 is read with anyway), and nothing in it is secret.

use num_bigint::BigUint;
use sha2::{Digest, Sha256, Sha384, Sha512};
use tokio_rustls::rustls::SignatureScheme;
use tokio_rustls::rustls::crypto::WebPkiSupportedAlgorithms;

/// Bits of an RSA key at least: shorter ones have been broken, so that a signature proves nothing.
const LEAST_BITS: u64 = 1024;
/// ... and at most, so that nobody keeps this machine busy.
const MOST_BITS: u64 = 16_384;
/// What the provider of cryptography verifies by itself.
const USUAL_BITS: std::ops::RangeInclusive<u64> = 2048..=8192;

/// `rsaEncryption` (RFC 8017, A.1), as an OBJECT IDENTIFIER.
const RSA: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01";

/// Which handshake the signature belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Handshake {
    /// RFC 5246.
    Tls12,
    /// RFC 8446, which knows fewer ways to sign.
    Tls13,
}

/// A signature of a handshake, and what it was made over.
#[derive(Debug, Clone, Copy)]
pub(super) struct Signed<'a> {
    pub(super) handshake: Handshake,
    pub(super) scheme: SignatureScheme,
    pub(super) message: &'a [u8],
    pub(super) signature: &'a [u8],
}

/// Why a signature is no proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unproved {
    /// It was not made with the certificate's key.
    Signature,
    /// Nobody here can tell, because of this.
    Key(Peculiarity),
}

/// What is peculiar about a certificate's key; shown as a predicate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Peculiarity {
    /// It is not found.
    #[error("cannot be read")]
    Unreadable,
    /// It is RSA of so many bits.
    #[error("has an RSA key of {0} bits")]
    Bits(u64),
    /// It is RSA, and its exponent is even, tiny or huge.
    #[error("has an RSA key with an unusual exponent")]
    Exponent,
    /// It is neither RSA nor on a curve that is known.
    #[error("has a key of a kind that is not known here")]
    Kind,
}

/// Verifies that the signature was made with the key in this certificate (DER), whatever else stands there.
pub(super) fn verify(
    certificate: &[u8],
    signed: &Signed<'_>,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<(), Unproved> {
    let key = Key::of(certificate).ok_or(Unproved::Key(Peculiarity::Unreadable))?;
    if let Some(rsa) = key.rsa()
        && !USUAL_BITS.contains(&rsa.bits())
    {
        return rsa.verify(signed);
    }
    let of_scheme = algorithms.mapping.iter().find(|(scheme, _)| *scheme == signed.scheme);
    let possible = of_scheme.map_or(&[][..], |(_, algorithms)| algorithms);
    // RFC 8446, 4.2.3: a scheme names one curve, and RSA is PSS.
    let possible = match signed.handshake {
        Handshake::Tls12 => possible,
        Handshake::Tls13 if Padding::of(signed.scheme).is_some_and(|padding| !padding.is_pss()) => &[],
        Handshake::Tls13 => &possible[..possible.len().min(1)],
    };
    let fits = |key_id: &[u8]| key_id == key.algorithm || (key.is_rsa() && key_id.starts_with(RSA));
    match possible.iter().find(|algorithm| fits(algorithm.public_key_alg_id().as_ref())) {
        Some(algorithm) => algorithm
            .verify_signature(key.octets, signed.message, signed.signature)
            .map_err(|_| Unproved::Signature),
        // A key that fits no scheme was not signed with by this one.
        None if algorithms.all.iter().any(|known| fits(known.public_key_alg_id().as_ref())) => {
            Err(Unproved::Signature)
        }
        None => Err(Unproved::Key(Peculiarity::Kind)),
    }
}

/// Says what about a certificate's key only a pin accepts, or not even that, if anything.
pub(super) fn peculiarity(certificate: &[u8]) -> Option<Peculiarity> {
    let Some(key) = Key::of(certificate) else { return Some(Peculiarity::Unreadable) };
    let bits = key.rsa()?.bits();
    (!USUAL_BITS.contains(&bits)).then_some(Peculiarity::Bits(bits))
}

/// A public key in a certificate.
struct Key<'a> {
    /// What its AlgorithmIdentifier holds.
    algorithm: &'a [u8],
    /// The key itself, in the algorithm's own form.
    octets: &'a [u8],
}

impl<'a> Key<'a> {
    /// Finds the key by its place (RFC 5280, 4.1); nothing else in the certificate is read.
    fn of(certificate: &'a [u8]) -> Option<Self> {
        let (certificate, _) = element(certificate, SEQUENCE)?;
        let (mut fields, _) = element(certificate, SEQUENCE)?;
        // X.509 v1 has none.
        if let Some((_, rest)) = element(fields, VERSION) {
            fields = rest;
        }
        (_, fields) = element(fields, INTEGER)?;
        // Signature, issuer, validity, subject.
        for _ in 0..4 {
            (_, fields) = element(fields, SEQUENCE)?;
        }
        let (key, _) = element(fields, SEQUENCE)?;
        let (algorithm, rest) = element(key, SEQUENCE)?;
        let (bits, _) = element(rest, BIT_STRING)?;
        // The first octet counts the bits that the last one has too many.
        Some(Self { algorithm, octets: bits.strip_prefix(&[0])? })
    }

    fn is_rsa(&self) -> bool {
        self.algorithm.starts_with(RSA)
    }

    fn rsa(&self) -> Option<RsaKey> {
        if !self.is_rsa() {
            return None;
        }
        let (numbers, _) = element(self.octets, SEQUENCE)?;
        let (modulus, rest) = element(numbers, INTEGER)?;
        let (exponent, _) = element(rest, INTEGER)?;
        Some(RsaKey { modulus: BigUint::from_bytes_be(modulus), exponent: BigUint::from_bytes_be(exponent) })
    }
}

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
/// `[0]`, constructed.
const VERSION: u8 = 0xa0;

/// Takes a DER element with this tag off the front: its content, and what follows it.
fn element(octets: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let rest = octets.strip_prefix(&[tag])?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (
                length
                    .iter()
                    .try_fold(0_usize, |sum, octet| sum.checked_mul(256)?.checked_add((*octet).into()))?,
                rest,
            )
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

struct RsaKey {
    modulus: BigUint,
    exponent: BigUint,
}

impl RsaKey {
    fn bits(&self) -> u64 {
        self.modulus.bits()
    }

    /// RFC 8017, 8.1.2 and 8.2.2.
    fn verify(&self, signed: &Signed<'_>) -> Result<(), Unproved> {
        let bits = self.bits();
        if !(LEAST_BITS..=MOST_BITS).contains(&bits) || !self.modulus.bit(0) {
            return Err(Unproved::Key(Peculiarity::Bits(bits)));
        }
        // What everybody uses is 65537; a large one would cost time and prove no more.
        if self.exponent.bits() > 64 || self.exponent < BigUint::from(3_u8) || !self.exponent.bit(0) {
            return Err(Unproved::Key(Peculiarity::Exponent));
        }
        let padding = Padding::of(signed.scheme).ok_or(Unproved::Signature)?;
        if signed.handshake == Handshake::Tls13 && !padding.is_pss() {
            return Err(Unproved::Signature);
        }
        let octets = |bits: u64| usize::try_from(bits.div_ceil(8)).unwrap_or(usize::MAX);
        let signature = BigUint::from_bytes_be(signed.signature);
        if signed.signature.len() != octets(bits) || signature >= self.modulus {
            return Err(Unproved::Signature);
        }
        let number = signature.modpow(&self.exponent, &self.modulus);
        let fits = match padding {
            Padding::Pkcs1(hash) => hash
                .encoded(signed.message, octets(bits))
                .is_some_and(|encoded| filled(&number, octets(bits)) == Some(encoded)),
            Padding::Pss(hash) => filled(&number, octets(bits - 1))
                .is_some_and(|encoded| hash.is_pss_of(signed.message, &encoded, bits - 1)),
        };
        if fits { Ok(()) } else { Err(Unproved::Signature) }
    }
}

/// Writes a number with so many octets, if that suffices.
fn filled(number: &BigUint, octets: usize) -> Option<Vec<u8>> {
    let number = number.to_bytes_be();
    let zeros = octets.checked_sub(number.len())?;
    Some([vec![0; zeros], number].concat())
}

/// How RSA signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Padding {
    Pkcs1(Hash),
    Pss(Hash),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

impl Padding {
    fn of(scheme: SignatureScheme) -> Option<Self> {
        Some(match scheme {
            SignatureScheme::RSA_PKCS1_SHA256 => Self::Pkcs1(Hash::Sha256),
            SignatureScheme::RSA_PKCS1_SHA384 => Self::Pkcs1(Hash::Sha384),
            SignatureScheme::RSA_PKCS1_SHA512 => Self::Pkcs1(Hash::Sha512),
            SignatureScheme::RSA_PSS_SHA256 => Self::Pss(Hash::Sha256),
            SignatureScheme::RSA_PSS_SHA384 => Self::Pss(Hash::Sha384),
            SignatureScheme::RSA_PSS_SHA512 => Self::Pss(Hash::Sha512),
            _ => return None,
        })
    }

    fn is_pss(self) -> bool {
        match self {
            Self::Pss(_) => true,
            Self::Pkcs1(_) => false,
        }
    }
}

impl Hash {
    fn of(self, parts: &[&[u8]]) -> Vec<u8> {
        fn digest<D: Digest>(parts: &[&[u8]]) -> Vec<u8> {
            let mut digest = D::new();
            parts.iter().for_each(|part| digest.update(part));
            digest.finalize().to_vec()
        }
        match self {
            Self::Sha256 => digest::<Sha256>(parts),
            Self::Sha384 => digest::<Sha384>(parts),
            Self::Sha512 => digest::<Sha512>(parts),
        }
    }

    /// RFC 8017, 9.2: EMSA-PKCS1-v1_5, in so many octets.
    fn encoded(self, message: &[u8], octets: usize) -> Option<Vec<u8>> {
        let (number, length) = match self {
            Self::Sha256 => (1, 32),
            Self::Sha384 => (2, 48),
            Self::Sha512 => (3, 64),
        };
        let mut info =
            b"\x30\x00\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x00\x05\x00\x04\x00".to_vec();
        (info[1], info[14], info[18]) = (17 + length, number, length);
        info.extend(self.of(&[message]));
        let filling = octets.checked_sub(info.len() + 3).filter(|filling| *filling >= 8)?;
        Some([&[0, 1], &*vec![0xff; filling], &[0], &info].concat())
    }

    /// RFC 8017, 9.1.2: EMSA-PSS, with a salt as long as the digest (RFC 8446, 4.2.3).
    fn is_pss_of(self, message: &[u8], encoded: &[u8], bits: u64) -> bool {
        let digest = self.of(&[message]);
        let length = digest.len();
        let Some((masked, rest)) =
            encoded.len().checked_sub(length + 1).and_then(|at| encoded.split_at_checked(at))
        else {
            return false;
        };
        let Some((hash, [0xbc])) = rest.split_at_checked(length) else { return false };
        let spare = 8 * encoded.len() as u64 - bits;
        let Some((&first, _)) = masked.split_first() else { return false };
        let kept = 0xff_u8 >> spare;
        if first & !kept != 0 {
            return false;
        }
        let mut block: Vec<u8> =
            masked.iter().zip(self.mask(hash, masked.len())).map(|(a, b)| a ^ b).collect();
        block[0] &= kept;
        let Some(at) = block.len().checked_sub(length + 1) else { return false };
        let (filling, rest) = block.split_at(at);
        let Some((&1, salt)) = rest.split_first() else { return false };
        filling.iter().all(|octet| *octet == 0) && self.of(&[&[0; 8], &digest, salt]) == hash
    }

    /// RFC 8017, B.2.1: MGF1.
    fn mask(self, seed: &[u8], octets: usize) -> Vec<u8> {
        let mut mask = Vec::with_capacity(octets + 64);
        let mut counter = 0_u32;
        while mask.len() < octets {
            mask.extend(self.of(&[seed, &counter.to_be_bytes()]));
            counter += 1;
        }
        mask.truncate(octets);
        mask
    }
}

#[cfg(test)]
mod tests;
