//! How long a server may take: to take, to say more, to end a reply.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// How often an account's time limit may pass while one reply, or a MiB of a body, trickles in.
const TRICKLE: u32 = 10;
/// Octets of a body that begin a new allowance for trickling.
const TRICKLE_OCTETS: u64 = 1 << 20;

/// How long a server may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeLimits {
    /// To take more of what is to be written.
    pub taking: Duration,
    /// To say more.
    pub saying: Duration,
    /// To say all of one reply, or a MiB of a body.
    pub reply: Duration,
}

/// One limit for every wait, and ten times that for a reply that trickles in.
impl From<Duration> for TimeLimits {
    fn from(timeout: Duration) -> Self {
        Self { taking: timeout, saying: timeout, reply: timeout.saturating_mul(TRICKLE) }
    }
}

/// Watches over the limits.
pub(super) struct Clock {
    pub(super) limits: TimeLimits,
    alarm: Pin<Box<Sleep>>,
    /// When octets moved last.
    pub(super) progress: Instant,
    reply_began: Instant,
    body_octets: u64,
}

/// Which limit is over, and how long it was.
pub(super) enum Over {
    Wait(Duration),
    Reply(Duration),
}

impl Clock {
    pub(super) fn new(limits: TimeLimits) -> Self {
        let now = Instant::now();
        let alarm = Box::pin(tokio::time::sleep_until(now));
        let mut clock = Self { limits, alarm, progress: now, reply_began: now, body_octets: 0 };
        clock.rearm();
        clock
    }

    /// Has the alarm ring when the first limit may be over.
    pub(super) fn rearm(&mut self) {
        let TimeLimits { taking, saying, reply } = self.limits;
        self.alarm.as_mut().reset((self.progress + taking.min(saying)).min(self.reply_began + reply));
    }

    /// A reply has come whole, or is asked for: the next one has all the time again.
    pub(super) fn restart(&mut self) {
        let now = Instant::now();
        (self.progress, self.reply_began, self.body_octets) = (now, now, 0);
    }

    /// Says whether a reply took longer than it may until octets moved last. Where there is always more to be read, the alarm
    /// is not looked at.
    pub(super) fn is_reply_late(&self) -> bool {
        self.progress >= self.reply_began + self.limits.reply
    }

    pub(super) fn body(&mut self, octets: u64) {
        self.body_octets += octets;
        if self.body_octets >= TRICKLE_OCTETS {
            self.restart();
        }
    }

    /// Says whether the time is over, of a wait that may be so long. The alarm is set late and checked when it rings, so
    /// that octets that come in cost no timer.
    pub(super) fn poll(&mut self, longest: Duration, cx: &mut Context<'_>) -> Poll<Over> {
        loop {
            if self.alarm.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            let now = Instant::now();
            let (wait, reply) = (self.progress + longest, self.reply_began + self.limits.reply);
            if now >= wait {
                return Poll::Ready(Over::Wait(longest));
            }
            if now >= reply {
                return Poll::Ready(Over::Reply(self.limits.reply));
            }
            self.alarm.as_mut().reset(wait.min(reply));
        }
    }
}
