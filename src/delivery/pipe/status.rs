//! What the exit of a command says about the message (sysexits.h).

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use nix::sys::signal::Signal;

/// What a command's end means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Delivered,
    /// It may take the message later; what happened.
    Later(String),
    /// It does not want the message; what happened.
    Refused(String),
}

impl Verdict {
    /// Reads an exit status: 0 delivered; 75, 71 and 74 and signals later; everything else refused.
    pub(super) fn of(status: ExitStatus) -> Self {
        if status.success() {
            return Self::Delivered;
        }
        let Some(code) = status.code() else {
            let signal = status.signal().unwrap_or_default();
            return Self::Later(match Signal::try_from(signal) {
                Ok(name) => format!("was ended by signal {signal} ({name})"),
                Err(_) => format!("was ended by signal {signal}"),
            });
        };
        let what = match word(code) {
            Some(word) => format!("exited with {code} ({word})"),
            None => format!("exited with {code}"),
        };
        match code {
            // EX_TEMPFAIL; EX_OSERR and EX_IOERR, as of a process that cannot fork or a disk that is full.
            75 | 71 | 74 => Self::Later(what),
            _ => Self::Refused(what),
        }
    }
}

/// Gives the name that sysexits.h has for a status.
fn word(code: i32) -> Option<&'static str> {
    Some(match code {
        64 => "EX_USAGE",
        65 => "EX_DATAERR",
        66 => "EX_NOINPUT",
        67 => "EX_NOUSER",
        68 => "EX_NOHOST",
        69 => "EX_UNAVAILABLE",
        70 => "EX_SOFTWARE",
        71 => "EX_OSERR",
        72 => "EX_OSFILE",
        73 => "EX_CANTCREAT",
        74 => "EX_IOERR",
        75 => "EX_TEMPFAIL",
        76 => "EX_PROTOCOL",
        77 => "EX_NOPERM",
        78 => "EX_CONFIG",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_0_is_delivered_and_only_passing_trouble_is_tried_again_for_its_own_sake() {
        for code in 0..=255 {
            let verdict = Verdict::of(ExitStatus::from_raw(code << 8));
            match code {
                0 => assert_eq!(verdict, Verdict::Delivered),
                71 | 74 | 75 => assert!(matches!(verdict, Verdict::Later(_)), "{code}"),
                _ => assert!(matches!(verdict, Verdict::Refused(_)), "{code}"),
            }
        }
        let no_user = Verdict::of(ExitStatus::from_raw(67 << 8));
        assert_eq!(no_user, Verdict::Refused("exited with 67 (EX_NOUSER)".into()));
        for (signal, what) in [(9, "was ended by signal 9 (SIGKILL)"), (40, "was ended by signal 40")] {
            assert_eq!(Verdict::of(ExitStatus::from_raw(signal)), Verdict::Later(what.into()));
        }
    }
}
