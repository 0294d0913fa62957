//! Asks all who may know, at once; the first in order that has an answer wins.

use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::address::Address;
use super::dns::{Dns, operators};
use super::fetch::{Asking, Candidate, PATIENCE};
use super::guess::guess;
use super::known::{known, of_exchanger};
use super::server::{Doubt, Found, Miss, Server};
use crate::config::account::TlsMode;
use crate::config::host_name;
use crate::text::Shown;

/// What came of looking for a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub found: Option<Found>,
    /// Those before it in order, who had nothing.
    pub misses: Vec<Miss>,
}

impl Outcome {
    /// Gives the IMAP server that somebody named, if nobody named one for POP3.
    pub fn imap(&self) -> Option<&str> {
        self.misses.iter().find_map(|miss| miss.imap.as_deref()).filter(|_| self.found.is_none())
    }
}

type Answer = Result<Found, Vec<Miss>>;

/// Looks for the server of an address. It takes a minute at most, however the servers behave.
pub async fn look_up(address: &Address, asking: &Asking) -> Outcome {
    let mut misses = match known(address) {
        Some(Ok((server, by))) => {
            let found = Found { server, by, user_is_known: true, doubts: Vec::new() };
            return Outcome { found: Some(found), misses: Vec::new() };
        }
        Some(Err(miss)) => return Outcome { found: None, misses: vec![miss] },
        None => Vec::new(),
    };
    let found = match first(begun(address, asking), &mut misses).await {
        None => guess(asking, address).await.map_err(|more| misses.extend(more)).ok(),
        found => found,
    };
    Outcome { found, misses }
}

fn begun(address: &Address, asking: &Asking) -> Vec<JoinHandle<Answer>> {
    let ask = |place: Candidate| tokio::spawn(place.ask(asking.clone(), address.clone()));
    let mut all: Vec<_> = Candidate::of(&address.domain, address, &[]).into_iter().map(ask).collect();
    // A proxy has no way for questions to name servers, and who has one wants all to go through it.
    if asking.proxy.is_none() {
        match Dns::new() {
            Ok(dns) => {
                all.push(tokio::spawn(by_exchanger(dns.clone(), address.clone(), asking.clone())));
                all.push(ask(Candidate::without_tls(&address.domain)));
                all.push(tokio::spawn(by_service(dns, address.clone())));
            }
            Err(came) => {
                all.push(ask(Candidate::without_tls(&address.domain)));
                all.push(tokio::spawn(async move { Err(vec![Miss::new("DNS", came)]) }));
            }
        }
    }
    all
}

/// Waits for the first in order that has an answer, and for no other.
async fn first(all: Vec<JoinHandle<Answer>>, misses: &mut Vec<Miss>) -> Option<Found> {
    let mut all = all.into_iter();
    let mut found = None;
    for asked in all.by_ref() {
        match asked.await {
            Ok(Ok(answer)) => {
                found = Some(answer);
                break;
            }
            Ok(Err(more)) => misses.extend(more),
            Err(error) => misses.push(Miss::new("one of the questions", error.to_string())),
        }
    }
    all.for_each(|asked| asked.abort());
    found
}

/// Asks whoever takes the mail of the domain.
async fn by_exchanger(dns: Dns, address: Address, asking: Asking) -> Answer {
    let asked = format!("MX of {}", address.domain);
    let miss = |came: String| vec![Miss::new(&asked, came)];
    let exchanger = timeout(PATIENCE, dns.exchanger(&address.domain)).await;
    let exchanger = exchanger.unwrap_or_else(|_| Err("no answer".into())).map_err(miss)?;
    match of_exchanger(&address, &exchanger) {
        Some(Ok((server, by))) => {
            let by = format!("{by}, which takes the mail of {} (MX {exchanger})", address.domain);
            return Ok(Found::new(server, by, &[Doubt::UnsignedDns], &address));
        }
        Some(Err(told)) => return Err(vec![Miss { asked, ..told }]),
        None => {}
    }
    let mut misses = Vec::new();
    let places: Vec<_> = operators(&exchanger)
        .iter()
        .filter(|domain| **domain != address.domain)
        .flat_map(|domain| Candidate::of(domain, &address, &[Doubt::UnsignedDns]))
        .map(|place| tokio::spawn(place.ask(asking.clone(), address.clone())))
        .collect();
    if places.is_empty() {
        return Err(miss(format!("{}, nobody else's", Shown(exchanger.as_bytes()))));
    }
    first(places, &mut misses).await.ok_or(misses)
}

/// Asks for the domain's services (RFC 6186, 3.3).
async fn by_service(dns: Dns, address: Address) -> Answer {
    let mut misses = Vec::new();
    for (name, mode) in [("_pop3s._tcp", TlsMode::Implicit), ("_pop3._tcp", TlsMode::StartTls)] {
        let asked = format!("SRV {name}.{}", address.domain);
        let answer = timeout(PATIENCE, dns.service(name, &address.domain)).await;
        let came = match answer.unwrap_or_else(|_| Err("no answer".into())) {
            Ok(Some(service)) => match host_name(&service.host) {
                Ok(host) if service.port > 0 => {
                    let user = address.to_string();
                    let port = service.port;
                    let server = Server { host, port, mode, user, password: true, oauth2: None, note: None };
                    let found = Found::new(server, asked, &[Doubt::UnsignedDns], &address);
                    return Ok(found.with_guessed_user());
                }
                Ok(_) | Err(_) => format!("names {:?}, which is no host", Shown(service.host.as_bytes())),
            },
            Ok(None) => "says that there is none".to_owned(),
            Err(came) => came,
        };
        misses.push(Miss::new(asked, came));
    }
    Err(misses)
}
