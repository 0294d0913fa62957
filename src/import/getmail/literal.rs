//! Python's literals, as far as getmail's options have them: texts, numbers, and tuples of them.

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Literal {
    Text(String),
    Other(String),
    Tuple(Vec<Literal>),
}

/// Reads a tuple of texts. What is no literal would have to be evaluated: then there is none.
pub(super) fn texts(value: &str) -> Option<Vec<String>> {
    let items = match literal(value)? {
        Literal::Tuple(items) => items,
        Literal::Text(_) | Literal::Other(_) => return None,
    };
    items
        .into_iter()
        .map(|item| match item {
            Literal::Text(text) | Literal::Other(text) => Some(text),
            Literal::Tuple(_) => None,
        })
        .collect()
}

/// Reads a literal that is a whole value; an empty one is the empty tuple.
pub(super) fn literal(value: &str) -> Option<Literal> {
    let mut reader = Reader { rest: value };
    reader.blank();
    if reader.rest.is_empty() {
        return Some(Literal::Tuple(Vec::new()));
    }
    let first = reader.one()?;
    reader.blank();
    // Without parentheses, a comma makes a tuple all the same.
    if !reader.rest.starts_with(',') {
        return reader.rest.is_empty().then_some(first);
    }
    let mut items = vec![first];
    while reader.comma() {
        reader.blank();
        if reader.rest.is_empty() {
            break;
        }
        items.push(reader.one()?);
        reader.blank();
    }
    reader.rest.is_empty().then_some(Literal::Tuple(items))
}

struct Reader<'t> {
    rest: &'t str,
}

impl Reader<'_> {
    /// Passes over blanks, ends of lines and comments.
    fn blank(&mut self) {
        loop {
            self.rest = self.rest.trim_start();
            match self.rest.strip_prefix('#') {
                Some(comment) => self.rest = &comment[comment.find('\n').unwrap_or(comment.len())..],
                None => return,
            }
        }
    }

    fn comma(&mut self) -> bool {
        let rest = self.rest.strip_prefix(',');
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn one(&mut self) -> Option<Literal> {
        self.blank();
        if let Some(rest) = self.rest.strip_prefix('(') {
            self.rest = rest;
            return self.parenthesis();
        }
        if let Some(text) = self.text()? {
            return Some(Literal::Text(text));
        }
        let end = self.rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_');
        let word = &self.rest[..end.unwrap_or(self.rest.len())];
        let is_number = word.strip_prefix('-').unwrap_or(word).parse::<u64>().is_ok();
        self.rest = &self.rest[word.len()..];
        (is_number || ["True", "False", "None"].contains(&word)).then(|| Literal::Other(word.to_owned()))
    }

    fn parenthesis(&mut self) -> Option<Literal> {
        let (mut items, mut is_tuple) = (Vec::new(), false);
        loop {
            self.blank();
            if let Some(rest) = self.rest.strip_prefix(')') {
                self.rest = rest;
                return match (items.pop(), is_tuple) {
                    (Some(only), false) if items.is_empty() => Some(only),
                    (last, _) => {
                        items.extend(last);
                        Some(Literal::Tuple(items))
                    }
                };
            }
            items.push(self.one()?);
            self.blank();
            match self.comma() {
                true => is_tuple = true,
                false if self.rest.starts_with(')') => {}
                false => return None,
            }
        }
    }

    /// Reads texts that stand one behind the other, and are one; `None` inside: there is no text here.
    fn text(&mut self) -> Option<Option<String>> {
        let mut all: Option<String> = None;
        loop {
            self.blank();
            let (raw, rest) = match self.rest.strip_prefix(['r', 'R']) {
                Some(rest) if rest.starts_with(['"', '\'']) => (true, rest),
                _ => match self.rest.strip_prefix(['u', 'U', 'b', 'B']) {
                    Some(rest) if rest.starts_with(['"', '\'']) => (false, rest),
                    _ => (false, self.rest),
                },
            };
            let Some(quote) = rest.chars().next().filter(|c| matches!(c, '"' | '\'')) else {
                return Some(all);
            };
            let triple: String = std::iter::repeat_n(quote, 3).collect();
            let (mark, inside) = match rest.strip_prefix(&*triple) {
                Some(inside) => (triple, inside),
                None => (quote.to_string(), &rest[1..]),
            };
            let end = end(inside, &mark)?;
            self.rest = &inside[end + mark.len()..];
            let text = &inside[..end];
            *all.get_or_insert_default() += &if raw { text.to_owned() } else { escaped(text)? };
        }
    }
}

/// Finds where a text ends; a quote behind a backslash does not end it.
fn end(inside: &str, mark: &str) -> Option<usize> {
    let mut from = 0;
    loop {
        let next = from + inside[from..].find(|c| c == '\\' || mark.starts_with(c))?;
        if inside[next..].starts_with(mark) {
            return Some(next);
        }
        let skipped = if inside[next..].starts_with('\\') { 1 } else { 0 };
        from = next + 1;
        if skipped == 1 {
            from += inside[from..].chars().next()?.len_utf8();
        }
    }
}

fn escaped(text: &str) -> Option<String> {
    let (mut out, mut rest) = (String::with_capacity(text.len()), text.chars());
    while let Some(c) = rest.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        let code = |rest: &mut std::str::Chars<'_>, digits: usize| {
            let code: String = rest.by_ref().take(digits).collect();
            u32::from_str_radix(&code, 16).ok().filter(|_| code.len() == digits).and_then(char::from_u32)
        };
        match rest.next()? {
            '\n' => {}
            'n' => out.push('\n'),
            't' => out.push('\t'),
            'r' => out.push('\r'),
            'x' => out.push(code(&mut rest, 2)?),
            'u' => out.push(code(&mut rest, 4)?),
            'U' => out.push(code(&mut rest, 8)?),
            quote @ ('\\' | '\'' | '"') => out.push(quote),
            first @ '0'..='7' => {
                let more: String = rest.clone().take(2).take_while(|c| c.is_digit(8)).collect();
                rest.by_ref().take(more.len()).for_each(drop);
                out.push(char::from_u32(u32::from_str_radix(&format!("{first}{more}"), 8).ok()?)?);
            }
            // Python leaves what it does not know as it is.
            other => out.extend(['\\', other]),
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tuple_of_texts_is_read_as_python_reads_it() {
        let is = |value: &str, expected: &[&str]| {
            assert_eq!(texts(value).unwrap(), expected, "{value}");
        };
        is("('-f', \"%(sender)\", 'a' 'b', 'x\\ty',)", &["-f", "%(sender)", "ab", "x\ty"]);
        is("(\n'a', # one\n r'\\d',\n)", &["a", "\\d"]);
        is("'a', 'b'", &["a", "b"]);
        is("(\"it's\", 'q\\'q', '''t'q''', '\\x41\\101', 5)", &["it's", "q'q", "t'q", "AA", "5"]);
        is("", &[]);
        is("()", &[]);
        for evaluated in ["('a')", "('a' + x,)", "os.listdir()", "('a',", "(f'x',)", "('\\x4',)"] {
            assert_eq!(texts(evaluated), None, "{evaluated}");
        }
    }
}
