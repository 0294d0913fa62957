//! From a path to a [`Config`].

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::Config;
use super::deliver;
use super::error::ConfigError;
use super::file::{self, Secrets};
use super::places::Places;
use super::tree::MOST_OCTETS;
use super::url_parts::UrlError;

/// Permission bits that let others than the owner read.
const OTHERS_READ: u32 = 0o044;

/// Permission bits that let others than the owner write.
const OTHERS_WRITE: u32 = 0o022;

impl Config {
    /// Finds the file: `$XDG_CONFIG_HOME/postrider/config.yaml`, else `/etc/postrider/config.yaml`, unless this user may
    /// not read that.
    ///
    /// # Errors
    ///
    /// Neither is there for this user.
    pub fn find() -> Result<PathBuf, ConfigError> {
        Places::of_process().find()
    }

    /// Finds the file that an account can be put into, whether it is there or not: the user's own, or the system's if
    /// that is there alone and this user may write it.
    ///
    /// # Errors
    ///
    /// There is no home directory.
    pub fn find_writable() -> Result<PathBuf, ConfigError> {
        Places::of_process().find_writable()
    }

    /// Gives where the user's own configuration is, or would be.
    ///
    /// # Errors
    ///
    /// There is no home directory.
    pub fn own() -> Result<PathBuf, ConfigError> {
        Places::of_process().own().ok_or(ConfigError::NoHome)
    }

    /// Reads a configuration file.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, that says something wrong, or that holds a password and can be read by others.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        load(path, &Places::of_process())
    }

    /// Reads a configuration text; `path` is where it came from and stands in messages. Time and memory are bounded
    /// whatever the text is.
    ///
    /// # Errors
    ///
    /// All mistakes of the text at once, or the first if it is not YAML; no home directory where one is needed.
    pub fn from_yaml(text: &str, path: &Path) -> Result<Self, ConfigError> {
        file::read(text, path, &Places::of_process()).map(|read| read.config)
    }
}

/// Gives the state file's path when none is configured: `state.db` in systemd's `$STATE_DIRECTORY` (the first, if
/// there are several), else `$XDG_STATE_HOME/postrider/state.db`, else `~/.local/state/postrider/state.db`.
///
/// # Errors
///
/// There is no home directory.
pub fn default_state() -> Result<PathBuf, ConfigError> {
    Places::of_process().default_state()
}

/// Reads targets of the command line, as `maildir:~/Mail`, and writes them as they may stand in the file.
///
/// # Errors
///
/// A target that is none, or with a secret in it.
pub fn targets_as_yaml(deliver: &[impl AsRef<str>]) -> Result<String, UrlError> {
    deliver::as_yaml(deliver, &Places::of_process())
}

fn load(path: &Path, places: &Places) -> Result<Config, ConfigError> {
    let file = || path.to_owned();
    let unreadable = |source: io::Error| ConfigError::Unreadable { file: file(), source };
    // Looked at before it is opened, since opening a pipe waits for a writer, and again after, since it is another
    // file by then if somebody wants it to be.
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(ConfigError::NotAFile { file: file() });
    }
    let opened = File::open(path).map_err(unreadable)?;
    let metadata = opened.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(ConfigError::NotAFile { file: file() });
    }
    let most = MOST_OCTETS as u64;
    // Room for all of it at once: growing would leave copies of passwords behind.
    let room = usize::try_from(metadata.len().min(most)).unwrap_or(MOST_OCTETS) + 1;
    let mut octets = Zeroizing::new(Vec::with_capacity(room));
    opened.take(most + 1).read_to_end(&mut octets).map_err(unreadable)?;
    if octets.len() > MOST_OCTETS {
        return Err(ConfigError::TooLarge { file: file(), most: MOST_OCTETS });
    }
    let text = str::from_utf8(&octets).map_err(|error| not_utf8(path, &octets, error.valid_up_to()))?;
    let read = file::read(text, path, places)?;
    let mode = metadata.mode() & 0o7777;
    let is_ours = [0, nix::unistd::geteuid().as_raw()].contains(&metadata.uid());
    match read.secrets {
        Secrets::Inside if mode & OTHERS_READ != 0 => Err(ConfigError::Exposed { file: file(), mode }),
        // Whoever writes it has commands run as this user.
        _ if mode & OTHERS_WRITE != 0 => Err(ConfigError::Writable { file: file(), mode }),
        _ if !is_ours => Err(ConfigError::Strange { file: file() }),
        _ if may_be_replaced(path) || fs::canonicalize(path).is_ok_and(|path| may_be_replaced(&path)) => {
            Err(ConfigError::Replaceable { file: file() })
        }
        Secrets::Inside | Secrets::Elsewhere => Ok(read.config),
    }
}

/// Says whether anybody at all may put another file in this one's place: its directory is everybody's to write, and not
/// as /tmp is, where each can only remove what is theirs.
fn may_be_replaced(path: &Path) -> bool {
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
    let mode = fs::metadata(directory.unwrap_or(Path::new("."))).map_or(0, |directory| directory.mode());
    mode & 0o1002 == 0o0002
}

/// Tells line and column of the first octet that is no text.
fn not_utf8(path: &Path, octets: &[u8], valid: usize) -> ConfigError {
    let before = String::from_utf8_lossy(&octets[..valid]);
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    ConfigError::NotUtf8 { file: path.to_owned(), line, column }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const SOUND: &str =
        "accounts:\n  home:\n    host: h\n    user: u\n    password: PASSWORD\n    deliver: {maildir: /m}\n";

    fn loaded(octets: &[u8], mode: u32) -> Result<Config, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.yaml");
        fs::write(&path, octets).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let shown = |error: ConfigError| error.to_string().replace(path.to_str().unwrap(), "FILE");
        let places = Places { state: Some("/state".into()), ..Places::default() };
        load(&path, &places).map_err(shown)
    }

    #[test]
    fn a_file_with_a_password_must_be_readable_by_its_owner_alone() {
        let literal = SOUND.replace("PASSWORD", "hunter2");
        for mode in [0o600, 0o400, 0o700] {
            assert_eq!(
                loaded(literal.as_bytes(), mode).map(|config| config.accounts.len()),
                Ok(1),
                "{mode:o}"
            );
        }
        for mode in [0o640, 0o604, 0o644, 0o666] {
            let words =
                format!("FILE: holds a password and is readable by others (mode {mode:04o}): chmod 600 FILE");
            assert_eq!(loaded(literal.as_bytes(), mode), Err(words));
        }
        // Nobody learns anything from a file that says only where passwords are.
        let elsewhere = SOUND.replace("PASSWORD", "{command: pass show mail}");
        assert!(loaded(elsewhere.as_bytes(), 0o644).is_ok());
        // A password that no account uses is one all the same.
        let unused = format!("defaults:\n  password: hunter2\n{elsewhere}");
        assert!(loaded(unused.as_bytes(), 0o644).unwrap_err().starts_with("FILE: holds a password"));
    }

    #[test]
    fn a_file_that_others_may_write_or_replace_is_refused_whatever_is_in_it() {
        let elsewhere = SOUND.replace("PASSWORD", "{command: pass show mail}");
        for mode in [0o660, 0o622, 0o664, 0o666] {
            let words = format!(
                "FILE: others may write it (mode {mode:04o}), and have commands run by what they write: chmod go-w FILE"
            );
            assert_eq!(loaded(elsewhere.as_bytes(), mode), Err(words));
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.yaml");
        fs::write(&path, &elsewhere).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let places = Places { state: Some("/state".into()), ..Places::default() };
        for (mode, refused) in [(0o777, true), (0o1777, false), (0o775, false), (0o755, false)] {
            fs::set_permissions(directory.path(), fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(load(&path, &places).is_err(), refused, "{mode:o}");
        }
        // Nor by way of a link into such a directory.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let own = tempfile::tempdir().unwrap();
        let link = own.path().join("config.yaml");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(load(&link, &places).unwrap_err().to_string().contains("everybody may replace it"));
    }

    #[test]
    fn a_file_of_somebody_else_is_refused() {
        let elsewhere = SOUND.replace("PASSWORD", "{command: pass show mail}");
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.yaml");
        fs::write(&path, &elsewhere).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        if std::os::unix::fs::chown(&path, Some(65534), None).is_err() {
            return; // Only root can give a file away.
        }
        let places = Places { state: Some("/state".into()), ..Places::default() };
        let words = load(&path, &places).unwrap_err().to_string();
        assert!(words.contains("neither yours nor root's"), "{words}");
    }

    #[test]
    fn what_is_no_text_is_told_by_line_and_column() {
        let error = loaded(b"# \xc3\xa4\n# \xc3\xa4\xff\n", 0o600).unwrap_err();
        assert_eq!(error, "FILE:2:4: not UTF-8 text from here on");
    }

    #[test]
    fn a_home_is_needed_where_the_state_or_tokens_are_files_and_nowhere_else() {
        let state = |database: &str, oauth2: &str| {
            let account = "host: h, user: u, deliver: { maildir: /m }";
            let text = format!("{database}accounts: {{ home: {{ {account}{oauth2} }} }}\n");
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("config.yaml");
            fs::write(&path, text).unwrap();
            load(&path, &Places::default()).map(|config| config.state)
        };
        let database = |keys: &str| format!("state: {{ postgres: {{ url: 'postgresql://d/p'{keys} }} }}\n");
        let (password, tokens) = (", password: { env: P }", ", oauth2: { token_command: [broker] }");
        let keys = ", secrets_key: { env: K }";
        for (database, login) in
            [(database(""), password), (database(keys), password), (database(keys), tokens)]
        {
            assert_eq!(state(&database, login).unwrap(), PathBuf::new(), "{database} {login}");
        }
        for (database, login) in [(String::new(), password), (database(""), tokens)] {
            let refused = state(&database, login);
            assert!(matches!(refused, Err(ConfigError::NoHome)), "{database} {login}: {refused:?}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_is_one_clear_error() {
        let directory = tempfile::tempdir().unwrap();
        let words = |path: &Path| load(path, &Places::default()).unwrap_err().to_string();
        let missing = directory.path().join("missing.yaml");
        assert_eq!(
            words(&missing),
            format!(
                "{}: cannot read the configuration: No such file or directory (os error 2)",
                missing.display()
            )
        );
        assert!(words(directory.path()).ends_with("cannot read the configuration: not a regular file"));
        let pipe = directory.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(words(&pipe).ends_with("cannot read the configuration: not a regular file"));
        assert!(
            loaded(&vec![b'#'; MOST_OCTETS + 1], 0o600).unwrap_err().contains("larger than 4194304 octets")
        );
        assert_eq!(loaded(b"", 0o600).unwrap_err(), "FILE:1:1: the file is empty: it needs `accounts`");
    }
}
