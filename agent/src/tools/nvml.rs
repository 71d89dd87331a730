//! nvml-probe: what NVIDIA's management library says of every GPU ([`vetting_nvml_probe::Document`]).

use std::time::Duration;

use vetting_nvml_probe::{Document, FORMAT, Nvml};

use super::document;
use super::runner::{Finished, Invocation, ToolError};

/// The program's name.
pub const TOOL: &str = "nvml-probe";
/// Without a process that keeps it awake the driver starts each GPU anew, which takes seconds a GPU.
const LIMIT: Duration = Duration::from_mins(2);

/// Asks for everything.
pub fn invocation() -> Invocation {
    Invocation { tool: TOOL, args: Vec::new(), timeout: LIMIT }
}

/// What it printed.
///
/// # Errors
/// It failed, or printed a document of another form.
pub fn parse(finished: &Finished) -> Result<Nvml, ToolError> {
    document::read(finished, TOOL, FORMAT, |document: &Document| document.format)
        .map(|document| document.nvml)
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::tools::fixture;

    #[test]
    fn the_programs_own_words_are_understood() {
        let read = |case| parse(&fixture(TOOL, case));
        assert!(matches!(read("0.1-good").unwrap(), Nvml::Answered { devices, .. } if devices.len() == 2));
        assert!(matches!(read("0.1-no-library").unwrap(), Nvml::NoLibrary { .. }));
        assert!(matches!(read("0.1-no-driver").unwrap(), Nvml::NoDriver { .. }));
        assert!(matches!(read("0.1-version-mismatch").unwrap(), Nvml::Failed(_)));
    }

    #[test]
    fn another_form_and_a_failure_are_errors() {
        let good = fixture(TOOL, "0.1-good");
        let text = good.stdout_text().into_owned();
        for wrong in [
            text.replace("\"format\": 1", "\"format\": 2"),
            text.replacen("\"uuid\"", "\"guid\"", 1),
            text.replacen("\"not_supported\"", "\"perhaps\"", 1),
            text[..text.len() / 2].to_owned(),
            String::new(),
        ] {
            let answer = parse(&Finished { stdout: wrong.into_bytes(), ..good.clone() });
            assert!(matches!(answer, Err(ToolError::Garbage { .. })), "{answer:?}");
        }
        let failed = Finished { exit: crate::tools::runner::Exit::Code(1), ..good };
        assert!(matches!(parse(&failed), Err(ToolError::Failed { .. })));
    }
}
