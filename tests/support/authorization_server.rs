//! An authorization server on loopback (RFC 6749, 7636, 8628, 7662) that refuses what a real one would: wrong verifiers, used
//! codes, redirects that are not registered, refresh tokens that were replaced, scopes that were not granted.

mod grants;

use std::collections::{HashMap, HashSet, VecDeque};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde_json::{Value, json};

use super::maildrop::TokenCheck;

/// The client that is registered.
pub const CLIENT: &str = "postrider-test";
/// What may be asked for.
const SCOPES: [&str; 8] = [
    "pop",
    "imap",
    "smtp",
    "offline_access",
    OUTLOOK_POP,
    GOOGLE_MAIL,
    "https://outlook.office.com/IMAP.AccessAsUser.All",
    "https://outlook.office.com/SMTP.Send",
];
/// Microsoft's, for a maildrop.
pub const OUTLOOK_POP: &str = "https://outlook.office.com/POP.AccessAsUser.All";

/// Google's, for whatever speaks POP, IMAP or SMTP.
pub const GOOGLE_MAIL: &str = "https://mail.google.com/";

/// What the browser is shown first.
const SIGN_IN: &str = "<!doctype html><title>Sign in</title><p>One moment.<script>\
                       location.replace('/authorize' + location.search)</script>";

/// A running server; it ends with the process.
#[derive(Debug, Clone)]
pub struct AuthorizationServer {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
pub struct State {
    /// The client's secret; `None`: it is public.
    pub secret: Option<String>,
    /// The certificate by which the client signs (PEM).
    pub certificate: Option<String>,
    /// What the person in the browser does.
    pub person: Person,
    /// Whether each refresh gives a new refresh token.
    pub rotates: bool,
    /// Seconds that access tokens are good for.
    pub lifetime: u64,
    /// How long an answer with tokens takes, once they are given.
    pub delay: Duration,
    /// What is answered in the place of what would be.
    pub instead: VecDeque<Instead>,
    /// What was asked: path and form.
    pub asked: Vec<(String, HashMap<String, String>)>,
    codes: HashMap<String, Code>,
    refresh: HashMap<String, Refresh>,
    access: HashMap<String, Access>,
    revoked: HashSet<u64>,
    devices: HashMap<String, Device>,
    count: u64,
}

/// What whoever sits in front of the browser does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Person {
    /// Signs in as this user and allows all.
    Allows(String),
    /// The same, but for this scope.
    AllowsAllBut(String, String),
    Declines,
    /// Has not come yet.
    Waits,
}

/// An answer that is none.
#[derive(Debug, Clone)]
pub enum Instead {
    /// This status, these fields, this body.
    Answer(u16, &'static str, &'static str),
    /// Nothing.
    Silence,
    /// A body without end.
    Endless,
    /// An octet now and then, without end.
    Trickle,
}

#[derive(Debug)]
struct Code {
    redirect: String,
    challenge: String,
    user: String,
    scope: String,
    family: u64,
    used: bool,
}

#[derive(Debug)]
struct Refresh {
    user: String,
    scope: String,
    family: u64,
    replaced: bool,
}

#[derive(Debug)]
struct Access {
    user: String,
    scope: String,
    family: u64,
    revoked: bool,
}

#[derive(Debug)]
struct Device {
    scope: String,
    until: Instant,
    interval: Duration,
    polled: Option<Instant>,
}

impl AuthorizationServer {
    /// Starts one with a public client, whose person is alice and allows all.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let state = State {
            secret: None,
            certificate: None,
            person: Person::Allows("alice".into()),
            rotates: true,
            lifetime: 3600,
            delay: Duration::ZERO,
            instead: VecDeque::new(),
            asked: Vec::new(),
            codes: HashMap::new(),
            refresh: HashMap::new(),
            access: HashMap::new(),
            revoked: HashSet::new(),
            devices: HashMap::new(),
            count: 0,
        };
        let server = Self { address, state: Arc::new(Mutex::new(state)) };
        let serving = server.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let server = serving.clone();
                thread::spawn(move || server.serve(stream));
            }
        });
        server
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with it")
    }

    /// Gives the port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Gives a URL of this server.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    /// Gives what stands under `oauth2` for this server, with more keys.
    pub fn keys(&self, more: &str) -> String {
        let (token, auth, device) = (self.url("token"), self.url("authorize"), self.url("device"));
        format!(
            "{{ token_url: '{token}', auth_url: '{auth}', device_url: '{device}', client_id: {CLIENT}, \
             scope: pop offline_access{more} }}"
        )
    }

    /// Counts token requests of this grant.
    pub fn count(&self, grant: &str) -> usize {
        let is_of = |(_, form): &&(String, HashMap<String, String>)| {
            form.get("grant_type").is_some_and(|asked| asked.ends_with(grant))
        };
        self.state().asked.iter().filter(is_of).count()
    }

    /// Makes a refresh token as if this user had logged in before.
    pub fn refresh_token(&self, user: &str, scope: &str) -> String {
        let mut state = self.state();
        let family = state.next();
        state.refresh_token(user, scope, family)
    }

    /// Makes all access tokens bad, which nobody hears of.
    pub fn revoke_access(&self) {
        self.state().access.values_mut().for_each(|access| access.revoked = true);
    }

    /// Makes all refresh tokens bad, as when a password changes.
    pub fn revoke_logins(&self) {
        let mut state = self.state();
        let families: Vec<u64> = state.refresh.values().map(|refresh| refresh.family).collect();
        state.revoked.extend(families);
    }

    /// Says whether a mail server takes this token for this user and protocol.
    pub fn accepts(&self, user: &str, token: &str, protocol: &str) -> bool {
        let state = self.state();
        state.access.get(token).is_some_and(|access| {
            access.user == user
                && !access.revoked
                && !state.revoked.contains(&access.family)
                && access.scope.split(' ').any(|scope| scope == protocol)
        })
    }

    /// Has a mail server ask here, for one protocol.
    pub fn check(&self, protocol: &'static str) -> TokenCheck {
        let server = self.clone();
        TokenCheck(Arc::new(move |user, token| server.accepts(user, token, protocol)))
    }

    /// Gives every secret that this server has given or been given.
    pub fn secrets(&self) -> Vec<String> {
        let state = self.state();
        let mut secrets: Vec<String> = state.refresh.keys().chain(state.access.keys()).cloned().collect();
        secrets.extend(state.codes.keys().chain(state.devices.keys()).cloned());
        secrets.extend(state.secret.clone());
        secrets.extend(state.asked.iter().filter_map(|(_, form)| form.get("code_verifier").cloned()));
        secrets
    }

    fn serve(&self, mut stream: TcpStream) {
        // The client may go away at any point.
        let _ = self.answer(&mut stream);
    }

    fn answer(&self, stream: &mut TcpStream) -> io::Result<()> {
        let request = Request::read(stream)?;
        let instead = {
            let mut state = self.state();
            state.asked.push((request.path.clone(), request.form.clone()));
            if ["/authorize", "/sign-in", "/introspect"].contains(&request.path.as_str()) {
                None
            } else {
                state.instead.pop_front()
            }
        };
        match instead {
            Some(Instead::Answer(status, fields, body)) => return reply(stream, status, fields, body),
            Some(Instead::Silence) => {
                stream.read_to_end(&mut Vec::new())?;
                return Ok(());
            }
            Some(Instead::Endless) => {
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")?;
                loop {
                    stream.write_all(&[b' '; 4096])?;
                }
            }
            Some(Instead::Trickle) => {
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")?;
                loop {
                    stream.write_all(b" ")?;
                    thread::sleep(Duration::from_millis(100));
                }
            }
            None => {}
        }
        let mut state = self.state();
        let answer = match request.path.as_str() {
            "/authorize" => {
                return match state.authorize(&request.form) {
                    Ok(location) => reply(stream, 302, &format!("Location: {location}\r\n"), ""),
                    Err(why) => reply(stream, 400, "Content-Type: text/html\r\n", why),
                };
            }
            // A page whose script goes on, as those of real servers do.
            "/sign-in" => return reply(stream, 200, "Content-Type: text/html\r\n", SIGN_IN),
            "/token" => state.token(&request),
            "/device" | "/devicecode" => state.device(&request),
            "/introspect" => Ok(state.introspect(&request)),
            _ => return reply(stream, 404, "Content-Type: text/html\r\n", "<p>nothing"),
        };
        let delay = if request.path == "/token" { state.delay } else { Duration::ZERO };
        drop(state);
        thread::sleep(delay);
        let json = "Content-Type: application/json\r\nCache-Control: no-store\r\n";
        match answer {
            Ok(answer) => reply(stream, 200, json, &answer.to_string()),
            Err((status, error, said)) => {
                let body = json!({ "error": error, "error_description": said });
                reply(stream, status, json, &body.to_string())
            }
        }
    }
}

struct Request {
    /// The last part of the path.
    path: String,
    /// The URL that it was sent to.
    own_url: String,
    /// The query's, and the body's.
    form: HashMap<String, String>,
    authorization: String,
}

impl Request {
    fn read(stream: &TcpStream) -> io::Result<Self> {
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let target = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let (mut length, mut authorization, mut host) = (0, String::new(), String::new());
        loop {
            let mut field = String::new();
            if reader.read_line(&mut field)? <= 2 {
                break;
            }
            let Some((name, value)) = field.split_once(':') else { continue };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse().unwrap_or(0),
                "authorization" => authorization = value.trim().to_owned(),
                "host" => host = value.trim().to_owned(),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let body = String::from_utf8_lossy(&body);
        let form = query.split('&').chain(body.split('&')).filter_map(|pair| pair.split_once('='));
        let form = form.map(|(name, value)| (decode(name), decode(value))).collect();
        // Whatever directory it is in: Microsoft's have the tenant before it.
        let endpoint = path.rfind('/').map_or(path, |at| &path[at..]).to_owned();
        Ok(Self { path: endpoint, own_url: format!("http://{host}{path}"), form, authorization })
    }
}

fn decode(text: &str) -> String {
    percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned()
}

fn reply(stream: &mut TcpStream, status: u16, fields: &str, body: &str) -> io::Result<()> {
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status} x\r\n{fields}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

/// Asks as a client does; gives status and answer.
pub fn post(url: &str, form: &[(&str, &str)]) -> (u16, Value) {
    let (authority, path) = url.strip_prefix("http://").and_then(|rest| rest.split_once('/')).expect("a URL");
    let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let pairs: Vec<String> = form.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
    let body = pairs.join("&");
    let mut stream = TcpStream::connect(authority).expect("a server");
    let length = body.len();
    write!(stream, "POST /{path} HTTP/1.1\r\nHost: {authority}\r\nContent-Length: {length}\r\n\r\n{body}")
        .expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, serde_json::from_str(body).unwrap_or_default())
}

/// Asks for an address as a browser does; gives status, where it is sent, and what is shown.
pub fn browse(url: &str) -> io::Result<(u16, Option<String>, String)> {
    let rest = url.strip_prefix("http://").ok_or(io::ErrorKind::InvalidInput)?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at(end);
    let slash = if target.starts_with('/') { "" } else { "/" };
    let mut stream = TcpStream::connect(authority.replace("localhost", "127.0.0.1"))?;
    write!(stream, "GET {slash}{target} HTTP/1.1\r\nHost: {authority}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::InvalidData)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let location = head.lines().find_map(|line| line.strip_prefix("Location: ")).map(str::to_owned);
    Ok((status, location, body.to_owned()))
}
