//! The way to a server that takes messages: TCP or a Unix socket, TLS, log-in.

use std::path::Path;
use std::time::Duration;

use tokio::net::UnixStream;

use super::dialogue::{Broken, Dialogue, How, Introduction, NoDialogue, Patience};
use super::learned::Learned;
use super::transaction::Connection;
use crate::config::account::TlsMode;
use crate::config::target::{Address, MailServer};
use crate::delivery::{Access, ServerError, TargetError};
use crate::failure::{Class, meaning};
use crate::line::AuthLine;
use crate::net::auth::{self, Answer, Carrier, Left};
use crate::net::{self, Endpoint, Moment, NetError, Stage, Stream};
use crate::sasl::{
    self, Auth, Credentials, Exchange, Offered, Protection, SaslError, TokenRefused, User, WITH_TOKENS,
    WITHIN_THE_MACHINE,
};
use crate::secret::Secret;
use crate::smtp::{Client, ClientId, Command, Dialect, Reply};
use crate::text::Shown;

/// Connects, and logs in if the target says so.
pub(super) async fn connect(
    server: &MailServer,
    dialect: Dialect,
    access: &Access,
    learned: &Learned,
) -> Result<Connection, TargetError> {
    let connecting = Connecting { server, dialect, access, name: own_name() };
    let mut dialogue = connecting.dialogue().await?;
    if let (Some(login), Some(secret)) = (&server.login, &access.secret) {
        connecting.log_in(&mut dialogue, &login.user, secret).await?;
    }
    Ok(Connection::new(dialogue, dialect, learned.clone()))
}

struct Connecting<'a> {
    server: &'a MailServer,
    dialect: Dialect,
    access: &'a Access,
    name: ClientId,
}

impl Connecting<'_> {
    async fn dialogue(&self) -> Result<Dialogue, TargetError> {
        let MailServer { address, route, .. } = self.server;
        let greeting = Client::new(self.dialect);
        let server = match address {
            Address::Socket(path) => {
                let timeout = route.timeout.unwrap_or(self.access.timeout);
                return self.open(self.unix(path, timeout).await?, greeting).await;
            }
            Address::Tcp { host, port } => (host.as_str(), *port),
        };
        let endpoint = Endpoint::of_target(&self.access.account, server, route, self.access.timeout);
        let net = |error| self.net(error);
        let stream = self.access.connector.connect(endpoint).await.map_err(net)?;
        let dialogue = self.open(stream, greeting).await?;
        match route.tls.mode {
            TlsMode::None | TlsMode::Implicit => Ok(dialogue),
            TlsMode::StartTls => {
                let stream = self.start_tls(dialogue).await?;
                let stream = self.access.connector.start_tls(stream, endpoint).await.map_err(net)?;
                self.open(stream, Client::after_starttls(self.dialect)).await
            }
        }
    }

    async fn unix(&self, path: &Path, timeout: Duration) -> Result<Stream, TargetError> {
        match tokio::time::timeout(timeout, UnixStream::connect(path)).await {
            Ok(Ok(stream)) => {
                let watch = self.access.connector.watch();
                watch.saw(|| Stage::Connected(format!("the socket {}", path.display())));
                Ok(Stream::plain(stream))
            }
            Ok(Err(error)) => Err(self.failed(format!("cannot connect: {error}"), hint_of(&error))),
            Err(_) => {
                let after = humantime::format_duration(timeout);
                Err(self.failed(format!("gave up after {after} waiting for a connection"), None))
            }
        }
    }

    async fn open(&self, stream: Stream, protocol: Client) -> Result<Dialogue, TargetError> {
        let introduction = Introduction {
            dialect: self.dialect,
            name: &self.name,
            account: &self.access.account,
            patience: Patience::new(self.server.route.timeout),
            stop: self.access.stop.clone(),
            watch: self.access.connector.watch(),
            moment: match (self.server.route.tls.mode, stream.tls()) {
                (TlsMode::StartTls, None) => Moment::BeforeTls,
                _ => Moment::BeforeLogIn,
            },
        };
        match Dialogue::open(stream, protocol, &introduction).await {
            Ok(dialogue) => Ok(dialogue),
            Err(NoDialogue::Refused(command, reply)) => {
                let hint = (self.dialect == Dialect::Lmtp && reply.code == 500)
                    .then(|| "it does not speak LMTP; is it an SMTP server?".to_owned());
                Err(self.refused(
                    &format!("server refused the session ({command})"),
                    &reply,
                    Class::Target,
                    hint,
                ))
            }
            Err(NoDialogue::NoGreeting(Broken { how, what, said })) => {
                let line = said.as_ref().map(String::as_bytes);
                let hint = match (how, line) {
                    (How::Silence, _) | (_, Some(_)) => net::another_server(line, self.mode(), self.usual()),
                    (How::Ended | How::Otherwise, None) => None,
                };
                let (place, said) = (self.server.address.to_string(), said.map(String::into_bytes));
                let class = Class::Target;
                Err(TargetError::Server(Box::new(ServerError { place, what, said, hint, class })))
            }
            Err(NoDialogue::Broken(broken)) => Err(self.broken(broken)),
        }
    }

    fn mode(&self) -> TlsMode {
        match &self.server.address {
            Address::Tcp { .. } => self.server.route.tls.mode,
            Address::Socket(_) => TlsMode::Implicit,
        }
    }

    fn usual(&self) -> &'static str {
        match self.dialect {
            Dialect::Smtp => "SMTP is usually on port 25, 587 or 465",
            Dialect::Lmtp => "LMTP is usually on port 24, or at a socket",
        }
    }

    /// Asks for TLS, and gives the connection back on which the handshake is to be done.
    async fn start_tls(&self, mut dialogue: Dialogue) -> Result<Stream, TargetError> {
        if !dialogue.extensions.starttls {
            let hint =
                "write `tls: implicit` if it has a port for that; without TLS nothing is sent".to_owned();
            return Err(self.failed("server does not offer STARTTLS".into(), Some(hint)));
        }
        let reply = dialogue
            .command(Command::StartTls, dialogue.patience.command)
            .await
            .map_err(|broken| self.broken(broken))?;
        if reply.code != 220 {
            return Err(self.refused("server refused STARTTLS", &reply, Class::Target, None));
        }
        // RFC 3207, 6: what came before the handshake may be anybody's, and would be believed after it.
        dialogue.into_stream().await.map_err(|broken| {
            let what = match &broken.said {
                Some(_) => "server, or somebody between, sent something before TLS was started",
                None => "server closed the connection after STARTTLS",
            };
            self.broken(Broken { what: what.into(), ..broken })
        })
    }

    /// RFC 4954.
    async fn log_in(&self, dialogue: &mut Dialogue, user: &str, secret: &Secret) -> Result<(), TargetError> {
        let Address::Tcp { .. } = &self.server.address else { return Ok(()) };
        let names: Vec<String> = dialogue.extensions.auth.clone();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let facts = dialogue.stream().tls();
        let protection = if facts.is_some() { Protection::Protected } else { Protection::Plain };
        let exporter = facts.and_then(|facts| facts.exporter);
        let offered = Offered {
            sasl: &names,
            user: User::Absent,
            apop_stamp: false,
            tls: protection,
            client_certificate: false,
            tokens: self.tokens(),
            exporter: exporter.is_some(),
        };
        let auth = match protection {
            Protection::Protected => Auth::Auto,
            Protection::Plain | Protection::Announced if self.tokens() => Auth::List(WITH_TOKENS.to_vec()),
            Protection::Plain | Protection::Announced => Auth::List(WITHIN_THE_MACHINE.to_vec()),
        };
        let mechanism = sasl::choose(&auth, offered).map_err(|_| {
            self.failed(
                format!("server offers no way to log in that is known here ({})", listed(&names)),
                None,
            )
        })?;
        let watch = self.access.connector.watch();
        watch.saw(|| Stage::chosen(&auth, &offered, mechanism));
        let Some(name) = mechanism.sasl_name() else {
            return Err(self.failed("server offers no SASL mechanism".into(), None));
        };
        let credentials = Credentials { user, secret, exporter, plus_offered: offered.plus_offered() };
        let exchange = Exchange::new(mechanism, &credentials).map_err(|error| self.sasl(&error))?;
        auth::authenticate(&mut LogIn { connecting: self, dialogue, user, name }, name, exchange).await?;
        watch.saw(|| Stage::LoggedIn);
        Ok(())
    }

    fn tokens(&self) -> bool {
        self.server.login.as_ref().is_some_and(|login| login.credential.oauth2().is_some())
    }

    /// Says what to look at where credentials are refused with these words.
    fn check(&self, said: &[u8]) -> String {
        if let Some(meaning) = meaning(said) {
            meaning.to_owned()
        } else if self.tokens() {
            format!("run `postrider login {}` and sign in as the target's user", self.access.account)
        } else {
            "check `user` and `password` of the target".to_owned()
        }
    }

    fn failed(&self, what: String, hint: Option<String>) -> TargetError {
        let place = self.server.address.to_string();
        TargetError::Server(Box::new(ServerError { place, what, said: None, hint, class: Class::Target }))
    }

    fn refused(&self, what: &str, reply: &Reply, class: Class, hint: Option<String>) -> TargetError {
        let said = Some(format!("{} {}", reply.code, reply.text()).into_bytes());
        let (place, what) = (self.server.address.to_string(), what.to_owned());
        TargetError::Server(Box::new(ServerError { place, what, said, hint, class }))
    }

    fn broken(&self, broken: Broken) -> TargetError {
        broken.at(&self.server.address)
    }

    fn sasl(&self, error: &sasl::SaslError) -> TargetError {
        self.failed(format!("cannot log in: {error}"), error.hint())
    }

    fn net(&self, error: NetError) -> TargetError {
        self.failed(error.to_string(), error.hint_of_target())
    }
}

/// RFC 4954.
struct LogIn<'a> {
    connecting: &'a Connecting<'a>,
    dialogue: &'a mut Dialogue,
    user: &'a str,
    name: &'static str,
}

impl Carrier for LogIn<'_> {
    type Error = TargetError;

    /// RFC 5321, 4.5.3.1.4. RFC 4954, 4 lets this line be 12,288, and Dovecot's submission refuses it with a token in it.
    const LONGEST_LINE: usize = 512;

    async fn say(&mut self, line: AuthLine<'_>, _left: Left) -> Result<Answer, TargetError> {
        let patience = self.dialogue.patience.command;
        let answered = self.dialogue.command(Command::Auth(line), patience).await;
        let reply = answered.map_err(|broken| self.connecting.broken(broken))?;
        let (what, class, hint) = match reply.code {
            334 => return Ok(Answer::Challenge(reply.text().into_bytes())),
            235 => return Ok(Answer::Accepted),
            400..500 => (self.refusal(), Class::Target, None),
            500.. => {
                (self.refusal(), Class::Credentials, Some(self.connecting.check(reply.text().as_bytes())))
            }
            _ => ("server did not answer AUTH".to_owned(), Class::Target, None),
        };
        Err(self.connecting.refused(&what, &reply, class, hint))
    }

    fn failed(&self, error: SaslError) -> TargetError {
        self.connecting.sasl(&error)
    }

    fn explained(&self, refusal: TargetError, why: &TokenRefused) -> TargetError {
        refusal.because(why.to_string())
    }

    fn one_too_many(&self) -> TargetError {
        self.connecting.failed(format!("server asked for more than {} has to say", self.name), None)
    }

    fn words<'e>(&self, refusal: &'e TargetError) -> Option<&'e [u8]> {
        // The others speak of who logs in, or of the server.
        refusal.said().filter(|said| said.starts_with(b"50"))
    }
}

impl LogIn<'_> {
    fn refusal(&self) -> String {
        format!("server refused the log-in as {} ({})", self.user, self.name)
    }
}

fn hint_of(error: &std::io::Error) -> Option<String> {
    let hint = match error.kind() {
        std::io::ErrorKind::NotFound => "is the server running, and is this the path of its socket?",
        std::io::ErrorKind::ConnectionRefused => "the socket is there, and no server listens on it",
        std::io::ErrorKind::PermissionDenied => {
            "check who may write to the socket and look into the directories above it"
        }
        _ => return None,
    };
    Some(hint.to_owned())
}

fn listed(names: &[&str]) -> String {
    let names: Vec<String> = names.iter().take(32).map(|name| Shown(name.as_bytes()).to_string()).collect();
    if names.is_empty() { "no AUTH".to_owned() } else { names.join(", ") }
}

/// Names this machine for EHLO: its full name, else an address literal (RFC 5321, 4.1.4).
fn own_name() -> ClientId {
    let name = net::host_name();
    let sound = |octet: u8| octet.is_ascii_alphanumeric() || octet == b'-' || octet == b'.';
    if name.contains('.') && name.bytes().all(sound) {
        ClientId::Domain(name)
    } else {
        ClientId::Ipv4(std::net::Ipv4Addr::LOCALHOST)
    }
}
