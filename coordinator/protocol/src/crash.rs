//! What an earlier boot left behind of its end: told with the claim of the boot after it.

use serde::{Deserialize, Serialize};

/// Most dumps in a claim; the newest ones.
pub const MOST_DUMPS: usize = 4;
/// Most lines of a dump; the last ones, since the cause stands at the end.
pub const MOST_LINES: usize = 200;
/// Most characters of a line.
pub const MOST_LINE_CHARS: usize = 300;

/// What was found at the start of a boot. Empty where everything was looked at and nothing found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct LeftBehind {
    /// What a dying kernel wrote to memory that outlives a restart (pstore), oldest first.
    pub dumps: Vec<CrashDump>,
    /// Lines of this boot's kernel about errors of the hardware before it: the firmware's boot error record (ACPI BERT),
    /// machine-check banks that were still set.
    pub hardware_errors: Vec<String>,
    /// What could not be looked at, and why.
    pub unread: Vec<String>,
}

/// The end of one kernel's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CrashDump {
    /// Where it was kept: `efi_pstore`, `erst`, `ramoops`.
    pub store: String,
    /// In the kernel's word: `Panic`, `Oops`, `Emergency`.
    pub reason: String,
    /// When it was written, ms since the epoch; absent if the store has no times.
    pub ts_ms: Option<i64>,
    /// In order, without level and time.
    pub lines: Vec<String>,
}
