//! The keys of an account: one row each, and what they mean together.

use std::collections::HashSet;

use super::account::{Account, Hooks, Order, Pipelining, Tls, TlsMode};
use super::deliver::{TARGET, TARGETS};
use super::oauth2_keys::{OAUTH2, suits};
use super::rows::{Form, Key, inline, key, mapping, within};
use super::server::{Given, Level, conflicts, with_tls};
use super::tree::{Complaint, Position};
use super::values::{
    ADDRESS, AUTH, BOOLEAN, COMMAND, FIRST_SYNC, HOST, INTERVAL, KEEP, MAILDROP, MOST_MESSAGES, PASSWORD,
    PORT, POSITIVE, PROXY, SIZE, USER, choice,
};
use crate::sasl::Auth;

const ORDERS: [(&str, Order); 2] = [("oldest", Order::Oldest), ("newest", Order::Newest)];
const PIPELININGS: [(&str, Pipelining); 3] =
    [("auto", Pipelining::Auto), ("on", Pipelining::On), ("off", Pipelining::Off)];

/// The keys of an account, in the order in which they are shown.
pub(super) const KEYS: &[Key<Account>] = with_tls!(
    tls,
    [
        key!("host", host, HOST, "The server's name or address; required.", Row, Own),
        key!("user", user, USER, "The mailbox name as the server knows it; required.", Row, Own),
        key!(
            "port",
            port,
            PORT,
            "The TCP port; by default 995, or 110 where TLS does not come first.",
            Row,
            Own
        ),
    ],
    [
        key!("auth", auth, AUTH, "How to log in: auto, or a list of mechanisms.", Row),
        key!("password", password, PASSWORD, "The password, or where it comes from."),
        key!("oauth2", oauth2, OAUTH2, "Tokens in the place of a password: where they come from.", Row),
        key!("proxy", proxy, PROXY, "A proxy that connects to the server: socks5:// or http://."),
        key!("connect", connect, COMMAND, "A command whose input and output are the connection."),
        key!("bind", bind, ADDRESS, "The address of this machine to connect from."),
        key!("timeout", timeout, POSITIVE, "The longest wait for a connect or for the server."),
        key!("interval", interval, INTERVAL, "How often a daemon polls, or manual.", Row),
        key!(
            "keep",
            keep,
            KEEP,
            "When messages are deleted from the server: forever, none or a duration.",
            Row
        ),
        key!(
            "first_sync",
            first_sync,
            FIRST_SYNC,
            "What the first poll ever fetches: all, none or what arrived within a duration."
        ),
        key!("order", order, choice!(ORDERS), "Which messages come first: oldest or newest."),
        key!("max_size", max_size, SIZE, "The size above which a message stays on the server.", Row),
        key!("max_messages", max_messages, MOST_MESSAGES, "Messages fetched in one session at most.", Row),
        key!("pipelining", pipelining, choice!(PIPELININGS), "Whether commands wait for earlier answers."),
        key!("deliver", deliver, TARGETS, "Where messages go: a target, or a list of them; required.", Row),
        key!("refused", refused, TARGET, "The target of what another one refuses for good."),
        key!("received", received, BOOLEAN, "Whether each message gets a Received line."),
        key!("hooks", hooks, HOOKS_FORM, "Commands around a poll."),
        key!("enabled", enabled, BOOLEAN, "Whether it is polled when no account is named."),
        key!("maildrop_id", maildrop_id, MAILDROP, "The name under which unique-ids are recorded.", Own),
    ]
);

pub(super) const HOOKS: &[Key<Hooks>] = &[
    key!("before", before, COMMAND, "Before each poll; where it fails, there is none."),
    key!("after", after, COMMAND, "After each poll."),
    key!("on_new", on_new, COMMAND, "After a poll that delivered something."),
    key!("on_error", on_error, COMMAND, "After the first poll that failed."),
    key!("on_recover", on_recover, COMMAND, "After the first poll that succeeded again."),
];

const HOOKS_FORM: Form<Hooks> = Form::new(
    |node, places| mapping(node, places, "a mapping such as { on_error: COMMAND }", HOOKS, Hooks::default()),
    |hooks| inline(HOOKS, hooks),
);

/// What is wrong with `tls: none` and `auth: auto`.
const NO_TLS_NO_PASSWORD: &str = "without TLS, `auth: auto` sends no password and cannot log in: write `tls: starttls` or \
     `tls: implicit`, or name the mechanisms: `auth: [scram-sha-256]`, or `auth: [user-pass]` to send the password in the clear";

/// Says what is wrong with targets that would count as one.
fn same_target(account: &Account) -> Option<&'static str> {
    let mut keys = HashSet::new();
    if !account.deliver.iter().all(|to| keys.insert(to.key())) {
        return Some("has the same target twice: if they are two, give each a `name` of its own");
    }
    let refused = account.refused.as_ref()?;
    keys.contains(&refused.key())
        .then_some("has the target in it that is `refused`, which must be another one")
}

/// Checks what the keys of an account mean together, and fills in what follows from them; `at` is where the account's
/// name stands.
pub(super) fn complete(
    mut account: Account,
    given: Given<'_, '_>,
    at: Position,
) -> Result<Account, Vec<Complaint>> {
    let mut wrong = conflicts(given, account.tls.mode, KEYS);
    for road in ["bind", "proxy"] {
        if let (Some((key, level)), Some((_, connect))) = (given.find(road), given.find("connect"))
            && level >= connect
        {
            wrong.push((key, "has no meaning with `connect`: remove one of them"));
        }
    }
    match (given.find("password"), given.find("oauth2")) {
        (Some((_, password)), Some((oauth2, level))) if password == level => {
            wrong.push((oauth2, "has no meaning with `password`: remove one of them"));
        }
        // What the account says itself takes the place of what the defaults say.
        (Some((_, Level::Own)), Some(_)) => account.oauth2 = None,
        (Some(_), Some(_)) => account.password = None,
        (Some(_), None) | (None, Some(_)) | (None, None) => {}
    }
    if let Some((auth, _)) = given.find("auth") {
        wrong.extend(suits(&account.auth, account.oauth2.as_ref()).err().map(|what| (auth, what)));
    }
    if let (Some((tls, _)), TlsMode::None, Auth::Auto) = (given.find("tls"), account.tls.mode, &account.auth)
    {
        wrong.push((tls, NO_TLS_NO_PASSWORD));
    }
    if let Some(wrong_target) = same_target(&account)
        && let Some((deliver, _)) = given.find("deliver")
    {
        wrong.push((deliver, wrong_target));
    }
    let wrong = wrong.into_iter().map(|(entry, what)| within(entry, entry.value.wrong(what)));
    let needed = [
        ("host", account.host.is_empty()),
        ("user", account.user.is_empty()),
        ("deliver", account.deliver.is_empty()),
    ];
    let missing = needed.into_iter().filter(|(_, is_missing)| *is_missing);
    let missing = missing.map(|(key, _)| Complaint::new(at, format!("`{key}` is missing")));
    let wrong: Vec<_> = wrong.chain(missing).collect();
    if !wrong.is_empty() {
        return Err(wrong);
    }
    // What the defaults say does not concern an account that goes without TLS, or without a connection of its own.
    if account.tls.mode == TlsMode::None {
        account.tls = Tls::bare(TlsMode::None);
    }
    if account.connect.is_some() {
        (account.bind, account.proxy) = (None, None);
    }
    account.complete(|key| given.find(key).is_some());
    Ok(account)
}
