//! The language of whoever runs the program, as servers are told it.

/// Gives the language of messages by the environment (POSIX, 8.2), as a tag of RFC 5646; `None` for the POSIX locale.
pub fn language() -> Option<String> {
    let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    tag(&["LC_ALL", "LC_MESSAGES", "LANG"].into_iter().find_map(set)?)
}

/// Makes a tag of a locale's name: `de-CH` of `de_CH.UTF-8@euro`.
fn tag(locale: &str) -> Option<String> {
    let name = locale.split(['.', '@']).next().unwrap_or_default();
    let tag = name.replace('_', "-");
    let is_sound =
        |part: &str| (1..=8).contains(&part.len()) && part.bytes().all(|octet| octet.is_ascii_alphanumeric());
    let is_language = tag.split('-').next().is_some_and(|first| first.len() > 1);
    (is_language && name != "POSIX" && tag.split('-').all(is_sound)).then_some(tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_locale_names_a_language_unless_it_is_that_of_posix() {
        for (locale, expected) in [
            ("de_CH.UTF-8@euro", Some("de-CH")),
            ("pt_BR", Some("pt-BR")),
            ("en", Some("en")),
            ("C", None),
            ("C.UTF-8", None),
            ("POSIX", None),
            ("", None),
            ("/usr/share/my locale", None),
            ("de\r\nQUIT", None),
        ] {
            assert_eq!(tag(locale).as_deref(), expected, "{locale}");
        }
    }
}
