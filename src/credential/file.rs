//! A password from a file, systemd's credentials among them.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use zeroize::Zeroizing;

use super::CredentialError;

/// Reads a file of at most `longest` octets, on a thread that may block: it may be a pipe.
///
/// A file that others may read is used all the same, with a warning: systemd and containers mount some so.
pub(super) async fn content(
    path: PathBuf,
    longest: usize,
    patience: Duration,
) -> Result<Zeroizing<Vec<u8>>, CredentialError> {
    let reading = tokio::task::spawn_blocking({
        let path = path.clone();
        move || read(&path, longest)
    });
    match tokio::time::timeout(patience, reading).await {
        Ok(Ok(Ok(octets))) => Ok(octets),
        Ok(Ok(Err(source))) => Err(CredentialError::File { path, source }),
        Ok(Err(error)) => Err(CredentialError::File { path, source: io::Error::other(error) }),
        Err(_) => Err(CredentialError::TimedOut { what: path.display().to_string(), after: patience }),
    }
}

fn read(path: &Path, longest: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_file() && metadata.permissions().mode() & 0o004 != 0 {
        log::warn!("{} holds a password and is readable by everyone: chmod 600", path.display());
    }
    // One line end of two octets, and one octet more to see that it is too long.
    let limit = longest + 3;
    let mut octets = Zeroizing::new(Vec::with_capacity(limit));
    let mut chunk = Zeroizing::new([0; 4096]);
    let mut file = file.take(limit as u64);
    loop {
        match file.read(&mut *chunk) {
            Ok(0) => return Ok(octets),
            Ok(count) => octets.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
