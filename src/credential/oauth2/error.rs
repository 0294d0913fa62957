//! Why there is no token, in words, and what to do about it.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::failure::Class;
use crate::net::http::HttpError;
use crate::state::StateError;
use crate::text::Shown;

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum OAuth2Error {
    /// Nobody has logged in yet.
    #[error("no login of {user} is stored")]
    NotLoggedIn { user: String },
    /// The stored login is for other services.
    #[error("the stored login of {user} is not for {}", .lacking.join(" "))]
    Lacks { user: String, lacking: Vec<String> },
    /// The provider refused (RFC 6749, 5.2).
    #[error("refused ({})", Shown(.0.error.as_bytes()))]
    Refused(Refused),
    /// The provider cannot answer now.
    #[error("the provider cannot answer now (HTTP {status}){}", .after.map(|after| format!("; it wants {}s of peace", after.as_secs())).unwrap_or_default())]
    Later {
        status: u16,
        /// After how long it may be asked again, if it says so.
        after: Option<Duration>,
        said: Vec<u8>,
    },
    /// What came is no answer to what was asked.
    #[error("server sent {what}")]
    NoAnswer { what: String },
    #[error(transparent)]
    Http(#[from] HttpError),
    /// Another task or process is at it.
    #[error("gave up after {}s waiting for another process to renew the token", .after.as_secs_f32())]
    Busy { after: Duration },
    #[error(transparent)]
    State(#[from] StateError),
    #[error("cannot use {}: {what}", .path.display())]
    Certificate { path: PathBuf, what: String },
    #[error("cannot get random octets: {0}")]
    Random(getrandom::Error),
    /// The provider has no codes for other devices, or not for mail.
    #[error("the provider gives no codes for other devices, or not for mail")]
    NoDevice,
    #[error("the provider gave no refresh token")]
    NoRefresh,
    /// Less was allowed than is needed.
    #[error("the access was not allowed for {}", .lacking.join(" "))]
    NotAllowed { lacking: Vec<String> },
    #[error("cannot wait for the browser on this machine: {0}")]
    Listen(io::Error),
    /// `token_command` printed what is none.
    #[error("the command {command} printed {what}")]
    Printed { command: String, what: &'static str },
}

/// A refusal of the provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// `invalid_grant`, ...
    pub error: String,
    /// Its own words, with secrets masked.
    pub said: Vec<u8>,
    /// What was refused.
    pub from: Origin,
}

/// What a provider has refused: an address or a code of a person who is logging in, or a refresh token, by where that came
/// from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    Code,
    /// `login` stored it.
    Login,
    /// `refresh_token` names it.
    Configuration,
}

/// What a provider's code means for whoever has to do something: Entra's `AADSTS` numbers.
const CODES: [(u32, &str); 34] = [
    (16000, LOG_IN),
    (
        50011,
        "the redirect is not registered: add `http://localhost` under \"Mobile and desktop applications\"",
    ),
    (50020, "this user is not of that directory: set `tenant`"),
    (50034, "there is no such user in that directory: check `user` and `tenant`"),
    (50053, "the account is locked after too many sign-ins: wait, and look at where they come from"),
    (50055, "the user's password has expired: change it, then log in again"),
    (50057, "the user is disabled: ask the administrator"),
    (50076, MORE_PROOF),
    (50078, MORE_PROOF),
    (50079, MORE_PROOF),
    (50097, "the administrator lets only known devices in (conditional access)"),
    (50105, "the user is not assigned to this application: ask the administrator"),
    (50126, "user or password is wrong"),
    (50158, MORE_PROOF),
    (50173, "the password was changed, or sessions were revoked: log in again"),
    (50194, "the application is of one directory: set `tenant` to its domain or id"),
    (53000, BLOCKED),
    (53001, BLOCKED),
    (53003, BLOCKED),
    (530_034, BLOCKED),
    (65001, CONSENT),
    (65004, "the access was declined"),
    (
        70011,
        "the application has no permission for this scope: add POP, IMAP or SMTP under \"API permissions\"",
    ),
    (90002, "there is no such directory: check `tenant`"),
    (90094, CONSENT),
    (90095, CONSENT),
    (700_016, "there is no such application in that directory: check `client_id` and `tenant`"),
    (700_027, "the certificate is not registered with the application, or its key is another one"),
    (700_082, "the login was unused for too long: log in again"),
    (7_000_112, "the application is disabled: ask the administrator"),
    (7_000_215, "`client_secret` is wrong: it is the secret's value that counts, not its id"),
    (
        7_000_218,
        "the application is not public: switch on \"Allow public client flows\", or set `client_secret`",
    ),
    (7_000_222, "`client_secret` has expired: make a new one"),
    (9_002_346, "the application is for personal accounts: write `tenant: consumers`"),
];

const LOG_IN: &str = "log in again";
const MORE_PROOF: &str =
    "the provider wants more proof of who it is (multi-factor): log in again in a browser";
const BLOCKED: &str =
    "the administrator's rules block this access (conditional access): ask to have this application let in";
const CONSENT: &str =
    "nobody has allowed this application: log in again and allow it, or have the administrator do so";

/// The same by the error's name (RFC 6749, 4.1.2.1 and 5.2; RFC 8628, 3.5).
const ERRORS: [(&str, &str); 13] = [
    (
        "invalid_client",
        "the provider does not know this client: check `client_id`; the client secret is wrong or has expired",
    ),
    ("unauthorized_client", "this client may not do this: look at how it is registered"),
    ("access_denied", "the access was declined, or the administrator's rules forbid it"),
    ("expired_token", "the code has expired: begin again"),
    ("invalid_scope", "the client may not ask for this access: look at its registration, and at `scope`"),
    ("consent_required", CONSENT),
    ("interaction_required", MORE_PROOF),
    ("login_required", LOG_IN),
    (
        "redirect_uri_mismatch",
        "the redirect is not registered: the client must be one for desktop applications",
    ),
    ("admin_policy_enforced", "the administrator's rules forbid it: ask to have this client let in"),
    ("org_internal", "the client is for its own organization's users only"),
    ("disallowed_useragent", "open the address in an ordinary browser"),
    ("authorization_pending", "nobody has allowed it yet"),
];

impl Refused {
    /// Gives the number behind `AADSTS`, if there is one.
    fn code(&self) -> Option<u32> {
        let said = String::from_utf8_lossy(&self.said);
        let (_, rest) = said.split_once("AADSTS")?;
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        rest[..digits].parse().ok()
    }

    /// Says what it means; `login` is how one logs in again.
    fn hint(&self, login: &str) -> Option<String> {
        let of_code = self
            .code()
            .and_then(|code| CODES.iter().find(|(known, _)| *known == code))
            .map(|(_, words)| *words);
        let of_error = || ERRORS.iter().find(|(known, _)| *known == self.error).map(|(_, words)| *words);
        let words = of_code.or_else(of_error).unwrap_or_default();
        let is_of_grant = ["invalid_grant", "interaction_required", "consent_required", "login_required"]
            .contains(&self.error.as_str());
        let remedy = match self.from {
            _ if !is_of_grant => None,
            Origin::Code | Origin::Login => Some(login.to_owned()),
            Origin::Configuration => {
                Some("put a new one in the place of the configured `refresh_token`".to_owned())
            }
        };
        let words = match self.from {
            _ if !words.is_empty() || !is_of_grant => words,
            Origin::Code => "the code came too late, or is another's",
            Origin::Login | Origin::Configuration => "the login has expired or was revoked",
        };
        let parts = [Some(words.to_owned()).filter(|words| !words.is_empty()), remedy];
        Some(parts.into_iter().flatten().collect::<Vec<_>>().join("; ")).filter(|hint| !hint.is_empty())
    }

    /// Says whether a person must act before the same can succeed: of all that is not about the moment, and whatever else
    /// it is about, asking again each five minutes helps nobody.
    fn class(&self) -> Class {
        match self.error.as_str() {
            "temporarily_unavailable" | "server_error" | "slow_down" => Class::Refused,
            // The code, not the credentials.
            "expired_token" | "authorization_pending" => Class::Refused,
            _ => Class::Credentials,
        }
    }
}

impl OAuth2Error {
    /// Gives what kind of trouble it is.
    pub fn class(&self) -> Class {
        match self {
            Self::NotLoggedIn { .. } | Self::Lacks { .. } => Class::Credentials,
            Self::Refused(refused) => refused.class(),
            Self::Later { .. } => Class::Refused,
            Self::NoAnswer { .. } => Class::Protocol,
            Self::Http(HttpError::Net(error)) => error.class(),
            Self::Http(HttpError::Protocol(_) | HttpError::TooLong) => Class::Protocol,
            Self::Http(HttpError::Request(_) | HttpError::Unreadable(_)) => Class::Internal,
            Self::Http(HttpError::TimedOut { .. } | HttpError::Closed | HttpError::Lost(_)) => Class::Network,
            Self::Busy { .. } => Class::InUse,
            Self::State(_) => Class::State,
            Self::Certificate { .. }
            | Self::Printed { .. }
            | Self::NoDevice
            | Self::NoRefresh
            | Self::NotAllowed { .. } => Class::Credentials,
            Self::Listen(_) => Class::Network,
            Self::Random(_) => Class::Internal,
        }
    }

    /// Gives what the provider said, if it refused.
    pub fn said(&self) -> Option<&[u8]> {
        match self {
            Self::Refused(Refused { said, .. }) | Self::Later { said, .. } if !said.is_empty() => Some(said),
            _ => None,
        }
    }

    /// Gives the same behind the error's code.
    pub fn full_said(&self) -> Vec<u8> {
        match self {
            Self::Refused(Refused { error, said, .. }) if said.is_empty() => error.clone().into_bytes(),
            Self::Refused(Refused { error, said, .. }) => [error.as_bytes(), b": ", said].concat(),
            other => other.said().unwrap_or_default().to_vec(),
        }
    }

    /// Gives what the user can do about it, if that is known; `name` is the account's.
    pub fn hint(&self, name: &str) -> Option<String> {
        let login = format!("run `postrider login {name}`");
        match self {
            Self::NotLoggedIn { .. } | Self::Lacks { .. } => Some(login),
            Self::Refused(refused) => refused.hint(&login),
            Self::Later { .. } => Some("this is tried again".to_owned()),
            Self::NoAnswer { .. } => {
                Some("is `token_url` right, and is nothing between here and there?".to_owned())
            }
            Self::Http(error) => error.hint(),
            Self::State(error) => error.hint(),
            Self::Certificate { .. } => Some(
                "`client_certificate` and `client_key` must be PEM files that belong together, of an RSA key"
                    .to_owned(),
            ),
            Self::Printed { .. } => {
                Some("it must print an access token, or JSON with `access_token` and `expires_in`".to_owned())
            }
            Self::NoDevice => {
                Some("log in in a browser, without --device; it may run on another machine".to_owned())
            }
            Self::NoRefresh => Some("`scope` may have to have offline_access in it".to_owned()),
            Self::NotAllowed { .. } => Some("log in again, and allow all that is asked for".to_owned()),
            Self::Listen(_) => Some("is the port of `redirect` free?".to_owned()),
            Self::Busy { .. } | Self::Random(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(error: &str, said: &str) -> OAuth2Error {
        OAuth2Error::Refused(Refused { error: error.into(), said: said.into(), from: Origin::Login })
    }

    #[test]
    fn a_providers_codes_are_told_apart_from_a_wrong_password() {
        for (error, said, hint, class) in [
            (
                "invalid_grant",
                "Token has been expired or revoked.",
                "the login has expired or was revoked; run `postrider login home`",
                Class::Credentials,
            ),
            (
                "invalid_grant",
                "AADSTS700082: The refresh token has expired",
                "the login was unused for too long: log in again; run `postrider login home`",
                Class::Credentials,
            ),
            (
                "invalid_client",
                "AADSTS7000222: The provided client secret keys are expired",
                "`client_secret` has expired: make a new one",
                Class::Credentials,
            ),
            (
                "invalid_grant",
                "AADSTS53003: Access has been blocked",
                "the administrator's rules block this access (conditional access): ask to have this application let in; run `postrider login home`",
                Class::Credentials,
            ),
            (
                "invalid_request",
                "AADSTS9002346: Application is configured for",
                "the application is for personal accounts: write `tenant: consumers`",
                Class::Credentials,
            ),
            (
                "invalid_client",
                "",
                "the provider does not know this client: check `client_id`; the client secret is wrong or has expired",
                Class::Credentials,
            ),
            (
                "invalid_scope",
                "",
                "the client may not ask for this access: look at its registration, and at `scope`",
                Class::Credentials,
            ),
            ("temporarily_unavailable", "", "", Class::Refused),
        ] {
            let told = refused(error, said);
            assert_eq!(
                (told.hint("home").unwrap_or_default().as_str(), told.class()),
                (hint, class),
                "{error} {said}"
            );
        }
    }

    #[test]
    fn what_a_provider_says_is_shown_safely() {
        assert_eq!(refused("x\x1b[2J", "").to_string(), "refused (x\\u{1b}[2J)");
    }
}
