//! Tries an account before it is written.

use std::path::Path;

use tokio::sync::mpsc::UnboundedReceiver;

use crate::cli::CliError;
use crate::config::Account;
use crate::config::account::Hooks;
use crate::failure::Failure;
use crate::net::{Connector, Stage, Watch, Watched};
use crate::secret::Ask;
use crate::session::{self, Environment, Report, Retry, Task};
use crate::state::Store;
use crate::stop::Stop;

/// What is tried with: nothing of it is remembered but tokens.
pub(super) struct Trial {
    environment: Environment,
    heard: UnboundedReceiver<Watched>,
    /// Where the state is that ends with it.
    _directory: tempfile::TempDir,
}

impl Trial {
    /// `state` is where tokens are; only an account that has some uses it.
    pub(super) fn new(account: &Account, state: &Path, stop: Stop) -> Result<Self, CliError> {
        let directory = tempfile::tempdir();
        let directory =
            directory.map_err(|source| CliError::Unwritten { file: std::env::temp_dir(), source })?;
        let own = directory.path().join("state.db");
        let state = if account.oauth2.is_some() { state.to_owned() } else { own.clone() };
        let (watch, heard) = Watch::channel();
        let environment = Environment {
            stop,
            ask: Ask::Never,
            connector: Connector::watched(watch),
            store: Store::open(&own),
            ..Environment::new(state)
        };
        Ok(Self { environment, heard, _directory: directory })
    }

    /// Logs in and lists the maildrop, as `check` does.
    pub(super) async fn log_in(&self, account: &Account) -> Report {
        let account = Account { hooks: Hooks::default(), ..account.clone() };
        let check = session::run(&account, &self.environment, Task::Check(Retry::Now), &());
        // A session's frame is large, and this one lies in that of a whole dialogue.
        Box::pin(check).await
    }

    /// Opens each target, as a poll does.
    pub(super) async fn targets(&self, account: &Account) -> Result<(), Failure> {
        for to in account.deliver.iter().chain(&account.refused) {
            Box::pin(session::examine(account, to, &self.environment, Retry::Now)).await?;
        }
        Ok(())
    }

    /// Gives what was gone through so far: the name of each step, and what was seen.
    pub(super) fn steps(&mut self) -> Vec<(&'static str, String)> {
        let mut steps = Vec::new();
        while let Ok(watched) = self.heard.try_recv() {
            // What it was that failed is told behind them.
            if matches!(watched.stage, Stage::Unreached(..)) {
                continue;
            }
            steps.push((watched.stage.name(), watched.stage.to_string()));
        }
        steps
    }
}
