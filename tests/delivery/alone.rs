//! Tests that need a process of their own.

use std::path::PathBuf;
use std::process::Command;

use crate::sink::scratch;

/// Runs a test again in a process whose files without names lie where nobody else's do: in the directory that is given
/// there. Nothing is given here, where the test is over.
pub fn alone(test: &str) -> Option<PathBuf> {
    const DIRECTORY: &str = "POSTRIDER_TEST_ALONE";
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        return Some(directory.into());
    }
    let directory = scratch();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", test, "--nocapture"])
        .env(DIRECTORY, directory.path())
        .env("TMPDIR", directory.path());
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{output:?}");
    None
}
