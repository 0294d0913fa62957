//! The daemon: polls many accounts, for months, without anyone looking.

pub mod schedule;
