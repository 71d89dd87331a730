//! Drivers for what the machine has: those of every modalias, again and again until nothing new appears.
//!
//! Without udev, this is coldplug. A controller's driver finds disks, which ask for more drivers: hence the passes.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::module_loader::Loader;
use crate::clock;
use crate::console::{Console, chain};
use crate::host::Host;

/// Nothing new for this long means that all is there: disks behind a controller come up a moment after it.
const QUIET: Duration = Duration::from_millis(1_500);
/// How often to look; until the network is up, its cards are waited for.
const LOOK: Duration = Duration::from_millis(100);
const LOOK_FOR_NETWORK: Duration = Duration::from_millis(40);
/// Where network cards are, but for those on USB.
const NETWORK_BUSES: [&str; 2] = ["pci", "virtio"];
/// The end of waiting in any case.
const LONGEST: Duration = Duration::from_secs(45);
/// How long the network's drivers have the machine to themselves: the claim waits for nothing else.
const NETWORK_FIRST: Duration = Duration::from_secs(2);
/// Drivers that no device asks for: drive temperatures, SCSI generic for smartctl, SMBIOS entries.
const ALWAYS: [&str; 3] = ["drivetemp", "sg", "dmi_sysfs"];
/// What keeps a dying kernel's last words in UEFI variables: to be there before the claim tells of an earlier crash, and
/// before there is another one. (ACPI's store for them is part of the kernel.)
const LAST_WORDS: &str = "efi_pstore";
/// File systems of a medium, with the character sets of FAT's file names: a mount cannot load them here.
const MEDIUM: [&str; 4] = ["vfat", "nls_cp437", "nls_ascii", "isofs"];
/// Where a BMC shows itself, and what its users need beyond its driver.
const BMC_DEVICES: [&str; 2] =
    ["/sys/bus/acpi/devices/IPI0001:00", "/sys/bus/platform/devices/dmi-ipmi-si.0"];
const BMC_MODULES: [&str; 2] = ["ipmi_si", "ipmi_devintf"];

/// What was found when all was quiet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Settled {
    /// Different modaliases.
    pub(super) aliases: usize,
    /// Block devices.
    pub(super) disks: usize,
}

/// Loads until nothing new has appeared for a while. First what drives the network, until the file `network_ready`
/// is there or has taken too long; on a machine that started from a medium there is no first.
pub(super) fn load_until_settled(
    host: &Host,
    console: &Arc<dyn Console>,
    network_ready: &Path,
    medium: bool,
) -> Settled {
    let begin = clock::monotonic();
    let mut loader = match Loader::start(host, console) {
        Ok(loader) => loader,
        Err(error) => {
            console.line(&format!("no drivers are loaded: {}", chain(&error)));
            return Settled { aliases: 0, disks: disks(host) };
        }
    };
    let mut seen = BTreeSet::new();
    if host.exists("/sys/firmware/efi") {
        loader.ask_for(LAST_WORDS);
    }
    if medium {
        for module in MEDIUM {
            loader.ask_for(module);
        }
    }
    while !medium && !network_ready.exists() && begin.elapsed() < NETWORK_FIRST {
        let aliases = new_aliases(host, &NETWORK_BUSES, &mut seen);
        for alias in aliases.iter().filter(|alias| is_network(alias)) {
            loader.ask_for_modalias(alias);
        }
        std::thread::sleep(LOOK_FOR_NETWORK);
    }
    // the others of those buses are still to be asked for
    seen.clear();
    let mut kinds = BTreeSet::new();
    for module in ALWAYS {
        loader.ask_for(module);
    }
    let mut last_news = clock::monotonic();
    let mut devices = 0;
    let mut bmc = false;
    loop {
        let now = disks(host) + host.list("/sys/class/net").map_or(0, |names| names.len());
        let mut news = now != devices || loader.is_at_work();
        devices = now;
        let buses = host.list("/sys/bus").unwrap_or_default();
        for alias in new_aliases(host, &buses, &mut seen) {
            news = true;
            loader.ask_for_modalias(&alias);
            kinds.insert(alias);
        }
        if !bmc && BMC_DEVICES.iter().any(|device| host.exists(device)) {
            (bmc, news) = (true, true);
            for module in BMC_MODULES {
                loader.ask_for(module);
            }
        }
        if news {
            last_news = clock::monotonic();
        }
        if last_news.elapsed() >= QUIET || begin.elapsed() >= LONGEST {
            return Settled { aliases: kinds.len(), disks: disks(host) };
        }
        std::thread::sleep(LOOK);
    }
}

/// The modaliases of devices on these buses that were not seen before. Listing the devices again is cheap, reading
/// them all again is not.
fn new_aliases(
    host: &Host,
    buses: &[impl std::fmt::Display],
    seen: &mut BTreeSet<String>,
) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for bus in buses {
        let devices = format!("/sys/bus/{bus}/devices");
        for device in host.list(&devices).unwrap_or_default() {
            let path = format!("{devices}/{device}");
            if seen.contains(&path) {
                continue;
            }
            found.extend(alias(host, &path));
            seen.insert(path);
        }
    }
    found
}

/// Most devices have none, and one may go while we look. Cards of SD and eMMC have theirs only in what udev is told.
fn alias(host: &Host, device: &str) -> Option<String> {
    let alias = host.text(&format!("{device}/modalias")).ok().or_else(|| {
        let told = host.text(&format!("{device}/uevent")).ok()?;
        told.lines().find_map(|line| line.strip_prefix("MODALIAS=")).map(str::to_owned)
    });
    alias.filter(|alias| !alias.is_empty())
}

fn disks(host: &Host) -> usize {
    let names = host.list("/sys/block").unwrap_or_default();
    names.iter().filter(|name| host.exists(&format!("/sys/block/{name}/device"))).count()
}

/// PCI base class 02 is network, and virtio device 1 is a VM's network card.
fn is_network(alias: &str) -> bool {
    alias.starts_with("virtio:d00000001v") || (alias.starts_with("pci:") && alias.contains("bc02"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_alias_of_every_bus_is_found_once() {
        let folder = tempfile::tempdir().unwrap();
        for (device, alias) in [
            ("pci/devices/0000:00:01.0", "pci:v00008086d0000100Esv0sd0bc02sc00i00\n"),
            ("pci/devices/0000:00:02.0", "pci:v00008086d0000100Esv0sd0bc02sc00i00\n"),
            ("scsi/devices/0:0:0:0", "scsi:t-0x00\n"),
            ("cpu/devices/cpu0", "\n"),
        ] {
            let path = folder.path().join("sys/bus").join(device);
            std::fs::create_dir_all(&path).unwrap();
            std::fs::write(path.join("modalias"), alias).unwrap();
        }
        let card = folder.path().join("sys/bus/mmc/devices/mmc0:4567");
        std::fs::create_dir_all(&card).unwrap();
        std::fs::write(card.join("uevent"), "MMC_TYPE=SD\nMMC_NAME=QEMU!\nMODALIAS=mmc:block\n").unwrap();
        let host = Host::recorded(folder.path());
        let mut seen = BTreeSet::new();
        let buses = ["cpu", "mmc", "pci", "scsi"];
        let found = new_aliases(&host, &buses, &mut seen);
        let found: Vec<&str> = found.iter().map(String::as_str).collect();
        assert_eq!(found, ["mmc:block", "pci:v00008086d0000100Esv0sd0bc02sc00i00", "scsi:t-0x00"]);
        assert!(new_aliases(&host, &buses, &mut seen).is_empty());
        let disk = folder.path().join("sys/bus/scsi/devices/1:0:0:0");
        std::fs::create_dir_all(&disk).unwrap();
        std::fs::write(disk.join("modalias"), "scsi:t-0x05\n").unwrap();
        assert_eq!(new_aliases(&host, &buses, &mut seen).into_iter().collect::<Vec<_>>(), ["scsi:t-0x05"]);
    }

    #[test]
    fn network_devices_are_told_from_others() {
        for alias in ["pci:v00001AF4d00001000sv00001AF4sd00000001bc02sc00i00", "virtio:d00000001v00001AF4"] {
            assert!(is_network(alias), "{alias}");
        }
        for alias in [
            "pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01",
            "acpi:PNP0C0A:",
            "usb:bc02",
            "virtio:d00000002v00001AF4",
        ] {
            assert!(!is_network(alias), "{alias}");
        }
    }
}
