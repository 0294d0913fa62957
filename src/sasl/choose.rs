//! Which mechanism a log-in uses.

use super::{Auth, Auto, Exposes, MECHANISMS, Mechanism};
use crate::text::Shown;

/// What the server and the connection can do.
#[derive(Debug, Clone, Copy)]
pub struct Offered<'a> {
    /// The names on the server's SASL capability line (RFC 5034, 3); case does not matter.
    pub sasl: &'a [&'a str],
    pub user: User,
    /// The greeting has a time stamp for APOP.
    pub apop_stamp: bool,
    pub tls: Protection,
    /// A TLS client certificate is configured.
    pub client_certificate: bool,
    /// Tokens are configured, in the place of a password.
    pub tokens: bool,
    /// The TLS channel has an exporter value to bind to.
    pub exporter: bool,
}

/// Whether the server takes USER and PASS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum User {
    /// It says so.
    Announced,
    /// It names no way to log in at all, so that this one is tried.
    Untold,
    Absent,
}

/// How a connection is protected at the moment of the log-in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protection {
    /// By TLS.
    Protected,
    /// Not at all.
    Plain,
    /// Not yet: the server announces STLS, and may want it before any log-in.
    Announced,
}

/// No mechanism is both offered and allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot choose a mechanism: the server offers {offers}; {allows}")]
pub struct NoMechanism {
    offers: String,
    allows: String,
    hint: String,
}

impl NoMechanism {
    /// Gives what to write into the configuration.
    pub fn hint(&self) -> &str {
        &self.hint
    }
}

impl Offered<'_> {
    /// Says whether the server offers a SCRAM-SHA-256 that binds to the TLS channel.
    pub fn plus_offered(&self) -> bool {
        self.names(Mechanism::ScramSha256Plus)
    }

    /// Lists what is offered, as the server spells it, and the ways to log in without SASL.
    pub fn shown(&self) -> Vec<String> {
        let mut all: Vec<_> = self.sasl.iter().map(|name| Shown(name.as_bytes()).to_string()).collect();
        let user = (self.user == User::Announced).then_some(Mechanism::UserPass);
        let apop = self.apop_stamp.then_some(Mechanism::Apop);
        all.extend(user.into_iter().chain(apop).map(|other| other.shown().to_owned()));
        all
    }

    fn names(&self, mechanism: Mechanism) -> bool {
        match mechanism {
            Mechanism::UserPass => self.user != User::Absent,
            Mechanism::Apop => self.apop_stamp,
            Mechanism::External
            | Mechanism::OAuthBearer
            | Mechanism::Xoauth2
            | Mechanism::ScramSha256Plus
            | Mechanism::ScramSha256
            | Mechanism::ScramSha1
            | Mechanism::Plain
            | Mechanism::Login
            | Mechanism::CramMd5 => mechanism
                .sasl_name()
                .is_some_and(|name| self.sasl.iter().any(|offered| offered.eq_ignore_ascii_case(name))),
        }
    }

    /// Says whether the mechanism takes what is configured: a token, or a password.
    fn suits(&self, mechanism: Mechanism) -> bool {
        mechanism == Mechanism::External || (mechanism.exposes() == Exposes::Token) == self.tokens
    }

    /// Says whether this connection can carry the mechanism, whatever the server offers.
    fn can_carry(&self, mechanism: Mechanism) -> bool {
        match mechanism {
            Mechanism::ScramSha256Plus => self.exporter,
            Mechanism::Apop => self.apop_stamp,
            Mechanism::External
            | Mechanism::OAuthBearer
            | Mechanism::Xoauth2
            | Mechanism::ScramSha256
            | Mechanism::ScramSha1
            | Mechanism::Plain
            | Mechanism::Login
            | Mechanism::UserPass
            | Mechanism::CramMd5 => true,
        }
    }
}

/// Chooses the mechanism: of those that `auth` allows, in its order, the first that the server offers and the
/// connection can carry.
///
/// `auto` allows what [`MECHANISMS`] says, over TLS only. A list of one is an order, not a choice: it is taken even
/// when the server does not announce it, because servers without CAPA announce nothing.
pub fn choose(auth: &Auth, offered: Offered<'_>) -> Result<Mechanism, NoMechanism> {
    let usable = |&mechanism: &Mechanism| offered.names(mechanism) && offered.can_carry(mechanism);
    let chosen = match auth {
        Auth::Auto => automatic(&offered).find(usable),
        Auth::List(list) => match list.as_slice() {
            [only] => Some(*only).filter(|&only| offered.can_carry(only)),
            list => list.iter().copied().find(usable),
        },
    };
    chosen.ok_or_else(|| nothing_fits(auth, &offered))
}

/// Says why [`choose`] chose it.
pub fn why(auth: &Auth, offered: &Offered<'_>, chosen: Mechanism) -> &'static str {
    match auth {
        Auth::Auto => "the first that `auth: auto` takes",
        Auth::List(list) if list.len() == 1 && !offered.names(chosen) => {
            "`auth` asks for it, and the server does not announce it"
        }
        Auth::List(list) if list.len() == 1 => "`auth` asks for it",
        Auth::List(_) => "the first in `auth` that the server offers",
    }
}

/// Says what to write into the configuration where the server refused a log-in, if that may be no word on the password:
/// it wants TLS first, or does not even announce the mechanism.
pub fn instead(mechanism: Mechanism, offered: &Offered<'_>) -> Option<String> {
    let is_announced = match mechanism {
        Mechanism::UserPass => offered.user == User::Announced,
        other => offered.names(other),
    };
    let name = mechanism.shown();
    if offered.tls == Protection::Announced {
        return Some(match is_announced {
            true => format!("{STLS}; if that is not it, check user and password"),
            false => format!("{STLS} (without it, it announces no {name})"),
        });
    }
    if is_announced || mechanism == Mechanism::UserPass && offered.user == User::Untold {
        return None;
    }
    let (offers, fitting) = (offers(offered), list(&fitting(offered)));
    Some(match (offers.as_str(), fitting) {
        (NOTHING, Some(list)) => {
            format!(
                "the server announces no mechanism at all, so that {name} may be none that it has: write {list}"
            )
        }
        (_, Some(list)) => {
            format!("the server does not announce {name}, which `auth` asks for, but {offers}: write {list}")
        }
        (_, None) => format!("the server does not announce {name}, which `auth` asks for, but {offers}"),
    })
}

/// What to do about a server that announces STLS on a connection without TLS.
const STLS: &str = "the server announces STLS, and may want it before any log-in: write `tls: starttls`";

/// What a server offers that names no way to log in.
const NOTHING: &str = "nothing";

/// Writes the key that lists these.
fn list(names: &[&str]) -> Option<String> {
    (!names.is_empty()).then(|| format!("`auth: [{}]`", names.join(", ")))
}

/// Names what would work if it were listed, the best first.
fn fitting(offered: &Offered<'_>) -> Vec<&'static str> {
    let all = MECHANISMS.iter().map(|row| row.mechanism);
    // What it names no way of to log in without TLS, it most probably has none of.
    let is_said = |&mechanism: &Mechanism| {
        let untold = mechanism == Mechanism::UserPass && offered.user == User::Untold;
        !(untold && offered.tls == Protection::Announced)
    };
    all.filter(is_said)
        .filter(|&mechanism| {
            offered.names(mechanism) && offered.can_carry(mechanism) && offered.suits(mechanism)
        })
        .map(Mechanism::name)
        .collect()
}

/// What `auto` may take on this connection, best first.
fn automatic(offered: &Offered<'_>) -> impl Iterator<Item = Mechanism> {
    let (protection, certificate, tokens) = (offered.tls, offered.client_certificate, offered.tokens);
    let may = move |auto| match (protection, auto) {
        (Protection::Protected, Auto::OverTls) => !tokens,
        (Protection::Protected, Auto::WithTokens) => tokens,
        (Protection::Protected, Auto::WithClientCertificate) => certificate,
        (Protection::Protected, Auto::Never) | (Protection::Plain | Protection::Announced, _) => false,
    };
    MECHANISMS.iter().filter(move |row| may(row.auto)).map(|row| row.mechanism)
}

fn nothing_fits(auth: &Auth, offered: &Offered<'_>) -> NoMechanism {
    let is_plain = offered.tls != Protection::Protected;
    let allows = match auth {
        Auth::Auto if is_plain => "`auth: auto` sends nothing without TLS".to_owned(),
        Auth::Auto => format!("`auth: auto` takes {}", shown(automatic(offered))),
        Auth::List(list) => format!("`auth` allows {}", shown(list.iter().copied())),
    };
    let hint = match (auth, offered.tls, list(&fitting(offered))) {
        (Auth::Auto, Protection::Plain | Protection::Announced, Some(list)) => {
            format!("write `tls: starttls` or `tls: implicit`; to log in without TLS all the same, {list}")
        }
        (_, Protection::Announced, None) => STLS.to_owned(),
        (_, Protection::Announced, Some(list)) => format!("{STLS}; to use what it offers without, write {list}"),
        (_, _, None) if offered.plus_offered() && !offered.exporter => {
            "SCRAM-SHA-256-PLUS needs TLS 1.3; this connection has none".to_owned()
        }
        (_, _, None) if offered.tokens => {
            "the server takes no tokens on this connection; use `password` in the place of `oauth2`".to_owned()
        }
        (_, _, None) => {
            "the server offers nothing that postrider can use; ask its operator, or name one mechanism to try, such \
             as `auth: [user-pass]`"
                .to_owned()
        }
        (_, _, Some(list)) => format!("to use what the server offers, write {list}"),
    };
    NoMechanism { offers: offers(offered), allows, hint }
}

fn offers(offered: &Offered<'_>) -> String {
    let mut names = offered.shown();
    // More names than any server has are no help to anyone.
    names.truncate(32);
    if names.is_empty() { NOTHING.to_owned() } else { names.join(", ") }
}

fn shown(mechanisms: impl Iterator<Item = Mechanism>) -> String {
    mechanisms.map(Mechanism::shown).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TLS: Offered<'static> = Offered {
        sasl: &[],
        user: User::Absent,
        apop_stamp: false,
        tls: Protection::Protected,
        client_certificate: false,
        tokens: false,
        exporter: true,
    };
    const ALL: &[&str] = &[
        "EXTERNAL",
        "Scram-SHA-256-Plus",
        "SCRAM-SHA-256",
        "SCRAM-SHA-1",
        "PLAIN",
        "LOGIN",
        "CRAM-MD5",
        "GSSAPI",
    ];

    fn auto(offered: Offered<'_>) -> Option<Mechanism> {
        choose(&Auth::Auto, offered).ok()
    }

    #[test]
    fn auto_takes_the_best_that_is_offered_and_fits() {
        let all = Offered { sasl: ALL, user: User::Announced, apop_stamp: true, ..TLS };
        assert_eq!(auto(Offered { client_certificate: true, ..all }), Some(Mechanism::External));
        assert_eq!(auto(all), Some(Mechanism::ScramSha256Plus));
        assert_eq!(auto(Offered { exporter: false, ..all }), Some(Mechanism::Plain));
        assert_eq!(auto(Offered { sasl: &["login", "scram-sha-256"], ..all }), Some(Mechanism::Login));
        assert_eq!(auto(Offered { sasl: &["SCRAM-SHA-256"], ..all }), Some(Mechanism::UserPass));
        let scram = &["SCRAM-SHA-1", "SCRAM-SHA-256"];
        assert_eq!(auto(Offered { sasl: scram, ..TLS }), Some(Mechanism::ScramSha256));
        assert_eq!(auto(Offered { sasl: &["SCRAM-SHA-1"], ..TLS }), Some(Mechanism::ScramSha1));
    }

    #[test]
    fn auto_never_takes_md5() {
        let error =
            choose(&Auth::Auto, Offered { sasl: &["CRAM-MD5"], apop_stamp: true, ..TLS }).unwrap_err();
        assert!(error.to_string().contains("the server offers CRAM-MD5, APOP;"), "{error}");
        assert!(error.hint().contains("`auth: [cram-md5, apop]`"), "{}", error.hint());
    }

    #[test]
    fn auto_sends_nothing_without_tls() {
        let plain = Offered {
            sasl: ALL,
            user: User::Announced,
            tls: Protection::Plain,
            client_certificate: true,
            exporter: false,
            ..TLS
        };
        let error = choose(&Auth::Auto, plain).unwrap_err();
        assert!(error.to_string().contains("sends nothing without TLS"), "{error}");
        assert!(error.hint().contains("`tls: starttls`"), "{}", error.hint());
        assert_eq!(choose(&Auth::List(vec![Mechanism::Plain]), plain), Ok(Mechanism::Plain));
    }

    #[test]
    fn a_list_is_taken_in_its_own_order() {
        let list = Auth::List(vec![Mechanism::Apop, Mechanism::CramMd5, Mechanism::Plain]);
        assert_eq!(choose(&list, Offered { sasl: ALL, ..TLS }), Ok(Mechanism::CramMd5));
        assert_eq!(choose(&list, Offered { sasl: ALL, apop_stamp: true, ..TLS }), Ok(Mechanism::Apop));
        let error = choose(&list, Offered { sasl: &["X\x1b"], user: User::Announced, ..TLS }).unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot choose a mechanism: the server offers X\\u{1b}, USER/PASS; `auth` allows APOP, CRAM-MD5, PLAIN"
        );
        assert!(error.hint().contains("`auth: [user-pass]`"));
    }

    #[test]
    fn what_is_refused_without_being_announced_is_named_with_what_is() {
        let offered = Offered { sasl: &["LOGIN", "CRAM-MD5"], user: User::Announced, ..TLS };
        assert_eq!(
            instead(Mechanism::Plain, &offered).unwrap(),
            "the server does not announce PLAIN, which `auth` asks for, but LOGIN, CRAM-MD5, USER/PASS: \
             write `auth: [login, user-pass, cram-md5]`"
        );
        assert_eq!(instead(Mechanism::Login, &offered), None);
        let nothing = instead(Mechanism::Plain, &TLS).unwrap();
        assert!(nothing.ends_with("but nothing"), "{nothing}");
    }

    #[test]
    fn a_server_that_announces_stls_is_told_by_that_and_not_by_its_words() {
        let bare = Offered { tls: Protection::Announced, user: User::Untold, ..TLS };
        for mechanism in [Mechanism::UserPass, Mechanism::Plain] {
            let hint = instead(mechanism, &bare).unwrap();
            assert!(hint.contains("write `tls: starttls`") && !hint.contains("`auth:"), "{hint}");
            assert!(hint.contains("announces no"), "{hint}");
        }
        let both = Offered { sasl: &["PLAIN"], user: User::Announced, ..bare };
        let hint = instead(Mechanism::Plain, &both).unwrap();
        assert!(hint.contains("write `tls: starttls`; if that is not it, check user"), "{hint}");
        let list = Auth::List(vec![Mechanism::Plain, Mechanism::Login]);
        let error = choose(&list, bare).unwrap_err();
        assert!(
            error.to_string().contains("the server offers nothing; `auth` allows PLAIN, LOGIN"),
            "{error}"
        );
        assert!(error.hint().ends_with("write `tls: starttls`"), "{}", error.hint());
        assert!(choose(&Auth::Auto, bare).unwrap_err().hint().ends_with("write `tls: starttls`"));
    }

    #[test]
    fn user_and_pass_are_not_said_to_be_announced_where_nothing_is() {
        let silent = Offered { user: User::Untold, ..TLS };
        assert_eq!(choose(&Auth::Auto, silent), Ok(Mechanism::UserPass));
        assert_eq!(instead(Mechanism::UserPass, &silent), None);
        let hint = instead(Mechanism::CramMd5, &silent).unwrap();
        assert!(hint.starts_with("the server announces no mechanism at all"), "{hint}");
        assert!(hint.ends_with("write `auth: [user-pass]`"), "{hint}");
    }

    #[test]
    fn a_list_of_one_is_tried_unannounced_unless_it_cannot_work() {
        assert_eq!(choose(&Auth::List(vec![Mechanism::CramMd5]), TLS), Ok(Mechanism::CramMd5));
        assert!(choose(&Auth::List(vec![Mechanism::Apop]), TLS).is_err());
        let plus = Auth::List(vec![Mechanism::ScramSha256Plus]);
        let error = choose(&plus, Offered { sasl: &["SCRAM-SHA-256-PLUS"], exporter: false, ..TLS });
        assert!(error.unwrap_err().hint().contains("TLS 1.3"));
    }
}
