//! The way to a mailbox: TCP, TLS, log-in, and the folder's name on its server.

use std::time::Duration;

use super::dialogue::{At, Broken, Dialogue, Word};
use super::judge::{self, Blame};
use crate::config;
use crate::config::account::TlsMode;
use crate::delivery::{Access, ServerError, TargetError};
use crate::failure::{Class, meaning, speaks_of_a_lock};
use crate::imap::{Client, Command, Kind, Mailbox, Status};
use crate::line::AuthLine;
use crate::net::auth::{self, Answer, Carrier, Left};
use crate::net::{self, Endpoint, Moment, NetError, Stage, Stream};
use crate::sasl::{
    self, Auth, Credentials, Exchange, Mechanism, Offered, Protection, SaslError, TokenRefused, User,
    WITH_TOKENS, WITHIN_THE_MACHINE,
};
use crate::secret::{Secret, masked};
use crate::text::Shown;

/// Octets of a command line with an initial response, where the server takes one (RFC 9051, 4 has 8,000 for a line).
const LONGEST_LINE: usize = 8000;

fn announced(moment: Moment, dialogue: &Dialogue) -> Stage {
    Stage::announced(moment, dialogue.capabilities.names().map(str::as_bytes))
}

/// A folder as its server knows it.
#[derive(Debug, Clone)]
pub(super) struct Opened {
    pub(super) mailbox: Mailbox,
    /// Where what is in doubt is looked for.
    pub(super) asked: Mailbox,
    /// What that is at.
    pub(super) at: At,
    /// Octets of a message that the folder takes at most, if it is one of those that differ.
    pub(super) append_limit: Option<u64>,
}

/// One use of a target, to name it in errors.
#[derive(Clone, Copy)]
pub(super) struct Connecting<'a> {
    pub(super) target: &'a config::Mailbox,
    pub(super) access: &'a Access,
}

impl Connecting<'_> {
    pub(super) async fn connect(self) -> Result<Dialogue, TargetError> {
        let mut dialogue = self.dialogue().await?;
        let broken = |broken| self.broken(broken);
        let greeting = dialogue.greeting().await.map_err(|broken| self.not_greeted(broken))?;
        if greeting.kind == Kind::Bye {
            return Err(self.refused("server refused the session", &greeting, Class::Target, None));
        }
        let watch = self.access.connector.watch();
        watch.saw(|| Stage::greeted(greeting.to_string().as_bytes()));
        if self.target.route.tls.mode == TlsMode::StartTls {
            if greeting.kind == Kind::PreAuth {
                return Err(
                    self.failed("server logs us in before TLS, which it cannot start then".into(), None)
                );
            }
            dialogue = self.start_tls(dialogue).await?;
        }
        if greeting.kind != Kind::PreAuth {
            dialogue.learn_capabilities().await.map_err(broken)?;
            watch.saw(|| announced(Moment::BeforeLogIn, &dialogue));
            if let Some(secret) = &self.access.secret {
                self.log_in(&mut dialogue, secret).await?;
                watch.saw(|| Stage::LoggedIn);
            }
        }
        dialogue.learn_capabilities().await.map_err(broken)?;
        watch.saw(|| announced(Moment::AfterLogIn, &dialogue));
        if dialogue.capabilities.enables_utf8() {
            let enabled = dialogue.command(Command::Enable("UTF8=ACCEPT")).await.map_err(broken)?;
            self.accept("server refused ENABLE UTF8=ACCEPT", enabled)?;
        }
        Ok(dialogue)
    }

    async fn dialogue(self) -> Result<Dialogue, TargetError> {
        let endpoint = self.endpoint();
        let stream = self.access.connector.connect(endpoint).await.map_err(|error| self.net(error))?;
        Ok(self.over(stream, Client::new()))
    }

    fn endpoint(&self) -> Endpoint<'_> {
        let config::Mailbox { host, port, route, .. } = self.target;
        Endpoint::of_target(&self.access.account, (host, *port), route, self.access.timeout)
    }

    fn timeout(&self) -> Duration {
        self.target.route.timeout.unwrap_or(self.access.timeout)
    }

    fn over(&self, stream: Stream, protocol: Client) -> Dialogue {
        let stop = self.access.stop.clone();
        let mut dialogue = Dialogue::new(stream, protocol, &self.access.account, self.timeout(), stop);
        self.access.secret.iter().for_each(|secret| dialogue.conceal(secret.clone()));
        dialogue
    }

    /// RFC 9051, 6.2.1: what was said before the handshake, capabilities too, may be anybody's.
    async fn start_tls(self, mut dialogue: Dialogue) -> Result<Dialogue, TargetError> {
        let broken = |broken| self.broken(broken);
        dialogue.learn_capabilities().await.map_err(broken)?;
        if !dialogue.capabilities.has("STARTTLS") {
            let hint =
                "write `tls: implicit` if it has a port for that; without TLS nothing is sent".to_owned();
            return Err(self.failed("server does not offer STARTTLS".into(), Some(hint)));
        }
        let status = dialogue.command(Command::StartTls).await.map_err(broken)?;
        self.accept("server refused STARTTLS", status)?;
        let stream = dialogue.into_stream().map_err(broken)?;
        let stream = self.access.connector.start_tls(stream, self.endpoint()).await;
        Ok(self.over(stream.map_err(|error| self.net(error))?, Client::after_starttls()))
    }

    async fn log_in(self, dialogue: &mut Dialogue, secret: &Secret) -> Result<(), TargetError> {
        let capabilities = dialogue.capabilities.clone();
        let names = capabilities.mechanisms();
        let facts = dialogue.stream().tls();
        let protection = if facts.is_some() { Protection::Protected } else { Protection::Plain };
        let exporter = facts.and_then(|facts| facts.exporter);
        let offered = Offered {
            sasl: &names,
            user: if capabilities.has("LOGINDISABLED") { User::Absent } else { User::Announced },
            apop_stamp: false,
            tls: protection,
            client_certificate: self.target.route.tls.client.is_some(),
            tokens: self.target.login.credential.oauth2().is_some(),
            exporter: exporter.is_some(),
        };
        let auth = match (protection, &self.target.auth) {
            (Protection::Plain | Protection::Announced, Auth::Auto) if offered.tokens => {
                Auth::List(WITH_TOKENS.to_vec())
            }
            (Protection::Plain | Protection::Announced, Auth::Auto) => {
                Auth::List(WITHIN_THE_MACHINE.to_vec())
            }
            (Protection::Plain | Protection::Announced | Protection::Protected, auth) => auth.clone(),
        };
        let mechanism = sasl::choose(&auth, offered)
            .map_err(|error| self.failed(error.to_string(), Some(error.hint().to_owned())))?;
        self.access.connector.watch().saw(|| Stage::chosen(&auth, &offered, mechanism));
        let user = &self.target.login.user;
        let Some(name) = mechanism.sasl_name() else {
            // RFC 9051, 6.2.3: then it must not be sent, whatever is configured.
            if capabilities.has("LOGINDISABLED") {
                let hint = (protection == Protection::Plain)
                    .then(|| "write `tls: starttls`: many servers take a password only then".to_owned());
                return Err(self.failed("server does not take LOGIN (LOGINDISABLED)".into(), hint));
            }
            if !user.is_ascii() || !secret.reveal().is_ascii() {
                let what =
                    "user or password is not ASCII, which LOGIN cannot send; server offers no AUTHENTICATE";
                return Err(self.failed(what.into(), None));
            }
            let answered = dialogue.command(Command::Login(user, secret)).await;
            let status = answered.map_err(|broken| self.hung_up(broken, "LOGIN"))?;
            return if status.is_ok() { Ok(()) } else { Err(self.turned_away(&status, "LOGIN")) };
        };
        let credentials = Credentials { user, secret, exporter, plus_offered: offered.plus_offered() };
        let exchange = Exchange::new(mechanism, &credentials).map_err(|error| self.sasl(&error))?;
        if capabilities.has("SASL-IR") {
            let mut log_in = LogIn::<LONGEST_LINE> { connecting: self, dialogue, name };
            auth::authenticate(&mut log_in, name, exchange).await
        } else {
            let mut log_in = LogIn::<0> { connecting: self, dialogue, name };
            auth::authenticate(&mut log_in, name, exchange).await
        }
    }

    /// Finds the folder, and makes it if it is missing and may be made.
    pub(super) async fn open(self, dialogue: &mut Dialogue) -> Result<Opened, TargetError> {
        let mailbox = self.mailbox(dialogue).await?;
        let broken = |broken| self.broken(broken);
        let status = dialogue.command(Command::Status(&mailbox)).await.map_err(broken)?;
        let at = match status.is_ok() {
            true => dialogue.told.at(),
            false => {
                self.create(dialogue, &mailbox, &status).await?;
                self.look_at(dialogue, &mailbox).await?
            }
        };
        let Some(at) = at else {
            return Err(self.failed("server tells no UIDVALIDITY or UIDNEXT of the folder".into(), None));
        };
        self.access.connector.watch().saw(|| Stage::Opened(self.target.folder.clone()));
        let append_limit = self.append_limit(dialogue, &mailbox).await?;
        let (asked, at) = self.all_mail(dialogue).await?.unwrap_or_else(|| (mailbox.clone(), at));
        Ok(Opened { mailbox, asked, at, append_limit })
    }

    /// Asks what the folder is at; `None`: the server does not tell.
    pub(super) async fn look_at(
        self,
        dialogue: &mut Dialogue,
        mailbox: &Mailbox,
    ) -> Result<Option<At>, TargetError> {
        let status =
            dialogue.command(Command::Status(mailbox)).await.map_err(|broken| self.broken(broken))?;
        self.accept(&format!("server does not show the folder {}", self.target.folder), status)?;
        Ok(dialogue.told.at())
    }

    /// Finds the folder that has the messages of all others, at a provider whose folders are labels: what the user takes out
    /// of one stays there. `None`: the server does not show it.
    async fn all_mail(self, dialogue: &mut Dialogue) -> Result<Option<(Mailbox, At)>, TargetError> {
        let has_all = self.target.provider.is_some_and(|provider| provider.has_all_mail);
        if !has_all || !dialogue.capabilities.has("SPECIAL-USE") {
            return Ok(None);
        }
        let broken = |broken| self.broken(broken);
        dialogue.command(Command::SpecialUse).await.map_err(broken)?;
        let Some(all) = dialogue.told.all.take() else { return Ok(None) };
        let status = dialogue.command(Command::Status(&all)).await.map_err(broken)?;
        Ok(dialogue.told.at().filter(|_| status.is_ok()).map(|at| (all, at)))
    }

    /// Asks for the limit of the folder where the server says that each has its own (RFC 7889, 3).
    async fn append_limit(
        self,
        dialogue: &mut Dialogue,
        mailbox: &Mailbox,
    ) -> Result<Option<u64>, TargetError> {
        if !dialogue.capabilities.has("APPENDLIMIT") {
            return Ok(None);
        }
        // What it refuses to tell it says by refusing messages.
        let asked = dialogue.command(Command::AppendLimit(mailbox)).await;
        asked.map_err(|broken| self.broken(broken))?;
        Ok(dialogue.told.append_limit)
    }

    /// Makes the folder, of which the server has said that it is not there.
    pub(super) async fn create(
        self,
        dialogue: &mut Dialogue,
        mailbox: &Mailbox,
        missing: &Status,
    ) -> Result<(), TargetError> {
        let folder = &self.target.folder;
        if let Blame::Target(class) = judge::blame(missing, 0) {
            return Err(self.refused(&format!("cannot use the folder {folder}"), missing, class, None));
        }
        if !self.target.create {
            let hint = Some("make it, or write `create: true`".to_owned());
            return Err(self.refused(&format!("there is no folder {folder}"), missing, Class::Target, hint));
        }
        let created =
            dialogue.command(Command::Create(mailbox)).await.map_err(|broken| self.broken(broken))?;
        // Another session may have been first.
        if created.is_ok() || created.code().as_deref() == Some("ALREADYEXISTS") {
            log::info!("{}: target: made the folder {folder}", self.access.account);
            return Ok(());
        }
        let what = format!("server refused to make the folder {folder}");
        Err(self.refused(&what, &created, judge::class(&created), None))
    }

    /// Spells the folder's name as the server does: with its separator, in the user's own namespace.
    async fn mailbox(self, dialogue: &mut Dialogue) -> Result<Mailbox, TargetError> {
        let folder = &self.target.folder;
        let charset = dialogue.capabilities.charset();
        if folder.eq_ignore_ascii_case("INBOX") {
            return Ok(Mailbox::new(folder, charset));
        }
        let broken = |broken| self.broken(broken);
        let (prefix, separator) = if dialogue.capabilities.has("NAMESPACE") {
            dialogue.command(Command::Namespace).await.map_err(broken)?;
            dialogue.told.namespace.take().unwrap_or_default()
        } else {
            dialogue.command(Command::Separator).await.map_err(broken)?;
            (String::new(), dialogue.told.separator)
        };
        let name = match separator {
            Some(separator) => folder.replace('/', &separator.to_string()),
            None if folder.contains('/') => {
                return Err(
                    self.failed(format!("server has no folders within folders, as {folder} is"), None)
                );
            }
            None => folder.clone(),
        };
        let name = if name.starts_with(&prefix) { name } else { prefix + &name };
        Ok(Mailbox::new(&name, charset))
    }

    pub(super) fn failed(self, what: String, hint: Option<String>) -> TargetError {
        self.error(what, None, Class::Target, hint)
    }

    pub(super) fn refused(
        self,
        what: &str,
        status: &Status,
        class: Class,
        hint: Option<String>,
    ) -> TargetError {
        self.error(what.to_owned(), Some(status.to_string()), class, hint)
    }

    pub(super) fn broken(self, broken: Broken) -> TargetError {
        self.error(broken.what, broken.said, Class::Target, None)
    }

    fn not_greeted(self, broken: Broken) -> TargetError {
        let line = broken.said.as_ref().map(String::as_bytes);
        let is_told = broken.is_silence || line.is_some();
        let usual = "IMAP is usually on port 993 or 143";
        let hint = is_told.then(|| net::another_server(line, self.target.route.tls.mode, usual)).flatten();
        self.error(broken.what, broken.said, Class::Target, hint)
    }

    fn error(self, what: String, said: Option<String>, class: Class, hint: Option<String>) -> TargetError {
        let secrets: Vec<&Secret> = self.access.secret.iter().collect();
        // Some servers say again what they were sent.
        let said = said.map(|said| masked(said.as_bytes(), &secrets));
        let place = self.target.server();
        TargetError::Server(Box::new(ServerError { place, what, said, hint, class }))
    }

    fn accept(self, what: &str, status: Status) -> Result<(), TargetError> {
        if status.is_ok() { Ok(()) } else { Err(self.refused(what, &status, judge::class(&status), None)) }
    }

    /// Says why a log-in ended with the session; some servers say so in their goodbye.
    fn hung_up(self, broken: Broken, name: &str) -> TargetError {
        match &broken.bye {
            Some(bye) if bye.code().is_some() => self.turned_away(bye, name),
            Some(_) | None => self.broken(broken),
        }
    }

    /// Says that the server refused the log-in, and why.
    fn turned_away(self, status: &Status, name: &str) -> TargetError {
        let what =
            format!("server refused the log-in as {} ({name})", Shown(self.target.login.user.as_bytes()));
        let code = status.code();
        let passes = judge::is_the_targets(code.as_deref())
            || code.is_none() && speaks_of_a_lock(status.to_string().as_bytes());
        if passes {
            return self.refused(&what, status, Class::Target, None);
        }
        let meaning = meaning(status.to_string().as_bytes());
        let hint = match self.target.provider {
            _ if meaning.is_some() => meaning.unwrap_or_default().to_owned(),
            _ if self.target.login.credential.oauth2().is_some() => {
                format!("run `postrider login {}` and sign in as the target's user", self.access.account)
            }
            Some(provider) => format!(
                "{} takes an app password here, which is made in the account's security settings; has it been revoked?",
                provider.name
            ),
            None if self.target.auth == Auth::List(vec![Mechanism::External]) => {
                "check `user` and `tls_client_cert` of the target: is that user's the name in the certificate?".to_owned()
            }
            // A URL has no keys, and a typed password no place.
            None => "check `user` and `password` of the target, or what was typed for it; many providers take an app \
                     password alone, made in the account's security settings"
                .to_owned(),
        };
        self.refused(&what, status, Class::Credentials, Some(hint))
    }

    fn sasl(self, error: &SaslError) -> TargetError {
        self.failed(format!("cannot log in: {error}"), error.hint())
    }

    fn net(self, error: NetError) -> TargetError {
        self.failed(error.to_string(), error.hint_of_target())
    }
}

/// An exchange (RFC 9051, 6.2.2) whose initial response goes along if the line is not longer than this.
struct LogIn<'a, const LINE: usize> {
    connecting: Connecting<'a>,
    dialogue: &'a mut Dialogue,
    name: &'static str,
}

impl<const LINE: usize> Carrier for LogIn<'_, LINE> {
    type Error = TargetError;

    const LONGEST_LINE: usize = LINE;

    async fn say(&mut self, line: AuthLine<'_>, _left: Left) -> Result<Answer, TargetError> {
        let said = self.dialogue.say(Command::Authenticate(line)).await;
        match said.map_err(|broken| self.connecting.hung_up(broken, self.name))? {
            Word::Continue(challenge) => Ok(Answer::Challenge(challenge)),
            Word::Answer(_, status) if status.is_ok() => Ok(Answer::Accepted),
            Word::Answer(_, status) => Err(self.connecting.turned_away(&status, self.name)),
        }
    }

    fn failed(&self, error: SaslError) -> TargetError {
        self.connecting.sasl(&error)
    }

    fn explained(&self, refusal: TargetError, why: &TokenRefused) -> TargetError {
        refusal.because(why.to_string())
    }

    fn one_too_many(&self) -> TargetError {
        self.connecting.failed(format!("server asked for more than {} has to say", self.name), None)
    }

    fn words<'e>(&self, refusal: &'e TargetError) -> Option<&'e [u8]> {
        refusal.said()
    }
}
