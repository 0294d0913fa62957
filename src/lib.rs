//! postrider fetches mail from POP3 maildrops and delivers it: never lost, and in a maildir never twice.
//!
//! # The way of the data
//!
//! ```text
//! schedule or command line: an account is due
//!   session::poll         takes the lease on its maildrop (`session::run`: with hooks and notices)
//!     credential          the password, if it may be tried now; then net   TCP and TLS
//!     source::open        greeting, STLS, CAPA, AUTH, UIDL, LIST: one call
//!     session::plan       listing + records + policy = fetch, delete, leave (pure)
//!     source::window      RETRs ahead of their answers; slices of bodies, unstuffed, and where each certainly ends
//!     session::fetch      the slices into a delivery::Draft; which message it is that came
//!     session::commit     durable and visible  ->  recorded durably  ->  proof
//!     source::deletions   proof  ->  DELE, when source::window has room for it; at the end QUIT (Source::finish)
//!   session::Report       for whoever prints, counts or schedules
//! ```
//!
//! # Rooms, and what each may import
//!
//! Nothing imports a line below its own, and no file one that leads back to it; `tests/house.rs` reads the imports and
//! has the same table.
//!
//! ```text
//! text secret failure logging stop clock lock line seal - (open to all)
//! message                                 -
//! pop3 smtp imap sasl                     message
//! config                                  sasl message
//! import                                  config message
//! disk                                    -
//! net                                     config sasl disk
//! autoconfig                              config net
//! state                                   config message disk net
//! credential                              config net state disk
//! delivery                                config message net sasl smtp imap disk
//! source                                  config message net credential sasl pop3 disk state/proof
//! session                                 delivery state source credential net config message disk
//! status                                  session state config
//! sandbox                                 config disk
//! daemon                                  status session state config sandbox disk
//! cli testing                             all
//! ```
//!
//! `pop3`, `smtp`, `imap`, `sasl`, `message` and `config` are pure: no sockets, no clock, no files but the configuration
//! itself.
//! `session` is the only room that knows source, targets and store together.
//!
//! # What always holds
//!
//! - **Order of safety.** A message is delivered durably (file and directory), then recorded durably, then deleted.
//!   [`state::Recorded`] is the only key to DELE, about one message, and `state/proof.rs` alone makes one: of a durable commit
//!   (`Store::record_listed`), or of an older record together with what this session saw of the message (`Memory::prove`).
//! - **Complete before visible.** A [`delivery::Draft`] shows nothing to a reader of the target; only one that saw the
//!   end of its message becomes [`delivery::Finished`].
//! - **Exactly once in a maildir.** The file name carries a digest of maildrop and content, so the maildir is its own
//!   journal: after a session that did not end, or without a state file, what is there is found again.
//! - **Nobody outside is trusted.** Lines, listings and waits are bounded; sizes are claims; secrets cannot be printed
//!   ([`secret::Secret`]) and strangers' octets are escaped ([`text::Shown`]).
//!
//! # Where to look
//!
//! - DELE is written in `source/deletions.rs`, and nowhere else. Files are made durable and get their names in `disk/`
//!   alone (and SQLite's own by SQLite): fsync and what replaces a file in `durable.rs`, what replaces none in `moving.rs` and
//!   `files.rs`. When a message counts as delivered: in a maildir `publish` in `delivery/maildir/mod.rs` says, elsewhere the
//!   sink's `Outcome`.
//! - A password is a [`secret::Secret`], which shows itself as [`secret::MASK`]. Whatever else may hold one writes that name
//!   in its place: commands (`pop3/command.rs`, `line.rs` for all that AUTH says), command lines
//!   (`config/command_line.rs`) and a URL's query (`config/http.rs`; in messages `config/http_url.rs` leaves it out). What a
//!   server echoes of one is masked by `secret::masked` where its words are taken.
//! - When a held message is tried again is decided in `session/waits.rs` for `session/plan.rs` (what waits for
//!   room is looked at by each poll: `session/held.rs`). When an account is polled: `daemon/schedule/`; how long after a
//!   poll, in a fleet, too: `next.rs` there.
//! - When a refused log-in may be tried again, by whom: `may_try` in `session/lockout.rs`. Within one poll `session/attempt.rs`
//!   tries once more, with a new token or in a new session, and `source/login.rs` in another way.
//! - SIGTERM: received in `daemon/signals.rs` (for `sync`, too), heard by everything that waits through [`stop::Stop`].
//!   `session/poll.rs` begins nothing more, `session/fetch.rs` gives what is on the line its time, `session/transfer.rs` lets
//!   what has come become durable, `session/tasks.rs` says QUIT; then `end` in `daemon/mod.rs` settles and closes. How long each
//!   may take stands in the table of `stop.rs`; whatever hangs longer is left, and the process exits.
//! - How the accounts stand is read from the store once, into a `status::Snapshot`: for `postrider status`, the metrics, and
//!   what `daemon/web` serves.
//! - Nothing is public but what `main.rs` needs; tests, benches, examples and fuzzing go by `testing`.
//! - A target is a variant and a row of facts in `config/target.rs`, a row in `config/deliver.rs`, a sink in `delivery/`. How to add one, a key,
//!   a mechanism, a command or a source: CONTRIBUTING.md has every place that each touches.
#![forbid(unsafe_code)]
// `clippy.toml` says how many; a test may tell a longer story.
#![cfg_attr(not(test), warn(clippy::too_many_lines))]

mod autoconfig;
mod cli;
mod clock;
mod config;
mod credential;
mod daemon;
mod delivery;
mod disk;
mod failure;
mod imap;
mod import;
mod line;
mod lock;
mod logging;
mod message;
mod net;
mod pop3;
mod sandbox;
mod sasl;
mod seal;
mod secret;
mod session;
mod smtp;
mod source;
mod state;
mod status;
mod stop;
#[doc(hidden)]
pub mod testing;
mod text;

pub use cli::{Arguments, Exit, run};
pub use logging::start as start_logging;
