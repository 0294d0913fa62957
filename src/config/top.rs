//! The keys at the top of the file, and of what stands beside the accounts: one row each.

use super::fleet_keys::FLEET;
use super::hosts::{HOSTS, SESSIONS};
use super::listen::LISTEN;
use super::postgres_keys::STATE;
use super::rows::{Form, Key, Kind, block, inline, key, mapping};
use super::values::{BOOLEAN, DURATION, NEW_FILE, POSITIVE, choice, count};
use super::{Config, Confinement, Notify};

const CONFINEMENTS: [(&str, Confinement); 2] = [("auto", Confinement::Auto), ("off", Confinement::Off)];

/// The keys at the top. What is only named here is read by `file`, which gathers all mistakes in it.
pub(super) const TOP: &[Key<Config>] = &[
    named("defaults", "Keys of accounts that hold where an account does not have them itself."),
    named("accounts", "From the accounts' names to their keys."),
    STATE,
    Key {
        show: |config| format!("\n{}", block(2, LIMITS, config).trim_end()),
        ..named("daemon", "Limits that hold for all accounts together, and where the status is served.")
    },
    key!("hosts", hosts, HOSTS, "From hosts' names to limits of their own."),
    key!("fleet", fleet, FLEET, "What several workers share: targets and more that rows of a table name."),
    key!("notify", notify, NOTIFY_FORM, "How a failure that lasts is told."),
    key!("metrics_file", metrics_file, NEW_FILE, "Where a daemon writes its metrics."),
    key!("sandbox", sandbox, choice!(CONFINEMENTS), "Whether the process confines itself: auto or off."),
];

pub(super) const LIMITS: &[Key<Config>] = &[
    key!("max_sessions", daemon.max_sessions, SESSIONS, "Sessions open at once."),
    key!(
        "max_sessions_per_host",
        daemon.max_sessions_per_host,
        SESSIONS,
        "Sessions open at once with one host."
    ),
    key!(
        "startup_spread",
        daemon.startup_spread,
        DURATION,
        "Time over which a daemon's first polls are spread."
    ),
    key!(
        "status_listen",
        status_listen,
        LISTEN,
        "Where a daemon serves a page, JSON, metrics and health over HTTP: 127.0.0.1:PORT or unix:PATH."
    ),
];

pub(super) const NOTIFY: &[Key<Notify>] = &[
    key!("after", after, FAILURES, "After so many failed polls in a row."),
    key!("remind", remind, POSITIVE, "And again when it has lasted so much longer."),
    key!("deliver", deliver, BOOLEAN, "Whether there are such messages."),
];

/// Failures in a row: years of an hourly poll.
const FAILURES: Form<usize> = Form::new(|node, _| count(node, 100_000), usize::to_string);

const NOTIFY_FORM: Form<Notify> = Form::new(
    |node, places| match node.is_nothing() {
        true => Ok(Notify::default()),
        false => {
            mapping(node, places, "a mapping such as { after: 3, remind: 1d }", NOTIFY, Notify::default())
        }
    },
    |notify| inline(NOTIFY, notify),
);

const fn named(name: &'static str, about: &'static str) -> Key<Config> {
    Key { name, about, kind: Kind::Inside, marks: &[], read: |_, _, _| Ok(()), show: |_| String::new() }
}
