//! The daemon, its hooks, metrics and units.

mod bad_databases;
mod database;
mod dead_host;
mod fleet;
mod hooks;
mod metrics;
mod months;
mod package_contents;
mod packages;
mod phone;
mod schedule;
mod set_up;
mod site;
mod soak;
mod stopped;
#[path = "../support/mod.rs"]
mod support;
mod tenants;
mod units;
mod wake;
mod web;
