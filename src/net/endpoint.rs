//! Where to connect to, and until when.

use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

use super::NetError;
use crate::config::account::{CommandLine, Tls};
use crate::config::target::Route;
use crate::config::{Account, Proxy, Reach};

/// A server to connect to: an account's, or one that mail is delivered to.
#[derive(Debug, Clone, Copy)]
pub struct Endpoint<'a> {
    /// The account's name, for the log.
    pub account: &'a str,
    /// Host name or address literal (IPv6 without brackets).
    pub host: &'a str,
    pub port: u16,
    pub tls: &'a Tls,
    /// Which addresses of it may be connected to.
    pub reach: &'a Reach,
    /// Local address to connect from.
    pub bind: Option<IpAddr>,
    /// What connects to it in our place.
    pub proxy: Option<&'a Proxy>,
    /// A command whose standard input and output are the connection.
    pub connect: Option<&'a CommandLine>,
    /// The longest wait, for TCP and TLS together.
    pub timeout: Duration,
}

impl<'a> Endpoint<'a> {
    /// Gives the server of an account's target; one without a patience of its own has this one.
    pub fn of_target(
        account: &'a str,
        (host, port): (&'a str, u16),
        route: &'a Route,
        patience: Duration,
    ) -> Self {
        let Route { tls, bind, proxy, timeout } = route;
        let (proxy, timeout) = (proxy.as_ref(), timeout.unwrap_or(patience));
        Self { account, host, port, tls, reach: &Reach::Anywhere, bind: *bind, proxy, connect: None, timeout }
    }
}

impl<'a> From<&'a Account> for Endpoint<'a> {
    fn from(account: &'a Account) -> Self {
        Self {
            account: &account.name,
            host: &account.host,
            port: account.port,
            tls: &account.tls,
            reach: &account.reach,
            bind: account.bind,
            proxy: account.proxy.as_ref(),
            connect: account.connect.as_ref(),
            timeout: account.timeout,
        }
    }
}

/// The end of a wait, and how long it was to be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline {
    pub(super) at: Option<Instant>,
    pub(super) patience: Duration,
}

impl Deadline {
    pub(super) fn after(patience: Duration) -> Self {
        Self { at: Instant::now().checked_add(patience), patience }
    }

    /// Waits for the future; `waiting_for` completes "gave up after 60s waiting for ...".
    pub(super) async fn wait<T>(
        &self,
        waiting_for: impl FnOnce() -> NetError,
        future: impl Future<Output = Result<T, NetError>>,
    ) -> Result<T, NetError> {
        match self.at {
            Some(at) => match tokio::time::timeout_at(at, future).await {
                Ok(result) => result,
                Err(_) => Err(waiting_for()),
            },
            None => future.await,
        }
    }
}
