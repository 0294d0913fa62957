//! TLS: configurations, made once and shared so that sessions are resumed, and the handshake.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use tokio::io::BufReader;
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::{Resumption, WebPkiServerVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::{Error as PemError, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, Error as TlsError, RootCertStore};

use super::error::NetError;
use super::greeting::looks_like_tls;
use super::stream::{Stream, TlsFacts};
use super::verify::Verifier;
use super::{Certificate, Deadline, Endpoint, Stage, Watch, verify};
use crate::config::account::{ClientCertificate, Tls, TlsVersion};
use crate::disk::blocking;
use crate::lock::lock;

/// Tickets that the library counts, and keeps at most, for one server.
const TICKETS: usize = 8;
/// Servers whose TLS sessions are remembered by one configuration; room for them is reserved at once.
const SERVERS: usize = 1024;
/// The same where certificates are pinned, which is done for one server or a few.
const PINNED_SERVERS: usize = 16;

/// TLS configurations by what they were made from.
///
/// Accounts with the same settings share one, and with it the parsed roots and the session cache; the library resumes
/// only sessions of the same configuration.
#[derive(Debug, Default)]
pub(super) struct Configurations {
    made: Mutex<HashMap<Settings, Arc<OnceCell<Made>>>>,
    system_roots: OnceCell<Arc<RootCertStore>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Settings {
    ca: Option<PathBuf>,
    pins: Vec<[u8; 32]>,
    client: Option<(PathBuf, PathBuf)>,
    min: TlsVersion,
}

#[derive(Debug)]
struct Made {
    /// Times and sizes of the files when they were read: a daemon must notice a renewed certificate.
    files: Vec<Option<(SystemTime, u64)>>,
    configuration: Arc<ClientConfig>,
}

impl Configurations {
    /// Gives the configuration for these settings, making it if it is not there or its files have changed.
    pub(super) async fn get(&self, tls: &Tls, patience: Duration) -> Result<Arc<ClientConfig>, NetError> {
        let settings = Settings {
            ca: tls.ca.clone(),
            pins: tls.pins.clone(),
            client: tls.client.as_ref().map(|client| (client.chain.clone(), client.key.clone())),
            min: tls.min,
        };
        let mut made = Arc::clone(lock(&self.made).entry(settings.clone()).or_default());
        if let Some(earlier) = made.get() {
            let files = settings.files();
            let Some(first) = files.first().cloned() else { return Ok(earlier.configuration.clone()) };
            if on_worker(&first, patience, move || Ok(stamps(&files))).await? == earlier.files {
                return Ok(earlier.configuration.clone());
            }
            let mut all = lock(&self.made);
            let current = all.entry(settings.clone()).or_default();
            if Arc::ptr_eq(current, &made) {
                *current = Arc::default();
            }
            made = Arc::clone(current);
        }
        let made = made.get_or_try_init(|| self.make(tls, &settings, patience)).await?;
        Ok(made.configuration.clone())
    }

    async fn make(&self, tls: &Tls, settings: &Settings, patience: Duration) -> Result<Made, NetError> {
        let trust = match &tls.ca {
            _ if !tls.pins.is_empty() => Trust::Pins(tls.pins.clone()),
            Some(path) => Trust::File(path.clone()),
            None => Trust::System(
                self.system_roots
                    .get_or_try_init(|| on_worker(Path::new(SYSTEM_ROOTS), patience, system_roots))
                    .await
                    .map(Arc::clone)?,
            ),
        };
        let (client, min) = (tls.client.clone(), tls.min);
        let about = match (&trust, &client) {
            (Trust::File(path), _) => path.clone(),
            (Trust::Pins(_) | Trust::System(_), Some(client)) => client.chain.clone(),
            (Trust::Pins(_) | Trust::System(_), None) => PathBuf::new(),
        };
        let files = settings.files();
        let make = move || {
            // What is changed while it is read is read again.
            let files = stamps(&files);
            Ok(Made { files, configuration: configuration(trust, client.as_ref(), min)? })
        };
        on_worker(&about, patience, make).await
    }
}

impl Settings {
    /// Gives the files that a configuration is made from.
    fn files(&self) -> Vec<PathBuf> {
        let client = self.client.iter().flat_map(|(chain, key)| [chain, key]);
        self.ca.iter().chain(client).cloned().collect()
    }
}

/// What makes a server's certificate acceptable.
enum Trust {
    Pins(Vec<[u8; 32]>),
    File(PathBuf),
    System(Arc<RootCertStore>),
}

/// Octets that are read from a connection at once: two TLS records.
const READ_AHEAD: usize = 32 << 10;

/// Does the handshake; `to` says which name the server must have.
pub(super) async fn handshake(
    configuration: Arc<ClientConfig>,
    mut socket: Stream,
    to: &Endpoint<'_>,
    deadline: &Deadline,
    watch: &Watch,
) -> Result<Stream, NetError> {
    let name = server_name(to)?;
    socket.remember_first();
    // The TLS library reads 4 KiB at a time: 130,000 system calls for a message of 512 MiB.
    let socket = BufReader::with_capacity(READ_AHEAD, socket);
    let shake = async {
        match TlsConnector::from(configuration).connect(name, socket).into_fallible().await {
            Ok(mut tls) => {
                tls.get_mut().0.get_mut().take_first();
                watch.saw(|| secured(tls.get_ref().1));
                Ok(Stream::protected(tls))
            }
            Err((error, mut socket)) => Err(failed(error, socket.get_mut().take_first(), to)),
        }
    };
    let late = || NetError::HandshakeTimedOut { after: deadline.patience, mode: to.tls.mode };
    deadline.wait(late, shake).await
}

fn secured(connection: &ClientConnection) -> Stage {
    let suite = connection.negotiated_cipher_suite().map(|suite| suite.suite().as_str().unwrap_or("unknown"));
    Stage::Secured {
        version: TlsFacts::version(connection),
        suite: suite.unwrap_or("unknown").to_owned(),
        certificate: connection.peer_certificates().and_then(Certificate::of).map(Box::new),
    }
}

fn failed(error: io::Error, first: Vec<u8>, to: &Endpoint<'_>) -> NetError {
    if !first.is_empty() && !looks_like_tls(&first) {
        return NetError::NotTls { sent: first, mode: to.tls.mode };
    }
    if let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref()) {
        return match verify::fault(tls) {
            Some(bad) => NetError::Certificate(Box::new(bad)),
            None => NetError::of_tls(tls),
        };
    }
    match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
            if !NetError::is_end_of_command(&error) =>
        {
            NetError::ClosedInHandshake { mode: to.tls.mode }
        }
        _ => NetError::of_traffic(error),
    }
}

fn server_name(to: &Endpoint<'_>) -> Result<ServerName<'static>, NetError> {
    let name = to.tls.server_name.as_deref().unwrap_or(to.host);
    // An IPv6 zone (fe80::1%eth0) says how to reach the address, and is in no certificate.
    let without_zone = name.split('%').next().unwrap_or(name);
    if let Ok(address) = without_zone.parse::<IpAddr>() {
        return Ok(ServerName::IpAddress(address.into()));
    }
    ServerName::try_from(name.to_owned()).map_err(|_| NetError::ServerName { name: name.to_owned() })
}

const SYSTEM_ROOTS: &str = "the system's trusted certificates";

/// Reads and parses on a thread that may block.
async fn on_worker<T: Send + 'static>(
    about: &Path,
    patience: Duration,
    work: impl FnOnce() -> Result<T, NetError> + Send + 'static,
) -> Result<T, NetError> {
    let unusable = |why: io::Error| NetError::Configuration { what: format!("{}: {why}", about.display()) };
    blocking::ask(about, patience, work).await.map_err(unusable)?
}

fn system_roots() -> Result<Arc<RootCertStore>, NetError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // One certificate that cannot be read must not keep the others from being trusted.
    roots.add_parsable_certificates(found.certs);
    for error in &found.errors {
        log::debug!("system's trusted certificates: {error}");
    }
    if roots.is_empty() {
        let why = found.errors.first().map_or_else(|| "none found".to_owned(), ToString::to_string);
        return Err(NetError::NoRoots { why });
    }
    Ok(Arc::new(roots))
}

fn configuration(
    trust: Trust,
    client: Option<&ClientCertificate>,
    min: TlsVersion,
) -> Result<Arc<ClientConfig>, NetError> {
    // Named, because the library's own choice panics when a build links a second provider.
    let provider = Arc::new(ring::default_provider());
    let versions: &[_] = match min {
        TlsVersion::Tls12 => &[&TLS13, &TLS12],
        TlsVersion::Tls13 => &[&TLS13],
    };
    let unusable = |error: TlsError| NetError::Configuration { what: error.to_string() };
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .map_err(unusable)?
        .dangerous();
    let servers = match trust {
        Trust::Pins(_) => PINNED_SERVERS,
        Trust::File(_) | Trust::System(_) => SERVERS,
    };
    let algorithms = provider.signature_verification_algorithms;
    let trust = match trust {
        Trust::Pins(pins) => verify::Trust::Pins(pins),
        Trust::File(path) => {
            let (roots, own) = own_roots(&path)?;
            chain(roots, own, provider)?
        }
        Trust::System(roots) => chain(roots, Vec::new(), provider)?,
    };
    let builder = builder.with_custom_certificate_verifier(Arc::new(Verifier { trust, algorithms }));
    let mut configuration = match client {
        None => builder.with_no_client_auth(),
        Some(client) => {
            let (chain, key) = client_certificate(client)?;
            builder.with_client_auth_cert(chain, key).map_err(|error| NetError::ClientCertificate {
                path: client.chain.clone(),
                what: error.to_string(),
            })?
        }
    };
    configuration.resumption = Resumption::in_memory_sessions(servers * TICKETS);
    Ok(Arc::new(configuration))
}

fn chain(
    roots: Arc<RootCertStore>,
    own: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
) -> Result<verify::Trust, NetError> {
    WebPkiServerVerifier::builder_with_provider(roots, provider)
        .build()
        .map(|library| verify::Trust::Chain { library, own })
        .map_err(|error| NetError::Configuration { what: error.to_string() })
}

fn own_roots(path: &Path) -> Result<(Arc<RootCertStore>, Vec<CertificateDer<'static>>), NetError> {
    let bad = |what| NetError::CaFile { path: path.to_owned(), what };
    let certificates = certificates(path).map_err(bad)?;
    let mut roots = RootCertStore::empty();
    for (index, certificate) in certificates.iter().enumerate() {
        roots
            .add(certificate.clone())
            .map_err(|error| bad(format!("its certificate number {} is unusable: {error}", index + 1)))?;
    }
    Ok((Arc::new(roots), certificates))
}

fn client_certificate(
    client: &ClientCertificate,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), NetError> {
    let bad = |path: &Path, what| NetError::ClientCertificate { path: path.to_owned(), what };
    let chain = certificates(&client.chain).map_err(|what| bad(&client.chain, what))?;
    let key = PrivateKeyDer::from_pem_file(&client.key).map_err(|error| {
        let what = match error {
            // An encrypted key is in a section of another name.
            PemError::NoItemsFound => "there is no unencrypted private key in it (PEM)".to_owned(),
            other => pem_fault(&other),
        };
        bad(&client.key, what)
    })?;
    Ok((chain, key))
}

/// Reads a PEM file's certificates, at least one; the error completes "cannot use FILE: ...".
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(certificates) if certificates.is_empty() => Err("there is no certificate in it (PEM)".to_owned()),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(pem_fault(&error)),
    }
}

fn pem_fault(error: &PemError) -> String {
    match error {
        PemError::Io(source) => source.to_string(),
        PemError::NoItemsFound => "there is no certificate in it (PEM)".to_owned(),
        other => format!("it is damaged ({other})"),
    }
}

/// Looks at the files of a configuration.
fn stamps(files: &[PathBuf]) -> Vec<Option<(SystemTime, u64)>> {
    files.iter().map(|path| stamp(path)).collect()
}

fn stamp(path: &Path) -> Option<(SystemTime, u64)> {
    // A file that cannot be looked at is reported when it is read.
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}
