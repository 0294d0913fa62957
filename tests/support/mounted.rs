//! A small file system of its own, to be filled up or made read-only.

// Some test programs take this file alone, and not all of it.
#![allow(dead_code)]

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A mounted tmpfs, unmounted at the end.
#[derive(Debug)]
pub struct Mounted(PathBuf);

impl Mounted {
    /// Mounts one of this size (`1m`) on a directory, which is made if it is missing; says that it is not tested where
    /// that is not allowed.
    pub fn tmpfs(at: PathBuf, size: &str) -> Option<Self> {
        fs::create_dir_all(&at).expect("a directory");
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("mode=0700,size={size}"), "tmpfs"])
            .arg(&at)
            .output();
        match mount {
            Ok(output) if output.status.success() => Some(Self(at)),
            other => {
                eprintln!("not tested on a small tmpfs, which only root may mount: {other:?}");
                None
            }
        }
    }

    /// Gives the directory.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Changes it: `size=16m`, `ro`.
    pub fn remount(&self, how: &str) {
        let status = Command::new("mount").args(["-o", &format!("remount,{how}")]).arg(&self.0).status();
        assert!(status.expect("mount runs").success());
    }

    /// Takes all the space that is left, in a file that can be removed again.
    pub fn fill(&self) -> PathBuf {
        let path = self.0.join("filler");
        let mut filler = File::create(&path).expect("a file");
        let mut piece = 1 << 20;
        while piece > 0 {
            if filler.write(&vec![0; piece]).is_err() {
                piece /= 2;
            }
        }
        path
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(&self.0).status();
        assert!(unmounted.expect("umount runs").success());
    }
}
