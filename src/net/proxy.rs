//! The road by a proxy: SOCKS5 (RFC 1928, 1929) or CONNECT (RFC 9110, 9.3.6). Names are looked up by the proxy.

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, Parts};
use hyper::header::{HOST, HeaderValue, PROXY_AUTHORIZATION};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_socks::Error as SocksError;
use tokio_socks::tcp::Socks5Stream;
use zeroize::Zeroizing;

use super::ahead::Ahead;
use super::connect;
use super::tcp::Tcp;
use super::{Deadline, Endpoint, NetError, Stage, Stream, Watch};
use crate::config::{HostAndPort, Proxy, ProxyKind, Reach};

/// Octets of a proxy's answer to CONNECT at most.
const LONGEST_HEAD: usize = 16 << 10;
/// A proxy wants user and password (RFC 9110, 15.5.8).
const WANTS_LOGIN: &str = "it wants a user and a password: `proxy: SCHEME://USER:PASSWORD@HOST:PORT`";
const CHECK_LOGIN: &str = "check user and password in `proxy`";

/// Why a proxy does not connect us, and what to do about it.
struct Refused(String, Option<&'static str>);

/// Connects to a server by a proxy.
pub(super) async fn connect(
    proxy: &Proxy,
    to: &Endpoint<'_>,
    deadline: &Deadline,
    watch: &Watch,
) -> Result<Stream, NetError> {
    let failed =
        |what: String, hint: Option<&'static str>| NetError::Proxy { proxy: proxy.to_string(), what, hint };
    let way = Endpoint { host: &proxy.host, port: proxy.port, reach: &Reach::Anywhere, proxy: None, ..*to };
    // A proxy that looks the name up itself might find another address than one that is allowed.
    let address = match to.reach {
        Reach::Anywhere => None,
        Reach::Public(_) => Some(connect::addresses(to, deadline, watch).await?[0].ip().to_string()),
    };
    let to = &Endpoint { host: address.as_deref().unwrap_or(to.host), ..*to };
    let tcp = connect::tcp(&way, deadline, watch).await;
    let tcp = tcp.map_err(|error| failed(error.to_string(), Some("check `proxy`")))?;
    let asked = async {
        let asked = match proxy.kind {
            ProxyKind::Socks5 => by_socks(proxy, tcp, to).await,
            ProxyKind::Http => by_http(proxy, Tcp::new(tcp), to).await,
        };
        asked.map_err(|Refused(what, hint)| failed(what, hint))
    };
    let late = || {
        let after = deadline.patience;
        failed(
            format!("gave up after {after:?} waiting for it to connect to {}", HostAndPort(to.host, to.port)),
            None,
        )
    };
    let stream = deadline.wait(late, asked).await?;
    watch.saw(|| Stage::Connected(format!("{} by the proxy {proxy}", HostAndPort(to.host, to.port))));
    Ok(stream)
}

async fn by_socks(proxy: &Proxy, tcp: TcpStream, to: &Endpoint<'_>) -> Result<Stream, Refused> {
    let server = (to.host, to.port);
    let asked = match &proxy.login {
        None => Socks5Stream::connect_with_socket(tcp, server).await,
        Some((user, secret)) => {
            let password = std::str::from_utf8(secret.reveal()).unwrap_or_default();
            Socks5Stream::connect_with_password_and_socket(tcp, server, user, password).await
        }
    };
    let socks = asked.map_err(|error| of_socks(&error, to))?;
    Ok(Stream::plain(Tcp::new(socks.into_inner())))
}

fn of_socks(error: &SocksError, to: &Endpoint<'_>) -> Refused {
    let server = HostAndPort(to.host, to.port).to_string();
    let (what, hint) = match error {
        SocksError::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            ("it closed the connection before it had answered".to_owned(), Some("is it a SOCKS5 proxy?"))
        }
        SocksError::Io(error) => (format!("connection lost: {error}"), None),
        SocksError::NoAcceptableAuthMethods | SocksError::AuthorizationRequired => {
            ("it refused us without a log-in".to_owned(), Some(WANTS_LOGIN))
        }
        SocksError::PasswordAuthFailure(_) => ("it refused user and password".to_owned(), Some(CHECK_LOGIN)),
        SocksError::ConnectionNotAllowedByRuleset => (format!("its rules do not allow {server}"), None),
        SocksError::HostUnreachable => {
            (format!("it cannot reach {server}, or finds no such name"), Some("check `host`"))
        }
        SocksError::NetworkUnreachable => (format!("it cannot reach the network of {server}"), None),
        SocksError::ConnectionRefused => {
            (format!("{server} refused its connection"), Some("the server may be down; check `port`"))
        }
        SocksError::TtlExpired => (format!("it gave up waiting for {server}"), None),
        SocksError::GeneralSocksServerFailure => (format!("it could not connect to {server}"), None),
        SocksError::InvalidResponseVersion => {
            ("what it sent is not SOCKS5".to_owned(), Some("is it an HTTP proxy? `proxy: http://...`"))
        }
        other => (other.to_string(), None),
    };
    Refused(what, hint)
}

async fn by_http(proxy: &Proxy, tcp: Tcp, to: &Endpoint<'_>) -> Result<Stream, Refused> {
    let server = HostAndPort(to.host, to.port).to_string();
    let mut request = Request::builder().method(Method::CONNECT).uri(&server).header(HOST, &server);
    if let Some((user, secret)) = &proxy.login {
        request = request.header(PROXY_AUTHORIZATION, basic(user, secret.reveal())?);
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| Refused(error.to_string(), None))?;
    let spoken = |error: hyper::Error| {
        let hint = error.is_parse().then_some("is it a SOCKS5 proxy? `proxy: socks5://...`");
        let closed = error.is_closed() || error.is_canceled() || error.is_incomplete_message();
        let what = if closed {
            "it closed the connection before it had answered".to_owned()
        } else {
            format!("what it sent is no answer to CONNECT ({error})")
        };
        Refused(what, hint)
    };
    let handshake = http1::Builder::new().max_buf_size(LONGEST_HEAD).handshake(TokioIo::new(tcp));
    let (mut sender, connection) = handshake.await.map_err(spoken)?;
    let (connection, mut over) = (connection.without_shutdown(), None);
    let answer = sender.send_request(request);
    tokio::pin!(connection, answer);
    let answer = tokio::select! {
        biased;
        answer = &mut answer => answer,
        // It has handed over what it read; how it failed is told to the answer.
        parts = &mut connection => {
            over = Some(parts);
            answer.await
        }
    };
    accepted(answer.map_err(spoken)?.status(), &server)?;
    let parts = match over {
        Some(parts) => parts,
        None => connection.await,
    };
    let Parts { io, read_buf, .. } = parts.map_err(spoken)?;
    Ok(Stream::plain(Ahead { ahead: read_buf, tcp: io.into_inner() }))
}

fn accepted(status: StatusCode, server: &str) -> Result<(), Refused> {
    let (what, hint) = match status {
        status if status.is_success() => return Ok(()),
        StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
            ("it wants a log-in, or refused this one".to_owned(), Some(WANTS_LOGIN))
        }
        StatusCode::FORBIDDEN | StatusCode::METHOD_NOT_ALLOWED => (
            format!("it does not allow {server}"),
            Some("many proxies allow port 443 alone; ask its operator"),
        ),
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
            (format!("it could not connect to {server}"), None)
        }
        _ => (format!("it did not connect to {server}"), None),
    };
    Err(Refused(format!("{what} (status {})", status.as_u16()), hint))
}

fn basic(user: &str, password: &[u8]) -> Result<HeaderValue, Refused> {
    let plain = Zeroizing::new([user.as_bytes(), b":", password].concat());
    let encoded = Zeroizing::new(format!("Basic {}", STANDARD.encode(&plain)));
    let value = HeaderValue::from_str(&encoded).map(|mut value| {
        value.set_sensitive(true);
        value
    });
    value.map_err(|error| Refused(error.to_string(), None))
}
