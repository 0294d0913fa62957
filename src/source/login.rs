//! The log-in: which mechanism, what is sent before the server has answered, and what its answers say of that.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::Account;
use crate::config::account::Pipelining;
use crate::failure::speaks_of_tls;
use crate::line::{self, AuthLine};
use crate::net::auth::{self, Answer, Carrier, Left};
use crate::net::{Stage, TlsFacts, Watch};
use crate::pop3::{Capabilities, Code, Command, ProtocolError, Reply, Request, Status, apop};
use crate::sasl::{
    self, Credentials, Exchange, Exposes, Mechanism, Offered, Protection, SaslError, TokenRefused, User,
};
use crate::secret::Secret;

use super::error::{About, Doing, SourceError, SourceFailed};
use super::locale;
use super::server::{Found, Server, Trial};
use super::wire::{Wire, WireError};

/// What a log-in needs to know.
pub struct Authorization<'a> {
    pub(super) account: &'a Account,
    /// The password; empty where only mechanisms without one are allowed.
    secret: &'a Secret,
    /// What is known of the server, and what is learned.
    pub(super) server: &'a mut Server,
    trials: Trials,
    /// What is to blame if the connection ends, falls silent or loses step now.
    pub(super) suspect: Option<Trial>,
    /// The optional command to whose answer a line too many may belong.
    said_more: Option<Trial>,
    /// The last log-in was bound to the TLS channel.
    binds: bool,
    /// Who hears of what the server says.
    pub(super) watch: Watch,
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
pub(super) enum Behind {
    Nothing,
    /// NOOP and CAPA: whether they are answered, and how, says whether the server takes what comes there.
    Question,
    /// UIDL and LIST.
    Listing,
}

/// How the mechanisms' messages reach their ends.
struct Auth<'a, 'b> {
    login: &'a mut Authorization<'b>,
    wire: &'a mut Wire,
    mechanism: Mechanism,
    doing: String,
    behind: Behind,
    /// The last message of the exchange was sent.
    is_last: bool,
    /// How many of UTF8 and LANG, which went along with the first command, are not answered yet.
    unanswered: usize,
    /// Nor is that command.
    behind_utf8: bool,
    /// When the last message was sent.
    sent_at: Instant,
}

impl<'a> Authorization<'a> {
    /// Begins with what the log-in needs to know.
    pub fn new(account: &'a Account, secret: &'a Secret, server: &'a mut Server, trials: Trials) -> Self {
        let (suspect, said_more, watch) = (None, None, Watch::default());
        Self { account, secret, server, trials, suspect, said_more, binds: false, watch }
    }

    /// Notes that an optional command was answered, perhaps with a line too many, which is found only where the next
    /// answer belongs.
    pub(super) fn may_have_said_more(&mut self, to: Trial) {
        if matches!(to, Trial::Utf8 | Trial::Lang) || self.said_more.is_none() {
            self.said_more = Some(to);
        }
    }

    /// Gives the optional command whose answer may be why the session failed so.
    pub(super) fn said_more(&self, error: &SourceError) -> Option<Trial> {
        let is_why = |trial: &Trial| {
            error.is_one_too_many() || matches!(trial, Trial::Utf8 | Trial::Lang) && error.is_unasked()
        };
        self.said_more.filter(is_why)
    }

    /// Logs in; says how, and what was sent along.
    pub(super) async fn authenticate(
        &mut self,
        wire: &mut Wire,
        stamp: Option<&[u8]>,
    ) -> Result<(Mechanism, Behind), SourceFailed> {
        let account = self.account;
        let capabilities = self.server.before();
        let facts = wire.stream().tls();
        let binds = self.server.found(Trial::Binding) != Some(Found::Breaks);
        let exporter = facts.as_ref().and_then(|facts| facts.exporter).filter(|_| binds);
        let names: Vec<&str> =
            capabilities.sasl().into_iter().filter_map(|name| std::str::from_utf8(name).ok()).collect();
        let offered = Offered {
            sasl: &names,
            user: user(capabilities, &names),
            apop_stamp: stamp.is_some(),
            tls: protection(capabilities, facts),
            client_certificate: account.tls.client.is_some(),
            tokens: account.oauth2.is_some(),
            exporter: exporter.is_some(),
        };
        let mechanism = sasl::choose(&account.auth, offered).doing("log in")?;
        let (user, secret, plus_offered) = (&*account.user, self.secret, offered.plus_offered());
        let credentials = Credentials { user, secret, exporter, plus_offered };
        let instead = sasl::instead(mechanism, &offered);
        let tls = wants_tls(offered.tls, capabilities);
        self.watch.saw(|| Stage::chosen(&account.auth, &offered, mechanism));
        let doing = format!("log in as {} ({})", account.user, mechanism.name());
        log::debug!("{}: {doing}", account.name);
        let behind = self.behind(mechanism);
        let unanswered = self.say_how(wire).await?;
        let mut auth = Auth {
            login: self,
            wire,
            mechanism,
            doing,
            behind,
            is_last: false,
            unanswered,
            behind_utf8: unanswered > 0,
            sent_at: Instant::now(),
        };
        let accepted = match mechanism.sasl_name() {
            Some(name) => auth.sasl(name, &credentials).await,
            None if mechanism == Mechanism::Apop => auth.apop(stamp.unwrap_or_default()).await,
            None => auth.user_pass().await,
        };
        let (took, behind_utf8, behind) = (auth.sent_at.elapsed(), auth.behind_utf8, auth.behind);
        self.binds = mechanism == Mechanism::ScramSha256Plus;
        if let Err(failed) = accepted {
            if behind_utf8 {
                self.suspect = Some(Trial::BehindUtf8);
            }
            self.judge(&failed.error);
            return Err(because(failed, tls, instead));
        }
        self.logged_in(took);
        Ok((mechanism, behind))
    }

    fn logged_in(&mut self, took: Duration) {
        if self.binds {
            self.server.learn(Trial::Binding, Found::Takes);
        }
        self.watch.saw(|| Stage::LoggedIn);
        self.server.log_in_took(took);
        self.suspect = None;
    }

    /// Says whether the refusal may be of the channel binding: one that the server was seen to take is of the credentials.
    pub(super) fn refuses_to_bind(&self, error: &SourceError) -> bool {
        let is_refusal =
            matches!(error, SourceError::Refused { code: None | Some(Code::Auth | Code::Other), .. });
        self.binds && is_refusal && self.server.found(Trial::Binding).is_none()
    }

    /// Logs in without channel binding where that was refused. Cyrus announces it, and means a kind that TLS 1.3 has no
    /// more. If this is refused too, it was the credentials.
    pub(super) async fn without_binding(
        &mut self,
        wire: &mut Wire,
        stamp: Option<&[u8]>,
        refusal: SourceFailed,
    ) -> Result<(Mechanism, Behind), SourceFailed> {
        self.server.learn(Trial::Binding, Found::Breaks);
        while wire.unanswered() > 0 {
            // The refusal counts whatever comes after it.
            if wire.event().await.is_err() {
                return Err(refusal);
            }
        }
        match self.authenticate(wire, stamp).await {
            Ok(logged_in) => Ok(logged_in),
            Err(SourceFailed {
                error: SourceError::Refused { .. } | SourceError::NoMechanism(_), ..
            }) => {
                self.server.forget(Trial::Binding);
                Err(refusal)
            }
            Err(_) => Err(refusal),
        }
    }

    /// Decides what a log-in that failed says of what went along with it.
    fn judge(&mut self, error: &SourceError) {
        let Some(trial) = self.suspect else { return };
        let is_shown = self.server.found(trial) == Some(Found::Takes);
        match error {
            // It may have been refused for what came along with it, so the next one goes alone, or is a trial.
            SourceError::Refused { code: None | Some(Code::Auth), .. } if !is_shown => {
                self.server.learn(trial, Found::Breaks);
            }
            SourceError::Refused { code: None | Some(Code::Auth), .. } => {
                self.server.forget(trial);
                self.suspect = None;
            }
            // A server that took it before is more likely to be restarted, or far away.
            SourceError::Wire(WireError::Closed { .. } | WireError::Lost { .. }) if is_shown => {
                self.server.forget(trial);
                self.suspect = None;
            }
            _ => {}
        }
    }

    /// Says UTF8 and LANG where they are announced: without UTF8, Courier puts a report in place of each message whose
    /// header has 8-bit octets (RFC 6856, 2); LANG has refusals told in the user's language. A refusal means nothing. Says
    /// how many answers are still to come.
    async fn say_how(&mut self, wire: &mut Wire) -> Result<usize, SourceFailed> {
        let capabilities = self.server.before();
        let language = locale::language().filter(|_| capabilities.has("LANG"));
        let utf8 = (Trial::Utf8, Command::Utf8, "ask for headers as they are (UTF8)");
        let lang =
            language.as_deref().map(|tag| (Trial::Lang, Command::Lang(tag), "choose a language (LANG)"));
        let mut unanswered = 0;
        for (trial, command, doing) in capabilities.utf8().then_some(utf8).into_iter().chain(lang) {
            if self.server.found(trial) == Some(Found::Breaks) {
                continue;
            }
            wire.send(command).doing(doing)?;
            self.may_have_said_more(trial);
            if self.sends_along(Trial::BehindUtf8) {
                unanswered += 1;
                continue;
            }
            self.suspect = Some(trial);
            wire.reply().await.doing(doing)?;
            self.suspect = None;
        }
        Ok(unanswered)
    }

    /// Decides what goes along with the last message of a log-in.
    fn behind(&self, mechanism: Mechanism) -> Behind {
        let known = self.server.is_known();
        let pipelines = self.pipelines_log_in() && (!known || self.pipelines());
        let has_capa = self.server.found(Trial::Capa) != Some(Found::Breaks);
        match self.server.found(Trial::BehindLogIn(mechanism)) {
            Some(Found::Takes) if pipelines && known => Behind::Listing,
            Some(Found::Takes) if pipelines && has_capa => Behind::Question,
            None if pipelines && has_capa && self.trials == Trials::Allowed => Behind::Question,
            Some(Found::Takes | Found::Breaks) | None => Behind::Nothing,
        }
    }

    /// Says whether PASS goes along with USER: nginx before 1.21 drops it, whatever it announces.
    fn sends_pass_along(&self) -> bool {
        // How long an honest server takes must be known, or its answer may be taken for lost, and it would see two
        // log-ins.
        let is_known = self.server.found(Trial::BehindUser).is_some() || self.server.patience().is_some();
        is_known && self.sends_along(Trial::BehindUser)
    }

    /// Says whether what a trial is about goes along with a command before the log-in.
    fn sends_along(&self, trial: Trial) -> bool {
        self.pipelines_log_in()
            && match self.server.found(trial) {
                Some(Found::Takes) => true,
                Some(Found::Breaks) => false,
                None => self.trials == Trials::Allowed,
            }
    }

    /// Says whether commands are sent ahead of answers before the log-in.
    fn pipelines_log_in(&self) -> bool {
        self.may_pipeline(|server| server.before().pipelining())
    }

    /// Says whether commands are sent ahead of answers after the log-in. A server that does not tell its capabilities
    /// there may have shown it.
    pub(super) fn pipelines(&self) -> bool {
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
                self.server.found(Trial::Pipelining) != Some(Found::Breaks) && announced(self.server)
            }
        }
    }
}

fn protection(capabilities: &Capabilities, facts: Option<&TlsFacts>) -> Protection {
    match facts {
        Some(_) => Protection::Protected,
        None if capabilities.has("STLS") => Protection::Announced,
        None => Protection::Plain,
    }
}

/// Says what to do about a refused log-in instead of looking at the password.
fn because(failed: SourceFailed, tls: Option<&str>, instead: Option<String>) -> SourceFailed {
    match failed.error.said().is_some_and(speaks_of_tls) {
        true => failed.because(tls.map(str::to_owned).or(instead)),
        false => failed.because(instead),
    }
}

/// Says what to do where a server says that it wants TLS.
fn wants_tls(protection: Protection, capabilities: &Capabilities) -> Option<&'static str> {
    match protection {
        Protection::Protected => None,
        Protection::Announced => Some("the server wants TLS before a log-in: write `tls: starttls`"),
        // It has no CAPA.
        Protection::Plain if capabilities.is_empty() => {
            Some("the server wants TLS before a log-in: write `tls: starttls` or `tls: implicit`")
        }
        Protection::Plain => {
            Some("the server wants TLS before a log-in, and announces no STLS: write `tls: implicit`")
        }
    }
}

/// RFC 2449, 6.3: servers without USER must say so by CAPA; one that names no mechanism either means it less.
fn user(capabilities: &Capabilities, mechanisms: &[&str]) -> User {
    match mechanisms {
        _ if capabilities.has("USER") => User::Announced,
        [] => User::Untold,
        _ => User::Absent,
    }
}

impl Auth<'_, '_> {
    async fn user_pass(&mut self) -> Result<(), SourceFailed> {
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
            self.login.server.learn(Trial::BehindUser, Found::Takes);
            return Ok(());
        }
        self.send(Command::Pass(secret))?;
        self.send_behind()?;
        self.accepted(None).await
    }

    async fn apop(&mut self, stamp: &[u8]) -> Result<(), SourceFailed> {
        let account = self.login.account;
        let digest = apop::digest(stamp, self.login.secret);
        self.send(Command::Apop(&account.user, &digest))?;
        self.send_behind()?;
        self.accepted(None).await
    }

    async fn sasl(&mut self, name: &'static str, credentials: &Credentials<'_>) -> Result<(), SourceFailed> {
        let exchange = Exchange::new(self.mechanism, credentials).doing(&self.doing)?;
        auth::authenticate(self, name, exchange).await
    }

    fn send(&mut self, command: Command<'_>) -> Result<(), SourceFailed> {
        self.sent_at = Instant::now();
        self.wire.send(command).doing(&self.doing)
    }

    /// Sends what goes along with the last message of the log-in. If that is refused, so is this.
    fn send_behind(&mut self) -> Result<(), SourceFailed> {
        let commands = match self.behind {
            Behind::Nothing => return Ok(()),
            Behind::Question => [Command::Noop, Command::Capa],
            Behind::Listing => [Command::Uidl, Command::List],
        };
        self.login.suspect = Some(Trial::BehindLogIn(self.mechanism));
        commands.into_iter().try_for_each(|command| self.wire.send(command)).doing(&self.doing)
    }

    /// Reads past the answers to UTF8 and LANG, which went along with the first command.
    async fn hear_how(&mut self) -> Result<(), SourceFailed> {
        for _ in 0..std::mem::take(&mut self.unanswered) {
            self.wire.reply().await.doing(&self.doing)?;
        }
        Ok(())
    }

    /// Notes that the first command was taken: so the server takes what comes behind UTF8.
    fn is_taken(&mut self) {
        if std::mem::take(&mut self.behind_utf8) {
            self.login.server.learn(Trial::BehindUtf8, Found::Takes);
        }
    }

    async fn accepted(&mut self, within: Option<Duration>) -> Result<(), SourceFailed> {
        self.hear_how().await?;
        let reply = match within {
            Some(limit) => self.wire.reply_within(limit).await,
            None => self.wire.reply().await,
        };
        let reply = reply.doing(&self.doing)?.1;
        if !reply.is_ok() {
            return Err(SourceFailed::refused(&reply, About::LogIn, &self.doing));
        }
        self.is_taken();
        Ok(())
    }
}

impl Carrier for Auth<'_, '_> {
    type Error = SourceFailed;

    /// RFC 2449, 4.
    const LONGEST_LINE: usize = 255;

    async fn say(&mut self, line: AuthLine<'_>, left: Left) -> Result<Answer, SourceFailed> {
        if self.is_last && matches!(line, AuthLine::Begin(..)) {
            // It is begun anew: what went along with the message that was refused is refused, too.
            (self.is_last, self.behind, self.login.suspect) = (false, Behind::Nothing, None);
            while self.wire.unanswered() > 0 {
                self.wire.event().await.doing(&self.doing)?;
            }
        }
        self.send(Command::Auth(line))?;
        if left == Left::Nothing && !std::mem::replace(&mut self.is_last, true) {
            self.send_behind()?;
        }
        self.hear_how().await?;
        let (to, reply) = self.wire.reply().await.doing(&self.doing)?;
        // What it asks for more, it takes from what was sent behind.
        let eats = reply.status == Status::Continue && self.is_last && self.behind != Behind::Nothing;
        if eats && self.mechanism.exposes() == Exposes::Token {
            // RFC 7628, 3.2.2: a challenge that says why the token is refused; what was sent behind has answered it, and
            // says nothing of what this server takes.
            self.login.suspect = None;
            let said = line::challenge(reply.text);
            let refused = SourceFailed::refused(&Reply { text: &said, ..reply }, About::LogIn, &self.doing);
            return Err(refused.because(Some(TokenRefused::of(&said).to_string())));
        }
        if to != Request::Auth || eats {
            return Err(out_of_step(reply.text)).doing(&self.doing);
        }
        let answer = match (reply.status, left) {
            (Status::Err, _) => return Err(SourceFailed::refused(&reply, About::LogIn, &self.doing)),
            (Status::Ok, Left::Nothing) => Answer::Accepted,
            // Some servers write `+OK` where the challenge's `+` belongs; while the exchange has more to say, that is
            // what it means.
            (Status::Ok, Left::More) | (Status::Continue, _) => Answer::Challenge(reply.text.to_vec()),
        };
        self.is_taken();
        Ok(answer)
    }

    fn failed(&self, error: SaslError) -> SourceFailed {
        SourceFailed { doing: self.doing.clone(), error: error.into() }
    }

    fn explained(&self, refusal: SourceFailed, why: &TokenRefused) -> SourceFailed {
        refusal.because(Some(why.to_string()))
    }

    fn one_too_many(&self) -> SourceFailed {
        SourceFailed { doing: self.doing.clone(), error: out_of_step(b"+").into() }
    }

    fn words<'e>(&self, refusal: &'e SourceFailed) -> Option<&'e [u8]> {
        // A code speaks of who logs in.
        refusal.error.said().filter(|_| refusal.error.is_uncoded_refusal())
    }
}

/// Complains of an answer to AUTH that is none.
fn out_of_step(line: &[u8]) -> WireError {
    ProtocolError::NotAReply { to: Request::Auth, line: line.to_vec() }.into()
}
