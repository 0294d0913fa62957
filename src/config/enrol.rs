//! A row as an operator writes it, with the secret in it: what is to be sealed is taken out, and the rest becomes JSON.

use std::path::PathBuf;

use super::error::{ConfigError, Found};
use super::tree::{self, Complaint, Content, Entry, Node, Position};
use super::values::boolean;
use crate::secret::Secret;

/// A row before its secret is sealed.
#[derive(Debug, Default)]
pub struct NewRow {
    /// `None` where the text has none; the others alike.
    pub tenant: Option<String>,
    pub name: Option<String>,
    pub maildrop: Option<String>,
    pub enabled: Option<bool>,
    /// All other keys, as JSON.
    pub config: String,
    pub secret: Option<Secret>,
}

impl NewRow {
    /// Reads a row as YAML or JSON; `whence` stands in messages.
    ///
    /// # Errors
    ///
    /// What is no mapping, or has a mapping where a text has to be. Whether the keys make an account is not looked at here.
    pub fn read(text: &str, whence: &str) -> Result<Self, ConfigError> {
        let mut found = Found::default();
        let row = match read(text) {
            Ok(row) => row,
            Err(complaint) => {
                found.add("", complaint);
                Self::default()
            }
        };
        match found.told(PathBuf::from(whence)) {
            Some(wrong) => Err(wrong),
            None => Ok(row),
        }
    }
}

fn read(text: &str) -> Result<NewRow, Complaint> {
    let start = Position { line: 1, column: 1 };
    let root =
        tree::parse(text)?.ok_or_else(|| Complaint::new(start, "is empty: it needs `host` and `user`"))?;
    let mut row = NewRow::default();
    let mut rest = Vec::new();
    for entry in root.mapping("a mapping of account keys")? {
        if entry.value.is_nothing() {
            continue;
        }
        match &*entry.key {
            key @ ("password" | "refresh_token") => {
                if row.secret.is_some() {
                    return Err(Complaint::new(entry.at, "is a second secret").under(&format!(".{key}")));
                }
                let secret = scalar(entry)?;
                if secret.is_empty() {
                    return Err(Complaint::new(entry.value.at, "is empty").under(&format!(".{key}")));
                }
                row.secret = Some(Secret::new(secret));
            }
            "enabled" => {
                row.enabled = Some(boolean(&entry.value).map_err(|complaint| complaint.under(".enabled"))?);
            }
            "tenant" => row.tenant = Some(scalar(entry)?.to_owned()),
            "name" => row.name = Some(scalar(entry)?.to_owned()),
            "maildrop" => row.maildrop = Some(scalar(entry)?.to_owned()),
            // It is counted, not written.
            "revision" => scalar(entry).map(|_| ())?,
            key => rest.push(format!("{}: {}", quoted(key), json(&entry.value))),
        }
    }
    row.config = format!("{{{}}}", rest.join(", "));
    Ok(row)
}

fn scalar<'n>(entry: &'n Entry<'_>) -> Result<&'n str, Complaint> {
    // What follows a mapping's brace may be the secret: nothing below is named.
    entry.value.text("a text").map_err(|complaint| complaint.under(&format!(".{}", entry.key)))
}

fn json(node: &Node<'_>) -> String {
    match &node.content {
        Content::Plain(text) if is_json(text) => text.to_string(),
        Content::Plain(text) | Content::Quoted(text) => quoted(text),
        Content::List(items) => format!("[{}]", items.iter().map(json).collect::<Vec<_>>().join(", ")),
        Content::Mapping(entries) => {
            let each =
                entries.iter().map(|Entry { key, value, .. }| format!("{}: {}", quoted(key), json(value)));
            format!("{{{}}}", each.collect::<Vec<_>>().join(", "))
        }
    }
}

/// Says whether a text without quotes is the same in JSON. Others are texts there, too.
fn is_json(text: &str) -> bool {
    let is_number =
        text.bytes().all(|octet| octet.is_ascii_digit()) && !text.starts_with('0') && !text.is_empty();
    is_number || matches!(text, "true" | "false" | "null")
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_column_or_a_secret_is_taken_out_and_the_rest_stays() {
        let text = "{tenant: acme, name: alice, host: h, user: 0123, port: 995, tls_min: '1.2', keep: null,\n password: 's 3\"', tls_pin: [a, b], oauth2: {provider: g}}";
        let row = NewRow::read(text, "x").unwrap();
        assert_eq!((row.tenant.as_deref(), row.name.as_deref()), (Some("acme"), Some("alice")));
        assert_eq!(row.secret.unwrap().reveal(), b"s 3\"");
        let config = r#"{"host": "h", "user": "0123", "port": 995, "tls_min": "1.2", "tls_pin": ["a", "b"], "oauth2": {"provider": "g"}}"#;
        assert_eq!(row.config, config);
        let again = NewRow::read(config, "x").unwrap();
        assert_eq!(again.config, config);
    }

    #[test]
    fn what_is_neither_true_nor_false_does_not_switch_an_account_off() {
        let enabled = |value| {
            NewRow::read(&format!("{{host: h, user: u, enabled: {value}}}"), "x").map(|row| row.enabled)
        };
        assert_eq!((enabled("true").unwrap(), enabled("false").unwrap()), (Some(true), Some(false)));
        for value in ["yes", "1", "'true'"] {
            let error = enabled(value).unwrap_err().to_string();
            assert!(error.contains("enabled: must be true or false"), "{error}");
        }
    }

    #[test]
    fn nothing_of_a_misplaced_secret_is_told() {
        for (text, told) in [
            ("", "x:1:1: is empty: it needs `host` and `user`"),
            ("hunter2", "x:1:1: must be a mapping of account keys, not a text"),
            ("{password: {hunter2: hunter2}}", "x:1:12: password: must be a text, not a mapping"),
            ("{password: a, refresh_token: b}", "x:1:15: refresh_token: is a second secret"),
            ("{host: h, password: ''}", "x:1:21: password: is empty"),
        ] {
            assert_eq!(NewRow::read(text, "x").unwrap_err().to_string(), told);
        }
    }
}
