//! The known word that somebody probably meant.

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
        .map(|word| (distance(&written, &plain(word)), *word))
        .filter(|(distance, word)| *distance <= (word.len() / 3).max(1))
        .min_by_key(|(distance, _)| *distance);
    if let Some((_, word)) = near {
        return Some(word);
    }
    let (_, here) = ELSEWHERE.iter().find(|(elsewhere, _)| *elsewhere == written)?;
    known.iter().find(|word| *word == here).copied()
}

/// Counts the letters to change, add, remove or swap with their neighbour (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = match (i, j) {
                (0, j) => j,
                (i, 0) => i,
                (i, j) => {
                    let change = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                    let best = change.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                    if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                        best.min(rows[i - 2][j - 2] + 1)
                    } else {
                        best
                    }
                }
            };
        }
    }
    rows[a.len()][b.len()]
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
