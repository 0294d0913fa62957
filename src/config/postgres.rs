//! The database that holds the state where that is no file.

use std::time::Duration;

use super::account::{Password, Tls, TlsMode};
use super::host::is_loopback;

/// A PostgreSQL database, and how it is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Postgres {
    /// As it is written.
    pub url: String,
    /// Hosts, user and database. No password is in it.
    pub server: tokio_postgres::Config,
    /// Where the password comes from, if one is asked for.
    pub password: Option<Password>,
    /// Where the keys come from that seal the secrets in it: the first seals, all open.
    pub secrets_keys: Vec<Password>,
    /// How connections by TCP are protected: `StartTls`, which is PostgreSQL's own way, or `None`.
    pub tls: Tls,
    /// The longest wait for a connection, and for one answer.
    pub timeout: Duration,
}

impl Postgres {
    /// Makes one of a URL or of words (`host=... dbname=...`), with the limits that hold where nothing else is said.
    ///
    /// # Errors
    ///
    /// What is wrong with the text.
    pub fn new(url: &str) -> Result<Self, String> {
        let server: tokio_postgres::Config =
            url.parse().map_err(|error: tokio_postgres::Error| match std::error::Error::source(&error) {
                Some(source) => source.to_string(),
                None => error.to_string(),
            })?;
        if server.get_password().is_some() {
            return Err("a password in it would be shown: write `password` beside it".to_owned());
        }
        if server.get_hosts().is_empty() {
            return Err("it names no host".to_owned());
        }
        let is_near = |host: &tokio_postgres::config::Host| match host {
            tokio_postgres::config::Host::Tcp(name) => is_loopback(name),
            tokio_postgres::config::Host::Unix(_) => true,
        };
        let mode = match server.get_hosts().iter().all(is_near) {
            true => TlsMode::None,
            false => TlsMode::StartTls,
        };
        let url = url.to_owned();
        Ok(Self {
            url,
            server,
            password: None,
            secrets_keys: Vec::new(),
            tls: Tls::bare(mode),
            timeout: Duration::from_secs(10),
        })
    }
}
