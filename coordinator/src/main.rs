//! Command line and wiring of the coordinator.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::Parser as _;
use tracing_subscriber::EnvFilter;
use vetting_coordinator::cli::{CommandError, CommandLine};

/// Exit code of everything that went wrong.
const TROUBLE: u8 = 2;

fn main() -> ExitCode {
    let command_line = CommandLine::parse();
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info")))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
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
