//! The HTTP client against servers that answer as they please.

use std::time::Duration;

use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;
use postrider::testing::config::{Account, HttpUrl, Tls, TlsMode};
use postrider::testing::net::{Connector, Endpoint, HttpError, LONGEST_BODY, NetError, Reply};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::support::certificate::{Certificate, Validity};

/// A server that reads a request and sends this, then waits for the client to go.
async fn serve(answer: Vec<u8>) -> HttpUrl {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/token?x=1", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 4096];
        let count = stream.read(&mut request).await.unwrap();
        assert!(request[..count].starts_with(b"POST /token?x=1 HTTP/1.1\r\n"), "{request:?}");
        // The client may be gone before all of it is sent.
        let _ = stream.write_all(&answer).await;
        if answer.ends_with(b"(closed)") {
            return;
        }
        while stream.read(&mut request).await.is_ok_and(|count| count > 0) {}
    });
    HttpUrl::parse(&url).unwrap()
}

async fn ask(url: &HttpUrl, tls: Tls) -> Result<Reply, HttpError> {
    let account = Account { tls, timeout: Duration::from_millis(500), ..Account::new("home") };
    let request = Request::post(&url.target)
        .header("Host", url.authority())
        .body(Full::<Bytes>::from("grant_type=refresh_token"))
        .unwrap();
    Connector::default().request(&Endpoint::from(&account), url, request).await
}

async fn answered(answer: impl Into<Vec<u8>>) -> Result<Reply, HttpError> {
    ask(&serve(answer.into()).await, Tls::bare(TlsMode::None)).await
}

#[tokio::test]
async fn a_reply_comes_with_its_status_type_and_body_however_it_is_framed() {
    let typed = "HTTP/1.1 400 Bad Request\r\nContent-Type: Application/JSON; charset=utf-8\r\n";
    for framed in [
        "Content-Length: 4\r\n\r\n{}\r\n",
        "Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n3\r\n}\r\n\r\n0\r\n\r\n",
        "Connection: close\r\n\r\n{}(closed)",
    ] {
        let reply = answered(format!("{typed}{framed}")).await.unwrap();
        assert_eq!((reply.status, reply.media_type.as_str()), (400, "application/json"), "{framed}");
        assert!(reply.body.starts_with(b"{}"), "{framed}");
    }
    let busy = "HTTP/1.1 429 Slow Down\r\nRetry-After: 30\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(answered(busy).await.unwrap().retry_after, Some(Duration::from_secs(30)));
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_its_query_not_shown() {
    let answer =
        "HTTP/1.1 302 Found\r\nLocation: https://else.example/x?code=hunter2\r\nContent-Length: 0\r\n\r\n";
    let reply = answered(answer).await.unwrap();
    assert_eq!((reply.status, reply.elsewhere.as_deref()), (302, Some("https://else.example/x")));
}

#[tokio::test]
async fn a_reply_without_end_is_cut_off() {
    let endless = format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{}", "x".repeat(LONGEST_BODY + 1));
    assert!(matches!(answered(endless).await, Err(HttpError::TooLong)));
    let head = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(1 << 20));
    assert!(matches!(answered(head).await, Err(HttpError::Protocol(_))));
}

#[tokio::test]
async fn a_server_that_is_silent_or_stops_in_the_middle_is_given_up() {
    assert!(matches!(answered("").await, Err(HttpError::TimedOut { .. })));
    let half = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{}";
    let given_up = answered(half).await.unwrap_err();
    assert_eq!(given_up.to_string(), "gave up after 0.5s waiting for the answer");
    assert!(matches!(answered("(closed)").await, Err(HttpError::Closed | HttpError::Protocol(_))));
    let cut = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n(closed)";
    let told = answered(cut).await.unwrap_err();
    assert!(matches!(told, HttpError::Closed), "{told:?}");
}

#[tokio::test]
async fn another_protocol_is_told_from_http() {
    let told = answered("+OK POP3 ready\r\n").await.unwrap_err();
    assert!(matches!(told, HttpError::Protocol(_)), "{told}");
    assert_eq!(told.hint().as_deref(), Some("is there an HTTPS server at that address?"));
}

#[tokio::test]
async fn a_server_with_another_hosts_certificate_hears_nothing() {
    let elsewhere = Certificate::issue(&["else.example"], Validity::Current);
    let ca = elsewhere.authority_pem.clone();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ca.pem");
    std::fs::write(&path, ca).unwrap();
    let acceptor = TlsAcceptor::from(elsewhere.server());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/token", listener.local_addr().unwrap());
    let heard = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        acceptor.accept(stream).await.is_ok()
    });
    let tls = Tls { ca: Some(path), ..Tls::bare(TlsMode::Implicit) };
    let refused = ask(&HttpUrl::parse(&url).unwrap(), tls).await.unwrap_err();
    assert!(matches!(&refused, HttpError::Net(NetError::Certificate(_))), "{refused}");
    assert!(!heard.await.unwrap());
}
