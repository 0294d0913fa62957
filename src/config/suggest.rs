//! The known word that somebody probably meant.

use strsim::osa_distance;

/// Longer words are not compared: none that is known comes near, and the work stays bounded.
const LONGEST: usize = 32;

/// Words of other programs, and what they are called here.
const ELSEWHERE: [(&str, &str); 11] = [
    ("server", "host"),
    ("hostname", "host"),
    ("username", "user"),
    ("login", "user"),
    ("pass", "password"),
    ("passwd", "password"),
    ("ssl", "tls"),
    ("folder", "deliver"),
    ("maildir", "deliver"),
    ("destination", "deliver"),
    ("account", "accounts"),
];

/// Finds the known word nearest to what was written: at most a third of its letters wrong, missing, too many or
/// swapped, letter case and `-` for `_` aside; or what another program's word is called here.
pub fn nearest<'k>(written: &str, known: &[&'k str]) -> Option<&'k str> {
    if written.len() > LONGEST {
        return None;
    }
    let plain = |word: &str| word.to_ascii_lowercase().replace('-', "_");
    let written = plain(written);
    let near = known
        .iter()
        .map(|word| (osa_distance(&written, &plain(word)), *word))
        .filter(|(distance, word)| *distance <= (word.len() / 3).max(1))
        .min_by_key(|(distance, _)| *distance);
    if let Some((_, word)) = near {
        return Some(word);
    }
    let (_, here) = ELSEWHERE.iter().find(|(elsewhere, _)| *elsewhere == written)?;
    known.iter().find(|word| *word == here).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_the_word_and_a_stranger_finds_none() {
        let known = ["host", "port", "user", "tls", "starttls", "max_size", "deliver", "keep"];
        for (written, meant) in [
            ("hots", Some("host")),
            ("Host", Some("host")),
            ("startls", Some("starttls")),
            ("max-size", Some("max_size")),
            ("maxsize", Some("max_size")),
            ("server", Some("host")),
            ("maildir", Some("deliver")),
            ("colour", None),
            ("passwd", None), // known elsewhere, but `password` is not among the words
            ("", None),
            ("x", None),
        ] {
            assert_eq!(nearest(written, &known), meant, "{written}");
        }
        assert_eq!(nearest(&"h".repeat(100_000), &known), None);
    }
}
