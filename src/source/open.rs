//! From a fresh connection to the listing: greeting, TLS, capabilities, credentials, LIST and UIDL.

use std::time::Duration;

use crate::config::account::TlsMode;
use crate::line::Protocol;
use crate::message::Listing;
use crate::net::{Connector, Moment, Stage, Stream};
use crate::pop3::{Capabilities, Client, Command, Event, Request, Status, apop, is_status};
use crate::sasl::Mechanism;

use super::error::{About, Doing, SourceError, SourceFailed};
use super::list::{Heard, built, is_empty, is_uncoded, read_listing};
use super::login::{Authorization, Behind};
use super::server::{Found, Trial};
use super::wire::{Sending, Wire, WireError};

/// A session in TRANSACTION state whose maildrop has been listed.
pub struct Listed {
    pub wire: Wire,
    pub capabilities: Capabilities,
    pub sending: Sending,
    pub listing: Listing,
    /// The server refused UIDL, so that the messages of the listing have no unique-ids.
    pub uidl_refused: Option<SourceFailed>,
}

impl Authorization<'_> {
    /// Logs in and lists. On a server that was seen to take it, UIDL and LIST travel with the credentials: the listing is
    /// complete one round trip after the greeting.
    pub async fn run(&mut self, connector: &Connector, stream: Stream) -> Result<Listed, SourceFailed> {
        let account = self.account;
        let mut wire = Wire::new(stream, Client::new(), account.timeout, &account.name);
        let greeting = wire.reply().await.doing("connect")?.1;
        if !greeting.is_ok() {
            return Err(SourceFailed::refused(&greeting, About::Greeting, "connect"));
        }
        self.watch = connector.watch().clone();
        self.watch.saw(|| Stage::greeted(greeting.text));
        let stamp = apop::stamp(greeting.text).map(<[u8]>::to_vec);
        if account.tls.mode == TlsMode::StartTls {
            if self.watch.is_heard() {
                // Nothing of it is believed: it is for whoever looks.
                self.ask_first(&mut wire, Moment::BeforeTls).await?;
            }
            wire = self.start_tls(wire, connector).await?;
        }

        // Capabilities read before TLS are never believed after it, so they are not even asked for.
        let known = self.server.is_known();
        if !known {
            let before = self.ask_first(&mut wire, Moment::BeforeLogIn).await?;
            self.server.saw_before(before);
        }
        let (mechanism, behind) = match self.authenticate(&mut wire, stamp.as_deref()).await {
            Ok(logged_in) => logged_in,
            Err(failed) if self.refuses_to_bind(&failed.error) => {
                self.without_binding(&mut wire, stamp.as_deref(), failed).await?
            }
            Err(failed) if known && asks_again(&failed.error) => {
                // What was remembered may be out of date: ask, and try again if that offers another way. A server that
                // hangs up meanwhile has said why, and that counts.
                let Some(fresh) = self.another_way(&mut wire).await else { return Err(failed) };
                self.server.saw_before(fresh);
                self.server.ask_again();
                self.authenticate(&mut wire, stamp.as_deref()).await?
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
    async fn start_tls(&self, mut wire: Wire, connector: &Connector) -> Result<Wire, SourceFailed> {
        let doing = "ask for TLS (STLS)";
        wire.send(Command::Stls).doing(doing)?;
        let reply = wire.reply().await.doing(doing)?.1;
        if !reply.is_ok() {
            let hint = "this port has no TLS by STLS, and nothing is sent without; write `tls: implicit` if the server has \
                        a port for that, which is usually 995";
            return Err(SourceFailed::refused(&reply, About::Other, doing).because(Some(hint.into())));
        }
        let stream = wire.into_stream().doing(doing)?;
        let stream = connector.start_tls(stream, self.account).await?;
        Ok(Wire::new(stream, Client::after_stls(), self.account.timeout, &self.account.name))
    }

    /// Asks for the capabilities before the log-in. A server that has no CAPA, or does not bear it, has none.
    async fn ask_first(&mut self, wire: &mut Wire, moment: Moment) -> Result<Capabilities, SourceFailed> {
        if self.server.found(Trial::Capa) == Some(Found::Breaks) {
            return Ok(Capabilities::NONE);
        }
        self.suspect = Some(Trial::Capa);
        let asked = ask_capabilities(wire).await.doing("ask for capabilities")?;
        self.suspect = None;
        self.may_have_said_more(Trial::Capa);
        let asked = asked.unwrap_or_default();
        self.watch.saw(|| Stage::announced(moment, asked.lines()));
        Ok(asked)
    }

    /// Asks for the capabilities after the log-in, which may be others (RFC 2449, 5), and another server's; not if there
    /// were none before.
    async fn ask_after(&mut self, wire: &mut Wire) -> Result<(), SourceFailed> {
        let after = if self.server.before().is_empty() {
            None
        } else {
            ask_capabilities(wire).await.doing("ask for capabilities")?
        };
        self.may_have_said_more(Trial::Capa);
        self.saw_after(after);
        Ok(())
    }

    fn saw_after(&mut self, after: Option<Capabilities>) {
        let lines = || after.iter().flat_map(Capabilities::lines);
        self.watch.saw(|| Stage::announced(Moment::AfterLogIn, lines()));
        self.server.saw_after(after);
    }

    /// Hears what became of NOOP and CAPA, which went along with the last message of a log-in.
    ///
    /// What is lost costs the time limit of its own, and the session goes on. What was merely late is known by the
    /// status line that then stands where a capability belongs.
    async fn hear(&mut self, wire: &mut Wire, mechanism: Mechanism) -> Result<(), SourceFailed> {
        let trial = Trial::BehindLogIn(mechanism);
        self.suspect = Some(trial);
        let limit = self.server.patience().unwrap_or(self.account.timeout);
        let doing = "ask for capabilities";
        let (mut outcome, mut after) = (Found::Takes, Some(Capabilities::default()));
        while wire.unanswered() > 0 {
            match wire.event_within(limit).await {
                Ok(Event::Reply { to: Request::Noop, status: Status::Err, .. }) => outcome = Found::Breaks,
                Ok(Event::Reply { to: Request::Capa, status: Status::Err, .. }) => after = None,
                Ok(Event::Line { line, .. }) if is_status(line) => {
                    return Err(WireError::from(Client::unasked(line))).doing(doing);
                }
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
        self.saw_after(after);
        self.server.learn(trial, outcome);
        if outcome == Found::Breaks {
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
    ) -> Result<(Found, Option<Capabilities>), WireError> {
        wire.forget()?;
        wire.send(Command::Capa)?;
        let (mut outcome, mut after) = (Found::Breaks, Some(Capabilities::default()));
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
                Event::Line { line, .. } if line.starts_with(b"+OK") && outcome == Found::Breaks => {
                    (outcome, after) = (Found::Takes, Some(Capabilities::default()));
                    wire.expect(Request::Capa);
                }
                Event::Line { line, .. } => after.iter_mut().for_each(|after| after.add(line)),
                Event::Reply { .. } | Event::Octets { .. } | Event::End { .. } => {}
            }
        }
        Ok((outcome, after))
    }

    async fn list(
        &mut self,
        mut wire: Wire,
        mechanism: Mechanism,
        behind: Behind,
    ) -> Result<Listed, SourceFailed> {
        let trial = Trial::BehindLogIn(mechanism);
        let mut sending = if self.pipelines() { Sending::Ahead } else { Sending::Lockstep };
        let mut heard = if behind == Behind::Listing {
            self.suspect = Some(trial);
            read_listing(&mut wire, &[], sending).await?
        } else {
            self.suspect = (sending == Sending::Ahead).then_some(Trial::Pipelining);
            read_listing(&mut wire, &[Command::Uidl, Command::List], sending).await?
        };
        self.suspect = None;
        if heard.may_be_of_nothing() && is_empty(&mut wire, &heard).await? {
            // Some servers refuse to list what is not there.
            heard = Heard::default();
        }
        let capabilities = self.server.capabilities();
        let is_ahead = behind == Behind::Listing || sending == Sending::Ahead;
        if is_ahead && heard.may_be_refused_for_its_place(&capabilities) {
            heard = read_listing(&mut wire, &[Command::Uidl, Command::List], Sending::Lockstep).await?;
            if !heard.may_be_refused_for_its_place(&capabilities) {
                let trial = if behind == Behind::Listing { trial } else { Trial::Pipelining };
                self.server.learn(trial, Found::Breaks);
                log::info!(
                    "{}: server refuses what is sent ahead of answers; it is asked {}",
                    self.account.name,
                    trial.left_out()
                );
                sending = if self.pipelines() { sending } else { Sending::Lockstep };
            }
        }
        // A server that has UIDL and refuses it for once must not be taken for one that has none: every message would be
        // new under another name.
        let is_certain = |said: &[u8]| capabilities.has("UIDL") || !is_uncoded(said);
        let uidl_refused = match heard.refused() {
            Some(refused)
                if heard.list_refused.is_some() || heard.uidl_refused.as_deref().is_some_and(is_certain) =>
            {
                return Err(if heard.list_refused.is_none() {
                    refused.or_hint(REFUSED_UIDL)
                } else {
                    refused
                });
            }
            uidl_refused => uidl_refused,
        };
        let listing = built(heard.builder).await;
        if !self.server.is_known() {
            self.server.was_asked();
        }
        self.watch.saw(|| Stage::Listed(listing.len(), listing.octets()));
        Ok(Listed { wire, capabilities, sending, listing, uidl_refused })
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

/// What to do where UIDL is announced and refused.
const REFUSED_UIDL: &str = "the server announces UIDL, and without it every message would be a new one, so nothing is \
                            fetched; if it does not pass, tell its operator";

/// Asks for capabilities; gives `None` if the server has no CAPA.
async fn ask_capabilities(wire: &mut Wire) -> Result<Option<Capabilities>, WireError> {
    let mut capabilities = Capabilities::default();
    wire.send(Command::Capa)?;
    loop {
        match wire.event().await? {
            Event::Reply { status: Status::Err, .. } => return Ok(None),
            Event::End { .. } => return Ok(Some(capabilities)),
            Event::Line { line, .. } if is_status(line) => return Err(Client::unasked(line).into()),
            Event::Line { line, .. } => capabilities.add(line),
            Event::Reply { .. } | Event::Octets { .. } => {}
        }
    }
}

/// Says whether a refusal may come from capabilities that are out of date, rather than from the credentials.
fn asks_again(error: &SourceError) -> bool {
    match error {
        SourceError::NoMechanism(_) => true,
        SourceError::Refused { code, .. } => code.is_none(),
        _ => false,
    }
}
