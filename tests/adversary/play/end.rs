//! Judges what a story has come to when all is at rest.

use std::fs;
use std::path::Path;

use super::super::judge::Wrong;
use super::super::scenario::{Deletes, Flaw, Keep};
use super::super::server::Cost;
use super::Story;

impl Story<'_> {
    pub(super) fn judge_the_end(&mut self, mail: &Path) {
        let server = &mut self.server;
        if !server.judge.found.is_empty() {
            return;
        }
        let messages = std::mem::take(&mut server.messages);
        let Cost { tops, retrs, deles, .. } = self.last;
        server.judge.is_at_rest(&messages, retrs);
        let is_flawed = messages.iter().any(|mail| mail.flaw != Flaw::Sound);
        let is_nameless = messages.iter().any(|mail| server.judge.is_nameless(mail.id));
        // What is due only now is asked about now.
        let is_due = self.scenario.keep == Keep::TwoWeeks && deles > 0;
        let is_excused = server.judge.is_blind()
            || server.judge.is_flooded()
            || server.judge.are_taking_turns(messages.len(), retrs);
        if !is_flawed && !is_due && !is_excused && (retrs > 0 || tops > server.groups) {
            let words =
                format!("the last poll sent {retrs} RETR and {tops} TOP, for {} groups", server.groups);
            server.judge.find(Wrong::NoRest, words);
        }
        // Of messages that nothing tells apart, of which one is kept as it came, or breaks each session, nobody knows which.
        let is_kept =
            |id| messages.iter().any(|kept| kept.flaw != Flaw::Sound && server.judge.are_alike(kept.id, id));
        let left: Vec<usize> = messages
            .iter()
            .filter(|mail| {
                mail.flaw == Flaw::Sound
                    && server.judge.has(mail.id)
                    && !server.judge.is_marked(mail.id)
                    && !is_kept(mail.id)
            })
            .map(|mail| mail.id)
            .collect();
        let deletes = matches!(self.scenario.deletes, Deletes::Honest | Deletes::WithoutQuit);
        if self.scenario.keep == Keep::Nothing && deletes && !left.is_empty() {
            server.judge.find(Wrong::NotDeleted, format!("delivered, and left on the server: {left:?}"));
        }
        let lasting = messages
            .iter()
            .filter(|mail| mail.flaw.lasts() && !mail.flaw.is_short())
            // A line behind its end may keep a message away, or not.
            .filter(|mail| !server.judge.excuse_for_leaving(mail.id) && !server.judge.has(mail.id))
            .count();
        if let Some(report) = &self.report {
            if report.held < lasting {
                let words = format!("{lasting} messages cannot be had, and {} are held", report.held);
                server.judge.find(Wrong::NotHeld, words);
            }
            // What is due only now is not made real now.
            let loses_quit = matches!(self.scenario.deletes, Deletes::LosesQuit | Deletes::AnswersNoQuit);
            let is_unreal = loses_quit && deles > 0;
            if let (Some(failure), false) = (&report.failure, is_flawed || is_nameless || is_unreal) {
                server.judge.find(Wrong::Failed, format!("the last poll failed: {failure}"));
            }
        }
        let left = fs::read_dir(mail.join("tmp")).map_or(0, Iterator::count);
        if left > 0 {
            server.judge.find(Wrong::Leftover, format!("{left} files are left in tmp"));
        }
        server.messages = messages;
    }
}
