//! `timeouts:`, `claim:`, `hold:`, `after_run:`, `artifacts:` and `logs:` of the configuration: how long runs are waited for,
//! what becomes of their machines, and how long their files are kept.

use std::num::NonZeroU32;

use serde::Deserialize;
use vetting_judge::duration::HumanDuration;
use vetting_protocol::agent_api::AfterRun;

/// How long is waited for what before a run ends as failed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Timeouts {
    /// From the magic packet, or from `run start`, to the boot script.
    pub wake: HumanDuration,
    /// From the boot script to the claim.
    pub boot: HumanDuration,
    /// Between two signs of life of an agent.
    pub silence: HumanDuration,
    /// From an announced reboot to the next claim.
    pub reboot: HumanDuration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            wake: HumanDuration::from_ms(15 * 60_000),
            boot: HumanDuration::from_ms(10 * 60_000),
            silence: HumanDuration::from_ms(2 * 60_000),
            reboot: HumanDuration::from_ms(20 * 60_000),
        }
    }
}

/// One-time claim secrets.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Claim {
    /// How long a boot script's secret is good for.
    pub lifetime: HumanDuration,
}

impl Default for Claim {
    fn default() -> Self {
        Self { lifetime: HumanDuration::from_ms(15 * 60_000) }
    }
}

/// Failed machines.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Hold {
    /// How long a failed machine is kept up; zero: not at all.
    pub limit: HumanDuration,
    /// How long before that an event tells that the end is near.
    pub warning: HumanDuration,
}

impl Default for Hold {
    fn default() -> Self {
        Self { limit: HumanDuration::from_ms(24 * 3_600_000), warning: HumanDuration::from_ms(3_600_000) }
    }
}

/// What becomes of a machine after its run.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AfterRuns {
    /// After a pass.
    pub pass: AfterRun,
    /// After a fail; `stay` keeps it up for `hold.limit`.
    pub fail: AfterRun,
}

impl Default for AfterRuns {
    fn default() -> Self {
        Self { pass: AfterRun::PowerOff, fail: AfterRun::Stay }
    }
}

/// How long files are kept once their run is over.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Kept {
    /// Absent: for ever.
    pub retention_days: Option<NonZeroU32>,
}
