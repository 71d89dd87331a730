//! The BMC's System Event Log (IPMI 2.0 section 32): how full it is, and its entries.

use std::time::Duration;

use super::sdr::shortened;
use super::{TOOL, field, garbage};
use crate::tools::runner::{Finished, Invocation, ToolError};

const INFO_TIMEOUT: Duration = Duration::from_secs(30);
/// Each entry is a question of its own, and a log can have thousands.
const LIST_TIMEOUT: Duration = Duration::from_mins(3);

/// Asks how many entries there are and when the last one came.
pub fn info_invocation() -> Invocation {
    Invocation { tool: TOOL, args: vec!["sel".into(), "info".into()], timeout: INFO_TIMEOUT }
}

/// Asks for all entries, with the sensors' names.
pub fn list_invocation() -> Invocation {
    Invocation { tool: TOOL, args: vec!["sel".into(), "elist".into()], timeout: LIST_TIMEOUT }
}

/// How far the log is. Two that are equal tell that nothing was added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelInfo {
    /// Entries in it.
    pub entries: u32,
    /// When the last one was added, in the BMC's own words.
    pub last_added: String,
    /// It had no room for an entry.
    pub overflowed: bool,
}

/// Reads the output of [`info_invocation`].
pub fn parse_info(finished: &Finished) -> Result<SelInfo, ToolError> {
    finished.success(TOOL)?;
    let text = finished.stdout_text();
    let told = |name: &str| field(&text, name).ok_or_else(|| garbage(&format!("no `{name}` in `sel info`")));
    let entries = told("Entries")?;
    Ok(SelInfo {
        entries: entries.parse().map_err(|_| garbage(&format!("`{entries}` is no count of entries")))?,
        last_added: told("Last Add Time")?,
        overflowed: told("Overflow")? == "true",
    })
}

/// An entry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SelEntry {
    /// Its record id.
    pub id: u16,
    /// When, what, in the tool's words: `Power Supply PS2 Status | Power Supply AC lost | Asserted`.
    pub text: String,
}

/// What an entry weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SelClass {
    /// Something failed.
    Critical,
    /// Something that should be looked at.
    Warning,
    /// For the record; also that something failed is over.
    Info,
}

/// Words of entries that tell of a failure, as ipmitool 1.8.19 writes them. The first five: gcm's list of fatal SEL entries;
/// the rest: IPMI 2.0 tables 42-1 to 42-3 (power supply and unit, battery, processor, memory, drive slot, system firmware,
/// critical interrupt, operating system, management subsystem, redundancy, thresholds, severity). A bar before a word:
/// longer ones that end alike mean something else.
const CRITICAL: &[&str] = &[
    "power supply ac lost",
    "uncorrectable",
    "bus fatal",
    "pci serr",
    "processor throttled",
    "failure detected",
    "ac lost or out-of-range",
    "ac out-of-range",
    "| ac lost",
    "config error",
    "configuration error",
    "redundancy lost",
    "insufficient resources",
    "ierr",
    "thermal trip",
    "frb1/bist failure",
    "frb2/hang in post failure",
    "frb3/processor startup",
    "machine check",
    "pci perr",
    "fatal nmi",
    "i/o channel check nmi",
    "bus timeout",
    "eisa failsafe timeout",
    "soft power control failure",
    "soft-power control failure",
    "240va power down",
    "drive fault",
    "in failed array",
    "in critical array",
    "| fault status",
    "| failed",
    "fru failure",
    "| parity |",
    "memory scrub failed",
    "memory device disabled",
    "critical overtemperature",
    "memory is configured but not usable",
    "memory is detected but is not configurable",
    "no usable system memory",
    "unrecoverable",
    "undetermined system hardware failure",
    "bios corruption",
    "cpu voltage mismatch",
    "cpu speed mismatch",
    "run-time critical stop",
    "non-recoverable",
    "transition to critical",
];

/// Likewise of what only warns; also that something is no longer logged.
const WARNING: &[&str] = &[
    "predictive failure",
    "correctable ecc",
    "correctable memory error logging disabled",
    "correctable machine check",
    "bus correctable error",
    "non-critical going",
    "transition to non-critical from ok",
    "transition to degraded",
    "bus degraded",
    "redundancy degraded",
    "throttled",
    "limit exceeded",
    "performance lags",
    "rebuild aborted",
    "sensor failure",
    "degraded or unavailable",
    "management controller off-line",
    "management controller unavailable",
    "nmi/diag interrupt",
    "| low |",
    "event logging disabled | log full",
    "event logging disabled | log almost full",
    "all event logging disabled",
];

impl SelEntry {
    /// It is of a power supply, or of what joins them (sensor types 08h and 09h, IPMI 2.0 table 42-3).
    pub fn is_of_power(&self) -> bool {
        let text = self.text.to_ascii_lowercase();
        ["power supply", "power unit"].iter().any(|sensor_type| text.contains(sensor_type))
    }

    /// What it weighs. An entry whose words nobody listed is for the record.
    pub fn class(&self) -> SelClass {
        let text = self.text.to_ascii_lowercase();
        let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
        if text.contains("deasserted") {
            // a supply that was there is pulled out, or dead
            let is_gone = self.is_of_power() && text.contains("presence detected");
            return if is_gone { SelClass::Critical } else { SelClass::Info };
        }
        // what is correctable is spelt within what is not
        let spared = text.replace("uncorrectable", "").contains("correctable machine check");
        let beyond_critical = text.contains(" critical going ");
        if (says(CRITICAL) && !spared) || beyond_critical {
            SelClass::Critical
        } else if says(WARNING) {
            SelClass::Warning
        } else {
            SelClass::Info
        }
    }
}

/// Reads the output of [`list_invocation`].
///
/// # Errors
/// The tool failed, a line is none of an entry, or there are fewer than `expected`: then it was cut short.
pub fn parse_list(finished: &Finished, expected: u32) -> Result<Vec<SelEntry>, ToolError> {
    finished.success(TOOL)?;
    let text = finished.stdout_text();
    let entries: Vec<SelEntry> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| {
            entry(line).ok_or_else(|| garbage(&format!("`{}` is no entry of the SEL", shortened(line))))
        })
        .collect::<Result<_, _>>()?;
    let found = u32::try_from(entries.len()).unwrap_or(u32::MAX);
    if found < expected || finished.truncated {
        return Err(garbage(&format!("it listed {found} of the {expected} entries of the SEL")));
    }
    Ok(entries)
}

fn entry(line: &str) -> Option<SelEntry> {
    let (id, rest) = line.split_once('|')?;
    let id = u16::from_str_radix(id.trim(), 16).ok()?;
    let fields: Vec<&str> = rest.split('|').map(str::trim).filter(|field| !field.is_empty()).collect();
    Some(SelEntry { id, text: fields.join(" | ") })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tools::fixture;

    fn class(line: &str) -> SelClass {
        entry(line).unwrap().class()
    }

    #[test]
    fn a_supply_that_lost_its_power_is_told() {
        let info = parse_info(&fixture("ipmitool", "1.8.19-psu-lost-sel-info")).unwrap();
        assert_eq!((info.entries, info.overflowed), (2, false));
        let entries = parse_list(&fixture("ipmitool", "1.8.19-psu-lost-sel-elist"), info.entries).unwrap();
        assert_eq!(
            entries[0].text,
            "Pre-Init | 0000001246 | Power Supply PS2 Status | Power Supply AC lost | Asserted"
        );
        assert!(entries.iter().all(|entry| entry.class() == SelClass::Critical));
        let good = parse_info(&fixture("ipmitool", "1.8.19-good-sel-info")).unwrap();
        assert_eq!(good.entries, 0);
        assert_eq!(parse_list(&fixture("ipmitool", "1.8.19-good-sel-elist"), 0).unwrap(), []);
    }

    /// Lines that people's machines wrote.
    #[test]
    fn entries_weigh_what_they_tell() {
        for line in [
            "   6 | 14/05/26 | 21:50:25 HKT | Power Supply #0x5b | Power Supply AC lost | Asserted",
            "  34 | 02/25/2025 | 04:50:09 PM EST | Memory #0x02 | Uncorrectable ECC (UnCorrectable ECC |  DIMMD7) | Asserted",
            " 534 | 08/14/2023 | 11:25:39 | Power Supply #0x3e | Redundancy Lost | Asserted",
            " 532 | 08/14/2023 | 11:25:37 | Power Supply #0x3c | Failure detected | Asserted",
            "   8 | 06/02/2023 | 08:12:01 | Power Supply PS2 Status | Presence detected | Deasserted",
            "  21 | 06/02/2023 | 08:12:44 | Processor CPU2 Status | Configuration Error | Asserted",
            "  22 | 06/02/2023 | 08:13:02 | Memory #0x09 | Parity | Asserted",
            "  23 | 06/02/2023 | 08:14:11 | Drive Slot / Bay Drive 3 | In Failed Array | Asserted",
            "  24 | 06/02/2023 | 08:14:30 | Critical Interrupt #0x73 | Fatal NMI | Asserted",
            "  25 | 06/02/2023 | 08:15:00 | Battery ROMB Battery | Failed | Asserted",
            "  26 | 06/02/2023 | 08:15:30 | Power Unit #0x01 | Soft-power control failure | Asserted",
            "  27 | 06/02/2023 | 08:15:59 | Temperature #0x0e | Transition to Critical from less severe | Asserted",
            "   3 | 10/10/2019 | 10:10:10 | Temperature CPU1 Temp | Upper Critical going high | Asserted | Reading 95 > Threshold 90 degrees C",
        ] {
            assert_eq!(class(line), SelClass::Critical, "{line}");
        }
        for line in [
            "  3a | 12/14/22 | 23:09:44 CET | Memory #0x88 | Correctable ECC (CPU0_G1) | Asserted",
            " 547 | 03/16/2025 | 02:18:29 | Drive Slot / Bay #0x44 | Predictive Failure | Asserted",
            "   4 | 03/16/2025 | 02:18:30 | Event Logging Disabled #0x72 | Correctable memory error logging disabled | Asserted",
            "   5 | 03/16/2025 | 02:18:31 | Critical Interrupt #0x13 | Bus Correctable error | Asserted",
            "   6 | 03/16/2025 | 02:18:32 | Battery CMOS Battery | Low | Asserted",
            "   1 | 10/10/2019 | 10:10:10 | Temperature CPU1 Temp | Upper Non-critical going high | Asserted",
        ] {
            assert_eq!(class(line), SelClass::Warning, "{line}");
        }
        for line in [
            "   2 | 03/01/2018 | 19:23:13 | Power Supply PS1 Status | Power Supply AC lost | Deasserted",
            "   1 | 12/17/2019 | 02:57:25 | Event Logging Disabled #0x72 | Log area reset/cleared | Asserted",
            "   5 |  Pre-Init  |0000000123| System Event #0x01 | Timestamp Clock Sync | Asserted",
            "fe3c | 04/10/2008 | 14:50:13 | Power Unit Power Redundancy | Fully Redundant",
            "   9 | Linux kernel panic: Fatal excep",
            "   7 | 06/02/2023 | 08:12:01 | Power Unit #0x01 | Power off/down | Asserted",
            "   8 | 06/02/2023 | 08:12:02 | Battery CMOS Battery | Presence Detected | Asserted",
            "   9 | 06/02/2023 | 08:12:03 | Drive Slot / Bay Drive 3 | Parity Check In Progress | Asserted",
            "   a | 06/02/2023 | 08:12:04 | Temperature #0x0e | Transition to Non-critical from more severe | Asserted",
            "   b | 06/02/2023 | 08:12:05 | System Boot Initiated #0xe0 | Initiated by hard reset | Asserted",
        ] {
            assert_eq!(class(line), SelClass::Info, "{line}");
        }
    }

    #[test]
    fn an_answer_that_is_not_whole_is_an_error() {
        let cut = fixture("ipmitool", "bad-sel-elist-cut-short");
        assert!(matches!(parse_list(&cut, 3), Err(ToolError::Garbage { .. })));
        assert!(matches!(parse_info(&cut), Err(ToolError::Garbage { .. })));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(text in "([ -~|\n]|[0-9a-f] \\|){0,200}") {
            let finished = Finished { stdout: text.into_bytes(), ..fixture("ipmitool", "1.8.19-good-sel-elist") };
            let _ = parse_list(&finished, 0).map(|entries| entries.iter().map(SelEntry::class).count());
            let _ = parse_info(&finished);
        }
    }
}
