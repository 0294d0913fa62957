//! `postrider seen`: shows and edits the recorded unique-ids.

use std::collections::{BTreeSet, HashSet};
use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use clap::{ArgGroup, Args, Subcommand};

use super::accounts::{OfUrl, is_url, load, look, retry};
use super::exit::Exit;
use super::help::{self, below};
use super::progress::Bars;
use super::report::messages;
use super::stdout::Results;
use super::{CliError, Common, poll};
use crate::config::{Account, Config};
use crate::failure::{Class, Failure};
use crate::pop3::UniqueId;
use crate::session::{self, Environment, Task};
use crate::state::{Delivery, Kind, Lease, Leaseholder, SeenLine, Taken};
use crate::status::words::time;
use crate::text::Shown;

/// The longest unique-id that is taken from a person, in octets.
const LONGEST_UID: usize = 512;

/// What to do with the recorded unique-ids of an account.
#[derive(Debug, Subcommand)]
pub enum Seen {
    /// Lists the recorded unique-ids with the time and the octets of each message
    #[command(after_help = below("postrider seen list home", help::RECORDS))]
    List(List),
    /// Takes what is in the maildrop now as already fetched
    #[command(after_help = below("postrider seen mark --all home", help::RECORDS))]
    Mark(Mark),
    /// Forgets unique-ids, so that their messages are fetched again
    #[command(after_help = below("postrider seen forget home QhdPYR:00WBw1Ph7x7", help::RECORDS))]
    Forget(Forget),
}

#[derive(Debug, Args)]
pub struct List {
    /// An account of the configuration, or the URL of a `sync URL`
    account: String,
}

#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("which").required(true),
    override_usage = "postrider seen mark [OPTIONS] <ACCOUNT> <--all|UID...>"
)]
pub struct Mark {
    /// An account of the configuration, or the URL of a `sync URL`
    account: String,
    /// All messages that the maildrop holds now
    #[arg(long, group = "which")]
    all: bool,
    /// Unique-ids, whether the maildrop holds them now or not; `-` reads them from standard input, one a line
    #[arg(value_name = "UID", group = "which")]
    uids: Vec<OsString>,
    #[command(flatten)]
    of_url: OfUrl,
}

#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("which").required(true),
    override_usage = "postrider seen forget [OPTIONS] <ACCOUNT> <--all|UID...>"
)]
pub struct Forget {
    /// An account of the configuration, or the URL of a `sync URL`
    account: String,
    /// All that is recorded: everything that the maildrop holds is fetched again
    #[arg(long, group = "which")]
    all: bool,
    /// Unique-ids, as `seen list` shows them; `-` reads them from standard input, one a line
    #[arg(value_name = "UID", group = "which")]
    uids: Vec<OsString>,
}

impl Seen {
    pub async fn run(&self, common: &Common, results: &mut Results) -> Result<Exit, CliError> {
        match self {
            Self::List(list) => list.run(common, results).await,
            Self::Mark(mark) => mark.run(common, results).await,
            Self::Forget(forget) => forget.run(common, results).await,
        }
    }
}

impl List {
    async fn run(&self, common: &Common, results: &mut Results) -> Result<Exit, CliError> {
        let (config, account) = &load(common, &self.account).await?;
        let store = look(config).await?;
        for line in store.seen(account.maildrop_id.as_str().into()).await? {
            results.line(listed(&line));
        }
        Ok(Exit::SUCCESS)
    }
}

impl Mark {
    async fn run(&self, common: &Common, results: &mut Results) -> Result<Exit, CliError> {
        let is_of_url = is_url(&self.account);
        if self.of_url.is_given() && !(is_of_url && self.all) {
            let what =
                "--tls and --password-command go with --all and a URL only: nothing else asks the server";
            return Err(CliError::Usage(what.into()));
        }
        let (config, account) = match is_of_url {
            // What it delivers to is not asked for: no message is fetched.
            true if self.all => self.of_url.account(&self.account, &["maildir:/"])?,
            _ => load(common, &self.account).await?,
        };
        if !self.all {
            return self.record(&config, &account, common, results).await;
        }
        let accounts = [Arc::new(account)];
        let reports = poll::accounts(
            &accounts,
            &Config { notify: None, ..config },
            Task::MarkAll(retry(std::slice::from_ref(&self.account))),
            Bars::new(common, 1),
            |_| (),
        )
        .await?;
        for report in reports.iter().filter(|report| report.failure.is_none()) {
            results.done(format_args!("{}: {} marked as seen", report.account, messages(report.new)));
        }
        Ok(Exit::of(&reports))
    }
}

impl Mark {
    /// Records unique-ids without asking the server. What is recorded already stays as it is: a message that was
    /// delivered must not become one that was not.
    async fn record(
        &self,
        config: &Config,
        account: &Account,
        common: &Common,
        results: &mut Results,
    ) -> Result<Exit, CliError> {
        let mut uids = given(&self.uids)?;
        let environment = Environment::of_config(config).await?;
        let lease = lease(common, &environment, account, "mark unique-ids").await?;
        let Environment { store, .. } = &environment.under(&lease);
        let maildrop: Arc<str> = account.maildrop_id.as_str().into();
        let seen = store.seen(maildrop.clone()).await?;
        let known: HashSet<&UniqueId> = seen.iter().map(|line| &line.uid).collect();
        let all = uids.len();
        uids.retain(|uid| !known.contains(uid));
        let (marked, at) = (uids.len(), store.clock().now());
        let memory = store.begin(maildrop).await?;
        let mark = |uid| Delivery::new(uid, 0, 0, Kind::Marked);
        store.record(&memory.key, at, uids.into_iter().map(mark).collect()).await?;
        let before = match all - marked {
            0 => String::new(),
            before => format!(", {before} recorded already"),
        };
        results.done(format_args!("{}: {} marked as seen{before}", account.name, messages(marked)));
        Ok(Exit::SUCCESS)
    }
}

impl Forget {
    async fn run(&self, common: &Common, results: &mut Results) -> Result<Exit, CliError> {
        let (config, account) = &load(common, &self.account).await?;
        let maildrop: Arc<str> = account.maildrop_id.as_str().into();
        // A session that goes on would record again what is forgotten here.
        let environment = Environment::of_config(config).await?;
        let _lease = lease(common, &environment, account, "forget unique-ids").await?;
        let store = &environment.store;
        let seen = store.seen(maildrop.clone()).await?;
        let uids = match self.all {
            true => seen.iter().map(|line| line.uid.clone()).collect::<BTreeSet<_>>().into_iter().collect(),
            false => recorded(&words(&self.uids)?, &seen)?,
        };
        let forgotten = store.forget(maildrop, uids).await?;
        results.done(format_args!("{}: {} will be fetched again", account.name, messages(forgotten)));
        Ok(Exit::SUCCESS)
    }
}

/// `2026-11-23 14:05:12 delivered 4321 QhdPYR:00WBw1Ph7x7`; the unique-id comes last, for it may hold blanks.
fn listed(line: &SeenLine) -> String {
    let (at, how) = match (line.delivered_at, line.kind) {
        (Some(at), Kind::Discarded) => (at, "discarded"),
        (Some(at), Kind::Imported) => (at, "imported "),
        (Some(at), _) => (at, "delivered"),
        (None, _) => (line.first_seen, "marked   "),
    };
    let octets = match line.octets {
        0 => "-".into(),
        octets => octets.to_string(),
    };
    format!("{} {how} {octets:>10} {}", time(at), line.uid)
}

/// Gives the words that stand for unique-ids, each `-` replaced by the lines of standard input.
fn words(given: &[OsString]) -> Result<Vec<OsString>, CliError> {
    let mut words = Vec::new();
    for word in given {
        if word != "-" {
            words.push(word.clone());
            continue;
        }
        let mut text = Vec::new();
        io::stdin().lock().read_to_end(&mut text).map_err(CliError::Input)?;
        let lines = text.split(|octet| *octet == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        words.extend(lines.filter(|line| !line.is_empty()).map(|line| OsStr::from_bytes(line).to_owned()));
    }
    Ok(words)
}

/// Takes words for the octets of unique-ids, each once.
fn given(uids: &[OsString]) -> Result<Vec<UniqueId>, CliError> {
    let mut given = BTreeSet::new();
    for word in words(uids)? {
        let octets = word.as_bytes();
        // RFC 1939, 7, has 70 octets at most; servers have more, and a file of other lines than unique-ids is a mistake.
        if octets.len() > LONGEST_UID || octets.iter().any(u8::is_ascii_control) {
            return Err(CliError::Usage(format!("{:?} is no unique-id", Shown(octets))));
        }
        given.insert(UniqueId::new(octets));
    }
    Ok(given.into_iter().collect())
}

/// Finds the unique-ids that are meant: by their octets, or as `seen list` shows them where those cannot be typed.
fn recorded(wanted: &[OsString], seen: &[SeenLine]) -> Result<Vec<UniqueId>, CliError> {
    let mut found = Vec::new();
    for uid in wanted {
        match seen.iter().find(|line| meant(uid, &line.uid)) {
            Some(line) => found.push(line.uid.clone()),
            None => return Err(CliError::UnknownUid(Shown(uid.as_bytes()).to_string())),
        }
    }
    found.sort();
    found.dedup();
    Ok(found)
}

/// Says whether a word of the command line means this unique-id: by its octets, or as it is shown.
fn meant(word: &OsStr, uid: &UniqueId) -> bool {
    uid.as_bytes() == word.as_bytes() || word.to_str().is_some_and(|word| uid.to_string() == word)
}

/// Takes the lease on an account's maildrop; a person at a terminal sees that somebody else has it.
pub async fn lease(
    common: &Common,
    environment: &Environment,
    account: &Account,
    doing: &str,
) -> Result<Lease, CliError> {
    match session::lease(environment, account, &*Bars::new(common, 1).of(account)).await? {
        Taken::Own(lease) => Ok(lease),
        Taken::Others(by) => Err(Box::new(in_use(account, doing, by)).into()),
    }
}

fn in_use(account: &Account, doing: &str, by: Option<Leaseholder>) -> Failure {
    Failure {
        account: account.name.clone(),
        host: String::new(),
        doing: doing.into(),
        class: Class::InUse,
        what: match by {
            None => "another process is polling this maildrop".into(),
            Some(by) => format!("the worker {} is polling this maildrop; {}", by.worker, by.until()),
        },
        said: None,
        hint: Some("try again when it has ended".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(uid: &[u8], ordinal: u32) -> SeenLine {
        SeenLine {
            uid: UniqueId::new(uid),
            ordinal,
            octets: 4321,
            first_seen: 0,
            delivered_at: Some(0),
            kind: Kind::Delivered,
            last_listed: None,
        }
    }

    #[test]
    fn a_unique_id_is_found_by_its_octets_and_as_it_is_shown() {
        let seen = [line(b"a b", 0), line(b"\xff\x07", 0), line(b"dup", 0), line(b"dup", 1)];
        let found = |wanted: &[&str]| {
            let wanted: Vec<_> = wanted.iter().map(OsString::from).collect();
            recorded(&wanted, &seen)
                .map(|uids| uids.iter().map(|uid| uid.as_bytes().to_vec()).collect::<Vec<_>>())
        };
        assert_eq!(found(&["a b"]).unwrap(), [b"a b"]);
        assert_eq!(found(&[r"\xff\u{7}"]).unwrap(), [b"\xff\x07"]);
        assert_eq!(found(&["dup", "dup"]).unwrap(), [b"dup"]);
        let missing = found(&["dup", "\x1b"]).unwrap_err();
        assert_eq!(missing.to_string(), r"no recorded unique-id \u{1b}; nothing was changed");
    }

    #[test]
    fn a_listed_unique_id_cannot_break_its_line() {
        let shown = listed(&line(b"x\r\n\x1b[2J", 0));
        assert!(shown.ends_with(r" delivered       4321 x\r\n\u{1b}[2J"), "{shown}");
    }
}
