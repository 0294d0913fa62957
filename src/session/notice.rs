//! A failure that lasts is told as a message in the account's own target, where its user looks anyway.

use std::time::Duration;

use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, SinglePart};
use lettre::{Address, Message};

use super::trouble::{Aborted, During};
use super::{Environment, Report, open_target, stopped};
use crate::config::target::{CatchAll, Recipients, Target, Unknown};
use crate::config::{Account, Notify};
use crate::delivery::{MessageId, Outcome};
use crate::failure::{Class, Failure};
use crate::pop3::UniqueId;
use crate::state::lease::Lease;
use crate::state::{Health, Timestamp};

/// How long is waited for the maildrop; another session of it would remove what this one has half-written.
const PATIENCE: Duration = Duration::from_secs(1);

/// What notices are called among the things that can fail.
const NOTICE: &str = "notice";

/// Delivers the message of a poll that failed if it is due. What goes wrong is told; it is tried again after the next failure.
pub(super) async fn tell(account: &Account, environment: &Environment, notify: &Notify, report: &Report) {
    let Some(failure) = &report.failure else { return };
    match failure.class {
        // Nothing is wrong; or the target is what fails; or nothing would be remembered of the message.
        Class::Stopped | Class::Message | Class::Target | Class::State => return,
        Class::Network
        | Class::Tls
        | Class::Protocol
        | Class::Refused
        | Class::InUse
        | Class::LoginDelay
        | Class::Credentials
        | Class::Permanent
        | Class::Hook
        | Class::Internal => {}
    }
    let mut stop = environment.stop.clone();
    tokio::select! {
        told = told(account, environment, notify, failure) => {
            if let Err(aborted) = told {
                let Aborted { doing, trouble } = aborted;
                let words = format_args!("cannot deliver a notice: {doing}: {trouble}");
                environment.failing.failed(account, NOTICE, words);
            }
        }
        () = stopped(&mut stop) => {}
    }
}

async fn told(
    account: &Account,
    environment: &Environment,
    notify: &Notify,
    failure: &Failure,
) -> Result<(), Aborted> {
    // A target that does not answer takes no notice either; the session has told it.
    let Ok(environment) = &environment.of(account) else { return Ok(()) };
    let maildrop: std::sync::Arc<str> = account.maildrop_id.as_str().into();
    let health = environment.store.health(maildrop).await.during("read the state")?;
    let now = environment.clock.now();
    if !is_due(notify, &health, now) {
        return Ok(());
    }
    if let Some(why) = reaches_nobody(&account.deliver) {
        environment.failing.failed(account, NOTICE, format_args!("cannot deliver a notice: {why}"));
        return Ok(());
    }
    let _place = environment.failing.place().await;
    let lease = Lease::take(&environment.state, &account.maildrop_id, PATIENCE).await;
    let Some(lease) = lease.during("lock the maildrop")? else { return Ok(()) };
    let Some(octets) = message(account, notify, &health, failure) else { return Ok(()) };
    let delivered = deliver(account, environment, now, &octets).await;
    environment.clone().leave(lease);
    delivered
}

async fn deliver(
    account: &Account,
    environment: &Environment,
    now: Timestamp,
    octets: &[u8],
) -> Result<(), Aborted> {
    let maildrop: std::sync::Arc<str> = account.maildrop_id.as_str().into();
    let sink = open_target(account, environment).await?;
    let uid = UniqueId::new(format!("postrider-notice-{now}").into_bytes());
    let mut draft = sink.draft(MessageId { maildrop: maildrop.clone(), uid, ordinal: 0 });
    draft.write(octets);
    let outcomes = sink.commit(vec![draft.finish()]).await.during("deliver")?;
    sink.close().await;
    match outcomes.first() {
        Some(Outcome::Delivered | Outcome::AlreadyThere) => {
            environment.store.noticed(maildrop, now).await.during("write the state")?;
            log::info!("{}: delivered a notice of the failure", account.name);
            environment.failing.worked(account, NOTICE, format_args!("notices can be delivered again"));
        }
        Some(Outcome::Later(why) | Outcome::Refused(why) | Outcome::Partly { reason: why, .. }) => {
            environment.failing.failed(account, NOTICE, format_args!("cannot deliver a notice: {why}"));
        }
        Some(Outcome::NotTried) | None => {}
    }
    Ok(())
}

fn is_due(notify: &Notify, health: &Health, now: Timestamp) -> bool {
    let remind = Timestamp::try_from(notify.remind.as_secs()).unwrap_or(Timestamp::MAX);
    notify.deliver
        && usize::try_from(health.failures).is_ok_and(|failures| failures >= notify.after)
        // Whoever set the clock back waits no longer than that either.
        && health.noticed_at.is_none_or(|noticed| now.abs_diff(noticed) >= remind.unsigned_abs())
}

/// Writes the message; nothing if nobody's address can be made of the account's.
fn message(account: &Account, notify: &Notify, health: &Health, failure: &Failure) -> Option<Vec<u8>> {
    let host = nix::unistd::gethostname().unwrap_or_default().to_string_lossy().into_owned();
    let at_host = |user: &str| Address::new(user, &host).or_else(|_| Address::new(user, "localhost")).ok();
    let to =
        account.user.parse().ok().or_else(|| at_host(&account.user)).or_else(|| at_host("postmaster"))?;
    let from = Mailbox::new(Some("postrider".into()), at_host("postrider")?);
    let last = match health.last_success.and_then(|at| jiff::Timestamp::from_second(at).ok()) {
        Some(at) => at.strftime("%Y-%m-%d %H:%M UTC").to_string(),
        None => "never".into(),
    };
    let indented: String = failure.to_string().lines().map(|line| format!("    {line}\n")).collect();
    let mut builder = Message::builder()
        .from(from)
        .to(Mailbox::new(None, to))
        .subject(format!("postrider: cannot fetch mail for {} ({})", account.name, failure.class.name()))
        .date_now()
        .message_id(Some(format!("<{:016x}.postrider@{host}>", getrandom::u64().ok()?)))
        // RFC 3834, 5: nobody is to answer it.
        .raw_header(header("Auto-Submitted", "auto-generated")?);
    if let Some((name, address)) = trusted_header(&account.deliver) {
        builder = builder.raw_header(header(name, address)?);
    }
    let body = format!(
        "The mail of the account {} has not been fetched for a while.\n\n\
         Failed polls in a row: {}\nLast success: {last}\n\nThe last failure:\n\n{indented}\n\
         No mail is lost: what was not fetched is still on the server.\n\
         postrider goes on trying. On {host},\n\
         `postrider status` tells more, and\n\
         `postrider sync {}` tries at once.\n\n\
         This is said again every {} while it lasts. In the configuration,\n\
         `notify: {{ deliver: false }}` ends such messages.\n",
        account.name,
        health.failures,
        account.name,
        humantime::format_duration(notify.remind),
    );
    match builder.singlepart(SinglePart::plain(body)) {
        Ok(message) => Some(message.formatted()),
        Err(error) => {
            log::debug!("{}: cannot write a notice: {error}", account.name);
            None
        }
    }
}

/// Gives the catch-all of a target, if it is one.
fn catch_all(target: &Target) -> Option<&CatchAll> {
    match target {
        Target::Smtp(server) | Target::Lmtp(server) => match &server.to {
            Recipients::Header(catch_all) => Some(catch_all),
            Recipients::List(_) => None,
        },
        Target::Maildir(_) | Target::Mbox(_) | Target::Pipe(_) => None,
    }
}

/// Says why a notice has no recipient, if that is so.
fn reaches_nobody(target: &Target) -> Option<&'static str> {
    match catch_all(target)?.unknown {
        Unknown::Hold => Some("with `unknown: hold` there is nobody whose it is; write an address there"),
        Unknown::Address(_) => None,
    }
}

/// Where the recipients stand in a header, the header that leads to whom unknown mail goes.
fn trusted_header(target: &Target) -> Option<(&str, &str)> {
    let catch_all = catch_all(target)?;
    match &catch_all.unknown {
        Unknown::Address(address) => Some((&catch_all.header, address)),
        Unknown::Hold => None,
    }
}

fn header(name: &str, value: &str) -> Option<HeaderValue> {
    Some(HeaderValue::new(HeaderName::new_from_ascii(name.to_owned()).ok()?, value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn the_notice_is_due_after_so_many_failures_and_when_it_is_time_to_remind() {
        let notify = Notify::default();
        let health = |failures, noticed_at| Health { failures, last_success: None, noticed_at };
        for (failures, noticed_at, due) in [
            (2, None, false),
            (3, None, true),
            (4, Some(1_000_000 - 86_399), false),
            (4, Some(1_000_000 - 86_400), true),
            // The clock was set back by two days since.
            (4, Some(1_000_000 + 2 * 86_400), true),
        ] {
            assert_eq!(
                is_due(&notify, &health(failures, noticed_at), 1_000_000),
                due,
                "{failures} {noticed_at:?}"
            );
        }
        let silent = Notify { deliver: false, ..notify };
        assert!(!is_due(&silent, &health(9, None), 1_000_000));
    }

    #[test]
    fn a_notice_needs_somebody_to_reach() {
        for (to, reaches) in [
            ("[a@b.example]", true),
            ("{ header: X-Original-To, unknown: hold }", false),
            ("{ header: X-Original-To, unknown: a@b.example }", true),
        ] {
            let yaml = format!(
                "accounts: {{ a: {{ host: h, user: u, password: p, deliver: {{ smtp: {{ to: {to} }} }} }} }}"
            );
            let config = Config::from_yaml(&yaml, std::path::Path::new("config.yaml")).unwrap();
            assert_eq!(reaches_nobody(&config.accounts[0].deliver).is_none(), reaches, "{to}");
        }
    }
}
