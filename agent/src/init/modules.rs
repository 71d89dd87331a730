//! Drivers for what the machine has: every modalias to modprobe, again and again until nothing new appears.
//!
//! Without udev, this is coldplug. A controller's driver finds disks, which ask for more drivers: hence the passes.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use crate::cancel::Cancel;
use crate::clock;
use crate::console::{Console, chain};
use crate::host::Host;
use crate::tools::runner::{Invocation, ToolError, ToolRunner};

/// Aliases given to one modprobe: its arguments stay far under the kernel's limit.
const CHUNK: usize = 64;
/// modprobes at work at a time.
const AT_ONCE: usize = 4;
/// A device that takes longer to answer its driver than this is left to appear later.
const MODPROBE_LIMIT: Duration = Duration::from_mins(1);
/// Nothing new for this long means that all is there: disks behind a controller come up a moment after it.
const QUIET: Duration = Duration::from_millis(1_500);
/// How often to look.
const LOOK: Duration = Duration::from_millis(100);
/// The end of waiting in any case.
const LONGEST: Duration = Duration::from_secs(45);
/// What DHCP needs beyond a driver: raw packets.
const NETWORK_MODULES: [&str; 1] = ["af_packet"];
/// Drivers that no device asks for: drive temperatures, SCSI generic for smartctl, SMBIOS entries.
const ALWAYS: [&str; 3] = ["drivetemp", "sg", "dmi_sysfs"];
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

/// Loads until nothing new has appeared for a while.
pub(super) fn load_until_settled(host: &Host, tools: &dyn ToolRunner, console: &dyn Console) -> Settled {
    let loader = Loader { tools, console, missing_told: Mutex::new(false) };
    let begin = clock::monotonic();
    let mut last_news = begin;
    let mut seen = BTreeSet::new();
    let mut devices = 0;
    let mut bmc = false;
    // the way to the coordinator comes first: its drivers alone, until they ask for no more
    let mut first: Vec<String> = NETWORK_MODULES.map(str::to_owned).into();
    loop {
        first.extend(aliases(host).difference(&seen).filter(|alias| is_network(alias)).cloned());
        if first.is_empty() {
            break;
        }
        loader.load(&first);
        seen.extend(first.drain(..));
    }
    loader.load(&ALWAYS.map(str::to_owned));
    loop {
        let new: Vec<String> = aliases(host).difference(&seen).cloned().collect();
        let now = disks(host) + host.list("/sys/class/net").map_or(0, |names| names.len());
        if !new.is_empty() || now != devices {
            loader.load(&new);
            seen.extend(new);
            devices = now;
            last_news = clock::monotonic();
            continue;
        }
        if !bmc && BMC_DEVICES.iter().any(|device| host.exists(device)) {
            bmc = true;
            loader.load(&BMC_MODULES.map(str::to_owned));
            continue;
        }
        if last_news.elapsed() >= QUIET || begin.elapsed() >= LONGEST {
            return Settled { aliases: seen.len(), disks: disks(host) };
        }
        std::thread::sleep(LOOK);
    }
}

/// The modalias of every device on every bus.
fn aliases(host: &Host) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for bus in host.list("/sys/bus").unwrap_or_default() {
        let devices = format!("/sys/bus/{bus}/devices");
        for device in host.list(&devices).unwrap_or_default() {
            // most have none, and a device may go while we look
            if let Ok(alias) = host.text(&format!("{devices}/{device}/modalias"))
                && !alias.is_empty()
            {
                found.insert(alias);
            }
        }
    }
    found
}

fn disks(host: &Host) -> usize {
    let names = host.list("/sys/block").unwrap_or_default();
    names.iter().filter(|name| host.exists(&format!("/sys/block/{name}/device"))).count()
}

/// PCI base class 02 is network; virtio devices are few, and among them is a VM's network.
fn is_network(alias: &str) -> bool {
    alias.starts_with("virtio:") || (alias.starts_with("pci:") && alias.contains("bc02"))
}

struct Loader<'a> {
    tools: &'a dyn ToolRunner,
    console: &'a dyn Console,
    missing_told: Mutex<bool>,
}

impl Loader<'_> {
    fn load(&self, aliases: &[String]) {
        let chunks = Mutex::new(aliases.chunks(CHUNK));
        std::thread::scope(|scope| {
            for _ in 0..AT_ONCE.min(aliases.len().div_ceil(CHUNK)) {
                scope.spawn(|| {
                    loop {
                        let chunk = chunks.lock().unwrap_or_else(PoisonError::into_inner).next();
                        let Some(chunk) = chunk else { return };
                        self.modprobe(chunk);
                    }
                });
            }
        });
    }

    fn modprobe(&self, aliases: &[String]) {
        let outcome = self.tools.run(&invocation(aliases), &Cancel::new(), &mut |_, _| {});
        // its exit code says nothing: most aliases have no module, as their drivers are built in
        if let Err(error) = outcome {
            let mut told = self.missing_told.lock().unwrap_or_else(PoisonError::into_inner);
            if !*told || !matches!(error, ToolError::Missing { .. }) {
                self.console.line(&format!("drivers are not loaded: {}", chain(&error)));
            }
            *told = true;
        }
    }
}

fn invocation(aliases: &[String]) -> Invocation {
    let options = ["-q", "-b", "-a", "--"].into_iter().map(Into::into);
    Invocation {
        tool: "modprobe",
        args: options.chain(aliases.iter().map(Into::into)).collect(),
        timeout: MODPROBE_LIMIT,
    }
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
        let found = aliases(&Host::recorded(folder.path()));
        let found: Vec<&str> = found.iter().map(String::as_str).collect();
        assert_eq!(found, ["pci:v00008086d0000100Esv0sd0bc02sc00i00", "scsi:t-0x00"]);
    }

    #[test]
    fn network_devices_are_told_from_others() {
        for alias in ["pci:v00001AF4d00001000sv00001AF4sd00000001bc02sc00i00", "virtio:d00000001v00001AF4"] {
            assert!(is_network(alias), "{alias}");
        }
        for alias in ["pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01", "acpi:PNP0C0A:", "usb:bc02"] {
            assert!(!is_network(alias), "{alias}");
        }
    }

    #[test]
    fn an_alias_is_never_an_option() {
        let call = invocation(&["-r".to_owned()]);
        let position = |word: &str| call.args.iter().position(|arg| arg == word).unwrap();
        assert!(position("--") < position("-r"));
    }
}
