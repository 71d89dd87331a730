//! Seagate's Field Accessible Reliability Metrics (smartctl 7.4, `-l farm`): hours that a reset of the SMART attributes
//! does not reset.

use std::time::Duration;

use serde_json::Value;

use super::health::number;
use super::{Drive, ExitBits, TOOL, garbage};
use crate::tools::runner::{Finished, Invocation, ToolError};

/// Asks for the log. To be asked only of a disk whose report says that it has it.
pub fn ask(drive: &Drive) -> Invocation {
    drive.invocation(&["-l", "farm"], Duration::from_mins(2))
}

/// Hours under power by the log of an ATA disk.
pub fn parse(finished: &Finished) -> Result<f64, ToolError> {
    ExitBits::of(finished.code(TOOL)?)?;
    let json: Value = serde_json::from_slice(&finished.stdout)
        .map_err(|error| garbage(format!("its JSON cannot be read: {error}")))?;
    number(&json, "/seagate_farm_log/page_1_drive_information/poh")
        .ok_or_else(|| garbage("there are no hours in its FARM log"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::runner::Exit;

    fn answer(text: &str) -> Finished {
        Finished {
            exit: Exit::Code(0),
            stdout: text.as_bytes().to_vec(),
            stderr: Vec::new(),
            truncated: false,
            elapsed: Duration::ZERO,
        }
    }

    #[test]
    fn hours_are_read_and_their_lack_is_an_error() {
        let log = r#"{"seagate_farm_log":{"page_1_drive_information":{"poh":26714,"spoh":26690}}}"#;
        assert!((parse(&answer(log)).unwrap() - 26714.0).abs() < f64::EPSILON);
        for none in ["", "{}", r#"{"seagate_farm_log":{"supported":false}}"#] {
            assert!(parse(&answer(none)).is_err(), "{none}");
        }
    }
}
