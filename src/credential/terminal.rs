//! A password from whoever sits at the terminal.

use std::fs::File;
use std::io;

use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use tokio::sync::{Mutex, oneshot};
use zeroize::Zeroize;

use super::error::CredentialError;
use crate::logging::Question;
use crate::secret::Secret;

/// Held while a question stands: accounts are polled at once, and there is one terminal.
static TERMINAL: Mutex<()> = Mutex::const_new(());

/// Asks on the controlling terminal. Dropped, it leaves the terminal as it was.
pub(super) async fn ask(prompt: String) -> Result<Secret, CredentialError> {
    let _turn = TERMINAL.lock().await;
    let _mode = Mode::hide().map_err(CredentialError::NoTerminal)?;
    // What shows progress would draw over it.
    let _question = Question::ask();
    let (answer, answered) = oneshot::channel();
    // Not a thread of the runtime's: those are waited for at its end, and this one may wait for a key for ever.
    let asking = std::thread::Builder::new().name("ask".into()).spawn(move || {
        // The one who asked may have been stopped.
        let _ = answer.send(rpassword::prompt_password(prompt));
    });
    asking.map_err(CredentialError::NoTerminal)?;
    match answered.await {
        Ok(Ok(typed)) if typed.is_empty() => Err(CredentialError::NotTyped),
        Ok(Ok(mut typed)) => {
            let secret = Secret::new(typed.as_bytes());
            typed.zeroize();
            Ok(secret)
        }
        // Ctrl-C and Ctrl-D.
        Ok(Err(error))
            if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::UnexpectedEof) =>
        {
            Err(CredentialError::NotTyped)
        }
        Ok(Err(error)) => Err(CredentialError::NoTerminal(error)),
        Err(_) => Err(CredentialError::NotTyped),
    }
}

/// The terminal's mode before the question; without echo a shell is hard to use.
struct Mode {
    terminal: File,
    before: Termios,
}

impl Mode {
    /// Has nothing shown of what is typed, from before the question on: whoever is quick, or pastes, does not wait for it.
    fn hide() -> io::Result<Self> {
        let terminal = File::options().read(true).write(true).open("/dev/tty")?;
        let before = tcgetattr(&terminal)?;
        let mut hidden = before.clone();
        hidden.local_flags.remove(LocalFlags::ECHO);
        hidden.local_flags.insert(LocalFlags::ECHONL);
        let this = Self { terminal, before };
        tcsetattr(&this.terminal, SetArg::TCSANOW, &hidden)?;
        Ok(this)
    }
}

impl Drop for Mode {
    fn drop(&mut self) {
        if let Err(error) = tcsetattr(&self.terminal, SetArg::TCSANOW, &self.before) {
            log::debug!("cannot restore the terminal's mode: {error}");
        }
    }
}
