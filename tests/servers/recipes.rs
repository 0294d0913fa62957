//! The recipes of docs/delivery.md, taken out of the page and run against the programs that they are for.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::dovecot::{Dovecot, Format};
use crate::support::maildrop::Maildrop;
use crate::support::mta::{DOMAIN, Mta};
use crate::support::postrider::{Home, assert_same};
use crate::support::process::{Server, free_port, mail_owner, program};
use nix::unistd::{User, getuid};

const PAGE: &str = include_str!("../../docs/delivery.md");

/// The recipes that a test below runs.
const RUN: [&str; 8] = [
    "Dovecot by LMTP",
    "dovecot-lda",
    "Postfix on localhost",
    "Exim on localhost",
    "procmail",
    "maildrop",
    "rspamd by a command",
    "Containers",
];

const LISTED: &str = "Return-Path: <list@example.net>\nList-Id: <rust-users.example.net>\nSubject: a list\n\n\
                      From here on\n.\n..\nGr\u{fc}\u{df}e\n\nend\n";
const PERSONAL: &str = "Return-Path: <bob@example.net>\nFrom: bob@example.net\nSubject: hello\n\nonly you\n";
/// What every spam filter must take for spam.
const GTUBE: &str = "Return-Path: <spam@example.net>\nFrom: spam@example.net\nSubject: cheap\n\n\
                     XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X\n";

/// A fenced block: what follows the language on its first line, and its text.
struct Block {
    language: &'static str,
    file: &'static str,
    text: String,
}

/// A section of the page with its blocks.
struct Recipe {
    title: &'static str,
    blocks: Vec<Block>,
}

impl Recipe {
    fn named(title: &str) -> Self {
        let mut all = recipes();
        let at = all.iter().position(|recipe| recipe.title == title);
        all.remove(at.unwrap_or_else(|| panic!("no recipe {title}")))
    }

    /// Puts in place what is different here; what is not in the recipe cannot be replaced.
    fn with(mut self, from: &str, to: impl std::fmt::Display) -> Self {
        let mut found = false;
        for block in &mut self.blocks {
            found |= block.text.contains(from);
            block.text = block.text.replace(from, &to.to_string());
        }
        assert!(found, "{} says nothing of {from}", self.title);
        self
    }

    fn block(&self, language: &str, file: &str) -> &str {
        let mut of = self.blocks.iter().filter(|block| block.language == language && block.file == file);
        let block = of.next().unwrap_or_else(|| panic!("{}: no block {language} {file}", self.title));
        assert!(of.next().is_none(), "{}: two blocks {language} {file}", self.title);
        &block.text
    }

    /// Configures an account that is delivered as the recipe says.
    fn configure(&self, home: &Home, server: &Maildrop) {
        home.write("ca.pem", &server.certificate.authority_pem);
        home.configure(&format!(
            "accounts:\n  home:\n    host: 127.0.0.1\n    port: {}\n    user: alice\n    password: correct horse\n    \
             tls_ca: ~/ca.pem\n    keep: none\n    {}",
            server.port(),
            self.block("yaml", "").replace('\n', "\n    ")
        ));
    }

    /// Runs the commands of the recipe's shell block in a home.
    fn prepare(&self, home: &Home) {
        let ended = Command::new("sh")
            .args(["-e", "-c", self.block("sh", "")])
            .env("HOME", home.path(""))
            .output()
            .expect("a shell");
        assert!(ended.status.success(), "{}: {}", self.title, String::from_utf8_lossy(&ended.stderr));
    }
}

fn recipes() -> Vec<Recipe> {
    let mut recipes = Vec::new();
    let mut lines = PAGE.lines();
    while let Some(line) = lines.next() {
        if let Some(title) = line.strip_prefix("## ") {
            recipes.push(Recipe { title, blocks: Vec::new() });
        } else if let Some(info) = line.strip_prefix("```") {
            let (language, file) = info.split_once(' ').unwrap_or((info, ""));
            let text: Vec<_> = lines.by_ref().take_while(|line| *line != "```").collect();
            let recipe: &mut Recipe = recipes.last_mut().expect("a heading before the first block");
            recipe.blocks.push(Block { language, file, text: text.join("\n") + "\n" });
        }
    }
    recipes
}

/// The messages in a maildir, without the lines that were put on top of them.
fn messages(maildir: &Path) -> Vec<Vec<u8>> {
    let folders = ["new", "cur"].map(|folder| fs::read_dir(maildir.join(folder)));
    let files = folders.into_iter().flatten().flatten().map(|entry| entry.expect("an entry").path());
    files.map(|path| without_trace(&fs::read(path).expect("a message"))).collect()
}

/// Takes off what was put on top, and `Return-Path`, which some replace.
fn without_trace(message: &[u8]) -> Vec<u8> {
    const ADDED: [&str; 6] =
        ["return-path:", "delivered-to:", "received:", "x-original-to:", "envelope-to:", "delivery-date:"];
    let mut rest = message;
    while let Some(end) = rest.iter().position(|octet| *octet == b'\n') {
        let line = String::from_utf8_lossy(&rest[..end]).to_lowercase();
        if !(ADDED.iter().any(|field| line.starts_with(field)) || line.starts_with([' ', '\t'])) {
            break;
        }
        rest = &rest[end + 1..];
    }
    rest.to_vec()
}

#[track_caller]
fn assert_filed(maildir: &Path, expected: &[&str]) {
    let expected = expected.iter().map(|message| without_trace(message.as_bytes())).collect();
    assert_same(messages(maildir), expected);
}

/// Fetches a list's message and another, which must come to lie where the recipe files them.
#[track_caller]
fn files_the_list(recipe: &Recipe, home: &Home, maildir: &Path, log: impl Fn() -> String) {
    let server = Maildrop::holding(&[LISTED, PERSONAL]);
    recipe.configure(home, &server);
    let ended = home.run(&["-v", "sync"]);
    assert_eq!(ended.status, Some(0), "{}\n{}", ended.stderr, log());
    assert_filed(maildir, &[PERSONAL]);
    assert_filed(&maildir.join(".lists"), &[LISTED]);
    assert!(server.uids().is_empty());
}

fn us() -> String {
    User::from_uid(getuid()).expect("the user database").expect("a user").name
}

#[test]
fn every_recipe_on_the_page_is_run() {
    let with_blocks = recipes().into_iter().filter(|recipe| !recipe.blocks.is_empty());
    assert_eq!(with_blocks.map(|recipe| recipe.title).collect::<Vec<_>>(), RUN);
}

#[test]
fn dovecot_files_by_sieve_what_comes_through_its_lmtp_socket() {
    let recipe = Recipe::named("Dovecot by LMTP")
        .with("/run/dovecot/lmtp", "{at}/lmtp")
        .with("user = alice", format!("user = {}", us()))
        .with("to: [alice]", "to: [u1]");
    let conf = recipe.block("conf", "/etc/dovecot/local.conf");
    let dovecot = Dovecot::start_with(
        Format::Maildir,
        1,
        &format!(
            "protocols = pop3 lmtp\nmail_location = maildir:~/Maildir\nauth_username_format = %Ln\n{conf}"
        ),
    );
    dovecot.write_home("u1", ".dovecot.sieve", recipe.block("sieve", "~/.dovecot.sieve"));
    let recipe = recipe.with("{at}/lmtp", dovecot.lmtp().display());
    files_the_list(&recipe, &Home::new(), &dovecot.home("u1").join("Maildir"), || dovecot.log());
}

#[test]
fn dovecot_takes_what_comes_over_tcp_as_into_a_container() {
    let port = free_port();
    let recipe = Recipe::named("Containers")
        .with("port: 24,", format!("port: {port},"))
        .with("port = 24", format!("port = {port}"));
    let dovecot = Dovecot::start_with(
        Format::Maildir,
        1,
        &format!(
            "protocols = pop3 lmtp\nmail_location = maildir:~/Maildir\nauth_username_format = %Ln\n{}",
            recipe.block("conf", "dovecot")
        ),
    );
    let server = Maildrop::holding(&[LISTED, PERSONAL]);
    let recipe = recipe.with("alice@example.org", "u1@example.org");
    let home = Home::new();
    recipe.configure(&home, &server);
    home.must(&["sync"], 0);
    assert_filed(&dovecot.home("u1").join("Maildir"), &[LISTED, PERSONAL]);
    assert!(server.uids().is_empty());
}

/// Puts what dovecot-lda needs into a home, with more of its configuration, and gives its maildir.
fn dovecot_lda(home: &Home, more: &str) -> (Recipe, PathBuf) {
    let lda = home.path("lda");
    let conf = home.path("dovecot.conf");
    let mut recipe = Recipe::named("dovecot-lda")
        .with("dovecot-lda,", format!("dovecot-lda, -c, {},", conf.display()))
        .with("maildir:~", format!("maildir:{}", lda.display()))
        .with("file:~/sieve;active=~", format!("file:{0}/sieve;active={0}", lda.display()));
    let owner = mail_owner();
    if getuid().is_root() {
        recipe = recipe
            .with("pipe: [", format!("pipe: {{ user: {}, command: [", owner.name))
            .with("'] }", "'] } }");
    }
    home.write("lda/.dovecot.sieve", recipe.block("sieve", "~/.dovecot.sieve"));
    home.write(
        "dovecot.conf",
        &format!(
            "log_path = /dev/stderr\nprotocols =\nssl = no\nfirst_valid_uid = 1\nfirst_valid_gid = 1\n\
             base_dir = {}/run\nservice stats {{\n  unix_listener stats-writer {{\n    mode = 0\n  }}\n}}\n{}{more}",
            lda.display(),
            recipe.block("conf", "/etc/dovecot/local.conf")
        ),
    );
    for (path, mode) in [("", 0o755), ("lda", 0o755), ("dovecot.conf", 0o644), ("lda/.dovecot.sieve", 0o644)]
    {
        fs::set_permissions(home.path(path), fs::Permissions::from_mode(mode)).unwrap();
    }
    if getuid().is_root() {
        for path in ["lda", "lda/.dovecot.sieve"] {
            chown(home.path(path), Some(owner.uid.as_raw()), Some(owner.gid.as_raw())).unwrap();
        }
    }
    (recipe, lda.join("Maildir"))
}

#[test]
fn dovecot_lda_files_by_sieve() {
    let home = Home::new();
    let (recipe, maildir) = dovecot_lda(&home, "");
    files_the_list(&recipe, &home, &maildir, String::new);
}

#[test]
fn dovecot_lda_answers_no_sender_when_the_mailbox_is_full() {
    let home = Home::new();
    let bounced = home.path("lda/bounced");
    let quota = "protocol lda {\n  mail_plugins = $mail_plugins sieve quota\n}\n\
                 plugin {\n  quota = count:User quota\n  quota_vsizes = yes\n  quota_rule = *:messages=1\n  quota_grace = 0\n}\n";
    let (recipe, maildir) =
        dovecot_lda(&home, &format!("{quota}sendmail_path = /usr/bin/touch {}\n", bounced.display()));
    let server = Maildrop::holding(&[PERSONAL, PERSONAL]);
    recipe.configure(&home, &server);
    let ended = home.must(&["-v", "sync"], 75);
    assert!(ended.stderr.contains("dovecot-lda exited with 77 (EX_NOPERM)"), "{}", ended.stderr);
    assert_filed(&maildir, &[PERSONAL]);
    assert_eq!(server.uids(), ["uid1"]);
    assert!(!bounced.exists(), "a mail went to the sender");
}

#[test]
fn procmail_files_by_its_rules() {
    let home = Home::new();
    let recipe = Recipe::named("procmail")
        .with("-t]", format!("-t, {}]", home.path(".procmailrc").display()))
        .with("=$HOME", format!("={}", home.path("").display()));
    home.write(".procmailrc", recipe.block("procmail", "~/.procmailrc"));
    recipe.prepare(&home);
    let log = || fs::read_to_string(home.path("procmail.log")).unwrap_or_default();
    files_the_list(&recipe, &home, &home.path("Maildir"), log);
    assert!(log().contains("Subject: a list"), "{}", log());
}

/// The recipe with the filter's home in place of the one in the user database.
fn with_mailfilter(recipe: Recipe, home: &Home) -> Recipe {
    let recipe = recipe.with("to \"$HOME", format!("to \"{}", home.path("").display()));
    home.write(".mailfilter", recipe.block("maildrop", "~/.mailfilter"));
    recipe.prepare(home);
    recipe
}

#[test]
fn maildrop_files_by_its_rules() {
    let home = Home::new();
    let recipe = Recipe::named("maildrop")
        .with("pipe: [maildrop]", format!("pipe: [maildrop, {}]", home.path(".mailfilter").display()));
    let recipe = with_mailfilter(recipe, &home);
    files_the_list(&recipe, &home, &home.path("Maildir"), String::new);
}

#[test]
fn what_rspamd_takes_for_spam_is_filed_apart_and_without_rspamd_nothing_is_delivered() {
    let home = Home::new();
    let port = free_port();
    let script = home.path("deliver-through-rspamd");
    let recipe = Recipe::named("rspamd by a command")
        .with("/usr/local/bin/deliver-through-rspamd", script.display())
        .with("localhost:11333", format!("127.0.0.1:{port}"))
        .with("maildrop <", format!("maildrop {} <", home.path(".mailfilter").display()));
    let recipe = with_mailfilter(recipe, &home);
    let text = &recipe.blocks.iter().find(|block| block.text.starts_with("#!")).unwrap().text;
    home.write("deliver-through-rspamd", text);
    fs::set_permissions(&script, fs::Permissions::from_mode(0o700)).unwrap();
    let server = Maildrop::holding(&[PERSONAL]);
    recipe.configure(&home, &server);
    let ended = home.must(&["-v", "sync"], 75);
    assert!(ended.stderr.contains("exited with 75"), "{}", ended.stderr);
    assert_eq!(server.uids(), ["uid0"]);
    assert!(messages(&home.path("Maildir")).is_empty());

    let rspamd = rspamd(&home, port);
    for (uid, message) in [("personal", PERSONAL), ("spam", GTUBE)] {
        server.put(uid, message.replace('\n', "\r\n"));
    }
    let ended = home.run(&["-v", "sync"]);
    // What is still held is told by the status.
    assert_eq!(ended.status, Some(75), "{}\n{}", ended.stderr, rspamd.log());
    let unmarked = |folder: &str| -> Vec<Vec<u8>> {
        let mut all = messages(&home.path(folder));
        for message in &mut all {
            let text = String::from_utf8(std::mem::take(message)).unwrap();
            assert!(text.contains("\nX-Spam-Score: "), "{text}");
            let lines = text.split_inclusive('\n').filter(|line| !line.starts_with("X-Spam"));
            *message = lines.collect::<String>().into_bytes();
        }
        all
    };
    assert_same(unmarked("Maildir"), vec![without_trace(PERSONAL.as_bytes())]);
    assert_same(unmarked("Maildir/.Junk"), vec![without_trace(GTUBE.as_bytes())]);
    assert_eq!(server.uids(), ["uid0"], "it waits for its next try");
}

/// Starts an rspamd that tests no more than it must, on a port, with its files in a home.
fn rspamd(home: &Home, port: u16) -> Server {
    let at = home.path("rspamd");
    // The whole list of domains takes it half a minute to read.
    home.write("rspamd/domains", "com\norg\nnet\n");
    let conf = home.write(
        "rspamd/rspamd.conf",
        &format!(
            "options {{\n  pidfile = \"{0}/pid\";\n  url_tld = \"{0}/domains\";\n  cache_file = \"{0}/symbols\";\n  \
             filters = \"\";\n  dns {{\n    nameserver = [\"127.0.0.1:1\"];\n    timeout = 0.1s;\n    retransmits = 1;\n  }}\n}}\n\
             logging {{\n  type = \"console\";\n}}\nactions {{\n  reject = 15;\n  add_header = 6;\n}}\n\
             worker \"normal\" {{\n  bind_socket = \"127.0.0.1:{port}\";\n  count = 1;\n}}\n",
            at.display()
        ),
    );
    let program = program("rspamd").expect("rspamd (Debian: rspamd)");
    let mut command = Command::new(program);
    command.args(["-f", "-i", "-c"]).arg(conf).env("TMPDIR", &at);
    Server::start(&mut command, &home.path("rspamd/log"), &[port]).unwrap_or_else(|log| panic!("{log}"))
}

/// Delivers to the mail server's usual port, where all is refused that comes from here, and to the recipe's.
fn passes_where_strangers_do_not(mta: &Mta, recipe: &Recipe, port: u16, refusal: &str) {
    let server = Maildrop::holding(&[LISTED, PERSONAL]);
    let strange = Home::new();
    recipe.configure(&strange, &server);
    let config = strange.path("config/postrider/config.yaml");
    let text = fs::read_to_string(&config)
        .unwrap()
        .replace(&format!("port: {port}"), &format!("port: {}", mta.port));
    strange.configure(&text);
    let ended = strange.must(&["sync"], 75);
    assert!(ended.stderr.contains(refusal), "{}\n{}", ended.stderr, mta.log());
    assert_eq!(server.uids().len(), 2);

    let home = Home::new();
    recipe.configure(&home, &server);
    let ended = home.run(&["-v", "sync"]);
    assert_eq!(ended.status, Some(0), "{}\n{}", ended.stderr, mta.log());
    let arrived = mta.mailbox("box", 2).iter().map(|message| without_trace(message)).collect();
    assert_same(arrived, [LISTED, PERSONAL].map(|message| without_trace(message.as_bytes())).to_vec());
    assert!(server.uids().is_empty());
    // It is no relay.
    server.put("abroad", PERSONAL.replace('\n', "\r\n"));
    recipe.configure(&home, &server);
    let text = fs::read_to_string(home.path("config/postrider/config.yaml")).unwrap();
    home.configure(&text.replace(DOMAIN, "elsewhere.invalid"));
    let ended = home.must(&["sync"], 75);
    assert!(ended.stderr.contains("server refused the recipient"), "{}", ended.stderr);
}

#[test]
fn postfix_takes_fetched_mail_on_a_port_where_nothing_tests_the_client() {
    let port = free_port();
    let recipe = Recipe::named("Postfix on localhost").with("10025", port).with("alice@", "box@");
    let master = recipe.block("conf", "/etc/postfix/master.cf").to_owned();
    let mta = Mta::postfix_with(&[port], move |name, text| match name {
        "main.cf" => {
            text + "smtpd_client_restrictions = check_client_access inline:{{127.0.0.1 = 550 5.7.1 strangers are not welcome}}\n\
                    smtpd_helo_required = yes\nsmtpd_helo_restrictions = reject_non_fqdn_helo_hostname\n\
                    smtpd_sender_restrictions = check_sender_access static:REJECT\n\
                    smtpd_data_restrictions = reject\n\
                    smtpd_milters = inet:127.0.0.1:1\n\
                    header_checks = regexp:{{/^Subject/ REJECT}}\n"
        }
        "master.cf" => text + &master,
        other => panic!("{other}"),
    });
    // What comes first: the milter that is not there.
    passes_where_strangers_do_not(&mta, &recipe, port, "451 4.7.1 Service unavailable");
}

#[test]
fn exim_takes_fetched_mail_on_a_port_where_nothing_tests_the_client() {
    let port = free_port();
    let recipe = Recipe::named("Exim on localhost")
        .with("10025", port)
        .with("[0.0.0.0]:25", "[127.0.0.1]:{port}")
        .with("alice@", "box@");
    let mta = Mta::exim_with(&[port], |_, text| {
        let usual =
            text.lines().find_map(|line| line.strip_prefix("daemon_smtp_ports = ")).unwrap().to_owned();
        let main = recipe.block("conf", "main").replace("{port}", &usual);
        let others = recipe.block("conf", "others");
        let no = "deny message = strangers are not welcome\n";
        let lists = format!(
            "begin acl\nhelo:\n{others}{no}mail:\n{others}{no}recipient:\n{}{no}message:\n{others}{no}begin routers\n",
            recipe.block("conf", "rcpt")
        );
        let (head, rest) = text.split_once("begin acl\n").unwrap();
        let (_, tail) = rest.split_once("begin routers\n").unwrap();
        let head = head.replace("local_interfaces = 127.0.0.1\n", &main);
        format!(
            "{head}domainlist local_domains = {DOMAIN}\nacl_smtp_helo = helo\nacl_smtp_mail = mail\n{lists}{tail}"
        )
    });
    passes_where_strangers_do_not(&mta, &recipe, port, "strangers are not welcome");
}

#[test]
fn what_the_page_links_to_is_there() {
    let anchors: Vec<String> =
        RUN.iter().map(|title| format!("(#{})", title.to_lowercase().replace(' ', "-"))).collect();
    for anchor in &anchors {
        assert!(PAGE.contains(anchor), "{anchor} is missing from the table");
    }
    let mut linked: Vec<_> =
        PAGE.match_indices("(#").map(|(at, _)| PAGE[at..].split_inclusive(')').next().unwrap()).collect();
    linked.retain(|link| !anchors.iter().any(|anchor| anchor == link));
    assert!(linked.is_empty(), "{linked:?} lead nowhere");
    assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/safety.md").is_file());
}
