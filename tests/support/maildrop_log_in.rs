//! How a session of the maildrop is logged in to.

use std::io;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::super::{Lock, TokenCheck, What};
use super::{Session, gone};

impl Session<'_> {
    pub(super) fn authenticate(&mut self, argument: &str) -> io::Result<()> {
        let (mechanism, initial) = argument.split_once(' ').unwrap_or((argument, ""));
        if mechanism.eq_ignore_ascii_case("LOGIN") {
            let mut said = Vec::new();
            for asks in ["Username:", "Password:"] {
                self.reply(&format!("+ {}", STANDARD.encode(asks)));
                self.send()?;
                let line = self.wire()?.read_line()?.ok_or_else(gone)?;
                said.push(String::from_utf8_lossy(&STANDARD.decode(line).unwrap_or_default()).into_owned());
            }
            self.log_in(&said[0], &said[1]);
            return Ok(());
        }
        if let Some(tokens) = self.shared.settings.tokens.clone() {
            return self.by_token(&tokens, &mechanism.to_ascii_uppercase(), initial);
        }
        if !mechanism.eq_ignore_ascii_case("PLAIN") {
            self.reply("-ERR unknown mechanism");
            return Ok(());
        }
        let response = self.response(initial)?;
        let Ok(response) = STANDARD.decode(&response) else {
            self.reply("-ERR that is not base64");
            return Ok(());
        };
        // RFC 4616, 2: authorization identity, NUL, authentication identity, NUL, password.
        let mut parts = response.split(|&octet| octet == 0).map(String::from_utf8_lossy);
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(_), Some(user), Some(password), None) => self.log_in(&user, &password),
            _ => self.reply("-ERR malformed response"),
        }
        Ok(())
    }

    /// Gives what the client says first, along with AUTH or to an empty challenge.
    fn response(&mut self, initial: &str) -> io::Result<Vec<u8>> {
        if !initial.is_empty() {
            return Ok(initial.as_bytes().to_vec());
        }
        self.reply("+ ");
        self.send()?;
        self.wire()?.read_line()?.ok_or_else(gone)
    }

    /// RFC 7628 and its forerunner: a refusal tells its reason in a challenge first.
    fn by_token(&mut self, tokens: &TokenCheck, mechanism: &str, initial: &str) -> io::Result<()> {
        // RFC 2449, 4.
        if "AUTH  \r\n".len() + mechanism.len() + initial.len() > 255 {
            self.reply("-ERR command is too long");
            return Ok(());
        }
        let response = self.response(initial)?;
        let message = STANDARD.decode(&response).unwrap_or_default();
        let message = String::from_utf8_lossy(&message).into_owned();
        let (begin, end, acknowledgement) = match mechanism {
            "OAUTHBEARER" => ("n,a=", ",\x01auth=Bearer ", "AQ=="),
            "XOAUTH2" => ("user=", "\x01auth=Bearer ", ""),
            _ => {
                self.reply("-ERR unknown mechanism");
                return Ok(());
            }
        };
        let message = message.strip_prefix(begin).and_then(|rest| rest.strip_suffix("\x01\x01"));
        let Some((user, token)) = message.and_then(|message| message.split_once(end)) else {
            self.reply("-ERR malformed response");
            return Ok(());
        };
        if tokens.0(user, token) {
            self.open();
            return Ok(());
        }
        let reason = "{\"status\":\"invalid_token\",\"scope\":\"pop\"}";
        self.reply(&format!("+ {}", STANDARD.encode(reason)));
        self.send()?;
        let line = self.wire()?.read_line()?.ok_or_else(gone)?;
        let words =
            if line == acknowledgement.as_bytes() { "authentication failed" } else { "not acknowledged" };
        self.reply(&format!("-ERR [AUTH] {words}"));
        Ok(())
    }

    pub(super) fn log_in(&mut self, user: &str, password: &str) {
        let settings = &self.shared.settings;
        if user != settings.user || password != settings.password {
            return self.reply("-ERR [AUTH] authentication failed");
        }
        self.open();
    }

    fn open(&mut self) {
        let settings = &self.shared.settings;
        let mut state = self.shared.lock();
        if settings.lock == Lock::Exclusive && state.holder.is_some() {
            drop(state);
            return self.reply("-ERR [IN-USE] the maildrop is locked");
        }
        state.holder = Some(self.number);
        self.view = state.messages.iter().map(|message| (Arc::clone(message), false)).collect();
        drop(state);
        self.open = true;
        self.shared.tell(self.number, What::LoggedIn);
        self.reply("+OK maildrop ready");
    }
}
