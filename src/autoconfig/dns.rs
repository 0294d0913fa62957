//! SRV and MX records. Nobody signs them on the way to here: who finds something by them has it confirmed.

use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::net::NetError;
use hickory_resolver::proto::rr::RData;

/// How long one question to one server may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// Asks the name servers of the system.
#[derive(Clone)]
pub(super) struct Dns(TokioResolver);

/// A service of a domain (RFC 2782).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Service {
    pub(super) host: String,
    pub(super) port: u16,
}

impl Dns {
    /// Reads which name servers there are. The error completes "DNS: ...".
    pub(super) fn new() -> Result<Self, String> {
        let mut builder = TokioResolver::builder_tokio().map_err(words)?;
        let options = builder.options_mut();
        (options.timeout, options.attempts, options.cache_size) = (PATIENCE, 1, 0);
        builder.build().map(Self).map_err(words)
    }

    /// Gives the best of a domain's services of this name, such as `_pop3s._tcp`; `None` if it says that it has none
    /// (RFC 2782: the target is the root).
    pub(super) async fn service(&self, name: &str, domain: &str) -> Result<Option<Service>, String> {
        let lookup = self.0.srv_lookup(format!("{name}.{domain}.")).await.map_err(words)?;
        let records = lookup.answers().iter().filter_map(|record| match &record.data {
            RData::SRV(srv) => Some(srv),
            _ => None,
        });
        // Of equal priority the one with the largest weight: one is asked, not thousands.
        let best = records.min_by_key(|srv| (srv.priority, u16::MAX - srv.weight));
        let best = best.ok_or_else(|| NOTHING.to_owned())?;
        let host = best.target.to_ascii().trim_end_matches('.').to_ascii_lowercase();
        Ok(Some(Service { host, port: best.port }).filter(|service| !service.host.is_empty()))
    }

    /// Gives the host that mail for a domain goes to first.
    pub(super) async fn exchanger(&self, domain: &str) -> Result<String, String> {
        let lookup = self.0.mx_lookup(format!("{domain}.")).await.map_err(words)?;
        let records = lookup.answers().iter().filter_map(|record| match &record.data {
            RData::MX(mx) => Some(mx),
            _ => None,
        });
        let best = records.min_by_key(|mx| (mx.preference, mx.exchange.to_ascii()));
        let host = best.map(|mx| mx.exchange.to_ascii().trim_end_matches('.').to_ascii_lowercase());
        // RFC 7505: a domain that takes no mail.
        host.filter(|host| !host.is_empty()).ok_or_else(|| NOTHING.to_owned())
    }
}

const NOTHING: &str = "no such record";

fn words(error: NetError) -> String {
    match error {
        error if error.is_no_records_found() || error.is_nx_domain() => NOTHING.to_owned(),
        NetError::Timeout => "no answer from the name server".to_owned(),
        error => error.to_string(),
    }
}

/// Gives the domains that a mail exchanger's operator may have its configuration at: the host without its first label, and
/// the domain that somebody registered.
pub(super) fn operators(exchanger: &str) -> Vec<String> {
    let labels: Vec<_> = exchanger.split('.').collect();
    let Some(least) = registered(&labels).filter(|least| *least < labels.len()) else { return Vec::new() };
    let mut found = vec![labels[1..].join("."), labels[labels.len() - least..].join(".")];
    found.dedup();
    found
}

/// Says how many of the last labels of a host make a domain that somebody registered. Where countries have second levels
/// of their own (`co.uk`) it is three; there is no list of them all here, and what is found is confirmed by a person.
fn registered(labels: &[&str]) -> Option<usize> {
    const SECOND_LEVELS: [&str; 14] =
        ["ac", "co", "com", "edu", "gen", "go", "gob", "gov", "gv", "ne", "net", "nom", "or", "org"];
    let [.., second, top] = labels else { return None };
    let has_levels = top.len() == 2 && SECOND_LEVELS.contains(second);
    Some(if has_levels { 3 } else { 2 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operator_of_an_exchanger_is_looked_for_below_no_countrys_second_level() {
        for (exchanger, domains) in [
            ("mx.hoster.example", &["hoster.example"][..]),
            ("aspmx.l.google.com", &["l.google.com", "google.com"]),
            ("mx1.mail.hoster.co.uk", &["mail.hoster.co.uk", "hoster.co.uk"]),
            ("mx.hoster.co.uk", &["hoster.co.uk"]),
            ("hoster.co.uk", &[]),
            ("example.org", &[]),
            ("localhost", &[]),
            ("", &[]),
        ] {
            assert_eq!(operators(exchanger), domains, "{exchanger}");
        }
    }
}
