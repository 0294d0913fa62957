//! Connections to the database, and statements on them.

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::sync::Mutex;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row, SimpleQueryMessage};

use super::error::is_contended;
use super::prepare::{Known, Purpose, VERSIONS, judged, prepare};
use super::tries::{TRIES, pause};
use crate::clock::{Remote, WallClock, since_boot};
use crate::config::account::TlsMode;
use crate::config::{Postgres, Reach};
use crate::net::{Connector, Endpoint, NetError, Stream};
use crate::secret::Secret;
use crate::state::{StateError, Trouble};

/// A parameter and its type. Types that are told are not guessed by the server from where the parameter stands.
pub type Param<'a> = (&'a (dyn ToSql + Sync), Type);

/// Gives the time of day of the database, in microseconds since 1970.
pub const TIME: &str = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint";

/// Begins a transaction. What is held by a process that stops in the middle of one is let go by the server: rows that it
/// has locked are waited for by whoever takes over.
pub const BEGIN: &str = "BEGIN; SET LOCAL idle_in_transaction_session_timeout = 10000";

/// Where the database is, and what it takes to get in.
#[derive(Debug, Clone)]
pub struct Server {
    postgres: Arc<Postgres>,
    password: Option<Secret>,
    connector: Connector,
    purpose: Purpose,
    known: Known,
    /// The time of day there.
    clock: Arc<Remote>,
    /// Statements and transactions are refused at random.
    #[cfg(test)]
    is_disturbed: bool,
}

impl Server {
    /// `password` is what `postgres.password` has led to.
    pub fn new(postgres: Postgres, password: Option<Secret>) -> Self {
        Self {
            postgres: Arc::new(postgres),
            password,
            connector: Connector::default(),
            purpose: Purpose::Records,
            known: Known::OURS,
            clock: Arc::default(),
            #[cfg(test)]
            is_disturbed: false,
        }
    }

    /// Gives the same for another purpose than recording.
    pub fn used_for(self, purpose: Purpose) -> Self {
        Self { purpose, ..self }
    }

    #[cfg(test)]
    pub fn knowing(self, known: Known) -> Self {
        Self { known, ..self }
    }

    #[cfg(test)]
    pub fn disturbed(self) -> Self {
        Self { is_disturbed: true, ..self }
    }

    /// Gives a statement that the server refuses as it does for others' sake, now and then.
    #[cfg(test)]
    pub(super) fn refusal(&self) -> Option<&'static str> {
        let chance = getrandom::u32().unwrap();
        (self.is_disturbed && chance.is_multiple_of(5)).then_some(match chance.is_multiple_of(2) {
            true => "DO $do$ BEGIN RAISE EXCEPTION 'disturbed' USING ERRCODE = '40001'; END $do$",
            false => "DO $do$ BEGIN RAISE EXCEPTION 'disturbed' USING ERRCODE = '40P01'; END $do$",
        })
    }

    /// Gives the database's time of day, which is that of all who share it; this machine's until it was read.
    pub fn clock(&self) -> WallClock {
        WallClock::Remote(self.clock.clone())
    }

    /// Names the database for people.
    pub fn place(&self) -> String {
        let server = &self.postgres.server;
        let hosts = server.get_hosts().iter().enumerate().map(|(index, host)| match host {
            Host::Tcp(name) => format!("{name}:{}", self.port(index)),
            Host::Unix(directory) => directory.display().to_string(),
        });
        let database = server.get_dbname().or(server.get_user()).unwrap_or_default();
        format!("{database} at {}", hosts.collect::<Vec<_>>().join(", "))
    }

    /// Gives where it is, as it is written.
    pub fn url(&self) -> &str {
        &self.postgres.url
    }

    /// Gives the longest wait for one answer.
    pub fn patience(&self) -> Duration {
        self.postgres.timeout
    }

    /// Connects to the first of the hosts that takes writes, and makes the tables if there are none; the connection lives in a task of its own.
    ///
    /// # Errors
    ///
    /// Why the last one cannot be used, or the first that did not just fail to answer.
    pub async fn connect(&self) -> Result<Client, StateError> {
        let mut told = None;
        for index in 0..self.postgres.server.get_hosts().len() {
            let opened = tokio::time::timeout(self.patience(), self.open(index));
            match opened.await.unwrap_or_else(|_| Err(StateError::no_answer(&self.place(), self.patience())))
            {
                Ok(client) => return Ok(client),
                Err(error) => {
                    let is_vague = matches!(
                        error,
                        StateError::Database { trouble: Trouble::Unreachable | Trouble::Silent, .. }
                    );
                    if told.is_none() || !is_vague {
                        told = Some(error);
                    }
                }
            }
        }
        Err(told.unwrap_or_else(|| {
            StateError::of_database(&self.place(), Trouble::Unreachable, "no host is named")
        }))
    }

    async fn open(&self, index: usize) -> Result<Client, StateError> {
        let (place, port) = (self.place(), self.port(index));
        let failed = |error: tokio_postgres::Error| StateError::of_postgres(&error, &place);
        let unreached = |what: String| StateError::of_database(&place, Trouble::Unreachable, what);
        let mut server = self.postgres.server.clone();
        server.ssl_mode(match self.postgres.tls.mode {
            TlsMode::None => SslMode::Disable,
            TlsMode::StartTls | TlsMode::Implicit => SslMode::Require,
        });
        server.application_name(concat!("postrider ", env!("CARGO_PKG_VERSION")));
        if let Some(password) = &self.password {
            server.password(password.reveal());
        }
        let (host, stream) = match &self.postgres.server.get_hosts()[index] {
            Host::Tcp(name) => {
                let stream = self.connector.connect(self.endpoint(name, port)).await;
                (name.as_str(), stream.map_err(|error| unreached(error.to_string()))?)
            }
            Host::Unix(directory) => {
                server.ssl_mode(SslMode::Disable);
                ("localhost", unix(directory, port).await.map_err(unreached)?)
            }
        };
        let tls = StartTls { server: self.clone(), host: host.to_owned(), port };
        let (client, connection) =
            server.connect_raw(stream, tls).await.map_err(|error| StateError::of_log_in(&error, &place))?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                log::debug!("the connection to the database has ended: {error}");
            }
        });
        // A standby takes nothing, and a server can be set so; a pooler by transactions lets this through.
        let (asked, greeting) = (since_boot(), format!("SHOW transaction_read_only; SELECT {TIME}"));
        let answer = client.simple_query(&greeting).await.map_err(failed)?;
        let mut shown = answer.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        });
        let (read_only, time) = (shown.next(), shown.next());
        if let Some(micros) = time.and_then(|micros| micros.parse().ok()) {
            self.clock.note(asked, micros);
        }
        if read_only == Some("on") {
            let what = "it takes no writes: it is a standby, or set so";
            return Err(StateError::of_database(&place, Trouble::ReadOnly, what));
        }
        prepare(&client, &place, (self.known, self.purpose)).await?;
        Ok(client)
    }

    fn port(&self, index: usize) -> u16 {
        // One port for all, or one each.
        let ports = self.postgres.server.get_ports();
        ports.get(index).or(ports.first()).copied().unwrap_or(5432)
    }

    fn endpoint<'a>(&'a self, host: &'a str, port: u16) -> Endpoint<'a> {
        Endpoint {
            account: "state",
            host,
            port,
            tls: &self.postgres.tls,
            reach: &Reach::Anywhere,
            bind: None,
            proxy: None,
            connect: None,
            timeout: self.patience(),
        }
    }
}

async fn unix(directory: &Path, port: u16) -> Result<Stream, String> {
    let socket = directory.join(format!(".s.PGSQL.{port}"));
    let stream = UnixStream::connect(&socket).await;
    stream.map(Stream::plain).map_err(|error| format!("cannot connect to {}: {error}", socket.display()))
}

/// Does the TLS handshake once the server has agreed to it.
struct StartTls {
    server: Server,
    host: String,
    port: u16,
}

impl TlsConnect<Stream> for StartTls {
    type Stream = Stream;
    type Error = NetError;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, NetError>> + Send>>;

    fn connect(self, stream: Stream) -> Self::Future {
        Box::pin(async move {
            let Self { server, host, port } = self;
            server.connector.start_tls(stream, server.endpoint(&host, port)).await
        })
    }
}

impl TlsStream for Stream {
    fn channel_binding(&self) -> ChannelBinding {
        // `tls-server-end-point` binds to a certificate, which TLS verifies already.
        ChannelBinding::none()
    }
}

/// A database that tasks share: the statements of all of them go out on one connection, one behind the other without
/// waiting. It is made when it is needed, and made anew when it is lost. Cheap to clone.
#[derive(Clone)]
pub struct Database {
    server: Server,
    client: Arc<Mutex<Option<Arc<Client>>>>,
}

impl Database {
    pub fn new(server: Server) -> Self {
        Self { server, client: Arc::default() }
    }

    /// Names the database for people.
    pub fn place(&self) -> String {
        self.server.place()
    }

    /// Gives its time of day.
    pub fn clock(&self) -> WallClock {
        self.server.clock()
    }

    /// Takes note of its time of day, [`TIME`], which was asked for at `asked`, by [`since_boot`].
    pub fn note_time(&self, asked: Duration, micros: i64) {
        self.server.clock.note(asked, micros);
    }

    /// Gives the version of the tables that this program knows.
    pub fn version(&self) -> i64 {
        self.server.known.version()
    }

    /// Looks whether this program may use the tables still.
    ///
    /// # Errors
    ///
    /// A newer version has taken away what it needs; a state is being copied into them; or they cannot be looked at.
    pub async fn may_be_used(&self) -> Result<(), StateError> {
        let rows = self.query(VERSIONS, &[]).await?;
        judged(&rows, &self.place(), (self.server.known, self.server.purpose)).map(drop)
    }

    /// Executes one statement, which is a transaction by itself, and gives its rows. It is tried again where others'
    /// transactions came between, and where the connection was gone before it was sent.
    ///
    /// # Errors
    ///
    /// `Lost` and `Silent` leave open whether it was executed.
    pub async fn query(&self, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>, StateError> {
        for attempt in 1.. {
            let client = usable(&mut *self.client.lock().await, &self.server).await?;
            let answer = client.query_typed(sql, params);
            #[cfg(test)]
            let answer = match self.server.refusal() {
                Some(refusal) => client.query_typed(refusal, &[]),
                None => answer,
            };
            match self.answer(answer).await? {
                Err(error) if is_contended(&error) && attempt < TRIES => pause(attempt).await,
                outcome => return outcome.map_err(|error| self.failed(&error)),
            }
        }
        unreachable!("the last try returns")
    }

    /// Waits for an answer as long as one may take.
    async fn answer<T>(&self, answer: impl Future<Output = T>) -> Result<T, StateError> {
        let patience = self.server.patience();
        let answered = tokio::time::timeout(patience, answer).await;
        answered.map_err(|_| StateError::no_answer(&self.place(), patience))
    }

    fn failed(&self, error: &tokio_postgres::Error) -> StateError {
        StateError::of_postgres(error, &self.place())
    }
}

/// A statement that is on its way.
pub enum Sent<'a, T> {
    Answered(T),
    Awaited(Pin<Box<dyn Future<Output = T> + Send + 'a>>),
}

impl<'a, T> Sent<'a, T> {
    /// Sends it: the client does so when its future is looked at for the first time.
    pub fn now(statement: impl Future<Output = T> + Send + 'a) -> Self {
        let mut statement = Box::pin(statement);
        match statement.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(answer) => Self::Answered(answer),
            Poll::Pending => Self::Awaited(statement),
        }
    }

    pub async fn answer(self) -> T {
        match self {
            Self::Answered(answer) => answer,
            Self::Awaited(statement) => statement.await,
        }
    }
}

/// Gives the connection that is there, or makes one.
pub async fn usable(slot: &mut Option<Arc<Client>>, server: &Server) -> Result<Arc<Client>, StateError> {
    if let Some(client) = slot.as_ref().filter(|client| !client.is_closed()) {
        return Ok(client.clone());
    }
    let client = Arc::new(server.connect().await?);
    *slot = Some(client.clone());
    Ok(client)
}
