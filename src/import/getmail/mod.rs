//! getmail's rc files: sections, of which options are Python literals.

mod deliver;
mod ini;
mod literal;

use std::path::Path;

use super::around::Around;
use super::cursor::{At, Wrong, shown};
use super::seen::{List, SeenList};
use super::shape::{Account, VERIFIED, Value};
use crate::config::recipients::may_tell;
use crate::secret::Secret;
use ini::{Section, Setting, sections};
use literal::texts;

/// What is told of an option that is on and has no counterpart.
const TOLD: &[(&str, &str)] = &[
    ("message_log", "the log goes to standard error, with a line a message at `-v`"),
    ("message_log_syslog", "the log goes to standard error: `--log-format journal` under systemd"),
    ("max_bytes_per_session", "no counterpart: `max_messages` limits the messages of a session"),
    ("delete_bigger_than", "size alone deletes nothing: `keep` does, once a message is delivered"),
];

/// A file, and what getmail would do by it.
struct Rc<'r> {
    file: &'r Path,
    sections: Vec<Section>,
    around: &'r Around,
}

/// Reads an rc file, which is one account; `named`: the file, where others stand beside it.
pub(super) fn read(file: &Path, text: &str, around: &Around, named: Option<&Path>) -> Result<Account, Wrong> {
    let rc = Rc { file, sections: sections(file, text, named)?, around };
    for name in ["retriever", "destination"] {
        rc.section(name).ok_or_else(|| {
            let at = At { line: 1, column: 1, file: named.map(Path::to_owned) };
            Wrong::new(file, &at, format!("there is no section [{name}]"))
        })?;
    }
    rc.account()
}

/// What kind of maildrop a retriever polls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Kind {
    tls: bool,
    multidrop: bool,
    sdps: bool,
}

fn kind(name: &str) -> Option<Kind> {
    let plain = Kind { tls: false, multidrop: false, sdps: false };
    Some(match name {
        "SimplePOP3Retriever" | "BrokenUIDLPOP3Retriever" => plain,
        "SimplePOP3SSLRetriever" | "BrokenUIDLPOP3SSLRetriever" => Kind { tls: true, ..plain },
        "MultidropPOP3Retriever" => Kind { multidrop: true, ..plain },
        "MultidropPOP3SSLRetriever" => Kind { tls: true, multidrop: true, ..plain },
        "MultidropSDPSRetriever" => Kind { sdps: true, ..plain },
        _ => return None,
    })
}

impl Section {
    fn find(&self, key: &str) -> Option<&Setting> {
        self.options.iter().find(|option| option.key == key)
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.find(key)
            .map(|option| option.value.as_str())
            .filter(|value| !value.is_empty() && *value != "None")
    }
}

impl Rc<'_> {
    fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.name == name)
    }

    fn option(&self, key: &str) -> Option<&Setting> {
        self.section("options")?.find(key)
    }

    /// Reads a switch as Python does.
    fn switch(&self, section: Option<&Section>, key: &str) -> Result<Option<bool>, Wrong> {
        let Some(option) = section.and_then(|section| section.find(key)) else { return Ok(None) };
        match &*option.value.to_lowercase() {
            "1" | "yes" | "true" | "on" => Ok(Some(true)),
            "0" | "no" | "false" | "off" => Ok(Some(false)),
            _ => Err(Wrong::new(
                self.file,
                &option.at,
                format!("{}: `true` or `false` was expected", shown(key)),
            )),
        }
    }

    fn number(&self, section: Option<&Section>, key: &str) -> Result<Option<u64>, Wrong> {
        let Some(option) = section.and_then(|section| section.find(key)) else { return Ok(None) };
        match option.value.parse::<u64>() {
            Ok(number) => Ok(Some(number)),
            Err(_) if option.value == "None" => Ok(None),
            Err(_) => {
                Err(Wrong::new(self.file, &option.at, format!("{}: a number was expected", shown(key))))
            }
        }
    }

    fn account(&self) -> Result<Account, Wrong> {
        let retriever = self.section("retriever").expect("looked for before");
        let name = self.file.file_name().unwrap_or_default().to_string_lossy();
        let server = retriever.text("server");
        let name =
            if name == "getmailrc" { server.unwrap_or("getmail").to_owned() } else { name.into_owned() };
        let mut account = Account::new(name, retriever.at.clone());
        let type_name = retriever.text("type").unwrap_or_default();
        let Some(kind) = kind(type_name) else {
            account.leave_out(match type_name {
                "" => "its retriever has no type".to_owned(),
                other => format!("{other}: mail is fetched by POP3 alone"),
            });
            return Ok(account);
        };
        account.set_given("host", server.map(Value::text));
        let port = self.number(Some(retriever), "port")?;
        account.set_given("port", port.map(Value::bare));
        account.set_given("user", retriever.text("username").map(Value::text));
        self.tls(&mut account, retriever, kind);
        self.login(&mut account, retriever, kind)?;
        let timeout = self.number(Some(retriever), "timeout")?.filter(|seconds| *seconds > 0);
        account.set_given("timeout", timeout.map(Value::seconds));
        self.disposal(&mut account, retriever)?;
        let to = self.recipients(&mut account, retriever, kind);
        self.deliver(&mut account, to)?;
        self.note_more(&mut account, retriever)?;
        if let (Some(server), Some(user)) = (server, retriever.text("username")) {
            let port = port.unwrap_or(if kind.tls { 995 } else { 110 });
            let list = listed(&format!("oldmail-{server}-{port}-{user}"));
            let path = self.file.parent().unwrap_or(Path::new("/")).join(list);
            account.seen =
                Some(SeenList { list: List::Getmail, path, host: server.to_owned(), user: user.to_owned() });
        }
        Ok(account)
    }

    fn tls(&self, account: &mut Account, retriever: &Section, kind: Kind) {
        if !kind.tls {
            account.set("tls", Value::bare("none"));
            account.remark("nothing protects this connection: try `tls: implicit`, or `tls: starttls`");
            return;
        }
        match retriever.text("ca_certs") {
            Some(file) => account.set("tls_ca", Value::text(self.path(file))),
            None if retriever.text("ssl_fingerprints").is_none() => {
                account.remark(format!("getmail verifies no certificate without `ca_certs`; {VERIFIED}"));
            }
            None => {}
        }
        if let Some(option) = retriever.find("ssl_fingerprints") {
            let pins = texts(&option.value).unwrap_or_default();
            let digits = pins.iter().map(|pin| pin.replace(':', "").to_lowercase());
            let pins: Vec<_> =
                digits.filter(|pin| pin.len() == 64).map(|pin| format!("sha256:{pin}")).collect();
            match pins.is_empty() {
                false => account.set("tls_pin", Value::texts(pins)),
                true => account.note(
                    &option.at,
                    "`ssl_fingerprints`: write SHA-256 fingerprints: `tls_pin: sha256:...`",
                ),
            }
        }
        if let (Some(chain), Some(key)) = (retriever.text("certfile"), retriever.text("keyfile")) {
            account.set("tls_client_cert", Value::text(self.path(chain)));
            account.set("tls_client_key", Value::text(self.path(key)));
        }
        account.set_given("tls_server_name", retriever.text("ssl_cert_hostname").map(Value::text));
        if let Some(option) = retriever.find("ssl_version") {
            match &*option.value.to_lowercase() {
                "tlsv1_3" => account.set("tls_min", Value::text("1.3")),
                _ => account
                    .note(&option.at, "`ssl_version`: TLS 1.2 and 1.3 are spoken; `tls_min` sets the least"),
            }
        }
        if let Some(option) = retriever.find("ssl_ciphers") {
            account.note(&option.at, "`ssl_ciphers`: today's ciphers are spoken, and no others");
        }
    }

    fn login(&self, account: &mut Account, retriever: &Section, kind: Kind) -> Result<(), Wrong> {
        let apop = self.switch(Some(retriever), "use_apop")? == Some(true);
        match (apop, kind.tls) {
            (true, _) => account.set("auth", Value::words(["apop"])),
            (false, false) => account.set("auth", Value::words(["user-pass"])),
            (false, true) => {}
        }
        let command = retriever.find("password_command");
        let netrc = self.switch(self.section("options"), "use_netrc")? == Some(true);
        if self.switch(Some(retriever), "use_xoauth2")? == Some(true) {
            match command.and_then(|option| texts(&option.value)).filter(|words| !words.is_empty()) {
                Some(words) => account.set("oauth2", Value::of("token_command", Value::texts(words))),
                None => {
                    account.remark("`use_xoauth2`: write `oauth2: { provider: google }`, or `microsoft`");
                    account.disable("then remove this line");
                }
            }
            return Ok(());
        }
        match (retriever.text("password"), command) {
            (Some(password), _) => account.set("password", Value::Secret(Secret::new(password))),
            (None, Some(option)) => match texts(&option.value) {
                Some(words) if !words.is_empty() => {
                    account.set("password", Value::of("command", Value::texts(words)));
                }
                _ => {
                    account.note(&option.at, "`password_command` is made by Python: write the command's words");
                    account.disable("then remove this line");
                }
            },
            (None, None) if netrc => {
                let file = self.section("options").and_then(|options| options.text("netrc_file"));
                let file = file.map_or_else(|| "~/.netrc".to_owned(), |file| self.path(file));
                account.set("password", Value::of("netrc", Value::text(file)));
            }
            (None, None) => account.remark(
                "no password: it is asked for on the terminal; one of a key ring: `{ command: \"secret-tool lookup ...\" }`",
            ),
        }
        Ok(())
    }

    fn disposal(&self, account: &mut Account, retriever: &Section) -> Result<(), Wrong> {
        let options = self.section("options");
        let days = self.number(options, "delete_after")?.unwrap_or_default();
        match (self.switch(options, "delete")? == Some(true), days) {
            (true, _) => account.set("keep", Value::bare("none")),
            (false, 0) => account.set("keep", Value::bare("forever")),
            (false, days) => account.set("keep", Value::bare(format!("{days}d"))),
        }
        let all = self.switch(options, "read_all")? != Some(false);
        if let (Some(option), true) = (self.option("read_all"), all) {
            account.note(
                &option.at,
                "`read_all`: what is recorded is not fetched again; `postrider seen forget --all` makes the record empty",
            );
        }
        let octets = self.number(options, "max_message_size")?.filter(|octets| *octets > 0);
        account.set_given("max_size", octets.map(Value::bare));
        let most = self.number(options, "max_messages_per_session")?.filter(|most| *most > 0);
        account.set_given("max_messages", most.map(Value::bare));
        if let (Some(option), Some(true)) =
            (retriever.find("delete_dup_msgids"), self.switch(Some(retriever), "delete_dup_msgids")?)
        {
            account.note(
                &option.at,
                "`delete_dup_msgids`: two messages of one unique-id are two messages, and both come",
            );
        }
        Ok(())
    }

    /// Gives whom a header names, for a maildrop of several people.
    fn recipients(&self, account: &mut Account, retriever: &Section, kind: Kind) -> Option<Value> {
        if kind.sdps {
            account.remark(
                "`MultidropSDPSRetriever`: the recipients that Demon's *ENV command told are not asked for",
            );
            account.disable("name the header that has them with `to: { header: ... }`, and remove this line");
        }
        if !kind.multidrop {
            return None;
        }
        let option = retriever.find("envelope_recipient");
        let given = option.map_or("", |option| option.value.as_str());
        let (header, number) = given.split_once(':').unwrap_or((given, "1"));
        let header = header.trim();
        if !may_tell(header) {
            let at = option.map_or(&retriever.at, |option| &option.at);
            account.note(
                at,
                "`envelope_recipient`: name the header that the provider writes the recipient into",
            );
            account.disable("then remove this line");
            return Some(Value::of("header", Value::text("X-Original-To")));
        }
        let mut to = vec![("header".to_owned(), Value::text(header))];
        if let Some(number) = number.trim().parse::<usize>().ok().filter(|number| *number > 1) {
            to.push(("occurrence".to_owned(), Value::bare(number)));
        }
        Some(Value::Map(to))
    }

    fn note_more(&self, account: &mut Account, retriever: &Section) -> Result<(), Wrong> {
        let is_on = |option: &&Setting| {
            !matches!(&*option.value.to_lowercase(), "" | "0" | "no" | "false" | "off" | "none")
        };
        for (key, what) in TOLD {
            if let Some(option) = self.option(key).filter(is_on) {
                account.note(&option.at, format!("`{key}`: {what}"));
            }
        }
        let received = self.switch(self.section("options"), "received")? != Some(false);
        account.set("received", Value::bare(received));
        if let (Some(option), Some(true)) =
            (self.option("delivered_to"), self.switch(self.section("options"), "delivered_to")?)
        {
            account.note(&option.at, "`delivered_to`: no Delivered-To is added");
        }
        if retriever.text("type").is_some_and(|name| name.starts_with("BrokenUIDL")) {
            account.remark(
                "`BrokenUIDL...`: without unique-ids messages are known by header, place and content",
            );
        }
        for section in self.sections.iter().filter(|section| section.name.starts_with("filter")) {
            account.note(
                &section.at,
                format!(
                    "[{}]: no counterpart: what is new is delivered; a `pipe` whose command filters and delivers takes its \
                     place",
                    section.name
                ),
            );
            account.disable("without it mail would come unfiltered: see to it, and remove this line");
        }
        Ok(())
    }

    /// Writes a path so that it means the same; `~` and `$HOME` are known here, too.
    fn path(&self, path: &str) -> String {
        match path.starts_with(['/', '~', '$']) {
            true => path.to_owned(),
            false => self.around.home.join(path).to_string_lossy().into_owned(),
        }
    }
}

/// Gives the name of a list: runs of what a file's name should not have become a dash.
fn listed(name: &str) -> String {
    let mut listed = String::with_capacity(name.len());
    let is_odd = |c: char| matches!(c, '/' | '\\' | ':' | ';' | '<' | '>' | '|');
    for (at, c) in name.char_indices() {
        match is_odd(c) {
            false => listed.push(c),
            true if name[..at].ends_with(is_odd) => {}
            true => listed.push('-'),
        }
    }
    listed
}
