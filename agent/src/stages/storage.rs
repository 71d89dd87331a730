//! Stage Storage: reads every disk hard (fio), from its start on and at random places, goes over its surface (badblocks;
//! fio with verification where flash is written), then asks what it counted meanwhile (SMART). Disks side by side, as far
//! as the plan's budget goes.
//!
//! Each disk has four sub-steps, and the surface is scanned also when reading failed, so that bad sectors are named. A
//! fifth erases the disk where the operator asked for it. Drives behind RAID controllers are worked through their volumes,
//! and asked by themselves at the end.
//! Writes only where [`consent`] finds that it may. The boot medium is left out.

mod consent;
mod erase;
mod kernel;
mod reads;
mod rewrite;
mod sectors;
mod surface;

use std::time::Duration;

use serde_json::json;
use vetting_protocol::ids::StageName;
use vetting_protocol::inventory::Inventory;
use vetting_protocol::outcome::Outcome;
use vetting_protocol::plan::{DiskConsent, StageWork, SurfaceScan};

use super::disks::{self, Target};
use super::side_by_side::side_by_side;
use super::smart;
use super::sub_steps::{Found, SubSteps};
use super::{Effect, Stage, StageContext, StageDescription, StageError, StageReport};
use reads::Reads;

/// What a slow disk reads, for the estimate.
const READ_BYTES_PER_SECOND: u64 = 150 * 1000 * 1000;

/// How many sub-steps each disk has: read, random, surface, SMART after, and erase where that is wanted.
fn sub_steps_of(consent: DiskConsent) -> u32 {
    match consent {
        DiskConsent::EraseDisks => 5,
        DiskConsent::NonDestructive | DiskConsent::EmptyDisksOnly | DiskConsent::WipeAllowed => 4,
    }
}

pub(super) struct StorageStage;

impl Stage for StorageStage {
    fn description(&self) -> StageDescription {
        StageDescription {
            name: StageName::Storage,
            effect: Effect::Destructive,
            applies_to: "every disk but the boot medium; writes only to empty disks or with {\"wipe\": true}",
            finds: "slow disks, read errors, bad blocks, disks that drop out",
        }
    }

    fn estimate(&self, work: &StageWork, inventory: Option<&Inventory>) -> Duration {
        let StageWork::Storage { fio_read_ms, fio_random_ms, surface, .. } = work else {
            return Duration::ZERO;
        };
        let largest = inventory
            .map(|inventory| {
                disks::targets(inventory).chosen.iter().map(|target| target.disk.size_bytes).max()
            })
            .unwrap_or_default()
            .unwrap_or(0);
        let bytes = match surface {
            SurfaceScan::ReadZones { zones, zone_mib } => {
                largest.min(u64::from(*zones).saturating_mul(*zone_mib).saturating_mul(1024 * 1024))
            }
            SurfaceScan::ReadWhole => largest,
            SurfaceScan::WriteWhole => largest.saturating_mul(8),
        };
        Duration::from_millis(fio_read_ms + fio_random_ms)
            + Duration::from_secs(bytes / READ_BYTES_PER_SECOND)
    }

    fn run(&self, context: &mut StageContext<'_>, work: &StageWork) -> Result<StageReport, StageError> {
        let StageWork::Storage { fio_read_ms, fio_random_ms, surface, budget } = work else {
            return Err(StageError::WrongWork { stage: StageName::Storage });
        };
        let context: &StageContext<'_> = context;
        let targets = disks::targets_of(context)?;
        let of_disks = targets.count().saturating_mul(sub_steps_of(context.consent));
        // drives without a volume are not worked, and not asked
        let asks_drives = !targets.chosen.is_empty();
        let drives = if asks_drives { context.facts.drives_behind.len() } else { 0 };
        let of_drives = u32::try_from(drives).unwrap_or(u32::MAX);
        let sub_steps = SubSteps::new(context, of_disks.saturating_add(of_drives));
        let (read_for, random_for) =
            (Duration::from_millis(*fio_read_ms), Duration::from_millis(*fio_random_ms));
        let mut outcomes = side_by_side(&targets.chosen, *budget, |target| {
            let disk = Disk { context, sub_steps: &sub_steps, target };
            disk.test(read_for, random_for, *surface)
        });
        if asks_drives {
            outcomes.extend(smart::drives_after_load(context, &sub_steps, of_disks));
        }
        Ok(StageReport {
            outcome: Outcome::worst_of(outcomes, "this machine has no disk to test"),
            details: json!({ "disks": targets.names(), "left_out": targets.left_out, "other_paths": targets.other_paths() }),
        })
    }
}

/// Reads a disk from its start on while other parts work, and tells what the kernel logged of it meanwhile.
pub(super) fn read_under_load(
    context: &StageContext<'_>,
    sub_steps: &SubSteps<'_, '_>,
    target: &Target<'_>,
    duration: Duration,
) -> Found {
    let log = kernel::DiskLog::from_now(context.host, &target.disk.name);
    let found = Disk { context, sub_steps, target }.read(Reads::FromStart(duration));
    log.count(context, found)
}

/// One disk under test.
struct Disk<'s, 'a, 't> {
    context: &'s StageContext<'a>,
    sub_steps: &'s SubSteps<'s, 'a>,
    target: &'t Target<'t>,
}

impl Disk<'_, '_, '_> {
    fn name(&self) -> &str {
        &self.target.disk.name
    }

    fn test(&self, read_for: Duration, random_for: Duration, scan: SurfaceScan) -> Vec<Outcome> {
        let name = self.name();
        let read_ordinal = self.target.index * sub_steps_of(self.context.consent);
        let (random_ordinal, surface_ordinal, smart_ordinal) =
            (read_ordinal + 1, read_ordinal + 2, read_ordinal + 3);
        let log = kernel::DiskLog::from_now(self.context.host, name);
        let read = self.sub_steps.run(read_ordinal, &format!("{name} read"), || {
            self.sub_steps.by_time(read_ordinal, read_for, || self.read(Reads::FromStart(read_for)))
        });
        let random = self.sub_steps.run(random_ordinal, &format!("{name} random"), || {
            self.sub_steps.by_time(random_ordinal, random_for, || self.read(Reads::AtRandom(random_for)))
        });
        let surface = self.sub_steps.run(surface_ordinal, &format!("{name} surface"), || {
            let found = self.surface(surface_ordinal, scan);
            log.count(self.context, found)
        });
        let smart = self.sub_steps.run(smart_ordinal, &format!("{name} SMART after"), || {
            self.obstacle().unwrap_or_else(|| smart::after_load(self.context, self.target))
        });
        let mut outcomes = vec![read, random, surface, smart];
        if self.context.consent == DiskConsent::EraseDisks {
            let ordinal = smart_ordinal + 1;
            outcomes.push(self.sub_steps.run(ordinal, &format!("{name} erase"), || self.erase(ordinal)));
        }
        outcomes
    }

    /// The disk is gone, has no size, or the work was cancelled.
    fn obstacle(&self) -> Option<Found> {
        if let Some(vanished) = disks::vanished(self.context, self.target) {
            return Some(Found::new(vanished, json!({})));
        }
        if self.target.disk.size_bytes == 0 {
            let reason = format!("{}: says that its size is 0 bytes", self.name());
            return Some(Found::new(Outcome::fail(reason), json!({})));
        }
        self.context.cancel.is_raised().then(|| Found::new(super::cancelled(), json!({})))
    }

    /// Size of a logical sector.
    fn sector_bytes(&self) -> u64 {
        u64::from(self.target.disk.logical_sector_bytes.max(512))
    }

    /// It has no rotating medium. One that does not say is treated as rotating: written over, it only wears more.
    fn is_flash(&self) -> bool {
        self.target.disk.rotational == Some(false)
    }

    /// The logical block at a byte offset.
    fn lba(&self, offset_bytes: u64) -> u64 {
        offset_bytes / self.sector_bytes()
    }
}

#[cfg(test)]
mod tests;
