//! Every input in the fuzz corpora goes through its entry, as an ordinary test; what once failed stays mended.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus")
}

fn listed(directory: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.sort();
    paths
}

#[test]
fn every_corpus_file_passes_its_entry() {
    for (name, entry) in crate::entries::ENTRIES {
        let files = listed(&corpus().join(name));
        assert!(!files.is_empty(), "fuzz/corpus/{name} is empty");
        for file in files {
            // The last line before a failure names the file.
            println!("{}", file.display());
            entry(&fs::read(&file).expect("a corpus file"));
        }
    }
}

#[test]
fn every_entry_takes_no_octets_and_all_octets() {
    let all: Vec<u8> = (0..=255).collect();
    for (_, entry) in crate::entries::ENTRIES {
        entry(b"");
        entry(&all);
        entry(&all.repeat(300));
        for octet in &all {
            entry(&[*octet]);
        }
    }
}

#[test]
fn entries_targets_and_corpora_are_the_same() {
    let entries: BTreeSet<String> =
        crate::entries::ENTRIES.iter().map(|(name, _)| name.to_string()).collect();
    let corpora = listed(&corpus())
        .iter()
        .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    assert_eq!(entries, corpora, "entries and directories in fuzz/corpus");
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/Cargo.toml");
    let manifest = fs::read_to_string(manifest).expect("fuzz/Cargo.toml");
    let targets =
        manifest.split("[[bin]]\nname = \"").skip(1).map(|bin| bin.split('"').next().unwrap().to_string());
    assert_eq!(entries, targets.collect(), "entries and targets in fuzz/Cargo.toml");
}

#[test]
#[should_panic = "no entry"]
fn an_entry_is_found_by_its_name() {
    crate::entries::run("url", b"pops://alice@pop.example.org");
    crate::entries::run("no such entry", b"");
}
