//! Envelopes: from whom a message comes and to whom it goes, as MAIL and RCPT say it.

use super::spool::Spooled;
use crate::config::Recipients;
use crate::config::target::{CatchAll, Occurrence, Sender, Unknown, is_address};
use crate::message::{Header, ReversePath};
use crate::text::Shown;

/// Recipients that one header field may name at most: what every server takes in one transaction (RFC 5321,
/// 4.5.3.1.8).
const MOST_NAMED: usize = 100;

/// Gives the recipients of a message that was spooled, as [`recipients`] does.
pub fn recipients_of(to: &Recipients, message: &Spooled) -> Result<Vec<String>, String> {
    match to {
        Recipients::Header(catch_all) if message.is_header_cut => {
            Err(format!("its header is too long to tell which {} counts: over 64 KiB", catch_all.header))
        }
        to => recipients(to, &Header::new(&message.header)),
    }
}

/// Gives the recipients of a message, each once and each of them an [`is_address`], in the order in which they are
/// named; the error says why there are none.
pub fn recipients(to: &Recipients, header: &Header<'_>) -> Result<Vec<String>, String> {
    match to {
        Recipients::List(addresses) => Ok(addresses.clone()),
        Recipients::Header(catch_all) => named(catch_all, header),
    }
}

/// Gives the reverse-path without its angle brackets; empty is the null reverse-path.
///
/// What the header has in place of an address with a domain is not passed on: no message is worth a command that its
/// sender wrote, nor one that the server refuses (RFC 5321, 4.1.2).
pub fn sender(from: &Sender, header: &Header<'_>) -> String {
    match from {
        Sender::Address(address) => address.clone(),
        Sender::Keep => match header.reverse_path() {
            ReversePath::Address(octets) => {
                let is_sound =
                    |text: &String| Address::parse(text).is_some_and(|address| address.domain.is_some());
                String::from_utf8(octets).ok().filter(is_sound).unwrap_or_default()
            }
            ReversePath::Null => String::new(),
        },
    }
}

/// Reads the recipients from the one header field that counts. What is not understood whole holds the message: a
/// recipient that was passed over would be mail lost, and one that was guessed, mail for somebody else.
fn named(catch_all: &CatchAll, header: &Header<'_>) -> Result<Vec<String>, String> {
    let name = &catch_all.header;
    let mut values = header.fields(name);
    let value = match catch_all.occurrence {
        Occurrence::First => values.next(),
        Occurrence::Last => values.last(),
        Occurrence::Nth(number) => values.nth(number.get() - 1),
    };
    let which = match catch_all.occurrence {
        Occurrence::Nth(number) if number.get() > 1 => format!("{name} header number {number}"),
        Occurrence::First | Occurrence::Last | Occurrence::Nth(_) => format!("{name} header"),
    };
    let value = value.ok_or_else(|| format!("it has no {which}, which tells the recipients"))?;
    let items = items(&value)
        .ok_or_else(|| format!("its {name} header is no list of addresses: {}", Shown(&value)))?;
    let mut found: Vec<String> = Vec::new();
    for item in items {
        let address = Address::parse(item).ok_or_else(|| {
            format!("its {name} header names what is no address: {}", Shown(item.as_bytes()))
        })?;
        let recipient = match (address.known_as(catch_all), &catch_all.unknown) {
            (Some(recipient), _) => recipient,
            (None, Unknown::Address(instead)) => instead.clone(),
            (None, Unknown::Hold) => {
                return Err(format!(
                    "its {name} header names {}, which neither `domains` nor `map` has",
                    Shown(item.as_bytes())
                ));
            }
        };
        if found.contains(&recipient) {
            continue;
        }
        if found.len() == MOST_NAMED {
            return Err(format!("its {name} header names more than {MOST_NAMED} recipients"));
        }
        found.push(recipient);
    }
    if found.is_empty() { Err(format!("its {name} header names nobody")) } else { Ok(found) }
}

/// Splits a field at the commas outside quoted strings and angle brackets; nothing if one of these does not end.
///
/// Programs that deliver write bare addresses, some of them in angle brackets; groups, comments and display names
/// (RFC 5322, 3.4) are for people, and no address here.
fn items(value: &[u8]) -> Option<Vec<&str>> {
    let text = str::from_utf8(value).ok()?;
    let (mut items, mut start) = (Vec::new(), 0);
    let (mut quoted, mut escaped, mut angle) = (false, false, false);
    for (at, octet) in text.bytes().enumerate() {
        match octet {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'<' if angle => return None,
            b'<' => angle = true,
            b'>' if !angle => return None,
            b'>' => angle = false,
            b',' if !angle => {
                items.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    if quoted || angle {
        return None;
    }
    items.push(&text[start..]);
    // RFC 5322, 4.4: there may be nothing between two commas.
    Some(items.into_iter().map(str::trim_ascii).filter(|item| !item.is_empty()).collect())
}

/// An address that a header names.
#[derive(Debug, PartialEq, Eq)]
struct Address {
    /// Without quotes where it does not need them.
    local: String,
    domain: Option<String>,
}

impl Address {
    /// Takes `local@domain` or `local`, in angle brackets or not.
    fn parse(item: &str) -> Option<Self> {
        let bare = match item.strip_prefix('<') {
            Some(rest) => rest.strip_suffix('>')?,
            None => item,
        };
        let (local, domain) = split(bare)?;
        if !is_address(bare) || domain.is_some_and(|domain| !is_domain(domain)) {
            return None;
        }
        let local = match unquoted(local) {
            Some(inner) if is_dot_string(&inner) => inner,
            Some(_) => local.to_owned(),
            None if is_dot_string(local) => local.to_owned(),
            None => return None,
        };
        Some(Self { local, domain: domain.map(str::to_owned) })
    }

    /// Gives the recipient that it stands for, if it is known.
    fn known_as(&self, catch_all: &CatchAll) -> Option<String> {
        let CatchAll { strip_prefix, domains, map, .. } = catch_all;
        if !domains.is_empty() {
            let domain = self.domain.as_deref()?;
            domains.iter().find(|known| is_of(domain, known))?;
        }
        let local = strip_prefix.as_deref().map_or(&*self.local, |prefix| stripped(&self.local, prefix));
        if let Some((_, mapped)) = map.iter().find(|(known, _)| known.eq_ignore_ascii_case(local)) {
            return Some(mapped.clone());
        }
        // Without domains, the map alone tells who is known.
        if domains.is_empty() && !map.is_empty() {
            return None;
        }
        Some(match &self.domain {
            Some(domain) => format!("{local}@{domain}"),
            None => local.to_owned(),
        })
    }
}

/// Says whether a domain is the known one, or below it where that begins with a dot.
fn is_of(domain: &str, known: &str) -> bool {
    match known.strip_prefix('.') {
        Some(parent) => {
            domain.len().checked_sub(known.len()).is_some_and(|below| {
                below > 0 && domain.as_bytes()[below..].eq_ignore_ascii_case(known.as_bytes())
            }) && !parent.is_empty()
        }
        None => domain.eq_ignore_ascii_case(known),
    }
}

/// Splits an address at its `@`; a quoted local part may have more of them.
fn split(address: &str) -> Option<(&str, Option<&str>)> {
    let end = if address.starts_with('"') {
        closing_quote(address)? + 1
    } else {
        address.find('@').unwrap_or(address.len())
    };
    let (local, rest) = address.split_at(end);
    match rest.strip_prefix('@') {
        Some(domain) => Some((local, Some(domain))),
        None if rest.is_empty() => Some((local, None)),
        None => None,
    }
}

/// Finds where the quoted string ends that a text begins with.
fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().enumerate().skip(1).find_map(|(at, octet)| match octet {
        _ if escaped => {
            escaped = false;
            None
        }
        b'\\' => {
            escaped = true;
            None
        }
        b'"' => Some(at),
        _ => None,
    })
}

/// Takes the quotes and backslashes from a quoted string.
fn unquoted(local: &str) -> Option<String> {
    let inner = local.strip_prefix('"')?.strip_suffix('"')?;
    let mut plain = String::with_capacity(inner.len());
    let mut characters = inner.chars();
    while let Some(character) = characters.next() {
        plain.push(if character == '\\' { characters.next()? } else { character });
    }
    Some(plain)
}

/// RFC 5321, 4.1.2, with the dots that some providers allow anywhere; beyond ASCII by RFC 6531.
fn is_dot_string(local: &str) -> bool {
    let is_plain = |c: char| {
        if c.is_ascii() {
            c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c)
        } else {
            !c.is_control()
        }
    };
    !local.is_empty() && local.chars().all(is_plain)
}

/// A name, or an address literal (RFC 5321, 4.1.3).
fn is_domain(domain: &str) -> bool {
    match domain.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').is_some_and(|literal| {
            !literal.is_empty() && literal.chars().all(|c| c.is_ascii_alphanumeric() || ".:-".contains(c))
        }),
        None => domain.split('.').all(|label| {
            let is_inside = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_' || !c.is_ascii();
            !label.is_empty() && label.chars().all(is_inside)
        }),
    }
}

/// Takes the prefix away, unless nothing would be left.
fn stripped<'a>(local: &'a str, prefix: &str) -> &'a str {
    match local.get(..prefix.len()) {
        Some(start) if start.eq_ignore_ascii_case(prefix) && local.len() > prefix.len() => {
            &local[prefix.len()..]
        }
        Some(_) | None => local,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn catch_all() -> CatchAll {
        CatchAll {
            header: "X-Original-To".into(),
            occurrence: Occurrence::First,
            strip_prefix: None,
            domains: Vec::new(),
            map: Default::default(),
            unknown: Unknown::Hold,
        }
    }

    fn of(catch_all: &CatchAll, header: &str) -> Result<Vec<String>, String> {
        recipients(&Recipients::Header(Box::new(catch_all.clone())), &Header::new(header.as_bytes()))
    }

    fn is(one: &str) -> Result<Vec<String>, String> {
        Ok(vec![one.to_owned()])
    }

    #[test]
    fn a_forged_second_header_does_not_win() {
        let header = "X-Original-To: a@b\r\nX-Original-To: forged@b\r\n";
        assert_eq!(of(&catch_all(), header), is("a@b"));
        // A provider that appends below what the sender wrote.
        let last = CatchAll { occurrence: Occurrence::Last, ..catch_all() };
        assert_eq!(of(&last, "X-Original-To: forged@b\r\nX-Original-To: a@b\r\n"), is("a@b"));
    }

    #[test]
    fn occurrences_are_counted_from_the_topmost() {
        let header = "X-Original-To: a@b\r\nX: y\r\nx-original-to: c@b\r\nX-Original-To: d@b\r\n";
        for (number, expected) in [(1, Some("a@b")), (2, Some("c@b")), (3, Some("d@b")), (4, None)] {
            let occurrence = Occurrence::Nth(std::num::NonZeroUsize::new(number).unwrap());
            let found = of(&CatchAll { occurrence, ..catch_all() }, header);
            match expected {
                Some(address) => assert_eq!(found, is(address)),
                None => assert!(found.unwrap_err().contains("no X-Original-To header number 4")),
            }
        }
    }

    #[test]
    fn a_missing_header_holds_the_message_whatever_to_and_cc_say() {
        let unknown = CatchAll { unknown: Unknown::Address("post@b".into()), ..catch_all() };
        for catch_all in [catch_all(), unknown] {
            for header in
                ["To: a@b\r\nCc: c@b\r\n\r\nX-Original-To: d@b\r\n", "X-Original-To:\r\nTo: a@b\r\n"]
            {
                let held = of(&catch_all, header).unwrap_err();
                assert!(held.contains("X-Original-To"), "{held}");
            }
        }
    }

    #[test]
    fn several_addresses_are_several_recipients_each_once_and_100_at_most() {
        let found = of(&catch_all(), "X-Original-To: c@b,\r\n a@b,, <c@b>\r\n");
        assert_eq!(found, Ok(vec!["c@b".to_owned(), "a@b".to_owned()]));
        let many = |count: usize| {
            let list: Vec<_> = (0..count).map(|number| format!("u{number}@b")).collect();
            of(&catch_all(), &format!("X-Original-To: {}\r\n", list.join(",")))
        };
        assert_eq!(many(100).map(|found| found.len()), Ok(100));
        assert!(many(101).is_err());
    }

    #[test]
    fn what_is_not_understood_whole_holds_the_message() {
        let unknown = CatchAll { unknown: Unknown::Address("post@b".into()), ..catch_all() };
        for value in [
            "a@b:c@d",
            "list: a@b;",
            "a@b c@d",
            "A <a@b>",
            "a@b (c)",
            "<a@b",
            "a@b>",
            "<a@b> c@d",
            "\"a@b",
            "a@b@c",
            "@b",
            "a@",
            "<>",
            "a@b..c",
            "a@[",
            "a@[]",
            "\"a\"b@c",
            "a@b, <c@d",
            "\u{7f}@b",
            "a\0@b",
            "a@b<c>",
            "<<a@b>>",
            "\"a b\"@c",
        ] {
            assert!(of(&unknown, &format!("X-Original-To: {value}\r\n")).is_err(), "{value}");
        }
        let latin1 = Header::new(b"X-Original-To: gr\xfcn@b\r\n");
        assert!(recipients(&Recipients::Header(Box::new(unknown)), &latin1).is_err());
        for (value, recipient) in [
            ("alice", "alice"),
            ("-f@b", "-f@b"),
            ("\"alice\"@b", "alice@b"),
            ("\"a,@l\"@b", "\"a,@l\"@b"),
            ("\"a\\\"\"@b", "\"a\\\"\"@b"),
            ("a@[192.0.2.1]", "a@[192.0.2.1]"),
            ("grün@bücher.example", "grün@bücher.example"),
        ] {
            assert_eq!(of(&catch_all(), &format!("X-Original-To: {value}\r\n")), is(recipient), "{value}");
        }
    }

    #[test]
    fn prefix_domains_and_map_tell_who_is_known() {
        let all = CatchAll {
            strip_prefix: Some("mbox-user-".into()),
            domains: vec!["Example.org".into(), ".sub.example".into()],
            map: [("Sales".to_owned(), "bob@home".to_owned())].into(),
            ..catch_all()
        };
        for (address, expected) in [
            ("mbox-user-alice@example.org", Some("alice@example.org")),
            ("mbox-user-SALES@example.org", Some("bob@home")),
            ("\"sales\"@EXAMPLE.ORG", Some("bob@home")),
            ("mbox-user-@example.org", Some("mbox-user-@example.org")),
            ("alice@a.b.SUB.example", Some("alice@a.b.SUB.example")),
            ("alice@sub.example", None),
            ("alice@.sub.example", None),
            ("alice@nosub.example", None),
            ("sales@elsewhere", None),
            ("sales", None),
        ] {
            let found = of(&all, &format!("X-Original-To: {address}\r\n")).ok();
            assert_eq!(found, expected.map(|one| vec![one.to_owned()]), "{address}");
        }
        let instead = CatchAll { unknown: Unknown::Address("post@home".into()), ..all.clone() };
        assert_eq!(of(&instead, "X-Original-To: sales@elsewhere\r\n"), is("post@home"));
        let map_alone = CatchAll { domains: Vec::new(), ..all };
        assert_eq!(of(&map_alone, "X-Original-To: sales@anywhere\r\n"), is("bob@home"));
        assert!(of(&map_alone, "X-Original-To: alice@anywhere\r\n").is_err());
    }

    #[test]
    fn nothing_in_a_header_becomes_more_than_an_address() {
        let of = |header: &str| sender(&Sender::Keep, &Header::new(header.as_bytes()));
        assert_eq!(of("Return-Path: <a@b>\r\n"), "a@b");
        assert_eq!(of("From: c@d\r\n"), "c@d");
        assert_eq!(of("Return-Path: <>\r\nFrom: c@d\r\n"), "");
        assert_eq!(of("Return-Path: <a@b SIZE=1>\r\n"), "");
        assert_eq!(of("Return-Path: <a@b\r\n RCPT TO:x>\r\n"), "");
        assert_eq!(of("From: <a\u{0}@b>\r\n"), "");
        for unsound in ["root", "webmaster@", "@b", "@", "b\"@c", "a@b@c", "a@b..c", "a@[", "a@b,c@d"] {
            assert_eq!(of(&format!("Return-Path: <{unsound}>\r\n")), "", "{unsound}");
        }
        for sound in ["a..b.@c.example", "\"a,b\"@c", "a+b=c@[192.0.2.1]", "grün@bücher.example"] {
            assert_eq!(of(&format!("Return-Path: <{sound}>\r\n")), sound);
        }
        assert_eq!(sender(&Sender::Keep, &Header::new(b"From: \xff@b\r\n")), "");
        let fixed = Sender::Address("me@example.org".into());
        assert_eq!(sender(&fixed, &Header::new(b"Return-Path: <a@b>\r\n")), "me@example.org");
    }

    /// What may stand between the angle brackets of a command: nothing ends the address or the line.
    fn ends_nothing(address: &str) -> bool {
        let (mut quoted, mut escaped) = (false, false);
        let mut is_sound = |octet| match octet {
            b'\r' | b'\n' | 0 => false,
            _ if escaped => {
                escaped = false;
                true
            }
            b'\\' if quoted => {
                escaped = true;
                true
            }
            b'"' => {
                quoted = !quoted;
                true
            }
            b'<' | b'>' | b' ' => quoted,
            _ => true,
        };
        address.bytes().all(&mut is_sound) && !quoted
    }

    proptest! {
        #[test]
        fn no_octets_of_a_header_end_an_address_or_a_line_of_the_dialogue(
            parts in prop::collection::vec(
                prop_oneof![
                    6 => prop::sample::select(vec![
                        &b"a"[..], b"mbox-", b"b.example", b"@", b"\"", b"\\", b" ", b"<", b">", b",", b"\r\n ", b"\r", b"\0", b"\xc3\xbc"
                    ]).prop_map(<[u8]>::to_vec),
                    1 => any::<u8>().prop_map(|octet| vec![octet]),
                ],
                0..12,
            ),
            unknown in prop::sample::select(vec![Unknown::Hold, Unknown::Address("post@b".into())]),
            occurrence in prop::sample::select(vec![Occurrence::First, Occurrence::Last]),
        ) {
            let value = parts.concat();
            let header = [&b"X-Original-To: "[..], &value, b"\r\nReturn-Path: ", &value, b"\r\n"].concat();
            let header = Header::new(&header);
            let reverse_path = sender(&Sender::Keep, &header);
            prop_assert!(ends_nothing(&reverse_path), "{reverse_path:?}");
            prop_assert!(reverse_path.is_empty() || reverse_path.contains('@'), "{reverse_path:?}");
            let strip_prefix = Some("mbox-".to_owned());
            let to = CatchAll { strip_prefix, unknown, occurrence, ..catch_all() };
            for recipient in recipients(&Recipients::Header(Box::new(to)), &header).into_iter().flatten() {
                prop_assert!(!recipient.is_empty() && ends_nothing(&recipient), "{recipient:?}");
            }
        }
    }
}
