//! The account that is being made, and the lines that it becomes.

use std::path::{Path, PathBuf};

use crate::autoconfig::Server;
use crate::config::account::{FirstSync, TlsMode};
use crate::config::providers::Provider;
use crate::config::yaml::text;
use crate::secret::Secret;

/// An account before it is one.
pub(super) struct Draft {
    pub(super) name: String,
    pub(super) server: Server,
    pub(super) log_in: LogInBy,
    /// The targets, as YAML.
    pub(super) deliver: String,
    pub(super) first_sync: FirstSync,
}

/// What it logs in with.
pub(super) enum LogInBy {
    Password(Source),
    Tokens { provider: &'static Provider, client_id: Option<String>, client_secret: Option<Source> },
}

/// Where a secret is, or comes from.
pub(super) enum Source {
    /// It was typed, and goes into a file.
    Typed(Secret),
    /// It is to be put into a file.
    Missing,
    File(PathBuf),
    Command(String),
}

/// How much of it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keys {
    /// What the defaults do not say.
    Needed,
    /// What `defaults` of the file might say otherwise, too.
    All,
}

impl Draft {
    /// Writes it at the left margin; `stored` is the file of what was typed or is missing.
    pub(super) fn yaml(&self, stored: &Path, keys: Keys) -> String {
        let Server { host, port, mode, user, .. } = &self.server;
        let mut lines = vec![format!("host: {}", text(host))];
        if *port != mode.default_port() || keys == Keys::All {
            lines.push(format!("port: {port}"));
        }
        match mode {
            TlsMode::StartTls => lines.push("tls: starttls".into()),
            TlsMode::Implicit | TlsMode::None if keys == Keys::All => lines.push("tls: implicit".into()),
            TlsMode::Implicit | TlsMode::None => {}
        }
        lines.push(format!("user: {}", text(user)));
        match &self.log_in {
            LogInBy::Password(source) => lines.push(format!("password: {}", source.yaml(stored))),
            LogInBy::Tokens { provider, client_id, client_secret } => {
                let mut entries = vec![format!("provider: {}", provider.name)];
                entries.extend(client_id.as_ref().map(|id| format!("client_id: {}", text(id))));
                let secret = client_secret.as_ref().map(|source| source.yaml(stored));
                entries.extend(secret.map(|source| format!("client_secret: {source}")));
                lines.push(format!("oauth2: {{ {} }}", entries.join(", ")));
            }
        }
        if self.first_sync != FirstSync::All || keys == Keys::All {
            lines.push(format!("first_sync: {}", self.first_sync));
        }
        lines.push(format!("deliver: {}", self.deliver));
        let lines: String = lines.iter().map(|line| format!("  {line}\n")).collect();
        format!("{}:\n{lines}", text(&self.name))
    }

    /// Gives what was typed and must be stored.
    pub(super) fn typed(&self) -> Option<&Secret> {
        let source = match &self.log_in {
            LogInBy::Password(source) => source,
            LogInBy::Tokens { client_secret, .. } => client_secret.as_ref()?,
        };
        match source {
            Source::Typed(secret) => Some(secret),
            Source::Missing | Source::File(_) | Source::Command(_) => None,
        }
    }
}

impl Source {
    fn yaml(&self, stored: &Path) -> String {
        match self {
            Self::Typed(_) | Self::Missing => format!("{{ file: {} }}", text(&stored.to_string_lossy())),
            Self::File(path) => format!("{{ file: {} }}", text(&path.to_string_lossy())),
            Self::Command(command) => format!("{{ command: {} }}", text(command)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::config::providers::PROVIDERS;

    fn draft(log_in: LogInBy) -> Draft {
        let server = Server {
            host: "pop.example.org".into(),
            port: 110,
            mode: TlsMode::StartTls,
            user: "alice@example.org".into(),
            password: true,
            oauth2: None,
            note: None,
        };
        Draft {
            name: "example".into(),
            server,
            log_in,
            deliver: "{ maildir: /m }".into(),
            first_sync: FirstSync::Within(std::time::Duration::from_secs(14 * 86400)),
        }
    }

    #[test]
    fn what_is_written_is_read_as_the_same_account() {
        let sources = [
            Source::Typed(Secret::new(*b"hunter2")),
            Source::File("/it's here".into()),
            Source::Command("pass show 'x: y'".into()),
        ];
        let mut log_ins: Vec<_> = sources.into_iter().map(LogInBy::Password).collect();
        let (client_id, client_secret) = (Some("id".into()), Some(Source::Missing));
        log_ins.push(LogInBy::Tokens { provider: &PROVIDERS[0], client_id, client_secret });
        for log_in in log_ins {
            let draft = draft(log_in);
            for keys in [Keys::Needed, Keys::All] {
                let yaml = draft.yaml(Path::new("/secrets/example"), keys);
                assert!(!yaml.contains("hunter2"), "{yaml}");
                let whole = crate::config::with_account("state: /s\n", &yaml).unwrap();
                let config = Config::from_yaml(&whole, Path::new("f"));
                let config = config.unwrap_or_else(|error| panic!("{error}\n{yaml}"));
                let account = &config.accounts[0];
                assert_eq!(
                    (account.server().as_str(), account.tls.mode),
                    ("pop.example.org:110", TlsMode::StartTls)
                );
                assert_eq!(
                    (account.user.as_str(), account.first_sync),
                    ("alice@example.org", draft.first_sync)
                );
                assert!(account.password.is_some() != account.oauth2.is_some());
            }
        }
    }
}
