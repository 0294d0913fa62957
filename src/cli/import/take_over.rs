//! `import --seen`: what another program has fetched, recorded as that.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use super::{Import, LONGEST_LIST, Source};
use crate::cli::common::content;
use crate::cli::exit::Exit;
use crate::cli::owner::{Owner, unnamed_state};
use crate::cli::report::messages;
use crate::cli::seen::lease;
use crate::cli::stdout::Results;
use crate::cli::{CliError, Common};
use crate::config::{self, ConfigError};
use crate::import::{self, Fetched, SeenList};
use crate::message::UniqueId;
use crate::session::Environment;
use crate::state::{Delivery, Kind};

impl Import {
    /// Records what the other program has fetched, for each account of the configuration that polls what it polled.
    pub(super) async fn take_over(
        &self,
        source: &Source,
        common: &Common,
        results: &mut Results,
    ) -> Result<Exit, CliError> {
        let config = common.load()?;
        if let (Some(state), Some(file)) = (unnamed_state(&config), &config.file) {
            let what =
                format!("its service records elsewhere: write `state: {}` into it first", state.display());
            return Err(CliError::Foreign { file: file.clone(), what });
        }
        // Lists are read by whoever calls this, and recorded by whoever polls.
        let mut found = Vec::new();
        for account in &source.imported.accounts {
            let (Some(list), Some(maildrop)) = (&account.seen, account.maildrop()) else { continue };
            let is_it = |ours: &&config::Account| {
                ours.maildrop_id == maildrop
                    || ours.user == list.user && ours.host.eq_ignore_ascii_case(&list.host)
            };
            let Some(ours) = config.accounts.iter().find(is_it) else {
                log::warn!(
                    "{}: no account of the configuration polls {maildrop}: nothing taken over",
                    account.name
                );
                continue;
            };
            let path = self.list.as_ref().unwrap_or(&list.path);
            found.push((ours, maildrop, path, self.listed(path, list)?));
        }
        if found.is_empty() {
            let what = "none of its accounts is in the configuration: nothing taken over".to_owned();
            return Err(CliError::Foreign { file: source.file.clone(), what });
        }
        if let Some(owner) = Owner::of_config(&config) {
            owner.become_it().map_err(|_| CliError::Owner(config.state.clone()))?;
        }
        let environment = Environment::of_config(&config).await?;
        for (ours, maildrop, path, fetched) in found {
            let said = match fetched {
                None => format!("there is no {}: nothing taken over", path.display()),
                Some(fetched) if fetched.is_empty() => {
                    format!("{} lists nothing for {maildrop}: nothing taken over", path.display())
                }
                Some(fetched) => {
                    let (taken, known) = record(common, &environment, ours, fetched).await?;
                    let before =
                        if known > 0 { format!(", {known} recorded already") } else { String::new() };
                    format!("{} taken over from {}{before}", messages(taken), path.display())
                }
            };
            results.done(format_args!("{}: {said}", ours.name));
        }
        Ok(Exit::SUCCESS)
    }

    /// Reads what a list says of an account; nothing if there is no list.
    fn listed(&self, path: &Path, list: &SeenList) -> Result<Option<Vec<Fetched>>, CliError> {
        match content(path, LONGEST_LIST) {
            Ok(octets) => Ok(Some(import::seen(list, &octets))),
            Err(error) if error.kind() == ErrorKind::NotFound && self.list.is_none() => Ok(None),
            Err(source) => Err(ConfigError::Unreadable { file: path.to_owned(), source }.into()),
        }
    }
}

/// Records messages as fetched by another program; what is recorded stays as it is. Gives how many are new, and how many
/// were recorded.
async fn record(
    common: &Common,
    environment: &Environment,
    account: &config::Account,
    fetched: Vec<Fetched>,
) -> Result<(usize, usize), CliError> {
    let lease = lease(common, environment, account, "take over unique-ids").await?;
    let Environment { store, .. } = &environment.clone().under(&lease);
    let maildrop: Arc<str> = account.maildrop_id.as_str().into();
    let seen = store.seen(maildrop.clone()).await?;
    let known: HashSet<&UniqueId> = seen.iter().map(|line| &line.uid).collect();
    let all = fetched.len();
    let now = store.clock().now();
    // A time to come is that of a clock that was wrong.
    let new: Vec<_> = fetched
        .into_iter()
        .filter(|fetched| !known.contains(&fetched.uid))
        .map(|Fetched { uid, at }| {
            let delivered_at = Some(at.unwrap_or(now).min(now));
            Delivery { delivered_at, ..Delivery::new(uid, 0, 0, Kind::Imported) }
        })
        .collect();
    let taken = new.len();
    let memory = store.begin(maildrop).await?;
    store.record(&memory.key, now, new).await?;
    Ok((taken, all - taken))
}
