//! The target that is an endpoint: `http`.

use std::net::IpAddr;
use std::time::Duration;

use super::account::{Password, Tls, TlsMode};
use super::http_url::HttpUrl;
use super::oauth2::Credential;
use super::places::Places;
use super::proxy::Proxy;
use super::rows::{Form, Key, inline, key, mapping};
use super::server::{Given, conflicts, with_tls};
use super::target::{HttpLogin, Login, Method, Receiver};
use super::tree::{Complaint, Content, Entry, Node};
use super::values::{ADDRESS, HOST, PASSWORD, POSITIVE, PROXY, USER, choice};
use super::yaml::{list, text};

/// The keys of `http`.
pub(super) const HTTP_KEYS: &[Key<Written>] = with_tls!(
    [
        key!("url", url, URL, "The endpoint, https://...; required."),
        key!("method", method, choice!(METHODS), "The method of the requests: POST or PUT."),
    ],
    [
        key!("bind", bind, ADDRESS, "The address of this machine to connect from."),
        key!("proxy", proxy, PROXY, "A proxy that connects to the server: socks5:// or http://."),
        key!("timeout", timeout, POSITIVE, "The longest wait for a connect or for the server."),
        key!("user", user, USER, "Who is named in the request (Basic)."),
        key!("password", password, PASSWORD, "The password, or where it comes from."),
        key!(
            "bearer",
            bearer,
            PASSWORD,
            "A token in the place of user and password, or where it comes from."
        ),
        key!("hmac", hmac, PASSWORD, "The key by which requests are signed, or where it comes from."),
        key!("headers", headers, HEADERS, "More header fields; a value may come from where passwords do."),
        key!("success", success, STATUSES, "Statuses that mean that the message was taken."),
    ]
);

pub(super) const HTTP: Form<Receiver> = Form { read: http, show };

const METHODS: [(&str, Method); 2] = [("POST", Method::Post), ("PUT", Method::Put)];

const TIMEOUT: Duration = Duration::from_secs(60);

/// A query may hold a secret.
const URL: Form<HttpUrl> = Form {
    read: |node, _| {
        let url = HttpUrl::parse_any(node.text("a URL that begins with https://")?);
        url.map_err(|what| node.wrong(what))
    },
    show: |url| {
        let whole = url.to_string();
        (HOST.show)(&whole.split_once('?').map_or(whole.clone(), |(path, _)| format!("{path}?[secret]")))
    },
};

const HEADERS: Form<Vec<(String, Password)>> = Form {
    read: headers,
    show: |headers| {
        let each = headers.iter().map(|(name, value)| format!("{}: {}", text(name), (PASSWORD.show)(value)));
        let each: Vec<String> = each.collect();
        if each.is_empty() { String::new() } else { format!("{{ {} }}", each.join(", ")) }
    },
};

const STATUSES: Form<Vec<u16>> =
    Form { read: |node, _| statuses(node), show: |statuses| list(statuses.iter().map(u16::to_string)) };

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

/// What stands under `http`.
pub(super) struct Written {
    url: Option<HttpUrl>,
    method: Method,
    tls: Tls,
    bind: Option<IpAddr>,
    proxy: Option<Proxy>,
    timeout: Duration,
    user: Option<String>,
    password: Option<Password>,
    bearer: Option<Password>,
    hmac: Option<Password>,
    headers: Vec<(String, Password)>,
    success: Option<Vec<u16>>,
}

impl Written {
    fn new() -> Self {
        Self {
            url: None,
            method: Method::Post,
            tls: Tls::bare(TlsMode::Implicit),
            bind: None,
            proxy: None,
            timeout: TIMEOUT,
            user: None,
            password: None,
            bearer: None,
            hmac: None,
            headers: Vec::new(),
            success: None,
        }
    }

    fn of(receiver: &Receiver) -> Self {
        let Receiver { url, method, bind, proxy, tls, timeout, login, hmac, headers, success, .. } =
            receiver.clone();
        let (user, password, bearer) = match login {
            Some(HttpLogin::Basic(Login { user, credential: Credential::Password(password) })) => {
                (Some(user), Some(password), None)
            }
            Some(HttpLogin::Bearer(Login { credential: Credential::Password(token), .. })) => {
                (None, None, Some(token))
            }
            Some(HttpLogin::Basic(_) | HttpLogin::Bearer(_)) | None => (None, None, None),
        };
        let url = Some(url);
        Self { url, method, tls, bind, proxy, timeout, user, password, bearer, hmac, headers, success }
    }

    /// Checks what keys mean together, and fills in the defaults.
    fn receiver(mut self, node: &Node<'_>, own: &[Entry<'_>]) -> Result<Receiver, Complaint> {
        let given = Given { own, defaults: &[] };
        let Some(url) = self.url.take() else { return Err(node.wrong("needs `url`")) };
        self.protect(node, given, &url)?;
        let login = self.login(node, given)?;
        let is_authorization = |(name, _): &&(String, Password)| name.eq_ignore_ascii_case("authorization");
        if let (Some(_), Some(_), Some(entry)) =
            (&login, self.headers.iter().find(is_authorization), find(given, "headers"))
        {
            return Err(wrong(entry, "has Authorization in it, which `user` or `bearer` writes"));
        }
        let (account, user) = Default::default();
        let Self { method, tls, bind, proxy, timeout, hmac, headers, success, .. } = self;
        Ok(Receiver { url, method, bind, proxy, tls, timeout, login, hmac, headers, success, account, user })
    }

    /// Takes over how the connection is protected from the URL, and checks what goes over it.
    fn protect(&mut self, node: &Node<'_>, given: Given<'_, '_>, url: &HttpUrl) -> Result<(), Complaint> {
        match (find(given, "tls"), self.tls.mode, url.mode) {
            (Some(entry), TlsMode::StartTls, _) => {
                return Err(wrong(
                    entry,
                    "has no starttls in HTTP: write implicit, or none and an http:// URL",
                ));
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
                return Err(find(given, "url").map_or_else(|| node.wrong(what), |entry| wrong(entry, what)));
            }
            (Some(_) | None, _, _) => self.tls.mode = url.mode,
        }
        if let Some((entry, what)) = conflicts(given, self.tls.mode).into_iter().next() {
            return Err(wrong(entry, what));
        }
        // What is this machine to a proxy is none of ours.
        let is_safe = url.mode != TlsMode::None || url.is_protected_or_near() && self.proxy.is_none();
        match find(given, "password").or_else(|| find(given, "bearer")).filter(|_| !is_safe) {
            Some(entry) => {
                Err(wrong(entry, "is sent to another machine only over TLS: write an https:// URL"))
            }
            None => Ok(()),
        }
    }

    fn login(&mut self, node: &Node<'_>, given: Given<'_, '_>) -> Result<Option<HttpLogin>, Complaint> {
        match (find(given, "user"), self.user.take(), self.password.take(), self.bearer.take()) {
            (Some(entry), _, _, Some(_)) => {
                Err(wrong(entry, "has no meaning with `bearer`: remove one of them"))
            }
            (Some(entry), _, None, None) => Err(wrong(entry, "needs `password` too")),
            (None, _, Some(_), _) => Err(node.wrong("needs `user` beside `password`")),
            (_, Some(user), Some(password), None) if !user.contains(':') => {
                Ok(Some(HttpLogin::Basic(Login { user, credential: Credential::Password(password) })))
            }
            (Some(entry), _, Some(_), None) => {
                Err(wrong(entry, "must have no colon, which ends it in a request (RFC 7617)"))
            }
            (None, _, None, Some(token)) => Ok(Some(HttpLogin::Bearer(Login {
                user: "bearer".to_owned(),
                credential: Credential::Password(token),
            }))),
            (None, _, None, None) => Ok(None),
        }
    }
}

fn find<'n, 't>(given: Given<'n, 't>, key: &str) -> Option<&'n Entry<'t>> {
    given.find(key).map(|(entry, _)| entry)
}

fn wrong(entry: &Entry<'_>, what: &str) -> Complaint {
    Complaint::new(entry.at, what).under(&format!(".{}", entry.key))
}

fn http(node: &Node<'_>, places: &Places) -> Result<Receiver, Complaint> {
    let what = "a mapping such as { url: https://desk.example.org/inbound, bearer: { file: ~/token } }";
    let written = mapping(node, places, what, HTTP_KEYS, Written::new())?;
    written.receiver(node, node.mapping(what)?)
}

/// Makes a target of a URL, as on a command line.
pub(super) fn of_url(url: &str) -> Result<Receiver, String> {
    let url = HttpUrl::parse(url)?;
    let (account, user) = Default::default();
    Ok(Receiver {
        method: Method::Post,
        bind: None,
        proxy: None,
        tls: Tls::bare(url.mode),
        timeout: TIMEOUT,
        login: None,
        hmac: None,
        headers: Vec::new(),
        success: None,
        account,
        user,
        url,
    })
}

fn show(receiver: &Receiver) -> String {
    let written = Written::of(receiver);
    // On one line there is room for what is unusual.
    let is_worth_it = |key: &&Key<Written>| match key.name {
        "method" => written.method != Method::Post,
        "tls" => !receiver.url.is_protected_or_near(),
        "tls_min" => written.tls.min != Tls::bare(written.tls.mode).min,
        "timeout" => written.timeout != TIMEOUT,
        _ => true,
    };
    inline(HTTP_KEYS.iter().filter(is_worth_it), &written)
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
