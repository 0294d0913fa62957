//! The command line: reads arguments, shows results, decides nothing about mail.

mod accounts;
mod check;
mod completions;
mod config;
mod daemon;
pub mod exit;
mod held;
mod open_files;
mod poll;
mod progress;
mod report;
mod seen;
mod status;
mod stdout;
mod sync;
mod wake;

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use log::LevelFilter;

use crate::blocking;
use crate::config::{Config, ConfigError, UrlError};
use crate::daemon::DaemonError;
use crate::daemon::control::client::ClientError;
use crate::failure::Failure;
use crate::logging::Format;
use crate::state::StateError;

pub use exit::Exit;
use stdout::Results;

/// How long the configuration may take to be read.
const PATIENCE: Duration = Duration::from_secs(5);

/// Stands below the help of every command.
const EXIT_STATUS: &str = "\
Exit status:
   0  all polled accounts succeeded, new mail or not (check: mail is waiting)
   1  check only: no mail is waiting
   2  the command line is wrong
  75  an account or a message failed, and a later run may succeed
  77  a server refused the credentials of an account
  78  the configuration is wrong, and nothing was contacted

Manual: postrider(1), postrider.yaml(5)";

/// Stands below the help of `daemon`.
const DAEMON_EXIT_STATUS: &str = "\
Signals:
  TERM, INT  finish or abandon what is in flight, and exit with 0 within 10 s; a second one exits at once
  HUP        read the configuration again; a wrong one is reported, and the old one stays
  USR1       poll all accounts now

Exit status:
   0  it was asked to end
  75  it could not go on, or was asked twice to end
  78  the configuration was wrong at the start

Manual: postrider(1), postrider.yaml(5)";

/// Stands below the help of `wake`.
const WAKE_EXIT_STATUS: &str = "\
Exit status:
   0  the daemon polls as soon as the servers and its limits allow
   2  the command line is wrong
  75  no daemon runs, or it does not have an account
  78  the configuration is wrong

Manual: postrider(1), postrider.yaml(5)";

/// Puts an example before what stands below a command's help.
fn example(command: &str, below: &str) -> String {
    format!("Example:\n  {command}\n\n{below}")
}

/// Fetches mail from POP3 maildrops and delivers it: never lost, and in a maildir never twice.
#[derive(Debug, Parser)]
#[command(name = "postrider", version, after_help = EXIT_STATUS, disable_help_subcommand = true)]
pub struct Arguments {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

/// Options of every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of every command")]
struct Common {
    /// Configuration file [default: $XDG_CONFIG_HOME/postrider/config.yaml, else /etc/postrider/config.yaml]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Say more: -v each message, -vv what is being done, -vvv the dialogue with secrets masked
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,
    /// Say nothing but errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Lines on standard error: for people, one JSON object each, or with systemd's priorities
    #[arg(long, global = true, value_enum, value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogFormat {
    Text,
    Json,
    Journal,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Polls accounts once, concurrently: fetches what is new, delivers it, deletes what is due
    #[command(after_help = example("postrider sync home\n  postrider sync pops://alice@pop.example.org --deliver maildir:~/Mail", EXIT_STATUS))]
    Sync(sync::Sync),
    /// Stays in the foreground and polls each account at its interval
    #[command(after_help = example("postrider -v daemon", DAEMON_EXIT_STATUS))]
    Daemon(daemon::Daemon),
    /// Tells the running daemon to poll now
    #[command(after_help = example("postrider wake home", WAKE_EXIT_STATUS))]
    Wake(wake::Wake),
    /// Asks the servers whether mail is waiting; downloads nothing, changes nothing
    #[command(after_help = example("postrider check home", EXIT_STATUS))]
    Check(check::Check),
    /// Shows what the last poll of every account did, and what is held; contacts nobody
    #[command(after_help = example("postrider status --max-age 1h", EXIT_STATUS))]
    Status(status::Status),
    /// Shows and edits the recorded unique-ids: the messages that are not fetched again
    #[command(subcommand, after_help = example("postrider seen list home", EXIT_STATUS))]
    Seen(seen::Seen),
    /// Shows the messages that could not be fetched or delivered, tries them again, or gives them up
    #[command(subcommand, after_help = example("postrider held list home", EXIT_STATUS))]
    Held(held::Held),
    /// Validates or shows the configuration
    #[command(subcommand, after_help = example("postrider config check", EXIT_STATUS))]
    Config(config::ConfigCommand),
    /// Writes the completions of a shell to standard output
    #[command(after_help = example("postrider completions bash > ~/.local/share/bash-completion/completions/postrider", EXIT_STATUS))]
    Completions(completions::Completions),
}

/// Why a command ended before it did its work.
#[derive(Debug, thiserror::Error)]
enum CliError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Url(#[from] UrlError),
    #[error("{0}")]
    Usage(String),
    #[error("no account {name:?} in {file}{}", Nearest(.nearest.as_deref()))]
    UnknownAccount { name: String, file: String, nearest: Option<String>, hint: Option<String> },
    #[error("no recorded unique-id {0}; nothing was changed")]
    UnknownUid(String),
    #[error("no held message {0}; nothing was changed")]
    NotHeld(String),
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Daemon(#[from] DaemonError),
    #[error("no daemon runs with the state file {}", .0.display())]
    NoDaemon(PathBuf),
    #[error("the running daemon has no account {}", .0.join(", "))]
    NotScheduled(Vec<String>),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Poll(#[from] Box<Failure>),
    #[error("cannot read standard input: {0}")]
    Input(io::Error),
    #[error("cannot write to standard output: {0}")]
    Output(io::Error),
}

impl CliError {
    fn exit(&self) -> Exit {
        match self {
            // Nobody knows what it says.
            Self::Config(ConfigError::Unreadable { source, .. }) if source.kind() == ErrorKind::TimedOut => {
                Exit::LATER
            }
            Self::Config(_) => Exit::CONFIGURATION,
            Self::Url(_)
            | Self::Usage(_)
            | Self::UnknownAccount { .. }
            | Self::UnknownUid(_)
            | Self::NotHeld(_) => Exit::USAGE,
            Self::Poll(failure) => Exit::of_class(failure.class),
            Self::State(_)
            | Self::Daemon(_)
            | Self::NoDaemon(_)
            | Self::NotScheduled(_)
            | Self::Client(_)
            | Self::Input(_)
            | Self::Output(_) => Exit::LATER,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::State(error) | Self::Daemon(DaemonError::State(error)) => error.hint(),
            Self::Daemon(DaemonError::Running(_)) => {
                Some("stop that one first, or give this one a state file of its own with `state:`".into())
            }
            Self::NoDaemon(_) => {
                Some("start one with `postrider daemon`, or poll with `postrider sync`".into())
            }
            Self::NotScheduled(_) => Some(
                "send it SIGHUP if the configuration has changed; an account that is not enabled is not its"
                    .into(),
            ),
            Self::UnknownAccount { hint, .. } => hint.clone(),
            // These have it in their text, or need none.
            Self::Config(_)
            | Self::Url(_)
            | Self::Usage(_)
            | Self::UnknownUid(_)
            | Self::NotHeld(_)
            | Self::Poll(_)
            | Self::Daemon(DaemonError::Signals(_) | DaemonError::Timer(_))
            | Self::Client(_)
            | Self::Input(_)
            | Self::Output(_) => None,
        }
    }
}

impl Arguments {
    /// Gives the level and format of the log.
    pub fn log(&self) -> (LevelFilter, Format) {
        let level = match (self.common.quiet, self.common.verbose) {
            (true, _) => LevelFilter::Error,
            (false, 0) => LevelFilter::Warn,
            (false, 1) => LevelFilter::Info,
            (false, 2) => LevelFilter::Debug,
            (false, _) => LevelFilter::Trace,
        };
        let format = match self.common.log_format {
            LogFormat::Text => Format::Text,
            LogFormat::Json => Format::Json,
            LogFormat::Journal => Format::Journal,
        };
        (level, format)
    }
}

/// Does what the arguments say and gives the exit status; what went wrong was told on standard error.
pub async fn run(arguments: Arguments) -> Exit {
    open_files::raise();
    let Arguments { common, command } = arguments;
    let mut results = Results::new();
    let outcome = match command {
        Command::Sync(sync) => sync.run(&common, &mut results).await,
        Command::Daemon(daemon) => daemon.run(&common).await,
        Command::Wake(wake) => wake.run(&common, &mut results).await,
        Command::Check(check) => check.run(&common, &mut results).await,
        Command::Status(status) => status.run(&common, &mut results).await,
        Command::Seen(seen) => seen.run(&common, &mut results).await,
        Command::Held(held) => held.run(&common, &mut results).await,
        Command::Config(config) => config.run(&common, &mut results),
        Command::Completions(completions) => completions.run(&mut results),
    };
    let written = results.end().map_err(CliError::Output);
    match outcome.and_then(|exit| written.map(|()| exit)) {
        Ok(exit) => exit,
        Err(error) => {
            let hint = error.hint().map(|hint| format!("\n  hint: {hint}")).unwrap_or_default();
            log::error!("{error}{hint}");
            error.exit()
        }
    }
}

impl Common {
    /// Reads the configuration that was named, or that is found, on a file system that may not answer.
    fn load(&self) -> Result<Config, ConfigError> {
        let named = self.config.clone();
        let file = named.clone().unwrap_or_else(|| "the usual place".into());
        let load = move || Config::load(&named.map_or_else(Config::find, Ok)?);
        blocking::wait(PATIENCE, load).unwrap_or_else(|source| Err(ConfigError::Unreadable { file, source }))
    }
}

/// `; did you mean "home"?`
struct Nearest<'a>(Option<&'a str>);

impl fmt::Display for Nearest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(name) => write!(f, "; did you mean {name:?}?"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_help_of_each_command_shows_an_example_that_is_one() {
        fn examples(command: &clap::Command, found: &mut Vec<String>) {
            for sub in command.get_subcommands() {
                let help = sub.get_after_help().unwrap_or_else(|| panic!("{}", sub.get_name())).to_string();
                let lines = help.strip_prefix("Example:\n").unwrap_or_else(|| panic!("{help}")).lines();
                found.extend(lines.map_while(|line| Some(line.strip_prefix("  ")?.to_owned())));
                examples(sub, found);
            }
        }
        let mut found = Vec::new();
        examples(&Arguments::command(), &mut found);
        assert!(found.len() > 15, "{found:?}");
        for example in found {
            let words = example.split(" > ").next().unwrap_or_default().split(' ');
            Arguments::try_parse_from(words).unwrap_or_else(|error| panic!("{example}: {error}"));
        }
    }

    #[test]
    fn options_of_every_command_may_stand_before_and_after_it() {
        for line in [["postrider", "-vv", "check"], ["postrider", "check", "-vv"]] {
            let arguments = Arguments::try_parse_from(line).unwrap();
            assert_eq!(arguments.log(), (LevelFilter::Debug, Format::Text));
        }
        let quiet =
            Arguments::try_parse_from(["postrider", "sync", "-q", "--log-format", "journal"]).unwrap();
        assert_eq!(quiet.log(), (LevelFilter::Error, Format::Journal));
        assert!(Arguments::try_parse_from(["postrider", "sync", "-q", "-v"]).is_err());
    }
}
