//! Progress of a run, on a terminal: a line an account, or one line for all where they are many.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write as _};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Common;
use super::report::{Octets, messages};
use crate::config::Account;
use crate::lock::lock;
use crate::logging;
use crate::session::{Activity, Ask, Progress};

/// Accounts of a run that have a line each; more would not fit on a screen of 24 lines beside what is told meanwhile.
const MOST_LINES: usize = 10;
/// Accounts that are named in the one line for all, when no others are left.
const NAMED: usize = 3;
/// The least time between two looks at octets that come in; a screen shows ten a second.
const FRAME: Duration = Duration::from_millis(100);
const REDRAWN: Duration = Duration::from_millis(250);

/// What is shown of a run at the bottom of the terminal that standard error is; or nothing.
#[derive(Debug, Clone)]
pub struct Bars(Option<Screen>);

#[derive(Debug, Clone)]
enum Screen {
    Each(Lines),
    All(Arc<All>),
}

/// Makes lines on the screen.
#[derive(Debug, Clone)]
struct Lines {
    bars: MultiProgress,
    /// How often they are drawn although nothing has happened: what changed within a frame is not drawn at once.
    redrawn: Option<Duration>,
}

impl Lines {
    /// Gives a line that is cut to the width of the terminal.
    fn add(&self) -> ProgressBar {
        let style = ProgressStyle::with_template("{wide_msg}").expect("a template that is well formed");
        let line = self.bars.add(ProgressBar::no_length().with_style(style));
        if let Some(every) = self.redrawn {
            line.enable_steady_tick(every);
        }
        line
    }
}

impl Bars {
    /// Shows how a run of so many accounts goes, if a person looks on who wants neither silence (`-q`) nor lines (`-v`).
    pub fn new(common: &Common, accounts: usize) -> Self {
        if common.quiet || common.verbose > 0 || !io::stderr().is_terminal() {
            return Self::none();
        }
        let target = || ProgressDrawTarget::stderr_with_hz(10);
        let bars = MultiProgress::with_draw_target(target());
        let kept = bars.clone();
        logging::keep(move |screen| keep(&kept, screen, target));
        Self::on(bars, accounts, Some(REDRAWN))
    }

    fn on(bars: MultiProgress, accounts: usize, redrawn: Option<Duration>) -> Self {
        let lines = Lines { bars, redrawn };
        Self(Some(match accounts > MOST_LINES {
            true => Screen::All(Arc::new(All::new(&lines, accounts))),
            false => Screen::Each(lines),
        }))
    }

    pub fn none() -> Self {
        Self(None)
    }

    /// Begins to show an account whose session begins.
    pub fn of(&self, account: &Account) -> Box<dyn Progress> {
        match &self.0 {
            None => Box::new(()),
            Some(Screen::Each(lines)) => Box::new(One::new(lines, account)),
            Some(Screen::All(all)) => {
                all.change(|state| {
                    state.waiting = state.waiting.saturating_sub(1);
                    state.polled.insert(account.name.clone(), Activity::Begun);
                });
                Box::new(OfAll { all: all.clone(), account: account.name.clone() })
            }
        }
    }
}

/// Keeps the lines at the bottom of the screen, unless a question stands there.
fn keep(
    bars: &MultiProgress,
    screen: logging::Screen<'_>,
    target: impl Fn() -> ProgressDrawTarget,
) -> io::Result<()> {
    match screen {
        // What is hidden writes nothing.
        logging::Screen::Lines(lines) if bars.is_hidden() => writeln!(io::stderr(), "{lines}"),
        logging::Screen::Lines(lines) => bars.println(lines),
        logging::Screen::Asked => {
            let cleared = bars.clear();
            bars.set_draw_target(ProgressDrawTarget::hidden());
            cleared
        }
        logging::Screen::Answered => {
            bars.set_draw_target(target());
            Ok(())
        }
    }
}

/// Says whether a person can be asked for a password: the prompt is read where it is shown, on the terminal.
pub fn ask() -> Ask {
    if io::stderr().is_terminal() { Ask::Terminal } else { Ask::Never }
}

/// Octets that came in since a moment.
#[derive(Debug)]
struct Flow {
    since: Instant,
    octets: u64,
    shown: Instant,
}

impl Flow {
    fn new() -> Self {
        let now = Instant::now();
        Self { since: now, octets: 0, shown: now }
    }

    /// Counts octets, and says whether the last look is long enough ago for another.
    fn add(&mut self, octets: u64) -> bool {
        self.octets = self.octets.saturating_add(octets);
        let due = self.shown.elapsed() >= FRAME;
        if due {
            self.shown = Instant::now();
        }
        due
    }

    /// Gives octets a second, once there is something to divide by.
    fn rate(&self) -> Option<f64> {
        let seconds = self.since.elapsed().as_secs_f64();
        (seconds >= 0.5 && self.octets > 0).then(|| self.octets as f64 / seconds)
    }
}

/// One account's line; leaves the screen with its session.
struct One {
    bars: MultiProgress,
    bar: ProgressBar,
    name: String,
    state: Mutex<Fetching>,
}

/// What is being fetched of one account.
#[derive(Debug)]
struct Fetching {
    messages: usize,
    delivered: usize,
    octets: u64,
    flow: Flow,
}

impl One {
    fn new(lines: &Lines, account: &Account) -> Self {
        let state = Fetching { messages: 0, delivered: 0, octets: 0, flow: Flow::new() };
        Self {
            bar: lines.add(),
            bars: lines.bars.clone(),
            name: account.name.clone(),
            state: Mutex::new(state),
        }
    }

    fn show(&self, state: &Fetching) {
        self.bar.set_message(format!("{}: {}", self.name, state.words()));
    }
}

impl Fetching {
    /// `3 of 40 messages, 1.2 MiB of 9.6 MiB (12 %), 2.4 MiB/s, 4 s left`: what matters most comes first.
    fn words(&self) -> String {
        let Self { messages: all, delivered, octets, flow } = self;
        let mut words = format!("{delivered} of {}", messages(*all));
        // A size that the server listed is a claim, and counts line ends otherwise: what is done is done.
        let came = if delivered >= all { flow.octets.max(*octets) } else { flow.octets };
        if *octets > 0 {
            let percent = (u128::from(came) * 100 / u128::from(*octets)).min(100);
            words += &format!(", {} of {} ({percent} %)", Octets(came), Octets(*octets));
        }
        if let Some(rate) = flow.rate() {
            words += &format!(", {}/s", Octets(rate as u64));
            if let Some(left @ 1..) = octets.checked_sub(came) {
                words += &format!(", {} left", Left(Duration::from_secs_f64(left as f64 / rate)));
            }
        }
        words
    }
}

impl Progress for One {
    fn doing(&self, activity: Activity) {
        let state = lock(&self.state);
        // What is fetched says more, until all of it has come.
        if state.delivered < state.messages {
            return;
        }
        self.bar.set_message(format!("{}: {activity}", self.name));
    }

    fn planned(&self, messages: usize, octets: u64) {
        if messages > 0 {
            let mut state = lock(&self.state);
            // The rate is that of the messages, not of connecting and logging in.
            *state = Fetching { messages, delivered: 0, octets, flow: Flow::new() };
            self.show(&state);
        }
    }

    fn received(&self, octets: u64) {
        let mut state = lock(&self.state);
        if state.flow.add(octets) {
            self.show(&state);
        }
    }

    fn delivered(&self, messages: usize) {
        let mut state = lock(&self.state);
        state.delivered += messages;
        self.show(&state);
    }
}

impl Drop for One {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
        self.bars.remove(&self.bar);
    }
}

/// The one line for all accounts of a run.
#[derive(Debug)]
struct All {
    bar: ProgressBar,
    state: Mutex<Run>,
}

/// How far a run of many accounts is.
#[derive(Debug)]
struct Run {
    accounts: usize,
    waiting: usize,
    /// What is being done, by account.
    polled: BTreeMap<String, Activity>,
    delivered: usize,
    flow: Flow,
}

impl All {
    fn new(lines: &Lines, accounts: usize) -> Self {
        let (polled, flow) = (BTreeMap::new(), Flow::new());
        let state = Run { accounts, waiting: accounts, polled, delivered: 0, flow };
        Self { bar: lines.add(), state: Mutex::new(state) }
    }

    fn change(&self, change: impl FnOnce(&mut Run)) {
        let mut state = lock(&self.state);
        change(&mut state);
        self.bar.set_message(state.words());
    }
}

impl Run {
    /// `37 of 200 accounts done, 64 being polled, 99 waiting; 530 messages, 12.3 MiB, 1.2 MiB/s`
    fn words(&self) -> String {
        let Self { accounts, waiting, polled, delivered, flow } = self;
        let done = accounts.saturating_sub(*waiting + polled.len());
        let mut words = format!("{done} of {accounts} accounts done, {} being polled", polled.len());
        if *waiting > 0 {
            words += &format!(", {waiting} waiting");
        } else if (1..=NAMED).contains(&polled.len()) {
            let named: Vec<_> =
                polled.iter().map(|(name, activity)| format!("{name} ({activity})")).collect();
            words += &format!(": {}", named.join(", "));
        }
        if *delivered > 0 || flow.octets > 0 {
            words += &format!("; {}, {}", messages(*delivered), Octets(flow.octets));
        }
        if let Some(rate) = flow.rate() {
            words += &format!(", {}/s", Octets(rate as u64));
        }
        words
    }
}

impl Drop for All {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// One account of many.
struct OfAll {
    all: Arc<All>,
    account: String,
}

impl Progress for OfAll {
    fn doing(&self, activity: Activity) {
        self.all.change(|state| {
            state.polled.insert(self.account.clone(), activity);
        });
    }

    fn received(&self, octets: u64) {
        let mut state = lock(&self.all.state);
        if state.flow.add(octets) {
            self.all.bar.set_message(state.words());
        }
    }

    fn delivered(&self, messages: usize) {
        self.all.change(|state| state.delivered += messages);
    }
}

impl Drop for OfAll {
    fn drop(&mut self) {
        self.all.change(|state| {
            state.polled.remove(&self.account);
        });
    }
}

/// A time that is left, for people who watch it shrink.
struct Left(Duration);

impl std::fmt::Display for Left {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.as_secs() {
            seconds @ 0..60 => write!(f, "{} s", seconds + 1),
            seconds @ 60..3600 => write!(f, "{} min", seconds / 60 + 1),
            seconds => write!(f, "{} h {} min", seconds / 3600, seconds % 3600 / 60),
        }
    }
}

#[cfg(test)]
mod tests {
    use indicatif::TermLike;

    use super::*;
    use crate::cli::poll::tests::account;

    /// Everything that was written since somebody last looked, on a terminal of this width.
    #[derive(Debug, Clone)]
    struct Terminal(Arc<Mutex<String>>, u16);

    impl Terminal {
        fn bars(&self, accounts: usize) -> Bars {
            let target = ProgressDrawTarget::term_like_with_hz(Box::new(self.clone()), 255);
            Bars::on(MultiProgress::with_draw_target(target), accounts, None)
        }

        fn looked_at(&self) -> String {
            std::mem::take(&mut *self.0.lock().unwrap()).trim().to_owned()
        }
    }

    impl TermLike for Terminal {
        fn width(&self) -> u16 {
            self.1
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
            lock(&self.0).push_str(text);
            Ok(())
        }
        fn clear_line(&self) -> io::Result<()> {
            Ok(())
        }
        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    fn terminal(width: u16) -> Terminal {
        Terminal(Arc::default(), width)
    }

    #[test]
    fn a_line_shows_what_is_done_then_messages_octets_and_share_and_leaves_with_its_session() {
        let screen = terminal(100);
        let bars = screen.bars(1);
        let bar = bars.of(&account("home", "pop.example.org"));
        bar.doing(Activity::OpeningTarget);
        assert_eq!(screen.looked_at(), "home: opening the target");
        bar.planned(3, 4096);
        screen.looked_at();
        bar.received(1024);
        bar.delivered(1);
        let shown = screen.looked_at();
        assert!(shown.contains("home: 1 of 3 messages, 1.0 KiB of 4.0 KiB (25 %)"), "{shown}");
        bar.doing(Activity::Fetching);
        bar.received(2900);
        bar.delivered(2);
        let shown = screen.looked_at();
        assert!(shown.contains("3 of 3 messages, 4.0 KiB of 4.0 KiB (100 %)"), "{shown}");
        drop(bar);
        assert_eq!(screen.looked_at(), "");
    }

    #[test]
    fn nothing_is_drawn_over_a_question() {
        let screen = terminal(100);
        let target = || ProgressDrawTarget::term_like_with_hz(Box::new(screen.clone()), 255);
        let bars = MultiProgress::with_draw_target(target());
        let shown = Bars::on(bars.clone(), 2, None);
        let [asks, other] = ["asks", "other"].map(|name| shown.of(&account(name, "pop.example.org")));
        asks.doing(Activity::GettingPassword);
        keep(&bars, logging::Screen::Asked, target).unwrap();
        screen.looked_at();
        other.doing(Activity::Connecting);
        asks.doing(Activity::GettingPassword);
        assert_eq!(screen.looked_at(), "");
        keep(&bars, logging::Screen::Answered, target).unwrap();
        other.doing(Activity::LoggingIn);
        assert!(screen.looked_at().contains("other: logging in"));
    }

    #[test]
    fn rate_and_time_left_are_shown_once_there_is_something_to_tell_them_by() {
        let since = Instant::now().checked_sub(Duration::from_secs(2)).unwrap();
        let flow = Flow { since, octets: 2 << 20, shown: since };
        let state = Fetching { messages: 40, delivered: 10, octets: 8 << 20, flow };
        let expected = "10 of 40 messages, 2.0 MiB of 8.0 MiB (25 %), 1.0 MiB/s, ";
        let words = state.words();
        assert!(words.starts_with(&expected[..45]) && words.ends_with(" s left"), "{words}");
    }

    #[test]
    fn a_line_is_cut_to_the_width_of_the_terminal_and_wide_characters_count_as_two() {
        use unicode_width::UnicodeWidthStr;
        for (name, width) in
            [("受信箱のメール".repeat(8), 40), ("x".repeat(64), 20), ("é\u{301}".repeat(30), 33)]
        {
            let screen = terminal(width);
            let bars = screen.bars(1);
            let bar = bars.of(&account(&name, "pop.example.org"));
            bar.planned(3, 4096);
            let shown = screen.looked_at();
            assert!(!shown.is_empty() && shown.width() <= usize::from(width), "{width}: {shown:?}");
        }
    }

    #[test]
    fn many_accounts_share_one_line_that_names_the_last_ones() {
        let screen = terminal(120);
        let bars = screen.bars(20);
        let Some(Screen::All(all)) = &bars.0 else { panic!("{bars:?}") };
        // What is drawn depends on how fast this machine is.
        let words = || lock(&all.state).words();
        let begin = |i: usize| bars.of(&account(&format!("a{i:02}"), "pop.example.org"));
        let mut sessions: Vec<_> = (0..12).map(begin).collect();
        assert_eq!(words(), "0 of 20 accounts done, 12 being polled, 8 waiting");
        assert!(screen.looked_at().starts_with("0 of 20 accounts done, 1 being polled, 19 waiting"));
        sessions[0].received(2048);
        sessions[0].delivered(3);
        assert!(words().ends_with("8 waiting; 3 messages, 2.0 KiB"), "{}", words());
        sessions.extend((12..20).map(begin));
        sessions[1].doing(Activity::Connecting);
        sessions.drain(2..);
        let expected = "18 of 20 accounts done, 2 being polled: a00 (begun), a01 (connecting); 3 messages";
        assert!(words().starts_with(expected), "{}", words());
    }
}
