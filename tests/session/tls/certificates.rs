//! Certificates: which are accepted, and what is said of those that are not.

use std::net::SocketAddr;
use std::sync::Arc;

use postrider::testing::config::TlsMode;
use postrider::testing::net::{CertificateFault, NetError};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use sha2::{Digest, Sha256};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::version::TLS12;

use super::{
    BOTH, End, Files, Identity, account, ca, configuration, connect, greeted, lie, refused, serve, trusting,
};

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
async fn names_that_no_certificate_can_have_are_refused() {
    let mut account = account(lie(b"", false).await);
    account.tls.server_name = Some("not a name".into());
    let error = connect(&account).await.unwrap_err();
    assert!(matches!(error, NetError::ServerName { .. } | NetError::NoRoots { .. }), "{error:?}");
}
