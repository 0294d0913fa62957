//! What holds for single hosts.

use std::collections::BTreeMap;

use super::host::host_name;
use super::rows::{Form, Key, braced, inline, key, mapping};
use super::tree::Complaint;
use super::values::count;
use super::yaml::text;

/// How many sessions a host may have at once, where the file says it of that host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hosts(BTreeMap<String, Host>);

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Host {
    max_sessions: Option<usize>,
}

impl Hosts {
    /// Gives the limit of a host, if it has one of its own. Case does not matter.
    pub fn max_sessions(&self, host: &str) -> Option<usize> {
        if self.0.is_empty() {
            return None;
        }
        self.0.get(&host.to_ascii_lowercase())?.max_sessions
    }
}

/// Sessions that may be allowed at once: every one needs a descriptor and some memory.
pub(super) const SESSIONS: Form<usize> = Form::new(|node, _| count(node, 100_000), usize::to_string);

/// The keys of a host.
pub(super) const HOST_KEYS: &[Key<Host>] =
    &[key!("max_sessions", max_sessions, SESSIONS, "Sessions open at once with this host.")];

pub(super) const HOSTS: Form<Hosts> = Form::new(
    |node, places| {
        let mut hosts = BTreeMap::new();
        for entry in node.mapping("a mapping such as { pop.example.org: { max_sessions: 20 } }")? {
            let name =
                host_name(&entry.key).map_err(|what| Complaint::new(entry.at, format!("a host {what}")))?;
            let host = mapping(
                &entry.value,
                places,
                "a mapping such as { max_sessions: 20 }",
                HOST_KEYS,
                Host::default(),
            );
            let host = host.map_err(|wrong| wrong.under(&format!(".{name}")))?;
            if hosts.insert(name.clone(), host).is_some() {
                return Err(Complaint::new(entry.at, "given before").under(&format!(".{name}")));
            }
        }
        Ok(Hosts(hosts))
    },
    |hosts| braced(hosts.0.iter().map(|(name, host)| (text(name), inline(HOST_KEYS, host)))),
);
