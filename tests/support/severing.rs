//! Stands between a client and a server and cuts the first connection after a given octet of one side.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

/// Whose octets count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// What the client sends.
    Client,
    /// What the server sends.
    Server,
}

/// A running relay; it ends when this is dropped.
#[derive(Debug)]
pub struct Severing {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    side: Side,
    /// Octets that still pass before the cut; `u64::MAX`: all.
    left: AtomicU64,
    /// Octets of that side that have passed.
    passed: AtomicU64,
    over: AtomicBool,
    sockets: Mutex<Vec<TcpStream>>,
}

impl Severing {
    /// Starts before the server on this port; after so many octets of the side, counted over all connections, both
    /// directions of the connection end. Then, and with `None`, everything passes.
    pub fn start(server: u16, side: Side, after: Option<u64>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free loopback port");
        let address = listener.local_addr().expect("the listener's address");
        let shared = Arc::new(Shared {
            side,
            left: AtomicU64::new(after.unwrap_or(u64::MAX)),
            passed: AtomicU64::new(0),
            over: AtomicBool::new(false),
            sockets: Mutex::default(),
        });
        let acceptor = thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                while let Ok((client, _)) = listener.accept() {
                    if shared.over.load(Ordering::SeqCst) {
                        return;
                    }
                    let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, server)) else { continue };
                    let clone = |socket: &TcpStream| socket.try_clone().expect("another handle of a socket");
                    for socket in [&client, &server] {
                        let _ = socket.set_nodelay(true);
                        shared.sockets.lock().expect("no panic while it is held").push(clone(socket));
                    }
                    let (from, to, other) = (clone(&client), clone(&server), Arc::clone(&shared));
                    thread::spawn(move || other.pass(Side::Client, from, to));
                    let shared = Arc::clone(&shared);
                    thread::spawn(move || shared.pass(Side::Server, server, client));
                }
            }
        });
        Self { address, shared, acceptor: Some(acceptor) }
    }

    /// Gives the port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Counts the octets of the side that have passed.
    pub fn passed(&self) -> u64 {
        self.shared.passed.load(Ordering::SeqCst)
    }
}

impl Drop for Severing {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        for socket in self.shared.sockets.lock().expect("no panic while it is held").iter() {
            // Most are closed already.
            let _ = socket.shutdown(Shutdown::Both);
        }
        // Wakes the acceptor, so that it sees that it is over.
        drop(TcpStream::connect(self.address));
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

impl Shared {
    fn pass(&self, side: Side, mut from: TcpStream, mut to: TcpStream) {
        let mut octets = [0; 4096];
        while let Ok(n) = from.read(&mut octets) {
            if n == 0 {
                let _ = to.shutdown(Shutdown::Write);
                return;
            }
            let mut room = n;
            if side == self.side {
                let left = self.left.load(Ordering::SeqCst);
                room = left.min(n as u64) as usize;
                self.passed.fetch_add(room as u64, Ordering::SeqCst);
                if left != u64::MAX {
                    // After the cut everything passes, in the connections that follow.
                    let cuts = room as u64 == left;
                    self.left.store(if cuts { u64::MAX } else { left - room as u64 }, Ordering::SeqCst);
                    if cuts {
                        let _ = to.write_all(&octets[..room]);
                        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
                        return;
                    }
                }
            }
            if to.write_all(&octets[..room]).is_err() {
                let _ = from.shutdown(Shutdown::Both);
                return;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    }
}
