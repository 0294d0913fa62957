//! What is said with a person, from the server to the next command.

use super::config_file::{ConfigFile, Drafted};
use super::dialogue::{Dialogue, TRIES};
use super::draft::{Draft, LogInBy, Source};
use super::options::{Nothing, Setup, USUAL_TARGET, first_sync, not_found, nothing, server, warning};
use super::trial::Trial;

use crate::autoconfig::{Address, Doubt, Found, Outcome, Server};
use crate::cli::exit::Exit;
use crate::cli::report::{Octets, messages};
use crate::cli::{CliError, common, login};
use crate::config::account::{FirstSync, Password};
use crate::config::providers::Provider;
use crate::config::{Account, targets_as_yaml};
use crate::credential::oauth2::log_in::By;
use crate::failure::{Class, Failure};
use crate::session::{Environment, Report};
use crate::text::Shown;

/// A dialogue about one address.
pub(super) struct Talk<'a> {
    pub(super) setup: &'a Setup,
    pub(super) address: &'a Address,
    pub(super) place: ConfigFile,
    pub(super) dialogue: Dialogue<'a>,
}

impl Talk<'_> {
    pub(super) async fn run(mut self, name: String, deliver: String) -> Result<Exit, CliError> {
        let Found { mut server, by, user_is_known, doubts } = self.found().await?;
        self.dialogue.say(&format!("Found {server}"));
        self.dialogue.beside("  by ", &by);
        self.confirm(&doubts).await?;
        if let Some(note) = server.note {
            self.dialogue.say(&format!("Mind: {note}."));
        }
        match &self.setup.user {
            Some(user) => server.user.clone_from(user),
            None if user_is_known => {}
            // The address, or what stands before its @.
            None => server.user = self.dialogue.ask("User name at the server", &server.user).await?,
        }
        self.refuse_second(&server)?;
        let log_in = self.log_in(&server).await?;
        let first_sync = self.setup.first_sync.unwrap_or(FirstSync::All);
        let mut draft = Draft { name, server, log_in, deliver, first_sync };
        if self.setup.deliver.is_empty() {
            draft.deliver = self.target().await?;
        }
        if !self.setup.no_try {
            let waiting = match self.tried(&mut draft).await? {
                Ok(waiting) => waiting,
                Err(failure) => return Ok(self.given_up(&failure)),
            };
            if self.setup.first_sync.is_none() && waiting > 0 {
                draft.first_sync = self.first_sync().await?;
            }
            if let Err(failure) = self.target_tried(&mut draft).await? {
                return Ok(self.given_up(&failure));
            }
        }
        self.written(&draft)
    }

    async fn found(&mut self) -> Result<Found, CliError> {
        if self.setup.server.is_none() {
            self.dialogue.say(&format!("Looking for the POP3 server of {} ...", self.address.domain));
        }
        let (setup, address, place) = (self.setup, self.address, &self.place);
        match self.dialogue.wait(Box::pin(setup.look_up(address, place))).await? {
            Ok(found) => Ok(found),
            Err(outcome) => self.named(&outcome).await,
        }
    }

    /// Asks for the server, if a person may know it.
    async fn named(&mut self, outcome: &Outcome) -> Result<Found, CliError> {
        let Nothing::Unknown(what) = nothing(self.address, outcome) else {
            return Err(not_found(self.address, outcome));
        };
        self.dialogue.say(&format!("Nothing came of that: {what}."));
        for _ in 0..TRIES {
            let typed = self.dialogue.ask("POP3 server, HOST or HOST:PORT", "").await?;
            match server(&typed) {
                _ if typed.is_empty() => break,
                Ok(given) => return Ok(self.setup.named(self.address, &given, "you")),
                Err(what) => self.dialogue.say(&format!("That is none: {what}.")),
            }
        }
        self.dialogue.say("Asked were");
        for miss in &outcome.misses {
            self.dialogue.beside("  ", &format!("{}: {}", miss.asked, miss.came));
        }
        Err(CliError::NotSetUp("no server was named; --server does that, too".into()))
    }

    /// Has a person say that it is the right server, where anybody may have named it.
    async fn confirm(&mut self, doubts: &[Doubt]) -> Result<(), CliError> {
        if doubts.is_empty() {
            return Ok(());
        }
        doubts.iter().for_each(|doubt| self.dialogue.say(&warning(*doubt)));
        if self.setup.accept {
            return Ok(());
        }
        let is_forged = doubts.iter().any(|doubt| *doubt != Doubt::OtherDomain);
        let answers = if is_forged { ["no", "yes"] } else { ["yes", "no"] };
        let chosen = self.dialogue.choose("Is that your provider's server? (yes or no)", &answers).await?;
        match answers[chosen] {
            "yes" => Ok(()),
            _ => Err(CliError::NotSetUp("name the right server with --server".into())),
        }
    }

    /// Refuses a maildrop that has an account.
    fn refuse_second(&self, server: &Server) -> Result<(), CliError> {
        let is_it = |account: &&Account| account.user == server.user && account.host == server.host;
        match self.place.accounts().iter().find(is_it) {
            Some(Account { name, .. }) => Err(CliError::Usage(format!(
                "{} at {} has an account: {name}; `postrider sync {name}` fetches its mail",
                server.user, server.host
            ))),
            None => Ok(()),
        }
    }

    /// Asks what to log in with; a password itself is asked for when it is tried.
    async fn log_in(&mut self, server: &Server) -> Result<LogInBy, CliError> {
        let given = match (self.setup.log_in(server)?, server.oauth2) {
            (None, Some(provider)) => {
                let question = "Log in by password or by oauth2?";
                match self.dialogue.choose(question, &["password", "oauth2"]).await? {
                    0 => None,
                    _ => Some(LogInBy::Tokens { provider, client_id: None, client_secret: None }),
                }
            }
            (given, _) => given,
        };
        match given {
            Some(LogInBy::Tokens { provider, client_id: None, .. }) if !provider.has_client() => {
                self.client(provider).await
            }
            Some(log_in) => Ok(log_in),
            None if self.setup.no_try => Ok(LogInBy::Password(self.password(server).await?)),
            None => Ok(LogInBy::Password(Source::Missing)),
        }
    }

    /// Asks for the client that a person has registered.
    async fn client(&mut self, provider: &'static Provider) -> Result<LogInBy, CliError> {
        self.dialogue.say(&format!(
            "OAuth2 takes a client that is registered with {}; {} says how.",
            provider.name, provider.manual
        ));
        let client_id = self.dialogue.ask("Client id", "").await?;
        if client_id.is_empty() {
            return Err(CliError::NotSetUp("without a client there is no OAuth2".into()));
        }
        let prompt = "Client secret, which is not shown (none: just Enter): ".to_owned();
        let client_secret = match &self.setup.client_secret_file {
            Some(file) => Some(Source::File(file.clone())),
            None => self.dialogue.secret(prompt).await?.map(Source::Typed),
        };
        Ok(LogInBy::Tokens { provider, client_id: Some(client_id), client_secret })
    }

    async fn password(&mut self, server: &Server) -> Result<Source, CliError> {
        for _ in 0..TRIES {
            if let Some(secret) = self.dialogue.secret(password_prompt(server)).await? {
                return Ok(Source::Typed(secret));
            }
        }
        Err(CliError::NotSetUp("no password was typed".into()))
    }

    /// Asks for another password. Whoever was refused types one whatever is asked: so it is what is asked first, and what
    /// is shown as it is typed only if nothing came.
    async fn password_again(&mut self, server: &mut Server) -> Result<Source, CliError> {
        if let Some(secret) = self.dialogue.secret(password_prompt(server)).await? {
            return Ok(Source::Typed(secret));
        }
        server.user = self.dialogue.ask("User name at the server", &server.user).await?;
        self.password(server).await
    }

    async fn target(&mut self) -> Result<String, CliError> {
        let question = "Where shall the mail go? A maildir is a directory with a file for each\nmessage";
        for _ in 0..TRIES {
            let answer = self.dialogue.ask(question, USUAL_TARGET).await?;
            // A path alone is what most people write.
            let is_path = answer.starts_with(['/', '~', '.']);
            let target = if is_path { format!("maildir:{answer}") } else { answer };
            match targets_as_yaml(&[target]) {
                Ok(deliver) => return Ok(deliver),
                Err(error) => self.dialogue.say(&error.to_string()),
            }
        }
        Err(CliError::NotSetUp("no target".into()))
    }

    /// Logs in, with another password if one is refused; gives how many messages wait, or why nobody knows.
    async fn tried(&mut self, draft: &mut Draft) -> Result<Result<usize, Failure>, CliError> {
        let is_asked = matches!(draft.log_in, LogInBy::Password(Source::Missing));
        for attempt in 1..=TRIES {
            if is_asked {
                let source = match attempt {
                    1 => self.password(&draft.server).await?,
                    _ => self.password_again(&mut draft.server).await?,
                };
                draft.log_in = LogInBy::Password(source);
            }
            let report = self.attempt(draft).await?;
            let Some(failure) = report.failure else {
                let waiting = report.listed.unwrap_or_default();
                let octets = Octets(report.listed_octets);
                let what = if waiting == 1 { "waits" } else { "wait" };
                self.dialogue.say(&format!("Logged in: {} {what} ({octets}).", messages(waiting)));
                return Ok(Ok(waiting));
            };
            if !is_asked || failure.class != Class::Credentials || attempt == TRIES {
                return Ok(Err(failure));
            }
            self.failed(&failure);
            self.dialogue.say(&format!(
                "Once more, please; just Enter if {} is not the user name there. Ctrl-C ends it, and nothing is written.",
                draft.server.user
            ));
        }
        Err(CliError::NotSetUp("no log-in".into()))
    }

    async fn attempt(&mut self, draft: &Draft) -> Result<Report, CliError> {
        let file = self.place.secret_file(&draft.name);
        let Drafted { mut account, config, .. } = self.place.with(draft, &file)?;
        if let Some(secret) = draft.typed() {
            match &mut account.oauth2 {
                None => account.password = Some(Password::Literal(secret.clone())),
                Some(oauth2) => oauth2.set_client_secret(secret.clone()),
            }
        }
        if account.oauth2.is_some() {
            let (stop, typed) = (self.dialogue.stop().clone(), self.dialogue.take_typed());
            let mut say = |words: &str| self.dialogue.pass_on(words);
            let shelf = Environment::shelf(&config).await?;
            let of = (&config.accounts[..], &shelf);
            let logging_in = login::log_in(&account, of, By::Usual, typed, (&mut say, "."));
            let typed = tokio::select! {
                logged_in = Box::pin(logging_in) => Some(logged_in?),
                () = stop.asked() => None,
            };
            match typed {
                Some(typed) => self.dialogue.give_typed(typed),
                None => return Err(self.dialogue.stopped()),
            }
        }
        self.dialogue.say(&format!("Logging in to {} ...", account.server()));
        let mut trial = Trial::new(&account, &config.state, self.dialogue.stop().clone())?;
        let report = trial.log_in(&account).await;
        let is_refused = |failure: &Failure| failure.class == Class::Credentials;
        if report.failure.as_ref().is_some_and(|failure| !is_refused(failure)) {
            for (name, seen) in trial.steps() {
                self.dialogue.beside(&format!("  ok  {name:<12}  "), &seen);
            }
        }
        Ok(report)
    }

    fn failed(&mut self, failure: &Failure) {
        self.dialogue.say(&format!("{}: {}", failure.doing, failure.what));
        if let Some(said) = &failure.said {
            self.dialogue.beside("  server: ", &Shown(said).to_string());
        }
        // What follows that is of polls, which there are none of yet.
        let hint = failure.hint.as_ref().and_then(|hint| hint.split("; no further unattended").next());
        if let Some(hint) = hint {
            self.dialogue.beside("  hint: ", hint);
        }
    }

    fn given_up(&mut self, failure: &Failure) -> Exit {
        self.failed(failure);
        self.dialogue.say("Nothing was written; with --no-try the account is written as it is.");
        Exit::of_class(failure.class)
    }

    async fn first_sync(&mut self) -> Result<FirstSync, CliError> {
        self.dialogue.say(
            "Which of them shall be fetched? all; none: only what comes from now on; 14d: those of the last 14 days. They \
             stay on the server in any case.",
        );
        for _ in 0..TRIES {
            let answer = self.dialogue.ask("Fetch", "all").await?;
            // Who writes a number means days.
            let is_number = !answer.is_empty() && answer.bytes().all(|octet| octet.is_ascii_digit());
            let answer = if is_number { format!("{answer}d") } else { answer };
            match first_sync(&answer) {
                Ok(first) => return Ok(first),
                Err(what) => {
                    self.dialogue.say(&format!("all, none, or a time such as 14d, please ({what})."));
                }
            }
        }
        Err(CliError::NotSetUp("no answer that is one".into()))
    }

    /// Looks whether mail can go where it shall, and asks for another place where it cannot.
    async fn target_tried(&mut self, draft: &mut Draft) -> Result<Result<(), Failure>, CliError> {
        for attempt in 1..=TRIES {
            let file = self.place.secret_file(&draft.name);
            let Drafted { account, config, .. } = self.place.with(draft, &file)?;
            let trial = Trial::new(&account, &config.state, self.dialogue.stop().clone())?;
            let Err(failure) = trial.targets(&account).await else { return Ok(Ok(())) };
            if !self.setup.deliver.is_empty() || attempt == TRIES {
                return Ok(Err(failure));
            }
            self.failed(&failure);
            draft.deliver = self.target().await?;
        }
        Ok(Ok(()))
    }

    fn written(&mut self, draft: &Draft) -> Result<Exit, CliError> {
        let secret = self.place.write(draft)?;
        self.dialogue.say(&format!("Wrote the account {} into {}", draft.name, self.place.path.display()));
        if let Some(path) = secret {
            let what = match draft.log_in {
                LogInBy::Password(_) => "its password",
                LogInBy::Tokens { .. } => "the client's secret",
            };
            self.dialogue.say(&format!("and {what} in {}, for you alone.", path.display()));
        }
        if let Some(system) = &self.place.hides {
            self.dialogue.say(&common::hiding(system));
        }
        let option = match self.place.is_usual() {
            true => String::new(),
            false => format!(" --config {}", crate::text::shell_word(&self.place.path.to_string_lossy())),
        };
        let name = crate::text::shell_word(&draft.name);
        self.dialogue.say(&format!("\nNow fetch the mail:\n\n  postrider{option} sync {name}"));
        Ok(Exit::SUCCESS)
    }
}

fn password_prompt(server: &Server) -> String {
    format!("Password of {} at {}, which is not shown: ", server.user, server.host)
}
