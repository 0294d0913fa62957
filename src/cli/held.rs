//! `postrider held`: the messages that could not be fetched, or that the target does not take.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::sync::Arc;

use clap::{ArgGroup, Args, Subcommand};

use super::accounts::{load, look, retry};
use super::exit::Exit;
use super::help::{self, below};
use super::progress::Bars;
use super::report::{Octets, messages};
use super::seen::lease;
use super::stdout::Results;
use super::{CliError, Common, poll};
use crate::config::Account;
use crate::session::{Environment, Limits, Task};
use crate::state::{Delivery, Held as HeldMessage, Kind, Store};
use crate::status::words::{again, time};
use crate::text::{Shown, counted};

/// What to do with the held messages of an account.
#[derive(Debug, Subcommand)]
pub enum Held {
    /// Lists the held messages: since when, how often tried, when again, octets, unique-id, reason
    #[command(after_help = below("postrider held list home", help::RECORDS))]
    List(List),
    /// Polls the account and tries held messages without waiting for their time
    #[command(after_help = below("postrider held retry home", help::RECORDS))]
    Retry(Retry),
    /// Gives held messages up: they count as seen, and are deleted if the account deletes
    #[command(after_help = below("postrider held discard home QhdPYR:00WBw1Ph7x7", help::RECORDS))]
    Discard(Discard),
}

#[derive(Debug, Args)]
pub struct List {
    /// An account of the configuration, or the URL of a `sync URL`
    account: String,
    /// Print one JSON object a message
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub struct Retry {
    /// An account of the configuration, or the URL of a `sync URL`
    account: String,
    /// Unique-ids, as `held list` shows them; without any, all
    #[arg(value_name = "UID")]
    uids: Vec<OsString>,
}

#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("which").required(true),
    override_usage = "postrider held discard [OPTIONS] <ACCOUNT> <--all|UID...>"
)]
pub struct Discard {
    /// An account of the configuration, or the URL of a `sync URL`
    account: String,
    /// All held messages
    #[arg(long, group = "which")]
    all: bool,
    /// Unique-ids, as `held list` shows them
    #[arg(value_name = "UID", group = "which")]
    uids: Vec<OsString>,
}

impl Held {
    pub async fn run(&self, common: &Common, results: &mut Results) -> Result<Exit, CliError> {
        match self {
            Self::List(list) => list.run(common, results).await,
            Self::Retry(retry) => retry.run(common, results).await,
            Self::Discard(discard) => discard.run(common, results).await,
        }
    }
}

impl List {
    async fn run(&self, common: &Common, results: &mut Results) -> Result<Exit, CliError> {
        let (config, account) = &load(common, &self.account).await?;
        for held in held(&look(config).await?, account).await? {
            match self.json {
                true => results.line(held.json()),
                false => results.line(listed(&held)),
            }
        }
        Ok(Exit::SUCCESS)
    }
}

impl Retry {
    async fn run(&self, common: &Common, results: &mut Results) -> Result<Exit, CliError> {
        let (config, account) = &load(common, &self.account).await?;
        let environment = Environment::of_config(config).await?;
        let chosen = chosen(&self.uids, held(&environment.store, account).await?)?;
        if chosen.is_empty() {
            results.done(format_args!("{}: nothing is held", account.name));
            return Ok(Exit::SUCCESS);
        }
        let maildrop: Arc<str> = account.maildrop_id.as_str().into();
        {
            // A session that goes on would put back what it has read before.
            let _lease = lease(common, &environment, account, "try held messages again").await?;
            let names = chosen.iter().map(|held| (held.uid.clone(), held.ordinal)).collect();
            environment.store.hasten(maildrop, names, environment.clock.now()).await?;
        }
        drop(environment);
        if account.is_of_url() {
            let (name, due) = (&account.name, messages(chosen.len()));
            results.done(format_args!(
                "{name}: {due} tried again by the next `postrider sync URL --deliver TARGET`"
            ));
            return Ok(Exit::SUCCESS);
        }
        let accounts = [Arc::new(account.clone())];
        let retry = retry(std::slice::from_ref(&account.name));
        let task = Task::Sync(Limits { retry, ..Limits::default() });
        let reports = poll::accounts(&accounts, config, task, Bars::new(common, 1), |_| ()).await?;
        let still = held(&look(config).await?, account).await?;
        let still: HashSet<_> = still.iter().map(|held| (&held.uid, held.ordinal)).collect();
        let is_still_held = |one: &&HeldMessage| still.contains(&(&one.uid, one.ordinal));
        let still = chosen.iter().filter(is_still_held).count();
        let delivered = chosen.len() - still;
        results.done(format_args!("{}: {} no longer held, {still} still", account.name, messages(delivered)));
        // Others that are held as before are not what was asked about.
        Ok(match Exit::of_failures(&reports) {
            Exit::SUCCESS if still > 0 => Exit::LATER,
            exit => exit,
        })
    }
}

impl Discard {
    async fn run(&self, common: &Common, results: &mut Results) -> Result<Exit, CliError> {
        let (config, account) = &load(common, &self.account).await?;
        let maildrop: Arc<str> = account.maildrop_id.as_str().into();
        let environment = Environment::of_config(config).await?;
        let lease = lease(common, &environment, account, "discard held messages").await?;
        let Environment { store, .. } = &environment.under(&lease);
        let chosen = chosen(&self.uids, held(store, account).await?)?;
        let memory = store.begin(maildrop).await?;
        let (at, discarded) = (store.clock().now(), chosen.len());
        // As if it had been delivered now, so that what `keep` says of delivered messages holds for it. Without a
        // header it is never taken for another message's.
        let delivery = |HeldMessage { uid, ordinal, octets, .. }| Delivery {
            delivered_at: Some(at),
            ..Delivery::new(uid, ordinal, octets, Kind::Discarded)
        };
        store.record(&memory.key, at, chosen.into_iter().map(delivery).collect()).await?;
        results.done(format_args!("{}: {} given up", account.name, messages(discarded)));
        Ok(Exit::SUCCESS)
    }
}

/// Reads what is held of an account's maildrop.
async fn held(store: &Store, account: &Account) -> Result<Vec<HeldMessage>, CliError> {
    let known =
        store.status().await?.into_iter().find(|status| status.maildrop.identity == account.maildrop_id);
    Ok(known.map(|status| status.held).unwrap_or_default())
}

/// Takes the held messages with these unique-ids; all of them without any.
fn chosen(uids: &[OsString], held: Vec<HeldMessage>) -> Result<Vec<HeldMessage>, CliError> {
    if uids.is_empty() {
        return Ok(held);
    }
    // By their octets, and as they are shown.
    let mut wanted: HashMap<&[u8], bool> = uids.iter().map(|uid| (uid.as_encoded_bytes(), false)).collect();
    let mut is_chosen = |held: &HeldMessage| {
        let shown = held.uid.to_string();
        let mut meant = false;
        for name in [held.uid.as_bytes(), shown.as_bytes()] {
            if let Some(found) = wanted.get_mut(name) {
                (*found, meant) = (true, true);
            }
        }
        meant
    };
    let chosen = held.into_iter().filter(&mut is_chosen).collect();
    match wanted.into_iter().find(|(_, found)| !found) {
        Some((uid, _)) => Err(CliError::NotHeld(Shown(uid).to_string())),
        None => Ok(chosen),
    }
}

/// `since 2026-11-23 14:05:12, tried 2 times, again 2026-11-23 15:05:12 (4.2 KiB) QhdPYR:00WBw1: reason`
fn listed(held: &HeldMessage) -> String {
    let HeldMessage { uid, octets, reason, since, tries, .. } = held;
    format!(
        "since {}, tried {}, again {} ({}) {uid}: {}",
        time(*since),
        counted(*tries, "time"),
        again(held, time),
        Octets(*octets),
        Shown(reason.as_bytes())
    )
}
