//! Certificates that only a pin accepts, shown by OpenSSL's own server with OpenSSL's own keys.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use postrider::testing::config::{Account, TlsMode};
use postrider::testing::net::{CertificateFault, Connector, NetError};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::support::postrider::Home;
use crate::support::process::{Server, free_port, program};

/// A key and a certificate in a directory of their own.
struct Identity {
    directory: TempDir,
}

impl Identity {
    /// Makes a key by `genpkey`, and a certificate with this subject by `x509 -req`.
    fn new(key: &[&str], subject: &str, certificate: &[&str]) -> Self {
        let identity = Self { directory: TempDir::new().unwrap() };
        let (at_key, request) = (identity.path("key.pem"), identity.path("request.pem"));
        openssl(&[&["genpkey", "-out", &at_key], key].concat());
        openssl(&["req", "-new", "-key", &at_key, "-subj", subject, "-out", &request]);
        let out = identity.path("certificate.pem");
        openssl(
            &[&["x509", "-req", "-in", &request, "-signkey", &at_key, "-out", &out], certificate].concat(),
        );
        identity
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    fn der(&self) -> Vec<u8> {
        openssl(&["x509", "-in", &self.path("certificate.pem"), "-outform", "DER"])
    }

    fn fingerprint(&self) -> [u8; 32] {
        Sha256::digest(self.der()).into()
    }

    /// Starts OpenSSL's server with it.
    fn serve(&self, version: &str) -> (Server, Account) {
        self.serve_with(&[version])
    }

    fn serve_with(&self, more: &[&str]) -> (Server, Account) {
        for _ in 0..5 {
            let port = free_port();
            let mut command = Command::new(tool());
            command.args(["s_server", "-www", "-cipher", "ALL:@SECLEVEL=0"]).args(more);
            command.args(["-accept", &format!("127.0.0.1:{port}")]);
            command.args(["-cert", &self.path("certificate.pem"), "-key", &self.path("key.pem")]);
            match Server::start(&mut command, Path::new(&self.path("log")), &[port]) {
                Ok(server) => {
                    let mut account = crate::account::plain("127.0.0.1", port);
                    account.tls.mode = TlsMode::Implicit;
                    return (server, account);
                }
                Err(log) if log.contains("in use") => {}
                Err(log) => panic!("openssl s_server does not start: {log}"),
            }
        }
        panic!("the server found its port in use five times");
    }
}

fn tool() -> PathBuf {
    program("openssl").expect("openssl is not installed: run tests/run")
}

fn openssl(arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(tool()).args(arguments).stdin(Stdio::null()).output().expect("openssl runs");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

async fn connect(account: &Account) -> Result<(), NetError> {
    Connector::default().connect(account).await.map(drop)
}

async fn fault(account: &Account) -> (CertificateFault, String, String) {
    match connect(account).await.unwrap_err() {
        NetError::Certificate(bad) => {
            let error = NetError::Certificate(bad.clone());
            (bad.fault, error.to_string(), error.hint().unwrap_or_default())
        }
        other => panic!("{other:?}"),
    }
}

const RSA_1024: &[&str] = &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"];
const RSA_2048: &[&str] = &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"];
const P_256: &[&str] = &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];

#[tokio::test]
async fn a_pin_accepts_what_the_certificate_is_like_and_no_other_pin_does() {
    for (what, key, subject, certificate) in [
        ("version 1", RSA_2048, "/CN=old", &["-days", "30"][..]),
        ("version 1, on a curve", P_256, "/CN=old", &["-days", "30"]),
        ("1024 bits, version 1, expired", RSA_1024, "/CN=old", &["-days", "-1"]),
        ("1024 bits, no names", RSA_1024, "/", &["-days", "30", "-set_serial", "0"]),
        ("expired", P_256, "/CN=localhost", &["-days", "-1"]),
        ("Ed25519", &["-algorithm", "ED25519"], "/O=x", &["-days", "30"]),
    ] {
        let identity = Identity::new(key, subject, certificate);
        for version in ["-tls1_2", "-tls1_3"] {
            let (_server, mut account) = identity.serve(version);
            let (_, said, hint) = fault(&account).await;
            let pin = postrider::testing::net::pin(&identity.fingerprint());
            assert!(hint.contains(&pin), "{what}: {said}; {hint}");
            account.tls.pins = vec![[7; 32]];
            assert_eq!(fault(&account).await.0, CertificateFault::NotPinned, "{what}");
            account.tls.pins.push(identity.fingerprint());
            if let Err(error) = connect(&account).await {
                panic!("{what}, {version}: {error}");
            }
        }
    }
}

#[tokio::test]
async fn what_is_peculiar_about_a_certificate_is_said_where_its_issuer_is_trusted() {
    let authority = Identity::new(P_256, "/CN=authority", &["-days", "30"]);
    let ca = authority.path("certificate.pem");
    let signed = |key: &[&str], extensions: &str| {
        let identity = Identity::new(key, "/CN=localhost", &["-days", "30"]);
        let (request, out) = (identity.path("request.pem"), identity.path("certificate.pem"));
        std::fs::write(identity.path("extensions"), extensions).unwrap();
        let (at_extensions, at_key) = (identity.path("extensions"), authority.path("key.pem"));
        let mut arguments =
            vec!["x509", "-req", "-in", &request, "-CA", &ca, "-CAkey", &at_key, "-out", &out];
        arguments.extend(["-days", "30", "-CAcreateserial"]);
        if !extensions.is_empty() {
            arguments.extend(["-extfile", &at_extensions]);
        }
        openssl(&arguments);
        identity
    };
    let names = "subjectAltName = DNS:localhost, IP:127.0.0.1\n";
    for (identity, expected) in [
        (signed(RSA_1024, names), "has an RSA key of 1024 bits"),
        (signed(RSA_2048, ""), "is of X.509 version 1"),
    ] {
        for version in ["-tls1_2", "-tls1_3"] {
            let (_server, mut account) = identity.serve(version);
            account.tls.ca = Some(ca.clone().into());
            let (fault, said, hint) = fault(&account).await;
            assert_eq!(fault, CertificateFault::Peculiar(expected.into()), "{said}");
            assert!(said.contains(&format!("{expected}, and only a pin accepts that")), "{said}");
            assert!(hint.contains("tls_pin"), "{hint}");
            account.tls.pins = vec![identity.fingerprint()];
            connect(&account).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_pinned_key_that_proves_nothing_is_named_and_not_called_a_changed_pin() {
    // Anybody can find such a key.
    let identity =
        Identity::new(&["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:512"], "/CN=x", &["-days", "30"]);
    let (_server, mut account) = identity.serve_with(&["-tls1_2", "-sigalgs", "RSA+SHA256"]);
    account.tls.pins = vec![identity.fingerprint()];
    let (fault, said, hint) = fault(&account).await;
    assert_eq!(fault, CertificateFault::Unprovable("has an RSA key of 512 bits".into()), "{said}");
    assert!(said.contains("has an RSA key of 512 bits, so that nobody can tell"), "{said}");
    assert!(hint.starts_with("a pin does not help"), "{hint}");
}

#[test]
fn an_alert_that_is_a_mere_warning_reaches_no_user() {
    let identity = Identity::new(&["-algorithm", "RSA"], "/CN=pop.example.org", &[]);
    let (certificate, key) = (identity.path("certificate.pem"), identity.path("key.pem"));
    // To another name than that in -servername it answers with the warning unrecognized_name.
    let (_server, account) = identity.serve_with(&[
        "-tls1_2",
        "-servername",
        "pop.example.org",
        "-cert2",
        &certificate,
        "-key2",
        &key,
    ]);
    let home = Home::new();
    let pin: String = identity.fingerprint().iter().map(|octet| format!("{octet:02x}")).collect();
    home.configure(&format!(
        "accounts:\n  home:\n    host: localhost\n    port: {}\n    user: alice\n    password: correct horse\n    \
         tls_pin: sha256:{pin}\n    timeout: 1s\n    deliver: {{ maildir: ~/Mail }}\n",
        account.port
    ));
    let said = home.must(&["sync"], 75).stderr;
    assert!(said.contains("gave up after 1s waiting for the greeting"), "{said}");
    assert!(!said.contains("alert"), "{said}");
}
