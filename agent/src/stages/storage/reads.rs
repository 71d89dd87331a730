//! Reading a disk hard with fio: how fast it is, how long single reads take, and which fail.

use std::time::Duration;

use serde_json::json;
use vetting_protocol::outcome::Outcome;

use super::super::disks;
use super::super::sub_steps::Found;
use super::Disk;
use crate::tools::fio::{self, Job};

/// Failed reads that a reason names.
const FAILED_READS_NAMED: usize = 4;

/// How a disk is read.
#[derive(Debug, Clone, Copy)]
pub(super) enum Reads {
    /// One after the other, 1 MiB each.
    FromStart(Duration),
    /// 4 KiB here and there.
    AtRandom(Duration),
}

impl Reads {
    fn job(self) -> Job {
        match self {
            Self::FromStart(time) => Job::SequentialRead(time),
            Self::AtRandom(time) => Job::RandomRead(time),
        }
    }

    /// What its measurements begin with.
    fn prefix(self) -> &'static str {
        match self {
            Self::FromStart(_) => "read",
            Self::AtRandom(_) => "random_read",
        }
    }
}

impl Disk<'_, '_, '_> {
    pub(super) fn read(&self, reads: Reads) -> Found {
        if let Some(obstacle) = self.obstacle() {
            return obstacle;
        }
        let (name, job) = (self.name(), reads.job());
        let invocation = fio::invocation(&self.target.device, job);
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
        self.measure_flow(reads.prefix(), &report.read);
        let errors = format!("{}_errors", reads.prefix());
        self.context.measure("fio", format!("{name}/{errors}"), Some(report.errors as f64), "count");
        let details = json!({
            "bytes": report.read.bytes,
            "bandwidth_bytes_per_second": report.read.bandwidth_bytes_per_second,
            "iops": report.read.iops,
            "errors": report.errors,
            "first_errno": report.first_errno,
            "failed_offsets": report.failed_offsets,
        });
        if report.errors == 0 {
            return Found::new(Outcome::Pass, details);
        }
        Found::new(Outcome::fail(self.read_failure(&report, job.block_bytes())), details)
    }

    /// Bandwidth, operations a second, and latency of one direction.
    pub(super) fn measure_flow(&self, prefix: &str, flow: &fio::Flow) {
        let measure = |what: &str, value, unit| {
            self.context.measure("fio", format!("{}/{prefix}_{what}", self.name()), value, unit);
        };
        measure("bandwidth", Some(flow.bandwidth_bytes_per_second), "bytes_per_second");
        measure("iops", Some(flow.iops), "per_second");
        for (percentile, latency) in ["p50", "p99", "p999"].into_iter().zip(flow.latency_microseconds) {
            measure(&format!("latency_{percentile}"), latency, "microseconds");
        }
    }

    /// `sda: 2 reads of 1024 KiB failed, in sectors 40960 to 43007, 98304 to 100351`: in these lie the ones that the
    /// surface scan names.
    fn read_failure(&self, report: &fio::Report, block_bytes: u64) -> String {
        let places: Vec<String> = report
            .failed_offsets
            .iter()
            .take(FAILED_READS_NAMED)
            .map(|offset| {
                let last = self.lba(offset.saturating_add(block_bytes - 1));
                format!("{} to {last}", self.lba(*offset))
            })
            .collect();
        let at =
            if places.is_empty() { String::new() } else { format!(", in sectors {}", places.join(", ")) };
        let more = if report.failed_offsets.len() > places.len() { " and more" } else { "" };
        let reads = if report.errors == 1 { "read" } else { "reads" };
        format!("{}: {} {reads} of {} KiB failed{at}{more}", self.name(), report.errors, block_bytes / 1024)
    }
}
