//! Servers and ports as other programs name them.

/// Services of `/etc/services` that mail programs name.
const SERVICES: [(&str, u16); 8] = [
    ("pop3", 110),
    ("pop-3", 110),
    ("pop3s", 995),
    ("smtp", 25),
    ("submission", 587),
    ("submissions", 465),
    ("smtps", 465),
    ("lmtp", 24),
];

/// Reads a port, or the name of a service that has one.
pub(super) fn port(text: &str) -> Option<u16> {
    let service = || SERVICES.iter().find(|(name, _)| *name == text).map(|(_, port)| *port);
    text.parse().ok().filter(|port| *port != 0).or_else(service)
}

/// Says whether a server is on this machine.
pub(super) fn is_here(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}
