//! Command line and wiring only.

use std::process::ExitCode;

use clap::Parser as _;
use vetting_agent::cli::{self, Arguments};
use vetting_agent::console::chain;

/// musl's own allocator is many times slower under threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args_os().collect();
    let done = if cli::is_init(&words) { cli::init() } else { cli::execute(Arguments::parse()) };
    match done {
        Ok(exit) => ExitCode::from(exit.code()),
        Err(error) => {
            eprintln!("vetting-agent: {}", chain(&error));
            ExitCode::from(error.exit().code())
        }
    }
}
