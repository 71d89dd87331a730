//! Writing flash whole and reading it back with checksums (fio): one pass, where badblocks would wear it with four.
//! Only to be called where [`super::consent`] permits it.

use serde_json::json;
use vetting_protocol::outcome::Outcome;

use super::super::disks;
use super::super::sub_steps::Found;
use super::Disk;
use super::surface::named;
use crate::tools::fio::{self, BLOCK_BYTES, Job};

/// errno of a block that holds another content than was written.
const EILSEQ: i64 = 84;

/// What the passes over the parts of a disk showed.
#[derive(Default)]
struct Rewritten {
    bytes: u64,
    errors: u64,
    has_wrong_content: bool,
    failed_offsets: Vec<u64>,
}

impl Disk<'_, '_, '_> {
    /// Writes and verifies the whole disk.
    pub(super) fn rewrite(&self, ordinal: u32) -> Found {
        let size_bytes = self.target.disk.size_bytes;
        let mut rewritten = Rewritten::default();
        let mut ended = None;
        for job in jobs(size_bytes) {
            if let Err(outcome) = self.rewrite_part(ordinal, job, &mut rewritten) {
                ended = Some(outcome);
                break;
            }
        }
        let measure = |what: &str, value, unit| {
            self.context.measure("fio", format!("{}/{what}", self.name()), value, unit);
        };
        // a pass that did not come to its end and found nothing has not counted anything
        let counted = ended.is_none() || rewritten.errors > 0;
        measure("verify_errors", counted.then_some(rewritten.errors as f64), "count");
        measure("verify_coverage", Some(rewritten.bytes as f64 * 100.0 / size_bytes as f64), "percent");
        let details = json!({
            "mode": "write and verify",
            "written_bytes": rewritten.bytes,
            "size_bytes": size_bytes,
            "errors": rewritten.errors,
            "failed_offsets": rewritten.failed_offsets,
        });
        let outcome = if rewritten.errors > 0 {
            Outcome::fail(self.rewrite_failure(&rewritten, ended.as_ref().and_then(Outcome::reason)))
        } else {
            ended.unwrap_or(Outcome::Pass)
        };
        Found::new(outcome, details)
    }

    /// One call of fio. An error is the outcome that this alone would be.
    fn rewrite_part(&self, ordinal: u32, job: Job, rewritten: &mut Rewritten) -> Result<(), Outcome> {
        let Job::WriteAndVerify { length_bytes, .. } = job else { return Ok(()) };
        let before = self.moved_bytes();
        // each byte is written and read
        let whole = (self.target.disk.size_bytes as f64 * 2.0).max(1.0);
        let earlier = rewritten.bytes as f64 * 2.0;
        let done = || Some((earlier + (self.moved_bytes()? - before?)) / whole);
        let invocation = fio::invocation(&self.target.device, job);
        let finished = self.sub_steps.watch(ordinal, done, || {
            self.context.tools.run(&invocation, &self.context.cancel, &mut |_, _| {})
        });
        if let Some(vanished) = disks::vanished(self.context, self.target) {
            return Err(vanished);
        }
        let report = finished
            .and_then(|finished| fio::parse(&finished))
            .map_err(|error| Outcome::error(format!("{}: {}", self.name(), error.reason())))?;
        rewritten.errors += report.errors;
        rewritten.has_wrong_content |= report.first_errno == Some(EILSEQ);
        rewritten.failed_offsets.extend(&report.failed_offsets);
        // what could not be written or read back is in the errors; anything less was not tested
        if report.errors == 0
            && (report.written.bytes < length_bytes as f64 || report.read.bytes < length_bytes as f64)
        {
            let reason = format!("{}: fio wrote or read back less than it was told to", self.name());
            return Err(Outcome::error(reason));
        }
        rewritten.bytes += length_bytes;
        if matches!(job, Job::WriteAndVerify { block_bytes: BLOCK_BYTES, .. }) {
            self.measure_flow("write", &report.written);
            self.measure_flow("verify_read", &report.read);
        }
        Ok(())
    }

    /// Bytes read and written since the disk appeared, as the kernel counts (Documentation/block/stat.rst, in 512
    /// bytes).
    fn moved_bytes(&self) -> Option<f64> {
        let stat = self.context.host.text(&format!("/sys/block/{}/stat", self.name())).ok()?;
        let mut fields = stat.split_whitespace();
        let read: f64 = fields.nth(2)?.parse().ok()?;
        let written: f64 = fields.nth(3)?.parse().ok()?;
        Some((read + written) * 512.0)
    }

    fn rewrite_failure(&self, rewritten: &Rewritten, because: Option<&str>) -> String {
        let what = if rewritten.has_wrong_content {
            "hold another content than was written, or failed"
        } else {
            "failed to be written or read back"
        };
        let sectors = rewritten.failed_offsets.iter().map(|offset| self.lba(*offset));
        let at = if rewritten.failed_offsets.is_empty() {
            String::new()
        } else {
            format!(", from sectors {}", named(sectors))
        };
        let because = because.map(|why| format!("; {why}")).unwrap_or_default();
        format!("{}: {} blocks {what}{at}{because}", self.name(), rewritten.errors)
    }
}

/// The whole disk in blocks of 1 MiB, then what is left at its end in the largest blocks that fit.
fn jobs(size_bytes: u64) -> Vec<Job> {
    let tail_bytes = size_bytes % BLOCK_BYTES;
    let body_bytes = size_bytes - tail_bytes;
    let body = Job::WriteAndVerify { offset_bytes: 0, length_bytes: body_bytes, block_bytes: BLOCK_BYTES };
    let tail = Job::WriteAndVerify {
        offset_bytes: body_bytes,
        length_bytes: tail_bytes,
        block_bytes: 1 << tail_bytes.trailing_zeros().min(20),
    };
    [(body, body_bytes), (tail, tail_bytes)]
        .into_iter()
        .filter(|(_, bytes)| *bytes > 0)
        .map(|(job, _)| job)
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_byte_is_in_one_job(sectors in 1_u64..(1 << 40)) {
            let size = sectors * 512;
            let mut next = 0;
            for job in jobs(size) {
                let Job::WriteAndVerify { offset_bytes, length_bytes, block_bytes } = job else { panic!() };
                prop_assert_eq!(offset_bytes, next);
                prop_assert_eq!(length_bytes % block_bytes, 0);
                prop_assert_eq!(offset_bytes % block_bytes, 0);
                prop_assert!(block_bytes >= 512);
                next += length_bytes;
            }
            prop_assert_eq!(next, size);
        }
    }
}
