//! Whether a disk may be written. Destruction needs consent: the run is not non-destructive, nothing uses the disk,
//! and either the operator allowed the wipe or the probe found nothing on the disk. Whatever cannot be told counts
//! against writing.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use vetting_protocol::inventory::Disk;
use vetting_protocol::plan::DiskConsent;

use super::super::StageContext;
use super::super::disks::{Target, device_of};
use crate::host::{Host, HostError};
use crate::tools::wipefs;

/// What may be done to a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Permission {
    /// It may be written; all on it will be lost.
    Write,
    /// The run only reads.
    ReadOnly,
    /// It must not be written, for this reason.
    Refused(String),
}

/// How much of both ends of a disk is looked at, bytes.
const EDGE_BYTES: u64 = 1024 * 1024;

pub(super) fn permission(context: &StageContext<'_>, target: &Target<'_>) -> Permission {
    let probe = match context.consent {
        DiskConsent::NonDestructive => return Permission::ReadOnly,
        DiskConsent::EmptyDisksOnly => true,
        DiskConsent::WipeAllowed | DiskConsent::EraseDisks => false,
    };
    let name = &target.disk.name;
    if target.disk.boot_medium {
        return Permission::Refused(format!("{name}: the live system was started from it"));
    }
    let claim = match unused(context.host, name) {
        Ok(claim) => claim,
        Err(reason) => return Permission::Refused(format!("{name}: {reason}")),
    };
    // the kernel takes another path for another disk: what is mounted there does not show here
    for path in &target.other_paths {
        if let Err(reason) = unused(context.host, path) {
            return Permission::Refused(format!("{name}: {reason}, another path to it"));
        }
    }
    if !probe {
        return Permission::Write;
    }
    match content(context, target, &claim) {
        Ok(None) => Permission::Write,
        Ok(Some(found)) => Permission::Refused(format!("{name}: has data ({found}): allow with wipe")),
        Err(reason) => Permission::Refused(format!(
            "{name}: cannot tell whether it is empty ({reason}): allow with wipe"
        )),
    }
}

/// A claim on a disk that nothing uses, or what uses it.
fn unused(host: &Host, disk: &str) -> Result<File, String> {
    let reason = |error: HostError| error.reason();
    let folder = format!("/sys/block/{disk}");
    let mut folders = vec![folder.clone()];
    for entry in host.list(&folder).map_err(reason)? {
        let partition = format!("{folder}/{entry}");
        if host.exists(&format!("{partition}/partition")) {
            folders.push(partition);
        }
    }
    let mounts = host.text("/proc/self/mountinfo").map_err(reason)?;
    let swaps = match host.text("/proc/swaps") {
        Ok(swaps) => swaps,
        // a kernel without swap has no such file
        Err(error) if error.is_missing() => String::new(),
        Err(error) => return Err(reason(error)),
    };
    for folder in folders {
        let number = host.text(&format!("{folder}/dev")).map_err(reason)?;
        let device = device_of(folder.rsplit('/').next().unwrap_or_default());
        if let Some(place) = mounted_at(&mounts, &number, &device) {
            return Err(format!("in use: {device} is mounted at {place}"));
        }
        if swaps.lines().skip(1).any(|line| line.split_whitespace().next() == Some(device.as_str())) {
            return Err(format!("in use: {device} is swap space"));
        }
        if let Some(holder) = host.list(&format!("{folder}/holders")).map_err(reason)?.first() {
            return Err(format!("in use: {holder} is built on {device}"));
        }
    }
    // the kernel's own word, also for what other namespaces have mounted
    host.claim_disk(&device_of(disk)).map_err(|error| match &error {
        HostError::Read { source, .. } if source.raw_os_error() == Some(nix::errno::Errno::EBUSY as i32) => {
            "in use: the kernel has it claimed".to_owned()
        }
        HostError::Read { .. }
        | HostError::TooLarge { .. }
        | HostError::Unparsable { .. }
        | HostError::Outside { .. } => error.reason(),
    })
}

/// Where a device is mounted, by its number or, where the file system has a number of its own (btrfs), by its name.
fn mounted_at<'m>(mounts: &'m str, number: &str, device: &str) -> Option<&'m str> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let mounted = fields.nth(2)?;
        let place = fields.nth(1)?;
        let source = line.split_once(" - ").and_then(|(_, rest)| rest.split(' ').nth(1));
        (mounted == number || source == Some(device)).then_some(place)
    })
}

/// What was found on a disk, if anything.
fn content(context: &StageContext<'_>, target: &Target<'_>, claim: &File) -> Result<Option<String>, String> {
    let finished = context
        .tools
        .run(&wipefs::invocation(&target.device), &context.cancel, &mut |_, _| {})
        .map_err(|error| error.reason())?;
    let mut signatures = wipefs::parse(&finished).map_err(|error| error.reason())?;
    signatures.dedup();
    if !signatures.is_empty() {
        return Ok(Some(signatures.join(", ")));
    }
    written_edge(claim, target.disk).map_err(|error| error.to_string())
}

/// All zeros or all ones, as an erased disk reads.
pub(super) fn is_blank(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0) || bytes.iter().all(|byte| *byte == 0xff)
}

/// Which end of the disk holds something other than all zeros or all ones, as an erased disk does.
fn written_edge(claim: &File, disk: &Disk) -> io::Result<Option<String>> {
    let length = EDGE_BYTES.min(disk.size_bytes);
    for (offset, which) in [(0, "first"), (disk.size_bytes - length, "last")] {
        let mut edge = vec![0_u8; usize::try_from(length).unwrap_or_default()];
        claim.read_exact_at(&mut edge, offset)?;
        if !is_blank(&edge) || edge.is_empty() {
            return Ok(Some(format!("its {which} MiB is not blank")));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n\
                          30 22 0:40 /sub /data rw - btrfs /dev/sdb2 rw\n\
                          31 22 8:17 / /mnt/a\\040b rw - xfs /dev/sdb1 rw";

    #[test]
    fn a_mount_is_found_by_number_and_by_name() {
        assert_eq!(mounted_at(MOUNTS, "254:0", "/dev/x"), Some("/"));
        assert_eq!(mounted_at(MOUNTS, "8:18", "/dev/sdb2"), Some("/data"));
        assert_eq!(mounted_at(MOUNTS, "8:17", "/dev/sdb1"), Some("/mnt/a\\040b"));
        assert_eq!(mounted_at(MOUNTS, "8:1", "/dev/sda1"), None);
        assert_eq!(mounted_at("garbage\n\n - ", "8:1", "/dev/sda1"), None);
    }
}
