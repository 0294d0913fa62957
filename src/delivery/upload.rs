//! A message on its way out as the body of a request, streamed from where it lies.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http_body_util::BodyExt as _;
use hyper::body::{Body, Bytes, Frame, SizeHint};

use super::reading::Parts;
use super::spool::{Content, Spooled};
use crate::net::http::Upload;

/// Makes a body of a message, with octets before and behind it.
pub(super) fn upload(message: &Arc<Spooled>, before: Bytes, behind: Bytes) -> io::Result<Upload> {
    let left = before.len() as u64 + message.octets + behind.len() as u64;
    let content = match &message.content {
        Content::Memory(_) => Piece::Octets(Bytes::from_owner(InMemory(message.clone()))),
        Content::File(file) => Piece::Parts(Some(Parts::of(file, message.octets)?)),
    };
    let pieces = [Piece::Octets(before), content, Piece::Octets(behind)].into();
    Ok(Streamed { pieces, reading: None, left }.boxed_unsync())
}

/// Octets that stay where they are.
struct InMemory(Arc<Spooled>);

impl AsRef<[u8]> for InMemory {
    fn as_ref(&self) -> &[u8] {
        match &self.0.content {
            Content::Memory(octets) => octets.as_ref(),
            Content::File(_) => &[],
        }
    }
}

enum Piece {
    Octets(Bytes),
    /// What is left of a file; it is away while the next part is read.
    Parts(Option<Parts>),
}

type NextPart = Pin<Box<dyn Future<Output = (Parts, io::Result<Vec<u8>>)> + Send>>;

struct Streamed {
    pieces: VecDeque<Piece>,
    reading: Option<NextPart>,
    /// Octets to come.
    left: u64,
}

impl Streamed {
    /// Gives the next octets, none at the end.
    fn next(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        loop {
            match self.pieces.front_mut() {
                None => return Poll::Ready(Ok(Bytes::new())),
                Some(Piece::Octets(octets)) => {
                    let octets = std::mem::take(octets);
                    self.pieces.pop_front();
                    if !octets.is_empty() {
                        return Poll::Ready(Ok(octets));
                    }
                }
                Some(Piece::Parts(parts)) => {
                    let begun = parts.take().map(|mut parts| -> NextPart {
                        Box::pin(async move {
                            let read = parts.next().await;
                            (parts, read)
                        })
                    });
                    let Some(reading) = self.reading.take().or(begun) else {
                        self.pieces.pop_front();
                        continue;
                    };
                    let (rest, read) = ready!(self.reading.insert(reading).as_mut().poll(cx));
                    self.reading = None;
                    if rest.are_left() {
                        *parts = Some(rest);
                    } else {
                        self.pieces.pop_front();
                    }
                    return Poll::Ready(read.map(Bytes::from));
                }
            }
        }
    }
}

impl Body for Streamed {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let next = ready!(self.next(cx));
        if let Ok(octets) = &next {
            self.left = self.left.saturating_sub(octets.len() as u64);
        }
        Poll::Ready(Some(next.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
