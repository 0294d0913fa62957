//! `postrider state`: where the state is.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand, ValueHint};

use super::exit::Exit;
use super::help::{self, below};
use super::stdout::Results;
use super::{CliError, Common};
use crate::config::{Config, ConfigError, Postgres};
use crate::credential::ring;
use crate::seal::Ring;
use crate::session::server;
use crate::state::copy::{Copied, Differing, Place, copy};
use crate::state::postgres::{Database, Server, Vault};
use crate::state::tokens::Shelf;
use crate::text::counted;

/// How long the files of tokens may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a URL of a database begins with.
const SCHEMES: [&str; 2] = ["postgresql://", "postgres://"];

/// What to do with a state as a whole.
#[derive(Debug, Subcommand)]
pub enum StateCommand {
    /// Copies all that is recorded from a state file into a database, or back, and compares the two
    #[command(after_help = below("postrider --config worker.yaml state copy /var/lib/postrider/state.db postgresql://postrider@db.example.org/postrider", help::STATE))]
    Copy(Copy),
}

#[derive(Debug, Args)]
pub struct Copy {
    /// A state file, or the URL of a database: postgresql://USER@HOST/DATABASE
    #[arg(value_name = "FROM", value_hint = ValueHint::AnyPath)]
    from: String,
    /// Another; a file is made if there is none
    #[arg(value_name = "TO", value_hint = ValueHint::AnyPath)]
    to: String,
    /// Of maildrops that both have and not the same of, take what FROM has
    #[arg(long)]
    replace: bool,
}

impl StateCommand {
    pub async fn run(&self, common: &Common, results: &mut Results) -> Result<Exit, CliError> {
        match self {
            Self::Copy(copy) => copy.run(common, results).await,
        }
    }
}

impl Copy {
    async fn run(&self, common: &Common, results: &mut Results) -> Result<Exit, CliError> {
        if self.from == self.to {
            return Err(CliError::Usage("FROM and TO are the same".to_owned()));
        }
        let config = match common.load() {
            // A state has one file or none, and both may be named here.
            Err(ConfigError::NotFound { .. }) if common.named().is_none() => Config::default(),
            config => config?,
        };
        let (from, to) = (place(&self.from, &config).await?, place(&self.to, &config).await?);
        let (tokens, of_tokens) = (shelf(&from, &config).await?, shelf(&to, &config).await?);
        let differing = if self.replace { Differing::IsReplaced } else { Differing::Stays };
        let Copied { maildrops, rows, there } = copy(from, to, differing).await?;
        if maildrops + there == 0 {
            let what = format!("nothing is recorded in FROM, {}: is it the other way round?", self.from);
            return Err(CliError::Usage(what));
        }
        // Behind the records: who polls without tokens polls later, who polls without records fetches twice.
        let logins = tokens.copy_to(&of_tokens, PATIENCE).await?;
        if !common.quiet {
            results.line(format_args!(
                "{} ({}) and {} copied, {there} there already; compared, and the same",
                counted(maildrops, "maildrop"),
                counted(rows, "row"),
                counted(logins, "log-in"),
            ));
        }
        Ok(Exit::SUCCESS)
    }
}

/// Gives where tokens are beside a state, or in it. The configuration has the keys of a database's.
async fn shelf(place: &Place, config: &Config) -> Result<Shelf, CliError> {
    let server = match place {
        Place::File(path) => return Ok(Shelf::Beside(path.clone())),
        Place::Database(server) => server.clone(),
    };
    let ring = match config.database.as_ref().filter(|database| database.url == server.url()) {
        Some(database) => ring(&database.secrets_keys, database.timeout).await?,
        None => Ring::default(),
    };
    Ok(Shelf::In(Vault::new(Database::new(server), Arc::new(ring))))
}

/// Reads where a state is. What the configuration says of this database holds for it.
async fn place(text: &str, config: &Config) -> Result<Place, CliError> {
    if !SCHEMES.iter().any(|scheme| text.starts_with(scheme)) {
        return Ok(Place::File(PathBuf::from(text)));
    }
    if let Some(database) = config.database.as_ref().filter(|database| database.url == text) {
        return Ok(Place::Database(server(database).await?));
    }
    let unread = |what| CliError::Usage(format!("{text:?} is no database: {what}"));
    Ok(Place::Database(Server::new(Postgres::new(text).map_err(unread)?, None)))
}
