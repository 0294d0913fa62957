//! The keys of `fleet`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::deliver::{TARGETS, name};
use super::fleet::{Fleet, words};
use super::networks::Network;
use super::oauth2::OAuth2;
use super::oauth2_keys::OAUTH2;
use super::places::Places;
use super::rows::{Form, Key, inline, key, mapping};
use super::target::Destination;
use super::tree::{Complaint, Content, Entry, Node};
use super::values::{HOST, each};
use super::yaml::{list, text};

pub(super) const FLEET: Form<Fleet> = Form::new(
    |node, places| match node.is_nothing() {
        true => Ok(Fleet::default()),
        false => mapping(node, places, "a mapping such as { targets: ... }", FLEET_KEYS, Fleet::default()),
    },
    |fleet| inline(FLEET_KEYS, fleet),
);

pub(super) const FLEET_KEYS: &[Key<Fleet>] = &[
    key!("accounts", accounts, TABLE, "The table or view that has the tenants' accounts."),
    key!(
        "allow_networks",
        allow_networks,
        NETWORKS,
        "Networks, not public ones, that their hosts may be in."
    ),
    key!("targets", targets, NAMED_TARGETS, "From the names that rows have for targets to what they are."),
    key!(
        "providers",
        providers,
        PROVIDERS,
        "From the names that rows have for providers of tokens to `oauth2`."
    ),
];

const TABLE: Form<String> = Form {
    read: |node, _| {
        let text = node.text("the name of a table or view")?;
        match text.split('.').count() <= 2 && text.split('.').all(is_identifier) {
            true => Ok(text.to_owned()),
            false => Err(node.wrong(
                "must be the name of a table or view: letters, digits and _, and a dot behind a schema",
            )),
        }
    },
    ..HOST
};

const NAMED_TARGETS: Form<BTreeMap<String, Vec<Destination>>> = Form::new(
    |node, places| {
        by_name(
            node,
            places,
            "a mapping such as { desk: { http: { url: https://desk.example.org/mail } } }",
            |node, places| {
                let targets = (TARGETS.read)(node, places)?;
                targets.iter().try_for_each(words).map_err(|what| node.wrong(what))?;
                Ok(targets)
            },
        )
    },
    |targets| shown(targets, TARGETS.show),
);

const PROVIDERS: Form<BTreeMap<String, OAuth2>> = Form::new(
    |node, places| {
        by_name(
            node,
            places,
            "a mapping such as { google: { provider: google, client_id: ID } }",
            OAUTH2.read,
        )
    },
    |providers| shown(providers, OAUTH2.show),
);

/// A list of networks.
const NETWORKS: Form<Arc<[Network]>> = Form::new(
    |node, _| match &node.content {
        Content::List(items) => each(items, network).map(Into::into),
        Content::Plain(_) | Content::Quoted(_) | Content::Mapping(_) => Ok([network(node)?].into()),
    },
    |networks| match networks.is_empty() {
        true => String::new(),
        false => list(networks.iter().map(|network| text(&network.to_string()))),
    },
);

fn network(node: &Node<'_>) -> Result<Network, Complaint> {
    let what = "must be a network such as 10.1.0.0/16 or fd12:3456::/32, with no bits beyond its length";
    Network::parse(node.text("a network such as 10.1.0.0/16")?).ok_or_else(|| node.wrong(what))
}

fn is_identifier(text: &str) -> bool {
    let is_first = |octet: u8| octet.is_ascii_alphabetic() || octet == b'_';
    let is_rest = |octet: u8| is_first(octet) || octet.is_ascii_digit();
    // PostgreSQL cuts names at 63 octets.
    text.len() <= 63 && text.bytes().next().is_some_and(is_first) && text.bytes().all(is_rest)
}

/// Reads a mapping from names to what one reader reads.
fn by_name<T>(
    node: &Node<'_>,
    places: &Places,
    what: &str,
    read: fn(&Node<'_>, &Places) -> Result<T, Complaint>,
) -> Result<BTreeMap<String, T>, Complaint> {
    let mut named = BTreeMap::new();
    for entry in node.mapping(what)? {
        let Entry { key, at, value, before } = entry;
        if let Some(before) = before {
            return Err(Complaint::new(*at, format!("given before, on line {}", before.line))
                .under(&format!(".{key}")));
        }
        name(key).map_err(|what| Complaint::new(*at, format!("a name {what}")))?;
        named.insert(key.to_string(), read(value, places).map_err(|wrong| wrong.under(&format!(".{key}")))?);
    }
    Ok(named)
}

fn shown<T>(named: &BTreeMap<String, T>, show: fn(&T) -> String) -> String {
    let each: Vec<_> = named.iter().map(|(name, one)| format!("{}: {}", text(name), show(one))).collect();
    if each.is_empty() { String::new() } else { format!("{{ {} }}", each.join(", ")) }
}
