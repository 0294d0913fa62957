//! To whom a target that is a server sends messages: `to`.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use super::target::{CatchAll, Occurrence, Recipients, Unknown, is_address};
use super::tree::{Complaint, Content, Node};
use super::values::{unknown, within};

pub(super) const OCCURRENCES: [(&str, Occurrence); 2] =
    [("first", Occurrence::First), ("last", Occurrence::Last)];

const KEYS: [&str; 6] = ["header", "occurrence", "strip_prefix", "domains", "map", "unknown"];

/// Fields that the sender writes, or that are about other recipients than those of this maildrop. Mailing lists and
/// blind copies have others in them than those whom a message was sent to.
const UNTRUSTED: [&str; 9] =
    ["to", "cc", "bcc", "from", "sender", "reply-to", "resent-to", "resent-cc", "resent-bcc"];

/// Fields that hold something else than addresses.
const NO_ADDRESSES: [&str; 7] =
    ["received", "return-path", "date", "subject", "message-id", "references", "in-reply-to"];

/// The highest `occurrence`: no message has more fields of one name within what is read of a header.
const MOST_OCCURRENCES: usize = 1000;

/// Reads `to`: a list of addresses, or what tells them for each message.
pub(super) fn recipients(node: &Node<'_>) -> Result<Recipients, Complaint> {
    let what = "a list of addresses, or a mapping such as { header: X-Original-To }";
    match &node.content {
        Content::Mapping(_) => Ok(Recipients::Header(Box::new(catch_all(node, what)?))),
        Content::List(items) => list(node, items, what),
        Content::Plain(_) | Content::Quoted(_) => Err(node.wrong(format!("must be {what}"))),
    }
}

/// Reads one address.
pub(super) fn address(node: &Node<'_>) -> Result<String, Complaint> {
    let text = node.text("an address")?;
    if is_address(text) {
        Ok(text.to_owned())
    } else {
        Err(node.wrong("must be an address, without angle brackets, blanks or control characters"))
    }
}

fn list(node: &Node<'_>, items: &[Node<'_>], what: &str) -> Result<Recipients, Complaint> {
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

fn catch_all(node: &Node<'_>, what: &str) -> Result<CatchAll, Complaint> {
    let mut header = None;
    let mut catch_all = CatchAll {
        header: String::new(),
        occurrence: Occurrence::First,
        strip_prefix: None,
        domains: Vec::new(),
        map: BTreeMap::new(),
        unknown: Unknown::Hold,
    };
    for entry in node.mapping(what)? {
        let value = &entry.value;
        match &*entry.key {
            "header" => field_name(value).map(|name| header = Some(name)),
            "occurrence" => occurrence(value).map(|which| catch_all.occurrence = which),
            "strip_prefix" => prefix(value).map(|prefix| catch_all.strip_prefix = Some(prefix)),
            "domains" => domains(value).map(|domains| catch_all.domains = domains),
            "map" => map(value).map(|map| catch_all.map = map),
            "unknown" => hold_or_address(value).map(|unknown| catch_all.unknown = unknown),
            _ => return Err(unknown(entry, &KEYS)),
        }
        .map_err(|complaint| within(entry, complaint))?;
    }
    catch_all.header =
        header.ok_or_else(|| node.wrong("`header` is missing: the field that the provider writes"))?;
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
    if NO_ADDRESSES.iter().any(|field| field.eq_ignore_ascii_case(name)) {
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
