//! `setup` away from a terminal: where it looks, in which order, what it makes of liars, and the YAML that comes.

use std::time::{Duration, Instant};

use crate::support::certificate::{Certificate, Validity};
use crate::support::maildrop::{Maildrop, Settings};
use crate::support::namespace::Namespace;
use crate::support::postrider::{Home, LIMIT};
use crate::support::process::{Ended, Running};
use crate::support::web::{Answer, Web};

/// Where documents are.
const PATH: &str = "/mail/config-v1.1.xml";
const WELL_KNOWN: &str = "/.well-known/autoconfig/mail/config-v1.1.xml";

/// A document that names one server.
pub fn document(kind: &str, host: &str, port: u16) -> String {
    format!(
        "<?xml version='1.0'?>\n<clientConfig version='1.1'><emailProvider id='x'><displayName>A &amp; B</displayName>\
         <incomingServer type='{kind}'><hostname>{host}</hostname><port>{port}</port><socketType>SSL</socketType>\
         <username>%EMAILADDRESS%</username><authentication>password-cleartext</authentication></incomingServer>\
         </emailProvider></clientConfig>\n"
    )
}

/// HTTPS servers of a namespace, and what makes their certificates be believed.
pub struct Domain<'a> {
    pub namespace: &'a Namespace,
    pub home: Home,
    authorities: String,
}

impl<'a> Domain<'a> {
    pub fn new(namespace: &'a Namespace) -> Self {
        Self { namespace, home: Home::new(), authorities: String::new() }
    }

    /// Makes a certificate that is believed.
    pub fn certificate(&mut self, names: &[&str]) -> Certificate {
        let certificate = Certificate::issue(names, Validity::Current);
        self.authorities += &certificate.authority_pem;
        self.home.write("roots.pem", &self.authorities);
        certificate
    }

    /// Starts an HTTPS server of this name.
    pub fn web(&mut self, host: &str) -> Web {
        let certificate = self.certificate(&[host]);
        Web::start(self.namespace.host(host), 443, Some(&certificate))
    }

    pub fn roots(&self) -> String {
        self.home.path("roots.pem").display().to_string()
    }

    fn start(&self, arguments: &[&str]) -> Running {
        Running::start(self.home.command(arguments).env("SSL_CERT_FILE", self.roots()))
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        self.start(arguments).wait(LIMIT)
    }

    /// Runs it for an address, which must find a server, and gives the YAML, which must be a configuration.
    fn found(&self, arguments: &[&str]) -> String {
        let ended = self.run(&[&["setup"], arguments].concat());
        assert_eq!(ended.status, Some(0), "{}{}", ended.stdout, ended.stderr);
        let home = Home::new();
        home.configure(&ended.stdout);
        home.must(&["config", "check"], 0);
        ended.stdout
    }
}

#[test]
fn a_known_provider_is_asked_for_nothing_and_what_comes_is_a_configuration() {
    let Some(namespace) =
        Namespace::of("setup::a_known_provider_is_asked_for_nothing_and_what_comes_is_a_configuration")
    else {
        return;
    };
    let domain = Domain::new(&namespace);
    let yaml = domain.found(&["alice@gmail.com"]);
    for line in [
        "\n  gmail:\n",
        "\n    host: pop.gmail.com\n",
        "\n    user: alice@gmail.com\n",
        "/secrets/gmail }\n",
        "\n    deliver: { maildir: ~/Mail }\n",
    ] {
        assert!(yaml.contains(line), "{line}: {yaml}");
    }
    assert!(yaml.lines().all(|line| line.chars().count() <= 80 || line.contains("file:")), "{yaml}");
    let yaml =
        domain.found(&["--print", "--login", "--client-id", "id", "alice@gmail.com", "--name", "work"]);
    assert!(
        yaml.contains("  work:\n") && yaml.contains("oauth2: { provider: google, client_id: id }"),
        "{yaml}"
    );
    let yaml = domain.found(&["alice@outlook.com"]);
    assert!(yaml.contains("oauth2: { provider: microsoft, client_id: CLIENT-ID }"), "{yaml}");
    let options = [
        "--password-command",
        "pass show x",
        "--deliver",
        "mbox:/var/mail/a",
        "--deliver",
        "maildir:~/M",
        "--first-sync",
        "14d",
        "--user",
        "bob",
        "alice@gmx.de",
    ];
    let yaml = domain.found(&options);
    for line in [
        "    user: bob\n",
        "    password: { command: 'pass show x' }\n",
        "    first_sync: 14d\n",
        "    deliver: [{ mbox: /var/mail/a }, { maildir: ~/M }]\n",
    ] {
        assert!(yaml.contains(line), "{line}: {yaml}");
    }
    let named = domain.found(&["--server", "mail.example.org:110", "alice@example.org"]);
    assert!(named.contains("    host: mail.example.org\n    tls: starttls\n"), "{named}");
    let ended = domain.run(&["setup", "alice@icloud.com"]);
    assert_eq!((ended.status, ended.stdout.as_str()), (Some(75), ""));
    assert!(
        ended.stderr.contains("alice@icloud.com cannot be polled: iCloud has no POP3"),
        "{}",
        ended.stderr
    );
    assert_eq!(namespace.asked(), [""; 0]);
    assert!(!domain.home.path("config").exists() && !domain.home.path("state").exists());
}

#[test]
fn the_first_in_order_wins_and_what_nobody_vouches_for_is_told() {
    let Some(namespace) = Namespace::of("setup::the_first_in_order_wins_and_what_nobody_vouches_for_is_told")
    else {
        return;
    };
    let mut domain = Domain::new(&namespace);
    let own = domain.web("autoconfig.example.org");
    own.answer(PATH, Answer::Text(document("pop3", "one.example.org", 995)));
    let well_known = domain.web("example.org");
    well_known.answer(WELL_KNOWN, Answer::Elsewhere("https://www.example.org/x.xml".into()));
    let www = domain.web("www.example.org");
    www.answer("/x.xml", Answer::Text(document("pop3", "two.example.org", 995)));
    let ispdb = domain.web("v1.ispdb.net");
    ispdb.answer("/example.org", Answer::Text(document("pop3", "pop.other.example", 995)));
    namespace.mx("example.org", "mx1.hoster.example");
    let hoster = domain.web("autoconfig.hoster.example");
    hoster.answer(PATH, Answer::Text(document("pop3", "four.hoster.example", 995)));
    let plain = Web::start(namespace.host("autoconfig.example.org"), 80, None);
    plain.answer(PATH, Answer::Text(document("pop3", "five.example.org", 995)));
    namespace.srv("_pop3s._tcp.example.org", "six.example.org", 9950);
    namespace.srv("_pop3._tcp.example.org", "seven.example.org", 110);
    let settings = Settings { user: "alice@example.org".into(), ..Settings::default() };
    let certificate = domain.certificate(&["pop3.example.org"]);
    namespace.alias("pop3.example.org", [127, 0, 0, 1].into());
    let _maildrop = Maildrop::start_with(995, settings, certificate);

    let (other, forged) = ("of another domain", "nobody signed");
    let expect = |host: &str, by: &str, doubts: &[&str]| {
        let yaml = domain.found(&["alice@example.org"]);
        // A comment may be broken anywhere.
        let words = yaml.replace("\n#", "").split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(yaml.contains(&format!("    host: {host}\n")) && words.contains(by), "{host}, {by}: {yaml}");
        for doubt in [other, forged, "without TLS"] {
            assert_eq!(words.contains(doubt), doubts.contains(&doubt), "{doubt}: {yaml}");
        }
        yaml
    };
    expect("one.example.org", "found by https://autoconfig.example.org/mail/config-v1.1.xml", &[]);
    own.forget();
    expect("two.example.org", "https://example.org/.well-known/", &[]);
    well_known.forget();
    expect("pop.other.example", "https://v1.ispdb.net/example.org", &[other]);
    ispdb.forget();
    expect("four.hoster.example", "https://autoconfig.hoster.example/", &[other, forged]);
    namespace.mx("example.org", "aspmx.l.google.com");
    expect("pop.gmail.com", "Google, which takes the mail of example.org", &[other, forged]);
    namespace.forget("example.org");
    expect("five.example.org", "http://autoconfig.example.org/", &["without TLS"]);
    plain.forget();
    let yaml = expect("six.example.org", "SRV _pop3s._tcp.example.org", &[forged]);
    assert!(yaml.contains("    port: 9950\n"), "{yaml}");
    namespace.srv("_pop3s._tcp.example.org", "", 0);
    let yaml = expect("seven.example.org", "SRV _pop3._tcp.example.org", &[forged]);
    assert!(yaml.contains("    tls: starttls\n"), "{yaml}");
    namespace.forget("_pop3._tcp.example.org");
    expect("pop3.example.org", "trying the usual names", &[]);
    let query = format!("{PATH}?emailaddress=alice%40example%2Eorg");
    assert!(own.asked().iter().all(|asked| *asked == query), "{:?}", own.asked());
    // Nobody who listens on the way, and nobody elsewhere, learns the address.
    assert!(plain.asked().iter().chain(&www.asked()).all(|asked| !asked.contains("alice")));
}

#[test]
fn whoever_lies_or_dawdles_is_survived_and_told() {
    let Some(namespace) = Namespace::of("setup::whoever_lies_or_dawdles_is_survived_and_told") else {
        return;
    };
    let mut domain = Domain::new(&namespace);
    let good = document("pop3", "pop.example.org", 995);
    let bomb = format!(
        "<!DOCTYPE c [<!ENTITY a \"{}\"><!ENTITY b \"{}\">]>{good}",
        "a".repeat(1000),
        "&a;".repeat(1000)
    );
    let to = |host: &str| Answer::Elsewhere(format!("{host}/mail/config-v1.1.xml"));
    let lies = [
        ("bomb", Answer::Text(bomb), "has a document type, which is not read"),
        ("entity", Answer::Text(good.replace("pop.example", "&pop;.example")), "entities of its own"),
        ("html", Answer::Text("<html><body>Parked</body></html>".into()), "is no configuration of mail"),
        ("cut", Answer::Text(good[..200].to_owned()), "sent a document that"),
        ("tall", Answer::Text(format!("{good}{}", " ".repeat(66_000))), "more than 65536 octets"),
        ("large", Answer::Large(10 << 20), "sent more than"),
        ("endless", Answer::Endless, "sent more than"),
        ("slow", Answer::Trickle, "no answer within 10 s"),
        ("silent", Answer::Silence, "no answer within 10 s"),
        ("garbage", Answer::Garbage, "what is no HTTP answer"),
        ("down", to("http://autoconfig.down.example"), "sends on to http://autoconfig.down.example"),
        ("loop", to("https://autoconfig.loop.example"), "sent on more than 3 times"),
        ("plain", Answer::Text(good.replace("SSL", "plain")), "without TLS alone: nothing goes there"),
        ("evil", Answer::Text(good.replace("pop.example.org", "&#27;[2Jx")), "which is no host"),
    ];
    let ispdb = domain.web("v1.ispdb.net");
    for (name, answer, _) in &lies {
        domain.web(&format!("autoconfig.{name}.example")).answer(PATH, answer.clone());
        ispdb.answer(&format!("/{name}.example"), Answer::Text(document("pop3", "pop.sound.example", 995)));
    }
    // One that speaks no TLS, and one whose certificate is another's.
    Web::start(namespace.host("autoconfig.clear.example"), 443, None).answer(PATH, Answer::Text(good));
    let another = domain.certificate(&["other.example"]);
    Web::start(namespace.host("autoconfig.another.example"), 443, Some(&another));
    let more = [("clear", "where the TLS handshake was expected"), ("another", "certificate")];
    for (name, _) in more {
        ispdb.answer(&format!("/{name}.example"), Answer::Text(document("pop3", "pop.sound.example", 995)));
    }
    let all = lies.iter().map(|(name, _, told)| (*name, *told)).chain(more);
    let begun = Instant::now();
    let running: Vec<_> = all
        .map(|(name, told)| (name, told, domain.start(&["-v", "setup", &format!("alice@{name}.example")])))
        .collect();
    for (name, told, running) in running {
        let ended = running.wait(LIMIT);
        assert_eq!(ended.status, Some(0), "{name}: {}", ended.stderr);
        assert!(ended.stdout.contains("    host: pop.sound.example\n"), "{name}: {}", ended.stdout);
        let lines = ended.stderr.lines();
        let line = lines
            .filter(|line| line.contains(&format!("https://autoconfig.{name}.example/")))
            .collect::<String>();
        assert!(line.contains(told), "{name}: {told}: {}", ended.stderr);
        assert!(!ended.stderr.contains('\u{1b}'), "{name}");
    }
    assert!(begun.elapsed() < Duration::from_secs(90), "{:?}", begun.elapsed());
}

#[test]
fn where_nothing_is_found_each_that_was_asked_is_named_and_one_for_imap_alone_told() {
    let Some(namespace) = Namespace::of(
        "setup::where_nothing_is_found_each_that_was_asked_is_named_and_one_for_imap_alone_told",
    ) else {
        return;
    };
    let mut domain = Domain::new(&namespace);
    let ended = domain.run(&["setup", "alice@nowhere.example"]);
    assert_eq!((ended.status, ended.stdout.as_str()), (Some(75), ""), "{}", ended.stderr);
    for asked in [
        "no POP3 server was found for alice@nowhere.example",
        "\n  https://autoconfig.nowhere.example/mail/config-v1.1.xml: ",
        "\n  https://nowhere.example/.well-known/autoconfig/mail/config-v1.1.xml: ",
        "\n  https://v1.ispdb.net/nowhere.example: ",
        "\n  MX of nowhere.example: no such record",
        "\n  http://autoconfig.nowhere.example/mail/config-v1.1.xml: ",
        "\n  SRV _pop3s._tcp.nowhere.example: no such record",
        "\n  pop.nowhere.example:995, TLS: ",
        "\n  mail.nowhere.example:110, STARTTLS: ",
        "give it with --server",
    ] {
        assert!(ended.stderr.contains(asked), "{asked}: {}", ended.stderr);
    }
    domain
        .web("autoconfig.example.org")
        .answer(PATH, Answer::Text(document("imap", "imap.example.org", 993)));
    let ended = domain.run(&["setup", "alice@example.org"]);
    assert_eq!((ended.status, ended.stdout.as_str()), (Some(75), ""));
    let words = "only an IMAP server was found for alice@example.org, imap.example.org, and postrider fetches by POP3";
    assert!(ended.stderr.contains(words), "{}", ended.stderr);
}

#[test]
fn a_wrong_address_or_option_is_told_before_anybody_is_asked() {
    let home = Home::new();
    for (arguments, status, told) in [
        (&["setup", "alice"][..], 2, "\"alice\" is no mail address: it has no @"),
        (&["setup", "alice@example"], 2, "whole domain"),
        (&["setup", "alice@gmail.com", "--deliver", "nowhere"], 2, "maildir:"),
        (&["setup", "alice@gmail.com", "--first-sync", "some"], 2, "--first-sync"),
        (&["setup", "alice@gmail.com", "--server", "a b"], 2, "--server"),
        (&["setup", "alice@gmail.com", "--tls", "implicit"], 2, "--server"),
        (&["setup", "alice@gmail.com", "--login", "--password-file", "x"], 2, "cannot be used with"),
        (&["setup", "alice@gmx.de", "--login"], 2, "takes no tokens"),
    ] {
        let ended = home.must(arguments, status);
        assert!(ended.stderr.contains(told), "{arguments:?}: {}", ended.stderr);
    }
    home.configure("accounts: [\n");
    home.must(&["setup", "alice@gmail.com"], 78);
    home.configure("accounts:\n  gmail: { host: h, user: u, deliver: { maildir: /m } }\n");
    let printed = home.must(&["setup", "alice@gmail.com"], 0).stdout;
    assert!(printed.contains("\n  alice@gmail.com:\n"), "the other name is taken: {printed}");
    home.must(&["setup", "--name", "gmail", "alice@gmail.com"], 2);
}
