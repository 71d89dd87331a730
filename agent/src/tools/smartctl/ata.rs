//! What smartctl's JSON tells of an ATA disk's health: the vendor's attributes, and the wear that the device statistics
//! know. Owns what an attribute is called, since vendors use some numbers for something else than most do.

use serde_json::Value;

use super::health::{number, required};
use super::{garbage, words};
use crate::tools::runner::ToolError;

/// Attributes that rules judge by their number, and that some drives use for something else, as smartmontools' drive
/// database (drivedb.h) calls them: what the host read and wrote (OCZ's Barefoot 3 and Intrepid, Indilinx), nothing at all
/// (Phison, SMART Modular), nobody knows what (JMicron), every ECC error, corrected ones too (Smart Storage). Micron's client
/// drives flip between 0 and 1 pending corrections when they are healthy (smartmontools ticket 1227).
const OTHER_MEANINGS: [(u8, &str); 9] = [
    (187, "unknown_jmf_attribute"),
    (197, "current_pending_ecc_cnt"),
    (197, "ecc_error_count"),
    (197, "not_in_use"),
    (198, "host_reads_gib"),
    (198, "not_in_use"),
    (198, "read_sectors_tot_ct"),
    (199, "host_writes_gib"),
    (199, "write_sectors_tot_ct"),
];

/// Seagate packs three 16-bit numbers into it: commands that timed out, and above these the ones that took longer than
/// 5 s and than 7.5 s, which the drive did answer. Where smartctl does not know the drive it tells them as one number.
const COMMAND_TIMEOUT: (u8, &str) = (188, "command_timeout");
const PACKED_WORD: f64 = 65_536.0;

/// Solid State Device Statistics (ACS-4, 9.5.9).
const SSD_STATISTICS: u64 = 7;
/// Percentage Used Endurance Indicator, offset in that page.
const PERCENTAGE_USED: u64 = 8;

/// What an ATA disk tells.
#[derive(Debug, Clone, PartialEq)]
pub struct AtaHealth {
    /// The vendor's attributes; never empty.
    pub attributes: Vec<AtaAttribute>,
    /// Percentage Used Endurance Indicator of a solid state disk's statistics; may exceed 100.
    pub percentage_used: Option<f64>,
}

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

impl AtaAttribute {
    /// Whether rules for its number are for it: it counts what most drives count under that number, as they do.
    pub fn is_judged_by_its_number(&self) -> bool {
        !OTHER_MEANINGS.contains(&(self.id, self.name.as_str()))
    }

    /// As measurements call it: `198_offline_uncorrectable`, but `host_reads_gib_198`, so that a rule for the number does
    /// not meet what is something else.
    pub fn key(&self) -> String {
        let Self { id, name, .. } = self;
        if self.is_judged_by_its_number() { format!("{id}_{name}") } else { format!("{name}_{id}") }
    }
}

/// Hard disks and SSDs alike have the table: without it the health status alone says nothing of the medium.
pub(super) fn read(json: &Value) -> Result<AtaHealth, ToolError> {
    let Some(table) = json.pointer("/ata_smart_attributes/table") else {
        return Err(garbage(format!("the attribute table is not in it ({})", words(json))));
    };
    let table = table.as_array().ok_or_else(|| garbage("ata_smart_attributes.table is no array"))?;
    if table.is_empty() {
        return Err(garbage(format!("the attribute table is empty ({})", words(json))));
    }
    let attributes = table.iter().map(attribute).collect::<Result<_, _>>()?;
    Ok(AtaHealth { attributes, percentage_used: percentage_used(json) })
}

fn attribute(row: &Value) -> Result<AtaAttribute, ToolError> {
    let id = row.get("id").and_then(Value::as_u64).and_then(|id| u8::try_from(id).ok());
    let name = row.get("name").and_then(Value::as_str);
    let (Some(id), Some(name)) = (id, name) else {
        return Err(garbage(format!("an attribute without id or name: {row}")));
    };
    let text = row.pointer("/raw/string").and_then(Value::as_str).unwrap_or_default();
    let name = snake_case(name);
    let raw = match leading_number(text) {
        _ if (id, name.as_str()) == COMMAND_TIMEOUT => required(row, "/raw/value")? % PACKED_WORD,
        Some(raw) => raw,
        None => required(row, "/raw/value")?,
    };
    let when_failed = row.get("when_failed").and_then(Value::as_str).filter(|text| !text.is_empty());
    Ok(AtaAttribute {
        id,
        name,
        raw,
        value: number(row, "/value"),
        threshold: number(row, "/thresh"),
        when_failed: when_failed.map(ToOwned::to_owned),
    })
}

/// `26 (Min/Max 20/29)` → 26, `982h+12m` → 982, `3/4096` (errors among operations) → 3; nothing for `0 0 17` and `0x0012`,
/// whose first number is not the value.
fn leading_number(text: &str) -> Option<f64> {
    let end = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    let is_the_value = rest.is_empty() || [" (", "h", "/"].iter().any(|next| rest.starts_with(next));
    if is_the_value { digits.parse().ok() } else { None }
}

/// `Reallocated_Sector_Ct` → `reallocated_sector_ct`, `Unknown_SSD_Attribute` → `unknown_ssd_attribute`.
fn snake_case(name: &str) -> String {
    name.chars()
        .map(|character| if character.is_ascii_alphanumeric() { character.to_ascii_lowercase() } else { '_' })
        .collect()
}

/// Of disks whose statistics have the field and say that it is valid.
fn percentage_used(json: &Value) -> Option<f64> {
    let page = row(json, "/ata_device_statistics/pages", "number", SSD_STATISTICS)?;
    let field = row(page, "/table", "offset", PERCENTAGE_USED)?;
    let is_valid = field.pointer("/flags/valid").and_then(Value::as_bool) == Some(true);
    number(field, "/value").filter(|_| is_valid)
}

/// The row of a table that has this number.
fn row<'j>(json: &'j Value, table: &str, name: &str, wanted: u64) -> Option<&'j Value> {
    let is_wanted = |row: &&Value| row.get(name).and_then(Value::as_u64) == Some(wanted);
    json.pointer(table)?.as_array()?.iter().find(is_wanted)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn raw_values_are_read_as_smartctl_reads_them() {
        assert_eq!(leading_number("0"), Some(0.0));
        assert_eq!(leading_number("26 (Min/Max 20/29)"), Some(26.0));
        assert_eq!(leading_number("15761h+03m+11.540s"), Some(15761.0));
        assert_eq!(leading_number("3/4096"), Some(3.0));
        for packed in ["", "0 0 17", "0x0012", "-", "99999999999999999999x"] {
            assert_eq!(leading_number(packed), None, "{packed}");
        }
    }

    #[test]
    fn command_timeouts_are_told_without_the_slow_commands_packed_above_them() {
        let raw_of =
            |id: u8, name: &str, value: u64, text: &str| Some(attributes(&[(id, name, value, text)])[0].raw);
        let packed = |value: u64, text: &str| raw_of(188, "Command_Timeout", value, text);
        assert_eq!(packed(0x0002_0003_0001, "8590131201"), Some(1.0));
        assert_eq!(packed(0x0002_0003_0001, "2 3 1"), Some(1.0));
        assert_eq!(packed(0x0002_0003_0000, "2 (3 0)"), Some(0.0));
        assert_eq!((packed(7, "7"), packed(0xffff, "65535")), (Some(7.0), Some(65_535.0)));
        // what is not packed
        assert_eq!(raw_of(199, "UDMA_CRC_Error_Count", 65_537, "65537"), Some(65_537.0));
        assert_eq!(raw_of(188, "Other", 65_537, "65537"), Some(65_537.0));
    }

    #[test]
    fn names_are_lower_snake_case() {
        assert_eq!(snake_case("Total_LBAs_Written"), "total_lbas_written");
        assert_eq!(snake_case("Temperature-Celsius/x"), "temperature_celsius_x");
    }

    fn attributes(rows: &[(u8, &str, u64, &str)]) -> Vec<AtaAttribute> {
        let row = |(id, name, value, text): &(u8, &str, u64, &str)| {
            json!({ "id": id, "name": name, "value": 100, "thresh": 0, "when_failed": "",
                    "raw": { "value": value, "string": text } })
        };
        let table: Vec<Value> = rows.iter().map(row).collect();
        read(&json!({ "ata_smart_attributes": { "table": table } })).unwrap().attributes
    }

    /// Names as drivedb.h of smartmontools 7.3 gives them to OCZ-VECTOR, CT500MX500SSD1, KINGSTON SE100S3100G and Smart
    /// Storage's Xcel-10.
    #[test]
    fn a_number_that_means_something_else_is_not_taken_for_faults() {
        let told = attributes(&[
            (197, "Total_Unc_Read_Failures", 0, "0"),
            (198, "Host_Reads_GiB", 48_211, "48211"),
            (199, "Host_Writes_GiB", 33_107, "33107"),
            (197, "Current_Pending_ECC_Cnt", 1, "1"),
            (198, "Uncorrectable_Sector_Ct", 4_294_967_296, "0/1"),
            (197, "ECC_Error_Count", 12, "12"),
        ]);
        let told: Vec<(String, f64)> = told.iter().map(|found| (found.key(), found.raw)).collect();
        let expected = [
            ("197_total_unc_read_failures", 0.0),
            ("host_reads_gib_198", 48_211.0),
            ("host_writes_gib_199", 33_107.0),
            ("current_pending_ecc_cnt_197", 1.0),
            ("198_uncorrectable_sector_ct", 0.0),
            ("ecc_error_count_197", 12.0),
        ];
        assert_eq!(told, expected.map(|(key, raw)| (key.to_owned(), raw)));
    }

    #[test]
    fn wear_is_told_where_the_statistics_hold_it() {
        let told = |number: u64, valid: bool| {
            let flags = json!({ "value": 224, "string": "VN-- ", "valid": valid, "normalized": true });
            let field = json!({ "offset": 8, "name": "Percentage Used Endurance Indicator", "size": 1,
                                "value": 103, "flags": flags });
            percentage_used(&json!({ "ata_device_statistics": { "pages": [
                { "number": 1, "name": "General Statistics", "table": [{ "offset": 8, "value": 13 }] },
                { "number": number, "name": "Solid State Device Statistics", "table": [field] },
            ] } }))
        };
        assert_eq!(told(7, true), Some(103.0));
        assert_eq!((told(7, false), told(6, true)), (None, None));
        assert_eq!(percentage_used(&json!({})), None);
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
