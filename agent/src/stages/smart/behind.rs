//! Drives that only their RAID controller knows: what `smartctl --scan-open` lists, and drives of HPE's controllers, which it
//! leaves out.

use std::collections::BTreeMap;

use vetting_protocol::outcome::Outcome;

use crate::stages::StageContext;
use crate::tools::runner::ToolError;
use crate::tools::smartctl::{self, Drive, MOST_CCISS};

/// So many numbers in a row without a drive end the search: enclosures have numbers too.
const GAP: u32 = 8;
/// The RAID level of a drive that its controller shows as it is.
const NO_RAID: &str = "N/A";

/// A drive that only its controller knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriveBehind {
    /// As measurements and reasons call it, the same through the run: `megaraid,8`, and where several controllers
    /// number alike, `megaraid,8@bus/0`.
    pub(super) name: String,
    pub(super) drive: Drive,
}

/// Drives that the kernel does not show, each with a name of its own. Without a disk of such a controller nothing is
/// looked for.
pub(super) fn drives(context: &StageContext<'_>) -> Result<Vec<DriveBehind>, ToolError> {
    let drives = found(context)?;
    let name = |drive: &Drive| {
        let number = drive.device_type.clone().unwrap_or_default();
        if drives.iter().filter(|other| other.device_type == drive.device_type).count() == 1 {
            return number;
        }
        format!("{number}@{}", drive.device.trim_start_matches("/dev/"))
    };
    Ok(drives.iter().map(|drive| DriveBehind { name: name(drive), drive: drive.clone() }).collect())
}

/// Works on all of them at once, with ordinals from `first` on.
pub(super) fn each(
    drives: &[DriveBehind],
    first: u32,
    work: impl Fn(u32, &DriveBehind) -> Outcome + Sync,
) -> Vec<Outcome> {
    let work = &work;
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            (first..).zip(drives).map(|(ordinal, drive)| scope.spawn(move || work(ordinal, drive))).collect();
        let crashed = || Outcome::error("the test of a drive behind a controller crashed");
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| crashed())).collect()
    })
}

fn found(context: &StageContext<'_>) -> Result<Vec<Drive>, ToolError> {
    let hosts = context.host.list("/sys/class/scsi_host").unwrap_or_default();
    let controllers: Vec<String> = hosts.iter().map(|scsi_host| driver_of(context, scsi_host)).collect();
    if !controllers.iter().any(|driver| smartctl::shows_volumes(driver)) {
        return Ok(Vec::new());
    }
    let finished = context.tools.run(&smartctl::scan(), &context.cancel, &mut |_, _| {})?;
    let mut drives = smartctl::parse_scan(&finished)?;
    if controllers.iter().any(|driver| smartctl::is_cciss(driver)) {
        for volume in volumes(context).into_values() {
            drives.extend(numbered(context, &volume)?);
        }
    }
    Ok(drives)
}

/// The driver of a SCSI host; empty where it does not tell.
fn driver_of(context: &StageContext<'_>, scsi_host: &str) -> String {
    context.host.text(&format!("/sys/class/scsi_host/{scsi_host}/proc_name")).unwrap_or_default()
}

/// The SCSI host that a disk is on: `host0`.
fn scsi_host_of(context: &StageContext<'_>, disk: &str) -> Option<String> {
    let path = context.host.resolve(&format!("/sys/block/{disk}/device")).ok()?;
    let is_host = |part: &&str| part.strip_prefix("host").is_some_and(|number| number.parse::<u32>().is_ok());
    path.split('/').find(is_host).map(str::to_owned)
}

/// The RAID level of a disk, which the drivers of HPE's controllers (hpsa, smartpqi) tell.
fn raid_level(context: &StageContext<'_>, disk: &str) -> Option<String> {
    context.host.text(&format!("/sys/block/{disk}/device/raid_level")).ok()
}

/// Whether a controller made this disk of drives. One elsewhere, on USB or SATA, or one that the controller shows as it
/// is, has to tell of itself.
pub(super) fn is_volume(context: &StageContext<'_>, disk: &str) -> bool {
    scsi_host_of(context, disk)
        .is_some_and(|scsi_host| smartctl::shows_volumes(&driver_of(context, &scsi_host)))
        && raid_level(context, disk).is_none_or(|level| level != NO_RAID)
}

/// A volume of each of HPE's controllers, by SCSI host.
fn volumes(context: &StageContext<'_>) -> BTreeMap<String, String> {
    let mut volumes = BTreeMap::new();
    for disk in context.host.list("/sys/block").unwrap_or_default() {
        let Some(level) = raid_level(context, &disk) else { continue };
        if let (Some(scsi_host), false) = (scsi_host_of(context, &disk), level == NO_RAID) {
            volumes.entry(scsi_host).or_insert(format!("/dev/{disk}"));
        }
    }
    volumes
}

/// The drives of the controller behind a volume: each number is tried. A drive that the kernel shows too is asked there.
fn numbered(context: &StageContext<'_>, volume: &str) -> Result<Vec<Drive>, ToolError> {
    let disks = context.inventory().map(|inventory| &inventory.disks[..]).unwrap_or_default();
    let (mut drives, mut silent) = (Vec::new(), 0);
    for number in 0..MOST_CCISS {
        let drive = Drive::cciss(volume, number);
        let finished = context.tools.run(&smartctl::identify(&drive), &context.cancel, &mut |_, _| {})?;
        let Some(identity) = smartctl::parse_identity(&finished)? else {
            silent += 1;
            if silent == GAP {
                break;
            }
            continue;
        };
        silent = 0;
        let is_shown = |serial: &String| disks.iter().any(|disk| disk.serial.as_ref() == Some(serial));
        if !identity.serial.as_ref().is_some_and(is_shown) {
            drives.push(drive);
        }
    }
    Ok(drives)
}
