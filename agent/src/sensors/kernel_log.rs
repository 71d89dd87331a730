//! What the kernel's log says of the hardware: each message put into a class, and counted.
//!
//! | kind | key | unit |
//! |---|---|---|
//! | `kernel_log` | `<class>`, `<class>/<subject>`: messages of the run so far | `count` |
//!
//! The first message of a class and subject is an event, and then each tenth power of them. Messages that the kernel's
//! ring had no room for are lost, and the kernel itself leaves out some when there are many: counts are lower bounds.

use std::collections::{BTreeMap, BTreeSet};

use vetting_protocol::agent_api::EventLevel;

use super::{Moment, Notice, Sample};
use crate::host::{Host, KernelLog};

/// What a message tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// A machine check; whether it was corrected stands in other lines.
    MachineCheck,
    /// An error that was not corrected: memory given up, a fatal report of the firmware, EDAC's UE, a storage controller that
    /// is dead or tells of a failing drive.
    HardwareError,
    /// An error that was corrected.
    CorrectedError,
    /// A disk did not do what it was asked.
    IoError,
    /// A link, controller or device was reset: ATA, SCSI, NVMe, USB, a storage controller, a network card's queue.
    LinkReset,
    /// An error report of NVIDIA's driver.
    Xid,
    /// Heat.
    Thermal,
    /// The kernel killed a program for memory.
    OutOfMemory,
    /// A PCIe error that was corrected.
    AerCorrected,
    /// A PCIe error that was not.
    AerUncorrected,
    /// A CPU or task that did not get on.
    Stall,
}

/// Every class, in the order they are told.
const ALL: [Class; 11] = [
    Class::MachineCheck,
    Class::HardwareError,
    Class::CorrectedError,
    Class::IoError,
    Class::LinkReset,
    Class::Xid,
    Class::Thermal,
    Class::OutOfMemory,
    Class::AerCorrected,
    Class::AerUncorrected,
    Class::Stall,
];

impl Class {
    /// As it stands in keys.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MachineCheck => "machine_check",
            Self::HardwareError => "hardware_error",
            Self::CorrectedError => "corrected_error",
            Self::IoError => "io_error",
            Self::LinkReset => "link_reset",
            Self::Xid => "xid",
            Self::Thermal => "thermal",
            Self::OutOfMemory => "out_of_memory",
            Self::AerCorrected => "aer_corrected",
            Self::AerUncorrected => "aer_uncorrected",
            Self::Stall => "stall",
        }
    }

    fn level(self) -> EventLevel {
        match self {
            Self::MachineCheck | Self::HardwareError | Self::IoError | Self::AerUncorrected => {
                EventLevel::Error
            }
            Self::CorrectedError
            | Self::LinkReset
            | Self::Xid
            | Self::Thermal
            | Self::OutOfMemory
            | Self::AerCorrected
            | Self::Stall => EventLevel::Warning,
        }
    }
}

/// A message that tells of the hardware.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it tells of.
    pub class: Class,
    /// The part, as the kernel names it: `sda`, `ata3`, `0000:3b:00.0`, a DIMM's label, `0000:3b:00/79` (an Xid's GPU and
    /// code).
    pub subject: Option<String>,
}

/// Puts a message into its class; none for what tells of nothing wrong, and for the further lines of a report.
pub fn classify(message: &str) -> Option<Finding> {
    let found = |class, subject: Option<&str>| Some(Finding { class, subject: subject.map(clean_subject) });
    if let Some((class, subject)) = hardware_error(message) {
        return found(class, subject);
    }
    if let Some((class, address)) = aer(message) {
        return found(class, address);
    }
    if let Some(xid) = xid(message) {
        return Some(Finding { class: Class::Xid, subject: Some(xid) });
    }
    if let Some((class, controller)) = storage_controller(message) {
        return found(class, Some(controller));
    }
    if let Some(disk) = io_error(message) {
        return found(Class::IoError, Some(disk));
    }
    if let Some(subject) = link_reset(message) {
        return found(Class::LinkReset, Some(subject));
    }
    let lower = message.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    if says(&["temperature above threshold", "critical temperature reached"]) {
        return found(Class::Thermal, None);
    }
    if says(&["out of memory: killed process"]) {
        return found(Class::OutOfMemory, None);
    }
    let stalled = [
        "soft lockup",
        "hard lockup",
        "self-detected stall",
        "detected stalls on cpus",
        "blocked for more than",
    ];
    says(&stalled).then_some(Finding { class: Class::Stall, subject: None })
}

/// Machine checks (arch/x86/kernel/cpu/mce, drivers/edac/mce_amd.c), reports of the firmware (drivers/firmware/efi/cper.c),
/// memory given up (mm/memory-failure.c), and EDAC (drivers/edac/edac_mc.c). Of a report of many lines the one that tells
/// how grave it is.
fn hardware_error(message: &str) -> Option<(Class, Option<&str>)> {
    if let Some(rest) = message.strip_prefix("EDAC ") {
        return edac(rest);
    }
    if message.starts_with("Memory failure:") || message.contains("Sending SIGBUS") {
        return Some((Class::HardwareError, None));
    }
    if message.contains("CMCI storm detected") {
        return Some((Class::CorrectedError, None));
    }
    let (_, report) = message.split_once("[Hardware Error]:")?;
    let report = report.trim();
    let begins = |start: &str| report.starts_with(start);
    if begins("event severity: corrected") || begins("Corrected error, no action required") {
        Some((Class::CorrectedError, None))
    } else if begins("event severity: info") {
        None
    } else if begins("event severity:")
        || begins("System Fatal error")
        || begins("Uncorrected, ")
        || begins("Deferred error")
        || report.contains("Processor context corrupt")
    {
        Some((Class::HardwareError, None))
    } else if begins("Machine check events logged") || report.contains(": Machine Check") {
        Some((Class::MachineCheck, None))
    } else {
        None
    }
}

/// `MC0: 1 CE memory read error on CPU_SrcID#0_Ha#0_Chan#1_DIMM#0 (channel:1 …)`.
fn edac(rest: &str) -> Option<(Class, Option<&str>)> {
    let (_controller, told) = rest.strip_prefix("MC")?.split_once(": ")?;
    let mut words = told.split(' ');
    words.next()?.parse::<u64>().ok()?;
    let class = match words.next()? {
        "CE" => Class::CorrectedError,
        "UE" => Class::HardwareError,
        _ => return None,
    };
    let label = told.split_once(" on ").and_then(|(_, rest)| rest.split_once(" (")).map(|(label, _)| label);
    Some((class, label))
}

/// drivers/pci/pcie/aer.c: `nvme 0000:01:00.0: PCIe Bus Error: severity=Corrected, type=Physical Layer, (Receiver ID)`, of
/// newer kernels `…: AER: PCIe Bus Error: severity=Correctable, …`.
fn aer(message: &str) -> Option<(Class, Option<&str>)> {
    let (device, severity) = message.split_once("PCIe Bus Error: severity=")?;
    let class = if severity.starts_with("Correct") { Class::AerCorrected } else { Class::AerUncorrected };
    Some((
        class,
        device.split([' ']).map(|word| word.trim_end_matches(':')).find(|word| is_pci_address(word)),
    ))
}

/// `0000:3b:00.0`.
fn is_pci_address(word: &str) -> bool {
    let parts: Vec<&str> = word.split([':', '.']).collect();
    let hexadecimal = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    parts.len() == 4 && parts.iter().all(|part| hexadecimal(part))
}

/// `NVRM: Xid (PCI:0000:3b:00): 79, pid=1122, GPU has fallen off the bus.` → `0000:3b:00/79`.
fn xid(message: &str) -> Option<String> {
    let (_, rest) = message.split_once("NVRM: Xid (")?;
    let (gpu, rest) = rest.split_once("):")?;
    let code: String = rest.trim_start().chars().take_while(char::is_ascii_digit).collect();
    let gpu = gpu.trim_start_matches("PCI:");
    (!code.is_empty()).then(|| format!("{}/{code}", clean_subject(gpu)))
}

/// What RAID controllers and HBAs say of their drives and of themselves (drivers/scsi): `megaraid_sas 0000:02:00.0: 1512
/// (595831198s/0x0004/CRIT) - Enclosure PD 20(c None/p1) phy bad for slot 7`, `… FW in FAULT state Fault code:0x10000 …`,
/// `mpt3sas_cm0: fault_state(0x5862)!`, `smartpqi 0000:5c:00.0: controller offline: reason code 0x4 (no controller heartbeat
/// detected)`, `hpsa 0000:03:00.0: Controller lockup detected: 0x0015002f after 30`; and that they were reset. Drivers write
/// the same words with and without a capital.
fn storage_controller(message: &str) -> Option<(Class, &str)> {
    /// Events of MegaRAID's firmware that the driver writes by default, and what only a dead controller makes it write.
    const FAULTS: [&str; 8] = [
        "/crit) - ",
        "/fatal) - ",
        "/dead) - ",
        "fw in fault state",
        "fault_state(",
        "controller is offline",
        "controller offline",
        "controller lockup detected",
    ];
    const RESETS: [&str; 3] = ["resetting fusion adapter", "sending diag reset", "resetting scsi"];
    let (who, told) = message.split_once(": ")?;
    let (driver, address) = who.split_once(' ').unwrap_or((who, who));
    let is_of_storage = ["megaraid_sas", "mpt2sas_cm", "mpt3sas_cm", "mpi3mr", "smartpqi", "hpsa"]
        .iter()
        .any(|name| driver.starts_with(name));
    let told = told.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| told.contains(word));
    if !is_of_storage {
        None
    } else if says(&FAULTS) {
        Some((Class::HardwareError, address))
    } else {
        says(&RESETS).then_some((Class::LinkReset, address))
    }
}

/// block/blk-core.c: `I/O error, dev sda, sector 8`, `critical medium error, dev sda, …`; fs/buffer.c: `Buffer I/O error on
/// dev sda1, logical block 1`; drivers/nvme/host/core.c: `nvme0n1: I/O Cmd(0x2) @ LBA 1234, 8 blocks, I/O Error (sct …`.
fn io_error(message: &str) -> Option<&str> {
    if let Some((disk, rest)) = message.split_once(": ")
        && rest.contains(" @ LBA ")
        && rest.contains("I/O Error (sct")
    {
        return is_name(disk).then_some(disk);
    }
    io_error_of_block_layer(message)
}

fn io_error_of_block_layer(message: &str) -> Option<&str> {
    message.match_indices("dev ").find_map(|(at, word)| {
        let (before, after) = message.split_at(at);
        let name = after.strip_prefix(word)?.split([',', ' ']).next()?;
        (before.to_ascii_lowercase().contains("error") && is_name(name)).then_some(name)
    })
}

fn is_name(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-!_".contains(&byte))
}

/// Who was reset: `ata3: hard resetting link`, `nvme nvme0: controller is down; will reset: …`,
/// `usb 2-1: reset SuperSpeed USB device …`, `sd 4:0:1:0: attempting task abort!`, `NETDEV WATCHDOG: eth0 (igb): transmit queue 0 timed out`.
fn link_reset(message: &str) -> Option<&str> {
    if let Some(rest) = message.strip_prefix("NETDEV WATCHDOG: ") {
        return rest.split([' ', ':']).next();
    }
    let (who, what) = message.split_once(": ")?;
    let says = |words: &[&str]| words.iter().any(|word| what.contains(word));
    let is_ata =
        who.strip_prefix("ata").is_some_and(|number| number.starts_with(|c: char| c.is_ascii_digit()));
    if is_ata {
        let reset = says(&[
            "hard resetting link",
            "soft resetting link",
            "limiting SATA link speed",
            "COMRESET failed",
        ]);
        return reset.then_some(who);
    }
    if let Some(controller) = who.strip_prefix("nvme ") {
        let reset = says(&[
            "controller is down; will reset",
            "timeout, reset controller",
            "timeout, aborting",
            "timeout, disable controller",
            "Device not ready; aborting reset",
            "Disabling device after reset failure",
            "Removing after probe failure",
            "Abort status",
        ]);
        return reset.then_some(controller);
    }
    if let Some(device) = who.strip_prefix("sd ") {
        let reset = says(&[
            "attempting task abort!",
            "attempting device reset!",
            "attempting target reset!",
            "Power-on or device reset occurred",
        ]);
        return reset.then_some(device);
    }
    let reset_usb = who.starts_with("usb ") && what.starts_with("reset ") && what.contains("USB device");
    reset_usb.then_some(who)
}

/// One that can be part of a key.
fn clean_subject(subject: &str) -> String {
    let cleaned: String = subject
        .chars()
        .map(|character| if character.is_whitespace() || character == '/' { '_' } else { character })
        .filter(|character| !character.is_control())
        .take(80)
        .collect();
    cleaned
}

/// The kernel's log from the first sample on.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Absent before the first sample, and where the log cannot be opened.
    log: Option<KernelLog>,
    opened: bool,
    lost: bool,
    counts: BTreeMap<Class, u64>,
    by_subject: BTreeMap<(Class, String), u64>,
}

impl Watch {
    /// Counts the messages that came since the last sample.
    pub(super) fn sample(&mut self, host: &Host, moment: Moment, sample: &mut Sample) {
        let first = !self.opened;
        if first {
            self.opened = true;
            match host.kernel_log_from_now() {
                Ok(log) => self.log = Some(log),
                Err(error) => self.lose(&error.reason(), moment, sample),
            }
        }
        let Some(log) = &mut self.log else { return };
        match log.new_messages() {
            Ok(messages) => self.count(&messages, first, moment, sample),
            Err(error) => {
                self.log = None;
                self.lose(&error.reason(), moment, sample);
            }
        }
    }

    /// From now on nothing is known: no rule may take that for good.
    fn lose(&mut self, reason: &str, moment: Moment, sample: &mut Sample) {
        if !self.lost {
            self.lost = true;
            sample.lost.push(format!("kernel_log: {reason}"));
            for class in ALL {
                sample.push(moment.ts_ms, "kernel_log", class.as_str().to_owned(), None, "count");
            }
        }
    }

    fn count(&mut self, messages: &[String], first: bool, moment: Moment, sample: &mut Sample) {
        let mut grown = BTreeSet::new();
        let mut grown_subjects = BTreeSet::new();
        for message in messages {
            let Some(Finding { class, subject }) = classify(message) else { continue };
            *self.counts.entry(class).or_default() += 1;
            grown.insert(class);
            let subject = subject.unwrap_or_default();
            let key = (class, subject);
            let count = self.by_subject.entry(key.clone()).or_default();
            *count += 1;
            if is_power_of_ten(*count) {
                let so_far = if *count == 1 { String::new() } else { format!(" ({count} messages so far)") };
                let of = if key.1.is_empty() { String::new() } else { format!(" {}", key.1) };
                sample.notices.push(Notice {
                    level: class.level(),
                    kind: "kernel_log",
                    message: format!("{}{of}: {message}{so_far}", class.as_str()),
                });
            }
            grown_subjects.insert(key);
        }
        for class in ALL {
            if first || grown.contains(&class) {
                let count = self.counts.get(&class).copied().unwrap_or(0);
                sample.push(
                    moment.ts_ms,
                    "kernel_log",
                    class.as_str().to_owned(),
                    Some(count as f64),
                    "count",
                );
            }
        }
        for key in grown_subjects {
            let (class, subject) = &key;
            if let Some(count) = self.by_subject.get(&key).filter(|_| !subject.is_empty()) {
                let key = format!("{}/{subject}", class.as_str());
                sample.push(moment.ts_ms, "kernel_log", key, Some(*count as f64), "count");
            }
        }
    }
}

fn is_power_of_ten(mut count: u64) -> bool {
    while count > 1 && count.is_multiple_of(10) {
        count /= 10;
    }
    count == 1
}

#[cfg(test)]
mod tests;
