//! The results folder that a run without a coordinator leaves on its stick: `results/<date>-<machine>/`.
//!
//! | File | Holds |
//! |---|---|
//! | `run.json` | [`ResultsHeader`], written first |
//! | `profile.yaml` | the profile, as it was used |
//! | `spec.yaml` | the expected spec, if there was one |
//! | `run.jsonl` | every [`crate::agent_api::Record`], one a line, as it happened |
//! | `report.json`, `report.html` | the report |
//! | `<kind>-<name>` | what else a stage stored with the run ([`artifact_file`]) |
//! | `SHA256SUMS` | digests of all of these, as `sha256sum -c` reads them; written last |

use serde::{Deserialize, Serialize};

use crate::agent_api::BootTimeline;
use crate::ids::{MacAddress, ParseIdError, Sha256Hex};
use crate::profile::ProfileName;

/// The folder of all results on a stick.
pub const RESULTS_FOLDER: &str = "results";
/// See the module.
pub const HEADER_FILE: &str = "run.json";
/// See the module.
pub const PROFILE_FILE: &str = "profile.yaml";
/// See the module.
pub const SPEC_FILE: &str = "spec.yaml";
/// See the module.
pub const STREAM_FILE: &str = "run.jsonl";
/// See the module.
pub const REPORT_FILE: &str = "report.json";
/// See the module.
pub const REPORT_HTML_FILE: &str = "report.html";
/// See the module.
pub const MANIFEST_FILE: &str = "SHA256SUMS";

/// The name of a file that a stage stored with the run; `kind` has no dash.
pub fn artifact_file(kind: &str, name: &str) -> String {
    format!("{kind}-{name}")
}

/// Kind and name of such a file.
pub fn artifact_of(file: &str) -> Option<(&str, &str)> {
    file.split_once('-').filter(|(kind, name)| !kind.is_empty() && !name.is_empty())
}

/// Version of the folder's form.
pub const RESULTS_FORMAT: u32 = 1;

/// What is known when a run without a coordinator begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResultsHeader {
    /// [`RESULTS_FORMAT`] of the program that wrote it.
    pub format: u32,
    /// [`crate::PROTOCOL_VERSION`] of the records.
    pub protocol_version: u32,
    /// Tells this run from all others.
    pub uuid: String,
    /// The agent's package version.
    pub agent_version: String,
    /// The machine's name: its serial number, or what else tells it from others.
    pub machine_name: String,
    /// SMBIOS system UUID, where the machine has one.
    pub system_uuid: Option<String>,
    /// MAC addresses of its network cards; may be none.
    pub macs: Vec<MacAddress>,
    /// The profile.
    pub profile: ProfileName,
    /// The profile is not the one that comes with the program.
    pub own_profile: bool,
    /// Consent: every disk but the stick could be overwritten.
    pub wipe: bool,
    /// An expected spec was there.
    pub has_spec: bool,
    /// When it began, ms since the epoch.
    pub started_ms: i64,
    /// Where the time since the kernel's start went; its claim is the start of the run.
    pub timeline: BootTimeline,
}

/// A line of the manifest: a file of the folder with its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestLine {
    /// A plain file name.
    pub name: String,
    /// The digest of its bytes.
    pub sha256: Sha256Hex,
}

/// Writes a manifest as `sha256sum` does.
pub fn manifest_text(lines: &[ManifestLine]) -> String {
    let mut text = String::new();
    for ManifestLine { name, sha256 } in lines {
        text.extend([sha256.to_string().as_str(), "  ", name, "\n"]);
    }
    text
}

/// Reads a manifest.
///
/// # Errors
/// A line that is not a digest, two blanks and a plain file name.
pub fn parse_manifest(text: &str) -> Result<Vec<ManifestLine>, ParseIdError> {
    text.lines()
        .map(|line| {
            let refused = || ParseIdError {
                found: line.to_owned(),
                expected: "a line of sha256sum: digest, two blanks, file name",
            };
            let (digest, name) = line.split_once("  ").ok_or_else(refused)?;
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
            if name.is_empty() || name.starts_with('.') || !name.bytes().all(plain) {
                return Err(refused());
            }
            Ok(ManifestLine { name: name.to_owned(), sha256: digest.parse()? })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_manifest_reads_as_it_was_written() {
        let lines = ["run.json", "report.html"]
            .map(|name| ManifestLine { name: name.to_owned(), sha256: Sha256Hex::of(name.as_bytes()) });
        assert_eq!(parse_manifest(&manifest_text(&lines)).unwrap(), lines);
    }

    #[test]
    fn a_name_that_leads_out_of_the_folder_is_refused() {
        let digest = Sha256Hex::of(b"x");
        for name in ["../run.json", "/etc/passwd", "a/b", "", ".hidden", "a b"] {
            assert!(parse_manifest(&format!("{digest}  {name}\n")).is_err(), "{name}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in "\\PC{0,200}") {
            let _ = parse_manifest(&text);
        }
    }
}
