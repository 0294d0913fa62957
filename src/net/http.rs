//! A client of HTTP/1.1 (RFC 9112): one request a connection, over the streams that everything else goes over, so that
//! roots, time limits and source address are the same.
//!
//! Redirects are not followed: what is sent is meant for one host. What comes back is bounded in time and size. What is
//! sent may be of any size over a connection that is [`Kept`].

mod kept;

use std::error::Error;
use std::io;
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::{Body, Bytes};
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, DATE, HeaderMap, HeaderName, LOCATION, RETRY_AFTER};
use hyper::http::response::Parts;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use zeroize::Zeroizing;

use super::{Connector, Endpoint, NetError};
use crate::config::HttpUrl;
use crate::text::Shown;
pub use kept::{Answered, Kept, Sent, Upload};

/// Octets of a reply's head at most.
const LONGEST_HEAD: usize = 32 << 10;
/// Fields of a reply at most.
const MOST_FIELDS: usize = 100;
/// Octets of a reply's body at most: tokens and errors have a few thousand.
pub const LONGEST_BODY: usize = 256 << 10;

#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    /// The media type in lower case, without parameters: `application/json`; empty if there is none.
    pub media_type: String,
    /// After how long it may be asked again.
    pub retry_after: Option<Duration>,
    /// Where it would rather be asked, without a query: it may hold what is secret.
    pub elsewhere: Option<String>,
    /// It may hold tokens; what is longer than was to be read is cut.
    pub body: Zeroizing<Vec<u8>>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    #[error(transparent)]
    Net(#[from] NetError),
    #[error("gave up after {}s waiting for the answer", .after.as_secs_f32())]
    TimedOut { after: Duration },
    #[error("server closed the connection before it had answered")]
    Closed,
    #[error("server sent more than {LONGEST_BODY} octets")]
    TooLong,
    #[error("server sent what is no HTTP answer ({0})")]
    Protocol(String),
    #[error("connection lost: {0}")]
    Lost(String),
    /// The request cannot be made, as of a secret with a line end in it.
    #[error("cannot ask: {0}")]
    Request(String),
    /// What was to be sent cannot be read.
    #[error("cannot read the message: {0}")]
    Unreadable(String),
}

impl HttpError {
    /// Gives what the user can do about it, if that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            // Its hints name ports of mail servers.
            Self::Net(NetError::Refused { .. } | NetError::NotTls { .. }) => {
                Some("the server may be down; check the URL".to_owned())
            }
            Self::Net(error) => error.hint(),
            Self::Protocol(_) => Some("is there an HTTPS server at that address?".to_owned()),
            Self::TimedOut { .. }
            | Self::Closed
            | Self::TooLong
            | Self::Lost(_)
            | Self::Request(_)
            | Self::Unreadable(_) => None,
        }
    }
}

impl From<hyper::Error> for HttpError {
    fn from(error: hyper::Error) -> Self {
        let io = error.source().and_then(|source| source.downcast_ref::<io::Error>());
        let is_cut = io.is_some_and(|io| io.kind() == io::ErrorKind::UnexpectedEof);
        if is_cut || error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
            return Self::Closed;
        }
        let why = error.source().map_or_else(|| error.to_string(), ToString::to_string);
        if error.is_user() {
            return Self::Unreadable(why);
        }
        if error.is_parse() { Self::Protocol(why) } else { Self::Lost(why) }
    }
}

impl Connector {
    /// Sends a request and takes the answer, each within the endpoint's `timeout`. `to` says how the URL's host is
    /// reached; its own host, port and mode count for nothing.
    pub async fn request<B>(
        &self,
        to: &Endpoint<'_>,
        url: &HttpUrl,
        request: Request<B>,
    ) -> Result<Reply, HttpError>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let tls = crate::config::account::Tls { mode: url.mode, ..to.tls.clone() };
        let endpoint = Endpoint { host: &url.host, port: url.port, tls: &tls, ..*to };
        let stream = self.connect(endpoint).await?;
        let conversation = async {
            let handshake = http1::Builder::new()
                .max_buf_size(LONGEST_HEAD)
                .max_headers(MOST_FIELDS)
                .handshake(TokioIo::new(stream));
            let (mut sender, connection) = handshake.await?;
            let exchange = async { take(sender.send_request(request).await?).await };
            tokio::pin!(exchange, connection);
            tokio::select! {
                reply = &mut exchange => return reply,
                // What it has read is handed over before; how it failed is told to the exchange.
                _ = connection => {}
            }
            exchange.await
        };
        match tokio::time::timeout(to.timeout, conversation).await {
            Ok(reply) => reply,
            Err(_) => Err(HttpError::TimedOut { after: to.timeout }),
        }
    }
}

async fn take(response: Response<hyper::body::Incoming>) -> Result<Reply, HttpError> {
    let (head, mut incoming) = response.into_parts();
    let reply = Reply::of(&head);
    // Sized at once: a vector that grows leaves its old octets behind in freed memory.
    let mut body = Zeroizing::new(Vec::with_capacity(LONGEST_BODY));
    while let Some(frame) = incoming.frame().await {
        let Ok(octets) = frame?.into_data() else { continue };
        if body.len() + octets.len() > LONGEST_BODY {
            return Err(HttpError::TooLong);
        }
        body.extend_from_slice(&octets);
    }
    Ok(Reply { body, ..reply })
}

impl Reply {
    fn of(head: &Parts) -> Self {
        let field = |name: HeaderName| field(&head.headers, name);
        let media_type =
            field(CONTENT_TYPE).split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let elsewhere = field(LOCATION).split(['?', '#']).next().unwrap_or_default().to_owned();
        Self {
            status: head.status.as_u16(),
            media_type,
            retry_after: wait(field(RETRY_AFTER).trim(), field(DATE).trim()),
            elsewhere: head.status.is_redirection().then(|| Shown(elsewhere.as_bytes()).to_string()),
            body: Zeroizing::default(),
        }
    }
}

/// Reads how long is to be waited (RFC 9110, 10.2.3): seconds, or a date, against the server's own if it tells one.
fn wait(after: &str, date: &str) -> Option<Duration> {
    if let Ok(seconds) = after.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = |text: &str| jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok();
    let seconds = at(after)?.as_second() - at(date).unwrap_or_else(jiff::Timestamp::now).as_second();
    Some(Duration::from_secs(seconds.try_into().unwrap_or(0)))
}

fn field(fields: &HeaderMap, name: HeaderName) -> String {
    fields.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_told_in_seconds_or_by_a_date() {
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        for (after, date, seconds) in [
            ("120", "", Some(120)),
            ("0", date, Some(0)),
            ("Sun, 06 Nov 1994 08:51:37 GMT", date, Some(120)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", "", Some(0)),
            ("soon", date, None),
            ("-1", date, None),
            ("", date, None),
        ] {
            assert_eq!(wait(after, date), seconds.map(Duration::from_secs), "{after}");
        }
    }
}
