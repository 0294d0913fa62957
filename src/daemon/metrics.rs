//! The metrics in a file, as OpenMetrics text (which Prometheus' node exporter collects, too): replaced as a whole, so
//! that nobody reads half of one.

use std::future;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::task::JoinSet;

use super::view::View;
use crate::disk::{blocking, durable};
use crate::state::outlook::Seen;
use crate::status::metrics::Format;

/// The file is written this often at most, however many polls end.
const PAUSE: Duration = Duration::from_secs(10);

/// Where the metrics are written.
#[derive(Debug)]
pub struct Metrics {
    path: PathBuf,
    view: View,
    /// When it was written last.
    written: Option<Duration>,
    /// Something has changed since.
    stale: bool,
    /// The write that is under way. There is one at most: each would wait for the same disk, on a thread of its own.
    writing: JoinSet<io::Result<()>>,
    /// It cannot be written, which was told.
    failed: bool,
}

impl Metrics {
    pub fn new(path: PathBuf, view: View) -> Self {
        Self { path, view, written: None, stale: true, writing: JoinSet::new(), failed: false }
    }

    /// Takes note that there is something new to be written.
    pub fn changed(&mut self) {
        self.stale = true;
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Begins to write the file, if something has changed and it is time; gives when it is, unless that depends on the
    /// end of the write before ([`Metrics::written`]). A disk that hangs holds up nobody.
    pub fn write(&mut self, now: Duration) -> Option<Duration> {
        let (view, path) = (self.view.clone(), self.path.clone());
        self.write_by(now, async move {
            let snapshot = view.look(Seen::Uncounted).await;
            if let Err(error) = &snapshot {
                log::debug!("{error}");
            }
            let text = view.metrics(snapshot.as_ref().ok(), Format::Open);
            blocking::compute(move || publish(&path, &text)).await
        })
    }

    fn write_by(
        &mut self,
        now: Duration,
        write: impl Future<Output = io::Result<()>> + Send + 'static,
    ) -> Option<Duration> {
        if !self.stale || !self.writing.is_empty() {
            return None;
        }
        let due = self.written.map_or(Duration::ZERO, |written| written.saturating_add(PAUSE));
        if now < due {
            return Some(due);
        }
        (self.written, self.stale) = (Some(now), false);
        self.writing.spawn(write);
        None
    }

    /// Waits for the end of the write that is under way, for ever if none is. What goes wrong is told once. Nothing is
    /// lost if it is dropped.
    pub async fn written(&mut self) {
        let Some(ended) = self.writing.join_next().await else { return future::pending().await };
        match ended.map_err(io::Error::other).flatten() {
            Ok(()) => self.failed = false,
            Err(error) => {
                if !self.failed {
                    log::warn!("cannot write the metrics to {}: {error}", self.path.display());
                }
                self.failed = true;
            }
        }
    }

    /// Writes what has changed since the last time.
    pub async fn finish(mut self, now: Duration) {
        if !self.writing.is_empty() {
            self.written().await;
        }
        self.written = None;
        self.write(now);
        if !self.writing.is_empty() {
            self.written().await;
        }
    }
}

/// Replaces the file, readable by all: it has no secrets, and who collects it is another user.
fn publish(path: &Path, text: &str) -> io::Result<()> {
    durable::publish(path, ".postrider-metrics", text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn metrics() -> Metrics {
        Metrics::new("m".into(), {
            let state = Path::new("/dev/null/state.db");
            View::new(&crate::state::Store::open(state), state)
        })
    }

    #[tokio::test]
    async fn the_file_is_written_at_once_then_at_most_every_ten_seconds_and_only_if_something_was_counted() {
        let mut metrics = metrics();
        let mut begins = |seconds: u32, counted: bool| {
            if counted {
                metrics.changed();
            }
            let next = metrics.write_by(seconds * SECOND, async { Ok(()) });
            let begun = metrics.writing.len();
            metrics.writing.detach_all();
            (begun, next)
        };
        assert_eq!(begins(100, false), (1, None));
        assert_eq!(begins(200, false), (0, None));
        assert_eq!(begins(201, true), (1, None));
        assert_eq!(begins(202, true), (0, Some(211 * SECOND)));
        assert_eq!(begins(211, false), (1, None));
    }

    #[tokio::test]
    async fn a_disk_that_hangs_gets_one_write_and_the_next_when_that_has_ended() {
        let mut metrics = metrics();
        let (release, released) = tokio::sync::oneshot::channel::<()>();
        metrics.write_by(SECOND, async { released.await.map_err(io::Error::other) });
        for minute in 1..10 {
            metrics.changed();
            assert_eq!(metrics.write_by(60 * minute * SECOND, async { Ok(()) }), None);
            assert_eq!(metrics.writing.len(), 1);
        }
        release.send(()).unwrap();
        metrics.written().await;
        assert!(metrics.writing.is_empty() && metrics.stale);
        metrics.write_by(600 * SECOND, async { Ok(()) });
        assert_eq!(metrics.writing.len(), 1);
    }

    #[test]
    fn the_file_is_replaced_as_a_whole_and_all_may_read_it() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("postrider.prom");
        for text in ["one\n", "two\n"] {
            publish(&path, text).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        }
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
