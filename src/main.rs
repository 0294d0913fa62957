//! Arguments, logging, runtime, exit status; nothing else.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use postrider::{Arguments, Exit};
use tokio::runtime::Builder;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(told) => {
            // Help and version are told by this way too. Nobody is left to be told that nobody listens.
            let _ = told.print();
            return if told.use_stderr() { Exit::USAGE } else { Exit::SUCCESS }.into();
        }
    };
    let (level, format) = arguments.log();
    postrider::start_logging(level, format);
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            log::error!("cannot start the runtime: {error}");
            return Exit::LATER.into();
        }
    };
    let exit = runtime.block_on(postrider::run(arguments));
    // A thread that hangs in the name service or on a dead file system must not keep the program from ending.
    runtime.shutdown_background();
    exit.into()
}
