//! Signatures that OpenSSL 3.0 made with a key of 1024 bits, and the X.509 v1 certificate that it wrote for that key.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use tokio_rustls::rustls::crypto::ring::default_provider;

use super::*;

const MESSAGE: &[u8] = b"what a handshake signs";
const CERTIFICATE: &str = "MIIBnjCCAQcCFDwB3KCwtthZku5SfPKnp0qKNplDMA0GCSqGSIb3DQEBCwUAMA4xDDAKBgNVBAMMA29sZDAeFw0yNjExMjkxMjA1\
     MDRaFw0yNjExMjgxMjA1MDRaMA4xDDAKBgNVBAMMA29sZDCBnzANBgkqhkiG9w0BAQEFAAOBjQAwgYkCgYEAtO+kM0zMcfGhou5d\
     V3gL1N1xnn5mDdyXtnX0C1OApC7tgK4FCraEiGT50zKkpYsUF3xW0rJjLlV9vIs8tiIBLmfezJZ+mVkDXSwZIShNyeCrdmwX1FIl\
     mnJ4xG5MSueSLZ7H4q6r4j04Wt6gLPaAw9e8zk7TWrGVv/SRh4dE0SECAwEAATANBgkqhkiG9w0BAQsFAAOBgQABJHkm8pb6PZuo\
     Fr/rk0PvGP4V8KEqTM8KXDgiMsN7/Rd0cL+dcYHqmVCF5tuWxns8V9mhBtTeFdMcDYay8tfMTsGzZt2BXZDw0D8w4oHly3qQ2BPI\
     PIUHmqUjrc9E/F7A0bIQqQaA8awDTx8brpywuK0JXDonNTyBMyqpzX0ASQ==";
const SIGNATURES: [(SignatureScheme, &str); 5] = [
    (
        SignatureScheme::RSA_PKCS1_SHA256,
        "jriGum4ebPWNQq5ASqJXnpPAW3uTGlM+AvopB0uB0dKr/xkvnJrWiyDGgaYu8EzySjD6mMzqVPGrSeEg6lq51CasKUPE10M/PDxW\
     V91PN1uXfdTwjyCdguu/xrqmg0Fqklxcn85FyGnMwsAKFYykzwjTr/BrGmZ7ANryxTNFuEo=",
    ),
    (
        SignatureScheme::RSA_PKCS1_SHA384,
        "mTE3swVoCtREaL0BLrt4gyeiwiew0QNYqs49GAFqzCcAMKcSVkhN0S41XIBOdwzZXVWSKB/8KB3LpneL/vx16rxtq5MfGzFtPTFp\
     Szi3l9KhMkVTo0Ht8sMsgGehFNrW4E0HzZ9Gc4D2OM/R7wRkTnNbT9vAtd5DizVxpuFWvRc=",
    ),
    (
        SignatureScheme::RSA_PKCS1_SHA512,
        "IMljxiErNOX29PINYA+hSUeV6MCYa9Fs+MFswonrmbfaMUUJgdXonbQtjkl3ayVHMGM3AvkLbi5Xpk+4UYa6nQpgbT3Yaa6CiVI3\
     ZF/0HbP3yg9ELMzROdCElhHEnWTnlq6QFvEbotVxwVhjaNcgEWf+Z4wsQ1PhslKi1P148Lg=",
    ),
    (
        SignatureScheme::RSA_PSS_SHA256,
        "mZW5FEktR1K+R18AhffHEhloj+lKjhgptadv1F+B17S3pZO/jyWf3Vbin0he/pe8rw/GAwjuiLsyHBefgb5Qj2dcmSq6tsbpuNrz\
     av57s4Q8pJYw1Z8l3EvhBX1k9Gh5Hn/ZLNU4Q5W/2MGts8fz0muLNf1m1kSudm4izk2IFvY=",
    ),
    (
        SignatureScheme::RSA_PSS_SHA384,
        "XQhP1YhJbdOAKm44fp8I2eO6lDY/OWPZRsXmo3vQltNqpd1yNnLvbPGqiyawPd55UY+WE2Zk6No33QSlIVbHhLNE9wIxh4no4mmd\
     xt342Ro/A0iDtMnEKS1AKerUemf7Uz/qu7Hcz1WcdesNW5vxNr1JLXn5acDS6LylJ4YnScU=",
    ),
];

fn certificate() -> Vec<u8> {
    STANDARD.decode(CERTIFICATE).unwrap()
}

fn check(
    handshake: Handshake,
    scheme: SignatureScheme,
    message: &[u8],
    signature: &[u8],
) -> Result<(), Unproved> {
    let signed = Signed { handshake, scheme, message, signature };
    verify(&certificate(), &signed, &default_provider().signature_verification_algorithms)
}

#[test]
fn a_key_of_1024_bits_proves_itself_and_nothing_else_does() {
    for (scheme, signature) in SIGNATURES {
        let signature = STANDARD.decode(signature).unwrap();
        assert_eq!(check(Handshake::Tls12, scheme, MESSAGE, &signature), Ok(()), "{scheme:?}");
        let is_pss = Padding::of(scheme).is_some_and(Padding::is_pss);
        assert_eq!(check(Handshake::Tls13, scheme, MESSAGE, &signature).is_ok(), is_pss, "{scheme:?}");
        let no = Err(Unproved::Signature);
        assert_eq!(check(Handshake::Tls12, scheme, b"another", &signature), no);
        for at in 0..signature.len() {
            let mut changed = signature.clone();
            changed[at] ^= 1;
            assert_eq!(check(Handshake::Tls12, scheme, MESSAGE, &changed), no, "{scheme:?}, octet {at}");
        }
        for cut in
            [&signature[1..], &signature[..127], &[], &[&[0], &*signature].concat(), &[0; 128], &[0xff; 128]]
        {
            assert_eq!(check(Handshake::Tls12, scheme, MESSAGE, cut), no, "{scheme:?}");
        }
        for (other, _) in SIGNATURES.iter().filter(|(other, _)| *other != scheme) {
            assert_eq!(check(Handshake::Tls12, *other, MESSAGE, &signature), no, "{scheme:?} as {other:?}");
        }
    }
}

#[test]
fn what_is_peculiar_about_a_key_is_named() {
    assert_eq!(peculiarity(&certificate()), Some(Peculiarity::Bits(1024)));
    let cut = &certificate()[..200];
    assert_eq!(peculiarity(cut), Some(Peculiarity::Unreadable));
    let usual = rcgen::generate_simple_self_signed(["x".to_owned()]).unwrap();
    assert_eq!(peculiarity(usual.cert.der()), None);
    let rsa = |bits: u64| RsaKey {
        modulus: (BigUint::from(1_u8) << (bits - 1)) + BigUint::from(1_u8),
        exponent: BigUint::from(65_537_u32),
    };
    let signed = Signed {
        handshake: Handshake::Tls12,
        scheme: SignatureScheme::RSA_PKCS1_SHA256,
        message: MESSAGE,
        signature: &[1; 64],
    };
    assert_eq!(rsa(512).verify(&signed), Err(Unproved::Key(Peculiarity::Bits(512))));
    assert_eq!(rsa(20_000).verify(&signed), Err(Unproved::Key(Peculiarity::Bits(20_000))));
}

proptest! {
    #[test]
    fn no_certificate_and_no_signature_makes_it_panic(
        noise: Vec<u8>,
        at: prop::sample::Index,
        octet: u8,
        which in 0..SIGNATURES.len(),
    ) {
        let (scheme, signature) = SIGNATURES[which];
        let signature = STANDARD.decode(signature).unwrap();
        let mut certificate = certificate();
        let at = at.index(certificate.len());
        certificate[at] = octet;
        let algorithms = default_provider().signature_verification_algorithms;
        for (certificate, signature) in [(&certificate, &signature), (&noise, &signature), (&certificate, &noise)] {
            for handshake in [Handshake::Tls12, Handshake::Tls13] {
                let signed = Signed { handshake, scheme, message: MESSAGE, signature };
                let _ = verify(certificate, &signed, &algorithms);
            }
            let _ = peculiarity(certificate);
        }
    }
}
