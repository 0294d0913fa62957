//! The target that is a user's Gmail: `messages.import`, which scans and classifies as if the message had come by SMTP.
//!
//! | file | what it is |
//! |---|---|
//! | `request` | a message as a request |
//! | `judge` | what an answer means |
//! | `labels` | labels by their names |
//! | `pace` | the pace under the quota |
//! | `memory` | what is remembered |
//!
//! A message counts as delivered when Gmail has answered with its id. What is in doubt is sent again: Gmail merges
//! messages of one Message-ID, and one that has none gets one, made of a digest. So a different message that reuses an
//! id is merged too; the id that is answered tells, and such a message stays on the server.
//!
//! Some headers import refuses. Those messages are inserted, which merges nothing: so it is noted durably before that
//! one begins, and one without an answer is not sent again by itself.

mod judge;
mod labels;
mod memory;
mod pace;
mod request;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::Request;
use sha2::{Digest as _, Sha256};

use super::http::memory::until;
use super::http::way::{Again, Way as Line};
use super::reading::each_part;
use super::series::{Faults, one_by_one};
use super::spool::{self, LineEnds, Spooled};
use super::{Access, Outcome, TargetError, file_error};
use crate::clock::Timestamp;
use crate::config;
use crate::disk::{Disk, spool_directory};
use crate::failure::Class;
use crate::lock::lock;
use crate::message::{Content, FileId, MessageId};
use crate::net::Stage;
use crate::net::http::{Answered, HttpError, Reply, Sent, Upload};
use crate::secret::Secret;
use judge::{Verdict, judge, words};
use memory::Memory;
use request::{Letter, Way, own_octets};

/// Octets of an answer that are read; those that list labels have some thousand labels in them.
const MOST: usize = 4 << 20;

/// Octets of a message that Gmail takes.
const LARGEST: u64 = 150 << 20;

/// Pauses before what may pass is tried once more.
const PAUSES: [u64; 4] = [1, 2, 4, 8];

/// A pause that is longer is none in the middle of a poll.
const LONGEST_PAUSE: Duration = Duration::from_secs(20);

/// For how long nothing is sent when Gmail does not say.
const USUAL_WAIT: Duration = Duration::from_secs(60);

/// One account's way into a user's Gmail. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Gmail(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    target: config::Gmail,
    disk: Disk,
    line: Line,
    /// The access token of the hour.
    token: Mutex<Secret>,
    /// The ids of the labels.
    labels: Mutex<Vec<String>>,
    memory: Mutex<Memory>,
    kept: Mutex<Option<Vec<u8>>>,
    /// Messages of this maildrop that are there, by what is remembered of Gmail's ids.
    ids: Mutex<HashMap<u64, [u8; 16]>>,
    /// Copies of messages that were delivered in this session.
    copies: Mutex<HashMap<Content, u32>>,
    faults: Faults,
    /// It is open: before, whoever opens it gets another token where the first one is refused.
    is_open: AtomicBool,
}

impl Gmail {
    /// Connects, and asks for the labels, which shows whether the token, the API and the mailbox are there.
    pub(super) async fn open(
        target: &config::Gmail,
        place: String,
        disk: Disk,
        access: Access,
    ) -> Result<Self, TargetError> {
        let memory = Memory::from_octets(access.remembered.as_deref());
        let config::Gmail { url, route, .. } = target.clone();
        let token = access.secret.clone().unwrap_or_else(|| Secret::new(Vec::new()));
        let kept = access.remembered.clone();
        let now = access.clock.now();
        let line = Line { url, place, route, access, idle: Mutex::default() };
        if let Some(until) = memory.waits(now) {
            return Err(line.left_alone(Duration::from_secs((until - now).unsigned_abs())));
        }
        line.open().await?;
        let shared = Shared {
            target: target.clone(),
            disk,
            token: Mutex::new(token),
            labels: Mutex::default(),
            memory: Mutex::new(memory),
            kept: Mutex::new(kept),
            ids: Mutex::default(),
            copies: Mutex::default(),
            faults: Faults::default(),
            is_open: AtomicBool::new(false),
            line,
        };
        shared.find_labels().await?;
        shared.is_open.store(true, Relaxed);
        let watch = shared.line.access.connector.watch();
        watch.saw(|| Stage::LoggedIn);
        watch.saw(|| Stage::Opened(target.labels.join(", ")));
        Ok(Self(Arc::new(shared)))
    }

    pub(super) fn draft(&self, message: MessageId) -> spool::Draft {
        spool::Draft::new(&self.0.disk, message, LineEnds::Lines)
    }

    /// Takes what is recorded of messages that are there.
    pub(super) fn know(&self, files: impl IntoIterator<Item = FileId>) {
        let ids = files.into_iter().filter(|file| file.uid().is_some());
        lock(&self.0.ids).extend(ids.map(|file| (file.time, file.digest)));
    }

    pub(super) fn faults(&self) -> &Faults {
        &self.0.faults
    }

    pub(super) fn news(&self) -> Option<Vec<u8>> {
        let now = lock(&self.0.memory).to_octets();
        let mut kept = lock(&self.0.kept);
        let is_news =
            kept.as_ref() != Some(&now) && (kept.is_some() || *lock(&self.0.memory) != Memory::default());
        is_news.then(|| kept.insert(now).clone())
    }

    pub(super) async fn commit(&self, finished: Vec<spool::Finished>) -> Result<Vec<Outcome>, TargetError> {
        let shared = &self.0;
        let deliver = |message| shared.deliver(message);
        one_by_one(finished, &shared.line.access.stop, &shared.faults.failure, deliver).await
    }

    pub(super) fn close(&self) {
        lock(&self.0.line.idle).take();
    }
}

/// What is left once Gmail was asked as often as makes sense.
enum Asked {
    Reply(Reply, Verdict),
    /// It may have been done; why nobody knows.
    InDoubt(String),
    /// It was not done.
    Not(String),
    /// The process must end.
    Stopped,
}

impl Shared {
    async fn deliver(&self, message: Arc<Spooled>) -> Result<Outcome, TargetError> {
        if message.octets > LARGEST {
            return Ok(Outcome::Refused(format!("Gmail takes messages of {LARGEST} octets at most")));
        }
        let whole = message.known.whole.as_ref().map(|whole| whole.content);
        let octets = digest(&message).await.map_err(|error| file_error("read", &spool_directory(), error))?;
        let before = whole.and_then(|content| lock(&self.copies).get(&content).copied()).unwrap_or(0);
        let letter = Letter::new(message.clone(), octets, message.known.copies.saturating_add(before));
        if lock(&self.memory).begun.remove(&letter.digest) {
            return Ok(Outcome::Unknown(
                "in doubt: it was inserted, since import refuses its header, and no answer came; it is not sent \
                 again by itself: look for it in Gmail, then `postrider held retry` or `discard`"
                    .to_owned(),
            ));
        }
        log::debug!("{}: target: {} octets to {}", self.line.access.account, message.octets, self.line.place);
        let outcome = match Box::pin(self.upload(&letter, Way::Import)).await? {
            Asked::Reply(reply, Verdict::Header) => self.insert(&letter, &reply).await?,
            asked => self.outcome(&letter, asked)?,
        };
        if let (Outcome::Filed(_) | Outcome::Merged(_), Some(content)) = (&outcome, whole) {
            *lock(&self.copies).entry(content).or_default() += 1;
        }
        Ok(outcome)
    }

    /// Inserts a message of which import refused the header.
    async fn insert(&self, letter: &Letter, refused: &Reply) -> Result<Outcome, TargetError> {
        let said = self.said(refused);
        log::warn!(
            "{}: {}: Gmail's import refuses the header ({said}); inserted as it is, unscanned and unmerged",
            self.line.access.account,
            letter.message.id.uid
        );
        let begun = {
            let mut memory = lock(&self.memory);
            memory.begin(letter.digest.clone());
            memory.to_octets()
        };
        if let Some(keep) = &self.line.access.keep {
            if let Err(why) = keep.run(begun.clone()).await {
                lock(&self.memory).begun.remove(&letter.digest);
                return Ok(Outcome::Later(format!("cannot note that it is being inserted: {why}")));
            }
            *lock(&self.kept) = Some(begun);
        }
        let asked = self.upload(letter, Way::Insert).await;
        // Whatever is said of it now is recorded with the message.
        lock(&self.memory).begun.remove(&letter.digest);
        match asked? {
            Asked::InDoubt(why) => Ok(Outcome::Unknown(format!(
                "in doubt: inserted, since import refuses its header ({said}), and {why}; it is not sent again by \
                 itself: look for it in Gmail, then `postrider held retry` or `discard`"
            ))),
            Asked::Reply(reply, Verdict::Header) => Ok(Outcome::Refused(self.why(&reply))),
            asked => self.outcome(letter, asked),
        }
    }

    async fn upload(&self, letter: &Letter, way: Way) -> Result<Asked, TargetError> {
        let again = if way == Way::Import { Again::Known } else { Again::Never };
        let make = |token: &Secret| letter.request(&self.target, way, &lock(&self.labels), token);
        let asked = self.ask(make, again, pace::UPLOAD).await?;
        let Asked::Reply(reply, Verdict::Label) = &asked else { return Ok(asked) };
        // One was removed since; it is made once more.
        log::info!("{}: target: {}; looking at the labels again", self.line.access.account, self.said(reply));
        self.find_labels().await?;
        let asked = self.ask(make, again, pace::UPLOAD).await?;
        match &asked {
            Asked::Reply(reply, Verdict::Label) => Err(self.target_failed(
                "Gmail takes none of these labels",
                reply,
                "check `labels` of the target".to_owned(),
            )),
            _ => Ok(asked),
        }
    }

    /// Says what became of a message.
    fn outcome(&self, letter: &Letter, asked: Asked) -> Result<Outcome, TargetError> {
        let (reply, verdict) = match asked {
            Asked::Reply(reply, verdict) => (reply, verdict),
            Asked::InDoubt(why) => {
                return Ok(Outcome::InDoubt(format!(
                    "in doubt: {why}; it may have arrived, and is sent again: Gmail merges it"
                )));
            }
            Asked::Not(why) => return Ok(self.put_off(why)),
            Asked::Stopped => return Ok(Outcome::NotTried),
        };
        if verdict != Verdict::Later {
            self.faults.stalls.end();
        }
        match verdict {
            Verdict::Done => match judge::id(&reply) {
                Some(id) => Ok(self.filed(letter, &id)),
                None => Ok(self.put_off("Gmail answered without the id of a message".to_owned())),
            },
            Verdict::Later => Ok(self.put_off(self.why(&reply))),
            Verdict::Refused | Verdict::Header => Ok(Outcome::Refused(self.why(&reply))),
            Verdict::Limited(_) | Verdict::Token | Verdict::Label | Verdict::Target(..) => {
                Err(self.target_failed("Gmail takes nothing now", &reply, String::new()))
            }
        }
    }

    /// Notes the id of a message, and whether it is another's of ours.
    fn filed(&self, letter: &Letter, id: &str) -> Outcome {
        let digest = match &letter.message.known.whole {
            Some(whole) => first_half(&whole.content.0),
            None => first_half(&Sha256::digest(&letter.digest).into()),
        };
        let hash: [u8; 32] = Sha256::digest(id).into();
        let file = FileId::of_id(digest, hash);
        let before = lock(&self.ids).insert(file.time, digest);
        match before {
            Some(other) if other != digest => {
                lock(&self.ids).insert(file.time, other);
                let why = format!(
                    "Gmail has merged it with another message of this maildrop that has the same Message-ID (its \
                     id {id}), and shows one of them; it stays on the server"
                );
                Outcome::Merged(why)
            }
            Some(_) | None => Outcome::Filed(file),
        }
    }

    /// Asks, at the pace of the quota, with growing pauses and once with a fresh token, until there is something to be
    /// said of it; what is wrong with the target is an error.
    async fn ask(
        &self,
        make: impl Fn(&Secret) -> Result<Request<Upload>, String>,
        again: Again,
        units: u32,
    ) -> Result<Asked, TargetError> {
        let (mut tried, mut renewed) = (0, !self.is_open.load(Relaxed));
        let cannot_ask =
            |what: String| self.line.error(format!("cannot ask: {what}"), None, None, Class::Target);
        loop {
            if !self.rest(pace::pause(&self.line.url.authority(), &self.target.login.user, units)).await {
                return Ok(Asked::Stopped);
            }
            let token = lock(&self.token).clone();
            let made = || make(&token).map_err(cannot_ask);
            let pause = PAUSES.get(tried).map(|seconds| Duration::from_secs(*seconds));
            tried += 1;
            let reply = match self.line.ask(made, again, MOST).await? {
                Answered::Reply { reply, sent: Sent::Whole } => reply,
                // It cannot have what was not sent, whatever it says.
                Answered::Reply { reply, sent: Sent::Part } if reply.status >= 300 => reply,
                Answered::Reply { reply, .. } => {
                    return Ok(Asked::Not(self.why(&reply) + " before it had taken all of the message"));
                }
                Answered::Nothing { error, sent } => {
                    match self.unanswered(error, sent, again, pause).await? {
                        Some(asked) => return Ok(asked),
                        None => continue,
                    }
                }
            };
            let now = self.line.access.clock.now();
            let account = &self.line.access.account;
            let verdict = judge(&reply, &self.target.login.user, account, now);
            log::debug!("{account}: target: {}", self.said(&reply));
            match (verdict, pause) {
                (Verdict::Token, _) if !renewed => {
                    renewed = true;
                    self.renew(&token, &reply).await?;
                }
                (Verdict::Token, _) => return Err(self.refused(&reply)),
                // Nobody knows what became of an insert that failed in there.
                (Verdict::Later, Some(pause)) if again == Again::Known => {
                    if !self.rest(pause).await {
                        return Ok(Asked::Stopped);
                    }
                }
                (Verdict::Later, _) if again == Again::Never => {
                    return Ok(Asked::InDoubt(format!("Gmail answered {}", self.said(&reply))));
                }
                (Verdict::Limited(wait), pause) => {
                    if !self.limited(wait, pause, &reply).await? {
                        return Ok(Asked::Stopped);
                    }
                }
                (Verdict::Target(what, hint), _) => return Err(self.target_failed(&what, &reply, hint)),
                (verdict, _) => return Ok(Asked::Reply(reply, verdict)),
            }
        }
    }

    /// Waits until more may be asked, if that is soon; says whether the process goes on.
    async fn limited(
        &self,
        wait: Option<Duration>,
        pause: Option<Duration>,
        reply: &Reply,
    ) -> Result<bool, TargetError> {
        if let Some(pause) = pause
            && wait.unwrap_or(pause) <= LONGEST_PAUSE
        {
            return Ok(self.rest(wait.unwrap_or_default().max(pause)).await);
        }
        let wait = wait.unwrap_or(USUAL_WAIT);
        lock(&self.memory).until = Some(until(self.line.access.clock.now(), wait));
        let hint =
            format!("nothing is lost: what is left is fetched in {}", humantime::format_duration(wait));
        Err(self.target_failed("Gmail wants less to be asked of it (quota)", reply, hint))
    }

    /// Takes that no answer came; nothing if it is to be asked once more.
    async fn unanswered(
        &self,
        error: HttpError,
        sent: Sent,
        again: Again,
        pause: Option<Duration>,
    ) -> Result<Option<Asked>, TargetError> {
        match error {
            HttpError::Net(_) | HttpError::Unreadable(_) | HttpError::Request(_) => {
                return Err(self.line.lost(&error));
            }
            _ => {}
        }
        let is_whole = sent == Sent::Whole;
        if self.line.access.stop.is_asked() {
            let asked = if is_whole && again == Again::Never {
                Asked::InDoubt(error.to_string())
            } else {
                Asked::Stopped
            };
            return Ok(Some(asked));
        }
        let is_silent = matches!(error, HttpError::TimedOut { .. });
        if is_silent {
            *lock(&self.faults.failure) = Some(self.line.lost(&error));
        }
        if is_whole && (again == Again::Never || is_silent) {
            return Ok(Some(Asked::InDoubt(error.to_string())));
        }
        match pause {
            Some(pause) if !is_silent => Ok((!self.rest(pause).await).then_some(Asked::Stopped)),
            _ if is_whole => Ok(Some(Asked::InDoubt(error.to_string()))),
            _ => Ok(Some(Asked::Not(error.to_string()))),
        }
    }

    /// Gets another token in the place of one that was refused.
    async fn renew(&self, token: &Secret, reply: &Reply) -> Result<(), TargetError> {
        let Some(renew) = &self.line.access.renew else { return Err(self.refused(reply)) };
        log::info!("{}: target refuses the access token; getting a new one", self.line.access.account);
        *lock(&self.token) = renew.run(token.clone()).await?;
        Ok(())
    }

    /// Waits; says whether the process goes on.
    async fn rest(&self, time: Duration) -> bool {
        if !time.is_zero() {
            log::debug!("{}: target: waiting {time:?}", self.line.access.account);
        }
        tokio::select! {
            () = tokio::time::sleep(time) => true,
            () = self.line.access.stop.asked() => false,
        }
    }

    fn put_off(&self, why: String) -> Outcome {
        self.line.put_off(&self.faults, "Gmail takes no messages now", why)
    }

    fn said(&self, reply: &Reply) -> String {
        let token = lock(&self.token).clone();
        let said = crate::secret::masked(words(reply).as_bytes(), &[&token]);
        String::from_utf8_lossy(&said).into_owned()
    }

    fn why(&self, reply: &Reply) -> String {
        format!("Gmail answered {}", self.said(reply))
    }

    fn target_failed(&self, what: &str, reply: &Reply, hint: String) -> TargetError {
        let hint = Some(hint).filter(|hint| !hint.is_empty());
        self.line.error(what.to_owned(), Some(self.said(reply).into_bytes()), hint, Class::Target)
    }

    /// Says that Gmail refuses the token.
    fn refused(&self, reply: &Reply) -> TargetError {
        self.faults.turned_away.store(true, Relaxed);
        let (user, account) = (&self.target.login.user, &self.line.access.account);
        let hint = format!("run `postrider login {account}` and sign in as {user}");
        let said = Some(self.said(reply).into_bytes());
        self.line.error("Gmail refuses the access token".to_owned(), said, Some(hint), Class::Credentials)
    }
}

impl Memory {
    /// Gives until when nothing is to be sent; a wait beyond the longest is a wrong clock's.
    fn waits(&self, now: Timestamp) -> Option<Timestamp> {
        let octets = super::http::memory::to_octets(self.until?);
        super::http::memory::waits(Some(&octets), now)
    }
}

/// Digests a message, less what we put on top.
async fn digest(message: &Spooled) -> std::io::Result<[u8; 32]> {
    let (mut hash, mut skip) = (Sha256::new(), own_octets(message));
    each_part(message, |part| {
        let skipped = skip.min(part.len());
        skip -= skipped;
        hash.update(&part[skipped..]);
    })
    .await?;
    Ok(hash.finalize().into())
}

fn first_half(digest: &[u8; 32]) -> [u8; 16] {
    std::array::from_fn(|at| digest[at])
}
