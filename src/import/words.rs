//! Command lines as other programs write them.

/// What stands in a command for something of the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stand<'a> {
    /// The environment variable that has it.
    Variable(&'a str),
    /// What it always is.
    Text(&'a str),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Quoted {
    No,
    Single,
    Double,
}

/// Replaces `%F` and the like in text for a shell, so that whatever comes in their place is one word, or part of one.
pub(super) fn in_shell<'a>(text: &str, of: impl Fn(char) -> Option<Stand<'a>>) -> String {
    let (mut out, mut quoted) = (String::with_capacity(text.len()), Quoted::No);
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match (c, quoted) {
            ('\\', Quoted::No | Quoted::Double) => {
                out.push(c);
                out.extend(rest.next());
                continue;
            }
            ('\'', Quoted::No) => quoted = Quoted::Single,
            ('\'', Quoted::Single) | ('"', Quoted::Double) => quoted = Quoted::No,
            ('"', Quoted::No) => quoted = Quoted::Double,
            ('%', _) => {
                let stand = rest.clone().next().and_then(&of);
                if let Some(stand) = stand {
                    rest.next();
                    out += &put(stand, quoted);
                    continue;
                }
            }
            _ => {}
        }
        out.push(c);
    }
    out
}

fn put(stand: Stand<'_>, quoted: Quoted) -> String {
    match (stand, quoted) {
        (Stand::Variable(name), Quoted::No) => format!("\"${name}\""),
        (Stand::Variable(name), Quoted::Double) => format!("${{{name}}}"),
        (Stand::Variable(name), Quoted::Single) => format!("'\"${name}\"'"),
        (Stand::Text(text), Quoted::No) => word(text),
        (Stand::Text(text), Quoted::Single) => text.replace('\'', "'\\''"),
        (Stand::Text(text), Quoted::Double) => {
            let special = |c| matches!(c, '"' | '\\' | '$' | '`');
            text.chars().flat_map(|c| special(c).then_some('\\').into_iter().chain([c])).collect()
        }
    }
}

/// Writes a text as one word of a shell.
pub(super) fn word(text: &str) -> String {
    let is_plain =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/' | '@' | '+' | ':');
    match !text.is_empty() && text.chars().all(is_plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_of_a_message_stays_one_word_whatever_quotes_are_around_it() {
        let of = |c| match c {
            'F' => Some(Stand::Variable("FROM")),
            'T' => Some(Stand::Text("it's $x")),
            _ => None,
        };
        assert_eq!(in_shell("a -f %F -d %T 5%", of), r#"a -f "$FROM" -d 'it'\''s $x' 5%"#);
        assert_eq!(in_shell(r#"a "<%F> %T" \%F"#, of), r#"a "<${FROM}> it's \$x" \%F"#);
        assert_eq!(in_shell("a 'x%F %T'", of), r#"a 'x'"$FROM"' it'\''s $x'"#);
    }
}
