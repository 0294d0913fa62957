//! A small root directory of its own for a server whose places and users are compiled in (`/etc/passwd`, `/var/mail`),
//! and what inetd does for one that speaks on standard input.

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};

use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::{Pid, getuid};
use tempfile::TempDir;

use super::process::program;

/// User and group of the only mailbox.
pub const MAIL: u32 = 8;
/// User as whom a server runs that gives its rights away.
pub const SERVER: u32 = 901;

/// A directory in which a server finds its programs, their libraries and the files of /etc that it is given, and
/// nothing of the machine's; it goes when this is dropped.
#[derive(Debug)]
pub struct Root {
    directory: TempDir,
}

impl Root {
    /// Makes one with these files of the system or of packages that were unpacked, and all libraries they are linked
    /// with; panics if one is missing or this is not root.
    pub fn new(files: &[&str]) -> Self {
        assert!(getuid().is_root(), "only root may give a server a root directory: run these tests as root");
        // Beside the unpacked packages: the same file system, so that libraries need not be copied.
        fs::create_dir_all(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        let root = Self { directory: TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory") };
        for folder in ["usr/lib", "usr/lib64", "usr/bin", "usr/sbin", "etc", "dev", "run", "tmp", "var"] {
            root.folder(folder, 0o755, 0);
        }
        fs::set_permissions(root.directory.path(), fs::Permissions::from_mode(0o755)).expect("its mode");
        root.folder("tmp", 0o1777, 0);
        for name in ["lib", "lib64", "bin", "sbin"] {
            symlink(format!("usr/{name}"), root.at(name)).expect("a link");
        }
        for (name, minor) in [("null", 3), ("zero", 5), ("random", 8), ("urandom", 9)] {
            // Where devices may not be made, the servers do without.
            let _ = mknod(
                &root.at(&format!("dev/{name}")),
                SFlag::S_IFCHR,
                Mode::from_bits_truncate(0o666),
                makedev(1, minor),
            );
        }
        files.iter().for_each(|file| root.add(&found(file), file));
        root
    }

    /// Puts a program or library of the outside to this place, and all libraries that it is linked with.
    pub fn add(&self, from: &Path, to: &str) {
        self.bring(from, to);
        for library in linked(from) {
            self.bring(&library, &inside(&library));
        }
    }

    /// Gives where a path of the inside lies.
    pub fn at(&self, path: &str) -> PathBuf {
        self.directory.path().join(path.trim_start_matches('/'))
    }

    /// Makes a directory with this mode for this user, whose group is that of mail.
    pub fn folder(&self, path: &str, mode: u32, owner: u32) {
        let path = self.at(path);
        fs::create_dir_all(&path).expect("a directory");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("its mode");
        chown(&path, Some(owner), Some(if owner == 0 { 0 } else { MAIL })).expect("its owner");
    }

    /// Writes a file with this mode for this user.
    pub fn write(&self, path: &str, octets: impl AsRef<[u8]>, mode: u32, owner: u32) {
        let path = self.at(path);
        fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
        fs::write(&path, octets).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("its mode");
        chown(&path, Some(owner), Some(if owner == 0 { 0 } else { MAIL })).expect("its owner");
    }

    /// Writes /etc/passwd and the like, with the user of the mailbox, whose password is `crypted` as crypt(3) makes
    /// it, and these users of the server's.
    pub fn users(&self, user: &str, crypted: &str, servers: &[&str]) {
        let mut passwd =
            format!("root:x:0:0::/:/bin/false\n{user}:x:{MAIL}:{MAIL}::/home/{user}:/bin/false\n");
        let mut group = format!("root:x:0:\nmail:x:{MAIL}:\n");
        for name in servers {
            passwd += &format!("{name}:x:{SERVER}:{MAIL}::/:/bin/false\n");
            group += &format!("{name}:x:{SERVER}:\n");
        }
        self.write("etc/passwd", passwd, 0o644, 0);
        self.write("etc/group", group, 0o644, 0);
        self.write("etc/shadow", format!("{user}:{crypted}:19000:0:99999:7:::\n"), 0o600, 0);
        self.folder(&format!("home/{user}"), 0o755, MAIL);
    }

    /// Ends every process of the inside as a crash does, in whatever process group it is.
    pub fn kill_all(&self) {
        let root = self.directory.path().canonicalize().expect("this directory");
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            // Processes come and go.
            if fs::read_link(entry.path().join("root")).is_ok_and(|its| its == root) {
                let _ = kill(Pid::from_raw(id), Signal::SIGKILL);
            }
        }
    }

    /// Gives a program of the inside, ready to be run there with no other environment than this.
    pub fn command(&self, program: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Command {
        in_root(self.directory.path(), program, arguments, environment)
    }

    /// Gives what makes such a command without arguments for each connection.
    pub fn inetd_command(&self, program: &'static str) -> impl Fn() -> Command + Send + 'static {
        let root = self.directory.path().to_path_buf();
        move || in_root(&root, program, &[], &[])
    }

    /// Puts a file of the outside to its place, as another name of the same file if that is possible.
    fn bring(&self, from: &Path, to: &str) {
        let to = self.at(to);
        if to.exists() {
            return;
        }
        fs::create_dir_all(to.parent().expect("a directory")).expect("a directory");
        let from = from.canonicalize().expect("a file of the system");
        if fs::hard_link(&from, &to).is_err() {
            fs::copy(&from, &to).expect("a copy of a file of the system");
        }
    }
}

fn in_root(root: &Path, inside: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(program("chroot").expect("chroot, of coreutils"));
    command.arg(root).arg(inside).args(arguments);
    command.env_clear().env("PATH", "/usr/bin:/usr/sbin").envs(environment.iter().copied());
    command
}

/// Gives where Debian keeps libraries that belong to no program.
pub fn libraries() -> String {
    format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH)
}

impl Drop for Root {
    fn drop(&mut self) {
        self.kill_all();
    }
}

/// Gives where a file of a package lies: where tests/run unpacked it, or where apt-get put it.
pub fn found(file: &str) -> PathBuf {
    let unpacked = unpacked().join(file.trim_start_matches('/'));
    if unpacked.exists() {
        return unpacked;
    }
    assert!(Path::new(file).exists(), "{file} is missing: run tests/run once");
    file.into()
}

/// Where tests/run unpacks what cannot be installed beside the rest.
fn unpacked() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/servers")
}

/// Gives the libraries that a program or library is linked with, and the loader.
fn linked(file: &Path) -> BTreeSet<PathBuf> {
    let places = ["/usr/lib", &*libraries(), "/usr/lib/courier-authlib"];
    let places = places.map(|place| unpacked().join(&place[1..]).display().to_string());
    let ldd = program("ldd").expect("ldd, of libc-bin");
    let output = Command::new(ldd).arg(file).env("LD_LIBRARY_PATH", places.join(":")).output();
    let output = String::from_utf8_lossy(&output.expect("ldd runs").stdout).into_owned();
    assert!(
        !output.contains("not found"),
        "{} lacks libraries, run tests/run once: {output}",
        file.display()
    );
    // `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f...)`; the loader has no arrow.
    let words = output.split_whitespace().filter(|word| word.starts_with('/') && !word.ends_with(':'));
    words.map(PathBuf::from).filter(|path| path.is_file()).collect()
}

/// Gives where a library belongs inside.
fn inside(library: &Path) -> String {
    let path = library.strip_prefix(unpacked()).unwrap_or(library).display().to_string();
    let path = path.trim_start_matches('/');
    if path.starts_with("lib") { format!("usr/{path}") } else { path.to_string() }
}

/// Listens, and starts a program for each connection with the connection as its standard input and output.
#[derive(Debug)]
pub struct Inetd {
    /// The port on 127.0.0.1.
    pub port: u16,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    over: AtomicBool,
    sessions: Mutex<Vec<Child>>,
}

impl Inetd {
    /// Starts on a free loopback port; what the programs say on standard error goes into `log`.
    pub fn start(log: PathBuf, command: impl Fn() -> Command + Send + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free loopback port");
        let port = listener.local_addr().expect("its address").port();
        let shared = Arc::new(Shared::default());
        let serving = Arc::clone(&shared);
        let acceptor = thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if serving.over.load(Ordering::SeqCst) {
                    return;
                }
                let log = fs::OpenOptions::new().append(true).create(true).open(&log).expect("a log file");
                let _ = stream.set_nodelay(true);
                let to = stream.try_clone().expect("a second handle");
                let child = command()
                    .process_group(0)
                    .stdin(Stdio::from(OwnedFd::from(stream)))
                    .stdout(Stdio::from(OwnedFd::from(to)))
                    .stderr(log)
                    .spawn();
                let mut sessions = serving.lock();
                sessions.retain_mut(|session| session.try_wait().is_ok_and(|ended| ended.is_none()));
                sessions.push(child.expect("a program of the server's"));
            }
        });
        Self { port, shared, acceptor: Some(acceptor) }
    }

    /// Ends all sessions as a crash does.
    pub fn kill_sessions(&self) {
        for mut session in self.shared.lock().drain(..) {
            // It may have ended.
            let _ = killpg(Pid::from_raw(session.id().cast_signed()), Signal::SIGKILL);
            let _ = session.wait();
        }
    }
}

impl Drop for Inetd {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        // Wakes the acceptor, so that it sees that it is over.
        drop(TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))));
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
        self.kill_sessions();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Vec<Child>> {
        self.sessions.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
