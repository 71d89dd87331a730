//! The emulated machines that demo and tests vet, each with the spec its host is registered with.

use std::path::Path;

use anyhow::ensure;
use vetting_image::lab::{Boot, Disk, DiskBus, Firmware, Mac, MachineBuilder, NetworkBoot};

use crate::site::Site;

/// Sectors of 512 bytes that the faulty disk cannot read.
pub const UNREADABLE_SECTORS: [u64; 3] = [40_960, 40_961, 98_304];

/// A machine and what its operator expects of it.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Name of host and machine.
    pub name: &'static str,
    /// What it is there to show.
    pub story: &'static str,
    /// Last octet of its MAC address.
    mac_octet: u8,
    /// Spec that the host is registered with.
    pub spec_yaml: &'static str,
    /// Its memory.
    pub memory_mib: u32,
    cpus: u32,
    disks: fn() -> Vec<Disk>,
}

const ORDERED: &str = "\
# what was ordered: 2 cores, 1 GiB, one SATA disk of 128 MiB
system: {manufacturer: Vetting Lab}
cpu: {logical_cores: 2}
memory: {dimms: {count: 1}, total_gib: 1}
disks:
  - {count: 1, model: 'LAB HDD*', size_gb: {min: 0.13}}
nics:
  - {count: 1, driver: virtio_net}
";

const ORDERED_LARGER: &str = "\
# what was ordered: 4 cores, 2 GiB in two modules, one SATA disk of 128 MiB
cpu: {logical_cores: 4}
memory: {dimms: {count: 2}, total_gib: 2}
disks:
  - {count: 1, model: 'LAB HDD*', size_gb: {min: 0.13}}
";

/// A machine as ordered, with nothing wrong.
pub const HEALTHY: Candidate = Candidate {
    name: "healthy",
    story: "as ordered, nothing wrong",
    mac_octet: 0x11,
    spec_yaml: ORDERED,
    memory_mib: 1024,
    cpus: 2,
    disks: || vec![healthy_disk("LAB-0001")],
};

/// A machine whose disk cannot read three of its sectors.
pub const BAD_DISK: Candidate = Candidate {
    name: "bad-disk",
    story: "its disk cannot read three sectors",
    mac_octet: 0x12,
    spec_yaml: ORDERED,
    memory_mib: 1024,
    cpus: 2,
    disks: || vec![healthy_disk("LAB-0002").unreadable(&UNREADABLE_SECTORS)],
};

/// A machine with one of its two memory modules and half the CPUs that were ordered.
pub const SHORT_DELIVERY: Candidate = Candidate {
    name: "short-delivery",
    story: "one of two memory modules and half the CPUs of its spec",
    mac_octet: 0x13,
    spec_yaml: ORDERED_LARGER,
    memory_mib: 1024,
    cpus: 2,
    disks: || vec![healthy_disk("LAB-0003")],
};

fn healthy_disk(serial: &str) -> Disk {
    Disk::new(DiskBus::Sata, serial, 128).model("LAB HDD 128")
}

impl Candidate {
    /// Its MAC address, in QEMU's range of locally administered ones.
    pub fn mac(&self) -> Mac {
        Mac([0x52, 0x54, 0x00, 0x56, 0x45, self.mac_octet])
    }

    /// The machine, ready to be powered on, with its files below `directory` and `site`'s coordinator as its boot server.
    pub fn machine(&self, site: &Site, directory: &Path, firmware: Firmware) -> MachineBuilder {
        let boot = Boot::Network(NetworkBoot {
            http_port: site.listening().http.port(),
            netboot_files: site.built().image.join("netboot"),
        });
        let builder = MachineBuilder::new(self.name, &directory.join(self.name), boot)
            .firmware(firmware)
            .memory_mib(self.memory_mib)
            .cpus(1, self.cpus)
            .mac(self.mac())
            .smbios(
                1,
                &[("manufacturer", "Vetting Lab"), ("product", "Emulated Server"), ("serial", self.name)],
            )
            .smbios(
                17,
                &[("loc_pfx", "DIMM_A"), ("manufacturer", "LabMem"), ("part", "LM-1G"), ("speed", "3200")],
            );
        (self.disks)().into_iter().fold(builder, MachineBuilder::disk)
    }
}

/// A quick profile for tests of how a machine gets to its verdict rather than of what is tested on it.
pub const WHAT_IT_IS_MADE_OF: &str = "\
name: quick
description: what the machine is made of, held against what was ordered
sampling_interval: 5s
stages:
  - {stage: Inventory, limit: 5m}
  - {stage: Firmware, limit: 5m}
  - {stage: SpecValidate, limit: 5m}
thresholds: []
";

/// The shipped quick profile with seconds in place of minutes, since an emulated CPU is about fifty times slower than
/// real hardware; its rules and its stages stay, and its disks are small enough to be read whole.
pub fn emulated_quick() -> anyhow::Result<String> {
    let shipped = include_str!("../../coordinator/judge/profiles/quick.yaml");
    let shorter = [
        ("{stage: Network, limit: 150s, duration: 5s", "{stage: Network, limit: 5m, duration: 2s"),
        ("{stage: PSU, limit: 1m, load: 20s", "{stage: PSU, limit: 5m, load: 3s"),
        ("limit: 2m, duration: 30s, memory_percent: 50", "limit: 10m, duration: 4s, memory_percent: 40"),
        // an emulated card does not reach its link's speed
        ("percent_of_link\", op: gte, threshold: 80,", "percent_of_link\", op: gte, threshold: 0,"),
        (
            "cpu: 60s, per_core: 40s, memory: 30s, memory_percent: 80",
            "cpu: 4s, per_core: 4s, memory: 6s, memory_percent: 80",
        ),
        ("duration: 60s, fade: 2s", "duration: 2s, fade: 0s"),
        (
            "fio_read: 15s, fio_random: 10s, surface: {mode: read_zones, zones: 32, zone_mib: 32}",
            "fio_read: 2s, fio_random: 1s, surface: {mode: read_whole}",
        ),
    ];
    shorter.into_iter().try_fold(shipped.to_owned(), |text, (long, short)| {
        ensure!(text.contains(long), "the quick profile no longer has `{long}`");
        Ok(text.replace(long, short))
    })
}
