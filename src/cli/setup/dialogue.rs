//! Questions to whoever sits at the terminal, and the answers.

use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{mpsc, oneshot};

use crate::cli::CliError;
use crate::cli::doctor::{NARROW, laid_out};
use crate::cli::stdout::Results;
use crate::credential::{self, CredentialError};
use crate::logging::{self, Screen};
use crate::secret::Secret;
use crate::stop::Stop;

/// How often something is asked that was answered wrongly.
pub(super) const TRIES: usize = 3;

/// A person at the terminal.
pub(super) struct Dialogue<'a> {
    results: &'a mut Results,
    stop: Stop,
    /// All that is typed, once a log-in has begun to read it.
    typed: Option<mpsc::UnboundedReceiver<String>>,
    /// A question stands on the screen, and its line is not over.
    asks: Arc<AtomicBool>,
}

impl<'a> Dialogue<'a> {
    pub(super) fn new(results: &'a mut Results, stop: Stop) -> Self {
        let asks = Arc::new(AtomicBool::new(false));
        let open = Arc::clone(&asks);
        // What is logged while somebody types begins on a line of its own.
        logging::keep(move |screen| match screen {
            Screen::Lines(lines) => {
                let before = if open.swap(false, Ordering::Relaxed) { "\n" } else { "" };
                writeln!(io::stderr().lock(), "{before}{lines}")
            }
            Screen::Asked | Screen::Answered => Ok(()),
        });
        Self { results, stop, typed: None, asks }
    }

    pub(super) fn stop(&self) -> &Stop {
        &self.stop
    }

    /// Says something, in lines that fit.
    pub(super) fn say(&mut self, words: &str) {
        self.beside("", words);
    }

    /// Passes on what a log-in says; what is indented is an address that is to be copied, and stays as it is.
    pub(super) fn pass_on(&mut self, words: &str) {
        for line in words.lines() {
            match line.is_empty() || line.starts_with(' ') {
                true => self.results.line(line),
                false => laid_out("", line, NARROW).iter().for_each(|line| self.results.line(line)),
            }
        }
        self.results.flush();
    }

    /// Says something below other words, behind a margin.
    pub(super) fn beside(&mut self, margin: &str, words: &str) {
        laid_out(margin, words, NARROW).iter().for_each(|line| self.results.line(line));
        self.results.flush();
    }

    /// Asks for a line; an empty one is the default, which is shown.
    pub(super) async fn ask(&mut self, question: &str, default: &str) -> Result<String, CliError> {
        let shown = if default.is_empty() { String::new() } else { format!(" [{default}]") };
        self.results.write(format!("{question}{shown}: ").as_bytes());
        self.results.flush();
        self.asks.store(true, Ordering::Relaxed);
        let line = match &mut self.typed {
            Some(typed) => tokio::select! {
                line = typed.recv() => line,
                () = self.stop.asked() => return Err(self.stopped()),
            },
            None => tokio::select! {
                line = line() => line,
                () = self.stop.asked() => return Err(self.stopped()),
            },
        };
        self.asks.store(false, Ordering::Relaxed);
        match line.map(|line| line.trim().to_owned()) {
            Some(line) if line.is_empty() => Ok(default.to_owned()),
            Some(line) => Ok(line),
            None => {
                self.results.line("");
                Err(CliError::NotSetUp("the input ended before the answer".into()))
            }
        }
    }

    /// Asks until one of these is answered, by its first letters at least.
    pub(super) async fn choose(&mut self, question: &str, of: &[&str]) -> Result<usize, CliError> {
        for _ in 0..TRIES {
            let answer = self.ask(question, of[0]).await?.to_lowercase();
            if let Some(chosen) = of.iter().position(|one| one.starts_with(&answer)) {
                return Ok(chosen);
            }
            self.say(&format!("Please answer {}.", of.join(" or ")));
        }
        Err(CliError::NotSetUp("no answer that is one".into()))
    }

    /// Asks for a password, which is not shown; `None` if nothing was typed.
    pub(super) async fn secret(&mut self, prompt: String) -> Result<Option<Secret>, CliError> {
        self.asks.store(true, Ordering::Relaxed);
        let asked = tokio::select! {
            asked = credential::ask(prompt) => asked,
            () = self.stop.asked() => return Err(self.stopped()),
        };
        self.asks.store(false, Ordering::Relaxed);
        match asked {
            Ok(secret) => Ok(Some(secret)),
            Err(CredentialError::NotTyped) => Ok(None),
            Err(error) => Err(CliError::NotSetUp(error.to_string())),
        }
    }

    /// Takes the lines that are typed from here on, for a log-in that waits for one that may be pasted.
    pub(super) fn take_typed(&mut self) -> mpsc::UnboundedReceiver<String> {
        self.typed.take().unwrap_or_else(crate::cli::login::lines)
    }

    /// Gives them back.
    pub(super) fn give_typed(&mut self, typed: mpsc::UnboundedReceiver<String>) {
        self.typed = Some(typed);
    }

    /// Waits for something that may be stopped.
    pub(super) async fn wait<T>(&mut self, work: impl Future<Output = T>) -> Result<T, CliError> {
        tokio::select! {
            done = work => Ok(done),
            () = self.stop.asked() => Err(self.stopped()),
        }
    }

    /// Ends the line of a question that is not answered any more.
    pub(super) fn stopped(&mut self) -> CliError {
        if self.asks.swap(false, Ordering::Relaxed) {
            self.results.line("");
            self.results.flush();
        }
        CliError::NotSetUp("stopped by a signal".into())
    }
}

/// Reads one line on a thread that may wait for ever: nobody else may wait for one while a password is typed.
async fn line() -> Option<String> {
    let (sender, line) = oneshot::channel();
    let reading = std::thread::Builder::new().name("answer".into()).spawn(move || {
        let mut line = String::new();
        let read = io::stdin().read_line(&mut line).is_ok_and(|octets| octets > 0);
        let _ = sender.send(read.then_some(line));
    });
    reading.ok()?;
    line.await.ok().flatten()
}
