//! Tokens as they come: from a provider, or from a command.

use serde_json::Value;
use zeroize::Zeroizing;

use super::error::OAuth2Error;
use crate::config::account::CommandLine;

/// What a provider gives (RFC 6749, 5.1).
pub(super) struct Granted {
    pub(super) token: Zeroizing<String>,
    /// A new one, in the place of that which was sent.
    pub(super) refresh: Option<Zeroizing<String>>,
    /// How long the token is good.
    pub(super) seconds: Option<i64>,
    pub(super) scope: Option<String>,
}

impl Granted {
    pub(super) fn of(mut answer: Value) -> Result<Self, OAuth2Error> {
        let mut text = |key: &str| match answer.get_mut(key).map(Value::take) {
            Some(Value::String(text)) if !text.is_empty() => Some(Zeroizing::new(text)),
            _ => None,
        };
        let (token, refresh) = (text("access_token"), text("refresh_token"));
        let (kind, scope) = (text("token_type"), text("scope"));
        if kind.is_some_and(|kind| !kind.eq_ignore_ascii_case("bearer")) {
            return Err(OAuth2Error::NoAnswer { what: "a token of another kind than Bearer".to_owned() });
        }
        let token =
            token.ok_or_else(|| OAuth2Error::NoAnswer { what: "JSON without an access token".to_owned() })?;
        Ok(Self { token, refresh, seconds: seconds(&answer), scope: scope.map(|scope| scope.to_string()) })
    }
}

/// Gives `expires_in`; some servers write it as a text.
fn seconds(answer: &Value) -> Option<i64> {
    let value = answer.get("expires_in")?;
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}

/// Reads what a command printed: a token, or JSON with one.
pub(super) fn printed_token(
    line: &CommandLine,
    printed: &[u8],
) -> Result<(Zeroizing<String>, Option<i64>), OAuth2Error> {
    let wrong = |what| OAuth2Error::Printed { command: line.to_string(), what };
    let text = str::from_utf8(printed).map_err(|_| wrong("what is no text"))?.trim();
    if !text.starts_with('{') {
        if text.is_empty() || !text.bytes().all(|octet| octet.is_ascii_graphic()) {
            return Err(wrong("what is no access token"));
        }
        return Ok((Zeroizing::new(text.to_owned()), None));
    }
    let mut said = serde_json::from_str::<Value>(text).map_err(|_| wrong("broken JSON"))?;
    let seconds = seconds(&said);
    match said.get_mut("access_token").map(Value::take) {
        Some(Value::String(token)) if !token.is_empty() => Ok((Zeroizing::new(token), seconds)),
        _ => Err(wrong("JSON without an access_token")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_prints_a_token_or_json() {
        let line = CommandLine::Shell("mytoken --for alice".into());
        let read = |text: &str| printed_token(&line, text.as_bytes());
        assert_eq!(read("ya29.x\n").unwrap(), (Zeroizing::new("ya29.x".into()), None));
        let json = r#"{"access_token":"t","expires_in":3599}"#;
        assert_eq!(read(json).unwrap(), (Zeroizing::new("t".into()), Some(3599)));
        for wrong in ["", "two words", "{", "{}", r#"{"access_token":""}"#, "Ärger"] {
            let told = read(wrong).unwrap_err().to_string();
            assert!(told.starts_with("the command mytoken printed "), "{told}");
        }
    }

    #[test]
    fn what_a_provider_gives_is_taken_as_it_is_written() {
        let of = |text: &str| Granted::of(serde_json::from_str(text).unwrap());
        let granted =
            of(r#"{"access_token":"t","token_type":"bearer","expires_in":"3600","scope":"a b"}"#).unwrap();
        assert_eq!((granted.token.as_str(), granted.seconds), ("t", Some(3600)));
        assert_eq!((granted.scope.as_deref(), granted.refresh), (Some("a b"), None));
        for wrong in ["{}", r#"{"access_token":7}"#, r#"{"access_token":"t","token_type":"mac"}"#] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }
}
