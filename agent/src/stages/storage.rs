//! Stage Storage: reads every disk hard (fio), goes over its surface (badblocks), then asks what it counted meanwhile
//! (SMART), all disks side by side.
//!
//! Each disk has three sub-steps, and the surface is scanned also when reading failed, so that bad sectors are named.
//! Writes only where [`consent`] finds that it may. The boot medium is left out.

mod consent;
mod sectors;
mod surface;

use std::time::Duration;

use serde_json::{Value, json};
use vetting_protocol::ids::StageName;
use vetting_protocol::inventory::Inventory;
use vetting_protocol::outcome::Outcome;
use vetting_protocol::plan::{StageWork, SurfaceScan};

use super::disks::{self, Target};
use super::smart;
use super::sub_steps::{Found, SubSteps};
use super::{Effect, Stage, StageContext, StageDescription, StageError, StageReport};
use crate::host::KernelLog;
use crate::tools::fio;

/// What a slow disk reads, for the estimate.
const READ_BYTES_PER_SECOND: u64 = 150 * 1000 * 1000;
/// Of each disk: read, surface, SMART after.
const SUB_STEPS: u32 = 3;
/// Failed reads that a reason names.
const FAILED_READS_NAMED: usize = 4;

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
        let StageWork::Storage { fio_read_ms, surface } = work else {
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
        Duration::from_millis(*fio_read_ms) + Duration::from_secs(bytes / READ_BYTES_PER_SECOND)
    }

    fn run(&self, context: &mut StageContext<'_>, work: &StageWork) -> Result<StageReport, StageError> {
        let StageWork::Storage { fio_read_ms, surface } = work else {
            return Err(StageError::WrongWork { stage: StageName::Storage });
        };
        let context: &StageContext<'_> = context;
        let targets = disks::targets_of(context)?;
        let sub_steps = SubSteps::new(context, targets.count().saturating_mul(SUB_STEPS));
        let read_for = Duration::from_millis(*fio_read_ms);
        let outcomes = disks::side_by_side(&targets.chosen, |target| {
            let disk = Disk { context, sub_steps: &sub_steps, target };
            disk.test(read_for, *surface)
        });
        Ok(StageReport {
            outcome: Outcome::worst_of(outcomes, "this machine has no disk to test"),
            details: json!({ "disks": targets.names(), "left_out": targets.left_out, "other_paths": targets.other_paths() }),
        })
    }
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

    fn test(&self, read_for: Duration, scan: SurfaceScan) -> Vec<Outcome> {
        let name = self.name();
        let first = self.target.index * SUB_STEPS;
        let (read_ordinal, surface_ordinal, smart_ordinal) = (first, first + 1, first + 2);
        let log = self.context.host.kernel_log_from_now();
        let read = self.sub_steps.run(read_ordinal, &format!("{name} read"), || {
            self.sub_steps.by_time(read_ordinal, read_for, || self.read(read_for))
        });
        let surface = self.sub_steps.run(surface_ordinal, &format!("{name} surface"), || {
            let found = self.surface(surface_ordinal, scan);
            self.count_kernel_errors(log, found)
        });
        let smart = self.sub_steps.run(smart_ordinal, &format!("{name} SMART after"), || {
            self.obstacle().unwrap_or_else(|| smart::after_load(self.context, self.target))
        });
        vec![read, surface, smart]
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

    fn read(&self, read_for: Duration) -> Found {
        if let Some(obstacle) = self.obstacle() {
            return obstacle;
        }
        let name = self.name();
        let invocation = fio::invocation(&self.target.device, read_for);
        let finished = self.context.tools.run(&invocation, &self.context.cancel, &mut |_, _| {});
        let report = finished.and_then(|finished| fio::parse(&finished));
        if let Some(vanished) = disks::vanished(self.context, self.target) {
            return Found::new(vanished, json!({}));
        }
        let report = match report {
            Ok(report) => report,
            Err(error) => {
                return Found::new(Outcome::error(format!("{name}: {}", error.reason())), json!({}));
            }
        };
        let measure =
            |key: &str, value, unit| self.context.measure("fio", format!("{name}/{key}"), value, unit);
        measure("read_bandwidth", Some(report.bandwidth_bytes_per_second), "bytes_per_second");
        measure("read_iops", Some(report.iops), "per_second");
        measure("read_latency_p99", report.latency_p99_microseconds, "microseconds");
        measure("read_errors", Some(report.errors as f64), "count");
        let details = json!({
            "bytes": report.bytes,
            "bandwidth_bytes_per_second": report.bandwidth_bytes_per_second,
            "errors": report.errors,
            "first_errno": report.first_errno,
            "failed_offsets": report.failed_offsets,
        });
        if report.errors == 0 {
            return Found::new(Outcome::Pass, details);
        }
        Found::new(Outcome::fail(self.read_failure(&report)), details)
    }

    /// `sda: 2 reads of 1 MiB failed, in sectors 40960 to 43007, 98304 to 100351`: in these lie the ones that the surface
    /// scan names.
    fn read_failure(&self, report: &fio::ReadReport) -> String {
        let places: Vec<String> = report
            .failed_offsets
            .iter()
            .take(FAILED_READS_NAMED)
            .map(|offset| {
                let last = self.lba(offset.saturating_add(fio::BLOCK_BYTES - 1));
                format!("{} to {last}", self.lba(*offset))
            })
            .collect();
        let at =
            if places.is_empty() { String::new() } else { format!(", in sectors {}", places.join(", ")) };
        let more = if report.failed_offsets.len() > places.len() { " and more" } else { "" };
        let reads = if report.errors == 1 { "read" } else { "reads" };
        format!("{}: {} {reads} of 1 MiB failed{at}{more}", self.name(), report.errors)
    }

    /// Size of a logical sector.
    fn sector_bytes(&self) -> u64 {
        u64::from(self.target.disk.logical_sector_bytes.max(512))
    }

    /// The logical block at a byte offset.
    fn lba(&self, offset_bytes: u64) -> u64 {
        offset_bytes / self.sector_bytes()
    }

    /// Counts what the kernel logged of this disk since the test of it began. A lower bound: the kernel limits the rate
    /// of these lines over all disks. Any one is enough to fail, and failed reads are counted by fio and badblocks too.
    fn count_kernel_errors(&self, log: Result<KernelLog, crate::host::HostError>, mut found: Found) -> Found {
        let name = self.name();
        let messages = log.and_then(|mut log| log.new_messages());
        let errors: Result<Vec<String>, String> = messages
            .map(|messages| messages.into_iter().filter(|message| is_io_error_of(message, name)).collect())
            .map_err(|error| error.reason());
        // without a value no rule can take it for a good one
        let count = errors.as_ref().ok().map(|errors| errors.len() as f64);
        self.context.measure("kernel", format!("{name}/io_errors"), count, "count");
        if let Value::Object(details) = &mut found.details {
            let told = match &errors {
                // the kernel leaves lines out when there are many (`… callbacks suppressed`): at least so many
                Ok(errors) => json!({ "at_least": errors.len(), "first": errors.first() }),
                Err(reason) => json!({ "unknown": reason }),
            };
            details.insert("kernel_io_errors".to_owned(), told);
        }
        found
    }
}

/// `I/O error, dev sda, sector 8`, `critical medium error, dev sda, …`, `Buffer I/O error on dev sda, logical block 1`.
fn is_io_error_of(message: &str, disk: &str) -> bool {
    message.match_indices("dev ").any(|(at, word)| {
        let (before, after) = message.split_at(at);
        let name = after.strip_prefix(word).and_then(|rest| rest.split([',', ' ']).next());
        before.to_ascii_lowercase().contains("error") && name == Some(disk)
    })
}

#[cfg(test)]
mod tests;
