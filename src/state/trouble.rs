//! What may be wrong with a database.

/// What is wrong with the database, or with what was asked of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// No server is reached there.
    Unreachable,
    /// The server was there, and is not any more; what was asked may have been done.
    Lost,
    /// It does not answer.
    Silent,
    /// It does not let this user in.
    LogIn,
    /// There is no database of this name.
    NoDatabase,
    /// This user may not do that there.
    Forbidden,
    /// There is no schema that tables could be made in.
    NoSchema,
    /// There are no tables of ours.
    NoTables,
    /// What has the name of one of our tables is not ours.
    Foreign,
    /// There is no table or view of accounts of this name.
    NoAccounts,
    /// The table or view of accounts lacks a column.
    NoColumn,
    /// A newer version made the tables.
    Newer,
    /// A copy of a state was begun in it, and not ended.
    HalfCopied,
    /// It is a standby, or set to be read only.
    ReadOnly,
    /// What is sealed in it does not open.
    Secrets,
    /// It has no room.
    Full,
    /// It serves as many as it can, or starts, or stops.
    Busy,
    /// Others' transactions came between, each time; nothing was done.
    Contended,
    /// The lease on the maildrop is another's by now; nothing was written.
    LeaseLost,
    /// A value that is there makes no sense where it stands.
    Value,
    /// It refuses a statement for a reason that has no case of its own.
    Statement,
}

impl Trouble {
    /// Gives what the user can do about it, if that is known.
    pub(super) fn hint(self) -> Option<&'static str> {
        Some(match self {
            Self::Unreachable => "see whether it runs, and whether `url` names its host and port",
            Self::Lost => "nothing is lost: what was not recorded is asked about by the next poll",
            Self::Silent => "see what load it has, and whether something blocks it (pg_stat_activity)",
            Self::LogIn => {
                "check `url` and `password` under `state: postgres:`, and the server's pg_hba.conf"
            }
            Self::NoDatabase => "make it (createdb), owned by the user in `url`",
            Self::Forbidden => {
                "the user in `url` must own the tables, or may make them in its schema (search_path)"
            }
            Self::NoSchema => {
                "make the schema that the search_path names (CREATE SCHEMA), or name another: `?options=-csearch_path%3DNAME` \
                 at the end of `url`"
            }
            Self::Foreign => {
                "what has that name is not postrider's: make a schema for postrider alone (CREATE SCHEMA) and name it at the \
                 end of `url`, `?options=-csearch_path%3DNAME`, or make a database for it"
            }
            Self::NoTables => {
                "check that `url` names the right database; `postrider sync` makes the tables in an empty one"
            }
            Self::NoAccounts => {
                "check `accounts` under `fleet:`: a table or view of that name must be there, with its schema written if it is not \
                 in the search_path"
            }
            Self::NoColumn => {
                "the table or view that `accounts` under `fleet:` names must have id, tenant, name, maildrop, config, secret, \
                 secret_key, enabled and revision; what there is nothing for may be NULL"
            }
            Self::Newer => "use that version here, too",
            Self::HalfCopied => {
                "do again what `postrider state copy` was told to do: it goes on; or make the database anew"
            }
            Self::ReadOnly => "name the primary in `url` (several hosts are tried in turn)",
            Self::Full => {
                "make room there; what was deleted on mail servers had been recorded, and nothing is lost"
            }
            Self::Secrets => {
                "have all keys in `secrets_key` that anything was sealed with; `postrider login` makes new tokens"
            }
            Self::Busy => "the next poll tries again; raise max_connections if that lasts",
            Self::Contended | Self::LeaseLost | Self::Value | Self::Statement => return None,
        })
    }
}
