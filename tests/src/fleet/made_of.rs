//! What a fleet's machines are made of: a recorded machine, with serial numbers of their own.

use std::path::Path;

use anyhow::Context as _;
use vetting_agent::host::Host;
use vetting_agent::inventory;
use vetting_agent::tools::runner::RecordedRunner;
use vetting_judge::spec::{Spec, compare};
use vetting_protocol::diff::SpecDiff;
use vetting_protocol::firmware::FirmwareReport;
use vetting_protocol::inventory::Inventory;

/// Of the recorded machines under `tests/hosts`, the one with the most parts.
const RECORDED: &str = "hosts/handbuilt-2-socket-server";

/// The facts of a machine.
#[derive(Debug, Clone)]
pub struct MadeOf {
    /// Its parts.
    pub inventory: Inventory,
    /// Their firmware.
    pub firmware: FirmwareReport,
}

impl MadeOf {
    /// As it was recorded.
    pub fn recorded() -> anyhow::Result<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(RECORDED);
        let (host, tools) = (Host::recorded(folder.join("root")), RecordedRunner::new(folder.join("tools")));
        let inventory = inventory::collect(&host, &tools);
        let firmware = inventory::firmware::collect(&host, &tools, &inventory);
        Ok(Self { inventory, firmware })
    }

    /// The spec that it fits.
    pub fn spec_yaml(&self) -> anyhow::Result<String> {
        Ok(Spec::from_inventory(&self.inventory, &self.firmware).to_yaml()?)
    }

    /// Another machine of the same model.
    #[must_use]
    pub fn numbered(&self, number: u32) -> Self {
        let mut other = self.clone();
        let inventory = &mut other.inventory;
        let serials = inventory
            .disks
            .iter_mut()
            .map(|disk| &mut disk.serial)
            .chain(inventory.memory.dimms.iter_mut().map(|dimm| &mut dimm.serial))
            .chain([&mut inventory.system.serial]);
        for serial in serials.flatten() {
            *serial = format!("{serial}-{number}");
        }
        other
    }

    /// The same without one of its memory modules.
    pub fn comes_short(&mut self) {
        let dimm = self.inventory.memory.dimms.pop();
        let missing = dimm.map_or(0, |dimm| dimm.size_bytes);
        if let Some(installed) = &mut self.inventory.memory.installed_bytes {
            *installed -= missing;
        }
    }

    /// What differs from a spec.
    pub fn diffs(&self, spec_yaml: &str) -> anyhow::Result<Vec<SpecDiff>> {
        Ok(compare(&Spec::parse(spec_yaml).context("the plan's spec")?, &self.inventory, &self.firmware))
    }
}
