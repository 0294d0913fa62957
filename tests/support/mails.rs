//! Messages to fill maildrops with.

/// Messages as files hold them (line ends LF), each with something that a careless program gets wrong.
pub fn odd() -> Vec<Vec<u8>> {
    let long = [b"Subject: long line\n\n".as_slice(), &[b'x'; 70_000], b"\nend\n"].concat();
    let many_dots = [b"Subject: dots\n\n".as_slice(), &b".\n..\n...\n.x\n".repeat(500)].concat();
    let wide_header = [b"Subject: wide\nX-Wide: ".as_slice(), &[b'w'; 9_000], b"\n\nend\n"].concat();
    vec![
        b"From: a@example.org\nTo: b@example.org\nSubject: plain\n\nHello.\n".to_vec(),
        b"Subject: dot lines\n\n.\n..\n.hidden\n...\nend\n".to_vec(),
        b"Subject: ends with a dot\n\n.\n".to_vec(),
        b"Subject: =?utf-8?q?8-bit?=\n\nGr\xc3\xbc\xc3\x9fe, and Latin-1: \xe4\xf6\xfc \xff\xfe\n".to_vec(),
        b"Subject: no last newline\n\nthe last line".to_vec(),
        b"Subject: no last newline after a dot\n\n.".to_vec(),
        b"Subject: header only\n".to_vec(),
        b"Subject: empty body\n\n".to_vec(),
        b"Subject: blank lines\n\n\n\nx\n\n\n".to_vec(),
        b"Subject: bare CR\n\na\rb\r\rc\n".to_vec(),
        b"Subject: control characters\n\n\x01\x02\x1b[31m\x7f\t\x0b\x0c\n".to_vec(),
        b"Subject: folded\n by a blank\n\tand a tab\n\nend\n".to_vec(),
        b"This is no header at all\n\nand this no body\n".to_vec(),
        b"From someone@example.org Mon Jan  1 00:00:00 2024\nSubject: mbox line\n\nFrom here on\n>From there\n".to_vec(),
        long,
        many_dots,
        wide_header,
    ]
}

/// A message with NUL octets, which not every server stores.
pub fn with_nul() -> Vec<u8> {
    b"Subject: NUL\n\nbefore\0after\n\0\n".to_vec()
}

/// So many different messages of some hundred to some thousand octets.
pub fn ordinary(count: usize) -> Vec<Vec<u8>> {
    (0..count)
        .map(|number| {
            let header = format!(
                "From: Ann Example <ann@example.org>\nTo: bob@example.org\nSubject: message {number}\n\
                 Message-ID: <{number}.ordinary@example.org>\n\n"
            );
            let line = format!("Line of message {number}, so that no two messages are alike.\n");
            [header.into_bytes(), line.repeat(1 + number * 7 % 60).into_bytes()].concat()
        })
        .collect()
}

/// Makes each CRLF an LF, as a maildir holds lines; a CR elsewhere stays.
pub fn with_lf(octets: &[u8]) -> Vec<u8> {
    let mut converted = Vec::with_capacity(octets.len());
    for (place, &octet) in octets.iter().enumerate() {
        if octet != b'\r' || octets.get(place + 1) != Some(&b'\n') {
            converted.push(octet);
        }
    }
    converted
}
