//! Hosts that are registered together, results of machines that worked alone, and samples of a run for other programs.

use serde::{Deserialize, Serialize};

use crate::ids::{RunId, named_enum};
use crate::run::RunResult;

named_enum! {
    /// How a list of hosts is written.
    HostListFormat, "csv or yaml" {
        /// CSV (RFC 4180) with a header line.
        Csv = "csv",
        /// YAML or JSON: a list of mappings.
        Yaml = "yaml",
    }
}

/// Registers a list of hosts: all of them, or none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct HostImport {
    /// How `text` is written.
    pub format: HostListFormat,
    /// The list.
    pub text: String,
    /// The model of hosts that name none and have no spec.
    #[serde(default)]
    pub model: Option<String>,
    /// Only say what would be done.
    #[serde(default)]
    pub dry_run: bool,
    /// Leave hosts alone whose name is registered already; otherwise they are mistakes.
    #[serde(default)]
    pub skip_existing: bool,
}

/// What became of a list of hosts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct HostImportView {
    /// Nothing was registered: it was only tried.
    pub dry_run: bool,
    /// Names of those that were registered, or would be.
    pub added: Vec<String>,
    /// Names of those that were there already.
    pub existing: Vec<String>,
}

/// What became of the results of a machine that worked without a coordinator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RunImportView {
    /// Their run.
    pub run: RunId,
    /// The machine.
    pub host: String,
    /// The verdict, as made here.
    pub result: RunResult,
    /// They were not there before; otherwise nothing was done.
    pub new_run: bool,
    /// The machine was registered with them.
    pub new_host: bool,
    /// In what the machine's own report differs from the one made here.
    pub differences: Vec<String>,
}

/// A sample of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SampleView {
    /// Key; ask for what came after it.
    pub id: i64,
    /// When, UTC with milliseconds.
    pub ts: String,
    /// The stage; absent between stages.
    pub stage: Option<String>,
    /// The quantity.
    pub kind: String,
    /// Which one.
    pub key: String,
    /// The value; absent where the sensor gave none.
    pub value: Option<f64>,
    /// Its unit.
    pub unit: String,
}
