//! Where a daemon shows how the accounts stand.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use super::places::Places;
use super::rows::Form;
use super::tree::{Complaint, Content, Node};
use super::values::each;
use super::yaml::{list, text};

/// An address at which the status is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// Beyond loopback it is for metrics and health alone.
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// One address or a list; none is not written.
pub(super) const LISTEN: Form<Vec<Listen>> = Form::new(
    |node, places| match &node.content {
        Content::List(items) if items.is_empty() => Err(node.wrong("is an empty list: write none")),
        Content::List(items) => each(items, |node| one(node, places)),
        Content::Plain(text) | Content::Quoted(text) if text == "none" => Ok(Vec::new()),
        Content::Plain(_) | Content::Quoted(_) | Content::Mapping(_) => Ok(vec![one(node, places)?]),
    },
    |at| {
        let mut shown = at.iter().map(|address| text(&address.to_string()));
        match at.as_slice() {
            [] => String::new(),
            [_] => shown.next().unwrap_or_default(),
            [..] => list(shown),
        }
    },
);

fn one(node: &Node<'_>, places: &Places) -> Result<Listen, Complaint> {
    const SHAPE: &str = "must be none, an address and a port such as 127.0.0.1:9110, or unix:PATH";
    let text = node.text("an address")?;
    if let Some(path) = text.strip_prefix("unix:") {
        return places.absolute(path).map(Listen::Unix).map_err(|what| node.wrong(what));
    }
    let local =
        || Some(SocketAddr::from((Ipv4Addr::LOCALHOST, text.strip_prefix("localhost:")?.parse().ok()?)));
    let address = text.parse().ok().or_else(local).filter(|address: &SocketAddr| address.port() != 0);
    address.map(Listen::Tcp).ok_or_else(|| node.wrong(SHAPE))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    fn read(written: &str) -> Result<Vec<Listen>, String> {
        let yaml = format!(
            "daemon: {{ status_listen: {written} }}\naccounts: {{ a: {{ host: h.example, user: u, password: x, deliver: {{ \
             maildir: /m }} }} }}"
        );
        let config = Config::from_yaml(&yaml, Path::new("config.yaml")).map_err(|error| error.to_string())?;
        Ok(config.status_listen)
    }

    #[test]
    fn the_status_is_served_at_an_address_with_a_port_or_a_socket_or_several() {
        let tcp = |address: &str| Listen::Tcp(address.parse().unwrap());
        for (written, meant) in [
            ("none", vec![]),
            ("127.0.0.1:9110", vec![tcp("127.0.0.1:9110")]),
            ("'[::1]:9110'", vec![tcp("[::1]:9110")]),
            ("localhost:9110", vec![tcp("127.0.0.1:9110")]),
            ("unix:/run/p", vec![Listen::Unix("/run/p".into())]),
            ("[127.0.0.1:1, 0.0.0.0:2]", vec![tcp("127.0.0.1:1"), tcp("0.0.0.0:2")]),
        ] {
            assert_eq!(read(written), Ok(meant.clone()), "{written}");
            let shown = (LISTEN.show)(&meant);
            assert!(shown.is_empty() || read(&shown) == Ok(meant), "{written}: {shown}");
        }
        for wrong in [
            "9110",
            "127.0.0.1",
            "127.0.0.1:0",
            "mail.example:9110",
            "'unix:p'",
            "[]",
            "{ port: 1 }",
            "[none]",
        ] {
            let told = read(wrong).unwrap_err();
            assert!(told.contains("daemon.status_listen"), "{wrong}: {told}");
        }
    }
}
