//! The keys of `oauth2`, of an account and of targets.

use std::path::PathBuf;

use super::command_line::CommandLine;
use super::http_url::HttpUrl;
use super::oauth2::{ClientProof, Credential, Grant, OAuth2, OAuth2Client};
use super::password::Password;
use super::places::Places;
use super::providers::{PROVIDERS, Provider};
use super::rows::{Form, Key, inline, key, mapping, within};
use super::tls::ClientCertificate;
use super::tree::{Complaint, Entry, Node};
use super::values::{COMMAND, FILE, HOST, PASSWORD, URL, choice, row_of};
use crate::sasl::{Auth, Exposes, Mechanism};

pub(super) const OAUTH2: Form<OAuth2> = Form::new(read, |oauth2| show(&Written::of(oauth2)));

pub(super) const OAUTH2_KEYS: &[Key<Written>] = &[
    key!(
        "provider",
        provider,
        row_of!(PROVIDERS),
        "Who gives the tokens: google or microsoft; or `token_url`."
    ),
    key!(
        "tenant",
        tenant,
        TENANT,
        "The directory at Microsoft: common, consumers, organizations, a domain or an id."
    ),
    key!("authority", authority, URL, "Another cloud of Microsoft's than https://login.microsoftonline.com."),
    key!("token_url", token_url, URL, "Where tokens are had, of another provider."),
    key!("auth_url", auth_url, URL, "Where a person allows the access, of another provider."),
    key!("device_url", device_url, URL, "Where device codes are had, of another provider."),
    key!("scope", scope, SCOPE, "What access is asked for, of another provider."),
    key!(
        "redirect",
        redirect,
        REDIRECT,
        "Where the browser is sent at the end; http://127.0.0.1 and a free port."
    ),
    key!("client_id", client_id, ID, "The name under which this client is registered there."),
    key!(
        "client_secret",
        client_secret,
        PASSWORD,
        "The client's secret, if it has one, or where it comes from."
    ),
    key!(
        "client_certificate",
        client_certificate,
        FILE,
        "A file with the certificate that the client is registered with."
    ),
    key!("client_key", client_key, FILE, "A file with the private key of that certificate (RSA)."),
    key!("grant", grant, choice!(GRANTS), "How tokens are had: refresh_token, or client_credentials."),
    key!(
        "refresh_token",
        refresh_token,
        PASSWORD,
        "The refresh token, or where it comes from; by default what login stored."
    ),
    key!("token_command", token_command, COMMAND, "A command that prints an access token; alone."),
];

const GRANTS: [(&str, Grant); 2] =
    [("refresh_token", Grant::RefreshToken), ("client_credentials", Grant::ClientCredentials)];

const TENANT: Form<String> = Form { read: |node, _| word(node, "a directory's name or id", b"-."), ..HOST };
const ID: Form<String> = Form { read: |node, _| visible(node, "a client's id", None), ..HOST };
const REDIRECT: Form<String> =
    Form { read: |node, _| visible(node, "the URI that is registered", None), ..HOST };
/// RFC 6749, 3.3: words with one blank between them.
const SCOPE: Form<String> =
    Form { read: |node, _| visible(node, "scopes, a blank between them", Some(' ')), ..HOST };

#[derive(Default)]
pub(super) struct Written {
    provider: Option<&'static Provider>,
    tenant: Option<String>,
    authority: Option<HttpUrl>,
    token_url: Option<HttpUrl>,
    auth_url: Option<HttpUrl>,
    device_url: Option<HttpUrl>,
    scope: Option<String>,
    redirect: Option<String>,
    client_id: Option<String>,
    client_secret: Option<Password>,
    client_certificate: Option<PathBuf>,
    client_key: Option<PathBuf>,
    grant: Option<Grant>,
    refresh_token: Option<Password>,
    token_command: Option<CommandLine>,
}

fn read(node: &Node<'_>, places: &Places) -> Result<OAuth2, Complaint> {
    let what = "a mapping such as { provider: google, client_id: ID }";
    let written = mapping(node, places, what, OAUTH2_KEYS, Written::default())?;
    let own = node.mapping(what)?;
    if let Some((entry, what)) = written.contradicts(own) {
        return Err(within(entry, entry.value.wrong(what)));
    }
    match written.token_command {
        Some(command) => Ok(OAuth2::Command(command)),
        None => written.client(node).map(|client| OAuth2::Client(Box::new(client))),
    }
}

impl Written {
    /// Finds a key that contradicts another, and says what is wrong with it.
    fn contradicts<'n, 't>(&self, own: &'n [Entry<'t>]) -> Option<(&'n Entry<'t>, &'static str)> {
        let find = |keys: &[&str]| own.iter().find(|entry| keys.contains(&&*entry.key));
        if self.token_command.is_some()
            && let Some(entry) = own.iter().find(|entry| entry.key != "token_command")
        {
            return Some((entry, "has no meaning with `token_command`: remove one of them"));
        }
        let of_any = ["token_url", "auth_url", "device_url", "scope", "redirect"];
        if let (Some(_), Some(entry)) = (self.provider, find(&of_any)) {
            return Some((entry, "comes with `provider`: remove one of them"));
        }
        let directory = self.provider.and_then(|provider| provider.tenant);
        if let (None, Some(entry)) = (directory, find(&["tenant", "authority"])) {
            return Some((entry, "has a meaning with `provider: microsoft` alone"));
        }
        let certificate = (find(&["client_certificate"]), find(&["client_key"]));
        match certificate {
            (Some(certificate), None) => return Some((certificate, "needs `client_key` too")),
            (None, Some(key)) => return Some((key, "needs `client_certificate` too")),
            (Some(certificate), Some(_)) if self.client_secret.is_some() => {
                return Some((certificate, "has no meaning with `client_secret`: remove one of them"));
            }
            (Some(_), Some(_)) | (None, None) => {}
        }
        if self.grant != Some(Grant::ClientCredentials) {
            return None;
        }
        if let Some(token) = find(&["refresh_token"]) {
            return Some((token, "has no meaning with `grant: client_credentials`: remove one of them"));
        }
        let grant = find(&["grant"])?;
        if self.client_secret.is_none() && certificate.0.is_none() {
            return Some((grant, "needs `client_secret`, or `client_certificate` and `client_key`"));
        }
        let is_of_all = |tenant: &str| ["common", "consumers", "organizations"].contains(&tenant);
        match self.provider {
            Some(Provider { application: None, .. }) => {
                Some((grant, "is not offered for mailboxes by Google"))
            }
            Some(_) if self.tenant.as_deref().is_none_or(is_of_all) => {
                Some((grant, "needs `tenant`: the directory's domain or id"))
            }
            Some(_) | None => None,
        }
    }

    /// Fills in what follows from the provider.
    fn client(self, node: &Node<'_>) -> Result<OAuth2Client, Complaint> {
        let (tenant, authority) = (self.tenant, self.authority);
        let (auth_url, token_url, device_url) = match (self.provider, self.token_url) {
            (Some(of), _) => {
                let url = |host, path| of.url(host, path, tenant.as_deref(), authority.as_ref());
                let device = of.device.map(|device| url(of.token_host, device));
                (Some(url(of.authorize_host, of.authorize)), url(of.token_host, of.token), device)
            }
            (None, Some(token_url)) => (self.auth_url, token_url, self.device_url),
            (None, None) => return Err(node.wrong("needs `provider`, `token_url` or `token_command`")),
        };
        let built_in = self.provider.and_then(|of| Some((of.client_id?.to_owned(), of.client_secret)));
        let (client_id, built_in) = match (self.client_id, built_in) {
            (Some(own), _) => (own, None),
            (None, Some((client_id, secret))) => (client_id, secret),
            (None, None) => {
                let manual = self.provider.map(|of| format!("; {} says how one is registered", of.manual));
                return Err(node.wrong(format!("needs `client_id`{}", manual.unwrap_or_default())));
            }
        };
        let client = match (self.client_secret, self.client_certificate, self.client_key) {
            (Some(secret), _, _) => ClientProof::Secret(secret),
            (None, Some(chain), Some(key)) => ClientProof::Certificate(ClientCertificate { chain, key }),
            (None, _, _) => built_in.map_or(ClientProof::None, ClientProof::BuiltIn),
        };
        let grant = self.grant.unwrap_or(Grant::RefreshToken);
        let can_log_in = auth_url.is_some() || device_url.is_some();
        if grant == Grant::RefreshToken && self.refresh_token.is_none() && !can_log_in {
            return Err(node.wrong(
                "needs `auth_url` or `device_url`, where a person allows the access, or `refresh_token`",
            ));
        }
        Ok(OAuth2Client {
            provider: self.provider,
            tenant,
            authority,
            auth_url,
            token_url,
            device_url,
            scope: self.scope,
            redirect: self.redirect,
            client_id,
            client,
            grant,
            refresh_token: self.refresh_token,
        })
    }

    fn of(oauth2: &OAuth2) -> Self {
        let client = match oauth2 {
            OAuth2::Command(command) => {
                return Self { token_command: Some(command.clone()), ..Self::default() };
            }
            OAuth2::Client(client) => (**client).clone(),
        };
        let (client_secret, certificate) = match client.client {
            ClientProof::None | ClientProof::BuiltIn(_) => (None, None),
            ClientProof::Secret(secret) => (Some(secret), None),
            ClientProof::Certificate(certificate) => (None, Some(certificate)),
        };
        let is_any = client.provider.is_none();
        Self {
            provider: client.provider,
            tenant: client.tenant,
            authority: client.authority,
            token_url: Some(client.token_url).filter(|_| is_any),
            auth_url: client.auth_url.filter(|_| is_any),
            device_url: client.device_url.filter(|_| is_any),
            scope: client.scope,
            redirect: client.redirect,
            client_id: Some(client.client_id),
            client_secret,
            client_certificate: certificate.as_ref().map(|certificate| certificate.chain.clone()),
            client_key: certificate.map(|certificate| certificate.key),
            grant: Some(client.grant),
            refresh_token: client.refresh_token,
            token_command: None,
        }
    }
}

fn show(written: &Written) -> String {
    inline(OAUTH2_KEYS, written)
}

/// The password that a target's user logs in with.
pub(super) const BY_PASSWORD: Form<Credential> = Form {
    kind: PASSWORD.kind,
    read: |node, places| (PASSWORD.read)(node, places).map(Credential::Password),
    show: |credential| match credential {
        Credential::Password(password) => (PASSWORD.show)(password),
        Credential::OAuth2(_) | Credential::Nothing => String::new(),
    },
};

/// The tokens in its place.
pub(super) const BY_TOKENS: Form<Credential> = Form::new(
    |node, places| read(node, places).map(Credential::OAuth2),
    |credential| credential.oauth2().map_or_else(String::new, OAUTH2.show),
);

/// Says what is wrong with mechanisms that take what is not there: tokens without `oauth2`, a password beside it.
pub(super) fn suits(auth: &Auth, oauth2: Option<&OAuth2>) -> Result<(), &'static str> {
    let Auth::List(list) = auth else { return Ok(()) };
    let takes_token = |mechanism: &Mechanism| mechanism.exposes() == Exposes::Token;
    match oauth2 {
        None if list.iter().any(takes_token) => Err("has oauthbearer or xoauth2 in it, which need `oauth2`"),
        Some(_)
            if !list.iter().all(|mechanism| takes_token(mechanism) || *mechanism == Mechanism::External) =>
        {
            Err("has in it what wants a password; with `oauth2` there are oauthbearer, xoauth2 and external")
        }
        Some(_) | None => Ok(()),
    }
}

/// Reads a text of visible ASCII characters, which goes into URLs and forms.
fn visible(node: &Node<'_>, what: &str, between: Option<char>) -> Result<String, Complaint> {
    let text = node.text(what)?;
    let mut words = text.split(|c| Some(c) == between);
    if words.all(|word| !word.is_empty() && word.bytes().all(|octet| octet.is_ascii_graphic())) {
        return Ok(text.to_owned());
    }
    Err(node.wrong(format!("must be {what}, of visible ASCII characters")))
}

fn word(node: &Node<'_>, what: &str, besides: &[u8]) -> Result<String, Complaint> {
    let text = visible(node, what, None)?;
    if text.bytes().all(|octet| octet.is_ascii_alphanumeric() || besides.contains(&octet)) {
        return Ok(text);
    }
    Err(node.wrong(format!("must be {what}")))
}
