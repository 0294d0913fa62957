//! How the accounts stand, as a table on a terminal: a line each, what fails first, and below a failure what was said.

use std::fmt;
use std::io::{self, IsTerminal};
use std::iter::repeat;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::state::Timestamp;
use crate::status::words::{age, held_words};
use crate::status::{Row, Snapshot, Standing};
use crate::text::Shown;

/// The width of a terminal that does not say it.
const WIDTH: usize = 80;

/// Accounts of which all that is known is shown; of more, the first lines.
const FEW: usize = 20;

/// The most columns that a name may take, so that there is room beside it.
const NAME: usize = 24;

/// A screen of which the table is a part.
#[derive(Debug, Clone, Copy)]
pub struct Screen {
    pub columns: usize,
    pub colours: Colours,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colours {
    Shown,
    /// The terminal has none, or its user wants none.
    Left,
}

impl Screen {
    /// Looks at the terminal that standard output is, if it is one.
    pub fn of_stdout() -> Option<Self> {
        if !io::stdout().is_terminal() {
            return None;
        }
        let size = terminal_size::terminal_size_of(io::stdout());
        let columns = size.map_or(WIDTH, |(width, _)| usize::from(width.0)).max(20);
        let is = |name, value: &str| std::env::var_os(name).is_some_and(|found| found == value);
        // https://no-color.org: set, to anything but nothing.
        let unwanted =
            std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()) || is("TERM", "dumb");
        Some(Self { columns, colours: if unwanted { Colours::Left } else { Colours::Shown } })
    }

    fn paint(self, colour: &str, text: &str) -> String {
        match self.colours {
            Colours::Shown if !colour.is_empty() && !text.is_empty() => {
                format!("\x1b[{colour}m{text}\x1b[0m")
            }
            Colours::Shown | Colours::Left => text.to_owned(),
        }
    }
}

/// A snapshot as a table.
#[derive(Debug)]
pub struct Table<'a> {
    pub snapshot: &'a Snapshot,
    pub screen: Screen,
    /// What the last day brought, which is known of all accounts together.
    pub day: Option<String>,
}

const BOLD: &str = "1";
const DIM: &str = "2";
const RED: &str = "31";
const YELLOW: &str = "33";

/// Columns that a result takes at least beside the rest; where there are fewer, it stands below.
const RESULT: usize = 24;

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { snapshot, screen, day } = self;
        let (now, rows) = (snapshot.at, snapshot.worst_first());
        let cells: Vec<[String; 4]> = rows.iter().map(|row| cells(row, now)).collect();
        let titles = ["ACCOUNT", "LAST POLL", "NEXT", "RESULT"].map(str::to_owned);
        let columns = Columns::of(*screen, cells.iter().chain([&titles]));
        if !rows.is_empty() {
            columns.titles(f, &titles)?;
        }
        let most = if rows.len() > FEW { 2 } else { usize::MAX };
        let details: Vec<_> = rows.iter().map(|row| details(row, now)).collect();
        for (at, row) in rows.iter().enumerate() {
            columns.row(f, row, &cells[at])?;
            // What many have in common is said once, below the last of them.
            if details.get(at + 1) == Some(&details[at]) {
                continue;
            }
            for detail in details[at].iter().take(most) {
                for (part, margin) in
                    folded(detail, screen.columns - 4).iter().zip([2].into_iter().chain(repeat(4)))
                {
                    writeln!(f, "{:margin$}{part}", "")?;
                }
            }
        }
        let sums = [Some(snapshot.sum()), day.clone()].into_iter().flatten().chain(snapshot.workers());
        for sum in sums {
            for part in folded(&sum, screen.columns) {
                writeln!(f, "{}", screen.paint(BOLD, &part))?;
            }
        }
        Ok(())
    }
}

/// How wide the columns are.
struct Columns {
    screen: Screen,
    widths: [usize; 3],
    /// What is left beside them for the result.
    room: usize,
}

impl Columns {
    fn of<'c>(screen: Screen, cells: impl Iterator<Item = &'c [String; 4]>) -> Self {
        let widths = cells.map(|cells| [0, 1, 2].map(|column| cells[column].width()));
        let [name, last, next] =
            widths.fold([0; 3], |most, widths| [0, 1, 2].map(|at| most[at].max(widths[at])));
        let widths = [name.min(NAME).min(screen.columns / 3), last, next];
        let room = screen.columns.saturating_sub(widths.iter().sum::<usize>() + 2 * widths.len());
        Self { screen, widths, room: if room < RESULT { 0 } else { room } }
    }

    fn titles(&self, f: &mut fmt::Formatter<'_>, titles: &[String; 4]) -> fmt::Result {
        self.beside(f, titles, BOLD)?;
        writeln!(f, "{}", self.screen.paint(BOLD, &fitted(&titles[3], self.room)))
    }

    /// Writes a row. The result is cut only where nothing is wrong, and stands below where it does not fit.
    fn row(&self, f: &mut fmt::Formatter<'_>, row: &Row, cells: &[String; 4]) -> fmt::Result {
        let [plain, last] = colours(row);
        let result = &cells[3];
        self.beside(f, cells, plain)?;
        if self.room > 0 && (result.width() <= self.room || !row.is_in_trouble()) {
            return writeln!(f, "{}", self.screen.paint(last, &fitted(result, self.room)));
        }
        writeln!(f)?;
        folded(result, self.screen.columns - 2)
            .iter()
            .try_for_each(|part| writeln!(f, "  {}", self.screen.paint(last, part)))
    }

    /// Writes what stands before the result.
    fn beside(&self, f: &mut fmt::Formatter<'_>, cells: &[String; 4], colour: &str) -> fmt::Result {
        let mut left = self.screen.columns;
        for (cell, width) in cells.iter().zip(self.widths) {
            let width = width.min(left);
            let shown = fitted(cell, width);
            let gap = (left - width).min(2);
            let pad = width.saturating_sub(shown.width()) + gap;
            write!(f, "{}{:pad$}", self.screen.paint(colour, &shown), "")?;
            left -= width + gap;
        }
        Ok(())
    }
}

fn cells(row: &Row, now: Timestamp) -> [String; 4] {
    let last = row.last_poll.map_or_else(|| "never".into(), |at| age(now, at).to_string());
    let next = match (row.polling, row.next_poll) {
        (Some(true), _) => "now".into(),
        (Some(false), Some(at)) => age(now, at.max(now)).to_string(),
        (Some(false), None) => "when asked".into(),
        (None, _) => "-".into(),
    };
    [Shown(row.account.as_bytes()).to_string(), last, next, row.outcome()]
}

/// Gives the colours of a row: of its first cells, and of its result.
fn colours(row: &Row) -> [&'static str; 2] {
    match row.standing() {
        Standing::Failing => [RED, RED],
        Standing::Holding | Standing::Unpolled => [YELLOW, YELLOW],
        Standing::Fine => ["", ""],
        Standing::Disabled | Standing::NotConfigured => [DIM, DIM],
    }
}

/// Says what is wrong with an account, a line each.
fn details(row: &Row, now: Timestamp) -> Vec<String> {
    let when = |at| age(now, at).to_string();
    let held = row.held.iter().map(|held| held_words(held, when));
    row.wrong(when).into_iter().chain(held).chain(row.forgetting()).collect()
}

/// Cuts a text to so many columns, of which a wide character takes two.
fn fitted(text: &str, columns: usize) -> String {
    if text.width() <= columns {
        return text.to_owned();
    }
    let mut left = columns.saturating_sub(1);
    let fits = |c: &char| {
        let width = c.width().unwrap_or(0);
        let fits = width <= left;
        left = left.saturating_sub(width);
        fits
    };
    let mut cut: String = text.chars().take_while(fits).collect();
    if columns > 0 {
        cut.push('…');
    }
    cut
}

/// Folds a line at its blanks, and a word that is longer than a line anywhere.
fn folded(text: &str, columns: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is one from the beginning");
        if line.is_empty() {
            line.push_str(word);
        } else if line.width() + 1 + word.width() <= columns {
            *line += " ";
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
        while let Some(rest) = lines.last_mut().and_then(|line| cut_off(line, columns)) {
            lines.push(rest);
        }
    }
    lines
}

/// Cuts what is beyond these columns off a line.
fn cut_off(line: &mut String, columns: usize) -> Option<String> {
    let mut width = 0;
    let beyond = |c: char| {
        width += c.width().unwrap_or(0);
        width > columns
    };
    let at = line.find(beyond).filter(|at| *at > 0)?;
    Some(line.split_off(at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::PollFailure;
    use crate::status::tests::{failing, fine, snapshot};

    fn shown(snapshot: &Snapshot, columns: usize, colours: Colours) -> String {
        Table { snapshot, screen: Screen { columns, colours }, day: Some(snapshot.day()) }.to_string()
    }

    #[test]
    fn a_table_has_a_line_an_account_what_is_wrong_below_it_and_a_sum() {
        let snapshot = snapshot(vec![failing("work"), fine("home")]);
        let expected = "\
ACCOUNT  LAST POLL      NEXT          RESULT
work     3 minutes ago  in 4 minutes  failed (credentials), 3 times in a row
  pop.example.org:995: log in: refused
  server: \\u{1b}[31mno
  last succeeded 27 hours ago
home     3 minutes ago  in 4 minutes  succeeded, 2 messages delivered (4.0 KiB)…
2 accounts: 1 failing, 1 fine
last day: 6 messages (6.0 KiB), 3 failed polls
";
        assert_eq!(shown(&snapshot, 80, Colours::Left), expected);
        let coloured = shown(&snapshot, 80, Colours::Shown);
        assert!(coloured.contains("\x1b[31mwork\x1b[0m"), "{coloured}");
    }

    #[test]
    fn no_line_is_wider_than_the_terminal_whatever_the_names() {
        let names = ["受信箱のとても長い名前", "x\u{301}y", &"n".repeat(200), "ordinary"];
        let rows = names.iter().flat_map(|name| [failing(name), fine(name)]).collect();
        let snapshot = snapshot(rows);
        for columns in [20, 40, 80, 200] {
            for line in shown(&snapshot, columns, Colours::Left).lines() {
                assert!(line.width() <= columns, "{columns}: {line}");
            }
        }
    }

    #[test]
    fn a_reason_is_folded_and_never_cut() {
        let reason = format!("work: pop.example.org:995: log in: refused, as {} says", "x".repeat(90));
        let mut row = failing("work");
        row.failure = Some(PollFailure { class: "credentials".into(), message: reason.clone() });
        (row.target, row.failures) = (Some("smtp mail.example.org:25".into()), 12);
        let snapshot = snapshot(vec![row, fine("home")]);
        for columns in [20, 40, 60, 80, 200] {
            let shown = shown(&snapshot, columns, Colours::Left);
            let all: String = shown.split_whitespace().collect();
            let reason: String = reason.strip_prefix("work: ").unwrap().split(' ').collect();
            assert!(all.contains(&reason), "{columns}: {shown}");
            assert!(
                all.contains("targetfailed(credentials):smtpmail.example.org:25,12timesinarow"),
                "{shown}"
            );
        }
        let narrow = shown(&snapshot, 40, Colours::Left);
        assert!(narrow.contains("\n  succeeded, 2 messages delivered (4.0\n  KiB), 120 in"), "{narrow}");
    }

    #[test]
    fn what_many_accounts_have_in_common_is_said_once() {
        let names: Vec<String> = (0..500).map(|n| format!("a{n:03}")).collect();
        let snapshot = snapshot(names.iter().map(|name| failing(name)).collect());
        let shown = shown(&snapshot, 80, Colours::Left);
        assert_eq!(shown.lines().count(), 1 + 500 + 2 + 2, "{shown}");
        assert!(shown.contains("500 accounts: 500 failing"));
    }
}
