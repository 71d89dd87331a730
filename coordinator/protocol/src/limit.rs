//! Limits that the hardware itself gives for its sensors: hwmon's `*_crit`, the thresholds of a BMC. Facts only; whether
//! one can be believed is for the judge to say.

use serde::{Deserialize, Serialize};

use crate::ids::named_enum;

named_enum! {
    /// Which side of what is good.
    Bound, "a bound (upper, lower)" {
        /// Good is below.
        Upper = "upper",
        /// Good is above.
        Lower = "lower",
    }
}

named_enum! {
    /// How grave it is to be beyond.
    LimitGrade, "the grade of a limit (critical, warning)" {
        /// hwmon `crit`, `lcrit`, `emergency`; IPMI critical and non-recoverable.
        Critical = "critical",
        /// hwmon `max`, `min`; IPMI non-critical.
        Warning = "warning",
    }
}

/// A limit of one sensor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct HardwareLimit {
    /// The quantity, as its measurements have it: `temp`.
    pub kind: String,
    /// The sensor, likewise: `cpu/0`, `bmc/CPU1_Temp`.
    pub key: String,
    /// Which side is good.
    pub bound: Bound,
    /// How grave it is to be beyond.
    pub grade: LimitGrade,
    /// The limit, in `unit`.
    pub value: f64,
    /// Unit of the limit and of the measurements.
    pub unit: String,
    /// Where it stands: `/sys/class/hwmon/hwmon2/temp1_crit`, `BMC, upper critical`.
    pub origin: String,
    /// What the sensor said when the limit was read.
    pub observed: Option<f64>,
    /// Whether the hardware itself then said that the limit is passed; absent if it does not say.
    pub asserted: Option<bool>,
}
