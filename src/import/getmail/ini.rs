//! The sections of a getmailrc, as Python's RawConfigParser reads them.

use std::path::Path;

use super::super::cursor::{At, Cursor, Wrong, shown};

/// A section, in the order of the file.
#[derive(Debug)]
pub(super) struct Section {
    pub(super) name: String,
    pub(super) at: At,
    pub(super) options: Vec<Setting>,
}

/// An option: its name in lower case, and its value, of which further lines stand behind line ends.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    pub(super) at: At,
    pub(super) key: String,
    pub(super) value: String,
}

/// Splits a file into its sections. The options of `[DEFAULT]` hold in `[options]` alone: getmail clears them before it reads
/// the others. `named`: where places name the file.
pub(super) fn sections(file: &Path, text: &str, named: Option<&Path>) -> Result<Vec<Section>, Wrong> {
    let mut sections: Vec<Section> = Vec::new();
    let mut lines = Cursor::new(text, named.map(Path::to_owned));
    // How far the line of the option was indented that further lines may belong to.
    let mut indent = None;
    while lines.peek().is_some() {
        let start = lines.at();
        let blank = lines.take_while(|c| c.is_whitespace() && c != '\n').chars().count();
        let at = lines.at();
        let line = lines.take_while(|c| c != '\n').trim_end();
        lines.next();
        if line.starts_with(['#', ';']) {
            continue;
        }
        let current = sections.last_mut();
        let more = current.and_then(|section| section.options.last_mut());
        if line.is_empty() {
            // It belongs to a value that goes on behind it, and is cut off where none does.
            if let (Some(option), Some(_)) = (more, indent) {
                option.value.push('\n');
            }
            continue;
        }
        if let (Some(option), Some(first)) = (more, indent)
            && blank > first
        {
            option.value.push('\n');
            option.value.push_str(line);
            continue;
        }
        indent = None;
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.split_once(']')).map(|(name, _)| name)
        {
            if name != "DEFAULT" && sections.iter().any(|section| section.name == name) {
                return Err(Wrong::new(file, &at, format!("section [{name}] is there already")));
            }
            sections.push(Section { name: name.to_owned(), at: start, options: Vec::new() });
            continue;
        }
        let Some(section) = sections.last_mut() else {
            return Err(Wrong::new(file, &at, "a section such as [retriever] was expected"));
        };
        section.options.push(option(file, line, at, section)?);
        indent = Some(blank);
    }
    fill_in(&mut sections);
    Ok(sections)
}

/// Reads the first line of an option.
fn option(file: &Path, line: &str, at: At, section: &Section) -> Result<Setting, Wrong> {
    let Some((key, value)) = line.split_once(['=', ':']) else {
        return Err(Wrong::new(file, &at, "`=` was expected behind the name of an option"));
    };
    let key = key.trim_end().to_lowercase();
    if key.is_empty() {
        return Err(Wrong::new(file, &at, "the name of an option was expected before `=`"));
    }
    if section.options.iter().any(|option| option.key == key) {
        return Err(Wrong::new(file, &at, format!("{} is in this section already", shown(&key))));
    }
    Ok(Setting { at, key, value: value.trim().to_owned() })
}

/// Ends the values where their last line does, and puts `[DEFAULT]` into `[options]`.
fn fill_in(sections: &mut Vec<Section>) {
    let of_default = sections.iter().filter(|section| section.name == "DEFAULT");
    let defaults: Vec<Setting> = of_default.flat_map(|section| section.options.clone()).collect();
    sections.retain(|section| section.name != "DEFAULT");
    for section in sections {
        if section.name == "options" {
            let missing =
                defaults.iter().filter(|option| !section.options.iter().any(|own| own.key == option.key));
            let missing: Vec<_> = missing.cloned().collect();
            section.options.extend(missing);
        }
        for option in &mut section.options {
            option.value.truncate(option.value.trim_end().len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<(String, String, String)>, String> {
        let sections = sections(Path::new("f"), text, None).map_err(|wrong| wrong.to_string())?;
        let options = sections.into_iter().flat_map(|section| {
            let name = section.name;
            section.options.into_iter().map(move |option| (name.clone(), option.key, option.value))
        });
        Ok(options.collect())
    }

    #[test]
    fn a_value_goes_on_in_lines_that_are_indented_more_and_comments_are_whole_lines() {
        let text = "[a]\nKey = x ; y # z\n  more\n# no\n\n  last\nother: 1\n\n[b]\nk=\n";
        let is = [("a", "key", "x ; y # z\nmore\n\nlast"), ("a", "other", "1"), ("b", "k", "")];
        assert_eq!(read(text).unwrap(), is.map(|(s, k, v)| (s.to_owned(), k.to_owned(), v.to_owned())));
    }

    #[test]
    fn what_getmail_does_not_understand_is_told_with_its_place() {
        for (text, told) in [
            ("key = x\n", "f:1:1: a section such as [retriever] was expected"),
            ("[a]\nkey\n", "f:2:1: `=` was expected behind the name of an option"),
            ("[a]\nk = 1\nK = 2\n", "f:3:1: `k` is in this section already"),
            ("[a]\n[a]\n", "f:2:1: section [a] is there already"),
        ] {
            assert_eq!(read(text).unwrap_err(), told);
        }
    }
}
