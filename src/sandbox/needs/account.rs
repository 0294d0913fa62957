//! What accounts, and a database that has the state, name: files and commands.

use crate::config::account::{Hooks, Password, Tls};
use crate::config::oauth2::{Credential, OAuth2};
use crate::config::{Account, Postgres, Target};

use super::{Access, Needs};

impl Needs {
    pub(super) fn account(&mut self, account: &Account) {
        let name = &account.name;
        if account.connect.is_some() {
            self.commands.push(format!("`connect` of {name}"));
        }
        let Hooks { before, after, on_new, on_error, on_recover } = &account.hooks;
        if [before, after, on_new, on_error, on_recover].into_iter().any(Option::is_some) {
            self.commands.push(format!("a hook of {name}"));
        }
        if let Some(password) = &account.password {
            self.password(password, || format!("`password` of {name}"));
        }
        if let Some(oauth2) = &account.oauth2 {
            self.oauth2(oauth2, name);
        }
        self.tls(&account.tls, name);
        account.targets().for_each(|target| self.target(target, name));
    }

    pub(super) fn database(&mut self, database: &Postgres) {
        self.tls(&database.tls, "`state`");
        // To connect to its socket takes no right, as with that of a target.
        if let Some(secret) = &database.password {
            self.password(secret, || "`password` of `state`".to_owned());
        }
        for key in &database.secrets_keys {
            self.password(key, || "`secrets_key` of `state`".to_owned());
        }
    }

    fn target(&mut self, target: &Target, name: &str) {
        match target {
            Target::Maildir(path) => {
                let resolved = self.write(path, &format!("the maildir of {name}"));
                // Whose names are made durable, too.
                if let Some(above) = resolved.parent() {
                    self.rule(above.to_owned(), Access::List);
                }
            }
            Target::Mbox(path) => self.write_beside(path, &format!("the mbox of {name}")),
            Target::Pipe(_) => self.commands.push(format!("`deliver` of {name}")),
            // To connect to a socket takes no right; see `landlock`.
            Target::Smtp(_) | Target::Lmtp(_) | Target::Imap(_) | Target::Gmail(_) | Target::Http(_) => {}
        }
        if let Some(route) = target.route() {
            self.tls(&route.tls, name);
        }
        if let Some((_, login)) = target.login() {
            self.credential(&login.credential, &format!("`deliver` of {name}"));
        }
        for (secret, what) in target.secrets() {
            self.password(secret, || format!("{what} of {name}"));
        }
    }

    fn credential(&mut self, credential: &Credential, whose: &str) {
        match credential {
            Credential::Password(password) => self.password(password, || format!("the password of {whose}")),
            Credential::OAuth2(oauth2) => self.oauth2(oauth2, whose),
            Credential::Nothing => {}
        }
    }

    fn oauth2(&mut self, oauth2: &OAuth2, whose: &str) {
        if let OAuth2::Command(_) = oauth2 {
            self.commands.push(format!("`token_command` of {whose}"));
        }
        for (secret, what) in oauth2.secrets() {
            self.password(secret, || format!("{what} of {whose}"));
        }
        for (path, what) in oauth2.files() {
            self.read(path, format!("{what} of {whose}"));
        }
    }

    fn password(&mut self, password: &Password, what: impl Fn() -> String) {
        match password {
            Password::Command(_) => self.commands.push(what()),
            Password::File(path) | Password::Netrc(path) => self.read(path, what()),
            // The directory of credentials is allowed anyway.
            Password::Credential(_) | Password::Literal(_) | Password::Env(_) => {}
        }
    }

    fn tls(&mut self, tls: &Tls, name: &str) {
        let client = tls.client.iter().flat_map(|client| [&client.chain, &client.key]);
        tls.ca
            .iter()
            .chain(client)
            .for_each(|path| self.read(path, format!("a certificate or key of {name}")));
    }
}
