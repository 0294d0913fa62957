//! `postrider account list`, `show`, `check`, and what is done with single rows.

use std::collections::HashSet;

use clap::Args;
use serde_json::json;

use super::super::CliError;
use super::super::exit::Exit;
use super::super::stdout::Results;
use super::table::{Table, split};
use crate::config::{self, Account, Row};
use crate::state::postgres::Strange;
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
            page.rows.iter().for_each(|row| self.one(table, row, results));
            page.strange.iter().for_each(|strange| log::error!("{strange}"));
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
        let mut seen = Vec::new();
        for name in &self.rows {
            seen.push(Seen::of(table, &table.named(name).await?));
        }
        if self.rows.is_empty() {
            let mut pages = table.accounts.pages(None);
            while let Some(page) = pages.next().await? {
                seen.extend(page.rows.iter().map(|row| Seen::of(table, row)));
                seen.extend(page.strange.iter().map(Seen::strange));
            }
        }
        let wrong = wrong(&mut seen);
        wrong.iter().for_each(|what| log::error!("{what}"));
        let sound = counted(seen.len() - wrong.len(), "account");
        results.done(format_args!("{sound} sound, {} wrong", wrong.len()));
        Ok(if wrong.is_empty() { Exit::SUCCESS } else { Exit::CONFIGURATION })
    }
}

/// A row, as far as others may have the same.
#[derive(Debug)]
struct Seen {
    id: i64,
    name: String,
    /// The maildrop, of one that is polled here or by whoever has its key.
    maildrop: Option<String>,
    /// What is wrong with it by itself.
    wrong: Option<String>,
}

impl Seen {
    fn strange(strange: &Strange) -> Self {
        let Row { id, .. } = strange.row;
        Self { id, name: strange.row.account(), maildrop: None, wrong: Some(strange.to_string()) }
    }

    fn of(table: &Table, row: &Row) -> Self {
        let (id, name) = (row.id, row.account());
        let polled = |account: Account| row.enabled.then_some(account.maildrop_id);
        match table.fleet.open(row, &table.ring) {
            Ok(account) => Self { id, name, maildrop: polled(account), wrong: None },
            Err(error) => {
                let elsewhere = error.is_of_key().then(|| table.fleet.outline(row));
                Self { id, name, maildrop: elsewhere.and_then(polled), wrong: Some(error.to_string()) }
            }
        }
    }
}

/// Says what is wrong with rows: of those that have what no two may have, the one of the lowest id is polled.
fn wrong(seen: &mut [Seen]) -> Vec<String> {
    seen.sort_unstable_by(|one, other| (one.id, &one.name).cmp(&(other.id, &other.name)));
    let (mut ids, mut names, mut maildrops) = (HashSet::new(), HashSet::new(), HashSet::new());
    let mut wrong = Vec::new();
    for Seen { id, name, maildrop, wrong: by_itself } in seen.iter() {
        let twin = if !ids.insert(*id) {
            Some(format!("id {id}"))
        } else if let Some(maildrop) = maildrop {
            let has_name = !names.insert(name);
            let has_maildrop = !maildrop.is_empty() && !maildrops.insert(maildrop);
            let of_maildrop = has_maildrop.then(|| format!("maildrop {maildrop}"));
            if has_name { Some("tenant and name".to_owned()) } else { of_maildrop }
        } else {
            None
        };
        let twin = twin.map(|what| format!("account {name}: another row has the same {what}"));
        wrong.extend(by_itself.clone().or(twin));
    }
    wrong
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
            for strange in &page.strange {
                log::error!("{strange}");
                wrong += 1;
            }
            for row in &page.rows {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_rows_that_have_the_same_the_one_of_the_lowest_id_is_sound() {
        let row = |id, name: &str, maildrop: Option<&str>, wrong: Option<&str>| Seen {
            id,
            name: name.to_owned(),
            maildrop: maildrop.map(str::to_owned),
            wrong: wrong.map(str::to_owned),
        };
        let mut seen = [
            row(9, "acme/alice", Some("m"), None),
            row(1, "acme/zoe", Some("m"), None),
            row(2, "acme/bob", Some("elsewhere"), Some("no key")),
            row(3, "acme/bob", Some("b"), None),
            row(4, "acme/carol", Some("elsewhere"), None),
            row(5, "acme/dan", None, Some("nonsense")),
            row(6, "acme/dan", Some("d"), None),
            row(7, "acme/off", None, None),
            row(7, "acme/on", Some("o"), None),
        ];
        assert_eq!(
            wrong(&mut seen),
            [
                "no key",
                "account acme/bob: another row has the same tenant and name",
                "account acme/carol: another row has the same maildrop elsewhere",
                "nonsense",
                "account acme/on: another row has the same id 7",
                "account acme/alice: another row has the same maildrop m",
            ]
        );
    }
}
