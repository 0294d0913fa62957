//! The store's thread, as its handles have it: what it is asked goes there, and the answers come back within their time.

use std::convert::Infallible;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::oneshot;

use super::engine::Request;
use super::postgres::Server;
use super::{StateError, Trouble};

/// How long the thread may take to close the file; whoever was asked to end is ended before (`stop`).
const LONGEST_CLOSING: Duration = Duration::from_secs(10);

/// What the handles of a store share.
pub(super) struct Worker {
    pub(super) place: Place,
    requests: Result<mpsc::Sender<Request>, StateError>,
    /// Requests that were waited for in vain and are not done yet.
    pub(super) silent: Arc<AtomicUsize>,
    /// A database had no room for what was written.
    pub(super) is_full: AtomicBool,
    /// Closed at the thread's end.
    ended: Mutex<mpsc::Receiver<Infallible>>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts the thread, which does this work.
    pub(super) fn start(place: Place, work: impl FnOnce(mpsc::Receiver<Request>) + Send + 'static) -> Self {
        let (requests, incoming) = mpsc::channel();
        let (ending, ended) = mpsc::channel::<Infallible>();
        let spawned = thread::Builder::new().name("state".to_owned()).spawn({
            move || {
                work(incoming);
                drop(ending);
            }
        });
        let (requests, thread) = match spawned {
            Ok(thread) => (Ok(requests), Some(thread)),
            Err(error) => (Err(place.defect(format!("cannot start a thread: {error}"))), None),
        };
        let silent = Arc::default();
        let ended = Mutex::new(ended);
        let is_full = AtomicBool::new(false);
        Self { place, requests, silent, is_full, ended, thread }
    }

    pub(super) fn send(&self, request: Request) -> Result<(), StateError> {
        match &self.requests {
            Ok(requests) => requests.send(request).map_err(|_| self.ended()),
            Err(error) => Err(error.clone()),
        }
    }

    pub(super) async fn receive<T: Send + 'static>(
        &self,
        mut answered: oneshot::Receiver<Result<T, StateError>>,
        patience: Duration,
    ) -> Result<T, StateError> {
        match tokio::time::timeout(patience, &mut answered).await {
            Ok(answer) => answer.unwrap_or_else(|_| Err(self.ended())),
            Err(_) => {
                let silent = self.silent.clone();
                silent.fetch_add(1, Relaxed);
                tokio::spawn(async move {
                    let _ = answered.await;
                    silent.fetch_sub(1, Relaxed);
                });
                Err(self.place.silent(patience))
            }
        }
    }

    fn ended(&self) -> StateError {
        self.place.defect("the thread that owns it has met a defect".to_owned())
    }
}

/// Where the state is.
pub(super) enum Place {
    File(PathBuf),
    Database(Server),
}

impl Place {
    pub(super) fn defect(&self, why: String) -> StateError {
        match self {
            Self::File(path) => StateError::Thread { path: path.clone(), why },
            Self::Database(server) => StateError::of_database(&server.place(), Trouble::Statement, why),
        }
    }

    fn silent(&self, waited: Duration) -> StateError {
        match self {
            Self::File(path) => StateError::Silent { path: path.clone(), waited },
            Self::Database(server) => StateError::no_answer(&server.place(), waited),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // The thread ends with the last sender.
        self.requests = Err(self.ended());
        let is_silent = self.silent.load(Relaxed) > 0;
        let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = self.thread.take()
            && !is_silent
            // On a disk that hangs the next process does what it has left to do.
            && ended.recv_timeout(LONGEST_CLOSING) == Err(RecvTimeoutError::Disconnected)
        {
            // A panic in it was told to whoever asked something.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::File(path) => write!(f, "Store({})", path.display()),
            Place::Database(server) => write!(f, "Store({})", server.place()),
        }
    }
}
