//! Codes that are typed in on another device (RFC 8628).

use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::super::error::CredentialError;
use super::endpoint::{self, Form};
use super::error::{OAuth2Error, Origin, Refused};
use super::login::{Means, TokenOwner};
use crate::config::HttpUrl;
use crate::secret::Secret;
use crate::text::Shown;

/// Between two questions, unless the provider says otherwise (RFC 8628, 3.2), and what is added when it asks for peace
/// (3.5).
const INTERVAL: Duration = Duration::from_secs(5);
/// Between two questions at most, whatever a provider says.
const LONGEST_INTERVAL: Duration = Duration::from_secs(60);
/// How long a code is good at most, whatever a provider says.
const LONGEST: Duration = Duration::from_secs(3600);

/// A code, as a provider gave it.
struct Code {
    device: Secret,
    /// What the person types in.
    user: String,
    place: String,
    interval: Duration,
    until: Instant,
}

/// Has a person allow the access on another device, and gives the provider's answer.
pub(super) async fn allowed(
    means: &Means<'_>,
    login: &TokenOwner<'_>,
    url: &HttpUrl,
    scope: &str,
    say: &mut dyn FnMut(&str),
) -> Result<Value, CredentialError> {
    let mut form = Form::new("");
    if !scope.is_empty() {
        form.add("scope", scope.as_bytes());
    }
    let Code { device, user, place, mut interval, until } =
        Code::of(&endpoint::ask(means, login, url, form).await??)?;
    say(&format!("Open {place} on any device, sign in as {}, and type in the code {user}", login.user));
    loop {
        if Instant::now() + interval >= until {
            return Err(expired().into());
        }
        sleep(interval).await;
        let mut form = Form::new("urn:ietf:params:oauth:grant-type:device_code");
        form.add_secret("device_code", &device);
        match endpoint::ask(means, login, &login.client.token_url, form).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(OAuth2Error::Refused(refused))) => match refused.error.as_str() {
                "authorization_pending" => {}
                "slow_down" => interval += INTERVAL,
                "expired_token" => return Err(expired().into()),
                _ => return Err(OAuth2Error::Refused(refused).into()),
            },
            // RFC 8628, 3.5: who does not get through asks less often.
            Ok(Err(error @ OAuth2Error::Later { .. })) => {
                say(&format!("{error}; asking again"));
                interval = (interval * 2).min(LONGEST_INTERVAL);
            }
            Err(CredentialError::Tokens(error)) if matches!(*error, OAuth2Error::Http(_)) => {
                say(&format!("{error}; asking again"));
                interval = (interval * 2).min(LONGEST_INTERVAL);
            }
            Ok(Err(error)) => return Err(error.into()),
            Err(error) => return Err(error),
        }
    }
}

fn expired() -> OAuth2Error {
    let said = b"nobody has allowed the access in time".to_vec();
    OAuth2Error::Refused(Refused { error: "expired_token".to_owned(), said, from: Origin::Code })
}

impl Code {
    fn of(answer: &Value) -> Result<Self, OAuth2Error> {
        let missing = || OAuth2Error::NoAnswer { what: "JSON without a device code".to_owned() };
        let text = |key: &str| answer.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
        let seconds = |key: &str, most: Duration| {
            let seconds = answer.get(key).and_then(Value::as_u64);
            seconds.map(|seconds| Duration::from_secs(seconds).min(most))
        };
        // Google has its own name for it.
        let place = text("verification_uri").or_else(|| text("verification_url")).ok_or_else(missing)?;
        let shown = |text: &str| Shown(text.as_bytes()).to_string();
        Ok(Self {
            device: Secret::new(text("device_code").ok_or_else(missing)?),
            user: shown(text("user_code").ok_or_else(missing)?),
            place: shown(place),
            interval: seconds("interval", LONGEST_INTERVAL).unwrap_or(INTERVAL),
            until: Instant::now() + seconds("expires_in", LONGEST).unwrap_or(LONGEST / 4),
        })
    }
}
