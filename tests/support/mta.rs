//! Postfix and Exim on loopback, each with a configuration, a queue and mailboxes of its own in a temporary directory;
//! nothing in /etc is read that says where mail goes.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::unistd::{User, getuid};
use tempfile::TempDir;

use super::certificate::Certificate;
use super::process::{Server, free_port, mail_owner, program, wait_until};

/// The only domain that is delivered; every local part has a mailbox but `refused` and `later`.
pub const DOMAIN: &str = "example.org";
/// Who may log in to Exim, and with what.
pub const USER: &str = "alice";
pub const PASSWORD: &str = "correct horse";
/// Mailboxes that there are.
const MAILBOXES: [&str; 3] = ["box", "mixed", "spam"];
/// Octets of a message at most.
pub const LIMIT: usize = 4 << 20;

/// A running mail server; it ends when this is dropped, and its mail goes with it.
#[derive(Debug)]
pub struct Mta {
    // Ended before its directory goes.
    server: Option<Server>,
    directory: TempDir,
    /// The port, which offers STARTTLS.
    pub port: u16,
    /// The certificate it shows.
    pub certificate: Certificate,
}

impl Mta {
    /// Starts Postfix (Debian: postfix); panics if it is not installed, does not start, or this is not root.
    pub fn postfix() -> Self {
        Self::postfix_with(&[], |_, text| text)
    }

    /// Starts Postfix with its `main.cf` and `master.cf` changed by name; more ports are listened on then.
    pub fn postfix_with(more: &[u16], changed: impl Fn(&str, String) -> String) -> Self {
        Self::start(more, |directory, port, certificate| {
            let postfix = installed("postfix", "postfix");
            configure_postfix(directory, port, certificate);
            change(directory, &["main.cf", "master.cf"], &changed);
            let mut command = Command::new(postfix);
            command.arg("-c").arg(directory).arg("start-fg");
            command
        })
    }

    /// Starts Exim (Debian: exim4-daemon-light, which tests/run unpacks beside Postfix); panics as `postfix` does.
    pub fn exim() -> Self {
        Self::exim_with(&[], |_, text| text)
    }

    /// Starts Exim with its `exim.conf` changed; more ports are listened on then.
    pub fn exim_with(more: &[u16], changed: impl Fn(&str, String) -> String) -> Self {
        Self::start(more, |directory, port, certificate| {
            let unpacked = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/servers/usr/sbin/exim4");
            let exim = if unpacked.is_file() { unpacked } else { installed("exim4", "exim4-daemon-light") };
            configure_exim(directory, port, certificate, &exim);
            change(directory, &["exim.conf"], &changed);
            let mut command = Command::new(exim);
            command.arg("-C").arg(directory.join("exim.conf")).arg("-bdf");
            command
        })
    }

    fn start(more: &[u16], configure: impl Fn(&Path, u16, &Certificate) -> Command) -> Self {
        assert!(getuid().is_root(), "mail servers change their user: run these tests as root");
        let certificate = Certificate::for_loopback();
        for _ in 0..5 {
            let directory = TempDir::new().expect("a temporary directory");
            fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).expect("its mode");
            let mail = directory.path().join("mail");
            fs::create_dir(&mail).expect("a directory");
            let owner = mail_owner();
            for path in [mail.clone()].into_iter().chain(MAILBOXES.map(|name| mail.join(name))) {
                if path != mail {
                    fs::create_dir(&path).expect("a directory");
                }
                chown(&path, Some(owner.uid.as_raw()), Some(owner.gid.as_raw())).expect("the mail's owner");
            }
            fs::write(directory.path().join("certificate.pem"), &certificate.pem).expect("a file");
            fs::write(directory.path().join("key.pem"), &certificate.key_pem).expect("a file");
            fs::write(directory.path().join("authority.pem"), &certificate.authority_pem).expect("a file");
            let port = free_port();
            let mut command = configure(directory.path(), port, &certificate);
            match Server::start(&mut command, &directory.path().join("server.log"), &[&[port], more].concat())
            {
                Ok(server) => return Self { server: Some(server), directory, port, certificate },
                // Someone took the port between our look and the server's.
                Err(log) if log.contains("in use") => {}
                Err(log) => panic!("{:?} does not start: {log}", command.get_program()),
            }
        }
        panic!("the server found its ports in use five times");
    }

    /// Waits until so many messages lie in a mailbox, and gives them in any order, with the lines that the server put
    /// on top.
    pub fn mailbox(&self, name: &str, messages: usize) -> Vec<Vec<u8>> {
        let new = self.directory.path().join("mail").join(name).join("new");
        let files = || -> Vec<PathBuf> {
            let entries = fs::read_dir(&new).into_iter().flatten();
            entries.map(|entry| entry.expect("an entry").path()).collect()
        };
        let there = wait_until(Duration::from_secs(30), || files().len() >= messages);
        assert!(there, "{} messages in {}, not {messages}: {}", files().len(), new.display(), self.log());
        files().iter().map(|path| fs::read(path).expect("a message")).collect()
    }

    /// Gives where its configuration and its certificate lie.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Gives what the server logged.
    pub fn log(&self) -> String {
        let own = self.server.as_ref().map(Server::log).unwrap_or_default();
        let names = ["main", "reject", "panic"].map(|name| self.directory.path().join(format!("{name}.log")));
        names.iter().fold(own, |all, path| all + &fs::read_to_string(path).unwrap_or_default())
    }
}

fn installed(name: &str, package: &str) -> PathBuf {
    program(name).unwrap_or_else(|| panic!("{name} is not installed: run tests/run, or install {package}"))
}

fn change(directory: &Path, names: &[&str], changed: impl Fn(&str, String) -> String) {
    for name in names {
        let path = directory.join(name);
        let text = fs::read_to_string(&path).expect("a configuration");
        fs::write(path, changed(name, text)).expect("a configuration");
    }
}

fn configure_postfix(directory: &Path, port: u16, _: &Certificate) {
    let at = directory.display();
    let owner = mail_owner();
    let (uid, gid) = (owner.uid, owner.gid);
    for (name, user) in [("queue", "root"), ("data", "postfix")] {
        let path = directory.join(name);
        fs::create_dir(&path).expect("a directory");
        let user = User::from_name(user).expect("the user database").expect("the package makes it");
        chown(&path, Some(user.uid.as_raw()), None).expect("its owner");
    }
    let mailboxes = MAILBOXES.map(|name| format!("{{ {name}@{DOMAIN} = {name}/ }}")).join(", ");
    let main = format!(
        "\
compatibility_level = 3.6
queue_directory = {at}/queue
data_directory = {at}/data
maillog_file = /dev/stdout
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = mx.test
mydestination =
alias_maps =
alias_database =
local_recipient_maps =
mynetworks = 127.0.0.0/8
message_size_limit = {LIMIT}
mailbox_size_limit = 0
virtual_mailbox_limit = 0
virtual_mailbox_domains = {DOMAIN}
virtual_mailbox_base = {at}/mail
virtual_mailbox_maps = inline:{{ {mailboxes} }}
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
virtual_minimum_uid = 1
smtpd_recipient_restrictions = check_recipient_access inline:{{ {{refused@{DOMAIN} = 550 5.1.1 no such user here}}, {{later@{DOMAIN} = 450 4.2.1 not now}} }}, permit_mynetworks, reject
# Headers that a message came without stay away.
local_header_rewrite_clients =
smtpd_tls_security_level = may
smtpd_tls_cert_file = {at}/certificate.pem
smtpd_tls_key_file = {at}/key.pem
# What a client writes where none is due is held against it.
smtpd_forbid_unauth_pipelining = yes
"
    );
    fs::write(directory.join("main.cf"), main).expect("a configuration");
    let master = format!(
        "\
127.0.0.1:{port} inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
proxymap unix - - n - - proxymap
virtual unix - n n - - virtual
error unix - - n - - error
retry unix - - n - - error
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
"
    );
    fs::write(directory.join("master.cf"), master).expect("a configuration");
}

fn configure_exim(directory: &Path, port: u16, _: &Certificate, program: &Path) {
    let at = directory.display();
    let spool = directory.join("spool");
    fs::create_dir(&spool).expect("a directory");
    let exim = User::from_name("Debian-exim").expect("the user database").expect("tests/run makes the user");
    for path in [&spool, directory, &directory.join("key.pem")] {
        chown(path, Some(exim.uid.as_raw()), Some(exim.gid.as_raw())).expect("its owner");
    }
    // Exim gives up being root when its configuration is not the system's, so it delivers as itself.
    let mail = directory.join("mail");
    for path in [mail.clone()].into_iter().chain(MAILBOXES.map(|name| mail.join(name))) {
        chown(path, Some(exim.uid.as_raw()), Some(exim.gid.as_raw())).expect("its owner");
    }
    let text = format!(
        "\
exim_path = {}
keep_environment =
spool_directory = {at}/spool
log_file_path = {at}/%s.log
pid_file_path = {at}/exim.pid
primary_hostname = mx.test
local_interfaces = 127.0.0.1
daemon_smtp_ports = {port}
message_size_limit = {LIMIT}
smtputf8_advertise_hosts = *
tls_advertise_hosts = *
tls_certificate = {at}/certificate.pem
tls_privatekey = {at}/key.pem
acl_smtp_rcpt = recipient
acl_smtp_data = message
never_users =
deliver_drop_privilege = true
begin acl
recipient:
  deny local_parts = refused
       message = no such user here
  defer local_parts = later
       message = not now
  accept
message:
  deny condition = ${{if eq{{$h_subject:}}{{spam}}}}
       message = we do not want this
  accept
begin routers
all:
  driver = accept
  transport = mailbox
begin transports
mailbox:
  driver = appendfile
  # What a client says is tainted and no file name; these are what the tests send to.
  directory = {at}/mail/${{lookup{{$local_part}}dsearch,ret=key,filter=dir{{{at}/mail}}}}
  maildir_format
  user = Debian-exim
begin retry
* * F,1h,1m
begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_condition = ${{if and{{{{eq{{$auth2}}{{{USER}}}}}{{eq{{$auth3}}{{{PASSWORD}}}}}}}}}
  server_set_id = $auth2
login:
  driver = plaintext
  public_name = LOGIN
  server_prompts = Username:: : Password::
  server_condition = ${{if and{{{{eq{{$auth1}}{{{USER}}}}}{{eq{{$auth2}}{{{PASSWORD}}}}}}}}}
  server_set_id = $auth1
",
        program.display()
    );
    fs::write(directory.join("exim.conf"), text).expect("a configuration");
    fs::set_permissions(directory.join("exim.conf"), fs::Permissions::from_mode(0o644)).expect("its mode");
}
