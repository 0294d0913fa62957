//! Labels by their names: looked up when the target is opened, and made if they are missing.

use serde::Deserialize;

use super::judge::{self, Verdict};
use super::{Asked, Shared, pace, request};
use crate::delivery::TargetError;
use crate::delivery::http::way::Again;
use crate::failure::Class;
use crate::lock::lock;
use crate::net::http::Reply;
use crate::secret::Secret;

/// The answer to `labels.list`.
#[derive(Debug, Default, Deserialize)]
struct Listed {
    #[serde(default)]
    labels: Vec<Label>,
}

#[derive(Debug, Deserialize)]
struct Label {
    id: String,
    name: String,
}

impl Shared {
    /// Finds the ids of the labels, and makes those that are missing.
    pub(super) async fn find_labels(&self) -> Result<(), TargetError> {
        let reply = self.ask_for(None).await?;
        let Ok(listed) = serde_json::from_slice::<Listed>(&reply.body) else {
            let hint = Some("check `url` of the target".to_owned());
            return Err(self.line.error("server lists no labels".to_owned(), None, hint, Class::Target));
        };
        let mut ids = Vec::new();
        for name in &self.target.labels {
            ids.push(match id_of(&listed.labels, name) {
                Some(id) => id,
                None => self.make_label(name).await?,
            });
        }
        *lock(&self.labels) = ids;
        Ok(())
    }

    async fn make_label(&self, name: &str) -> Result<String, TargetError> {
        let reply = self.ask_for(Some(name)).await?;
        log::info!("{}: target: made the label {name}", self.line.access.account);
        judge::id(&reply).ok_or_else(|| {
            let what = format!("server answers without the id of the label {name} that it made");
            self.line.error(what, None, None, Class::Target)
        })
    }

    /// Lists the labels, or makes one.
    async fn ask_for(&self, made: Option<&str>) -> Result<Reply, TargetError> {
        let units = if made.is_some() { pace::NEW_LABEL } else { pace::LABELS };
        let make = |token: &Secret| request::labels(&self.target, made, token);
        let what = match made {
            Some(name) => format!("Gmail does not make the label {name}"),
            None => "Gmail does not show the labels".to_owned(),
        };
        match self.ask(make, Again::Known, units).await? {
            Asked::Reply(reply, Verdict::Done) => Ok(reply),
            Asked::Reply(reply, Verdict::Label) => {
                let hint =
                    "Gmail keeps some names for itself, in the user's language too: write another label";
                Err(self.target_failed(&what, &reply, hint.to_owned()))
            }
            Asked::Reply(reply, _) => Err(self.target_failed(&what, &reply, String::new())),
            Asked::InDoubt(why) | Asked::Not(why) => {
                Err(self.line.error(format!("{what}: {why}"), None, None, Class::Target))
            }
            Asked::Stopped => {
                Err(self.line.error(format!("{what}: asked to end"), None, None, Class::Target))
            }
        }
    }
}

/// Finds a label; Gmail's own go by their ids too, and case is none of theirs.
fn id_of(labels: &[Label], name: &str) -> Option<String> {
    let exact = labels.iter().find(|label| label.name == name || label.id == name);
    let alike = || labels.iter().find(|label| label.name.eq_ignore_ascii_case(name));
    exact.or_else(alike).map(|label| label.id.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_goes_by_its_name_and_gmails_own_by_their_ids_too() {
        let label = |id: &str, name: &str| Label { id: id.into(), name: name.into() };
        let labels = [
            label("INBOX", "INBOX"),
            label("CATEGORY_SOCIAL", "CATEGORY_SOCIAL"),
            label("Label_1", "Work"),
            label("Label_2", "work/pop"),
        ];
        for (name, id) in [
            ("INBOX", Some("INBOX")),
            ("Inbox", Some("INBOX")),
            ("Work", Some("Label_1")),
            ("WORK/POP", Some("Label_2")),
            ("Label_1", Some("Label_1")),
            ("Other", None),
        ] {
            assert_eq!(id_of(&labels, name).as_deref(), id, "{name}");
        }
    }
}
