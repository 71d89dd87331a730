//! The part of smartctl's JSON that differs between ATA, NVMe and SCSI.

use serde_json::Value;

use super::{ExitBits, Health, garbage, words};
use crate::tools::runner::ToolError;

/// One ATA SMART attribute.
#[derive(Debug, Clone, PartialEq)]
pub struct AtaAttribute {
    /// Its id, 1 to 255.
    pub id: u8,
    /// Its name in lower snake case, as smartctl's drive database has it: `reallocated_sector_ct`.
    pub name: String,
    /// The raw value as smartctl reads it: the leading number of its text form where the vendor packs several
    /// numbers into one (temperature with minimum and maximum), else the 48-bit value.
    pub raw: f64,
    /// The normalised value; higher is better.
    pub value: Option<f64>,
    /// The normalised value at or below which the attribute has failed.
    pub threshold: Option<f64>,
    /// `now`, `past`, or nothing.
    pub when_failed: Option<String>,
}

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

/// SCSI log pages and defect lists.
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
    /// Non-Medium Error log page (06h); smartctl 7.3 and 7.4 leave it out of their JSON.
    pub non_medium_errors: Option<f64>,
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
        Some("ATA") => ata(json).map(Health::Ata),
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

fn required(json: &Value, pointer: &str) -> Result<f64, ToolError> {
    number(json, pointer).ok_or_else(|| garbage(format!("there is no number at {pointer}")))
}

/// Hard disks and SSDs alike have the table: without it the health status alone says nothing of the medium.
fn ata(json: &Value) -> Result<Vec<AtaAttribute>, ToolError> {
    let Some(table) = json.pointer("/ata_smart_attributes/table") else {
        return Err(garbage(format!("the attribute table is not in it ({})", words(json))));
    };
    let table = table.as_array().ok_or_else(|| garbage("ata_smart_attributes.table is no array"))?;
    if table.is_empty() {
        return Err(garbage(format!("the attribute table is empty ({})", words(json))));
    }
    table.iter().map(ata_attribute).collect()
}

fn ata_attribute(row: &Value) -> Result<AtaAttribute, ToolError> {
    let id = row.get("id").and_then(Value::as_u64).and_then(|id| u8::try_from(id).ok());
    let name = row.get("name").and_then(Value::as_str);
    let (Some(id), Some(name)) = (id, name) else {
        return Err(garbage(format!("an attribute without id or name: {row}")));
    };
    let text = row.pointer("/raw/string").and_then(Value::as_str).unwrap_or_default();
    let raw = match leading_number(text) {
        Some(raw) => raw,
        None => required(row, "/raw/value")?,
    };
    let when_failed = row.get("when_failed").and_then(Value::as_str).filter(|text| !text.is_empty());
    Ok(AtaAttribute {
        id,
        name: snake_case(name),
        raw,
        value: number(row, "/value"),
        threshold: number(row, "/thresh"),
        when_failed: when_failed.map(ToOwned::to_owned),
    })
}

/// `26 (Min/Max 20/29)` → 26, `982h+12m` → 982; nothing for `0 0 17` and `0x0012`, whose first number is not the value.
fn leading_number(text: &str) -> Option<f64> {
    let end = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    let is_the_value = rest.is_empty() || rest.starts_with(" (") || rest.starts_with('h');
    if is_the_value { digits.parse().ok() } else { None }
}

/// `Reallocated_Sector_Ct` → `reallocated_sector_ct`, `Unknown_SSD_Attribute` → `unknown_ssd_attribute`.
fn snake_case(name: &str) -> String {
    name.chars()
        .map(|character| if character.is_ascii_alphanumeric() { character.to_ascii_lowercase() } else { '_' })
        .collect()
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
        non_medium_errors: number(json, "/scsi_error_counter_log/non_medium_error/count"),
        pending_defects: number(json, "/scsi_pending_defects/count"),
        percentage_used: number(json, "/scsi_percentage_used_endurance_indicator"),
    })
}

/// Failed self-tests in the log: ATA's count of those not outdated, NVMe results 5 to 7 (base specification, Device
/// Self-test log), SCSI results 3 to 7 (SPC, Self-Test Results log page). `None` if the disk keeps no such log.
pub(super) fn self_test_failures(json: &Value) -> Option<f64> {
    for kind in ["extended", "standard"] {
        if let Some(log) = json.pointer(&format!("/ata_smart_self_test_log/{kind}")) {
            let total = number(log, "/error_count_total").unwrap_or(0.0);
            return Some((total - number(log, "/error_count_outdated").unwrap_or(0.0)).max(0.0));
        }
    }
    let failed = |row: &Value, pointer: &str, range: std::ops::RangeInclusive<u64>| {
        row.pointer(pointer).and_then(Value::as_u64).is_some_and(|result| range.contains(&result))
    };
    if let Some(table) = json.pointer("/nvme_self_test_log/table").and_then(Value::as_array) {
        return Some(table.iter().filter(|row| failed(row, "/self_test_result/value", 5..=7)).count() as f64);
    }
    let scsi: Vec<&Value> = (0..20).filter_map(|index| json.get(format!("scsi_self_test_{index}"))).collect();
    (!scsi.is_empty()).then(|| scsi.iter().filter(|row| failed(row, "/result/value", 3..=7)).count() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn raw_values_are_read_as_smartctl_reads_them() {
        assert_eq!(leading_number("0"), Some(0.0));
        assert_eq!(leading_number("26 (Min/Max 20/29)"), Some(26.0));
        assert_eq!(leading_number("15761h+03m+11.540s"), Some(15761.0));
        for packed in ["", "0 0 17", "0x0012", "-", "12/34", "99999999999999999999x"] {
            assert_eq!(leading_number(packed), None, "{packed}");
        }
    }

    #[test]
    fn names_are_lower_snake_case() {
        assert_eq!(snake_case("Total_LBAs_Written"), "total_lbas_written");
        assert_eq!(snake_case("Temperature-Celsius/x"), "temperature_celsius_x");
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_raw_value(text in ".{0,40}") {
            if let Some(number) = leading_number(&text) {
                prop_assert!(number.is_finite() && number >= 0.0);
            }
        }
    }
}
