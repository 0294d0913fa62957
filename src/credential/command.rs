//! A password from a command's standard output.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use zeroize::Zeroizing;

use super::error::{CredentialError, LONGEST};
use crate::config::account::CommandLine;
use crate::net::process;
use crate::text::Shown;

/// Runs the command and gives its output, at most one octet more than the longest password; it must succeed.
pub(super) async fn output(
    line: &CommandLine,
    patience: Duration,
) -> Result<Zeroizing<Vec<u8>>, CredentialError> {
    match tokio::time::timeout(patience, run(line)).await {
        Ok(result) => result,
        // Dropping the future has ended the process group.
        Err(_) => {
            let what = format!("the password command {line}");
            Err(CredentialError::TimedOut { what, after: patience })
        }
    }
}

async fn run(line: &CommandLine) -> Result<Zeroizing<Vec<u8>>, CredentialError> {
    let unusable = |source| CredentialError::Start { command: line.to_string(), source };
    let mut octets = Zeroizing::new(Vec::with_capacity(LONGEST + 3));
    let mut words = String::new();
    let first_line = |line: &[u8]| {
        if words.is_empty() {
            words = Shown(line).to_string();
        }
    };
    let run = process::run(process::command(line), |output| read(output, &mut octets), first_line);
    let status = run.await.map_err(unusable)?;
    if status.success() {
        return Ok(octets);
    }
    Err(CredentialError::Failed { command: line.to_string(), status: status.to_string(), words })
}

/// Reads to the end, and keeps no more than shows that it is too long. Nothing is copied about in growing.
async fn read(mut output: impl AsyncRead + Unpin, octets: &mut Zeroizing<Vec<u8>>) {
    let mut chunk = Zeroizing::new([0; 4096]);
    while let Ok(count @ 1..) = output.read(&mut *chunk).await {
        let room = octets.capacity() - octets.len();
        octets.extend_from_slice(&chunk[..count.min(room)]);
    }
}
