//! The program as its user sees it, its configuration, and what its sandbox lets it do.

mod account;
mod browser;
mod config;
mod demo;
mod docs;
mod fleet_clock;
mod fleet_tokens;
mod hints;
mod import;
mod origins;
mod program;
mod provider;
mod sandbox;
mod secrets;
mod seen;
mod setup;
mod setup_dialogue;
mod state;
#[path = "../support/mod.rs"]
mod support;
mod terminal;
mod tokens;
