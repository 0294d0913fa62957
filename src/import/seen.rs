//! Lists of what other programs have fetched.

use std::path::PathBuf;

use crate::message::UniqueId;

/// A list that a configuration names, and whose part of it an account is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenList {
    pub list: List,
    pub path: PathBuf,
    /// The server as the list has it.
    pub host: String,
    /// The user as the list has it.
    pub user: String,
}

/// What a list looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum List {
    /// `USER@HOST UNIQUE-ID`, for all accounts.
    Fetchmail,
    /// Lists of several accounts, each with a head that counts it; in later versions with times.
    Mpop,
    /// A list of one account: unique-id, NUL, time.
    Getmail,
    /// A list of one account: the octets of a unique-id, and that.
    Fdm,
}

/// A message that another program fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    pub uid: UniqueId,
    /// When it was first seen, in seconds of Unix time, if that is known.
    pub at: Option<i64>,
}

/// Reads what a list says of one account, each unique-id once. What is no line of a list is passed over, as its program
/// does.
pub fn seen(list: &SeenList, text: &[u8]) -> Vec<Fetched> {
    let lines = text.split(|octet| *octet == b'\n');
    let found: Vec<Fetched> = match list.list {
        List::Fetchmail => lines.filter_map(|line| fetchmail(line, list)).collect(),
        List::Mpop => mpop(lines, list),
        List::Getmail => lines.filter_map(getmail).collect(),
        List::Fdm => fdm(text),
    };
    let mut known = std::collections::HashSet::new();
    found.into_iter().filter(|fetched| known.insert(fetched.uid.clone())).collect()
}

/// The unique-id follows the first blank behind the first `@`; user and host part at the last `@` before it.
fn fetchmail(line: &[u8], list: &SeenList) -> Option<Fetched> {
    let line = line.trim_ascii_start();
    let first = line.iter().position(|octet| *octet == b'@')?;
    let blank = first + line[first..].iter().position(|octet| *octet == b' ')?;
    let at = line[..blank].iter().rposition(|octet| *octet == b'@')?;
    let (user, host) = (&line[..at], &line[at + 1..blank]);
    let uid = line[blank..].trim_ascii_start();
    let end = uid.iter().position(|octet| b" \t\r".contains(octet)).unwrap_or(uid.len());
    let is_ours =
        user.eq_ignore_ascii_case(list.user.as_bytes()) && host.eq_ignore_ascii_case(list.host.as_bytes());
    (is_ours && end > 0).then(|| Fetched { uid: UniqueId::new(&uid[..end]), at: None })
}

/// ` COUNT HOST USER`, then so many unique-ids. Version 1.4.23 and later put a time behind each; whether that is so, all
/// lines together tell.
fn mpop<'t>(mut lines: impl Iterator<Item = &'t [u8]>, list: &SeenList) -> Vec<Fetched> {
    let mut found = Vec::new();
    while let Some(line) = lines.next() {
        let Some((count, owner)) = line.strip_prefix(b" ").and_then(|head| split(head)) else { continue };
        let Some(count) = str::from_utf8(count).ok().and_then(|count| count.parse::<usize>().ok()) else {
            continue;
        };
        let ours = [list.host.as_bytes(), b" ", list.user.as_bytes()].concat();
        let listed: Vec<&[u8]> = lines.by_ref().take(count).filter(|line| !line.is_empty()).collect();
        if owner == ours {
            found.extend(listed);
        }
    }
    let times: Option<Vec<Fetched>> = found.iter().map(|line| timed(line)).collect();
    let untimed = || found.iter().map(|line| Fetched { uid: UniqueId::new(*line), at: None }).collect();
    times.unwrap_or_else(untimed)
}

/// Splits a line at its first blank.
fn split(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let blank = line.iter().position(|octet| *octet == b' ')?;
    Some((&line[..blank], &line[blank + 1..]))
}

/// A unique-id, a blank, and ten digits.
fn timed(line: &[u8]) -> Option<Fetched> {
    let blank = line.iter().rposition(|octet| *octet == b' ')?;
    let digits = &line[blank + 1..];
    let is_time = digits.len() == 10 && digits.iter().all(u8::is_ascii_digit) && blank > 0;
    let at = str::from_utf8(digits).ok().filter(|_| is_time)?.parse().ok()?;
    Some(Fetched { uid: UniqueId::new(&line[..blank]), at: Some(at) })
}

/// A line without a NUL is none.
fn getmail(line: &[u8]) -> Option<Fetched> {
    let nul = line.iter().rposition(|octet| *octet == 0).filter(|nul| *nul > 0)?;
    let at = str::from_utf8(&line[nul + 1..]).ok().and_then(|time| time.trim().parse().ok());
    Some(Fetched { uid: UniqueId::new(&line[..nul]), at })
}

/// `LENGTH UNIQUE-ID`, one after the other; what does not keep to it ends the list.
fn fdm(mut text: &[u8]) -> Vec<Fetched> {
    let mut found = Vec::new();
    while let Some((length, rest)) = split(text) {
        let length = str::from_utf8(length).ok().and_then(|length| length.trim_start().parse::<usize>().ok());
        let Some((uid, rest)) =
            length.filter(|length| *length > 0).and_then(|length| rest.split_at_checked(length))
        else {
            break;
        };
        found.push(Fetched { uid: UniqueId::new(uid), at: None });
        text = rest.strip_prefix(b"\n").unwrap_or(rest);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(list: List, host: &str, user: &str, text: &[u8]) -> Vec<(String, Option<i64>)> {
        let list = SeenList { list, path: PathBuf::new(), host: host.into(), user: user.into() };
        seen(&list, text).into_iter().map(|fetched| (fetched.uid.to_string(), fetched.at)).collect()
    }

    #[test]
    fn a_list_of_mpop_has_times_if_all_its_lines_end_in_one() {
        let text = b"# made by mpop\n#\n 1 h a\nx y\n 2 h u v\nuid1\nwith blank 1795405609\n 0 h w\n";
        let plain = [("uid1".to_owned(), None), ("with blank 1795405609".to_owned(), None)];
        assert_eq!(of(List::Mpop, "h", "u v", text), plain);
        assert_eq!(of(List::Mpop, "h", "a", text), [("x y".to_owned(), None)]);
        assert_eq!(of(List::Mpop, "h", "nobody", text), []);
        let timed = b" 2 h u\nuid1 1795405609\nwith blank 1795405610\n";
        let times =
            [("uid1".to_owned(), Some(1_795_405_609)), ("with blank".to_owned(), Some(1_795_405_610))];
        assert_eq!(of(List::Mpop, "h", "u", timed), times);
    }

    #[test]
    fn lists_of_one_account_are_read_whole() {
        let text = b"uid3\x001795404335\na-b c\x00x\nno line\n\x001\n";
        assert_eq!(
            of(List::Getmail, "", "", text),
            [("uid3".to_owned(), Some(1_795_404_335)), ("a-b c".to_owned(), None)]
        );
        let text = b"4 uid1\n14 000003e84f2a1b\n5 a b\nc\n9 short\n";
        assert_eq!(
            of(List::Fdm, "", "", text),
            [("uid1".to_owned(), None), ("000003e84f2a1b".to_owned(), None), ("a b\\nc".to_owned(), None)]
        );
    }

    #[test]
    fn a_line_of_fetchids_is_cut_where_fetchmail_cuts_it() {
        let text =
            b"u@127.0.0.1 uid1\n joe@example.org@Pop.Example.net 00e8\tx\nu@127.0.0.1 uid1\nu@h\nno line\n";
        assert_eq!(of(List::Fetchmail, "127.0.0.1", "U", text), [("uid1".to_owned(), None)]);
        assert_eq!(
            of(List::Fetchmail, "pop.example.net", "joe@example.org", text),
            [("00e8".to_owned(), None)]
        );
    }
}
