//! Supplies that speak PMBus to the kernel: chips of hwmon with `vin` and `vout1` (Documentation/hwmon/pmbus).

use crate::host::Host;

const CLASS: &str = "/sys/class/hwmon";
/// A supply gives 12 V or more; the regulators of a board, which speak PMBus as well, give less.
const LEAST_OUTPUT_MILLIVOLTS: i64 = 10_000;
/// And it takes the mains or 48 V, where those take 12 V.
const LEAST_INPUT_MILLIVOLTS: i64 = 36_000;

/// A supply.
pub(super) struct PmbusSupply {
    /// `pmbus-3-0058`: the chip and its place on the bus.
    pub(super) name: String,
    /// Alarms that it raises: `in1_lcrit_alarm`.
    pub(super) alarms: Vec<String>,
    /// What it draws, watts.
    pub(super) input_watts: Option<f64>,
}

/// Those that answer.
pub(super) fn supplies(host: &Host) -> Vec<PmbusSupply> {
    host.list(CLASS).unwrap_or_default().iter().filter_map(|chip| supply(host, chip)).collect()
}

fn supply(host: &Host, chip: &str) -> Option<PmbusSupply> {
    let directory = format!("{CLASS}/{chip}");
    let files = host.list(&directory).ok()?;
    let labelled = |label: &str| {
        files
            .iter()
            .filter_map(|file| file.strip_suffix("_label"))
            .find(|channel| {
                host.text(&format!("{directory}/{channel}_label")).is_ok_and(|found| found == label)
            })
            .and_then(|channel| host.number::<i64>(&format!("{directory}/{channel}_input")).ok())
    };
    let (input, output) = (labelled("vin")?, labelled("vout1")?);
    if input < LEAST_INPUT_MILLIVOLTS && output < LEAST_OUTPUT_MILLIVOLTS {
        return None;
    }
    let name = host.text(&format!("{directory}/name")).ok()?;
    let place = host.link_name(&format!("{directory}/device")).unwrap_or_else(|_| chip.to_owned());
    let raised = |file: &&String| {
        let tells = ["_crit_alarm", "_lcrit_alarm", "_fault"].iter().any(|end| file.ends_with(end));
        tells && host.flag(&format!("{directory}/{file}")).unwrap_or(false)
    };
    Some(PmbusSupply {
        name: format!("{name}-{place}"),
        alarms: files.iter().filter(raised).cloned().collect(),
        input_watts: labelled("pin").map(|microwatts| microwatts as f64 / 1_000_000.0),
    })
}
