//! A failure that lasts is told as a message in the account's own target, where its user looks anyway.

use std::time::Duration;

use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, SinglePart};
use lettre::{Address, Message};

use super::beside::Beside;
use super::trouble::{During, Failed};
use super::{Environment, Report, Retry, hooks, open_target};
use crate::config::target::{CatchAll, Recipients, Target, Unknown};
use crate::config::{Account, Notify};
use crate::delivery::Outcome;
use crate::failure::{Class, Failure};
use crate::message::{MessageId, UniqueId};
use crate::net::host_name;
use crate::state::{Maildrop, Subject, Taken, Timestamp, Told};

/// How long is waited for the maildrop; another session of it would remove what this one has half-written.
const PATIENCE: Duration = Duration::from_secs(1);

/// What notices are called among the things that can fail.
/// Delivers the messages that are due after a poll: of polls that fail, and of messages that are held. What goes wrong is
/// told; it is tried again after the next poll.
pub(super) async fn notify(beside: &mut Beside<'_>, notify: &Notify, report: &Report) {
    if !notify.deliver {
        return;
    }
    let fails = report.failure.as_ref().filter(|failure| failure.class.has_a_notice());
    let stop = &beside.environment.stop;
    let notices = async {
        if let Some(failure) = fails {
            attempt(beside, notify, Subject::Polls, failure).await;
        }
        let is_about_messages = report.failure.as_ref().is_none_or(|failure| failure.class == Class::Message);
        if is_about_messages && (report.held > 0 || report.failure.is_some()) {
            let held = hooks::held_ones(report);
            attempt(beside, notify, Subject::Held, report.failure.as_ref().unwrap_or(&held)).await;
        }
    };
    tokio::select! {
        () = notices => {}
        () = stop.asked() => {}
    }
}

async fn attempt(beside: &mut Beside<'_>, notify: &Notify, what: Subject, failure: &Failure) {
    match deliver_if_due(beside, notify, what, failure).await {
        // The poll has told that.
        Err(Failed { trouble, .. }) if failure.class == Class::Target => {
            log::debug!("{}: cannot deliver a notice: {trouble}", beside.account.name);
        }
        Err(Failed { doing, trouble }) => {
            beside.failed(Subject::Notice, format_args!("cannot deliver a notice: {doing}: {trouble}"));
        }
        Ok(()) => {}
    }
}

async fn deliver_if_due(
    beside: &mut Beside<'_>,
    notify: &Notify,
    what: Subject,
    failure: &Failure,
) -> Result<(), Failed> {
    let (account, now) = (beside.account, beside.now);
    // A target that does not answer takes no notice either; the session has told it.
    let Ok(environment) = &beside.environment.of(account) else { return Ok(()) };
    let Some(trouble) = beside.lasting(what) else { return Ok(()) };
    // Of messages that are held nobody hopes that they come by themselves.
    let after = if what == Subject::Polls { notify.after } else { 1 };
    if !is_due(notify, after, trouble, now) {
        return Ok(());
    }
    let mut targets = Vec::new();
    for target in account.deliver.iter().map(|to| &to.target) {
        match reaches_nobody(target) {
            Some(why) if account.deliver.len() == 1 => {
                beside.failed(Subject::Notice, format_args!("cannot deliver a notice: {why}"));
                return Ok(());
            }
            Some(_) => {}
            None => targets.push(target),
        }
    }
    let maildrop: std::sync::Arc<str> = account.maildrop_id.as_str().into();
    let known = environment.store.maildrop(maildrop).await.during("read the state")?;
    let _place = environment.beside.place().await;
    let taken = environment.lease(account, PATIENCE).await.during("lock the maildrop")?;
    let Taken::Own(lease) = taken else { return Ok(()) };
    let environment = &environment.clone().under(&lease);
    let words = if what == Subject::Polls {
        failing(account, notify, &known, failure)
    } else {
        held(account, notify, failure)
    };
    // The first that takes it has it.
    let mut delivered = Ok(());
    for target in targets {
        let Some(octets) = message(account, target, &words) else { break };
        delivered = deliver(beside, environment, target, (what, &octets)).await;
        if delivered.is_ok() {
            break;
        }
    }
    environment.clone().leave(lease);
    match delivered {
        Err(NotTaken::Failed(failed)) => Err(failed),
        Err(NotTaken::Declined(why)) => {
            beside.failed(Subject::Notice, format_args!("cannot deliver a notice: {why}"));
            Ok(())
        }
        Ok(()) | Err(NotTaken::Untried) => Ok(()),
    }
}

/// Why a target did not take a notice.
enum NotTaken {
    Failed(Failed),
    Declined(String),
    /// The process was asked to end, or the poll has told it.
    Untried,
}

impl From<Failed> for NotTaken {
    fn from(failed: Failed) -> Self {
        Self::Failed(failed)
    }
}

async fn deliver(
    beside: &mut Beside<'_>,
    environment: &Environment,
    target: &Target,
    (what, octets): (Subject, &[u8]),
) -> Result<(), NotTaken> {
    let (account, now) = (beside.account, beside.now);
    let maildrop: std::sync::Arc<str> = account.maildrop_id.as_str().into();
    let sink = open_target(account, target, environment, Retry::InTime).await?;
    let uid = UniqueId::new(format!("postrider-notice-{}-{now}", what.name()).into_bytes());
    let mut draft = sink.draft(MessageId { maildrop, uid, ordinal: 0 });
    draft.write(octets);
    let outcomes = sink.commit(vec![draft.finish()]).await.during("deliver")?;
    sink.close().await;
    match outcomes.first() {
        Some(Outcome::Delivered | Outcome::Filed(_) | Outcome::Merged(_) | Outcome::AlreadyThere) => {
            beside.noticed(what);
            log::info!("{}: delivered a notice of the failure", account.name);
            beside.worked(Subject::Notice, format_args!("notices can be delivered again"));
            Ok(())
        }
        Some(
            Outcome::Later(why)
            | Outcome::InDoubt(why)
            | Outcome::Unknown(why)
            | Outcome::Refused(why)
            | Outcome::Partly { reason: why, .. },
        ) => Err(NotTaken::Declined(why.clone())),
        Some(Outcome::NotTried) | None => Err(NotTaken::Untried),
    }
}

fn is_due(notify: &Notify, after: usize, trouble: &Told, now: Timestamp) -> bool {
    let remind = Timestamp::try_from(notify.remind.as_secs()).unwrap_or(Timestamp::MAX);
    usize::try_from(trouble.times).is_ok_and(|times| times >= after)
        // Whoever set the clock back waits no longer than that either.
        && trouble.noticed_at.is_none_or(|noticed| now.abs_diff(noticed) >= remind.unsigned_abs())
}

struct Words {
    subject: String,
    body: String,
}

fn failing(account: &Account, notify: &Notify, known: &Maildrop, failure: &Failure) -> Words {
    let last = match known.last_success.and_then(|at| jiff::Timestamp::from_second(at).ok()) {
        Some(at) => at.strftime("%Y-%m-%d %H:%M UTC").to_string(),
        None => "never".into(),
    };
    let name = &account.name;
    let body = format!(
        "The mail of the account {name} has not been fetched for a while.\n\n\
         Failed polls in a row: {}\nLast success: {last}\n\nThe last failure:\n\n{}\n\
         No mail is lost: what was not fetched is still on the server.\n\
         postrider goes on trying. On {},\n\
         `postrider status` tells more, and\n\
         `postrider sync {name}` tries at once.\n\n{}",
        known.failures,
        indented(failure),
        host_name(),
        end(notify),
    );
    Words { subject: format!("postrider: cannot fetch mail for {name} ({})", failure.class.name()), body }
}

fn held(account: &Account, notify: &Notify, failure: &Failure) -> Words {
    let name = &account.name;
    let body = format!(
        "Mail of the account {name} could not be fetched or delivered, and is held.\n\n{}\n\
         No mail is lost: what is held is still on the server, is tried again,\n\
         and keeps no other mail away. On {},\n\
         `postrider held list {name}` shows each message and why,\n\
         `postrider held retry {name}` tries at once, and\n\
         `postrider held discard {name} UID` gives one up.\n\n{}",
        indented(failure),
        host_name(),
        end(notify),
    );
    Words { subject: format!("postrider: mail for {name} is held"), body }
}

fn indented(failure: &Failure) -> String {
    failure.to_string().lines().map(|line| format!("    {line}\n")).collect()
}

fn end(notify: &Notify) -> String {
    format!(
        "This is said again after {}, as long as it lasts. In the configuration,\n\
         `notify: {{ deliver: false }}` ends such messages.\n",
        humantime::format_duration(notify.remind)
    )
}

/// Writes the message; nothing if nobody's address can be made of the account's.
fn message(account: &Account, target: &Target, words: &Words) -> Option<Vec<u8>> {
    let host = host_name();
    let at_host = |user: &str| Address::new(user, &host).or_else(|_| Address::new(user, "localhost")).ok();
    let to =
        account.user.parse().ok().or_else(|| at_host(&account.user)).or_else(|| at_host("postmaster"))?;
    let from = Mailbox::new(Some("postrider".into()), at_host("postrider")?);
    let mut builder = Message::builder()
        .from(from)
        .to(Mailbox::new(None, to))
        .subject(words.subject.clone())
        .date_now()
        .message_id(Some(format!("<{:016x}.postrider@{host}>", getrandom::u64().ok()?)))
        // RFC 3834, 5: nobody is to answer it.
        .raw_header(header("Auto-Submitted", "auto-generated")?);
    if let Some((name, address)) = trusted_header(target) {
        builder = builder.raw_header(header(name, address)?);
    }
    match builder.singlepart(SinglePart::plain(words.body.clone())) {
        Ok(message) => Some(message.formatted()),
        Err(error) => {
            log::debug!("{}: cannot write a notice: {error}", account.name);
            None
        }
    }
}

/// Gives the catch-all of a target, if it is one.
fn catch_all(target: &Target) -> Option<&CatchAll> {
    match &target.mail_server()?.to {
        Recipients::Header(catch_all) => Some(catch_all),
        Recipients::List(_) => None,
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
        let trouble = |times, noticed_at| Told {
            what: Subject::Polls,
            since: 0,
            times,
            lasts: true,
            kinds: Vec::new(),
            noticed_at,
        };
        for (failures, noticed_at, due) in [
            (2, None, false),
            (3, None, true),
            (4, Some(1_000_000 - 86_399), false),
            (4, Some(1_000_000 - 86_400), true),
            // The clock was set back by two days since.
            (4, Some(1_000_000 + 2 * 86_400), true),
        ] {
            assert_eq!(
                is_due(&notify, notify.after, &trouble(failures, noticed_at), 1_000_000),
                due,
                "{failures} {noticed_at:?}"
            );
        }
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
            assert_eq!(reaches_nobody(config.accounts[0].target()).is_none(), reaches, "{to}");
        }
    }
}
