//! One sample of one quantity. Facts only; the judge decides what they mean.

use serde::{Deserialize, Serialize};

use crate::ids::StageName;

/// One sample. A row of `measurements`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Measurement {
    /// When it was taken, by the agent's clock: milliseconds since the Unix epoch.
    pub ts_ms: i64,
    /// The stage that ran then; absent between stages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<StageName>,
    /// The quantity: `temp`, `fan`, `volt`, `power`, `cpu_freq`, `cpu_load`, `smart_attr`, `fio`, `badblocks`, ….
    pub kind: String,
    /// Which one: `cpu/0`, `sda/5_reallocated_sector_ct`, `nvme0n1/read_bandwidth`.
    pub key: String,
    /// The value; absent when the sensor gave none, which no rule may take for a good value.
    pub value: Option<f64>,
    /// Its unit: `celsius`, `rpm`, `volts`, `watts`, `mhz`, `percent`, `bytes_per_second`, `count`, ….
    pub unit: String,
}
