//! Proxies: the road to a server that cannot be reached straight.

use std::fmt;

use super::host::{HostAndPort, host_and_port, host_name};
use super::percent::decode;
use crate::secret::Secret;
use crate::text::Shown;

/// A proxy that connects us to servers. It finds their names' addresses, too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    pub kind: ProxyKind,
    /// Host name or address literal (IPv6 without brackets).
    pub host: String,
    pub port: u16,
    /// Who logs in there.
    pub login: Option<(String, Secret)>,
}

/// What a proxy speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProxyKind {
    /// RFC 1928, with user and password as in RFC 1929.
    Socks5,
    /// CONNECT (RFC 9110, 9.3.6).
    Http,
}

/// The schemes, and the port where none is given.
const KINDS: [(&str, ProxyKind, u16); 2] =
    [("socks5://", ProxyKind::Socks5, 1080), ("http://", ProxyKind::Http, 8080)];

/// RFC 1929 has one octet for the length of each, and HTTP's lines are limited.
const LONGEST: usize = 255;

impl Proxy {
    /// Reads a URL. The words of an error complete "KEY: ...", and quote nothing: there may be a password in it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const SHAPE: &str = "must be socks5://HOST:PORT or http://HOST:PORT, with USER:PASSWORD@ before the host if \
                             the proxy wants that";
        let found = KINDS.iter().find_map(|kind| Some((kind, text.strip_prefix(kind.0)?)));
        let ((_, kind, default_port), rest) = found.ok_or(SHAPE)?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains(['/', '?', '#']) || !rest.bytes().all(|octet| octet.is_ascii_graphic()) {
            return Err(SHAPE);
        }
        let (login, address) = match rest.rsplit_once('@') {
            Some((login, address)) => (Some(log_in(login)?), address),
            None => (None, rest),
        };
        const HOST: &str = "must be a URL with the proxy's name or address";
        let (host, port) = host_and_port(address).map_err(|bad| bad.in_url(HOST))?;
        let host = host_name(host).map_err(|_| HOST)?;
        Ok(Self { kind: *kind, host, port: port.unwrap_or(*default_port), login })
    }
}

fn log_in(text: &str) -> Result<(String, Secret), &'static str> {
    const WRONG: &str = "must have USER:PASSWORD before the @, each of 1 to 255 octets, with %40 for @, %3A for : and %25 for %";
    let (user, password) = text.split_once(':').ok_or(WRONG)?;
    let decoded = |text: &str| {
        let text = decode(text).ok_or(WRONG)?;
        // HTTP's Basic has no colon in a user (RFC 7617, 2).
        let fits = (1..=LONGEST).contains(&text.len()) && !text.contains(char::is_control);
        if fits { Ok(text) } else { Err(WRONG) }
    };
    let user = decoded(user)?;
    if user.contains(':') {
        return Err(WRONG);
    }
    Ok((user, Secret::new(decoded(password)?)))
}

/// The URL, with the password masked.
impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = KINDS.iter().find(|(_, kind, _)| *kind == self.kind).map_or("", |(scheme, ..)| scheme);
        f.write_str(scheme)?;
        if let Some((user, secret)) = &self.login {
            write!(f, "{}:{secret}@", Shown(user.as_bytes()))?;
        }
        HostAndPort(&self.host, self.port).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_written_as_it_was_read_but_for_the_password() {
        for (text, shown) in [
            ("socks5://127.0.0.1:9050", "socks5://127.0.0.1:9050"),
            ("socks5://Proxy.example", "socks5://proxy.example:1080"),
            ("http://[::1]:3128/", "http://[::1]:3128"),
            ("http://a%40b:p%3Aw@proxy", "http://a@b:[secret]@proxy:8080"),
        ] {
            assert_eq!(Proxy::parse(text).unwrap().to_string(), shown, "{text}");
        }
        let proxy = Proxy::parse("socks5://u%3a:x@h");
        assert!(proxy.is_err(), "a colon in the user");
        let (user, secret) = Proxy::parse("socks5://u:p%40%25:@h").unwrap().login.unwrap();
        assert_eq!((user.as_str(), secret.reveal()), ("u", &b"p@%:"[..]));
    }

    #[test]
    fn what_is_no_proxy_is_refused_without_being_quoted() {
        let long = "x".repeat(256);
        for text in [
            "",
            "proxy:1080",
            "https://h",
            "socks4://h:1",
            "socks5://",
            "socks5://h:0",
            "socks5://h:99999",
            "http://h/path",
            "http://h?x",
            "socks5://user@h",
            "socks5://:p@h",
            "socks5://u:@h",
            "http://u:p\n@h",
            "http://u:%00@h",
            "http://u:100%@h",
            "http://h h",
            &format!("http://u:{long}@h"),
        ] {
            let error = Proxy::parse(text).unwrap_err();
            assert!(error.starts_with("must "), "{text}: {error}");
        }
    }
}
