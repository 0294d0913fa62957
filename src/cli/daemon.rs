//! `postrider daemon`: stays in the foreground and polls each account at its interval.

use clap::Args;

use super::exit::Exit;
use super::{CliError, Common, confine};
use crate::daemon;
use crate::sandbox::{self, ConfigReads, Purpose};

/// Arguments of `daemon`: none beside those of every command.
#[derive(Debug, Args)]
pub struct Daemon {}

impl Daemon {
    pub async fn run(&self, common: &Common) -> Result<Exit, CliError> {
        let config = common.load()?;
        let purpose = Purpose { reading: ConfigReads::Again, ..Purpose::of(&config) };
        let sandbox = sandbox::enter(config.sandbox, confine::MADE, &purpose);
        let reload = || {
            let config = common.load().map_err(|error| sandbox.explain(error))?;
            sandbox.admit(&config)?;
            Ok(config)
        };
        daemon::run(config, reload).await?;
        Ok(Exit::SUCCESS)
    }
}
