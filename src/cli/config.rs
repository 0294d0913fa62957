//! `postrider config`: validates or shows the configuration.

use clap::Subcommand;

use super::exit::Exit;
use super::stdout::Results;
use super::{CliError, Common};
use crate::config;

/// What to do with the configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Reads the configuration and says where it is wrong
    #[command(after_help = super::example("postrider --config new.yaml config check", super::EXIT_STATUS))]
    Check,
    /// Prints the effective configuration: defaults filled in, secrets masked
    #[command(after_help = super::example("postrider config show", super::EXIT_STATUS))]
    Show,
    /// Prints the names of the accounts, one a line
    #[command(after_help = super::example("postrider config accounts", super::EXIT_STATUS))]
    Accounts,
}

impl ConfigCommand {
    pub fn run(&self, common: &Common, results: &mut Results) -> Result<Exit, CliError> {
        let config = common.load()?;
        match self {
            Self::Check => {
                let accounts = match config.accounts.len() {
                    1 => "1 account".into(),
                    count => format!("{count} accounts"),
                };
                if let Some(file) = &config.file {
                    for config::Mistake { line, column, path, what } in config::warnings(file) {
                        log::warn!("{}:{line}:{column}: {path}: {what}", file.display());
                    }
                }
                if let (Some(file), false) = (&config.file, common.quiet) {
                    results.line(format_args!("{}: {accounts}, no mistakes", file.display()));
                }
            }
            Self::Accounts => {
                config.accounts.iter().for_each(|account| results.line(&account.name));
            }
            Self::Show => results.write(config::show(&config).as_bytes()),
        }
        Ok(Exit::SUCCESS)
    }
}
