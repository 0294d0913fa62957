//! An account for tests of the network.

use std::time::Duration;

use postrider::testing::config::{Account, Interval, Target, Tls, TlsMode};

/// Gives an account of host and port without TLS, whose waits take 5 s at most.
pub fn plain(host: &str, port: u16) -> Account {
    Account {
        host: host.into(),
        port,
        user: "alice".into(),
        maildrop_id: format!("alice@{host}"),
        tls: Tls::bare(TlsMode::None),
        timeout: Duration::from_secs(5),
        interval: Interval::Manual,
        deliver: vec![Target::Maildir("/nonexistent".into()).into()],
        ..Account::new("test")
    }
}
