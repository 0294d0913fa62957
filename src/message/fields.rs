//! The fields of a header, whatever stands between them.

/// Fields that tell one message from all others: what its sender said, and the way it came.
pub const TELLING: [&str; 10] = [
    "message-id",
    "date",
    "from",
    "subject",
    "received",
    "delivered-to",
    "x-original-to",
    "x-delivered-to",
    "envelope-to",
    "x-envelope-to",
];

/// Finds where the fields end, before the empty line; `from` is where the search begins.
pub fn end_of_header(octets: &[u8], from: usize) -> Option<usize> {
    let is_empty_line = |at: usize| matches!(octets.get(at..), Some([b'\n', ..] | [b'\r', b'\n', ..]));
    if is_empty_line(0) {
        return Some(0);
    }
    memchr::memchr_iter(b'\n', &octets[from..]).map(|lf| from + lf + 1).find(|after| is_empty_line(*after))
}

/// The fields of a header, each with its continuation lines and its line ends.
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.0.is_empty() {
            return None;
        }
        let goes_on = |after: usize| matches!(self.0.get(after), Some(b' ' | b'\t'));
        let end = memchr::memchr_iter(b'\n', self.0).map(|lf| lf + 1).find(|after| !goes_on(*after));
        let (field, rest) = self.0.split_at(end.unwrap_or(self.0.len()));
        self.0 = rest;
        Some(field)
    }
}

/// Gives the name of a field, as it is written; a line that is no field has none.
fn name(field: &[u8]) -> &[u8] {
    memchr::memchr(b':', field).map_or(b"", |colon| field[..colon].trim_ascii_end())
}

/// Gives which of these names, in small letters, a field has.
pub fn position(field: &[u8], names: &[&str]) -> Option<usize> {
    let own = name(field);
    names.iter().position(|name| own.eq_ignore_ascii_case(name.as_bytes()))
}

/// What a field says, however it is folded: its name in small letters, a colon, its value unfolded (RFC 5322, 2.2.3) with
/// each run of blanks made one, LF. A line that is no field has no name.
#[derive(Default)]
pub struct Field {
    pub said: Vec<u8>,
    /// Octets of the name.
    name: usize,
}

impl Field {
    pub fn read(&mut self, field: &[u8]) {
        let name = name(field);
        let value = memchr::memchr(b':', field).map_or(field, |colon| &field[colon + 1..]);
        self.said.clear();
        self.said.extend(name.iter().map(u8::to_ascii_lowercase));
        self.name = name.len();
        let words = value.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        for (before, word) in std::iter::once(b':').chain(std::iter::repeat(b' ')).zip(words) {
            self.said.push(before);
            self.said.extend_from_slice(word);
        }
        if self.said.len() == self.name {
            self.said.push(b':');
        }
        self.said.push(b'\n');
    }

    pub fn name(&self) -> &[u8] {
        &self.said[..self.name]
    }

    pub fn value(&self) -> &[u8] {
        &self.said[self.name + 1..self.said.len() - 1]
    }
}
