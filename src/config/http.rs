//! The target that is an endpoint: `http`.

use std::time::Duration;

use super::account::{Password, TlsMode};
use super::http_url::HttpUrl;
use super::oauth2_keys::BY_PASSWORD;
use super::places::Places;
use super::rows::{Form, Key, braced, inline, key, mapping};
use super::server::{Keys, is_unusual, of_target, wrong};
use super::target::{Login, Method, Receiver, Route, Scheme};
use super::tree::{Complaint, Content, Node};
use super::values::{HOST, PASSWORD, USER, choice};
use super::yaml::{list, text};
use crate::secret::MASK;

pub(super) const HTTP_KEYS: &[Key<Receiver>] = of_target!(
    [
        key!("url", url, URL, "The endpoint, https://...; required."),
        key!("method", method, choice!(METHODS), "The method of the requests: POST or PUT."),
    ],
    [
        key!("user", login.user, USER, "Who is named in the request (Basic)."),
        key!("password", login.credential, BY_PASSWORD, "The password, or where it comes from."),
        key!(
            "bearer",
            login.credential,
            BY_PASSWORD,
            "A token in the place of user and password, or where it comes from."
        ),
        key!("hmac", hmac, PASSWORD, "The key by which requests are signed, or where it comes from."),
        key!("headers", headers, HEADERS, "More header fields; a value may come from where passwords do."),
        key!("success", success, STATUSES, "Statuses that mean that the message was taken."),
    ]
);

pub(super) const HTTP: Form<Receiver> = Form::new(http, show);

const METHODS: [(&str, Method); 2] = [("POST", Method::Post), ("PUT", Method::Put)];

const TIMEOUT: Duration = Duration::from_secs(60);

/// A query may hold a secret.
const URL: Form<HttpUrl> = Form::new(
    |node, _| {
        let url = HttpUrl::parse_any(node.text("a URL that begins with https://")?);
        url.map_err(|what| node.wrong(what))
    },
    |url| {
        let whole = url.to_string();
        (HOST.show)(&whole.split_once('?').map_or(whole.clone(), |(path, _)| format!("{path}?{MASK}")))
    },
);

const HEADERS: Form<Vec<(String, Password)>> = Form::new(headers, |headers| {
    braced(headers.iter().map(|(name, value)| (text(name), (PASSWORD.show)(value))))
});

const STATUSES: Form<Vec<u16>> =
    Form::new(|node, _| statuses(node), |statuses| list(statuses.iter().map(u16::to_string)));

/// What every request has, or says how it is to be read; another value would contradict it.
const OWN_FIELDS: [&str; 15] = [
    "host",
    "content-length",
    "content-type",
    "content-digest",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "idempotency-key",
    "expect",
    "te",
    "trailer",
    "upgrade",
    "proxy-authorization",
    "proxy-connection",
    "date",
];

fn http(node: &Node<'_>, places: &Places) -> Result<Receiver, Complaint> {
    let what = "a mapping such as { url: https://desk.example.org/inbound, bearer: { file: ~/token } }";
    let nowhere = HttpUrl::parse("https://endpoint.invalid").map_err(|what| node.wrong(what))?;
    let mut receiver = mapping(node, places, what, HTTP_KEYS, usual(nowhere))?;
    let keys = Keys(node.mapping(what)?);
    if keys.find("url").is_none() {
        return Err(node.wrong("needs `url`"));
    }
    protect(&mut receiver, node, keys)?;
    receiver.scheme = scheme(&mut receiver.login, node, keys)?;
    let is_authorization = |(name, _): &(String, Password)| name.eq_ignore_ascii_case("authorization");
    match keys.find("headers").filter(|_| receiver.scheme != Scheme::None) {
        Some(entry) if receiver.headers.iter().any(is_authorization) => {
            Err(wrong(entry, "has Authorization in it, which `user` or `bearer` writes"))
        }
        Some(_) | None => Ok(receiver),
    }
}

/// Takes over how the connection is protected from the URL, and checks what goes over it.
fn protect(receiver: &mut Receiver, node: &Node<'_>, keys: Keys<'_, '_>) -> Result<(), Complaint> {
    let Receiver { url, route, .. } = receiver;
    match (keys.find("tls"), route.tls.mode, url.mode) {
        (Some(entry), TlsMode::StartTls, _) => {
            return Err(wrong(entry, "has no starttls in HTTP: write implicit, or none and an http:// URL"));
        }
        (Some(entry), TlsMode::None, TlsMode::Implicit | TlsMode::StartTls) => {
            return Err(wrong(entry, "contradicts `url`, which begins with https://"));
        }
        (Some(entry), TlsMode::Implicit, TlsMode::None) => {
            return Err(wrong(entry, "contradicts `url`, which begins with http://"));
        }
        (None, _, TlsMode::None) if !url.is_protected_or_near() => {
            let what =
                "is an http:// URL of another machine: mail goes there unprotected only with `tls: none`";
            return Err(keys.find("url").map_or_else(|| node.wrong(what), |entry| wrong(entry, what)));
        }
        (Some(_) | None, _, _) => route.tls.mode = url.mode,
    }
    keys.agree(url.mode, HTTP_KEYS)?;
    // What is this machine to a proxy is none of ours.
    let is_safe = url.mode != TlsMode::None || url.is_protected_or_near() && route.proxy.is_none();
    match keys.find("password").or_else(|| keys.find("bearer")).filter(|_| !is_safe) {
        Some(entry) => Err(wrong(entry, "is sent to another machine only over TLS: write an https:// URL")),
        None => Ok(()),
    }
}

fn scheme(login: &mut Login, node: &Node<'_>, keys: Keys<'_, '_>) -> Result<Scheme, Complaint> {
    match (keys.find("user"), keys.find("password"), keys.find("bearer")) {
        (Some(user), _, Some(_)) => Err(wrong(user, "has no meaning with `bearer`: remove one of them")),
        (Some(user), None, None) => Err(wrong(user, "needs `password` too")),
        (None, Some(_), _) => Err(node.wrong("needs `user` beside `password`")),
        (Some(user), Some(_), None) if login.user.contains(':') => {
            Err(wrong(user, "must have no colon, which ends it in a request (RFC 7617)"))
        }
        (Some(_), Some(_), None) => Ok(Scheme::Basic),
        (None, None, Some(_)) => {
            "bearer".clone_into(&mut login.user);
            Ok(Scheme::Bearer)
        }
        (None, None, None) => Ok(Scheme::None),
    }
}

/// Makes a target of a URL, as on a command line.
pub(super) fn of_url(url: &str) -> Result<Receiver, String> {
    Ok(usual(HttpUrl::parse(url)?))
}

fn usual(url: HttpUrl) -> Receiver {
    Receiver {
        method: Method::Post,
        route: Route { timeout: Some(TIMEOUT), ..Route::bare(url.mode) },
        scheme: Scheme::None,
        login: Login::default(),
        hmac: None,
        headers: Vec::new(),
        success: None,
        url,
    }
}

fn show(receiver: &Receiver) -> String {
    // On one line there is room for what is unusual.
    let is_worth_it = |key: &&Key<Receiver>| match key.name {
        "method" => receiver.method != Method::Post,
        "tls" => !receiver.url.is_protected_or_near(),
        "timeout" => receiver.route.timeout != Some(TIMEOUT),
        "user" | "password" => receiver.scheme == Scheme::Basic,
        "bearer" => receiver.scheme == Scheme::Bearer,
        name => is_unusual(name, &receiver.route),
    };
    inline(HTTP_KEYS.iter().filter(is_worth_it), receiver)
}

fn headers(node: &Node<'_>, places: &Places) -> Result<Vec<(String, Password)>, Complaint> {
    let mut fields: Vec<(String, Password)> = Vec::new();
    for entry in node.mapping("a mapping of names and values such as { X-Api-Key: { file: ~/key } }")? {
        let wrong = |what: String| Complaint::new(entry.at, what);
        let name = &entry.key;
        let lower = name.to_ascii_lowercase();
        if !is_token(name) {
            return Err(wrong("the name of a header field has letters, digits and - alone".to_owned()));
        }
        if OWN_FIELDS.contains(&&*lower) || lower.starts_with("x-postrider-") {
            return Err(wrong(format!("{name} is written by postrider itself")));
        }
        if fields.iter().any(|(known, _)| known.eq_ignore_ascii_case(name)) {
            return Err(wrong(format!("{name} is given twice")));
        }
        let value = (PASSWORD.read)(&entry.value, places);
        let value = value.map_err(|complaint| complaint.under(&format!(".{name}")))?;
        if let Password::Literal(secret) = &value
            && secret.reveal().iter().any(u8::is_ascii_control)
        {
            return Err(entry.value.wrong("must have no control characters").under(&format!(".{name}")));
        }
        fields.push((name.to_string(), value));
    }
    Ok(fields)
}

/// RFC 9110, 5.6.2.
fn is_token(text: &str) -> bool {
    let is_sound = |octet: u8| octet.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&octet);
    (1..=128).contains(&text.len()) && text.bytes().all(is_sound)
}

fn statuses(node: &Node<'_>) -> Result<Vec<u16>, Complaint> {
    let what = "a list of statuses such as [200, 204]";
    let one = |node: &Node<'_>| {
        let status = node.text(what)?.parse::<u16>().ok().filter(|status| (200..=599).contains(status));
        status.ok_or_else(|| node.wrong("must be a status from 200 to 599"))
    };
    match &node.content {
        Content::List(items) if !items.is_empty() => {
            let numbered = items.iter().enumerate();
            numbered.map(|(at, item)| one(item).map_err(|wrong| wrong.under(&format!("[{at}]")))).collect()
        }
        Content::List(_) | Content::Mapping(_) => Err(node.wrong(format!("must be {what}"))),
        Content::Plain(_) | Content::Quoted(_) => one(node).map(|status| vec![status]),
    }
}
