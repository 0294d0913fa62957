//! What is left to do by hand after an import, so that not both programs fetch the same mail.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use crate::cli::common::content;
use crate::import::Program;
use crate::text::shell_word;

/// Octets of a unit or crontab that are looked at.
const MOST_OCTETS: u64 = 64 * 1024;

/// Where units are that a person has made or enabled, below the home directory or of the machine.
const UNITS: [(&str, &str); 3] = [
    (".config/systemd/user", "systemctl --user disable --now"),
    // What runs is each user's.
    ("/etc/systemd/user", "sudo systemctl --global disable"),
    ("/etc/systemd/system", "sudo systemctl disable --now"),
];

/// The unit that polls every five minutes.
const TIMER: &str = "postrider-sync.timer";

/// The program that was, and how postrider is called in its place.
pub(super) struct Steps<'a> {
    pub(super) program: Program,
    pub(super) home: &'a Path,
    /// Seconds from poll to poll, if its file has it poll by itself.
    pub(super) interval: Option<u64>,
    /// `--config` and its file, if it is named.
    pub(super) option: String,
    /// What stands behind `import`.
    pub(super) import: String,
}

impl Steps<'_> {
    /// Gives a line a step; one that begins with blanks is to be typed, or to be put into a file.
    pub(super) fn lines(&self) -> Vec<String> {
        let Self { program, option, import, .. } = self;
        let mut lines = vec![format!("Stop {program}, so that not both of them fetch:")];
        lines.extend(self.starters().into_iter().map(|line| format!("  {line}")));
        lines.push("What starts postrider in its place, a line of the crontab or a timer:".to_owned());
        let here = env::current_exe().unwrap_or_else(|_| "postrider".into());
        let here = shell_word(&here.to_string_lossy()).into_owned();
        lines.push(format!("  {} {here}{option} sync", self.times()));
        if option.is_empty() && has_timer(self.home) {
            lines.push(format!("  systemctl --user enable --now {TIMER}"));
        }
        lines.push(format!(
            "Then, before the first sync, take over what {program} has fetched by now; else it comes again:"
        ));
        lines.push(format!("  postrider{option} import {import} --seen"));
        lines.push(format!("  postrider{option} sync"));
        lines
    }

    /// Gives what ends whatever starts the other program.
    fn starters(&self) -> Vec<String> {
        let program = self.program.to_string();
        let mut found = Vec::new();
        if self.interval.is_some() {
            found.push(format!("{program} --quit"));
        }
        for (directory, command) in UNITS {
            let units = units(&self.home.join(directory), &program);
            found.extend(units.into_iter().map(|unit| format!("{command} {unit}")));
        }
        let is_started = |line: &str| line.trim_start().starts_with("START_DAEMON=") && line.contains("yes");
        if text(&Path::new("/etc/default").join(&program)).lines().any(is_started) {
            found.push(format!("sudo systemctl disable --now {program}"));
        }
        for table in tables() {
            let text = text(&table);
            let lines = text.lines().zip(1..).filter(|(line, _)| !line.trim_start().starts_with('#'));
            let its = lines.filter(|(line, _)| names(line, &program));
            found.extend(its.map(|(_, at)| format!("sudoedit {}    # line {at}", table.display())));
        }
        found.push(format!("crontab -e    # take out its line: `crontab -l | grep {program}`"));
        found
    }

    /// Says when cron is to poll: as often as the other program did.
    fn times(&self) -> String {
        match self.interval.map_or(5, |seconds| seconds / 60) {
            minutes @ 0..60 => format!("*/{} * * * *", minutes.max(1)),
            minutes => format!("7 */{} * * *", (minutes / 60).min(23)),
        }
    }
}

/// Lists the units of a directory, and those enabled in it, that start a program.
fn units(directory: &Path, program: &str) -> Vec<String> {
    let mut found = Vec::new();
    let wanted =
        entries(directory).into_iter().filter(|path| path.extension().is_some_and(|kind| kind == "wants"));
    for path in entries(directory).into_iter().chain(wanted.flat_map(|path| entries(&path))) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // A timer starts the service of its name.
        let service = if name.ends_with(".timer") { path.with_extension("service") } else { path };
        let starts = name.ends_with(".service") || name.ends_with(".timer");
        let text = if starts { text(&service) } else { String::new() };
        if text.lines().any(|line| line.starts_with("Exec") && names(line, program)) && !found.contains(&name)
        {
            found.push(name);
        }
    }
    found.sort();
    found
}

/// Lists the tables of cron that are the machine's.
fn tables() -> Vec<PathBuf> {
    [PathBuf::from("/etc/crontab")].into_iter().chain(entries(Path::new("/etc/cron.d"))).collect()
}

fn has_timer(home: &Path) -> bool {
    let places = ["/usr/lib/systemd/user", "/etc/systemd/user", ".config/systemd/user"];
    places.into_iter().any(|place| home.join(place).join(TIMER).exists())
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut entries: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    entries.sort();
    entries
}

/// Reads a file; what cannot be read says nothing.
fn text(path: &Path) -> String {
    let octets = content(path, MOST_OCTETS).unwrap_or_default();
    String::from_utf8_lossy(&octets).into_owned()
}

/// Says whether a line of a shell names a program, in whatever directory it is.
fn names(line: &str, program: &str) -> bool {
    let is_of_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    line.split(|c| !is_of_name(c)).any(|word| word == program)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(home: &Path) -> Vec<String> {
        let option = String::new();
        let import = "mpop".to_owned();
        Steps { program: Program::Mpop, home, interval: None, option, import }.lines()
    }

    #[test]
    fn units_that_start_the_other_program_are_named_and_no_others() {
        let home = tempfile::tempdir().unwrap();
        let units = home.path().join(".config/systemd/user");
        fs::create_dir_all(units.join("default.target.wants")).unwrap();
        for (name, command) in [("mail.service", "/usr/bin/mpop -Q"), ("other.service", "/usr/bin/mpopd")] {
            fs::write(units.join(name), format!("[Service]\nExecStart={command}\n")).unwrap();
        }
        fs::write(units.join("mail.timer"), "[Timer]\nOnCalendar=hourly\n").unwrap();
        let lines = steps(home.path());
        let ended =
            ["  systemctl --user disable --now mail.service", "  systemctl --user disable --now mail.timer"];
        assert_eq!(lines[1..3], ended, "{lines:?}");
        assert!(!lines.iter().any(|line| line.contains("other")), "{lines:?}");
        assert!(lines.iter().any(|line| line.starts_with("  */5 * * * * ")), "{lines:?}");
    }

    #[test]
    fn a_program_is_named_by_whole_words() {
        assert!(names("*/5 * * * * root /usr/bin/fetchmail -s", "fetchmail"));
        assert!(!names("*/5 * * * * root /usr/bin/fetchmail-wrapper", "fetchmail"));
    }
}
