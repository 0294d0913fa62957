//! What a fleet's workers share in their files: what rows of tenants may name, and what becomes of them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::account::{Account, CommandLine, Tls};
use super::networks::Network;
use super::oauth2::OAuth2;
use super::target::{Destination, Recipients, Target};

/// What holds for accounts that are rows of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fleet {
    /// The table or view that has them, with its schema if it is written.
    pub accounts: String,
    /// Networks besides the public Internet's that their hosts may be in.
    pub allow_networks: Arc<[Network]>,
    /// Where messages go, by the names that rows have.
    pub targets: BTreeMap<String, Vec<Destination>>,
    /// Where tokens come from, by the names that rows have.
    pub providers: BTreeMap<String, OAuth2>,
    /// What an account is before its row is read.
    pub(super) defaults: Account,
}

impl Default for Fleet {
    fn default() -> Self {
        Self {
            accounts: "account".to_owned(),
            allow_networks: Arc::default(),
            targets: BTreeMap::new(),
            providers: BTreeMap::new(),
            defaults: Account::new(""),
        }
    }
}

/// What stands in a target for the account and its tenant. Both are the operator's words and fit into a path; what a
/// tenant can choose, such as its user, has no word here.
const WORDS: [&str; 2] = ["%(account)", "%(tenant)"];

impl Fleet {
    /// Takes over from `defaults` what may hold for strangers' accounts: no credentials, no command in a server's place, and
    /// no server.
    pub(super) fn take_defaults(&mut self, defaults: &Account) {
        let own = Account::new("");
        self.defaults = Account {
            host: own.host,
            user: own.user,
            maildrop_id: own.maildrop_id,
            password: None,
            oauth2: None,
            connect: None,
            tls: Tls { client: None, pins: Vec::new(), server_name: None, ..defaults.tls.clone() },
            ..defaults.clone()
        };
    }

    /// Gives accounts that together need all that those of rows may need of this machine.
    pub fn samples(&self) -> Vec<Account> {
        let mut samples: Vec<Account> = Vec::new();
        let defaults = || Account { name: "fleet".to_owned(), ..self.defaults.clone() };
        for targets in self.targets.values() {
            let deliver = targets.iter().map(sample).collect();
            samples.push(Account { deliver, ..defaults() });
        }
        if samples.is_empty() {
            samples.push(defaults());
        }
        samples.extend(
            self.providers.values().map(|oauth2| Account { oauth2: Some(oauth2.clone()), ..defaults() }),
        );
        samples
    }
}

fn put(text: &str, account: &str, tenant: &str) -> String {
    text.replace(WORDS[0], account).replace(WORDS[1], tenant)
}

/// Puts the account and its tenant in the place of their words in a command, so that a broker knows whose token is wanted. No
/// shell reads more into their names than letters.
pub(super) fn asked_of_broker(line: &CommandLine, account: &str, tenant: &str) -> CommandLine {
    match line {
        CommandLine::Shell(text) => CommandLine::Shell(put(text, account, tenant)),
        CommandLine::Argv(argv) => {
            CommandLine::Argv(argv.iter().map(|word| put(word, account, tenant)).collect())
        }
    }
}

/// Puts the account and its tenant in the place of their words.
pub(super) fn of_account(to: &Destination, account: &str, tenant: &str) -> Destination {
    with_words(to, |text| put(text, account, tenant))
}

/// Changes each text of a target in which words may stand.
fn with_words(to: &Destination, mut change: impl FnMut(&str) -> String) -> Destination {
    let mut to = to.clone();
    match &mut to.target {
        Target::Maildir(path) | Target::Mbox(path) => *path = change(&path.to_string_lossy()).into(),
        Target::Smtp(server) | Target::Lmtp(server) => {
            if let Recipients::List(list) = &mut server.to {
                list.iter_mut().for_each(|address| *address = change(address));
            }
        }
        Target::Imap(mailbox) => mailbox.login.user = change(&mailbox.login.user),
        Target::Pipe(_) | Target::Gmail(_) | Target::Http(_) => {}
    }
    to
}

/// Says what is wrong with a word that is none of [`WORDS`].
pub(super) fn words(to: &Destination) -> Result<(), &'static str> {
    let mut has_other = false;
    with_words(to, |text| {
        has_other |= put(text, "", "").contains("%(");
        text.to_owned()
    });
    match has_other {
        true => Err("has a word in it that is neither %(account) nor %(tenant)"),
        false => Ok(()),
    }
}

/// Gives a target that needs of this machine what the target of any account needs.
fn sample(to: &Destination) -> Destination {
    let mut to = to.clone();
    if let Some(path) = to.target.path() {
        // Where an account's own part begins, all accounts' lie.
        let common = path.iter().take_while(|part| !part.to_string_lossy().contains("%("));
        let common: PathBuf = common.collect();
        if common != *path {
            to.target = Target::Mbox(common.join("mbox"));
        }
    }
    to
}

impl Destination {
    /// Says whether what is delivered there lies on the machine that delivers it, and is another's on another.
    pub fn is_of_one_machine(&self) -> bool {
        self.target.route().is_none() && !self.shared
    }
}
