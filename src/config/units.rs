//! Durations and sizes as people write them.

use std::time::Duration;

/// The longest duration that may be written: a hundred years, so that no sum of instants overflows.
const LONGEST: Duration = Duration::from_secs(36_500 * 86_400);

/// Units of time, largest first, with their seconds.
const TIMES: [(char, u64); 4] = [('d', 86_400), ('h', 3600), ('m', 60), ('s', 1)];

/// Units of size, largest first, with their octets.
const SIZES: [(char, u64); 3] = [('G', 1 << 30), ('M', 1 << 20), ('k', 1 << 10)];

/// Why a text is not a duration or a size. The words complete "must be ..." and quote nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    #[error("must be a duration such as 30s, 5m, 2h or 14d")]
    NotADuration,
    #[error("needs a unit: write a duration such as 30s, 5m, 2h or 14d")]
    NoUnit,
    #[error("must be a duration of at most 36500d")]
    TooLong,
    #[error("must be a size in octets such as 500k, 25M or 1G")]
    NotASize,
    #[error("must be a size below 16 exbibytes")]
    TooLarge,
}

/// Reads `30s`, `5m`, `2h`, `14d`, or several of them from the largest unit to the smallest: `1h30m`.
///
/// # Errors
///
/// Anything else, a number without unit included: nobody can tell seconds from minutes by looking at it.
pub fn duration(text: &str) -> Result<Duration, UnitError> {
    if text.is_empty() {
        return Err(UnitError::NotADuration);
    }
    if text.bytes().all(|octet| octet.is_ascii_digit()) {
        return Err(UnitError::NoUnit);
    }
    let mut rest = text;
    let mut seconds: u64 = 0;
    let mut units = TIMES.iter();
    while !rest.is_empty() {
        let (digits, unit, after) = number_and_unit(rest).ok_or(UnitError::NotADuration)?;
        let (_, factor) = units.find(|(known, _)| *known == unit).ok_or(UnitError::NotADuration)?;
        let count: u64 = digits.parse().map_err(|_| UnitError::TooLong)?;
        let more = count.checked_mul(*factor).ok_or(UnitError::TooLong)?;
        seconds = seconds.checked_add(more).ok_or(UnitError::TooLong)?;
        rest = after;
    }
    let duration = Duration::from_secs(seconds);
    if duration > LONGEST { Err(UnitError::TooLong) } else { Ok(duration) }
}

/// Reads a size in octets: digits alone, or with `k`, `M` or `G` for powers of 1024.
///
/// # Errors
///
/// Anything else, and more than 2^64 - 1 octets.
pub fn size(text: &str) -> Result<u64, UnitError> {
    let (digits, factor) = if text.ends_with(|last: char| last.is_ascii_digit()) {
        (text, 1)
    } else {
        let (digits, unit, after) = number_and_unit(text).ok_or(UnitError::NotASize)?;
        // `K` is not another unit in anybody's mind; `m` and `g` likewise.
        let known =
            SIZES.iter().find(|(known, _)| known.eq_ignore_ascii_case(&unit)).ok_or(UnitError::NotASize)?;
        if !after.is_empty() {
            return Err(UnitError::NotASize);
        }
        (digits, known.1)
    };
    if !digits.bytes().all(|octet| octet.is_ascii_digit()) {
        return Err(UnitError::NotASize);
    }
    let count: u64 = digits.parse().map_err(|_| UnitError::TooLarge)?;
    count.checked_mul(factor).ok_or(UnitError::TooLarge)
}

/// Writes a duration in whole seconds so that [`duration`] reads it again.
pub fn show_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let fits = TIMES.iter().find(|(_, factor)| seconds >= *factor && seconds.is_multiple_of(*factor));
    match fits {
        Some((unit, factor)) => format!("{}{unit}", seconds / factor),
        None => format!("{seconds}s"),
    }
}

/// Writes a size so that [`size`] reads it again.
pub fn show_size(octets: u64) -> String {
    match SIZES.iter().find(|(_, factor)| octets >= *factor && octets.is_multiple_of(*factor)) {
        Some((unit, factor)) => format!("{}{unit}", octets / factor),
        None => octets.to_string(),
    }
}

/// Splits digits (at least one), one unit and what follows.
fn number_and_unit(text: &str) -> Option<(&str, char, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).filter(|end| *end > 0)?;
    let (digits, rest) = text.split_at(end);
    let mut characters = rest.chars();
    let unit = characters.next()?;
    Some((digits, unit, characters.as_str()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_read_with_their_units_and_refused_without() {
        let seconds = |text| duration(text).map(|read| read.as_secs());
        assert_eq!(seconds("30s"), Ok(30));
        assert_eq!(seconds("5m"), Ok(300));
        assert_eq!(seconds("2h"), Ok(7200));
        assert_eq!(seconds("14d"), Ok(1_209_600));
        assert_eq!(seconds("1h30m"), Ok(5400));
        assert_eq!(seconds("36500d"), Ok(LONGEST.as_secs()));
        assert_eq!(seconds("60"), Err(UnitError::NoUnit));
        for text in ["", "s", "5 m", "-5m", "5M", "5min", "1.5h", "5parsecs", "30m1h", "5m5m", " 5m", "٣s"] {
            assert_eq!(seconds(text), Err(UnitError::NotADuration), "{text:?}");
        }
        for text in ["36501d", "36500d1s", "99999999999999999999s", "18446744073709551615d"] {
            assert_eq!(seconds(text), Err(UnitError::TooLong), "{text:?}");
        }
    }

    #[test]
    fn sizes_are_powers_of_1024_and_bare_numbers_are_octets() {
        assert_eq!(size("500k"), Ok(512_000));
        assert_eq!(size("25M"), Ok(25 << 20));
        assert_eq!(size("1G"), Ok(1 << 30));
        assert_eq!(size("1g"), Ok(1 << 30));
        assert_eq!(size("4096"), Ok(4096));
        for text in ["", "k", "-1", "1.5M", "1MB", "1 M", "1T", "+1", "1k5", "M5"] {
            assert_eq!(size(text), Err(UnitError::NotASize), "{text:?}");
        }
        assert_eq!(size("18446744073709551616"), Err(UnitError::TooLarge));
        assert_eq!(size("17179869184G"), Err(UnitError::TooLarge));
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_again(seconds in 0..=LONGEST.as_secs(), octets: u64) {
            let shown = Duration::from_secs(seconds);
            prop_assert_eq!(duration(&show_duration(shown)), Ok(shown));
            prop_assert_eq!(size(&show_size(octets)), Ok(octets));
        }
    }
}
