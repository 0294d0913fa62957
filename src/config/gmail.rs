//! The target that is a user's Gmail: `gmail`.

use super::account::TlsMode;
use super::http_url::HttpUrl;
use super::oauth2::OAuth2;
use super::oauth2_keys::BY_TOKENS;
use super::places::Places;
use super::providers::Protocol;
use super::rows::{Form, Key, inline, key, mapping};
use super::server::{Keys, is_unusual, of_target, wrong};
use super::target::{Gmail, Login, MessageDate, Route, Spam};
use super::tree::{Complaint, Content, Node};
use super::values::{HOST, URL, USER, choice};
use super::yaml::list;

pub(super) const GMAIL_KEYS: &[Key<Gmail>] = of_target!(
    [
        key!("user", login.user, USER, "Whose Gmail it is, an address; required."),
        key!("oauth2", login.credential, BY_TOKENS, "Where access tokens come from; required."),
        key!("labels", labels, LABELS, "Labels of each message, by name; [INBOX, UNREAD]."),
        key!("spam", spam, choice!(SPAM), "Whether Gmail may take a message for spam: classify or never."),
        key!("date", date, choice!(DATES), "The date of each message: header or now."),
        key!("url", url, BASE, "Where the API is, if not at https://gmail.googleapis.com."),
    ],
    []
);

pub(super) const GMAIL: Form<Gmail> = Form::new(gmail, show);

const SPAM: [(&str, Spam); 2] = [("classify", Spam::Classify), ("never", Spam::Never)];
const DATES: [(&str, MessageDate); 2] = [("header", MessageDate::Header), ("now", MessageDate::Now)];

/// Where Google has the API.
const API: &str = "https://gmail.googleapis.com";

const LABELS: Form<Vec<String>> =
    Form::new(|node, _| labels(node), |labels| list(labels.iter().map(|label| (HOST.show)(label))));

const BASE: Form<HttpUrl> = Form {
    read: |node, places| match (URL.read)(node, places)? {
        url if url.target.contains('?') => Err(node.wrong("must be a URL without a query (?)")),
        url => Ok(url),
    },
    ..URL
};

fn usual_labels() -> Vec<String> {
    vec!["INBOX".to_owned(), "UNREAD".to_owned()]
}

fn gmail(node: &Node<'_>, places: &Places) -> Result<Gmail, Complaint> {
    let what = "a mapping such as { user: alice@gmail.com, oauth2: { provider: google, client_id: ID } }";
    let usual = Gmail {
        login: Login::default(),
        labels: usual_labels(),
        spam: Spam::Classify,
        date: MessageDate::Header,
        url: HttpUrl::parse(API).map_err(|what| node.wrong(what))?,
        route: Route::bare(TlsMode::Implicit),
    };
    let mut gmail = mapping(node, places, what, GMAIL_KEYS, usual)?;
    agree(&mut gmail, node, Keys(node.mapping(what)?))?;
    Ok(gmail)
}

/// Checks what keys mean together.
fn agree(gmail: &mut Gmail, node: &Node<'_>, keys: Keys<'_, '_>) -> Result<(), Complaint> {
    let Gmail { login, url, route, .. } = gmail;
    if let Some(entry) = keys.find("tls").filter(|_| route.tls.mode != url.mode) {
        return Err(wrong(entry, "contradicts `url`, from which it follows: remove it"));
    }
    route.tls.mode = url.mode;
    keys.agree(url.mode, GMAIL_KEYS)?;
    let (Some(_), Some(oauth2)) = (keys.find("user"), login.credential.oauth2()) else {
        return Err(node.wrong("needs `user` and `oauth2`"));
    };
    if let (OAuth2::Client(client), Some(entry)) = (oauth2, keys.find("oauth2"))
        && let Some(provider) = client.provider.filter(|provider| provider.scope(Protocol::Gmail).is_empty())
    {
        return Err(wrong(entry, &format!("has tokens of {}, which are none for Gmail", provider.name)));
    }
    // What is this machine to a proxy is none of ours.
    match keys.find("proxy").filter(|_| url.mode == TlsMode::None) {
        Some(entry) => Err(wrong(entry, "would see the access token: write an https:// `url`")),
        None => Ok(()),
    }
}

fn show(gmail: &Gmail) -> String {
    // On one line there is room for what is unusual.
    let is_worth_it = |key: &&Key<Gmail>| match key.name {
        "labels" => gmail.labels != usual_labels(),
        "spam" => gmail.spam != Spam::Classify,
        "date" => gmail.date != MessageDate::Header,
        "url" => gmail.url.to_string() != format!("{API}/"),
        "tls" => false,
        name => is_unusual(name, &gmail.route),
    };
    inline(GMAIL_KEYS.iter().filter(is_worth_it), gmail)
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
