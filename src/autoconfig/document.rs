//! The document in which a domain says where its mailboxes are (draft-ietf-mailmaint-autoconfig): octets in, servers out.
//!
//! Entities and document types are refused, depth and size are bounded, and what is unknown is passed over.

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use super::address::Address;
use super::known::issuer;
use super::server::{Miss, Server};
use crate::config::account::TlsMode;
use crate::config::host_name;
use crate::text::Shown;

/// Octets of a document at most.
pub(super) const LONGEST: usize = 64 << 10;
/// Elements inside each other at most; those that mean anything have four.
const DEEPEST: usize = 32;
/// Octets of a value at most.
const LONGEST_VALUE: usize = 256;

/// The servers that a document names, in its order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Document {
    servers: Vec<Incoming>,
    /// The issuers of OAuth2 tokens.
    issuers: Vec<String>,
}

/// An `incomingServer`, as it stands there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Incoming {
    kind: String,
    host: String,
    port: String,
    socket: String,
    user: String,
    authentication: Vec<String>,
}

impl Document {
    /// Reads a document. The error completes "sent a document that ...".
    pub fn parse(octets: &[u8]) -> Result<Self, String> {
        if octets.len() > LONGEST {
            return Err(format!("has more than {LONGEST} octets"));
        }
        // Names that people see may be in any character set; the ones that count here are ASCII.
        let text = String::from_utf8_lossy(octets);
        let mut reader = Reader::from_str(&text);
        let mut reading = SoFar::default();
        loop {
            let event = reader.read_event();
            match event.map_err(|error| format!("is not XML ({})", Shown(error.to_string().as_bytes())))? {
                Event::Start(start) => reading.start(&start)?,
                Event::Empty(start) => {
                    reading.start(&start)?;
                    reading.end();
                }
                Event::End(_) => reading.end(),
                Event::Text(text) => reading.text(&text.xml10_content()),
                Event::CData(text) => reading.text(&text.xml10_content()),
                Event::GeneralRef(reference) => {
                    let character = match &*reference.xml10_content() {
                        "amp" => Some('&'),
                        "lt" => Some('<'),
                        "gt" => Some('>'),
                        "quot" => Some('"'),
                        "apos" => Some('\''),
                        _ => reference.resolve_char_ref().ok().flatten(),
                    };
                    let character = character.ok_or("has entities of its own, which are not read")?;
                    reading.text(character.encode_utf8(&mut [0; 4]));
                }
                Event::DocType(_) => return Err("has a document type, which is not read".into()),
                Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
                Event::Eof => break,
            }
        }
        match reading {
            SoFar { path, is_one: true, document, .. } if path.is_empty() => Ok(document),
            SoFar { is_one: true, .. } => Err("ends before its end".into()),
            SoFar { .. } => Err("is no configuration of mail".into()),
        }
    }

    /// Gives the first server for POP3 with TLS that takes a log-in which we have.
    pub fn server(&self, address: &Address) -> Result<Server, Miss> {
        let mut why = None;
        for incoming in self.servers.iter().filter(|server| server.kind == "pop3") {
            match incoming.server(address, &self.issuers) {
                Ok(server) => return Ok(server),
                Err(what) => why = why.or(Some(what)),
            }
        }
        let imap = self.servers.iter().find(|server| server.kind == "imap");
        let imap = imap.map(|server| Shown(address.fill(&server.host).as_bytes()).to_string());
        let came = match (why, &imap) {
            (Some(why), _) => why,
            (None, Some(host)) => format!("names a server for IMAP alone, {host}"),
            (None, None) => "names no server for POP3".to_owned(),
        };
        Err(Miss { imap, ..Miss::new("", came) })
    }
}

impl Incoming {
    /// Makes of it what can be connected to, or says why not.
    fn server(&self, address: &Address, issuers: &[String]) -> Result<Server, String> {
        let mode = match self.socket.as_str() {
            "SSL" => TlsMode::Implicit,
            "STARTTLS" => TlsMode::StartTls,
            _ => return Err("names a server for POP3 without TLS alone: nothing goes there".into()),
        };
        let host = address.fill(&self.host);
        let host = host_name(&host)
            .map_err(|_| format!("names {:?} for a server, which is no host", Shown(host.as_bytes())))?;
        let port = match self.port.parse() {
            Ok(port) if port > 0 => port,
            _ => return Err(format!("names {:?} for a port", Shown(self.port.as_bytes()))),
        };
        let user = match self.user.is_empty() {
            true => address.to_string(),
            false => address.fill(&self.user),
        };
        if user.contains(char::is_control) {
            return Err("names a user with control characters".into());
        }
        let takes = |name: &str| self.authentication.iter().any(|known| known == name);
        let oauth2 = issuers.iter().find_map(|host| issuer(host)).filter(|_| takes("OAuth2"));
        // What is "encrypted" is a mechanism that does not send the password; the log-in chooses among those.
        let password =
            self.authentication.is_empty() || takes("password-cleartext") || takes("password-encrypted");
        if !password && oauth2.is_none() {
            let all = self.authentication.join(", ");
            return Err(format!("wants a log-in that we do not have: {}", Shown(all.as_bytes())));
        }
        Ok(Server { host, port, mode, user, password, oauth2, note: None })
    }
}

/// What was read so far.
#[derive(Default)]
struct SoFar {
    /// The elements that are open, outermost first.
    path: Vec<String>,
    /// The text of the innermost.
    value: String,
    is_one: bool,
    document: Document,
}

impl SoFar {
    fn start(&mut self, start: &BytesStart<'_>) -> Result<(), String> {
        if self.path.len() == DEEPEST {
            return Err(format!("has more than {DEEPEST} elements inside each other"));
        }
        self.path.push(start.local_name().as_ref().to_owned());
        self.value.clear();
        match self.names().as_slice() {
            ["clientConfig"] => self.is_one = true,
            ["clientConfig", "emailProvider", "incomingServer"] => {
                let kind = start.try_get_attribute("type").ok().flatten();
                let kind = kind.map(|kind| kind.value.into_owned()).unwrap_or_default();
                self.document.servers.push(Incoming { kind, ..Incoming::default() });
            }
            _ => {}
        }
        Ok(())
    }

    fn names(&self) -> Vec<&str> {
        self.path.iter().map(String::as_str).collect()
    }

    fn text(&mut self, text: &str) {
        let room = LONGEST_VALUE.saturating_sub(self.value.len());
        // What people are to read may be long; what counts here may not.
        let cut = text.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= room).last();
        self.value.push_str(&text[..cut.unwrap_or_default()]);
    }

    fn end(&mut self) {
        let value = std::mem::take(&mut self.value).trim().to_owned();
        let path = std::mem::take(&mut self.path);
        let names: Vec<_> = path.iter().map(String::as_str).collect();
        match (names.as_slice(), self.document.servers.last_mut()) {
            (["clientConfig", "emailProvider", "incomingServer", name], Some(server)) => match *name {
                "hostname" => server.host = value,
                "port" => server.port = value,
                "socketType" => server.socket = value,
                "username" => server.user = value,
                "authentication" => server.authentication.push(value),
                _ => {}
            },
            (["clientConfig", "oAuth2", "issuer"], _) => self.document.issuers.push(value),
            _ => {}
        }
        self.path = path;
        self.path.pop();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SOUND: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<!-- made by hand -->
<clientConfig version="1.1">
  <emailProvider id="example.org">
    <domain>example.org</domain>
    <displayName>Example &amp; Sons</displayName>
    <incomingServer type="imap"><hostname>imap.example.org</hostname></incomingServer>
    <incomingServer type="pop3">
      <hostname> POP.%EMAILDOMAIN% </hostname>
      <port>995</port>
      <socketType>SSL</socketType>
      <new><hostname>not.this.one</hostname></new>
      <username>%EMAILLOCALPART%&#35;x</username>
      <authentication>OAuth2</authentication>
      <authentication>password-cleartext</authentication>
      <pop3><leaveMessagesOnServer>true</leaveMessagesOnServer></pop3>
    </incomingServer>
    <outgoingServer type="smtp"><hostname>smtp.example.org</hostname></outgoingServer>
  </emailProvider>
  <oAuth2><issuer>accounts.google.com</issuer><scope>x</scope></oAuth2>
</clientConfig>
"#;

    fn address() -> Address {
        Address::parse("alice@example.org").unwrap()
    }

    fn read(text: &str) -> Result<Server, String> {
        Document::parse(text.as_bytes())?.server(&address()).map_err(|miss| miss.came)
    }

    #[test]
    fn the_first_server_with_tls_is_taken_and_what_is_unknown_passed_over() {
        let server = read(SOUND).unwrap();
        assert_eq!(server.to_string(), "pop.example.org:995, TLS");
        assert_eq!(server.user, "alice#x");
        assert!(server.password && server.oauth2.is_some_and(|provider| provider.name == "google"));
        let stls = SOUND.replace(">SSL<", ">STARTTLS<").replace(">995<", ">110<");
        assert_eq!(read(&stls).unwrap().to_string(), "pop.example.org:110, STARTTLS");
        let prefixed = SOUND.replace("<hostname> POP", "<x:hostname> POP").replace("% </host", "% </x:host");
        assert_eq!(read(&prefixed).unwrap().host, "pop.example.org");
        let no_user = SOUND.replace("%EMAILLOCALPART%&#35;x", "");
        assert_eq!(read(&no_user).unwrap().user, "alice@example.org");
    }

    #[test]
    fn a_server_without_tls_is_passed_over_for_one_with() {
        let plain = "<incomingServer type=\"pop3\"><hostname>plain.example.org</hostname><port>110</port>\
                     <socketType>plain</socketType></incomingServer>";
        let both = SOUND.replacen("<incomingServer", &format!("{plain}<incomingServer"), 1);
        assert_eq!(read(&both).unwrap().host, "pop.example.org");
    }

    #[test]
    fn a_document_without_a_server_for_us_says_what_there_is() {
        for (document, came) in [
            (SOUND.replace("pop3", "jmap"), "names a server for IMAP alone, imap.example.org"),
            (SOUND.replace("pop3", "jmap").replace("\"imap", "\"x"), "names no server for POP3"),
            (SOUND.replace(">SSL<", ">plain<"), "without TLS alone"),
            (SOUND.replace("995", "0"), "for a port"),
            (SOUND.replace("995", "99999"), "for a port"),
            (SOUND.replace("POP.%", "https://POP.%"), "which is no host"),
            (SOUND.replace("POP.%", "&#27;[2J"), "which is no host"),
            (SOUND.replace("&#35;", "&#10;x"), "control characters"),
            (
                SOUND.replace("password-cleartext", "NTLM").replace(".google.com", ".example"),
                "a log-in that we do not have: OAuth2, NTLM",
            ),
        ] {
            let told = read(&document).unwrap_err();
            assert!(told.contains(came) && !told.contains('\x1b'), "{came}: {told}");
        }
        let imap = Document::parse(SOUND.replace("pop3", "x").as_bytes()).unwrap().server(&address());
        assert_eq!(imap.unwrap_err().imap.as_deref(), Some("imap.example.org"));
    }

    #[test]
    fn what_is_no_such_document_or_wants_to_be_more_is_refused() {
        let bomb = "<!DOCTYPE c [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;\">]>";
        for (document, what) in [
            ("".to_owned(), "is no configuration of mail"),
            ("<html><body>Welcome</body></html>".to_owned(), "is no configuration of mail"),
            ("Not found".to_owned(), "is no configuration of mail"),
            (SOUND.replacen("<clientConfig", &format!("{bomb}<clientConfig"), 1), "a document type"),
            (SOUND.replace("995", "&port;"), "entities of its own"),
            (SOUND.replace("995", "&#x110000;"), "entities of its own"),
            (SOUND[..SOUND.len() / 2].to_owned(), "ends before its end"),
            (SOUND.replace("</port>", "</prot>"), "is not XML"),
            (format!("{SOUND}{}", " ".repeat(LONGEST)), "more than 65536 octets"),
            ("<a>".repeat(DEEPEST + 1), "inside each other"),
        ] {
            let told = read(&document).unwrap_err();
            assert!(told.contains(what), "{what}: {told}");
        }
    }

    #[test]
    fn a_document_at_the_limit_of_its_size_is_read_in_no_time() {
        let attributes: String = (0..4000).map(|at| format!(" a{at}=\"x\"")).collect();
        let many = SOUND.replace("<emailProvider", &format!("<emailProvider{attributes}"));
        assert!(many.len() < LONGEST);
        let begun = std::time::Instant::now();
        assert_eq!(read(&many).unwrap().host, "pop.example.org");
        assert!(begun.elapsed() < std::time::Duration::from_secs(5), "{:?}", begun.elapsed());
    }

    proptest! {
        #[test]
        fn any_octets_are_read_without_a_panic_and_what_comes_out_is_bounded(
            octets in proptest::collection::vec(any::<u8>(), 0..2000)
        ) {
            bounded(&octets);
        }

        #[test]
        fn a_document_that_was_changed_anywhere_gives_a_server_that_can_be_written_or_none(
            cuts in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3), 1..8)
        ) {
            let mut octets = SOUND.as_bytes().to_vec();
            for (at, octet, how) in cuts {
                let at = at.index(octets.len().max(1)).min(octets.len().saturating_sub(1));
                match how {
                    0 => octets.insert(at, octet),
                    1 if !octets.is_empty() => drop(octets.remove(at)),
                    _ => if let Some(there) = octets.get_mut(at) { *there = octet },
                }
            }
            bounded(&octets);
        }
    }

    fn bounded(octets: &[u8]) {
        if let Ok(Ok(server)) = Document::parse(octets).map(|document| document.server(&address())) {
            assert!(server.port > 0 && server.mode != TlsMode::None);
            assert!(host_name(&server.host).is_ok_and(|host| host == server.host));
            assert!(!server.user.contains(char::is_control) && server.user.len() < 1024);
        }
    }
}
