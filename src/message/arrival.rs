//! When a message arrived, as its header tells it.

use jiff::fmt::rfc2822::DateTimeParser;

/// Whatever weekday somebody wrote, the date counts.
static DATES: DateTimeParser = DateTimeParser::new().relaxed_weekday(true);

/// Gives the time of a `Received` line in seconds since 1970: what stands behind its last semicolon (RFC 5321, 4.4).
/// The value is unfolded; `None` if there is no date in it.
pub fn of_received(value: &[u8]) -> Option<i64> {
    let semicolon = memchr::memrchr(b';', value)?;
    of_date(&value[semicolon + 1..])
}

/// Gives the time of a `Date` field in seconds since 1970 (RFC 5322, 3.3, the obsolete forms of 4.3 too). The value is
/// unfolded; `None` if it is no date.
pub fn of_date(value: &[u8]) -> Option<i64> {
    let read = DATES.parse_timestamp(value.trim_ascii());
    read.map_or_else(|_| loose(value), |time| Some(time.as_second()))
}

/// Reads a date as programs have written them that knew no RFC: with one digit for the hour, full or foreign weekdays,
/// hyphens, dots, comments anywhere, the year at the end, no zone (then UTC).
fn loose(value: &[u8]) -> Option<i64> {
    let text = without_comments(std::str::from_utf8(value).ok()?);
    let (mut day, mut month, mut year, mut time, mut zone) = (None, None, None, None, None);
    for word in text.split(|c: char| c.is_ascii_whitespace() || matches!(c, ',' | '"')) {
        // `29-Nov-2025`; a zone begins with its sign.
        let parts = if word.starts_with('-') { 0..0 } else { 0..word.matches('-').count() };
        for word in word.splitn(parts.len() + 1, '-').filter(|word| !word.is_empty()) {
            let digits = word.bytes().all(|octet| octet.is_ascii_digit());
            match month_of(word) {
                Some(number) if month.is_none() => month = Some(number),
                _ if digits && word.len() <= 2 && day.is_none() => day = word.parse().ok(),
                _ if digits && year.is_none() => year = year_of(word),
                _ if time.is_none() && word.starts_with(|c: char| c.is_ascii_digit()) => {
                    time = Some(time_of(word)?);
                }
                _ if time.is_some() && zone.is_none() => zone = zone_of(word),
                _ => {}
            }
        }
    }
    let (hour, minute, second) = time?;
    let date = jiff::civil::Date::new(year?, month?, day?).ok()?;
    let local = date.at(hour, minute, second, 0).to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some(local.timestamp().as_second() - zone.unwrap_or(0))
}

fn without_comments(text: &str) -> String {
    let mut depth = 0_usize;
    let mut kept = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ if depth == 0 => kept.push(c),
            _ => {}
        }
    }
    kept
}

fn month_of(word: &str) -> Option<i8> {
    const MONTHS: [&str; 12] = [
        "january",
        "february",
        "march",
        "april",
        "may",
        "june",
        "july",
        "august",
        "september",
        "october",
        "november",
        "december",
    ];
    let word = word.trim_end_matches('.').to_ascii_lowercase();
    let at = MONTHS.iter().position(|month| word.len() >= 3 && month.starts_with(&word));
    at.map(|at| at as i8 + 1)
}

/// RFC 5322, 4.3: years of two and three digits.
fn year_of(word: &str) -> Option<i16> {
    let year: i16 = word.parse().ok()?;
    match word.len() {
        2 => Some(year + if year < 50 { 2000 } else { 1900 }),
        3 => Some(year + 1900),
        4 => Some(year).filter(|year| *year >= 1970),
        _ => None,
    }
}

fn time_of(word: &str) -> Option<(i8, i8, i8)> {
    let mut parts = word.split([':', '.']).map(str::parse::<i8>);
    let (hour, minute) = (parts.next()?.ok()?, parts.next()?.ok()?);
    // A leap second has no time of its own here.
    let second = parts.next().unwrap_or(Ok(0)).ok()?.min(59);
    Some((hour, minute, second))
}

/// Gives the seconds of a zone: `+0100`, `+01:00`, `GMT+0100`, and the names of RFC 5322, 4.3; others mean nothing.
fn zone_of(word: &str) -> Option<i64> {
    if let Some(at) = word.find(['+', '-']) {
        let sign = if word[at..].starts_with('-') { -1 } else { 1 };
        let digits = word[at + 1..].replace(':', "");
        let number: i64 = digits.parse().ok().filter(|_| digits.len() == 4 || digits.len() == 3)?;
        let (hours, minutes) = (number / 100, number % 100);
        return (hours < 24 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60));
    }
    let hours = match &word.to_ascii_uppercase()[..] {
        "EDT" => -4,
        "EST" | "CDT" => -5,
        "CST" | "MDT" => -6,
        "MST" | "PDT" => -7,
        "PST" => -8,
        _ => return None,
    };
    Some(hours * 3600)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Option<i64> = Some(1_764_417_600); // 2025-11-29 12:00 UTC

    #[test]
    fn a_date_is_read_in_the_forms_in_which_mail_has_it() {
        for date in [
            "Sat, 29 Nov 2025 12:00:00 +0000",
            "Mon, 29 Nov 2025 12:00:00 +0000",
            "29 Nov 2025 13:00:00 +0100 (CET)",
            " Sat, 29 Nov 2025 04:00:00 PST ",
            "29 Nov 25 12:00 GMT",
            "Sat Nov 29 12:00:00 2025",
            "Sat, 29-Nov-2025 12:00:00 +0000",
            "Sat, 29 November 2025 12:00:00",
            "Samedi, 29 (c) Nov 2025 12.00.00 UTC (UTC) (x (y))",
            "29 Nov 125 5:00:00 -0700 (MST)",
            "29 Nov 2025 13:00:00 GMT+0100",
            "29 Nov 2025 13:00:00 +01:00 garbage",
            "29 Nov 2025 07:00:00 EST x",
        ] {
            assert_eq!(of_date(date.as_bytes()), NOON, "{date}");
        }
        for nothing in
            ["", "today", "2025-11-29T12:00:00Z", "29 Nov 2025", "\u{fc}", "31 Feb 2025 1:00:00 +0000"]
        {
            assert_eq!(of_date(nothing.as_bytes()), None, "{nothing}");
        }
    }

    #[test]
    fn a_received_line_tells_its_time_behind_the_last_semicolon() {
        for line in [
            "from a by b; Sat, 29 Nov 2025 12:00:00 +0000 (UTC)",
            "from a (helo; x) by b with ESMTP id 1; 29 Nov 2025 12:00:00 +0000",
        ] {
            assert_eq!(of_received(line.as_bytes()), NOON, "{line}");
        }
        assert_eq!(of_received(b"from a by b"), None);
        assert_eq!(of_received(b"from a by b;"), None);
    }
}
