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
mod fdm;
mod fetchmail;
mod getmail;
mod mpop;
mod place;
mod print;
pub mod seen;
mod shape;
mod words;

use std::fmt;
use std::io;
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
    Getmail,
    Fdm,
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fetchmail => "fetchmail",
            Self::Mpop => "mpop",
            Self::Getmail => "getmail",
            Self::Fdm => "fdm",
        })
    }
}

/// A configuration file, and its text.
pub type Text = (PathBuf, String);

/// Reads a configuration, of several files if its program takes several for one; `read` gives files that they include.
///
/// # Errors
///
/// What its program would not understand: with line, column and what was expected.
pub fn read(
    program: Program,
    files: &[Text],
    around: &Around,
    read: &dyn Fn(&Path) -> io::Result<String>,
) -> Result<Imported, Wrong> {
    let mut imported = Imported::default();
    for (file, text) in files {
        match program {
            Program::Fetchmail => imported.append(fetchmail::read(file, text, around)?),
            Program::Mpop => imported.append(mpop::read(file, text, around)?),
            Program::Getmail => {
                let named: Option<&Path> = (files.len() > 1).then_some(file);
                imported.accounts.push(getmail::read(file, text, around, named)?);
            }
            Program::Fdm => imported.append(fdm::read(file, text, around, read)?),
        }
    }
    imported.finish();
    Ok(imported)
}

/// Gives the paths at which a program looks for its configuration, the first first; `config` is `$XDG_CONFIG_HOME`.
pub fn usual(program: Program, home: &Path, config: &Path) -> Vec<PathBuf> {
    match program {
        Program::Fetchmail => vec![home.join(".fetchmailrc")],
        Program::Mpop => vec![home.join(".mpoprc"), config.join("mpop/config")],
        Program::Getmail => vec![config.join("getmail"), home.join(".getmail")],
        Program::Fdm => vec![home.join(".fdm.conf"), PathBuf::from("/etc/fdm.conf")],
    }
}

/// Says whether getmail takes a file of its directory for a configuration.
pub fn is_rc(name: &str) -> bool {
    const OTHERS: [&str; 7] = ["~", "#", ".json", ".swp", ".bak", ".pyc", ".lock"];
    !name.starts_with(['.', '#'])
        && !name.starts_with("oldmail-")
        && !OTHERS.iter().any(|end| name.ends_with(end))
}
