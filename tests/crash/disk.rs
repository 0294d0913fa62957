//! What a power cut may leave of a disk, by the rules of POSIX and no better.
//!
//! - A file's octets are on the disk once `fsync` of the file has returned. Until then each change of it may be there
//!   or not, and a size may be there without the octets: zeros.
//! - A name is on the disk once `fsync` of its directory has returned; `fsync` of the file says nothing of its name.
//!   Until then each name is as it was at the last `fsync`, or as at any moment since, each for itself.
//! - A rename is atomic: on the disk the old name is gone if, and only if, the new one is in place.
//! - What was not on the disk when an `fsync` failed may never get there: a later one does not count for it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::system::{self, Entry, Node, Nodes, Op, Place, ROOT};

/// The files of a disk, by their paths; directories have no octets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Disk(BTreeMap<PathBuf, Option<Arc<Vec<u8>>>>);

impl Disk {
    /// Reads what is below a directory.
    pub fn read(root: &Path) -> Self {
        let mut disk = Self::default();
        disk.read_into(root, Path::new(""));
        disk
    }

    fn read_into(&mut self, root: &Path, below: &Path) {
        for entry in fs::read_dir(root.join(below)).unwrap() {
            let entry = entry.unwrap();
            let path = below.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                self.0.insert(path.clone(), None);
                self.read_into(root, &path);
            } else {
                self.0.insert(path, Some(Arc::new(fs::read(entry.path()).unwrap())));
            }
        }
    }

    /// Makes it real in an empty directory.
    pub fn write(&self, root: &Path) {
        for (path, octets) in &self.0 {
            let path = root.join(path);
            match octets {
                None => DirBuilder::new().mode(0o700).create(path).unwrap(),
                // Shared memory is not a file's content: whatever is there after a crash is garbage.
                Some(octets) if is_shared_memory(&path) => fs::write(path, vec![0xa5; octets.len()]).unwrap(),
                Some(octets) => fs::write(path, octets.as_slice()).unwrap(),
            }
        }
    }

    /// Takes away a directory and all that is in it.
    pub fn without(mut self, directory: &str) -> Self {
        self.0.retain(|path, _| !path.starts_with(directory));
        self
    }

    /// Gives the files in a directory with their names.
    pub fn files<'a>(&'a self, directory: &'a str) -> impl Iterator<Item = (&'a Path, &'a [u8])> {
        self.0
            .iter()
            .filter(move |(path, _)| path.parent() == Some(Path::new(directory)))
            .filter_map(|(path, octets)| Some((path.as_path(), octets.as_deref()?.as_slice())))
    }

    /// Gives what tells it from other disks.
    pub fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        for (path, octets) in &self.0 {
            hash.update(format!("{path:?} {:?} ", octets.as_ref().map(|octets| octets.len())));
            hash.update(octets.as_deref().map_or(&[][..], Vec::as_slice));
        }
        hash.finalize().into()
    }

    /// Lists it, for messages.
    pub fn listing(&self) -> String {
        let line = |(path, octets): (&PathBuf, &Option<Arc<Vec<u8>>>)| match octets {
            None => format!("  {}/\n", path.display()),
            Some(octets) => {
                let zeros = octets.iter().rev().take_while(|octet| **octet == 0).count();
                format!("  {}: {} octets, the last {zeros} zero\n", path.display(), octets.len())
            }
        };
        self.0.iter().map(line).collect()
    }

    /// Compares what can be compared: the content of shared memory is not written by system calls.
    pub fn is_like(&self, other: &Self) -> bool {
        let comparable = |disk: &Self| -> Vec<_> {
            disk.0
                .iter()
                .filter(|(path, _)| !is_shared_memory(path))
                .map(|(p, o)| (p.clone(), o.clone()))
                .collect()
        };
        comparable(self) == comparable(other)
    }
}

fn is_shared_memory(path: &Path) -> bool {
    path.to_string_lossy().ends_with("-shm")
}

/// A disk and what is on its way to it.
#[derive(Debug, Clone)]
pub struct Model {
    files: HashMap<Node, Content>,
    /// Directories, and the history of each name that is or was in them.
    names: BTreeMap<Place, History>,
    directories: BTreeSet<Node>,
    renames: Vec<Renamed>,
}

/// A file's octets.
#[derive(Debug, Clone, Default)]
struct Content {
    durable: Arc<Vec<u8>>,
    pending: Vec<Change>,
}

#[derive(Debug, Clone)]
struct Change {
    what: What,
    /// An fsync failed while it was pending.
    lost: bool,
}

#[derive(Debug, Clone)]
enum What {
    Write { offset: usize, octets: Arc<Vec<u8>> },
    Resize(usize),
}

/// What a name has led to; the first is durable, the others came after it.
#[derive(Debug, Clone)]
struct History {
    /// The number of the first.
    base: usize,
    led_to: Vec<Option<Node>>,
}

impl History {
    fn last(&self) -> usize {
        self.base + self.led_to.len() - 1
    }

    /// Makes a version durable, if none after it is.
    fn settle(&mut self, version: usize) {
        self.led_to.drain(..version.saturating_sub(self.base));
        self.base = self.base.max(version);
    }
}

/// The old name is at this version or later if, and only if, the new one is.
#[derive(Debug, Clone)]
struct Renamed {
    from: (Place, usize),
    to: (Place, usize),
}

impl Model {
    /// Takes what is below a directory as durable; gives it with the nodes by device and inode.
    pub fn scan(root: &Path) -> (Self, Nodes) {
        let mut model = Self {
            files: HashMap::new(),
            names: BTreeMap::new(),
            directories: BTreeSet::from([ROOT]),
            renames: Vec::new(),
        };
        let nodes = system::nodes(root);
        let by_path: HashMap<&Path, Node> =
            nodes.values().map(|(node, path)| (path.as_path(), *node)).collect();
        for (path, &node) in &by_path {
            if let (Some(above), Some(name)) = (path.parent(), path.file_name()) {
                let place = Place { directory: by_path[above], name: name.to_owned() };
                model.names.insert(place, History { base: 0, led_to: vec![Some(node)] });
            }
            if root.join(path).is_dir() {
                model.directories.insert(node);
            } else {
                let durable = Arc::new(fs::read(root.join(path)).unwrap());
                model.files.insert(node, Content { durable, pending: Vec::new() });
            }
        }
        (model, nodes)
    }

    /// Lets an operation happen.
    pub fn apply(&mut self, entry: &Entry) {
        if entry.error.is_some() {
            if let Op::Sync { node } = &entry.op
                && let Some(content) = self.files.get_mut(node)
            {
                content.pending.iter_mut().for_each(|change| change.lost = true);
            }
            return;
        }
        match &entry.op {
            Op::Open { .. } | Op::Read { .. } | Op::Lock { .. } => {}
            Op::Unnamed { node, .. } => drop(self.files.insert(*node, Content::default())),
            Op::Name { node, to } => drop(self.lead(to, Some(*node))),
            Op::Create { at, node } => {
                self.files.insert(*node, Content::default());
                self.lead(at, Some(*node));
            }
            Op::MakeDirectory { at, node } => {
                self.directories.insert(*node);
                self.lead(at, Some(*node));
            }
            Op::Write { node, offset, octets } => {
                let offset = usize::try_from(*offset).unwrap();
                self.change(*node, What::Write { offset, octets: Arc::new(octets.clone()) });
            }
            Op::Resize { node, size } => self.change(*node, What::Resize(usize::try_from(*size).unwrap())),
            Op::Sync { node } => self.sync(*node),
            Op::Rename { from, to } => {
                let node = self.now(from);
                let to_version = self.lead(to, node);
                let from_version = self.lead(from, None);
                let (from, to) = ((from.clone(), from_version), (to.clone(), to_version));
                self.renames.push(Renamed { from, to });
            }
            Op::Link { from, to } => {
                let node = self.now(from);
                self.lead(to, node);
            }
            Op::Remove { at } => {
                self.lead(at, None);
            }
        }
    }

    fn now(&self, at: &Place) -> Option<Node> {
        self.names.get(at).and_then(|history| history.led_to.last().copied().flatten())
    }

    fn lead(&mut self, at: &Place, to: Option<Node>) -> usize {
        let history = self.names.entry(at.clone()).or_insert_with(|| History { base: 0, led_to: vec![None] });
        history.led_to.push(to);
        history.last()
    }

    fn change(&mut self, node: Node, what: What) {
        self.files.entry(node).or_default().pending.push(Change { what, lost: false });
    }

    fn sync(&mut self, node: Node) {
        if let Some(content) = self.files.get_mut(&node) {
            let (lost, synced): (Vec<_>, Vec<_>) = content.pending.drain(..).partition(|change| change.lost);
            content.durable = content.with(&synced.iter().collect::<Vec<_>>());
            content.pending = lost;
        }
        for (place, history) in &mut self.names {
            if place.directory == node {
                history.settle(history.last());
            }
        }
        // What is durable of a rename takes its other half along.
        while let Some(Renamed { from, to }) =
            self.renames.iter().find(|renamed| self.is_half_durable(renamed)).cloned()
        {
            for (place, version) in [from, to] {
                self.names.get_mut(&place).expect("a name that was renamed").settle(version);
            }
        }
        let names = &self.names;
        self.renames.retain(|Renamed { from, to }| names[&from.0].base < from.1 || names[&to.0].base < to.1);
    }

    fn is_half_durable(&self, Renamed { from, to }: &Renamed) -> bool {
        (self.names[&from.0].base < from.1) != (self.names[&to.0].base < to.1)
    }

    /// Gives the disk as it is while there is power.
    pub fn running(&self) -> Disk {
        let contents = |node: &Node| self.files[node].all();
        self.build(&|_, history| history.last(), &contents)
    }

    /// Gives disks that a power cut now may leave: all of them if they are at most `most`, else so many, the extreme
    /// ones among them.
    pub fn cuts(&self, most: usize, dice: &mut Dice) -> Vec<Disk> {
        let names: Vec<(&Place, &History)> =
            self.names.iter().filter(|(_, history)| history.led_to.len() > 1).collect();
        let mut files: Vec<(Node, Vec<Arc<Vec<u8>>>)> = self
            .files
            .iter()
            .filter(|(_, content)| !content.pending.is_empty())
            .map(|(node, content)| (*node, content.variants(dice)))
            .filter(|(_, variants)| variants.len() > 1)
            .collect();
        files.sort_by_key(|(node, _)| *node);
        let sizes: Vec<usize> = names
            .iter()
            .map(|(_, history)| history.led_to.len())
            .chain(files.iter().map(|(_, variants)| variants.len()))
            .collect();
        let all = sizes
            .iter()
            .try_fold(1usize, |product, size| product.checked_mul(*size).filter(|product| *product <= most));
        let choices: Vec<Vec<usize>> = match all {
            Some(all) => (0..all).map(|number| digits(number, &sizes)).collect(),
            None => {
                let extreme = |name: fn(usize) -> usize, file: fn(usize) -> usize| -> Vec<usize> {
                    let (of_names, of_files) = sizes.split_at(names.len());
                    of_names.iter().map(|n| name(*n)).chain(of_files.iter().map(|n| file(*n))).collect()
                };
                let (none, whole, zeros) = (|_| 0, |_| 1, |size| 2.min(size - 1));
                let mut choices = vec![
                    extreme(none, none),
                    extreme(none, whole),
                    extreme(|size| size - 1, none),
                    extreme(|size| size - 1, whole),
                    extreme(|size| size - 1, zeros),
                ];
                while choices.len() < most {
                    choices.push(sizes.iter().map(|size| dice.below(*size)).collect());
                }
                choices
            }
        };
        choices
            .into_iter()
            .map(|choice| {
                let (of_names, of_files) = choice.split_at(names.len());
                let mut versions: HashMap<&Place, usize> = names
                    .iter()
                    .zip(of_names)
                    .map(|((place, history), at)| (*place, history.base + at))
                    .collect();
                self.keep_renames(&mut versions);
                let contents: HashMap<Node, &Arc<Vec<u8>>> = files
                    .iter()
                    .zip(of_files)
                    .map(|((node, variants), at)| (*node, &variants[*at]))
                    .collect();
                self.build(&|place, history| versions.get(place).copied().unwrap_or(history.base), &|node| {
                    contents.get(node).map_or_else(|| self.files[node].durable.clone(), |c| (*c).clone())
                })
            })
            .collect()
    }

    fn keep_renames<'a>(&'a self, versions: &mut HashMap<&'a Place, usize>) {
        loop {
            let mut changed = false;
            for Renamed { from, to } in &self.renames {
                let of =
                    |place: &Place| versions.get(place).copied().unwrap_or_else(|| self.names[place].base);
                let (gone, there) = (of(&from.0) >= from.1, of(&to.0) >= to.1);
                if gone != there {
                    let (place, version) = if gone { to } else { from };
                    versions.insert(place, *version);
                    changed = true;
                }
            }
            if !changed {
                return;
            }
        }
    }

    fn build(
        &self,
        version: &dyn Fn(&Place, &History) -> usize,
        octets: &dyn Fn(&Node) -> Arc<Vec<u8>>,
    ) -> Disk {
        let mut disk = Disk::default();
        let mut open = vec![(ROOT, PathBuf::new())];
        while let Some((directory, path)) = open.pop() {
            let first = Place { directory, name: OsString::new() };
            let inside = self.names.range(first..).take_while(|(place, _)| place.directory == directory);
            for (place, history) in inside {
                let Some(node) = history.led_to[version(place, history) - history.base] else { continue };
                let path = path.join(&place.name);
                if self.directories.contains(&node) {
                    disk.0.insert(path.clone(), None);
                    open.push((node, path));
                } else {
                    disk.0.insert(path, Some(octets(&node)));
                }
            }
        }
        disk
    }
}

fn digits(mut number: usize, sizes: &[usize]) -> Vec<usize> {
    sizes
        .iter()
        .map(|size| {
            let digit = number % size;
            number /= size;
            digit
        })
        .collect()
}

/// Changes of a file up to which every prefix of them is a variant.
const FEW: usize = 4;
/// Octets that a disk writes at once.
const SECTOR: usize = 512;

impl Content {
    fn all(&self) -> Arc<Vec<u8>> {
        self.with(&self.pending.iter().collect::<Vec<_>>())
    }

    fn with(&self, changes: &[&Change]) -> Arc<Vec<u8>> {
        if changes.is_empty() {
            return self.durable.clone();
        }
        let mut octets = self.durable.to_vec();
        for change in changes {
            match &change.what {
                What::Write { offset, octets: written } => {
                    let end = offset + written.len();
                    if octets.len() < end {
                        octets.resize(end, 0);
                    }
                    octets[*offset..end].copy_from_slice(written);
                }
                What::Resize(size) => octets.resize(*size, 0),
            }
        }
        Arc::new(octets)
    }

    /// Gives what may be on the disk, each once: first without anything that is pending, then with all of it, then
    /// with its size only.
    fn variants(&self, dice: &mut Dice) -> Vec<Arc<Vec<u8>>> {
        let all = self.all();
        let mut variants = vec![self.durable.clone(), all.clone()];
        let mut add = |variant: Arc<Vec<u8>>| {
            if !variants.contains(&variant) {
                variants.push(variant);
            }
        };
        if all.len() > self.durable.len() {
            let resized = |size: usize, from: &[u8]| {
                let mut octets = from.to_vec();
                octets.resize(size, 0);
                Arc::new(octets)
            };
            add(resized(all.len(), &self.durable));
            let grown = all.len() - self.durable.len();
            // Cut off in the middle, at a sector and not at one.
            add(resized(self.durable.len() + grown / 2, &all));
            add(resized(
                ((self.durable.len() + dice.below(grown)) / SECTOR * SECTOR).max(self.durable.len()),
                &all,
            ));
            // Zeros at the end.
            let from = self.durable.len() + dice.below(grown);
            add(resized(all.len(), &all[..from]));
        }
        if self.pending.len() <= FEW {
            for end in 1..self.pending.len() {
                add(self.with(&self.pending[..end].iter().collect::<Vec<_>>()));
                add(self.with(&self.pending[end..].iter().collect::<Vec<_>>()));
            }
        } else {
            for _ in 0..FEW {
                let end = dice.below(self.pending.len());
                add(self.with(&self.pending[..end].iter().collect::<Vec<_>>()));
                let some: Vec<_> = self.pending.iter().filter(|_| dice.below(2) == 0).collect();
                add(self.with(&some));
            }
        }
        variants
    }
}

/// Chance that is the same in every run (splitmix64).
#[derive(Debug)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Gives a number less than `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % end as u64) as usize
    }
}
