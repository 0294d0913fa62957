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
    DATES.parse_timestamp(value.trim_ascii()).ok().map(jiff::Timestamp::as_second)
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
