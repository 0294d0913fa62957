//! From a fresh connection to the listing: greeting, TLS, capabilities, credentials, LIST and UIDL.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::config::Account;
use crate::config::account::{Pipelining, TlsMode};
use crate::net::{Connector, Stream};
use crate::pop3::listing::ListingBuilder;
use crate::pop3::{
    Capabilities, Client, Command, Event, Listing, ProtocolError, Reply, Request, Status, apop,
};
use crate::sasl::{self, Credentials, Exchange, Mechanism, Offered, Protection};
use crate::secret::Secret;
use crate::state::ServerMemory;

use super::trouble::{Aborted, About, During, Trouble};
use super::wire::{Wire, WireError};

/// What a log-in needs to know.
pub struct Login<'a> {
    /// Whose maildrop.
    pub account: &'a Account,
    /// The password; empty where only mechanisms without one are allowed.
    pub secret: &'a Secret,
    /// What the server was found to be like.
    pub server: &'a ServerMemory,
    /// Whether this attempt may send commands ahead of answers.
    pub pace: Pace,
}

/// Whether commands may be sent ahead of answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// As the server announces and the account allows.
    AsAnnounced,
    /// One command at a time.
    Lockstep,
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
    /// What the server said when it refused UIDL, so that the messages of the listing have no unique-ids.
    pub uidl_refused: Option<Vec<u8>>,
}

/// What is being done while a session that is logged in lists.
pub const LISTING: &str = "list the maildrop";

/// How the mechanisms' messages reach their ends.
struct Auth<'a> {
    login: &'a Login<'a>,
    wire: &'a mut Wire,
    doing: String,
    /// LIST and UIDL go along with the last message of the exchange.
    ahead: bool,
    /// What a refusal without a response code is about.
    about: About,
}

impl Login<'_> {
    /// Logs in and lists. On a known server that pipelines, UIDL and LIST travel with the credentials: the listing is
    /// complete one round trip after the greeting.
    pub async fn run(&self, connector: &Connector, stream: Stream) -> Result<Listed, Aborted> {
        let account = self.account;
        let mut wire = Wire::new(stream, Client::new(), account.timeout, &account.name);
        let greeting = wire.reply().await.during("connect")?.1;
        if !greeting.is_ok() {
            return Err(refused(&greeting, About::Other, "connect"));
        }
        let stamp = apop::stamp(greeting.text).map(<[u8]>::to_vec);
        if account.tls.mode == TlsMode::StartTls {
            wire = self.start_tls(wire, connector).await?;
        }

        // Capabilities read before TLS are never believed after it, so they are not even asked for.
        let remembered = self.server.capabilities.as_deref().map(Capabilities::from_octets);
        let known = remembered.is_some();
        let capabilities = match remembered {
            Some(remembered) => remembered,
            None if self.server.breaks_capa => Capabilities::default(),
            None => ask_capabilities(&mut wire).await.during("ask for capabilities")?,
        };
        match self.authenticate(&mut wire, &capabilities, stamp.as_deref(), known).await {
            Ok(sent_ahead) => self.list(wire, capabilities, known, sent_ahead).await,
            Err(aborted) if known && asks_again(&aborted.trouble) => {
                // What was remembered may be out of date: ask, and try again if that offers another way. A server that
                // hangs up meanwhile has said why, and that counts.
                let Some(fresh) = self.another_way(&mut wire, &capabilities).await else {
                    return Err(aborted);
                };
                self.authenticate(&mut wire, &fresh, stamp.as_deref(), false).await?;
                self.list(wire, fresh, false, false).await
            }
            Err(aborted) => Err(aborted),
        }
    }

    /// STLS is demanded whatever CAPA says, and nothing the server said before it is believed afterwards
    /// (RFC 2595, 4; a forged "not supported" would otherwise have the password sent in clear).
    async fn start_tls(&self, mut wire: Wire, connector: &Connector) -> Result<Wire, Aborted> {
        let doing = "ask for TLS (STLS)";
        wire.send(Command::Stls).during(doing)?;
        let reply = wire.reply().await.during(doing)?.1;
        if !reply.is_ok() {
            return Err(refused(&reply, About::Other, doing));
        }
        let stream = wire.into_stream().during(doing)?;
        let stream = connector.start_tls(stream, self.account).await.map_err(aborted)?;
        Ok(Wire::new(stream, Client::after_stls(), self.account.timeout, &self.account.name))
    }

    /// Logs in; says whether UIDL and LIST were sent along.
    async fn authenticate(
        &self,
        wire: &mut Wire,
        capabilities: &Capabilities,
        stamp: Option<&[u8]>,
        known: bool,
    ) -> Result<bool, Aborted> {
        let account = self.account;
        let facts = wire.stream().tls();
        let exporter = facts.as_ref().and_then(|facts| facts.exporter);
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
        let mechanism = sasl::choose(&account.auth, offered).during("log in")?;
        let doing = format!("log in as {} ({})", account.user, mechanism.name());
        log::debug!("{}: {doing}", account.name);
        let ahead = known && self.pipelines(capabilities);
        // RFC 3206, 6: a server that announces it says [AUTH] when it means the credentials.
        let about = if capabilities.auth_resp_code() { About::Other } else { About::Credentials };
        let mut auth = Auth { login: self, wire, doing, ahead, about };
        match mechanism.sasl_name() {
            Some(name) => auth.sasl(mechanism, name, exporter, offered.plus_offered()).await?,
            None if mechanism == Mechanism::Apop => auth.apop(stamp.unwrap_or_default()).await?,
            None => auth.user_pass().await?,
        }
        Ok(ahead)
    }

    /// Says whether commands are sent ahead of answers.
    fn pipelines(&self, capabilities: &Capabilities) -> bool {
        match (self.pace, self.account.pipelining) {
            (Pace::Lockstep, _) | (_, Pipelining::Off) => false,
            (Pace::AsAnnounced, Pipelining::On) => true,
            (Pace::AsAnnounced, Pipelining::Auto) => {
                capabilities.pipelining() && !self.server.breaks_pipelining
            }
        }
    }

    /// Reads the listing; asks an unknown server for its capabilities once more, which may differ after log-in
    /// (RFC 2449, 5).
    async fn list(
        &self,
        mut wire: Wire,
        mut capabilities: Capabilities,
        known: bool,
        sent_ahead: bool,
    ) -> Result<Listed, Aborted> {
        let doing = LISTING;
        let pipelined = self.pipelines(&capabilities);
        let asks = !known && !self.server.breaks_capa && !capabilities.to_octets().is_empty();
        let mut due = Vec::new();
        if asks {
            due.push(Command::Capa);
        }
        if !sent_ahead {
            due.extend([Command::Uidl, Command::List]);
        }
        let mut due = due.into_iter();
        let mut builder = ListingBuilder::default();
        let mut uidl_refused = None;
        loop {
            // In lockstep one command follows another's answer, else all go at once.
            while (pipelined || wire.unanswered() == 0)
                && let Some(command) = due.next()
            {
                wire.send(command).during(doing)?;
            }
            if wire.unanswered() == 0 {
                break;
            }
            match wire.event().await.during(doing)? {
                Event::Reply { to: Request::Uidl, status: Status::Err, text } => {
                    uidl_refused = Some(text.to_vec());
                }
                Event::Reply { to: Request::List, status: Status::Err, text } => {
                    let reply = Reply { status: Status::Err, text };
                    return Err(refused(&reply, About::Other, "ask for sizes (LIST)"));
                }
                Event::Line { to: Request::Capa, line } => capabilities.add(line),
                Event::Line { to: Request::Uidl, line } => builder.unique_id_line(line),
                Event::Line { to: Request::List, line } => builder.size_line(line),
                Event::Line { .. } | Event::Reply { .. } | Event::Octets { .. } | Event::End { .. } => {}
            }
        }
        if let Some(said) = &uidl_refused {
            // A server that has UIDL and refuses it for once must not be taken for one that has none: every message
            // would be new under another name.
            let reply = Reply { status: Status::Err, text: said };
            if capabilities.has("UIDL") || reply.code().is_some() {
                return Err(refused(&reply, About::Other, "ask for unique-ids (UIDL)"));
            }
        }
        let listing = builder.build();
        if listing.garbage() > 0 {
            log::warn!(
                "{}: server sent {} listing lines that mean nothing",
                self.account.name,
                listing.garbage()
            );
        }
        let pipelined = self.pipelines(&capabilities);
        Ok(Listed { wire, capabilities, pipelined, listing, uidl_refused })
    }

    /// Asks a server that refused the log-in for its capabilities; gives them if they offer another way to log in than
    /// those that were known, and the server is still there.
    async fn another_way(&self, wire: &mut Wire, known: &Capabilities) -> Option<Capabilities> {
        // The answers to what was sent ahead come first.
        while wire.unanswered() > 0 {
            wire.event().await.ok()?;
        }
        let fresh = ask_capabilities(wire).await.ok()?;
        let offers_as_before = fresh.sasl() == known.sasl() && fresh.has("USER") == known.has("USER");
        (!offers_as_before).then_some(fresh)
    }
}

impl Auth<'_> {
    async fn user_pass(&mut self) -> Result<(), Aborted> {
        let secret = self.login.secret;
        self.wire.send(Command::User(&self.login.account.user)).during(self.doing.as_str())?;
        if self.ahead {
            self.wire.send(Command::Pass(secret)).during(self.doing.as_str())?;
            self.listing()?;
        }
        self.accepted(self.about).await?;
        if !self.ahead {
            self.wire.send(Command::Pass(secret)).during(self.doing.as_str())?;
        }
        self.accepted(self.about).await
    }

    async fn apop(&mut self, stamp: &[u8]) -> Result<(), Aborted> {
        let digest = apop::digest(stamp, self.login.secret);
        self.wire.send(Command::Apop(&self.login.account.user, &digest)).during(self.doing.as_str())?;
        if self.ahead {
            self.listing()?;
        }
        self.accepted(self.about).await
    }

    async fn sasl(
        &mut self,
        mechanism: Mechanism,
        name: &'static str,
        exporter: Option<[u8; 32]>,
        plus_offered: bool,
    ) -> Result<(), Aborted> {
        let account = self.login.account;
        let credentials = Credentials {
            user: &account.user,
            secret: self.login.secret,
            host: &account.host,
            exporter,
            plus_offered,
        };
        let mut exchange = Exchange::new(mechanism, &credentials).during(self.doing.as_str())?;
        let mut initial = exchange.initial();
        // Some servers ignore what came along with AUTH, and ask for it.
        let mut again = initial.clone();
        if let Some(response) = initial.take_if(|response| Command::initial_response_fits(name, response)) {
            self.wire.send(Command::Auth(name, Some(&response))).during(self.doing.as_str())?;
            if self.ahead && exchange.is_complete() {
                self.listing()?;
            }
        } else {
            self.wire.send(Command::Auth(name, None)).during(self.doing.as_str())?;
        }
        let mut ended = false;
        let mut listed = self.ahead && exchange.is_complete() && initial.is_none();
        loop {
            let (to, reply) = self.wire.reply().await.during(self.doing.as_str())?;
            if to != Request::Auth {
                let line = reply.text.to_vec();
                let out_of_step: WireError = ProtocolError::NotAReply { to: Request::Auth, line }.into();
                return Err(out_of_step).during(self.doing.as_str());
            }
            // Some servers write `+OK` where the challenge's `+` belongs; while the exchange has more to say, that is
            // what it means.
            let challenge = match reply.status {
                Status::Err => return Err(refused(&reply, self.about, &self.doing)),
                Status::Ok if exchange.is_complete() && initial.is_none() => break,
                Status::Ok | Status::Continue => reply.text.to_vec(),
            };
            let response = match initial.take() {
                Some(response) => Ok(response),
                None if exchange.is_complete() && !ended => {
                    ended = true;
                    // Asked once more for the first message, or told a failure's details; an empty line has the
                    // refusal said then.
                    Ok(again.take().filter(|_| challenge.is_empty()).unwrap_or_default())
                }
                None if exchange.is_complete() => {
                    let line = b"+".to_vec();
                    let endless: WireError = ProtocolError::NotAReply { to: Request::Auth, line }.into();
                    return Err(endless).during(self.doing.as_str());
                }
                None => {
                    let challenge = STANDARD.decode(challenge.trim_ascii()).unwrap_or_default();
                    // SCRAM derives a key, some milliseconds of work, off the thread that serves all accounts.
                    let (back, response) = tokio::task::spawn_blocking(move || {
                        let response = exchange.respond(&challenge);
                        (exchange, response)
                    })
                    .await
                    .unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()));
                    exchange = back;
                    response
                }
            };
            match response {
                Ok(response) => self.wire.send(Command::Response(&response)).during(self.doing.as_str())?,
                Err(error) => {
                    // The server is told (RFC 5034, 4), and says -ERR to it, or nothing: the error is this one.
                    if self.wire.send(Command::Cancel).is_ok() {
                        let _ = self.wire.reply().await;
                    }
                    return Err(error).during(self.doing.as_str());
                }
            }
            if self.ahead && !listed && exchange.is_complete() {
                self.listing()?;
                listed = true;
            }
        }
        exchange.finish().during(self.doing.as_str())
    }

    /// Sends UIDL and LIST along with the last message of the log-in. If that is refused, so are they.
    fn listing(&mut self) -> Result<(), Aborted> {
        self.wire.send(Command::Uidl).during(self.doing.as_str())?;
        self.wire.send(Command::List).during(self.doing.as_str())
    }

    async fn accepted(&mut self, about: About) -> Result<(), Aborted> {
        let reply = self.wire.reply().await.during(self.doing.as_str())?.1;
        if reply.is_ok() { Ok(()) } else { Err(refused(&reply, about, &self.doing)) }
    }
}

/// Asks for capabilities. A server that has no CAPA has none.
async fn ask_capabilities(wire: &mut Wire) -> Result<Capabilities, WireError> {
    let mut capabilities = Capabilities::default();
    wire.send(Command::Capa)?;
    loop {
        match wire.event().await? {
            Event::Reply { status: Status::Err, .. } | Event::End { .. } => return Ok(capabilities),
            Event::Line { line, .. } => capabilities.add(line),
            Event::Reply { .. } | Event::Octets { .. } => {}
        }
    }
}

/// Says whether a refusal may come from capabilities that are out of date, rather than from the credentials.
fn asks_again(trouble: &Trouble) -> bool {
    match trouble {
        Trouble::NoMechanism(_) => true,
        Trouble::Refused { code, .. } => code.is_none(),
        _ => false,
    }
}

fn refused(reply: &Reply<'_>, about: About, doing: &str) -> Aborted {
    Aborted { doing: doing.into(), trouble: Trouble::refused(reply, about) }
}

/// A failed connect says itself what was being done.
pub fn aborted(error: crate::net::NetError) -> Aborted {
    Aborted { doing: error.doing(), trouble: error.into() }
}
