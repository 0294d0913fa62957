//! Looks at the table of accounts again and again, so that a change is in force soon.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::state::postgres::{Roll, Rows};
use crate::state::{StateError, Trouble};

/// A change is seen so soon, and in force within ten seconds.
const LOOK: Duration = Duration::from_secs(4);

/// The table, as it is read; dropped = nobody looks any more.
#[derive(Debug)]
pub struct Table {
    read: mpsc::UnboundedReceiver<Rows>,
    looking: JoinHandle<()>,
}

impl Table {
    pub fn new(roll: Roll) -> Self {
        let (tell, read) = mpsc::unbounded_channel();
        Self { read, looking: tokio::spawn(look(roll, tell)) }
    }

    /// Waits until its accounts have changed, and gives them. Nothing is lost if it is dropped.
    pub async fn changed(&mut self) -> Rows {
        match self.read.recv().await {
            Some(accounts) => accounts,
            None => std::future::pending().await,
        }
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        self.looking.abort();
    }
}

async fn look(mut roll: Roll, tell: mpsc::UnboundedSender<Rows>) {
    let mut told = None;
    loop {
        match roll.look().await {
            Ok(changed) => {
                if told.take().is_some() {
                    log::warn!("the table of accounts can be read again");
                }
                if changed.is_some_and(|accounts| tell.send(accounts).is_err()) {
                    return;
                }
            }
            Err(error) => {
                let words = error.to_string();
                if is_of_table(&error) && told.as_ref() != Some(&words) {
                    let hint = error.hint().map_or_else(String::new, |hint| format!("\n  hint: {hint}"));
                    log::error!(
                        "cannot read the table of accounts: {words}; they are polled as they were read last{hint}"
                    );
                    told = Some(words);
                }
            }
        }
        sleep(LOOK).await;
    }
}

/// Says whether it is the table's trouble alone; of the rest the worker tells.
fn is_of_table(error: &StateError) -> bool {
    let is_of_table = |trouble: &Trouble| {
        matches!(
            trouble,
            Trouble::NoTables
                | Trouble::NoAccounts
                | Trouble::NoColumn
                | Trouble::Forbidden
                | Trouble::Value
                | Trouble::Statement
        )
    };
    matches!(error, StateError::Database { trouble, .. } if is_of_table(trouble))
}
