//! Command line of the image builder.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use vetting_image::build::{PROGRAMS, Payload, Places, SHIPPED_LEVEL, build, lock};
use vetting_image::lab::doctor::{doctor, packages};

#[derive(Parser)]
#[command(version, about = "Builds vetting's live image from pinned Debian packages")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Resolve the recipe's packages anew and write the lock file.
    Lock(PlaceArguments),
    /// Build kernel, initramfs, netboot files, disc, USB stick and manifest.
    Build(BuildArguments),
    /// Say which host programs are missing and which Debian packages bring them.
    Doctor {
        /// Print the names of all needed packages, missing or not, and nothing else.
        #[arg(long)]
        packages: bool,
    },
}

#[derive(Args)]
struct PlaceArguments {
    /// Folder of the recipe: packages.yaml, modules.yaml, firmware.yaml, overlay/
    #[arg(long, default_value = "initramfs")]
    recipe: PathBuf,
    /// Lock file
    #[arg(long, default_value = "image/packages.lock")]
    lock: PathBuf,
    /// Cache of packages and compressed archives; may be deleted at any time
    #[arg(long, default_value = ".cache")]
    cache: PathBuf,
    /// URL below which the mirror has debian/ and debian-security/ [default: what apt on this host uses]
    #[arg(long)]
    mirror: Option<String>,
}

#[derive(Args)]
struct BuildArguments {
    #[command(flatten)]
    places: PlaceArguments,
    /// The agent, statically linked
    #[arg(long, default_value = "target/x86_64-unknown-linux-musl/release/vetting-agent")]
    agent: PathBuf,
    /// Folder with nvml-probe and gpu-load, linked against a glibc no newer than the image's
    #[arg(long, value_name = "FOLDER", default_value = PROGRAMS)]
    programs: PathBuf,
    /// Folder with NVIDIA's driver: Debian packages (*.deb) and kernel modules (*.ko, *.ko.xz) for the image's kernel
    ///
    /// nvidia.ko, libnvidia-ml.so.1 and nvidia-modprobe of one version are needed; GSP firmware for GPUs since Turing, and
    /// DCGM's packages for load, are taken where they are there. docs/stages.md says how to make the folder.
    #[arg(long, value_name = "FOLDER", conflicts_with = "bare")]
    nvidia_driver: Option<PathBuf>,
    /// This program or script as PID 1 instead of the agent
    #[arg(long, conflicts_with = "bare")]
    init: Option<PathBuf>,
    /// Only busybox and a tiny init: what `make bench` compares boot times with
    #[arg(long)]
    bare: bool,
    /// Output folder [default: target/image, with --bare target/image-bare]
    #[arg(long)]
    output: Option<PathBuf>,
    /// zstd's level, 1 to 19
    #[arg(long, default_value_t = SHIPPED_LEVEL, value_parser = clap::value_parser!(u8).range(1..=19))]
    level: u8,
}

impl From<PlaceArguments> for Places {
    fn from(arguments: PlaceArguments) -> Self {
        let PlaceArguments { recipe, lock, cache, mirror } = arguments;
        Self { recipe, lock, cache, mirror, programs: PROGRAMS.into(), nvidia_driver: None }
    }
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Lock(places) => run_lock(&places.into()),
        Command::Build(arguments) => run_build(arguments),
        Command::Doctor { packages: true } => {
            println!("{}", packages().join(" "));
            Ok(())
        }
        Command::Doctor { packages: false } => run_doctor(),
    }
}

fn run_lock(places: &Places) -> anyhow::Result<()> {
    let packages = lock(places).context("making the lock file")?;
    let bytes: u64 = packages.iter().map(|package| package.size_bytes).sum();
    println!("{}: {} packages, {} MB", places.lock.display(), packages.len(), bytes / 1_000_000);
    Ok(())
}

fn run_build(arguments: BuildArguments) -> anyhow::Result<()> {
    let started = Instant::now();
    let places = Places {
        programs: arguments.programs,
        nvidia_driver: arguments.nvidia_driver,
        ..arguments.places.into()
    };
    let (payload, folder) = match (arguments.bare, arguments.init) {
        (true, _) => (Payload::Bare(places.recipe.join("bare-init")), "target/image-bare"),
        (false, Some(init)) => (Payload::Init(init), "target/image"),
        (false, None) => (Payload::Agent(arguments.agent), "target/image"),
    };
    let output = arguments.output.unwrap_or_else(|| folder.into());
    let mut tell = |line: &str| eprintln!("[{:6.1} s] {line}", started.elapsed().as_secs_f64());
    let manifest =
        build(&places, &payload, arguments.level, &output, &mut tell).context("building the image")?;
    println!("{}", manifest.summary());
    println!("{} in {:.1} s", output.display(), started.elapsed().as_secs_f64());
    Ok(())
}

fn run_doctor() -> anyhow::Result<()> {
    let missing = doctor();
    for item in &missing {
        println!("missing: {} (apt-get install {}), needed for {}", item.what, item.package, item.needed_for);
    }
    anyhow::ensure!(missing.is_empty(), "{} things are missing", missing.len());
    println!("all host programs are there");
    Ok(())
}
