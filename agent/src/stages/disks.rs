//! The disks that SMART and Storage work on, and working on all of them side by side. The boot medium and empty
//! drives are left out, by name.

use serde::Serialize;
use vetting_protocol::agent_api::{EventLevel, Record};
use vetting_protocol::inventory::{Disk, Inventory};
use vetting_protocol::outcome::Outcome;

use super::StageContext;
use crate::clock;

/// A disk to work on.
pub(super) struct Target<'i> {
    /// 0-based among those chosen.
    pub(super) index: u32,
    pub(super) disk: &'i Disk,
    /// Its device file.
    pub(super) device: String,
}

/// A disk that is not worked on.
#[derive(Debug, Clone, Serialize)]
pub(super) struct LeftOut {
    pub(super) disk: String,
    pub(super) reason: &'static str,
}

pub(super) struct Targets<'i> {
    pub(super) chosen: Vec<Target<'i>>,
    pub(super) left_out: Vec<LeftOut>,
}

impl Targets<'_> {
    pub(super) fn count(&self) -> u32 {
        u32::try_from(self.chosen.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn names(&self) -> Vec<&str> {
        self.chosen.iter().map(|target| target.disk.name.as_str()).collect()
    }
}

pub(super) fn targets(inventory: &Inventory) -> Targets<'_> {
    let mut targets = Targets { chosen: Vec::new(), left_out: Vec::new() };
    for disk in &inventory.disks {
        let reason = if disk.boot_medium {
            Some("the live system was started from it")
        } else if disk.removable && disk.size_bytes == 0 {
            Some("a drive without a medium in it")
        } else {
            None
        };
        match reason {
            Some(reason) => targets.left_out.push(LeftOut { disk: disk.name.clone(), reason }),
            None => targets.chosen.push(Target {
                index: u32::try_from(targets.chosen.len()).unwrap_or(u32::MAX),
                disk,
                // the kernel writes a slash in a device's name as an exclamation mark (`cciss!c0d0`)
                device: format!("/dev/{}", disk.name.replace('!', "/")),
            }),
        }
    }
    targets
}

/// Works on every disk in a thread of its own and gives the outcomes in the disks' order.
pub(super) fn side_by_side<'i>(
    targets: &[Target<'i>],
    work: impl Fn(&Target<'i>) -> Vec<Outcome> + Sync,
) -> Vec<Outcome> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = targets
            .iter()
            .map(|target| {
                let work = &work;
                let thread = std::thread::Builder::new()
                    .name(target.disk.name.clone())
                    .spawn_scoped(scope, || work(target));
                (target, thread)
            })
            .collect();
        let mut outcomes = Vec::new();
        for (target, thread) in threads {
            let disk = &target.disk.name;
            match thread {
                Ok(thread) => match thread.join() {
                    Ok(found) => outcomes.extend(found),
                    Err(_panic) => outcomes.push(Outcome::error(format!("{disk}: its test crashed"))),
                },
                Err(error) => {
                    outcomes.push(Outcome::error(format!("{disk}: its thread cannot be started: {error}")));
                }
            }
        }
        outcomes
    })
}

/// The failure of a disk that the kernel no longer has, or has without its size.
pub(super) fn vanished(context: &StageContext<'_>, disk: &Disk) -> Option<Outcome> {
    let folder = format!("/sys/block/{}", disk.name);
    // a controller that lost its disk may keep the device with no size
    let has_lost_its_size = || {
        let size = context.host.number::<u64>(&format!("{folder}/size"));
        disk.size_bytes > 0 && size.is_ok_and(|size| size == 0)
    };
    if context.host.exists(&folder) && !has_lost_its_size() {
        return None;
    }
    let message = format!("{}: vanished during the test", disk.name);
    context.reporter.record(Record::Event {
        level: EventLevel::Error,
        kind: "disk_vanished".to_owned(),
        message: message.clone(),
        ts_ms: clock::now_ms(),
    });
    Some(Outcome::fail(message))
}
