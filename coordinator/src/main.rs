//! Command line and wiring of the coordinator.

use std::process::ExitCode;

use clap::Parser as _;
use vetting_coordinator::cli::{CommandError, CommandLine};
use vetting_coordinator::logging;

/// Exit code of everything that went wrong.
const TROUBLE: u8 = 2;

fn main() -> ExitCode {
    let command_line = CommandLine::parse();
    logging::begin(command_line.log_format());
    match run(command_line) {
        Ok(code) => code,
        // `| head` has read what it wanted
        Err(error) if error.downcast_ref::<CommandError>().is_some_and(CommandError::is_closed_output) => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("vetting-coordinator: {error:#}");
            ExitCode::from(TROUBLE)
        }
    }
}

fn run(command_line: CommandLine) -> anyhow::Result<ExitCode> {
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("another TLS provider is installed already"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    Ok(runtime.block_on(command_line.run())?)
}
