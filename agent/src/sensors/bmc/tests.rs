//! A BMC by what the real tool answered for one, changed between two looks.

use std::sync::Mutex;

use super::*;
use crate::tools::fixture;
use crate::tools::runner::{Exit, Stream};

/// Answers from the recordings of one case; what stands in `broken` fails instead.
struct Recorded {
    case: Mutex<&'static str>,
    broken: Mutex<Option<&'static str>>,
}

impl Recorded {
    fn new(case: &'static str) -> Self {
        Self { case: Mutex::new(case), broken: Mutex::new(None) }
    }
}

impl ToolRunner for Recorded {
    fn run(
        &self,
        invocation: &Invocation,
        _cancel: &Cancel,
        _on_line: &mut dyn FnMut(Stream, &str),
    ) -> Result<Finished, ToolError> {
        let args: Vec<&str> = invocation.args.iter().filter_map(|arg| arg.to_str()).collect();
        let what = match args.as_slice() {
            ["sensor"] => "sensor",
            ["-S", CACHE, "sdr", "elist", "full"] => "sdr-full",
            ["sel", "info"] => "sel-info",
            ["sel", "elist"] => "sel-elist",
            ["dcmi", "power", "reading"] => return Ok(fixture("ipmitool", "1.8.19-no-dcmi")),
            ["sdr", "dump", CACHE] => return Ok(fixture("ipmitool", "1.8.19-good-sel-elist")),
            other => panic!("{other:?}"),
        };
        let finished = fixture("ipmitool", &format!("1.8.19-{}-{what}", self.case.lock().unwrap()));
        let exit = if *self.broken.lock().unwrap() == Some(what) { Exit::TimedOut } else { finished.exit };
        Ok(Finished { exit, ..finished })
    }
}

fn values(sample: &Sample) -> Vec<(String, Option<f64>)> {
    sample.measurements.iter().map(|m| (format!("{} {}", m.kind, m.key), m.value)).collect()
}

fn pair(what: &str, value: Option<f64>) -> (String, Option<f64>) {
    (what.to_owned(), value)
}

#[test]
fn sensors_limits_and_new_entries() {
    let tools = Recorded::new("good");
    let mut bmc = Bmc::new(&tools);
    let first = bmc.sample(1, &Cancel::new());
    assert_eq!(
        values(&first),
        [
            pair("temp bmc/CPU1_Temp", Some(45.0)),
            pair("temp bmc/DIMM_Temp", Some(38.0)),
            pair("fan bmc/FAN1", Some(4200.0)),
            pair("volt bmc/12V", Some(12.0)),
            pair("power bmc/PS1_Input_Power", Some(110.0)),
            pair("power bmc/PS2_Input_Power", Some(100.0)),
            pair("sel critical", Some(0.0)),
            pair("sel warning", Some(0.0)),
            pair("sel info", Some(0.0)),
        ]
    );
    let of_cpu: Vec<(f64, LimitGrade, Option<bool>)> = first
        .limits
        .iter()
        .filter(|limit| limit.key == "bmc/CPU1_Temp")
        .map(|limit| (limit.value, limit.grade, limit.asserted))
        .collect();
    assert_eq!(
        of_cpu,
        [
            (80.0, LimitGrade::Warning, Some(false)),
            (90.0, LimitGrade::Critical, Some(false)),
            (100.0, LimitGrade::Critical, Some(false)),
        ]
    );
    assert!(first.lost.is_empty() && first.notices.is_empty());

    *tools.case.lock().unwrap() = "psu-lost";
    let second = bmc.sample(2, &Cancel::new());
    assert!(second.limits.is_empty());
    assert_eq!(values(&second).last(), Some(&pair("sel critical", Some(2.0))));
    let told: Vec<&str> = second.notices.iter().map(|notice| &*notice.message).collect();
    assert!(told[0].contains("Power Supply PS2 Status | Power Supply AC lost"), "{told:?}");
    assert!(bmc.finish(3).measurements.is_empty());
}

#[test]
fn a_sensor_beyond_its_limit_is_told_as_the_bmc_says_it() {
    let tools = Recorded::new("hot");
    let limits = Bmc::new(&tools).sample(1, &Cancel::new()).limits;
    let asserted: Vec<(f64, Option<f64>, Option<bool>)> = limits
        .iter()
        .filter(|limit| limit.key == "bmc/CPU1_Temp")
        .map(|limit| (limit.value, limit.observed, limit.asserted))
        .collect();
    let hot = Some(95.0);
    assert_eq!(asserted, [(80.0, hot, Some(true)), (90.0, hot, Some(true)), (100.0, hot, Some(false))]);
}

#[test]
fn a_bmc_that_hangs_leaves_samples_without_a_value() {
    let tools = Recorded::new("good");
    let mut bmc = Bmc::new(&tools);
    bmc.sample(1, &Cancel::new());
    *tools.broken.lock().unwrap() = Some("sdr-full");
    let hung = bmc.sample(2, &Cancel::new());
    assert_eq!((hung.lost.len(), values(&hung).len()), (1, 6));
    assert!(values(&hung).iter().all(|(_, value)| value.is_none()));
    assert!(bmc.sample(3, &Cancel::new()).lost.is_empty(), "it is told once");
    *tools.broken.lock().unwrap() = Some("sel-info");
    let log = bmc.sample(4, &Cancel::new());
    assert!(values(&log).contains(&pair("sel critical", None)) && log.lost.len() == 1);
    *tools.broken.lock().unwrap() = None;
    assert!(values(&bmc.sample(5, &Cancel::new())).contains(&pair("sel critical", Some(0.0))));
}

#[test]
fn limits_that_cannot_be_read_are_told() {
    let tools = Recorded::new("good");
    *tools.broken.lock().unwrap() = Some("sensor");
    let sample = Bmc::new(&tools).sample(1, &Cancel::new());
    assert_eq!((sample.limits.len(), sample.notices[0].kind), (0, "hardware_limits_unknown"));
    assert!(values(&sample).contains(&pair("temp bmc/CPU1_Temp", Some(45.0))));
}

/// It answers what `Recorded` does, and ends as failed, as where one sensor of many does not answer.
struct OneMissing(Recorded);

impl ToolRunner for OneMissing {
    fn run(
        &self,
        invocation: &Invocation,
        cancel: &Cancel,
        on_line: &mut dyn FnMut(Stream, &str),
    ) -> Result<Finished, ToolError> {
        let finished = self.0.run(invocation, cancel, on_line)?;
        let is_of_sensors = invocation.args.iter().any(|arg| arg == "sensor" || arg == "elist");
        let is_log = invocation.args.iter().any(|arg| arg == "sel");
        let exit = if is_of_sensors && !is_log { Exit::Code(1) } else { finished.exit };
        Ok(Finished { exit, ..finished })
    }
}

#[test]
fn one_sensor_that_does_not_answer_takes_no_other_with_it() {
    let whole = Bmc::new(&Recorded::new("good")).sample(1, &Cancel::new());
    let tools = OneMissing(Recorded::new("good"));
    let some = Bmc::new(&tools).sample(1, &Cancel::new());
    assert_eq!(
        (&some.measurements, &some.limits, &some.lost),
        (&whole.measurements, &whole.limits, &whole.lost)
    );
    let told: Vec<_> = some.notices.iter().map(|notice| notice.kind).collect();
    assert_eq!(told, ["hardware_limits_unknown"]);
}

#[test]
fn sensors_of_one_name_are_told_apart() {
    let row = |number: &str, text: &str| SdrRow {
        name: "Temp".to_owned(),
        number: number.to_owned(),
        status: "ok".to_owned(),
        entity: "3.1".to_owned(),
        text: text.to_owned(),
    };
    let sensor = |limit: f64| Sensor {
        name: "Temp".to_owned(),
        value: None,
        unit: "degrees C".to_owned(),
        status: "ok".to_owned(),
        limits: vec![(Threshold::UpperCritical, limit)],
    };
    let rows = [row("0Eh", "40 degrees C"), row("0Fh", "No Reading"), row("10h", "41 degrees C")];
    let limits = limits_of(&rows, &[sensor(90.0), sensor(91.0), sensor(92.0)]);
    let told: Vec<(&str, f64)> = limits.iter().map(|limit| (&*limit.key, limit.value)).collect();
    assert_eq!(told, [("bmc/Temp-0Eh", 90.0), ("bmc/Temp-10h", 92.0)]);
    // when it is not clear whose limit it is, it is nobody's
    assert_eq!(limits_of(&rows, &[sensor(90.0)]), []);
}
