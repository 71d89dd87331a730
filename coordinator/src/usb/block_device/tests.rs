use super::*;

/// A machine with a system disk (sda: boot partition, LVM with swap), a stick (sdb, one partition), a stick without a
/// partition (sdc, 4 MB), a CD drive, a backup disk on SATA (sdd), and a write-protected card.
struct Machine {
    directory: tempfile::TempDir,
}

const MOUNTS: &str = "22 1 253:0 / / rw,relatime shared:1 - ext4 /dev/mapper/vg-root rw
30 22 8:1 / /boot rw,relatime shared:2 - ext4 /dev/sda1 rw
31 22 0:45 / /srv/two\\040words rw - btrfs /dev/sdf1 rw
";

impl Machine {
    fn new() -> Self {
        let machine = Self { directory: tempfile::tempdir().unwrap() };
        let sata = "sys/devices/pci0000:00/0000:00:17.0/ata1/host0/target0:0:0/0:0:0:0";
        let stick = "sys/devices/pci0000:00/0000:00:14.0/usb2/2-3/2-3:1.0/host6/target6:0:0/6:0:0:0";
        for (at, name, number, sectors, removable) in [
            (sata, "sda", "8:0", 1_953_525_168_u64, "0"),
            (stick, "sdb", "8:16", 30_031_872, "1"),
            (stick, "sdc", "8:32", 8_192, "1"),
            (sata, "sdd", "8:48", 1_953_525_168, "0"),
            (stick, "sde", "8:64", 30_031_872, "1"),
            (sata, "sdf", "8:80", 1_953_525_168, "0"),
            (stick, "sr0", "11:0", 30_031_872, "1"),
            ("sys/devices/virtual", "dm-0", "253:0", 1_000_000, "0"),
        ] {
            machine.disk(&format!("{at}/block/{name}"), name, number, sectors, removable);
        }
        for (disk, part, number) in
            [("sda", "sda1", "8:1"), ("sda", "sda2", "8:2"), ("sdb", "sdb1", "8:17"), ("sdf", "sdf1", "8:81")]
        {
            let folder = machine.root().join("sys/class/block").join(disk).canonicalize().unwrap().join(part);
            let folder = folder.strip_prefix(machine.root().canonicalize().unwrap()).unwrap().to_owned();
            machine.disk(folder.to_str().unwrap(), part, number, 1000, "0");
            machine.file(&format!("sys/class/block/{part}/partition"), "1\n");
        }
        machine.file("sys/class/block/sda2/holders/dm-0", "");
        machine.file("sys/class/block/dm-0/slaves/sda2", "");
        machine.file("sys/class/block/sr0/device/type", "5\n");
        machine.file("sys/class/block/sde/ro", "1\n");
        machine.file("sys/class/block/sdb/device/vendor", "SanDisk \n");
        machine.file("sys/class/block/sdb/device/model", "Ultra\u{1b}[2J Fit\n");
        machine.file("sys/devices/pci0000:00/0000:00:14.0/usb2/2-3/idVendor", "0781\n");
        machine.file("sys/devices/pci0000:00/0000:00:14.0/usb2/2-3/serial", "4C530001\n");
        machine.file("proc/self/mountinfo", MOUNTS);
        machine.file("proc/swaps", "Filename Type Size Used Priority\n/dev/dm-0 partition 999 0 -2\n");
        std::fs::create_dir_all(machine.root().join("dev/disk/by-id")).unwrap();
        std::os::unix::fs::symlink("../../sdb", machine.root().join("dev/disk/by-id/usb-SanDisk")).unwrap();
        machine
    }

    fn root(&self) -> &Path {
        self.directory.path()
    }

    fn file(&self, path: &str, text: &str) {
        let path = self.root().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn disk(&self, folder: &str, name: &str, number: &str, sectors: u64, removable: &str) {
        for (file, text) in [
            ("dev", number),
            ("size", &sectors.to_string()),
            ("removable", removable),
            ("ro", "0"),
            ("device/type", "0"),
        ] {
            self.file(&format!("{folder}/{file}"), &format!("{text}\n"));
        }
        std::fs::create_dir_all(self.root().join(folder).join("holders")).unwrap();
        self.file(&format!("dev/{name}"), "");
        std::fs::create_dir_all(self.root().join("sys/class/block")).unwrap();
        let link = self.root().join("sys/class/block").join(name);
        std::os::unix::fs::symlink(self.root().join(folder).canonicalize().unwrap(), link).unwrap();
    }

    fn examine(&self, device: &str, fixed: Fixed) -> Result<Disk, Refusal> {
        examine(self.root(), Path::new(device), 190_000_000, fixed)
    }

    fn refusal(&self, device: &str) -> String {
        self.examine(device, Fixed::Allow).unwrap_err().to_string()
    }
}

#[test]
fn a_stick_is_taken_by_its_name_and_by_a_link_to_it() {
    let machine = Machine::new();
    let disk = machine.examine("/dev/sdb", Fixed::Refuse).unwrap();
    assert_eq!(disk, machine.examine("/dev/disk/by-id/usb-SanDisk", Fixed::Refuse).unwrap());
    assert_eq!((disk.name.as_str(), disk.number.as_str(), disk.usb), ("sdb", "8:16", true));
    assert_eq!(disk.model.as_deref(), Some("SanDisk Ultra[2J Fit"), "nothing of it steers the terminal");
    assert_eq!(disk.serial.as_deref(), Some("4C530001"), "the serial number of the USB device");
    assert_eq!((disk.size_bytes, disk.partitions), (15_376_318_464, vec!["sdb1".to_owned()]));
}

#[test]
fn what_is_in_use_or_no_stick_is_refused_even_if_fixed_disks_are_allowed() {
    let machine = Machine::new();
    for (device, words) in [
        ("/dev/sda", "/dev/sda1 is mounted at /boot"),
        ("/dev/sdf", "/dev/sdf1 is mounted at /srv/two\\040words"),
        ("/dev/sdb1", "name the disk /dev/sdb"),
        ("/dev/dm-0", "put together"),
        ("/dev/sr0", "CD drive"),
        ("/dev/sde", "write protected"),
        ("/dev/sdc", "sdc holds 4 MB, the image needs 190 MB"),
        ("/dev/sdz", "no disk of this box"),
        ("/dev/disk", "no disk of this box"),
        ("/dev", "no disk of this box"),
        ("/dev/../proc/swaps", "no disk of this box"),
        ("sdb", "no disk of this box"),
    ] {
        let said = machine.refusal(device);
        assert!(said.contains(words), "{device}: {said}");
    }
    machine.file("proc/self/mountinfo", "");
    assert!(machine.refusal("/dev/sda").contains("/dev/sda2 is used by dm-0"));
    machine.file("proc/swaps", "Filename Type\n/dev/sdb1 partition 9 0 -2\n");
    assert!(machine.refusal("/dev/sdb").contains("/dev/sdb1 is swap space"));
}

#[test]
fn disks_that_stay_in_the_box_are_taken_only_where_that_is_said() {
    let machine = Machine::new();
    let said = machine.examine("/dev/sdd", Fixed::Refuse).unwrap_err().to_string();
    assert!(said.contains("sdd (1000.2 GB) is built in") && said.contains("--force-fixed"), "{said}");
    assert!(machine.examine("/dev/sdd", Fixed::Allow).is_ok());
}

#[test]
fn not_knowing_refuses() {
    for file in ["proc/self/mountinfo", "proc/swaps", "sys/class/block/sdb/ro", "sys/class/block/sdb1/dev"] {
        let machine = Machine::new();
        std::fs::remove_file(machine.root().join(file)).unwrap();
        let said = machine.refusal("/dev/sdb");
        assert!(said.contains("cannot find out") && said.contains("left alone"), "{file}: {said}");
    }
    let machine = Machine::new();
    machine.file("sys/class/block/sdb/size", "many\n");
    assert!(machine.refusal("/dev/sdb").contains("holds 0 bytes"));
}
