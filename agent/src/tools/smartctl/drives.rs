//! Which drives smartctl can reach, also those that the kernel shows only as a volume of their RAID controller
//! (smartctl(8) `--scan-open`, `-d`).

use std::ffi::OsString;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{ExitBits, TOOL, garbage};
use crate::tools::runner::{Finished, Invocation, ToolError};

/// How smartctl is to speak to a drive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drive {
    /// Device file: of the disk itself, or of the controller that it is behind.
    pub device: String,
    /// `-d`, such as `megaraid,8` or `sat`; `None` lets smartctl find out.
    pub device_type: Option<String>,
}

impl Drive {
    /// A disk of the kernel's, spoken to in whatever way smartctl finds. Of an NVMe disk the whole is asked, not its
    /// namespace: many refuse to tell a namespace of their self-tests, which smartctl 7.4 asks for, and log the question as
    /// an error (smartmontools ticket 1741).
    pub fn of(device: impl Into<String>) -> Self {
        let device = device.into();
        let device_type = device.starts_with("/dev/nvme").then(|| WHOLE_NVME.to_owned());
        Self { device, device_type }
    }

    /// A drive of an HPE controller by its number, below [`MOST_CCISS`], reached through a volume of the controller.
    pub fn cciss(volume: impl Into<String>, number: u32) -> Self {
        Self { device: volume.into(), device_type: Some(format!("cciss,{number}")) }
    }

    /// It is behind an HPE controller.
    pub fn is_cciss(&self) -> bool {
        self.device_type.as_deref().is_some_and(|kind| kind.starts_with("cciss,"))
    }

    pub(super) fn invocation(&self, words: &[&str], timeout: Duration) -> Invocation {
        let mut args: Vec<OsString> = vec!["--json=c".into()];
        args.extend(words.iter().map(Into::into));
        if let Some(device_type) = &self.device_type {
            args.extend(["-d".into(), device_type.into()]);
        }
        args.push(self.device.clone().into());
        Invocation { tool: TOOL, args, timeout }
    }
}

/// All namespaces of an NVMe disk (NVM Express base specification, NSID FFFFFFFFh).
const WHOLE_NVME: &str = "nvme,0xffffffff";

/// How many numbers drives of an HPE controller may have (`-d cciss,N`).
pub const MOST_CCISS: u32 = 128;

/// Looks for drives. One that must spin up may keep the scan waiting.
pub fn scan() -> Invocation {
    Invocation {
        tool: TOOL,
        args: vec!["--json=c".into(), "--scan-open".into()],
        timeout: Duration::from_mins(2),
    }
}

#[derive(Deserialize)]
struct Json {
    #[serde(default)]
    devices: Vec<Device>,
}

#[derive(Deserialize)]
struct Device {
    name: String,
    #[serde(rename = "type")]
    kind: String,
}

/// The JSON of a call whose command line was understood, and how it ended.
fn answer<T: DeserializeOwned>(finished: &Finished) -> Result<(ExitBits, T), ToolError> {
    let code = finished.code(TOOL)?;
    let exit = ExitBits::of(code)?;
    let json = serde_json::from_slice(&finished.stdout)
        .map_err(|error| garbage(format!("its JSON cannot be read: {error}")))?;
    if exit.not_asked() {
        return Err(ToolError::Failed { tool: TOOL.to_owned(), code, message: finished.last_words() });
    }
    Ok((exit, json))
}

/// Drives behind RAID controllers, each with its device type; disks of the kernel's own are not among them. One that could
/// not be opened is a drive too: controllers list disks only, and a dead one stays in the list.
pub fn parse_scan(finished: &Finished) -> Result<Vec<Drive>, ToolError> {
    let (_, json) = answer::<Json>(finished)?;
    let behind_controllers = json
        .devices
        .into_iter()
        .filter(|device| is_behind_controller(&device.kind))
        .map(|device| Drive { device: device.name, device_type: Some(device.kind) });
    Ok(behind_controllers.collect())
}

/// `megaraid,8`, `sat+megaraid,8`, `cciss,0`, `3ware,1`, `areca,1/2`, `aacraid,0,0,1`, `hpt,1/1`, `sssraid,0,1`.
fn is_behind_controller(device_type: &str) -> bool {
    const CONTROLLERS: [&str; 7] = ["megaraid", "cciss", "3ware", "areca", "aacraid", "hpt", "sssraid"];
    device_type
        .split('+')
        .any(|layer| layer.split_once(',').is_some_and(|(controller, _)| CONTROLLERS.contains(&controller)))
}

/// Whether the kernel's driver of a disk is that of such a controller: what it shows then are volumes, not drives.
pub fn shows_volumes(driver: &str) -> bool {
    const DRIVERS: [&str; 7] = ["megaraid_sas", "hpsa", "smartpqi", "3w-sas", "3w-9xxx", "arcmsr", "aacraid"];
    DRIVERS.contains(&driver)
}

/// Whether the drives behind this driver are numbered and asked with `-d cciss,N`; smartctl does not list them.
pub fn numbers_its_drives(driver: &str) -> bool {
    ["hpsa", "smartpqi"].contains(&driver)
}

/// Asks a drive who it is, without what takes it long.
pub fn identify(drive: &Drive) -> Invocation {
    drive.invocation(&["-i"], Duration::from_mins(1))
}

/// Who a drive says it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Serial number.
    pub serial: Option<String>,
}

/// `None`: nobody is there, or somebody who is no disk, such as an enclosure.
pub fn parse_identity(finished: &Finished) -> Result<Option<Identity>, ToolError> {
    let (exit, json) = answer::<Value>(finished)?;
    let is_disk = !exit.not_opened() && json.pointer("/user_capacity/bytes").is_some();
    let serial = json.get("serial_number").and_then(Value::as_str).map(str::to_owned);
    Ok(is_disk.then_some(Identity { serial }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::fixture;

    #[test]
    fn drives_behind_controllers_are_found_and_the_kernels_own_are_not() {
        let drives = parse_scan(&fixture("smartctl", "7.4-scan-megaraid-dead-drive")).unwrap();
        let told: Vec<_> = drives
            .iter()
            .map(|drive| (drive.device.as_str(), drive.device_type.as_deref().unwrap_or_default()))
            .collect();
        let expected = ["megaraid,8", "sat+megaraid,9", "megaraid,10"].map(|kind| ("/dev/bus/0", kind));
        assert_eq!(told, expected, "also the one that does not answer");
        assert!(parse_scan(&fixture("smartctl", "7.4-scan-qemu")).unwrap().is_empty());
    }

    #[test]
    fn a_scan_that_gave_no_answer_is_not_a_machine_without_controllers() {
        for case in ["bad-no-output", "bad-garbage", "bad-killed", "bad-timed-out"] {
            assert!(parse_scan(&fixture("smartctl", case)).is_err(), "{case}");
        }
    }

    #[test]
    fn who_answers_at_a_number_is_a_disk_or_nobody() {
        let identity = |case: &str| parse_identity(&fixture("smartctl", case));
        let serial = |case: &str| identity(case).unwrap().unwrap().serial;
        assert_eq!(serial("7.3-sas-good").as_deref(), Some("TEST0003"));
        assert_eq!(identity("7.3-cciss-open-failed").unwrap(), None);
        for case in ["7.3-bad-option", "bad-no-output", "bad-garbage", "bad-killed", "bad-timed-out"] {
            assert!(identity(case).is_err(), "{case}");
        }
    }

    #[test]
    fn the_type_of_a_drive_is_told_to_smartctl() {
        let drive = Drive { device: "/dev/bus/0".to_owned(), device_type: Some("megaraid,8".to_owned()) };
        let args = drive.invocation(&["-x"], Duration::ZERO).args;
        assert_eq!(args, ["--json=c", "-x", "-d", "megaraid,8", "/dev/bus/0"]);
        assert_eq!(
            Drive::of("/dev/sda").invocation(&["-x"], Duration::ZERO).args,
            ["--json=c", "-x", "/dev/sda"]
        );
        assert_eq!(
            Drive::of("/dev/nvme0n1").invocation(&["-x"], Duration::ZERO).args,
            ["--json=c", "-x", "-d", "nvme,0xffffffff", "/dev/nvme0n1"]
        );
    }
}
