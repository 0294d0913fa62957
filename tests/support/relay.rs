//! Stands between a client and a server, passes octets on, and stops at a chosen one: the middle of a session, exactly.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};

use super::wire::PATIENCE;

/// A running relay; it ends, with its connections, when this is dropped.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    hold_after: Option<u64>,
    passed: u64,
    holding: bool,
    over: bool,
    sockets: Vec<TcpStream>,
}

impl Relay {
    /// Starts on a free loopback port, before a server on another one.
    pub fn start(server: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free loopback port");
        let address = listener.local_addr().expect("the listener's address");
        let shared = Arc::new(Shared::default());
        let acceptor = thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                while let Ok((client, _)) = listener.accept() {
                    if shared.lock().over {
                        return;
                    }
                    let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, server)) else { continue };
                    let (Ok(to_server), Ok(to_client)) = (server.try_clone(), client.try_clone()) else {
                        return;
                    };
                    for socket in [&client, &server] {
                        let _ = socket.set_nodelay(true);
                        shared.lock().sockets.extend(socket.try_clone());
                    }
                    thread::spawn({
                        let shared = Arc::clone(&shared);
                        move || pass(server, to_client, |octets| shared.let_through(octets))
                    });
                    thread::spawn(move || pass(client, to_server, |octets| octets));
                }
            }
        });
        Self { address, shared, acceptor: Some(acceptor) }
    }

    /// Gives the port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Passes on so many octets more from the server, over all connections, and then none until [`Relay::open`].
    pub fn hold_after(&self, octets: u64) {
        let mut state = self.shared.lock();
        (state.hold_after, state.passed, state.holding) = (Some(octets), 0, false);
    }

    /// Says whether octets are held back.
    pub fn is_holding(&self) -> bool {
        self.shared.lock().holding
    }

    /// Waits until octets are held back; panics if that does not happen.
    pub fn wait_for_hold(&self) {
        let state = self.shared.lock();
        let waited = self.shared.changed.wait_timeout_while(state, PATIENCE, |state| !state.holding);
        let (state, wait) = waited.unwrap_or_else(|poisoned| poisoned.into_inner());
        assert!(!wait.timed_out(), "the server sent only {} octets", state.passed);
    }

    /// Passes everything on again.
    pub fn open(&self) {
        let mut state = self.shared.lock();
        (state.hold_after, state.holding) = (None, false);
        self.shared.changed.notify_all();
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        {
            let mut state = self.shared.lock();
            state.over = true;
            for socket in &state.sockets {
                // Most are closed already.
                let _ = socket.shutdown(Shutdown::Both);
            }
        }
        self.shared.changed.notify_all();
        // Wakes the acceptor, so that it sees that it is over.
        drop(TcpStream::connect(self.address));
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Waits until something of these octets may pass, and gives how many.
    fn let_through(&self, octets: usize) -> usize {
        let mut state = self.lock();
        loop {
            let room = match state.hold_after {
                Some(limit) if !state.over => limit.saturating_sub(state.passed).min(octets as u64) as usize,
                _ => octets,
            };
            if room > 0 {
                state.passed += room as u64;
                return room;
            }
            state.holding = true;
            self.changed.notify_all();
            state = self.changed.wait(state).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, let_through: impl Fn(usize) -> usize) {
    let mut octets = [0; 16384];
    while let Ok(n) = from.read(&mut octets) {
        let mut passed = 0;
        while passed < n {
            let room = let_through(n - passed);
            if to.write_all(&octets[passed..passed + room]).is_err() {
                let _ = from.shutdown(Shutdown::Both);
                return;
            }
            passed += room;
        }
        if n == 0 {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
