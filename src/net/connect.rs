//! TCP: name resolution and the race of a host's addresses (RFC 8305).

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::SndBuf;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

use super::{Deadline, Endpoint, NetError, Stage, Watch};

/// How long an address may be silent before the next is tried beside it (RFC 8305, 5: Connection Attempt Delay).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// Octets that the system may hold for a connection; it takes twice as many.
const UNSENT: usize = 128 << 10;
/// Addresses that are tried at most; a name with more is no mail server.
const MOST_ADDRESSES: usize = 32;

pub(super) async fn tcp(
    to: &Endpoint<'_>,
    deadline: &Deadline,
    watch: &Watch,
) -> Result<TcpStream, NetError> {
    let addresses = addresses(to, deadline, watch).await?;
    let late = || NetError::ConnectTimedOut { addresses: ips(&addresses), after: deadline.patience };
    let stream = deadline.wait(late, race(addresses.clone(), to.bind, watch)).await?;
    // Commands are small and wait for answers: nothing is won by holding them back.
    if let Err(error) = stream.set_nodelay(true) {
        log::debug!("{}: cannot set TCP_NODELAY: {error}", to.account);
    }
    // What lies there counts as taken, and drains unseen: on a slow line for longer than the time limit, if it is much.
    if let Err(error) = setsockopt(&stream, SndBuf, &UNSENT) {
        log::debug!("{}: cannot set SO_SNDBUF: {error}", to.account);
    }
    Ok(stream)
}

/// Looks up the host's addresses, anew for each connection: at least one, all of them allowed, in the order in which they
/// are tried.
pub(super) async fn addresses(
    to: &Endpoint<'_>,
    deadline: &Deadline,
    watch: &Watch,
) -> Result<VecDeque<SocketAddr>, NetError> {
    let host = to.host;
    let late = || NetError::ResolverTimedOut { host: host.to_owned(), after: deadline.patience };
    let mut addresses = deadline.wait(late, resolve(host, to.port)).await?;
    // The address that is looked at is the one that is connected to: a name may mean another one the next time.
    if !addresses.is_empty() && addresses.iter().all(|address| !to.reach.allows(address.ip())) {
        return Err(NetError::Forbidden { host: host.to_owned(), addresses: ips(&addresses.into()) });
    }
    addresses.retain(|address| to.reach.allows(address.ip()));
    let addresses = order(addresses, to.bind)
        .ok_or_else(|| NetError::NoSuchFamily { host: host.to_owned(), bind: to.bind })?;
    watch.saw(|| Stage::Resolved(ips(&addresses)));
    Ok(addresses)
}

async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, NetError> {
    match tokio::net::lookup_host((host, port)).await {
        Ok(addresses) => Ok(addresses.collect()),
        Err(error) => Err(unresolved(host, &error)),
    }
}

/// Tells a name that does not exist from a resolver that does not answer.
///
/// std passes on getaddrinfo's text only, not its code; the texts are those of glibc, musl and the BSDs.
fn unresolved(host: &str, error: &io::Error) -> NetError {
    const NO_SUCH_NAME: [&str; 6] = [
        "Name or service not known",
        "No address associated with",
        "Name does not resolve",
        "Name has no usable address",
        "nodename nor servname",
        "hostname nor servname",
    ];
    let text = error.to_string();
    if NO_SUCH_NAME.iter().any(|known| text.contains(known)) {
        return NetError::UnknownHost { host: host.to_owned() };
    }
    // "failed to lookup address information: " says nothing that we do not say.
    let reason = text.rsplit_once("information: ").map_or(text.as_str(), |(_, reason)| reason);
    NetError::Resolver { host: host.to_owned(), reason: reason.to_owned() }
}

/// Drops what cannot be reached from `bind`, and lets the families alternate (RFC 8305, 4), the resolver's first
/// choice first (RFC 6724). `None` if nothing is left.
fn order(addresses: Vec<SocketAddr>, bind: Option<IpAddr>) -> Option<VecDeque<SocketAddr>> {
    let fits = |address: &SocketAddr| bind.is_none_or(|bind| bind.is_ipv4() == address.is_ipv4());
    let first = addresses.iter().find(|&address| fits(address))?.is_ipv4();
    let (mut preferred, mut others): (VecDeque<_>, VecDeque<_>) =
        addresses.into_iter().filter(fits).partition(|address| address.is_ipv4() == first);
    let mut ordered = VecDeque::new();
    while ordered.len() < MOST_ADDRESSES {
        match (preferred.pop_front(), others.pop_front()) {
            (None, None) => break,
            (one, other) => ordered.extend(one.into_iter().chain(other)),
        }
    }
    Some(ordered)
}

/// Tries the addresses in order, the next one as soon as one failed or was silent for a quarter of a second; the
/// first that answers wins and the others are dropped.
async fn race(
    mut waiting: VecDeque<SocketAddr>,
    bind: Option<IpAddr>,
    watch: &Watch,
) -> Result<TcpStream, NetError> {
    let mut attempts = JoinSet::new();
    let mut failures = Vec::new();
    loop {
        if let Some(address) = waiting.pop_front() {
            attempts.spawn(attempt(address, bind));
        }
        tokio::select! {
            attempted = attempts.join_next() => match attempted {
                Some(Ok(Ok(stream))) => {
                    watch.saw(|| Stage::Connected(peer(&stream)));
                    return Ok(stream);
                }
                Some(Ok(Err(failure))) => {
                    watch.saw(|| Stage::Unreached(failure.address, failure.source.to_string()));
                    failures.push(failure);
                }
                // Attempts neither panic nor are aborted before the race is over.
                Some(Err(_)) => {}
                None if waiting.is_empty() => return Err(worst(failures)),
                None => {}
            },
            () = tokio::time::sleep(ATTEMPT_DELAY), if !waiting.is_empty() => {}
        }
    }
}

fn peer(stream: &TcpStream) -> String {
    stream.peer_addr().map_or_else(|_| "connected".to_owned(), |address| address.to_string())
}

/// One address that was tried in vain.
#[derive(Debug)]
struct Attempt {
    address: SocketAddr,
    bind_failed: bool,
    source: io::Error,
}

async fn attempt(address: SocketAddr, bind: Option<IpAddr>) -> Result<TcpStream, Attempt> {
    let failed = |source| Attempt { address, bind_failed: false, source };
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.map_err(failed)?;
    if let Some(bind) = bind {
        let bound = socket.bind(SocketAddr::new(bind, 0));
        bound.map_err(|source| Attempt { address, bind_failed: true, source })?;
    }
    socket.connect(address).await.map_err(failed)
}

/// Picks the failure that says most: a host without IPv6 fails its IPv6 addresses with "unreachable", which is not
/// why there is no connection.
fn worst(failures: Vec<Attempt>) -> NetError {
    let addresses = failures.iter().map(|failure| failure.address.ip()).collect();
    let unreachable = |error: &io::Error| {
        matches!(
            error.kind(),
            io::ErrorKind::NetworkUnreachable
                | io::ErrorKind::HostUnreachable
                | io::ErrorKind::AddrNotAvailable
        )
    };
    let telling = failures.into_iter().max_by_key(|failure| match failure.source.kind() {
        _ if failure.bind_failed => 3,
        io::ErrorKind::ConnectionRefused => 2,
        _ if unreachable(&failure.source) => 0,
        _ => 1,
    });
    match telling {
        Some(Attempt { source, address, bind_failed: true }) => {
            NetError::Bind { family: if address.is_ipv4() { "IPv4" } else { "IPv6" }, source }
        }
        Some(Attempt { source, address, .. }) if source.kind() == io::ErrorKind::ConnectionRefused => {
            NetError::Refused { addresses, port: address.port() }
        }
        Some(Attempt { source, .. }) if unreachable(&source) => NetError::Unreachable { addresses, source },
        Some(Attempt { source, .. }) => NetError::NoConnection { addresses, source },
        None => NetError::NoConnection { addresses, source: io::Error::other("no address was tried") },
    }
}

fn ips(addresses: &VecDeque<SocketAddr>) -> Vec<IpAddr> {
    addresses.iter().map(SocketAddr::ip).collect()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::net::TcpListener;

    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn families_alternate_and_keep_their_order() {
        let mixed = addresses(&["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "2.2.2.2:1"]);
        let expected = addresses(&["[::1]:1", "1.1.1.1:1", "[::2]:1", "2.2.2.2:1", "[::3]:1"]);
        assert_eq!(order(mixed.clone(), None).unwrap(), expected);
        let four = addresses(&["1.1.1.1:1", "2.2.2.2:1"]);
        assert_eq!(order(mixed, Some(Ipv4Addr::LOCALHOST.into())).unwrap(), four);
        assert_eq!(order(four, Some("::1".parse().unwrap())), None);
        assert_eq!(order(vec!["1.1.1.1:1".parse().unwrap(); 100], None).unwrap().len(), MOST_ADDRESSES);
    }

    #[test]
    fn a_name_that_does_not_exist_is_told_from_a_resolver_that_does_not_answer() {
        let error = |text: &str| {
            unresolved("x", &io::Error::other(format!("failed to lookup address information: {text}")))
        };
        assert!(matches!(error("Name or service not known"), NetError::UnknownHost { .. }));
        assert!(matches!(error("No address associated with hostname"), NetError::UnknownHost { .. }));
        let temporary = error("Temporary failure in name resolution");
        assert!(matches!(&temporary, NetError::Resolver { .. }));
        assert!(temporary.to_string().contains("x: Temporary failure in name resolution"), "{temporary}");
    }

    #[tokio::test]
    async fn an_address_that_refuses_gives_way_to_the_next_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let good = listener.local_addr().unwrap();
        let dead = SocketAddr::new("127.0.0.2".parse().unwrap(), good.port());
        let stream = race([dead, good].into(), None, &Watch::default()).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), good);
    }

    #[tokio::test]
    async fn an_address_that_is_silent_does_not_hold_up_the_next() {
        // A listener whose queue is full lets a SYN go unanswered.
        let silent = TcpSocket::new_v4().unwrap();
        silent.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let silent = silent.listen(1).unwrap();
        let address = silent.local_addr().unwrap();
        let mut queued = Vec::new();
        while let Ok(Ok(stream)) =
            tokio::time::timeout(Duration::from_millis(50), TcpStream::connect(address)).await
        {
            queued.push(stream);
            assert!(queued.len() < 100, "the queue does not fill up");
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let good = listener.local_addr().unwrap();
        let begun = std::time::Instant::now();
        let stream = race([address, good].into(), None, &Watch::default()).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), good);
        // A quarter of a second, and what a busy machine adds.
        let took = begun.elapsed();
        assert!((ATTEMPT_DELAY..ATTEMPT_DELAY * 8).contains(&took), "{took:?}");
    }

    #[test]
    fn the_failure_that_says_most_is_told() {
        let failure = |kind: io::ErrorKind| Attempt {
            address: "127.0.0.1:1".parse().unwrap(),
            bind_failed: false,
            source: kind.into(),
        };
        let refused = worst(vec![
            failure(io::ErrorKind::NetworkUnreachable),
            failure(io::ErrorKind::ConnectionRefused),
        ]);
        assert!(matches!(refused, NetError::Refused { addresses, port: 1 } if addresses.len() == 2));
        let unreachable = worst(vec![failure(io::ErrorKind::HostUnreachable)]);
        assert!(matches!(unreachable, NetError::Unreachable { .. }));
    }
}
