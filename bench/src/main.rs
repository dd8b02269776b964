//! `cairn-bench`: loads a server and says what it did and what that cost.
//!
//! One subcommand for each way in. `nfs` speaks to any NFS version 3 server, so the same program with
//! the same options measures cairn and what it is compared with; `cargo xtask bench nfs` starts both
//! and runs it on them in turn. `engine` has no server: it is the engine itself on a pool file. How to read the rows is in `bench/README.md`.

#![forbid(unsafe_code)]

mod clock;
mod cpu;
mod engine;
mod lane;
mod nfs;
mod nfs_command;
mod pattern;
mod report;
mod rig;
mod rpc;
mod size;
mod url;
mod wire;
mod workload;
mod xdr;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cairn-bench", about = "Measures cairn and what it is compared with", version)]
struct Command {
    #[command(subcommand)]
    target: Target,
}

#[derive(Subcommand)]
enum Target {
    /// Load an NFS version 3 server over TCP
    Nfs(nfs_command::Options),
    /// Drive the engine alone on a pool file, and count what it asks of the device
    Engine(engine::Options),
}

fn main() -> ExitCode {
    let Command { target } = Command::parse();
    let done = match &target {
        Target::Nfs(options) => nfs_command::run(options),
        Target::Engine(options) => engine::run(options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cairn-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
