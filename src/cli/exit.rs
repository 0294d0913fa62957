//! What the program's exit status says.

use std::process::ExitCode;

use crate::session::Report;

/// An exit status; the numbers are those of sysexits.h, so that cron, systemd and mail tools understand them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Exit(u8);

impl Exit {
    /// All accounts succeeded, new mail or not; for `check`: mail is waiting.
    pub const SUCCESS: Self = Self(0);
    /// `check` alone: no mail is waiting.
    pub const NONE_WAITING: Self = Self(1);
    /// The command line is wrong.
    pub const USAGE: Self = Self(2);
    /// Something failed, and a later run may succeed (`EX_TEMPFAIL`).
    pub const LATER: Self = Self(75);
    /// The configuration is wrong (`EX_CONFIG`); nothing was contacted.
    pub const CONFIGURATION: Self = Self(78);

    /// Sums up what became of several accounts.
    ///
    /// Refused credentials (77) go before what may pass by itself (75): they want a person.
    pub fn of(reports: &[Report]) -> Self {
        Self(reports.iter().map(Report::exit_status).max().unwrap_or(0))
    }

    /// Does the same without regard to messages that are held.
    pub fn of_failures(reports: &[Report]) -> Self {
        let failures = reports.iter().filter_map(|report| report.failure.as_ref());
        Self(failures.map(|failure| failure.class.exit_status()).max().unwrap_or(0))
    }

    /// Takes the status that a failure's class stands for.
    pub fn of_class(class: crate::failure::Class) -> Self {
        Self(class.exit_status())
    }

    pub fn number(self) -> u8 {
        self.0
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.0.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Class;

    fn ended(class: Class) -> Report {
        Report::failed("home", class)
    }

    #[test]
    fn refused_credentials_go_before_a_network_failure_and_that_before_success() {
        let fine = Report::default;
        let held = || Report { leaves_held: 1, ..Report::default() };
        assert_eq!(Exit::of(&[]), Exit::SUCCESS);
        assert_eq!(Exit::of(&[fine(), fine()]), Exit::SUCCESS);
        assert_eq!(Exit::of(&[fine(), held()]), Exit::LATER);
        assert_eq!(Exit::of(&[ended(Class::Network), fine()]), Exit::LATER);
        assert_eq!(Exit::of(&[ended(Class::Credentials), ended(Class::Network)]).number(), 77);
        assert_eq!(Exit::of(&[ended(Class::Network), ended(Class::Credentials)]).number(), 77);
    }
}
