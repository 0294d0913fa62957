//! Slips of the hand and broken disks: no text makes the loader panic or give a secret away.

use std::path::Path;

use postrider::testing::config::{Config, Password, show};
use postrider::testing::secret::Secret;
use proptest::prelude::*;

use super::{EVERYTHING, FILE, with};

/// A change that a slip of the hand or a broken disk makes.
#[derive(Debug, Clone)]
enum Slip {
    Insert(prop::sample::Index, String),
    Remove(prop::sample::Index, usize),
    Repeat(prop::sample::Index, usize),
}

fn slip() -> impl Strategy<Value = Slip> {
    let piece = prop::sample::select(vec![
        " ",
        "\n",
        "\n  ",
        "\n    ",
        "\n      ",
        ":",
        ": ",
        "'",
        "\"",
        "{",
        "}",
        "[",
        "]",
        ",",
        "#",
        " #",
        "- ",
        "\t",
        "&a ",
        "*a",
        "!",
        "|",
        ">",
        "%",
        "@",
        "? ",
        "---\n",
        "\\",
        "\0",
        "\u{feff}",
        "password: ",
        "host: ",
        "port: ",
        "tls_pin: ",
        "deliver: ",
        "auth: [",
        "{command: ",
        "{x: ",
    ]);
    prop_oneof![
        3 => (any::<prop::sample::Index>(), piece).prop_map(|(at, piece)| Slip::Insert(at, piece.to_owned())),
        2 => (any::<prop::sample::Index>(), 1..20_usize).prop_map(|(at, length)| Slip::Remove(at, length)),
        1 => (any::<prop::sample::Index>(), 1..60_usize).prop_map(|(at, length)| Slip::Repeat(at, length)),
    ]
}

fn slipped(text: &str, slips: &[Slip]) -> String {
    let mut letters: Vec<char> = text.chars().collect();
    for slip in slips {
        let at = |index: &prop::sample::Index| index.index(letters.len() + 1);
        match slip {
            Slip::Insert(index, piece) => {
                let at = at(index);
                letters.splice(at..at, piece.chars());
            }
            Slip::Remove(index, length) => {
                let at = at(index);
                letters.drain(at..(at + length).min(letters.len()));
            }
            Slip::Repeat(index, length) => {
                let at = at(index);
                let again: Vec<char> = letters[at..(at + length).min(letters.len())].to_vec();
                letters.splice(at..at, again);
            }
        }
    }
    letters.into_iter().collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn no_error_contains_a_password_whatever_slip_was_made(
        // No name of an account has such characters, and an account's name is shown.
        secret in "[A-Z][!%$~=][a-zA-Z0-9!%$~=]{10,20}",
        slips in prop::collection::vec(slip(), 1..6),
    ) {
        let text = format!("{}\n    password: {secret}\n    keep: 14d\n  work: {{host: h2, user: u, password: '{secret}', deliver: {{maildir: ~/M}}}}\n", with("tls: starttls"));
        if let Err(error) = Config::from_yaml(&slipped(&text, &slips), Path::new(FILE)) {
            let words = format!("{error} {error:?}");
            prop_assert!(!words.contains(&secret), "{}", words);
        }
    }

    #[test]
    fn no_text_makes_the_loader_panic(text in any::<String>(), slips in prop::collection::vec(slip(), 0..12)) {
        let _ = Config::from_yaml(&text, Path::new(FILE));
        let _ = Config::from_yaml(&slipped(EVERYTHING, &slips), Path::new(FILE));
    }

    #[test]
    fn whatever_is_accepted_is_shown_and_read_again(slips in prop::collection::vec(slip(), 0..2)) {
        let text = slipped(&with("user2"), &slips).replace("user2", "timeout: 5s");
        if let Ok(config) = Config::from_yaml(&text, Path::new(FILE)) {
            let again = Config::from_yaml(&show(&config), Path::new(FILE));
            let masked = |mut config: Config| {
                config.accounts.iter_mut().for_each(|account| {
                    if let Some(Password::Literal(secret)) = &mut account.password {
                        *secret = Secret::new("");
                    }
                });
                config
            };
            prop_assert_eq!(again.map(masked).map_err(|error| error.to_string()), Ok(masked(config)));
        }
    }
}
