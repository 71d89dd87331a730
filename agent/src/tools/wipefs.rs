//! wipefs (util-linux 2.38 to 2.41), only ever to look (`--no-act`): signatures of file systems, RAIDs and partition
//! tables on a disk.

use std::time::Duration;

use serde::Deserialize;

use super::runner::{Finished, Invocation, ToolError};

const TOOL: &str = "wipefs";

/// Looks for signatures on `device`.
pub fn invocation(device: &str) -> Invocation {
    Invocation {
        tool: TOOL,
        args: vec!["--no-act".into(), "--json".into(), device.into()],
        timeout: Duration::from_mins(2),
    }
}

#[derive(Deserialize)]
struct Json {
    signatures: Vec<Signature>,
}

#[derive(Deserialize)]
struct Signature {
    #[serde(rename = "type")]
    kind: String,
}

/// Types of the signatures found: `gpt`, `ext4`, `LVM2_member`. Nothing it says but an empty list means none.
pub fn parse(finished: &Finished) -> Result<Vec<String>, ToolError> {
    finished.success(TOOL)?;
    let json: Json = serde_json::from_slice(&finished.stdout).map_err(|error| ToolError::Garbage {
        tool: TOOL.to_owned(),
        message: format!("its JSON cannot be read: {error}"),
    })?;
    Ok(json.signatures.into_iter().map(|signature| signature.kind).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::fixture;

    #[test]
    fn signatures_are_named_and_none_is_an_empty_list() {
        assert_eq!(parse(&fixture("wipefs", "2.38-ext4")).unwrap(), ["ext4"]);
        assert_eq!(parse(&fixture("wipefs", "2.41-gpt")).unwrap(), ["gpt", "gpt", "PMBR"]);
        for empty in ["2.38-empty-disk", "2.41-empty-disk"] {
            assert_eq!(parse(&fixture("wipefs", empty)).unwrap(), Vec::<String>::new(), "{empty}");
        }
    }

    #[test]
    fn no_answer_is_not_an_empty_disk() {
        assert!(matches!(parse(&fixture("wipefs", "2.38-no-such-disk")), Err(ToolError::Failed { .. })));
        assert!(matches!(parse(&fixture("wipefs", "bad-no-output")), Err(ToolError::Garbage { .. })));
        assert!(matches!(parse(&fixture("wipefs", "bad-killed")), Err(ToolError::Signalled { .. })));
    }
}
