//! Results, on standard output.

use std::fmt::Display;
use std::io::{self, BufWriter, Stdout, Write};

use super::Common;

/// Standard output that never panics and never stops what it tells about.
///
/// A reader that went away (`postrider seen list home | head`) is no failure: what it does not want is dropped.
/// Any other error is kept for [`Results::end`].
#[derive(Debug)]
pub struct Results<W: Write = Stdout> {
    out: BufWriter<W>,
    quiet: bool,
    error: Option<io::Error>,
}

impl Results {
    pub fn new(common: &Common) -> Self {
        Self { quiet: common.quiet, ..Self::on(io::stdout()) }
    }
}

impl<W: Write> Results<W> {
    fn on(out: W) -> Self {
        Self { out: BufWriter::new(out), quiet: false, error: None }
    }

    pub fn line(&mut self, line: impl Display) {
        if self.error.is_none() {
            self.error = writeln!(self.out, "{line}").err();
        }
    }

    /// Says what was done, which nobody wants to hear who has said `--quiet`.
    pub fn done(&mut self, line: impl Display) {
        if !self.quiet {
            self.line(line);
        }
    }

    pub fn write(&mut self, octets: &[u8]) {
        if self.error.is_none() {
            self.error = self.out.write_all(octets).err();
        }
    }

    /// Hands over to the reader what was written.
    pub fn flush(&mut self) {
        if self.error.is_none() {
            self.error = self.out.flush().err();
        }
    }

    /// Ends the results; errors if one of them could not be written though somebody still reads.
    pub fn end(mut self) -> io::Result<()> {
        self.flush();
        // What is left in the buffer after an error would be written, and fail, once more when it is dropped.
        let (_, _) = self.out.into_parts();
        match self.error {
            Some(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
            Some(_) | None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Broken(io::ErrorKind);

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_went_away_is_no_failure_but_a_full_disk_is() {
        for (kind, fine) in [(io::ErrorKind::BrokenPipe, true), (io::ErrorKind::StorageFull, false)] {
            let mut results = Results::on(Broken(kind));
            for number in 0..10_000 {
                results.line(number);
            }
            results.flush();
            assert_eq!(results.end().is_ok(), fine, "{kind:?}");
        }
    }
}
