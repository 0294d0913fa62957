//! Stands between a client and a server, passes octets on, and at a chosen one stops, or cuts the connection: the middle
//! of a session, exactly.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::RcvBuf;

use super::wire::PATIENCE;

/// Whose octets count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Client,
    Server,
}

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
    /// How fast a client's octets pass.
    pace: Option<(usize, Duration)>,
}

#[derive(Debug, Default)]
struct State {
    limit: Option<Limit>,
    /// Octets over all connections, by side.
    passed: [u64; 2],
    holding: bool,
    over: bool,
    sockets: Vec<TcpStream>,
}

/// Where to stop, counted over all connections.
#[derive(Debug, Clone, Copy)]
struct Limit {
    side: Side,
    at: u64,
    then: Then,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Hold,
    Cut,
}

impl Relay {
    /// Starts on a free loopback port, before a server on another one.
    pub fn start(server: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free loopback port");
        Self::on(listener, server, None)
    }

    /// Starts one that passes so many octets a time from the client, with a pause behind each, and has room for few.
    pub fn slow(server: u16, octets: usize, pause: Duration) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free loopback port");
        // What is accepted has it from the listener.
        setsockopt(&listener, RcvBuf, &octets).expect("SO_RCVBUF");
        Self::on(listener, server, Some((octets, pause)))
    }

    fn on(listener: TcpListener, server: u16, pace: Option<(usize, Duration)>) -> Self {
        let address = listener.local_addr().expect("the listener's address");
        let shared = Arc::new(Shared { pace, ..Shared::default() });
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
                    let (up, down) = (Arc::clone(&shared), Arc::clone(&shared));
                    thread::spawn(move || down.pass(Side::Server, server, to_client));
                    thread::spawn(move || up.pass(Side::Client, client, to_server));
                }
            }
        });
        Self { address, shared, acceptor: Some(acceptor) }
    }

    /// Gives the port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Passes on so many octets more from the server and then none until [`Relay::open`].
    pub fn hold_after(&self, octets: u64) {
        self.limit(Side::Server, octets, Then::Hold);
    }

    /// Passes on nothing more from the client until [`Relay::open`].
    pub fn hold_client(&self) {
        self.limit(Side::Client, 0, Then::Hold);
    }

    /// Passes on so many octets more of a side, and then ends both directions of the connection. Those that follow pass.
    pub fn cut_after(&self, side: Side, octets: u64) {
        self.limit(side, octets, Then::Cut);
    }

    fn limit(&self, side: Side, octets: u64, then: Then) {
        let mut state = self.shared.lock();
        let at = state.passed[side as usize] + octets;
        (state.limit, state.holding) = (Some(Limit { side, at, then }), false);
        self.shared.changed.notify_all();
    }

    /// Counts the octets of a side that have passed.
    pub fn passed(&self, side: Side) -> u64 {
        self.shared.lock().passed[side as usize]
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
        assert!(!wait.timed_out(), "{:?} octets passed", state.passed);
    }

    /// Passes everything on again.
    pub fn open(&self) {
        let mut state = self.shared.lock();
        (state.limit, state.holding) = (None, false);
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

    /// Waits until something of these octets may pass; gives how many, and whether the connection ends behind them.
    fn let_through(&self, side: Side, octets: usize) -> (usize, bool) {
        let mut state = self.lock();
        loop {
            let limit = state.limit.filter(|limit| limit.side == side && !state.over);
            let left = limit.map_or(u64::MAX, |limit| limit.at.saturating_sub(state.passed[side as usize]));
            let room = left.min(octets as u64);
            let cuts = limit.is_some_and(|limit| limit.then == Then::Cut) && room == left;
            if cuts {
                state.limit = None;
            }
            if cuts || room > 0 {
                state.passed[side as usize] += room;
                return (room as usize, cuts);
            }
            state.holding = true;
            self.changed.notify_all();
            state = self.changed.wait(state).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
    }

    fn pass(&self, side: Side, mut from: TcpStream, mut to: TcpStream) {
        let mut octets = [0; 16384];
        let pace = self.pace.filter(|_| side == Side::Client);
        let most = pace.map_or(octets.len(), |(most, _)| most);
        while let Ok(n) = from.read(&mut octets[..most])
            && n > 0
        {
            if let Some((_, pause)) = pace {
                thread::sleep(pause);
            }
            let mut passed = 0;
            while passed < n {
                let (room, cuts) = self.let_through(side, n - passed);
                let written = to.write_all(&octets[passed..passed + room]);
                if cuts {
                    let _ = to.shutdown(Shutdown::Both);
                }
                if cuts || written.is_err() {
                    let _ = from.shutdown(Shutdown::Both);
                    return;
                }
                passed += room;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    }
}
