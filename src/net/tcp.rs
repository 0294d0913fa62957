//! A TCP connection that is read as suits what comes: little at once, much of it together.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

/// Octets after which a server is taken for one that sends much.
const MUCH: u64 = 4 << 20;

/// Octets that have to be there then before the system wakes us: so many reads in one go cost the fewest changes between
/// us and a server on the same cores. 512 MiB in one message over TLS from Dovecot on two cores, 5 interleaved runs, 128
/// KiB against none: 3.19 against 3.66 s, 1.15 against 1.88 s of CPU time; 512 KiB is no better.
const TOGETHER: i32 = 128 << 10;

/// How long they are waited for. Fewer may be all that comes.
const GATHERING: Duration = Duration::from_millis(1);

#[derive(Debug)]
pub(super) struct Tcp {
    socket: TcpStream,
    reading: ReadMode,
    /// Octets read in this way so far.
    octets: u64,
}

/// How it is read.
#[derive(Debug)]
enum ReadMode {
    /// As soon as anything is there. Then it is acknowledged before more is waited for: many servers write a reply in
    /// pieces, and TCP holds the second one back until the first is acknowledged (Nagle's algorithm), which the system
    /// here would put off for 40 ms, hoping for something to send along: popa3d took 44 ms a message. It forgets this
    /// with all that is sent.
    AtOnce { unacknowledged: bool },
    /// When [`TOGETHER`] octets are there, or after a wait.
    Together { over: Pin<Box<Sleep>>, waits: bool },
}

impl Tcp {
    pub(super) fn new(socket: TcpStream) -> Self {
        Self { socket, reading: ReadMode::AtOnce { unacknowledged: false }, octets: 0 }
    }

    fn came(&mut self, octets: usize) {
        self.octets += octets as u64;
        let much = self.octets >= MUCH;
        match &mut self.reading {
            ReadMode::Together { waits, .. } => *waits = false,
            ReadMode::AtOnce { unacknowledged } => {
                *unacknowledged = true;
                if much && self.wake_at(TOGETHER) {
                    let over = Box::pin(tokio::time::sleep(GATHERING));
                    self.become_one(ReadMode::Together { over, waits: false });
                }
            }
        }
    }

    fn become_one(&mut self, reading: ReadMode) {
        (self.reading, self.octets) = (reading, 0);
    }

    /// Waits for more; ready once it should be looked whether something is there.
    fn poll_gathered(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.reading {
            ReadMode::AtOnce { unacknowledged } => {
                if std::mem::take(unacknowledged) {
                    self.acknowledge();
                }
                return Poll::Pending;
            }
            ReadMode::Together { over, waits } => {
                if !std::mem::replace(waits, true) {
                    over.as_mut().reset(Instant::now() + GATHERING);
                }
                std::task::ready!(over.as_mut().poll(cx));
            }
        }
        // From the system's view anything that is there came just now: it says so.
        self.wake_at(1);
        self.become_one(ReadMode::AtOnce { unacknowledged: true });
        Poll::Ready(())
    }
}

#[cfg(target_os = "linux")]
mod low_water {
    use nix::libc;

    /// socket(7), `SO_RCVLOWAT`: Linux heeds it where it is waited for a socket, too.
    #[derive(Clone)]
    pub struct LowWater;
    nix::setsockopt_impl!(
        LowWater,
        libc::SOL_SOCKET,
        libc::SO_RCVLOWAT,
        i32,
        nix::sys::socket::sockopt::SetStruct<'_, i32>
    );
}

#[cfg(target_os = "linux")]
impl Tcp {
    /// Has the system wake us when so many octets are there; says whether it will.
    fn wake_at(&self, octets: i32) -> bool {
        nix::sys::socket::setsockopt(&self.socket, low_water::LowWater, &octets).is_ok()
    }

    fn acknowledge(&self) {
        // A connection that is broken says so when it is read.
        let _ = self.socket.set_quickack(true);
    }
}

#[cfg(not(target_os = "linux"))]
impl Tcp {
    fn wake_at(&self, _: i32) -> bool {
        false
    }

    fn acknowledge(&self) {}
}

impl AsyncRead for Tcp {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        loop {
            if let Poll::Ready(read) = Pin::new(&mut self.socket).poll_read(cx, buf) {
                self.came(buf.filled().len() - before);
                return Poll::Ready(read);
            }
            std::task::ready!(self.poll_gathered(cx));
        }
    }
}

write_through!(Tcp, socket);

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;
    use std::time::{Duration, Instant};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn a_reply_that_a_server_writes_in_pieces_is_not_waited_for() {
        const REPLIES: u32 = 100;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        // As popa3d does, without TCP_NODELAY.
        let server = std::thread::spawn(move || {
            let (mut far, _) = listener.accept().unwrap();
            for line in BufReader::new(far.try_clone().unwrap()).lines() {
                line.unwrap();
                far.write_all(b"+OK\r\n").unwrap();
                far.write_all(b"body\r\n").unwrap();
                far.write_all(b".\r\n").unwrap();
            }
        });
        let mut stream = Tcp::new(socket);
        let began = Instant::now();
        for _ in 0..REPLIES {
            stream.write_all(b"RETR 1\r\n").await.unwrap();
            let mut reply = [0; 14];
            stream.read_exact(&mut reply).await.unwrap();
            assert_eq!(&reply, b"+OK\r\nbody\r\n.\r\n");
        }
        let took = began.elapsed();
        drop(stream);
        server.join().unwrap();
        // A delayed acknowledgement takes 40 ms.
        assert!(took < REPLIES * Duration::from_millis(10), "{took:?}");
    }

    #[tokio::test]
    async fn what_comes_behind_much_is_not_waited_for() {
        const REPLIES: u32 = 20;
        const OCTETS: usize = MUCH as usize + 1;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let server = std::thread::spawn(move || {
            let (mut far, _) = listener.accept().unwrap();
            let body = vec![b'x'; OCTETS];
            for line in BufReader::new(far.try_clone().unwrap()).lines() {
                line.unwrap();
                far.write_all(&body).unwrap();
                far.write_all(b".").unwrap();
            }
        });
        let mut stream = Tcp::new(socket);
        let (mut together, mut body) = (0, vec![0; OCTETS]);
        for _ in 0..REPLIES {
            stream.write_all(b"RETR 1\r\n").await.unwrap();
            stream.read_exact(&mut body).await.unwrap();
            together += u32::from(matches!(stream.reading, ReadMode::Together { .. }));
            // Nothing more is said before this was read.
            let end = tokio::time::timeout(Duration::from_secs(5), stream.read_u8()).await;
            assert_eq!(end.expect("the end of the reply").unwrap(), b'.');
        }
        drop(stream);
        server.join().unwrap();
        assert!(together > 0, "never read together");
    }
}
