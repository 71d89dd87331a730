//! nvme-cli (2.3 to 2.13): what an NVMe disk can erase by itself, and telling it to. Structures are asked for as the
//! drive gives them (`--raw-binary`) and read by the specification (NVMe Base 2.0), since the tool's own JSON changes.

use std::time::Duration;

use super::runner::{Finished, Invocation, ToolError};

const TOOL: &str = "nvme";
const PATIENCE: Duration = Duration::from_mins(1);
/// The drive formats within this, milliseconds; many tell no time.
const FORMAT_MS: u64 = 4 * 60 * 60 * 1000;
/// Identify Controller data structure.
const IDENTIFY_BYTES: usize = 4096;
/// Sanitize Status log page, the part that is read.
const SANITIZE_STATUS_BYTES: usize = 4;

/// Asks for the Identify Controller data structure.
pub fn id_ctrl(device: &str) -> Invocation {
    call(&["id-ctrl", device, "--raw-binary"], PATIENCE)
}

/// Asks for the numbers of the controller's active namespaces.
pub fn list_ns(device: &str) -> Invocation {
    call(&["list-ns", device], PATIENCE)
}

/// What a sanitize operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SanitizeAction {
    /// Block erase.
    BlockErase,
    /// Crypto erase.
    CryptoErase,
}

/// Begins to sanitize the whole NVM subsystem: all on it is lost. The drive goes on by itself, also over a power cycle.
pub fn sanitize(device: &str, action: SanitizeAction) -> Invocation {
    let action = match action {
        SanitizeAction::BlockErase => "--sanact=2",
        SanitizeAction::CryptoErase => "--sanact=4",
    };
    call(&["sanitize", device, action], PATIENCE)
}

/// Asks for the Sanitize Status log page.
pub fn sanitize_status(device: &str) -> Invocation {
    call(&["get-log", device, "--log-id=0x81", "--log-len=20", "--raw-binary"], PATIENCE)
}

/// Formats a namespace in the format that it has, erasing user data (SES 1): all on it is lost.
pub fn format(device: &str) -> Invocation {
    let timeout = format!("--timeout={FORMAT_MS}");
    let limit = Duration::from_millis(FORMAT_MS) + PATIENCE;
    call(&["format", device, "--ses=1", "--force", &timeout], limit)
}

fn call(words: &[&str], timeout: Duration) -> Invocation {
    Invocation { tool: TOOL, args: words.iter().map(Into::into).collect(), timeout }
}

/// What a controller can erase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// Sanitize by block erase (SANICAP, bit 1).
    pub block_erase: bool,
    /// Sanitize by crypto erase (SANICAP, bit 0).
    pub crypto_erase: bool,
    /// What Format NVM reaches; `None` if the controller has no such command (OACS, bit 1).
    pub format: Option<Reach>,
}

/// What Format NVM, or its erasing, reaches (FNA, bits 0 and 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// The namespace it was told to.
    OneNamespace,
    /// All of them.
    AllNamespaces,
}

fn garbage(message: impl Into<String>) -> ToolError {
    ToolError::Garbage { tool: TOOL.to_owned(), message: message.into() }
}

/// Identify Controller data structure, figure 275.
pub fn parse_id_ctrl(finished: &Finished) -> Result<Capabilities, ToolError> {
    finished.success(TOOL)?;
    let bytes = &finished.stdout;
    if bytes.len() != IDENTIFY_BYTES {
        return Err(garbage(format!("{} bytes are no Identify Controller data structure", bytes.len())));
    }
    let bit = |byte: usize, bit: u8| bytes.get(byte).is_some_and(|value| value & (1 << bit) != 0);
    Ok(Capabilities {
        block_erase: bit(328, 1),
        crypto_erase: bit(328, 0),
        format: bit(256, 1)
            .then(|| if bit(524, 0) || bit(524, 1) { Reach::AllNamespaces } else { Reach::OneNamespace }),
    })
}

/// What newer versions print first.
const HEADING: &str = "NVME Namespace List:";

/// How many namespaces are active: lines such as `[   0]:0x1`.
pub fn parse_list_ns(finished: &Finished) -> Result<usize, ToolError> {
    finished.success(TOOL)?;
    let stdout = finished.stdout_text();
    let mut count = 0;
    for line in stdout.lines().filter(|line| !line.trim().is_empty() && line.trim() != HEADING) {
        let number = line.trim().strip_prefix('[').and_then(|rest| rest.split_once("]:0x"));
        let valid = number.is_some_and(|(_, id)| u32::from_str_radix(id, 16).is_ok_and(|id| id != 0));
        if !valid {
            return Err(garbage(format!("`{}` is no line of a namespace list", line.trim())));
        }
        count += 1;
    }
    Ok(count)
}

/// How far a sanitize operation is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum SanitizeStatus {
    /// Under way; the part that is done, 0 to 1.
    InProgress(f64),
    /// Came to its end and succeeded.
    Done,
    /// Failed; the drive may refuse reads and writes until it is sanitized again.
    Failed,
    /// None was ever begun.
    Never,
}

/// Sanitize Status log page: SPROG in bytes 0 and 1, SSTAT in bytes 2 and 3, figure 270.
pub fn parse_sanitize_status(finished: &Finished) -> Result<SanitizeStatus, ToolError> {
    finished.success(TOOL)?;
    let Some(&[p0, p1, s0, _]) = finished.stdout.first_chunk::<SANITIZE_STATUS_BYTES>() else {
        return Err(garbage("its answer is no Sanitize Status log page"));
    };
    match s0 & 0b111 {
        0 => Ok(SanitizeStatus::Never),
        1 | 4 => Ok(SanitizeStatus::Done),
        2 => Ok(SanitizeStatus::InProgress(f64::from(u16::from_le_bytes([p0, p1])) / 65536.0)),
        3 => Ok(SanitizeStatus::Failed),
        other => Err(garbage(format!("{other} is no sanitize status"))),
    }
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::tools::runner::Exit;

    fn answer(stdout: &[u8]) -> Finished {
        Finished {
            exit: Exit::Code(0),
            stdout: stdout.to_vec(),
            stderr: Vec::new(),
            truncated: false,
            elapsed: Duration::ZERO,
        }
    }

    #[test]
    fn capabilities_are_read_where_the_specification_has_them() {
        let mut bytes = vec![0_u8; IDENTIFY_BYTES];
        bytes[256] = 0b10;
        bytes[328] = 0b11;
        bytes[524] = 0b100;
        let expected =
            Capabilities { block_erase: true, crypto_erase: true, format: Some(Reach::OneNamespace) };
        assert_eq!(parse_id_ctrl(&answer(&bytes)).unwrap(), expected);
        bytes[524] = 0b10;
        assert_eq!(parse_id_ctrl(&answer(&bytes)).unwrap().format, Some(Reach::AllNamespaces));
        assert!(parse_id_ctrl(&answer(&bytes[1..])).is_err());
    }

    #[test]
    fn namespaces_are_counted_and_nothing_else_is_taken_for_one() {
        assert_eq!(parse_list_ns(&answer(b"[   0]:0x1\n[   1]:0x2\n")).unwrap(), 2);
        assert_eq!(parse_list_ns(&answer(b"NVME Namespace List:\n[   0]:0x1\n")).unwrap(), 1);
        assert_eq!(parse_list_ns(&answer(b"")).unwrap(), 0);
        for text in ["[   0]:0x0\n", "NVMe status: Invalid Field\n", "[ 0]:1\n"] {
            assert!(parse_list_ns(&answer(text.as_bytes())).is_err(), "{text}");
        }
    }

    #[test]
    fn only_a_status_of_success_is_done() {
        let status = |bytes: &[u8]| parse_sanitize_status(&answer(bytes));
        assert_eq!(status(&[0xff, 0xff, 0x01, 0x01]).unwrap(), SanitizeStatus::Done);
        assert_eq!(status(&[0xff, 0xff, 0x04, 0x01]).unwrap(), SanitizeStatus::Done);
        assert_eq!(status(&[0x00, 0x80, 0x02, 0x00]).unwrap(), SanitizeStatus::InProgress(0.5));
        assert_eq!(status(&[0, 0, 0x03, 0]).unwrap(), SanitizeStatus::Failed);
        assert_eq!(status(&[0xff, 0xff, 0x00, 0]).unwrap(), SanitizeStatus::Never);
        assert!(status(&[0, 0, 0x07, 0]).is_err());
        assert!(status(&[0xff, 0xff, 0x01]).is_err());
    }

    #[test]
    fn a_tool_that_failed_has_told_nothing() {
        let failed = Finished { exit: Exit::Code(1), ..answer(&[0; IDENTIFY_BYTES]) };
        assert!(parse_id_ctrl(&failed).is_err());
        assert!(parse_list_ns(&failed).is_err());
        assert!(parse_sanitize_status(&failed).is_err());
    }
}
