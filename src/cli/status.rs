//! `postrider status`: how the accounts stand, by what the store knows.

use std::collections::HashMap;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::account::Table as AccountTable;
use super::accounts::{add_rows_to_look_at, look, named};
use super::exit::Exit;
use super::help::{self, below};
use super::seen::lease;
use super::stdout::Results;
use super::table::{Screen, Table};
use super::{CliError, Common};
use crate::config::units;
use crate::config::{Account, Config, ConfigError, default_state};
use crate::logging;
use crate::session::Environment;
use crate::state::outlook::{Seen, Which};
use crate::state::{Kind, Store};
use crate::status::Snapshot;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Status {
    #[command(subcommand)]
    forget: Option<Forgetting>,
    /// Accounts of the configuration [default: all, and maildrops that are no longer in it]
    #[arg(value_name = "ACCOUNT")]
    accounts: Vec<String>,
    /// Print one object a maildrop
    #[arg(long)]
    json: bool,
    /// Exit with 75 (77: refused credentials) if an enabled account has not been polled with success for so long
    #[arg(long, value_name = "DURATION", value_parser = units::duration)]
    max_age: Option<Duration>,
}

#[derive(Debug, Subcommand)]
enum Forgetting {
    /// Drops all that is recorded of a maildrop that is no longer configured
    #[command(after_help = below("postrider status forget alice@pop.example.org", help::STATUS))]
    Forget(Forget),
}

#[derive(Debug, Args)]
struct Forget {
    /// A maildrop, or the name that its account had, as `status` shows it
    maildrop: String,
}

impl Status {
    pub async fn run(&self, common: &Common, results: &mut Results) -> Result<Exit, CliError> {
        if let Some(Forgetting::Forget(forget)) = &self.forget {
            return forget.run(common, results).await;
        }
        let mut unusable = HashMap::new();
        let mut config = match common.load() {
            // Who polls by URL alone has a state file and no configuration.
            Err(ConfigError::NotFound { hidden, .. })
                if self.accounts.is_empty() && (hidden.is_none() || default_state()?.exists()) =>
            {
                Config { state: default_state()?, ..Config::default() }
            }
            config => {
                let mut config = config?;
                unusable = add_rows_to_look_at(&mut config, &self.accounts).await?;
                self.accounts.iter().try_for_each(|name| named(&config, name).map(drop))?;
                let is_asked =
                    |account: &Account| self.accounts.is_empty() || self.accounts.contains(&account.name);
                config.accounts.retain(is_asked);
                config
            }
        };
        let accounts: Vec<_> = mem::take(&mut config.accounts).into_iter().map(Arc::new).collect();
        let store = look(&config).await?;
        let mut snapshot = match store.server() {
            None => Snapshot::take(&store, &config.state, &accounts, Seen::Counted).await?,
            Some(_) => self.of_fleet(&config, &store, accounts).await?,
        };
        snapshot.rows.retain(|row| row.configured || self.accounts.is_empty());
        if !self.accounts.is_empty() {
            snapshot.note_unusable(&unusable);
        }
        let exit = self.max_age.map_or(Exit::SUCCESS, |limit| too_old(&snapshot, limit));
        // From cron, what works is not worth a word.
        snapshot.rows.retain(|row| !common.quiet || row.is_in_trouble());
        self.show(common, &snapshot, results);
        if let ([row], false, false, false) =
            (&snapshot.rows[..], self.accounts.is_empty(), self.json, common.quiet)
        {
            let seen = store.seen(row.maildrop.as_str().into()).await?;
            let last_mail = seen
                .iter()
                .filter(|line| line.kind == Kind::Delivered)
                .filter_map(|line| line.delivered_at)
                .max();
            if let Some(why) = snapshot.why(row, last_mail) {
                results.line(format_args!("  {why}"));
            }
        }
        Ok(exit)
    }

    /// Looks at a fleet: at the accounts that are named, or at all, with those of the table among them.
    async fn of_fleet(
        &self,
        config: &Config,
        store: &Store,
        mut accounts: Vec<Arc<Account>>,
    ) -> Result<Snapshot, CliError> {
        let named = accounts.iter().map(|account| account.maildrop_id.clone());
        let which = if self.accounts.is_empty() { Which::All } else { Which::These(named.collect()) };
        let overview = store.overview(which, Seen::Counted).await?;
        if config.fleet.is_some() && self.accounts.is_empty() {
            let known = overview.maildrops.iter().map(|known| known.maildrop.identity.clone());
            let table = AccountTable::of(config).await?;
            let mut unusable = HashMap::new();
            for row in table.accounts.with(&known.collect::<Vec<_>>()).await? {
                let account = table.fleet.open(&row, &table.ring).unwrap_or_else(|error| {
                    unusable.insert(row.account(), error.to_string());
                    table.fleet.outline(&row)
                });
                accounts.push(Arc::new(account));
            }
            let mut snapshot = Snapshot::of_fleet(overview, &accounts, store.clock().now());
            snapshot.note_unusable(&unusable);
            return Ok(snapshot);
        }
        Ok(Snapshot::of_fleet(overview, &accounts, store.clock().now()))
    }

    fn show(&self, common: &Common, snapshot: &Snapshot, results: &mut Results) {
        if self.json {
            return snapshot.rows.iter().for_each(|row| results.line(row.json()));
        }
        let is_one_asked_for = !self.accounts.is_empty() && snapshot.rows.len() == 1;
        match Screen::of_stdout().filter(|_| !common.quiet && !is_one_asked_for && !snapshot.rows.is_empty())
        {
            Some(screen) => {
                let day = self.accounts.is_empty().then(|| snapshot.day());
                results.write(Table { snapshot, screen, day }.to_string().as_bytes());
            }
            None => {
                snapshot.worst_first().into_iter().for_each(|row| results.line(row.told(snapshot.at)));
                if self.accounts.is_empty() && !common.quiet {
                    snapshot.workers().into_iter().for_each(|line| results.line(line));
                }
            }
        }
    }
}

/// Says which accounts have not been polled with success for longer than this, and what that makes of the exit status.
fn too_old(snapshot: &Snapshot, limit: Duration) -> Exit {
    let mut exit = Exit::SUCCESS;
    for row in &snapshot.rows {
        if let Some(stale) = row.stale(snapshot.at, limit) {
            logging::about(&row.account, || log::error!("{stale}"));
            exit = exit.max(Exit::of_class(stale.class()));
        }
    }
    exit
}

impl Forget {
    async fn run(&self, common: &Common, results: &mut Results) -> Result<Exit, CliError> {
        let config = match common.load() {
            Err(ConfigError::NotFound { .. }) => Config { state: default_state()?, ..Config::default() },
            config => config?,
        };
        let accounts: Vec<_> = config.accounts.iter().cloned().map(Arc::new).collect();
        let environment = Environment::of_config(&config).await?;
        let store = look(&config).await?;
        let snapshot = Snapshot::take(&store, &config.state, &accounts, Seen::Counted).await?;
        let meant = |of: fn(&crate::status::Row) -> &String| {
            let mut rows = snapshot.rows.iter().filter(|row| *of(row) == self.maildrop);
            // A name may have been that of several.
            rows.next().filter(|_| rows.next().is_none())
        };
        let Some(row) = meant(|row| &row.maildrop).or_else(|| meant(|row| &row.account)) else {
            return Err(CliError::UnknownMaildrop(self.maildrop.clone()));
        };
        if row.configured {
            return Err(CliError::Configured(row.account.clone()));
        }
        let account = Account { maildrop_id: row.maildrop.clone(), ..Account::new(&row.account) };
        let _lease = lease(common, &environment, &account, "forget it").await?;
        environment.store.drop_maildrop(row.maildrop.as_str().into()).await?;
        results.done(format_args!("{}: forgotten, {} recorded messages", row.maildrop, row.seen));
        Ok(Exit::SUCCESS)
    }
}
