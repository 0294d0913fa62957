//! What a login leaves from one poll to the next: tokens, and what they are for.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::clock::Timestamp;
use crate::secret::Secret;
use crate::text::hex;

/// The form of the file; a later one is not read.
const VERSION: u32 = 1;
/// So many seconds before its end an access token counts as ended, or a tenth of its life: it must be good for as long as
/// a log-in takes, and the provider's clock is another one.
const BEFORE_THE_END: Timestamp = 120;
/// How long a token is good of which nobody says it, in seconds.
const UNTOLD: Timestamp = 300;

/// A token, and what is known of it.
#[derive(Debug)]
pub struct AccessToken {
    pub secret: Secret,
    pub age: Age,
    /// What it is for, as far as known.
    pub scope: String,
    /// When it ends, if that is known.
    pub until: Option<Timestamp>,
}

/// Whether a token may have been refused by now without anybody knowing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Age {
    /// It was had just now.
    New,
    /// It was had earlier.
    Kept,
}

/// Which tokens are not wanted.
#[derive(Debug, Clone, Copy)]
pub enum Unwanted<'a> {
    None,
    /// This one, which the server has just refused.
    This(&'a Secret),
    /// Any that is kept: the server has refused the credentials, and the new token of that time with them.
    Kept,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Kept {
    version: u32,
    /// Whose it is, for whoever looks into the file.
    pub login: String,
    /// What identifies it, for as long as nobody logs in anew and no configured secret changes.
    pub id: String,
    /// Salt and digest of the configured secrets by which it was had.
    pub secrets: String,
    pub refresh: Option<Zeroizing<String>>,
    /// The scopes that the refresh token is for, as far as known.
    pub granted: String,
    /// The provider has refused the refresh token.
    pub refused: bool,
    access: Vec<Access>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Access {
    token: Zeroizing<String>,
    scope: String,
    /// When it was had.
    from: Timestamp,
    until: Timestamp,
}

impl Kept {
    /// Begins anew, with what identifies it made of randomness.
    pub fn new(login: String, secrets: &[Secret]) -> Result<Self, getrandom::Error> {
        let mut random = [0; 32];
        getrandom::fill(&mut random)?;
        let (id, salt) = (hex(&random[..16]), hex(&random[16..]));
        let secrets = format!("{salt}{}", digest(&salt, secrets));
        Ok(Self { version: VERSION, login, id, secrets, ..Self::default() })
    }

    /// Reads a file; `None` if it is damaged or of another version: what cannot be read is as good as nothing.
    pub fn read(octets: &[u8]) -> Option<Self> {
        let kept: Self = serde_json::from_slice(octets).ok()?;
        (kept.version == VERSION).then_some(kept)
    }

    pub fn write(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(serde_json::to_vec(self).unwrap_or_default())
    }

    /// Says whether it was had by these configured secrets.
    pub fn is_of(&self, secrets: &[Secret]) -> bool {
        let salt = self.secrets.get(..32).unwrap_or_default();
        self.secrets.get(32..) == Some(&digest(salt, secrets))
    }

    /// Gives an access token that is good for this, if there is one that is wanted.
    pub fn fresh(&self, scope: &str, now: Timestamp, unwanted: Unwanted<'_>) -> Option<AccessToken> {
        let is_good = |access: &&Access| {
            let margin = BEFORE_THE_END.min((access.until - access.from) / 10);
            // One of a time to come was had by a clock that was wrong.
            (access.from..access.until - margin).contains(&now)
                && covers(&access.scope, scope)
                && match unwanted {
                    Unwanted::None => true,
                    Unwanted::This(refused) => refused.reveal() != access.token.as_bytes(),
                    Unwanted::Kept => false,
                }
        };
        self.access.iter().find(is_good).map(|access| AccessToken {
            secret: Secret::new(access.token.as_bytes()),
            age: Age::Kept,
            scope: access.scope.clone(),
            until: Some(access.until),
        })
    }

    /// Takes a new access token, good for `seconds` if that is known; those that it replaces are forgotten.
    pub fn add(&mut self, token: Zeroizing<String>, scope: String, now: Timestamp, seconds: Option<i64>) {
        let until = now.saturating_add(seconds.unwrap_or(UNTOLD).max(0));
        self.access.retain(|access| access.until > now && !covers(&scope, &access.scope));
        self.access.push(Access { token, scope, from: now, until });
    }
}

/// Says whether a token for the one is good for the other. Microsoft names one scope by several hosts, so that the last
/// part counts; of what is about identity and duration servers say nothing.
pub fn covers(granted: &str, wanted: &str) -> bool {
    lacking(granted, wanted).is_empty()
}

/// Gives the wanted scopes that are not among the granted.
pub fn lacking(granted: &str, wanted: &str) -> Vec<String> {
    const OF_IDENTITY: [&str; 4] = ["offline_access", "openid", "profile", "email"];
    let last =
        |scope: &str| scope.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
    let granted: Vec<String> = granted.split_whitespace().map(last).collect();
    let wanted = wanted.split_whitespace().filter(|scope| !OF_IDENTITY.contains(scope));
    wanted.filter(|scope| !granted.contains(&last(scope))).map(str::to_owned).collect()
}

/// Gives what identifies a login that configured secrets make.
pub fn id_of(secrets: &[Secret]) -> String {
    digest("", secrets)
}

fn digest(salt: &str, secrets: &[Secret]) -> String {
    let mut digest = Sha256::new().chain_update(salt);
    for secret in secrets {
        digest.update((secret.reveal().len() as u64).to_be_bytes());
        digest.update(secret.reveal());
    }
    hex(&digest.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    const POP: &str = "https://outlook.office.com/POP.AccessAsUser.All offline_access";
    const IMAP: &str = "https://outlook.office.com/IMAP.AccessAsUser.All offline_access";

    fn token(text: &str) -> Zeroizing<String> {
        Zeroizing::new(text.to_owned())
    }

    #[test]
    fn a_token_is_good_until_shortly_before_its_end_and_for_what_it_was_given() {
        let mut kept = Kept::new("alice".into(), &[]).unwrap();
        kept.add(token("t1"), POP.into(), 1000, Some(3600));
        let fresh = |kept: &Kept, scope, now| {
            kept.fresh(scope, now, Unwanted::None).map(|token| token.secret.reveal().to_vec())
        };
        assert_eq!(fresh(&kept, POP, 1000).as_deref(), Some(b"t1".as_slice()));
        assert_eq!(fresh(&kept, POP, 4479).as_deref(), Some(b"t1".as_slice()));
        assert_eq!(fresh(&kept, POP, 4480), None);
        assert_eq!(fresh(&kept, POP, 999), None);
        assert_eq!(fresh(&kept, IMAP, 1000), None);
        assert!(kept.fresh(POP, 1000, Unwanted::This(&Secret::new(*b"t1"))).is_none());
        assert!(kept.fresh(POP, 1000, Unwanted::This(&Secret::new(*b"t2"))).is_some());
        assert!(kept.fresh(POP, 1000, Unwanted::Kept).is_none());
        kept.add(token("t2"), IMAP.into(), 1000, None);
        assert_eq!(fresh(&kept, IMAP, 1269).as_deref(), Some(b"t2".as_slice()));
        assert_eq!(fresh(&kept, IMAP, 1270), None);
        kept.add(token("t3"), format!("{POP} {IMAP}"), 1001, Some(3600));
        assert_eq!(kept.access.len(), 1);
        assert_eq!(fresh(&kept, IMAP, 1001).as_deref(), Some(b"t3".as_slice()));
    }

    #[test]
    fn a_changed_secret_is_noticed_and_not_kept_itself() {
        let secrets = |text: &str| [Secret::new(text.as_bytes()), Secret::new(*b"client")];
        let kept = Kept::new("alice".into(), &secrets("hunter2")).unwrap();
        assert!(kept.is_of(&secrets("hunter2")) && !kept.is_of(&secrets("hunter3")) && !kept.is_of(&[]));
        let written = String::from_utf8(kept.write().to_vec()).unwrap();
        assert!(!written.contains("hunter2"));
        assert_eq!(Kept::read(written.as_bytes()).unwrap().id, kept.id);
    }

    #[test]
    fn a_damaged_file_or_one_of_another_version_is_as_good_as_none() {
        assert!(Kept::read(b"").is_none() && Kept::read(b"{}").is_none());
        let kept = Kept { version: 2, ..Kept::default() };
        assert!(Kept::read(&kept.write()).is_none());
    }

    #[test]
    fn one_scope_of_several_hosts_is_one_scope() {
        assert!(covers("https://outlook.office365.com/pop.accessasuser.all", POP));
        assert!(covers("https://mail.google.com/", "https://mail.google.com/"));
        assert!(covers("", "offline_access") && covers("", ""));
        assert_eq!(lacking("mail-r", "mail-w mail-r"), ["mail-w"]);
    }
}
