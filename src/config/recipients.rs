//! To whom a target that is a server sends messages: `to`.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use super::places::Places;
use super::rows::{Form, Key, inline, key, mapping, within};
use super::target::{CatchAll, Occurrence, Recipients, Sender, Unknown, is_address};
use super::tree::{Complaint, Content, Node};
use super::values::name_of;
use super::yaml::{list, text};

/// The keys of `to` where a header tells the recipients.
pub(super) const CATCH_ALL: &[Key<CatchAll>] = &[
    key!("header", header, FIELD_NAME, "The header field that the provider writes; required."),
    key!(
        "occurrence",
        occurrence,
        OCCURRENCE,
        "Which of several such fields counts: first, last or a number."
    ),
    key!("strip_prefix", strip_prefix, PREFIX, "What the provider puts in front of the local part."),
    key!("domains", domains, DOMAINS, "Domains whose addresses are known, whatever their local part."),
    key!("map", map, MAP, "Addresses in place of local parts."),
    key!("unknown", unknown, UNKNOWN, "Where mail for other addresses goes: hold, or an address."),
];

/// `to`: a list of addresses, or what tells them for each message.
pub(super) const RECIPIENTS: Form<Recipients> = Form::new(recipients, |to| match to {
    Recipients::List(addresses) => list(addresses.iter().map(|address| text(address))),
    Recipients::Header(catch_all) => inline(CATCH_ALL, &**catch_all),
});

/// `from`; what is done without being told is not written.
pub(super) const SENDER: Form<Sender> = Form::new(
    |node, _| match node.text("keep or an address")? {
        "keep" => Ok(Sender::Keep),
        _ => address(node).map(Sender::Address),
    },
    |from| match from {
        Sender::Keep => String::new(),
        Sender::Address(address) => text(address),
    },
);

const FIELD_NAME: Form<String> = Form::new(|node, _| field_name(node), |name| text(name));
const PREFIX: Form<String> = Form { read: |node, _| prefix(node), ..FIELD_NAME };
const OCCURRENCE: Form<Occurrence> = Form::new(
    |node, _| occurrence(node),
    |which| match which {
        Occurrence::Nth(number) => number.to_string(),
        Occurrence::First | Occurrence::Last => name_of(&OCCURRENCES, which).to_owned(),
    },
);
const DOMAINS: Form<Vec<String>> = Form::new(
    |node, _| domains(node),
    |domains| match domains.as_slice() {
        [] => String::new(),
        domains => list(domains.iter().map(|domain| text(domain))),
    },
);
const MAP: Form<BTreeMap<String, String>> = Form::new(
    |node, _| map(node),
    |map| {
        let pairs = map.iter().map(|(local, address)| format!("{}: {}", text(local), text(address)));
        if map.is_empty() { String::new() } else { format!("{{ {} }}", pairs.collect::<Vec<_>>().join(", ")) }
    },
);
const UNKNOWN: Form<Unknown> = Form::new(
    |node, _| hold_or_address(node),
    |unknown| match unknown {
        Unknown::Hold => "hold".to_owned(),
        Unknown::Address(address) => text(address),
    },
);

const OCCURRENCES: [(&str, Occurrence); 2] = [("first", Occurrence::First), ("last", Occurrence::Last)];

/// Fields that the sender writes, or that are about other recipients than those of this maildrop. Mailing lists and
/// blind copies have others in them than those whom a message was sent to.
const UNTRUSTED: [&str; 9] =
    ["to", "cc", "bcc", "from", "sender", "reply-to", "resent-to", "resent-cc", "resent-bcc"];

/// Fields that hold something else than the envelope's recipients, and those of other forms whose names begin so.
const NO_ADDRESSES: [&str; 15] = [
    "received",
    "return-path",
    "date",
    "subject",
    "message-id",
    "references",
    "in-reply-to",
    "resent-",
    "received-spf",
    "authentication-results",
    "dkim-",
    "arc-",
    "domainkey-",
    "list-",
    "content-",
];

/// The highest `occurrence`: no message has more fields of one name within what is read of a header.
const MOST_OCCURRENCES: usize = 1000;

fn recipients(node: &Node<'_>, places: &Places) -> Result<Recipients, Complaint> {
    let what = "a list of addresses, or a mapping such as { header: X-Original-To }";
    match &node.content {
        Content::Mapping(_) => Ok(Recipients::Header(Box::new(catch_all(node, places, what)?))),
        Content::List(items) => addresses(node, items, what),
        Content::Plain(_) | Content::Quoted(_) => Err(node.wrong(format!("must be {what}"))),
    }
}

fn address(node: &Node<'_>) -> Result<String, Complaint> {
    let text = node.text("an address")?;
    if is_address(text) {
        Ok(text.to_owned())
    } else {
        Err(node.wrong("must be an address, without angle brackets, blanks or control characters"))
    }
}

fn addresses(node: &Node<'_>, items: &[Node<'_>], what: &str) -> Result<Recipients, Complaint> {
    if items.is_empty() {
        return Err(node.wrong(format!("is an empty list, must be {what}")));
    }
    let mut list: Vec<String> = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let address = address(item).map_err(|complaint| complaint.under(&format!("[{index}]")))?;
        if list.contains(&address) {
            return Err(item.wrong("stands in the list twice").under(&format!("[{index}]")));
        }
        list.push(address);
    }
    Ok(Recipients::List(list))
}

fn catch_all(node: &Node<'_>, places: &Places, what: &str) -> Result<CatchAll, Complaint> {
    let defaults = CatchAll {
        header: String::new(),
        occurrence: Occurrence::First,
        strip_prefix: None,
        domains: Vec::new(),
        map: BTreeMap::new(),
        unknown: Unknown::Hold,
    };
    let catch_all = mapping(node, places, what, CATCH_ALL, defaults)?;
    if catch_all.header.is_empty() {
        return Err(node.wrong("`header` is missing: the field that the provider writes"));
    }
    Ok(catch_all)
}

fn occurrence(node: &Node<'_>) -> Result<Occurrence, Complaint> {
    let text = node.text("first, last or a number from 1")?;
    let named = OCCURRENCES.iter().find(|(name, _)| *name == text).map(|(_, which)| *which);
    let counted = || {
        let number = text.parse().ok().filter(|number: &usize| *number <= MOST_OCCURRENCES);
        number.and_then(NonZeroUsize::new).map(Occurrence::Nth)
    };
    named.or_else(counted).ok_or_else(|| {
        node.wrong(format!("must be first, last or a number from 1 (the topmost) to {MOST_OCCURRENCES}"))
    })
}

/// Says whether a header field of this name may tell for whom a message is.
pub(crate) fn may_tell(name: &str) -> bool {
    let is_sound = !name.is_empty() && name.bytes().all(|octet| octet.is_ascii_graphic() && octet != b':');
    is_sound && !UNTRUSTED.iter().chain(&NO_ADDRESSES).any(|field| field.eq_ignore_ascii_case(name))
}

fn field_name(node: &Node<'_>) -> Result<String, Complaint> {
    let name = node.text("the name of a header field, such as X-Original-To")?;
    // RFC 5322, 3.6.8.
    if name.is_empty() || !name.bytes().all(|octet| octet.is_ascii_graphic() && octet != b':') {
        return Err(
            node.wrong("must be the name of a header field, without its colon, such as X-Original-To")
        );
    }
    if UNTRUSTED.iter().any(|field| field.eq_ignore_ascii_case(name)) {
        return Err(node.wrong(
            "is written by the sender and does not tell who is to have the message: name the field that the provider \
             adds with the envelope's recipient, such as X-Original-To, Delivered-To or Envelope-To",
        ));
    }
    let lower = name.to_ascii_lowercase();
    if NO_ADDRESSES.iter().any(|field| lower == *field || field.ends_with('-') && lower.starts_with(field)) {
        return Err(node.wrong(
            "is no list of recipients, so that every message would be held: name the field that the provider adds with \
             the envelope's recipient, such as X-Original-To, Delivered-To or Envelope-To",
        ));
    }
    Ok(name.to_owned())
}

fn prefix(node: &Node<'_>) -> Result<String, Complaint> {
    let prefix = node.text("what the provider puts before the local part")?;
    if prefix.is_empty() || !is_address(prefix) || prefix.contains('@') {
        return Err(node.wrong("must be the beginning of a local part, such as mbox-user-"));
    }
    Ok(prefix.to_owned())
}

fn domains(node: &Node<'_>) -> Result<Vec<String>, Complaint> {
    let what = "a list of domains";
    let Content::List(items) = &node.content else {
        return Err(node.wrong(format!("must be {what}")));
    };
    let read = |(index, item): (usize, &Node<'_>)| {
        let domain = item.text("a domain")?;
        if is_address(domain) && !domain.contains('@') {
            Ok(domain.to_owned())
        } else {
            Err(item.wrong("must be a domain, such as example.org").under(&format!("[{index}]")))
        }
    };
    items.iter().enumerate().map(read).collect()
}

fn hold_or_address(node: &Node<'_>) -> Result<Unknown, Complaint> {
    match node.text("hold or an address")? {
        "hold" => Ok(Unknown::Hold),
        _ => Ok(Unknown::Address(address(node)?)),
    }
}

fn map(node: &Node<'_>) -> Result<BTreeMap<String, String>, Complaint> {
    let mut map: BTreeMap<String, String> = BTreeMap::new();
    for entry in node.mapping("a mapping such as { sales: bob@example.org }")? {
        let local = &*entry.key;
        if local.contains('@') {
            return Err(within(
                entry,
                entry.value.wrong("stands for a local part: write it without `@` and domain"),
            ));
        }
        if map.keys().any(|known| known.eq_ignore_ascii_case(local)) {
            return Err(within(
                entry,
                entry.value.wrong("is there twice: local parts are compared without case"),
            ));
        }
        map.insert(local.to_owned(), address(&entry.value).map_err(|complaint| within(entry, complaint))?);
    }
    Ok(map)
}
