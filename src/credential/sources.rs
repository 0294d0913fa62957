//! A password from where the configuration says that it is.

use std::path::{Path, PathBuf};
use std::time::Duration;

use zeroize::Zeroizing;

use super::error::{CredentialError, LONGEST};
use super::{command, file, netrc, terminal};
use crate::config::account::Password;
use crate::secret::Secret;

/// Gets the password; `host` and `user` choose the netrc entry. What must be waited for, a command above all, may
/// take `patience`; then its process group is ended.
pub async fn password(
    source: &Password,
    host: &str,
    user: &str,
    patience: Duration,
) -> Result<Secret, CredentialError> {
    let octets = match source {
        // As it stands there: it was written for this.
        Password::Literal(secret) => return Ok(secret.clone()),
        Password::Command(line) => command::output(line, patience).await?,
        Password::File(path) => file::content(path.clone(), LONGEST, patience).await?,
        Password::Env(name) => environment(name)?,
        Password::Credential(name) => {
            let path =
                systemd_credential(name, std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from))?;
            file::content(path, LONGEST, patience).await?
        }
        Password::Netrc(path) => netrc::password(path, host, user, patience).await?,
    };
    secret(octets, source)
}

/// Asks for a password on the terminal (never on standard input), without echo; one question at a time.
pub async fn ask(prompt: String) -> Result<Secret, CredentialError> {
    terminal::ask(prompt).await
}

fn environment(name: &str) -> Result<Zeroizing<Vec<u8>>, CredentialError> {
    use std::os::unix::ffi::OsStringExt;
    match std::env::var_os(name) {
        Some(value) => Ok(Zeroizing::new(value.into_vec())),
        None => Err(CredentialError::NotSet { name: name.to_owned() }),
    }
}

fn systemd_credential(name: &str, directory: Option<PathBuf>) -> Result<PathBuf, CredentialError> {
    if name.is_empty() || name.contains('/') || name == "." || name == ".." {
        return Err(CredentialError::CredentialName { name: name.to_owned() });
    }
    match directory {
        Some(directory) => Ok(directory.join(name)),
        None => Err(CredentialError::NoCredentials { name: name.to_owned() }),
    }
}

/// Drops one trailing newline, and refuses what cannot be a password.
fn secret(mut octets: Zeroizing<Vec<u8>>, source: &Password) -> Result<Secret, CredentialError> {
    if octets.last() == Some(&b'\n') {
        octets.pop();
        if octets.last() == Some(&b'\r') {
            octets.pop();
        }
    }
    if octets.is_empty() {
        return Err(CredentialError::Empty { what: shown(source) });
    }
    if octets.len() > LONGEST {
        return Err(CredentialError::TooLong { what: shown(source) });
    }
    if octets.iter().any(|octet| matches!(octet, b'\r' | b'\n')) {
        return Err(CredentialError::SeveralLines { what: shown(source) });
    }
    Ok(Secret::new(std::mem::take(&mut *octets)))
}

fn shown(source: &Password) -> String {
    let path = |path: &Path| path.display().to_string();
    match source {
        Password::Literal(_) => "the configuration".to_owned(),
        Password::Command(line) => format!("the output of {line}"),
        Password::File(file) | Password::Netrc(file) => path(file),
        Password::Env(name) => format!("the environment variable {name}"),
        Password::Credential(name) => format!("the credential {name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(octets: &[u8]) -> Result<Secret, CredentialError> {
        secret(Zeroizing::new(octets.to_vec()), &Password::Env("X".into()))
    }

    #[test]
    fn exactly_one_trailing_newline_is_dropped() {
        assert_eq!(of(b"s3 cret").unwrap().reveal(), b"s3 cret");
        assert_eq!(of(b"s3 cret \n").unwrap().reveal(), b"s3 cret ");
        assert_eq!(of(b"s\r\n").unwrap().reveal(), b"s");
        assert!(matches!(of(b"s\n\n"), Err(CredentialError::SeveralLines { .. })));
    }

    #[test]
    fn what_cannot_be_a_password_is_refused() {
        assert!(matches!(of(b""), Err(CredentialError::Empty { .. })));
        assert!(matches!(of(b"\r\n"), Err(CredentialError::Empty { .. })));
        assert!(matches!(of(b"s\nlogin: alice\n"), Err(CredentialError::SeveralLines { .. })));
        assert!(matches!(of(&[b'x'; LONGEST + 2]), Err(CredentialError::TooLong { .. })));
    }

    #[test]
    fn a_credentials_name_cannot_leave_its_directory() {
        let directory = || Some(PathBuf::from("/run/credentials/x"));
        assert_eq!(
            systemd_credential("mail", directory()).unwrap(),
            Path::new("/run/credentials/x/mail").to_path_buf()
        );
        for name in ["../shadow", "..", ".", "", "/etc/shadow"] {
            assert!(systemd_credential(name, directory()).is_err(), "{name}");
        }
        assert!(matches!(systemd_credential("mail", None), Err(CredentialError::NoCredentials { .. })));
    }
}
