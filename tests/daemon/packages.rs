//! The Debian package that Cargo.toml describes, with the program that was built for the tests: installed, started,
//! upgraded, removed and purged by dpkg in a root directory of its own.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::support::chroot::Root;
use crate::support::daemon::{SOON, message, server};
use crate::support::postrider::LIMIT;
use crate::support::process::{Running, program, wait_until};

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_postrider");

/// What the maintainer scripts call, and the shell.
const TOOLS: &[&str] = &[
    "/usr/bin/sh",
    "/usr/bin/cat",
    "/usr/bin/getent",
    "/usr/bin/install",
    "/usr/bin/rm",
    "/usr/bin/rmdir",
    "/usr/bin/sleep",
    "/usr/bin/stat",
    "/usr/sbin/nologin",
    "/usr/sbin/useradd",
];

pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Gives the lines of a table of Cargo.toml.
pub fn table(name: &str) -> String {
    let manifest = fs::read_to_string(repository().join("Cargo.toml")).unwrap();
    let (_, rest) = manifest.split_once(&format!("[{name}]\n")).unwrap_or_else(|| panic!("no {name}"));
    rest.split_once("\n[").map_or(rest, |(table, _)| table).to_owned()
}

/// What a package holds: each source, its place without the root, and its mode.
pub type Assets = Vec<(String, String, u32)>;

/// Gives the assets of a table, whose lines are lists or tables of three texts in this order.
pub fn assets(table: &str) -> Assets {
    let lines =
        table.lines().skip_while(|line| *line != "assets = [").skip(1).take_while(|line| *line != "]");
    let asset = |line: &str| {
        let texts: Vec<&str> = line.split('"').skip(1).step_by(2).collect();
        let [source, place, mode] = texts[..] else { panic!("{line}") };
        let mode = u32::from_str_radix(mode, 8).unwrap();
        (source.to_owned(), place.trim_start_matches('/').to_owned(), mode)
    };
    lines.map(asset).collect()
}

/// Gives the files that a source names; one star may stand in its last part.
pub fn sources(source: &str) -> Vec<PathBuf> {
    if source == "target/release/postrider" {
        return vec![stripped().to_owned()];
    }
    let path = repository().join(source);
    let name = path.file_name().unwrap().to_str().unwrap();
    let Some((before, after)) = name.split_once('*') else { return vec![path] };
    let entries = fs::read_dir(path.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path());
    let fits = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        path.is_file() && name.starts_with(before) && name.ends_with(after)
    };
    entries.filter(fits).collect()
}

/// Gives the program that was built for the tests, without what only a debugger reads.
fn stripped() -> &'static Path {
    static STRIPPED: OnceLock<PathBuf> = OnceLock::new();
    STRIPPED.get_or_init(|| {
        // One name for all runs, so that runs leave one file at most.
        let to = Path::new(env!("CARGO_TARGET_TMPDIR")).join("stripped/postrider");
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        run(Command::new("strip").arg("-o").arg(&to).arg(PROGRAM));
        to
    })
}

pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{:?}: {error}", command.get_program()));
    let words = [&output.stdout[..], &output.stderr[..]].map(String::from_utf8_lossy).concat();
    assert!(output.status.success(), "{command:?}: {words}");
    words
}

/// Lays what a package holds below a directory.
pub fn lay_out(directory: &Path) {
    for (source, place, mode) in assets(&table("package.metadata.deb")) {
        for from in sources(&source) {
            let name = if place.ends_with('/') { from.file_name().unwrap().to_str().unwrap() } else { "" };
            let to = directory.join(format!("{place}{name}"));
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(&from, &to).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
            fs::set_permissions(&to, fs::Permissions::from_mode(mode)).unwrap();
        }
    }
}

/// Builds a package of this version and gives its file.
fn package(directory: &Path, version: &str) -> PathBuf {
    let stage = directory.join(version);
    lay_out(&stage);
    let architecture = run(Command::new("dpkg").arg("--print-architecture"));
    let control = stage.join("DEBIAN");
    fs::create_dir(&control).unwrap();
    fs::write(
        control.join("control"),
        format!(
            "Package: postrider\nVersion: {version}\nArchitecture: {}\nMaintainer: The postrider authors\n\
             Depends: libc6\nDescription: fetches mail\n",
            architecture.trim()
        ),
    )
    .unwrap();
    for script in ["postinst", "prerm", "postrm"] {
        fs::copy(repository().join("contrib/packages").join(script), control.join(script)).unwrap();
    }
    let package = directory.join(format!("{version}.deb"));
    let mut build = Command::new("dpkg-deb");
    run(build.args(["--root-owner-group", "-Znone", "--build"]).arg(&stage).arg(&package));
    package
}

/// A root directory with dpkg's database and what the scripts call, in which libc is installed.
struct Machine(Root);

impl Machine {
    fn new() -> Self {
        let root = Root::new(TOOLS);
        root.write("etc/passwd", "root:x:0:0::/:/bin/sh\n", 0o644, 0);
        root.write("etc/group", "root:x:0:\n", 0o644, 0);
        for file in ["shadow", "gshadow"] {
            root.write(&format!("etc/{file}"), "", 0o600, 0);
        }
        // What the libraries look users up by.
        for library in ["libgcc_s.so.1", "libm.so.6"] {
            let path = format!("{}/{library}", crate::support::chroot::libraries());
            root.add(Path::new(&path), &path);
        }
        let libc = "Package: libc6\nStatus: install ok installed\nVersion: 2.36\nArchitecture: amd64\n\
                    Maintainer: nobody\nDescription: the C library\n\n";
        root.write("var/lib/dpkg/status", libc, 0o644, 0);
        root.folder("var/lib/dpkg/info", 0o755, 0);
        root.folder("var/lib/dpkg/updates", 0o755, 0);
        root.folder("proc", 0o555, 0);
        Self(root)
    }

    /// Has the package asked for a service manager, which writes down what it is told.
    fn with_systemd(self) -> Self {
        self.0.folder("run/systemd/system", 0o755, 0);
        self.0.write("usr/bin/systemctl", "#!/bin/sh\necho \"$@\" >>/told\n", 0o755, 0);
        self
    }

    /// Gives what the service manager was told since this was asked last.
    fn told(&self) -> Vec<String> {
        let told = fs::read_to_string(self.0.at("told")).unwrap_or_default();
        let _ = fs::remove_file(self.0.at("told"));
        told.lines().map(str::to_owned).collect()
    }

    fn dpkg(&self, action: &str, what: impl AsRef<std::ffi::OsStr>) -> String {
        // With the processes of the machine, as everywhere; the mount goes with dpkg.
        let mut dpkg = Command::new("unshare");
        dpkg.args([
            "--mount",
            "sh",
            "-c",
            "mount -t proc proc \"$0/proc\" && exec dpkg --root=\"$0\" \"$@\"",
        ])
        .arg(self.0.at(""))
        .arg("--force-unsafe-io")
        .arg(action)
        .arg(what);
        run(dpkg.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("DEBIAN_FRONTEND", "noninteractive"))
    }

    /// Gives user and group of the service.
    fn user(&self) -> (u32, u32) {
        let passwd = fs::read_to_string(self.0.at("etc/passwd")).unwrap();
        let line = passwd.lines().find(|line| line.starts_with("postrider:")).expect(&passwd);
        let fields: Vec<&str> = line.split(':').collect();
        assert_eq!((fields[5], fields[6]), ("/var/lib/postrider", "/usr/sbin/nologin"), "{line}");
        (fields[2].parse().unwrap(), fields[3].parse().unwrap())
    }

    /// The service as its unit starts it, or another command of the program, as the service's user.
    fn service(&self, arguments: &[&str]) -> Running {
        let mut command = self.command(self.user(), "/var/lib/postrider", arguments);
        Running::start(command.env("STATE_DIRECTORY", "/var/lib/postrider"))
    }

    /// A command as a user whose home this is.
    fn command(&self, (user, group): (u32, u32), home: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program("chroot").expect("chroot, of coreutils"));
        command.arg(format!("--userspec={user}:{group}")).arg(self.0.at("")).args(arguments);
        command.env_clear().env("PATH", "/usr/bin").env("HOME", home);
        command
    }

    /// Runs `setup` on a terminal, with an option for each of its questions; gives what was shown.
    fn set_up(&self, user: u32, home: &str, name: &str) -> String {
        let options = format!(
            "setup {name}@example.org --name {name} --server pop.example.org --user {name} --password-file /{name} \
             --deliver maildir:~/Mail --no-try"
        );
        let arguments: Vec<&str> = ["postrider"].into_iter().chain(options.split(' ')).collect();
        let command = self.command((user, user), home, &arguments);
        let words = [command.get_program()].into_iter().chain(command.get_args());
        let line: Vec<&str> = words.map(|word| word.to_str().unwrap()).collect();
        let mut terminal = Command::new("script");
        terminal.args(["--quiet", "--return", "--command", &line.join(" "), "/dev/null"]).env_clear();
        terminal.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        run(&mut terminal).replace("\r\n", " ")
    }

    fn mails(&self) -> usize {
        fs::read_dir(self.0.at("var/lib/postrider/Maildir/new")).map_or(0, Iterator::count)
    }

    fn has(&self, path: &str) -> bool {
        self.0.at(path).exists()
    }

    /// Writes the service's configuration as the example in it says; the password is in a file of its own.
    fn configure(&self, port: u16) {
        let config = format!(
            "state: /var/lib/postrider/state.db\naccounts:\n  home: {{ host: 127.0.0.1, port: {port}, tls: none, \
             auth: [plain], user: alice, password: {{ file: /etc/postrider/home.password }}, \
             deliver: {{ maildir: ~/Maildir }} }}\n"
        );
        let (user, group) = self.user();
        self.0.write("etc/postrider/config.yaml", config, 0o640, 0);
        chown(self.0.at("etc/postrider/config.yaml"), None, Some(group)).unwrap();
        self.0.write("etc/postrider/home.password", "correct horse\n", 0o400, user);
    }
}

/// Gives the command line of a unit or of what a package adds to it.
pub fn started(text: &str) -> Vec<String> {
    let line = text.lines().filter_map(|line| line.strip_prefix("ExecStart=")).next_back();
    line.expect("ExecStart").split(' ').map(str::to_owned).collect()
}

#[test]
fn the_package_is_installed_started_upgraded_removed_and_purged() {
    let directory = TempDir::new().unwrap();
    let machine = Machine::new().with_systemd();
    let said = machine.dpkg("--install", package(directory.path(), "0.3.0"));
    assert!(
        said.contains("systemctl enable --now postrider") && said.contains("postrider setup ADDRESS"),
        "{said}"
    );
    assert_eq!(machine.told(), ["daemon-reload"], "nothing is started that nobody has configured");
    let state = fs::metadata(machine.0.at("var/lib/postrider")).unwrap();
    assert_eq!((state.mode() & 0o777, (state.uid(), state.gid())), (0o700, machine.user()));

    let server = server();
    server.put("one", message(1));
    machine.configure(server.port());
    let unit = fs::read_to_string(machine.0.at("usr/lib/systemd/system/postrider.service.d/package.conf"));
    let started = started(&unit.unwrap());
    let daemon = machine.service(&started.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(wait_until(SOON, || machine.mails() == 1), "{:?}", daemon.wait(LIMIT));
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.wait(LIMIT).status, Some(0));

    let said = machine.dpkg("--install", package(directory.path(), "0.3.1"));
    assert!(!said.contains("systemctl enable"), "{said}");
    assert_eq!(machine.told(), ["daemon-reload", "try-restart postrider.service postrider@*.service"]);
    server.put("two", message(2));
    let synced = machine.service(&["postrider", "sync"]).wait(LIMIT);
    assert_eq!((synced.status, machine.mails()), (Some(0), 2), "{synced:?}");
    let status = machine.service(&["postrider", "status", "--max-age", "1h"]).wait(LIMIT);
    assert_eq!(status.status, Some(0), "{status:?}");

    machine.dpkg("--remove", "postrider");
    let told = machine.told();
    let ended = ["--no-reload disable --now postrider.service", "stop postrider@*.service", "daemon-reload"];
    assert_eq!(told, ended);
    assert!(!machine.has("usr/bin/postrider") && machine.has("var/lib/postrider/state.db"));
    machine.dpkg("--install", directory.path().join("0.3.1.deb"));
    let synced = machine.service(&["postrider", "sync"]).wait(LIMIT);
    assert_eq!((synced.status, machine.mails()), (Some(0), 2), "{synced:?}");

    // What a log-in by OAuth2 and a daemon that was killed leave beside it.
    machine.0.write("var/lib/postrider/state.db.tokens/0123", "token", 0o600, machine.user().0);
    machine.0.write("var/lib/postrider/state.db.wake", "", 0o600, machine.user().0);
    let said = machine.dpkg("--purge", "postrider");
    assert!(
        said.contains("/var/lib/postrider is not empty") && said.contains("/etc/postrider is not"),
        "{said}"
    );
    for suffix in ["", ".lock", ".tokens", ".wake"] {
        assert!(!machine.has(&format!("var/lib/postrider/state.db{suffix}")), "state.db{suffix}");
    }
    assert_eq!(machine.mails(), 2, "mail that lies beside the state was purged");
    assert!(machine.has("etc/postrider/config.yaml"));
}

#[test]
fn whoever_has_mail_on_a_machine_with_a_service_has_a_configuration_beside_its_own() {
    const SERVICE: &str = "etc/postrider/config.yaml";
    const OWN: &str = "home/alice/.config/postrider/config.yaml";
    let directory = TempDir::new().unwrap();
    let machine = Machine::new();
    machine.dpkg("--install", package(directory.path(), "0.3.0"));
    machine.configure(1);
    machine.0.folder("home/alice", 0o700, 2000);
    let alice = |arguments: &[&str]| {
        let mut command = machine.command((2000, 2000), "/home/alice", arguments);
        Running::start(&mut command).wait(LIMIT)
    };
    for command in ["sync", "status"] {
        let told = alice(&["postrider", command]);
        assert_eq!(told.status, Some(78), "{told:?}");
        let what = "config.yaml, and /etc/postrider/config.yaml is not yours to read; write one";
        assert!(told.stderr.contains(what) && told.stderr.contains("`postrider setup ADDRESS`"), "{told:?}");
    }
    let service = fs::read_to_string(machine.0.at(SERVICE)).unwrap();
    let said = machine.set_up(2000, "/home/alice", "alice");
    assert!(!said.contains("/etc/postrider"), "it never was hers: {said}");
    assert_eq!(alice(&["postrider", "config", "accounts"]).stdout, "alice\n");
    // One that everybody reads is hers until she has her own.
    fs::remove_file(machine.0.at(OWN)).unwrap();
    fs::set_permissions(machine.0.at(SERVICE), fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(alice(&["postrider", "config", "accounts"]).stdout, "home\n");
    let said = machine.set_up(2000, "/home/alice", "alice");
    assert!(said.contains("from now on, and no more /etc/postrider/config.yaml"), "{said}");
    assert_eq!(alice(&["postrider", "config", "accounts"]).stdout, "alice\n");
    assert_eq!(fs::read_to_string(machine.0.at(SERVICE)).unwrap(), service);
    // Root puts accounts into the machine's.
    let said = machine.set_up(0, "/root", "bob");
    assert!(said.contains("the account bob into /etc/postrider/config.yaml"), "{said}");
}

#[test]
fn root_checks_the_configuration_as_its_service_reads_it() {
    let directory = TempDir::new().unwrap();
    let machine = Machine::new();
    machine.dpkg("--install", package(directory.path(), "0.3.0"));
    machine.configure(1);
    let check = || {
        let mut command = machine.command((0, 0), "/root", &["postrider", "config", "check"]);
        Running::start(&mut command).wait(LIMIT)
    };
    let checked = check();
    assert_eq!((checked.status, checked.stderr.as_str()), (Some(0), ""), "{checked:?}");
    assert!(checked.stdout.ends_with("1 account, no mistakes, as postrider reads it\n"), "{checked:?}");
    chown(machine.0.at("etc/postrider/home.password"), Some(0), Some(0)).unwrap();
    let checked = check();
    assert!(
        checked.stderr.contains("/etc/postrider/home.password may not be read by postrider"),
        "{checked:?}"
    );
    fs::set_permissions(machine.0.at("etc/postrider/config.yaml"), fs::Permissions::from_mode(0o600))
        .unwrap();
    let checked = check();
    assert_eq!(checked.status, Some(78), "{checked:?}");
    assert!(checked.stderr.contains("postrider runs the service and cannot read it"), "{checked:?}");
}

#[test]
fn an_administrators_fetchmail_moves_into_the_service_with_what_it_has_fetched() {
    let directory = TempDir::new().unwrap();
    let machine = Machine::new();
    machine.dpkg("--install", package(directory.path(), "0.3.0"));
    let server = server();
    ["one", "two"].into_iter().for_each(|uid| server.put(uid, message(1)));
    let rc = format!(
        "poll 127.0.0.1 proto pop3 port {} auth password uidl user alice pass 'correct horse' sslproto '' keep mda cat\n",
        server.port()
    );
    // As Debian has it: file and list are a user's of its own.
    let passwd = fs::read_to_string(machine.0.at("etc/passwd")).unwrap();
    machine.0.write("etc/passwd", passwd + "fetchmail:x:300:300::/var/lib/fetchmail:/bin/false\n", 0o644, 0);
    machine.0.write("etc/fetchmailrc", rc, 0o600, 300);
    machine.0.write("var/lib/fetchmail/.fetchids", "alice@127.0.0.1 one\n", 0o600, 300);
    let root = |line: &str| {
        let arguments: Vec<&str> = line.split(' ').collect();
        Running::start(&mut machine.command((0, 0), "/root", &arguments)).wait(LIMIT)
    };
    let written =
        root("postrider --config /etc/postrider/config.yaml import fetchmail /etc/fetchmailrc --write");
    assert_eq!(written.status, Some(0), "{written:?}");
    assert!(written.stdout.contains("\n127.0.0.1: 1 message taken over from "), "{written:?}");
    let again = "postrider --config /etc/postrider/config.yaml import fetchmail /etc/fetchmailrc --seen";
    assert!(written.stdout.contains(&format!("\n  {again}\n")), "{written:?}");
    assert!(root(again).stdout.contains("1 recorded already"));
    // A maildir that the service may write.
    let config = fs::read_to_string(machine.0.at("etc/postrider/config.yaml")).unwrap();
    assert!(config.contains("state: /var/lib/postrider/state.db\n"), "{config}");
    let lines = config.lines().map(|line| match line.trim_start().starts_with("deliver:") {
        true => "    deliver: { maildir: /var/lib/postrider/Maildir }\n".to_owned(),
        false => format!("{line}\n"),
    });
    fs::write(machine.0.at("etc/postrider/config.yaml"), lines.collect::<String>()).unwrap();
    let checked = root("postrider config check");
    assert!(
        checked.stdout.ends_with("no mistakes, as postrider reads it\n") && checked.stderr.is_empty(),
        "{checked:?}"
    );
    let synced = machine.service(&["postrider", "sync"]).wait(LIMIT);
    assert_eq!((synced.status, machine.mails()), (Some(0), 1), "{synced:?}");
}

#[test]
fn a_removal_ends_the_service_and_names_daemons_of_others() {
    let directory = TempDir::new().unwrap();
    let machine = Machine::new();
    machine.dpkg("--install", package(directory.path(), "0.3.0"));
    machine.configure(1);
    let ours = machine.service(&["postrider", "daemon"]);
    machine.0.write(
        "root/c.yaml",
        "state: /tmp/s.db\naccounts: { a: { host: h, user: u, deliver: { maildir: /m } } }\n",
        0o600,
        0,
    );
    let theirs = machine.command((0, 0), "/root", &["postrider", "--config", "/root/c.yaml", "daemon"]);
    let theirs = Running::start(&mut { theirs });
    assert!(
        wait_until(SOON, || machine.has("var/lib/postrider/state.db.wake") && machine.has("tmp/s.db.wake"))
    );
    let said = machine.dpkg("--remove", "postrider");
    assert_eq!(ours.wait(LIMIT).status, Some(0), "{said}");
    assert!(said.contains(&format!("still runs for root, as process {}:", theirs.id())), "{said}");
    theirs.signal(Signal::SIGTERM);
    assert_eq!(theirs.wait(LIMIT).status, Some(0));
}

#[test]
fn without_a_service_manager_the_package_comes_and_goes_and_leaves_nothing() {
    let directory = TempDir::new().unwrap();
    let machine = Machine::new();
    machine.dpkg("--install", package(directory.path(), "0.3.0"));
    let version = machine.service(&["postrider", "--version"]).wait(LIMIT);
    assert_eq!(version.stdout.trim(), format!("postrider {}", env!("CARGO_PKG_VERSION")));
    machine.dpkg("--purge", "postrider");
    for place in ["usr/bin/postrider", "usr/share", "usr/lib/systemd", "var/lib/postrider", "etc/postrider"] {
        assert!(!machine.has(place), "{place} is still there");
    }
}

#[test]
fn the_scripts_serve_rpm_as_well_which_counts_versions() {
    let script = |name: &str, argument: &str, machine: &Machine| {
        let path = format!("tmp/{name}");
        machine.0.add(&repository().join("contrib/packages").join(name), &path);
        let mut command = machine.0.command("/usr/bin/sh", &[&format!("/{path}"), argument], &[]);
        run(&mut command);
        machine.told()
    };
    let machine = Machine::new().with_systemd();
    assert_eq!(script("postinst", "1", &machine), ["daemon-reload"]);
    machine.user();
    assert_eq!(script("postinst", "2", &machine).len(), 2);
    for name in ["prerm", "postrm"] {
        assert_eq!(script(name, "1", &machine), [""; 0], "{name} of an upgrade");
    }
    assert_eq!(script("prerm", "0", &machine).len(), 2);
    assert_eq!(script("postrm", "0", &machine), ["daemon-reload"]);
    assert!(machine.has("var/lib/postrider"));
}
