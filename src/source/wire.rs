//! The wire of a POP3 session: what its answers are like, beside what every line protocol has.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::line::Protocol;
use crate::net::{Stream, wire};
use crate::pop3::{Client, Event, ProtocolError, Reply, Request};

pub type Wire<S = Stream> = wire::Wire<Client, S>;

/// Whether commands are sent ahead of answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sending {
    Ahead,
    /// Each when the one before is answered.
    Lockstep,
}

/// Why nothing more can be had from it.
pub type WireError = wire::WireError<ProtocolError>;

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// Gives what is to be answered next.
    pub fn awaiting(&self) -> Option<Request> {
        self.protocol().awaiting()
    }

    /// Takes what was sent and not answered for lost; fails inside an answer.
    pub fn forget(&mut self) -> Result<(), WireError> {
        if self.protocol_mut().forget() { Ok(()) } else { Err(self.silence()) }
    }

    /// Expects an answer after all to what was taken for lost.
    pub fn expect(&mut self, to: Request) {
        self.protocol_mut().expect(to);
    }

    /// Waits for the status line that answers a request of one line.
    pub async fn reply(&mut self) -> Result<(Request, Reply<'_>), WireError> {
        one_line(self.event().await?)
    }

    /// Waits no longer than this for the status line that answers a request of one line.
    pub async fn reply_within(&mut self, limit: Duration) -> Result<(Request, Reply<'_>), WireError> {
        one_line(self.event_within(limit).await?)
    }
}

/// Takes an event for a status line.
fn one_line(event: Event<&[u8]>) -> Result<(Request, Reply<'_>), WireError> {
    match event {
        Event::Reply { to, status, text } => Ok((to, Reply { status, text })),
        // A listing or a body where a status line is due: the answers are out of step.
        Event::Line { line: octets, .. } | Event::Octets { octets, .. } => {
            Err(Client::unasked(octets).into())
        }
        Event::End { .. } => Err(Client::unasked(b".").into()),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, DuplexStream};
    use tokio::time::Instant;

    use super::*;
    use crate::message::MessageNumber;
    use crate::pop3::Command;

    const MINUTE: Duration = Duration::from_secs(60);

    fn wire(buffer: usize) -> (Wire<DuplexStream>, DuplexStream) {
        let (near, far) = tokio::io::duplex(buffer);
        (Wire::new(near, Client::after_stls(), MINUTE, "test"), far)
    }

    /// Reads events until the wire ends or every answer is in; counts replies.
    async fn replies(wire: &mut Wire<DuplexStream>) -> Result<usize, WireError> {
        let mut replies = 0;
        while wire.unanswered() > 0 {
            replies += usize::from(matches!(wire.event().await?, Event::Reply { .. }));
        }
        Ok(replies)
    }

    #[tokio::test]
    async fn a_server_that_answers_more_than_its_buffers_hold_before_it_reads_on_is_not_waited_for() {
        let (mut wire, far) = wire(64);
        let server = tokio::spawn(async move {
            let mut far = BufReader::with_capacity(16, far);
            let mut line = String::new();
            while far.read_line(&mut line).await.is_ok_and(|octets| octets > 0) {
                far.get_mut().write_all(&[b"+OK ", [b'x'; 500].as_slice(), b"\r\n"].concat()).await.unwrap();
                line.clear();
            }
        });
        for _ in 0..2000 {
            wire.send(Command::Noop).unwrap();
        }
        assert_eq!(replies(&mut wire).await.unwrap(), 2000);
        drop(wire);
        server.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_after_the_time_limit_and_says_what_was_waited_for() {
        let (mut wire, _far) = wire(1024);
        wire.send(Command::Dele(MessageNumber(7))).unwrap();
        let began = Instant::now();
        let error = wire.event().await.unwrap_err();
        assert_eq!(error.to_string(), "gave up after 1m waiting for DELE 7");
        assert_eq!(began.elapsed().as_secs(), 60);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_takes_nothing_ends_the_wait_too() {
        let (mut wire, _far) = wire(1);
        wire.send(Command::Noop).unwrap();
        assert!(matches!(wire.event().await.unwrap_err(), WireError::Silence { .. }));
    }

    #[tokio::test(start_paused = true)]
    async fn a_reply_that_trickles_in_ends_after_ten_time_limits() {
        let (mut wire, mut far) = wire(1024);
        wire.send(Command::Noop).unwrap();
        let trickle = tokio::spawn(async move {
            while far.write_all(b"+").await.is_ok() {
                tokio::time::sleep(Duration::from_secs(50)).await;
            }
        });
        let began = Instant::now();
        let error = wire.event().await.unwrap_err();
        assert!(matches!(error, WireError::Trickle { .. }), "{error}");
        assert!((590..=660).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
        drop(wire);
        trickle.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_body_may_take_longer_than_ten_time_limits_as_long_as_it_moves() {
        let (mut wire, mut far) = wire(4096);
        wire.send(Command::Retr(MessageNumber(1))).unwrap();
        let server = tokio::spawn(async move {
            far.write_all(b"+OK\r\n").await.unwrap();
            for _ in 0..64 {
                far.write_all(&[[b'x'; 65_534].as_slice(), b"\r\n"].concat()).await.unwrap();
                tokio::time::sleep(Duration::from_secs(30)).await;
            }
            far.write_all(b".\r\n").await.unwrap();
            far
        });
        let began = Instant::now();
        assert_eq!(replies(&mut wire).await.unwrap(), 1);
        assert!(began.elapsed() > MINUTE * 10);
        server.await.unwrap();
    }

    #[tokio::test]
    async fn octets_that_wait_before_a_handshake_are_refused() {
        let (mut wire, mut far) = wire(1024);
        wire.send(Command::Stls).unwrap();
        far.write_all(b"+OK begin\r\n+OK forged\r\n").await.unwrap();
        assert!(wire.reply().await.unwrap().1.is_ok());
        assert!(matches!(wire.into_stream(), Err(WireError::Injected)));
    }

    #[tokio::test]
    async fn an_answer_that_came_before_its_command_is_not_taken_for_one() {
        let (mut wire, mut far) = wire(1024);
        wire.send(Command::Noop).unwrap();
        far.write_all(b"+OK\r\n+OK deleted\r\n").await.unwrap();
        assert!(wire.reply().await.unwrap().1.is_ok());
        let error = wire.send(Command::Dele(MessageNumber(1))).unwrap_err();
        assert!(matches!(error, WireError::Protocol(ProtocolError::Unasked { .. })), "{error}");
    }

    #[tokio::test]
    async fn what_the_server_said_before_it_closed_is_still_heard() {
        let (mut wire, mut far) = wire(1024);
        far.write_all(b"-ERR [IN-USE] busy\r\n").await.unwrap();
        drop(far);
        wire.send(Command::Noop).unwrap();
        assert_eq!(wire.reply().await.unwrap().1.text, b"[IN-USE] busy");
        wire.send(Command::Noop).unwrap();
        let error = wire.reply().await.unwrap_err();
        assert!(matches!(error, WireError::Lost { .. } | WireError::Closed { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_goodbye_is_written_and_its_answer_not_waited_for() {
        let (mut wire, mut far) = wire(1024);
        wire.send(Command::Quit).unwrap();
        wire.hang_up(MINUTE).await;
        let mut said = String::new();
        far.read_to_string(&mut said).await.unwrap();
        assert_eq!(said, "QUIT\r\n");
    }
}
