//! A message on its way to the server.

use std::io;

use super::dialogue::{Broken, Dialogue};
use crate::delivery::reading::Parts;
use crate::delivery::spool::{Content, Spooled};

/// Sends a message, whose lines all end with CRLF, but for its last part, which is queued with its end. One that cannot be
/// read whole is not ended. So many recipients were accepted.
pub(super) async fn send(
    dialogue: &mut Dialogue,
    message: &Spooled,
    recipients: usize,
) -> Result<(), Broken> {
    match &message.content {
        Content::Memory(octets) => dialogue.last_part(octets.as_ref(), recipients).await,
        Content::File(file) => {
            let mut parts = Parts::of(file, message.octets).map_err(unreadable)?;
            let mut part = parts.next().await.map_err(unreadable)?;
            while parts.are_left() {
                dialogue.part(&part).await?;
                part = parts.next().await.map_err(unreadable)?;
            }
            dialogue.last_part(&part, recipients).await
        }
    }
}

fn unreadable(error: io::Error) -> Broken {
    Broken::new(format!("cannot read the message from the spool: {error}"))
}
