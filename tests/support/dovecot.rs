//! A private Dovecot 2.3 (Debian: dovecot-pop3d) on loopback, with a configuration of its own in a temporary directory.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::unistd::{User, getgid, getuid};
use tempfile::TempDir;

use super::certificate::Certificate;
use super::process::{Server, free_port, mail_owner, program, wait_until};
use super::reader::Reader;
use super::real_server::{RealServer, Way};
use super::wire::PATIENCE;

pub use super::real_server::PASSWORD;

/// How the tests' users are known.
const PASSWORDS: &str = "passdb {\n  driver = passwd-file\n  args = {at}/passwd\n}\n";
const MECHANISMS: &str = "plain login cram-md5 apop scram-sha-1 scram-sha-256";

/// What makes Dovecot take messages, too. Users are known without their domain.
const LMTP: &str = "\
protocols = pop3 lmtp
mail_plugins = quota
auth_username_format = %Ln
service lmtp {
  unix_listener {at}/lmtp {
    mode = 0666
  }
}
plugin {
  quota = count:User quota
  quota_vsizes = yes
  quota_rule = *:messages=0
  quota_grace = 0
  quota_status_overquota = 552 5.2.2 full
}
lmtp_save_to_detail_mailbox = no
";

/// How Dovecot stores messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A file a message.
    Maildir,
    /// Dovecot's own.
    Mdbox,
}

/// A running Dovecot with the users `u1`, `u2` ...; it ends when this is dropped, and its directory goes with it.
#[derive(Debug)]
pub struct Dovecot {
    server: Option<Server>,
    directory: TempDir,
    /// Port without TLS, which offers STLS.
    pub port: u16,
    /// Port with TLS from the beginning.
    pub tls_port: u16,
    /// The certificate it shows.
    pub certificate: Certificate,
    staged: AtomicUsize,
}

impl Dovecot {
    /// Starts a server with so many users; panics if it is not installed or does not start.
    pub fn start(format: Format, users: usize) -> Self {
        Self::start_with(format, users, "")
    }

    /// Starts a server that takes messages by LMTP, too, on [`Dovecot::lmtp`], for its two users; the second has used
    /// up the quota with the first message it gets.
    pub fn start_lmtp() -> Self {
        Self::start_with(Format::Maildir, 2, LMTP)
    }

    /// Starts a server whose configuration ends with these lines, in which `{at}` is its directory.
    pub fn start_with(format: Format, users: usize, more: &str) -> Self {
        let dovecot = installed("dovecot");
        let version = Command::new(&dovecot).arg("--version").output().expect("dovecot runs");
        let version = String::from_utf8_lossy(&version.stdout).into_owned();
        assert!(version.starts_with("2.3."), "these tests configure Dovecot 2.3; this is {version}");
        let certificate = Certificate::for_loopback();
        for _ in 0..5 {
            let directory = TempDir::new().expect("a temporary directory");
            let (port, tls_port) = (free_port(), free_port());
            configure(directory.path(), format, users, port, tls_port, &certificate, more);
            match run(&dovecot, directory.path(), port, tls_port) {
                Ok(server) => {
                    let staged = AtomicUsize::new(0);
                    return Self { server: Some(server), directory, port, tls_port, certificate, staged };
                }
                // Someone took the port between our look and the server's.
                Err(log) if log.contains("Address already in use") => {}
                Err(log) => panic!("dovecot does not start: {log}"),
            }
        }
        panic!("dovecot found its ports in use five times");
    }

    /// Puts messages into a user's maildrop, in this order, after what is there.
    pub fn put(&self, user: &str, messages: &[Vec<u8>]) {
        let number = self.staged.fetch_add(1, Ordering::Relaxed);
        let staging = self.directory.path().join(format!("staged-{number}"));
        for folder in ["", "tmp", "new", "cur"] {
            make_directory(&staging.join(folder), 0o777);
        }
        for (number, message) in messages.iter().enumerate() {
            // Names in the order of the messages; the server sorts by them.
            let path = staging.join("cur").join(format!("17000{number:05}.M{number:05}.test:2,"));
            fs::write(path, message).expect("a staged message");
        }
        let source = format!("maildir:{}", staging.display());
        self.doveadm(&["import", "-u", user, &source, "", "ALL"]);
        fs::remove_dir_all(staging).expect("the staged messages");
    }

    /// Puts one message into a user's maildir as another program's delivery does.
    pub fn deliver(&self, user: &str, message: &[u8]) {
        let number = self.staged.fetch_add(1, Ordering::Relaxed);
        let home = self.home(user);
        let folders = ["", "tmp", "new", "cur"].map(|name| home.join(name));
        let file = home.join("new").join(format!("17000{number:05}.M1.other,S={}", message.len()));
        for folder in &folders {
            make_directory(folder, 0o755);
        }
        fs::write(&file, message).expect("a message");
        if getuid().is_root() {
            let owner = mail_owner();
            for path in folders.iter().chain([&file]) {
                chown(path, Some(owner.uid.as_raw()), Some(owner.gid.as_raw())).expect("the user's own");
            }
        }
    }

    /// Has the size of each message be known exactly, as an IMAP client does.
    pub fn weigh(&self, user: &str) {
        self.doveadm(&["fetch", "-u", user, "size.virtual", "all"]);
    }

    /// Counts what is left in a user's maildrop.
    pub fn left(&self, user: &str) -> usize {
        let status = self.doveadm(&["mailbox", "status", "-u", user, "messages", "INBOX"]);
        let count = status.trim().strip_prefix("INBOX messages=").expect("a count of messages");
        count.parse().expect("a number")
    }

    /// Gives what is in a user's maildrop, unique-ids and octets as the server sends them.
    pub fn messages(&self, user: &str) -> Vec<(String, Vec<u8>)> {
        Reader::plain(self.port).log_in(user, PASSWORD).messages()
    }

    /// Gives what is in a maildrop to who logs in with another password.
    pub fn read_by(&self, user: &str, password: &str) -> Vec<Vec<u8>> {
        let messages = Reader::plain(self.port).log_in(user, password).messages();
        messages.into_iter().map(|(_, octets)| octets).collect()
    }

    /// Gives the path of the socket on which [`Dovecot::start_lmtp`] takes messages.
    pub fn lmtp(&self) -> PathBuf {
        self.directory.path().join("lmtp")
    }

    /// Gives a user's home directory.
    pub fn home(&self, user: &str) -> PathBuf {
        self.directory.path().join("mail").join(user)
    }

    /// Writes a file into a user's home, for that user.
    pub fn write_home(&self, user: &str, name: &str, text: &str) {
        let home = self.home(user);
        let path = home.join(name);
        make_directory(&home, 0o755);
        write(&path, text, 0o644);
        if getuid().is_root() {
            let owner = mail_owner();
            for path in [home, path] {
                chown(path, Some(owner.uid.as_raw()), Some(owner.gid.as_raw())).expect("the user's own");
            }
        }
    }

    /// Gives the server's log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// Ends the server as a crash does; its maildrops stay.
    pub fn kill(&mut self) {
        if let Some(server) = self.server.take() {
            server.kill();
        }
        // It would wait two minutes for a lock that it left behind.
        for user in fs::read_dir(self.directory.path().join("mail")).into_iter().flatten().flatten() {
            // Mostly there is none.
            let _ = fs::remove_file(user.path().join("dovecot-uidlist.lock"));
        }
    }

    /// Counts the messages in a user's maildir.
    pub fn arrived(&self, user: &str) -> usize {
        ["new", "cur"]
            .map(|name| fs::read_dir(self.home(user).join(name)).map_or(0, Iterator::count))
            .iter()
            .sum()
    }

    /// Starts the server again, on the same ports with the same maildrops.
    pub fn restart(&mut self) {
        self.server = None;
        match run(&installed("dovecot"), self.directory.path(), self.port, self.tls_port) {
            Ok(server) => self.server = Some(server),
            Err(log) => panic!("dovecot does not start again: {log}"),
        }
    }

    /// Has the server show this certificate from its next start on.
    pub fn certify(&mut self, certificate: Certificate) {
        write(&self.directory.path().join("certificate.pem"), &certificate.pem, 0o644);
        write(&self.directory.path().join("key.pem"), &certificate.key_pem, 0o600);
        self.certificate = certificate;
    }

    /// Has a user's password be another one from now on, for log-ins to come.
    pub fn change_password(&self, user: &str, password: &str) {
        let path = self.directory.path().join("passwd");
        let users = fs::read_to_string(&path).expect("the users");
        let new = self.directory.path().join("passwd.new");
        write(
            &new,
            &users.replace(&format!("{user}:{{PLAIN}}{PASSWORD}:"), &format!("{user}:{{PLAIN}}{password}:")),
            0o644,
        );
        fs::rename(new, path).expect("another file of users");
        // It looks at the file once in a second.
        let is_known = || self.run_doveadm(&["auth", "test", user, password]).status.success();
        assert!(wait_until(PATIENCE, is_known), "{}", self.log());
    }

    fn run_doveadm(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(installed("doveadm"));
        command.arg("-c").arg(self.directory.path().join("dovecot.conf"));
        command.args(arguments).output().expect("doveadm runs")
    }

    fn doveadm(&self, arguments: &[&str]) -> String {
        let output = self.run_doveadm(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "doveadm {arguments:?}: {stderr}{}", self.log());
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl RealServer for Dovecot {
    fn start() -> Self {
        Self::start(Format::Maildir, 1)
    }

    fn ways(&self) -> Vec<Way> {
        vec![(self.port, "none"), (self.port, "starttls"), (self.tls_port, "implicit")]
    }

    fn mechanisms(&self) -> &'static [&'static str] {
        &["user-pass", "plain", "login", "cram-md5", "scram-sha-1", "scram-sha-256", "apop"]
    }

    fn authority(&self) -> &str {
        &self.certificate.authority_pem
    }

    fn put(&self, messages: &[Vec<u8>]) {
        Self::put(self, "u1", messages);
    }

    fn left(&self) -> usize {
        Self::left(self, "u1")
    }

    fn replace(&mut self, messages: &[Vec<u8>]) {
        fs::remove_dir_all(self.home("u1")).expect("the user's mail");
        Self::put(self, "u1", messages);
    }

    fn rebuild(&mut self) {
        for entry in fs::read_dir(self.home("u1")).expect("the user's mail").flatten() {
            if entry.file_name().to_string_lossy().starts_with("dovecot") {
                fs::remove_file(entry.path()).expect("a file of the server's");
            }
        }
    }

    fn crash(&mut self) {
        self.kill();
        self.restart();
    }
}

/// Configures a Dovecot that only passes on, with these `extra` fields of whoever logs in, and gives it ready to be
/// started; what certificate it shows lies in `certificates`.
pub fn proxy(directory: &Path, ports: (u16, u16), certificates: &Path, extra: &str) -> Command {
    for folder in ["", "run", "state"] {
        make_directory(&directory.join(folder), 0o755);
    }
    for name in ["certificate.pem", "key.pem"] {
        fs::copy(certificates.join(name), directory.join(name)).expect("a file");
    }
    let passwords = PASSWORDS.replace("{at}", &directory.display().to_string());
    let text = configuration(directory, Format::Maildir, ports.0, ports.1)
        .replace(&passwords, &format!("passdb {{\n  driver = static\n  args = {extra}\n}}\n"))
        .replace(MECHANISMS, "plain login");
    write(&directory.join("dovecot.conf"), &text, 0o644);
    let mut command = Command::new(installed("dovecot"));
    command.arg("-F").arg("-c").arg(directory.join("dovecot.conf"));
    command
}

fn installed(name: &str) -> PathBuf {
    program(name)
        .unwrap_or_else(|| panic!("{name} is not installed: run tests/run, or install dovecot-pop3d"))
}

fn run(dovecot: &Path, directory: &Path, port: u16, tls_port: u16) -> Result<Server, String> {
    let mut command = Command::new(dovecot);
    command.arg("-F").arg("-c").arg(directory.join("dovecot.conf"));
    let log = directory.join("log");
    Server::start(&mut command, &directory.join("start.log"), &[port, tls_port])
        .map_err(|error| format!("{error}\n{}", fs::read_to_string(log).unwrap_or_default()))
}

fn configure(
    directory: &Path,
    format: Format,
    users: usize,
    port: u16,
    tls_port: u16,
    certificate: &Certificate,
    more: &str,
) {
    make_directory(directory, 0o755);
    for folder in ["run", "state", "mail"] {
        make_directory(&directory.join(folder), 0o755);
    }
    let owner = mail_owner();
    let (uid, gid) = (owner.uid, owner.gid);
    let mail = directory.join("mail");
    if getuid().is_root() {
        chown(&mail, Some(uid.as_raw()), Some(gid.as_raw())).expect("the mail belongs to its user");
    }
    let passwords: String = (1..=users)
        .map(|n| {
            // Means nothing without the quota plugin.
            let quota = if n == 2 { "userdb_quota_rule=*:messages=1" } else { "" };
            format!("u{n}:{{PLAIN}}{PASSWORD}:{uid}:{gid}::{}/u{n}::{quota}\n", mail.display())
        })
        .collect();
    write(&directory.join("passwd"), &passwords, 0o644);
    write(&directory.join("log"), "", 0o666);
    write(&directory.join("certificate.pem"), &certificate.pem, 0o644);
    write(&directory.join("key.pem"), &certificate.key_pem, 0o600);
    let text = configuration(directory, format, port, tls_port)
        + &more.replace("{at}", &directory.display().to_string());
    write(&directory.join("dovecot.conf"), &text, 0o644);
}

fn configuration(directory: &Path, format: Format, port: u16, tls_port: u16) -> String {
    let at = directory.display();
    let passwords = PASSWORDS.replace("{at}", &at.to_string());
    let format = match format {
        Format::Maildir => "maildir",
        Format::Mdbox => "mdbox",
    };
    let us = User::from_uid(getuid()).ok().flatten().map(|user| user.name).unwrap_or_default();
    let our_group = nix::unistd::Group::from_gid(getgid()).ok().flatten().map(|g| g.name).unwrap_or_default();
    // Debian's package makes dovenull and dovecot. Without root nobody can become another, and nothing can chroot.
    let (login, internal, group) =
        if getuid().is_root() { ("dovenull", "dovecot", "dovecot") } else { (&*us, &*us, &*our_group) };
    let unchrooted = if getuid().is_root() {
        String::new()
    } else {
        let services =
            ["anvil", "stats", "ipc", "dict", "director", "replicator", "aggregator", "dns-client"];
        services.map(|service| format!("service {service} {{\n  chroot =\n}}\n")).concat()
    };
    format!(
        "\
protocols = pop3
listen = 127.0.0.1
base_dir = {at}/run
state_dir = {at}/state
log_path = {at}/log
instance_name = postrider-test
shutdown_clients = yes
default_login_user = {login}
default_internal_user = {internal}
default_internal_group = {group}
default_vsz_limit = 0
first_valid_uid = 1
mail_max_userip_connections = 0
ssl = yes
ssl_cert = <{at}/certificate.pem
ssl_key = <{at}/key.pem
ssl_min_protocol = TLSv1.2
disable_plaintext_auth = no
auth_mechanisms = {MECHANISMS}
auth_failure_delay = 0
mail_location = {format}:{at}/mail/%n
# The tests fill and empty maildrops; what a power cut would do to them does not matter.
mail_fsync = never
{passwords}userdb {{
  driver = passwd-file
  args = {at}/passwd
}}
service anvil {{
  # Failed log-ins would slow down later ones from the same address: that of every test.
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service pop3-login {{
  chroot =
  inet_listener pop3 {{
    port = {port}
  }}
  inet_listener pop3s {{
    port = {tls_port}
    ssl = yes
  }}
}}
service stats {{
  unix_listener stats-writer {{
    mode = 0666
  }}
}}
{unchrooted}"
    )
}

fn make_directory(path: &Path, mode: u32) {
    fs::create_dir_all(path).expect("a directory");
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("its mode");
}

fn write(path: &Path, text: &str, mode: u32) {
    fs::write(path, text).expect("a file of the configuration");
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("its mode");
}
