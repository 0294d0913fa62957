//! `postrider status`: what the state file knows of the last polls, and a running daemon of the next.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::accounts::named;
use super::exit::Exit;
use super::report::{Octets, messages};
use super::stdout::Results;
use super::{CliError, Common};
use crate::config::account::Interval;
use crate::config::units;
use crate::config::{Account, ConfigError, default_state};
use crate::daemon::control::Doing;
use crate::daemon::control::client::{Client, ClientError};
use crate::failure::Class;
use crate::state::{self, Held, HeldKind, PollResult, Store, Timestamp};
use crate::text::{Shown, counted};
use crate::{logging, session};

#[derive(Debug, Args)]
pub struct Status {
    /// Accounts of the configuration [default: all, and maildrops that are no longer in it]
    #[arg(value_name = "ACCOUNT")]
    accounts: Vec<String>,
    /// Print one object a maildrop
    #[arg(long)]
    json: bool,
    /// Exit with 75 (77: refused credentials) if an enabled account has not been polled with success for so long
    #[arg(long, value_name = "DURATION", value_parser = units::duration)]
    max_age: Option<Duration>,
}

/// How long a running daemon may take to say how it stands.
const PATIENCE: Duration = Duration::from_secs(3);

impl Status {
    pub async fn run(&self, common: &Common, results: &mut Results) -> Result<Exit, CliError> {
        let (accounts, state) = match common.load() {
            // Who polls by URL alone has a state file and no configuration.
            Err(ConfigError::NotFound { .. }) if self.accounts.is_empty() => (Vec::new(), default_state()?),
            config => {
                let mut config = config?;
                self.accounts.iter().try_for_each(|name| named(&config, name).map(drop))?;
                let is_asked =
                    |account: &Account| self.accounts.is_empty() || self.accounts.contains(&account.name);
                config.accounts.retain(is_asked);
                (config.accounts, config.state)
            }
        };
        let known = Store::open_read_only(&state).status().await?;
        let live = live(&state).await;
        let now = session::now();
        let mut exit = Exit::SUCCESS;
        for row in rows(accounts, known, live.as_ref()) {
            if row.configured.is_none() && !self.accounts.is_empty() {
                continue;
            }
            if let Some(limit) = self.max_age
                && let Some(stale) = row.stale(now, limit)
            {
                logging::about(&row.account, || log::error!("{stale}"));
                exit = exit.max(stale.exit());
            }
            // From cron, what works is not worth a word.
            if common.quiet && !row.is_in_trouble() {
                continue;
            }
            match self.json {
                true => results.line(row.json(now)),
                false => results.line(row.shown(now)),
            }
        }
        Ok(exit)
    }
}

/// Asks the running daemon how it stands; nothing if none runs. What the state file says is worth showing without it.
async fn live(state: &Path) -> Option<HashMap<String, Doing>> {
    let ask = async {
        let Some(mut daemon) = Client::connect(state).await? else { return Ok(None) };
        daemon.status().await.map(Some)
    };
    let live = match tokio::time::timeout(PATIENCE, ask).await {
        Ok(Ok(live)) => live?,
        Ok(Err(error)) => {
            let error: ClientError = error;
            log::warn!("{error}");
            return None;
        }
        Err(_) => {
            log::warn!("the running daemon did not answer");
            return None;
        }
    };
    Some(live.accounts.into_iter().map(|account| (account.account, account.doing)).collect())
}

/// An account and what is known of its maildrop.
struct Row {
    account: String,
    configured: Option<Account>,
    known: Option<state::Status>,
    /// What the running daemon does with it, if one runs and has it.
    doing: Option<Doing>,
}

/// Takes the accounts in the order of their file, then maildrops that the file does not name (any more).
fn rows(
    accounts: Vec<Account>,
    mut known: Vec<state::Status>,
    live: Option<&HashMap<String, Doing>>,
) -> Vec<Row> {
    let mut rows: Vec<Row> = accounts
        .into_iter()
        .map(|account| {
            let at = known.iter().position(|status| status.maildrop.identity == account.maildrop_id);
            Row {
                account: account.name.clone(),
                known: at.map(|at| known.remove(at)),
                doing: live.and_then(|live| live.get(&account.name)).copied(),
                configured: Some(account),
            }
        })
        .collect();
    rows.extend(known.into_iter().map(|status| {
        let maildrop = &status.maildrop;
        let account = maildrop.last.as_ref().map_or(&maildrop.identity, |(_, last)| &last.account).clone();
        Row { account, configured: None, known: Some(status), doing: None }
    }));
    rows
}

/// An account whose mail may be waiting unseen.
#[derive(Debug)]
struct Stale<'a> {
    /// How long ago a poll last succeeded, if ever, or how far ahead.
    age: Option<Age>,
    class: Option<&'a str>,
    /// Messages that are held.
    held: usize,
}

impl Stale<'_> {
    fn exit(&self) -> Exit {
        Exit::of_class(self.class.and_then(Class::named).unwrap_or(Class::Network))
    }
}

impl fmt::Display for Stale<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.age {
            Some(Age::Past(age)) => {
                write!(f, "no poll has succeeded for {}", humantime::format_duration(age))?;
            }
            Some(Age::Ahead(by)) => {
                let by = humantime::format_duration(by);
                write!(f, "the last success is {by} ahead, by a clock that was wrong")?;
            }
            None => f.write_str("no poll has ever succeeded")?,
        }
        match self.class {
            Some(class) => write!(f, "; the last one failed ({class})"),
            None if self.held > 0 => write!(f, "; {} held", messages(self.held)),
            None => Ok(()),
        }
    }
}

impl Row {
    /// Says so if an account that is to be polled by itself has not been for longer than this.
    fn stale(&self, now: Timestamp, limit: Duration) -> Option<Stale<'_>> {
        let account = self.configured.as_ref().filter(|account| account.enabled)?;
        match account.interval {
            Interval::Every(_) => {}
            Interval::Manual => return None,
        }
        let known = self.known.as_ref();
        let age = known.and_then(|known| known.maildrop.last_success).map(|at| age(now, at));
        let class = known
            .and_then(|known| known.maildrop.last.as_ref())
            .and_then(|(_, last)| last.failure.as_ref())
            .map(|(class, _)| class.as_str());
        let held = known.map_or(0, |known| known.held.len());
        age.is_none_or(|(Age::Past(time) | Age::Ahead(time))| time > limit).then_some(Stale {
            age,
            class,
            held,
        })
    }

    /// Says whether its last poll failed, or messages are held.
    fn is_in_trouble(&self) -> bool {
        let fails = |known: &state::Status| {
            known.maildrop.last.as_ref().is_some_and(|(_, last)| last.failure.is_some())
        };
        self.known.as_ref().is_some_and(|known| fails(known) || !known.held.is_empty())
    }

    /// Gives when the running daemon is going to poll it.
    fn next_poll(&self, now: Timestamp) -> Option<Timestamp> {
        match self.doing? {
            Doing::Waiting(milliseconds) => Some(now.saturating_add_unsigned(milliseconds.div_ceil(1000))),
            Doing::Due => Some(now),
            Doing::Polling | Doing::Resting => None,
        }
    }

    /// Writes it for people.
    fn shown(&self, now: Timestamp) -> String {
        let next = match self.doing {
            None => String::new(),
            Some(Doing::Polling) => "\n  being polled now".into(),
            Some(Doing::Due) => "\n  to be polled next".into(),
            Some(Doing::Resting) => "\n  polled when asked for".into(),
            Some(Doing::Waiting(_)) => {
                self.next_poll(now).map(|at| format!("\n  next poll {}", time(at))).unwrap_or_default()
            }
        };
        format!("{self}{next}")
    }
}

/// How far away a time is.
#[derive(Debug, Clone, Copy)]
enum Age {
    Past(Duration),
    Ahead(Duration),
}

fn age(now: Timestamp, at: Timestamp) -> Age {
    let time = Duration::from_secs(now.abs_diff(at));
    if at <= now { Age::Past(time) } else { Age::Ahead(time) }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", Shown(self.account.as_bytes()))?;
        let absent = match &self.configured {
            None => ", not in the configuration",
            Some(account) if !account.enabled => ", not enabled",
            Some(_) => "",
        };
        let Some(known) = &self.known else { return write!(f, "never polled{absent}") };
        match &known.maildrop.last {
            None => f.write_str("never polled to the end")?,
            Some((at, last)) => {
                write!(f, "{} ", time(*at))?;
                polled(f, &self.account, last, known)?;
            }
        }
        write!(f, "\n  {} seen{absent}", known.seen)?;
        for held in &known.held {
            let Held { uid, octets, reason, since, tries, .. } = held;
            write!(
                f,
                "\n  held {uid} ({}) since {}, tried {}, again {}: {}",
                Octets(*octets),
                time(*since),
                counted(tries, "time"),
                again(held),
                Shown(reason.as_bytes())
            )?;
        }
        Ok(())
    }
}

/// Says how the last poll went.
fn polled(
    f: &mut fmt::Formatter<'_>,
    account: &str,
    last: &PollResult,
    known: &state::Status,
) -> fmt::Result {
    let state::Status { maildrop, held, .. } = known;
    match &last.failure {
        None => {
            f.write_str("succeeded")?;
            if !held.is_empty() {
                write!(f, " but for {} held", messages(held.len()))?;
            }
            write!(f, ", {} delivered", messages(usize::try_from(last.messages).unwrap_or(usize::MAX)))?;
            if last.messages > 0 {
                write!(f, " ({})", Octets(last.octets))?;
            }
            if let Some(listed) = last.listed {
                write!(f, ", {listed} in the maildrop")?;
            }
            if last.backlog > 0 {
                write!(f, ", {} left for later", last.backlog)?;
            }
            Ok(())
        }
        Some((class, text)) => {
            match &last.target {
                Some(target) => write!(f, "target failed ({class}): {}", Shown(target.as_bytes()))?,
                None => write!(f, "failed ({class})")?,
            }
            if maildrop.failures > 1 {
                write!(f, ", {} times in a row", maildrop.failures)?;
            }
            if last.target.is_some() && last.messages > 0 {
                let count = messages(usize::try_from(last.messages).unwrap_or(usize::MAX));
                write!(f, ", {count} delivered to others")?;
            }
            match maildrop.last_success {
                Some(at) => write!(f, ", last succeeded {}", time(at))?,
                None => f.write_str(", never succeeded")?,
            }
            let text = text.strip_prefix(account).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(text);
            text.lines().try_for_each(|line| write!(f, "\n  {}", Shown(line.as_bytes())))
        }
    }
}

/// One maildrop as JSON; the manual describes the fields, and their names stay.
#[derive(Debug, Serialize)]
struct Json<'a> {
    account: &'a str,
    maildrop: &'a str,
    host: Option<&'a str>,
    configured: bool,
    enabled: bool,
    last_poll: Option<String>,
    last_success: Option<String>,
    failure: Option<JsonFailure<'a>>,
    target: Option<&'a str>,
    failures: u32,
    listed: Option<u64>,
    delivered: u64,
    delivered_octets: u64,
    left: u64,
    seen: u64,
    held: Vec<JsonHeld<'a>>,
    polling: Option<bool>,
    next_poll: Option<String>,
}

#[derive(Debug, Serialize)]
struct JsonFailure<'a> {
    class: &'a str,
    message: &'a str,
}

#[derive(Debug, Serialize)]
pub struct JsonHeld<'a> {
    uid: String,
    octets: u64,
    reason: &'a str,
    since: String,
    tries: u32,
    next_try: String,
}

impl Row {
    fn json(&self, now: Timestamp) -> String {
        let known = self.known.as_ref();
        let last = known.and_then(|known| known.maildrop.last.as_ref());
        let poll = last.map(|(_, poll)| poll);
        let configured = self.configured.as_ref();
        let json = Json {
            account: &self.account,
            maildrop: match (known, configured) {
                (Some(known), _) => &known.maildrop.identity,
                (None, Some(account)) => &account.maildrop_id,
                (None, None) => "",
            },
            host: poll.map(|poll| poll.host.as_str()),
            configured: configured.is_some(),
            enabled: configured.is_some_and(|account| account.enabled),
            last_poll: last.map(|(at, _)| utc(*at)),
            last_success: known.and_then(|known| known.maildrop.last_success).map(utc),
            failure: poll
                .and_then(|poll| poll.failure.as_ref())
                .map(|(class, message)| JsonFailure { class, message }),
            target: poll.and_then(|poll| poll.target.as_deref()),
            failures: known.map_or(0, |known| known.maildrop.failures),
            listed: poll.and_then(|poll| poll.listed),
            delivered: poll.map_or(0, |poll| poll.messages),
            delivered_octets: poll.map_or(0, |poll| poll.octets),
            left: poll.map_or(0, |poll| poll.backlog),
            seen: known.map_or(0, |known| known.seen),
            held: known.map_or(&[][..], |known| &known.held).iter().map(JsonHeld::from).collect(),
            polling: self.doing.map(|doing| doing == Doing::Polling),
            next_poll: self.next_poll(now).map(utc),
        };
        serde_json::to_string(&json).expect("strings and numbers are always JSON")
    }
}

impl<'a> From<&'a Held> for JsonHeld<'a> {
    fn from(held: &'a Held) -> Self {
        Self {
            uid: held.uid.to_string(),
            octets: held.octets,
            reason: &held.reason,
            since: utc(held.since),
            tries: held.tries,
            next_try: utc(held.next_try),
        }
    }
}

/// One object as one line.
impl fmt::Display for JsonHeld<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).expect("strings and numbers are always JSON"))
    }
}

/// Shows a time where the user is: `2026-11-23 14:05:12`.
pub fn time(at: Timestamp) -> String {
    match jiff::Timestamp::from_second(at) {
        Ok(at) => at.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string(),
        // Only a state file that was tampered with has such a time.
        Err(_) => format!("@{at}"),
    }
}

/// Says when a held message is tried again.
pub fn again(held: &Held) -> String {
    match held.kind {
        HeldKind::NoRoom => "when a poll finds room for it".to_owned(),
        HeldKind::Away => "when a poll reaches the target".to_owned(),
        HeldKind::Refused
        | HeldKind::Later
        | HeldKind::TooLarge
        | HeldKind::Breaks
        | HeldKind::Short
        | HeldKind::Undeletable => time(held.next_try),
    }
}

/// Shows a time for machines: RFC 3339, UTC.
fn utc(at: Timestamp) -> String {
    jiff::Timestamp::from_second(at).map_or_else(|_| format!("@{at}"), |at| at.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::poll::tests::account;
    use crate::pop3::UniqueId;
    use crate::state::{HeldKind, Maildrop, Standing};

    fn known(maildrop: &str, failure: Option<(&str, &str)>) -> state::Status {
        let last = PollResult {
            account: "old-name".into(),
            host: "pop.example.org:995".into(),
            failure: failure.map(|(class, text)| (class.into(), text.into())),
            messages: 2,
            octets: 4096,
            listed: Some(120),
            backlog: 3,
            target: None,
        };
        state::Status {
            maildrop: Maildrop {
                identity: maildrop.into(),
                last: Some((1_763_900_000, last)),
                last_success: Some(1_763_800_000),
                failures: u32::from(failure.is_some()) * 3,
                ..Maildrop::default()
            },
            seen: 118,
            held: Vec::new(),
        }
    }

    fn row(failure: Option<(&str, &str)>) -> Row {
        let configured = (*account("home", "pop.example.org")).clone();
        let known = known(&configured.maildrop_id, failure);
        Row { account: "home".into(), configured: Some(configured), known: Some(known), doing: None }
    }

    #[test]
    fn a_poll_that_succeeded_is_told_with_what_it_brought() {
        let shown = row(None).to_string();
        let at = time(1_763_900_000);
        let said =
            "succeeded, 2 messages delivered (4.0 KiB), 120 in the maildrop, 3 left for later\n  118 seen";
        assert_eq!(shown, format!("home: {at} {said}"));
    }

    #[test]
    fn a_poll_that_failed_is_told_with_its_words_and_the_last_success() {
        let text = "home: pop.example.org:995: log in: refused\n  server: \x1b[31mno";
        let shown = row(Some(("credentials", text))).to_string();
        let (at, before) = (time(1_763_900_000), time(1_763_800_000));
        assert_eq!(
            shown,
            format!(
                "home: {at} failed (credentials), 3 times in a row, last succeeded {before}\n  \
                 pop.example.org:995: log in: refused\n    server: \\u{{1b}}[31mno\n  118 seen"
            )
        );
    }

    #[test]
    fn a_held_message_is_told_with_its_reason_and_next_try() {
        let mut row = row(None);
        let held = Held {
            uid: UniqueId::new(*b"QhdPYR"),
            ordinal: 0,
            octets: 25 << 20,
            reason: "larger than max_size\x07".into(),
            since: 0,
            tries: 4,
            next_try: 3600,
            kind: HeldKind::Refused,
            standing: Standing::Held,
            tried_at: 0,
            came: None,
        };
        row.known.as_mut().unwrap().held.push(held);
        let told = row.to_string();
        assert!(told.contains(" succeeded but for 1 message held, 2 messages delivered"), "{told}");
        row.configured.as_mut().unwrap().interval = Interval::Every(Duration::from_secs(300));
        let stale = row.stale(1_763_803_601, Duration::from_secs(3600)).unwrap().to_string();
        assert_eq!(stale, "no poll has succeeded for 1h 1s; 1 message held");
        let line = told.lines().last().unwrap();
        let expected = format!(
            "  held QhdPYR (25.0 MiB) since {}, tried 4 times, again {}: larger than max_size\\u{{7}}",
            time(0),
            time(3600)
        );
        assert_eq!(line, expected);
        let json: serde_json::Value = serde_json::from_str(&row.json(0)).unwrap();
        assert_eq!(json["held"][0]["next_try"], "1970-01-01T01:00:00Z");
    }

    #[test]
    fn accounts_come_in_their_order_and_forgotten_maildrops_last() {
        let home = (*account("home", "pop.example.org")).clone();
        let new = Account { enabled: false, ..(*account("new", "pop.example.net")).clone() };
        let known = vec![known("gone@example.com", None), known(&home.maildrop_id, None)];
        let rows = rows(vec![new, home], known, None);
        let names: Vec<_> = rows.iter().map(|row| row.account.as_str()).collect();
        assert_eq!(names, ["new", "home", "old-name"]);
        assert_eq!(rows[0].to_string(), "new: never polled, not enabled");
        assert!(rows[2].to_string().ends_with("118 seen, not in the configuration"));
        let json: serde_json::Value = serde_json::from_str(&rows[0].json(0)).unwrap();
        assert_eq!((&json["maildrop"], &json["last_poll"]), (&"new@pop.example.net".into(), &().into()));
    }

    #[test]
    fn a_running_daemon_adds_when_the_next_poll_is() {
        let waiting = Row { doing: Some(Doing::Waiting(299_001)), ..row(None) };
        assert!(waiting.shown(1000).ends_with(&format!("118 seen\n  next poll {}", time(1300))));
        let json = |row: &Row| serde_json::from_str::<serde_json::Value>(&row.json(1000)).unwrap();
        assert_eq!(json(&waiting)["next_poll"], "1970-01-01T00:21:40Z");
        assert_eq!(json(&waiting)["polling"], false);
        let polling = Row { doing: Some(Doing::Polling), ..row(None) };
        assert!(polling.shown(1000).ends_with("\n  being polled now"));
        assert_eq!(json(&polling)["polling"], true);
        assert_eq!(json(&row(None))["polling"], serde_json::Value::Null, "no daemon runs");
    }

    #[test]
    fn an_account_is_stale_when_its_last_success_is_too_old_and_only_if_it_is_polled_by_itself() {
        let mut row = row(Some(("credentials", "home: refused")));
        let account = row.configured.as_mut().unwrap();
        account.interval = Interval::Every(Duration::from_secs(300));
        let (success, hour) = (1_763_800_000, Duration::from_secs(3600));
        assert!(row.stale(success + 3600, hour).is_none());
        assert!(row.stale(success - 10, hour).is_none(), "the clock was set back a little");
        let ahead = row.stale(success - 7200, hour).unwrap();
        assert!(ahead.to_string().starts_with("the last success is 2h ahead, by a clock that was wrong; "));
        let stale = row.stale(success + 3601, hour).unwrap();
        assert_eq!(stale.to_string(), "no poll has succeeded for 1h 1s; the last one failed (credentials)");
        assert_eq!(stale.exit().number(), 77);
        row.known = None;
        let never = row.stale(0, hour).unwrap();
        assert_eq!((never.to_string().as_str(), never.exit()), ("no poll has ever succeeded", Exit::LATER));
        row.configured.as_mut().unwrap().interval = Interval::Manual;
        assert!(row.stale(0, hour).is_none());
        let account = row.configured.as_mut().unwrap();
        (account.interval, account.enabled) = (Interval::Every(hour), false);
        assert!(row.stale(0, hour).is_none());
    }
}
