//! Real servers and programs, and kills of both sides.

mod contract;
mod cron;
mod doctor;
mod gmail_targets;
mod http_targets;
mod imap_targets;
mod import_dumps;
mod import_peers;
mod kills;
mod locked;
mod mechanisms;
mod oauth2;
mod real_servers;
mod recipes;
mod roads;
#[path = "../sink/mod.rs"]
mod sink;
mod smtp_servers;
mod smtp_targets;
#[path = "../support/mod.rs"]
mod support;
mod target_kills;
