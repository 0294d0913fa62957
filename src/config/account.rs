//! What one account means once its configuration was read: every value checked, every default filled in.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use super::host::HostAndPort;
use super::networks::Reach;
use super::oauth2::OAuth2;
use super::proxy::Proxy;
use super::target::{Destination, Target};
use super::units::show_duration;
use crate::sasl::Auth;

pub use super::command_line::CommandLine;
pub use super::password::Password;
pub use super::tls::{ClientCertificate, Tls, TlsMode, TlsVersion, pin};

/// How an account's maildrop is polled and where its messages go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The account's key in the configuration file; the URL for `sync URL`.
    pub name: String,
    /// Host name or address literal (IPv6 without brackets); for `connect` only a name to verify and to show.
    pub host: String,
    pub port: u16,
    /// The mailbox name, as it goes onto the wire.
    pub user: String,
    /// The identity under which unique-ids are recorded; `user@host` unless configured.
    pub maildrop_id: String,
    pub tls: Tls,
    pub auth: Auth,
    /// Where the password comes from; `None` asks on the terminal, unless there are tokens.
    pub password: Option<Password>,
    /// Where tokens come from, in the place of a password.
    pub oauth2: Option<OAuth2>,
    /// Local address to connect from.
    pub bind: Option<IpAddr>,
    /// What connects to the server in our place.
    pub proxy: Option<Proxy>,
    /// A command whose standard input and output are the connection.
    pub connect: Option<CommandLine>,
    /// Where its host may be: whoever named it may be a stranger.
    pub reach: Reach,
    /// The longest wait for one connect, or for the server to say or take anything.
    pub timeout: Duration,
    pub interval: Interval,
    pub keep: Keep,
    pub first_sync: FirstSync,
    pub order: Order,
    /// Octets above which a message stays on the server.
    pub max_size: Option<u64>,
    /// Messages fetched in one session at most.
    pub max_messages: Option<usize>,
    pub pipelining: Pipelining,
    /// Where messages go: each of them to all of these, at least one.
    pub deliver: Vec<Destination>,
    /// Where a message goes that one of them refuses for good.
    pub refused: Option<Destination>,
    /// Whether a `Received` line is put on top of each message; `None`: not the same in all targets.
    pub received: Option<bool>,
    pub hooks: Hooks,
    /// Whether `sync` without names and the daemon poll it.
    pub enabled: bool,
}

/// Commands around a poll; each is told the account and what happened in its environment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hooks {
    /// Before each; where it fails, there is no poll.
    pub before: Option<CommandLine>,
    pub after: Option<CommandLine>,
    /// After one that delivered something.
    pub on_new: Option<CommandLine>,
    /// After the first that failed.
    pub on_error: Option<CommandLine>,
    /// After the first that succeeded again.
    pub on_recover: Option<CommandLine>,
}

/// How often a daemon polls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interval {
    Every(Duration),
    /// Only when asked.
    Manual,
}

/// When messages are deleted from the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    Forever,
    /// Once delivered and recorded.
    None,
    /// This long after delivery.
    For(Duration),
}

/// What the first poll ever of a maildrop fetches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstSync {
    All,
    /// Nothing: what is there counts as seen.
    None,
    /// What arrived within this time; what is older counts as seen.
    Within(Duration),
}

impl fmt::Display for FirstSync {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::None => f.write_str("none"),
            Self::Within(time) => f.write_str(&show_duration(*time)),
        }
    }
}

/// Which messages are fetched first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// As the server numbers them.
    Oldest,
    Newest,
}

/// Whether commands are sent before earlier ones are answered (RFC 2449, 6.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pipelining {
    /// If the server announces it and did not break under it.
    Auto,
    On,
    Off,
}

impl Account {
    /// Gives an account that has every default; host, user and target are for the caller to name, and
    /// `complete` for what depends on them.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            host: String::new(),
            port: 995,
            user: String::new(),
            maildrop_id: String::new(),
            tls: Tls::bare(TlsMode::Implicit),
            auth: Auth::Auto,
            password: None,
            oauth2: None,
            bind: None,
            proxy: None,
            connect: None,
            reach: Reach::Anywhere,
            timeout: Duration::from_secs(60),
            interval: Interval::Every(Duration::from_secs(5 * 60)),
            keep: Keep::Forever,
            first_sync: FirstSync::All,
            order: Order::Oldest,
            max_size: None,
            max_messages: None,
            pipelining: Pipelining::Auto,
            deliver: Vec::new(),
            refused: None,
            received: None,
            hooks: Hooks::default(),
            enabled: true,
        }
    }

    /// Fills in what depends on other keys, unless the key itself `is_given`: port, `maildrop_id`, `received`.
    pub(super) fn complete(&mut self, is_given: impl Fn(&str) -> bool) {
        if !is_given("port") {
            self.port = self.tls.mode.default_port();
        }
        if !is_given("maildrop_id") {
            self.maildrop_id = format!("{}@{}", self.user, self.host);
        }
        if !is_given("received") {
            let each: Vec<bool> = self.targets().map(|target| target.facts().traces).collect();
            self.received = each.first().copied().filter(|first| each.iter().all(|other| other == first));
        }
    }

    /// Says whether it was made of a URL, so that no configuration has it.
    pub fn is_of_url(&self) -> bool {
        self.name.contains("://")
    }

    pub fn target(&self) -> &Target {
        &self.deliver[0].target
    }

    /// Gives every target that may get a message of this account.
    pub fn targets(&self) -> impl Iterator<Item = &Target> {
        self.deliver.iter().chain(&self.refused).map(|to| &to.target)
    }

    /// Says whether messages get a `Received` line on their way into a target.
    pub fn traces(&self, target: &Target) -> bool {
        self.received.unwrap_or_else(|| target.facts().traces)
    }

    /// Names whose it is: the first part of a name such as `TENANT/NAME`; empty: the operator's own.
    pub fn tenant(&self) -> &str {
        self.name.split_once('/').map_or("", |(tenant, _)| tenant)
    }

    /// Gives `host:port` as it is shown to users, IPv6 addresses in brackets.
    pub fn server(&self) -> String {
        HostAndPort(&self.host, self.port).to_string()
    }
}
