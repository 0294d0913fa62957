//! The browser's way back to this machine (RFC 8252, 7.3): one request is answered, on loopback alone.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::allow::{Attempt, NotTaken};
use crate::config::HttpUrl;
use crate::config::account::TlsMode;
use crate::config::oauth2::OAuth2Client;
use crate::secret::Secret;

/// Octets of a request's head at most.
const LONGEST: usize = 32 << 10;
/// How long a browser may take to say what it wants; some connect ahead and say nothing.
const PATIENCE: Duration = Duration::from_secs(30);
/// Connections at once.
const MOST: usize = 16;

/// Where the browser comes back to.
pub(super) struct Return {
    /// Sockets of both families: a browser takes `localhost` for either. None: the way back is another one.
    sockets: Vec<TcpListener>,
    pub(super) redirect: String,
    path: String,
}

impl Return {
    /// Listens where the client's redirect leads, if that is here.
    pub(super) async fn open(client: &OAuth2Client) -> io::Result<Self> {
        let host = client.provider.map_or("127.0.0.1", |provider| provider.redirect_host);
        let configured = client.redirect.clone().unwrap_or_else(|| format!("http://{host}"));
        // RFC 8252, 7.3: the port is free to choose unless it is named.
        let url = HttpUrl::parse(&configured).ok().filter(|url| url.mode == TlsMode::None);
        let Some(url) = url else {
            return Ok(Self { sockets: Vec::new(), redirect: configured, path: String::new() });
        };
        let authority = configured.strip_prefix("http://").and_then(|rest| rest.split(['/', '?']).next());
        let is_named = authority.is_some_and(|authority| authority.ends_with(&format!(":{}", url.port)));
        let first = if url.host.contains(':') { "::1" } else { "127.0.0.1" };
        let first = TcpListener::bind((first, if is_named { url.port } else { 0 })).await?;
        let port = first.local_addr()?.port();
        let mut sockets = vec![first];
        if url.host == "localhost" {
            // Where there is no IPv6, no browser comes that way.
            sockets.extend(TcpListener::bind(("::1", port)).await);
        }
        let redirect = if is_named { configured } else { HttpUrl { port, ..url.clone() }.to_string() };
        // What was registered without a path is sent without one.
        let redirect = if url.target == "/" { redirect.trim_end_matches('/').to_owned() } else { redirect };
        let path = url.target.split('?').next().unwrap_or_default().to_owned();
        Ok(Self { sockets, redirect, path })
    }

    /// Says whether the browser can come back here.
    pub(super) fn is_here(&self) -> bool {
        !self.sockets.is_empty()
    }

    /// Waits for the browser to bring the code; what it brings else is given to `say`.
    pub(super) async fn code(
        &self,
        attempt: &Attempt,
        say: &mut dyn FnMut(&str),
    ) -> Result<Secret, NotTaken> {
        let mut visits: JoinSet<io::Result<(TcpStream, String)>> = JoinSet::new();
        loop {
            let connected = tokio::select! {
                connected = self.accept(), if visits.len() < MOST => connected,
                Some(visit) = visits.join_next() => {
                    if let Ok(Ok((stream, target))) = visit
                        && let Some(code) = self.visit(stream, &target, attempt, say).await?
                    {
                        return Ok(code);
                    }
                    continue;
                }
            };
            if let Ok(stream) = connected {
                visits.spawn(async move { tokio::time::timeout(PATIENCE, asked(stream)).await? });
            }
        }
    }

    async fn accept(&self) -> io::Result<TcpStream> {
        match self.sockets.as_slice() {
            [] => std::future::pending().await,
            [one] => one.accept().await.map(|(stream, _)| stream),
            [one, other, ..] => tokio::select! {
                accepted = one.accept() => accepted.map(|(stream, _)| stream),
                accepted = other.accept() => accepted.map(|(stream, _)| stream),
            },
        }
    }

    /// Answers a request; gives the code if it has brought it.
    async fn visit(
        &self,
        stream: TcpStream,
        target: &str,
        attempt: &Attempt,
        say: &mut dyn FnMut(&str),
    ) -> Result<Option<Secret>, NotTaken> {
        if target.split('?').next() != Some(&self.path) {
            answer(stream, "404 Not Found", "There is nothing here.").await;
            return Ok(None);
        }
        match attempt.code(target) {
            Ok(code) => {
                answer(stream, "200 OK", "postrider has what it needs. You may close this window.").await;
                Ok(Some(code))
            }
            Err(error @ NotTaken::Refused(_)) => {
                answer(stream, "200 OK", "The provider said no; postrider says more in its terminal.").await;
                Err(error)
            }
            Err(error) => {
                answer(stream, "400 Bad Request", "That is not what postrider waits for.").await;
                say(&format!("The browser brought an address that is not the right one: {error}."));
                Ok(None)
            }
        }
    }
}

/// Reads a request, and gives what it asks for; empty if it is none that a browser makes.
async fn asked(mut stream: TcpStream) -> io::Result<(TcpStream, String)> {
    let mut head = Vec::new();
    while memchr::memmem::find(&head, b"\r\n\r\n").is_none() {
        if head.len() > LONGEST || stream.read_buf(&mut head).await? == 0 {
            return Ok((stream, String::new()));
        }
    }
    let line = head.split(|&octet| octet == b'\r').next().unwrap_or_default();
    let line = str::from_utf8(line).unwrap_or_default();
    let target = line.strip_prefix("GET ").and_then(|rest| rest.split(' ').next());
    let target = target.unwrap_or_default().to_owned();
    Ok((stream, target))
}

async fn answer(mut stream: TcpStream, status: &str, words: &str) {
    let page = format!("<!doctype html><meta charset=utf-8><title>postrider</title><p>{words}\n");
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {}\r\nCache-Control: no-store\r\n\
         Referrer-Policy: no-referrer\r\nConnection: close\r\n\r\n{page}",
        page.len()
    );
    let say = async {
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await
    };
    // The code is had, whether the browser hears of it or not.
    let _ = tokio::time::timeout(PATIENCE, say).await;
}
