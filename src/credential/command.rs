//! A password from a command's standard output.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use zeroize::Zeroizing;

use super::{CredentialError, LONGEST};
use crate::config::account::CommandLine;
use crate::net::process::{self, Group};
use crate::text::Shown;

/// How long the pipes of a command that has ended may stay open: what it left running may hold them (gpg-agent).
const DRAIN: Duration = Duration::from_millis(250);

/// Runs the command and gives its output, at most one octet more than the longest password; it must succeed.
pub(super) async fn output(
    line: &CommandLine,
    patience: Duration,
) -> Result<Zeroizing<Vec<u8>>, CredentialError> {
    match tokio::time::timeout(patience, run(line)).await {
        Ok(result) => result,
        // Dropping the future has ended the process group.
        Err(_) => {
            let what = format!("the password command {}", process::name(line));
            Err(CredentialError::TimedOut { what, after: patience })
        }
    }
}

async fn run(line: &CommandLine) -> Result<Zeroizing<Vec<u8>>, CredentialError> {
    let unusable = |source| CredentialError::Start { command: process::name(line), source };
    let mut child = process::command(line).stdin(Stdio::null()).spawn().map_err(unusable)?;
    let (Some(output), Some(errors)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(unusable(std::io::Error::other("it has no pipes")));
    };
    let mut group = Group::of(child);
    let mut octets = Zeroizing::new(Vec::with_capacity(LONGEST + 3));
    let mut words = String::new();
    let status = {
        let reading = async {
            tokio::join!(
                read(output, &mut octets),
                process::each_line(errors, |line| {
                    if words.is_empty() {
                        words = Shown(line).to_string();
                    }
                })
            )
        };
        tokio::pin!(reading);
        tokio::select! {
            biased;
            _ = &mut reading => group.wait().await,
            status = group.wait() => {
                // Timed out or not: what the command itself wrote is in by now.
                let _ = tokio::time::timeout(DRAIN, reading).await;
                status
            }
        }
        .map_err(unusable)?
    };
    if status.success() {
        return Ok(octets);
    }
    Err(CredentialError::Failed { command: process::name(line), status: status.to_string(), words })
}

/// Reads to the end, and keeps no more than shows that it is too long. Nothing is copied about in growing.
async fn read(mut output: impl AsyncRead + Unpin, octets: &mut Zeroizing<Vec<u8>>) {
    let mut chunk = Zeroizing::new([0; 4096]);
    while let Ok(count @ 1..) = output.read(&mut *chunk).await {
        let room = octets.capacity() - octets.len();
        octets.extend_from_slice(&chunk[..count.min(room)]);
    }
}
