//! A message as a request: its fields, the key by which it is known again, digest and signature.

use std::io;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use hyper::Request;
use hyper::body::Bytes;
use hyper::header::{HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, CONTROLS, percent_encode};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::clock::Timestamp;
use crate::config::Receiver;
use crate::config::target::{Method, Scheme, Sender};
use crate::delivery::reading::each_part;
use crate::delivery::spool::Spooled;
use crate::delivery::upload::upload;
use crate::delivery::{Access, envelope};
use crate::message::{Header, trace};
use crate::net::http::Upload;
use crate::secret::Secret;
use crate::text::hex;

/// What a field's value does not have as it is: all but visible ASCII characters, and what begins an encoded one.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'%');

/// What is computed of a message before it is sent.
#[derive(Debug)]
pub(super) struct Digests {
    /// `Idempotency-Key`.
    pub(super) key: String,
    /// SHA-256 of the body.
    body: [u8; 32],
    /// Time and signature.
    signature: Option<(Timestamp, String)>,
}

#[derive(Clone, Copy)]
pub(super) struct Secrets<'a> {
    /// That of the log-in.
    pub(super) login: Option<&'a Secret>,
    /// `hmac`, if there is one, and the values of `headers`.
    pub(super) more: &'a [Secret],
}

impl<'a> Secrets<'a> {
    fn hmac(self, receiver: &Receiver) -> Option<&'a Secret> {
        receiver.hmac.as_ref().and_then(|_| self.more.first())
    }

    fn headers(self, receiver: &Receiver) -> &'a [Secret] {
        self.more.get(usize::from(receiver.hmac.is_some())..).unwrap_or_default()
    }
}

impl Digests {
    /// Reads a message once. `copy` counts equal messages of this maildrop that were delivered before it.
    pub(super) async fn of(
        message: &Spooled,
        copy: u32,
        hmac: Option<&Secret>,
        now: Timestamp,
    ) -> io::Result<Self> {
        let mut signing = hmac.map(|key| {
            let mut mac = Hmac::<Sha256>::new_from_slice(key.reveal())
                .expect("a key may have any length (RFC 2104, 3)");
            mac.update(format!("{now}.").as_bytes());
            mac
        });
        // Our own line, which tells the time, is none of the message's.
        let added = trace::length_with_crlf(&message.header);
        let (mut body, mut own, mut skip) = (Sha256::new(), Sha256::new(), added);
        each_part(message, |part| {
            body.update(part);
            let skipped = skip.min(part.len());
            skip -= skipped;
            if added > 0 {
                own.update(&part[skipped..]);
            }
            if let Some(mac) = &mut signing {
                mac.update(part);
            }
        })
        .await?;
        let body: [u8; 32] = body.finalize().into();
        let octets = if added > 0 { own.finalize().into() } else { body };
        let signature = signing.map(|mac| (now, hex(&mac.finalize().into_bytes())));
        Ok(Self { key: key(&message.id.maildrop, &octets, copy), body, signature })
    }
}

/// Digests what a message is known by at every try: maildrop, octets, and which of equal ones it is.
fn key(maildrop: &str, octets: &[u8; 32], copy: u32) -> String {
    let digest = Sha256::new()
        .chain_update((maildrop.len() as u64).to_be_bytes())
        .chain_update(maildrop)
        .chain_update(octets)
        .chain_update(copy.to_be_bytes());
    hex(&digest.finalize())
}

/// Makes the request; an error is in words, of a secret that no header field can have.
pub(super) fn request(
    receiver: &Receiver,
    access: &Access,
    secrets: Secrets<'_>,
    (message, digests): (&Arc<Spooled>, &Digests),
) -> Result<Request<Upload>, String> {
    let method = match receiver.method {
        Method::Post => "POST",
        Method::Put => "PUT",
    };
    let from = envelope::sender(&Sender::Keep, &Header::new(&message.header));
    let mut request = Request::builder()
        .method(method)
        .uri(&receiver.url.target)
        .header("Host", receiver.url.authority())
        .header("User-Agent", concat!("postrider/", env!("CARGO_PKG_VERSION")))
        .header("Content-Type", "message/rfc822")
        .header("Idempotency-Key", &digests.key)
        .header("Content-Digest", format!("sha-256=:{}:", STANDARD.encode(digests.body)))
        .header("X-Postrider-Account", encoded(access.account.as_bytes()))
        .header("X-Postrider-Uid", encoded(message.id.uid.as_bytes()))
        .header("X-Postrider-Recipient", encoded(access.user.as_bytes()));
    if !from.is_empty() {
        request = request.header("X-Postrider-From", encoded(from.as_bytes()));
    }
    if let Some((time, signature)) = &digests.signature {
        request = request.header("X-Postrider-Timestamp", *time).header("X-Postrider-Signature", signature);
    }
    if let Some(secret) = secrets.login.filter(|_| receiver.scheme != Scheme::None) {
        request = request.header("Authorization", authorization(receiver, secret)?);
    }
    for ((name, _), secret) in receiver.headers.iter().zip(secrets.headers(receiver)) {
        let name =
            HeaderName::try_from(name.as_str()).map_err(|_| format!("the header {name} has no such name"))?;
        let value = value(secret.reveal(), &format!("the header {name}"))?;
        if let Some(fields) = request.headers_mut() {
            fields.insert(name, value);
        }
    }
    let body = upload(message, Bytes::new(), Bytes::new()).map_err(|error| error.to_string())?;
    request.body(body).map_err(|error| error.to_string())
}

fn authorization(receiver: &Receiver, secret: &Secret) -> Result<HeaderValue, String> {
    let mut field = Zeroizing::new(Vec::new());
    match receiver.scheme {
        Scheme::None => {}
        Scheme::Basic => {
            let both = Zeroizing::new([receiver.login.user.as_bytes(), b":", secret.reveal()].concat());
            field.extend_from_slice(b"Basic ");
            field.extend_from_slice(Zeroizing::new(STANDARD.encode(&*both)).as_bytes());
        }
        Scheme::Bearer => {
            field.extend_from_slice(b"Bearer ");
            field.extend_from_slice(secret.reveal());
        }
    }
    value(&field, "the token")
}

fn value(octets: &[u8], what: &str) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::from_bytes(octets)
        .map_err(|_| format!("{what} has an octet that no header field can have, such as a line end"))?;
    value.set_sensitive(true);
    Ok(value)
}

fn encoded(octets: &[u8]) -> String {
    percent_encode(octets, ENCODED).to_string()
}

impl Receiver {
    /// Gives the key by which requests are signed.
    pub(super) fn signing_key<'a>(&self, secrets: Secrets<'a>) -> Option<&'a Secret> {
        secrets.hmac(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_tells_maildrops_octets_and_copies_apart() {
        let octets = Sha256::digest(b"x").into();
        let of = key("alice@pop.example", &octets, 0);
        assert_eq!(of.len(), 64);
        assert_eq!(of, key("alice@pop.example", &octets, 0));
        assert_ne!(of, key("bob@pop.example", &octets, 0));
        assert_ne!(of, key("alice@pop.example", &octets, 1));
        assert_ne!(of, key("alice@pop.example", &Sha256::digest(b"y").into(), 0));
    }

    #[test]
    fn what_strangers_write_fits_into_a_field() {
        for (octets, shown) in [
            (&b"alice@example.org"[..], "alice@example.org"),
            (b"a b\r\nX: y", "a%20b%0D%0AX:%20y"),
            (b"50%", "50%25"),
            ("grün".as_bytes(), "gr%C3%BCn"),
            (b"\xff\x7f", "%FF%7F"),
        ] {
            assert_eq!(encoded(octets), shown);
        }
    }
}
