//! Addresses of services that are asked over HTTPS.

use std::fmt;

use sha2::{Digest as _, Sha256};

use super::host::{HostAndPort, host_and_port, host_name, is_loopback};
use super::tls::TlsMode;
use crate::text::hex;

/// An `https` URL, or an `http` one of this machine (RFC 9110, 4.2). No user, no fragment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HttpUrl {
    /// `Implicit` for https, `None` for http.
    pub mode: TlsMode,
    /// Host name or address literal (IPv6 without brackets).
    pub host: String,
    pub port: u16,
    /// Path and query, from the first slash on.
    pub target: String,
}

impl HttpUrl {
    /// Reads a URL. The words of an error complete "KEY: ...", and quote nothing.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let url = Self::parse_any(text)?;
        match url.is_protected_or_near() {
            true => Ok(url),
            false => Err("must be an https:// URL: without TLS only this machine is asked"),
        }
    }

    /// Says whether nobody between here and there can read along.
    pub fn is_protected_or_near(&self) -> bool {
        self.mode != TlsMode::None || is_loopback(&self.host)
    }

    /// Reads a URL that may be of another machine and without TLS.
    pub(super) fn parse_any(text: &str) -> Result<Self, &'static str> {
        let (mode, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
            (Some(rest), _) => (TlsMode::Implicit, rest),
            (None, Some(rest)) => (TlsMode::None, rest),
            (None, None) => return Err("must be a URL that begins with https://"),
        };
        // RFC 3986, 2: all that is not ASCII, and blanks, are percent-encoded.
        if !text.bytes().all(|octet| octet.is_ascii_graphic()) {
            return Err("must be a URL of visible ASCII characters");
        }
        if text.contains('#') {
            return Err("must be a URL without a fragment (#)");
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        if authority.contains('@') {
            return Err("must be a URL without a user in it");
        }
        const HOST: &str = "must be a URL with a host name or address";
        let (host, port) = host_and_port(authority).map_err(|bad| bad.in_url(HOST))?;
        let host = host_name(host).map_err(|_| HOST)?;
        let port = port.unwrap_or(if mode == TlsMode::None { 80 } else { 443 });
        let slash = if target.starts_with('/') { "" } else { "/" };
        Ok(Self { mode, host, port, target: format!("{slash}{target}") })
    }

    /// Shows it without its query, in which there may be a secret; another query shows otherwise.
    pub fn without_query(&self) -> String {
        let whole = self.to_string();
        match whole.split_once('?') {
            Some((shown, query)) => {
                let digest = Sha256::digest(query.as_bytes());
                format!("{shown}?[{}]", hex(&digest[..4]))
            }
            None => whole,
        }
    }

    /// Gives `host`, with the port where it is not the usual one, as a Host field has it.
    pub fn authority(&self) -> String {
        let whole = HostAndPort(&self.host, self.port).to_string();
        let usual = match self.mode {
            TlsMode::None => ":80",
            TlsMode::Implicit | TlsMode::StartTls => ":443",
        };
        whole.strip_suffix(usual).map_or_else(|| whole.clone(), str::to_owned)
    }
}

impl fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.mode == TlsMode::None { "http" } else { "https" };
        write!(f, "{scheme}://{}{}", self.authority(), self.target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_written_as_it_was_read() {
        for (text, shown) in [
            ("https://a.example/token", "https://a.example/token"),
            ("https://A.example", "https://a.example/"),
            ("https://a.example:8443?x=1", "https://a.example:8443/?x=1"),
            ("https://a.example:443/", "https://a.example/"),
            ("http://127.0.0.1:80/t", "http://127.0.0.1/t"),
            ("http://[::1]:9/t", "http://[::1]:9/t"),
            ("http://localhost/t", "http://localhost/t"),
        ] {
            assert_eq!(HttpUrl::parse(text).unwrap().to_string(), shown, "{text}");
        }
    }

    #[test]
    fn a_query_is_not_shown_and_tells_urls_apart_all_the_same() {
        let shown = |text: &str| HttpUrl::parse(text).unwrap().without_query();
        assert_eq!(shown("https://a.example/in"), "https://a.example/in");
        let (one, other) =
            (shown("https://a.example/in?key=hunter2"), shown("https://a.example/in?key=hunter3"));
        assert!(one.starts_with("https://a.example/in?[") && !one.contains("hunter2"), "{one}");
        assert_ne!(one, other);
    }

    #[test]
    fn what_would_go_elsewhere_or_in_the_clear_is_refused() {
        for text in [
            "",
            "a.example/token",
            "ftp://a.example/",
            "http://a.example/token",
            "http://127.0.0.1.example/",
            "https://",
            "https:///x",
            "https://u:p@a.example/",
            "https://a.example:0/",
            "https://a.example:x/",
            "https://a.example/#x",
            "https://a.example/a b",
            "https://a.example/\r\nX: y",
            "https://ä.example/",
        ] {
            assert!(HttpUrl::parse(text).is_err(), "{text}");
        }
    }
}
