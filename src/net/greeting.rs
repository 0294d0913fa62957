//! What a server may be that does not greet as one should.

use crate::config::account::TlsMode;

/// Says which server it may be that greets with a line that is no reply, or with nothing; `usual` says where one is of the
/// protocol that was expected.
pub fn another_server(line: Option<&[u8]>, mode: TlsMode, usual: &str) -> Option<String> {
    let protocol = match (line, mode) {
        (None, TlsMode::Implicit) => return None,
        (None, TlsMode::StartTls | TlsMode::None) => {
            return Some("if the server expects TLS at once on this port, write `tls: implicit`".into());
        }
        (Some(line), _) if looks_like_tls(line) => {
            return Some(
                "the server speaks TLS on this port: write `tls: implicit`, or the port without".into(),
            );
        }
        (Some(line), _) if line.starts_with(b"* ") => "an IMAP",
        (Some(line), _) if line.starts_with(b"220") => "an SMTP or FTP",
        (Some(line), _) if line.starts_with(b"+OK") || line.starts_with(b"-ERR") => "a POP3",
        (Some(_), _) => return None,
    };
    Some(format!("this is {protocol} server; {usual}"))
}

/// Says whether these octets, the first that a server sent, are TLS: the port wants `tls: implicit`.
pub fn looks_like_tls(first_octets: &[u8]) -> bool {
    // RFC 8446, 5.1: content type (change_cipher_spec to application_data), then a version that begins with 3.
    match first_octets {
        [] => false,
        [kind, rest @ ..] => (0x14..=0x17).contains(kind) && rest.first().is_none_or(|&major| major == 3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_records_are_told_from_greetings() {
        assert!(looks_like_tls(&[0x15, 3, 1, 0, 2, 2, 70]));
        assert!(looks_like_tls(&[0x16]));
        assert!(!looks_like_tls(b"+OK ready"));
        assert!(!looks_like_tls(b"-ERR"));
        assert!(!looks_like_tls(&[0x16, 4]));
        assert!(!looks_like_tls(b""));
    }

    #[test]
    fn a_server_of_another_protocol_is_named_by_its_greeting() {
        let of = |line: &[u8]| another_server(Some(line), TlsMode::None, "usual").unwrap_or_default();
        assert_eq!(of(b"* OK ready"), "this is an IMAP server; usual");
        assert_eq!(of(b"220 ready"), "this is an SMTP or FTP server; usual");
        assert_eq!(of(b"+OK ready"), "this is a POP3 server; usual");
        assert!(of(&[0x15, 3, 1, 0, 2]).contains("write `tls: implicit`"));
        assert_eq!(of(b"SSH-2.0-x"), "");
        assert!(another_server(None, TlsMode::StartTls, "").unwrap().contains("write `tls: implicit`"));
        assert_eq!(another_server(None, TlsMode::Implicit, ""), None);
    }
}
