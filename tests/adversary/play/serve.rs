//! Runs a session against the server until it is over, killed, or stopped for another.

use std::cell::Cell;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::Poll;

use postrider::testing::session::Report;
use tokio::net::TcpListener;

use super::super::kills::{Killed, Stroke};
use super::super::server::{Ended, Server};

/// How a session ended.
pub enum Session {
    Over(Box<Report>),
    Killed,
    Panicked,
}

/// A session that runs.
pub type Running<'a> = Pin<Box<dyn Future<Output = Report> + 'a>>;

/// Runs a session against the server, and another one when it is stopped, if that is to be. When it is over, the server still
/// takes in what was sent to it.
pub async fn serve(
    session: Running<'_>,
    server: &mut Server,
    listener: &TcpListener,
    (stroke, mut other): (&Stroke, Option<Running<'_>>),
) -> Session {
    let (busy, stopped) = (Cell::new(false), Cell::new(false));
    let mut serve = Box::pin(async {
        loop {
            let Ok((socket, _)) = listener.accept().await else { continue };
            busy.set(true);
            // What ends a connection is what the story has.
            if let Ok(Ended::Killed) = server.serve(socket).await {
                let (Stroke::Theft(_), true) = (stroke, server.judge.found.is_empty()) else { return };
                stroke.falls();
                server.judge.forgets();
                server.hang_up();
                if let Some(other) = other.take() {
                    stopped.set(true);
                    server.tell(|| "STOPPED, and another polls".into());
                    Box::pin(serve(other, server, listener, (&Stroke::Kill, None))).await;
                    server.tell(|| "it goes on".into());
                    stopped.set(false);
                    tokio::task::yield_now().await;
                }
            }
            busy.set(false);
        }
    });
    let ended = {
        let mut session = session;
        let caught = poll_fn(|context| {
            if stopped.get() {
                return Poll::Pending;
            }
            match catch_unwind(AssertUnwindSafe(|| session.as_mut().poll(context))) {
                Ok(Poll::Pending) => Poll::Pending,
                Ok(Poll::Ready(report)) => Poll::Ready(Session::Over(Box::new(report))),
                Err(cause) if cause.is::<Killed>() => Poll::Ready(Session::Killed),
                Err(_) => Poll::Ready(Session::Panicked),
            }
        });
        tokio::select! {
            biased;
            ended = caught => Some(ended),
            () = &mut serve => None,
        }
    };
    // The client is gone, so that the server reads to the end of what it sent.
    if ended.is_some() {
        tokio::select! {
            biased;
            // It is too late for a kill.
            () = &mut serve => {}
            () = poll_fn(|_| if busy.get() { Poll::Pending } else { Poll::Ready(()) }) => {}
        }
    }
    drop(serve);
    server.hang_up();
    ended.unwrap_or(Session::Killed)
}
