//! Why one account has had no mail lately: the one thing that a person should look at first.

use super::row::{Row, Standing};
use super::words::when;
use crate::session::summary::messages;
use crate::state::Timestamp;

/// A poll that is so late, in seconds, is late.
pub const LATE: Timestamp = 60;

impl Row {
    /// Says when mail came last, and why none has since; nothing of what was never polled and need not have been yet.
    pub fn why(&self, now: Timestamp, last_mail: Option<Timestamp>) -> Option<String> {
        let reason = self.reason(now)?;
        let last = match last_mail {
            Some(at) => format!("mail came last {}", when(now, at)),
            None => "no mail has ever come".to_owned(),
        };
        Some(format!("{last}: {reason}"))
    }

    fn reason(&self, now: Timestamp) -> Option<String> {
        let due = self.next_poll.filter(|due| now.saturating_sub(*due) >= LATE && self.polling != Some(true));
        if self.unusable.is_some() {
            return Some("no worker polls it that could use its row".to_owned());
        }
        Some(match self.standing() {
            Standing::NotConfigured => "nobody polls it, since it is not in the configuration".to_owned(),
            Standing::Disabled => "nobody polls it, since it is not enabled".to_owned(),
            Standing::Failing if self.target.is_some() => {
                "what the server has cannot be delivered while the target fails".to_owned()
            }
            Standing::Failing => "what waits on the server is not known while polls fail".to_owned(),
            Standing::Holding => format!("{} cannot be fetched or delivered", messages(self.held.len())),
            Standing::Unpolled | Standing::Fine => match (due, self.last_poll, self.left, self.listed) {
                (Some(due), ..) => format!("a poll was due {}, and nobody has begun it", when(now, due)),
                (None, None, ..) => return None,
                (None, Some(_), 1.., _) => {
                    let left = usize::try_from(self.left).unwrap_or(usize::MAX);
                    format!("{} left for the next polls", messages(left))
                }
                (None, Some(_), 0, Some(0)) => "the server has shown an empty maildrop".to_owned(),
                (None, Some(_), 0, _) => {
                    "the server has shown nothing that was not fetched before".to_owned()
                }
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::row::PollFailure;
    use super::*;

    const NOW: Timestamp = 1_800_000_000;

    fn fine() -> Row {
        let polled = Some(NOW - 180);
        Row {
            configured: true,
            enabled: true,
            last_poll: polled,
            last_success: polled,
            listed: Some(17),
            ..Row::default()
        }
    }

    #[test]
    fn the_first_thing_to_look_at_is_told() {
        let failed = |target: Option<&str>| Row {
            failure: Some(PollFailure { class: "network".into(), message: "x".into() }),
            target: target.map(str::to_owned),
            ..fine()
        };
        for (row, reason) in [
            (fine(), "the server has shown nothing that was not fetched before"),
            (Row { listed: Some(0), ..fine() }, "the server has shown an empty maildrop"),
            (Row { left: 3, ..fine() }, "3 messages left for the next polls"),
            (failed(None), "what waits on the server is not known while polls fail"),
            (failed(Some("lmtp")), "what the server has cannot be delivered while the target fails"),
            (Row { enabled: false, ..failed(None) }, "nobody polls it, since it is not enabled"),
            (Row { configured: false, ..fine() }, "nobody polls it, since it is not in the configuration"),
        ] {
            assert_eq!(row.why(NOW, None).unwrap(), format!("no mail has ever come: {reason}"));
        }
        let late = Row { next_poll: Some(NOW - 2400), polling: Some(false), ..fine() };
        assert!(late.why(NOW, Some(NOW - 18_000)).unwrap().starts_with("mail came last "));
        assert!(
            late.why(NOW, None).unwrap().ends_with("(40 minutes ago), and nobody has begun it"),
            "{}",
            late.why(NOW, None).unwrap()
        );
        assert_eq!(Row { last_poll: None, ..fine() }.why(NOW, None), None, "it says so itself");
        let unusable = Row { unusable: Some("its key is not here".into()), ..fine() };
        assert!(unusable.why(NOW, None).unwrap().ends_with("no worker polls it that could use its row"));
        let polling = Row { polling: Some(true), ..late };
        assert!(polling.why(NOW, None).unwrap().ends_with("nothing that was not fetched before"));
    }
}
