//! `cairn`: the one binary. Parses the command line, runs one command, and turns what came of it
//! into one line of error text and an exit code.
//!
//! A command lives in `cmd/`, one file each, with its own help. Those that ask a running daemon go
//! through `live.rs`; those that work on the pool itself take `pool_args.rs`.

#![forbid(unsafe_code)]

mod cmd;
mod exit;
mod live;
mod log;
mod offline;
mod output;
mod pool_args;
mod position;
mod top;

use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;

/// Memtables come and go between what stays, in pieces of every size: glibc's malloc kept twice of what was
/// in use after half an hour of that, and more with every minute (docs/decisions/0016-jemalloc.md).
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[derive(Parser)]
#[command(
    name = "cairn",
    version,
    about = "An archive storage appliance in user space",
    disable_help_subcommand = true,
    after_help = "Live commands find the daemon by --socket, else $CAIRN_SOCKET, else \
                  ./cairn-data/control.sock if it exists, else /run/cairn/control.sock.\n\
                  Exit codes: 0 done, 1 failed, 2 wrong usage."
)]
struct Cli {
    /// The daemon's control socket
    #[arg(long, global = true, value_name = "PATH")]
    socket: Option<PathBuf>,

    /// One JSON object a line, keys as in the .proto
    #[arg(long, global = true)]
    json: bool,

    #[command(subcommand)]
    command: cmd::Command,
}

/// What every command may want to know.
struct Globals {
    socket: Option<PathBuf>,
    json: bool,
}

fn main() -> ExitCode {
    let Cli { socket, json, command } = Cli::parse();
    let verb = command.verb();
    match command.run(&Globals { socket, json }) {
        Ok(outcome) => outcome.code(),
        Err(error) => {
            log::failure(verb, &error);
            error.code()
        }
    }
}
