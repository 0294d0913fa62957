//! The database that a configuration names, with what it takes to get in.

use super::CliError;
use crate::config::Postgres;
use crate::credential;
use crate::state::postgres::Server;

/// Gets the password from where the configuration says that it is.
pub async fn server(database: &Postgres) -> Result<Server, CliError> {
    let password = match &database.password {
        Some(source) => Some(credential::password(source, "state", "postrider", database.timeout).await?),
        None => None,
    };
    Ok(Server::new(database.clone(), password))
}
