//! How a person allows the access in a browser (RFC 6749, 4.1; RFC 7636; RFC 8252), without I/O.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::error::{OAuth2Error, Origin, Refused};
use crate::config::HttpUrl;
use crate::config::oauth2::OAuth2Client;
use crate::secret::Secret;

/// One attempt: what the browser is sent with, and what comes back must fit.
#[derive(Debug)]
pub struct Attempt {
    /// The address that the person opens.
    pub url: String,
    /// Where the browser is sent at the end.
    pub redirect: String,
    pub(super) verifier: Secret,
    state: String,
}

/// What an address that came back does not have.
#[derive(Debug, thiserror::Error)]
pub enum NotTaken {
    #[error("there is no code in it: paste the whole address at which the browser ends")]
    NoCode,
    /// Its state is another one.
    #[error(
        "it is of another log-in than this one: open the address above, and paste the one at which that ends"
    )]
    Foreign,
    /// The provider said no there.
    #[error(transparent)]
    Refused(OAuth2Error),
}

impl Attempt {
    /// Begins one for this user, who allows these scopes.
    pub(super) fn new(
        client: &OAuth2Client,
        auth_url: &HttpUrl,
        (user, scope): (&str, &str),
        redirect: String,
    ) -> Result<Self, getrandom::Error> {
        // RFC 7636, 4.1: 43 characters of 32 octets of randomness.
        let (verifier, state) = (random()?, random()?);
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(&verifier));
        let mut parameters = vec![
            ("response_type", "code"),
            ("client_id", &client.client_id),
            ("redirect_uri", &redirect),
            ("state", &state),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
            ("login_hint", user),
        ];
        if !scope.is_empty() {
            parameters.push(("scope", scope));
        }
        parameters.extend(client.provider.iter().flat_map(|provider| provider.more));
        let mut url = auth_url.to_string();
        let mut separator = if url.contains('?') { '&' } else { '?' };
        for (name, value) in parameters {
            url.extend([
                &*format!("{separator}{name}="),
                &utf8_percent_encode(value, NON_ALPHANUMERIC).to_string(),
            ]);
            separator = '&';
        }
        Ok(Self { url, redirect, verifier: Secret::new(verifier), state })
    }

    /// Takes the code out of an address that came back, whatever stands before its query.
    pub fn code(&self, address: &str) -> Result<Secret, NotTaken> {
        let address = address.trim().trim_matches(['"', '\'', '<', '>']);
        let query = address.split_once('?').map_or(address, |(_, query)| query);
        let query = query.split('#').next().unwrap_or_default();
        let value = |wanted: &str| {
            let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            let found = pairs.into_iter().find(|(name, _)| *name == wanted)?.1.replace('+', " ");
            Some(percent_decode_str(&found).decode_utf8_lossy().into_owned())
                .filter(|value| !value.is_empty())
        };
        let (code, error) = (value("code"), value("error"));
        if code.is_none() && error.is_none() {
            return Err(NotTaken::NoCode);
        }
        let state = value("state").unwrap_or_default();
        if !bool::from(state.as_bytes().ct_eq(self.state.as_bytes())) {
            return Err(NotTaken::Foreign);
        }
        match (error, code) {
            (Some(error), _) => {
                let said = value("error_description").unwrap_or_default();
                let said = said.lines().next().unwrap_or_default().as_bytes().to_vec();
                Err(NotTaken::Refused(OAuth2Error::Refused(Refused { error, said, from: Origin::Code })))
            }
            (None, Some(code)) => Ok(Secret::new(code)),
            (None, None) => Err(NotTaken::NoCode),
        }
    }
}

fn random() -> Result<String, getrandom::Error> {
    let mut random = [0; 32];
    getrandom::fill(&mut random)?;
    Ok(URL_SAFE_NO_PAD.encode(random))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;
    use crate::config::oauth2::OAuth2;

    fn attempt() -> Attempt {
        let text = "accounts: { a: { host: a, user: 'al ice', deliver: { maildir: /m }, \
                    oauth2: { provider: google, client_id: id } } }";
        let config = Config::from_yaml(text, Path::new("config.yaml")).unwrap();
        let Some(OAuth2::Client(client)) = &config.accounts[0].oauth2 else { panic!("no client") };
        let redirect = "http://127.0.0.1:1234".to_owned();
        Attempt::new(
            client,
            client.auth_url.as_ref().unwrap(),
            ("al ice", "https://mail.google.com/"),
            redirect,
        )
        .unwrap()
    }

    #[test]
    fn the_address_to_open_says_all_that_the_provider_must_know() {
        let attempt = attempt();
        assert!(
            attempt
                .url
                .starts_with("https://accounts.google.com/o/oauth2/v2/auth?response_type=code&client_id=id&")
        );
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(attempt.verifier.reveal()));
        for part in [
            "&redirect_uri=http%3A%2F%2F127%2E0%2E0%2E1%3A1234&",
            &format!(
                "&code_challenge={}&code_challenge_method=S256",
                utf8_percent_encode(&challenge, NON_ALPHANUMERIC)
            ),
            "&login_hint=al%20ice&scope=https%3A%2F%2Fmail%2Egoogle%2Ecom%2F&",
            "&access_type=offline&prompt=consent",
        ] {
            assert!(attempt.url.contains(part), "{part} in {}", attempt.url);
        }
        assert!(!attempt.url.contains(str::from_utf8(attempt.verifier.reveal()).unwrap()));
    }

    #[test]
    fn the_example_of_rfc_7636_comes_out() {
        let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier));
        assert_eq!(challenge, "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    }

    #[test]
    fn a_code_is_taken_from_any_address_of_this_attempt_and_of_no_other() {
        let (attempt, other) = (attempt(), attempt());
        let state = &attempt.state;
        for address in [
            format!("http://127.0.0.1:1234/?state={state}&code=4%2F0Ab&scope=x"),
            format!("  <https://else.example/x?code=4%2F0Ab&state={state}#frag>\n"),
            format!("code=4/0Ab&state={state}"),
        ] {
            assert_eq!(attempt.code(&address).unwrap().reveal(), b"4/0Ab", "{address}");
        }
        let foreign = format!("http://127.0.0.1:1234/?code=x&state={}", other.state);
        assert!(matches!(attempt.code(&foreign), Err(NotTaken::Foreign)));
        assert!(matches!(attempt.code("http://127.0.0.1:1234/?code=x"), Err(NotTaken::Foreign)));
        for address in ["", "yes", "http://127.0.0.1:1234/", "http://127.0.0.1:1234/?code="] {
            assert!(matches!(attempt.code(address), Err(NotTaken::NoCode)), "{address}");
        }
        let denied = format!("http://x/?error=access_denied&error_description=no+way%0Aat all&state={state}");
        let Err(NotTaken::Refused(refused)) = attempt.code(&denied) else { panic!("not refused") };
        assert_eq!(
            (refused.to_string().as_str(), refused.said()),
            ("refused (access_denied)", Some(b"no way".as_slice()))
        );
    }
}
