//! Tokens of logins in a real PostgreSQL.

use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use super::server::Postgres;
use crate::seal::Ring;
use crate::secret::Secret;
use crate::state::postgres::{Database, Vault};
use crate::state::tokens::Shelf;
use crate::state::{StateError, Trouble};

const SOON: Duration = Duration::from_secs(20);

fn trouble(error: &StateError) -> Trouble {
    match error {
        StateError::Database { trouble, .. } => *trouble,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn tokens_of_a_login_are_sealed_and_one_worker_at_a_time_changes_them() {
    let (_directory, path) = super::directory();
    let name = super::name_of(&path);
    let key = |octet: &str| Secret::new(octet.repeat(42) + "A=");
    let shelf = |keys: &[Secret]| {
        let ring = Ring::new(keys).unwrap();
        Shelf::In(Vault::new(Database::new(super::server(&path)), Arc::new(ring)))
    };
    let (one, other) = (shelf(&[key("A")]), shelf(&[key("A")]));
    let octets = |text: &str| Zeroizing::new(text.as_bytes().to_vec());
    assert_eq!(one.read("alice", SOON).await.unwrap(), None);
    let turn = one.turn("alice", SOON).await.unwrap().unwrap();
    assert!(other.turn("alice", Duration::ZERO).await.unwrap().is_none());
    assert!(other.turn("bob", Duration::ZERO).await.unwrap().is_some());
    turn.room().await.unwrap().write(octets("hunter2")).await.unwrap();
    drop(turn);
    // It is given back at once, and was not waited for until it ended.
    let turn = other.turn("alice", SOON).await.unwrap().unwrap();
    assert_eq!(other.read("alice", SOON).await.unwrap(), Some(octets("hunter2")));
    let kept = Postgres::shared().execute(name, "SELECT login, encode(sealed, 'escape') FROM token_store");
    assert!(!kept.contains("hunter2") && !kept.contains("alice"), "{kept}");
    // Whoever was stopped in the middle of a turn is too late.
    Postgres::shared().execute(name, "UPDATE token_store SET turn_until = now() - interval '1 s'");
    let next = one.turn("alice", Duration::ZERO).await.unwrap().unwrap();
    let late = turn.room().await.unwrap().write(octets("late")).await.unwrap_err();
    assert_eq!(trouble(&late), Trouble::LeaseLost);
    next.room().await.unwrap().write(octets("next")).await.unwrap();
    assert_eq!(one.read("alice", SOON).await.unwrap(), Some(octets("next")));
    let without = shelf(&[key("B")]).read("alice", SOON).await.unwrap_err();
    assert_eq!(trouble(&without), Trouble::Secrets);
    assert!(without.to_string().contains("is not in `secrets_key`"), "{without}");
    let both = shelf(&[key("B"), key("A")]).read("alice", SOON).await.unwrap();
    assert_eq!(both, Some(octets("next")));
}
