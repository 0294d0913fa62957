//! The key `state`, and the keys of a database in the place of a file.

use super::Config;
use super::account::Password;
use super::places::Places;
use super::postgres::Postgres;
use super::rows::{Form, Key, Kind, inline, key, mapping, only, unknown, within};
use super::server::with_tls;
use super::tree::{Complaint, Content, Entry, Node};
use super::values::{PASSWORD, PLACE, POSITIVE, each};
use super::yaml::{list, text};

/// What may stand under `state`: the path of a file, or a database.
pub(super) const STATE: Key<Config> = Key {
    name: "state",
    about: "The state file, or a database in its place.",
    kind: Kind::Inside,
    marks: &[],
    read: |entry, places, config| {
        match entry.value.content {
            Content::Mapping(_) => {
                let what = "a path, or a mapping such as { postgres: { url: ... } }";
                let postgres = only(&entry.value, what)?;
                if postgres.key != "postgres" {
                    return Err(unknown(postgres, DATABASES));
                }
                config.database =
                    Some(read(postgres, places).map_err(|complaint| within(postgres, complaint))?);
            }
            _ => config.state = (PLACE.read)(&entry.value, places)?,
        }
        Ok(())
    },
    show: |config| match &config.database {
        Some(database) => format!("{{ postgres: {} }}", inline(POSTGRES_KEYS, database)),
        None => (PLACE.show)(&config.state),
    },
};

const DATABASES: &[Key<()>] = &[Key {
    name: "postgres",
    about: "A PostgreSQL database.",
    kind: Kind::Inside,
    marks: &[],
    read: |_, _, ()| Ok(()),
    show: |()| String::new(),
}];

/// The keys of `postgres`. What its URL says is read before them.
pub(super) const POSTGRES_KEYS: &[Key<Postgres>] = with_tls!(
    tls,
    [
        Key {
            name: "url",
            about: "Where it is: postgresql://USER@HOST:PORT/DATABASE.",
            kind: Kind::Inside,
            marks: &[],
            read: |_, _, _| Ok(()),
            show: |postgres| text(&postgres.url),
        },
        key!("password", password, PASSWORD, "The password, or where it comes from."),
    ],
    [
        key!(
            "secrets_key",
            secrets_keys,
            SECRETS_KEYS,
            "The key that seals secrets, 32 octets in base64, or a list with older ones."
        ),
        key!("timeout", timeout, POSITIVE, "The longest wait for a connection, or for one answer."),
    ]
);

/// One key or a list; none is not written.
const SECRETS_KEYS: Form<Vec<Password>> = Form {
    kind: Kind::SealingKeys,
    read: |node, places| {
        let one = |node: &Node<'_>| (PASSWORD.read)(node, places);
        match &node.content {
            Content::List(items) => each(items, one),
            Content::Plain(_) | Content::Quoted(_) | Content::Mapping(_) => Ok(vec![one(node)?]),
        }
    },
    show: |keys| match keys.as_slice() {
        [] => String::new(),
        [one] => (PASSWORD.show)(one),
        several => list(several.iter().map(PASSWORD.show)),
    },
};

fn read(postgres: &Entry<'_>, places: &Places) -> Result<Postgres, Complaint> {
    let what = "a mapping such as { url: postgresql://postrider@db.example.org/postrider }";
    let entries = postgres.value.mapping(what)?;
    let Some(url) = entries.iter().find(|entry| entry.key == "url") else {
        return Err(postgres.value.wrong(format!("has no `url`: it must be {what}")));
    };
    let made = Postgres::new(url.value.text("a URL")?).map_err(|what| within(url, url.value.wrong(what)))?;
    mapping(&postgres.value, places, what, POSTGRES_KEYS, made)
}
