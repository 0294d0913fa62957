//! What is fuzzed: functions from octets to nothing that must come back, and come back soon, whatever the octets are,
//! and that check what must hold for all of them.
//!
//! The fuzz targets call them by name, and so do the ordinary tests (`tests/session/fuzz_corpus.rs`) with every file in
//! `fuzz/corpus/NAME/`. A new one is a function here, a line in [`ENTRIES`], a `[[bin]]` in `fuzz/Cargo.toml`, and a
//! corpus of at least one file; the tests say what is missing.

mod session;

use std::path::Path;

use postrider::testing::autoconfig::{Address, Document};
use postrider::testing::config::{
    self, Account, CatchAll, Config, Occurrence, Recipients, Sender, Unknown, is_address,
};
use postrider::testing::delivery::envelope;
use postrider::testing::imap;
use postrider::testing::line::{self, AuthLine, Protocol};
use postrider::testing::message::{Fingerprinter, Header, ListingBuilder, ToLf, Trace, trace};
use postrider::testing::pop3::{
    Capabilities, Client, Command, Event, LineEnd, MessageNumber, Piece, Reply, Unstuffer, apop, parse_size,
    parse_unique_id,
};
use postrider::testing::sasl::{Credentials, Exchange, MECHANISMS};
use postrider::testing::secret::Secret;
use postrider::testing::smtp;

/// An entry and its name.
type Entry = (&'static str, fn(&[u8]));

/// All entries.
pub const ENTRIES: &[Entry] = &[
    ("reply", reply),
    ("capability", capability),
    ("listing", listing),
    ("body", body),
    ("client", client),
    ("smtp", smtp),
    ("imap", imap),
    ("header", header),
    ("envelope", envelope),
    ("config", config),
    ("url", url),
    ("autoconfig", autoconfig),
    ("sasl", sasl),
    ("session", session::session),
];

/// Runs an entry by its name.
pub fn run(name: &str, octets: &[u8]) {
    let found = ENTRIES.iter().find(|(known, _)| *known == name);
    let (_, entry) = found.unwrap_or_else(|| panic!("no entry {name:?}"));
    entry(octets);
}

/// A status line, and the greeting's time stamp.
fn reply(line: &[u8]) {
    if let Some(reply) = Reply::parse(line) {
        assert!(line.ends_with(reply.text));
        reply.code();
    }
    if let Some(stamp) = apop::stamp(line) {
        assert!(stamp.starts_with(b"<") && stamp.ends_with(b">"));
    }
}

/// The lines of CAPA's answer.
fn capability(lines: &[u8]) {
    let read = |lines: &[&[u8]]| {
        let mut capabilities = Capabilities::default();
        lines.iter().for_each(|line| capabilities.add(line));
        capabilities
    };
    let capabilities = read(&lines.split(|octet| *octet == b'\n').collect::<Vec<_>>());
    capabilities.pipelining();
    capabilities.expires_at_once();
    capabilities.login_delay();
    capabilities.sasl();
    let kept: Vec<&[u8]> = capabilities.lines().collect();
    assert_eq!(read(&kept), capabilities, "what is remembered is what was read");
}

/// The lines of LIST, an empty line, the lines of UIDL.
fn listing(lines: &[u8]) {
    let mut builder = ListingBuilder::default();
    let mut sizes = true;
    for line in lines.split(|&octet| octet == b'\n') {
        match (sizes, line.is_empty()) {
            (true, true) => sizes = false,
            (true, false) => builder.size(parse_size(line)),
            (false, _) => builder.unique_id(parse_unique_id(line)),
        }
    }
    let listing = builder.build();
    let all: Vec<_> = (0..listing.len()).map(|index| listing.get(index)).collect();
    assert!(all.is_sorted_by(|a, b| a.number < b.number), "a message-number names one message");
    for (index, listed) in all.iter().enumerate() {
        assert_eq!(listing.find(listed.number), Some(index));
    }
    let mut names: Vec<_> = listing.by_uid().map(|index| (all[index].uid, all[index].ordinal)).collect();
    assert!(names.is_sorted());
    names.dedup();
    assert_eq!(names.len(), all.len(), "unique-id and ordinal name one message");
}

/// A body after RETR's status line, at every split; the first octet says what ends a line.
fn body(octets: &[u8]) {
    let Some((first, stuffed)) = octets.split_first() else { return };
    let line_end = if first & 1 == 0 { LineEnd::Crlf } else { LineEnd::Lf };
    let whole = unstuff_in_pieces(stuffed, line_end, stuffed.len());
    for step in [1, 2, 3, 7] {
        assert_eq!(unstuff_in_pieces(stuffed, line_end, step), whole, "in pieces of {step}");
    }
}

/// The body and how many octets follow it; `None` if it has no end.
fn unstuff_in_pieces(stuffed: &[u8], line_end: LineEnd, step: usize) -> Option<(Vec<u8>, usize)> {
    let (mut unstuffer, mut body) = (Unstuffer::new(line_end), Vec::new());
    let (mut start, mut end) = (0, 0);
    loop {
        let (consumed, piece) = unstuffer.next(&stuffed[start..end]);
        match piece {
            Piece::Octets(range) => body.extend_from_slice(&stuffed[start + range.start..start + range.end]),
            Piece::End => return Some((body, stuffed.len() - start - consumed)),
            Piece::More if end == stuffed.len() => return None,
            Piece::More => end = (end + step).min(stuffed.len()),
        }
        start += consumed;
    }
}

/// A whole session's answers, split anywhere; the first octet says how many commands were sent, and those after it
/// which.
fn client(octets: &[u8]) {
    let Some((count, rest)) = octets.split_first() else { return };
    let (commands, answers) = rest.split_at(usize::from(*count).min(rest.len()));
    assert_eq!(events(commands, answers, answers.len().max(1)), events(commands, answers, 1));
}

/// What the answers mean, up to the first that means nothing; pieces of a body are joined.
fn events(commands: &[u8], answers: &[u8], step: usize) -> Vec<String> {
    let mut client = Client::new();
    for command in commands {
        client.send(&command_for(*command)).expect("nothing in it that cannot be sent");
    }
    let (mut events, mut body) = (Vec::new(), Vec::new());
    let (mut start, mut end) = (0, 0);
    loop {
        match client.incoming(&answers[start..end]) {
            Ok(Some((consumed, event))) => {
                match Client::placed(event, answers, start) {
                    Event::Octets { octets, .. } => body.extend_from_slice(octets),
                    other => {
                        let octets = std::mem::take(&mut body);
                        events.push(format!("{} {other:?}", octets.escape_ascii()));
                    }
                }
                start += consumed;
            }
            Ok(None) if end == answers.len() => break,
            Ok(None) => end = (end + step).min(answers.len()),
            // Where a wrong answer is noticed may depend on how much of it is there, so its words may be cut.
            Err(_) => break,
        }
    }
    events
}

fn command_for(octet: u8) -> Command<'static> {
    let number = MessageNumber(u32::from(octet) / 8 + 1);
    match octet % 8 {
        0 => Command::Capa,
        1 => Command::Uidl,
        2 => Command::List,
        3 => Command::Retr(number),
        4 => Command::Top(number, 0),
        5 => Command::Auth(AuthLine::Begin("PLAIN", None)),
        6 => Command::Dele(number),
        _ => Command::Quit,
    }
}

/// A session's replies, split anywhere; the first octet says whether it is LMTP and how many commands were sent, and those
/// after it which.
fn smtp(octets: &[u8]) {
    let Some((first, rest)) = octets.split_first() else { return };
    let dialect = if first & 1 == 0 { smtp::Dialect::Smtp } else { smtp::Dialect::Lmtp };
    let (commands, answers) = rest.split_at(usize::from(first / 2).min(rest.len()));
    assert_eq!(
        replies(dialect, commands, answers, answers.len().max(1)),
        replies(dialect, commands, answers, 1)
    );
}

/// What the replies are, and what is wrong with the first that is none.
fn replies(dialect: smtp::Dialect, commands: &[u8], answers: &[u8], step: usize) -> Vec<String> {
    let mut client = smtp::Client::new(dialect);
    for command in commands {
        match command % 8 {
            0 => client.send(&smtp::Command::Ehlo(&smtp::ClientId::default())),
            1 => client.send(&smtp::Command::Mail("a@b", &[])),
            2 => client.send(&smtp::Command::Rcpt("c")),
            3 => client.send(&smtp::Command::Data),
            4 => client.send(&smtp::Command::Rset),
            5 => client.send(&smtp::Command::Quit),
            _ => {
                client.text(commands);
                client.end(usize::from(command / 8));
                Ok(())
            }
        }
        .expect("nothing in it that cannot be sent");
    }
    let expected = client.unanswered();
    let mut replies = Vec::new();
    let (mut start, mut end) = (0, 0);
    loop {
        match client.incoming(&answers[start..end]) {
            Ok(Some((consumed, smtp::Event { to, reply }))) => {
                start += consumed;
                let extensions = smtp::Extensions::new(reply.lines());
                replies.push(format!("{to} {reply} {extensions:?}"));
            }
            Ok(None) if end == answers.len() => break,
            Ok(None) => end = (end + step).min(answers.len()),
            Err(error) => {
                replies.push(error.to_string());
                return replies;
            }
        }
    }
    assert_eq!(replies.len() + client.unanswered(), expected);
    replies
}

/// A session's responses, split anywhere, after some commands.
fn imap(responses: &[u8]) {
    assert_eq!(told(responses, responses.len().max(1)), told(responses, 1));
}

/// What the responses tell, and what is wrong with the first that is none.
fn told(responses: &[u8], step: usize) -> Vec<String> {
    let mut client = imap::Client::new();
    for command in [imap::Command::Capability, imap::Command::Namespace, imap::Command::Noop] {
        client.send(&command).expect("nothing in it that cannot be sent");
    }
    let (mut told, mut streamed) = (Vec::new(), 0);
    let (mut start, mut end) = (0, 0);
    loop {
        match client.incoming(&responses[start..end]) {
            Ok(Some((consumed, event))) => {
                assert!(consumed > 0, "an event takes octets");
                start += consumed;
                match event {
                    imap::Event::Octets(octets) => streamed += octets.len(),
                    event => told.push(format!("{event:?} after {streamed}")),
                }
            }
            Ok(None) if end == responses.len() => return told,
            Ok(None) => end = (end + step).min(responses.len()),
            Err(error) => {
                told.push(error.to_string());
                return told;
            }
        }
    }
}

/// A message: what it is known by and its line ends do not depend on how it was cut into pieces.
fn header(message: &[u8]) {
    let digest = |step: usize| {
        let mut fingerprinter = Fingerprinter::new();
        message.chunks(step).for_each(|piece| fingerprinter.write(piece));
        fingerprinter.finish()
    };
    let with_lf = |step: usize| {
        let (mut to_lf, mut out) = (ToLf::default(), Vec::new());
        message.chunks(step).for_each(|piece| to_lf.convert(piece, &mut out));
        to_lf.finish(&mut out);
        out
    };
    let whole = message.len().max(1);
    for step in [1, 2, 3] {
        assert_eq!(digest(step), digest(whole));
        assert_eq!(with_lf(step), with_lf(whole));
    }
    assert!(
        !with_lf(whole).windows(2).any(|pair| pair == b"\r\n") || message.windows(3).any(|m| m == b"\r\r\n")
    );
}

/// A header section: what goes into MAIL and RCPT is an address, whatever it says; and the line that is put on top of
/// a message is known again.
fn envelope(message: &[u8]) {
    let header = Header::new(message);
    let sender = envelope::sender(&Sender::Keep, &header);
    assert!(sender.is_empty() || is_address(&sender), "{sender:?}");
    for (strip_prefix, domain, unknown) in [
        (None, None, Unknown::Hold),
        (Some("mbox-"), Some("example.org"), Unknown::Address("post@example.org".into())),
    ] {
        let to = Recipients::Header(Box::new(CatchAll {
            header: "X-Original-To".into(),
            occurrence: Occurrence::First,
            strip_prefix: strip_prefix.map(str::to_owned),
            domains: domain.into_iter().map(str::to_owned).collect(),
            map: [("sales".to_owned(), "bob@example.org".to_owned())].into(),
            unknown,
        }));
        match envelope::recipients(&to, &header) {
            Ok(recipients) => {
                assert!(!recipients.is_empty());
                assert!(recipients.iter().all(|recipient| is_address(recipient)), "{recipients:?}");
            }
            Err(why) => assert!(!why.contains(char::is_control), "{why:?}"),
        }
    }
    let line =
        Trace::new("pop.example.org", "mail.example.org", "home").line(message, jiff::Timestamp::UNIX_EPOCH);
    let (mut to_lf, mut file) = (ToLf::default(), Vec::new());
    to_lf.convert(&line, &mut file);
    let length = file.len();
    file.extend_from_slice(b"\n");
    assert_eq!(trace::length(&file), length);
    trace::length(message);
}

/// A configuration file.
fn config(text: &[u8]) {
    let Ok(text) = std::str::from_utf8(text) else { return };
    match Config::from_yaml(text, Path::new("/etc/postrider/config.yaml")) {
        Ok(config) => {
            let shown = config::show(&config);
            // The secrets are not in it, so it reads as another configuration; but it reads.
            Config::from_yaml(&shown, Path::new("shown.yaml")).expect("what is shown can be loaded");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// A POP URL, a blank, a delivery target.
fn url(octets: &[u8]) {
    let Ok(text) = std::str::from_utf8(octets) else { return };
    let (url, deliver) = text.trim_end().split_once(' ').unwrap_or((text, "maildir:/var/mail/alice"));
    match Account::from_url(url, &[deliver], None, None) {
        Ok(account) => {
            let again = Account::from_url(&account.name, &[deliver], None, None);
            assert_eq!(again.map(|again| again.name).as_ref(), Ok(&account.name), "the name is a URL again");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// The document in which a domain names its servers.
fn autoconfig(octets: &[u8]) {
    let address = Address::parse("alice@example.org").expect("an address");
    if let Ok(Ok(server)) = Document::parse(octets).map(|document| document.server(&address)) {
        assert!(server.port > 0 && !server.host.is_empty());
        let yaml = format!(
            "accounts: {{ a: {{ host: '{}', port: {}, user: u, deliver: {{ maildir: /m }} }} }}\nstate: /s",
            server.host, server.port
        );
        let config = Config::from_yaml(&yaml, Path::new("f")).expect("a server that can be configured");
        assert_eq!(config.accounts[0].host, server.host);
        assert!(!server.user.contains(char::is_control));
    }
}

/// The challenges of a server, one a line, as it sends them.
fn sasl(challenges: &[u8]) {
    let secret = Secret::new(*b"correct horse");
    let credentials =
        Credentials { user: "alice", secret: &secret, exporter: Some([7; 32]), plus_offered: true };
    for row in MECHANISMS {
        let Ok(mut exchange) = Exchange::new(row.mechanism, &credentials) else { continue };
        exchange.initial();
        for challenge in challenges.split(|&octet| octet == b'\n') {
            if let Err(error) = exchange.respond(&line::challenge(challenge)) {
                assert!(!error.to_string().contains("correct horse"));
                break;
            }
        }
        exchange.is_complete();
        // Whether it may be believed: for SCRAM never, as these challenges cannot know the nonce.
        let _ = exchange.finish();
    }
}
