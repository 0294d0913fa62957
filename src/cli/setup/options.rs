//! What the command line says, and what follows from that alone.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::config_file::ConfigFile;
use super::draft::{LogInBy, Source};
use crate::autoconfig::{Address, Doubt, Found, Outcome, Server, look_up};
use crate::cli::CliError;
use crate::config::account::{FirstSync, TlsMode};
use crate::config::{host_name, units};

/// Where mail goes if nobody says where.
pub(super) const USUAL_TARGET: &str = "maildir:~/Mail";

#[derive(Debug, Args)]
pub struct Setup {
    /// The mail address
    pub(super) address: String,
    /// Ask nothing, try nothing and write nothing: print the account as YAML. So it is away from a terminal, too
    #[arg(long)]
    pub(super) print: bool,
    /// What the account is called [default: the first word of the domain]
    #[arg(long)]
    pub(super) name: Option<String>,
    /// The POP3 server, in place of looking for it
    #[arg(long, value_name = "HOST[:PORT]", value_parser = server)]
    pub(super) server: Option<(String, Option<u16>)>,
    /// With --server: how TLS begins [default: starttls with port 110, else implicit]
    #[arg(long, value_enum, value_name = "MODE", requires = "server")]
    pub(super) tls: Option<Tls>,
    /// The mailbox name at the server [default: as the server's owner says, else the address]
    #[arg(long)]
    pub(super) user: Option<String>,
    /// Take the server that was found, although nobody vouches for it, without asking
    #[arg(long)]
    pub(super) accept: bool,
    /// A shell command that prints the password, in place of asking for it
    #[arg(long, value_name = "COMMAND", group = "secret")]
    pub(super) password_command: Option<String>,
    /// A file with the password, in place of asking for it
    #[arg(long, value_name = "FILE", group = "secret")]
    pub(super) password_file: Option<PathBuf>,
    /// Log in by OAuth2, where the server takes that
    #[arg(long, group = "secret")]
    pub(super) login: bool,
    /// For OAuth2: the id of the client that you have registered
    #[arg(long, value_name = "ID")]
    pub(super) client_id: Option<String>,
    /// For OAuth2: a file with that client's secret
    #[arg(long, value_name = "FILE")]
    pub(super) client_secret_file: Option<PathBuf>,
    /// Where messages go: maildir:~/Mail, mbox:PATH, pipe:COMMAND, smtp://HOST?to=ADDRESS, lmtp:SOCKET?to=ADDRESS,
    /// imaps://USER@HOST?password_file=PATH, https://HOST/PATH; given more than once, to each of them
    /// [default: maildir:~/Mail]
    #[arg(long, value_name = "TARGET")]
    pub(super) deliver: Vec<String>,
    /// What becomes of the messages that wait: all, none (only what comes from now on is fetched), or those of a time
    /// such as 14d [default: all]
    #[arg(long, value_name = "all|none|DURATION", value_parser = first_sync)]
    pub(super) first_sync: Option<FirstSync>,
    /// Write the account without trying the log-in
    #[arg(long)]
    pub(super) no_try: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Tls {
    Implicit,
    Starttls,
}

impl From<Tls> for TlsMode {
    fn from(tls: Tls) -> Self {
        match tls {
            Tls::Implicit => Self::Implicit,
            Tls::Starttls => Self::StartTls,
        }
    }
}

impl Setup {
    /// Finds the server, or takes the one that was given; else gives who was asked in vain.
    pub(super) async fn look_up(&self, address: &Address, place: &ConfigFile) -> Result<Found, Outcome> {
        if let Some(given) = &self.server {
            return Ok(self.named(address, given, "--server"));
        }
        let outcome = look_up(address, &place.asking()).await;
        outcome.misses.iter().for_each(|miss| log::info!("{}: {}", miss.asked, miss.came));
        match outcome {
            Outcome { found: Some(found), .. } => Ok(found),
            nothing => Err(nothing),
        }
    }

    /// Takes a server that a person has named.
    pub(super) fn named(&self, address: &Address, (host, port): &(String, Option<u16>), by: &str) -> Found {
        let usual = if *port == Some(110) { TlsMode::StartTls } else { TlsMode::Implicit };
        let mode = self.tls.map_or(usual, TlsMode::from);
        let server = Server {
            host: host.clone(),
            port: port.unwrap_or(mode.default_port()),
            mode,
            user: address.to_string(),
            password: true,
            oauth2: None,
            note: None,
        };
        Found { server, by: by.into(), user_is_known: false, doubts: Vec::new() }
    }

    /// Gives what to log in with, as far as options say it or there is no choice.
    pub(super) fn log_in(&self, server: &Server) -> Result<Option<LogInBy>, CliError> {
        let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
        if let Some(command) = &self.password_command {
            return Ok(Some(LogInBy::Password(Source::Command(command.clone()))));
        }
        if let Some(file) = &self.password_file {
            return Ok(Some(LogInBy::Password(Source::File(absolute(file)))));
        }
        let wants_tokens = self.login || self.client_id.is_some() || !server.password;
        match server.oauth2.filter(|_| wants_tokens) {
            Some(provider) => Ok(Some(LogInBy::Tokens {
                provider,
                client_id: self.client_id.clone(),
                client_secret: self.client_secret_file.as_ref().map(|file| Source::File(absolute(file))),
            })),
            None if self.login => Err(CliError::Usage(format!(
                "{} takes no tokens of a provider that is known here; docs/providers/any.md has the way by hand",
                server.host
            ))),
            None => Ok(None),
        }
    }
}

/// Says that nothing was found, and whether a person may know better.
pub(super) enum Nothing {
    /// There is none: why.
    None(String),
    /// None was found.
    Unknown(String),
}

pub(super) fn nothing(address: &Address, outcome: &Outcome) -> Nothing {
    match (outcome.imap(), outcome.misses.as_slice()) {
        (_, [miss]) => Nothing::None(format!("{address} cannot be polled: {} {}", miss.asked, miss.came)),
        (Some(host), _) => Nothing::Unknown(format!(
            "only an IMAP server was found for {address}, {host}, and postrider fetches by POP3. If there is a POP3 server \
             all the same, name it"
        )),
        (None, _) => Nothing::Unknown(format!(
            "no POP3 server was found for {address}. Whoever runs its mail knows the name: give it"
        )),
    }
}

/// Says who was asked in vain.
pub(super) fn not_found(address: &Address, outcome: &Outcome) -> CliError {
    let misses = outcome.misses.iter().map(|miss| format!("\n  {}: {}", miss.asked, miss.came));
    CliError::NotSetUp(match nothing(address, outcome) {
        Nothing::None(what) => what,
        Nothing::Unknown(what) => format!("{what} with --server. Asked were{}", misses.collect::<String>()),
    })
}

pub(super) fn server(text: &str) -> Result<(String, Option<u16>), String> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port)),
        Some(_) | None => (text, None),
    };
    let port = match port.map(str::parse::<u16>) {
        Some(Ok(port)) if port > 0 => Some(port),
        None => None,
        Some(_) => return Err("the port must be a number from 1 to 65535".into()),
    };
    Ok((host_name(host).map_err(|what| format!("the host {what}"))?, port))
}

pub(super) fn first_sync(text: &str) -> Result<FirstSync, String> {
    match text {
        "all" => Ok(FirstSync::All),
        "none" => Ok(FirstSync::None),
        text => match units::duration(text) {
            Ok(time) if time > Duration::ZERO => Ok(FirstSync::Within(time)),
            Ok(_) => Err("must be longer than nothing; none fetches nothing that waits".into()),
            Err(error) => Err(error.to_string()),
        },
    }
}

/// What a person is told of a doubt, who may say no.
pub(super) fn warning(doubt: Doubt) -> String {
    format!("Mind: {doubt}.")
}
