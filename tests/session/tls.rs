//! TLS: what is accepted, what is refused, and in which words.

mod certificates;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use postrider::testing::config::{Account, ClientCertificate, CommandLine, TlsMode, TlsVersion};
use postrider::testing::failure::Class;
use postrider::testing::net::{CertificateFault, Connector, NetError, Stream, pin};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{HandshakeKind, RootCertStore, ServerConfig, SupportedProtocolVersion};

use crate::support::poller::Poller;

type Ca = CertifiedIssuer<'static, KeyPair>;

fn ca(name: &str) -> Ca {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate with its key.
struct Identity {
    chain: Vec<CertificateDer<'static>>,
    pem: String,
    key: KeyPair,
}

impl Identity {
    fn of(ca: &Ca, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let (params, key) = params(change);
        let certificate = params.signed_by(&key, ca).unwrap();
        Self { chain: vec![certificate.der().clone()], pem: certificate.pem(), key }
    }

    fn self_signed(change: impl FnOnce(&mut CertificateParams)) -> Self {
        let (params, key) = params(change);
        let certificate = params.self_signed(&key).unwrap();
        Self { chain: vec![certificate.der().clone()], pem: certificate.pem(), key }
    }

    fn fingerprint(&self) -> [u8; 32] {
        Sha256::digest(&self.chain[0]).into()
    }
}

/// A server's certificate for `localhost` and 127.0.0.1, as changed.
fn params(change: impl FnOnce(&mut CertificateParams)) -> (CertificateParams, KeyPair) {
    let mut params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, "the server");
    change(&mut params);
    (params, KeyPair::generate().unwrap())
}

const BOTH: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];

fn configuration(
    identity: &Identity,
    versions: &[&'static SupportedProtocolVersion],
    clients: Option<&Ca>,
) -> ServerConfig {
    let provider = Arc::new(ring::default_provider());
    let builder =
        ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(versions).unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(ca) => {
            let mut roots = RootCertStore::empty();
            roots.add(ca.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let key = PrivateKeyDer::try_from(identity.key.serialize_der()).unwrap();
    builder.with_single_cert(identity.chain.clone(), key).unwrap()
}

/// What the server saw of a handshake.
#[derive(Debug)]
struct Seen {
    kind: HandshakeKind,
    exporter: [u8; 32],
    sni: Option<String>,
}

/// How the server ends a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    WithCloseNotify,
    Unclean,
}

/// Serves TLS until the test is over: greets, and ends the connection after one line.
async fn serve(configuration: ServerConfig, end: End) -> (SocketAddr, mpsc::UnboundedReceiver<Seen>) {
    let acceptor = TlsAcceptor::from(Arc::new(configuration));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (seen, sights) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let (acceptor, seen) = (acceptor.clone(), seen.clone());
            tokio::spawn(async move {
                let mut socket = socket;
                let mut first = [0; 1];
                if socket.peek(&mut first).await.is_ok() && first[0] == b'S' {
                    let mut stls = [0; 6];
                    socket.read_exact(&mut stls).await.unwrap();
                    socket.write_all(b"+OK begin\r\n").await.unwrap();
                }
                // Clients that refuse the certificate end it here.
                let Ok(mut tls) = acceptor.accept(socket).await else { return };
                let connection = tls.get_ref().1;
                let exporter = connection
                    .export_keying_material([0; 32], b"EXPORTER-Channel-Binding", None)
                    .unwrap_or_default();
                let kind = connection.handshake_kind().unwrap();
                let sni = connection.server_name().map(ToOwned::to_owned);
                let _ = seen.send(Seen { kind, exporter, sni });
                let _ = tls.write_all(b"+OK\r\n").await;
                let _ = tls.flush().await;
                let _ = tls.read_u8().await;
                if end == End::WithCloseNotify {
                    let _ = tls.shutdown().await;
                }
            });
        }
    });
    (address, sights)
}

/// A server that sends these octets as soon as it was connected to, and then waits or closes.
async fn lie(octets: &'static [u8], then_close: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                // A client that has gone already is no matter.
                let _ = socket.write_all(octets).await;
                // The ClientHello is read, so that the close is no reset.
                let mut hello = [0; 4096];
                let _ = socket.read(&mut hello).await;
                if !then_close {
                    while socket.read(&mut hello).await.is_ok_and(|count| count > 0) {}
                }
            });
        }
    });
    address
}

/// An account with `tls: implicit` that reaches the server as `localhost`.
fn account(server: SocketAddr) -> Account {
    let mut account = crate::account::plain("localhost", server.port());
    account.tls.mode = TlsMode::Implicit;
    account
}

struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

/// An account that trusts this CA, and the directory its file is in.
fn trusting(server: SocketAddr, ca: &Ca) -> (Account, Files) {
    let files = Files::new();
    let mut account = account(server);
    account.tls.ca = Some(files.write("ca.pem", &ca.pem()));
    (account, files)
}

async fn greeted(mut stream: Stream) -> Stream {
    let mut greeting = [0; 5];
    stream.read_exact(&mut greeting).await.unwrap();
    assert_eq!(&greeting, b"+OK\r\n");
    stream
}

async fn connect(account: &Account) -> Result<Stream, NetError> {
    Connector::default().connect(account).await
}

/// What was wrong with the certificate; checks that text and hint hold the pin that would accept it.
async fn refused(account: &Account, identity: &Identity) -> CertificateFault {
    let error = connect(account).await.unwrap_err();
    let wanted = pin(&identity.fingerprint());
    assert!(error.to_string().contains(&wanted), "{error}");
    assert!(
        error.hint().is_some_and(|hint| hint.contains(&format!("`tls_pin: {wanted}`"))),
        "{:?}",
        error.hint()
    );
    assert_eq!((error.class(), error.doing().as_str()), (Class::Tls, "negotiate TLS"));
    match error {
        NetError::Certificate(bad) => bad.fault,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_server_that_tls_ca_vouches_for_is_accepted() {
    let ca = ca("CA");
    let identity = Identity::of(&ca, |_| ());
    let (server, mut seen) = serve(configuration(&identity, BOTH, None), End::WithCloseNotify).await;
    let (mut account, _files) = trusting(server, &ca);
    let stream = greeted(connect(&account).await.unwrap()).await;
    let facts = stream.tls().unwrap();
    assert_eq!((facts.version.as_str(), facts.fingerprint), ("TLSv1.3", Some(identity.fingerprint())));
    assert_eq!(seen.recv().await.unwrap().sni.as_deref(), Some("localhost"));

    account.host = "127.0.0.1".into();
    greeted(connect(&account).await.unwrap()).await;
    assert_eq!(seen.recv().await.unwrap().sni, None, "an address is no SNI");
}

#[tokio::test]
async fn a_channel_can_be_bound_to_by_what_both_ends_export() {
    let ca = ca("CA");
    let identity = Identity::of(&ca, |_| ());
    let (server, mut seen) = serve(configuration(&identity, BOTH, None), End::WithCloseNotify).await;
    let (account, _files) = trusting(server, &ca);
    let stream = greeted(connect(&account).await.unwrap()).await;
    assert_eq!(stream.tls().unwrap().exporter, Some(seen.recv().await.unwrap().exporter));
}

#[tokio::test]
async fn tls_1_2_is_accepted_unless_tls_min_forbids_it() {
    let ca = ca("CA");
    let identity = Identity::of(&ca, |_| ());
    let (server, _seen) = serve(configuration(&identity, &[&TLS12], None), End::WithCloseNotify).await;
    let (mut account, _files) = trusting(server, &ca);
    let stream = greeted(connect(&account).await.unwrap()).await;
    let facts = stream.tls().unwrap();
    assert_eq!((facts.version.as_str(), facts.exporter), ("TLSv1.2", None));

    account.tls.min = TlsVersion::Tls13;
    let error = connect(&account).await.unwrap_err();
    assert!(matches!(error, NetError::OldTls { .. }), "{error:?}");
    assert!(error.hint().is_some_and(|hint| hint.contains("TLS is too old")));
}

#[tokio::test]
async fn a_server_of_old_tls_is_told_from_other_trouble() {
    // A fatal alert: protocol_version; and a ServerHello of TLS 1.0 with TLS_RSA_WITH_AES_128_CBC_SHA.
    const ALERT: &[u8] = &[0x15, 3, 1, 0, 2, 2, 70];
    const HELLO: &[u8] = &[
        0x16, 3, 1, 0, 42, 2, 0, 0, 38, 3, 1, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9,
        9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 0, 0, 0x2f, 0,
    ];
    for octets in [ALERT, HELLO] {
        let error = connect(&account(lie(octets, false).await)).await.unwrap_err();
        assert!(matches!(error, NetError::OldTls { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_server_that_wants_a_client_certificate_is_told_and_gets_the_configured_one() {
    let (ca, clients) = (ca("CA"), ca("clients"));
    let identity = Identity::of(&ca, |_| ());
    let client = Identity::of(&clients, |_| ());
    for versions in [BOTH, &[&TLS12]] {
        let (server, _seen) =
            serve(configuration(&identity, versions, Some(&clients)), End::WithCloseNotify).await;
        let (mut account, files) = trusting(server, &ca);
        // With TLS 1.3 the refusal comes when the client's side of the handshake is over.
        let error = match connect(&account).await {
            Ok(mut stream) => NetError::of_traffic(stream.read_u8().await.unwrap_err()),
            Err(error) => error,
        };
        assert!(error.hint().is_some_and(|hint| hint.contains("`tls_client_cert`")), "{error:?}");
        assert_eq!(error.class(), Class::Tls);

        account.tls.client = Some(ClientCertificate {
            chain: files.write("client.pem", &client.pem),
            key: files.write("client.key", &client.key.serialize_pem()),
        });
        greeted(connect(&account).await.unwrap()).await;
    }
}

#[tokio::test]
async fn unusable_files_are_told_with_what_is_wrong() {
    let files = Files::new();
    let mut account = account(lie(b"", false).await);
    for (text, expected) in [
        ("nonsense", "there is no certificate in it"),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "certificate number 1 is unusable",
        ),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n", "damaged"),
    ] {
        account.tls.ca = Some(files.write("ca.pem", text));
        let error = connect(&account).await.unwrap_err();
        assert!(matches!(error, NetError::CaFile { .. }), "{error:?}");
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!((error.class(), error.doing().as_str()), (Class::Tls, "set up TLS"));
    }
    account.tls.ca = Some("/no/such/file.pem".into());
    let error = connect(&account).await.unwrap_err();
    assert!(error.to_string().contains("/no/such/file.pem: "), "{error}");

    let (one, other) = (Identity::self_signed(|_| ()), Identity::self_signed(|_| ()));
    account.tls.ca = Some(files.write("ca.pem", &one.pem));
    let chain = files.write("client.pem", &one.pem);
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    for (key, expected) in
        [(encrypted.to_owned(), "no unencrypted private key"), (other.key.serialize_pem(), "client.pem")]
    {
        account.tls.client =
            Some(ClientCertificate { chain: chain.clone(), key: files.write("client.key", &key) });
        let error = connect(&account).await.unwrap_err();
        assert!(matches!(error, NetError::ClientCertificate { .. }), "{error:?}");
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[tokio::test]
async fn a_changed_file_is_read_again() {
    let ca = ca("CA");
    let identity = Identity::of(&ca, |_| ());
    let (server, _seen) = serve(configuration(&identity, BOTH, None), End::WithCloseNotify).await;
    let (account, files) = trusting(server, &self::ca("another, with a longer name"));
    let connector = Connector::default();
    assert!(connector.connect(&account).await.is_err());
    files.write("ca.pem", &ca.pem());
    greeted(connector.connect(&account).await.unwrap()).await;
}

#[tokio::test]
async fn a_server_that_speaks_plain_text_is_told_with_what_it_said() {
    for octets in [b"+OK \x1bready\r\n".as_slice(), b"-E\r\n"] {
        let error = connect(&account(lie(octets, true).await)).await.unwrap_err();
        assert!(matches!(error, NetError::NotTls { .. }), "{error:?}");
        assert!(error.hint().is_some_and(|hint| hint.contains("`tls: starttls`")));
        assert!(!error.to_string().contains('\x1b'), "{error}");
    }
}

#[tokio::test]
async fn a_server_that_closes_during_the_handshake_is_told() {
    let error = connect(&account(lie(b"", true).await)).await.unwrap_err();
    assert!(matches!(error, NetError::ClosedInHandshake { .. }), "{error:?}");
    assert_eq!(error.class(), Class::Tls);
}

#[tokio::test]
async fn a_silent_server_is_given_up_after_the_timeout() {
    let mut account = account(lie(b"", false).await);
    account.timeout = Duration::from_millis(200);
    let error = connect(&account).await.unwrap_err();
    assert_eq!(error.to_string(), "gave up after 200ms waiting for the TLS handshake");
    assert_eq!(error.class(), Class::Network);
}

#[tokio::test]
async fn a_session_is_resumed_by_the_same_settings_only() {
    let ca = ca("CA");
    let identity = Identity::of(&ca, |_| ());
    for versions in [BOTH, &[&TLS12]] {
        let (server, mut seen) = serve(configuration(&identity, versions, None), End::WithCloseNotify).await;
        let (mut account, _files) = trusting(server, &ca);
        let connector = Connector::default();
        greeted(connector.connect(&account).await.unwrap()).await;
        assert_eq!(seen.recv().await.unwrap().kind, HandshakeKind::Full);
        let resumed = greeted(connector.clone().connect(&account).await.unwrap()).await;
        assert_eq!(seen.recv().await.unwrap().kind, HandshakeKind::Resumed);
        assert_eq!(resumed.tls().unwrap().fingerprint, Some(identity.fingerprint()));

        // What was accepted under other rules must not get by these.
        account.tls.pins = vec![[7; 32]];
        assert!(connector.connect(&account).await.is_err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_resumed_from_one_poll_to_the_next() {
    let ca = ca("CA");
    let identity = Identity::of(&ca, |_| ());
    let (server, mut seen) = serve(configuration(&identity, BOTH, None), End::WithCloseNotify).await;
    let polls = tokio::task::spawn_blocking(move || {
        let poller = Poller::new(server.port(), "tls_ca: {}/ca.pem");
        poller.write("ca.pem", &ca.pem());
        // It greets, and ends at what is asked next.
        (0..2).for_each(|_| assert!(poller.poll().failure.is_some()));
    });
    polls.await.unwrap();
    let mut kinds = Vec::new();
    while let Ok(Seen { kind, .. }) = seen.try_recv() {
        kinds.push(kind);
    }
    assert_eq!(kinds[0], HandshakeKind::Full);
    assert!(kinds.len() > 1 && kinds[1..].iter().all(|kind| *kind == HandshakeKind::Resumed), "{kinds:?}");
}

#[tokio::test]
async fn an_end_without_close_notify_is_an_error_and_one_with_it_is_not() {
    let ca = ca("CA");
    let identity = Identity::of(&ca, |_| ());
    for (versions, end) in [
        (BOTH, End::WithCloseNotify),
        (BOTH, End::Unclean),
        (&[&TLS12], End::WithCloseNotify),
        (&[&TLS12], End::Unclean),
    ] {
        let (server, _seen) = serve(configuration(&identity, versions, None), end).await;
        let (account, _files) = trusting(server, &ca);
        let mut stream = greeted(connect(&account).await.unwrap()).await;
        stream.write_all(b"Q").await.unwrap();
        stream.flush().await.unwrap();
        let mut rest = [0; 8];
        let read = stream.read(&mut rest).await;
        match end {
            End::WithCloseNotify => assert_eq!(read.unwrap(), 0),
            End::Unclean => {
                let error = read.unwrap_err();
                assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
                assert!(NetError::of_traffic(error).to_string().contains("cut it off"));
                // And again: a reader that asks once more must not get an endless stream of nothing.
                assert!(matches!(stream.read(&mut rest).await, Err(_) | Ok(0)));
            }
        }
    }
}

#[tokio::test]
async fn stls_protects_a_plain_connection_once() {
    let ca = ca("CA");
    let identity = Identity::of(&ca, |_| ());
    let (server, mut seen) = serve(configuration(&identity, BOTH, None), End::WithCloseNotify).await;
    let (mut account, _files) = trusting(server, &ca);
    account.tls.mode = TlsMode::StartTls;
    let connector = Connector::default();
    let mut stream = connector.connect(&account).await.unwrap();
    assert_eq!(stream.tls(), None);
    stream.write_all(b"STLS\r\n").await.unwrap();
    let mut reply = [0; 11];
    stream.read_exact(&mut reply).await.unwrap();
    let stream = greeted(connector.start_tls(stream, &account).await.unwrap()).await;
    assert_eq!(stream.tls().unwrap().version, "TLSv1.3");
    assert_eq!(seen.recv().await.unwrap().sni.as_deref(), Some("localhost"));
    let twice = connector.start_tls(stream, &account).await.unwrap_err();
    assert!(matches!(twice, NetError::AlreadyProtected));
}

#[tokio::test]
async fn tls_goes_over_a_command_too() {
    let ca = ca("CA");
    let identity = Identity::of(&ca, |_| ());
    let (server, _seen) = serve(configuration(&identity, BOTH, None), End::WithCloseNotify).await;
    let (mut account, _files) = trusting(server, &ca);
    let script = format!("exec 3<>/dev/tcp/127.0.0.1/{}; cat <&3 & exec cat >&3", server.port());
    account.connect = Some(CommandLine::Argv(vec!["bash".into(), "-c".into(), script]));
    let mut stream = greeted(connect(&account).await.unwrap()).await;
    stream.write_all(b"Q").await.unwrap();
    stream.flush().await.unwrap();
    assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);

    account.connect = Some(CommandLine::Shell("echo 'no way' >&2".into()));
    let error = connect(&account).await.unwrap_err();
    assert!(error.to_string().ends_with("ended: no way"), "{error}");
}

#[tokio::test]
async fn tls_where_a_greeting_is_expected_is_recognised() {
    let ca = ca("CA");
    let identity = Identity::of(&ca, |_| ());
    let (server, _seen) = serve(configuration(&identity, BOTH, None), End::WithCloseNotify).await;
    // An old client's command on a port for TLS: the server answers with an alert.
    let mut socket = TcpStream::connect(server).await.unwrap();
    socket.write_all(b"CAPA\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer).await;
    assert!(postrider::testing::net::looks_like_tls(&answer), "{answer:?}");
}
