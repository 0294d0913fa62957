//! A message as a request to Gmail: labels and message in one body (RFC 2387), streamed.

use std::sync::Arc;

use http_body_util::BodyExt as _;
use hyper::Request;
use hyper::body::Bytes;
use hyper::header::HeaderValue;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::config;
use crate::config::target::{MessageDate, Spam};
use crate::delivery::spool::Spooled;
use crate::delivery::upload::upload;
use crate::message::{Header, trace};
use crate::net::http::Upload;
use crate::secret::Secret;
use crate::text::hex;

/// How a message gets in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Scanned and classified as if it had come by SMTP; one of the same Message-ID is merged with it.
    Import,
    /// As it is, whatever its header says; sent again it is there twice.
    Insert,
}

/// What of a user's address stands in a path as it is.
const IN_PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'@').remove(b'.').remove(b'-').remove(b'_');

/// A message on its way.
#[derive(Debug)]
pub(super) struct Letter {
    pub(super) message: Arc<Spooled>,
    /// By what it is known, in hexadecimal digits.
    pub(super) digest: String,
    /// A Message-ID that it lacks, as a line.
    line: Option<String>,
    /// What stands between the parts, and in neither.
    boundary: String,
}

impl Letter {
    /// `octets` is the SHA-256 of the message, `copy` counts equal ones of this maildrop before it.
    pub(super) fn new(message: Arc<Spooled>, octets: [u8; 32], copy: u32) -> Self {
        let digest = Sha256::new()
            .chain_update(message.id.maildrop.as_bytes())
            .chain_update([0])
            .chain_update(octets)
            .chain_update(copy.to_be_bytes());
        let digest = hex(&digest.finalize()[..16]);
        let header = Header::new(&message.header);
        // What is cut off may have one.
        let lacks_id = !message.is_header_cut && header.fields("Message-ID").next().is_none();
        let line = lacks_id.then(|| format!("Message-ID: <{digest}@postrider.invalid>\r\n"));
        let random: [u8; 16] = getrandom::u64()
            .and_then(|one| Ok([one.to_be_bytes(), getrandom::u64()?.to_be_bytes()].concat()))
            .ok()
            .and_then(|octets| octets.try_into().ok())
            .unwrap_or_default();
        Self { message, digest, line, boundary: format!("postrider-{}", hex(&random)) }
    }

    /// Makes the request.
    pub(super) fn request(
        &self,
        target: &config::Gmail,
        way: Way,
        labels: &[String],
        token: &Secret,
    ) -> Result<Request<Upload>, String> {
        let date = if target.date == MessageDate::Now { "receivedTime" } else { "dateHeader" };
        let (method, spam) = match way {
            Way::Import => ("import", if target.spam == Spam::Never { "&neverMarkSpam=true" } else { "" }),
            Way::Insert => ("insert", ""),
        };
        let path = path(target, "upload/", &format!("messages/{method}"));
        let uri = format!("{path}?uploadType=multipart&internalDateSource={date}{spam}");
        let boundary = &self.boundary;
        let labels = serde_json::json!({ "labelIds": labels });
        // A line of ours with the time would stand above the message's own.
        let line = self.line.as_deref().unwrap_or_default();
        let before = format!(
            "--{boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n{labels}\r\n\
             --{boundary}\r\nContent-Type: message/rfc822\r\n\r\n{line}"
        );
        let behind = format!("\r\n--{boundary}--\r\n");
        let body = upload(&self.message, Bytes::from(before), Bytes::from(behind));
        let body = body.map_err(|error| error.to_string())?;
        let request = started("POST", &uri, target, token)?
            .header("Content-Type", format!("multipart/related; boundary={boundary}"));
        request.body(body).map_err(|error| error.to_string())
    }
}

/// Gives the octets of a message less a line of ours that tells the time.
pub(super) fn own_octets(message: &Spooled) -> usize {
    trace::length_with_crlf(&message.header)
}

/// Asks for the labels, or for one to be made.
pub(super) fn labels(
    target: &config::Gmail,
    made: Option<&str>,
    token: &Secret,
) -> Result<Request<Upload>, String> {
    let (method, body) = match made {
        None => ("GET", Bytes::new()),
        Some(name) => {
            let label = serde_json::json!({
                "name": name, "labelListVisibility": "labelShow", "messageListVisibility": "show"
            });
            ("POST", Bytes::from(label.to_string()))
        }
    };
    let mut request = started(method, &path(target, "", "labels"), target, token)?;
    if made.is_some() {
        request = request.header("Content-Type", "application/json");
    }
    let body = http_body_util::Full::new(body).map_err(|never| match never {}).boxed_unsync();
    request.body(body).map_err(|error| error.to_string())
}

fn path(target: &config::Gmail, before: &str, what: &str) -> String {
    let base = target.url.target.trim_end_matches('/');
    let user = percent_encode(target.login.user.as_bytes(), IN_PATH);
    format!("{base}/{before}gmail/v1/users/{user}/{what}")
}

fn started(
    method: &str,
    uri: &str,
    target: &config::Gmail,
    token: &Secret,
) -> Result<hyper::http::request::Builder, String> {
    let field = Zeroizing::new([b"Bearer ", token.reveal()].concat());
    let mut value = HeaderValue::from_bytes(&field)
        .map_err(|_| "the access token has an octet that no header field can have".to_owned())?;
    value.set_sensitive(true);
    Ok(Request::builder()
        .method(method)
        .uri(uri)
        .header("Host", target.url.authority())
        .header("User-Agent", concat!("postrider/", env!("CARGO_PKG_VERSION")))
        .header("Accept", "application/json")
        .header("Authorization", value))
}
