//! TLS: what is accepted, what is refused, and in which words.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use postrider::testing::config::{Account, ClientCertificate, CommandLine, TlsMode, TlsVersion};
use postrider::testing::failure::Class;
use postrider::testing::net::{CertificateFault, Connector, NetError, Stream, pin};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use tokio_rustls::rustls::sign::CertifiedKey;
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
async fn a_self_signed_certificate_is_told_and_the_pin_in_the_message_accepts_it() {
    for is_ca in [IsCa::NoCa, IsCa::ExplicitNoCa, IsCa::Ca(BasicConstraints::Unconstrained)] {
        let identity = Identity::self_signed(|params| params.is_ca = is_ca);
        let (server, _seen) = serve(configuration(&identity, BOTH, None), End::WithCloseNotify).await;
        let (mut account, _files) = trusting(server, &ca("another"));
        assert_eq!(refused(&account, &identity).await, CertificateFault::SelfSigned);

        account.tls.pins = vec![[0; 32], identity.fingerprint()];
        // A pin replaces chain and name checks.
        account.tls.server_name = Some("elsewhere.example.org".into());
        greeted(connect(&account).await.unwrap()).await;
    }
}

#[tokio::test]
async fn a_self_signed_certificate_in_tls_ca_is_accepted_for_its_name_and_time() {
    for is_ca in [IsCa::ExplicitNoCa, IsCa::Ca(BasicConstraints::Unconstrained)] {
        let files = Files::new();
        let identity = Identity::self_signed(|params| params.is_ca = is_ca);
        let (server, _seen) = serve(configuration(&identity, BOTH, None), End::WithCloseNotify).await;
        let mut account = account(server);
        account.tls.ca = Some(files.write("server.pem", &identity.pem));
        greeted(connect(&account).await.unwrap()).await;
        account.tls.server_name = Some("pop.example.org".into());
        assert!(matches!(refused(&account, &identity).await, CertificateFault::WrongName { .. }));

        let old = Identity::self_signed(|params| {
            params.is_ca = is_ca;
            params.not_after = date_time_ymd(2020, 1, 1);
        });
        let (server, _seen) = serve(configuration(&old, BOTH, None), End::WithCloseNotify).await;
        let mut account = self::account(server);
        account.tls.ca = Some(files.write("old.pem", &old.pem));
        assert!(matches!(refused(&account, &old).await, CertificateFault::Expired { .. }));
    }
}

#[tokio::test]
async fn a_certificate_of_an_unknown_ca_is_told_with_its_issuer() {
    let identity = Identity::of(&ca("Our \x1b CA"), |_| ());
    let (server, _seen) = serve(configuration(&identity, BOTH, None), End::WithCloseNotify).await;
    let (account, _files) = trusting(server, &ca("another"));
    let CertificateFault::UnknownIssuer { issuer, alone: true } = refused(&account, &identity).await else {
        panic!("not told as unknown");
    };
    assert_eq!(issuer, "CN=Our \\u{1b} CA");
}

#[tokio::test]
async fn the_systems_roots_do_not_vouch_for_a_private_ca() {
    let identity = Identity::of(&ca("private"), |_| ());
    let (server, _seen) = serve(configuration(&identity, BOTH, None), End::WithCloseNotify).await;
    let error = connect(&account(server)).await.unwrap_err();
    // A machine may have no roots at all.
    assert!(matches!(error, NetError::Certificate(_) | NetError::NoRoots { .. }), "{error:?}");
}

#[tokio::test]
async fn certificates_out_of_their_time_are_told_with_the_date() {
    let ca = ca("CA");
    let expired = Identity::of(&ca, |params| params.not_after = date_time_ymd(2020, 2, 3));
    let (server, _seen) = serve(configuration(&expired, BOTH, None), End::WithCloseNotify).await;
    let (account, _files) = trusting(server, &ca);
    assert!(matches!(refused(&account, &expired).await, CertificateFault::Expired { .. }));
    let text = connect(&account).await.unwrap_err().to_string();
    assert!(text.contains("expired on 2020-02-03 00:00 UTC (CN=the server, sha256:"), "{text}");

    let early = Identity::of(&ca, |params| {
        params.not_before = date_time_ymd(2999, 1, 1);
        params.not_after = date_time_ymd(3000, 1, 1);
    });
    let (server, _seen) = serve(configuration(&early, BOTH, None), End::WithCloseNotify).await;
    let (account, _files) = trusting(server, &ca);
    assert!(matches!(refused(&account, &early).await, CertificateFault::NotYetValid { .. }));
    assert!(connect(&account).await.unwrap_err().hint().is_some_and(|hint| hint.contains("clock")));
}

#[tokio::test]
async fn a_certificate_for_other_names_is_told_with_them_and_tls_server_name_accepts_it() {
    let ca = ca("CA");
    let identity = Identity::of(&ca, |params| {
        let names = vec!["pop.example.org".to_owned(), "192.0.2.1".to_owned()];
        params.subject_alt_names = CertificateParams::new(names).unwrap().subject_alt_names;
    });
    let (server, mut seen) = serve(configuration(&identity, BOTH, None), End::WithCloseNotify).await;
    let (mut account, _files) = trusting(server, &ca);
    assert_eq!(
        refused(&account, &identity).await,
        CertificateFault::WrongName {
            expected: "localhost".into(),
            names: vec!["pop.example.org".into(), "192.0.2.1".into()],
        }
    );
    let error = connect(&account).await.unwrap_err();
    assert!(error.to_string().contains("is for pop.example.org, 192.0.2.1, not for localhost"), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("`tls_server_name: pop.example.org`")));

    account.tls.server_name = Some("pop.example.org".into());
    greeted(connect(&account).await.unwrap()).await;
    assert_eq!(seen.recv().await.unwrap().sni.as_deref(), Some("pop.example.org"));
}

#[tokio::test]
async fn a_certificate_that_is_not_pinned_is_refused_even_if_its_ca_is_known() {
    let ca = ca("CA");
    let identity = Identity::of(&ca, |_| ());
    for versions in [BOTH, &[&TLS12]] {
        let (server, _seen) = serve(configuration(&identity, versions, None), End::WithCloseNotify).await;
        let (mut account, _files) = trusting(server, &ca);
        account.tls.pins = vec![[7; 32]];
        assert_eq!(refused(&account, &identity).await, CertificateFault::NotPinned);
        account.tls.pins = vec![identity.fingerprint()];
        greeted(connect(&account).await.unwrap()).await;
        // The old one and the new one, while the server changes from one to the other.
        account.tls.pins = vec![[7; 32], identity.fingerprint()];
        greeted(connect(&account).await.unwrap()).await;
    }
}

#[tokio::test]
async fn a_server_that_leaves_its_intermediate_certificate_out_is_told_so() {
    let root = ca("Root");
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "Intermediate");
    let between = CertifiedIssuer::signed_by(params, KeyPair::generate().unwrap(), &root).unwrap();
    let mut identity = Identity::of(&between, |_| ());
    let (server, _seen) = serve(configuration(&identity, BOTH, None), End::WithCloseNotify).await;
    let (account, _files) = trusting(server, &root);
    let issuer = "CN=Intermediate".to_owned();
    let fault = refused(&account, &identity).await;
    assert_eq!(fault, CertificateFault::UnknownIssuer { issuer, alone: true });
    let hint = connect(&account).await.unwrap_err().hint().unwrap();
    assert!(hint.starts_with("the server sent no intermediate certificate"), "{hint}");
    identity.chain.push(between.der().clone());
    let (server, _seen) = serve(configuration(&identity, BOTH, None), End::WithCloseNotify).await;
    greeted(connect(&trusting(server, &root).0).await.unwrap()).await;
}

/// Shows a certificate without having its key.
#[derive(Debug)]
struct Impostor(Arc<CertifiedKey>);

impl ResolvesServerCert for Impostor {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

#[tokio::test]
async fn a_pinned_certificate_is_refused_from_whoever_has_not_its_key() {
    let (owner, thief) = (Identity::self_signed(|_| ()), KeyPair::generate().unwrap());
    let key = PrivateKeyDer::try_from(thief.serialize_der()).unwrap();
    let key = ring::default_provider().key_provider.load_private_key(key).unwrap();
    for versions in [BOTH, &[&TLS12]] {
        let mut configuration = configuration(&owner, versions, None);
        configuration.cert_resolver =
            Arc::new(Impostor(Arc::new(CertifiedKey::new(owner.chain.clone(), key.clone()))));
        let (server, _seen) = serve(configuration, End::WithCloseNotify).await;
        let mut account = account(server);
        account.tls.pins = vec![owner.fingerprint()];
        let error = connect(&account).await.unwrap_err();
        assert!(error.to_string().contains("without proof of its key"), "{error}");
        assert!(error.hint().is_some_and(|hint| !hint.contains("tls_pin")), "{:?}", error.hint());
    }
}

/// A server that has this key, and shows these octets for a certificate.
async fn showing(octets: &[u8], key: &KeyPair) -> SocketAddr {
    let identity = Identity::self_signed(|_| ());
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let key = ring::default_provider().key_provider.load_private_key(key).unwrap();
    let mut configuration = configuration(&identity, BOTH, None);
    let chain = vec![CertificateDer::from(octets.to_vec())];
    configuration.cert_resolver = Arc::new(Impostor(Arc::new(CertifiedKey::new(chain, key))));
    serve(configuration, End::WithCloseNotify).await.0
}

#[tokio::test]
async fn a_certificate_that_cannot_be_read_is_called_so_pinned_or_not() {
    let (identity, octets) = (Identity::self_signed(|_| ()), b"no certificate");
    let mut account = account(showing(octets, &identity.key).await);
    for pins in [vec![], vec![Sha256::digest(octets).into()]] {
        account.tls.pins = pins;
        let error = connect(&account).await.unwrap_err();
        assert!(error.to_string().starts_with("the server's certificate cannot be read, so that"), "{error}");
        assert!(
            error.hint().is_some_and(|hint| hint.starts_with("a pin does not help")),
            "{:?}",
            error.hint()
        );
    }
}

#[tokio::test]
async fn a_pin_accepts_a_certificate_of_which_the_key_alone_can_be_read() {
    let identity = Identity::self_signed(|_| ());
    let mut octets = identity.chain[0].to_vec();
    // A time of another type than a certificate may have.
    let at = octets.windows(2).position(|pair| pair == [0x17, 13]).unwrap();
    octets[at] = 0x0c;
    let mut account = account(showing(&octets, &identity.key).await);
    let error = connect(&account).await.unwrap_err();
    assert!(
        error.to_string().contains("is no sound X.509 certificate, and only a pin accepts that"),
        "{error}"
    );
    account.tls.pins = vec![Sha256::digest(&octets).into()];
    greeted(connect(&account).await.unwrap()).await;
    // Whoever has another key is not believed.
    let thief = KeyPair::generate().unwrap();
    let mut account = crate::account::plain("127.0.0.1", showing(&octets, &thief).await.port());
    account.tls.mode = TlsMode::Implicit;
    account.tls.pins = vec![Sha256::digest(&octets).into()];
    let error = connect(&account).await.unwrap_err();
    assert!(error.to_string().contains("without proof of its key"), "{error}");
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
async fn names_that_no_certificate_can_have_are_refused() {
    let mut account = account(lie(b"", false).await);
    account.tls.server_name = Some("not a name".into());
    let error = connect(&account).await.unwrap_err();
    assert!(matches!(error, NetError::ServerName { .. } | NetError::NoRoots { .. }), "{error:?}");
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
