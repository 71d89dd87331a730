//! Which disks the running system was started from: those under its root, `/boot` and live medium. A live system that
//! was loaded into memory has none.

use std::collections::BTreeSet;

use crate::alone::medium::MEDIUM_DIRECTORY;
use crate::host::Host;

/// Mount points that hold what the system was started from.
const MOUNT_POINTS: &[&str] = &[
    "/",
    "/boot",
    "/boot/efi",
    "/efi",
    "/cdrom",
    "/run/live/medium",
    "/lib/live/mount/medium",
    "/run/initramfs/live",
    MEDIUM_DIRECTORY,
];

/// Deepest stack of device mapper, md and partitions that is followed.
const DEEPEST: u32 = 8;

/// Kernel names of the whole disks that the system was started from.
pub(super) fn boot_media(host: &Host) -> BTreeSet<String> {
    let mut disks = BTreeSet::new();
    for source in sources(host) {
        if let Some(device) = device_name(host, &source) {
            whole_disks(host, &device, DEEPEST, &mut disks);
        }
    }
    disks
}

/// Devices mounted where it matters, and the kernel's `root=`.
fn sources(host: &Host) -> Vec<String> {
    let mounts = host.text("/proc/mounts").unwrap_or_default();
    let mounted = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        let (source, mount_point) = (fields.next()?, fields.next()?);
        (MOUNT_POINTS.contains(&mount_point) && source.starts_with("/dev/")).then(|| source.to_owned())
    });
    let command_line = host.text("/proc/cmdline").unwrap_or_default();
    let root = command_line.split_whitespace().filter_map(|word| {
        let root = word.strip_prefix("root=")?;
        Some(match root.split_once('=') {
            Some((tag, value)) => {
                let value = value.trim_matches('"');
                format!("/dev/disk/by-{}/{value}", tag.to_ascii_lowercase())
            }
            None => root.to_owned(),
        })
    });
    mounted.chain(root).filter(|source| source != "/dev/root" && source != "/dev/ram0").collect()
}

/// Kernel name behind a device file: `/dev/disk/by-uuid/…` → `sda1`, `/dev/mapper/vg-root` → `dm-0`.
fn device_name(host: &Host, source: &str) -> Option<String> {
    let plain = source.strip_prefix("/dev/")?;
    if host.exists(&format!("/sys/class/block/{plain}")) && !plain.contains('/') {
        return Some(plain.to_owned());
    }
    if let Ok(resolved) = host.resolve(source)
        && let Some(name) = resolved.strip_prefix("/dev/").filter(|name| !name.contains('/'))
    {
        return Some(name.to_owned());
    }
    let mapped = plain.strip_prefix("mapper/")?;
    host.list("/sys/block")
        .ok()?
        .into_iter()
        .find(|name| host.text(&format!("/sys/block/{name}/dm/name")).is_ok_and(|found| found == mapped))
}

/// The whole disks under a device: itself, the disk it is a partition of, or those it is put together from.
fn whole_disks(host: &Host, device: &str, depth: u32, found: &mut BTreeSet<String>) {
    if depth == 0 {
        return;
    }
    let directory = format!("/sys/class/block/{device}");
    let Ok(place) = host.resolve(&directory) else { return };
    if host.exists(&format!("{directory}/partition")) {
        if let Some(disk) = place.rsplit('/').nth(1) {
            whole_disks(host, disk, depth - 1, found);
        }
        return;
    }
    let parts = host.list(&format!("{directory}/slaves")).unwrap_or_default();
    if parts.is_empty() {
        found.insert(device.to_owned());
    }
    for part in parts {
        whole_disks(host, &part, depth - 1, found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(mounts: &str, command_line: &str) -> (tempfile::TempDir, Host) {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        let link = |target: &str, at: &str| {
            std::fs::create_dir_all(root.join(at).parent().unwrap()).unwrap();
            std::os::unix::fs::symlink(target, root.join(at)).unwrap();
        };
        let devices = "sys/devices/pci/block";
        std::fs::create_dir_all(root.join(devices).join("sda/sda2")).unwrap();
        std::fs::write(root.join(devices).join("sda/sda2/partition"), "2\n").unwrap();
        std::fs::create_dir_all(root.join(devices).join("sdb")).unwrap();
        std::fs::create_dir_all(root.join("sys/devices/virtual/block/dm-0/slaves")).unwrap();
        std::fs::create_dir_all(root.join("sys/devices/virtual/block/dm-0/dm")).unwrap();
        std::fs::write(root.join("sys/devices/virtual/block/dm-0/dm/name"), "vg-root\n").unwrap();
        link("../../../../pci/block/sda/sda2", "sys/devices/virtual/block/dm-0/slaves/sda2");
        link("../../devices/pci/block/sda", "sys/class/block/sda");
        link("../../devices/pci/block/sdb", "sys/class/block/sdb");
        link("../../devices/pci/block/sda/sda2", "sys/class/block/sda2");
        link("../../devices/virtual/block/dm-0", "sys/class/block/dm-0");
        link("../devices/virtual/block/dm-0", "sys/block/dm-0");
        std::fs::create_dir_all(root.join("dev/disk/by-uuid")).unwrap();
        std::fs::write(root.join("dev/sda2"), "").unwrap();
        link("../../sda2", "dev/disk/by-uuid/1234-ABCD");
        std::fs::create_dir_all(root.join("proc")).unwrap();
        std::fs::write(root.join("proc/mounts"), mounts).unwrap();
        std::fs::write(root.join("proc/cmdline"), command_line).unwrap();
        let host = Host::recorded(root);
        (directory, host)
    }

    fn found(mounts: &str, command_line: &str) -> Vec<String> {
        let (_directory, host) = machine(mounts, command_line);
        boot_media(&host).into_iter().collect()
    }

    #[test]
    fn follows_partitions_mappings_and_tags() {
        assert_eq!(found("/dev/sda2 / ext4 rw 0 0\n", ""), ["sda"]);
        assert_eq!(found("/dev/mapper/vg-root / ext4 rw 0 0\n", ""), ["sda"]);
        assert_eq!(found("/dev/root / ext4 rw 0 0\n", "quiet root=UUID=1234-ABCD ro"), ["sda"]);
        assert_eq!(found("/dev/sdb /run/live/medium iso9660 ro 0 0\n", ""), ["sdb"]);
        assert_eq!(found("/dev/sda2 /run/vetting/medium vfat ro 0 0\n", ""), ["sda"]);
    }

    #[test]
    fn a_system_in_memory_has_none_and_data_disks_do_not_count() {
        assert!(found("rootfs / rootfs rw 0 0\n/dev/sdb /mnt ext4 rw 0 0\n", "BOOTIF=01-52-54").is_empty());
        assert!(found("", "root=/dev/ram0").is_empty());
        assert!(found("/dev/sdz / ext4 rw 0 0\n", "root=UUID=nothing").is_empty());
    }
}
