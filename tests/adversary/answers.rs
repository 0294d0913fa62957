//! What the server answers.

use std::collections::{BTreeSet, HashMap};

use super::mail::Mail;
use super::scenario::{At, Deletes, Event, Flaw, Sizes, Top, Uids, Writes};
use super::server::{Next, Server};

impl Server {
    /// Answers a command.
    pub(super) fn answer(&mut self, line: &str) -> Next {
        let (word, argument) = line.split_once(' ').unwrap_or((line, ""));
        let word = word.to_ascii_uppercase();
        let number = argument.split(' ').next().and_then(|number| number.parse::<usize>().ok()).unwrap_or(0);
        if matches!(word.as_str(), "LIST" | "UIDL" | "TOP" | "RETR" | "DELE" | "QUIT") {
            self.commands += 1;
            let commands = self.commands;
            if self.takes(|event| *event == Event::Break(commands)).is_some() {
                return Next::Drop(Vec::new());
            }
        }
        match word.as_str() {
            "CAPA" => Next::Answer(self.capabilities()),
            "USER" | "PASS" | "NOOP" | "UTF8" => ok(),
            "STAT" => {
                let octets: usize = self.view.iter().map(|mail| self.size(mail)).sum();
                Next::Answer(format!("+OK {} {octets}\r\n", self.view.len()).into_bytes())
            }
            "LIST" if self.is_killed(At::Listing) => Next::Killed(Vec::new()),
            "LIST" => Next::Answer(self.list()),
            "UIDL" if self.scenario.uids != Uids::Missing => Next::Answer(self.uidl()),
            "TOP" if self.scenario.top != Top::Missing => self.top(number),
            "RETR" => self.retr(number),
            "DELE" => self.dele(number),
            "QUIT" => self.quit(),
            _ => {
                self.tell(|| "S: -ERR unknown command".into());
                refuse("unknown command")
            }
        }
    }

    fn capabilities(&self) -> Vec<u8> {
        let mut lines = vec!["USER"];
        if self.scenario.uids != Uids::Missing {
            lines.push("UIDL");
        }
        if self.scenario.top != Top::Missing {
            lines.push("TOP");
        }
        if self.scenario.pipelining {
            lines.push("PIPELINING");
        }
        format!("+OK\r\n{}\r\n.\r\n", lines.join("\r\n")).into_bytes()
    }

    fn size(&self, mail: &Mail) -> usize {
        let octets = mail.octets().len();
        match self.scenario.sizes {
            Sizes::Estimate if !mail.was_fetched => octets - 7,
            Sizes::Exact | Sizes::Estimate => octets + mail.miscounted,
        }
    }

    fn list(&mut self) -> Vec<u8> {
        self.count_groups();
        let view: BTreeSet<usize> = self.view.iter().map(|mail| mail.id).collect();
        for mail in &self.messages {
            self.judge.shows(mail.id, view.contains(&mail.id));
        }
        let lines: String = (self.view.iter().enumerate())
            .map(|(index, mail)| format!("{} {}\r\n", index + 1, self.size(mail)))
            .collect();
        let ids: Vec<_> = self.view.iter().map(|mail| mail.id).collect();
        self.tell(|| format!("S: LIST {} (messages {ids:?})", lines.replace("\r\n", ", ")));
        format!("+OK\r\n{lines}.\r\n").into_bytes()
    }

    /// Counts the groups of messages that only their place tells apart, as far as earlier listings have shown them.
    fn count_groups(&mut self) {
        let uids: BTreeSet<&String> = self.view.iter().map(|mail| &mail.uid).collect();
        let shared = uids.into_iter().filter(|uid| self.shared.contains(*uid)).count();
        self.groups = match self.scenario.uids {
            _ if self.view.is_empty() => 0,
            Uids::Numbers | Uids::Random | Uids::Missing | Uids::Empty | Uids::Plain => 1,
            Uids::Holes => 1 + shared,
            Uids::Honest | Uids::Small | Uids::Header | Uids::Received => shared,
        };
    }

    fn uidl(&mut self) -> Vec<u8> {
        let empty = self.once.contains(&Event::EmptyUidl) || self.scenario.uids == Uids::Empty;
        let hole = self.once.iter().find_map(|event| match event {
            Event::Holes(which) => Some(which % 2),
            _ => None,
        });
        let mut shown = Vec::new();
        for (index, mail) in self.view.iter().enumerate() {
            let left_out = hole == Some(index % 2) || self.scenario.uids == Uids::Holes && mail.id % 2 == 1;
            if empty || left_out {
                continue;
            }
            let uid = match self.scenario.uids {
                Uids::Numbers => (index + 1).to_string(),
                Uids::Random => format!("x{}.{index}", self.sessions),
                _ => mail.uid.clone(),
            };
            shown.push((index, uid));
        }
        self.note_shown(&shown);
        let lines: String = shown.iter().map(|(index, uid)| format!("{} {uid}\r\n", index + 1)).collect();
        self.tell(|| format!("S: UIDL {}", lines.replace("\r\n", ", ")));
        format!("+OK\r\n{lines}.\r\n").into_bytes()
    }

    /// Notes which message a unique-id and a size were shown for last: an exchange of two messages that nobody can see
    /// is one of another message under the same, of which ours was not the deletion.
    fn note_shown(&mut self, shown: &[(usize, String)]) {
        let mut count: HashMap<&str, usize> = HashMap::new();
        for (_, uid) in shown {
            *count.entry(uid).or_default() += 1;
        }
        self.shared.extend(count.iter().filter(|(_, count)| **count > 1).map(|(uid, _)| (*uid).to_owned()));
        let mut now = HashMap::new();
        for (index, uid) in shown {
            let mail = &self.view[*index];
            let key = (uid.clone(), self.size(mail));
            if let Some((before, _)) = self.shown.get(&key).filter(|(before, _)| *before != mail.id) {
                self.judge.is_swapped(mail.id, *before);
            }
            now.insert(key, (mail.id, self.sessions));
            now.insert((uid.clone(), mail.octets().len()), (mail.id, self.sessions));
        }
        self.shown.extend(now);
    }

    fn top(&mut self, number: usize) -> Next {
        let count = self.in_session.tops;
        self.in_session.tops += 1;
        self.cost.tops += 1;
        if self.is_killed(At::Top(count)) {
            return Next::Killed(Vec::new());
        }
        match number.checked_sub(1).and_then(|index| self.view.get(index)) {
            Some(mail) => Next::Answer(body(&[&mail.top(self.scenario.top)[..], b"\r\n"].concat())),
            None => refuse("no such message"),
        }
    }

    fn retr(&mut self, number: usize) -> Next {
        let count = self.in_session.retrs;
        self.in_session.retrs += 1;
        self.cost.retrs += 1;
        if self.is_killed(At::Retr(count)) {
            return Next::Killed(Vec::new());
        }
        let Some(mail) = number.checked_sub(1).and_then(|index| self.view.get(index).cloned()) else {
            return refuse("no such message");
        };
        if self.marked.contains(&mail.id) {
            return refuse("it is deleted");
        }
        let vanishes =
            |event: &Event| matches!(event, Event::Vanish(which) if which % self.view.len() + 1 == number);
        if self.once.iter().any(vanishes) {
            self.messages.retain(|other| other.id != mail.id);
            return refuse("it is gone");
        }
        let whole = body(&mail.octets());
        if self.is_killed(At::Amid(count)) {
            return Next::Killed(whole[..whole.len() / 2].to_vec());
        }
        if let Some(next) = self.flawed(&mail, &whole) {
            return next;
        }
        self.fetched(mail.id);
        Next::Answer(whole)
    }

    /// Answers RETR as the flaw of a message has it.
    fn flawed(&mut self, mail: &Mail, whole: &[u8]) -> Option<Next> {
        let times = match mail.flaw {
            Flaw::Sound | Flaw::DeleBreaks => return None,
            Flaw::BreaksBefore(times)
            | Flaw::BreaksIn(times)
            | Flaw::BreaksAfter(times)
            | Flaw::Refused(times)
            | Flaw::Garbled(times)
            | Flaw::Coded(times)
            | Flaw::Zero(times)
            | Flaw::Unanswered(times)
            | Flaw::Swallows(times)
            | Flaw::Doubled(times)
            | Flaw::Short(times) => times,
        };
        if times > 0 && mail.flawed >= times {
            return None;
        }
        self.messages
            .iter_mut()
            .chain(&mut self.view)
            .filter(|other| other.id == mail.id)
            .for_each(|mail| mail.flawed += 1);
        self.tell(|| format!("(message {}: {:?})", mail.id, mail.flaw));
        Some(match mail.flaw {
            Flaw::BreaksBefore(_) => Next::Drop(Vec::new()),
            Flaw::BreaksIn(_) => Next::Drop(whole[..whole.len() / 2].to_vec()),
            Flaw::BreaksAfter(_) => {
                self.fetched(mail.id);
                Next::Drop(whole.to_vec())
            }
            Flaw::Coded(_) => Next::Answer(b"-ERR [SYS/PERM] it cannot be read\r\n".to_vec()),
            Flaw::Garbled(_) => Next::Answer([whole, b"* that was it\r\n"].concat()),
            Flaw::Unanswered(_) | Flaw::Swallows(_) => {
                self.is_behind = true;
                let is_sent = matches!(mail.flaw, Flaw::Swallows(_));
                Next::Answer(if is_sent { whole[..whole.len() - 1].to_vec() } else { Vec::new() })
            }
            Flaw::Doubled(_) => {
                self.fetched(mail.id);
                self.judge.comes_twice(mail.id);
                Next::Answer([whole, whole].concat())
            }
            Flaw::Zero(_) | Flaw::Short(_) => {
                self.judge.comes_short(mail.id);
                Next::Answer(body(&mail.short()))
            }
            Flaw::Refused(_) | Flaw::Sound | Flaw::DeleBreaks => refuse("it cannot be read"),
        })
    }

    fn fetched(&mut self, id: usize) {
        let writes = self.scenario.writes;
        for mail in self.messages.iter_mut().chain(&mut self.removed).filter(|mail| mail.id == id) {
            mail.was_fetched = true;
            if writes != Writes::Nothing {
                mail.writes = writes;
            }
        }
    }

    fn dele(&mut self, number: usize) -> Next {
        let count = self.in_session.deles;
        self.in_session.deles += 1;
        self.cost.deles += 1;
        let Some(mail) = number.checked_sub(1).and_then(|index| self.view.get(index).cloned()) else {
            return refuse("no such message");
        };
        let marked: Vec<usize> = self.marked.iter().copied().collect();
        self.judge.dele(&mail, &marked);
        if mail.flaw == Flaw::DeleBreaks {
            return Next::Drop(Vec::new());
        }
        if self.scenario.deletes == Deletes::Refused {
            return refuse("read-only");
        }
        self.marked.insert(mail.id);
        if self.is_killed(At::Dele(count)) {
            return Next::Killed(Vec::new());
        }
        ok()
    }

    fn quit(&mut self) -> Next {
        if self.is_killed(At::Quit) {
            return Next::Killed(Vec::new());
        }
        if let Some(Event::LoseQuit { obeyed }) = self.takes(|event| matches!(event, Event::LoseQuit { .. }))
        {
            if obeyed {
                self.update();
            }
            self.marked.clear();
            return Next::Drop(Vec::new());
        }
        match self.scenario.deletes {
            Deletes::LosesQuit => {
                self.marked.clear();
                return Next::Drop(Vec::new());
            }
            Deletes::AnswersNoQuit => {
                self.update();
                return Next::Drop(Vec::new());
            }
            Deletes::Honest | Deletes::Ignored | Deletes::Refused | Deletes::WithoutQuit => {}
        }
        self.update();
        if self.is_killed(At::Obeyed) {
            return Next::Killed(Vec::new());
        }
        Next::End(b"+OK bye\r\n".to_vec())
    }

    /// Enters UPDATE state.
    pub(super) fn update(&mut self) {
        let marked = std::mem::take(&mut self.marked);
        let forgets =
            self.scenario.deletes == Deletes::Ignored || self.once.contains(&Event::ForgetDeletions);
        if !marked.is_empty() {
            self.tell(|| format!("UPDATE: {marked:?} {}", if forgets { "forgotten" } else { "deleted" }));
        }
        for id in &marked {
            self.judge.deleted(*id);
        }
        if forgets {
            // Under another name it is back.
            if self.judge.names_change() {
                marked.iter().for_each(|id| self.judge.comes_back(*id));
            }
            return;
        }
        let (gone, left) =
            std::mem::take(&mut self.messages).into_iter().partition(|mail| marked.contains(&mail.id));
        self.messages = left;
        self.removed.extend::<Vec<_>>(gone);
    }
}

fn ok() -> Next {
    Next::Answer(b"+OK\r\n".to_vec())
}

fn refuse(why: &str) -> Next {
    Next::Answer(format!("-ERR {why}\r\n").into_bytes())
}

/// Gives a body as it goes over the wire.
fn body(octets: &[u8]) -> Vec<u8> {
    let mut wire = b"+OK\r\n".to_vec();
    for line in octets.split_inclusive(|octet| *octet == b'\n') {
        if line.starts_with(b".") {
            wire.push(b'.');
        }
        wire.extend(line);
    }
    if !octets.is_empty() && !octets.ends_with(b"\r\n") {
        wire.extend(b"\r\n");
    }
    wire.extend(b".\r\n");
    wire
}
