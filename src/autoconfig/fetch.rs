//! Gets a document over HTTPS, from whoever may have it.

use std::net::IpAddr;
use std::time::Duration;

use http_body_util::Empty;
use hyper::Request;
use hyper::body::Bytes;

use super::address::Address;
use super::document::{Document, LONGEST};
use super::server::{Doubt, Found, Miss};
use crate::config::account::{Tls, TlsMode};
use crate::config::{Account, HttpUrl, Proxy, Reach};
use crate::net::http::Reply;
use crate::net::{Connector, Endpoint};
use crate::text::Shown;

/// How long each question may take, however often it is sent on.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// How often a question is sent on.
const MOST_REDIRECTS: usize = 3;

/// By what way questions go. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Asking {
    pub(super) connector: Connector,
    pub(super) tls: Tls,
    pub(super) proxy: Option<Proxy>,
    pub(super) bind: Option<IpAddr>,
}

impl Asking {
    /// Goes the way that an account's connections go.
    pub fn as_of(account: &Account) -> Self {
        Self {
            connector: Connector::default(),
            tls: Tls { ca: account.tls.ca.clone(), ..Tls::bare(TlsMode::Implicit) },
            proxy: account.proxy.clone(),
            bind: account.bind,
        }
    }

    pub(super) fn endpoint<'a>(&'a self, host: &'a str, port: u16, tls: &'a Tls) -> Endpoint<'a> {
        let (proxy, bind) = (self.proxy.as_ref(), self.bind);
        Endpoint {
            account: "setup",
            host,
            port,
            tls,
            reach: &Reach::Anywhere,
            bind,
            proxy,
            connect: None,
            timeout: PATIENCE,
        }
    }
}

/// Where a document may be, and what is to be thought of it.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    pub(super) url: HttpUrl,
    /// The address is told to whoever answers there.
    pub(super) query: String,
    /// How one came to ask there.
    pub(super) way: Vec<Doubt>,
}

impl Candidate {
    /// Gives the places for a domain, in order; `way` says how one came to that domain.
    pub(super) fn of(domain: &str, address: &Address, way: &[Doubt]) -> Vec<Self> {
        let query = format!("?emailaddress={}", address.encoded());
        let place = |host: String, target: String, query: &str| Self {
            url: HttpUrl { mode: TlsMode::Implicit, host, port: 443, target },
            query: query.to_owned(),
            way: way.to_vec(),
        };
        let path = "/mail/config-v1.1.xml";
        vec![
            place(format!("autoconfig.{domain}"), path.to_owned(), &query),
            place(domain.to_owned(), format!("/.well-known/autoconfig{path}"), ""),
            place("v1.ispdb.net".to_owned(), format!("/{domain}"), ""),
        ]
    }

    /// Gives the place that has no TLS; nobody on the way is told the address.
    pub(super) fn without_tls(domain: &str) -> Self {
        let host = format!("autoconfig.{domain}");
        let url = HttpUrl { mode: TlsMode::None, host, port: 80, target: "/mail/config-v1.1.xml".into() };
        Self { url, query: String::new(), way: vec![Doubt::PlainHttp] }
    }

    /// Asks there.
    pub(super) async fn ask(self, asking: Asking, address: Address) -> Result<Found, Vec<Miss>> {
        let asked = self.url.to_string();
        let miss = |came: String| vec![Miss::new(&asked, came)];
        let got = match tokio::time::timeout(PATIENCE, self.document(&asking)).await {
            Ok(got) => got,
            Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
        };
        let document = got.map_err(&miss)?;
        let server = document.server(&address);
        let server = server.map_err(|told| vec![Miss { asked: asked.clone(), ..told }])?;
        Ok(Found::new(server, asked.clone(), &self.way, &address))
    }

    async fn document(&self, asking: &Asking) -> Result<Document, String> {
        let mut url = self.url.clone();
        for _ in 0..=MOST_REDIRECTS {
            let reply = self.get(asking, &url).await?;
            let Some(elsewhere) = &reply.elsewhere else { return read(&reply) };
            url = redirected(&url, elsewhere)?;
        }
        Err(format!("sent on more than {MOST_REDIRECTS} times"))
    }

    async fn get(&self, asking: &Asking, url: &HttpUrl) -> Result<Reply, String> {
        // Who is sent on to another host tells nobody there who asks.
        let query = if url.host == self.url.host { self.query.as_str() } else { "" };
        let request = Request::get(format!("{}{query}", url.target))
            .header("Host", url.authority())
            .header("Accept", "text/xml, application/xml")
            .body(Empty::<Bytes>::new())
            .map_err(|error| error.to_string())?;
        let endpoint = asking.endpoint(&url.host, url.port, &asking.tls);
        asking.connector.request(&endpoint, url, request).await.map_err(|error| error.to_string())
    }
}

fn read(reply: &Reply) -> Result<Document, String> {
    match reply.status {
        200 if reply.body.len() > LONGEST => Err(format!("sent more than {LONGEST} octets")),
        200 => Document::parse(&reply.body).map_err(|what| format!("sent a document that {what}")),
        404 | 410 => Err("has none (404)".into()),
        status => Err(format!("answered with status {status}")),
    }
}

/// Follows where it leads, but never out of TLS.
fn redirected(from: &HttpUrl, to: &str) -> Result<HttpUrl, String> {
    if to.starts_with('/') && !to.starts_with("//") {
        return Ok(HttpUrl { target: to.to_owned(), ..from.clone() });
    }
    let url = HttpUrl::parse(to).ok().filter(|url| url.mode == TlsMode::Implicit);
    url.ok_or_else(|| format!("sends on to {}, where nobody goes without TLS", Shown(to.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_is_followed_within_tls_alone() {
        let from = HttpUrl::parse("https://autoconfig.example.org/mail/config-v1.1.xml").unwrap();
        for (to, url) in [
            ("/x.xml", Some("https://autoconfig.example.org/x.xml")),
            ("https://www.example.org/x", Some("https://www.example.org/x")),
            ("http://autoconfig.example.org/x", None),
            ("http://127.0.0.1/x", None),
            ("//evil.example/x", None),
            ("ftp://example.org/x", None),
            ("", None),
        ] {
            assert_eq!(redirected(&from, to).ok().map(|url| url.to_string()).as_deref(), url, "{to}");
        }
    }

    #[test]
    fn the_places_of_a_domain_are_asked_in_the_order_of_the_draft() {
        let address = Address::parse("a+b@example.org").unwrap();
        let places = Candidate::of("example.org", &address, &[]);
        let shown: Vec<_> = places.iter().map(|place| format!("{}{}", place.url, place.query)).collect();
        assert_eq!(
            shown,
            [
                "https://autoconfig.example.org/mail/config-v1.1.xml?emailaddress=a%2Bb%40example%2Eorg",
                "https://example.org/.well-known/autoconfig/mail/config-v1.1.xml",
                "https://v1.ispdb.net/example.org",
            ]
        );
    }
}
