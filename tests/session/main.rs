//! One session of one account: against servers that obey, that lie, and that break.

#[path = "../account/mod.rs"]
mod account;
mod breaks;
mod conversation;
mod cron;
mod crowded;
mod deletions;
#[path = "../fuzzed/mod.rs"]
mod entries;
mod first_sync;
mod framing;
mod fuzz_corpus;
mod headers;
mod held;
mod http;
mod listings;
mod lockout;
mod log_in;
mod lost_lease;
mod lost_state;
mod net;
mod pins;
#[path = "../support/mod.rs"]
mod support;
mod tls;
mod tools;
mod two_at_once;
mod unique_ids;
mod utf8;
mod version_0_1_0;
