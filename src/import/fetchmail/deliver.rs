//! Where fetchmail forwards messages to.

use super::super::cursor::At;
use super::super::place::{is_here, port};
use super::super::shape::{Account, Value};
use super::super::words::{Stand, in_shell};
use super::{Given, Mailbox};
use crate::config::recipients::may_tell;
use crate::secret::Secret;

/// Whom the messages of a maildrop are for.
enum Whom {
    /// Everything is for one.
    One(String),
    /// A header tells.
    Many(Value),
}

impl Mailbox<'_> {
    pub(super) fn deliver(&self, account: &mut Account) {
        let options = &self.options;
        let invisible = self.common.globals.flag("invisible") == Some(true);
        if let Some(command) = options.text("mda") {
            self.command(account, command);
            if !invisible {
                account.set("received", Value::bare(true));
            }
            return;
        }
        if let Some(setting) = options.find("bsmtp") {
            account.set("deliver", Value::of("maildir", Value::text("~/Mail")));
            account.note(&setting.at, "`bsmtp`: no counterpart; `maildir`, `mbox` or `pipe` take its place");
            account.disable("say where this mail goes, and remove this line");
            return;
        }
        self.server(account);
        if invisible {
            account.set("received", Value::bare(false));
        }
    }

    /// `mda`: text for a shell. fetchmail puts quotes around what it puts in.
    fn command(&self, account: &mut Account, command: &str) {
        let whom = self.whom(account, "");
        let to = match &whom {
            Whom::One(name) => Stand::Text(name),
            Whom::Many(_) => Stand::Variable("POSTRIDER_TO"),
        };
        let command = in_shell(command, |code| match code {
            'F' => Some(Stand::Variable("POSTRIDER_FROM")),
            'T' | 's' => Some(to),
            _ => None,
        });
        let mut pipe = vec![("command".to_owned(), Value::text(command))];
        if let Whom::Many(to) = whom {
            pipe.push(("to".to_owned(), to));
        }
        account.set("deliver", Value::of("pipe", Value::Map(pipe)));
    }

    /// The servers of `smtphost`, or this machine's own.
    fn server(&self, account: &mut Account) {
        let options = &self.options;
        let lmtp = options.flag("lmtp") == Some(true);
        let hosts = options.texts("smtphost");
        let host = hosts.first().copied().unwrap_or("localhost");
        let mut keys: Vec<(String, Value)> = Vec::new();
        let mut set = |key: &str, value: Value| keys.push((key.to_owned(), value));
        let is_socket = host.starts_with('/');
        let (name, service) = match host.split_once('/') {
            Some((name, service)) if !is_socket => (name, Some(service)),
            _ => (host, None),
        };
        if is_socket {
            set("socket", Value::text(host));
        } else {
            set("host", Value::text(name));
            if let Some(port) = service.and_then(port) {
                set("port", Value::bare(port));
            }
        }
        if let Some(password) = options.text("esmtppassword") {
            let user = options.text("esmtpname").unwrap_or(&self.common.around.user);
            if !is_here(name) && !is_socket {
                set("tls", Value::bare("starttls"));
            }
            set("user", Value::text(user));
            set("password", Value::Secret(Secret::new(password)));
        }
        let domain = options.text("smtpaddress").unwrap_or(if is_socket { "localhost" } else { name });
        let to = match (options.text("smtpname"), self.whom(account, domain)) {
            (Some(address), _) => Value::texts([address]),
            (None, Whom::One(address)) => Value::texts([address]),
            (None, Whom::Many(to)) => to,
        };
        keys.push(("to".to_owned(), to));
        let kind = if lmtp || is_socket { "lmtp" } else { "smtp" };
        account.set("deliver", Value::of(kind, Value::Map(keys)));
        if let ([_, others @ ..], Some(setting)) = (hosts.as_slice(), options.find("smtphost"))
            && !others.is_empty()
        {
            account.note(
                &setting.at,
                format!(
                    "`smtphost`: the first server takes all mail; if it is away, mail waits until it is back ({} would be \
                     next)",
                    others.join(", ")
                ),
            );
        }
        if let Some(setting) = options.find("smtphost").filter(|_| lmtp && service.is_none() && !is_socket) {
            account.note(&setting.at, "`lmtp` without a port: 24 is tried");
        }
        if options.text("esmtppassword").is_some() && !is_here(name) {
            account.remark(
                "fetchmail sends the password of `esmtppassword` in the clear; here it goes by TLS alone",
            );
        }
    }

    /// Says whether an asterisk stands for all names.
    fn takes_any(&self) -> bool {
        self.options.names().iter().any(|(name, _)| name == "*")
    }

    /// Finds out for whom messages are: without several names, or an asterisk, all are for one.
    fn whom(&self, account: &mut Account, domain: &str) -> Whom {
        let names = self.options.names();
        let at = |local: &str| match domain.is_empty() || local.contains('@') {
            true => local.to_owned(),
            false => format!("{local}@{domain}"),
        };
        let is_any = self.takes_any();
        let known: Vec<_> = names.iter().filter(|(name, _)| name != "*").collect();
        match known.as_slice() {
            [] if !is_any => Whom::One(at(&self.common.around.user)),
            [(local, None)] if !is_any => Whom::One(at(local)),
            [(remote, Some(_))] if !is_any => Whom::One(at(remote)),
            known => Whom::Many(self.catch_all(account, known, &at)),
        }
    }

    /// Multidrop: the header that names the recipient, and who they are.
    fn catch_all(
        &self,
        account: &mut Account,
        known: &[&&(String, Option<String>)],
        at: &dyn Fn(&str) -> String,
    ) -> Value {
        let options = &self.options;
        let mut to = Vec::new();
        let mut set = |key: &str, value| to.push((key.to_owned(), value));
        match options.find("envelope").map(|setting| (&setting.at, &setting.given)) {
            Some((_, Given::Envelope(skipped, header))) if may_tell(header.trim_end_matches(':')) => {
                set("header", Value::text(header.trim_end_matches(':')));
                if *skipped > 0 {
                    set("occurrence", Value::bare(skipped + 1));
                }
            }
            found => {
                set("header", Value::text("X-Original-To"));
                let why = "recipients are not guessed from Received, To or Cc: name the header that the provider writes \
                           the recipient into";
                match found {
                    Some((at, _)) => account.note(at, format!("`envelope`: {why}")),
                    None => account.remark(format!("several recipients without `envelope`: {why}")),
                }
                account.disable("then remove this line");
            }
        }
        if let Some(prefix) = options.text("qvirtual") {
            set("strip_prefix", Value::text(prefix));
        }
        let domains = self.domains();
        if !domains.is_empty() {
            set("domains", Value::texts(domains));
        }
        let mut map: Vec<(String, Value)> = Vec::new();
        let mut told: Vec<&str> = Vec::new();
        for (name, mapped) in known {
            let local = name.split('@').next().unwrap_or(name);
            if name.contains('@') && mapped.is_some() {
                told.push(name);
            }
            if !map.iter().any(|(known, _)| known.eq_ignore_ascii_case(local)) {
                map.push((local.to_owned(), Value::text(at(mapped.as_deref().unwrap_or(name)))));
            }
        }
        if !map.is_empty() {
            set("map", Value::Map(map));
        }
        let postmaster = self.common.globals.text("postmaster").unwrap_or(&self.common.around.user);
        set("unknown", Value::text(at(postmaster)));
        self.note_names(account, &told);
        Value::Map(to)
    }

    /// Gives the domains whose addresses are known, each with those below it; none where that is left open.
    fn domains(&self) -> Vec<String> {
        let local = self.options.texts("local");
        if local.is_empty() && !self.takes_any() {
            return Vec::new();
        }
        let more = [Some(&*self.server.name), self.options.text("via")].into_iter().flatten();
        let all = local.iter().map(|domain| &**domain).chain(more).chain(self.options.texts("aka"));
        let with_those_below = |domain: &str| {
            let domain = domain.trim_start_matches('.');
            [domain.to_owned(), format!(".{domain}")]
        };
        all.flat_map(with_those_below).collect()
    }

    fn note_names(&self, account: &mut Account, mapped: &[&str]) {
        let names = self.options.find("names").map_or(&self.server.at, |setting| &setting.at);
        let told = |what: &str, account: &mut Account, at: &At| account.note(at, what.to_owned());
        if !mapped.is_empty() {
            let what =
                format!("{}: `map` goes by the local part alone, whatever the domain is", mapped.join(", "));
            told(&what, account, names);
        }
        if self.takes_any() {
            told(
                "`*`: addresses of `domains` that `map` does not have go on as they are, domain and all",
                account,
                names,
            );
        }
        for key in ["dns", "checkalias"] {
            if let Some(setting) = self.options.find(key).filter(|setting| setting.given == Given::Flag(true))
            {
                told(
                    &format!("`{key}`: hosts are compared by name, and nobody is asked for others"),
                    account,
                    &setting.at,
                );
            }
        }
    }
}
