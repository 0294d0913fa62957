//! What a request is answered.

use std::net::IpAddr;
use std::sync::LazyLock;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::http::request::Parts;
use hyper::http::uri::Authority;
use hyper::{Method, Response, StatusCode};
use sha2::{Digest, Sha256};

use super::super::view::View;
use crate::config::units;
use crate::disk::blocking::compute;
use crate::state::outlook::Seen;
use crate::status::Snapshot;
use crate::status::metrics::Format;
use crate::status::page::{Page, STYLE};
use crate::text::Shown;

/// Who can come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Door {
    /// Whoever may open the socket; no browser can.
    Socket,
    /// Programs of this machine, browsers among them, and with those pages of anybody who made a name lead here.
    Loopback,
    /// The network: nothing but the metrics and the health is for it.
    Open,
}

/// Nothing but what is in the page: no script, no frame around it, nothing from elsewhere.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let style = STANDARD.encode(Sha256::digest(STYLE));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{style}'; img-src data:; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'"
    );
    HeaderValue::from_str(&policy).expect("a policy in ASCII")
});

const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) async fn answer(request: Parts, door: Door, view: &View) -> Response<Full<Bytes>> {
    if !is_meant(&request, door) {
        // RFC 9110, 15.5.20: this server is not the one that the name stands for.
        return say(StatusCode::MISDIRECTED_REQUEST, "ask for this machine by its own name or address\n");
    }
    let path = request.uri.path();
    let is_known =
        matches!(path, "/healthz" | "/metrics") || door != Door::Open && matches!(path, "/" | "/status.json");
    if !is_known {
        return say(StatusCode::NOT_FOUND, "there is no such page\n");
    }
    if !matches!(request.method, Method::GET | Method::HEAD) {
        let mut refused = say(StatusCode::METHOD_NOT_ALLOWED, "it can only be looked at\n");
        refused.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    let seen = if path == "/status.json" { Seen::Counted } else { Seen::Uncounted };
    let snapshot = view.snapshot(seen).await;
    if let Err(error) = &snapshot {
        log::debug!("{error}");
    }
    match (path, snapshot) {
        ("/metrics", snapshot) => {
            let wants_open = field(&request.headers, header::ACCEPT).contains("application/openmetrics-text");
            let (format, kind) =
                if wants_open { (Format::Open, OPEN_METRICS) } else { (Format::Prometheus, PROMETHEUS) };
            let text = view.metrics(snapshot.ok().as_deref(), format);
            reply(StatusCode::OK, kind, text)
        }
        (_, Err(error)) => {
            let why =
                if door == Door::Open { "the state cannot be read".to_owned() } else { error.to_string() };
            say(StatusCode::SERVICE_UNAVAILABLE, &format!("{why}\n"))
        }
        ("/healthz", Ok(snapshot)) => health(&snapshot, request.uri.query().unwrap_or_default()),
        ("/status.json", Ok(snapshot)) => {
            reply(StatusCode::OK, JSON, compute(move || snapshot.json() + "\n").await)
        }
        (_, Ok(snapshot)) => reply(StatusCode::OK, HTML, compute(move || Page(&snapshot).to_string()).await),
    }
}

/// Says whether a request is for this server: a page of a stranger whose name leads here comes with that name.
fn is_meant(request: &Parts, door: Door) -> bool {
    let host = field(&request.headers, header::HOST);
    let Ok(authority) = request.uri.authority().map_or(host, Authority::as_str).parse::<Authority>() else {
        // HTTP/1.0 has no names.
        return host.is_empty() && door != Door::Loopback;
    };
    let name = authority.host().trim_start_matches('[').trim_end_matches([']', '.']);
    let is_ours = name.parse::<IpAddr>().map_or_else(
        |_| name.eq_ignore_ascii_case("localhost") || name.to_ascii_lowercase().ends_with(".localhost"),
        |address| address.is_loopback(),
    );
    is_ours || door != Door::Loopback
}

/// `/healthz?max_age=1h`: whether every account that is polled by itself was, with success, within that time.
fn health(snapshot: &Snapshot, query: &str) -> Response<Full<Bytes>> {
    let mut limit: Option<Duration> = None;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("max_age", value)) => match units::duration(value) {
                Ok(value) => limit = Some(value),
                Err(error) => return say(StatusCode::BAD_REQUEST, &format!("max_age: {error}\n")),
            },
            Some(_) | None => {
                return say(StatusCode::BAD_REQUEST, "it takes max_age=DURATION and nothing else\n");
            }
        }
    }
    let Some(limit) = limit else { return say(StatusCode::OK, "ok\n") };
    let stale = snapshot.rows.iter().filter_map(|row| {
        let stale = row.stale(snapshot.at, limit)?;
        Some(format!("{}: {stale}\n", Shown(row.account.as_bytes())))
    });
    let mut said: String = stale.collect();
    if let Some(fleet) =
        snapshot.fleet.as_ref().filter(|fleet| Duration::from_secs(fleet.lag_seconds) > limit)
    {
        said += &format!("{}\n", fleet.sum());
    }
    match said.is_empty() {
        true => say(StatusCode::OK, "ok\n"),
        false => say(StatusCode::SERVICE_UNAVAILABLE, &said),
    }
}

/// Gives a field of the head, if it is text.
fn field(headers: &HeaderMap, name: header::HeaderName) -> &str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn say(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    reply(status, TEXT, text.to_owned())
}

fn reply(status: StatusCode, kind: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, POLICY.clone());
    for (name, value) in [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;

    fn parts(uri: &str, host: Option<&str>) -> Parts {
        let request = Request::builder().uri(uri);
        let request = match host {
            Some(host) => request.header(header::HOST, host),
            None => request,
        };
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn a_name_that_a_stranger_made_lead_here_is_refused_on_loopback() {
        for (host, ours) in [
            ("127.0.0.1:9110", true),
            ("127.8.9.10", true),
            ("[::1]:9110", true),
            ("localhost:1", true),
            ("LocalHost.", true),
            ("mail.localhost", true),
            ("evil.example:9110", false),
            ("localhost.evil.example", false),
            ("evillocalhost", false),
            ("192.0.2.1", false),
            ("0.0.0.0", false),
            ("127.0.0.1.evil.example", false),
            ("", false),
            ("a b", false),
        ] {
            assert_eq!(is_meant(&parts("/", Some(host)), Door::Loopback), ours, "{host}");
            assert!(is_meant(&parts("/", Some(host)), Door::Socket) || host == "a b", "{host}");
        }
        assert!(!is_meant(&parts("/", None), Door::Loopback));
        // RFC 9112, 3.2.2: what stands in the request itself counts.
        assert!(!is_meant(&parts("http://evil.example/", Some("localhost")), Door::Loopback));
    }

    #[tokio::test]
    async fn only_what_may_be_seen_from_the_network_is() {
        let directory = tempfile::tempdir().unwrap();
        let view = {
            let state = directory.path().join("state.db");
            View::new(&crate::state::Store::open(&state), &state)
        };
        for (path, seen_here, seen_from_afar) in [
            ("/", 200, 404),
            ("/status.json", 200, 404),
            ("/metrics", 200, 200),
            ("/healthz", 200, 200),
            ("/healthz?max_age=1h", 200, 200),
            ("/healthz?max_age=x", 400, 400),
            ("/healthz?maxage=1h", 400, 400),
            ("/etc/passwd", 404, 404),
        ] {
            for (door, status) in [(Door::Loopback, seen_here), (Door::Open, seen_from_afar)] {
                let answer = answer(parts(path, Some("localhost")), door, &view).await;
                assert_eq!(answer.status(), status, "{path} {door:?}");
                assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
                assert!(
                    answer.headers()["content-security-policy"]
                        .to_str()
                        .unwrap()
                        .starts_with("default-src 'none'")
                );
            }
        }
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS, Method::TRACE] {
            let mut request = parts("/", Some("localhost"));
            request.method = method.clone();
            let refused = answer(request, Door::Loopback, &view).await;
            assert_eq!(refused.status(), StatusCode::METHOD_NOT_ALLOWED, "{method}");
            assert_eq!(refused.headers()["allow"], "GET, HEAD", "{method}");
        }
    }
}
