//! The clock that the schedule goes by: it runs on while the machine is suspended, and nobody sets it.

use std::io;
use std::time::Duration;

use crate::clock::since_boot;

/// A clock, and one timer by it.
#[derive(Debug)]
pub struct Clock {
    #[cfg(target_os = "linux")]
    timer: boot_time::Timer,
}

impl Clock {
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            #[cfg(target_os = "linux")]
            timer: boot_time::Timer::new()?,
        })
    }

    /// Gives the time since some moment in the past.
    pub fn now(&self) -> Duration {
        since_boot()
    }

    /// Waits until a time; without one for ever. After a suspend it is told at once that the time has passed.
    pub async fn until(&mut self, at: Option<Duration>) -> io::Result<()> {
        let Some(at) = at else { return std::future::pending().await };
        #[cfg(target_os = "linux")]
        self.timer.set(at)?;
        while self.now() < at {
            #[cfg(target_os = "linux")]
            self.timer.rang().await?;
            #[cfg(not(target_os = "linux"))]
            tokio::time::sleep(at - self.now()).await;
        }
        Ok(())
    }
}

/// The runtime's own timers stand still with CLOCK_MONOTONIC: after a night's suspend they would ring a night late.
#[cfg(target_os = "linux")]
mod boot_time {
    use std::io;
    use std::os::fd::AsFd;
    use std::time::Duration;

    use nix::sys::time::TimeSpec;
    use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
    use tokio::net::unix::pipe;

    #[derive(Debug)]
    pub struct Timer {
        timer: TimerFd,
        /// The same, as something that the runtime can wait for. It is read as a pipe is, eight octets at a time.
        rings: pipe::Receiver,
    }

    impl Timer {
        pub fn new() -> io::Result<Self> {
            let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
            let timer = TimerFd::new(ClockId::CLOCK_BOOTTIME, flags)?;
            let rings = pipe::Receiver::from_owned_fd_unchecked(timer.as_fd().try_clone_to_owned()?)?;
            Ok(Self { timer, rings })
        }

        /// Sets it in place of what it was set to.
        pub fn set(&self, at: Duration) -> io::Result<()> {
            // Zero would turn it off.
            let at = TimeSpec::from(at.max(Duration::from_nanos(1)));
            Ok(self.timer.set(Expiration::OneShot(at), TimerSetTimeFlags::TFD_TIMER_ABSTIME)?)
        }

        /// Waits until it rings. It may have rung for an earlier setting.
        pub async fn rang(&mut self) -> io::Result<()> {
            self.rings.readable().await?;
            match self.rings.try_read(&mut [0; 8]) {
                Ok(_) => Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
                Err(error) => Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_clock_rings_not_before_its_time_and_as_often_as_it_is_set() {
        let mut clock = Clock::new().unwrap();
        for milliseconds in [20, 0, 5] {
            let at = clock.now() + Duration::from_millis(milliseconds);
            clock.until(Some(at)).await.unwrap();
            assert!(clock.now() >= at && clock.now() < at + Duration::from_secs(5));
        }
        clock.until(Some(Duration::ZERO)).await.unwrap();
        // Set for later, dropped, and set for sooner.
        let far = clock.now() + Duration::from_secs(3600);
        tokio::select! {
            biased;
            _ = clock.until(Some(far)) => panic!("an hour passed"),
            () = tokio::task::yield_now() => {}
        }
        let near = clock.now() + Duration::from_millis(5);
        clock.until(Some(near)).await.unwrap();
        assert!(clock.now() < far);
    }
}
