//! The way to a server that takes messages: TCP or a Unix socket, TLS, log-in.

use std::time::Duration;

use lettre::transport::smtp::extension::ClientId;
use tokio::net::UnixStream;

use super::Protocol;
use super::dialogue::{Broken, Dialogue, NoDialogue, Patience, Reply};
use super::learned::Learned;
use super::stream::{Carrier, Failure, Greeting};
use super::transaction::Connection;
use crate::config::account::{Auth, TlsMode};
use crate::config::target::{MailServer, Place};
use crate::delivery::{Access, ServerError, TargetError};
use crate::failure::Class;
use crate::net::{Endpoint, NetError, Stream};
use crate::sasl::{self, Credentials, Exchange, Mechanism, Offered, Protection};
use crate::secret::Secret;
use crate::text::Shown;

/// Mechanisms that a log-in without TLS may use; it does not leave the machine.
const WITHIN_THE_MACHINE: [Mechanism; 4] =
    [Mechanism::ScramSha256, Mechanism::ScramSha1, Mechanism::Plain, Mechanism::Login];
/// Challenges that a server may send in one log-in.
const MOST_CHALLENGES: usize = 8;

/// Connects, and logs in if the target says so.
pub(super) async fn connect(
    server: &MailServer,
    protocol: Protocol,
    access: &Access,
    learned: &Learned,
) -> Result<Connection, TargetError> {
    let connecting = Connecting { server, protocol, access, name: own_name() };
    let mut connection = connecting.dialogue().await?;
    if let (Some(login), Some(secret)) = (&server.login, &access.secret) {
        connecting.log_in(&mut connection, &login.user, secret).await?;
    }
    Ok(Connection::new(connection.dialogue, protocol, learned.clone()))
}

/// A connection before its first message.
struct Open {
    dialogue: Dialogue,
    protection: Protection,
    exporter: Option<[u8; 32]>,
}

struct Connecting<'a> {
    server: &'a MailServer,
    protocol: Protocol,
    access: &'a Access,
    name: ClientId,
}

impl Connecting<'_> {
    async fn dialogue(&self) -> Result<Open, TargetError> {
        let timeout = self.server.timeout.unwrap_or(self.access.timeout);
        let (host, port, bind, tls) = match &self.server.place {
            Place::Socket(path) => {
                let connected = tokio::time::timeout(timeout, UnixStream::connect(path)).await;
                let stream = match connected {
                    Ok(Ok(stream)) => stream,
                    Ok(Err(error)) => {
                        return Err(self.failed(format!("cannot connect: {error}"), hint_of(&error)));
                    }
                    Err(_) => {
                        let after = humantime::format_duration(timeout);
                        return Err(
                            self.failed(format!("gave up after {after} waiting for a connection"), None)
                        );
                    }
                };
                let dialogue = self.open(Box::new(stream), Greeting::Awaited).await?;
                return Ok(Open { dialogue, protection: Protection::Plain, exporter: None });
            }
            Place::Tcp { host, port, bind, tls } => (host, *port, *bind, tls),
        };
        let endpoint =
            Endpoint { account: &self.access.account, host, port, tls, bind, connect: None, timeout };
        let net = |error| self.net(error);
        let stream = self.access.connector.connect(endpoint).await.map_err(net)?;
        match tls.mode {
            TlsMode::None => {
                let dialogue = self.open(Box::new(stream), Greeting::Awaited).await?;
                Ok(Open { dialogue, protection: Protection::Plain, exporter: None })
            }
            TlsMode::Implicit => self.protected(stream, Greeting::Awaited).await,
            TlsMode::StartTls => {
                let dialogue = self.open(Box::new(stream), Greeting::Awaited).await?;
                let stream = self.start_tls(dialogue).await?;
                let stream = self.access.connector.start_tls(stream, endpoint).await.map_err(net)?;
                self.protected(stream, Greeting::Over).await
            }
        }
    }

    async fn protected(&self, stream: Stream, greeting: Greeting) -> Result<Open, TargetError> {
        let exporter = stream.tls().and_then(|facts| facts.exporter);
        let dialogue = self.open(Box::new(stream), greeting).await?;
        Ok(Open { dialogue, protection: Protection::Protected, exporter })
    }

    async fn open(&self, carrier: Box<dyn Carrier>, greeting: Greeting) -> Result<Dialogue, TargetError> {
        let account = &self.access.account;
        let patience = Patience::new(self.server.timeout);
        match Dialogue::open(carrier, greeting, self.protocol, &self.name, account, patience).await {
            Ok(dialogue) => Ok(dialogue),
            Err(NoDialogue::Refused(command, reply)) => {
                let hint = (self.protocol == Protocol::Lmtp && reply.code == 500)
                    .then(|| "it does not speak LMTP; is it an SMTP server?".to_owned());
                Err(self.refused(
                    &format!("server refused the session ({command})"),
                    &reply,
                    Class::Target,
                    hint,
                ))
            }
            Err(NoDialogue::Broken(broken)) => Err(self.broken(broken)),
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
            .command("STARTTLS\r\n", dialogue.patience.command)
            .await
            .map_err(|broken| self.broken(broken))?;
        if reply.code != 220 {
            return Err(self.refused("server refused STARTTLS", &reply, Class::Target, None));
        }
        // RFC 3207, 6: what came before the handshake may be anybody's, and would be believed after it.
        let wire = dialogue.wire.clone();
        drop(dialogue);
        match wire.into_carrier() {
            Ok(carrier) => match carrier.into_net() {
                Some(stream) => Ok(stream),
                None => Err(self.failed("cannot start TLS on a connection of this kind".into(), None)),
            },
            Err(Failure::Early(line)) => Err(self.broken(Broken {
                what: "server, or somebody between, sent something before TLS was started".into(),
                said: Some(line),
            })),
            Err(_) => Err(self.failed("server closed the connection after STARTTLS".into(), None)),
        }
    }

    /// RFC 4954.
    async fn log_in(&self, open: &mut Open, user: &str, secret: &Secret) -> Result<(), TargetError> {
        let Place::Tcp { host, .. } = &self.server.place else { return Ok(()) };
        let names: Vec<String> = open.dialogue.extensions.auth.clone();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let offered = Offered {
            sasl: &names,
            user: false,
            apop_stamp: false,
            tls: open.protection,
            client_certificate: false,
            exporter: open.exporter.is_some(),
        };
        let auth = match open.protection {
            Protection::Protected => Auth::Auto,
            Protection::Plain => Auth::List(WITHIN_THE_MACHINE.to_vec()),
        };
        let mechanism = sasl::choose(&auth, offered).map_err(|_| {
            self.failed(
                format!("server offers no way to log in that is known here ({})", listed(&names)),
                None,
            )
        })?;
        let Some(name) = mechanism.sasl_name() else {
            return Err(self.failed("server offers no SASL mechanism".into(), None));
        };
        let exporter = open.exporter;
        let credentials = Credentials { user, secret, host, exporter, plus_offered: offered.plus_offered() };
        let mut exchange = Exchange::new(mechanism, &credentials).map_err(|error| self.sasl(&error))?;
        let mut command = match exchange.initial() {
            Some(response) => format!("AUTH {name} {}\r\n", *sasl::encode_initial(&response)),
            None => format!("AUTH {name}\r\n"),
        };
        let refused = format!("server refused the log-in as {user} ({name})");
        for _ in 0..MOST_CHALLENGES {
            let answered = open.dialogue.log_in(&command).await;
            let reply = answered.map_err(|broken| self.broken(broken))?;
            let challenge = match reply.code {
                334 => sasl::decode(reply.text.trim().as_bytes()).map_err(|error| self.sasl(&error))?,
                235 => return exchange.finish().map_err(|error| self.sasl(&error)),
                code if (400..500).contains(&code) => {
                    return Err(self.refused(&refused, &reply, Class::Target, None));
                }
                code if code >= 500 => {
                    let hint = Some("check `user` and `password` of the target".to_owned());
                    return Err(self.refused(&refused, &reply, Class::Credentials, hint));
                }
                _ => return Err(self.refused("server did not answer AUTH", &reply, Class::Target, None)),
            };
            if exchange.is_complete() {
                // A failure's details, or SCRAM's proof in a challenge of its own; an empty line has it end.
                command = "\r\n".to_owned();
                if matches!(mechanism, Mechanism::Plain | Mechanism::External) {
                    break;
                }
                continue;
            }
            // SCRAM derives a key, some milliseconds of work, off the thread that serves all accounts.
            let (back, response) = tokio::task::spawn_blocking(move || {
                let response = exchange.respond(&challenge);
                (exchange, response)
            })
            .await
            .unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()));
            exchange = back;
            let response = response.map_err(|error| self.sasl(&error))?;
            command = format!("{}\r\n", *sasl::encode(&response));
        }
        Err(self.failed(format!("server asked for more than {name} has to say"), None))
    }

    fn failed(&self, what: String, hint: Option<String>) -> TargetError {
        let place = self.server.place.to_string();
        TargetError::Server(Box::new(ServerError { place, what, said: None, hint, class: Class::Target }))
    }

    fn refused(&self, what: &str, reply: &Reply, class: Class, hint: Option<String>) -> TargetError {
        let said = Some(format!("{} {}", reply.code, reply.text).into_bytes());
        let (place, what) = (self.server.place.to_string(), what.to_owned());
        TargetError::Server(Box::new(ServerError { place, what, said, hint, class }))
    }

    fn broken(&self, broken: Broken) -> TargetError {
        super::broken(&self.server.place, broken)
    }

    fn sasl(&self, error: &sasl::SaslError) -> TargetError {
        self.failed(format!("cannot log in: {error}"), error.hint())
    }

    fn net(&self, error: NetError) -> TargetError {
        let hint = match &error {
            // The hint for maildrops names their ports.
            NetError::NotTls { mode: TlsMode::Implicit, .. } => Some(
                "this port begins without TLS: write `tls: starttls`, or give the port for TLS".to_owned(),
            ),
            other => other.hint(),
        };
        self.failed(error.to_string(), hint)
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
    let name = nix::unistd::gethostname().unwrap_or_default().to_string_lossy().into_owned();
    let sound = |octet: u8| octet.is_ascii_alphanumeric() || octet == b'-' || octet == b'.';
    if name.contains('.') && name.bytes().all(sound) {
        ClientId::Domain(name)
    } else {
        ClientId::Ipv4(std::net::Ipv4Addr::LOCALHOST)
    }
}

/// How long the goodbye may take: nothing depends on it.
pub(super) const GOODBYE: Duration = Duration::from_secs(1);
