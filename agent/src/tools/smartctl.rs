//! smartctl (smartmontools 7.3 and later): health and attributes of ATA, NVMe and SCSI/SAS disks, from its JSON.
//!
//! Its exit status is eight facts in one number ([`ExitBits`]); a disk that smartctl cannot speak to is told apart
//! from one that it could not read. Refuses to call a disk healthy that did not say so.

mod ata;
mod drives;
pub mod farm;
mod health;
pub mod self_test;

use std::time::Duration;

use serde_json::Value;

use super::runner::{Finished, Invocation, ToolError};

pub use ata::{AtaAttribute, AtaHealth};
pub use drives::{
    Drive, Identity, MOST_CCISS, identify, numbers_its_drives, parse_identity, parse_scan, scan,
    shows_volumes,
};
pub use health::{NvmeHealth, ScsiErrors, ScsiHealth};

const TOOL: &str = "smartctl";
/// Why such a disk is no pass.
pub const SWITCHED_OFF: &str =
    "its SMART is switched off, so that it would tell of no failure; `smartctl -s on` switches it on";

/// As smartctl calls the protocol of SAS disks.
const SCSI: &str = "SCSI";

/// Asks a drive for all it knows. Two minutes are far more than a healthy one takes and enough for one that has to
/// spin up.
pub fn invocation(drive: &Drive) -> Invocation {
    drive.invocation(&["-x"], Duration::from_mins(2))
}

/// smartctl's exit status, smartctl(8) "EXIT STATUS".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExitBits(u8);

impl ExitBits {
    fn of(code: i32) -> Result<Self, ToolError> {
        u8::try_from(code).map(Self).map_err(|_| garbage(format!("its exit status is {code}")))
    }

    /// Bit 0: the command line did not parse, or no device type fits.
    pub fn not_asked(self) -> bool {
        self.0 & 1 != 0
    }

    /// Bit 1: the device could not be opened or did not identify itself.
    pub fn not_opened(self) -> bool {
        self.0 & 2 != 0
    }

    /// Bit 2: some command failed, or a checksum was wrong. Common with `-x` on disks that lack a log page.
    pub fn command_failed(self) -> bool {
        self.0 & 4 != 0
    }

    /// Bit 3: the disk says it is failing.
    pub fn failing(self) -> bool {
        self.0 & 8 != 0
    }

    /// Bit 4: a pre-fail attribute is at or below its threshold.
    pub fn prefail_now(self) -> bool {
        self.0 & 16 != 0
    }

    /// Bit 5: an attribute was at or below its threshold some time ago.
    pub fn below_threshold_once(self) -> bool {
        self.0 & 32 != 0
    }

    /// Bit 6: the error log has entries.
    pub fn error_log_entries(self) -> bool {
        self.0 & 64 != 0
    }

    /// Bit 7: the self-test log has failures that no later self-test has outdated.
    pub fn self_test_failures(self) -> bool {
        self.0 & 128 != 0
    }
}

/// What smartctl found.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// The disk answered.
    Report(Box<SmartReport>),
    /// The disk has no SMART: a virtual disk, a flash card, a bridge that does not pass it through.
    NotSupported {
        /// In smartctl's words.
        reason: String,
    },
    /// The disk could not be opened, or did not say who it is. So smartctl answers of a volume of Dell's and LSI's
    /// controllers, and of a disk that is dead.
    NotOpened {
        /// In smartctl's words.
        reason: String,
    },
}

/// What a disk told.
#[derive(Debug, Clone, PartialEq)]
pub struct SmartReport {
    /// The overall health self-assessment.
    pub passed: bool,
    /// It would say that it fails. A SCSI disk whose informational exceptions are switched off (SPC-4, 7.5.11: DEXCPT)
    /// counts its errors all the same.
    pub tells_of_failure: bool,
    /// What a SCSI disk that says it fails gives as the reason (SPC-4, additional sense codes 5Dh).
    pub failure: Option<String>,
    /// smartctl's exit status.
    pub exit: ExitBits,
    /// What smartctl had to say beside the data.
    pub messages: Vec<String>,
    /// Hours under power.
    pub power_on_hours: Option<f64>,
    /// Current temperature, degrees Celsius.
    pub temperature_celsius: Option<f64>,
    /// What the drive gives as its limits of that.
    pub temperature_limits: TemperatureLimits,
    /// Failed self-tests that the log still holds.
    pub self_test_failures: Option<f64>,
    /// What it stores on, as far as it tells.
    pub medium: Option<Medium>,
    /// The disk has Seagate's FARM log.
    pub has_farm: bool,
    /// What is special to the disk's command set.
    pub health: Health,
}

/// What a disk stores on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Medium {
    /// Nothing moves.
    SolidState,
    /// It rotates.
    Rotating,
}

impl SmartReport {
    /// How much of its rated endurance the disk used, percent; may exceed 100.
    pub fn wear_percent(&self) -> Option<f64> {
        match &self.health {
            Health::Ata(health) => health.percentage_used,
            Health::Nvme(health) => Some(health.percentage_used),
            Health::Scsi(health) => health.percentage_used,
        }
    }
}

/// Temperatures, degrees Celsius, that an ATA or SCSI drive gives as its limits. NVMe's are known to the kernel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TemperatureLimits {
    /// ATA: the highest at which the drive should work for long (ACS-4, SCT Data Table, Max Op Limit).
    pub recommended: Option<f64>,
    /// ATA: the highest that it bears (Over Limit there). SCSI: the reference temperature (SPC-5, log page 0Dh).
    pub highest: Option<f64>,
}

/// The part that differs by command set.
#[derive(Debug, Clone, PartialEq)]
pub enum Health {
    /// ATA: the vendor's attributes, and what device statistics tell of wear.
    Ata(AtaHealth),
    /// NVMe: the SMART / Health Information log page.
    Nvme(NvmeHealth),
    /// SCSI and SAS: error counters and defect lists.
    Scsi(ScsiHealth),
}

fn garbage(message: impl Into<String>) -> ToolError {
    ToolError::Garbage { tool: TOOL.to_owned(), message: message.into() }
}

/// Reads smartctl's JSON.
pub fn parse(finished: &Finished) -> Result<Answer, ToolError> {
    let code = finished.code(TOOL)?;
    let exit = ExitBits::of(code)?;
    let json: Value = serde_json::from_slice(&finished.stdout)
        .map_err(|error| garbage(format!("its JSON cannot be read: {error}")))?;
    if exit.not_asked() {
        // local_time is only written once the command line was accepted: what failed then is finding the device type
        let accepted = json.get("local_time").is_some() && json.get("device").is_none();
        return if accepted {
            Ok(Answer::NotSupported { reason: words(&json) })
        } else {
            Err(ToolError::Failed { tool: TOOL.to_owned(), code, message: words(&json) })
        };
    }
    if exit.not_opened() {
        return Ok(Answer::NotOpened { reason: words(&json) });
    }
    let supported = json.pointer("/smart_support/available").and_then(Value::as_bool);
    if supported == Some(false) {
        return Ok(Answer::NotSupported { reason: "the disk has no SMART capability".to_owned() });
    }
    let is_on = json.pointer("/smart_support/enabled").and_then(Value::as_bool) != Some(false);
    let protocol = json.pointer("/device/protocol").and_then(Value::as_str);
    if !is_on && protocol != Some(SCSI) {
        let message = SWITCHED_OFF.to_owned();
        return Err(ToolError::Failed { tool: TOOL.to_owned(), code, message });
    }
    let Some(passed) = json.pointer("/smart_status/passed").and_then(Value::as_bool) else {
        return Err(garbage(format!("there is no health status in it ({})", words(&json))));
    };
    let health = health::read(&json, exit)?;
    Ok(Answer::Report(Box::new(SmartReport {
        passed,
        tells_of_failure: is_on,
        failure: json.pointer("/smart_status/scsi/ie_string").and_then(Value::as_str).map(ToOwned::to_owned),
        exit,
        power_on_hours: health::number(&json, "/power_on_time/hours"),
        temperature_celsius: temperature(&json, protocol),
        temperature_limits: temperature_limits(&json, protocol),
        self_test_failures: health::self_test_failures(&json),
        medium: medium(&json, &health),
        has_farm: json.pointer("/seagate_farm_log/supported").and_then(Value::as_bool).unwrap_or(false),
        messages: messages(&json),
        health,
    })))
}

/// A SCSI disk that keeps its temperature in another log page than smartctl looks at first says 0.
fn temperature(json: &Value, protocol: Option<&str>) -> Option<f64> {
    let told = |pointer: &str| health::number(json, pointer);
    let current = told("/temperature/current");
    if protocol != Some(SCSI) {
        return current;
    }
    let environmental = || told("/scsi_environmental_reports/temperature_1/current");
    current.filter(|celsius| *celsius != 0.0).or_else(environmental).filter(|celsius| *celsius != 0.0)
}

/// smartctl gives a solid state disk the rate 0 (which ACS and SBC write as 1).
fn medium(json: &Value, health: &Health) -> Option<Medium> {
    if matches!(health, Health::Nvme(_)) {
        return Some(Medium::SolidState);
    }
    let rate = json.get("rotation_rate")?.as_u64()?;
    Some(if rate == 0 { Medium::SolidState } else { Medium::Rotating })
}

/// 0 and what is beyond a byte, or its end, stand for none.
fn temperature_limits(json: &Value, protocol: Option<&str>) -> TemperatureLimits {
    let is_told = |celsius: &f64| *celsius > 0.0 && *celsius < 255.0;
    let told = |pointer: &str| health::number(json, pointer).filter(is_told);
    match protocol {
        Some("ATA") => TemperatureLimits {
            recommended: told("/temperature/op_limit_max"),
            highest: told("/temperature/limit_max"),
        },
        Some(SCSI) => TemperatureLimits { recommended: None, highest: told("/temperature/drive_trip") },
        _ => TemperatureLimits { recommended: None, highest: None },
    }
}

/// What smartctl has to say of a failure.
fn words(json: &Value) -> String {
    let messages = messages(json);
    if messages.is_empty() { "it gives no reason".to_owned() } else { messages.join("; ") }
}

fn messages(json: &Value) -> Vec<String> {
    json.pointer("/smartctl/messages")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|message| message.get("string").and_then(Value::as_str))
        .map(ToOwned::to_owned)
        .collect()
}

#[cfg(test)]
mod tests;
