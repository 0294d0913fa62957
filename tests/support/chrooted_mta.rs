//! Mail servers that cannot be installed beside Postfix, each in a root directory of its own: OpenSMTPD, Courier's
//! esmtpd, sendmail. They take mail for box@example.org.
//!
//! What is peculiar about them:
//! - OpenSMTPD 6.8 offers no PIPELINING, and after a hundred messages of a connection it answers `452 4.5.3 Too many
//!   recipients: Too many messages sent` to MAIL.
//! - Courier's esmtpd 1.0.16 announces PIPELINING, and loses what comes behind the end of a message before its answer.
//! - sendmail 8.17 asks the DNS for a sender's domain unless told otherwise, and answers 451 4.1.8 to MAIL meanwhile.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::chroot::{Root, found};
use super::process::{Server, free_port, program, wait_until};

const PASSWD: &str = "root:x:0:0::/:/bin/sh\nbox:x:903:903::/home/box:/bin/sh\ncourier:x:901:901::/:/bin/false\n\
     opensmtpd:x:901:901::/:/bin/false\nopensmtpq:x:902:902::/:/bin/false\nsmmsp:x:902:902::/:/bin/false\n";
const GROUP: &str =
    "root:x:0:\nbox:x:903:\ncourier:x:901:\nopensmtpd:x:901:\nopensmtpq:x:902:\nsmmsp:x:902:\n";
const ESMTPD: &str = "/usr/lib/courier/courier/modules/esmtp/courieresmtpd";
const SENDMAIL: &str = "/usr/libexec/sendmail/sendmail";

/// User and group of the mailbox.
pub const BOX: u32 = 903;
/// Group of OpenSMTPD's queue.
pub const QUEUE: u32 = 902;

/// A running mail server; it ends when this is dropped, and its mail goes with it.
#[derive(Debug)]
pub struct ChrootedMta {
    // Ended before its directory goes.
    server: Server,
    root: Root,
    /// Where its mail lies, and how the names of the files with messages begin.
    mail: (&'static str, &'static str),
    /// The port, without TLS.
    pub port: u16,
}

impl ChrootedMta {
    /// Starts OpenSMTPD (Debian: opensmtpd).
    pub fn opensmtpd() -> Self {
        let files =
            ["/usr/sbin/smtpd", "/usr/sbin/smtpctl", "/usr/libexec/opensmtpd/mail.maildir", "/usr/bin/sh"];
        Self::start(&files, ("home/box/Maildir/new", ""), |root, port| {
            for folder in ["corrupt", "incoming", "purge", "queue", "temporary"] {
                folder_of(root, &format!("var/spool/smtpd/{folder}"), 0o700, 902);
            }
            folder_of(root, "var/spool/smtpd", 0o711, 0);
            folder_of(root, "var/spool/smtpd/offline", 0o770, 0);
            chown(root.at("var/spool/smtpd/offline"), None, Some(902)).expect("its group");
            for folder in ["var/lib/opensmtpd/empty", "var/run"] {
                folder_of(root, folder, 0o755, 0);
            }
            let text = format!(
                "listen on 127.0.0.1 port {port} hostname mx.test\naction \"box\" maildir \"~/Maildir\"\n\
                 match from any for domain \"example.org\" action \"box\"\n"
            );
            root.write("etc/smtpd.conf", text, 0o644, 0);
            root.command("/usr/sbin/smtpd", &["-d"], &[])
        })
    }

    /// Starts Courier's esmtpd (Debian: courier-mta, courier-base), without the daemon that delivers from its queue.
    pub fn courier() -> Self {
        let files = [
            "/usr/sbin/couriertcpd",
            "/usr/lib/courier/courier/submit",
            "/usr/lib/courier/courier/submitmkdir",
            ESMTPD,
            "/usr/bin/couriertls",
        ];
        Self::start(&files, ("var/lib/courier/tmp", "D"), |root, port| {
            for folder in ["allfilters", "filters", "msgq", "msgs", "tmp", "track"] {
                folder_of(root, &format!("var/lib/courier/{folder}"), 0o755, 901);
            }
            for folder in ["aliases", "esmtpacceptmailfor.dir", "hosteddomains", "filters/active"] {
                folder_of(root, &format!("etc/courier/{folder}"), 0o755, 0);
            }
            for (name, text) in [
                ("me", "mx.test\n"),
                ("defaultdomain", "mx.test\n"),
                ("locals", "localhost\n"),
                ("esmtpacceptmailfor", "example.org\n"),
                (
                    "module.esmtp",
                    "NAME=esmtp\nPRIORITY=10\nPROG=./courieresmtp\nMAXDELS=40\nMAXHOST=4\nMAXRCPT=100\n",
                ),
            ] {
                root.write(&format!("etc/courier/{name}"), text, 0o644, 0);
            }
            let port = port.to_string();
            let arguments = [
                "-address=127.0.0.1",
                "-maxprocs=40",
                "-maxperip=40",
                "-nodnslookup",
                "-noidentlookup",
                "-user=courier",
                "-group=courier",
                &port,
                ESMTPD,
            ];
            let environment = [
                ("BOFHCHECKDNS", "0"),
                ("NOADDMSGID", "1"),
                ("NOADDDATE", "1"),
                ("RELAYCLIENT", ""),
                ("TARPIT", "0"),
            ];
            root.command("/usr/sbin/couriertcpd", &arguments, &environment)
        })
    }

    /// Starts sendmail (Debian: sendmail-bin, and sendmail-cf for its configuration); mail stays in its queue.
    pub fn sendmail() -> Self {
        Self::start(&[SENDMAIL], ("var/spool/mqueue", "qf"), |root, port| {
            folder_of(root, "var/spool/mqueue", 0o700, 0);
            root.write("etc/hosts", "127.0.0.1 localhost\n", 0o644, 0);
            let macros = root.at("tmp/sendmail.mc");
            let text = format!(
                "divert(0)dnl\nOSTYPE(`linux')dnl\ndefine(`confDOMAIN_NAME', `mx.test')dnl\n\
                 define(`QUEUE_DIR', `/var/spool/mqueue')dnl\ndefine(`confPID_FILE', `/var/pid')dnl\n\
                 define(`confDELIVERY_MODE', `queue')dnl\ndefine(`ALIAS_FILE', `')dnl\nFEATURE(`nocanonify')dnl\n\
                 FEATURE(`accept_unresolvable_domains')dnl\nFEATURE(`promiscuous_relay')dnl\n\
                 DAEMON_OPTIONS(`Name=MTA, Port={port}, Addr=127.0.0.1')dnl\nMAILER(`smtp')dnl\n"
            );
            fs::write(&macros, text).expect("a file");
            let m4 = program("m4").expect("m4 is not installed: run tests/run");
            let sources = found("/usr/share/sendmail/cf");
            let mut command = Command::new(m4);
            command.arg(format!("-D_CF_DIR_={}/", sources.display()));
            let made = command.arg(sources.join("m4/cf.m4")).arg(&macros).output().expect("m4 runs");
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
            let text = String::from_utf8_lossy(&made.stdout).into_owned();
            // Files that it reads and that are not there.
            let is_wanted = |line: &&str| {
                !["Fw", "FR", "O HelpFile", "O AliasFile"].iter().any(|start| line.starts_with(start))
            };
            let text: String = text.lines().filter(is_wanted).map(|line| format!("{line}\n")).collect();
            root.write("etc/mail/sendmail.cf", text, 0o644, 0);
            root.command(SENDMAIL, &["-bD", "-odq"], &[])
        })
    }

    fn start(
        files: &[&str],
        mail: (&'static str, &'static str),
        configure: impl Fn(&Root, u16) -> Command,
    ) -> Self {
        for _ in 0..5 {
            let root = Root::new(files);
            root.write("etc/passwd", PASSWD, 0o644, 0);
            root.write("etc/group", GROUP, 0o644, 0);
            folder_of(&root, "home/box", 0o755, BOX);
            let port = free_port();
            let mut command = configure(&root, port);
            match Server::start(&mut command, &root.at("var/server.log"), &[port]) {
                Ok(server) => return Self { server, root, mail, port },
                Err(log) if log.contains("in use") => {}
                Err(log) => panic!("{:?} does not start: {log}", files[0]),
            }
        }
        panic!("the server found its port in use five times");
    }

    /// Gives its root directory.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// Waits until so many messages have arrived, and gives them as the server keeps them.
    pub fn arrived(&self, messages: usize) -> Vec<String> {
        let folder = self.root.at(self.mail.0);
        let mut files = Vec::new();
        let there = wait_until(Duration::from_secs(60), || {
            files.clear();
            walk(&folder, self.mail.1, &mut files);
            files.len() >= messages
        });
        assert!(there, "{} messages arrived, not {messages}: {}", files.len(), self.server.log());
        let text = |path: &PathBuf| String::from_utf8_lossy(&fs::read(path).expect("a message")).into_owned();
        files.iter().map(text).collect()
    }
}

fn folder_of(root: &Root, path: &str, mode: u32, owner: u32) {
    let path = root.at(path);
    fs::create_dir_all(&path).expect("a directory");
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("its mode");
    chown(&path, Some(owner), Some(0)).expect("its owner");
}

fn walk(folder: &Path, start: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            walk(&path, start, found);
        } else if entry.file_name().to_string_lossy().starts_with(start) {
            found.push(path);
        }
    }
}
