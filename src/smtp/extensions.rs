//! What a server says that it can do, in its reply to EHLO.

/// Service extensions (RFC 5321, 2.2) that matter here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extensions {
    /// RFC 2920.
    pub pipelining: bool,
    /// RFC 1870: the server takes a size, and may have a limit.
    pub size: Option<Limit>,
    /// RFC 6152.
    pub eight_bit_mime: bool,
    /// RFC 6531.
    pub smtp_utf8: bool,
    /// RFC 3207.
    pub starttls: bool,
    /// RFC 4954: the mechanisms.
    pub auth: Vec<String>,
    /// The names of all that it offers, known here or not, in order.
    pub keywords: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Octets of a message at most.
    Octets(u64),
    /// The server does not say.
    Unknown,
}

impl Extensions {
    /// Reads the lines of the reply, codes taken off; the first is the server's name.
    pub fn new(lines: &[String]) -> Self {
        let mut extensions = Self::default();
        for line in lines.iter().skip(1) {
            let mut words = line.split_ascii_whitespace();
            let keyword = words.next().unwrap_or_default().to_ascii_uppercase();
            match keyword.as_str() {
                "PIPELINING" => extensions.pipelining = true,
                "8BITMIME" => extensions.eight_bit_mime = true,
                "SMTPUTF8" => extensions.smtp_utf8 = true,
                "STARTTLS" => extensions.starttls = true,
                "SIZE" => {
                    // RFC 1870, 3: 0 or nothing is no fixed limit.
                    let limit = words.next().and_then(|octets| octets.parse().ok()).filter(|most| *most > 0);
                    extensions.size = Some(limit.map_or(Limit::Unknown, Limit::Octets));
                }
                "AUTH" => extensions.auth.extend(words.map(str::to_owned)),
                // Servers of before RFC 4954 write it so, some of them beside the other.
                _ => {
                    if let Some(first) = keyword.strip_prefix("AUTH=") {
                        extensions.auth.push(first.to_owned());
                        extensions.auth.extend(words.map(str::to_owned));
                    }
                }
            }
            extensions.keywords.push(keyword);
        }
        extensions.keywords.sort_unstable();
        extensions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extensions_are_read_whatever_their_case() {
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        let read = Extensions::new(&lines(
            "mail.example PIPELINING\npipelining\nSIZE 1000\n8BITMIME\nAUTH PLAIN LOGIN\nAUTH=CRAM-MD5\nX-Y\nSTARTTLS\nSMTPUTF8",
        ));
        assert_eq!(
            read,
            Extensions {
                pipelining: true,
                size: Some(Limit::Octets(1000)),
                eight_bit_mime: true,
                smtp_utf8: true,
                starttls: true,
                auth: vec!["PLAIN".into(), "LOGIN".into(), "CRAM-MD5".into()],
                keywords: lines("8BITMIME\nAUTH\nAUTH=CRAM-MD5\nPIPELINING\nSIZE\nSMTPUTF8\nSTARTTLS\nX-Y"),
            }
        );
        assert_eq!(Extensions::new(&lines("PIPELINING")), Extensions::default());
        assert_eq!(Extensions::new(&lines("x\nSIZE")).size, Some(Limit::Unknown));
        assert_eq!(Extensions::new(&lines("x\nSIZE 0")).size, Some(Limit::Unknown));
    }
}
