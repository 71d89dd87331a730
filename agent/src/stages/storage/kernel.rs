//! What the kernel logged of a disk while it was tested: I/O errors, and resets of the link that it hangs on.
//!
//! Both are lower bounds, since the kernel limits the rate of these lines over all disks. Any one is enough to fail.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::host::{Host, HostError, KernelLog};
use crate::sensors::kernel_log::{Class, classify};
use crate::stages::StageContext;
use crate::stages::sub_steps::Found;

/// The kernel's log from some moment on, for one disk.
pub(super) struct DiskLog<'d> {
    disk: &'d str,
    /// As the kernel's messages of resets name them; none where nothing on the way to the disk is ever reset.
    links: BTreeSet<String>,
    log: Result<KernelLog, HostError>,
}

impl<'d> DiskLog<'d> {
    pub(super) fn from_now(host: &Host, disk: &'d str) -> Self {
        Self { disk, links: links_of(host, disk), log: host.kernel_log_from_now() }
    }

    /// Counts what came since. Without a value no rule can take it for a good one.
    pub(super) fn count(self, context: &StageContext<'_>, mut found: Found) -> Found {
        let name = self.disk;
        let messages = self.log.and_then(|mut log| log.new_messages()).map_err(|error| error.reason());
        let those = |wanted: &dyn Fn(&str) -> bool| {
            let messages = messages.as_ref()?;
            Ok(messages.iter().filter(|message| wanted(message)).collect::<Vec<&String>>())
        };
        let mut told = |key: &str, detail: &str, lines: Result<Vec<&String>, &String>| {
            let count = lines.as_ref().ok().map(|lines| lines.len() as f64);
            context.measure("kernel", format!("{name}/{key}"), count, "count");
            if let Value::Object(details) = &mut found.details {
                let lines = match lines {
                    Ok(lines) => json!({ "at_least": lines.len(), "first": lines.first() }),
                    Err(reason) => json!({ "unknown": reason }),
                };
                details.insert(detail.to_owned(), lines);
            }
        };
        told("io_errors", "kernel_io_errors", those(&|message| is_io_error_of(message, name)));
        if !self.links.is_empty() {
            told("link_resets", "kernel_link_resets", those(&|message| is_reset_of(message, &self.links)));
        }
        found
    }
}

/// A message that the disk did not do what it was asked.
fn is_io_error_of(message: &str, disk: &str) -> bool {
    classify(message)
        .is_some_and(|found| found.class == Class::IoError && found.subject.as_deref() == Some(disk))
}

/// A message that one of these links was reset, or a device of the link: `ata7.00` of `ata7`.
fn is_reset_of(message: &str, links: &BTreeSet<String>) -> bool {
    classify(message)
        .filter(|found| found.class == Class::LinkReset)
        .and_then(|found| found.subject)
        .is_some_and(|subject| {
            links.contains(&subject) || subject.split_once('.').is_some_and(|(link, _)| links.contains(link))
        })
}

/// What lies between the machine and a disk, as it stands in sysfs: a port of ATA, a device of SCSI or of USB, the
/// controllers of an NVMe disk.
fn links_of(host: &Host, disk: &str) -> BTreeSet<String> {
    let place = host.resolve(&format!("/sys/block/{disk}")).unwrap_or_default();
    let mut links: BTreeSet<String> = place.split('/').filter_map(link).collect();
    if place.contains("/nvme-subsystem/") {
        let of_subsystem = host.list(&format!("/sys/block/{disk}/device")).unwrap_or_default();
        links.extend(of_subsystem.iter().filter_map(|name| link(name)));
    }
    links
}

/// The name of a directory of sysfs, as messages write it: `ata3`, `nvme0`, `6:0:3:0`, `usb_2-1.4`.
fn link(directory: &str) -> Option<String> {
    let numbers = |text: &str, between: &[char]| {
        text.split(between)
            .all(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let numbered = |prefix| directory.strip_prefix(prefix).is_some_and(|rest| numbers(rest, &[]));
    let is_scsi = directory.matches(':').count() == 3 && numbers(directory, &[':']);
    let is_usb = directory.matches('-').count() == 1 && numbers(directory, &['-', '.']);
    if numbered("ata") || numbered("nvme") || is_scsi {
        Some(directory.to_owned())
    } else {
        is_usb.then(|| format!("usb_{directory}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_errors_are_told_apart() {
        assert!(is_io_error_of("Buffer I/O error on dev sda, logical block 5, async page read", "sda"));
        assert!(is_io_error_of(
            "blk_update_request: critical target error, dev nvme0n1, sector 7",
            "nvme0n1"
        ));
        assert!(is_io_error_of("sd 2:0:0:0: dev x: I/O error, dev sda, sector 9 op 0x0:(READ)", "sda"));
        assert!(!is_io_error_of("blk_print_req_error: 23 callbacks suppressed", "sda"));
        for other in ["dev sda: fine", "I/O error, dev sda1, sector 1", "error", "devices error dev ", ""] {
            assert!(!is_io_error_of(other, "sda"), "{other}");
        }
    }

    /// Paths of sysfs as machines have them.
    fn links(place: &str) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().join(place);
        std::fs::create_dir_all(&at).unwrap();
        let block = folder.path().join("sys/block");
        std::fs::create_dir_all(&block).unwrap();
        std::os::unix::fs::symlink(format!("../../{place}"), block.join("disk")).unwrap();
        links_of(&Host::recorded(folder.path()), "disk").into_iter().collect()
    }

    #[test]
    fn what_a_disk_hangs_on() {
        assert_eq!(
            links("sys/devices/pci0000:00/0000:00:17.0/ata3/host2/target2:0:0/2:0:0:0/block/sda"),
            ["2:0:0:0", "ata3"]
        );
        assert_eq!(
            links(
                "sys/devices/pci0000:00/0000:00:14.0/usb2/2-1/2-1.4/2-1.4:1.0/host6/target6:0:0/6:0:0:0/block/sdb"
            ),
            ["6:0:0:0", "usb_2-1", "usb_2-1.4"]
        );
        let sas = "sys/devices/pci0000:80/0000:80:01.0/0000:81:00.0/host0/port-0:0/expander-0:0/port-0:0:3/\
                   end_device-0:0:3/target0:0:3/0:0:3:0/block/sdd";
        assert_eq!(links(sas), ["0:0:3:0"]);
        assert_eq!(links("sys/devices/pci0000:00/0000:00:1d.0/0000:3d:00.0/nvme/nvme0/nvme0n1"), ["nvme0"]);
        assert_eq!(links("sys/devices/pci0000:00/0000:00:04.0/virtio1/block/vda"), [""; 0]);
        assert_eq!(links_of(&Host::recorded("/nowhere"), "sda"), BTreeSet::new());
    }

    #[test]
    fn an_nvme_disk_hangs_on_each_controller_of_its_subsystem() {
        let folder = tempfile::tempdir().unwrap();
        let subsystem = folder.path().join("sys/devices/virtual/nvme-subsystem/nvme-subsys0");
        for name in ["nvme0", "nvme3", "nvme0n1", "power"] {
            std::fs::create_dir_all(subsystem.join(name)).unwrap();
        }
        std::os::unix::fs::symlink("..", subsystem.join("nvme0n1/device")).unwrap();
        let block = folder.path().join("sys/block");
        std::fs::create_dir_all(&block).unwrap();
        let target = "../devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n1";
        std::os::unix::fs::symlink(target, block.join("nvme0n1")).unwrap();
        let found = links_of(&Host::recorded(folder.path()), "nvme0n1");
        assert_eq!(found.into_iter().collect::<Vec<_>>(), ["nvme0", "nvme3"]);
    }

    #[test]
    fn resets_count_for_the_disk_behind_the_link() {
        let links = BTreeSet::from(["ata3".to_owned(), "2:0:0:0".to_owned(), "nvme1".to_owned()]);
        for message in [
            "ata3: hard resetting link",
            "ata3.00: limiting SATA link speed to 1.5 Gbps",
            "sd 2:0:0:0: attempting task abort! scmd(ffff880204baee80)",
            "nvme nvme1: I/O 12 QID 3 timeout, reset controller",
        ] {
            assert!(is_reset_of(message, &links), "{message}");
        }
        for message in [
            "ata30: hard resetting link",
            "ata3: SATA link up 6.0 Gbps (SStatus 133 SControl 300)",
            "sd 2:0:0:1: Power-on or device reset occurred",
            "I/O error, dev ata3, sector 1",
        ] {
            assert!(!is_reset_of(message, &links), "{message}");
        }
    }
}
