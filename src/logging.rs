//! Lines on standard error, for people, for machines and for systemd's journal; the account in every line about one.
//!
//! Which account a line is about is known from the task that writes it ([`of_account`]), so that net, delivery and
//! state need not be told whom they work for. A line that starts with `ACCOUNT: ` itself is not given the name twice.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::sync::{Arc, OnceLock};

use log::{Level, LevelFilter};
use serde::Serialize;

use crate::text::Shown;

/// How a line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `postrider: home: ...`, for people.
    Text,
    /// One object a line: `time`, `level`, `account` (or null), `message`.
    Json,
    /// `<3>home: ...`: the priority that systemd takes from the front of a line (sd-daemon(3)).
    Journal,
}

tokio::task_local! {
    static ACCOUNT: Arc<str>;
}

/// What becomes of a screen at whose bottom something is kept; see [`keep`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Screen<'a> {
    /// Whole lines, without the last line end, are written above it.
    Lines(&'a str),
    /// A question is asked, and has the screen for itself.
    Asked,
    /// It was answered.
    Answered,
}

type Keeper = Box<dyn Fn(Screen<'_>) -> io::Result<()> + Send + Sync>;

static KEEPER: OnceLock<Keeper> = OnceLock::new();

/// Starts the log. Records of other crates are never more verbose than warnings.
pub fn start(level: LevelFilter, format: Format) {
    let started = env_logger::Builder::new()
        .filter_level(level.min(LevelFilter::Warn))
        .filter_module(env!("CARGO_CRATE_NAME"), level)
        .target(env_logger::Target::Pipe(Box::new(StandardError)))
        .format(move |out, record| {
            let time = || out.timestamp_millis().to_string();
            let message = record.args().to_string();
            let lines = ACCOUNT
                .try_with(|account| lines(format, record.level(), Some(account), &message, time))
                .unwrap_or_else(|_| lines(format, record.level(), None, &message, time));
            out.write_all(lines.as_bytes())
        })
        .try_init();
    // Someone else's logger is already there: a program that has this crate as its library.
    if started.is_err() {
        return;
    }
    // A panic is told like everything else: with its account, and in the format that was asked for.
    std::panic::set_hook(Box::new(|panic| {
        let payload = panic.payload_as_str().unwrap_or("panic");
        match panic.location() {
            Some(place) => log::error!("internal error at {}:{}: {payload}", place.file(), place.line()),
            None => log::error!("internal error: {payload}"),
        }
    }));
}

/// Runs a future whose log lines are about an account.
pub async fn of_account<F: Future>(account: Arc<str>, future: F) -> F::Output {
    ACCOUNT.scope(account, future).await
}

/// Runs a function whose log lines are about an account.
pub fn about<R>(account: &str, function: impl FnOnce() -> R) -> R {
    ACCOUNT.sync_scope(Arc::from(account), function)
}

/// Has this function write every later line, and make room for questions: progress bars that stay at the bottom of the
/// screen know how. Only the first call counts.
pub fn keep(keeper: impl Fn(Screen<'_>) -> io::Result<()> + Send + Sync + 'static) {
    // Failing means that one is there already, which is what is documented.
    let _ = KEEPER.set(Box::new(keeper));
}

/// A question on the screen: until it is dropped, nothing else is drawn there.
#[derive(Debug)]
pub struct Question(());

impl Question {
    pub fn ask() -> Self {
        Self::show(Screen::Asked);
        Self(())
    }

    fn show(what: Screen<'_>) {
        if let Some(keeper) = KEEPER.get() {
            // The question is asked all the same.
            let _ = keeper(what);
        }
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        Self::show(Screen::Answered);
    }
}

/// Standard error, whatever else is on the screen.
struct StandardError;

impl Write for StandardError {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        match (KEEPER.get(), octets.strip_suffix(b"\n").map(str::from_utf8)) {
            (Some(keeper), Some(Ok(lines))) => keeper(Screen::Lines(lines))?,
            (Some(_) | None, _) => io::stderr().lock().write_all(octets)?,
        }
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes one record, with its line ends.
fn lines(
    format: Format,
    level: Level,
    account: Option<&Arc<str>>,
    message: &str,
    time: impl FnOnce() -> String,
) -> String {
    let message = harmless(message);
    // A name is one line, a stranger's that is refused for its line ends, too.
    let account = account.map(|account| harmless(account).replace('\n', "\\n"));
    // Who knew the account's name and wrote it gets the same line as who did not.
    let message = match &account {
        Some(account) => message
            .strip_prefix(account.as_str())
            .and_then(|rest| rest.strip_prefix(": "))
            .unwrap_or(&message),
        None => &message,
    };
    let about = account.as_ref().map(|account| format!("{account}: ")).unwrap_or_default();
    match format {
        Format::Text => format!("postrider: {}{about}{message}\n", word(level)),
        Format::Json => {
            let record =
                JsonRecord { time: time(), level: name(level), account: account.as_deref(), message };
            let mut line = serde_json::to_string(&record).expect("four strings are always JSON");
            line.push('\n');
            line
        }
        Format::Journal => {
            let mut lines = String::new();
            for (number, line) in message.lines().enumerate() {
                let about = if number == 0 { about.as_str() } else { "" };
                lines.extend(["<", priority(level), ">", about, line, "\n"]);
            }
            lines
        }
    }
}

#[derive(Serialize)]
struct JsonRecord<'a> {
    time: String,
    level: &'static str,
    account: Option<&'a str>,
    message: &'a str,
}

/// Escapes what could steer a terminal or forge a line. Who logs a stranger's words escapes them already; other
/// crates may not. Line ends stay: they are ours.
fn harmless(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|octet| matches!(octet, b' '..=b'~' | b'\n')) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len());
    for (number, mut line) in text.split('\n').enumerate() {
        if number > 0 {
            safe.push('\n');
        }
        // `Shown` bounds what it shows, and a line of a trace may be longer than that.
        while !line.is_empty() {
            let (piece, rest) = line.split_at(line.floor_char_boundary(256));
            write!(safe, "{}", Shown(piece.as_bytes())).expect("writing to a String does not fail");
            line = rest;
        }
    }
    Cow::Owned(safe)
}

fn word(level: Level) -> &'static str {
    match level {
        // A failure and the line of a message speak for themselves.
        Level::Error | Level::Info => "",
        Level::Warn => "warning: ",
        Level::Debug => "debug: ",
        Level::Trace => "trace: ",
    }
}

fn name(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warn => "warning",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    }
}

fn priority(level: Level) -> &'static str {
    match level {
        Level::Error => "3",
        Level::Warn => "4",
        Level::Info => "6",
        Level::Debug | Level::Trace => "7",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(format: Format, level: Level, account: Option<&str>, message: &str) -> String {
        let account = account.map(Arc::from);
        lines(format, level, account.as_ref(), message, || "2026-11-23T14:05:00.000Z".into())
    }

    #[test]
    fn the_account_is_in_every_line_once() {
        for message in ["cannot connect", "home: cannot connect"] {
            let text = written(Format::Text, Level::Warn, Some("home"), message);
            assert_eq!(text, "postrider: warning: home: cannot connect\n");
            let journal = written(Format::Journal, Level::Warn, Some("home"), message);
            assert_eq!(journal, "<4>home: cannot connect\n");
            let json = written(Format::Json, Level::Warn, Some("home"), message);
            assert_eq!(
                json,
                "{\"time\":\"2026-11-23T14:05:00.000Z\",\"level\":\"warning\",\"account\":\"home\",\"message\":\"cannot connect\"}\n"
            );
        }
        assert_eq!(written(Format::Text, Level::Error, None, "no"), "postrider: no\n");
        assert!(written(Format::Json, Level::Error, None, "no").contains("\"account\":null"));
    }

    #[test]
    fn every_line_of_a_failure_has_its_priority() {
        let journal = written(Format::Journal, Level::Error, Some("home"), "home: refused\n  server: no");
        assert_eq!(journal, "<3>home: refused\n<3>  server: no\n");
    }

    #[test]
    fn no_log_line_steers_a_terminal() {
        for format in [Format::Text, Format::Journal, Format::Json] {
            let line = written(format, Level::Debug, Some("ho\x1bme"), "\x1b]0;owned\x07 \u{202e} Grüße \r");
            assert!(!line.trim_end().chars().any(char::is_control), "{line:?}");
            assert!(line.contains("Grüße"), "{line:?}");
        }
    }

    #[test]
    fn an_account_whose_name_has_line_ends_forges_no_line() {
        for format in [Format::Text, Format::Journal, Format::Json] {
            let line = written(format, Level::Error, Some("a\npostrider: b"), "is refused");
            assert_eq!(line.lines().count(), 1, "{line:?}");
        }
    }

    #[test]
    fn a_long_line_is_logged_whole() {
        let long = "ü".repeat(5000);
        assert_eq!(harmless(&long), long);
    }

    #[tokio::test]
    async fn a_line_knows_its_account_from_the_task_that_writes_it() {
        let name = || ACCOUNT.try_with(|account| account.to_string()).ok();
        let home = of_account("home".into(), async move {
            tokio::task::yield_now().await;
            name()
        });
        let work = of_account("work".into(), async move { name() });
        assert_eq!(tokio::join!(home, work), (Some("home".into()), Some("work".into())));
        assert_eq!(about("other", name), Some("other".into()));
        assert_eq!(name(), None);
    }
}
