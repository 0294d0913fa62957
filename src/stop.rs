//! The one way in which anything learns that it should end, and the one table of how long each ending may take.
//!
//! From the first SIGINT or SIGTERM on ([`crate::daemon::signals`]). What stands in one row runs side by side with the
//! rows between its beginning and its end:
//!
//! | what | begins | may take |
//! |---|---|---|
//! | the process | when it is asked to end | [`PROCESS`], and [`LAST_WORDS`] to say what hung; [`PROMISED`] in all |
//! | a daemon's sessions | when it is asked | [`SESSIONS`] |
//! | messages on the line | when it is asked | [`MESSAGES`] |
//! | a mail server that takes a message | when it is asked | [`SERVER`], then [`GOODBYE`] |
//! | a provider that was asked for a token | when it is asked | [`PROVIDER`] |
//! | delivery of what came in | when it is asked | [`DELIVERY`] |
//! | a hook | when it is asked, or the hook begins | [`HOOK`] |
//! | QUIT | after delivery | [`QUIT`] |
//! | files being removed, commands being ended | after the sessions | [`SETTLING`]; a command has [`COMMAND`], then its pipes [`PIPES`] |
//! | a worker giving back its maildrops | after the sessions | [`LEAVING`], of [`SETTLING`] |
//! | the state file being closed | after that | [`CLOSING`] |
//!
//! A session whose lease can be lost has a [`Term`] besides: when that is over nothing more is done, not even QUIT said.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::clock::since_boot;

/// What whoever asks a process to end was promised.
const PROMISED: Duration = Duration::from_secs(10);
/// How long a process may take to end. Then it is ended.
pub const PROCESS: Duration = PROMISED.saturating_sub(Duration::from_secs(1));
/// How long saying so may take; what hangs may be the log.
pub const LAST_WORDS: Duration = Duration::from_millis(500);
/// How long a daemon waits for its sessions. They need a second or two; a disk that hangs needs for ever, and cutting
/// off what waits for it loses nothing.
pub const SESSIONS: Duration = Duration::from_secs(6);
/// How long messages that are on the line may still come in.
pub const MESSAGES: Duration = Duration::from_millis(800);
/// How long a message that a mail server is being given may take.
pub const SERVER: Duration = Duration::from_secs(4);
/// How long a mail server's goodbye may take, whenever it comes: nothing depends on it.
pub const GOODBYE: Duration = Duration::from_secs(1);
/// How long a provider of tokens may take to answer: the refresh token that it was sent may be worthless by then.
pub const PROVIDER: Duration = Duration::from_secs(5);
/// How long what has come in may take to be delivered and recorded. Whatever ends by itself needs less.
pub const DELIVERY: Duration = Duration::from_secs(5);
/// How long the answer to QUIT may take.
pub const QUIT: Duration = MESSAGES;
/// How long a hook may take.
pub const HOOK: Duration = Duration::from_secs(2);
/// How long a command may take to end after SIGTERM, before SIGKILL.
pub const COMMAND: Duration = Duration::from_secs(2);
/// How long the pipes of a command that has ended may stay open: what it left running may hold them (gpg-agent).
pub const PIPES: Duration = Duration::from_millis(250);
/// How long a worker may take to give back the maildrops that it holds, and to leave its fleet. What it does not get done the
/// others do once they have not heard of it for long.
pub const LEAVING: Duration = Duration::from_secs(2);
/// How long the removal of messages that were given up, the last metrics, the end of commands and a worker's leaving may
/// take, side by side.
pub const SETTLING: Duration = Duration::from_millis(2500);
/// How long closing the state file may take.
pub const CLOSING: Duration = Duration::from_millis(500);

/// Tells when the process was asked to end: nothing new is begun from then on. The default is never asked. Cheap to
/// clone.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    asked: Option<watch::Receiver<bool>>,
    /// Asked of one session alone.
    own: Option<watch::Receiver<bool>>,
    term: Term,
}

/// Asks all to end that have the other half.
#[derive(Debug)]
pub struct Stopper(watch::Sender<bool>);

pub fn channel() -> (Stopper, Stop) {
    let (stopper, stop) = watch::channel(false);
    (Stopper(stopper), Stop { asked: Some(stop), ..Stop::default() })
}

impl Stopper {
    /// Asks; says whether it was asked before.
    pub fn stop(&self) -> bool {
        self.0.send_replace(true)
    }
}

impl Stop {
    /// Gives one for what must end with a lease, too.
    pub fn under(&self, term: Term) -> Self {
        Self { term, ..self.clone() }
    }

    /// Gives one for a session that can be asked to end by itself, too.
    pub fn of_one(&self) -> (Stopper, Self) {
        let (stopper, own) = watch::channel(false);
        (Stopper(stopper), Self { own: Some(own), ..self.clone() })
    }

    /// Gives the time for which the lease is held.
    pub fn term(&self) -> &Term {
        &self.term
    }

    /// Says whether it was asked, or the lease is lost.
    pub fn is_asked(&self) -> bool {
        [&self.asked, &self.own].into_iter().flatten().any(|stop| *stop.borrow()) || self.term.is_over()
    }

    /// Resolves once it was asked. Nothing is lost if it is dropped.
    pub async fn asked(&self) {
        tokio::select! {
            () = heard(self.asked.as_ref()) => {}
            () = heard(self.own.as_ref()) => {}
            () = self.term.over() => {}
        }
    }

    /// Resolves so long after it was asked, or after now if that was before.
    pub async fn over(&self, limit: Duration) {
        self.asked().await;
        tokio::time::sleep(limit).await;
    }
}

/// Waits until somebody asks.
async fn heard(stop: Option<&watch::Receiver<bool>>) {
    match stop {
        Some(stop) if stop.clone().wait_for(|asked| *asked).await.is_ok() => {}
        // Nobody is there who could ask.
        Some(_) | None => std::future::pending().await,
    }
}

/// Until when a session may act on its maildrop: a lease that is a row of a database is held for so long as its worker is
/// heard of there. The default is for ever, as the kernel's locks last. Cheap to clone.
///
/// Its clock is the one that runs on while the machine is suspended; a process that was stopped finds on waking that it is
/// too late, before whatever it was about to do. [`crate::net::Stream`] looks before each octet that it sends, and
/// [`crate::disk::Disk`] before a file gets its name.
#[derive(Debug, Clone, Default)]
pub struct Term {
    until: Option<watch::Receiver<Duration>>,
    /// Whether what it is about is lost before that.
    lost: Option<Arc<watch::Sender<bool>>>,
}

/// Says how long a [`Term`] lasts; once it is dropped that is over.
#[derive(Debug)]
pub struct Renewer(watch::Sender<Duration>);

/// Begins a term that lasts until then, by [`since_boot`].
pub fn term(until: Duration) -> (Renewer, Term) {
    let (renewer, term) = watch::channel(until);
    (Renewer(renewer), Term { until: Some(term), lost: None })
}

impl Renewer {
    /// Lets it last until then.
    pub fn renew(&self, until: Duration) {
        self.0.send_replace(until);
    }

    /// Ends it at once.
    pub fn end(&self) {
        self.renew(Duration::ZERO);
    }
}

impl Drop for Renewer {
    fn drop(&mut self) {
        self.end();
    }
}

impl Term {
    /// Gives one that lasts as long, and can be over before by itself: see [`Term::lose`].
    pub fn own(&self) -> Self {
        Self { until: self.until.clone(), lost: Some(Arc::default()) }
    }

    /// Ends it for all who have a copy of it, where that is to be had ([`Term::own`]).
    pub fn lose(&self) {
        if let Some(lost) = &self.lost {
            lost.send_replace(true);
        }
    }

    pub fn is_over(&self) -> bool {
        self.until.as_ref().is_some_and(|until| since_boot() >= *until.borrow())
            || self.lost.as_ref().is_some_and(|lost| *lost.borrow())
    }

    /// Resolves once it is over. Nothing is lost if it is dropped.
    pub async fn over(&self) {
        let lost = async {
            match &self.lost {
                // Its sender is here.
                Some(lost) => drop(lost.subscribe().wait_for(|lost| *lost).await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = lost => {}
            () = self.past() => {}
        }
    }

    async fn past(&self) {
        let Some(until) = &self.until else { return std::future::pending().await };
        let mut until = until.clone();
        loop {
            let left = until.borrow_and_update().saturating_sub(since_boot());
            if left.is_zero() {
                return;
            }
            // Timers stand still while the machine is suspended, so that it may be told late; whatever is not to be done
            // then asks by itself.
            tokio::select! {
                renewed = until.changed() => if renewed.is_err() { return },
                () = tokio::time::sleep(left) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_term_is_over_when_it_was_not_renewed_in_time_or_is_ended() {
        let hour = Duration::from_secs(3600);
        let waits = async |term: &Term| tokio::time::timeout(Duration::ZERO, term.over()).await.is_err();
        assert!(waits(&Term::default()).await && !Term::default().is_over());
        let (renewer, term) = super::term(since_boot() + hour);
        let stop = Stop::default().under(term.clone());
        assert!(!term.is_over() && !stop.is_asked() && waits(&term).await);
        renewer.renew(since_boot() + Duration::from_millis(5));
        term.over().await;
        assert!(term.is_over() && stop.is_asked(), "nothing new is begun");
        renewer.renew(since_boot() + hour);
        assert!(!term.is_over() && waits(&term).await);
        renewer.end();
        assert!(term.is_over() && !waits(&term).await);
        let (renewer, term) = super::term(since_boot() + hour);
        drop(renewer);
        assert!(term.is_over() && !waits(&term).await, "nobody renews it");
        let (_renewer, term) = super::term(since_boot() + hour);
        let (own, other) = (term.own(), term.own());
        let copy = own.clone();
        assert!(!own.is_over() && waits(&copy).await);
        own.lose();
        assert!(copy.is_over() && !waits(&copy).await && !other.is_over() && !term.is_over());
    }

    #[test]
    fn the_endings_that_follow_each_other_add_up_to_less_than_ten_seconds() {
        let sums: [(&str, &[Duration], Duration); 8] = [
            ("delivery, then QUIT, in a daemon's session", &[DELIVERY, QUIT], SESSIONS),
            ("a mail server, its goodbye and QUIT", &[SERVER, GOODBYE, QUIT], SESSIONS),
            ("a provider of tokens, then QUIT", &[PROVIDER, QUIT], SESSIONS),
            ("messages on the line, and their delivery", &[MESSAGES], DELIVERY),
            ("a command that the end of its session ends", &[COMMAND, PIPES], SETTLING),
            ("a worker that gives back its maildrops", &[LEAVING], SETTLING),
            ("all that a daemon does", &[SESSIONS, SETTLING, CLOSING], PROCESS),
            ("all that hangs", &[PROCESS, LAST_WORDS], PROMISED),
        ];
        for (what, one_after_the_other, limit) in sums {
            let sum: Duration = one_after_the_other.iter().sum();
            assert!(sum <= limit, "{what}: {sum:?} of {limit:?}");
        }
        assert!(PROCESS + LAST_WORDS < PROMISED && PROMISED == Duration::from_secs(10));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_hears_of_it_once_it_was_asked_and_never_without() {
        let (stopper, stop) = channel();
        let day = Duration::from_secs(86_400);
        for never in [&Stop::default(), &stop] {
            assert!(!never.is_asked());
            assert!(tokio::time::timeout(day, never.asked()).await.is_err());
        }
        assert!(!stopper.stop() && stopper.stop());
        stop.asked().await;
        assert!(stop.is_asked());
        let began = tokio::time::Instant::now();
        stop.over(HOOK).await;
        assert_eq!(began.elapsed(), HOOK);
        let (stopper, all) = channel();
        let ((ends_one, one), (_other, other)) = (all.of_one(), all.of_one());
        ends_one.stop();
        one.asked().await;
        assert!(one.is_asked() && !other.is_asked() && !all.is_asked());
        stopper.stop();
        other.asked().await;
        assert!(other.is_asked());
        let (stopper, stop) = channel();
        drop(stopper);
        assert!(tokio::time::timeout(day, stop.asked()).await.is_err(), "nobody is there who could ask");
    }
}
