//! Other programs' configurations and lists of what they fetched: text in, accounts out.
//!
//! | file | what it is |
//! |---|---|
//! | `shape` | accounts as they are written into a configuration: keys, values, notes and where those belong |
//! | `print` | that as YAML |
//! | `around` | what a configuration leaves to the place where its program runs |
//! | `cursor` | a text that is read, and where in it something is wrong |
//! | `place`, `words` | hosts, ports and command lines that several of the programs have |
//! | `fetchmail`, `mpop`, `getmail`, `fdm` | one reader each |
//! | `seen` | the lists of unique-ids |
//!
//! Nothing is run and nobody is contacted: a command stays a command, and what a program would evaluate is told.

mod around;
mod cursor;
mod fetchmail;
mod mpop;
mod place;
mod print;
pub mod seen;
mod shape;
mod words;

use std::fmt;
use std::path::{Path, PathBuf};

pub use around::Around;
pub use cursor::Wrong;
pub use print::print;
pub use seen::Fetched;
pub use seen::{SeenList, seen};
pub use shape::{Imported, Value};

/// A program whose configuration is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    Fetchmail,
    Mpop,
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fetchmail => "fetchmail",
            Self::Mpop => "mpop",
        })
    }
}

/// Reads a configuration; `file` is where its text came from.
///
/// # Errors
///
/// What its program would not understand: with line, column and what was expected.
pub fn read(program: Program, file: &Path, text: &str, around: &Around) -> Result<Imported, Wrong> {
    let mut imported = match program {
        Program::Fetchmail => fetchmail::read(file, text, around)?,
        Program::Mpop => mpop::read(file, text, around)?,
    };
    imported.finish();
    Ok(imported)
}

/// Gives the paths at which a program looks for its configuration, the first first.
pub fn usual(program: Program, home: &Path) -> Vec<PathBuf> {
    match program {
        Program::Fetchmail => vec![home.join(".fetchmailrc")],
        Program::Mpop => vec![home.join(".mpoprc"), home.join(".config/mpop/config")],
    }
}
