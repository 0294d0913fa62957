//! What is known of a server: its capabilities, each set believed only where it was read, and what it was found to take.
//!
//! A proxy shows capabilities of its own until the log-in, and those of the server behind it from then on. What was read
//! without TLS says nothing of what holds within it, so all of this is bound to the address and the way of TLS.
//!
//! What a server takes is tried, and what came of it is remembered either way:
//!
//! | trial | what goes wrong | who does that |
//! |---|---|---|
//! | [`Trial::Capa`] | the server goes, or falls silent, at CAPA, or answers it with a line too many | old servers |
//! | [`Trial::Utf8`] | the same at UTF8, although it is announced | none known |
//! | [`Trial::Lang`] | the same at LANG | none known |
//! | [`Trial::Noop`] | the same at NOOP, behind a message whose end it is to prove | none known |
//! | [`Trial::Top`] | the same at TOP of each message | none known; of single messages, see `headerless` |
//! | [`Trial::Pipelining`] | several commands in the TRANSACTION state are answered wrongly, or not at all, or refused | old servers |
//! | [`Trial::Binding`] | SCRAM bound to the channel is refused, although it is announced | Cyrus over TLS 1.3 |
//! | [`Trial::BehindUtf8`] | USER or AUTH, sent along with UTF8 or LANG, is lost, or is answered -ERR | none known |
//! | [`Trial::BehindUser`] | PASS, sent along with USER, is lost | nginx before 1.21 |
//! | [`Trial::BehindLogIn`] | what is sent along with the last message of a log-in is lost, or is answered -ERR | Courier (PASS), Cyrus (AUTH) |
//!
//! Each way of logging in is a trial of its own: Cyrus takes what comes behind PASS. A trial that went well is believed
//! until it goes wrong. One that went wrong is not made again for a day, then two, up to a month; capabilities that have
//! changed, which are asked for once a day and whenever a poll has failed at the server's hand, make all of them new.

use std::time::Duration;

use crate::clock::{Timestamp, is_left_alone};
use crate::config::Account;
use crate::config::account::TlsMode;
use crate::message::Listed;
use crate::pop3::Capabilities;
use crate::sasl::{MECHANISMS, Mechanism};

use super::headerless::{FEW, Headerless, Shows};

const DAY: Timestamp = 24 * 3600;
/// How long capabilities are believed before they are asked for again.
const BELIEVED: Timestamp = DAY;
/// The shortest time that is given to an answer before it counts as lost.
const SHORTEST_PATIENCE: Duration = Duration::from_secs(1);
/// The same in round trips.
const PATIENCE: u32 = 8;

/// Something that not every server takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trial {
    Capa,
    /// The UTF8 command (RFC 6856).
    Utf8,
    /// The LANG command (RFC 6856).
    Lang,
    /// The NOOP command, where STAT does as well.
    Noop,
    Top,
    /// Commands ahead of answers.
    Pipelining,
    /// SCRAM bound to the TLS channel, of the kind that TLS 1.3 has (RFC 9266).
    Binding,
    /// USER, or AUTH, along with UTF8 or LANG.
    BehindUtf8,
    /// PASS along with USER.
    BehindUser,
    /// Commands along with the last message of this log-in.
    BehindLogIn(Mechanism),
}

/// What came of a trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    Takes,
    Breaks,
}

/// With what it has helped to leave something out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Helped {
    /// The log-in and the listing.
    Opening,
    /// All of the session.
    All,
}

/// A server as it is known.
#[derive(Debug)]
pub struct Server {
    /// Address and way of TLS.
    place: String,
    now: Timestamp,
    /// When its capabilities were asked for; `None`: they are to be asked for.
    asked_at: Option<Timestamp>,
    before: Option<Capabilities>,
    after: Option<Capabilities>,
    /// How long the last step of a log-in took.
    log_in_took: Option<Duration>,
    findings: Vec<Finding>,
    /// Messages at whose TOP sessions broke.
    headerless: Headerless,
    /// What this attempt leaves out because the one before went wrong with it.
    left_out: Vec<Trial>,
}

#[derive(Debug, Clone)]
struct Finding {
    trial: Trial,
    outcome: Found,
    at: Timestamp,
    /// How often it went wrong in a row.
    times: u32,
}

impl Trial {
    fn name(self) -> &'static str {
        match self {
            Self::Capa => "capa",
            Self::Utf8 => "utf8",
            Self::Lang => "lang",
            Self::Noop => "noop",
            Self::Top => "top",
            Self::Pipelining => "pipelining",
            Self::Binding => "binding",
            Self::BehindUtf8 => "behind-utf8",
            Self::BehindUser => "user",
            Self::BehindLogIn(mechanism) => mechanism.name(),
        }
    }

    fn named(name: &str) -> Option<Self> {
        let plain = [
            Self::Capa,
            Self::Utf8,
            Self::Lang,
            Self::Noop,
            Self::Top,
            Self::Pipelining,
            Self::Binding,
            Self::BehindUtf8,
            Self::BehindUser,
        ];
        let log_ins = MECHANISMS.iter().map(|row| Self::BehindLogIn(row.mechanism));
        plain.into_iter().chain(log_ins).find(|trial| trial.name() == name)
    }

    /// Says whether it is remembered that this went wrong as soon as it did. Of the others, which may take the blame
    /// for a network, it is only if leaving them out has helped.
    pub fn is_told_by_one_failure(self) -> bool {
        match self {
            Self::Binding | Self::BehindUtf8 | Self::BehindUser | Self::BehindLogIn(_) => true,
            Self::Capa | Self::Utf8 | Self::Lang | Self::Noop | Self::Top | Self::Pipelining => false,
        }
    }

    /// Says what is done without it: `trying again without CAPA`.
    pub fn left_out(self) -> String {
        match self {
            Self::Capa => "without CAPA".into(),
            Self::Utf8 => "without UTF8".into(),
            Self::Lang => "without LANG".into(),
            Self::Noop => "without NOOP".into(),
            Self::Top => "without TOP".into(),
            Self::Pipelining => "without pipelining".into(),
            Self::Binding => "without channel binding".into(),
            Self::BehindUtf8 => "with the log-in only after the answers to UTF8 and LANG".into(),
            Self::BehindUser => "with PASS only after the answer to USER".into(),
            Self::BehindLogIn(mechanism) => {
                format!("with nothing sent before the log-in ({}) is answered", mechanism.shown())
            }
        }
    }
}

impl Server {
    /// Reads what is remembered, as far as it is of the server that the account names now.
    pub fn new(remembered: Option<&[u8]>, account: &Account, now: Timestamp, left_out: &[Trial]) -> Self {
        let mut server = Self {
            place: place(account),
            now,
            asked_at: None,
            before: None,
            after: None,
            log_in_took: None,
            findings: Vec::new(),
            headerless: Headerless::default(),
            left_out: left_out.to_vec(),
        };
        let mut lines = remembered.unwrap_or_default().split(|octet| *octet == b'\n');
        if lines.next() == Some(format!("at {}", server.place).as_bytes()) {
            lines.for_each(|line| server.read(line));
        }
        server
    }

    /// Gives what is to be remembered.
    pub fn remembered(&self) -> Vec<u8> {
        let mut lines = vec![format!("at {}", self.place).into_bytes()];
        lines.extend(self.asked_at.map(|at| format!("asked {at}").into_bytes()));
        lines.extend(self.log_in_took.map(|took| format!("took {}", took.as_millis()).into_bytes()));
        for (word, set) in [(&b"before"[..], &self.before), (b"after", &self.after)] {
            let Some(set) = set else { continue };
            lines.push(word.to_vec());
            lines.extend(set.lines().map(|line| [word, b" ", line].concat()));
        }
        lines.extend(self.findings.iter().map(|Finding { trial, outcome, at, times }| {
            let outcome = match outcome {
                Found::Takes => "takes",
                Found::Breaks => "breaks",
            };
            format!("{outcome} {} {at} {times}", trial.name()).into_bytes()
        }));
        lines.extend(self.headerless.lines().map(|line| format!("headerless {line}").into_bytes()));
        lines.join(&b'\n')
    }

    /// Finds the LOGIN-DELAY (RFC 2449, 6.5) in what [`Server::remembered`] gave, of whatever server that is.
    pub fn announced_delay(remembered: &[u8]) -> Option<Duration> {
        let mut all = Capabilities::default();
        for line in remembered.split(|octet| *octet == b'\n') {
            let capability = line.strip_prefix(b"before ").or_else(|| line.strip_prefix(b"after "));
            capability.into_iter().for_each(|line| all.add(line));
        }
        all.login_delay()
    }

    /// Takes one line of what [`Server::remembered`] gave; what it does not understand is not known.
    fn read(&mut self, line: &[u8]) {
        let (word, rest) = match line.iter().position(|octet| *octet == b' ') {
            Some(blank) => (&line[..blank], &line[blank + 1..]),
            None => (line, &b""[..]),
        };
        let text = str::from_utf8(rest).unwrap_or_default();
        match word {
            b"asked" => self.asked_at = text.parse().ok(),
            b"took" => self.log_in_took = text.parse().ok().map(Duration::from_millis),
            b"before" => self.before.get_or_insert_default().add(rest),
            b"headerless" => self.headerless.read(text),
            b"after" => self.after.get_or_insert_default().add(rest),
            b"takes" | b"breaks" => {
                let outcome = if word == b"takes" { Found::Takes } else { Found::Breaks };
                let mut words = text.split(' ');
                let mut next = || words.next().unwrap_or_default();
                if let (Some(trial), Ok(at), Ok(times)) =
                    (Trial::named(next()), next().parse(), next().parse())
                {
                    self.findings.push(Finding { trial, outcome, at, times });
                }
            }
            _ => {}
        }
    }

    /// Says whether its capabilities are known, so that they need not be asked for.
    pub fn is_known(&self) -> bool {
        // A time to come is a wrong clock's.
        self.asked_at.is_some_and(|at| (at..at.saturating_add(BELIEVED)).contains(&self.now))
    }

    /// Has the capabilities asked for again: something was not as expected.
    pub fn ask_again(&mut self) {
        self.asked_at = None;
    }

    /// Notes that its capabilities were asked for, all of them.
    pub fn was_asked(&mut self) {
        self.asked_at = Some(self.now);
    }

    /// Notes its capabilities in AUTHORIZATION state.
    pub fn saw_before(&mut self, capabilities: Capabilities) {
        // What a server was found to take holds as long as it is the same server.
        if self.before.as_ref().is_some_and(|known| !known.is_same_as(&capabilities)) {
            self.is_another();
        }
        self.before = Some(capabilities);
    }

    /// Notes its capabilities in TRANSACTION state; `None` if it does not tell them.
    pub fn saw_after(&mut self, capabilities: Option<Capabilities>) {
        if let (Some(known), Some(seen)) = (&self.after, &capabilities)
            && !known.is_same_as(seen)
        {
            self.is_another();
        }
        self.after = capabilities;
    }

    fn is_another(&mut self) {
        self.findings.clear();
        self.headerless = Headerless::default();
    }

    /// Gives its capabilities in AUTHORIZATION state; none if they are not known.
    pub fn before(&self) -> &Capabilities {
        const NONE: &Capabilities = &Capabilities::NONE;
        self.before.as_ref().unwrap_or(NONE)
    }

    /// Gives its capabilities in TRANSACTION state, if it has told them.
    pub fn after(&self) -> Option<&Capabilities> {
        self.after.as_ref()
    }

    /// Gives both sets, for what does not depend on where it was read; of two values that after the log-in counts.
    pub fn capabilities(&self) -> Capabilities {
        let mut all = self.before().clone();
        self.after.iter().flat_map(Capabilities::lines).for_each(|line| all.add(line));
        all
    }

    /// Gives the time that it wants between two log-ins, if it is known to announce one.
    pub fn login_delay(&self) -> Option<Duration> {
        self.capabilities().login_delay()
    }

    /// Says what is known of a trial; `None` if it is to be made.
    pub fn found(&self, trial: Trial) -> Option<Found> {
        if self.leaves_out(trial) {
            return Some(Found::Breaks);
        }
        let finding = self.findings.iter().find(|finding| finding.trial == trial)?;
        match finding.outcome {
            Found::Takes => Some(Found::Takes),
            Found::Breaks => is_left_alone(finding.at, finding.times, self.now).then_some(Found::Breaks),
        }
    }

    /// Says whether this attempt does without something.
    pub fn leaves_out(&self, trial: Trial) -> bool {
        self.left_out.contains(&trial)
    }

    /// Says whether it was seen to take what is sent along with the last message of some log-in.
    pub fn takes_behind_a_log_in(&self) -> bool {
        let is_one = |finding: &&Finding| matches!(finding.trial, Trial::BehindLogIn(_));
        self.findings.iter().filter(is_one).any(|finding| finding.outcome == Found::Takes)
    }

    /// Notes what came of a trial.
    pub fn learn(&mut self, trial: Trial, outcome: Found) {
        let before = self.findings.iter().position(|finding| finding.trial == trial);
        let before = before.map(|index| self.findings.swap_remove(index));
        let times = match (outcome, before) {
            (Found::Takes, Some(finding)) if finding.outcome == Found::Takes => {
                self.findings.push(finding);
                return;
            }
            (Found::Takes, _) => 0,
            // One failure that two attempts tell of, or that a poll knew of already, is one.
            (Found::Breaks, Some(finding)) if finding.outcome == Found::Breaks => {
                let is_told = (finding.at..finding.at.saturating_add(DAY)).contains(&self.now);
                if is_told { finding.times } else { finding.times.saturating_add(1) }
            }
            (Found::Breaks, _) => 1,
        };
        self.findings.push(Finding { trial, outcome, at: self.now, times });
    }

    /// Has a trial made again.
    pub fn forget(&mut self, trial: Trial) {
        self.findings.retain(|finding| finding.trial != trial);
    }

    /// Has this attempt send nothing ahead of answers.
    pub fn go_in_step(&mut self) {
        self.left_out.push(Trial::Pipelining);
    }

    /// Notes what went wrong before, and not in this attempt, which left it out.
    pub fn left_out_helped(&mut self, with: Helped) {
        for trial in self.left_out.clone() {
            if with == Helped::All || !matches!(trial, Trial::Pipelining | Trial::Noop) {
                self.learn(trial, Found::Breaks);
            }
        }
    }

    /// Says whether the header of a message, as the server shows it, can be had.
    pub fn shows_header(&self, of: &Listed<'_>) -> Shows {
        match self.found(Trial::Top) {
            Some(Found::Breaks) => Shows::Never,
            Some(Found::Takes) | None => self.headerless.shows(of, self.now),
        }
    }

    /// Notes that a session broke at the TOP of a message.
    pub fn broke_at_header(&mut self, of: &Listed<'_>) {
        self.headerless.broke(of, self.now);
    }

    /// Notes that the session that broke at a TOP had shown no header. Where others broke at other messages within the
    /// hour, or it was so before, that is no message's doing.
    pub fn showed_no_header(&mut self) {
        let was_so = self.findings.iter().any(|finding| finding.trial == Trial::Top);
        if was_so || self.headerless.count(self.now) >= FEW {
            self.learn(Trial::Top, Found::Breaks);
        }
    }

    /// Notes that the TOP of a message was answered.
    pub fn answered_top(&mut self, of: &Listed<'_>) {
        self.headerless.was_answered(of, self.now);
        self.forget(Trial::Top);
    }

    /// Notes how long the last step of a log-in took.
    pub fn log_in_took(&mut self, took: Duration) {
        self.log_in_took = Some(took);
    }

    /// Gives how long the answer to what may have been lost is waited for; `None` if no log-in's time is known.
    pub fn patience(&self) -> Option<Duration> {
        self.log_in_took.map(|took| SHORTEST_PATIENCE.max(took * PATIENCE))
    }
}

/// Names what all knowledge of a server is bound to.
fn place(account: &Account) -> String {
    let tls = match account.tls.mode {
        TlsMode::Implicit => "implicit",
        TlsMode::StartTls => "starttls",
        TlsMode::None => "none",
    };
    format!("{} {tls}", account.server())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn the_delay_that_a_server_announced_last_is_found_in_what_is_remembered() {
        let yaml = "accounts: { a: { host: h, user: a, deliver: { maildir: /m } } }";
        let config = Config::from_yaml(yaml, std::path::Path::new("f")).unwrap();
        let mut server = Server::new(None, &config.accounts[0], 0, &[]);
        assert_eq!(Server::announced_delay(&server.remembered()), None);
        let announces = |line: &[u8]| {
            let mut capabilities = Capabilities::default();
            capabilities.add(line);
            capabilities
        };
        server.saw_before(announces(b"LOGIN-DELAY 9"));
        assert_eq!(Server::announced_delay(&server.remembered()), Some(Duration::from_secs(9)));
        server.saw_after(Some(announces(b"LOGIN-DELAY 60")));
        assert_eq!(Server::announced_delay(&server.remembered()), Some(Duration::from_secs(60)));
    }
}
