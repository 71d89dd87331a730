//! Rows of `ipmitool sdr`: one a sensor, with what it says now in words.

use std::path::Path;
use std::time::Duration;

use super::{Partly, TOOL, garbage, partly};
use crate::tools::runner::{Finished, Invocation, ToolError};

/// A slow BMC needs some 50 ms a sensor, and a large server has 200 of them.
const TIMEOUT: Duration = Duration::from_mins(1);
/// Sensor type "Power Supply", IPMI 2.0 table 42-3.
const POWER_SUPPLY: &str = "0x08";

/// Copies the sensors' descriptions into a file, so that reading the sensors later need not ask for them again.
pub fn dump_invocation(cache: &Path) -> Invocation {
    Invocation { tool: TOOL, args: vec!["sdr".into(), "dump".into(), cache.into()], timeout: TIMEOUT * 3 }
}

/// Asks for the reading of each sensor with a full record, which are all that have a number to tell. A `cache` that
/// does not exist only makes it slower.
pub fn readings_invocation(cache: &Path) -> Invocation {
    let args = vec!["-S".into(), cache.into(), "sdr".into(), "elist".into(), "full".into()];
    Invocation { tool: TOOL, args, timeout: TIMEOUT }
}

/// Asks for all sensors of the type "Power Supply", among them those of redundancy.
pub fn power_supplies_invocation() -> Invocation {
    Invocation { tool: TOOL, args: vec!["sdr".into(), "type".into(), POWER_SUPPLY.into()], timeout: TIMEOUT }
}

/// A sensor and what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SdrRow {
    /// Its name; not unique on every BMC.
    pub name: String,
    /// Its number in hexadecimal: `0Eh`.
    pub number: String,
    /// `ok`, `ns` (not scanned), `nc`, `cr`, `nr`, `ucr`, …: IPMI threshold states as ipmitool shortens them.
    pub status: String,
    /// Entity id and instance: `10.1` is power supply 1 (IPMI 2.0 table 43-13).
    pub entity: String,
    /// `45 degrees C`, `Presence detected, Power Supply AC lost`, `No Reading`, or nothing.
    pub text: String,
}

/// Reads rows; a BMC without such sensors has none.
///
/// # Errors
/// The tool failed, or a row is not whole.
pub fn parse(finished: &Finished) -> Result<Vec<SdrRow>, ToolError> {
    finished.success(TOOL)?;
    rows(finished)
}

/// Reads rows, also where the BMC did not tell of some sensors: the others are worth having.
///
/// # Errors
/// The tool failed and gave no row, or a row is not whole.
pub fn parse_some(finished: &Finished) -> Result<Partly<SdrRow>, ToolError> {
    partly(finished, rows)
}

fn rows(finished: &Finished) -> Result<Vec<SdrRow>, ToolError> {
    let text = finished.stdout_text();
    text.lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| row(line).ok_or_else(|| garbage(&format!("`{}` is no row of a sensor", shortened(line)))))
        .collect()
}

fn row(line: &str) -> Option<SdrRow> {
    let mut fields = line.splitn(5, '|').map(|field| field.trim().to_owned());
    let row = SdrRow {
        name: fields.next()?,
        number: fields.next()?,
        status: fields.next()?,
        entity: fields.next()?,
        text: fields.next()?,
    };
    let hexadecimal =
        |digits: &str| !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    row.number.strip_suffix('h').is_some_and(hexadecimal).then_some(row)
}

pub(super) fn shortened(line: &str) -> String {
    line.chars().filter(|character| !character.is_control()).take(80).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tools::fixture;
    use crate::tools::runner::Exit;

    #[test]
    fn rows_of_a_bmc_with_one_supply_dead() {
        let rows = parse(&fixture("ipmitool", "1.8.19-psu-lost-power-supply")).unwrap();
        let told: Vec<(&str, &str, &str)> =
            rows.iter().map(|row| (&*row.name, &*row.entity, &*row.text)).collect();
        assert_eq!(
            told,
            [
                ("PS1 Status", "10.1", "Presence detected"),
                ("PS2 Status", "10.2", "Presence detected, Power Supply AC lost"),
                ("PS Redundancy", "21.1", "Redundancy Lost"),
            ]
        );
        let hot = parse(&fixture("ipmitool", "1.8.19-hot-sdr-full")).unwrap();
        assert_eq!((&*hot[0].number, &*hot[0].status, &*hot[0].text), ("01h", "ucr", "95 degrees C"));
    }

    #[test]
    fn an_answer_that_is_not_whole_is_an_error() {
        let cut = fixture("ipmitool", "bad-power-supply-cut-short");
        assert!(matches!(parse(&cut), Err(ToolError::Garbage { .. })));
        let failed = Finished { exit: Exit::Code(1), ..cut };
        assert!(matches!(parse(&failed), Err(ToolError::Failed { .. })));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(text in "([ -~|\n]|[0-9A-F]{2}h \\|){0,200}") {
            let finished = Finished { stdout: text.into_bytes(), ..fixture("ipmitool", "1.8.19-good-sdr-full") };
            let _ = parse(&finished);
        }
    }
}
