//! `setup` with a person at the terminal.

use std::fs;
use std::io::Write as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::setup::{Domain, document};
use crate::support::authorization_server::{AuthorizationServer, CLIENT, GOOGLE_MAIL, Person, browse};
use crate::support::maildrop::{Maildrop, Protection, Settings, What};
use crate::support::namespace::Namespace;
use crate::support::postrider::Home;
use crate::support::process::wait_until;
use crate::support::web::{Answer, Web, pass_on};

const PATH: &str = "/mail/config-v1.1.xml";
const PASSWORD: &str = "correct horse";

/// The program on a terminal of 80 columns, and what a person types.
struct Screen<'a> {
    home: &'a Home,
    child: Child,
    /// Octets of what was shown that were looked at.
    seen: usize,
}

impl<'a> Screen<'a> {
    fn start(domain: &'a Domain<'_>, arguments: &str) -> Self {
        let home = &domain.home;
        let program = home.command(&[]);
        let shown = format!(
            "stty cols 80 rows 24; exec {} setup {arguments}",
            program.get_program().to_str().expect("a path of text")
        );
        let mut command = Command::new("script");
        // What is typed is echoed by the terminal, as it is for a person.
        command.args(["--quiet", "--flush", "--return", "--command", &shown]).arg(home.path("screen"));
        command.env_clear().current_dir(home.path(""));
        command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.env("TERM", "xterm").env("SHELL", "/bin/sh").env("SSL_CERT_FILE", domain.roots());
        let _ = fs::remove_file(home.path("screen"));
        let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("script");
        Self { home, child, seen: 0 }
    }

    fn shown(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.home.path("screen")).unwrap_or_default()).into_owned()
    }

    /// Waits for words behind those that were waited for before.
    fn shows(&mut self, words: &str) {
        let at = || self.shown().get(self.seen..).and_then(|new| Some(new.find(words)? + words.len()));
        let came = wait_until(Duration::from_secs(60), || at().is_some());
        assert!(came, "{words:?} is not shown:\n{}", self.shown());
        self.seen += at().unwrap_or_default();
    }

    /// Answers a question.
    fn answers(&mut self, question: &str, line: &str) {
        self.shows(question);
        let typed = self.child.stdin.as_mut().expect("a pipe").write_all(format!("{line}\n").as_bytes());
        typed.expect("it reads");
    }

    /// Presses Ctrl-C at a question.
    fn interrupts(&mut self, question: &str) {
        self.shows(question);
        self.child.stdin.as_mut().expect("a pipe").write_all(b"\x03").expect("it reads");
    }

    /// Waits for the end, and gives all that was shown.
    fn ends(mut self, status: i32) -> String {
        let ended = wait_until(Duration::from_secs(60), || self.child.try_wait().expect("a child").is_some());
        let shown = self.shown();
        let _ = self.child.kill();
        let code = self.child.wait().expect("a child").code();
        assert!(ended && code == Some(status), "{code:?}: {shown}");
        // The recorder's own lines name the program, wherever it lies.
        for line in shown.lines().filter(|line| !line.starts_with("Script ")) {
            // The terminal shows what was pressed wherever it is then.
            let line = line.strip_prefix("^C").unwrap_or(line);
            let is_wide = line.trim_end().chars().count() > 80
                && line.contains(' ')
                && !line.contains("/tmp/")
                && !line.contains("https://");
            assert!(!is_wide && !line.contains(PASSWORD), "{line}");
        }
        shown
    }
}

/// A domain whose document names its own server, which holds two messages.
struct Own<'a> {
    domain: Domain<'a>,
    web: Web,
    maildrop: Maildrop,
}

fn own(namespace: &Namespace) -> Own<'_> {
    let mut domain = Domain::new(namespace);
    let web = domain.web("autoconfig.example.org");
    let certificate = domain.certificate(&["pop.example.org"]);
    namespace.alias("pop.example.org", [127, 0, 0, 1].into());
    let settings = Settings { user: "alice@example.org".into(), ..Settings::default() };
    let maildrop = Maildrop::start_with(995, settings, certificate);
    for uid in ["one", "two"] {
        maildrop.put(uid, format!("Subject: {uid}\r\n\r\nbody\r\n").into_bytes());
    }
    web.answer(PATH, Answer::Text(document("pop3", "pop.example.org", 995)));
    Own { domain, web, maildrop }
}

impl Own<'_> {
    fn config(&self) -> String {
        fs::read_to_string(self.domain.home.path("config/postrider/config.yaml")).unwrap_or_default()
    }

    fn sync(&self) -> usize {
        let mut command = self.domain.home.command(&["sync", "example"]);
        let output = command.env("SSL_CERT_FILE", self.domain.roots()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        self.domain.home.files("Mail").len()
    }

    fn left_nothing(&self) {
        for name in ["config", "state", "Mail"] {
            assert!(!self.domain.home.path(name).exists(), "{name}");
        }
    }
}

#[test]
fn an_address_and_a_password_become_an_account_that_fetches() {
    let Some(namespace) =
        Namespace::of("setup_dialogue::an_address_and_a_password_become_an_account_that_fetches")
    else {
        return;
    };
    let own = own(&namespace);
    let mut screen = Screen::start(&own.domain, "alice@example.org");
    screen.shows("Looking for the POP3 server of example.org");
    screen.shows("Found pop.example.org:995, TLS");
    screen.answers("[maildir:~/Mail]: ", "");
    screen.answers("Password of alice@example.org at pop.example.org, which is not shown: ", "wrong");
    screen.shows("refused");
    // What is typed next is a password again, and shown by nobody.
    screen.answers("Password of alice@example.org at pop.example.org, which is not shown: ", PASSWORD);
    screen.shows("Logged in: 2 messages wait (");
    screen.answers("Fetch [all]: ", "");
    screen.shows("postrider sync example");
    screen.ends(0);
    let home = &own.domain.home;
    assert_eq!((home.mode("config/postrider/config.yaml"), home.mode("config/postrider")), (0o600, 0o700));
    let secret = "config/postrider/secrets/example";
    assert_eq!(
        (fs::read(home.path(secret)).unwrap(), home.mode(secret)),
        (b"correct horse\n".to_vec(), 0o600)
    );
    let expected = format!(
        "# The configuration of postrider; `man postrider.yaml` has all keys.\naccounts:\n  example:\n    \
         host: pop.example.org\n    user: alice@example.org\n    password: {{ file: {} }}\n    \
         deliver: {{ maildir: ~/Mail }}\n",
        home.path(secret).display()
    );
    assert_eq!(own.config(), expected);
    home.must(&["config", "check"], 0);
    assert_eq!(own.sync(), 2);
    // Once more: it is there.
    let screen = Screen::start(&own.domain, "alice@example.org");
    let told = screen.ends(2);
    assert!(told.contains("has an account in") && told.contains("`postrider sync example`"), "{told}");
}

#[test]
fn an_account_is_put_behind_the_others_and_the_rest_of_the_file_stays() {
    let Some(namespace) =
        Namespace::of("setup_dialogue::an_account_is_put_behind_the_others_and_the_rest_of_the_file_stays")
    else {
        return;
    };
    let own = own(&namespace);
    let before = "# mine\ndefaults:\n  port: 1995  # odd\naccounts:\n  # the old one\n  example: { host: h, user: u, \
                  deliver: { maildir: ~/old } }  # yes\n";
    let after = "\n# where\nstate: ~/state.db\n";
    own.domain.home.configure(&format!("{before}{after}"));
    own.domain.home.write("password", "correct horse\n");
    // Each question has its option, and none is asked.
    let options = "alice@example.org --password-file password --deliver maildir:~/new --first-sync none";
    let screen = Screen::start(&own.domain, options);
    let shown = screen.ends(0);
    assert!(shown.contains("sync alice@example.org"), "{shown}");
    let account = format!(
        "  alice@example.org:\n    host: pop.example.org\n    port: 995\n    tls: implicit\n    user: alice@example.org\n    \
         password: {{ file: {} }}\n    first_sync: none\n    deliver: {{ maildir: ~/new }}\n",
        own.domain.home.path("password").display()
    );
    assert_eq!(own.config(), format!("{before}{account}{after}"));
    assert!(!own.domain.home.path("config/postrider/secrets").exists());
    // In braces there is no place for it.
    let braces = "accounts: { old: { host: h, user: u, deliver: { maildir: /m } } }\n";
    own.domain.home.configure(braces);
    let told = Screen::start(&own.domain, options).ends(78);
    assert!(told.contains("put this below `accounts:`") && told.contains("host: pop.example.org"), "{told}");
    assert_eq!(own.config(), braces);
}

#[test]
fn only_new_mail_or_that_of_some_days_is_fetched_if_that_is_wanted() {
    let Some(namespace) =
        Namespace::of("setup_dialogue::only_new_mail_or_that_of_some_days_is_fetched_if_that_is_wanted")
    else {
        return;
    };
    let own = own(&namespace);
    let mut screen = Screen::start(&own.domain, "alice@example.org");
    screen.answers("[maildir:~/Mail]: ", "~/Mail");
    screen.answers("which is not shown: ", PASSWORD);
    screen.answers("Fetch [all]: ", "some");
    screen.shows("all, none, or a time such as 14d, please");
    screen.answers("Fetch [all]: ", "14");
    screen.ends(0);
    assert!(own.config().contains("\n    first_sync: 14d\n"), "{}", own.config());
    fs::remove_dir_all(own.domain.home.path("config")).unwrap();
    let mut screen = Screen::start(&own.domain, "alice@example.org");
    screen.answers("[maildir:~/Mail]: ", "");
    screen.answers("which is not shown: ", PASSWORD);
    screen.answers("Fetch [all]: ", "none");
    screen.ends(0);
    assert_eq!(own.sync(), 0);
    own.maildrop.put("three", b"Subject: three\r\n\r\n".to_vec());
    assert_eq!(own.sync(), 1);
}

#[test]
fn what_anybody_may_have_said_is_confirmed_before_a_password_is_asked_for() {
    let Some(namespace) = Namespace::of(
        "setup_dialogue::what_anybody_may_have_said_is_confirmed_before_a_password_is_asked_for",
    ) else {
        return;
    };
    let own = own(&namespace);
    own.web.forget();
    namespace.srv("_pop3s._tcp.example.org", "pop.example.org", 995);
    let question = "Is that your provider's server? (yes or no) [no]: ";
    for answer in ["", "no", "n"] {
        let mut screen = Screen::start(&own.domain, "alice@example.org");
        screen.shows("by SRV _pop3s._tcp.example.org");
        screen.answers(question, answer);
        let told = screen.ends(75);
        assert!(told.contains("--server") && !told.contains("Password"), "{told}");
    }
    own.left_nothing();
    assert!(own.maildrop.events().is_empty(), "nobody went there");
    // A document that is signed, of a server elsewhere.
    own.web.answer(PATH, Answer::Text(document("pop3", "pop.evil.example", 995)));
    let mut screen = Screen::start(&own.domain, "alice@example.org");
    screen.shows("of another domain");
    screen.answers("(yes or no) [yes]: ", "n");
    screen.ends(75);
    own.web.forget();
    let mut screen = Screen::start(&own.domain, "alice@example.org");
    screen.answers(question, "yes");
    screen.answers("User name at the server [alice@example.org]: ", "");
    screen.answers("[maildir:~/Mail]: ", "mbox:~/box");
    screen.answers("which is not shown: ", PASSWORD);
    screen.answers("Fetch [all]: ", "all");
    screen.ends(0);
    assert!(own.config().contains("deliver: { mbox: ~/box }"), "{}", own.config());
}

#[test]
fn a_server_that_is_not_found_is_asked_for() {
    let Some(namespace) = Namespace::of("setup_dialogue::a_server_that_is_not_found_is_asked_for") else {
        return;
    };
    let own = own(&namespace);
    let mut screen = Screen::start(&own.domain, "alice@nowhere.example");
    screen.answers("POP3 server, HOST or HOST:PORT: ", "");
    let told = screen.ends(75);
    assert!(told.contains("MX of nowhere.example: no such record"), "{told}");
    own.left_nothing();
    let mut screen = Screen::start(&own.domain, "--name example alice@nowhere.example");
    screen.answers("POP3 server, HOST or HOST:PORT: ", "no host");
    screen.answers("POP3 server, HOST or HOST:PORT: ", "pop.example.org");
    screen.answers("User name at the server [alice@nowhere.example]: ", "alice@example.org");
    screen.answers("[maildir:~/Mail]: ", "");
    screen.answers("which is not shown: ", PASSWORD);
    screen.answers("Fetch [all]: ", "");
    let told = screen.ends(0);
    assert!(told.contains("Nothing came of that: no POP3 server was found"), "{told}");
    assert_eq!(own.sync(), 2);
}

#[test]
fn who_stops_or_cannot_log_in_leaves_nothing_behind() {
    let Some(namespace) = Namespace::of("setup_dialogue::who_stops_or_cannot_log_in_leaves_nothing_behind")
    else {
        return;
    };
    let own = own(&namespace);
    let mut screen = Screen::start(&own.domain, "alice@example.org");
    screen.interrupts("[maildir:~/Mail]: ");
    screen.ends(75);
    let mut screen = Screen::start(&own.domain, "alice@example.org");
    screen.answers("[maildir:~/Mail]: ", "");
    screen.interrupts("which is not shown: ");
    let told = screen.ends(75);
    assert!(told.contains("stopped by a signal; nothing was written"), "{told}");
    let mut screen = Screen::start(&own.domain, "alice@example.org");
    screen.answers("[maildir:~/Mail]: ", "");
    screen.answers("which is not shown: ", PASSWORD);
    screen.interrupts("Fetch [all]: ");
    screen.ends(75);
    let mut screen = Screen::start(&own.domain, "alice@example.org");
    screen.answers("[maildir:~/Mail]: ", "");
    screen.answers("which is not shown: ", "wrong");
    screen.answers("which is not shown: ", "");
    screen.answers("User name at the server [alice@example.org]: ", "bob");
    screen.answers("Password of bob at pop.example.org, which is not shown: ", "wrong");
    screen.answers("Password of bob at pop.example.org, which is not shown: ", "wrong");
    let told = screen.ends(77);
    assert!(told.contains("Nothing was written"), "{told}");
    own.left_nothing();
    // A server that is not there is told with what was gone through.
    own.web.answer(PATH, Answer::Text(document("pop3", "pop.example.org", 1995)));
    let mut screen = Screen::start(&own.domain, "alice@example.org");
    screen.answers("[maildir:~/Mail]: ", "");
    screen.answers("which is not shown: ", PASSWORD);
    let told = screen.ends(75);
    assert!(told.contains("connection refused") && told.contains("--no-try"), "{told}");
    assert!(!told.contains("unattended"), "{told}");
    own.left_nothing();
    let logged_in = own.maildrop.events().iter().filter(|event| event.what == What::LoggedIn).count();
    assert_eq!(logged_in, 1, "only the one that was right");
    // As it is, if somebody wants it so.
    own.domain.home.write("password", "x\n");
    let options = "--no-try --password-file password --deliver maildir:~/Mail alice@example.org";
    Screen::start(&own.domain, options).ends(0);
    assert!(own.config().contains("port: 1995"), "{}", own.config());
}

#[test]
fn who_logs_in_by_tokens_is_led_to_a_browser() {
    let Some(namespace) = Namespace::of("setup_dialogue::who_logs_in_by_tokens_is_led_to_a_browser") else {
        return;
    };
    let own = own(&namespace);
    let mut screen = Screen::start(&own.domain, "alice@gmail.com");
    screen.shows("by what is known of Google");
    screen.shows("switch POP on");
    screen.answers("Log in by password or by oauth2? [password]: ", "o");
    screen.shows("docs/providers/google.md");
    screen.answers("Client id: ", "client");
    screen.answers("Client secret, which is not shown (none: just Enter): ", PASSWORD);
    screen.answers("[maildir:~/Mail]: ", "");
    screen.shows("sign in as alice@gmail.com");
    screen.shows("https://accounts.google.com/o/oauth2/v2/auth?");
    screen.answers("paste that address here", "nonsense");
    screen.interrupts("That is not the right address");
    screen.ends(75);
    assert!(!own.domain.home.path("config").exists());
    let mut screen = Screen::start(&own.domain, "alice@outlook.com --client-id id --deliver maildir:~/Mail");
    screen.interrupts("https://login.microsoftonline.com/common/oauth2/v2.0/authorize?");
    screen.ends(75);
    assert!(!own.domain.home.path("config").exists());
}

#[test]
fn who_allows_it_in_the_browser_has_an_account_that_fetches_by_tokens() {
    let Some(namespace) =
        Namespace::of("setup_dialogue::who_allows_it_in_the_browser_has_an_account_that_fetches_by_tokens")
    else {
        return;
    };
    const AUTHORIZE: &str = "https://accounts.google.com/o/oauth2/v2/auth";
    let mut domain = Domain::new(&namespace);
    let tokens = AuthorizationServer::start();
    let certificate = domain.certificate(&["oauth2.googleapis.com"]);
    pass_on(namespace.host("oauth2.googleapis.com"), &certificate, tokens.port());
    namespace.alias("pop.gmail.com", [127, 0, 0, 1].into());
    let settings = Settings {
        user: "alice@gmail.com".into(),
        tls: Protection::Implicit,
        ..Settings::with_tokens(tokens.check(GOOGLE_MAIL))
    };
    let maildrop = Maildrop::start_with(995, settings, domain.certificate(&["pop.gmail.com"]));
    maildrop.put("one", b"Subject: one\r\n\r\nbody\r\n".to_vec());
    // The provider's page is asked here for the person in front of the browser.
    let ended_at = |screen: &mut Screen<'_>| {
        screen.shows(AUTHORIZE);
        let shown = screen.shown();
        let address = shown[shown.find(AUTHORIZE).unwrap()..].split_whitespace().next().unwrap();
        browse(&address.replace(AUTHORIZE, &tokens.url("authorize"))).unwrap().1.unwrap()
    };
    let begin = || {
        let mut screen = Screen::start(&domain, "alice@gmail.com --login --deliver maildir:~/Mail");
        screen.answers("Client id: ", CLIENT);
        screen.answers("Client secret, which is not shown (none: just Enter): ", "");
        screen
    };
    tokens.state().person = Person::Declines;
    let mut screen = begin();
    let declined = ended_at(&mut screen);
    browse(&declined).unwrap();
    let told = screen.ends(77);
    assert!(told.contains("The user declined."), "{told}");
    assert!(!domain.home.path("config").exists());
    tokens.state().person = Person::Allows("alice@gmail.com".into());
    let mut screen = begin();
    let allowed = ended_at(&mut screen);
    let (status, _, page) = browse(&allowed).unwrap();
    assert!(status == 200 && page.contains("You may close this window"), "{page}");
    screen.shows("Logged in: 1 message waits (");
    screen.answers("Fetch [all]: ", "");
    screen.ends(0);
    let config = fs::read_to_string(domain.home.path("config/postrider/config.yaml")).unwrap();
    assert!(config.contains(&format!("oauth2: {{ provider: google, client_id: {CLIENT} }}")), "{config}");
    let sync = || {
        let mut command = domain.home.command(&["sync"]);
        let output = command.env("SSL_CERT_FILE", domain.roots()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        domain.home.files("Mail").len()
    };
    assert_eq!(sync(), 1);
    // What setup got is kept: nobody signs in again.
    maildrop.put("two", b"Subject: two\r\n\r\nbody\r\n".to_vec());
    assert_eq!((sync(), tokens.count("authorization_code")), (2, 1));
}
