//! Questions to a provider: forms in (RFC 6749, B), JSON out, and what its refusals say.

use std::net::IpAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use serde_json::Value;
use zeroize::Zeroizing;

use super::super::error::CredentialError;
use super::super::sources;
use super::assertion::{Claims, assertion};
use super::error::{OAuth2Error, Origin, Refused};
use super::login::{Means, TokenOwner};
use crate::config::account::Tls;
use crate::config::oauth2::ClientProof;
use crate::config::{HttpUrl, Proxy, Reach};
use crate::disk::blocking;
use crate::net::http::{HttpError, Reply};
use crate::net::{Connector, Endpoint, Stage};
use crate::secret::{Secret, masked};
use crate::text::Shown;

/// Octets of a form at most.
const LONGEST_FORM: usize = 256 << 10;

/// A form to be sent, and the secrets in it.
pub(super) struct Form {
    text: Zeroizing<String>,
    secrets: Vec<Secret>,
}

impl Form {
    pub(super) fn new(grant: &str) -> Self {
        // Sized first: a text that grows leaves its old octets behind in freed memory.
        let mut form =
            Self { text: Zeroizing::new(String::with_capacity(LONGEST_FORM)), secrets: Vec::new() };
        if !grant.is_empty() {
            form.add("grant_type", grant.as_bytes());
        }
        form
    }

    /// Adds a value that is no secret.
    pub(super) fn add(&mut self, name: &str, value: &[u8]) {
        let separator = if self.text.is_empty() { "" } else { "&" };
        self.text.extend([separator, name, "="]);
        self.text.extend(percent_encode(value, NON_ALPHANUMERIC));
    }

    /// Adds one that is, so that what is echoed of it is masked.
    pub(super) fn add_secret(&mut self, name: &str, value: &Secret) {
        self.add(name, value.reveal());
        self.secrets.push(value.clone());
    }
}

/// What a provider answered: an object, or a refusal.
pub(super) type Answered = Result<Value, OAuth2Error>;

/// A question that is ready to be put, whoever goes away meanwhile.
pub(super) struct Question {
    request: Request<Full<Bytes>>,
    url: HttpUrl,
    /// What an echo of it must not show.
    secrets: Vec<Secret>,
    /// Where a refresh token in it came from.
    from: Origin,
    connector: Connector,
    account: String,
    tls: Tls,
    bind: Option<IpAddr>,
    proxy: Option<Proxy>,
    timeout: Duration,
}

/// Asks a token or device endpoint as this client.
pub(super) async fn ask(
    means: &Means<'_>,
    login: &TokenOwner<'_>,
    url: &HttpUrl,
    form: Form,
) -> Result<Answered, CredentialError> {
    Ok(Question::new(means, login, url, form).await?.put().await?)
}

impl Question {
    /// Gets all that is needed to ask: nothing is sent yet.
    pub(super) async fn new(
        means: &Means<'_>,
        login: &TokenOwner<'_>,
        url: &HttpUrl,
        mut form: Form,
    ) -> Result<Self, CredentialError> {
        let authorization = authenticate(means, login, &mut form).await?;
        let body = Bytes::from_owner(Zeroizing::new(form.text.as_bytes().to_vec()));
        let mut request = Request::post(&url.target)
            .header("Host", url.authority())
            .header("Accept", "application/json")
            .header("Content-Type", "application/x-www-form-urlencoded")
            .header("User-Agent", concat!("postrider/", env!("CARGO_PKG_VERSION")))
            .header("Connection", "close");
        if let Some(authorization) = &authorization {
            let mut value = hyper::header::HeaderValue::from_bytes(authorization.as_bytes())
                .map_err(|error| OAuth2Error::Http(HttpError::Request(error.to_string())))?;
            value.set_sensitive(true);
            request = request.header("Authorization", value);
        }
        let request = request.body(Full::new(body)).map_err(|error| HttpError::Request(error.to_string()));
        let from = match login.client.refresh_token {
            Some(_) => Origin::Configuration,
            None => Origin::Login,
        };
        let Endpoint { account, tls, bind, proxy, timeout, .. } = means.through;
        Ok(Self {
            request: request.map_err(OAuth2Error::Http)?,
            url: url.clone(),
            secrets: form.secrets,
            from,
            connector: means.connector.clone(),
            account: account.to_owned(),
            // Pins and the client's certificate are the mail server's.
            tls: Tls { ca: tls.ca.clone(), min: tls.min, ..Tls::bare(url.mode) },
            bind,
            proxy: proxy.cloned(),
            timeout,
        })
    }

    /// Puts it, and says what the answer means.
    pub(super) async fn put(self) -> Result<Answered, OAuth2Error> {
        let Self { request, url, secrets, from, connector, account, tls, bind, proxy, timeout } = self;
        let through = Endpoint {
            account: &account,
            host: &url.host,
            port: url.port,
            tls: &tls,
            // Who gives tokens is named in the configuration file.
            reach: &Reach::Anywhere,
            bind,
            proxy: proxy.as_ref(),
            connect: None,
            timeout,
        };
        log::debug!("{account}: asking {}", url.authority());
        connector.watch().saw(|| Stage::Asking(url.authority()));
        let reply = connector.request(&through, &url, request).await.map_err(OAuth2Error::Http)?;
        Ok(judge(&reply, from, &secrets.iter().collect::<Vec<_>>()))
    }
}

/// Shows who asks (RFC 6749, 2.3); gives the value of the Authorization field, if it goes there.
async fn authenticate(
    means: &Means<'_>,
    login: &TokenOwner<'_>,
    form: &mut Form,
) -> Result<Option<Zeroizing<String>>, CredentialError> {
    let client = login.client;
    let add_id = |form: &mut Form| form.add("client_id", client.client_id.as_bytes());
    match &client.client {
        ClientProof::None => add_id(form),
        ClientProof::BuiltIn(secret) => {
            add_id(form);
            form.add("client_secret", secret.as_bytes());
        }
        ClientProof::Secret(source) => {
            let secret =
                sources::password(source, &client.token_url.host, &client.client_id, means.patience())
                    .await?;
            if client.provider.is_none() {
                // RFC 6749, 2.3.1: what servers must take; those of the table want it in the form.
                let encoded = |part: &[u8]| percent_encode(part, NON_ALPHANUMERIC).to_string();
                let (id, password) =
                    (encoded(client.client_id.as_bytes()), Zeroizing::new(encoded(secret.reveal())));
                let both = Zeroizing::new(format!("{id}:{}", *password));
                form.secrets.push(secret);
                return Ok(Some(Zeroizing::new(format!("Basic {}", STANDARD.encode(both.as_bytes())))));
            }
            add_id(form);
            form.add_secret("client_secret", &secret);
        }
        ClientProof::Certificate(certificate) => {
            let (certificate, how) = (certificate.clone(), client.assertion());
            let (client_id, audience, now) =
                (client.client_id.clone(), client.token_url.to_string(), means.now);
            let path = certificate.key.clone();
            let sign = move || assertion(&certificate, how, &Claims { client_id: &client_id, audience, now });
            let signed = blocking::ask(&path, means.patience(), sign).await;
            let signed =
                signed.map_err(|error| OAuth2Error::Certificate { path, what: error.to_string() })??;
            add_id(form);
            form.add("client_assertion_type", b"urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
            form.add_secret("client_assertion", &Secret::new(signed.as_bytes()));
        }
    }
    Ok(None)
}

/// Says what an answer means.
fn judge(reply: &Reply, from: Origin, secrets: &[&Secret]) -> Answered {
    let said = serde_json::from_slice::<Value>(&reply.body).ok().filter(Value::is_object);
    let text = |key: &str| said.as_ref().and_then(|said| said.get(key)?.as_str());
    // RFC 6749, 5.2 has it under 400; some servers answer 200 with an error in it.
    if let Some(error) = text("error") {
        // Behind the first line, Microsoft has what only Microsoft can read.
        let description = text("error_description").unwrap_or_default().lines().next().unwrap_or_default();
        let masked = |text: &str| masked(text.as_bytes(), secrets);
        let error = String::from_utf8_lossy(&masked(error)).into_owned();
        if reply.status < 500 && reply.status != 429 {
            return Err(OAuth2Error::Refused(Refused { error, said: masked(description), from }));
        }
        return Err(OAuth2Error::Later {
            status: reply.status,
            after: reply.retry_after,
            said: masked(description),
        });
    }
    match (reply.status, said, &reply.elsewhere) {
        (200..300, Some(said), _) => Ok(said),
        (429 | 500.., _, _) => {
            Err(OAuth2Error::Later { status: reply.status, after: reply.retry_after, said: Vec::new() })
        }
        (status, _, Some(elsewhere)) => Err(OAuth2Error::NoAnswer {
            what: format!("a redirect to {elsewhere} (HTTP {status}), which is not followed"),
        }),
        (status, _, None) => {
            let what = match reply.media_type.as_str() {
                "text/html" => "a web page".to_owned(),
                "" => "something".to_owned(),
                other => format!("something ({})", Shown(other.as_bytes())),
            };
            Err(OAuth2Error::NoAnswer { what: format!("{what} (HTTP {status}) where JSON belongs") })
        }
    }
}
