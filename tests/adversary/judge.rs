//! What must never be. All that is excused is in `excuses`.

mod excuses;

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::imap_server::ImapServer;
use super::mail::{Mail, without_written};
use super::scenario::{DAY, Event, Flaw, Keep, Scenario, Top, Uids};

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub kind: Wrong,
    pub words: String,
}

/// What is wrong, for counting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Wrong {
    DeletedUndelivered,
    DeletedEarly,
    Repeated,
    NotFetched,
    Unknown,
    TooEarly,
    MarkedFetched,
    /// What a worker has recorded that had lost its lease.
    RecordedLate,
    NoRest,
    NotDeleted,
    NotHeld,
    Failed,
    Leftover,
    Panicked,
    Endless,
}

/// What is known of a message that ever came.
#[derive(Debug)]
struct Fact {
    mail: Mail,
    content: Vec<u8>,
    /// Times that it was shown again after a session that did not show it.
    comebacks: usize,
    is_absent: bool,
    /// Unique-id and size were last shown for another message, which we had not deleted.
    is_swapped: bool,
    /// Times that its own were given to another so.
    ousted: usize,
    /// The same of one that our deletions had not removed: after three of them it is asked about once a day.
    is_behind_a_rest: bool,
    /// A DELE of ours was answered +OK, and its session reached UPDATE state.
    was_deleted: bool,
    /// Whether `seen mark` or `first_sync` has taken it as fetched.
    mark: Mark,
    /// This poll has shown it.
    is_shown: bool,
    /// Polls that showed it, with nothing wrong in them, since it came.
    clean_polls: usize,
    /// When a listing showed it last, by the clock.
    listed_at: i64,
    /// It was missing for so long that its record is forgotten.
    is_forgotten: bool,
    /// Times that it came back after that.
    forgotten: usize,
    /// When it was first seen in the maildir: by the clock, and in seconds that really passed.
    delivered_at: Option<(i64, i64)>,
    /// When a poll first saw it to be due, in seconds that really passed.
    due_since: Option<i64>,
    /// When less of it came than there is, and how often.
    short_since: Option<i64>,
    shorts: usize,
    /// How often it came twice in answer to one RETR.
    doubled: usize,
}

/// Whether a message was taken as fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    Not,
    /// The session ended before it was sure.
    Maybe,
    Yes,
}

/// Watches server and maildir.
#[derive(Debug)]
pub struct Judge {
    scenario: Scenario,
    folder: PathBuf,
    /// The server of the mailbox that messages are delivered into; what it has is written into the folder.
    mailbox: Option<ImapServer>,
    written: HashSet<u32>,
    facts: Vec<Fact>,
    /// What each file holds, by its name less the flags.
    files: HashMap<String, Vec<u8>>,
    /// What a reader has filed elsewhere.
    filed: HashMap<Vec<u8>, usize>,
    /// The same at the moment when the state was lost: nothing is left by which it could be known.
    forgotten: HashMap<Vec<u8>, usize>,
    /// What had been delivered when the state was lost.
    at_loss: HashMap<Vec<u8>, usize>,
    now: i64,
    /// Seconds that really passed.
    passed: i64,
    pub found: Vec<Finding>,
}

impl Judge {
    pub fn new(scenario: &Scenario, folder: &Path, mailbox: Option<ImapServer>) -> Self {
        Self {
            scenario: scenario.clone(),
            folder: folder.to_owned(),
            mailbox,
            written: HashSet::new(),
            facts: Vec::new(),
            files: HashMap::new(),
            filed: HashMap::new(),
            forgotten: HashMap::new(),
            at_loss: HashMap::new(),
            now: 0,
            passed: 0,
            found: Vec::new(),
        }
    }

    pub fn comes(&mut self, mail: &Mail) {
        self.facts.push(Fact {
            content: mail.content(),
            mail: mail.clone(),
            comebacks: 0,
            is_absent: false,
            is_swapped: false,
            ousted: 0,
            is_behind_a_rest: false,
            was_deleted: false,
            mark: Mark::Not,
            is_shown: false,
            clean_polls: 0,
            listed_at: self.now,
            is_forgotten: false,
            forgotten: 0,
            delivered_at: None,
            due_since: None,
            short_since: None,
            shorts: 0,
            doubled: 0,
        });
    }

    pub fn comes_back(&mut self, id: usize) {
        self.facts[id].comebacks += 1;
    }

    /// A session shows it, or not.
    pub fn shows(&mut self, id: usize, is_shown: bool) {
        let fact = &mut self.facts[id];
        fact.comebacks += usize::from(is_shown && fact.is_absent);
        fact.is_absent = !is_shown;
        if is_shown {
            fact.is_shown = true;
            fact.listed_at = self.now;
            fact.forgotten += usize::from(std::mem::take(&mut fact.is_forgotten));
        }
    }

    /// A poll begins, so much time after the one before.
    pub fn begins(&mut self, now: i64, passed: i64) {
        (self.now, self.passed) = (now, self.passed + passed);
        self.facts.iter_mut().for_each(|fact| fact.is_shown = false);
    }

    /// The listing of this poll counts as fetched.
    pub fn marks(&mut self, is_sure: bool) {
        for id in 0..self.facts.len() {
            // What was fetched before is not taken for fetched because of that.
            let is_sure = is_sure && !self.has(id);
            let fact = &mut self.facts[id];
            if fact.is_shown && fact.mark != Mark::Yes {
                fact.mark = if is_sure { Mark::Yes } else { Mark::Maybe };
            }
        }
    }

    pub fn is_swapped(&mut self, id: usize, before: usize) {
        if !self.facts[before].was_deleted {
            self.facts[id].is_swapped = true;
            self.facts[before].ousted += 1;
        } else if self.deletions_lie() {
            self.facts[id].is_behind_a_rest = true;
        }
    }

    pub fn comes_short(&mut self, id: usize) {
        let now = self.now;
        let fact = &mut self.facts[id];
        fact.short_since.get_or_insert(now);
        fact.shorts += 1;
    }

    pub fn comes_twice(&mut self, id: usize) {
        self.facts[id].doubled += 1;
    }

    /// A DELE of ours comes, in a session that has marked these before.
    pub fn dele(&mut self, mail: &Mail, marked: &[usize]) {
        self.look();
        self.judge_policy(mail.id);
        let content = &self.facts[mail.id].content;
        let equal =
            marked.iter().filter(|id| **id != mail.id && self.facts[**id].content == *content).count();
        if self.delivered(content) > equal || self.excuse_for_deleting(mail.id) {
            return;
        }
        let words =
            format!("DELE of message {}, which is {} times in the maildir", mail.id, self.delivered(content));
        self.find(Wrong::DeletedUndelivered, words);
    }

    /// Judges whether `keep` has a DELE now. Of messages of one header and size nobody knows which is which.
    fn judge_policy(&mut self, id: usize) {
        let (header, size) = (&self.facts[id].mail.header, self.facts[id].content.len());
        let equal =
            self.facts.iter().filter(|fact| fact.mail.header == *header && fact.content.len() == size);
        let mut equal = equal.filter(|fact| fact.delivered_at.is_some()).peekable();
        if equal.peek().is_some() && equal.all(|fact| self.is_early(fact)) {
            self.find(Wrong::DeletedEarly, format!("DELE of message {id}, which `keep` has stay for now"));
        }
    }

    fn is_early(&self, fact: &Fact) -> bool {
        let since = |then: i64| self.passed - then;
        let delivered = fact.delivered_at.map_or(0, |(_, delivered)| since(delivered));
        match self.scenario.keep {
            Keep::Nothing => false,
            Keep::Forever => true,
            // A clock that was wrong shortens it to a day at worst. One that jumps between two polls, too, is believed.
            Keep::TwoWeeks if self.clock_jumps() > 1 => false,
            Keep::TwoWeeks if self.clock_jumps() == 1 => delivered < DAY,
            Keep::TwoWeeks => delivered < 14 * DAY || fact.due_since.is_none_or(|due| since(due) < DAY),
        }
    }

    /// A DELE of ours has reached UPDATE state.
    pub fn deleted(&mut self, id: usize) {
        self.facts[id].was_deleted = true;
    }

    /// A reader moves everything out of the maildir.
    pub fn files_all(&mut self) {
        self.look();
        for content in std::mem::take(&mut self.files).into_values() {
            *self.filed.entry(content).or_default() += 1;
        }
        for path in self.paths() {
            fs::remove_file(path).expect("a file that is moved away");
        }
        if let Some(mailbox) = &self.mailbox {
            mailbox.remove("INBOX");
        }
        // Where no poll had a reason to look at it in between, it is known by nothing.
        for (content, count) in &self.at_loss {
            let filed = self.filed.get(content).copied().unwrap_or(0).min(*count);
            let forgotten = self.forgotten.entry(content.clone()).or_default();
            *forgotten = filed.max(*forgotten);
        }
    }

    /// A reader opens everything.
    pub fn reads_all(&mut self) {
        for path in self.paths() {
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            if path.parent().is_some_and(|folder| folder.ends_with("new")) {
                fs::rename(&path, self.folder.join("cur").join(format!("{name}:2,S")))
                    .expect("a file that is read");
            }
        }
    }

    /// The state is lost, or an old one comes back.
    pub fn loses_state(&mut self, is_old: bool) {
        self.forgets();
        self.forgotten.clone_from(&self.filed);
        // An old state knows files that are newer by the times in their names, which an earlier clock has written.
        if is_old && self.scenario.has(|event| matches!(event, Event::Clock(..0))) {
            self.forgotten.clone_from(&self.at_loss);
        }
        for fact in &mut self.facts {
            fact.mark = if is_old && fact.mark != Mark::Not { Mark::Maybe } else { Mark::Not };
        }
    }

    /// What was delivered until now may have no record: the state was lost, or the program was killed.
    pub fn forgets(&mut self) {
        self.look();
        self.at_loss.clone_from(&self.filed);
        for content in self.files.values() {
            *self.at_loss.entry(content.clone()).or_default() += 1;
        }
    }

    /// Judges what is in the maildir after a poll.
    pub fn poll_is_over(&mut self, is_clean: bool) {
        self.look();
        self.pass_time(is_clean);
        let contents: Vec<Vec<u8>> = {
            let mut contents: Vec<Vec<u8>> = self.facts.iter().map(|fact| fact.content.clone()).collect();
            contents.sort();
            contents.dedup();
            contents
        };
        for content in contents {
            let ids = self.ids(&content);
            let there = self.delivered(&content);
            if there > ids.len() + self.excuse_for_repeating(&content) {
                let words = format!("{there} times in the maildir: message {}", words(&ids));
                self.find(Wrong::Repeated, words);
            }
            let only_marked = ids.iter().all(|id| self.facts[*id].mark == Mark::Yes);
            if there > 0 && only_marked && !ids.iter().any(|id| self.excuse_for_fetching_marked(*id)) {
                self.find(
                    Wrong::MarkedFetched,
                    format!("fetched, though it was only marked: message {}", words(&ids)),
                );
            }
        }
    }

    /// Notes what a poll, and the time since the one before, have made of the messages; one that stood through a poll
    /// in which nothing went wrong is delivered.
    fn pass_time(&mut self, is_clean: bool) {
        let needed = match self.scenario.uids {
            // Messages that UIDL leaves out go by place after the third time.
            Uids::Holes | Uids::Empty => 3,
            _ => 1,
        };
        let mut left = Vec::new();
        for id in 0..self.facts.len() {
            let has = self.has(id);
            let (now, passed) = (self.now, self.passed);
            let fact = &mut self.facts[id];
            let age = if fact.was_deleted { 30 * DAY } else { 90 * DAY };
            fact.is_forgotten |= !fact.is_shown && now - fact.listed_at > age;
            if has {
                let (at, _) = *fact.delivered_at.get_or_insert((now, passed));
                if now - at >= 14 * DAY {
                    fact.due_since.get_or_insert(passed);
                }
            }
            fact.clean_polls = if is_clean { fact.clean_polls + usize::from(fact.is_shown) } else { 0 };
            let stood =
                is_clean && fact.is_shown && fact.clean_polls >= needed && fact.mail.flaw == Flaw::Sound;
            if stood && !has {
                left.push(id);
            }
        }
        // Until it rests no more.
        left.retain(|id| !self.excuse_for_leaving(*id) && !self.facts[*id].is_behind_a_rest);
        if !left.is_empty() {
            self.find(
                Wrong::NotFetched,
                format!("stood through a poll and not fetched: message {}", words(&left)),
            );
        }
    }

    /// Judges what is on the server when all has come to rest.
    pub fn is_at_rest(&mut self, messages: &[Mail], fetched: usize) {
        // What broke comes behind the deletions that have their turn.
        let have_turns = self.are_taking_turns(messages.len(), fetched);
        for mail in messages.iter().filter(|mail| mail.flaw == Flaw::Sound || !have_turns) {
            let fact = &self.facts[mail.id];
            if self.delivered(&fact.content) == 0
                && !fact.mail.flaw.lasts()
                && !self.excuse_for_leaving(mail.id)
            {
                self.find(Wrong::NotFetched, format!("on the server and never fetched: message {}", mail.id));
            }
        }
    }

    /// Says whether a message was delivered, whole.
    pub fn has(&self, id: usize) -> bool {
        self.delivered(&self.facts[id].content) > 0
    }

    /// Says whether two messages are the same octets, or as large where nothing else tells messages apart.
    pub fn are_alike(&self, one: usize, other: usize) -> bool {
        let (one, other) = (&self.facts[one].content, &self.facts[other].content);
        let go_by_size = self.scenario.uids.are_by_place() && self.scenario.top != Top::Works;
        one == other || go_by_size && one.len() == other.len()
    }

    /// Counts what was ever delivered.
    pub fn total(&self) -> usize {
        self.files.len() + self.filed.values().sum::<usize>()
    }

    /// Says whether a message, or one of the same octets or certain identity, was only marked.
    pub fn is_marked(&self, id: usize) -> bool {
        let is_marked = |fact: &Fact| fact.mark != Mark::Not;
        self.ids(&self.facts[id].content).into_iter().any(|id| is_marked(&self.facts[id]))
            || self.twins(id).any(is_marked)
    }

    pub fn find(&mut self, kind: Wrong, words: String) {
        self.found.push(Finding { kind, words });
    }

    fn ids(&self, content: &[u8]) -> Vec<usize> {
        (0..self.facts.len()).filter(|id| self.facts[*id].content == content).collect()
    }

    /// Counts how often it was ever delivered.
    fn delivered(&self, content: &[u8]) -> usize {
        let there = self.files.values().filter(|file| *file == content).count();
        there + self.filed.get(content).copied().unwrap_or(0)
    }

    /// Takes note of new files.
    fn look(&mut self) {
        for (number, octets) in self.mailbox.iter().flat_map(ImapServer::ever) {
            if self.written.insert(number) {
                let text = octets.iter().copied().filter(|octet| *octet != b'\r').collect::<Vec<_>>();
                fs::write(self.folder.join(format!("new/{number}")), text).expect("a file that is written");
            }
        }
        let mut there = HashMap::new();
        for path in self.paths() {
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            let name = name.split(':').next().unwrap_or(&name).to_owned();
            let content = match self.files.remove(&name) {
                Some(content) => content,
                None => {
                    let content = without_written(&fs::read(&path).expect("a message"));
                    self.appears(&content);
                    content
                }
            };
            there.insert(name, content);
        }
        self.files = there;
    }

    fn appears(&mut self, content: &[u8]) {
        if self.facts.iter().any(|fact| fact.content == content) {
            return;
        }
        let short = |fact: &&Fact| fact.mail.flaw.is_short() && fact.mail.short() == content;
        let shorts: Vec<(usize, usize, i64)> = (self.facts.iter().filter(short))
            .map(|fact| (fact.mail.id, fact.shorts, fact.short_since.unwrap_or(i64::MAX)))
            .collect();
        if shorts.is_empty() {
            let start = content[..content.len().min(300)].escape_ascii();
            self.find(
                Wrong::Unknown,
                format!("delivered, and no message: {} octets: {start}", content.len()),
            );
        } else if !shorts
            .iter()
            .any(|(_, count, since)| *count >= 3 && (self.now - since >= DAY || self.clock_jumps() > 0))
        {
            self.find(Wrong::TooEarly, format!("came short, and was delivered at once: message {shorts:?}"));
        }
    }

    fn clock_jumps(&self) -> usize {
        self.scenario.events.iter().filter(|(_, event)| matches!(event, Event::Clock(_))).count()
    }

    fn paths(&self) -> Vec<PathBuf> {
        let listed = |folder: &str| {
            let entries = fs::read_dir(self.folder.join(folder)).into_iter().flatten();
            entries.map(|entry| entry.expect("an entry").path()).collect::<Vec<_>>()
        };
        [listed("new"), listed("cur")].concat()
    }
}

fn words(ids: &[usize]) -> String {
    ids.iter().map(usize::to_string).collect::<Vec<_>>().join(" and ")
}
