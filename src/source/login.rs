//! From a fresh connection to the listing: greeting, TLS, capabilities, credentials, LIST and UIDL.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::Account;
use crate::config::account::{Pipelining, TlsMode};
use crate::line::AuthLine;
use crate::message::{Listing, ListingBuilder};
use crate::net::auth::{self, Answer, Carrier, Left};
use crate::net::{Connector, Stream};
use crate::pop3::{
    Capabilities, Client, Code, Command, Event, ProtocolError, Reply, Request, Status, apop, parse_size,
    parse_stat, parse_unique_id,
};
use crate::sasl::{self, Credentials, Exchange, Mechanism, Offered, Protection, SaslError};
use crate::secret::Secret;

use super::error::{About, Doing, Failed, SourceError};
use super::server::{Outcome, Server, Trial};
use super::wire::{Wire, WireError};

/// What a log-in needs to know.
pub struct Login<'a> {
    /// Whose maildrop.
    pub account: &'a Account,
    /// The password; empty where only mechanisms without one are allowed.
    pub secret: &'a Secret,
    /// What is known of the server, and what is learned.
    pub server: &'a mut Server,
    /// Whether it may be tried what the server takes.
    pub trials: Trials,
    /// What is to blame if the connection ends, falls silent or loses step now.
    pub suspect: Option<Trial>,
    /// The last log-in was bound to the TLS channel.
    pub binds: bool,
}

/// Whether it may be tried what a server takes: only where the outcome is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trials {
    /// What is not known yet is tried.
    Allowed,
    /// Only what the server was seen to take is sent.
    NotNow,
}

/// What goes along with the last message of a log-in, before that is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Behind {
    Nothing,
    /// NOOP and CAPA: whether they are answered, and how, says whether the server takes what comes there.
    Question,
    /// UIDL and LIST.
    Listing,
}

/// A session in TRANSACTION state whose maildrop has been listed.
pub struct Listed {
    /// The connection.
    pub wire: Wire,
    /// What the server can do.
    pub capabilities: Capabilities,
    /// Whether commands are sent ahead of answers.
    pub pipelined: bool,
    /// What is in the maildrop.
    pub listing: Listing,
    /// The server refused UIDL, so that the messages of the listing have no unique-ids.
    pub uidl_refused: Option<Failed>,
}

/// What is being done while a session that is logged in lists.
pub const LISTING: &str = "list the maildrop";

/// How the mechanisms' messages reach their ends.
struct Auth<'a, 'b> {
    login: &'a mut Login<'b>,
    wire: &'a mut Wire,
    mechanism: Mechanism,
    doing: String,
    behind: Behind,
    /// The last message of the exchange was sent.
    is_last: bool,
    /// UTF8 went along with the first command, and is not answered yet.
    utf8_unanswered: bool,
    /// When the last message was sent.
    sent_at: Instant,
}

/// What came in answer to UIDL and LIST.
#[derive(Default)]
struct Heard {
    builder: ListingBuilder,
    uidl_refused: Option<Vec<u8>>,
    list_refused: Option<Vec<u8>>,
}

impl Login<'_> {
    /// Logs in and lists. On a server that was seen to take it, UIDL and LIST travel with the credentials: the listing is
    /// complete one round trip after the greeting.
    pub async fn run(&mut self, connector: &Connector, stream: Stream) -> Result<Listed, Failed> {
        let account = self.account;
        let mut wire = Wire::new(stream, Client::new(), account.timeout, &account.name);
        let greeting = wire.reply().await.doing("connect")?.1;
        if !greeting.is_ok() {
            return Err(Failed::refused(&greeting, About::Other, "connect"));
        }
        let stamp = apop::stamp(greeting.text).map(<[u8]>::to_vec);
        if account.tls.mode == TlsMode::StartTls {
            wire = self.start_tls(wire, connector).await?;
        }

        // Capabilities read before TLS are never believed after it, so they are not even asked for.
        let known = self.server.is_known();
        if !known {
            let before = self.ask_before(&mut wire).await?;
            self.server.saw_before(before);
        }
        let (mechanism, behind) = match self.authenticate(&mut wire, stamp.as_deref(), known).await {
            Ok(logged_in) => logged_in,
            Err(failed) if self.refuses_to_bind(&failed.error) => {
                self.without_binding(&mut wire, stamp.as_deref(), known, failed).await?
            }
            Err(failed) if known && asks_again(&failed.error) => {
                // What was remembered may be out of date: ask, and try again if that offers another way. A server that
                // hangs up meanwhile has said why, and that counts.
                let Some(fresh) = self.another_way(&mut wire).await else { return Err(failed) };
                self.server.saw_before(fresh);
                self.server.ask_again();
                self.authenticate(&mut wire, stamp.as_deref(), false).await?
            }
            Err(failed) => return Err(failed),
        };
        match behind {
            Behind::Listing => {}
            Behind::Question => self.hear(&mut wire, mechanism).await?,
            Behind::Nothing if self.server.is_known() => {}
            Behind::Nothing => self.ask_after(&mut wire).await?,
        }
        self.list(wire, mechanism, behind).await
    }

    /// STLS is demanded whatever CAPA says, and nothing the server said before it is believed afterwards
    /// (RFC 2595, 4; a forged "not supported" would otherwise have the password sent in clear).
    async fn start_tls(&self, mut wire: Wire, connector: &Connector) -> Result<Wire, Failed> {
        let doing = "ask for TLS (STLS)";
        wire.send(Command::Stls).doing(doing)?;
        let reply = wire.reply().await.doing(doing)?.1;
        if !reply.is_ok() {
            return Err(Failed::refused(&reply, About::Other, doing));
        }
        let stream = wire.into_stream().doing(doing)?;
        let stream = connector.start_tls(stream, self.account).await?;
        Ok(Wire::new(stream, Client::after_stls(), self.account.timeout, &self.account.name))
    }

    /// Asks for the capabilities before the log-in. A server that has no CAPA, or does not bear it, has none.
    async fn ask_before(&mut self, wire: &mut Wire) -> Result<Capabilities, Failed> {
        if self.server.found(Trial::Capa) == Some(Outcome::Breaks) {
            return Ok(Capabilities::NONE);
        }
        self.suspect = Some(Trial::Capa);
        let asked = ask_capabilities(wire).await.doing("ask for capabilities")?;
        self.suspect = None;
        Ok(asked.unwrap_or_default())
    }

    /// Asks for the capabilities after the log-in, which may be others (RFC 2449, 5), and another server's; not if there
    /// were none before.
    async fn ask_after(&mut self, wire: &mut Wire) -> Result<(), Failed> {
        let after = if self.server.before().is_empty() {
            None
        } else {
            ask_capabilities(wire).await.doing("ask for capabilities")?
        };
        self.server.saw_after(after);
        Ok(())
    }

    /// Logs in; says how, and what was sent along.
    async fn authenticate(
        &mut self,
        wire: &mut Wire,
        stamp: Option<&[u8]>,
        known: bool,
    ) -> Result<(Mechanism, Behind), Failed> {
        let account = self.account;
        let capabilities = self.server.before();
        let facts = wire.stream().tls();
        let binds = self.server.found(Trial::Binding) != Some(Outcome::Breaks);
        let exporter = facts.as_ref().and_then(|facts| facts.exporter).filter(|_| binds);
        let names: Vec<&str> =
            capabilities.sasl().into_iter().filter_map(|name| std::str::from_utf8(name).ok()).collect();
        let offered = Offered {
            sasl: &names,
            // RFC 2449, 6.3: servers without USER must say so by CAPA; one that names no mechanism either means it less.
            user: capabilities.has("USER") || names.is_empty(),
            apop_stamp: stamp.is_some(),
            tls: if facts.is_some() { Protection::Protected } else { Protection::Plain },
            client_certificate: account.tls.client.is_some(),
            exporter: exporter.is_some(),
        };
        let mechanism = sasl::choose(&account.auth, offered).doing("log in")?;
        let (plus_offered, instead) = (offered.plus_offered(), sasl::unannounced(mechanism, &offered));
        let doing = format!("log in as {} ({})", account.user, mechanism.name());
        log::debug!("{}: {doing}", account.name);
        let behind = self.behind(mechanism, known);
        let utf8_unanswered = self.say_utf8(wire).await?;
        let sent_at = Instant::now();
        let mut auth =
            Auth { login: self, wire, mechanism, doing, behind, is_last: false, utf8_unanswered, sent_at };
        let accepted = match mechanism.sasl_name() {
            Some(name) => auth.sasl(name, exporter, plus_offered).await,
            None if mechanism == Mechanism::Apop => auth.apop(stamp.unwrap_or_default()).await,
            None => auth.user_pass().await,
        };
        let took = auth.sent_at.elapsed();
        if let Err(failed) = &accepted {
            self.judge(&failed.error);
        }
        self.binds = mechanism == Mechanism::ScramSha256Plus;
        if self.binds && accepted.is_ok() {
            self.server.learn(Trial::Binding, Outcome::Takes);
        }
        accepted.map_err(|failed| failed.with_hint(instead))?;
        self.server.log_in_took(took);
        self.suspect = None;
        Ok((mechanism, behind))
    }

    /// Says whether the refusal may be of the channel binding: one that the server was seen to take is of the credentials.
    fn refuses_to_bind(&self, error: &SourceError) -> bool {
        let is_refusal =
            matches!(error, SourceError::Refused { code: None | Some(Code::Auth | Code::Other), .. });
        self.binds && is_refusal && self.server.found(Trial::Binding).is_none()
    }

    /// Logs in without channel binding where that was refused. Cyrus announces it, and means a kind that TLS 1.3 has no
    /// more. If this is refused too, it was the credentials.
    async fn without_binding(
        &mut self,
        wire: &mut Wire,
        stamp: Option<&[u8]>,
        known: bool,
        refusal: Failed,
    ) -> Result<(Mechanism, Behind), Failed> {
        self.server.learn(Trial::Binding, Outcome::Breaks);
        while wire.unanswered() > 0 {
            // The refusal counts whatever comes after it.
            if wire.event().await.is_err() {
                return Err(refusal);
            }
        }
        match self.authenticate(wire, stamp, known).await {
            Ok(logged_in) => Ok(logged_in),
            Err(Failed { error: SourceError::Refused { .. } | SourceError::NoMechanism(_), .. }) => {
                self.server.forget(Trial::Binding);
                Err(refusal)
            }
            Err(_) => Err(refusal),
        }
    }

    /// Decides what a log-in that failed says of what went along with it.
    fn judge(&mut self, error: &SourceError) {
        let Some(trial) = self.suspect.filter(|trial| trial.is_told_by_one_failure()) else {
            if matches!(error, SourceError::Wire(WireError::Closed { .. } | WireError::Lost { .. })) {
                self.suspect = None;
            }
            return;
        };
        let is_shown = self.server.found(trial) == Some(Outcome::Takes);
        match error {
            // It may have been refused for what came along with it, so the next one goes alone, or is a trial.
            SourceError::Refused { code: None | Some(Code::Auth), .. } if !is_shown => {
                self.server.learn(trial, Outcome::Breaks);
            }
            SourceError::Refused { code: None | Some(Code::Auth), .. } => self.server.forget(trial),
            // A server that took it before is more likely to be restarted, or far away.
            SourceError::Wire(WireError::Closed { .. } | WireError::Lost { .. }) if is_shown => {
                self.server.forget(trial);
                self.suspect = None;
            }
            _ => {}
        }
    }

    /// Says UTF8 where it is announced: without it, Courier puts a report in place of each message whose header has 8-bit
    /// octets (RFC 6856, 2). A refusal means nothing. Says whether the answer is still to come.
    async fn say_utf8(&mut self, wire: &mut Wire) -> Result<bool, Failed> {
        if !self.server.before().utf8() || self.server.found(Trial::Utf8) == Some(Outcome::Breaks) {
            return Ok(false);
        }
        let doing = "ask for headers as they are (UTF8)";
        wire.send(Command::Utf8).doing(doing)?;
        if self.pipelines_log_in() {
            return Ok(true);
        }
        self.suspect = Some(Trial::Utf8);
        wire.reply().await.doing(doing)?;
        self.suspect = None;
        Ok(false)
    }

    /// Decides what goes along with the last message of a log-in.
    fn behind(&self, mechanism: Mechanism, known: bool) -> Behind {
        let pipelines = self.pipelines_log_in() && (!known || self.pipelines());
        let has_capa = self.server.found(Trial::Capa) != Some(Outcome::Breaks);
        match self.server.found(Trial::BehindLogIn(mechanism)) {
            Some(Outcome::Takes) if pipelines && known => Behind::Listing,
            Some(Outcome::Takes) if pipelines && has_capa => Behind::Question,
            None if pipelines && has_capa && self.trials == Trials::Allowed => Behind::Question,
            Some(Outcome::Takes | Outcome::Breaks) | None => Behind::Nothing,
        }
    }

    /// Says whether PASS goes along with USER: nginx before 1.21 drops it, whatever it announces.
    fn sends_pass_along(&self) -> bool {
        self.pipelines_log_in()
            && match self.server.found(Trial::BehindUser) {
                Some(Outcome::Takes) => true,
                Some(Outcome::Breaks) => false,
                // How long an honest server takes must be known, or its answer may be taken for lost, and it would see
                // two log-ins.
                None => self.trials == Trials::Allowed && self.server.patience().is_some(),
            }
    }

    /// Says whether commands are sent ahead of answers before the log-in.
    fn pipelines_log_in(&self) -> bool {
        self.may_pipeline(|server| server.before().pipelining())
    }

    /// Says whether commands are sent ahead of answers after the log-in. A server that does not tell its capabilities
    /// there may have shown it.
    fn pipelines(&self) -> bool {
        self.may_pipeline(|server| match server.after() {
            Some(after) => after.pipelining(),
            None => server.before().pipelining() && server.takes_behind_a_log_in(),
        })
    }

    fn may_pipeline(&self, announced: impl Fn(&Server) -> bool) -> bool {
        match self.account.pipelining {
            Pipelining::Off => false,
            Pipelining::On => !self.server.leaves_out(Trial::Pipelining),
            Pipelining::Auto => {
                self.server.found(Trial::Pipelining) != Some(Outcome::Breaks) && announced(self.server)
            }
        }
    }

    /// Hears what became of NOOP and CAPA, which went along with the last message of a log-in.
    ///
    /// What is lost costs the time limit of its own, and the session goes on. What was merely late is known by the
    /// status line that then stands where a capability belongs.
    async fn hear(&mut self, wire: &mut Wire, mechanism: Mechanism) -> Result<(), Failed> {
        let trial = Trial::BehindLogIn(mechanism);
        self.suspect = Some(trial);
        let limit = self.server.patience().unwrap_or(self.account.timeout);
        let doing = "ask for capabilities";
        let (mut outcome, mut after) = (Outcome::Takes, Some(Capabilities::default()));
        while wire.unanswered() > 0 {
            match wire.event_within(limit).await {
                Ok(Event::Reply { to: Request::Noop, status: Status::Err, .. }) => outcome = Outcome::Breaks,
                Ok(Event::Reply { to: Request::Capa, status: Status::Err, .. }) => after = None,
                Ok(Event::Line { line, .. }) => after.iter_mut().for_each(|after| after.add(line)),
                Ok(_) => {}
                Err(silence @ WireError::Silence { .. }) => {
                    log::debug!("{}: {silence}; it seems lost", self.account.name);
                    (outcome, after) = self.ask_after_silence(wire, limit).await.doing(doing)?;
                }
                Err(error) => return Err(error).doing(doing),
            }
        }
        self.suspect = None;
        self.server.saw_after(after);
        self.server.learn(trial, outcome);
        if outcome == Outcome::Breaks {
            let name = &self.account.name;
            log::info!(
                "{name}: server loses what is sent before the log-in is answered; from now on nothing is"
            );
        }
        Ok(())
    }

    /// Asks for capabilities again where the answers to NOOP and CAPA seem lost.
    async fn ask_after_silence(
        &self,
        wire: &mut Wire,
        limit: Duration,
    ) -> Result<(Outcome, Option<Capabilities>), WireError> {
        wire.forget()?;
        wire.send(Command::Capa)?;
        let (mut outcome, mut after) = (Outcome::Breaks, Some(Capabilities::default()));
        let mut limit = Some(limit);
        while wire.unanswered() > 0 {
            let event = match limit.take() {
                Some(limit) => wire.event_within(limit).await?,
                None => wire.event().await?,
            };
            match event {
                Event::Reply { status: Status::Err, .. } => after = None,
                // The answers come after all: what was taken for that to CAPA is that to NOOP, this is that to the
                // first CAPA, and that to the second follows.
                Event::Line { line, .. } if line.starts_with(b"+OK") && outcome == Outcome::Breaks => {
                    (outcome, after) = (Outcome::Takes, Some(Capabilities::default()));
                    wire.expect(Request::Capa);
                }
                Event::Line { line, .. } => after.iter_mut().for_each(|after| after.add(line)),
                Event::Reply { .. } | Event::Octets { .. } | Event::End { .. } => {}
            }
        }
        Ok((outcome, after))
    }

    /// Reads the listing.
    async fn list(&mut self, mut wire: Wire, mechanism: Mechanism, behind: Behind) -> Result<Listed, Failed> {
        let trial = Trial::BehindLogIn(mechanism);
        let pipelined = self.pipelines();
        let mut heard = if behind == Behind::Listing {
            self.suspect = Some(trial);
            read_listing(&mut wire, &[], pipelined).await.doing(LISTING)?
        } else {
            self.suspect = pipelined.then_some(Trial::Pipelining);
            read_listing(&mut wire, &[Command::Uidl, Command::List], pipelined).await.doing(LISTING)?
        };
        self.suspect = None;
        if heard.may_be_of_nothing() && is_empty(&mut wire).await.doing(LISTING)? {
            // Some servers refuse to list what is not there.
            heard = Heard::default();
        }
        let has_uidl = self.server.capabilities().has("UIDL");
        if behind == Behind::Listing && heard.may_be_refused_for_its_place(has_uidl) {
            heard = read_listing(&mut wire, &[Command::Uidl, Command::List], false).await.doing(LISTING)?;
            if !heard.may_be_refused_for_its_place(has_uidl) {
                self.server.learn(trial, Outcome::Breaks);
            }
        }
        let Heard { builder, uidl_refused, list_refused } = heard;
        if let Some(said) = &list_refused {
            return Err(refusal(said, "ask for sizes (LIST)"));
        }
        // A server that has UIDL and refuses it for once must not be taken for one that has none: every message would be
        // new under another name.
        let uidl_refused = match uidl_refused {
            Some(said) if has_uidl || !is_uncoded(&said) => {
                return Err(refusal(&said, "ask for unique-ids (UIDL)"));
            }
            said => said.map(|said| refusal(&said, "ask for unique-ids (UIDL)")),
        };
        let listing = built(builder).await;
        if listing.garbage() > 0 {
            log::warn!(
                "{}: server sent {} listing lines that mean nothing",
                self.account.name,
                listing.garbage()
            );
        }
        if !self.server.is_known() {
            self.server.was_asked();
        }
        let capabilities = self.server.capabilities();
        Ok(Listed { wire, capabilities, pipelined, listing, uidl_refused })
    }

    /// Asks a server that refused the log-in for its capabilities; gives them if they offer another way to log in than
    /// those that were known, and the server is still there.
    async fn another_way(&self, wire: &mut Wire) -> Option<Capabilities> {
        // The answers to what was sent ahead come first.
        while wire.unanswered() > 0 {
            wire.event().await.ok()?;
        }
        let fresh = ask_capabilities(wire).await.ok()?.unwrap_or_default();
        let known = self.server.before();
        let offers_as_before = fresh.sasl() == known.sasl() && fresh.has("USER") == known.has("USER");
        (!offers_as_before).then_some(fresh)
    }
}

impl Heard {
    /// Says whether the maildrop may be empty, and a refusal may mean just that.
    fn may_be_of_nothing(&self) -> bool {
        self.builder.is_empty() && (self.uidl_refused.is_some() || self.list_refused.is_some())
    }

    /// Says whether the commands may have been refused for where they stood, behind a log-in that was not answered yet.
    fn may_be_refused_for_its_place(&self, has_uidl: bool) -> bool {
        self.list_refused.as_deref().is_some_and(is_uncoded)
            || (has_uidl && self.uidl_refused.as_deref().is_some_and(is_uncoded))
    }
}

impl Auth<'_, '_> {
    async fn user_pass(&mut self) -> Result<(), Failed> {
        let (account, secret) = (self.login.account, self.login.secret);
        let along = self.login.sends_pass_along();
        let is_trial = self.login.server.found(Trial::BehindUser).is_none();
        self.send(Command::User(&account.user))?;
        if along {
            self.send(Command::Pass(secret))?;
            self.send_behind()?;
            self.login.suspect = Some(Trial::BehindUser);
        }
        self.accepted(None).await?;
        if along {
            self.accepted(self.login.server.patience().filter(|_| is_trial)).await?;
            self.login.server.learn(Trial::BehindUser, Outcome::Takes);
            return Ok(());
        }
        self.send(Command::Pass(secret))?;
        self.send_behind()?;
        self.accepted(None).await
    }

    async fn apop(&mut self, stamp: &[u8]) -> Result<(), Failed> {
        let account = self.login.account;
        let digest = apop::digest(stamp, self.login.secret);
        self.send(Command::Apop(&account.user, &digest))?;
        self.send_behind()?;
        self.accepted(None).await
    }

    async fn sasl(
        &mut self,
        name: &'static str,
        exporter: Option<[u8; 32]>,
        plus_offered: bool,
    ) -> Result<(), Failed> {
        let account = self.login.account;
        let credentials = Credentials {
            user: &account.user,
            secret: self.login.secret,
            host: &account.host,
            exporter,
            plus_offered,
        };
        let exchange = Exchange::new(self.mechanism, &credentials).doing(&self.doing)?;
        auth::authenticate(self, name, exchange).await
    }

    fn send(&mut self, command: Command<'_>) -> Result<(), Failed> {
        self.sent_at = Instant::now();
        self.wire.send(command).doing(&self.doing)
    }

    /// Sends what goes along with the last message of the log-in. If that is refused, so is this.
    fn send_behind(&mut self) -> Result<(), Failed> {
        let commands = match self.behind {
            Behind::Nothing => return Ok(()),
            Behind::Question => [Command::Noop, Command::Capa],
            Behind::Listing => [Command::Uidl, Command::List],
        };
        self.login.suspect = Some(Trial::BehindLogIn(self.mechanism));
        commands.into_iter().try_for_each(|command| self.wire.send(command)).doing(&self.doing)
    }

    /// Reads past the answer to UTF8, which went along with the first command.
    async fn hear_utf8(&mut self) -> Result<(), Failed> {
        if std::mem::take(&mut self.utf8_unanswered) {
            let suspect = self.login.suspect.replace(Trial::Pipelining);
            self.wire.reply().await.doing(&self.doing)?;
            self.login.suspect = suspect.or(Some(Trial::Pipelining));
        }
        Ok(())
    }

    async fn accepted(&mut self, within: Option<Duration>) -> Result<(), Failed> {
        self.hear_utf8().await?;
        let reply = match within {
            Some(limit) => self.wire.reply_within(limit).await,
            None => self.wire.reply().await,
        };
        let reply = reply.doing(&self.doing)?.1;
        if reply.is_ok() { Ok(()) } else { Err(Failed::refused(&reply, About::LogIn, &self.doing)) }
    }
}

impl Carrier for Auth<'_, '_> {
    type Error = Failed;

    /// RFC 2449, 4.
    const LONGEST_LINE: usize = 255;

    async fn say(&mut self, line: AuthLine<'_>, left: Left) -> Result<Answer, Failed> {
        self.send(Command::Auth(line))?;
        if left == Left::Nothing && !std::mem::replace(&mut self.is_last, true) {
            self.send_behind()?;
        }
        self.hear_utf8().await?;
        let (to, reply) = self.wire.reply().await.doing(&self.doing)?;
        // What it asks for more, it takes from what was sent behind.
        let eats = reply.status == Status::Continue && self.is_last && self.behind != Behind::Nothing;
        if to != Request::Auth || eats {
            return Err(out_of_step(reply.text)).doing(&self.doing);
        }
        match (reply.status, left) {
            (Status::Err, _) => Err(Failed::refused(&reply, About::LogIn, &self.doing)),
            (Status::Ok, Left::Nothing) => Ok(Answer::Accepted),
            // Some servers write `+OK` where the challenge's `+` belongs; while the exchange has more to say, that is
            // what it means.
            (Status::Ok, Left::More) | (Status::Continue, _) => Ok(Answer::Challenge(reply.text.to_vec())),
        }
    }

    fn failed(&self, error: SaslError) -> Failed {
        Failed { doing: self.doing.clone(), error: error.into() }
    }

    fn one_too_many(&self) -> Failed {
        Failed { doing: self.doing.clone(), error: out_of_step(b"+").into() }
    }
}

/// Says whether a refusal has no response code.
fn is_uncoded(said: &[u8]) -> bool {
    Reply { status: Status::Err, text: said }.code().is_none()
}

fn refusal(said: &[u8], doing: &str) -> Failed {
    Failed::refused(&Reply { status: Status::Err, text: said }, About::Other, doing)
}

/// Complains of an answer to AUTH that is none.
fn out_of_step(line: &[u8]) -> WireError {
    ProtocolError::NotAReply { to: Request::Auth, line: line.to_vec() }.into()
}

/// How many lines of a listing are sorted at once, beside everything else that the thread does.
const MANY: usize = 20_000;

/// Puts a listing together: a hostile one, of millions of lines, not on the thread that serves all accounts.
async fn built(builder: ListingBuilder) -> Listing {
    if builder.len() <= MANY {
        return builder.build();
    }
    let built = tokio::task::spawn_blocking(move || builder.build()).await;
    built.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))
}

/// Asks for capabilities; gives `None` if the server has no CAPA.
async fn ask_capabilities(wire: &mut Wire) -> Result<Option<Capabilities>, WireError> {
    let mut capabilities = Capabilities::default();
    wire.send(Command::Capa)?;
    loop {
        match wire.event().await? {
            Event::Reply { status: Status::Err, .. } => return Ok(None),
            Event::End { .. } => return Ok(Some(capabilities)),
            Event::Line { line, .. } => capabilities.add(line),
            Event::Reply { .. } | Event::Octets { .. } => {}
        }
    }
}

/// Sends these commands and reads what UIDL and LIST are answered, those that are under way included.
async fn read_listing(
    wire: &mut Wire,
    commands: &[Command<'_>],
    pipelined: bool,
) -> Result<Heard, WireError> {
    let mut due = commands.iter();
    let mut heard = Heard::default();
    loop {
        // In lockstep one command follows another's answer, else all go at once.
        while (pipelined || wire.unanswered() == 0)
            && let Some(command) = due.next()
        {
            wire.send(command.clone())?;
        }
        if wire.unanswered() == 0 {
            return Ok(heard);
        }
        // Lines that lie in the buffer cost no wait; the other accounts have their turn all the same.
        tokio::task::coop::consume_budget().await;
        match wire.event().await? {
            Event::Reply { to: Request::Uidl, status: Status::Err, text } => {
                heard.uidl_refused = Some(text.to_vec());
            }
            Event::Reply { to: Request::List, status: Status::Err, text } => {
                heard.list_refused = Some(text.to_vec());
            }
            Event::Line { to: Request::Uidl, line } => heard.builder.unique_id(parse_unique_id(line)),
            Event::Line { to: Request::List, line } => heard.builder.size(parse_size(line)),
            Event::Line { .. } | Event::Reply { .. } | Event::Octets { .. } | Event::End { .. } => {}
        }
    }
}

/// Says whether STAT counts no message (RFC 1939, 5).
async fn is_empty(wire: &mut Wire) -> Result<bool, WireError> {
    wire.send(Command::Stat)?;
    let reply = wire.reply().await?.1;
    Ok(reply.is_ok() && parse_stat(reply.text) == Some(0))
}

/// Says whether a refusal may come from capabilities that are out of date, rather than from the credentials.
fn asks_again(error: &SourceError) -> bool {
    match error {
        SourceError::NoMechanism(_) => true,
        SourceError::Refused { code, .. } => code.is_none(),
        _ => false,
    }
}
