//! What an agent in host mode says: one on an installed system, that shows itself now and then and takes runs there.

use serde::{Deserialize, Serialize};

use crate::ids::{RunId, Sha256Hex};
use crate::inventory::Inventory;
use crate::plan::{DiskConsent, Plan, PlannedStage, StageWork};
use crate::secret::Secret;

/// Most memory that a load takes from an installed system, percent of what is available.
pub const MOST_MEMORY_PERCENT: u8 = 25;

/// `POST /agent/v1/host/heartbeat`: here I am.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct HostHeartbeat {
    /// [`crate::PROTOCOL_VERSION`] of the agent.
    pub protocol_version: u32,
    /// Version of the agent.
    pub agent_version: String,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    /// Digest of the inventory taken last, see [`digest`].
    pub inventory_sha256: Sha256Hex,
}

/// What follows from a heartbeat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct HostDirective {
    /// The coordinator has another inventory of this machine, or none: send it.
    pub send_inventory: bool,
    /// A run that waits for this machine.
    pub run: Option<HostRun>,
    /// When to be heard from again, milliseconds from now.
    pub next_ms: u64,
}

/// A run to claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct HostRun {
    /// The run.
    pub run_id: RunId,
    /// Good once.
    pub claim_secret: Secret,
}

/// `PUT /agent/v1/host/inventory`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct HostInventory {
    /// What the machine is made of.
    pub inventory: Inventory,
}

/// By what two inventories are told apart: SHA-256 of the inventory as compact JSON.
///
/// # Errors
/// An inventory that has no text, which none is.
pub fn digest(inventory: &Inventory) -> Result<Sha256Hex, serde_json::Error> {
    Ok(Sha256Hex::of(&serde_json::to_vec(inventory)?))
}

/// Whether a stage may run on an installed system that goes on with its own work meanwhile.
pub fn allows(work: &StageWork) -> bool {
    match work {
        StageWork::Inventory {}
        | StageWork::Firmware {}
        | StageWork::SpecValidate {}
        | StageWork::Smart { .. }
        | StageWork::CpuStress { .. }
        | StageWork::Storage { .. }
        | StageWork::Network { .. }
        | StageWork::Psu { .. } => true,
        // they take the whole machine
        StageWork::Memory { .. }
        | StageWork::Burn { .. }
        | StageWork::Gpu { .. }
        | StageWork::Reboot { .. }
        | StageWork::Memtest { .. } => false,
    }
}

/// What of a plan an installed system is asked for: the stages that are allowed, with less memory, and no writing.
pub fn tame(stages: impl IntoIterator<Item = PlannedStage>) -> Vec<PlannedStage> {
    let mut stages: Vec<PlannedStage> = stages.into_iter().filter(|planned| allows(&planned.work)).collect();
    for planned in &mut stages {
        if let StageWork::CpuStress { memory_percent, .. } = &mut planned.work {
            *memory_percent = (*memory_percent).min(MOST_MEMORY_PERCENT);
        }
    }
    stages
}

/// Why an agent in host mode must not work through a plan, whatever the coordinator says; `None` if it may.
pub fn objection(plan: &Plan) -> Option<String> {
    if plan.consent != DiskConsent::NonDestructive {
        return Some("the plan lets disks be written".to_owned());
    }
    plan.stages.iter().find_map(|planned| match &planned.work {
        work if !allows(work) => Some(format!("{} is no stage for an installed system", work.name())),
        StageWork::CpuStress { memory_percent, .. } if *memory_percent > MOST_MEMORY_PERCENT => {
            Some(format!("CPUStress would take {memory_percent} % of the memory"))
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::ProfileName;

    fn stage(work: StageWork) -> PlannedStage {
        PlannedStage { limit_ms: 1000, needs_turn: false, work }
    }

    fn plan(consent: DiskConsent, stages: Vec<PlannedStage>) -> Plan {
        Plan {
            run_id: RunId(1),
            host_name: "node1".to_owned(),
            profile: ProfileName::Quick,
            sampling_interval_ms: 5000,
            expected_spec_yaml: String::new(),
            consent,
            stages,
            resumed: None,
            serial_console: false,
            power_control: false,
        }
    }

    #[test]
    fn a_hostile_plan_is_refused_and_a_tamed_one_is_not() {
        let load = StageWork::CpuStress { cpu_ms: 1, per_core_ms: 1, memory_ms: 1, memory_percent: 95 };
        let memory = StageWork::Memory { duration_ms: 1, fade_ms: 0 };
        let all = vec![stage(StageWork::Inventory {}), stage(load), stage(memory.clone())];
        let tamed = tame(all.clone());
        assert_eq!(tamed.len(), 2);
        assert_eq!(objection(&plan(DiskConsent::NonDestructive, tamed.clone())), None);
        for consent in [DiskConsent::EmptyDisksOnly, DiskConsent::WipeAllowed, DiskConsent::EraseDisks] {
            assert!(objection(&plan(consent, tamed.clone())).is_some(), "{consent:?}");
        }
        let words = |stages| objection(&plan(DiskConsent::NonDestructive, stages)).unwrap();
        assert!(words(vec![stage(memory)]).contains("Memory is no stage"));
        assert!(words(all[..2].to_vec()).contains("95 %"));
    }
}
