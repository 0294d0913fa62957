//! What Gmail's refusals mean: whose trouble each is, and what to do about it.

use std::time::Duration;

use hyper::StatusCode;
use serde_json::Value;

use crate::clock::Timestamp;
use crate::net::http::Reply;
use crate::text::Shown;

/// Where an API is switched on for a project whose refusal names no address.
const LIBRARY: &str = "https://console.cloud.google.com/apis/library/gmail.googleapis.com";

/// Octets of Gmail's words that are told at most.
const TOLD: usize = 600;

/// Reasons of a 403 that pass.
const LIMITS: [&str; 6] = [
    "rateLimitExceeded",
    "userRateLimitExceeded",
    "quotaExceeded",
    "dailyLimitExceeded",
    "RATE_LIMIT_EXCEEDED",
    "RESOURCE_EXHAUSTED",
];

/// What an answer comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Done,
    /// It may be better in a moment.
    Later,
    /// Too much was asked; the time for which nothing is to be, if that is said.
    Limited(Option<Duration>),
    /// The access token is over.
    Token,
    /// Import takes no such header; insert does.
    Header,
    /// A label is not there, or cannot be.
    Label,
    Refused,
    /// The target's trouble: what is wrong, and what to do.
    Target(String, String),
}

/// An error as Google's APIs tell it.
#[derive(Debug, Default)]
struct ApiError {
    message: String,
    /// Whatever stands for a reason, in the old form and in the new.
    reasons: Vec<String>,
    /// An address where it can be mended.
    url: Option<String>,
}

impl ApiError {
    fn of(reply: &Reply) -> Self {
        let Ok(value) = serde_json::from_slice::<Value>(&reply.body) else { return Self::default() };
        let error = &value["error"];
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let (errors, details) = (list(&error["errors"]), list(&error["details"]));
        let mut told = Self {
            message: text(&error["message"]).or_else(|| text(error)).unwrap_or_default(),
            reasons: text(&error["status"]).into_iter().collect(),
            url: details.iter().find_map(|detail| text(&detail["metadata"]["activationUrl"])),
        };
        told.reasons.extend(errors.iter().chain(&details).filter_map(|error| text(&error["reason"])));
        let helped = errors.iter().find_map(|error| text(&error["extendedHelp"]));
        told.url = told.url.or(helped).or_else(|| address_in(&told.message));
        told.url = told.url.filter(|url| url.starts_with("https://") && !url.contains(char::is_control));
        told
    }

    fn is(&self, reason: &str) -> bool {
        self.reasons.iter().any(|known| known == reason)
    }

    fn says(&self, word: &str) -> bool {
        self.message.to_ascii_lowercase().contains(word)
    }
}

/// Judges an answer. `user` is who logs in, `account` whose login it is.
pub(super) fn judge(reply: &Reply, user: &str, account: &str, now: Timestamp) -> Verdict {
    let told = ApiError::of(reply);
    let target = |what: &str, hint: String| Verdict::Target(what.to_owned(), hint);
    match reply.status {
        200..300 => Verdict::Done,
        401 => Verdict::Token,
        429 => Verdict::Limited(reply.retry_after.or_else(|| wait_in(&told.message, now))),
        403 if LIMITS.iter().any(|limit| told.is(limit)) => {
            Verdict::Limited(reply.retry_after.or_else(|| wait_in(&told.message, now)))
        }
        403 if told.is("accessNotConfigured") || told.is("SERVICE_DISABLED") => target(
            "the Gmail API is not switched on for the client's project",
            format!("enable it: {}, then wait some minutes", told.url.as_deref().unwrap_or(LIBRARY)),
        ),
        403 if told.is("insufficientPermissions") || told.is("ACCESS_TOKEN_SCOPE_INSUFFICIENT") => target(
            "the access token is not for this: it lacks gmail.insert or gmail.labels",
            format!("run `postrider login {account}` and allow all that is asked for"),
        ),
        403 if told.is("domainPolicy") => target(
            "the administrator of the user's domain lets no such program in",
            "ask the administrator to allow the client in the Admin console (Security, API controls)"
                .to_owned(),
        ),
        400 | 403 if told.is("failedPrecondition") || told.is("FAILED_PRECONDITION") => {
            target("the user has no Gmail", format!("switch Gmail on for {user}, or write another `user`"))
        }
        403 => target(
            "the access token is not for this user's mailbox",
            format!("run `postrider login {account}` and sign in as {user}"),
        ),
        404 => target("there is no such mailbox", "check `user` and `url` of the target".to_owned()),
        300..400 => target("server redirects, which is not followed", "check `url` of the target".to_owned()),
        400 if told.says("label") => Verdict::Label,
        400 if told.says("header") => Verdict::Header,
        408 | 500.. => Verdict::Later,
        _ => Verdict::Refused,
    }
}

/// Says what Gmail answered, in a line.
pub(super) fn words(reply: &Reply) -> String {
    let reason = StatusCode::from_u16(reply.status).ok().and_then(|status| status.canonical_reason());
    let ApiError { message, .. } = ApiError::of(reply);
    let message = message.lines().next().unwrap_or_default();
    let words = match (message, reason) {
        ("", Some(reason)) => format!("{} {reason}", reply.status),
        (message, _) => format!("{} {message}", reply.status),
    };
    Shown(words.chars().take(TOLD).collect::<String>().trim_end().as_bytes()).to_string()
}

/// Gives the id of a message or a label that was made.
pub(super) fn id(reply: &Reply) -> Option<String> {
    let value: Value = serde_json::from_slice(&reply.body).ok()?;
    value["id"].as_str().filter(|id| !id.is_empty()).map(str::to_owned)
}

/// Finds the address that a message tells.
fn address_in(message: &str) -> Option<String> {
    let at = message.find("https://")?;
    message[at..].split_whitespace().next().map(|word| word.trim_end_matches(['.', ',']).to_owned())
}

/// Finds until when nothing is taken: `... Retry after 2026-11-30T01:00:00.000Z`.
fn wait_in(message: &str, now: Timestamp) -> Option<Duration> {
    let (_, after) = message.split_once("etry after ")?;
    let word = after.split_whitespace().next()?.trim_end_matches('.');
    let until = word.parse::<jiff::Timestamp>().ok()?.as_second();
    Some(Duration::from_secs(u64::try_from(until - now).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reply(status: u16, body: &str) -> Reply {
        Reply {
            status,
            media_type: "application/json".to_owned(),
            retry_after: None,
            elsewhere: None,
            body: body.as_bytes().to_vec().into(),
        }
    }

    fn judged(status: u16, body: &str) -> Verdict {
        judge(&reply(status, body), "alice@gmail.com", "home", 1_796_000_000)
    }

    fn old(reason: &str, message: &str) -> String {
        format!(
            r#"{{"error": {{"code": 403, "message": "{message}", "errors": [{{"domain": "usageLimits", "reason": "{reason}", "message": "{message}"}}]}}}}"#
        )
    }

    fn hint(verdict: Verdict) -> String {
        match verdict {
            Verdict::Target(_, hint) => hint,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn limits_pass_and_say_until_when() {
        for reason in LIMITS {
            assert_eq!(judged(403, &old(reason, "Limit")), Verdict::Limited(None), "{reason}");
        }
        let until = "User-rate limit exceeded. Retry after 2026-11-30T01:00:30.000Z";
        let now = "2026-11-30T01:00:00Z".parse::<jiff::Timestamp>().unwrap().as_second();
        let limited = judge(&reply(429, &old("rateLimitExceeded", until)), "a", "h", now);
        assert_eq!(limited, Verdict::Limited(Some(Duration::from_secs(30))));
        let limited = judge(&reply(429, &old("rateLimitExceeded", until)), "a", "h", now + 100);
        assert_eq!(limited, Verdict::Limited(Some(Duration::ZERO)));
    }

    #[test]
    fn who_must_do_something_is_told_what() {
        let url = "https://console.developers.google.com/apis/api/gmail.googleapis.com/overview?project=1";
        let message = format!(
            "Gmail API has not been used in project 1 before or it is disabled. Enable it by visiting {url} then retry."
        );
        assert!(hint(judged(403, &old("accessNotConfigured", &message))).contains(url));
        let new = r#"{"error": {"status": "PERMISSION_DENIED", "details": [{"reason": "SERVICE_DISABLED", "metadata": {"activationUrl": "https://x.example/on"}}]}}"#;
        assert!(hint(judged(403, new)).contains("https://x.example/on"));
        assert!(hint(judged(403, &old("accessNotConfigured", "off"))).contains(LIBRARY));
        assert!(hint(judged(403, &old("insufficientPermissions", "x"))).contains("postrider login home"));
        assert!(hint(judged(403, &old("domainPolicy", "x"))).contains("administrator"));
        assert!(
            hint(judged(403, &old("forbidden", "Delegation denied"))).contains("sign in as alice@gmail.com")
        );
        assert!(
            hint(judged(400, &old("failedPrecondition", "Mail service not enabled")))
                .contains("switch Gmail on")
        );
        assert!(hint(judged(404, "")).contains("`user`"));
    }

    #[test]
    fn a_header_a_label_and_a_message_are_told_apart() {
        for (status, message, expected) in [
            (400, "Invalid From header", Verdict::Header),
            (400, "Expected a single 'From' header", Verdict::Header),
            (400, "Invalid label: Label_7", Verdict::Label),
            (400, "labelId not found", Verdict::Label),
            (400, "Bad Request", Verdict::Refused),
            (413, "Request Entity Too Large", Verdict::Refused),
            (401, "Invalid Credentials", Verdict::Token),
            (408, "", Verdict::Later),
            (500, "Backend Error", Verdict::Later),
            (503, "", Verdict::Later),
            (200, "", Verdict::Done),
        ] {
            assert_eq!(judged(status, &old("invalidArgument", message)), expected, "{status} {message}");
        }
    }

    #[test]
    fn an_answer_is_told_in_a_line() {
        assert_eq!(words(&reply(400, &old("x", "Invalid From header"))), "400 Invalid From header");
        assert_eq!(words(&reply(503, "<html>")), "503 Service Unavailable");
        assert_eq!(id(&reply(200, r#"{"id": "18c", "threadId": "1"}"#)).as_deref(), Some("18c"));
        assert_eq!(id(&reply(200, r#"{"id": 1}"#)), None);
    }

    proptest! {
        #[test]
        fn any_answer_is_judged_and_told_in_a_line(status in 100..1000u16, body: String, reason: String, message: String) {
            let made = serde_json::json!({"error": {"message": message, "errors": [{"reason": reason}]}}).to_string();
            for body in [body, made] {
                let _ = judged(status, &body);
                let told = words(&reply(status, &body));
                prop_assert!(!told.contains(char::is_control), "{:?}", told);
            }
        }
    }
}
