//! A small file system of its own, to be filled up or made read-only.

#![allow(dead_code, reason = "some test programs take this file alone, and not all of it")]

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A mounted file system, unmounted at the end.
#[derive(Debug)]
pub struct Mounted {
    at: PathBuf,
    /// The loop device under it, if it needs one of its own.
    device: Option<PathBuf>,
}

/// A file system in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Image {
    /// With everything, and blocks to be counted.
    Ext2,
    /// Without hard links, owners and permissions; the kernel's, or one in user space where it has none.
    Fat,
    /// The same, in user space; its process can be stopped, and then it answers nothing.
    ExFat,
}

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
            Ok(output) if output.status.success() => Some(Self { at, device: None }),
            other => {
                eprintln!("not tested on a small tmpfs, which only root may mount: {other:?}");
                None
            }
        }
    }

    /// Makes one of so many KiB in a file beside the directory and mounts it there; says that it is not tested where
    /// that is not allowed.
    pub fn image(at: PathBuf, image: Image, kib: u64) -> Option<Self> {
        fs::create_dir_all(&at).expect("a directory");
        let file = at.with_extension("image");
        File::create(&file).and_then(|file| file.set_len(kib << 10)).expect("an image");
        let run = |program: &str, arguments: &[&str]| {
            let mut command = Command::new(program);
            let output = command.args(arguments).arg(&file).stdin(std::process::Stdio::null()).output();
            output.unwrap_or_else(|error| panic!("{program} ({error}); tests/run installs it"))
        };
        let made = match image {
            Image::Ext2 => run("mkfs.ext2", &["-q", "-F", "-m", "0"]),
            Image::Fat => run("mkfs.vfat", &[]),
            Image::ExFat => run("mkfs.exfat", &[]),
        };
        assert!(made.status.success(), "{made:?}");
        let mount = |program: &str, arguments: &[&str]| {
            Command::new(program).args(arguments).arg(&file).arg(&at).output().expect("it runs")
        };
        let mounted = match image {
            Image::Ext2 => mount("mount", &["-t", "ext2", "-o", "loop"]),
            Image::Fat => match mount("mount", &["-t", "vfat", "-o", "loop,umask=077"]) {
                output if output.status.success() => output,
                // This kernel has none.
                _ => mount("fusefat", &["-o", "rw+"]),
            },
            Image::ExFat => return Self::exfat(at, &file),
        };
        if mounted.status.success() {
            return Some(Self { at, device: None });
        }
        eprintln!(
            "NOT TESTED on an image of {image:?}, which only root may mount, with /dev/fuse: {mounted:?}"
        );
        None
    }

    fn exfat(at: PathBuf, file: &Path) -> Option<Self> {
        // It takes no file for a device.
        let output = Command::new("losetup").args(["--find", "--show"]).arg(file).output().expect("it runs");
        let device = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
        let mut mount = Command::new("mount.exfat-fuse");
        let mounted = mount.args(["-o", "umask=077"]).arg(&device).arg(&at).output().expect("it runs");
        let this = Self { at, device: Some(device) };
        if output.status.success() && mounted.status.success() {
            return Some(this);
        }
        eprintln!(
            "NOT TESTED on exFAT, which only root may mount, with loop devices and /dev/fuse: {mounted:?}"
        );
        this.give_back();
        std::mem::forget(this);
        None
    }

    fn give_back(&self) {
        if let Some(device) = &self.device {
            // It may never have been one.
            let _ = Command::new("losetup").arg("-d").arg(device).output();
        }
    }

    /// Gives the process that is this file system.
    pub fn process(&self) -> nix::unistd::Pid {
        let at = self.at.as_os_str().as_encoded_bytes();
        let is_it = |directory: &Path| {
            fs::read(directory.join("cmdline"))
                .is_ok_and(|line| line.split(|octet| *octet == 0).any(|word| word == at))
        };
        let processes = fs::read_dir("/proc").expect("processes").filter_map(Result::ok);
        let number = |entry: fs::DirEntry| entry.file_name().to_str().and_then(|name| name.parse().ok());
        let mut found = processes.filter(|entry| is_it(&entry.path())).filter_map(number);
        nix::unistd::Pid::from_raw(found.next().expect("a process"))
    }

    /// Gives the directory.
    pub fn path(&self) -> &Path {
        &self.at
    }

    /// Changes it: `size=16m`, `ro`.
    pub fn remount(&self, how: &str) {
        let status = Command::new("mount").args(["-o", &format!("remount,{how}")]).arg(&self.at).status();
        assert!(status.expect("mount runs").success());
    }

    /// Takes all the space that is left, in a file that can be removed again.
    pub fn fill(&self) -> PathBuf {
        let path = self.at.join("filler");
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
        let unmounted = Command::new("umount").arg("-l").arg(&self.at).status();
        assert!(unmounted.expect("umount runs").success());
        self.give_back();
    }
}
