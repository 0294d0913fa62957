//! The page for a person: HTML that needs no script, with all that strangers wrote escaped.

use std::fmt;

use super::html::Html;
use super::row::{Row, Standing};
use super::words::{age, held_words, time};
use super::{Snapshot, picture};
use crate::clock::utc;
use crate::state::Timestamp;
use crate::state::fleet::{Fleet, Host};
use crate::text::counted;

/// What the page looks like, on a phone and in the dark, too.
pub const STYLE: &str = include_str!("style.css");

/// Held messages of an account that are listed; of more, the number.
const LISTED: usize = 20;

/// A snapshot as a page.
pub struct Page<'a>(pub &'a Snapshot);

impl fmt::Display for Page<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(snapshot) = self;
        let (now, sum) = (snapshot.at, snapshot.sum());
        let worst = snapshot.rows.iter().map(Row::standing).min().unwrap_or(Standing::Fine);
        let count = snapshot.rows.iter().filter(|row| row.standing() == worst).count();
        let (mood, said) = mood(worst);
        write!(
            f,
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
             content=\"width=device-width, initial-scale=1\">\n<meta name=\"color-scheme\" content=\"light dark\">\n\
             <title>{count} {said} - postrider</title>\n<link rel=\"icon\" href=\"data:,\">\n<style>{STYLE}</style>\n</head>\n<body>\n\
             <header><h1>postrider</h1><p>as of {} <a href=\"/\">look again</a></p></header>\n<main>\n\
             <p class=\"sum {mood}\">{}</p>\n{}",
            at(now),
            Html(&sum),
            picture::Picture(snapshot)
        )?;
        if let Some(fleet) = &snapshot.fleet {
            workers(f, fleet)?;
        }
        if snapshot.rows.is_empty() && snapshot.in_all.is_none() {
            return f.write_str("<p>There is no account.</p>\n</main>\n</body>\n</html>\n");
        }
        let caption = match snapshot.in_all {
            Some(_) => "Accounts that want a look most",
            None => "Accounts, what fails first",
        };
        head(f, caption, &["Account", "State", "Last poll", "Next poll", "What it did"])?;
        snapshot.worst_first().into_iter().try_for_each(|row| account(f, row, now))?;
        f.write_str("</tbody>\n</table>\n</main>\n</body>\n</html>\n")
    }
}

fn head(f: &mut fmt::Formatter<'_>, caption: &str, columns: &[&str]) -> fmt::Result {
    write!(
        f,
        "<table role=\"table\">\n<caption>{caption}</caption>\n<thead role=\"rowgroup\"><tr role=\"row\">"
    )?;
    for name in columns {
        write!(f, "<th role=\"columnheader\" scope=\"col\">{name}</th>")?;
    }
    f.write_str("</tr></thead>\n<tbody role=\"rowgroup\">\n")
}

/// Writes the workers, and the hosts at which maildrops wait or fail.
fn workers(f: &mut fmt::Formatter<'_>, fleet: &Fleet) -> fmt::Result {
    let row = |f: &mut fmt::Formatter<'_>, mood: &str, name: &str, cells: &[(&'static str, String)]| {
        write!(
            f,
            "<tr role=\"row\" class=\"{mood}\"><th role=\"rowheader\" scope=\"row\">{}</th>",
            Html(name)
        )?;
        for (column, text) in cells {
            write!(f, "{}{}</td>", Cell(column), Html(text))?;
        }
        f.write_str("</tr>\n")
    };
    head(f, &fleet.sum(), &["Worker", "Version", "State", "Heard of", "Polls now", "Claims"])?;
    for worker in &fleet.workers {
        let mood = if worker.evicted { "off" } else { "good" };
        let cells = [
            ("Version", worker.version.clone()),
            ("State", worker.state().to_owned()),
            ("Heard of", format!("{} s ago", worker.heard_seconds)),
            ("Polls now", worker.polling.to_string()),
            ("Claims", worker.claims.to_string()),
        ];
        row(f, mood, &worker.name, &cells)?;
    }
    f.write_str("</tbody>\n</table>\n")?;
    let troubled: Vec<_> =
        fleet.hosts.iter().filter(|host| host.tally.waiting > 0 || host.tally.failing > 0).collect();
    if troubled.is_empty() {
        return Ok(());
    }
    head(
        f,
        "Hosts at which maildrops wait or fail",
        &["Host", "Maildrops", "Polled now", "Waiting", "Failing"],
    )?;
    for Host { host, tally } in troubled {
        let mood = if tally.failing > 0 { "bad" } else { "odd" };
        let cells = [
            ("Maildrops", tally.maildrops.to_string()),
            ("Polled now", tally.polling.to_string()),
            ("Waiting", tally.waiting.to_string()),
            ("Failing", tally.failing.to_string()),
        ];
        row(f, mood, host, &cells)?;
    }
    f.write_str("</tbody>\n</table>\n")
}

fn account(f: &mut fmt::Formatter<'_>, row: &Row, now: Timestamp) -> fmt::Result {
    let (mood, state) = mood(row.standing());
    write!(
        f,
        "<tr role=\"row\" class=\"{mood}\"><th role=\"rowheader\" scope=\"row\">{}</th>{}<span class=\"mark\">{state}</span></td>{}",
        Html(&row.account),
        Cell("State"),
        Cell("Last poll"),
    )?;
    match row.last_poll {
        Some(last) => f.write_str(&ago(now, last))?,
        None => f.write_str("never")?,
    }
    write!(f, "</td>{}", Cell("Next poll"))?;
    match (row.polling, row.next_poll) {
        (Some(true), _) => f.write_str("now")?,
        (Some(false), Some(next)) => f.write_str(&ago(now, next.max(now)))?,
        (Some(false), None) => f.write_str("when asked")?,
        (None, _) => f.write_str("-")?,
    }
    write!(f, "</td>{}<p>{}</p>", Cell("What it did"), Html(&row.outcome()))?;
    for line in row.wrong(|at| age(now, at).to_string()) {
        write!(f, "<p class=\"said\">{}</p>", Html(&line))?;
    }
    if !row.held.is_empty() {
        let held = counted(row.held.len(), "message");
        write!(f, "<details><summary>{held} held, and why</summary><ul>")?;
        for held in row.held.iter().take(LISTED) {
            write!(f, "<li>{}</li>", Html(&held_words(held, |at| age(now, at).to_string())))?;
        }
        if let more @ 1.. = row.held.len().saturating_sub(LISTED) {
            write!(f, "<li>and {}</li>", counted(more, "other"))?;
        }
        f.write_str("</ul></details>")?;
    }
    f.write_str("</td></tr>\n")
}

/// Begins a cell. Its column's name is shown with it where the table is a list, on a phone; what it is to a screen reader
/// is written out, since browsers take a table that is shown as blocks for none.
struct Cell(&'static str);

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<td role=\"cell\" data-name=\"{}\">", self.0)
    }
}

/// Gives the class, and the word for people, of a standing: colours alone say nothing to some.
fn mood(standing: Standing) -> (&'static str, &'static str) {
    match standing {
        Standing::Failing => ("bad", "failing"),
        Standing::Holding => ("odd", "messages held"),
        Standing::Unpolled => ("odd", "never polled"),
        Standing::Fine => ("good", "fine"),
        Standing::Disabled => ("off", "not enabled"),
        Standing::NotConfigured => ("off", "not configured"),
    }
}

fn at(at: Timestamp) -> String {
    format!("<time datetime=\"{}\">{}</time>", utc(at), time(at))
}

fn ago(now: Timestamp, at: Timestamp) -> String {
    format!("<time datetime=\"{}\" title=\"{}\">{}</time>", utc(at), time(at), age(now, at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::tests::{failing, fine, held, snapshot};

    #[test]
    fn what_strangers_wrote_is_text_wherever_it_stands() {
        let evil = "<script>alert(1)</script>\"'&\u{202e}";
        let mut row = failing(evil);
        row.failure.as_mut().unwrap().message = format!("{evil}: {evil}\n  server: {evil}");
        row.target = Some(evil.into());
        let holding = Row { held: vec![crate::state::Held { reason: evil.into(), ..held() }], ..fine(evil) };
        let page = Page(&snapshot(vec![row, holding])).to_string();
        assert!(!page.contains("<script") && !page.contains('\u{202e}'), "{page}");
        assert!(
            page.matches("&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39;&amp;\\u{202e}").count() >= 6,
            "{page}"
        );
    }

    /// Gives the contrast of two colours (WCAG 2.1, 1.4.3).
    fn contrast(one: &str, other: &str) -> f64 {
        let light = |colour: &str| {
            let digits = colour.trim_start_matches('#');
            let wide = digits.len() / 3;
            let channel = |at: usize| {
                let part = &digits[at * wide..(at + 1) * wide];
                let value = f64::from(u8::from_str_radix(&part.repeat(3 - wide), 16).unwrap()) / 255.0;
                if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
            };
            0.2126 * channel(0) + 0.7152 * channel(1) + 0.0722 * channel(2)
        };
        let (one, other) = (light(one), light(other));
        (one.max(other) + 0.05) / (one.min(other) + 0.05)
    }

    #[test]
    fn each_colour_can_be_read_by_day_and_in_the_dark() {
        let palettes: Vec<Vec<(&str, &str)>> = STYLE
            .split(":root {")
            .skip(1)
            .map(|rules| {
                let rules = rules.split('}').next().unwrap().split(';');
                rules.filter_map(|rule| rule.trim().strip_prefix("--")?.split_once(": ")).collect()
            })
            .collect();
        assert_eq!(palettes.len(), 2);
        assert!((contrast("#fff", "#000000") - 21.0).abs() < 0.01);
        for palette in palettes {
            let paper = palette.iter().find(|(name, _)| *name == "paper").unwrap().1;
            for (name, colour) in palette.iter().filter(|(name, _)| !["paper", "edge"].contains(name)) {
                // Bars are no text.
                let least = if *name == "came" { 3.0 } else { 4.5 };
                assert!(
                    contrast(paper, colour) >= least,
                    "{name} {colour} on {paper}: {}",
                    contrast(paper, colour)
                );
            }
        }
    }

    #[test]
    fn a_page_of_a_fleet_has_its_workers_and_says_that_not_all_accounts_are_there() {
        let mut fleet = crate::status::fleet::tests::fleet();
        fleet.workers[0].name = "<b>".into();
        let snapshot =
            Snapshot { fleet: Some(fleet), in_all: Some(100_000), ..snapshot(vec![failing("work")]) };
        let page = Page(&snapshot).to_string();
        for words in [
            "100000 accounts: 0 polled, 0 failing",
            "<caption>1 worker, 1 evicted; of 100000 maildrops 120 being polled",
            "scope=\"row\">&lt;b&gt;</th>",
            "data-name=\"Claims\">1200</td>",
            "<caption>Hosts at which maildrops wait or fail</caption>",
            "scope=\"row\">pop.example.org</th>",
            "<caption>Accounts that want a look most</caption>",
        ] {
            assert!(page.contains(words), "{words}: {page}");
        }
        assert!(!page.contains("pop.example.com"), "nothing is wrong there");
    }

    #[test]
    fn a_page_has_what_fails_what_is_held_and_each_account() {
        let holding = Row { held: vec![held(); 23], ..fine("holding") };
        let page = Page(&snapshot(vec![failing("work"), holding, fine("home")])).to_string();
        for words in [
            "<title>1 failing - postrider</title>",
            "3 accounts: 1 failing, 1 with 23 messages held, 1 fine",
            "<p class=\"said\">pop.example.org:995: log in: refused</p>",
            "<details><summary>23 messages held, and why</summary><ul><li>held QhdPYR (25.0 MiB)",
            "<li>and 3 others</li>",
            "class=\"good\"><th role=\"rowheader\" scope=\"row\">home</th>",
            "title=\"",
        ] {
            assert!(page.contains(words), "{words}: {page}");
        }
        assert!(!page.contains("style=") && !page.contains(" on"), "{page}");
    }
}
