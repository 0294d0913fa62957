//! Refused log-ins must lock nobody out: what is remembered of them, when the next one may be tried, and whether it was
//! the credentials that the server refused.

use memchr::memmem;
use pbkdf2::pbkdf2_hmac;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::config::{Account, Proxy, Target};
use crate::disk::blocking;
use crate::failure::{Class, speaks_of_a_lock};
use crate::secret::Secret;
use crate::state::{LogInRefused, LogInWorked, LogIns, Timestamp};

use super::Retry;

/// How long after a refusal nobody but a person tries again: after each of the first two refusals in a row ...
const WAIT: Timestamp = 15 * 60;
/// ... and after each later one.
const LONG_WAIT: Timestamp = 60 * 60;
/// Refusals in a row after which the wait is short; as many are no word on credentials that worked lately: some servers
/// report throttling as a wrong password.
const FIRST: u32 = 2;
/// Credentials that worked within this many seconds worked lately.
const LATELY: Timestamp = 24 * 60 * 60;
/// Response codes that speak of nothing but the credentials.
const CREDENTIALS: [&[u8]; 2] = [b"[AUTHENTICATIONFAILED]", b"[EXPIRED]"];
/// Rounds of PBKDF2 for the digest by which refused credentials are known again; it must not help who reads the
/// state file to guess a password. The tests guess nothing.
const ROUNDS: u32 = if cfg!(test) { 1 } else { 50_000 };
const SALT: usize = 16;

/// A log-in that the server refused, and what follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub said: Vec<u8>,
    /// What kind of trouble that is.
    pub class: Class,
    pub at: Timestamp,
    /// Until then nobody but a person tries again.
    pub until: Timestamp,
}

impl Refusal {
    fn remembered(refused: &LogInRefused) -> Self {
        Self {
            said: refused.said.clone(),
            // Another version may have written what is not known here.
            class: refused.class.unwrap_or(Class::Credentials),
            at: refused.at,
            until: until(refused),
        }
    }
}

/// What a refusal says of the credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// What its class and words say. Servers report throttling as a wrong password.
    Of(Class),
    /// They are refused: a provider of tokens says so by a code.
    Certain,
}

/// Everything that decides over a log-in: the same again would be refused again.
pub struct Attempted(Zeroizing<Vec<u8>>);

impl Attempted {
    /// One at the account's server.
    pub fn at_source(account: &Account, secret: &Secret) -> Self {
        let way = (account.port, &account.tls, &account.auth, &account.connect, account.bind);
        // Only whether it is the same matters; another version's words for it cost one log-in.
        let way = format!("{way:?}{}", through(account.proxy.as_ref()));
        Self::of([account.user.as_bytes(), account.host.as_bytes(), way.as_bytes()], &[secret])
    }

    /// One at the server of a target, by this user, with these secrets.
    pub fn at_target(target: &Target, user: &str, secrets: &[&Secret]) -> Self {
        let way = match target {
            Target::Smtp(server) | Target::Lmtp(server) => format!("{:?}", server.address),
            Target::Imap(mailbox) => format!("{:?}", (mailbox.port, &mailbox.auth)),
            Target::Gmail(gmail) => gmail.url.to_string(),
            Target::Http(receiver) => receiver.url.to_string(),
            Target::Maildir(_) | Target::Mbox(_) | Target::Pipe(_) => String::new(),
        };
        let route = target.route();
        let proxy = through(route.and_then(|route| route.proxy.as_ref()));
        let way = format!("{way}{:?}{proxy}", route.map(|route| (&route.tls, route.bind)));
        Self::of([user.as_bytes(), target.server().unwrap_or_default().as_bytes(), way.as_bytes()], secrets)
    }

    fn of(parts: [&[u8]; 3], secrets: &[&Secret]) -> Self {
        let mut what = Zeroizing::new(Vec::new());
        for part in parts.into_iter().chain(secrets.iter().map(|secret| secret.reveal())) {
            what.extend_from_slice(&(part.len() as u64).to_be_bytes());
            what.extend_from_slice(part);
        }
        Self(what)
    }
}

/// Tells proxies apart, by each of which the server sees another address; without one there is nothing to tell.
fn through(proxy: Option<&Proxy>) -> String {
    proxy.map(ToString::to_string).unwrap_or_default()
}

/// Says until when refused credentials wait.
fn until(refused: &LogInRefused) -> Timestamp {
    refused.at.saturating_add(if refused.count > FIRST { LONG_WAIT } else { WAIT })
}

/// Refuses to try credentials that the server has refused until their wait is over, or they have changed. A person has
/// one try.
pub async fn may_try(
    attempted: &Attempted,
    memory: &LogIns,
    now: Timestamp,
    retry: Retry,
) -> Result<(), Refusal> {
    let Some(refused) = &memory.refused else { return Ok(()) };
    // A refusal to come was noted by a clock that was wrong.
    let waits = refused.at <= now && now < until(refused);
    if !waits || retry == Retry::Now {
        return Ok(());
    }
    let salt = refused.credentials.get(..SALT).unwrap_or_default().to_vec();
    let same = digest(attempted, salt).await.ct_eq(&refused.credentials);
    if same.into() { Err(Refusal::remembered(refused)) } else { Ok(()) }
}

/// Takes note of a refusal, and judges what it is about: by the class of its response code, its words, and whether the
/// credentials worked lately.
pub async fn refused(
    attempted: &Attempted,
    memory: &LogIns,
    now: Timestamp,
    (said, word): (&[u8], Word),
) -> (LogInRefused, Refusal) {
    let before = memory.refused.as_ref();
    let salt = before.and_then(|before| before.credentials.get(..SALT)).map_or_else(salt, <[u8]>::to_vec);
    let credentials = digest(attempted, salt).await;
    let count = before.filter(|before| before.credentials == credentials).map_or(0, |before| before.count);
    let count = count.saturating_add(1);
    let class = match word {
        Word::Of(class @ (Class::InUse | Class::LoginDelay | Class::Refused)) => class,
        // RFC 5530: said of nothing but the credentials.
        Word::Of(_) if CREDENTIALS.iter().any(|code| memmem::find(said, code).is_some()) => {
            Class::Credentials
        }
        Word::Of(_) if speaks_of_a_lock(said) => Class::Refused,
        Word::Of(_) if count <= FIRST && worked_lately(attempted, memory, now) => Class::Refused,
        Word::Of(_) | Word::Certain => Class::Credentials,
    };
    let refused = LogInRefused { at: now, count, credentials, said: said.to_vec(), class: Some(class) };
    let refusal = Refusal::remembered(&refused);
    (refused, refusal)
}

/// Takes note that the credentials work.
pub fn worked(attempted: &Attempted, memory: &LogIns) -> LogInWorked {
    let salt = memory.mark.as_deref().and_then(|mark| mark.get(..SALT)).map_or_else(salt, <[u8]>::to_vec);
    LogInWorked { mark: mark(attempted, salt) }
}

/// Says whether these very credentials worked within the last day.
fn worked_lately(attempted: &Attempted, memory: &LogIns, now: Timestamp) -> bool {
    let lately = memory.ok_at.is_some_and(|at| at <= now && now - at <= LATELY);
    lately
        && memory.mark.as_deref().is_none_or(|known| {
            let salt = known.get(..SALT).unwrap_or_default().to_vec();
            mark(attempted, salt) == known
        })
}

/// Digests what decides over a log-in, behind its salt. Runs beside the async threads.
async fn digest(attempted: &Attempted, salt: Vec<u8>) -> Vec<u8> {
    let what = attempted.0.clone();
    blocking::compute(move || {
        let mut digest = [0; 32];
        pbkdf2_hmac::<Sha256>(&what, &salt, ROUNDS, &mut digest);
        [salt.as_slice(), &digest].concat()
    })
    .await
}

/// Gives one octet of a digest, behind its salt: enough to notice that credentials have changed, at no cost for the
/// polls that succeed, and too little to guess a password by.
fn mark(attempted: &Attempted, salt: Vec<u8>) -> Vec<u8> {
    let digest = Sha256::new().chain_update(&salt).chain_update(&*attempted.0).finalize();
    [salt.as_slice(), &digest[..1]].concat()
}

fn salt() -> Vec<u8> {
    let mut salt = vec![0; SALT];
    // Without randomness the digest is merely easier to guess.
    let _ = getrandom::fill(&mut salt);
    salt
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::pop3::Reply;
    use crate::source::class_of_refused_log_in;

    const MINUTE: Timestamp = 60;
    const DAY: Timestamp = 24 * 60 * MINUTE;
    const NOW: Timestamp = 1000 * DAY;

    fn account(yaml: &str) -> Account {
        let text =
            format!("accounts: {{ a: {{ host: a.example, user: a, {yaml}, deliver: {{ maildir: /m }} }} }}");
        let config = Config::from_yaml(&text, std::path::Path::new("config.yaml")).unwrap();
        config.accounts.into_iter().next().unwrap()
    }

    fn secret(text: &str) -> Secret {
        Secret::new(text.as_bytes().to_vec())
    }

    fn attempted(yaml: &str, password: &str) -> Attempted {
        Attempted::at_source(&account(yaml), &secret(password))
    }

    /// An account, and what is remembered of its log-ins.
    struct Client {
        account: Account,
        secret: Secret,
        memory: LogIns,
    }

    impl Client {
        fn new() -> Self {
            let memory = LogIns::default();
            Self { account: account("password: x"), secret: secret("x"), memory }
        }

        fn attempted(&self) -> Attempted {
            Attempted::at_source(&self.account, &self.secret)
        }

        /// Polls; `None`: the log-in was not tried, and this is what is told of it.
        async fn poll(&mut self, at: Timestamp, retry: Retry, line: &str) -> Result<Class, Refusal> {
            may_try(&self.attempted(), &self.memory, at, retry).await?;
            let reply = Reply::parse(line.as_bytes()).unwrap();
            if reply.is_ok() {
                let LogInWorked { mark } = worked(&self.attempted(), &self.memory);
                self.memory = LogIns { ok_at: Some(at), mark: Some(mark), refused: None };
                return Ok(Class::Stopped);
            }
            let said = (reply.text, Word::Of(class_of_refused_log_in(reply.text)));
            let (record, refusal) = refused(&self.attempted(), &self.memory, at, said).await;
            self.memory.refused = Some(record);
            Ok(refusal.class)
        }

        /// Polls each five minutes, as a crontab does; gives the minutes at which it logged in.
        async fn cron(&mut self, line: &str) -> Vec<Timestamp> {
            let mut tried = Vec::new();
            for minute in (0..24 * 60).step_by(5) {
                match self.poll(NOW + minute * MINUTE, Retry::InTime, line).await {
                    Ok(_) => tried.push(minute),
                    Err(refusal) => assert_eq!(refusal.said, Reply::parse(line.as_bytes()).unwrap().text),
                }
            }
            tried
        }
    }

    #[tokio::test]
    async fn a_day_of_cron_makes_twenty_six_log_ins_whatever_the_server_says() {
        let mut expected = vec![0, 15];
        expected.extend((30..24 * 60).step_by(60));
        assert_eq!(expected.len(), 26);
        for line in [
            "-ERR",
            "-ERR [AUTH] no",
            "-ERR [IN-USE] another session",
            "-ERR [LOGIN-DELAY] too soon",
            "-ERR [SYS/TEMP] later",
            "-ERR [SYS/PERM] never",
            "-ERR [OTHER] what",
            "-ERR wrong",
            "-ERR internal server error",
        ] {
            assert_eq!(Client::new().cron(line).await, expected, "{line}");
            let mut worked = Client::new();
            worked.poll(NOW - MINUTE, Retry::InTime, "+OK").await.unwrap();
            assert_eq!(worked.cron(line).await, expected, "{line}, after the credentials worked");
        }
    }

    #[tokio::test]
    async fn a_person_has_one_try_and_success_forgets_all_refusals() {
        let mut client = Client::new();
        client.poll(NOW, Retry::InTime, "-ERR no").await.unwrap();
        assert!(client.poll(NOW + 1, Retry::InTime, "-ERR no").await.is_err());
        assert!(client.poll(NOW + 1, Retry::Now, "-ERR no").await.is_ok());
        let waits = client.poll(NOW + 2, Retry::InTime, "-ERR no").await.unwrap_err();
        assert_eq!((waits.at, waits.until), (NOW + 1, NOW + 1 + WAIT));
        client.poll(NOW + 3, Retry::Now, "+OK").await.unwrap();
        assert!(client.poll(NOW + 4, Retry::InTime, "-ERR no").await.is_ok());
    }

    #[tokio::test]
    async fn other_credentials_and_another_way_to_the_server_are_tried_at_once() {
        let mut client = Client::new();
        client.poll(NOW, Retry::InTime, "-ERR no").await.unwrap();
        let memory = client.memory;
        for (yaml, password) in [
            ("password: x", "y"),
            ("password: x, port: 110", "x"),
            ("password: x, tls: starttls", "x"),
            ("password: x, auth: [plain]", "x"),
            ("password: x, connect: cat", "x"),
            ("password: x, bind: 127.0.0.1", "x"),
            ("password: x, proxy: 'socks5://proxy'", "x"),
        ] {
            let other = attempted(yaml, password);
            let may = may_try(&other, &memory, NOW + 1, Retry::InTime).await;
            assert_eq!(may, Ok(()), "{yaml} {password}");
            let (record, _) = refused(&other, &memory, NOW + 1, (b"no", Word::Of(Class::Credentials))).await;
            assert_eq!(record.count, 1, "{yaml} {password}");
        }
        let same = attempted("password: { command: echo x }, keep: none", "x");
        assert!(may_try(&same, &memory, NOW + 1, Retry::InTime).await.is_err());
    }

    #[test]
    fn another_way_to_a_targets_server_is_another_log_in() {
        let attempted = |way: &str| {
            let text = format!(
                "accounts: {{ a: {{ host: h, user: a, deliver: {{ smtp: {{ host: mx, tls: implicit, user: u, password: x, to: [a], {way} }} }} }} }}"
            );
            let config = Config::from_yaml(&text, std::path::Path::new("config.yaml")).unwrap();
            Attempted::at_target(&config.accounts[0].deliver[0].target, "u", &[&secret("x")]).0
        };
        let plain = attempted("timeout: 9s");
        assert_eq!(attempted("timeout: 8s"), plain);
        for way in ["port: 26", "tls_min: '1.3'", "bind: 127.0.0.1", "proxy: 'socks5://proxy'"] {
            assert_ne!(attempted(way), plain, "{way}");
        }
    }

    #[tokio::test]
    async fn a_refusal_that_a_wrong_clock_noted_keeps_nobody_waiting() {
        let mut client = Client::new();
        client.poll(NOW + 365 * DAY, Retry::InTime, "-ERR no").await.unwrap();
        assert!(client.poll(NOW, Retry::InTime, "-ERR no").await.is_ok());
        assert!(client.poll(NOW + MINUTE, Retry::InTime, "-ERR no").await.is_err());
        // What worked in the future is not what worked lately.
        client.memory.ok_at = Some(NOW + DAY);
        assert!(!worked_lately(&client.attempted(), &client.memory, NOW));
    }

    #[tokio::test]
    async fn credentials_that_worked_within_the_day_are_wrong_only_from_the_third_refusal_on() {
        let classes = async |ago: Timestamp, password: &str| {
            let mut client = Client::new();
            client.poll(NOW - ago, Retry::InTime, "+OK").await.unwrap();
            client.secret = secret(password);
            let mut classes = Vec::new();
            for at in [NOW, NOW + WAIT, NOW + 2 * WAIT] {
                classes.push(client.poll(at, Retry::InTime, "-ERR [AUTH] no").await.unwrap().exit_status());
            }
            classes
        };
        assert_eq!(classes(DAY - 2 * WAIT, "x").await, [75, 75, 77]);
        assert_eq!(classes(DAY + 1, "x").await, [77, 77, 77]);
        // One in 256 other passwords is taken for the same one; then a wrong password is told a quarter of an hour late.
        let mut others = 0;
        for password in ["a", "b", "c", "d"] {
            others += usize::from(classes(MINUTE, password).await == [77, 77, 77]);
        }
        assert!(others >= 3, "{others}");
    }

    #[tokio::test]
    async fn words_and_codes_of_a_lock_are_not_taken_for_a_wrong_password() {
        for (line, status) in [
            ("-ERR can't lock mailbox file", 75),
            ("-ERR Maildrop already LOCKED", 75),
            ("-ERR mailbox busy", 75),
            ("-ERR mailbox in use", 75),
            ("-ERR another session is active", 75),
            ("-ERR Temporary failure", 75),
            ("-ERR please try again", 75),
            ("-ERR Too many connections", 75),
            ("-ERR service unavailable", 75),
            ("-ERR internal server error", 75),
            ("-ERR failed: Could not connect to server", 75),
            ("-ERR [IN-USE] no", 75),
            ("-ERR [SYS/TEMP] no", 75),
            ("-ERR [LOGIN-DELAY] no", 75),
            ("-ERR [SYS/PERM] no", 77),
            ("-ERR [AUTH] Authentication failed.", 77),
            ("-ERR failed: Re-Authentication Failure", 77),
            ("-ERR invalid login or password", 77),
            ("-ERR", 77),
        ] {
            let class = Client::new().poll(NOW, Retry::InTime, line).await.unwrap();
            assert_eq!(class.exit_status(), status, "{line}");
        }
    }

    #[test]
    fn a_mark_of_credentials_is_one_octet_beside_its_salt() {
        let LogInWorked { mark } = worked(&attempted("password: x", "x"), &LogIns::default());
        assert_eq!(mark.len(), SALT + 1);
    }
}
