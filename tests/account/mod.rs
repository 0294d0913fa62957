//! An account for tests of the network.

use std::path::PathBuf;
use std::time::Duration;

use postrider::config::account::{
    Auth, FirstSync, Hooks, Interval, Keep, Order, Pipelining, Tls, TlsMode, TlsVersion,
};
use postrider::config::{Account, Target};

/// Gives an account of host and port without TLS, whose waits take 5 s at most.
pub fn plain(host: &str, port: u16) -> Account {
    Account {
        name: "test".into(),
        host: host.into(),
        port,
        user: "alice".into(),
        maildrop_id: format!("alice@{host}"),
        tls: Tls {
            mode: TlsMode::None,
            ca: None,
            pins: Vec::new(),
            client: None,
            server_name: None,
            min: TlsVersion::Tls12,
        },
        auth: Auth::Auto,
        password: None,
        bind: None,
        connect: None,
        timeout: Duration::from_secs(5),
        interval: Interval::Manual,
        keep: Keep::Forever,
        first_sync: FirstSync::All,
        order: Order::Oldest,
        max_size: None,
        max_messages: None,
        pipelining: Pipelining::Auto,
        deliver: Target::Maildir(PathBuf::from("/nonexistent")),
        received: false,
        hooks: Hooks::default(),
        enabled: true,
    }
}
