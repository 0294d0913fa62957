//! The daemon's side of the control socket.
//!
//! Each connection is a task that may read and write for a limited time, and there are only so many. What is asked for
//! goes to the daemon's loop, which answers at once; nothing here is waited for by a session or by the loop.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use nix::unistd::geteuid;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{sleep, timeout};

use super::{LONGEST_REQUEST, Reply, Request, line};

/// Connections at once; others wait until one has ended.
const CONNECTIONS: usize = 16;

/// How long a client may take to send a request, or to take a reply.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the daemon's loop is asked by a client; each is answered at once.
#[derive(Debug)]
pub enum Asked {
    /// [`Request::Wake`]. The answer is how many, and the names that are not known.
    Wake(Vec<String>, oneshot::Sender<(usize, Vec<String>)>),
}

#[derive(Debug)]
pub struct Requests(mpsc::Receiver<Asked>);

impl Requests {
    /// Serves a socket, in a task that ends with this.
    pub fn serve(listener: std::os::unix::net::UnixListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let listener = UnixListener::from_std(listener)?;
        let (asks, asked) = mpsc::channel(1);
        tokio::spawn(accept(listener, asks));
        Ok(Self(asked))
    }

    /// Hears nothing: there is no socket.
    pub fn none() -> Self {
        Self(mpsc::channel(1).1)
    }

    /// Waits for a request. Nothing is lost if it is dropped.
    pub async fn next(&mut self) -> Asked {
        match self.0.recv().await {
            Some(asked) => asked,
            None => std::future::pending().await,
        }
    }
}

async fn accept(listener: UnixListener, asks: mpsc::Sender<Asked>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let accepted = tokio::select! {
            () = asks.closed() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let asks = asks.clone();
                tokio::spawn(async move {
                    if let Err(error) = serve(stream, asks).await {
                        log::debug!("control socket: {error}");
                    }
                    drop(place);
                });
            }
            // Descriptors have run out; they come back.
            Err(error) => {
                log::debug!("control socket: {error}");
                sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

/// Answers a client until it goes, falls silent or sends nonsense.
async fn serve(stream: UnixStream, asks: mpsc::Sender<Asked>) -> io::Result<()> {
    let peer = stream.peer_cred()?.uid();
    // The socket's mode says the same where the system heeds it.
    if peer != geteuid().as_raw() && peer != 0 {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("user {peer} is refused")));
    }
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    loop {
        let mut request = Vec::new();
        let mut bounded = (&mut read).take(LONGEST_REQUEST);
        let read = in_time(bounded.read_until(b'\n', &mut request)).await?;
        if read == 0 {
            return Ok(());
        }
        let request = match request.last() {
            Some(b'\n') => serde_json::from_slice(&request).map_err(|error| error.to_string()),
            Some(_) | None => Err("the line does not end".to_owned()),
        };
        match request {
            Ok(request) => answer(request, &asks, &mut write).await?,
            Err(what) => return say(&mut write, &Reply::Error { what }).await,
        }
    }
}

async fn answer(request: Request, asks: &mpsc::Sender<Asked>, to: &mut OwnedWriteHalf) -> io::Result<()> {
    match request {
        Request::Wake { accounts } => {
            let (answer, answered) = oneshot::channel();
            let (accounts, unknown) = ask(asks, Asked::Wake(accounts, answer), answered).await?;
            say(to, &Reply::Woken { accounts, unknown }).await
        }
    }
}

async fn ask<T>(asks: &mpsc::Sender<Asked>, asked: Asked, answered: oneshot::Receiver<T>) -> io::Result<T> {
    let ending = || io::Error::new(io::ErrorKind::BrokenPipe, "the daemon is ending");
    asks.send(asked).await.map_err(|_| ending())?;
    answered.await.map_err(|_| ending())
}

async fn say(to: &mut OwnedWriteHalf, reply: &Reply) -> io::Result<()> {
    in_time(to.write_all(&line(reply))).await
}

async fn in_time<T>(io: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match timeout(PATIENCE, io).await {
        Ok(done) => done,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the client neither reads nor writes")),
    }
}

/// Takes each name once, in its order.
pub fn each_once(names: Vec<String>) -> Vec<String> {
    let mut seen = HashSet::new();
    names.into_iter().filter(|name| seen.insert(name.clone())).collect()
}
