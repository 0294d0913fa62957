//! A state from one store into another, whole: from a file into a database, and back.
//!
//! | file | what it is |
//! |---|---|
//! | `shape` | the tables, row by row; how much of a maildrop there is, and a digest of it |
//! | `due` | when a maildrop is polled next |
//! | [`side`] | the two ends, at rest |
//! | [`error`] | why it was not done |
//!
//! Maildrops go a few at a time, page by page, each read back and compared; those that are there already and the same are
//! left. So a copy that was cut off goes on where it was when it is done again. Until it is done nobody records in a
//! database that has a part of it: a maildrop that is not there yet would be fetched whole. A file has all of it at once
//! or nothing.

mod due;
mod error;
mod shape;
mod side;

use tokio::runtime::Handle;

use super::StateError;
use super::lease::Lease;
use super::postgres::{Begun, Purpose};
use super::tables::{Fault, Result as Found, Tables};
use crate::disk::blocking::compute;

pub use error::CopyError;
use shape::{Digest, Maildrop, Shapes, Values};
pub use side::Place;
use side::Side;

/// Maildrops that go in one transaction.
const TOGETHER: usize = 100;

/// What becomes of a maildrop that both have, and not the same of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Differing {
    /// It is told, and stays as it is.
    Stays,
    /// What is copied takes its place.
    IsReplaced,
}

/// What was copied.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Copied {
    /// Maildrops that were written.
    pub maildrops: u64,
    /// Rows of them, and of none.
    pub rows: u64,
    /// Maildrops that were there, and the same.
    pub there: u64,
}

/// Copies all that one store has into another.
///
/// # Errors
///
/// One of them is in use, or cannot be used; maildrops that both have differ, all others being copied.
pub async fn copy(from: Place, to: Place, differing: Differing) -> Result<Copied, CopyError> {
    if let Place::File(path) = &from
        && !std::fs::metadata(path).is_ok_and(|found| found.len() > 0)
    {
        return Err(CopyError::Missing(path.clone()));
    }
    let kept = (from.keep().await?, to.keep().await?);
    let runtime = Handle::current();
    let copied = compute(move || carry_out(&from, to, differing, &runtime)).await;
    drop(kept);
    copied
}

fn carry_out(from: &Place, to: Place, differing: Differing, runtime: &Handle) -> Result<Copied, CopyError> {
    let shapes = Shapes::new().map_err(|error| from.failed(error.into()))?;
    let mut whence = Side::open(from.clone(), Purpose::CopyFrom)?;
    let mut copying = Copying {
        shapes: &shapes,
        place: to.name(),
        to: Side::open(to, Purpose::CopyInto)?,
        from,
        differing,
        runtime,
        copied: Copied::default(),
        differ: None,
    };
    whence.at_rest(|tables| Ok(copying.all(tables)))??;
    match copying.differ {
        None => Ok(copying.copied),
        Some((count, first)) => Err(CopyError::Differ { place: copying.place, count, first }),
    }
}

/// A copy under way.
struct Copying<'a> {
    shapes: &'a Shapes,
    from: &'a Place,
    to: Side,
    /// The name of where it goes.
    place: String,
    differing: Differing,
    runtime: &'a Handle,
    copied: Copied,
    /// How many maildrops differ, and one of them.
    differ: Option<(u64, String)>,
}

/// What became of one maildrop.
enum Outcome {
    Written(Digest),
    Same,
    Differs,
}

impl Copying<'_> {
    fn all(&mut self, from: Tables<'_>) -> Result<(), CopyError> {
        self.refuse_sessions(from)?;
        let begun = self.to.begin(&self.from.identity())?;
        if let Begun::Others(of) = begun {
            return Err(CopyError::Begun { place: self.place.clone(), of });
        }
        (self.copied, self.differ) = Default::default();
        self.each(from, |this, page| {
            this.some(from, page)?;
            log::info!("{} maildrops copied, {} were there", this.copied.maildrops, this.copied.there);
            Ok(())
        })?;
        self.others(from)?;
        // What is left of an older copy is not what anybody wants to record into.
        if self.differ.is_none() || begun == Begun::Nothing {
            self.to.end()?;
        }
        Ok(())
    }

    /// Goes through all maildrops, some at a time.
    fn each(
        &mut self,
        from: Tables<'_>,
        mut work: impl FnMut(&mut Self, &[Maildrop]) -> Result<(), CopyError>,
    ) -> Result<(), CopyError> {
        let mut last: Option<Maildrop> = None;
        loop {
            let page = self.shapes.maildrops(from, last.as_ref(), TOGETHER);
            let page = page.map_err(|fault| self.from.failed(fault))?;
            let Some(end) = page.last() else { return Ok(()) };
            last = Some(end.clone());
            work(self, &page)?;
        }
    }

    /// Refuses a file of which sessions are under way: what they record from now on comes too late.
    fn refuse_sessions(&mut self, from: Tables<'_>) -> Result<(), CopyError> {
        let Place::File(path) = self.from else { return Ok(()) };
        let unlocked = |error: std::io::Error| StateError::Lock {
            path: super::beside(path, ".lock"),
            why: error.to_string(),
        };
        self.each(from, |this, page| {
            let names = page.iter().map(|maildrop| this.shapes.name(maildrop).into()).collect();
            let held = this.runtime.block_on(Lease::held(path, names)).map_err(unlocked)?;
            match held.into_iter().next() {
                Some(maildrop) => Err(this.from.in_use(format!("{maildrop} is being polled"))),
                None => Ok(()),
            }
        })
    }

    /// Copies some maildrops, and looks whether they are there then.
    fn some(&mut self, from: Tables<'_>, maildrops: &[Maildrop]) -> Result<(), CopyError> {
        let (shapes, differing, whence) = (self.shapes, self.differing, self.from);
        let blame = |fault| Fault::Elsewhere(Box::new(whence.failed(fault)));
        let outcomes: Vec<Outcome> = self.to.write(|to| {
            maildrops.iter().map(|maildrop| one(shapes, (from, to), maildrop, differing, &blame)).collect()
        })?;
        let mut written = Vec::new();
        for (maildrop, outcome) in maildrops.iter().zip(outcomes) {
            match outcome {
                Outcome::Written(digest) => {
                    self.copied.maildrops += 1;
                    self.copied.rows += digest.rows;
                    written.push((shapes.name(maildrop), digest));
                }
                Outcome::Same => self.copied.there += 1,
                Outcome::Differs => {
                    self.differ.get_or_insert_with(|| (0, shapes.name(maildrop))).0 += 1;
                }
            }
        }
        let wrong = self.to.write(|to| {
            for (name, digest) in &written {
                let there = shapes.find(to, name)?;
                let found = there.map(|there| shapes.digest(to, &there)).transpose()?;
                if found != Some(*digest) {
                    return Ok(Some(name.clone()));
                }
            }
            Ok(None)
        })?;
        self.the_same(wrong)
    }

    /// Copies what belongs to no maildrop. What is there of its own stays.
    fn others(&mut self, from: Tables<'_>) -> Result<(), CopyError> {
        for shape in &self.shapes.others {
            let mut pages = shape.pages(None);
            while let Some(rows) = pages.next(from).map_err(|fault| self.from.failed(fault))? {
                let new: Vec<&Values> = self.to.write(|to| {
                    let mut new = Vec::new();
                    for row in &rows {
                        if shape.same(to, row)?.is_none() {
                            shape.add(to, row)?;
                            new.push(row);
                        }
                    }
                    Ok(new)
                })?;
                let digest = |row: &Values| {
                    let mut digest = Digest::default();
                    digest.add(shape, row);
                    digest
                };
                let wrong = self.to.write(|to| {
                    for row in &new {
                        if shape.same(to, row)?.as_ref().map(digest) != Some(digest(row)) {
                            return Ok(Some(shape.name.clone()));
                        }
                    }
                    Ok(None)
                })?;
                self.copied.rows += new.len() as u64;
                self.the_same(wrong)?;
            }
        }
        Ok(())
    }

    fn the_same(&self, wrong: Option<String>) -> Result<(), CopyError> {
        match wrong {
            None => Ok(()),
            Some(what) => Err(CopyError::NotTheSame { place: self.place.clone(), what }),
        }
    }
}

/// Copies one maildrop.
fn one(
    shapes: &Shapes,
    (from, to): (Tables<'_>, Tables<'_>),
    maildrop: &Maildrop,
    differing: Differing,
    blame: &dyn Fn(Fault) -> Fault,
) -> Found<Outcome> {
    let name = shapes.name(maildrop);
    if let Some(there) = shapes.find(to, &name)? {
        let digest = shapes.digest(to, &there)?;
        // A worker makes rows for what it knows of before it polls.
        let is_known = digest.rows > 1 || !shapes.is_nothing(&there);
        if is_known && digest == shapes.digest(from, maildrop).map_err(blame)? {
            return Ok(Outcome::Same);
        }
        if is_known && differing == Differing::Stays {
            return Ok(Outcome::Differs);
        }
    }
    let (id, digest) = shapes.copy((from, to), maildrop, blame)?;
    due::write(to, (&name, id), due::read(from, &name).map_err(blame)?)?;
    Ok(Outcome::Written(digest))
}
