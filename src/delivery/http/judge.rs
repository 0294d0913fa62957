//! What it means that an endpoint answers with a status (RFC 9110, 15).

use std::time::Duration;

use hyper::StatusCode;
use serde_json::Value;

use crate::config::Receiver;
use crate::failure::Class;
use crate::net::http::Reply;
use crate::text::Shown;

/// What means that the message was taken, unless other statuses are written.
pub(super) const SUCCESS: [u16; 4] = [200, 201, 202, 204];

/// Octets of an answer that are told at most.
const TOLD: usize = 300;

/// What an answer comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Taken,
    /// The message may be taken later.
    Later,
    Refused,
    /// Nothing is taken for so long.
    Wait(Duration),
    /// The target's trouble: what is wrong, and what to do.
    Target(Class, String, Option<String>),
}

/// Judges an answer; `success` are the statuses that were written.
pub(super) fn judge(reply: &Reply, success: Option<&[u16]>) -> Verdict {
    let status = reply.status;
    let target = |what: &str, hint: &str| {
        Verdict::Target(Class::Target, what.to_owned(), (!hint.is_empty()).then(|| hint.to_owned()))
    };
    if success.unwrap_or(&SUCCESS).contains(&status) {
        return match (success, reply.media_type.as_str()) {
            (None, "text/html" | "application/xhtml+xml") => target(
                "endpoint answers with a web page, such as one to log in",
                "check `url`; if this is its way of saying yes, write `success` with that status",
            ),
            _ => Verdict::Taken,
        };
    }
    match (status, reply.retry_after) {
        (409 | 425, _) => Verdict::Later,
        (429 | 408 | 500.., Some(wait)) => Verdict::Wait(wait),
        (429, None) => Verdict::Wait(Duration::from_secs(60)),
        (408 | 500.., None) => Verdict::Later,
        (401 | 403, _) => Verdict::Target(
            Class::Credentials,
            "endpoint refuses the credentials".to_owned(),
            Some(format!("check {} of the target", Receiver::LOG_IN_KEYS)),
        ),
        (300..400, _) => {
            let to = match &reply.elsewhere {
                Some(elsewhere) if !elsewhere.is_empty() => format!(" to {elsewhere}"),
                Some(_) | None => String::new(),
            };
            let what = format!("endpoint redirects{to}, which is not followed");
            target(&what, "write the address where messages are taken as `url`")
        }
        (404 | 410, _) => target("endpoint is not there", "check `url`"),
        (405, _) => target("endpoint does not take this method", "check `url` and `method`"),
        (415, _) => {
            target("endpoint does not take message/rfc822", "check `url`: is it the one for raw messages?")
        }
        (400..500, _) => Verdict::Refused,
        _ => {
            target("endpoint answers with a status that is no success", "write it in `success` if it is one")
        }
    }
}

/// Says what an endpoint answered, in a line: status, and words if it said any that people read.
pub(super) fn words(reply: &Reply) -> String {
    let reason = StatusCode::from_u16(reply.status).ok().and_then(|status| status.canonical_reason());
    let mut words = match reason {
        Some(reason) => format!("{} {reason}", reply.status),
        None => reply.status.to_string(),
    };
    let said = match reply.media_type.as_str() {
        "" | "text/plain" => String::from_utf8_lossy(&reply.body).into_owned(),
        json if json.ends_with("json") => in_json(&reply.body).unwrap_or_default(),
        _ => String::new(),
    };
    let line = said.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    if !line.is_empty() {
        words += ": ";
        words += &Shown(line.chars().take(TOLD).collect::<String>().as_bytes()).to_string();
    }
    words
}

/// Finds the words in what programs read: RFC 9457 has `detail` and `title`, others have what they have.
fn in_json(body: &[u8]) -> Option<String> {
    let value: Value = serde_json::from_slice(body).ok()?;
    let named = |value: &Value| -> Option<String> {
        let names = ["detail", "error_description", "message", "error", "title"];
        names.iter().find_map(|name| value.get(name)?.as_str().map(str::to_owned))
    };
    named(&value).or_else(|| named(value.get("error")?)).or_else(|| value.as_str().map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reply(status: u16, media_type: &str, body: &str) -> Reply {
        Reply {
            status,
            media_type: media_type.to_owned(),
            retry_after: None,
            elsewhere: None,
            body: body.as_bytes().to_vec().into(),
        }
    }

    fn name(verdict: &Verdict) -> &'static str {
        match verdict {
            Verdict::Taken => "taken",
            Verdict::Later => "later",
            Verdict::Wait(_) => "wait",
            Verdict::Refused => "refused",
            Verdict::Target(Class::Credentials, ..) => "credentials",
            Verdict::Target(..) => "target",
        }
    }

    #[test]
    fn each_status_is_somebodys_trouble() {
        for (statuses, expected) in [
            (&[200, 201, 202, 204][..], "taken"),
            (&[408, 409, 425, 500, 502, 503, 504, 507, 599], "later"),
            (&[429], "wait"),
            (&[401, 403], "credentials"),
            (&[203, 205, 206, 226, 300, 301, 302, 303, 307, 308, 404, 405, 410, 415], "target"),
            (&[400, 402, 406, 411, 412, 413, 414, 416, 421, 422, 431, 451, 499], "refused"),
        ] {
            for status in statuses {
                assert_eq!(name(&judge(&reply(*status, "", ""), None)), expected, "{status}");
            }
        }
    }

    #[test]
    fn what_was_written_as_success_is_one_and_nothing_else() {
        let verdict =
            |status, kind: &str, success: &[u16]| name(&judge(&reply(status, kind, ""), Some(success)));
        assert_eq!(verdict(409, "", &[200, 409]), "taken");
        assert_eq!(verdict(200, "text/html", &[200]), "taken");
        assert_eq!(verdict(204, "", &[200]), "target");
        assert_eq!(name(&judge(&reply(200, "text/html", ""), None)), "target");
    }

    #[test]
    fn who_says_when_to_come_again_is_left_alone_until_then() {
        let wait = Some(Duration::from_secs(7));
        for (status, expected) in
            [(503, "wait"), (429, "wait"), (500, "wait"), (409, "later"), (422, "refused")]
        {
            let reply = Reply { retry_after: wait, ..reply(status, "", "") };
            assert_eq!(name(&judge(&reply, None)), expected, "{status}");
        }
    }

    #[test]
    fn an_answer_is_told_in_a_line() {
        for (media_type, body, expected) in [
            ("text/plain", "\n  no such list\nmore", "422 Unprocessable Entity: no such list"),
            ("application/problem+json", r#"{"title": "t", "detail": "d"}"#, "422 Unprocessable Entity: d"),
            ("application/json", r#"{"error": {"message": "m"}}"#, "422 Unprocessable Entity: m"),
            ("application/json", "{", "422 Unprocessable Entity"),
            ("text/html", "<p>no", "422 Unprocessable Entity"),
            ("text/plain", "\u{1b}[2J", "422 Unprocessable Entity: \\u{1b}[2J"),
        ] {
            assert_eq!(words(&reply(422, media_type, body)), expected);
        }
    }

    proptest! {
        #[test]
        fn any_answer_is_one_line_without_control_characters(status in 100..1000u16, kind: String, body: String) {
            let told = words(&reply(status, &kind, &body));
            prop_assert!(!told.contains(char::is_control), "{:?}", told);
            let _ = judge(&reply(status, &kind, &body), None);
        }
    }
}
