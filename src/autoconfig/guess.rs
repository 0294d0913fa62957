//! A guess, which is tried: a server answers there, and shows a certificate for its name.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::address::Address;
use super::fetch::{Asking, PATIENCE};
use super::server::{Found, Miss, Server};
use crate::config::account::{Tls, TlsMode};
use crate::net::Stream;
use crate::text::Shown;

/// Octets of a first line at most (RFC 1939, 3).
const LONGEST_LINE: usize = 512;

/// Tries the usual names of a domain's servers at once, those with TLS first; the first in order that answers wins.
pub(super) async fn guess(asking: &Asking, address: &Address) -> Result<Found, Vec<Miss>> {
    let modes = [TlsMode::Implicit, TlsMode::StartTls];
    let guesses = modes.into_iter().flat_map(|mode| {
        ["pop", "pop3", "mail"].map(|name| {
            let server = Server {
                host: format!("{name}.{}", address.domain),
                port: mode.default_port(),
                mode,
                user: address.to_string(),
                password: true,
                oauth2: None,
                note: None,
            };
            (server.clone(), tokio::spawn(answers(asking.clone(), server)))
        })
    });
    let mut misses = Vec::new();
    // All of them are begun before the first is waited for.
    for (server, trying) in guesses.collect::<Vec<_>>() {
        match trying.await {
            Ok(Ok(())) => {
                let found = Found::new(server, "trying the usual names".into(), &[], address);
                return Ok(found.with_guessed_user());
            }
            Ok(Err(came)) => misses.push(Miss::new(server.to_string(), came)),
            Err(error) => misses.push(Miss::new(server.to_string(), error.to_string())),
        }
    }
    Err(misses)
}

/// Looks whether a POP3 server answers there.
async fn answers(asking: Asking, server: Server) -> Result<(), String> {
    let tls = Tls { mode: server.mode, ..asking.tls.clone() };
    let endpoint = asking.endpoint(&server.host, server.port, &tls);
    let trying = async {
        let mut stream = asking.connector.connect(endpoint).await.map_err(|error| error.to_string())?;
        greeted(&mut stream).await?;
        if server.mode == TlsMode::StartTls {
            stream.write_all(b"STLS\r\n").await.map_err(|error| error.to_string())?;
            // Octet by octet: nothing that came before TLS is believed after it.
            greeted(&mut stream).await?;
            asking.connector.start_tls(stream, endpoint).await.map_err(|error| error.to_string())?;
        }
        Ok(())
    };
    // A connection and a handshake have a limit of their own.
    let limit = PATIENCE + Duration::from_secs(2);
    timeout(limit, trying).await.unwrap_or_else(|_| Err(format!("no answer within {} s", PATIENCE.as_secs())))
}

/// Reads a line, which must be `+OK`.
async fn greeted(stream: &mut Stream) -> Result<(), String> {
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') && line.len() < LONGEST_LINE {
        line.push(stream.read_u8().await.map_err(|_| "closed the connection without a word".to_owned())?);
    }
    match line.starts_with(b"+OK") {
        true => Ok(()),
        false => Err(format!("is no POP3 server: it says {:?}", Shown(line.trim_ascii_end()))),
    }
}
