//! `ipmitool sensor`: each sensor with the limits that the BMC holds for it. Slow (it asks for the limits of each), so
//! it is for once; what the sensors say later comes from [`super::sdr`].

use std::time::Duration;

use super::sdr::shortened;
use super::{Partly, TOOL, garbage, partly};
use crate::tools::runner::{Finished, Invocation, ToolError};

const TIMEOUT: Duration = Duration::from_mins(4);

/// Asks for all sensors with their limits.
pub fn invocation() -> Invocation {
    Invocation { tool: TOOL, args: vec!["sensor".into()], timeout: TIMEOUT }
}

/// A limit of a sensor, IPMI 2.0 section 35.9 "Get Sensor Thresholds".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threshold {
    /// `lnr`
    LowerNonRecoverable,
    /// `lcr`
    LowerCritical,
    /// `lnc`
    LowerNonCritical,
    /// `unc`
    UpperNonCritical,
    /// `ucr`
    UpperCritical,
    /// `unr`
    UpperNonRecoverable,
}

/// In the order of the columns.
const COLUMNS: [Threshold; 6] = [
    Threshold::LowerNonRecoverable,
    Threshold::LowerCritical,
    Threshold::LowerNonCritical,
    Threshold::UpperNonCritical,
    Threshold::UpperCritical,
    Threshold::UpperNonRecoverable,
];

/// A sensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Sensor {
    /// Its name; not unique on every BMC.
    pub name: String,
    /// What it says; absent if it does not, or has no number to tell.
    pub value: Option<f64>,
    /// `degrees C`, `RPM`, `Volts`, `Watts`, `discrete`, …
    pub unit: String,
    /// `ok`, `nc`, `cr`, `nr`, `na`, or the states of a discrete one.
    pub status: String,
    /// The limits it has.
    pub limits: Vec<(Threshold, f64)>,
}

/// Reads all sensors, in the order of the BMC's repository; also where the BMC did not tell of some.
///
/// # Errors
/// The tool failed and gave no row, or a row is not whole.
pub fn parse(finished: &Finished) -> Result<Partly<Sensor>, ToolError> {
    partly(finished, rows)
}

fn rows(finished: &Finished) -> Result<Vec<Sensor>, ToolError> {
    let text = finished.stdout_text();
    text.lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| {
            sensor(line).ok_or_else(|| garbage(&format!("`{}` is no row of a sensor", shortened(line))))
        })
        .collect()
}

fn sensor(line: &str) -> Option<Sensor> {
    let fields: Vec<&str> = line.split('|').map(str::trim).collect();
    let [name, value, unit, status, limits @ ..] = fields.as_slice() else { return None };
    let limits: &[&str; 6] = limits.try_into().ok()?;
    let mut held = Vec::new();
    for (threshold, field) in COLUMNS.into_iter().zip(limits) {
        if *field != "na" {
            held.push((threshold, field.parse().ok()?));
        }
    }
    Some(Sensor {
        name: (*name).to_owned(),
        value: value.parse().ok(),
        unit: (*unit).to_owned(),
        status: (*status).to_owned(),
        limits: held,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tools::fixture;
    use crate::tools::runner::Exit;

    #[test]
    fn sensors_and_their_limits() {
        let sensors = parse(&fixture("ipmitool", "1.8.19-hot-sensor")).unwrap().rows;
        assert_eq!(sensors.len(), 10);
        let cpu = &sensors[0];
        assert_eq!(
            (&*cpu.name, cpu.value, &*cpu.unit, &*cpu.status),
            ("CPU1 Temp", Some(95.0), "degrees C", "cr")
        );
        assert_eq!(
            cpu.limits,
            [
                (Threshold::UpperNonCritical, 80.0),
                (Threshold::UpperCritical, 90.0),
                (Threshold::UpperNonRecoverable, 100.0)
            ]
        );
        let fan = &sensors[2];
        assert_eq!(fan.limits[1], (Threshold::LowerCritical, 600.0));
        let discrete = &sensors[6];
        assert_eq!((discrete.value, &*discrete.unit, discrete.limits.len()), (None, "discrete", 0));
    }

    #[test]
    fn an_answer_that_is_not_whole_is_an_error() {
        let cut = parse(&fixture("ipmitool", "bad-sensor-cut-short"));
        assert!(matches!(cut, Err(ToolError::Garbage { .. })));
        let hung = parse(&fixture("ipmitool", "bad-sensor-timed-out"));
        assert!(matches!(hung, Err(ToolError::TimedOut { .. })));
    }

    #[test]
    fn sensors_that_the_bmc_tells_of_are_taken_without_the_others() {
        let whole = fixture("ipmitool", "1.8.19-good-sensor");
        assert_eq!(parse(&whole).unwrap().missing, None);
        let stderr = b"Error reading sensor PSU2 (#c9)\n".to_vec();
        for exit in [Exit::Code(0), Exit::Code(1)] {
            let some = parse(&Finished { exit, stderr: stderr.clone(), ..whole.clone() }).unwrap();
            assert_eq!(some.rows, parse(&whole).unwrap().rows);
            assert!(some.missing.unwrap().contains("Error reading sensor PSU2"));
        }
        // of a real run in the live image
        let unnamed = b"IANA PEN registry open failed: No such file or directory\n".to_vec();
        assert_eq!(parse(&Finished { stderr: unnamed, ..whole.clone() }).unwrap().missing, None);
        let none = Finished { exit: Exit::Code(1), stderr, stdout: Vec::new(), ..whole };
        assert!(matches!(parse(&none), Err(ToolError::Failed { .. })));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(text in "([ -~|\n]|na \\| ){0,200}") {
            let finished = Finished { stdout: text.into_bytes(), ..fixture("ipmitool", "1.8.19-good-sensor") };
            let _ = parse(&finished);
        }
    }
}
