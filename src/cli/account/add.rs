//! `postrider account add` and `import`.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use zeroize::Zeroizing;

use super::super::CliError;
use super::super::exit::Exit;
use super::super::stdout::Results;
use super::table::{Table, split};
use crate::config::{Account, NewRow, Row};
use crate::credential;
use crate::seal::Sealed;
use crate::secret::Secret;
use crate::state::postgres::Written;
use crate::text::counted;

/// Lines of a file that are added by one statement.
const CHUNK: usize = 500;

/// Octets of a row's text at most.
const LONGEST: u64 = 128 * 1024;

#[derive(Debug, Args)]
pub struct Add {
    /// Whose it is, and its name
    #[arg(value_name = "TENANT/NAME")]
    row: String,
    /// A file with its keys as YAML or JSON, `password` among them [default: standard input]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Write it anew if it is there; without a password it keeps the one that it has
    #[arg(long)]
    replace: bool,
}

#[derive(Debug, Args)]
pub struct Import {
    /// A file with one JSON object a line: the keys of an account, and `tenant`, `name`, `password`, `maildrop`, `enabled`
    /// [default: standard input]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
}

impl Add {
    pub async fn run(&self, table: &Table, results: &mut Results) -> Result<Exit, CliError> {
        let (tenant, name) = split(&self.row)?;
        let (text, whence) = self.text()?;
        let new = NewRow::read(&text, &whence)?;
        let there = table.accounts.find(tenant, name).await?;
        if there.is_some() && !self.replace {
            let what = format!("account {} is there already: --replace writes it anew", self.row);
            return Err(CliError::Usage(what));
        }
        let new = NewRow { tenant: Some(tenant.to_owned()), name: Some(name.to_owned()), ..new };
        let mut row = table.row(new, there.as_ref())?;
        let checked = |row: &Row| table.fleet.account(row);
        let unsealed = Some(Sealed { key: String::new(), octets: Vec::new() });
        if row.secret.is_none() && checked(&Row { secret: unsealed, ..row.clone() })?.oauth2.is_none() {
            // Nobody there to ask: it is told as missing.
            if let Ok(secret) = credential::ask(format!("Password of {}: ", self.row)).await {
                row.secret = Some(table.ring.seal(&row.place(), &secret)?);
            }
        }
        let account = checked(&row)?;
        let written = written(row, &account);
        table.nobody_else_has(&written.row).await?;
        let is_written = match &there {
            Some(_) => table.accounts.replace(&written).await?,
            None => !table.accounts.add(std::slice::from_ref(&written)).await?.is_empty(),
        };
        if !is_written {
            let what = format!("account {}: somebody else has added or removed it meanwhile", self.row);
            return Err(CliError::Usage(what));
        }
        let done = if there.is_some() { "written anew" } else { "added" };
        results.done(format_args!("{}: {done}", self.row));
        Ok(Exit::SUCCESS)
    }

    fn text(&self) -> Result<(Zeroizing<String>, String), CliError> {
        let (from, whence) = open(self.file.as_deref())?;
        let mut text = Zeroizing::new(String::new());
        let file = PathBuf::from(&whence);
        from.take(LONGEST).read_to_string(&mut text).map_err(|error| unreadable(file, &error))?;
        Ok((text, whence))
    }
}

impl Import {
    pub async fn run(&self, table: &Table, results: &mut Results) -> Result<Exit, CliError> {
        let (mut from, whence) = open(self.file.as_deref())?;
        let (mut rows, mut count) = (Vec::new(), Count::default());
        for number in 1.. {
            let mut line = Zeroizing::new(Vec::new());
            let read = (&mut from).take(LONGEST).read_until(b'\n', &mut line).map_err(CliError::Input)?;
            let whence = format!("{whence}:{number}");
            let is_cut = read as u64 == LONGEST && line.last() != Some(&b'\n');
            let text = match is_cut {
                // What is left of it is no line of its own.
                true => {
                    from.skip_until(b'\n').map(|_| Err("is longer than 128 KiB")).map_err(CliError::Input)?
                }
                false => str::from_utf8(&line).map_err(|_| "is not UTF-8"),
            };
            match text {
                Ok(text) if text.trim().is_empty() => {}
                Ok(text) => match table.new_row(text, &whence) {
                    Ok(written) => rows.push(written),
                    Err(error) => count.refuse(&whence, &error),
                },
                Err(what) => count.refuse(&whence, &what),
            }
            if rows.len() == CHUNK || read == 0 && !rows.is_empty() {
                count.add(table, std::mem::take(&mut rows)).await?;
            }
            if read == 0 {
                break;
            }
        }
        let Count { added, there, refused } = count;
        results.done(format_args!(
            "{} added, {there} there already, {refused} refused",
            counted(added, "account")
        ));
        Ok(if count.refused == 0 { Exit::SUCCESS } else { Exit::CONFIGURATION })
    }
}

#[derive(Default)]
struct Count {
    added: usize,
    there: usize,
    refused: usize,
}

impl Count {
    /// Tells what is wrong with a line, and which it is: not all that is wrong has a place in it.
    fn refuse(&mut self, whence: &str, error: &dyn fmt::Display) {
        let error = error.to_string();
        match error.starts_with(whence) {
            true => log::error!("{error}"),
            false => log::error!("{whence}: {error}"),
        }
        self.refused += 1;
    }

    /// Adds rows whose maildrops nobody else has.
    async fn add(&mut self, table: &Table, rows: Vec<Written>) -> Result<(), CliError> {
        let maildrops: Vec<String> = rows.iter().map(|written| written.row.maildrop.clone()).collect();
        let mut taken = table.accounts.holders(&maildrops).await?;
        let mut free = Vec::with_capacity(rows.len());
        for written in rows {
            let (name, maildrop) = (written.row.account(), written.row.maildrop.clone());
            match taken.get(&maildrop) {
                Some(other) if *other != name => {
                    log::error!("account {name}: account {other} has the same maildrop {maildrop}");
                    self.refused += 1;
                }
                Some(_) => self.there += 1,
                None => {
                    taken.insert(maildrop, name);
                    free.push(written);
                }
            }
        }
        let added = table.accounts.add(&free).await?.len();
        self.added += added;
        self.there += free.len() - added;
        Ok(())
    }
}

impl Table {
    fn new_row(&self, text: &str, whence: &str) -> Result<Written, CliError> {
        let row = self.row(NewRow::read(text, whence)?, None)?;
        let account = self.fleet.account(&row)?;
        Ok(written(row, &account))
    }

    /// Seals the secret, or keeps the one that is there.
    fn row(&self, new: NewRow, there: Option<&Row>) -> Result<Row, CliError> {
        let id = match there {
            Some(there) => there.id,
            // No number is given twice, whoever gives it.
            None => (getrandom::u64().map_err(|_| crate::seal::SealError::Random)? >> 1).max(1).cast_signed(),
        };
        let mut row = Row {
            id,
            tenant: new.tenant.unwrap_or_default(),
            name: new.name.unwrap_or_default(),
            maildrop: new.maildrop.or(there.map(|there| there.maildrop.clone())).unwrap_or_default(),
            config: new.config,
            secret: there.and_then(|there| there.secret.clone()),
            enabled: new.enabled.or(there.map(|there| there.enabled)).unwrap_or(true),
            revision: 0,
        };
        if let Some(secret) = &new.secret {
            row.secret = Some(self.seal(&row, secret)?);
        }
        Ok(row)
    }

    fn seal(&self, row: &Row, secret: &Secret) -> Result<Sealed, CliError> {
        Ok(self.ring.seal(&row.place(), secret)?)
    }

    async fn nobody_else_has(&self, row: &Row) -> Result<(), CliError> {
        let holders = self.accounts.holders(std::slice::from_ref(&row.maildrop)).await?;
        match holders.values().find(|other| **other != row.account()) {
            Some(other) => {
                let what =
                    format!("account {other} has the same maildrop {}; nothing was written", row.maildrop);
                Err(CliError::Usage(what))
            }
            None => Ok(()),
        }
    }
}

fn written(row: Row, account: &Account) -> Written {
    Written {
        row: Row { maildrop: account.maildrop_id.clone(), ..row },
        host: account.host.to_ascii_lowercase(),
    }
}

/// Opens a file, or standard input, and gives its name.
fn open(file: Option<&Path>) -> Result<(Box<dyn BufRead>, String), CliError> {
    match file {
        None => Ok((Box::new(BufReader::new(io::stdin())), "standard input".to_owned())),
        Some(path) => {
            let file = std::fs::File::open(path).map_err(|error| unreadable(path.to_owned(), &error))?;
            Ok((Box::new(BufReader::new(file)), path.display().to_string()))
        }
    }
}

fn unreadable(file: PathBuf, error: &io::Error) -> CliError {
    CliError::Foreign { file, what: format!("cannot be read: {error}") }
}
