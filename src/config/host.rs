//! Names of hosts, alone and with a port.

use std::fmt;
use std::net::IpAddr;

/// Shows `host:port`, IPv6 addresses in brackets.
#[derive(Debug, Clone, Copy)]
pub struct HostAndPort<'a>(pub &'a str, pub u16);

impl fmt::Display for HostAndPort<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(host, port) = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// What is wrong with a host and a port in a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BadAddress {
    /// An IPv6 address without brackets.
    Host,
    Port,
}

impl BadAddress {
    /// Completes "KEY: ..."; `host` says what a URL must have for a host.
    pub(super) fn in_url(self, host: &'static str) -> &'static str {
        match self {
            Self::Host => host,
            Self::Port => "must be a URL whose port is a number from 1 to 65535",
        }
    }
}

/// Splits `host`, `host:port`, `[address]` and `[address]:port`.
pub(super) fn host_and_port(server: &str) -> Result<(&str, Option<u16>), BadAddress> {
    let (host, port) = match server.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        Some(_) | None => (server, None),
    };
    if host.contains(':') && !host.starts_with('[') {
        return Err(BadAddress::Host);
    }
    let Some(port) = port else { return Ok((host, None)) };
    // `parse` alone would take a sign.
    let digits = port.bytes().all(|octet| octet.is_ascii_digit());
    match port.parse::<u16>() {
        Ok(port) if digits && port > 0 => Ok((host, Some(port))),
        Ok(_) | Err(_) => Err(BadAddress::Port),
    }
}

/// Checks a host name or address literal; gives it in lower case, so that `maildrop_id` does not depend on how it was
/// typed, and without the brackets of an IPv6 address.
pub(crate) fn host_name(text: &str) -> Result<String, &'static str> {
    let address = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if address.parse::<IpAddr>().is_ok() {
        return Ok(address.to_ascii_lowercase());
    }
    if text.is_empty() {
        return Err("is empty, must be a host name or address");
    }
    if text.contains("://") {
        return Err("must be a host name alone, not a URL");
    }
    if text.split_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) {
        return Err("must be a host name alone: write the port as `port: NUMBER`");
    }
    if !text.is_ascii() {
        return Err("must be a host name in its ASCII form (xn--...)");
    }
    // A trailing dot marks a name as complete.
    let labels = text.strip_suffix('.').unwrap_or(text);
    let sound = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-' || octet == b'_')
            && !label.starts_with('-')
    };
    if labels.len() > 253 || !labels.split('.').all(sound) {
        return Err("must be a host name or address");
    }
    Ok(text.to_ascii_lowercase())
}

/// Says whether what is sent there stays on this machine.
pub(super) fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_or_addresses_and_nothing_else() {
        for (text, host) in [
            ("pop.example.org", "pop.example.org"),
            ("POP.Example.ORG.", "pop.example.org."),
            ("localhost", "localhost"),
            ("_dav.example", "_dav.example"),
            ("192.0.2.1", "192.0.2.1"),
            ("2001:DB8::1", "2001:db8::1"),
            ("[::1]", "::1"),
        ] {
            assert_eq!(host_name(text).as_deref(), Ok(host), "{text}");
        }
        let long = "a".repeat(64);
        for text in [
            "",
            ".",
            "a..b",
            "-a",
            "a b",
            "a/b",
            "pop.example.org:995",
            "pops://a",
            "[::1",
            "bücher.example",
            &long,
        ] {
            assert!(host_name(text).is_err(), "{text}");
        }
    }
}
