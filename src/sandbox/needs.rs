//! Which files a configuration needs.

mod account;

use std::collections::BTreeMap;
use std::env;
use std::fmt;
use std::fs;
use std::iter;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::config::Target;
use crate::disk::spool_directory;

use super::purpose::{ConfigReads, Purpose};

/// What everyone may read on most systems, and what TLS, names, users and time zones are found in: whole trees, since
/// their files are replaced (resolv.conf at every new network), and which of them the C library's name service reads
/// is for its modules to say. What is secret there is so by its permissions.
const SYSTEM: [&str; 17] = [
    "/etc",
    "/usr",
    "/lib",
    "/lib32",
    "/lib64",
    // The name service.
    "/run/systemd/resolve",
    "/run/NetworkManager",
    "/run/resolvconf",
    "/run/connman",
    "/run/netconfig",
    "/run/nscd",
    "/var/lib/sss",
    "/var/lib/misc",
    // Roots of openSUSE; NixOS and Guix, where all of the above are links.
    "/var/lib/ca-certificates",
    "/run/current-system",
    "/nix/store",
    "/gnu/store",
];

/// Read by SQLite and the C library.
const DEVICES: [(&str, Access); 3] =
    [("/dev/null", Access::Device), ("/dev/tty", Access::Device), ("/dev/urandom", Access::Read)];

/// What may be done to a path and all below it; each includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// Open directories and read the names in them, which making a name durable takes.
    List,
    /// Read files, too.
    Read,
    /// Write what is there, and control it if it is a terminal.
    Device,
    /// Make, change, move and remove files and directories.
    Write,
}

/// The files that a process needs, and the commands that it runs.
#[derive(Debug, Clone, Default)]
pub struct Needs {
    /// By resolved paths.
    rules: BTreeMap<PathBuf, Access>,
    /// Resolved paths that the configuration names, and what they are.
    named: Vec<(PathBuf, Access, String)>,
    commands: Vec<String>,
    home: Option<PathBuf>,
    /// What paths were found to lead to: many accounts name the same.
    led: BTreeMap<(PathBuf, Access), PathBuf>,
}

impl Needs {
    /// Gathers what a process needs for its purpose, as the file system is now.
    pub fn of(purpose: &Purpose<'_>) -> Self {
        let user = directories::BaseDirs::new();
        Self::at_home(purpose, user.as_ref().map(directories::BaseDirs::home_dir))
    }

    fn at_home(purpose: &Purpose<'_>, home: Option<&Path>) -> Self {
        let mut needs = Self { home: home.map(resolve), ..Self::default() };
        // No rule can be made for what is not there.
        for path in SYSTEM.iter().filter_map(|path| fs::canonicalize(path).ok()) {
            needs.rule(path, Access::Read);
        }
        for (path, access) in DEVICES {
            needs.allow(Path::new(path), access);
        }
        for name in ["SSL_CERT_FILE", "CREDENTIALS_DIRECTORY", "TZDIR"] {
            if let Some(path) = env::var_os(name) {
                needs.read(Path::new(&path), name.to_owned());
            }
        }
        if let Some(directories) = env::var_os("SSL_CERT_DIR") {
            env::split_paths(&directories).for_each(|path| needs.allow(&path, Access::Read));
        }
        for link in ["/etc/resolv.conf", "/etc/localtime"] {
            needs.read(Path::new(link), link.to_owned());
        }
        if let Some(file) = purpose.file {
            needs.read(file, "the configuration".to_owned());
        }
        if let Some(state) = purpose.state {
            needs.write_beside(state, "the state file");
        }
        if let Some(database) = purpose.database {
            needs.database(database);
        }
        for socket in &purpose.served {
            needs.write_beside(socket, "`status_listen`");
        }
        if let Some(metrics) = purpose.metrics {
            needs.write_beside(metrics, "`metrics_file`");
        }
        // Large messages on their way, and SQLite when it sorts much.
        needs.allow(&spool_directory(), Access::Write);
        for account in purpose.accounts() {
            needs.account(account);
            // New accounts have their maildirs beside those of the others.
            for target in account.targets() {
                if let (ConfigReads::Again, Target::Maildir(path)) = (purpose.reading, target)
                    && let Some(above) = resolve(path).parent()
                    && !needs.is_wide(above)
                {
                    needs.rule(above.to_owned(), Access::Write);
                }
            }
        }
        // Links may lead elsewhere later.
        needs.led = BTreeMap::new();
        needs
    }

    /// Says whether something is missing that is to be written.
    pub(super) fn lack_directories(&self) -> bool {
        self.named.iter().any(|(path, access, _)| *access == Access::Write && !path.exists())
    }

    pub(super) fn first_command(&self) -> Option<&str> {
        self.commands.first().map(String::as_str)
    }

    /// Gives every path with what may be done there.
    pub(super) fn rules(&self) -> impl Iterator<Item = (&Path, Access)> {
        self.rules.iter().map(|(path, access)| (path.as_path(), *access))
    }

    /// Gives each written directory that holds much else, and whom it is written for.
    pub(super) fn wide(&self) -> impl Iterator<Item = (&Path, &str)> {
        let wide = |(path, access): &(&Path, Access)| {
            *access == Access::Write && self.is_wide(path) && !is_temporary(path)
        };
        self.rules().filter(wide).filter_map(|(path, _)| {
            let within = |(named, access, _): &&(PathBuf, Access, String)| {
                let made_here = named.starts_with(path) && !named.exists();
                *access == Access::Write && (named == path || made_here)
            };
            self.named.iter().find(within).map(|(_, _, what)| (path, what.as_str()))
        })
    }

    /// Says whether a path may be used like that under these rules.
    pub(super) fn covers(&self, path: &Path, access: Access) -> bool {
        let path = resolve(path);
        path.ancestors().any(|above| self.rules.get(above).is_some_and(|allowed| *allowed >= access))
    }

    /// Says what of another's needs is not covered by these.
    pub(super) fn lacks(&self, other: &Self) -> Option<String> {
        if let Some(command) = other.first_command() {
            return Some(format!("{command} is a command, and there was none"));
        }
        let lacking = other.named.iter().find(|(path, access, _)| !self.covers(path, *access));
        lacking.map(|(path, _, what)| format!("{what} needs {}", path.display()))
    }

    /// Allows to read a file, and what may be put in its place: its directory, that of its name and that which links
    /// lead to; where that would be too much, the file as it is.
    fn read(&mut self, path: &Path, what: String) {
        let key = (path.to_owned(), Access::Read);
        if let Some(target) = self.led.get(&key) {
            return self.named.push((target.clone(), Access::Read, what));
        }
        let target = resolve(path);
        self.led.insert(key, target.clone());
        self.named.push((target.clone(), Access::Read, what));
        if target.is_dir() {
            return self.rule(target, Access::Read);
        }
        for file in names(path, &target) {
            match file.parent().map(resolve) {
                Some(directory) if !self.is_wide(&directory) => self.rule(directory, Access::Read),
                Some(_) | None => self.allow(file, Access::Read),
            }
        }
    }

    /// Allows to write a file and others beside it: locks, logs.
    fn write_beside(&mut self, path: &Path, what: &str) {
        let target = resolve(path);
        for file in names(path, &target) {
            if let Some(directory) = file.parent() {
                self.write(directory, what);
            }
        }
    }

    /// Allows to write into a directory; gives where it is.
    fn write(&mut self, directory: &Path, what: &str) -> PathBuf {
        let key = (directory.to_owned(), Access::Write);
        let resolved = match self.led.get(&key) {
            Some(resolved) => resolved.clone(),
            None => {
                let resolved = resolve(directory);
                // What is still missing is made in what is there.
                if let Some(there) = resolved.ancestors().find(|above| above.exists()) {
                    self.rule(there.to_owned(), Access::Write);
                }
                self.led.insert(key, resolved.clone());
                resolved
            }
        };
        self.named.push((resolved.clone(), Access::Write, what.to_owned()));
        resolved
    }

    fn allow(&mut self, path: &Path, access: Access) {
        self.rule(resolve(path), access);
    }

    fn rule(&mut self, resolved: PathBuf, access: Access) {
        let allowed = self.rules.entry(resolved).or_insert(access);
        *allowed = access.max(*allowed);
    }

    /// Says whether a directory holds much that has nothing to do with a file in it: the home directory, those above
    /// it, and everyone's temporary files.
    fn is_wide(&self, directory: &Path) -> bool {
        let home = self.home.as_ref().is_some_and(|home| home.starts_with(directory));
        home || directory.parent().is_none() || is_temporary(directory)
    }
}

/// `reads 12 places, writes /home/alice/Mail, ...`
impl fmt::Display for Needs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let written = |(_, access): &(&Path, Access)| *access == Access::Write;
        let reads = self.rules().filter(|rule| !written(rule)).count();
        write!(f, "reads {reads} places and the system's files, writes")?;
        for (index, (path, _)) in self.rules().filter(written).enumerate() {
            write!(f, "{}{}", if index == 0 { " " } else { ", " }, path.display())?;
        }
        Ok(())
    }
}

/// Says whether everyone may make files in a directory.
fn is_temporary(directory: &Path) -> bool {
    fs::metadata(directory).is_ok_and(|found| found.mode() & 0o1002 == 0o1002)
}

/// Gives a path, and what it leads to where that is another.
fn names<'a>(path: &'a Path, resolved: &'a Path) -> impl Iterator<Item = &'a Path> {
    iter::once(path).chain((path != resolved).then_some(resolved))
}

/// Follows links as far as the path exists.
fn resolve(path: &Path) -> PathBuf {
    for above in path.ancestors() {
        if let (Ok(real), Ok(rest)) = (fs::canonicalize(above), path.strip_prefix(above)) {
            return if rest.as_os_str().is_empty() { real } else { real.join(rest) };
        }
    }
    path.to_owned()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::config::Config;

    /// A home directory, and accounts that have these keys.
    fn needs(home: &Path, keys: &[&str]) -> Needs {
        let config = config(home, keys);
        Needs::at_home(&Purpose::of(&config), Some(home))
    }

    fn config(home: &Path, keys: &[&str]) -> Config {
        let accounts = keys.iter().enumerate().map(|(index, keys)| {
            let keys = keys.replace('~', home.to_str().unwrap());
            format!("  a{index}: {{host: h, user: u{index}, {keys}}}\n")
        });
        let state = home.join("state/state.db");
        let yaml = format!("state: {}\naccounts:\n{}", state.display(), accounts.collect::<String>());
        Config::from_yaml(&yaml, &home.join("config/config.yaml")).unwrap_or_else(|error| panic!("{error}"))
    }

    fn home() -> tempfile::TempDir {
        let home = tempfile::tempdir().unwrap();
        for directory in ["state", "config", "Mail", "secrets"] {
            fs::create_dir(home.path().join(directory)).unwrap();
        }
        home
    }

    #[test]
    fn a_configuration_is_covered_if_it_needs_no_other_place_and_no_command() {
        let home = home();
        let maildir = "deliver: {maildir: ~/Mail}, password: {file: ~/secrets/a}";
        let now = needs(home.path(), &[maildir]);
        for same in [
            &[maildir][..],
            &["deliver: {maildir: ~/Mail/.Sub}, password: {file: ~/secrets/b}"],
            &["deliver: {maildir: ~/Mail}, password: x", "deliver: {mbox: ~/Mail/inbox}"],
            &[maildir, "deliver: {pipe: [cat]}, enabled: false"],
        ] {
            assert_eq!(now.lacks(&needs(home.path(), same)), None, "{same:?}");
        }
        let real = fs::canonicalize(home.path()).unwrap();
        for (other, lacks) in [
            ("deliver: {maildir: ~/Other}", format!("the maildir of a0 needs {}/Other", real.display())),
            ("deliver: {mbox: ~/inbox}", format!("the mbox of a0 needs {}", real.display())),
            (
                "deliver: {maildir: ~/Mail}, password: {file: ~/private/a}",
                format!("`password` of a0 needs {}/private/a", real.display()),
            ),
            ("deliver: {maildir: ~/Mail}, tls_ca: ~/ca.pem", {
                format!("a certificate or key of a0 needs {}/ca.pem", real.display())
            }),
            ("deliver: {pipe: [cat]}", "`deliver` of a0 is a command, and there was none".into()),
            (
                "deliver: {maildir: ~/Mail}, connect: [ssh, h]",
                "`connect` of a0 is a command, and there was none".into(),
            ),
            (
                "deliver: {maildir: ~/Mail}, hooks: {on_error: x}",
                "a hook of a0 is a command, and there was none".into(),
            ),
            (
                "deliver: {smtp: {to: [a@b], user: u, password: {command: x}}}",
                "the password of `deliver` of a0 is a command, and there was none".into(),
            ),
        ] {
            assert_eq!(now.lacks(&needs(home.path(), &[other])), Some(lacks), "{other}");
        }
    }

    #[test]
    fn what_a_database_takes_is_needed_and_a_command_for_its_password_confines_nobody() {
        let home = home();
        let needs = |keys: &str| {
            let path = home.path().display();
            let yaml = format!(
                "state: {{ postgres: {{ url: postgresql://u@db.example.org/p, {} }} }}\naccounts: \
                 {{ a: {{ host: h, user: u, password: x, deliver: {{ smtp: {{ to: [a@b] }} }} }} }}",
                keys.replace('~', &path.to_string())
            );
            let config = Config::from_yaml(&yaml, &home.path().join("config/config.yaml"));
            let config = config.unwrap_or_else(|error| panic!("{error}"));
            Needs::at_home(&Purpose::of(&config), Some(home.path()))
        };
        let plain = needs("password: x");
        let state = home.path().join("state");
        assert!(!plain.covers(&state, Access::Write), "nothing of the state is a file");
        let real = fs::canonicalize(home.path()).unwrap();
        for (keys, what) in [
            ("password: { file: ~/private/a }", "`password` of `state` needs"),
            ("secrets_key: [x, { file: ~/private/a }]", "`secrets_key` of `state` needs"),
            ("tls_ca: ~/private/a", "a certificate or key of `state` needs"),
        ] {
            let lacks = plain.lacks(&needs(keys)).unwrap();
            assert_eq!(lacks, format!("{what} {}/private/a", real.display()));
        }
        let command = needs("password: { command: pass }");
        assert_eq!(command.first_command(), Some("`password` of `state`"));
    }

    #[test]
    fn a_daemon_takes_new_accounts_with_maildirs_beside_the_others_but_not_all_of_the_home() {
        let home = home();
        let lacks = |maildir: &str, other: &str| {
            let keys = |path: &str| format!("deliver: {{maildir: {path}}}");
            let config = config(home.path(), &[&keys(maildir)]);
            let purpose = Purpose { reading: ConfigReads::Again, ..Purpose::of(&config) };
            Needs::at_home(&purpose, Some(home.path())).lacks(&needs(home.path(), &[&keys(other)]))
        };
        assert_eq!(lacks("~/Mail/alice", "~/Mail/bob"), None);
        assert!(lacks("~/Mail/alice", "~/secrets").is_some());
        assert!(lacks("~/Mail", "~/bob").is_some());
    }

    #[test]
    fn a_process_that_is_not_confined_takes_any_configuration_and_one_that_is_only_what_is_covered() {
        let home = home();
        let config = |keys| config(home.path(), &[keys]);
        let free = super::super::Sandbox { confined_to: None };
        assert!(free.admit(&config("deliver: {pipe: [cat]}")).is_ok());
        let now = needs(home.path(), &["deliver: {maildir: ~/Mail}"]);
        let confined = super::super::Sandbox { confined_to: Some(now) };
        assert!(confined.admit(&config("deliver: {maildir: ~/Mail/.Sub}")).is_ok());
        let refused = confined.admit(&config("deliver: {pipe: [cat]}")).unwrap_err().to_string();
        assert!(refused.contains("config.yaml: not taken over: `deliver` of a0 is a command"), "{refused}");
        assert!(refused.ends_with("restart it"), "{refused}");
    }

    #[test]
    fn what_lies_directly_in_the_home_directory_opens_the_file_and_not_the_home() {
        let home = home();
        fs::write(home.path().join(".netrc"), "").unwrap();
        fs::write(home.path().join("other"), "").unwrap();
        let needs = needs(home.path(), &["deliver: {maildir: ~/Mail}, password: {netrc: ~/.netrc}"]);
        assert!(needs.covers(&home.path().join(".netrc"), Access::Read));
        assert!(!needs.covers(&home.path().join("other"), Access::Read));
        // Its names are listed to make that of the maildir durable.
        assert!(needs.covers(home.path(), Access::List));
        assert_eq!(needs.wide().count(), 0);
    }

    #[test]
    fn a_link_opens_where_it_leads_and_where_another_may_be_put_in_its_place() {
        let home = home();
        let path = |name: &str| home.path().join(name);
        // As Kubernetes mounts secrets: `..data` is put to lead elsewhere.
        for directory in ["secrets/v1", "secrets/v2"] {
            fs::create_dir(path(directory)).unwrap();
            fs::write(path(directory).join("a"), "").unwrap();
        }
        symlink("v1", path("secrets/data")).unwrap();
        symlink("data/a", path("secrets/a")).unwrap();
        let needs = needs(home.path(), &["deliver: {maildir: ~/Mail}, password: {file: ~/secrets/a}"]);
        fs::remove_file(path("secrets/data")).unwrap();
        symlink("v2", path("secrets/data")).unwrap();
        assert!(needs.covers(&path("secrets/a"), Access::Read));
        fs::write(path("Mail/x"), "").unwrap();
        fs::remove_file(path("secrets/a")).unwrap();
        symlink(path("config"), path("secrets/a")).unwrap();
        assert!(needs.covers(&path("secrets/a"), Access::Read), "the configuration is read, too");
        assert!(!needs.covers(&path("secrets/a"), Access::Write));
    }
}
