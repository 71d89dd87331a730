//! Works one GPU by Vulkan, checks every answer, and prints what it found as one JSON document
//! ([`vetting_gpu_load::Document`]).
//!
//! A program of its own because the agent is static and cannot load a driver's libraries (glibc, dynamically linked), and
//! because a driver that dies takes its program along. It ends with 0 whenever it printed the document, also where there is
//! no GPU, or a lost one: the document says so.

use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use vetting_gpu_load::gpu::{self, Gpu, GpuError};
use vetting_gpu_load::work::{Extent, work};
use vetting_gpu_load::{Document, FORMAT, Load, Work};

/// Works one GPU by Vulkan, checks every answer, and prints what it found as one JSON document.
///
/// All memory that the driver gives is written and read with patterns; matrices are multiplied and chains of whole numbers
/// gone through, whose results are known; and memory is copied over the link both ways. Whatever the GPU's memory holds is
/// overwritten.
#[derive(Parser)]
#[command(version, after_help = "Example:\n  gpu-load 0000:3b:00.0 --seconds 60")]
struct Arguments {
    /// PCI address of the GPU
    address: String,
    /// How long to work it
    #[arg(long, default_value_t = 120)]
    seconds: u64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let document = Document { format: FORMAT, load: load(&arguments) };
    let mut text = match serde_json::to_string_pretty(&document) {
        Ok(text) => text,
        Err(error) => return failed(&error.to_string()),
    };
    text.push('\n');
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error.to_string()),
    }
}

fn failed(why: &str) -> ExitCode {
    // without stderr there is only the exit code left
    let _ = writeln!(std::io::stderr(), "gpu-load: the document cannot be printed: {why}");
    ExitCode::FAILURE
}

fn load(arguments: &Arguments) -> Load {
    let adapters: Vec<_> = gpu::adapters().into_iter().filter(gpu::is_hardware).collect();
    let Some(adapter) = adapters.iter().find(|adapter| gpu::identity(adapter).address == arguments.address)
    else {
        return Load::NoGpu { others: adapters.iter().map(gpu::identity).collect() };
    };
    let extent = Extent::full(Duration::from_secs(arguments.seconds));
    match Gpu::open(adapter).and_then(|gpu| worked(gpu, &extent)) {
        Ok(work) => Load::Worked(Box::new(work)),
        Err(error @ (GpuError::Lost { .. } | GpuError::Hung)) => {
            Load::Lost { gpu: gpu::identity(adapter), message: error.to_string() }
        }
        Err(
            error @ (GpuError::Refused { .. }
            | GpuError::NoMemory
            | GpuError::Invalid { .. }
            | GpuError::Blind { .. }),
        ) => Load::Failed { message: error.to_string() },
    }
}

/// The work on a GPU that is never closed: that would wait for one that hangs.
fn worked(gpu: Gpu, extent: &Extent) -> Result<Work, GpuError> {
    let gpu: &Gpu = Box::leak(Box::new(gpu));
    // wgpu panics where it waits for a device that is lost
    catch_unwind(AssertUnwindSafe(|| work(gpu, extent))).unwrap_or_else(|_| {
        gpu.fine()?;
        Err(GpuError::Invalid { message: "the work crashed".to_owned() })
    })
}
