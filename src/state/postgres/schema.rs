//! The tables in the database: those of the state file, and what workers share.

use crate::state::schema;

/// What the database has besides. The version says what the tables are like, and which programs may use them: those that
/// know at least `oldest`, so that old and new ones may run side by side while one takes the other's place.
///
/// A worker is a process: its identity is a random number above 0, and never used again. An account is a tenant's (a view of
/// that shape will do). The hot row of a maildrop has its schedule and its lease: `token` is 0 where it is free, else the
/// random number of the session, which every write names; `owner` is who polled it last, 0 nobody, and below 0 what the
/// constants of `state::fleet` say; `log_in_at` is when its server lets it be polled again, whoever asks. The index is of all
/// rows: one that left out those under a lease would be written by each claim.
const SHARED: &str = "
CREATE TABLE postrider (version BIGINT NOT NULL, oldest BIGINT NOT NULL);
CREATE TABLE worker (
    id BIGINT PRIMARY KEY,
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    beat TIMESTAMPTZ NOT NULL,
    draining BOOLEAN NOT NULL DEFAULT false,
    evicted BOOLEAN NOT NULL DEFAULT false,
    claims BIGINT NOT NULL DEFAULT 0
);
CREATE TABLE account (
    id BIGINT PRIMARY KEY,
    tenant TEXT NOT NULL,
    name TEXT NOT NULL,
    maildrop TEXT NOT NULL,
    host TEXT NOT NULL,
    config TEXT NOT NULL,
    secret BYTEA,
    secret_key TEXT,
    enabled BOOLEAN NOT NULL DEFAULT true,
    revision BIGINT NOT NULL DEFAULT 0,
    UNIQUE (tenant, name)
);
CREATE TABLE lease (
    maildrop BIGINT PRIMARY KEY,
    owner BIGINT NOT NULL DEFAULT 0,
    token BIGINT NOT NULL DEFAULT 0,
    due TIMESTAMPTZ NOT NULL DEFAULT now(),
    version BIGINT NOT NULL DEFAULT 0,
    host TEXT NOT NULL DEFAULT '',
    tenant TEXT NOT NULL DEFAULT '',
    mail_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    log_in_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    failures BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX lease_due ON lease (owner, due);
CREATE TABLE token_store (
    login TEXT PRIMARY KEY,
    sealed BYTEA,
    secret_key TEXT,
    turn BIGINT NOT NULL DEFAULT 0,
    turn_until TIMESTAMPTZ NOT NULL DEFAULT now()
);
";

/// What only PostgreSQL is told, and the others do without: room in each page for the next version of a row.
pub const TUNING: &str = "ALTER TABLE lease SET (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.05)";

/// The oldest version of which programs may use the tables that this one makes, or brings up to date. What a step takes away
/// or changes under their hands raises it: that is for the release after the one whose programs do without it.
pub const OLDEST: i64 = 12;

/// Gives the statements that make the tables, for whoever makes them by hand.
pub fn statements() -> String {
    let (version, tables) = (schema::VERSION, schema::tables_in_postgres());
    format!("{tables}{SHARED}INSERT INTO postrider (version, oldest) VALUES ({version}, {OLDEST});\n")
}
