//! Command line of the image builder.

use clap::{Parser, Subcommand};
use vetting_image::lab::doctor::{doctor, packages};

#[derive(Parser)]
#[command(version, about = "Builds vetting's live image from pinned Debian packages")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Say which host programs are missing and which Debian packages bring them.
    Doctor {
        /// Print the names of all needed packages, missing or not, and nothing else.
        #[arg(long)]
        packages: bool,
    },
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Doctor { packages: true } => println!("{}", packages().join(" ")),
        Command::Doctor { packages: false } => {
            let missing = doctor();
            for item in &missing {
                println!(
                    "missing: {} (apt-get install {}), needed for {}",
                    item.what, item.package, item.needed_for
                );
            }
            anyhow::ensure!(missing.is_empty(), "{} things are missing", missing.len());
            println!("all host programs are there");
        }
    }
    Ok(())
}
