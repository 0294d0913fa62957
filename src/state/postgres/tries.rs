//! What is tried again that others' transactions came between: how often, and when.

use std::time::Duration;

use tokio::time::sleep;

/// How often a transaction is tried.
pub const TRIES: u32 = 12;

/// Pauses between two tries grow from this, doubled each time and cut by chance.
const PAUSE: Duration = Duration::from_millis(5);

/// Waits before another try, the longer the more there were, and not as long as the others that wait.
pub async fn pause(attempt: u32) {
    let longest = PAUSE * (1 << attempt.min(7));
    let chance = getrandom::u32().unwrap_or(u32::MAX / 2);
    sleep(longest.mul_f64(f64::from(chance) / f64::from(u32::MAX))).await;
}
