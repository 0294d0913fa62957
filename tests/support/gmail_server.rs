//! Gmail's API in memory, as far as its documents and what its users met tell: `labels.list` and `.create`,
//! `messages.import`, which merges by Message-ID and takes no odd From, and `messages.insert`, which does neither.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::{Value, json};

use super::authorization_server::AuthorizationServer;
use super::http_server::{Answer, Asked, HttpServer};

/// The user whose Gmail it is.
pub const USER: &str = "alice@gmail.example";

/// A message that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    pub id: String,
    pub labels: Vec<String>,
    pub octets: Vec<u8>,
    /// `import` or `insert`, and what follows the question mark.
    pub how: String,
}

/// What is there, and what is to come.
#[derive(Debug, Default)]
pub struct State {
    pub mails: Vec<Mail>,
    /// Ids and names.
    pub labels: Vec<(String, String)>,
    /// What is answered to the next uploads in the place of what would be: status and error.
    pub instead: VecDeque<(u16, Value)>,
    /// Names that it makes no label of.
    pub reserved: Vec<String>,
    count: usize,
}

/// A running server.
#[derive(Debug, Clone)]
pub struct GmailServer {
    pub http: HttpServer,
    pub tokens: AuthorizationServer,
    state: Arc<Mutex<State>>,
}

/// Makes an error in the form of Google's APIs.
pub fn error(status: u16, reason: &str, message: &str) -> (u16, Value) {
    let one = json!({ "domain": "global", "reason": reason, "message": message });
    (status, json!({ "error": { "code": status, "message": message, "errors": [one] } }))
}

impl GmailServer {
    pub fn start() -> Self {
        let tokens = AuthorizationServer::start();
        let system = ["INBOX", "UNREAD", "STARRED", "IMPORTANT", "SPAM", "TRASH", "CATEGORY_SOCIAL"];
        let labels = system.map(|name| (name.to_owned(), name.to_owned())).to_vec();
        let state = Arc::new(Mutex::new(State { labels, ..State::default() }));
        let (known, judges) = (state.clone(), tokens.clone());
        let http = HttpServer::start(move |asked| {
            let mut state = known.lock().unwrap();
            let (status, body) = state.answer(&judges, asked).unwrap_or_else(|refused| refused);
            let json = "Content-Type: application/json; charset=UTF-8\r\n".to_owned();
            Answer::Is(status, json, body.to_string().into_bytes())
        });
        Self { http, tokens, state }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Gives the configuration of a target here, with more keys.
    pub fn target(&self, more: &str) -> String {
        let token = self.tokens.refresh_token(USER, "pop offline_access");
        let keys = self.tokens.keys(&format!(", refresh_token: {token}"));
        format!("{{ gmail: {{ user: {USER}, url: '{}', oauth2: {keys}{more} }} }}", self.http.url(""))
    }

    /// Gives the messages that are there, sorted.
    pub fn octets(&self) -> Vec<Vec<u8>> {
        let mut octets: Vec<_> = self.state().mails.iter().map(|mail| mail.octets.clone()).collect();
        octets.sort();
        octets
    }

    /// Counts what was asked with this in its path.
    pub fn count(&self, path: &str) -> usize {
        self.http.asked().iter().filter(|asked| asked.path.contains(path)).count()
    }
}

type Answered = Result<(u16, Value), (u16, Value)>;

impl State {
    fn answer(&mut self, tokens: &AuthorizationServer, asked: &Asked) -> Answered {
        let token = asked.field("authorization").strip_prefix("Bearer ").unwrap_or_default();
        if !tokens.accepts(USER, token, "pop") {
            return Err(error(401, "authError", &format!("Invalid Credentials {token}")));
        }
        let (path, query) = asked.path.split_once('?').unwrap_or((&asked.path, ""));
        let (before, rest) = path.split_once("/gmail/v1/users/").ok_or_else(not_found)?;
        let (user, what) = rest.split_once('/').ok_or_else(not_found)?;
        if user.replace("%2B", "+") != USER {
            return Err(error(403, "forbidden", &format!("Delegation denied for {USER}")));
        }
        match (asked.method.as_str(), before, what) {
            ("GET", "", "labels") => {
                let labels = self.labels.iter().map(|(id, name)| json!({ "id": id, "name": name }));
                Ok((200, json!({ "labels": labels.collect::<Vec<_>>() })))
            }
            ("POST", "", "labels") => self.make_label(&asked.body),
            ("POST", "/upload", "messages/import" | "messages/insert") => {
                if let Some(instead) = self.instead.pop_front() {
                    return Err(instead);
                }
                self.upload(asked, what.trim_start_matches("messages/"), query)
            }
            _ => Err(not_found()),
        }
    }

    fn make_label(&mut self, body: &[u8]) -> Answered {
        let asked: Value =
            serde_json::from_slice(body).map_err(|_| error(400, "parseError", "Parse Error"))?;
        let name = asked["name"].as_str().unwrap_or_default().to_owned();
        if self.reserved.contains(&name) {
            return Err(error(400, "invalidArgument", "Invalid label name"));
        }
        if self.labels.iter().any(|(_, known)| known.eq_ignore_ascii_case(&name)) {
            return Err(error(409, "aborted", "Label name exists or conflicts"));
        }
        self.count += 1;
        let id = format!("Label_{}", self.count);
        self.labels.push((id.clone(), name.clone()));
        Ok((200, json!({ "id": id, "name": name })))
    }

    fn upload(&mut self, asked: &Asked, method: &str, query: &str) -> Answered {
        let (about, octets) =
            parts(asked).ok_or_else(|| error(400, "badContent", "Media type is not supported."))?;
        let labels = about["labelIds"].as_array().cloned().unwrap_or_default();
        let labels: Vec<String> = labels.iter().filter_map(|id| id.as_str().map(str::to_owned)).collect();
        if let Some(label) = labels.iter().find(|id| !self.labels.iter().any(|(known, _)| known == *id)) {
            return Err(error(400, "invalidArgument", &format!("Invalid label: {label}")));
        }
        if octets.windows(2).any(|pair| (pair[0] == b'\r') != (pair[1] == b'\n')) {
            return Err(error(400, "invalidArgument", "a line end is half one"));
        }
        let header = String::from_utf8_lossy(&octets);
        let header = header.split("\r\n\r\n").next().unwrap_or_default().to_owned();
        let fields = |name: &str| -> Vec<String> {
            let is_it = |line: &&str| line.to_ascii_lowercase().starts_with(&format!("{name}:"));
            header.split("\r\n").filter(is_it).map(str::to_owned).collect()
        };
        let id_of = |mail: &Mail| mail.id.clone();
        if method == "import" {
            match &fields("from")[..] {
                [from] if from.contains('@') => {}
                [_] => return Err(error(400, "invalidArgument", "Invalid From header")),
                _ => return Err(error(400, "invalidArgument", "Expected a single 'From' header")),
            }
            let line = fields("message-id").concat();
            let same = |mail: &&Mail| {
                mail.how.starts_with("import")
                    && String::from_utf8_lossy(&mail.octets).contains(&format!("{line}\r\n"))
            };
            if let Some(there) = self.mails.iter().find(same).map(id_of) {
                return Ok((200, json!({ "id": there, "threadId": there, "labelIds": labels })));
            }
        }
        self.count += 1;
        let id = format!("18c{:013x}", self.count);
        self.mails.push(Mail {
            id: id.clone(),
            labels: labels.clone(),
            octets,
            how: format!("{method}?{query}"),
        });
        Ok((200, json!({ "id": id, "threadId": id, "labelIds": labels })))
    }
}

fn not_found() -> (u16, Value) {
    error(404, "notFound", "Requested entity was not found.")
}

/// Takes multipart/related apart: what is JSON, and the message.
fn parts(asked: &Asked) -> Option<(Value, Vec<u8>)> {
    let boundary = asked.field("content-type").strip_prefix("multipart/related; boundary=")?;
    let delimiter = format!("--{boundary}");
    let body = asked.body.strip_prefix(delimiter.as_bytes())?;
    let end = format!("\r\n{delimiter}--\r\n");
    let body = body.strip_suffix(end.as_bytes())?;
    let middle = format!("\r\n{delimiter}\r\n");
    let at = body.windows(middle.len()).position(|octets| octets == middle.as_bytes())?;
    let of = |part: &[u8], kind: &str| -> Option<Vec<u8>> {
        let at = part.windows(4).position(|octets| octets == b"\r\n\r\n")?;
        String::from_utf8_lossy(&part[..at]).contains(kind).then(|| part[at + 4..].to_vec())
    };
    let about = of(&body[..at], "application/json")?;
    Some((serde_json::from_slice(&about).ok()?, of(&body[at + middle.len()..], "message/rfc822")?))
}
