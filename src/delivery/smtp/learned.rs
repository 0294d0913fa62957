//! What a server has shown of commands that are sent ahead of their answers, from session to session.
//!
//! Not every server that announces PIPELINING (RFC 2920) can do it: some read one command of a packet and lose the
//! others, and Courier's esmtpd loses what stands behind the end of a message. Both are found out by silence: what a
//! server has not shown is tried once with a limit of its own. A server that was only slow is told from one that loses
//! commands by how long it takes where nothing is sent ahead. What it lost is not sent so for a day, then two, up to a
//! month: it may have been mended, or it was the network.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::clock::is_left_alone;
use crate::lock::lock;

/// How commands are sent ahead of answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    /// MAIL, RCPT and DATA in one packet.
    Together,
    /// Those of the next message, behind the end of a message.
    BehindEnd,
}

/// A handle on what is known of one server. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Learned(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// When the session began, in seconds since 1970.
    now: i64,
    known: Remembered,
    /// Whether there is something new to remember.
    changed: bool,
    /// What may have been lost, and how long was waited for its answer.
    suspected: Option<(Sent, Duration)>,
    /// The server answers slowly: silence proves nothing in this session.
    slow: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Remembered {
    /// A digest of the extensions that it offered when all this was learned.
    extensions: Digested,
    together: Shown,
    behind_end: Shown,
    /// A digest of the sender at whom the server last said that it takes nothing.
    sender: Option<Digested>,
}

type Digested = [u8; 8];

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Shown {
    #[default]
    Nothing,
    Takes,
    Loses(Loss),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Loss {
    /// When it was last seen, in seconds since 1970.
    at: i64,
    /// How often, one after the other.
    times: u32,
}

/// The form of what is kept; 1 had no dates.
const VERSION: u8 = 2;

impl Learned {
    /// Reads what an earlier session kept, now, in seconds since 1970; what cannot be read is as good as nothing.
    pub(super) fn new(kept: Option<&[u8]>, now: i64) -> Self {
        let known = kept.and_then(Remembered::from_octets).unwrap_or_default();
        Self(Arc::new(Mutex::new(State { now, known, ..State::default() })))
    }

    /// Gives what is to be kept, if that is news.
    pub(super) fn news(&self) -> Option<Vec<u8>> {
        let mut state = lock(&self.0);
        std::mem::take(&mut state.changed).then(|| state.known.to_octets())
    }

    /// Forgets everything if the server offers other extensions than before: it may be another, or a newer one.
    pub(super) fn meet(&self, keywords: &[String]) {
        let mut state = lock(&self.0);
        let extensions = digest(keywords.join(" ").as_bytes());
        if state.known.extensions != extensions {
            state.known = Remembered { extensions, ..Remembered::default() };
            (state.suspected, state.slow) = (None, false);
        }
    }

    /// Says whether commands may be sent so, to a server that announces PIPELINING.
    pub(super) fn may(&self, sent: Sent) -> bool {
        let state = lock(&self.0);
        let may = |sent| {
            !matches!(state.found(sent), Shown::Loses(_))
                && state.suspected.is_none_or(|(suspected, _)| suspected != sent)
        };
        may(Sent::Together) && (sent == Sent::Together || may(Sent::BehindEnd))
    }

    /// Gives how long an answer to commands that are sent so is waited for, while the server has not shown that it takes
    /// them.
    pub(super) fn limit(&self, sent: Sent, round_trip: Duration) -> Option<Duration> {
        let state = lock(&self.0);
        let least = match sent {
            // A recipient may take a while to be looked up.
            Sent::Together => Duration::from_secs(5),
            Sent::BehindEnd => Duration::from_secs(1),
        };
        let is_tried = state.found(sent) == Shown::Nothing && !state.slow;
        is_tried.then(|| least.max(round_trip.saturating_mul(8)))
    }

    /// Notes that commands which were sent so were all answered.
    pub(super) fn takes(&self, sent: Sent) {
        lock(&self.0).show(sent, Shown::Takes);
    }

    /// Notes that commands which were sent so were not answered within this time; says whether it is worth trying without.
    pub(super) fn suspect(&self, sent: Sent, waited: Duration) -> bool {
        let mut state = lock(&self.0);
        if state.suspected.is_some() {
            return false;
        }
        if state.known.shown(sent) == Shown::Takes {
            state.show(sent, Shown::Nothing);
        }
        state.suspected = Some((sent, waited));
        true
    }

    /// Notes how long the slowest answer took where nothing was sent as suspected.
    pub(super) fn careful(&self, slowest: Duration) {
        let mut state = lock(&self.0);
        let Some((sent, waited)) = state.suspected.filter(|_| !state.slow) else { return };
        if slowest * 2 < waited {
            state.suspected = None;
            let times = match state.known.shown(sent) {
                Shown::Loses(before) => before.times,
                Shown::Nothing | Shown::Takes => 0,
            };
            let loss = Loss { at: state.now, times: times.saturating_add(1) };
            state.show(sent, Shown::Loses(loss));
        } else {
            // It may have been about to answer. It costs little not to be ahead of it at the end of messages.
            state.slow = true;
            state.suspected = state.suspected.filter(|(sent, _)| *sent == Sent::BehindEnd);
        }
    }

    /// Notes that the server took nothing when it was offered a message from this sender; says whether that is so for the
    /// second time.
    pub(super) fn refused_all_at(&self, sender: &str) -> bool {
        let mut state = lock(&self.0);
        let sender = Some(digest(sender.as_bytes()));
        let again = state.known.sender == sender;
        state.changed |= !again;
        state.known.sender = sender;
        again
    }

    /// Notes that a message from this sender was taken.
    pub(super) fn took_from(&self, sender: &str) {
        let mut state = lock(&self.0);
        if state.known.sender.is_some() && state.known.sender == Some(digest(sender.as_bytes())) {
            state.known.sender = None;
            state.changed = true;
        }
    }
}

impl State {
    /// Gives what the server has shown, as far as it still counts.
    fn found(&self, sent: Sent) -> Shown {
        match self.known.shown(sent) {
            Shown::Loses(loss) if !is_left_alone(loss.at, loss.times, self.now) => Shown::Nothing,
            shown => shown,
        }
    }

    fn show(&mut self, sent: Sent, shown: Shown) {
        let place = match sent {
            Sent::Together => &mut self.known.together,
            Sent::BehindEnd => &mut self.known.behind_end,
        };
        self.changed |= *place != shown;
        *place = shown;
    }
}

impl Remembered {
    fn shown(&self, sent: Sent) -> Shown {
        match sent {
            Sent::Together => self.together,
            Sent::BehindEnd => self.behind_end,
        }
    }

    fn to_octets(self) -> Vec<u8> {
        let mut octets = vec![VERSION];
        octets.extend(self.extensions);
        for shown in [self.together, self.behind_end] {
            match shown {
                Shown::Nothing => octets.push(0),
                Shown::Takes => octets.push(1),
                Shown::Loses(Loss { at, times }) => {
                    octets.push(2);
                    octets.extend(at.to_be_bytes());
                    octets.extend(times.to_be_bytes());
                }
            }
        }
        octets.extend(self.sender.into_iter().flatten());
        octets
    }

    fn from_octets(octets: &[u8]) -> Option<Self> {
        let (extensions, rest) = octets.strip_prefix(&[VERSION])?.split_first_chunk()?;
        let (together, rest) = Shown::from_octets(rest)?;
        let (behind_end, sender) = Shown::from_octets(rest)?;
        Some(Self {
            extensions: *extensions,
            together,
            behind_end,
            sender: if sender.is_empty() { None } else { Some(sender.try_into().ok()?) },
        })
    }
}

impl Shown {
    /// Reads what was kept of one way, and gives what stands behind it.
    fn from_octets(octets: &[u8]) -> Option<(Self, &[u8])> {
        let ([code], rest) = octets.split_first_chunk()?;
        match code {
            0 => Some((Self::Nothing, rest)),
            1 => Some((Self::Takes, rest)),
            2 => {
                let (at, rest) = rest.split_first_chunk()?;
                let (times, rest) = rest.split_first_chunk()?;
                let loss = Loss { at: i64::from_be_bytes(*at), times: u32::from_be_bytes(*times) };
                Some((Self::Loses(loss), rest))
            }
            _ => None,
        }
    }
}

fn digest(octets: &[u8]) -> Digested {
    let digest: [u8; 32] = Sha256::digest(octets).into();
    let (first, _) = digest.split_first_chunk().expect("it is longer");
    *first
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn met(kept: Option<&[u8]>, keywords: &[&str]) -> Learned {
        met_at(0, kept, keywords)
    }

    fn met_at(now: i64, kept: Option<&[u8]>, keywords: &[&str]) -> Learned {
        let learned = Learned::new(kept, now);
        learned.meet(&keywords.iter().map(|keyword| (*keyword).to_owned()).collect::<Vec<_>>());
        learned
    }

    #[test]
    fn what_a_server_has_shown_is_kept_until_its_extensions_change() {
        let learned = met(None, &["PIPELINING", "SIZE"]);
        assert_eq!(learned.limit(Sent::BehindEnd, Duration::ZERO), Some(SECOND));
        assert_eq!(learned.limit(Sent::BehindEnd, SECOND), Some(8 * SECOND));
        learned.takes(Sent::Together);
        assert!(learned.suspect(Sent::BehindEnd, SECOND));
        assert!(!learned.may(Sent::BehindEnd) && learned.may(Sent::Together));
        learned.careful(SECOND / 10);
        let kept = learned.news().expect("it is news");
        assert_eq!(learned.news(), None);
        let same = met(Some(&kept), &["PIPELINING", "SIZE"]);
        assert!(same.may(Sent::Together) && !same.may(Sent::BehindEnd));
        assert_eq!(same.limit(Sent::Together, SECOND), None);
        let other = met(Some(&kept), &["8BITMIME", "PIPELINING", "SIZE"]);
        assert!(other.may(Sent::BehindEnd));
        assert_eq!(other.limit(Sent::Together, Duration::ZERO), Some(5 * SECOND));
    }

    #[test]
    fn a_server_that_lost_commands_is_tried_again_after_a_day_then_two_up_to_a_month() {
        const DAY: i64 = 24 * 3600;
        let (mut now, mut kept) = (DAY * 20_000, None);
        for days in [1, 2, 4, 8, 16, 32, 32] {
            let learned = met_at(now, kept.as_deref(), &["PIPELINING"]);
            assert!(learned.may(Sent::BehindEnd), "{days}");
            assert_eq!(learned.limit(Sent::BehindEnd, Duration::ZERO), Some(SECOND));
            assert!(learned.suspect(Sent::BehindEnd, SECOND));
            learned.careful(SECOND / 10);
            assert!(!learned.may(Sent::BehindEnd));
            kept = learned.news();
            now += days * DAY;
            assert!(!met_at(now - 1, kept.as_deref(), &["PIPELINING"]).may(Sent::BehindEnd), "{days}");
        }
        // A clock that went back long ago is not waited for.
        assert!(met_at(0, kept.as_deref(), &["PIPELINING"]).may(Sent::BehindEnd));
        let mended = met_at(now, kept.as_deref(), &["PIPELINING"]);
        mended.takes(Sent::BehindEnd);
        let mended = met_at(now, mended.news().as_deref(), &["PIPELINING"]);
        assert_eq!(mended.limit(Sent::BehindEnd, Duration::ZERO), None);
    }

    #[test]
    fn a_trial_of_what_was_lost_that_shows_nothing_is_made_again_by_the_next_session() {
        let learned = met(None, &["PIPELINING"]);
        assert!(learned.suspect(Sent::Together, SECOND));
        learned.careful(SECOND / 10);
        let kept = learned.news();
        let later = met_at(24 * 3600, kept.as_deref(), &["PIPELINING"]);
        assert!(later.may(Sent::Together) && later.suspect(Sent::Together, SECOND));
        assert_eq!(later.news(), None);
    }

    #[test]
    fn a_server_that_is_slow_in_lock_step_too_is_not_called_one_that_loses_commands() {
        let learned = met(None, &["PIPELINING"]);
        assert!(learned.suspect(Sent::Together, 5 * SECOND));
        assert!(!learned.may(Sent::Together));
        learned.careful(4 * SECOND);
        assert!(learned.may(Sent::Together));
        assert_eq!(learned.limit(Sent::Together, SECOND), None);
        assert_eq!(
            met(learned.news().as_deref(), &["PIPELINING"]).0.lock().unwrap().known.together,
            Shown::Nothing
        );
    }

    #[test]
    fn whatever_was_kept_is_read_without_harm() {
        let behind_end = Shown::Loses(Loss { at: 1_795_404_334, times: 3 });
        let known = Remembered { extensions: [7; 8], together: Shown::Takes, behind_end, sender: None };
        for known in [known, Remembered { sender: Some([9; 8]), ..known }] {
            let octets = known.to_octets();
            assert_eq!(Remembered::from_octets(&octets), Some(known));
            for length in 0..octets.len() {
                let cut = Remembered::from_octets(&octets[..length]);
                assert!(cut.is_none_or(|cut| cut.sender.is_none()), "{length}");
            }
        }
        assert_eq!(Remembered::from_octets(&[1; 11]), None);
        assert_eq!(Remembered::from_octets(&[2; 40]), None);
    }
}
