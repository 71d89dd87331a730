//! blkid (util-linux 2.38 to 2.41): which block devices hold a file system of a given label. The volume id of an ISO
//! counts as its label.

use std::time::Duration;

use super::runner::{Finished, Invocation, ToolError};

const TOOL: &str = "blkid";
/// How it says that no device has the label.
const NOTHING_FOUND: i32 = 2;

/// Looks at every block device, and at nothing it remembers from before.
pub fn invocation(label: &str) -> Invocation {
    Invocation {
        tool: TOOL,
        args: vec![
            "-c".into(),
            "/dev/null".into(),
            "-t".into(),
            format!("LABEL={label}").into(),
            "-o".into(),
            "export".into(),
        ],
        timeout: Duration::from_secs(30),
    }
}

/// A device with the label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labelled {
    /// `/dev/sdb1`.
    pub device: String,
    /// `vfat`, `iso9660`.
    pub file_system: String,
}

/// The devices found, in blkid's order; none if there are none.
///
/// # Errors
/// The tool failed, or a device of which it does not say what file system it holds.
pub fn parse(finished: &Finished) -> Result<Vec<Labelled>, ToolError> {
    if finished.code(TOOL)? == NOTHING_FOUND && finished.stdout.is_empty() {
        return Ok(Vec::new());
    }
    finished.success(TOOL)?;
    let text = finished.stdout_text();
    let blocks = text.split("\n\n").filter(|block| !block.trim().is_empty());
    blocks
        .map(|block| {
            let value = |name: &str| {
                let line = block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
                line.filter(|value| !value.is_empty()).map(str::to_owned).ok_or_else(|| ToolError::Garbage {
                    tool: TOOL.to_owned(),
                    message: format!("a device without {name}"),
                })
            };
            Ok(Labelled { device: value("DEVNAME")?, file_system: value("TYPE")? })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::fixture;

    #[test]
    fn sticks_and_discs_are_found_by_their_label() {
        let found = parse(&fixture("blkid", "2.38-fat-and-iso")).unwrap();
        let found: Vec<_> = found.iter().map(|found| (&*found.device, &*found.file_system)).collect();
        assert_eq!(found, [("/dev/loop1", "iso9660"), ("/dev/loop0", "vfat")]);
        assert_eq!(parse(&fixture("blkid", "2.38-none")).unwrap(), []);
    }

    #[test]
    fn no_answer_is_not_no_device() {
        assert!(matches!(parse(&fixture("blkid", "bad-killed")), Err(ToolError::Signalled { .. })));
        assert!(matches!(parse(&fixture("blkid", "bad-usage")), Err(ToolError::Failed { .. })));
    }
}
