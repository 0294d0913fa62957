//! The target that is a user's Gmail: `gmail`.

use std::net::IpAddr;
use std::time::Duration;

use super::account::{Tls, TlsMode};
use super::http_url::HttpUrl;
use super::oauth2::{Credential, OAuth2};
use super::oauth2_keys::OAUTH2;
use super::places::Places;
use super::proxy::Proxy;
use super::rows::{Form, Key, inline, key, mapping};
use super::server::{Given, conflicts, with_tls};
use super::target::{Gmail, Login, MessageDate, Spam};
use super::tree::{Complaint, Content, Entry, Node};
use super::values::{ADDRESS, HOST, POSITIVE, PROXY, USER, choice};
use super::yaml::list;

/// The keys of `gmail`.
pub(super) const GMAIL_KEYS: &[Key<Written>] = with_tls!(
    [
        key!("user", user, USER, "Whose Gmail it is, an address; required."),
        key!("oauth2", oauth2, OAUTH2, "Where access tokens come from; required."),
        key!("labels", labels, LABELS, "Labels of each message, by name; [INBOX, UNREAD]."),
        key!("spam", spam, choice!(SPAM), "Whether Gmail may take a message for spam: classify or never."),
        key!("date", date, choice!(DATES), "The date of each message: header or now."),
        key!("url", url, URL, "Where the API is, if not at https://gmail.googleapis.com."),
    ],
    [
        key!("bind", bind, ADDRESS, "The address of this machine to connect from."),
        key!("proxy", proxy, PROXY, "A proxy that connects to the server: socks5:// or http://."),
        key!("timeout", timeout, POSITIVE, "The longest wait for a connect or for the server."),
    ]
);

pub(super) const GMAIL: Form<Gmail> = Form { read: gmail, show };

const SPAM: [(&str, Spam); 2] = [("classify", Spam::Classify), ("never", Spam::Never)];
const DATES: [(&str, MessageDate); 2] = [("header", MessageDate::Header), ("now", MessageDate::Now)];

/// Where Google has the API.
const API: &str = "https://gmail.googleapis.com";

const LABELS: Form<Vec<String>> =
    Form { read: |node, _| labels(node), show: |labels| list(labels.iter().map(|label| (HOST.show)(label))) };

const URL: Form<HttpUrl> = Form {
    read: |node, _| {
        let url = HttpUrl::parse(node.text("a URL that begins with https://")?);
        let url = url.map_err(|what| node.wrong(what))?;
        match url.target.contains('?') {
            true => Err(node.wrong("must be a URL without a query (?)")),
            false => Ok(url),
        }
    },
    show: |url| (HOST.show)(&url.to_string()),
};

/// What stands under `gmail`.
pub(super) struct Written {
    user: Option<String>,
    oauth2: Option<OAuth2>,
    labels: Vec<String>,
    spam: Spam,
    date: MessageDate,
    url: Option<HttpUrl>,
    tls: Tls,
    bind: Option<IpAddr>,
    proxy: Option<Proxy>,
    timeout: Option<Duration>,
}

fn usual_labels() -> Vec<String> {
    vec!["INBOX".to_owned(), "UNREAD".to_owned()]
}

fn gmail(node: &Node<'_>, places: &Places) -> Result<Gmail, Complaint> {
    let what = "a mapping such as { user: alice@gmail.com, oauth2: { provider: google, client_id: ID } }";
    let nothing = Written {
        user: None,
        oauth2: None,
        labels: usual_labels(),
        spam: Spam::Classify,
        date: MessageDate::Header,
        url: None,
        tls: Tls::bare(TlsMode::Implicit),
        bind: None,
        proxy: None,
        timeout: None,
    };
    let written = mapping(node, places, what, GMAIL_KEYS, nothing)?;
    written.gmail(node, node.mapping(what)?)
}

impl Written {
    /// Checks what keys mean together, and fills in the defaults.
    fn gmail(mut self, node: &Node<'_>, own: &[Entry<'_>]) -> Result<Gmail, Complaint> {
        let given = Given { own, defaults: &[] };
        let wrong =
            |entry: &Entry<'_>, what: &str| Complaint::new(entry.at, what).under(&format!(".{}", entry.key));
        let find = |key: &str| given.find(key).map(|(entry, _)| entry);
        let url = match self.url.take() {
            Some(url) => url,
            None => HttpUrl::parse(API).map_err(|what| node.wrong(what))?,
        };
        if let Some(entry) = find("tls").filter(|_| self.tls.mode != url.mode) {
            return Err(wrong(entry, "contradicts `url`, from which it follows: remove it"));
        }
        self.tls.mode = url.mode;
        if let Some((entry, what)) = conflicts(given, self.tls.mode).into_iter().next() {
            return Err(wrong(entry, what));
        }
        let (Some(user), Some(oauth2)) = (self.user, self.oauth2) else {
            return Err(node.wrong("needs `user` and `oauth2`"));
        };
        let provider = match &oauth2 {
            OAuth2::Client(client) => client.provider.map(|provider| provider.name),
            OAuth2::Command(_) => None,
        };
        if let (Some(name), Some(entry)) = (provider.filter(|name| *name != "google"), find("oauth2")) {
            return Err(wrong(entry, &format!("has tokens of {name}, which are none for Gmail")));
        }
        // What is this machine to a proxy is none of ours.
        if let (TlsMode::None, Some(_), Some(entry)) = (url.mode, &self.proxy, find("proxy")) {
            return Err(wrong(entry, "would see the access token: write an https:// `url`"));
        }
        Ok(Gmail {
            login: Login { user, credential: Credential::OAuth2(oauth2) },
            labels: self.labels,
            spam: self.spam,
            date: self.date,
            url,
            tls: self.tls,
            bind: self.bind,
            proxy: self.proxy,
            timeout: self.timeout,
        })
    }
}

fn show(gmail: &Gmail) -> String {
    let Gmail { login, labels, spam, date, url, tls, bind, proxy, timeout } = gmail.clone();
    let written = Written {
        user: Some(login.user),
        oauth2: login.credential.oauth2().cloned(),
        labels,
        spam,
        date,
        url: Some(url),
        tls,
        bind,
        proxy,
        timeout,
    };
    // On one line there is room for what is unusual.
    let is_worth_it = |key: &&Key<Written>| match key.name {
        "labels" => written.labels != usual_labels(),
        "spam" => written.spam != Spam::Classify,
        "date" => written.date != MessageDate::Header,
        "url" => written.url.as_ref().is_some_and(|url| url.to_string() != format!("{API}/")),
        "tls" => false,
        "tls_min" => written.tls.min != Tls::bare(written.tls.mode).min,
        _ => true,
    };
    inline(GMAIL_KEYS.iter().filter(is_worth_it), &written)
}

fn labels(node: &Node<'_>) -> Result<Vec<String>, Complaint> {
    /// What only Gmail itself gives.
    const GIVEN: [&str; 3] = ["SENT", "DRAFT", "CHAT"];
    let Content::List(items) = &node.content else {
        return Err(node.wrong("must be a list such as [INBOX, UNREAD, Work]"));
    };
    let mut labels: Vec<String> = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let wrong = |what: &str| Err(item.wrong(what).under(&format!("[{index}]")));
        let text = item.text("a label")?;
        if text.trim() != text || text.is_empty() || text.len() > 225 || text.contains(char::is_control) {
            return wrong("must be a label such as Work or Lists/rust");
        }
        if GIVEN.contains(&text) {
            return wrong("is given by Gmail alone");
        }
        if labels.iter().any(|label| label == text) {
            return wrong("stands in the list twice");
        }
        labels.push(text.to_owned());
    }
    Ok(labels)
}
