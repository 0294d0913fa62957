//! A private Courier POP3 server 1.0.16 (Debian: courier-pop, with courier-authlib and its userdb), and its IMAP server
//! (courier-imap).
//!
//! What is peculiar about it:
//! - One program logs in and another one serves: what was sent behind PASS before its answer is lost with the first
//!   one's buffer, although PIPELINING is announced.
//! - Without UTF8 (RFC 6856, before USER) a message with 8-bit octets in its header is wrapped into a report, with
//!   other octets at each RETR.
//! - It announces `LOGIN-DELAY 10`, and does not keep it.
//! - A unique-id is `UID7-` and the time at which the list `courierpop3dsizelist` was made; the list lost, all change.
//! - The last line always gets an end, and each CR before an LF is part of the line's end.

use std::fs;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::certificate::Certificate;
use super::chroot::{MAIL, Root, SERVER, found};
use super::process::{Server, free_port, wait_until};
use super::reader::Reader;
use super::real_server::{CRYPTED, PASSWORD, RealServer, USER, Way};

const MODULE: &str = "/usr/lib/courier-authlib/libauthuserdb.so.0";
const AUTHDAEMON: &str = "/usr/lib/courier/courier-authlib/authdaemond";
const MAKEDAT: &str = "/usr/lib/courier/courier-authlib/makedatprog";
const TCPD: &str = "/usr/sbin/couriertcpd";
const LOGIN: &str = "/usr/lib/courier/courier/courierpop3login";
const POP3D: &str = "/usr/lib/courier/courier/courierpop3d";
const IMAP_LOGIN: &str = "/usr/lib/courier/courier/imaplogin";
const IMAPD: &str = "/usr/bin/imapd";
const TLS: &str = "/usr/bin/couriertls";
const USERDBPW: &str = "/usr/sbin/userdbpw";
const SOCKET: &str = "run/courier/authdaemon/socket";
const MAILDIR: &str = "home/u1/Maildir";

/// What Debian's file says, but for the module.
const AUTHDAEMONRC: &str = "\
authmodulelist=\"authuserdb\"
authmodulelistorig=\"authuserdb\"
daemons=3
authdaemonvar=/run/courier/authdaemon
DEBUG_LOGIN=0
DEFAULTOPTIONS=\"\"
LOGGEROPTS=\"\"
";

/// A running Courier; it ends when this is dropped.
#[derive(Debug)]
pub struct Courier {
    servers: Vec<Server>,
    root: Root,
    port: u16,
    tls_port: u16,
    imap_port: Option<u16>,
    certificate: Certificate,
    stored: AtomicUsize,
}

impl Courier {
    /// Starts one that speaks IMAP, too.
    pub fn with_imap() -> Self {
        Self::begin(&[IMAP_LOGIN, IMAPD], Some)
    }

    /// Gives the port for IMAP.
    pub fn imap_port(&self) -> u16 {
        self.imap_port.expect("it speaks IMAP")
    }

    fn run_imap(root: &Root, port: u16) -> Result<Server, String> {
        // What Debian's file says, but for locks, which want a FAM that is not there.
        const CAN: &str =
            "IMAP4rev1 UIDPLUS CHILDREN NAMESPACE THREAD=ORDEREDSUBJECT THREAD=REFERENCES SORT QUOTA IDLE";
        let environment = [
            ("IMAP_CAPABILITY", CAN),
            ("IMAP_KEYWORDS", "1"),
            ("IMAP_ACL", "1"),
            ("IMAP_MAILBOX_SANITY_CHECK", "1"),
            ("IMAP_USELOCKS", "0"),
            ("IMAP_EMPTYTRASH", "Trash:7"),
        ];
        let text = port.to_string();
        let arguments =
            ["-address=127.0.0.1", "-nodnslookup", "-noidentlookup", &text, IMAP_LOGIN, IMAPD, "Maildir"];
        let mut command = root.command(TCPD, &arguments, &environment);
        Server::start(&mut command, &root.at("var/imapd.log"), &[port])
    }

    fn run(root: &Root, port: u16, tls_port: u16, imap_port: Option<u16>) -> Result<Vec<Server>, String> {
        // One that was killed leaves its socket behind.
        let _ = fs::remove_file(root.at(SOCKET));
        let log = |name: &str| root.at(&format!("var/{name}.log"));
        let mut command = root.command(AUTHDAEMON, &[], &[]);
        let authdaemon = Server::start(&mut command, &log("authdaemon"), &[])?;
        let up = wait_until(std::time::Duration::from_secs(10), || root.at(SOCKET).exists());
        assert!(up, "authdaemond does not start: {}", authdaemon.log());
        let mut servers = vec![authdaemon];
        let environment = [
            ("POP3AUTH", "PLAIN LOGIN CRAM-MD5"),
            ("POP3AUTH_TLS", "PLAIN LOGIN CRAM-MD5"),
            ("POP3_PROXY", "0"),
            ("POP3_STARTTLS", "YES"),
            ("POP3_TLS_REQUIRED", "0"),
            ("COURIERTLS", TLS),
            ("TLS_CERTFILE", "/etc/courier/pop3d.pem"),
            ("TLS_VERIFYPEER", "NONE"),
            ("MIME_UNICODE_MESSAGE_TYPE", "message/global"),
        ];
        let limits = ["-address=127.0.0.1", "-maxprocs=40", "-maxperip=40", "-nodnslookup", "-noidentlookup"];
        for port in [port, tls_port] {
            let text = port.to_string();
            let mut arguments = limits.to_vec();
            arguments.push(&text);
            if port == tls_port {
                arguments.extend([TLS, "-server", "-tcpd", "-user=courier"]);
            }
            arguments.extend([LOGIN, POP3D, "Maildir"]);
            let mut environment = environment.to_vec();
            if port == tls_port {
                // The last one counts.
                environment.extend([("POP3_TLS", "1"), ("POP3_STARTTLS", "NO")]);
            }
            let mut command = root.command(TCPD, &arguments, &environment);
            servers.push(Server::start(&mut command, &log(&format!("pop3d-{port}")), &[port])?);
        }
        if let Some(port) = imap_port {
            servers.push(Self::run_imap(root, port)?);
        }
        Ok(servers)
    }

    fn files(&self) -> Vec<std::path::PathBuf> {
        let folders = ["new", "cur"].map(|name| self.root.at(&format!("{MAILDIR}/{name}")));
        let entries = folders.iter().flat_map(|folder| fs::read_dir(folder).expect("a folder"));
        entries.map(|entry| entry.expect("an entry").path()).collect()
    }

    fn begin(more: &[&str], imap_port: fn(u16) -> Option<u16>) -> Self {
        let certificate = Certificate::for_loopback();
        let files = [&[MODULE, AUTHDAEMON, MAKEDAT, TCPD, LOGIN, POP3D, TLS], more].concat();
        let root = Root::new(&files);
        root.users(USER, CRYPTED, &["courier"]);
        root.folder("run/courier/authdaemon", 0o755, 0);
        root.write("etc/courier/pop3d.pem", certificate.key_pem.clone() + &certificate.pem, 0o600, SERVER);
        for folder in ["", "/new", "/cur", "/tmp"] {
            root.folder(&format!("{MAILDIR}{folder}"), 0o700, MAIL);
        }
        root.write("etc/courier/authdaemonrc", AUTHDAEMONRC, 0o644, 0);
        let shadow = format!("systempw={CRYPTED}|hmac-md5pw={}", hmac_md5());
        let user = format!("uid={MAIL}|gid={MAIL}|home=/home/{USER}|_=");
        for (name, fields) in [("userdb", user), ("userdbshadow", shadow)] {
            let (draft, to) = (format!("/etc/courier/{name}.tmp"), format!("/etc/courier/{name}.dat"));
            let mut command = root.command(MAKEDAT, &["-", &draft, &to], &[]);
            feed(&mut command, &format!("{USER}\t{fields}\n.\n"));
        }
        for _ in 0..5 {
            let (port, tls_port, imap_port) = (free_port(), free_port(), imap_port(free_port()));
            match Self::run(&root, port, tls_port, imap_port) {
                Ok(servers) => {
                    let stored = AtomicUsize::new(0);
                    return Self { servers, root, port, tls_port, imap_port, certificate, stored };
                }
                Err(log) if log.contains("in use") => {}
                Err(log) => panic!("Courier does not start: {log}"),
            }
        }
        panic!("Courier found its ports in use five times");
    }
}

impl RealServer for Courier {
    fn start() -> Self {
        Self::begin(&[], |_| None)
    }

    fn ways(&self) -> Vec<Way> {
        vec![(self.port, "none"), (self.port, "starttls"), (self.tls_port, "implicit")]
    }

    fn mechanisms(&self) -> &'static [&'static str] {
        &["user-pass", "plain", "login", "cram-md5"]
    }

    fn authority(&self) -> &str {
        &self.certificate.authority_pem
    }

    fn put(&self, messages: &[Vec<u8>]) {
        for message in messages {
            let number = self.stored.fetch_add(1, Ordering::Relaxed);
            self.root.write(&format!("{MAILDIR}/new/17000{number:05}.M1.test"), message, 0o600, MAIL);
        }
    }

    fn left(&self) -> usize {
        self.files().len()
    }

    fn replace(&mut self, messages: &[Vec<u8>]) {
        for file in self.files() {
            fs::remove_file(file).expect("a message");
        }
        self.rebuild();
        self.put(messages);
    }

    fn rebuild(&mut self) {
        fs::remove_file(self.root.at(&format!("{MAILDIR}/courierpop3dsizelist"))).expect("the list of sizes");
    }

    fn crash(&mut self) {
        self.root.kill_all();
        for server in self.servers.drain(..) {
            server.kill();
        }
        self.servers =
            Self::run(&self.root, self.port, self.tls_port, self.imap_port).expect("Courier starts again");
    }

    fn messages(&self) -> Vec<(String, Vec<u8>)> {
        let mut reader = Reader::plain(self.port);
        reader.ok("UTF8");
        reader.log_in(USER, PASSWORD).messages()
    }
}

/// Gives the password as CRAM-MD5 needs it.
fn hmac_md5() -> String {
    let unpacked = found("/usr/lib/libcourierauth.so.0");
    let mut command = Command::new(found(USERDBPW));
    command.arg("-hmac-md5").env("LD_LIBRARY_PATH", unpacked.parent().expect("a directory"));
    feed(&mut command, &format!("{PASSWORD}\n")).trim().to_string()
}

/// Runs a program with this on standard input, and gives what it says.
fn feed(command: &mut Command, text: &str) -> String {
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.expect("a program of Courier's");
    let mut stdin = child.stdin.take().expect("a pipe");
    std::io::Write::write_all(&mut stdin, text.as_bytes()).expect("what it reads");
    drop(stdin);
    let output = child.wait_with_output().expect("its end");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
