//! gpu-load: works one GPU by Vulkan and checks every answer ([`vetting_gpu_load::Document`]).

use std::time::Duration;

use vetting_gpu_load::{Document, FORMAT, Load};

use super::document;
use super::runner::{Finished, Invocation, ToolError};

/// The program's name.
pub const TOOL: &str = "gpu-load";
/// What the slowest GPU with the largest memory takes beyond the time that it is given: each part of the work is done once.
const BEYOND: Duration = Duration::from_mins(10);

/// Works the GPU at this PCI address for this long.
pub fn invocation(address: &str, duration: Duration) -> Invocation {
    let args = vec![address.into(), "--seconds".into(), duration.as_secs().to_string().into()];
    Invocation { tool: TOOL, args, timeout: duration + BEYOND }
}

/// What it printed.
///
/// # Errors
/// It failed, or printed a document of another form.
pub fn parse(finished: &Finished) -> Result<Load, ToolError> {
    document::read(finished, TOOL, FORMAT, |document: &Document| document.format)
        .map(|document| document.load)
}
