//! The disks that SMART and Storage work on, and working on all of them side by side. The boot medium, empty
//! drives and second paths to a disk are left out, by name.

use std::collections::BTreeMap;

use serde::Serialize;
use vetting_protocol::agent_api::{EventLevel, Record};
use vetting_protocol::inventory::{Disk, Inventory};
use vetting_protocol::outcome::Outcome;

use super::{StageContext, StageError};
use crate::clock;
use crate::host::Host;

/// A disk to work on.
pub(super) struct Target<'i> {
    /// 0-based among those chosen.
    pub(super) index: u32,
    pub(super) disk: &'i Disk,
    /// Its device file.
    pub(super) device: String,
    /// The other names of the same medium: a dual-ported disk has one for each path.
    pub(super) other_paths: Vec<&'i str>,
    /// What the kernel told of it when it was first seen; `None` if the kernel tells nothing of the kind.
    first_seen: Option<Sighting>,
}

/// What stays the same for as long as a disk stays: where it was read, and what it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    path: String,
    value: String,
}

impl Sighting {
    /// The kernel's number for this appearance of a disk (`diskseq`, Linux 5.15), which a disk that comes back does
    /// not get again; on older kernels what would at least tell another disk in its place.
    fn of(host: &Host, disk: &str) -> Option<Self> {
        ["diskseq", "wwid", "device/wwid", "device/serial", "serial"].iter().find_map(|file| {
            let path = format!("/sys/block/{disk}/{file}");
            let value = host.text(&path).ok().filter(|value| !value.is_empty())?;
            Some(Self { path, value })
        })
    }

    /// The same is told now. A file that was there and cannot be read any more tells of another disk, too.
    fn holds(&self, host: &Host) -> bool {
        host.text(&self.path).is_ok_and(|now| now == self.value)
    }
}

/// The disks as they are at first sight, by name.
pub(super) fn first_seen(host: &Host, inventory: &Inventory) -> BTreeMap<String, Sighting> {
    let seen = |disk: &Disk| Some((disk.name.clone(), Sighting::of(host, &disk.name)?));
    inventory.disks.iter().filter_map(seen).collect()
}

/// A disk that is not worked on.
#[derive(Debug, Clone, Serialize)]
pub(super) struct LeftOut {
    pub(super) disk: String,
    pub(super) reason: String,
}

pub(super) struct Targets<'i> {
    pub(super) chosen: Vec<Target<'i>>,
    pub(super) left_out: Vec<LeftOut>,
}

impl Targets<'_> {
    pub(super) fn count(&self) -> u32 {
        u32::try_from(self.chosen.len()).unwrap_or(u32::MAX)
    }

    /// The other paths to the disks chosen, by the names that those are tested under.
    pub(super) fn other_paths(&self) -> BTreeMap<&str, &[&str]> {
        let dual = self.chosen.iter().filter(|target| !target.other_paths.is_empty());
        dual.map(|target| (target.disk.name.as_str(), target.other_paths.as_slice())).collect()
    }

    pub(super) fn names(&self) -> Vec<&str> {
        self.chosen.iter().map(|target| target.disk.name.as_str()).collect()
    }
}

/// The disks to work on now. Those that Inventory did not see the numbers of are taken as they are now.
pub(super) fn targets_of<'c>(context: &'c StageContext<'_>) -> Result<Targets<'c>, StageError> {
    let mut targets = targets(context.inventory()?);
    for target in &mut targets.chosen {
        let name = &target.disk.name;
        let seen = context.facts.disks_first_seen.get(name).cloned();
        target.first_seen = seen.or_else(|| Sighting::of(context.host, name));
    }
    Ok(targets)
}

/// The disks to work on, as far as the inventory tells: each medium once, however many paths lead to it.
pub(super) fn targets(inventory: &Inventory) -> Targets<'_> {
    let mut targets = Targets { chosen: Vec::new(), left_out: Vec::new() };
    for disk in &inventory.disks {
        let paths = || inventory.disks.iter().filter(|other| is_one_medium(disk, other));
        let reason = if disk.boot_medium {
            Some("the live system was started from it".to_owned())
        } else if let Some(boot) = paths().find(|other| other.boot_medium) {
            Some(format!("another path to {}, which the live system was started from", boot.name))
        } else if disk.removable && disk.size_bytes == 0 {
            Some("a drive without a medium in it".to_owned())
        } else {
            let first = paths().next().filter(|first| first.name != disk.name);
            first.map(|first| format!("another path to {}, which is tested", first.name))
        };
        match reason {
            Some(reason) => targets.left_out.push(LeftOut { disk: disk.name.clone(), reason }),
            None => targets.chosen.push(Target {
                index: u32::try_from(targets.chosen.len()).unwrap_or(u32::MAX),
                disk,
                device: device_of(&disk.name),
                other_paths: paths()
                    .map(|other| other.name.as_str())
                    .filter(|name| *name != disk.name)
                    .collect(),
                first_seen: None,
            }),
        }
    }
    targets
}

/// The device file of a disk or partition; the kernel writes a slash in a device's name as an exclamation mark
/// (`cciss!c0d0`).
pub(super) fn device_of(name: &str) -> String {
    format!("/dev/{}", name.replace('!', "/"))
}

/// Both are paths to one medium, or the same path. A world wide name alone is not enough: there are makers who give
/// all their disks the same.
fn is_one_medium(one: &Disk, other: &Disk) -> bool {
    let differ = |one: &Option<String>, other: &Option<String>| matches!((one, other), (Some(one), Some(other)) if one != other);
    one.name == other.name
        || one.wwn.is_some()
            && one.wwn == other.wwn
            && one.size_bytes == other.size_bytes
            && !differ(&one.serial, &other.serial)
}

/// The failure of a disk that the kernel no longer has, has without its size, or lost and found again meanwhile.
pub(super) fn vanished(context: &StageContext<'_>, target: &Target<'_>) -> Option<Outcome> {
    let disk = target.disk;
    let folder = format!("/sys/block/{}", disk.name);
    // a controller that lost its disk may keep the device with no size
    let has_lost_its_size = || {
        let size = context.host.number::<u64>(&format!("{folder}/size"));
        disk.size_bytes > 0 && size.is_ok_and(|size| size == 0)
    };
    let what = if !context.host.exists(&folder) || has_lost_its_size() {
        "vanished during the test"
    } else if target.first_seen.as_ref().is_some_and(|seen| !seen.holds(context.host)) {
        // it may also have gone between the two looks
        if context.host.exists(&folder) { "went away and came back" } else { "vanished during the test" }
    } else {
        return None;
    };
    let message = format!("{}: {what}", disk.name);
    context.reporter.record(Record::Event {
        level: EventLevel::Error,
        kind: "disk_vanished".to_owned(),
        message: message.clone(),
        ts_ms: clock::now_ms(),
    });
    Some(Outcome::fail(message))
}
