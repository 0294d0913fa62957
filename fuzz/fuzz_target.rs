//! One fuzz target: the entry that has this program's name.
//!
//! ```text
//! cargo install cargo-fuzz
//! RUSTC_BOOTSTRAP=1 cargo fuzz run body      # on a stable toolchain; or cargo +nightly fuzz run body
//! ```
#![no_main]

#[path = "../tests/fuzzed/mod.rs"]
mod entries;

libfuzzer_sys::fuzz_target!(|octets: &[u8]| entries::run(env!("CARGO_BIN_NAME"), octets));
