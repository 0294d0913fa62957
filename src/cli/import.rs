//! `postrider import`: the configuration of another program, and what that one has fetched.

mod steps;
mod take_over;

use std::collections::HashSet;
use std::env;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use nix::unistd::{Uid, User, getuid};

use super::common::content;
use super::exit::Exit;
use super::owner::{Owner, state_of_service};
use super::stdout::Results;
use super::{CliError, Common, common};
use crate::config::account::Keep;
use crate::config::{Config, ConfigError};
use crate::disk::durable;
use crate::import::{self, Around, Imported, Value};
use crate::secret::Secret;
use crate::text::{counted, shell_word};
use steps::Steps;

/// Octets of another program's configuration at most.
const MOST_OCTETS: u64 = 4 * 1024 * 1024;

/// Octets of a list of what was fetched at most.
const LONGEST_LIST: u64 = 512 * 1024 * 1024;

#[derive(Debug, Args)]
pub struct Import {
    /// Whose configuration it is
    #[arg(value_enum)]
    program: Program,
    /// The file to read [default: where that program looks for it]
    file: Option<PathBuf>,
    /// Take over what that program has recorded as fetched, into the state of the configuration that is in place now
    #[arg(long)]
    seen: bool,
    /// With --seen: the list of what was fetched [default: that which FILE names]
    #[arg(long, value_name = "FILE", requires = "seen")]
    list: Option<PathBuf>,
    /// Where passwords of FILE are written, each into a file of its own [default: secrets/ beside the configuration]
    #[arg(long, value_name = "DIR", conflicts_with_all = ["seen", "inline"])]
    secrets: Option<PathBuf>,
    /// Print passwords of FILE where they are used
    #[arg(long, conflicts_with = "seen")]
    inline: bool,
    /// Write the configuration to where it belongs, if there is none yet, instead of printing it, and take over at once
    /// what that program has recorded as fetched
    #[arg(long, conflicts_with = "seen")]
    write: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Program {
    Fetchmail,
    Mpop,
    Getmail,
    Fdm,
}

impl From<Program> for import::Program {
    fn from(program: Program) -> Self {
        match program {
            Program::Fetchmail => Self::Fetchmail,
            Program::Mpop => Self::Mpop,
            Program::Getmail => Self::Getmail,
            Program::Fdm => Self::Fdm,
        }
    }
}

/// A configuration that was read, and where from.
struct Source {
    file: PathBuf,
    home: PathBuf,
    imported: Imported,
}

/// A configuration that was made of another program's.
struct Made {
    yaml: String,
    /// Files into which passwords were written.
    secrets: Vec<PathBuf>,
}

impl Import {
    pub async fn run(&self, common: &Common, results: &mut Results) -> Result<Exit, CliError> {
        let source = self.read()?;
        match self.seen {
            true => self.take_over(&source, common, results).await,
            false => self.print(source, common, results).await,
        }
    }

    fn read(&self) -> Result<Source, CliError> {
        let program = self.program.into();
        let user = directories::BaseDirs::new().ok_or(ConfigError::NoHome)?;
        let home = user.home_dir().to_owned();
        let file = match &self.file {
            Some(file) => file.clone(),
            None => {
                let usual = import::usual(program, &home, user.config_dir());
                let there = usual.iter().find(|path| path.try_exists().unwrap_or(true));
                there.cloned().ok_or_else(|| no_file(program, &usual[0]))?
            }
        };
        let file = std::path::absolute(&file).unwrap_or(file);
        // What root imports is of whoever runs the other program: Debian's fetchmail of a machine has a user of its own.
        let (home, user) = owner_of(&file).unwrap_or_else(|| (home, who()));
        let around = Around { has_netrc: home.join(".netrc").exists(), home: home.clone(), user };
        let (texts, besides) = match file.is_dir() {
            true => rc_files(&file)?,
            false => (vec![(file.clone(), text(&file, MOST_OCTETS)?)], Vec::new()),
        };
        if !self.seen && !besides.is_empty() {
            let besides = besides.join(", ");
            log::warn!(
                "besides getmailrc these are taken, each an account: {besides}; take out what getmail is no longer told to read"
            );
        }
        let included = |path: &Path| {
            content(path, MOST_OCTETS).and_then(|octets| utf8(octets).map_err(io::Error::other))
        };
        let imported = import::read(program, &texts, &around, &included)?;
        Ok(Source { file, home, imported })
    }

    async fn print(
        &self,
        mut source: Source,
        common: &Common,
        results: &mut Results,
    ) -> Result<Exit, CliError> {
        let place = place(common)?;
        if self.write && place.symlink_metadata().is_ok() {
            let source = io::Error::new(
                ErrorKind::AlreadyExists,
                "it is there already; without --write it is printed",
            );
            return Err(CliError::Unwritten { file: place, source });
        }
        // Whoever looks from a shell shall see what the service sees.
        source.imported.state = state_of_service(&place).map(|state| state.to_string_lossy().into_owned());
        let Made { yaml, secrets: files } = self.made(&mut source, common, &place)?;
        let secrets = files.first().map(|first| {
            let directory = beside(first).display();
            format!("{} written into {directory}, for you alone", counted(files.len(), "password"))
        });
        if !self.write {
            results.write(yaml.as_bytes());
            if let Some(secrets) = secrets {
                log::warn!("{secrets}; --inline prints them");
            }
            return Ok(Exit::SUCCESS);
        }
        let hidden = common.hidden_by(&place);
        create(&place, yaml.as_bytes())
            .map_err(|source| CliError::Unwritten { file: place.clone(), source })?;
        results.line(format_args!("{} written. Look through its comments.", place.display()));
        self.let_service_read(&place, &files)?;
        hidden.iter().for_each(|system| results.line(common::hiding(system)));
        secrets.iter().for_each(|secrets| results.line(format_args!("{secrets}.")));
        let steps = self.steps(&source, common);
        // What is not taken over now is by the step that is told below.
        if let Err(error) = self.take_over(&source, common, results).await {
            log::warn!("{error}");
        }
        steps.iter().for_each(|line| results.line(line));
        Ok(Exit::SUCCESS)
    }

    /// Lets the user who polls read what root has written; passwords that stand in the configuration are root's to place.
    fn let_service_read(&self, place: &Path, secrets: &[PathBuf]) -> Result<(), CliError> {
        let Some(owner) = Config::load(place).ok().and_then(|config| Owner::of_config(&config)) else {
            return Ok(());
        };
        let unwritten = |file: &Path| {
            let file = file.to_owned();
            move |source| CliError::Unwritten { file, source }
        };
        if !self.inline {
            owner.let_read(place).map_err(unwritten(place))?;
        }
        for path in
            secrets.first().map(|first| beside(first)).into_iter().chain(secrets.iter().map(PathBuf::as_path))
        {
            owner.give(path).map_err(unwritten(path))?;
        }
        Ok(())
    }

    /// Makes a configuration for this place, and writes what passwords it has into files.
    fn made(&self, source: &mut Source, common: &Common, place: &Path) -> Result<Made, CliError> {
        let Source { file, imported, .. } = source;
        if imported.accounts.iter().all(|account| account.left_out().is_some()) {
            let why = imported
                .accounts
                .iter()
                .filter_map(|account| Some(format!("\n  {}: {}", account.name, account.left_out()?)));
            let what = format!("no account that mail can be fetched from{}", why.collect::<String>());
            return Err(CliError::Foreign { file: file.clone(), what });
        }
        let directory = match &self.secrets {
            Some(directory) => absolute(directory)?,
            None => beside(place).join("secrets"),
        };
        let (mut used, mut secrets) = (HashSet::new(), Vec::new());
        imported.place_secrets(|name, secret| match self.inline {
            true => Ok::<_, CliError>(Value::Text(String::from_utf8_lossy(secret.reveal()).into_owned())),
            false => {
                let (path, written) = stored(&directory, name, secret, &mut used)?;
                let value = Value::Text(path.to_string_lossy().into_owned());
                if written == Written::Now {
                    secrets.push(path);
                }
                Ok(Value::Map(vec![("file".to_owned(), value)]))
            }
        })?;
        let yaml = import::print(&source.imported, &self.head(source, common, place));
        // What another program bears, we may not: a host that is none, a list of one address twice.
        let shown = if self.write { place } else { Path::new("what is printed") };
        match Config::from_yaml(&yaml, shown) {
            Err(error) => log::warn!("it wants a hand: {error}"),
            Ok(config) => self.warn_of_deletion(&config),
        }
        Ok(Made { yaml, secrets })
    }

    /// Gives what stands on top of the configuration; where that is only printed, what is to be done with it.
    fn head(&self, source: &Source, common: &Common, place: &Path) -> Vec<String> {
        let program = import::Program::from(self.program);
        let mut head = vec![format!("What {program} does by {}, for postrider.", source.file.display())];
        if self.write {
            return head;
        }
        head.push(match place.symlink_metadata() {
            Ok(_) => {
                format!("{} is there already: put into it by hand what you want of this.", place.display())
            }
            Err(_) => {
                let (import, place) = (self.named(), place.display());
                format!("Look through it: `postrider import {import} --write` writes it to {place}.")
            }
        });
        head.extend(self.steps(source, common));
        head
    }

    /// Gives what is left to do by hand.
    fn steps(&self, source: &Source, common: &Common) -> Vec<String> {
        let named = common.named().map(|path| std::path::absolute(&path).unwrap_or(path));
        let steps = Steps {
            program: self.program.into(),
            home: &source.home,
            interval: source.imported.interval,
            option: named.map_or_else(String::new, |path| format!(" --config {}", word(&path))),
            import: self.named(),
        };
        steps.lines()
    }

    /// Gives what stands behind `import` on the command line.
    fn named(&self) -> String {
        let program = import::Program::from(self.program);
        let file = self.file.as_deref().map(|file| format!(" {}", word(file)));
        format!("{program}{}", file.unwrap_or_default())
    }

    /// Says which accounts will delete what they deliver: that program does by its file, but may have been called with an
    /// option that keeps mail, and what is deleted does not come back.
    fn warn_of_deletion(&self, config: &Config) {
        let deleting: Vec<&str> = config
            .accounts
            .iter()
            .filter(|account| account.enabled && account.keep == Keep::None)
            .map(|account| account.name.as_str())
            .collect();
        if !deleting.is_empty() {
            let option = if let Program::Getmail = self.program { "-l" } else { "-k" };
            log::warn!(
                "{}: deleted on the server once delivered (`keep: none`), as the file says; if {} was called with \
                 {option}, write `keep: forever`",
                deleting.join(", "),
                import::Program::from(self.program)
            );
        }
    }
}

/// Writes a secret into a file of its own, which only its owner may read, and gives its path. One that is there and holds
/// the same is used; another is left alone.
pub(super) fn stored(
    directory: &Path,
    name: &str,
    secret: &Secret,
    used: &mut HashSet<PathBuf>,
) -> Result<(PathBuf, Written), CliError> {
    let names = std::iter::once(name.to_owned()).chain((2..).map(|number| format!("{name}-{number}")));
    for path in names.map(|name| directory.join(name)) {
        if used.contains(&path) {
            continue;
        }
        let mut written = Written::Now;
        match create(&path, &[secret.reveal(), b"\n"].concat()) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let there = fs::read(&path).unwrap_or_default();
                if there.strip_suffix(b"\n").unwrap_or(&there) != secret.reveal() {
                    continue;
                }
                written = Written::Before;
            }
            Err(source) => return Err(CliError::Unwritten { file: path, source }),
        }
        used.insert(path.clone());
        return Ok((path, written));
    }
    Err(CliError::Usage("no name is free for a file of secrets".into()))
}

/// Gives where the configuration that is made is to be.
fn place(common: &Common) -> Result<PathBuf, CliError> {
    match common.named() {
        Some(config) => absolute(&config),
        None => Ok(Config::own()?),
    }
}

fn absolute(path: &Path) -> Result<PathBuf, CliError> {
    std::path::absolute(path).map_err(|source| CliError::Unwritten { file: path.to_owned(), source })
}

fn beside(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

/// Makes a file, and the directories above it, that its owner alone may read, and makes it durable.
fn create(path: &Path, octets: &[u8]) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(beside(path))?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(octets)?;
    durable::sync(&file)?;
    durable::sync_directory_of(path)
}

/// When a file of a secret was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    Now,
    Before,
}

/// Reads what getmail may be told to read of its directory: `getmailrc`, and the other files that have a retriever; gives the
/// names of these.
fn rc_files(directory: &Path) -> Result<(Vec<import::Text>, Vec<String>), CliError> {
    let unreadable = |source| ConfigError::Unreadable { file: directory.to_owned(), source };
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_file() && import::is_rc(&name) {
            files.push((name != "getmailrc", path));
        }
    }
    files.sort();
    let (mut texts, mut besides) = (Vec::new(), Vec::new());
    for (is_other, path) in files {
        let text = match text(&path, MOST_OCTETS) {
            Err(error) if is_other => {
                log::warn!("{error}: not taken");
                continue;
            }
            text => text?,
        };
        if is_other && !text.lines().any(|line| line.trim_end() == "[retriever]") {
            continue;
        }
        if is_other {
            besides.push(path.file_name().unwrap_or_default().to_string_lossy().into_owned());
        }
        texts.push((path, text));
    }
    if texts.is_empty() {
        let what = "there is no getmailrc, nor another file with a [retriever]".to_owned();
        return Err(CliError::Foreign { file: directory.to_owned(), what });
    }
    // Without a getmailrc all of them are what was meant.
    if texts.len() == besides.len() {
        besides.clear();
    }
    Ok((texts, besides))
}

fn word(path: &Path) -> String {
    shell_word(&path.to_string_lossy()).into_owned()
}

/// Gives home and name of the user to whom a file belongs, if this is root and that is another one.
fn owner_of(file: &Path) -> Option<(PathBuf, String)> {
    let uid = Uid::from_raw(file.metadata().ok()?.uid());
    let user = User::from_uid(uid).ok().flatten().filter(|_| getuid().is_root() && !uid.is_root())?;
    Some((user.dir, user.name))
}

/// Gives the name of whoever runs this, as other programs find it.
fn who() -> String {
    let named =
        ["LOGNAME", "USER"].iter().find_map(|name| env::var(name).ok().filter(|name| !name.is_empty()));
    let of_system = || User::from_uid(getuid()).ok().flatten().map(|user| user.name);
    named.or_else(of_system).unwrap_or_else(|| "root".to_owned())
}

/// Says that a program has no configuration where it looks for one, and how another file is named.
fn no_file(program: import::Program, file: &Path) -> CliError {
    // A machine's fetchmail, as Debian has it.
    const SERVICE: &str = "/etc/fetchmailrc";
    let name = match program {
        import::Program::Fetchmail if Path::new(SERVICE).exists() => SERVICE,
        _ => "FILE",
    };
    let what = format!("there is none; name the file to read: `postrider import {program} {name}`");
    CliError::Foreign { file: file.to_owned(), what }
}

fn text(file: &Path, most: u64) -> Result<String, CliError> {
    let unreadable = |source| ConfigError::Unreadable { file: file.to_owned(), source };
    let octets = content(file, most).map_err(unreadable)?;
    utf8(octets).map_err(|what| CliError::Foreign { file: file.to_owned(), what })
}

fn utf8(octets: Vec<u8>) -> Result<String, String> {
    String::from_utf8(octets).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..at].iter().filter(|octet| **octet == b'\n').count() + 1;
        format!("line {line} is no UTF-8: change the file's character set (iconv), and check its passwords")
    })
}
