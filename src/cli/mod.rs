//! The command line: reads arguments, shows results, decides nothing about mail.
//!
//! | file | what it is |
//! |---|---|
//! | `sync`, `check`, `daemon`, `wake` | polls: once, whether mail waits, for months, now |
//! | `status`, `table`, `held`, `seen`, `state` | what the state knows, and what may be changed there |
//! | `config`, `setup`, `import`, `login`, `account` | configurations: shown, made, taken over; tokens; rows of tenants |
//! | `doctor` | each stage of a session, and what it sees |
//! | `completions`, `help` | what a shell completes; what stands below a command's help |
//! | `poll`, `progress`, `report` | polling concurrently, and how that is shown |
//! | `common`, `accounts`, `stdout`, `exit`, `error` | what commands share: options, accounts, results, how they end |
//! | `confine`, `owner`, `open_files`, `core_dumps` | what the process asks of its system |

mod account;
mod accounts;
mod check;
mod common;
mod completions;
mod config;
mod confine;
mod core_dumps;
mod daemon;
mod doctor;
mod error;
pub mod exit;
mod held;
mod help;
mod import;
mod login;
mod open_files;
mod owner;
mod poll;
mod progress;
mod report;
mod seen;
mod setup;
mod state;
mod status;
mod stdout;
mod sync;
mod table;
mod wake;

use std::pin::Pin;

use clap::{CommandFactory, Parser, Subcommand};
use log::LevelFilter;

use crate::logging::Format;

use common::Common;
use error::CliError;
pub use exit::Exit;
use help::below;
use stdout::Results;

/// Fetches mail from POP3 maildrops and delivers it: never lost, and in a maildir never twice.
#[derive(Debug, Parser)]
#[command(name = "postrider", version, after_help = help::PROGRAM)]
pub struct Arguments {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Polls accounts once, concurrently: fetches what is new, delivers it, deletes what is due
    #[command(after_help = below("postrider sync home\n  postrider sync pops://alice@pop.example.org --deliver maildir:~/Mail", help::SYNC))]
    Sync(sync::Sync),
    /// Stays in the foreground and polls each account at its interval
    #[command(after_help = below("postrider -v daemon", help::DAEMON))]
    Daemon(daemon::Daemon),
    /// Tells the running daemon to poll now
    #[command(after_help = below("postrider wake home", help::WAKE))]
    Wake(wake::Wake),
    /// Asks the servers whether mail is waiting; downloads nothing, changes nothing
    #[command(after_help = below("postrider check home", help::CHECK))]
    Check(check::Check),
    /// Goes through each step of a session and of opening the target, and says what it sees and what to do
    #[command(after_help = below("postrider doctor home", help::DOCTOR))]
    Doctor(doctor::Doctor),
    /// Shows what the last poll of every account did, when the next is due, and what is held; contacts nobody
    #[command(after_help = below("postrider status --max-age 1h", help::STATUS))]
    Status(status::Status),
    /// Shows and edits the recorded unique-ids: the messages that are not fetched again
    #[command(subcommand, after_help = below("postrider seen list home", help::RECORDS))]
    Seen(seen::Seen),
    /// Shows the messages that could not be fetched or delivered, tries them again, or gives them up
    #[command(subcommand, after_help = below("postrider held list home", help::RECORDS))]
    Held(held::Held),
    /// Finds the POP3 server of a mail address, tries the log-in, and writes the account into the configuration
    #[command(after_help = below("postrider setup alice@example.org", help::SETUP))]
    Setup(setup::Setup),
    /// Prints the configuration that does what another program's says, and takes over what that one has fetched
    #[command(after_help = below("postrider import fetchmail --write\n  postrider import fetchmail --seen", help::IMPORT))]
    Import(import::Import),
    /// Lets postrider into a mailbox by OAuth2: in a browser on any machine, or by a code
    #[command(after_help = below("postrider login work", help::LOGIN))]
    Login(login::Login),
    /// Adds, lists, checks and removes the accounts that tenants have in the database of a fleet
    #[command(subcommand, after_help = below("postrider account list", help::ACCOUNT))]
    Account(account::AccountCommand),
    /// Moves what is recorded from a file into a database, or back
    #[command(subcommand, after_help = below("postrider state copy state.db postgresql://postrider@%2Frun%2Fpostgresql/postrider", help::STATE))]
    State(state::StateCommand),
    /// Validates or shows the configuration
    #[command(subcommand, after_help = below("postrider config check", help::CONFIG))]
    Config(config::ConfigCommand),
    /// Writes the completions of a shell to standard output
    #[command(after_help = below("postrider completions bash > ~/.local/share/bash-completion/completions/postrider", help::COMPLETIONS))]
    Completions(completions::Completions),
}

impl Arguments {
    /// Gives the level and format of the log.
    pub fn log(&self) -> (LevelFilter, Format) {
        self.common.log()
    }
}

/// Does what the arguments say and gives the exit status; what went wrong was told on standard error.
///
/// Who awaits a future of another crate compiles all that it does once more, unless it is one of `dyn Future`.
pub fn run(arguments: Arguments) -> Pin<Box<dyn Future<Output = Exit>>> {
    Box::pin(carry_out(arguments))
}

async fn carry_out(arguments: Arguments) -> Exit {
    open_files::raise();
    core_dumps::forbid();
    let Arguments { common, command } = arguments;
    let mut results = Results::new(&common);
    let outcome = match command {
        Command::Sync(sync) => sync.run(&common, &mut results).await,
        Command::Daemon(daemon) => daemon.run(&common).await,
        Command::Wake(wake) => wake.run(&common, &mut results).await,
        Command::Check(check) => check.run(&common, &mut results).await,
        Command::Doctor(doctor) => doctor.run(&common, &mut results).await,
        Command::Status(status) => status.run(&common, &mut results).await,
        Command::Seen(seen) => seen.run(&common, &mut results).await,
        Command::Held(held) => held.run(&common, &mut results).await,
        Command::Setup(setup) => Box::pin(setup.run(&common, &mut results)).await,
        Command::Import(import) => import.run(&common, &mut results).await,
        Command::Login(login) => login.run(&common, &mut results).await,
        Command::Account(account) => account.run(&common, &mut results).await,
        Command::State(state) => state.run(&common, &mut results).await,
        Command::Config(config) => config.run(&common, &mut results),
        // Help of help is asked for by nobody.
        Command::Completions(completions) => {
            completions.run(Arguments::command().disable_help_subcommand(true), &mut results)
        }
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

#[cfg(test)]
mod tests {
    use super::*;

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
    fn every_option_and_command_is_in_the_manual() {
        fn look(command: &clap::Command, page: &str, seen: &mut usize) {
            for option in command.get_arguments().filter_map(clap::Arg::get_long) {
                let there = page.contains(&format!("Fl -{option}")) || page.contains(&format!(", -{option}"));
                assert!(there, "--{option} of {}", command.get_name());
                *seen += 1;
            }
            for sub in command.get_subcommands() {
                let name = sub.get_name();
                assert!(
                    page.contains(&format!("Cm {name}")) || page.contains(&format!(" {name} ")),
                    "{name}"
                );
                let below = sub.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(below.contains("Exit status:"), "{name}: {below}");
                look(sub, page, seen);
            }
        }
        let mut seen = 0;
        look(&Arguments::command(), include_str!("../../man/postrider.1"), &mut seen);
        assert!(seen > 15, "only {seen} options");
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
