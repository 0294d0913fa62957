//! `postrider daemon`: stays in the foreground and polls each account at its interval.

use clap::Args;

use super::exit::Exit;
use super::{CliError, Common};
use crate::daemon;

/// Arguments of `daemon`: none beside those of every command.
#[derive(Debug, Args)]
pub struct Daemon {}

impl Daemon {
    pub async fn run(&self, common: &Common) -> Result<Exit, CliError> {
        daemon::run(common.load_stamped()?, || common.load_stamped()).await?;
        Ok(Exit::SUCCESS)
    }
}
