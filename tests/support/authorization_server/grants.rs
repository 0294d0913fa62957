//! Which codes and tokens there are, and who gets them for what.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{Access, CLIENT, Code, Device, OUTLOOK_POP, Person, Refresh, Request, SCOPES, State, decode};

type Refused = (u16, &'static str, String);

fn refused<T>(error: &'static str, said: impl Into<String>) -> Result<T, Refused> {
    Err((if error == "invalid_client" { 401 } else { 400 }, error, said.into()))
}

impl State {
    pub(super) fn next(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    /// Makes a text that is nobody else's, as long as those of real servers.
    fn random(&mut self, kind: &str, length: usize) -> String {
        let number = self.next();
        let mut text = format!("{kind}-{number}-");
        let mut block = Sha256::digest(format!("{kind} {number} {}", std::process::id()));
        while text.len() < length {
            text += &URL_SAFE_NO_PAD.encode(block);
            block = Sha256::digest(block);
        }
        text.truncate(length);
        text
    }

    pub(super) fn refresh_token(&mut self, user: &str, scope: &str, family: u64) -> String {
        let token = self.random("refresh", 120);
        let refresh = Refresh { user: user.into(), scope: scope.into(), family, replaced: false };
        self.refresh.insert(token.clone(), refresh);
        token
    }

    fn tokens(&mut self, user: &str, scope: &str, family: u64) -> Value {
        let token = self.random("access", 900);
        let access = Access { user: user.into(), scope: scope.into(), family, revoked: false };
        self.access.insert(token.clone(), access);
        json!({ "access_token": token, "token_type": "Bearer", "expires_in": self.lifetime, "scope": scope })
    }

    /// RFC 6749, 4.1.1; RFC 7636, 4.3. What is wrong with the client or its redirect is told to the person alone.
    pub(super) fn authorize(&mut self, asked: &HashMap<String, String>) -> Result<String, &'static str> {
        let value = |name: &str| asked.get(name).cloned().unwrap_or_default();
        let redirect = value("redirect_uri");
        let is_loopback =
            ["http://127.0.0.1:", "http://localhost:"].iter().any(|begin| redirect.starts_with(begin));
        if value("client_id") != CLIENT {
            return Err("<p>unknown client");
        }
        if !is_loopback && redirect != "https://elsewhere.example/done" {
            return Err("<p>redirect_uri_mismatch");
        }
        let state = value("state");
        let back = |parameters: &[(&str, &str)]| {
            let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
            let pairs = parameters.iter().copied().chain([("state", state.as_str())]);
            let query: Vec<String> = pairs.map(|(name, value)| format!("{name}={}", encode(value))).collect();
            let slash = if redirect.matches('/').count() < 3 { "/" } else { "" };
            format!("{redirect}{slash}?{}", query.join("&"))
        };
        let error = |error: &str, said: &str| Ok(back(&[("error", error), ("error_description", said)]));
        if value("response_type") != "code" || value("code_challenge_method") != "S256" || state.is_empty() {
            return error("invalid_request", "response_type, code_challenge_method or state");
        }
        let scope = value("scope");
        if scope.split(' ').any(|scope| !SCOPES.contains(&scope)) {
            return error("invalid_scope", "there is no such scope");
        }
        let (user, scope) = match self.person.clone() {
            Person::Allows(user) => (user, scope),
            Person::AllowsAllBut(user, not) => {
                (user, scope.split(' ').filter(|scope| *scope != not).collect::<Vec<_>>().join(" "))
            }
            Person::Declines | Person::Waits => return error("access_denied", "The user declined."),
        };
        // As Google is asked for a refresh token.
        let scope = if value("access_type") == "offline" { scope + " offline_access" } else { scope };
        let (code, family) = (self.random("code", 90), self.next());
        let challenge = value("code_challenge");
        let location = back(&[("code", &code)]);
        self.codes.insert(code, Code { redirect, challenge, user, scope, family, used: false });
        Ok(location)
    }

    fn client(&self, request: &Request) -> Result<(), Refused> {
        let form = &request.form;
        let basic = request.authorization.strip_prefix("Basic ").and_then(|encoded| {
            let text = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
            let (id, secret) = text.split_once(':')?;
            Some((decode(id), decode(secret)))
        });
        let (id, secret) = match basic {
            Some((id, secret)) => (Some(id), Some(secret)),
            None => (form.get("client_id").cloned(), form.get("client_secret").cloned()),
        };
        if id.as_deref() != Some(CLIENT) {
            return refused("invalid_client", "The client was not found.");
        }
        if let Some(certificate) = &self.certificate {
            let assertion = form.get("client_assertion").map(String::as_str).unwrap_or_default();
            return match signed_by(certificate, assertion, &request.own_url) {
                Ok(()) => Ok(()),
                Err(why) => refused("invalid_client", why),
            };
        }
        if secret != self.secret {
            // A server that tells more than it should.
            let echo = secret.unwrap_or_default();
            return refused(
                "invalid_client",
                format!("AADSTS7000215: Invalid client secret {echo} provided."),
            );
        }
        Ok(())
    }

    pub(super) fn token(&mut self, request: &Request) -> Result<Value, Refused> {
        self.client(request)?;
        let value = |name: &str| request.form.get(name).cloned().unwrap_or_default();
        match value("grant_type").as_str() {
            "authorization_code" => {
                self.by_code(&value("code"), &value("redirect_uri"), &value("code_verifier"))
            }
            "refresh_token" => self.by_refreshing(&value("refresh_token"), &value("scope")),
            "urn:ietf:params:oauth:grant-type:device_code" => self.by_device(&value("device_code")),
            "client_credentials" if self.secret.is_some() || self.certificate.is_some() => {
                let family = self.next();
                if value("scope").ends_with("/.default") {
                    // Microsoft's answer does not name scopes.
                    let mut tokens = self.tokens("alice", OUTLOOK_POP, family);
                    tokens.as_object_mut().expect("an object").remove("scope");
                    return Ok(tokens);
                }
                Ok(self.tokens("alice", "pop imap smtp", family))
            }
            _ => refused("unsupported_grant_type", ""),
        }
    }

    fn by_code(&mut self, code: &str, redirect: &str, verifier: &str) -> Result<Value, Refused> {
        let Some(known) = self.codes.get_mut(code) else {
            return refused("invalid_grant", "There is no such code.");
        };
        if known.used {
            // RFC 6749, 4.1.2: what was had by it is in strangers' hands.
            let family = known.family;
            self.revoked.insert(family);
            return refused("invalid_grant", "The code was used before.");
        }
        known.used = true;
        if known.redirect != redirect {
            return refused("invalid_grant", "The redirect is another one.");
        }
        if verifier.len() < 43 || URL_SAFE_NO_PAD.encode(Sha256::digest(verifier)) != known.challenge {
            return refused("invalid_grant", "The verifier is wrong.");
        }
        let (user, scope, family) = (known.user.clone(), known.scope.clone(), known.family);
        Ok(self.with_refresh(&user, &scope, family))
    }

    fn with_refresh(&mut self, user: &str, scope: &str, family: u64) -> Value {
        let mut tokens = self.tokens(user, scope, family);
        if scope.split(' ').any(|scope| scope == "offline_access") {
            tokens["refresh_token"] = self.refresh_token(user, scope, family).into();
        }
        tokens
    }

    fn by_refreshing(&mut self, token: &str, scope: &str) -> Result<Value, Refused> {
        let Some(known) = self.refresh.get_mut(token) else {
            return refused(
                "invalid_grant",
                format!("AADSTS9002313: Invalid request, {token} is malformed."),
            );
        };
        let (user, granted, family) = (known.user.clone(), known.scope.clone(), known.family);
        if known.replaced {
            // Somebody else has it: nobody's is good any more.
            self.revoked.insert(family);
        } else if scope
            .split(' ')
            .any(|wanted| !wanted.is_empty() && !granted.split(' ').any(|given| given == wanted))
        {
            return refused("invalid_scope", "That was not granted.");
        }
        if self.revoked.contains(&family) {
            return refused("invalid_grant", "Token has been expired or revoked.");
        }
        if !self.rotates {
            return Ok(self.tokens(&user, &granted, family));
        }
        if let Some(known) = self.refresh.get_mut(token) {
            known.replaced = true;
        }
        Ok(self.with_refresh(&user, &granted, family))
    }

    pub(super) fn device(&mut self, request: &Request) -> Result<Value, Refused> {
        self.client(request)?;
        let code = self.random("device", 80);
        let scope = request.form.get("scope").cloned().unwrap_or_default();
        let (interval, seconds) = (Duration::from_secs(1), 3);
        let until = Instant::now() + Duration::from_secs(seconds);
        self.devices.insert(code.clone(), Device { scope, until, interval, polled: None });
        Ok(json!({
            "device_code": code,
            "user_code": "WDJB-MJHT",
            "verification_uri": "http://127.0.0.1/device",
            "expires_in": 30,
            "interval": 1,
        }))
    }

    fn by_device(&mut self, code: &str) -> Result<Value, Refused> {
        let now = Instant::now();
        let Some(device) = self.devices.get_mut(code) else { return refused("invalid_grant", "") };
        let is_hasty = device.polled.is_some_and(|polled| now < polled + device.interval);
        device.polled = Some(now);
        if is_hasty {
            device.interval += Duration::from_secs(5);
            return refused("slow_down", "");
        }
        let scope = device.scope.clone();
        match self.person.clone() {
            Person::Waits if now > device.until => refused("expired_token", "The code has expired."),
            Person::Waits => refused("authorization_pending", ""),
            Person::Declines => refused("access_denied", "The user declined."),
            Person::Allows(user) | Person::AllowsAllBut(user, _) => {
                self.devices.remove(code);
                let family = self.next();
                Ok(self.with_refresh(&user, &scope, family))
            }
        }
    }

    /// RFC 7662.
    pub(super) fn introspect(&self, request: &Request) -> Value {
        let of_header = request.authorization.strip_prefix("Bearer ").map(str::to_owned);
        let token = request.form.get("token").cloned().or(of_header).unwrap_or_default();
        match self.access.get(&token) {
            Some(access) if !access.revoked && !self.revoked.contains(&access.family) => {
                json!({ "active": true, "username": access.user, "scope": access.scope })
            }
            Some(_) | None => json!({ "active": false }),
        }
    }
}

/// Verifies a client's assertion (RFC 7523, 3).
fn signed_by(certificate: &str, assertion: &str, audience: &str) -> Result<(), String> {
    use tokio_rustls::rustls::pki_types::pem::PemObject as _;
    use tokio_rustls::rustls::pki_types::{CertificateDer, alg_id};
    let wrong = |what: &str| format!("AADSTS700027: {what}");
    let parts: Vec<&str> = assertion.split('.').collect();
    let [header, payload, signature] = parts.as_slice() else { return Err(wrong("no assertion")) };
    let json =
        |part: &str| -> Option<Value> { serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok() };
    let (head, claims) = (json(header).ok_or(wrong("header"))?, json(payload).ok_or(wrong("claims"))?);
    let der = CertificateDer::from_pem_slice(certificate.as_bytes()).map_err(|_| wrong("certificate"))?;
    let by = match head["alg"].as_str() {
        Some("RS256") => alg_id::RSA_PKCS1_SHA256,
        Some("PS256") => alg_id::RSA_PSS_SHA256,
        _ => return Err(wrong("another algorithm")),
    };
    if head["x5t#S256"] != URL_SAFE_NO_PAD.encode(Sha256::digest(&der)) {
        return Err(wrong("another certificate"));
    }
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
    let is_now = claims["nbf"].as_u64() <= Some(now + 5) && claims["exp"].as_u64() > Some(now);
    if claims["aud"] != audience || claims["iss"] != CLIENT || claims["sub"] != CLIENT || !is_now {
        return Err(wrong("claims"));
    }
    let (_, parsed) = x509_parser::parse_x509_certificate(&der).map_err(|_| wrong("certificate"))?;
    let key = &parsed.public_key().subject_public_key.data;
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| wrong("signature"))?;
    let signed = format!("{header}.{payload}");
    let algorithms = tokio_rustls::rustls::crypto::ring::default_provider().signature_verification_algorithms;
    let fits = algorithms
        .all
        .iter()
        .filter(|algorithm| algorithm.signature_alg_id() == by)
        .any(|algorithm| algorithm.verify_signature(key, signed.as_bytes(), &signature).is_ok());
    if fits { Ok(()) } else { Err(wrong("signature")) }
}
