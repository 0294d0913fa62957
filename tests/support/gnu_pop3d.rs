//! A private GNU pop3d (Debian: mailutils-pop3d 3.15): a POP3 server that shares no code and few habits with Dovecot.
//!
//! What is peculiar about it:
//! - CAPA says `EXPIRENEVER`, without the blank; it announces PIPELINING, TOP, UIDL, USER, RESP-CODES, AUTH-RESP-CODE,
//!   and after log-in IMPLEMENTATION; no SASL, so only USER and PASS log in.
//! - A unique-id is an MD5 digest, a time and the message's number in the maildrop: `668c...f9.1795417830.1`.
//! - RETR puts an `X-UIDL:` line into the header, which LIST does not count: no size it states is right.
//! - A message that is a header only loses that header but for the line it added, and one whose header begins with an
//!   mbox `From ` line is written anew after each session, with one more colon in that line.
//! - NULs, bare CRs and long lines go through as they are; nothing is marked until QUIT.
//! - It answers in several small segments, which the kernel holds back for 40 ms each from a client that waits for each
//!   answer: RETR in lockstep makes 25 messages a second on loopback.
//! - TLS by GnuTLS, 1.2 and 1.3.
//! - [IN-USE] is its answer to every trouble with the maildrop, missing rights included. Its locks are off here: they
//!   outlive the reply to QUIT for a moment, and a client that comes back at once would be refused.
//! - Users are taken from a file for a virtual domain, so no account of the system is needed; passwords by crypt(3).

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::unistd::getuid;
use tempfile::TempDir;

use super::certificate::Certificate;
use super::process::{Server, free_port, mail_owner, program};
use super::reader::Reader;
use super::real_server::{RealServer, Way};

/// The only user.
pub const USER: &str = "u1@example.org";
/// The user's password.
pub const PASSWORD: &str = "secret";
/// The password as crypt(3) makes it, with SHA-512.
const CRYPTED: &str =
    "$6$postrider$0pVSUzrYKAwQSh/nr.7iMTX5mG5WtTrc80AkJmx05ES7KMw4AbvnJAm5HtvAySt2fYdHYhCyqB7yrep56qiSa0";

/// A running GNU pop3d; it ends when this is dropped, and its directory goes with it.
#[derive(Debug)]
pub struct GnuPop3d {
    server: Option<Server>,
    directory: TempDir,
    /// Port without TLS, which offers STLS.
    pub port: u16,
    /// Port with TLS from the beginning.
    pub tls_port: u16,
    /// The certificate it shows.
    pub certificate: Certificate,
    stored: AtomicUsize,
}

impl GnuPop3d {
    /// Starts a server; panics if it is not installed or does not start.
    pub fn start() -> Self {
        let pop3d = program("pop3d")
            .unwrap_or_else(|| panic!("pop3d is not installed: run tests/run, or install mailutils-pop3d"));
        let certificate = Certificate::for_loopback();
        for _ in 0..5 {
            let directory = TempDir::new().expect("a temporary directory");
            let (port, tls_port) = (free_port(), free_port());
            configure(directory.path(), port, tls_port, &certificate);
            match run(&pop3d, directory.path(), port, tls_port) {
                Ok(server) => {
                    let (server, stored) = (Some(server), AtomicUsize::new(0));
                    return Self { server, directory, port, tls_port, certificate, stored };
                }
                // Someone took the port between our look and the server's.
                Err(log) if log.contains("Address already in use") => {}
                Err(log) => panic!("pop3d does not start: {log}"),
            }
        }
        panic!("pop3d found its ports in use five times");
    }

    /// Puts messages into the maildrop, in this order, after what is there.
    pub fn put(&self, messages: &[Vec<u8>]) {
        let owner = mail_owner();
        for message in messages {
            let number = self.stored.fetch_add(1, Ordering::Relaxed);
            let path = self.maildir().join("new").join(format!("17000{number:05}.M{number:05}.test"));
            fs::write(&path, message).expect("a message");
            if getuid().is_root() {
                chown(&path, Some(owner.uid.as_raw()), Some(owner.gid.as_raw())).expect("its owner");
            }
        }
    }

    /// Counts what is left in the maildrop.
    pub fn left(&self) -> usize {
        let count = |folder: &str| fs::read_dir(self.maildir().join(folder)).expect("a folder").count();
        count("new") + count("cur")
    }

    /// Gives what is in the maildrop, unique-ids and octets as the server sends them.
    pub fn messages(&self) -> Vec<(String, Vec<u8>)> {
        Reader::plain(self.port).log_in(USER, PASSWORD).messages()
    }

    /// Gives the server's log.
    pub fn log(&self) -> String {
        self.server.as_ref().map(Server::log).unwrap_or_default()
    }

    fn maildir(&self) -> PathBuf {
        self.directory.path().join("mail/u1/INBOX")
    }

    fn files(&self) -> Vec<PathBuf> {
        let folders = ["new", "cur"].map(|name| self.maildir().join(name));
        let entries = folders.iter().flat_map(|folder| fs::read_dir(folder).expect("a folder"));
        entries.map(|entry| entry.expect("an entry").path()).collect()
    }
}

impl RealServer for GnuPop3d {
    fn start() -> Self {
        Self::start()
    }

    fn ways(&self) -> Vec<Way> {
        vec![(self.port, "none"), (self.port, "starttls"), (self.tls_port, "implicit")]
    }

    fn mechanisms(&self) -> &'static [&'static str] {
        &["user-pass"]
    }

    fn authority(&self) -> &str {
        &self.certificate.authority_pem
    }

    fn user(&self) -> &'static str {
        USER
    }

    fn password(&self) -> &'static str {
        PASSWORD
    }

    fn stores(&self, message: &[u8]) -> bool {
        !message.starts_with(b"From ")
    }

    fn put(&self, messages: &[Vec<u8>]) {
        Self::put(self, messages);
    }

    fn left(&self) -> usize {
        Self::left(self)
    }

    fn replace(&mut self, messages: &[Vec<u8>]) {
        for file in self.files() {
            fs::remove_file(file).expect("a message");
        }
        Self::put(self, messages);
    }

    fn rebuild(&mut self) {
        // Other names in the same order, as another delivery program gives them.
        let mut files = self.files();
        files.sort_by_key(|path| path.file_name().map(std::ffi::OsStr::to_owned));
        for (number, file) in files.into_iter().enumerate() {
            fs::rename(file, self.maildir().join("new").join(format!("18000{number:05}.M{number:05}.other")))
                .expect("another name");
        }
    }

    fn crash(&mut self) {
        if let Some(server) = self.server.take() {
            server.kill();
        }
        let pop3d = program("pop3d").expect("it was there");
        let server = run(&pop3d, self.directory.path(), self.port, self.tls_port);
        self.server = Some(server.expect("pop3d starts again"));
    }
}

fn run(pop3d: &Path, directory: &Path, port: u16, tls_port: u16) -> Result<Server, String> {
    let mut command = Command::new(pop3d);
    command.arg("--config-file").arg(directory.join("pop3d.conf"));
    Server::start(&mut command, &directory.join("log"), &[port, tls_port])
}

fn configure(directory: &Path, port: u16, tls_port: u16, certificate: &Certificate) {
    let owner = mail_owner();
    let folders = ["", "users", "mail", "mail/u1", "mail/u1/INBOX"].map(|name| directory.join(name));
    let maildir = ["new", "cur", "tmp"].map(|name| directory.join("mail/u1/INBOX").join(name));
    for folder in folders.iter().chain(&maildir) {
        fs::create_dir_all(folder).expect("a directory");
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).expect("its mode");
        if getuid().is_root() && folder.starts_with(directory.join("mail")) {
            chown(folder, Some(owner.uid.as_raw()), Some(owner.gid.as_raw())).expect("its owner");
        }
    }
    let at = directory.display();
    let (uid, gid) = (owner.uid, owner.gid);
    let user = format!("u1:{CRYPTED}:{uid}:{gid}::{at}/mail/u1:/bin/false\n");
    fs::write(directory.join("users/example.org"), user).expect("the users");
    fs::write(directory.join("certificate.pem"), &certificate.pem).expect("the certificate");
    fs::write(directory.join("key.pem"), &certificate.key_pem).expect("the key");
    // pop3d refuses a key that others may read.
    fs::set_permissions(directory.join("key.pem"), fs::Permissions::from_mode(0o600))
        .expect("the key's mode");
    let configuration = format!(
        "\
mode daemon;
foreground yes;
pidfile {at}/pid;
max-children 50;
timeout 60;
logging {{ syslog no; }};
tcp-wrappers {{ enable no; }};
auth {{ authentication \"generic:virtdomain\"; authorization \"virtdomain\"; }};
virtdomain {{ passwd-dir {at}/users; }};
mailbox {{ mailbox-type maildir; }};
mandatory-locking {{ enable no; }};
tls {{ ssl-certificate-file {at}/certificate.pem; ssl-key-file {at}/key.pem; }};
server 127.0.0.1:{port} {{ tls-mode ondemand; }};
server 127.0.0.1:{tls_port} {{ tls-mode connection; }};
"
    );
    fs::write(directory.join("pop3d.conf"), configuration).expect("the configuration");
}
