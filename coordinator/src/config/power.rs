//! `power:` of the configuration, without its hooks.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::PathBuf;

use serde::Deserialize;
use vetting_judge::duration::HumanDuration;
use vetting_protocol::ids::StageName;

use super::hooks::Hook;

/// Power control.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PowerConfig {
    /// Passwords of BMCs and PDUs by name: a YAML file that only the coordinator's user may read; `None`: the environment
    /// alone.
    pub secrets: Option<PathBuf>,
    /// Between off and on, for supplies to lose their charge.
    pub off_pause: HumanDuration,
    /// How long a machine that switches itself off for a cold start may take before its power is cut.
    pub shutdown_wait: HumanDuration,
    /// Programs and devices that switch outlets, by name.
    pub hooks: BTreeMap<String, Hook>,
    /// What machines may draw at once.
    pub budget: PowerBudget,
}

impl Default for PowerConfig {
    fn default() -> Self {
        Self {
            secrets: None,
            off_pause: HumanDuration::from_ms(10_000),
            shutdown_wait: HumanDuration::from_ms(60_000),
            hooks: BTreeMap::new(),
            budget: PowerBudget::default(),
        }
    }
}

/// What machines may draw at once. Without `machines` and `watts` no stage waits for another.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PowerBudget {
    /// So many may be in one of `stages`.
    pub machines: Option<NonZeroU32>,
    /// So much may be drawn in them together.
    pub watts: Option<NonZeroU32>,
    /// By a machine that nobody measured and nobody told of, watts.
    pub assumed_watts: NonZeroU32,
    /// The stages that wait for their turn.
    pub stages: Vec<StageName>,
    /// Between two machines that are switched on; zero: none waits for another.
    pub boot_spacing: HumanDuration,
}

impl Default for PowerBudget {
    fn default() -> Self {
        Self {
            machines: None,
            watts: None,
            assumed_watts: const { NonZeroU32::new(500).unwrap() },
            stages: vec![StageName::Burn],
            boot_spacing: HumanDuration::from_ms(0),
        }
    }
}
