//! A day as a picture, drawn here: what came in each hour, and below the line the polls that failed.

use std::fmt;

use super::Snapshot;
use super::html::Html;
use crate::state::{Hour, Timestamp};
use crate::text::counted;

/// Hours in the picture.
const HOURS: Timestamp = 24;
/// The width of an hour and of its bar, the height of what is above the line and below, in units of the picture. It is
/// stretched to the width that there is.
const STEP: f64 = 10.0;
const BAR: f64 = 7.0;
const ABOVE: f64 = 75.0;
const BELOW: f64 = 25.0;
/// The least height of a bar, so that one message among thousands is seen.
const LEAST: f64 = 3.0;

/// The picture of a snapshot's last day.
pub struct Picture<'a>(pub &'a Snapshot);

impl fmt::Display for Picture<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(snapshot) = self;
        let last = snapshot.at.div_euclid(3600);
        let first = last - (HOURS - 1);
        let most =
            |count: fn(&Hour) -> u64| snapshot.hours.iter().map(count).max().unwrap_or(0).max(1) as f64;
        let (messages, failures) = (most(|hour| hour.messages), most(|hour| hour.failures));
        let (width, height) = (HOURS as f64 * STEP, ABOVE + BELOW);
        write!(
            f,
            "<figure>\n<svg viewBox=\"0 0 {width} {height}\" preserveAspectRatio=\"none\" role=\"img\" \
             aria-label=\"Messages and failed polls of each hour of the last day\">\n"
        )?;
        for hour in snapshot.hours.iter().filter(|hour| hour.hour >= first && hour.hour <= last) {
            let x = (hour.hour - first) as f64 * STEP + (STEP - BAR) / 2.0;
            let bar = |count: u64, most: f64, room: f64| match count {
                0 => 0.0,
                count => (count as f64 / most * room).max(LEAST),
            };
            let (up, down) = (bar(hour.messages, messages, ABOVE), bar(hour.failures, failures, BELOW - 2.0));
            let said = format!(
                "{}: {}, {}",
                clock(hour.hour),
                counted(hour.messages, "message"),
                counted(hour.failures, "failed poll")
            );
            writeln!(
                f,
                "<g><title>{}</title><rect class=\"came\" x=\"{x}\" y=\"{:.1}\" width=\"{BAR}\" height=\"{up:.1}\"/><rect \
                 class=\"failed\" x=\"{x}\" y=\"{}\" width=\"{BAR}\" height=\"{down:.1}\"/></g>",
                Html(&said),
                ABOVE - up,
                ABOVE + 2.0
            )?;
        }
        write!(f, "<rect class=\"line\" x=\"0\" y=\"{ABOVE}\" width=\"{width}\" height=\"1\"/>\n</svg>\n")?;
        f.write_str("<div class=\"hours\" aria-hidden=\"true\">")?;
        for hour in [first, first + 6, first + 12, first + 18] {
            write!(f, "<span>{}</span>", clock(hour))?;
        }
        let highest = snapshot.hours.iter().max_by_key(|hour| hour.messages).filter(|hour| hour.messages > 0);
        let highest =
            highest.map(|hour| format!("; most in the hour from {}: {}", clock(hour.hour), hour.messages));
        write!(
            f,
            "<span>now</span></div>\n<figcaption><span class=\"key came\"></span>messages, <span class=\"key \
             failed\"></span>failed polls; {}{}</figcaption>\n</figure>\n",
            Html(&snapshot.day()),
            highest.unwrap_or_default()
        )
    }
}

/// Gives the time of day at which an hour begins where the user is.
fn clock(hour: Timestamp) -> String {
    jiff::Timestamp::from_second(hour.saturating_mul(3600)).map_or_else(
        |_| String::new(),
        |at| at.to_zoned(jiff::tz::TimeZone::system()).strftime("%H:%M").to_string(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::tests::snapshot;

    #[test]
    fn an_hour_has_a_bar_for_what_came_and_one_for_what_failed() {
        let mut snapshot = snapshot(Vec::new());
        let now = snapshot.at.div_euclid(3600);
        snapshot.hours = vec![
            Hour { hour: now - 24, messages: 999, octets: 0, failures: 9 },
            Hour { hour: now - 23, messages: 40, octets: 0, failures: 0 },
            Hour { hour: now, messages: 1, octets: 0, failures: 2 },
        ];
        snapshot.hours.remove(0);
        let drawn = Picture(&snapshot).to_string();
        for part in [
            "<rect class=\"came\" x=\"1.5\" y=\"0.0\" width=\"7\" height=\"75.0\"/>",
            "<rect class=\"came\" x=\"231.5\" y=\"72.0\" width=\"7\" height=\"3.0\"/>",
            "<rect class=\"failed\" x=\"231.5\" y=\"77\" width=\"7\" height=\"23.0\"/>",
            "last day: 41 messages (0 octets), 2 failed polls; most in the hour from ",
            ": 1 message, 2 failed polls</title>",
        ] {
            assert!(drawn.contains(part), "{part}: {drawn}");
        }
        snapshot.hours.clear();
        assert!(Picture(&snapshot).to_string().contains("last day: 0 messages (0 octets)</figcaption>"));
    }
}
