//! SCRAM (RFC 5802) with SHA-1 or SHA-256 (RFC 7677), bound to TLS 1.3 by tls-exporter (RFC 9266) if wanted.
//!
//! User names and passwords go as they are: SASLprep (RFC 4013) leaves ASCII alone, and the servers met do not apply
//! it to the rest either.

use hmac::{Hmac, KeyInit, Mac};
use sha1::{Digest, Sha1};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::coding::{decode, encode};
use super::{Credentials, Mechanism, SaslError};
use crate::secret::Secret;

/// RFC 7677, 4 asks for no fewer; a server that wants fewer may be gathering proofs at which to guess passwords.
const FEWEST_ITERATIONS: u32 = 4096;
/// About a second of computing; more is an attack on our time.
const MOST_ITERATIONS: u32 = 1_000_000;

/// The digest that the mechanism is named after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hash {
    Sha1,
    Sha256,
}

/// What the client says about channel binding (RFC 5802, 6).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Binding {
    /// It cannot, or does not wish to.
    None,
    /// It could, and believes that the server cannot; a server that can then knows that its offer was tampered with.
    NotOffered,
    /// It does, to this exporter value.
    Exporter([u8; 32]),
}

pub(super) struct Scram {
    mechanism: Mechanism,
    hash: Hash,
    /// gs2-header and binding value: what `c=` carries.
    channel: Zeroizing<Vec<u8>>,
    gs2_header: &'static str,
    nonce: String,
    first_bare: String,
    secret: Secret,
    step: Step,
}

enum Step {
    Initial,
    ServerFirst,
    ServerFinal { signature: Zeroizing<Vec<u8>> },
    Proved,
    Failed,
}

impl Scram {
    /// `nonce` is printable ASCII without commas.
    pub(super) fn new(
        mechanism: Mechanism,
        hash: Hash,
        binding: Binding,
        credentials: &Credentials<'_>,
        nonce: &str,
    ) -> Self {
        let gs2_header = match binding {
            Binding::None => "n,,",
            Binding::NotOffered => "y,,",
            Binding::Exporter(_) => "p=tls-exporter,,",
        };
        let mut channel = gs2_header.as_bytes().to_vec();
        if let Binding::Exporter(exporter) = binding {
            channel.extend_from_slice(&exporter);
        }
        // RFC 5802, 5.1: `,` and `=` in a saslname.
        let user = credentials.user.replace('=', "=3D").replace(',', "=2C");
        Self {
            mechanism,
            hash,
            channel: Zeroizing::new(channel),
            gs2_header,
            nonce: nonce.to_owned(),
            first_bare: format!("n={user},r={nonce}"),
            secret: credentials.secret.clone(),
            step: Step::Initial,
        }
    }

    pub(super) fn initial(&mut self) -> Option<Zeroizing<Vec<u8>>> {
        match self.step {
            Step::Initial => {
                self.step = Step::ServerFirst;
                Some(Zeroizing::new(format!("{}{}", self.gs2_header, self.first_bare).into_bytes()))
            }
            Step::ServerFirst | Step::ServerFinal { .. } | Step::Proved | Step::Failed => None,
        }
    }

    pub(super) fn respond(&mut self, challenge: &[u8]) -> Result<Zeroizing<Vec<u8>>, SaslError> {
        // An error at any step leaves the exchange failed: nothing after it is believed.
        match std::mem::replace(&mut self.step, Step::Failed) {
            Step::Initial | Step::ServerFirst => {
                let first = ServerFirst::parse(challenge, &self.nonce)?;
                let proof = self.prove(&first)?;
                self.step = Step::ServerFinal { signature: proof.wanted };
                Ok(proof.response)
            }
            Step::ServerFinal { signature } => {
                verify(challenge, &signature)?;
                self.step = Step::Proved;
                // RFC 5034, 4: the server's last message is a challenge, and an empty line answers it.
                Ok(Zeroizing::default())
            }
            Step::Proved | Step::Failed => Err(SaslError::OneChallengeTooMany(self.mechanism)),
        }
    }

    pub(super) fn is_complete(&self) -> bool {
        match self.step {
            Step::Proved | Step::Failed => true,
            Step::Initial | Step::ServerFirst | Step::ServerFinal { .. } => false,
        }
    }

    pub(super) fn finish(&mut self) -> Result<(), SaslError> {
        match self.step {
            Step::Proved => Ok(()),
            Step::Initial | Step::ServerFirst | Step::ServerFinal { .. } | Step::Failed => {
                Err(SaslError::NoSignature)
            }
        }
    }

    /// Makes client-final-message, and the signature that the server must answer with (RFC 5802, 3).
    fn prove(&self, first: &ServerFirst<'_>) -> Result<Proof, SaslError> {
        let hash = self.hash;
        let without_proof = format!("c={},r={}", *encode(&self.channel), first.nonce);
        let signed = format!("{},{},{without_proof}", self.first_bare, first.text);
        let salted = hash.salted_password(self.secret.reveal(), &first.salt, first.iterations);
        let client_key = hash.hmac(&salted, b"Client Key")?;
        let client_signature = hash.hmac(&hash.digest(&client_key), signed.as_bytes())?;
        let server_key = hash.hmac(&salted, b"Server Key")?;
        let server_signature = hash.hmac(&server_key, signed.as_bytes())?;
        let proof: Zeroizing<Vec<u8>> =
            Zeroizing::new(client_key.iter().zip(client_signature.iter()).map(|(a, b)| a ^ b).collect());
        let response = format!("{without_proof},p={}", *encode(&proof));
        Ok(Proof { response: Zeroizing::new(response.into_bytes()), wanted: server_signature })
    }
}

/// client-final-message, and the signature that must answer it.
struct Proof {
    response: Zeroizing<Vec<u8>>,
    wanted: Zeroizing<Vec<u8>>,
}

/// server-first-message (RFC 5802, 7).
struct ServerFirst<'a> {
    text: &'a str,
    nonce: &'a str,
    salt: Vec<u8>,
    iterations: u32,
}

impl<'a> ServerFirst<'a> {
    fn parse(challenge: &'a [u8], our_nonce: &str) -> Result<Self, SaslError> {
        let text = std::str::from_utf8(challenge).map_err(|_| SaslError::BadScram("that is not UTF-8"))?;
        let mut attributes = text.split(',');
        let mut attribute = |name: &str, missing| {
            let value = attributes.next().and_then(|attribute| attribute.strip_prefix(name));
            value.ok_or(SaslError::BadScram(missing))
        };
        if let Some(error) = text.strip_prefix("e=") {
            return Err(SaslError::Refused(error.as_bytes().to_vec()));
        }
        if text.starts_with("m=") {
            // RFC 5802, 5.1: an extension that a client which does not know it must fail on.
            return Err(SaslError::BadScram("with a mandatory extension (m=)"));
        }
        let nonce = attribute("r=", "without a nonce (r=)")?;
        let salt = attribute("s=", "without a salt (s=)")?;
        let iterations = attribute("i=", "without an iteration count (i=)")?;
        // An echo of our nonce alone would let an old exchange be replayed to us.
        if nonce.len() <= our_nonce.len() || !nonce.starts_with(our_nonce) {
            return Err(SaslError::BadScram("whose nonce does not extend ours"));
        }
        if !nonce.bytes().all(|octet| octet.is_ascii_graphic()) {
            return Err(SaslError::BadScram("whose nonce is not printable ASCII"));
        }
        let salt =
            decode(salt.as_bytes()).map_err(|_| SaslError::BadScram("whose salt (s=) is not base64"))?;
        if salt.is_empty() {
            return Err(SaslError::BadScram("whose salt (s=) is empty"));
        }
        if iterations.is_empty() || !iterations.bytes().all(|octet| octet.is_ascii_digit()) {
            return Err(SaslError::BadScram("whose iteration count (i=) is no number"));
        }
        // Digits only, so that what does not parse is too large.
        let iterations = iterations.parse().unwrap_or(u32::MAX);
        if !(FEWEST_ITERATIONS..=MOST_ITERATIONS).contains(&iterations) {
            return Err(SaslError::Iterations(iterations));
        }
        Ok(Self { text, nonce, salt, iterations })
    }
}

/// Reads server-final-message: `v=` and the expected signature, else an error.
fn verify(challenge: &[u8], expected: &[u8]) -> Result<(), SaslError> {
    if let Some(reason) = challenge.strip_prefix(b"e=") {
        return Err(SaslError::Refused(reason.to_vec()));
    }
    let value =
        challenge.strip_prefix(b"v=").ok_or(SaslError::BadScram("without the server's signature (v=)"))?;
    // Extensions may follow the signature.
    let value = value.split(|&octet| octet == b',').next().unwrap_or_default();
    let signature = decode(value).map_err(|_| SaslError::BadScram("whose signature (v=) is not base64"))?;
    if bool::from(signature.ct_eq(expected)) { Ok(()) } else { Err(SaslError::WrongSignature) }
}

impl Hash {
    fn salted_password(self, password: &[u8], salt: &[u8], iterations: u32) -> Zeroizing<Vec<u8>> {
        match self {
            Self::Sha1 => {
                let mut salted = Zeroizing::new(vec![0; 20]);
                pbkdf2::pbkdf2_hmac::<Sha1>(password, salt, iterations, &mut salted);
                salted
            }
            Self::Sha256 => {
                let mut salted = Zeroizing::new(vec![0; 32]);
                pbkdf2::pbkdf2_hmac::<Sha256>(password, salt, iterations, &mut salted);
                salted
            }
        }
    }

    fn hmac(self, key: &[u8], octets: &[u8]) -> Result<Zeroizing<Vec<u8>>, SaslError> {
        let code = match self {
            Self::Sha1 => {
                let mac = Hmac::<Sha1>::new_from_slice(key).map_err(|_| SaslError::Key)?;
                mac.chain_update(octets).finalize().into_bytes().to_vec()
            }
            Self::Sha256 => {
                let mac = Hmac::<Sha256>::new_from_slice(key).map_err(|_| SaslError::Key)?;
                mac.chain_update(octets).finalize().into_bytes().to_vec()
            }
        };
        Ok(Zeroizing::new(code))
    }

    fn digest(self, octets: &[u8]) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(match self {
            Self::Sha1 => Sha1::digest(octets).to_vec(),
            Self::Sha256 => Sha256::digest(octets).to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::exchange::tests::credentials;
    use super::*;

    const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
    const FIRST: &str =
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

    fn client(binding: Binding) -> Scram {
        let secret = Secret::new(*b"pencil");
        Scram::new(Mechanism::ScramSha256, Hash::Sha256, binding, &credentials("user", &secret), NONCE)
    }

    #[test]
    fn the_example_of_rfc_5802_comes_out() {
        let secret = Secret::new(*b"pencil");
        let mut scram = Scram::new(
            Mechanism::ScramSha1,
            Hash::Sha1,
            Binding::None,
            &credentials("user", &secret),
            "fyko+d2lbbFgONRv9qkxdawL",
        );
        assert_eq!(*scram.initial().unwrap(), b"n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL");
        let response =
            scram.respond(b"r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096").unwrap();
        assert_eq!(
            String::from_utf8_lossy(&response),
            "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts="
        );
        assert!(matches!(scram.finish(), Err(SaslError::NoSignature)));
        assert_eq!(*scram.respond(b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=").unwrap(), b"");
        scram.finish().unwrap();
    }

    #[test]
    fn the_example_of_rfc_7677_comes_out() {
        let mut scram = client(Binding::None);
        assert_eq!(*scram.initial().unwrap(), b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        assert_eq!(
            String::from_utf8_lossy(&scram.respond(FIRST.as_bytes()).unwrap()),
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
             p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        assert_eq!(*scram.respond(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=").unwrap(), b"");
        scram.finish().unwrap();
        assert!(scram.respond(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=").is_err());
    }

    #[test]
    fn what_is_bound_to_is_part_of_the_proof() {
        let mut bound = client(Binding::Exporter([7; 32]));
        assert_eq!(*bound.initial().unwrap(), b"p=tls-exporter,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let response = bound.respond(FIRST.as_bytes()).unwrap();
        let channel = response.strip_prefix(b"c=").unwrap().split(|&octet| octet == b',').next().unwrap();
        assert_eq!(decode(channel).unwrap(), [b"p=tls-exporter,,".as_slice(), &[7; 32]].concat());

        let proof = |binding| {
            let mut scram = client(binding);
            scram.initial();
            let response = scram.respond(FIRST.as_bytes()).unwrap();
            String::from_utf8_lossy(&response).rsplit_once(",p=").unwrap().1.to_owned()
        };
        assert_ne!(proof(Binding::Exporter([7; 32])), proof(Binding::Exporter([8; 32])));

        let mut could = client(Binding::NotOffered);
        assert_eq!(*could.initial().unwrap(), b"y,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        assert!(could.respond(FIRST.as_bytes()).unwrap().starts_with(b"c=eSws,"));
    }

    #[test]
    fn commas_and_equal_signs_in_a_user_name_are_escaped() {
        let secret = Secret::new(*b"s");
        let mut scram = Scram::new(
            Mechanism::ScramSha256,
            Hash::Sha256,
            Binding::None,
            &credentials("a=b,c=2C", &secret),
            "x",
        );
        assert_eq!(*scram.initial().unwrap(), b"n,,n=a=3Db=2Cc=3D2C,r=x");
    }

    #[test]
    fn a_server_that_does_not_keep_to_scram_is_refused() {
        let refused = |challenge: &str| {
            let mut scram = client(Binding::None);
            scram.initial();
            let error = scram.respond(challenge.as_bytes()).unwrap_err().to_string();
            assert!(scram.finish().is_err());
            error
        };
        let salt = "s=W22ZaJ0SNY7soEsUEjb6gQ==";
        assert!(refused(&format!("m=x,r={NONCE}1,{salt},i=4096")).contains("mandatory extension"));
        assert!(refused(&format!("r={NONCE},{salt},i=4096")).contains("nonce does not extend"));
        assert!(refused(&format!("r=other{NONCE},{salt},i=4096")).contains("nonce does not extend"));
        assert!(refused(&format!("r={NONCE}\u{e9},{salt},i=4096")).contains("printable"));
        assert!(refused(&format!("r={NONCE}1,s=*,i=4096")).contains("salt"));
        assert!(refused(&format!("r={NONCE}1,s=,i=4096")).contains("salt"));
        assert!(refused(&format!("r={NONCE}1,{salt}")).contains("iteration count"));
        assert!(refused(&format!("r={NONCE}1,{salt},i=-4096")).contains("iteration count"));
        assert!(refused(&format!("r={NONCE}1,{salt},i=4095")).contains("4095"));
        assert!(refused(&format!("r={NONCE}1,{salt},i=1000001")).contains("1000001"));
        assert!(refused(&format!("r={NONCE}1,{salt},i=99999999999")).contains("iteration count"));
        assert!(refused("e=other-error").contains("other-error"));
        assert!(refused("").contains("nonce"));
    }

    #[test]
    fn a_server_that_does_not_know_the_password_is_not_believed() {
        for last in ["v=AAAATRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=", "v=", "v=6rri", "", "e=invalid-proof"]
        {
            let mut scram = client(Binding::None);
            scram.initial();
            scram.respond(FIRST.as_bytes()).unwrap();
            assert!(scram.respond(last.as_bytes()).is_err(), "{last}");
            assert!(scram.finish().is_err(), "{last}");
        }
    }
}
