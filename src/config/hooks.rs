//! What is run and told around polls: `hooks`, and `notify` at the top of the file.

use super::Notify;
use super::account::Hooks;
use super::tree::{Complaint, Node};
use super::values::{self, unknown, within};

const HOOKS: [&str; 5] = ["before", "after", "on_new", "on_error", "on_recover"];
const NOTIFY: [&str; 3] = ["after", "remind", "deliver"];

/// Failures in a row that `after` may ask for: years of an hourly poll.
const MOST_FAILURES: usize = 100_000;

/// Reads `hooks`.
pub(super) fn hooks(node: &Node<'_>) -> Result<Hooks, Complaint> {
    let mut hooks = Hooks::default();
    for entry in node.mapping("a mapping such as { on_error: COMMAND }")? {
        let slot = match &*entry.key {
            "before" => &mut hooks.before,
            "after" => &mut hooks.after,
            "on_new" => &mut hooks.on_new,
            "on_error" => &mut hooks.on_error,
            "on_recover" => &mut hooks.on_recover,
            _ => return Err(unknown(entry, &HOOKS)),
        };
        *slot = Some(values::command(&entry.value).map_err(|complaint| within(entry, complaint))?);
    }
    Ok(hooks)
}

/// Reads `notify`.
pub(super) fn notify(node: &Node<'_>) -> Result<Notify, Complaint> {
    let mut notify = Notify::default();
    for entry in node.mapping("a mapping such as { after: 3, remind: 1d }")? {
        match &*entry.key {
            "after" => values::count(&entry.value, MOST_FAILURES).map(|count| notify.after = count),
            "remind" => values::positive(&entry.value).map(|remind| notify.remind = remind),
            "deliver" => values::boolean(&entry.value).map(|deliver| notify.deliver = deliver),
            _ => return Err(unknown(entry, &NOTIFY)),
        }
        .map_err(|complaint| within(entry, complaint))?;
    }
    Ok(notify)
}
