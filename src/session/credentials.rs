//! Passwords, and the memory of refused ones that keeps an account from being locked.

use pbkdf2::pbkdf2_hmac;
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

use crate::config::Account;
use crate::config::account::Auth;
use crate::credential::{self, CredentialError};
use crate::sasl::Mechanism;
use crate::secret::Secret;
use crate::state::{LoginMemory, LoginRefused, Timestamp};

use super::Ask;
use super::trouble::Trouble;

/// Seconds after which refused credentials are tried again: the longest wait.
const LONGEST_WAIT: Timestamp = 3600;
/// Log-ins within this many seconds before the first refusal count as lately.
const LATELY: Timestamp = 7 * 24 * 3600;
/// Refusals that credentials which worked lately may have before they wait: some servers report throttling as a
/// wrong password.
const TRIES: u32 = 3;
/// Rounds of PBKDF2 for the digest by which refused credentials are known again; it must not help who reads the
/// state file to guess a password.
const ROUNDS: u32 = 50_000;
const SALT: usize = 16;

/// Gets the account's password; empty where no mechanism can want one.
pub async fn password(account: &Account, ask: Ask) -> Result<Secret, CredentialError> {
    if account.auth == Auth::List(vec![Mechanism::External]) {
        return Ok(Secret::new(Vec::new()));
    }
    match (&account.password, ask) {
        (Some(source), _) => {
            credential::password(source, &account.host, &account.user, account.timeout).await
        }
        (None, Ask::Terminal) => {
            credential::ask(format!("Password for {} at {}: ", account.user, account.server())).await
        }
        (None, Ask::Never) => Err(CredentialError::Missing),
    }
}

/// Refuses to try credentials that the server refused with [AUTH] (RFC 3206, 5), until the longest wait is over or
/// they have changed. Those that worked lately get two more tries.
pub async fn may_try(
    account: &Account,
    secret: &Secret,
    memory: &LoginMemory,
    now: Timestamp,
) -> Result<(), Trouble> {
    let Some(refused) = &memory.refused else { return Ok(()) };
    let until = refused.at.saturating_add(LONGEST_WAIT);
    let worked_lately = memory.ok_at.is_some_and(|ok| ok.saturating_add(LATELY) >= refused.at);
    if now >= until || now < refused.at || (worked_lately && refused.count < TRIES) {
        return Ok(());
    }
    let salt = refused.credentials.get(..SALT).unwrap_or_default().to_vec();
    let same = digest(account, secret, salt).await.ct_eq(&refused.credentials);
    if same.into() { Err(Trouble::LockedOut { refused: refused.at, until }) } else { Ok(()) }
}

/// Makes the record of one more refusal.
pub async fn refused(
    account: &Account,
    secret: &Secret,
    memory: &LoginMemory,
    now: Timestamp,
) -> LoginRefused {
    let before = memory.refused.as_ref();
    let salt = match before.and_then(|before| before.credentials.get(..SALT)) {
        Some(salt) => salt.to_vec(),
        None => {
            let mut salt = vec![0; SALT];
            // Without randomness the digest is merely easier to guess.
            let _ = getrandom::fill(&mut salt);
            salt
        }
    };
    let credentials = digest(account, secret, salt).await;
    let count = before.filter(|before| before.credentials == credentials).map_or(0, |before| before.count);
    LoginRefused { at: now, count: count.saturating_add(1), credentials }
}

/// Digests what decides over a log-in, behind its salt. Runs beside the async threads.
async fn digest(account: &Account, secret: &Secret, salt: Vec<u8>) -> Vec<u8> {
    let mut what = Vec::new();
    for part in [account.user.as_bytes(), account.host.as_bytes(), secret.reveal()] {
        what.extend_from_slice(&(part.len() as u64).to_be_bytes());
        what.extend_from_slice(part);
    }
    let what = zeroize::Zeroizing::new(what);
    tokio::task::spawn_blocking(move || {
        let mut digest = [0; 32];
        pbkdf2_hmac::<Sha256>(&what, &salt, ROUNDS, &mut digest);
        [salt.as_slice(), &digest].concat()
    })
    .await
    .unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))
}
