//! The targets: maildir, mbox, commands, SMTP, LMTP, IMAP, HTTP and Gmail.

#[cfg(target_os = "linux")]
mod alone;
mod catch_all;
mod gmail;
mod http;
mod imap;
mod imap_doubt;
mod imap_far_back;
mod imap_odd;
mod imap_refusals;
mod lmtp;
mod maildir;
mod maildir_faults;
mod mbox;
mod mbox_programs;
mod pipe;
mod pipe_programs;
mod several;
#[path = "../sink/mod.rs"]
mod sink;
mod sink_contract;
mod smtp;
mod smtp_habits;
mod smtp_log_in;
mod smtp_polls;
#[path = "../support/mod.rs"]
mod support;
#[cfg(target_os = "linux")]
#[allow(dead_code, reason = "this program uses a part of it")]
#[path = "../crash/system.rs"]
mod system;
