//! POP URLs (RFC 2384): an account on the command line, with no configuration file.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::account::{Account, CommandLine, Password, Tls, TlsMode};
use super::deliver::targets;
use super::host::{host_and_port, host_name};
use super::keys::KEYS;
use super::percent::decode;
use super::places::Places;
use super::url_parts::{UrlError, in_url};
use crate::sasl::{Auth, Exposes, MECHANISMS, Mechanism};

/// What RFC 2384 lets stand in a user as it is (`achar`).
const USER: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'$')
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'+')
    .remove(b'!')
    .remove(b'*')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b',')
    .remove(b'&')
    .remove(b'=')
    .remove(b'~');

impl Account {
    /// Reads `pop://user;AUTH=mechanism@host:port` or the same with `pops://`, and targets such as `maildir:PATH`.
    ///
    /// `pop://` means STLS and `pops://` implicit TLS unless `tls` says otherwise. The account's name is the URL in a
    /// canonical spelling; everything that neither URL nor arguments say is as for a configured account.
    ///
    /// # Errors
    ///
    /// Whatever is not such a URL (RFC 2384), a password in it, a target that is none.
    pub fn from_url(
        url: &str,
        deliver: &[impl AsRef<str>],
        tls: Option<TlsMode>,
        password_command: Option<&str>,
    ) -> Result<Self, UrlError> {
        from_url(url, deliver, tls, password_command, &Places::of_process())
    }
}

fn from_url(
    url: &str,
    deliver: &[impl AsRef<str>],
    tls: Option<TlsMode>,
    password_command: Option<&str>,
    places: &Places,
) -> Result<Account, UrlError> {
    let (scheme, rest) = url.split_once("://").ok_or(UrlError::Scheme)?;
    let schemes = [("pops", TlsMode::Implicit), ("pop", TlsMode::StartTls)];
    let known = schemes.into_iter().find(|(known, _)| scheme.eq_ignore_ascii_case(known));
    let (scheme, usual) = known.ok_or(UrlError::Scheme)?;
    let mode = tls.unwrap_or(usual);
    // No host has an @ in it, so the last one ends the user even where it should have been written %40.
    let (login, server) = rest.rsplit_once('@').ok_or(UrlError::NoUser)?;
    if login.contains(':') {
        return Err(UrlError::Password);
    }
    let (user, auth) = match login.split_once(';') {
        Some((user, parameter)) => (user, mechanism(parameter)?),
        None => (login, Auth::Auto),
    };
    let user = decode(user).filter(|user| !user.contains(char::is_control)).ok_or(UrlError::Encoding)?;
    if user.is_empty() {
        return Err(UrlError::NoUser);
    }
    if auth == Auth::Auto && mode == TlsMode::None {
        return Err(UrlError::Clear);
    }
    let server = server.strip_suffix('/').unwrap_or(server);
    if server.contains(['/', '?', '#']) {
        return Err(UrlError::Path);
    }
    let (host, port) = host_and_port(server)?;
    let host = host_name(host).map_err(UrlError::Host)?;
    let password = match password_command {
        Some(command) if command.trim().is_empty() => return Err(UrlError::Command),
        Some(command) => Some(Password::Command(CommandLine::Shell(command.to_owned()))),
        None => None,
    };
    let mut account = Account {
        deliver: targets(deliver, places)?,
        port: port.unwrap_or_default(),
        tls: Tls::bare(mode),
        password,
        ..Account::new(name(scheme, &user, &auth, &host, port))
    };
    (account.host, account.user, account.auth) = (host, user, auth);
    account.complete(|key| key == "port" && port.is_some());
    Ok(account)
}

/// Whose keys a hint names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    Account,
    Target,
}

/// Says a hint that names keys of the configuration for an account made of a URL, which has none: by options, as far as there
/// are any.
pub fn on_command_line(hint: &str, whose: Whose) -> String {
    let mut takes_file = false;
    // What stands between backticks is every other part.
    let said: Vec<String> = hint
        .split('`')
        .enumerate()
        .map(|(at, part)| match option(part, whose).filter(|_| at % 2 == 1) {
            Some(option) => option,
            None => {
                takes_file |= at % 2 == 1 && is_key(part, whose);
                part.to_owned()
            }
        })
        .collect();
    let file = if takes_file { "; a URL has no option for that: it takes a configuration file" } else { "" };
    said.join("`") + file
}

/// Gives the option that says what a key says; what follows it is outside of its backticks.
fn option(key: &str, whose: Whose) -> Option<String> {
    match whose {
        Whose::Account => {
            if let Some(mode) = key.strip_prefix("tls: ") {
                return Some(format!("--tls {mode}"));
            }
            let list = key.strip_prefix("auth: [")?.trim_end_matches(']');
            let mechanism = Mechanism::from_name(list.split(", ").next()?)?;
            Some(format!(";AUTH={}@` in the URL, in place of the `@", in_url(mechanism)))
        }
        Whose::Target => {
            let (key, value) = key.split_once(": ").filter(|(key, _)| key.starts_with("tls"))?;
            Some(format!("{key}={value}` behind the `?` of `--deliver"))
        }
    }
}

/// Says whether a hint names a key here that a URL has no place for.
fn is_key(words: &str, whose: Whose) -> bool {
    let key = words.split(':').next().unwrap_or_default();
    let in_url = match whose {
        Whose::Account => ["host", "user", "port"].as_slice(),
        // One that is asked for a log-in has both; no other target of a URL has a log-in.
        Whose::Target => &["host", "port", "user", "password"],
    };
    !in_url.contains(&key) && KEYS.iter().any(|known| known.name == key)
}

/// Reads what follows the first `;`.
fn mechanism(parameter: &str) -> Result<Auth, UrlError> {
    let (key, value) = parameter.split_once('=').ok_or(UrlError::Parameter)?;
    if !key.eq_ignore_ascii_case("AUTH") || value.contains(';') {
        return Err(UrlError::Parameter);
    }
    let value = decode(value).ok_or(UrlError::Parameter)?;
    if value == "*" {
        return Ok(Auth::Auto);
    }
    let mut known = MECHANISMS.iter().map(|row| row.mechanism);
    let mechanism = known.find(|mechanism| in_url(*mechanism).eq_ignore_ascii_case(&value));
    match mechanism.ok_or(UrlError::Mechanism)? {
        token if token.exposes() == Exposes::Token => Err(UrlError::Tokens { what: in_url(token) }),
        mechanism => Ok(Auth::List(vec![mechanism])),
    }
}

fn name(scheme: &str, user: &str, auth: &Auth, host: &str, port: Option<u16>) -> String {
    let user = utf8_percent_encode(user, USER);
    let auth = match auth {
        Auth::Auto => String::new(),
        Auth::List(list) => list.iter().map(|mechanism| format!(";AUTH={}", in_url(*mechanism))).collect(),
    };
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let port = port.map_or_else(String::new, |port| format!(":{port}"));
    format!("{scheme}://{user}{auth}@{host}{port}")
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use proptest::prelude::*;

    use super::*;
    use crate::config::Target;
    use crate::sasl::Mechanism;

    fn read(url: &str) -> Result<Account, UrlError> {
        let places = Places { home: Some("/home/alice".into()), ..Places::default() };
        from_url(url, &["maildir:~/Mail"], None, None, &places)
    }

    /// RFC 2384, 5: its examples, but for what it says of an anonymous maildrop and of Kerberos.
    #[test]
    fn the_examples_of_rfc_2384_mean_what_it_says() {
        let rg = read("pop://rg@mailsrv.qualcomm.com").unwrap();
        assert_eq!((rg.user.as_str(), rg.host.as_str(), rg.port), ("rg", "mailsrv.qualcomm.com", 110));
        assert_eq!((rg.tls.mode, rg.auth), (TlsMode::StartTls, Auth::Auto));

        let rg = read("pop://rg;AUTH=+APOP@mail.eudora.com:8110").unwrap();
        assert_eq!((rg.user.as_str(), rg.host.as_str(), rg.port), ("rg", "mail.eudora.com", 8110));
        assert_eq!(rg.auth, Auth::List(vec![Mechanism::Apop]));

        let baz = read("pop://baz;AUTH=SCRAM-MD5@foo.bar");
        assert_eq!(baz, Err(UrlError::Mechanism));
    }

    #[test]
    fn users_ports_modes_and_mechanisms_are_read_and_the_name_is_canonical() {
        use Mechanism::{Plain, ScramSha256, UserPass};
        let list = |mechanism| Auth::List(vec![mechanism]);
        for (url, user, host, port, auth, name) in [
            ("pops://alice@h", "alice", "h", 995, Auth::Auto, "pops://alice@h"),
            ("POPS://alice@H.EXAMPLE/", "alice", "h.example", 995, Auth::Auto, "pops://alice@h.example"),
            ("pops://a@b.org@h", "a@b.org", "h", 995, Auth::Auto, "pops://a%40b.org@h"),
            ("pops://a%40b.org@h", "a@b.org", "h", 995, Auth::Auto, "pops://a%40b.org@h"),
            ("pops://a%3Ab%25%20@h", "a:b% ", "h", 995, Auth::Auto, "pops://a%3Ab%25%20@h"),
            ("pops://%c3%a4@h", "ä", "h", 995, Auth::Auto, "pops://%C3%A4@h"),
            ("pop://u;auth=*@h:1110", "u", "h", 1110, Auth::Auto, "pop://u@h:1110"),
            ("pop://u;AUTH=plain@h", "u", "h", 110, list(Plain), "pop://u;AUTH=PLAIN@h"),
            (
                "pop://u;AUTH=scram-sha-256@h",
                "u",
                "h",
                110,
                list(ScramSha256),
                "pop://u;AUTH=SCRAM-SHA-256@h",
            ),
            ("pop://u;AUTH=%2BUSER@h", "u", "h", 110, list(UserPass), "pop://u;AUTH=+USER@h"),
            ("pops://u@[2001:db8::1]", "u", "2001:db8::1", 995, Auth::Auto, "pops://u@[2001:db8::1]"),
            ("pops://u@[::1]:1995", "u", "::1", 1995, Auth::Auto, "pops://u@[::1]:1995"),
        ] {
            let account = read(url).unwrap_or_else(|error| panic!("{url}: {error}"));
            assert_eq!(
                (account.user.as_str(), account.host.as_str(), account.port),
                (user, host, port),
                "{url}"
            );
            assert_eq!((account.auth, account.name.as_str()), (auth, name), "{url}");
            assert_eq!(account.maildrop_id, format!("{user}@{host}"));
            assert_eq!(account.deliver, [Target::Maildir("/home/alice/Mail".into()).into()]);
        }
    }

    #[test]
    fn what_is_no_pop_url_is_refused_and_a_password_above_all() {
        use UrlError as E;
        for (url, error) in [
            ("alice@h", E::Scheme),
            ("imap://alice@h", E::Scheme),
            ("pops://h", E::NoUser),
            ("pops://@h", E::NoUser),
            ("pops://;AUTH=*@h", E::NoUser),
            ("pops://alice:hunter2@h", E::Password),
            ("pops://alice:@h", E::Password),
            ("pops://alice;AUTH=PLAIN:hunter2@h", E::Password),
            ("pops://alice:hunt/er2@x@h", E::Password),
            ("pops://al%ice@h", E::Encoding),
            ("pops://al%4@h", E::Encoding),
            ("pops://al%0D%0ADELE@h", E::Encoding),
            ("pops://%ff@h", E::Encoding),
            ("pops://u;x=y@h", E::Parameter),
            ("pops://u;AUTH=*;AUTH=*@h", E::Parameter),
            ("pops://u;AUTH@h", E::Parameter),
            ("pops://u;AUTH=GSSAPI@h", E::Mechanism),
            ("pops://u;AUTH=XOAUTH2@h", E::Tokens { what: "XOAUTH2" }),
            ("pops://u@", E::Host("is empty, must be a host name or address")),
            ("pops://u@h h", E::Host("must be a host name or address")),
            ("pops://u@::1", E::Host("must be in brackets if it is an IPv6 address")),
            ("pops://u@h:", E::Port),
            ("pops://u@h:0", E::Port),
            ("pops://u@h:+1", E::Port),
            ("pops://u@h:65536", E::Port),
            ("pops://u@h/INBOX", E::Path),
            ("pops://u@h?x", E::Path),
        ] {
            assert_eq!(read(url), Err(error), "{url}");
        }
        assert!(!read("pops://alice:hunter2@h").unwrap_err().to_string().contains("hunter2"));
    }

    #[test]
    fn a_hint_names_options_where_a_url_has_them_and_says_where_it_has_none() {
        let said = |hint| on_command_line(hint, Whose::Account);
        assert_eq!(
            said("is it off? write `tls: starttls`, or so"),
            "is it off? write `--tls starttls`, or so"
        );
        assert_eq!(
            said("write `auth: [user-pass, cram-md5]`"),
            "write `;AUTH=+USER@` in the URL, in place of the `@`"
        );
        let file = "; a URL has no option for that: it takes a configuration file";
        assert_eq!(said("trust it: `tls_pin: sha256:00`"), format!("trust it: `tls_pin: sha256:00`{file}"));
        assert_eq!(said("check `host` and `port`"), "check `host` and `port`");
        assert_eq!(said("`postrider held list x` shows why"), "`postrider held list x` shows why");
        assert_eq!(
            on_command_line("write `tls: implicit`, or give the port", Whose::Target),
            "write `tls=implicit` behind the `?` of `--deliver`, or give the port"
        );
        let mailbox = "check `user` and `password` of the target";
        assert_eq!(on_command_line(mailbox, Whose::Target), mailbox);
        assert!(on_command_line("write `proxy: none`", Whose::Target).ends_with(file));
    }

    #[test]
    fn arguments_say_what_the_url_does_not() {
        let places = Places { home: Some("/home/alice".into()), ..Places::default() };
        let with = |url, deliver, tls, command| from_url(url, &[deliver], tls, command, &places);
        let account = with("pop://u@h", "maildir:/m", Some(TlsMode::Implicit), Some("pass show x")).unwrap();
        assert_eq!((account.tls.mode, account.port), (TlsMode::Implicit, 995));
        assert_eq!(account.password, Some(Password::Command(CommandLine::Shell("pass show x".into()))));
        let clear = with("pop://u;AUTH=+USER@h", "maildir:/m", Some(TlsMode::None), None).unwrap();
        assert_eq!((clear.tls.mode, clear.port), (TlsMode::None, 110));
        assert_eq!(with("pop://u@h", "maildir:/m", Some(TlsMode::None), None), Err(UrlError::Clear));
        assert_eq!(with("pop://u@h", "maildir:/m", None, Some(" ")), Err(UrlError::Command));

        let here = std::env::current_dir().unwrap();
        let relative = with("pop://u@h", "maildir:Mail", None, None).unwrap();
        assert_eq!(relative.deliver, [Target::Maildir(here.join("Mail")).into()]);
        let mbox = with("pop://u@h", "mbox:/m", None, None).unwrap();
        assert_eq!(mbox.deliver, [Target::Mbox("/m".into()).into()]);
        let both = |deliver: &[&str]| from_url("pop://u@h", deliver, None, None, &places);
        let targets = [Target::Mbox("/m".into()).into(), Target::Maildir("/home/alice/Mail".into()).into()];
        assert_eq!(both(&["mbox:/m", "maildir:~/Mail"]).unwrap().deliver, targets);
        assert_eq!(both(&["mbox:/m", "mbox:/m"]), Err(UrlError::Twice));
        assert_eq!(with("pop://u@h", "/m", None, None), Err(UrlError::Target));
        assert_eq!(with("pop://u@h", "maildir:", None, None), Err(UrlError::TargetPath("is an empty path")));
    }

    #[test]
    fn an_account_of_a_url_is_the_configured_one_by_another_name() {
        let text = "accounts: {a: {host: h, user: u, deliver: {maildir: ~/Mail}}}\nstate: /s";
        let places = Places { home: Some("/home/alice".into()), ..Places::default() };
        let config = super::super::file::read(text, &PathBuf::from("f"), &places).unwrap().config;
        let mut account = read("pops://u@h").unwrap();
        account.name = "a".into();
        assert_eq!(config.accounts, [account]);
    }

    proptest! {
        #[test]
        fn any_user_comes_back_from_its_encoding(user in "[^\\p{Cc}]{1,40}") {
            let account = read(&format!("pops://{}@h", utf8_percent_encode(&user, USER))).unwrap();
            prop_assert_eq!(account.user, user);
            prop_assert_eq!(read(&account.name).unwrap().name, account.name);
        }

        #[test]
        fn no_text_makes_the_reader_panic(url: String, tail: String, deliver: String) {
            let _ = read(&url);
            let _ = read(&format!("pops://{tail}"));
            let _ = from_url("pops://u@h", &[deliver], None, None, &Places::default());
        }
    }
}
