//! Drives that only their RAID controller knows: what `smartctl --scan-open` lists, and drives of HPE's controllers, which it
//! leaves out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use vetting_protocol::inventory::Disk;
use vetting_protocol::outcome::Outcome;

use crate::stages::StageContext;
use crate::tools::runner::{Finished, Invocation, ToolError};
use crate::tools::smartctl::{self, Drive, MOST_CCISS};

/// So many numbers in a row without a drive end the search: enclosures have numbers too.
const GAP: u32 = 8;
/// The RAID level of a drive that its controller shows as it is.
const NO_RAID: &str = "N/A";

/// Whose turn it is to be asked. Of HPE's controllers: one that is asked of several drives at once answers of some that they
/// are not there (`cciss,N` of an H240, openmediavault issue 2265). Others answer side by side, and a shelf of drives would
/// take long in turn.
#[derive(Debug, Clone, Default)]
pub(super) struct Turn(Arc<Mutex<()>>);

impl Turn {
    /// Runs a tool when it is this drive's turn; the time that the tool may take begins then.
    pub(super) fn run(
        &self,
        context: &StageContext<'_>,
        invocation: &Invocation,
    ) -> Result<Finished, ToolError> {
        let _turn = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        context.tools.run(invocation, &context.cancel, &mut |_, _| {})
    }
}

/// A drive that only its controller knows.
#[derive(Debug, Clone)]
pub struct DriveBehind {
    /// As measurements and reasons call it, the same through the run: `megaraid,8`, and where several controllers
    /// number alike, `megaraid,8@bus/0`.
    pub(super) name: String,
    pub(super) drive: Drive,
    /// One for all that HPE's controllers are asked of through the same volume; else its own.
    pub(super) turn: Turn,
}

/// What the controllers tell of their drives.
#[derive(Debug, Clone, Default)]
pub(super) struct Behind {
    /// Drives that the kernel does not show, each with a name of its own.
    pub(super) drives: Vec<DriveBehind>,
    /// Kernel names of disks that are such drives themselves.
    shown: BTreeSet<String>,
}

/// Looks for them. Without a controller that shows volumes there are none.
pub(super) fn look(context: &StageContext<'_>) -> Result<Behind, ToolError> {
    let (drives, shown) = found(context)?;
    let name = |drive: &Drive| {
        let number = drive.device_type.clone().unwrap_or_default();
        if drives.iter().filter(|other| other.device_type == drive.device_type).count() == 1 {
            return number;
        }
        format!("{number}@{}", drive.device.trim_start_matches("/dev/"))
    };
    let mut turns: BTreeMap<&str, Turn> = BTreeMap::new();
    let mut named = Vec::new();
    for drive in &drives {
        let turn =
            if drive.is_cciss() { turns.entry(&drive.device).or_default().clone() } else { Turn::default() };
        named.push(DriveBehind { name: name(drive), drive: drive.clone(), turn });
    }
    Ok(Behind { drives: named, shown })
}

/// Works on all of them at once, but for what they take turns at, with ordinals from `first` on.
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

/// The drives that only their controller knows, and the kernel's disks that are others of its drives.
fn found(context: &StageContext<'_>) -> Result<(Vec<Drive>, BTreeSet<String>), ToolError> {
    let hosts = context.host.list("/sys/class/scsi_host").unwrap_or_default();
    let controllers: Vec<String> = hosts.iter().map(|scsi_host| driver_of(context, scsi_host)).collect();
    let (mut drives, mut shown) = (Vec::new(), BTreeSet::new());
    if !controllers.iter().any(|driver| smartctl::shows_volumes(driver)) {
        return Ok((drives, shown));
    }
    let finished = context.tools.run(&smartctl::scan(), &context.cancel, &mut |_, _| {})?;
    for drive in smartctl::parse_scan(&finished)? {
        match disk_of(context, &drive)? {
            // MegaRAID's JBOD: two self-tests at once would break each other off
            Some(disk) => _ = shown.insert(disk.name.clone()),
            None => drives.push(drive),
        }
    }
    if controllers.iter().any(|driver| smartctl::numbers_its_drives(driver)) {
        for volume in volumes(context).into_values() {
            drives.extend(numbered(context, &volume)?);
        }
    }
    Ok((drives, shown))
}

/// The kernel's disk that a drive is, by its serial number. One that does not tell who it is is nobody's: it is asked by
/// itself, and the answer is no pass.
fn disk_of<'c>(context: &'c StageContext<'_>, drive: &Drive) -> Result<Option<&'c Disk>, ToolError> {
    let finished = context.tools.run(&smartctl::identify(drive), &context.cancel, &mut |_, _| {})?;
    let serial = smartctl::parse_identity(&finished).ok().flatten().and_then(|identity| identity.serial);
    Ok(serial.and_then(|serial| disk_with(context, &serial)))
}

fn disk_with<'c>(context: &'c StageContext<'_>, serial: &str) -> Option<&'c Disk> {
    let disks = context.inventory().map(|inventory| &inventory.disks[..]).unwrap_or_default();
    disks.iter().find(|disk| disk.serial.as_deref().is_some_and(|known| known.trim() == serial.trim()))
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

impl Behind {
    /// Whether a controller made this disk of drives that are asked. One elsewhere, on USB or SATA, or one that the
    /// controller shows as it is, has to tell of itself.
    pub(super) fn made(&self, context: &StageContext<'_>, disk: &str) -> bool {
        let Some(scsi_host) = scsi_host_of(context, disk) else { return false };
        let is_behind =
            |behind: &DriveBehind| controller_of(context, &behind.drive).as_ref() == Some(&scsi_host);
        self.drives.iter().any(is_behind)
            && !self.shown.contains(disk)
            && smartctl::shows_volumes(&driver_of(context, &scsi_host))
            && raid_level(context, disk).is_none_or(|level| level != NO_RAID)
    }

    /// A disk's turn: that of the drives that are reached through it.
    pub(super) fn turn_of(&self, device: &str) -> Turn {
        let through =
            self.drives.iter().find(|behind| behind.drive.is_cciss() && behind.drive.device == device);
        through.map(|behind| behind.turn.clone()).unwrap_or_default()
    }
}

/// The SCSI host that a drive is behind: smartctl numbers its buses so, and HPE's drives are reached through a volume.
fn controller_of(context: &StageContext<'_>, drive: &Drive) -> Option<String> {
    match drive.device.strip_prefix("/dev/bus/") {
        Some(number) => Some(format!("host{number}")),
        None => scsi_host_of(context, drive.device.strip_prefix("/dev/")?),
    }
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
        if identity.serial.and_then(|serial| disk_with(context, &serial)).is_none() {
            drives.push(drive);
        }
    }
    Ok(drives)
}
