//! How a story is told: its times, and each poll that differs from the one before.

use super::super::scenario::{DAY, HOUR, MINUTE};

pub fn told_time(seconds: i64) -> String {
    format!(
        "day {} {:02}:{:02}",
        seconds.div_euclid(DAY),
        seconds.rem_euclid(DAY) / HOUR,
        seconds.rem_euclid(HOUR) / MINUTE
    )
}

/// Leaves out what a poll and the one before have in common, if that is all.
pub fn without_repeats(told: Vec<String>) -> Vec<String> {
    let mut polls: Vec<Vec<String>> = Vec::new();
    for line in told {
        if line.starts_with("==") || polls.is_empty() {
            polls.push(Vec::new());
        }
        polls.last_mut().expect("there is one").push(line);
    }
    for index in (1..polls.len()).rev() {
        if polls[index].len() > 1 && polls[index][1..] == polls[index - 1][1..] {
            polls[index].truncate(1);
            polls[index].push("    (as in the poll before)".into());
        }
    }
    polls.concat()
}
