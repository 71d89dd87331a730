//! The part of smartctl's JSON that differs between ATA, NVMe and SCSI.

use serde_json::Value;

use super::{ExitBits, Health, ata, garbage, words};
use crate::tools::runner::ToolError;

/// NVMe SMART / Health Information log page (NVM Express base specification, log page 02h).
#[derive(Debug, Clone, PartialEq)]
pub struct NvmeHealth {
    /// Critical Warning: any bit set is a fault.
    pub critical_warning: u8,
    /// Available Spare, percent.
    pub available_spare_percent: f64,
    /// Available Spare Threshold, percent.
    pub available_spare_threshold_percent: f64,
    /// Percentage Used; may exceed 100.
    pub percentage_used: f64,
    /// Media and Data Integrity Errors.
    pub media_errors: f64,
    /// Number of Error Information Log Entries.
    pub error_log_entries: Option<f64>,
    /// Unsafe Shutdowns.
    pub unsafe_shutdowns: Option<f64>,
    /// Power Cycles.
    pub power_cycles: Option<f64>,
    /// Data Units Read, in thousands of 512-byte units.
    pub data_units_read: Option<f64>,
    /// Data Units Written, in thousands of 512-byte units.
    pub data_units_written: Option<f64>,
    /// Warning Composite Temperature Time, minutes.
    pub warning_temperature_minutes: Option<f64>,
    /// Critical Composite Temperature Time, minutes.
    pub critical_temperature_minutes: Option<f64>,
}

/// SCSI log pages and defect lists. Without the Non-Medium Error log page (06h), which smartctl 7.3 to 7.5 leave out of
/// their JSON.
#[derive(Debug, Clone, PartialEq)]
pub struct ScsiHealth {
    /// Entries of the grown defect list.
    pub grown_defects: Option<f64>,
    /// Read Error Counter log page (03h).
    pub read: Option<ScsiErrors>,
    /// Write Error Counter log page (02h).
    pub write: Option<ScsiErrors>,
    /// Verify Error Counter log page (05h).
    pub verify: Option<ScsiErrors>,
    /// Pending Defects log page (15h).
    pub pending_defects: Option<f64>,
    /// Percentage used endurance indicator of a solid state medium (11h); may exceed 100.
    pub percentage_used: Option<f64>,
}

/// One error counter log page.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScsiErrors {
    /// Errors corrected.
    pub corrected: Option<f64>,
    /// Errors that could not be corrected.
    pub uncorrected: f64,
}

pub(super) fn read(json: &Value, exit: ExitBits) -> Result<Health, ToolError> {
    match json.pointer("/device/protocol").and_then(Value::as_str) {
        Some("ATA") => ata::read(json).map(Health::Ata),
        Some("NVMe") => nvme(json).map(Health::Nvme),
        Some("SCSI") => scsi(json, exit).map(Health::Scsi),
        Some(other) => Err(garbage(format!("the protocol `{other}` is not known here"))),
        None => Err(garbage("it does not tell the disk's protocol")),
    }
}

/// A number at a JSON pointer; also one written as text, as smartctl does with those beyond 53 bits.
pub(super) fn number(json: &Value, pointer: &str) -> Option<f64> {
    let value = json.pointer(pointer)?;
    value.as_f64().or_else(|| value.as_str()?.parse().ok())
}

pub(super) fn required(json: &Value, pointer: &str) -> Result<f64, ToolError> {
    number(json, pointer).ok_or_else(|| garbage(format!("there is no number at {pointer}")))
}

fn nvme(json: &Value) -> Result<NvmeHealth, ToolError> {
    let log = json
        .get("nvme_smart_health_information_log")
        .ok_or_else(|| garbage("the SMART / Health Information log is not in it"))?;
    Ok(NvmeHealth {
        critical_warning: log
            .get("critical_warning")
            .and_then(Value::as_u64)
            .and_then(|bits| u8::try_from(bits).ok())
            .ok_or_else(|| garbage("there is no critical warning byte in the health log"))?,
        available_spare_percent: required(log, "/available_spare")?,
        available_spare_threshold_percent: required(log, "/available_spare_threshold")?,
        percentage_used: required(log, "/percentage_used")?,
        media_errors: required(log, "/media_errors")?,
        error_log_entries: number(log, "/num_err_log_entries"),
        unsafe_shutdowns: number(log, "/unsafe_shutdowns"),
        power_cycles: number(log, "/power_cycles"),
        data_units_read: number(log, "/data_units_read"),
        data_units_written: number(log, "/data_units_written"),
        warning_temperature_minutes: number(log, "/warning_temp_time"),
        critical_temperature_minutes: number(log, "/critical_comp_time"),
    })
}

/// A disk may lack any one of these pages, but where a command failed and none is there, nothing was read.
fn scsi(json: &Value, exit: ExitBits) -> Result<ScsiHealth, ToolError> {
    let errors = |page: &str| -> Result<Option<ScsiErrors>, ToolError> {
        let Some(page) = json.pointer(&format!("/scsi_error_counter_log/{page}")) else {
            return Ok(None);
        };
        Ok(Some(ScsiErrors {
            corrected: number(page, "/total_errors_corrected"),
            uncorrected: required(page, "/total_uncorrected_errors")?,
        }))
    };
    let (read, write, verify) = (errors("read")?, errors("write")?, errors("verify")?);
    let grown_defects = number(json, "/scsi_grown_defect_list");
    let has_counters = [read, write, verify].iter().any(Option::is_some) || grown_defects.is_some();
    if exit.command_failed() && !has_counters {
        let words = words(json);
        return Err(garbage(format!("neither error counters nor the grown defect list are in it ({words})")));
    }
    Ok(ScsiHealth {
        grown_defects,
        read,
        write,
        verify,
        pending_defects: number(json, "/scsi_pending_defects/count"),
        percentage_used: number(json, "/scsi_percentage_used_endurance_indicator"),
    })
}

/// Failed self-tests in the log: ATA's count of those not outdated, NVMe results 5 to 7 (base specification, Device
/// Self-test log), SCSI results that nothing outdates. `None` if the disk keeps no such log.
pub(super) fn self_test_failures(json: &Value) -> Option<f64> {
    for kind in ["extended", "standard"] {
        if let Some(log) = json.pointer(&format!("/ata_smart_self_test_log/{kind}")) {
            let total = number(log, "/error_count_total").unwrap_or(0.0);
            return Some((total - number(log, "/error_count_outdated").unwrap_or(0.0)).max(0.0));
        }
    }
    if let Some(table) = json.pointer("/nvme_self_test_log/table").and_then(Value::as_array) {
        let failed = |row: &&Value| {
            row.pointer("/self_test_result/value")
                .and_then(Value::as_u64)
                .is_some_and(|result| (5..=7).contains(&result))
        };
        return Some(table.iter().filter(failed).count() as f64);
    }
    let rows: Vec<&Value> = (0..20).filter_map(|row| json.get(format!("scsi_self_test_{row}"))).collect();
    let is_current = |row: &&&Value| !scsi_outdates(row);
    let failed = |row: &&&Value| scsi_result(row).is_some_and(|result| (3..=7).contains(&result));
    (!rows.is_empty()).then(|| rows.iter().take_while(is_current).filter(failed).count() as f64)
}

/// The result of a row of the Self-Test Results log page (SPC-5, 7.3.21), which has the newest first.
fn scsi_result(row: &Value) -> Option<u64> {
    row.pointer("/result/value").and_then(Value::as_u64)
}

/// An extended test that passed, in the background or foreground: as with ATA disks, what failed before it counts no more.
fn scsi_outdates(row: &Value) -> bool {
    let is_extended = matches!(row.pointer("/code/value").and_then(Value::as_u64), Some(2 | 6));
    is_extended && scsi_result(row) == Some(0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Failures among tests of these codes and results, the newest first.
    fn failures(tests: &[(u8, u8)]) -> Option<f64> {
        let mut json = json!({});
        for (row, (code, result)) in tests.iter().enumerate() {
            let test = json!({ "code": { "value": code }, "result": { "value": result } });
            json[format!("scsi_self_test_{row}")] = test;
        }
        self_test_failures(&json)
    }

    #[test]
    fn a_failed_self_test_of_a_sas_disk_is_outdated_by_an_extended_one_that_passed_later() {
        assert_eq!(failures(&[]), None);
        let failed = (2, 7);
        assert_eq!(failures(&[(2, 0), failed, (1, 3)]), Some(0.0));
        assert_eq!(failures(&[(6, 0), failed]), Some(0.0), "in the foreground");
        for later in [(1, 0), (2, 2), (2, 15)] {
            assert_eq!(failures(&[later, failed]), Some(1.0), "{later:?}");
        }
        // it failed again
        assert_eq!(failures(&[(1, 4), (2, 0), failed]), Some(1.0));
    }
}
