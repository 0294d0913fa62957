//! `postrider account list`, `show`, `check`, and what is done with single rows.

use std::collections::HashSet;

use clap::Args;
use serde_json::json;

use super::super::CliError;
use super::super::exit::Exit;
use super::super::stdout::Results;
use super::table::{Table, split};
use crate::config::{self, Account, Row};
use crate::text::{Shown, counted};

#[derive(Debug, Args)]
pub struct List {
    /// Those of this tenant alone
    #[arg(long, value_name = "TENANT")]
    tenant: Option<String>,
    /// Print one JSON object an account
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub struct Show {
    /// Whose it is, and its name
    #[arg(value_name = "TENANT/NAME")]
    row: String,
}

#[derive(Debug, Args)]
pub struct Check {
    /// Whose they are, and their names [default: all]
    #[arg(value_name = "TENANT/NAME")]
    rows: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Names {
    /// Whose they are, and their names
    #[arg(value_name = "TENANT/NAME", required = true)]
    rows: Vec<String>,
}

impl List {
    pub async fn run(&self, table: &Table, results: &mut Results) -> Result<Exit, CliError> {
        let mut pages = table.accounts.pages(self.tenant.as_deref());
        while let Some(page) = pages.next().await? {
            page.iter().for_each(|row| self.one(table, row, results));
        }
        Ok(Exit::SUCCESS)
    }

    fn one(&self, table: &Table, row: &Row, results: &mut Results) {
        let account = table.fleet.account(row);
        let (host, user) = account.as_ref().map_or(("", ""), |account| (&account.host, &account.user));
        let wrong = account.as_ref().err().map(ToString::to_string);
        if self.json {
            results.line(json!({
                "tenant": row.tenant, "name": row.name, "maildrop": row.maildrop, "enabled": row.enabled,
                "host": host, "user": user, "key": row.secret.as_ref().map(|sealed| &sealed.key),
                "revision": row.revision, "error": wrong,
            }));
            return;
        }
        let how = match (row.enabled, &wrong) {
            (_, Some(_)) => "wrong",
            (true, None) => "enabled",
            (false, None) => "disabled",
        };
        let shown = |text: &str| Shown(text.as_bytes()).to_string();
        results.line(format_args!(
            "{:<32} {how:<8} {} at {}",
            shown(&row.account()),
            shown(user),
            shown(host)
        ));
    }
}

impl Show {
    pub async fn run(&self, table: &Table, results: &mut Results) -> Result<Exit, CliError> {
        let row = table.named(&self.row).await?;
        let account = table.fleet.account(&row)?;
        let key = row.secret.as_ref().map_or("none", |sealed| &sealed.key);
        let how = if row.enabled { "enabled" } else { "disabled" };
        results.line(format_args!("# {how}, revision {}, its secret sealed with key {key}", row.revision));
        results.write(config::show_account(&account).as_bytes());
        Ok(Exit::SUCCESS)
    }
}

impl Check {
    pub async fn run(&self, table: &Table, results: &mut Results) -> Result<Exit, CliError> {
        let (mut sound, mut wrong, mut twins) = (0, 0, Twins::default());
        let mut look = |rows: &[Row]| {
            for row in rows {
                let opened = table.fleet.open(row, &table.ring).map_err(|error| error.to_string());
                match opened.and_then(|account| twins.note(row, &account)) {
                    Ok(()) => sound += 1,
                    Err(what) => {
                        log::error!("{what}");
                        wrong += 1;
                    }
                }
            }
        };
        for name in &self.rows {
            look(&[table.named(name).await?]);
        }
        if self.rows.is_empty() {
            let mut pages = table.accounts.pages(None);
            while let Some(page) = pages.next().await? {
                look(&page);
            }
        }
        results.done(format_args!("{} sound, {wrong} wrong", counted(sound, "account")));
        Ok(if wrong == 0 { Exit::SUCCESS } else { Exit::CONFIGURATION })
    }
}

/// What rows have that no two may have: of those the one of the lower id is polled.
#[derive(Default)]
struct Twins {
    ids: HashSet<i64>,
    names: HashSet<String>,
    maildrops: HashSet<String>,
}

impl Twins {
    fn note(&mut self, row: &Row, account: &Account) -> Result<(), String> {
        let name = row.account();
        let is = |what: String| Err(format!("account {name}: another row has the same {what}"));
        if !self.ids.insert(row.id) {
            return is(format!("id {}", row.id));
        }
        match row.enabled {
            true if !self.names.insert(name.clone()) => is("tenant and name".to_owned()),
            true if !self.maildrops.insert(account.maildrop_id.clone()) => {
                is(format!("maildrop {}", account.maildrop_id))
            }
            true | false => Ok(()),
        }
    }
}

/// Whether an account is polled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Switch {
    On,
    Off,
}

impl Table {
    pub async fn switch(&self, names: &Names, to: Switch, results: &mut Results) -> Result<Exit, CliError> {
        let (enabled, done) = match to {
            Switch::On => (true, "enabled"),
            Switch::Off => (false, "disabled"),
        };
        for row in self.all(names).await? {
            let name = row.account();
            self.accounts.switch(&Row { enabled, ..row }).await?;
            results.done(format_args!("{name}: {done}"));
        }
        Ok(Exit::SUCCESS)
    }

    pub async fn remove(&self, names: &Names, results: &mut Results) -> Result<Exit, CliError> {
        for row in self.all(names).await? {
            self.accounts.remove(row.id).await?;
            results.done(format_args!("{}: removed", row.account()));
        }
        Ok(Exit::SUCCESS)
    }

    /// Seals anew what an older key has sealed. What does not open is told, and stays.
    pub async fn rekey(&self, results: &mut Results) -> Result<Exit, CliError> {
        let (mut sealed, mut wrong) = (0, 0);
        let mut pages = self.accounts.pages(None);
        while let Some(page) = pages.next().await? {
            for row in &page {
                let Some(old) =
                    row.secret.as_ref().filter(|old| Some(old.key.as_str()) != self.ring.current())
                else {
                    continue;
                };
                match self
                    .ring
                    .open(&row.place(), old)
                    .and_then(|secret| self.ring.seal(&row.place(), &secret))
                {
                    Ok(new) => {
                        self.accounts.reseal(row, &new).await?;
                        sealed += 1;
                    }
                    Err(error) => {
                        log::error!("account {}: {error}", Shown(row.account().as_bytes()));
                        wrong += 1;
                    }
                }
            }
        }
        let key = self.ring.current().unwrap_or("none");
        results.done(format_args!(
            "{} sealed with key {key}, {wrong} could not be opened",
            counted(sealed, "secret")
        ));
        Ok(if wrong == 0 { Exit::SUCCESS } else { Exit::CONFIGURATION })
    }

    /// Finds all of these rows, or none is touched.
    async fn all(&self, names: &Names) -> Result<Vec<Row>, CliError> {
        let mut rows = Vec::new();
        for name in &names.rows {
            rows.push(self.named(name).await?);
        }
        Ok(rows)
    }

    pub async fn named(&self, account: &str) -> Result<Row, CliError> {
        let (tenant, name) = split(account)?;
        let row = self.accounts.find(tenant, name).await?;
        row.ok_or_else(|| CliError::UnknownAccount {
            name: account.to_owned(),
            file: format!("the table {}", self.fleet.accounts),
            nearest: None,
            hint: Some("`postrider account list` has them".to_owned()),
        })
    }
}
