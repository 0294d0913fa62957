//! Progress of each account, on a terminal.

use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicUsize, Ordering};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Common;
use crate::config::Account;
use crate::logging;
use crate::session::{Ask, Progress};

/// Bars of accounts that are being polled, at the bottom of the terminal that standard error is; or nothing.
#[derive(Debug, Clone)]
pub struct Bars(Option<MultiProgress>);

impl Bars {
    /// Shows bars if a person looks on who wants neither silence (`-q`) nor lines (`-v`).
    pub fn new(common: &Common) -> Self {
        if common.quiet || common.verbose > 0 || !io::stderr().is_terminal() {
            return Self::none();
        }
        let bars = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10));
        let above = bars.clone();
        logging::write_above(move |lines| above.println(lines));
        Self(Some(bars))
    }

    /// Shows none.
    pub fn none() -> Self {
        Self(None)
    }

    /// Makes the bar of an account whose session begins.
    pub fn of(&self, account: &Account) -> Box<dyn Progress> {
        let Some(bars) = &self.0 else { return Box::new(()) };
        let bar =
            ProgressBar::no_length().with_style(style("{prefix}: {msg}")).with_prefix(account.name.clone());
        Box::new(Bar {
            bar: bars.add(bar),
            bars: bars.clone(),
            asks: account.password.is_none(),
            messages: AtomicUsize::new(0),
            delivered: AtomicUsize::new(0),
        })
    }
}

/// Says whether a person can be asked for a password: the prompt is read where it is shown, on the terminal.
pub fn ask() -> Ask {
    if io::stderr().is_terminal() { Ask::Terminal } else { Ask::Never }
}

/// One account's bar; leaves the screen with its session.
struct Bar {
    bars: MultiProgress,
    bar: ProgressBar,
    /// The password is asked for on the terminal, and a bar would overwrite the prompt.
    asks: bool,
    messages: AtomicUsize,
    delivered: AtomicUsize,
}

impl Bar {
    fn show_messages(&self) {
        let delivered = self.delivered.load(Ordering::Relaxed);
        self.bar.set_message(format!("{delivered} of {} messages", self.messages.load(Ordering::Relaxed)));
    }
}

impl Progress for Bar {
    fn stage(&self, stage: &'static str) {
        if !(self.asks && matches!(stage, "connecting" | "logging in"))
            && self.messages.load(Ordering::Relaxed) == 0
        {
            self.bar.set_message(stage);
        }
    }

    fn planned(&self, messages: usize, octets: u64) {
        if messages > 0 {
            self.messages.store(messages, Ordering::Relaxed);
            let template = "{prefix}: {msg}, {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}";
            self.bar.set_style(style(template));
            // The rate is that of the messages, not of connecting and logging in.
            self.bar.reset();
            self.bar.set_length(octets);
            self.show_messages();
        }
    }

    fn received(&self, octets: u64) {
        self.bar.inc(octets);
    }

    fn delivered(&self, messages: usize) {
        self.delivered.fetch_add(messages, Ordering::Relaxed);
        self.show_messages();
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
        self.bars.remove(&self.bar);
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates of this file are well formed")
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex, PoisonError};

    use indicatif::TermLike;

    use super::*;

    /// Everything that was written since somebody last looked.
    #[derive(Debug, Clone, Default)]
    struct Screen(Arc<Mutex<String>>);

    impl Screen {
        fn looked_at(&self) -> String {
            std::mem::take(&mut *self.0.lock().unwrap()).trim().to_owned()
        }
    }

    impl TermLike for Screen {
        fn width(&self) -> u16 {
            100
        }
        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn write_line(&self, line: &str) -> io::Result<()> {
            self.write_str(line)
        }
        fn write_str(&self, text: &str) -> io::Result<()> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push_str(text);
            Ok(())
        }
        fn clear_line(&self) -> io::Result<()> {
            Ok(())
        }
        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_bar_shows_what_is_done_then_messages_octets_and_rate_and_leaves_with_its_session() {
        let screen = Screen::default();
        let target = ProgressDrawTarget::term_like_with_hz(Box::new(screen.clone()), 255);
        let bars = Bars(Some(MultiProgress::with_draw_target(target)));
        let bar = bars.of(&crate::cli::poll::tests::account("home", "pop.example.org"));
        bar.stage("connecting");
        assert_eq!(screen.looked_at(), "", "the prompt for the password is on the screen now");
        bar.stage("listing");
        assert_eq!(screen.looked_at(), "home: listing");
        bar.planned(3, 4096);
        screen.looked_at();
        bar.received(1024);
        bar.delivered(1);
        let shown = screen.looked_at();
        assert!(shown.contains("home: 1 of 3 messages, 1.00 KiB of 4.00 KiB, "), "{shown}");
        bar.stage("fetching");
        drop(bar);
        assert_eq!(screen.looked_at(), "");
    }
}
