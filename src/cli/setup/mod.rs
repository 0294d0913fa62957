//! `postrider setup`: from a mail address to an account that is polled.
//!
//! `options` is the command line, `place` the configuration, `draft` the account that is being made, `dialogue` the person,
//! `talk` what is said with them, `trial` the log-in that is tried.

mod config_file;
mod dialogue;
mod draft;
mod options;
mod talk;
mod trial;

use std::io::{self, IsTerminal as _};
use std::path::Path;

use super::doctor::{NARROW, laid_out};
use super::exit::Exit;
use super::stdout::Results;
use super::{CliError, Common};
use crate::autoconfig::{Address, Found};
use crate::config::account::FirstSync;
use crate::config::{self, Config};
use crate::daemon::signals;

use config_file::ConfigFile;
use dialogue::Dialogue;
use draft::{Draft, Keys, LogInBy, Source};
pub use options::Setup;
use options::USUAL_TARGET;
use talk::Talk;

impl Setup {
    pub async fn run(&self, common: &Common, results: &mut Results) -> Result<Exit, CliError> {
        let address = Address::parse(&self.address).map_err(CliError::Usage)?;
        let deliver = config::targets_as_yaml(&self.targets())?;
        let place = ConfigFile::read(common)?;
        let name = self.free_name(&place, &address)?;
        let is_person = !self.print && io::stdin().is_terminal() && io::stdout().is_terminal();
        if !is_person {
            return self.printed(&address, place, (name, deliver), results).await;
        }
        let stop = signals::stop(Exit::LATER.number());
        let talk = Talk { setup: self, address: &address, place, dialogue: Dialogue::new(results, stop) };
        talk.run(name, deliver).await
    }

    fn targets(&self) -> Vec<&str> {
        match self.deliver.is_empty() {
            true => vec![USUAL_TARGET],
            false => self.deliver.iter().map(String::as_str).collect(),
        }
    }

    /// Gives the account's name, and refuses an address that has an account.
    fn free_name(&self, place: &ConfigFile, address: &Address) -> Result<String, CliError> {
        let file = place.path.display();
        let of_address = place.accounts().iter().find(|account| account.user == address.to_string());
        if let Some(account) = of_address.filter(|_| !self.print) {
            let name = &account.name;
            return Err(CliError::Usage(format!(
                "{address} has an account in {file}: {name}; `postrider sync {name}` fetches its mail"
            )));
        }
        match &self.name {
            Some(name) if place.accounts().iter().any(|account| account.name == *name) => {
                Err(CliError::Usage(format!("{file} has an account called {name}; give another --name")))
            }
            Some(name) => Ok(name.clone()),
            None => Ok(place.free_name(address)),
        }
    }

    /// Prints the account of an address.
    async fn printed(
        &self,
        address: &Address,
        place: ConfigFile,
        (name, deliver): (String, String),
        results: &mut Results,
    ) -> Result<Exit, CliError> {
        let found = self.look_up(address, &place).await;
        let found = found.map_err(|outcome| options::not_found(address, &outcome))?;
        let Found { mut server, by, user_is_known, doubts } = found;
        let mut comments = vec![format!("{address}: found by {by}.")];
        match &self.user {
            Some(user) => server.user.clone_from(user),
            None if user_is_known => {}
            None => comments.push("The user is a guess: the address, or what stands before its @.".into()),
        }
        comments.extend(doubts.iter().map(|doubt| format!("Look at it first: {doubt}.")));
        comments.extend(server.note.map(|note| format!("Mind: {note}.")));
        let log_in = self.log_in(&server)?;
        let log_in = match log_in {
            Some(LogInBy::Tokens { provider, client_id: None, client_secret }) if !provider.has_client() => {
                comments.push(format!("Register a client first ({}), and put in its id.", provider.manual));
                LogInBy::Tokens { provider, client_id: Some("CLIENT-ID".into()), client_secret }
            }
            Some(log_in) => log_in,
            None => LogInBy::Password(Source::Missing),
        };
        let stored = place.secret_file(&name);
        if matches!(log_in, LogInBy::Password(Source::Missing)) {
            comments.push(format!("Put the password into {} (mode 0600).", stored.display()));
        }
        let first_sync = self.first_sync.unwrap_or(FirstSync::All);
        let draft = Draft { name, server, log_in, deliver, first_sync };
        let comments = comments.iter().flat_map(|comment| laid_out("# ", comment, NARROW));
        let comments: String = comments.map(|line| format!("#{}\n", &line[1..])).collect();
        let yaml = config::with_account(&comments, &draft.yaml(&stored, Keys::Needed)).unwrap_or_default();
        // A name or a user that cannot be.
        Config::from_yaml(&yaml, Path::new("what is printed"))?;
        results.write(yaml.as_bytes());
        Ok(Exit::SUCCESS)
    }
}
