//! Puts an account into a configuration text, whose comments and order stay.

use super::tree::{self, Content};

/// Puts an account behind those that a text has. `account` is its name with a colon, and its keys, at the left margin.
/// `None` where there is no place for it that is sure: accounts in braces, a text that is no mapping.
///
/// Whoever writes it reads the result again first, to see that nothing else has changed.
pub(crate) fn with_account(text: &str, account: &str) -> Option<String> {
    let root = tree::parse(text).ok()?;
    let entries = match &root {
        Some(root) => root.mapping("").ok()?,
        None => &[],
    };
    let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
    let Some(accounts) = entries.iter().find(|entry| entry.key == "accounts") else {
        lines.push(if text.is_empty() || text.ends_with('\n') { "" } else { "\n" });
        return Some(lines.concat() + "accounts:\n" + &indented(account, 2));
    };
    let (indent, mut at) = match &accounts.value.content {
        Content::Mapping(all) => {
            // In braces they begin on the line of the key, or at a brace.
            let first = all.first().filter(|first| first.at.line > accounts.at.line)?;
            (first.at.column - 1, lines.len())
        }
        Content::Plain(_) if accounts.value.is_nothing() => (2, accounts.at.line),
        Content::Plain(_) | Content::Quoted(_) | Content::List(_) => return None,
    };
    let next = entries.iter().map(|entry| entry.at.line - 1).filter(|line| *line >= accounts.at.line).min();
    if let Some(next) = next {
        // Comments above the next key are its own.
        let belongs = |line: &&str| line.starts_with('#') || line.trim().is_empty();
        at = next - lines[..next].iter().rev().take_while(|line| belongs(line)).count();
    } else if indent > 0 && at == lines.len() {
        at -= lines.iter().rev().take_while(|line| line.trim().is_empty()).count();
    }
    let ends_open = at == lines.len() && !text.ends_with('\n');
    let line_end = if lines.first().is_some_and(|line| line.ends_with("\r\n")) { "\r\n" } else { "\n" };
    let new = indented(account, indent).replace('\n', line_end);
    let new = if ends_open { format!("{line_end}{new}") } else { new };
    lines.insert(at, &new);
    Some(lines.concat())
}

fn indented(account: &str, indent: usize) -> String {
    account.lines().map(|line| format!("{:indent$}{line}\n", "")).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::Config;
    use super::*;

    const NEW: &str = "new:\n  host: h\n  user: u\n  deliver: { maildir: /m }\n";
    const OLD: &str = "  old: { host: h, user: o, deliver: { maildir: /m } }\n";

    fn put(text: &str) -> Option<String> {
        let put = with_account(text, NEW)?;
        let config = Config::from_yaml(&put, Path::new("f")).unwrap_or_else(|error| panic!("{error}\n{put}"));
        assert_eq!(config.accounts.last().unwrap().name, "new");
        Some(put)
    }

    #[test]
    fn an_account_stands_behind_the_others_and_everything_else_stays() {
        let indented = indented(NEW, 2);
        for (before, after) in [
            ("".to_owned(), String::new()),
            ("# mine\n".to_owned(), String::new()),
            ("state: /s\naccounts:  # all\n".to_owned(), String::new()),
            (format!("# mine\nstate: /s\naccounts:\n  # the old one\n{OLD}"), String::new()),
            (format!("accounts:\n{OLD}  # other: {{ }}\n"), "\n\n".to_owned()),
            (format!("accounts:\n{OLD}"), "\n# where\nstate: /s\n".to_owned()),
            ("accounts:\n".to_owned(), "state: /s\n".to_owned()),
        ] {
            let text = format!("{before}{after}");
            let key = if before.contains("accounts:") { "" } else { "accounts:\n" };
            assert_eq!(put(&text).unwrap(), format!("{before}{key}{indented}{after}"), "{text}");
        }
    }

    #[test]
    fn indents_line_ends_and_a_missing_last_one_are_those_of_the_text() {
        let wide = OLD.replacen("  ", "      ", 1);
        assert_eq!(
            put(&format!("accounts:\n{wide}")).unwrap(),
            format!("accounts:\n{wide}{}", indented(NEW, 6))
        );
        let open = format!("accounts:\n{}", OLD.trim_end());
        assert_eq!(put(&open).unwrap(), format!("{open}\n{}", indented(NEW, 2)));
        assert_eq!(put("state: /s").unwrap(), format!("state: /s\naccounts:\n{}", indented(NEW, 2)));
        let dos = format!("accounts:\n{OLD}").replace('\n', "\r\n");
        let put = put(&dos).unwrap();
        assert_eq!(put.matches("\r\n").count(), put.matches('\n').count());
    }

    #[test]
    fn where_no_place_is_sure_nothing_is_put() {
        for text in [
            "accounts: { old: { host: h, user: o, deliver: { maildir: /m } } }\n",
            "accounts: {}\n",
            "accounts: []\n",
            "accounts: x\n",
            "- list\n",
            "a: [\n",
        ] {
            assert_eq!(with_account(text, NEW), None, "{text}");
        }
    }
}
