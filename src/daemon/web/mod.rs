//! The accounts over HTTP: a page, JSON, metrics, and a word for who watches. It changes nothing.
//!
//! hyper's own server, a request a connection: there are four pages, no routes with parts to be taken out, no bodies to be
//! read, and the client needs the same crate. Whoever connects is trusted to send nothing, to read nothing, and to come a
//! thousand at once.

mod answer;

use std::convert::Infallible;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::view::View;
use crate::config::Listen;
use crate::disk::{above, durable};
use answer::{Door, answer};

/// Connections at once by one address; others wait until one has ended.
const CONNECTIONS: usize = 64;

/// How long a client may take for the head of its request, and for all.
const HEAD: Duration = Duration::from_secs(5);
const WHOLE: Duration = Duration::from_secs(30);

/// The longest head of a request, in octets, and its fields.
const LONGEST_HEAD: usize = 16 << 10;
const MOST_FIELDS: usize = 64;

/// Serves until it is dropped.
#[derive(Debug, Default)]
pub struct Web {
    doors: JoinSet<()>,
    /// Where it does.
    at: Vec<Listen>,
    /// Sockets that were made.
    made: Vec<PathBuf>,
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Web {
    /// Listens at these addresses. Where it cannot, that is told: mail is fetched all the same.
    pub async fn listen(at: &[Listen], view: &View) -> Self {
        let mut this = Self::default();
        for address in at {
            let opened = match address {
                Listen::Tcp(address) => TcpListener::bind(address).await.map(Listener::Tcp),
                Listen::Unix(path) => open(path).map(Listener::Unix),
            };
            let listener = match opened {
                Ok(listener) => listener,
                Err(error) => {
                    log::error!("`status_listen`: cannot listen at {address}: {error}");
                    continue;
                }
            };
            let door = match address {
                Listen::Unix(path) => {
                    this.made.push(path.clone());
                    Door::Socket
                }
                Listen::Tcp(address) if address.ip().is_loopback() => Door::Loopback,
                Listen::Tcp(_) => Door::Open,
            };
            log::info!("the status is served at {address}");
            this.at.push(address.clone());
            this.doors.spawn(accept(listener, door, view.clone()));
        }
        this
    }

    pub fn addresses(&self) -> &[Listen] {
        &self.at
    }

    /// Ends it, so that its addresses are free.
    pub async fn end(mut self) {
        self.doors.shutdown().await;
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        for path in self.made.drain(..) {
            // What is left finds nobody who listens, and the next daemon takes it over.
            let _ = fs::remove_file(path);
        }
    }
}

/// Makes a socket that its owner and their group may use: a proxy before it, for one.
fn open(path: &Path) -> io::Result<UnixListener> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "something else is there"));
        }
        Ok(_) | Err(_) => {}
    }
    let listener = listen(path)?;
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

/// Makes the socket where nobody else can reach it, and puts it into its place when only those may use it who shall.
fn listen(socket: &Path) -> io::Result<net::UnixListener> {
    let hidden = tempfile::Builder::new().prefix(".c").rand_bytes(4).tempdir_in(above(socket))?;
    let new = hidden.path().join("s");
    let listener = net::UnixListener::bind(&new)?;
    fs::set_permissions(&new, Permissions::from_mode(0o660))?;
    durable::replace(socket, &new)?;
    Ok(listener)
}

async fn accept(listener: Listener, door: Door, view: View) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    // Ended with this.
    let mut clients = JoinSet::new();
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let accepted = match &listener {
            Listener::Tcp(listener) => listener.accept().await.map(|(stream, _)| {
                let view = view.clone();
                clients.spawn(async move {
                    serve(stream, door, view).await;
                    drop(place);
                });
            }),
            Listener::Unix(listener) => listener.accept().await.map(|(stream, _)| {
                let view = view.clone();
                clients.spawn(async move {
                    serve(stream, door, view).await;
                    drop(place);
                });
            }),
        };
        while clients.try_join_next().is_some() {}
        // Descriptors have run out; they come back.
        if let Err(error) = accepted {
            log::debug!("`status_listen`: {error}");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, door: Door, view: View) {
    let service = service_fn(|request: Request<Incoming>| {
        let view = view.clone();
        async move { Ok::<_, Infallible>(answer(request.into_parts().0, door, &view).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(LONGEST_HEAD)
        .max_headers(MOST_FIELDS)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(WHOLE, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => log::debug!("`status_listen`: {error}"),
        Err(_) => log::debug!("`status_listen`: the client did not take the answer"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_its_owners_and_their_groups_and_takes_the_place_of_one_that_was_left() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("s");
        drop(listen(&socket).unwrap());
        assert!(net::UnixStream::connect(&socket).is_err());
        let _second = listen(&socket).unwrap();
        assert!(net::UnixStream::connect(&socket).is_ok());
        assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o660);
        let left: Vec<_> = fs::read_dir(directory.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }
}
