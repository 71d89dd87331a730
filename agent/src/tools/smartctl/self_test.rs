//! A disk's own self-test: starting it, and how far it is (smartctl(8) `-t`, `-c`, `-l selftest`).
//!
//! ATA: ACS-4, SMART EXECUTE OFF-LINE IMMEDIATE and the self-test execution status byte. NVMe base specification: Device
//! Self-test command and log page 06h. SCSI: SPC-5 SEND DIAGNOSTIC and log page 10h. Refuses to call a test passed that
//! left no trace of having run.

use std::time::Duration;

use serde_json::Value;
use vetting_protocol::plan::SelfTest;

use super::{Drive, ExitBits, TOOL, garbage, words};
use crate::tools::runner::{Finished, Invocation, ToolError};

/// Starting and asking are quick, but a disk may have to spin up.
const PATIENCE: Duration = Duration::from_mins(2);

/// Tells a disk to test itself; it goes on working meanwhile. `None` for no test.
pub fn start(drive: &Drive, test: SelfTest) -> Option<Invocation> {
    let kind = match test {
        SelfTest::None => return None,
        SelfTest::Short => "short",
        SelfTest::Extended => "long",
    };
    Some(drive.invocation(&["-t", kind], PATIENCE))
}

/// Asks how far the test is and what the log holds.
pub fn ask(drive: &Drive) -> Invocation {
    drive.invocation(&["-c", "-l", "selftest"], PATIENCE)
}

/// Whether a test was started; smartctl's reason where it was not.
pub fn parse_start(finished: &Finished) -> Result<(), ToolError> {
    let (json, exit, code) = json_of(finished)?;
    // bits 3 and up tell of the disk's health, which is judged elsewhere
    if exit.not_asked() || exit.not_opened() || exit.command_failed() {
        return Err(ToolError::Failed { tool: TOOL.to_owned(), code, message: words(&json) });
    }
    Ok(())
}

/// What a disk says of its self-tests.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// It has self-tests at all.
    pub supported: bool,
    /// How the one under way is, or the last one was.
    pub state: State,
    /// One under way would be seen. smartctl 7.4 leaves it out of its JSON where a SCSI disk does not log a test
    /// before its end.
    pub shows_running: bool,
    /// Which one is under way, where the disk tells.
    pub under_way: Option<SelfTest>,
    /// What tells whether a test was logged since: the size of the log and its newest entry, or all of them.
    pub log_mark: String,
    /// The disk's own estimate of a short and of an extended test, minutes.
    pub minutes: (Option<f64>, Option<f64>),
}

/// How a self-test is.
#[derive(Debug, Clone, PartialEq)]
pub enum State {
    /// Under way.
    Running {
        /// Part still to do, percent, as far as the disk tells.
        percent_left: Option<f64>,
    },
    /// The last one came to its end and found nothing, or there was none.
    Passed,
    /// The last one found a fault.
    Failed {
        /// In smartctl's words.
        what: String,
    },
    /// The last one was broken off by a reset, a command or a power cut.
    BrokenOff {
        /// In smartctl's words.
        what: String,
    },
}

/// Reads the answer to [`ask`].
pub fn parse(finished: &Finished) -> Result<Status, ToolError> {
    let (json, exit, code) = json_of(finished)?;
    if exit.not_asked() || exit.not_opened() {
        return Err(ToolError::Failed { tool: TOOL.to_owned(), code, message: words(&json) });
    }
    match json.pointer("/device/protocol").and_then(Value::as_str) {
        Some("ATA") => ata(&json),
        Some("NVMe") => nvme(&json, exit),
        Some("SCSI") => scsi(&json, exit),
        Some(other) => Err(garbage(format!("the protocol `{other}` is not known here"))),
        None => Err(garbage("it does not tell the disk's protocol")),
    }
}

fn json_of(finished: &Finished) -> Result<(Value, ExitBits, i32), ToolError> {
    let code = finished.code(TOOL)?;
    let exit = ExitBits::of(code)?;
    let json = serde_json::from_slice(&finished.stdout)
        .map_err(|error| garbage(format!("its JSON cannot be read: {error}")))?;
    Ok((json, exit, code))
}

fn text(json: &Value, pointer: &str) -> String {
    json.pointer(pointer).and_then(Value::as_str).unwrap_or("without words").to_owned()
}

/// The self-test execution status byte (ACS-4, 9.23.7.4.2): the outcome in its upper half, tenths still to do in the lower.
fn ata(json: &Value) -> Result<Status, ToolError> {
    let at = |pointer: &str| json.pointer(&format!("/ata_smart_data{pointer}"));
    let minutes = |kind: &str| at(&format!("/self_test/polling_minutes/{kind}")).and_then(Value::as_f64);
    let supported = at("/capabilities/self_tests_supported").and_then(Value::as_bool);
    let Some(supported) = supported else {
        return Err(garbage(format!("it does not tell whether the disk has self-tests ({})", words(json))));
    };
    let value =
        at("/self_test/status/value").and_then(Value::as_u64).and_then(|value| u8::try_from(value).ok());
    let state = match value {
        None if !supported => State::Passed,
        None => return Err(garbage("there is no self-test status in it")),
        Some(value) => {
            let what = || text(json, "/ata_smart_data/self_test/status/string");
            match value >> 4 {
                0 => State::Passed,
                1 | 2 => State::BrokenOff { what: what() },
                15 => State::Running { percent_left: Some(f64::from(value & 15) * 10.0) },
                _ => State::Failed { what: what() },
            }
        }
    };
    let log = json.pointer("/ata_smart_self_test_log");
    let newest = |form: &str| {
        let log = log.and_then(|log| log.get(form))?;
        Some(format!("{:?} {:?}", log.get("count"), log.pointer("/table/0")))
    };
    Ok(Status {
        supported,
        state,
        shows_running: true,
        under_way: None,
        log_mark: newest("extended").or_else(|| newest("standard")).unwrap_or_default(),
        minutes: (minutes("short"), minutes("extended")),
    })
}

/// Log page 06h is only there where the controller has the Device Self-test command: smartctl asks for it then, and fails
/// where the disk does not answer.
fn nvme(json: &Value, exit: ExitBits) -> Result<Status, ToolError> {
    let Some(log) = json.get("nvme_self_test_log") else {
        if exit.command_failed() {
            return Err(log_unread(json));
        }
        return Ok(Status {
            supported: false,
            state: State::Passed,
            shows_running: true,
            under_way: None,
            log_mark: String::new(),
            minutes: (None, None),
        });
    };
    let operation = log.pointer("/current_self_test_operation/value").and_then(Value::as_u64).unwrap_or(0);
    let running = operation != 0;
    let under_way = match operation {
        1 => Some(SelfTest::Short),
        2 => Some(SelfTest::Extended),
        _ => None,
    };
    let done = log.get("current_self_test_completion_percent").and_then(Value::as_f64);
    let newest = log.pointer("/table/0");
    let result = newest.and_then(|row| row.pointer("/self_test_result/value")).and_then(Value::as_u64);
    let what = || text(log, "/table/0/self_test_result/string");
    let state = match result {
        _ if running => State::Running { percent_left: done.map(|done| (100.0 - done).clamp(0.0, 100.0)) },
        None | Some(0) => State::Passed,
        Some(5..=7) => State::Failed { what: what() },
        Some(_) => State::BrokenOff { what: what() },
    };
    let rows = log.get("table").and_then(Value::as_array).map_or(0, Vec::len);
    let log_mark = format!("{rows} {newest:?}");
    Ok(Status { supported: true, state, shows_running: true, under_way, log_mark, minutes: (None, None) })
}

/// Log page 10h (SPC-5, 7.3.21), results 0h to Fh. One that is empty is no failure of smartctl.
fn scsi(json: &Value, exit: ExitBits) -> Result<Status, ToolError> {
    let newest = json.get("scsi_self_test_0");
    if newest.is_none() && exit.command_failed() {
        return Err(log_unread(json));
    }
    let result = newest.and_then(|row| row.pointer("/result/value")).and_then(Value::as_u64);
    let what = || text(json, "/scsi_self_test_0/result/string");
    let current = json.get("scsi_self_test_status");
    let done = current.and_then(|status| status.get("completion_percent")).and_then(Value::as_f64);
    let in_progress = current.and_then(|status| status.get("in_progress")).and_then(Value::as_bool);
    let is_marked = newest.and_then(|row| row.get("self_test_in_progress")).and_then(Value::as_bool);
    let state = match result {
        _ if is_marked == Some(true) => State::Running { percent_left: None },
        _ if in_progress == Some(true) => {
            State::Running { percent_left: done.map(|done| (100.0 - done).clamp(0.0, 100.0)) }
        }
        None | Some(0) => State::Passed,
        Some(15) => State::Running { percent_left: None },
        Some(1 | 2) => State::BrokenOff { what: what() },
        Some(_) => State::Failed { what: what() },
    };
    // a full log is as long after a test as before, and two tests of one hour look alike
    let rows: Vec<&Value> = (0..20).filter_map(|row| json.get(format!("scsi_self_test_{row}"))).collect();
    let extended = json.pointer("/scsi_extended_self_test_seconds").and_then(Value::as_f64);
    Ok(Status {
        supported: true,
        state,
        shows_running: in_progress.is_some(),
        under_way: None,
        log_mark: format!("{} {rows:?}", rows.len()),
        minutes: (None, extended.map(|seconds| seconds / 60.0)),
    })
}

fn log_unread(json: &Value) -> ToolError {
    garbage(format!("the log of self-tests cannot be read ({})", words(json)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::tools::fixture;
    use crate::tools::runner::Exit;

    fn finished(json: &Value, code: i32) -> Finished {
        Finished {
            exit: Exit::Code(code),
            stdout: serde_json::to_vec(json).unwrap(),
            stderr: Vec::new(),
            truncated: false,
            elapsed: Duration::ZERO,
        }
    }

    fn ata_with(value: u8, what: &str) -> Value {
        json!({
            "device": { "protocol": "ATA" },
            "ata_smart_data": {
                "self_test": {
                    "status": { "value": value, "string": what },
                    "polling_minutes": { "short": 2, "extended": 54 },
                },
                "capabilities": { "self_tests_supported": true },
            },
            "ata_smart_self_test_log": { "standard": { "count": 0 } },
        })
    }

    #[test]
    fn the_status_byte_of_ata_is_read_in_its_two_halves() {
        let state = |value| parse(&finished(&ata_with(value, "words"), 0)).unwrap().state;
        let what = || "words".to_owned();
        assert_eq!(state(0x00), State::Passed);
        assert_eq!(state(0xf9), State::Running { percent_left: Some(90.0) });
        assert_eq!(state(0x10), State::BrokenOff { what: what() });
        assert_eq!(state(0x21), State::BrokenOff { what: what() });
        for failed in [0x30, 0x48, 0x79, 0x80, 0xe0] {
            assert_eq!(state(failed), State::Failed { what: what() }, "{failed:#x}");
        }
    }

    #[test]
    fn recorded_disks_are_read() {
        let ide = parse(&fixture("smartctl", "7.4-qemu-ide")).unwrap();
        assert!(ide.supported);
        assert_eq!((ide.state, ide.minutes), (State::Passed, (Some(2.0), Some(54.0))));
        assert!(!parse(&fixture("smartctl", "7.4-qemu-nvme")).unwrap().supported);
        let nvme = parse(&fixture("smartctl", "7.4-nvme-good")).unwrap();
        assert_eq!((nvme.supported, nvme.state), (true, State::Passed));
        let sas = parse(&fixture("smartctl", "7.3-sas-good")).unwrap();
        assert!(sas.supported && sas.log_mark.starts_with('2'), "{sas:?}");
    }

    #[test]
    fn nvme_and_scsi_results_are_told_apart() {
        let nvme = |running: u8, result: u8| {
            let json = json!({
                "device": { "protocol": "NVMe" },
                "nvme_self_test_log": {
                    "current_self_test_operation": { "value": running },
                    "current_self_test_completion_percent": 30,
                    "table": [{ "self_test_result": { "value": result, "string": "words" } }],
                },
            });
            parse(&finished(&json, 0)).unwrap().state
        };
        assert_eq!(nvme(1, 0), State::Running { percent_left: Some(70.0) });
        assert_eq!(nvme(0, 0), State::Passed);
        assert!(matches!(nvme(0, 7), State::Failed { .. }) && matches!(nvme(0, 2), State::BrokenOff { .. }));
        // ticket 1741 of smartmontools
        let refused = json!({
            "device": { "protocol": "NVMe" },
            "smartctl": { "messages": [{ "string": "Read Self-test Log failed: Invalid Field in Command (0x2002)" }] },
        });
        let reason = parse(&finished(&refused, 4)).unwrap_err().reason();
        assert!(reason.contains("cannot be read (Read Self-test Log failed"), "{reason}");
        // without log page 10h nothing would ever tell how a test ended
        let no_log = json!({ "device": { "protocol": "SCSI" } });
        assert!(parse(&finished(&no_log, 4)).unwrap_err().reason().contains("cannot be read"));
        assert_eq!(parse(&finished(&no_log, 0)).unwrap().state, State::Passed);
        let scsi = |result: u8| {
            let json = json!({
                "device": { "protocol": "SCSI" },
                "scsi_self_test_0": { "result": { "value": result, "string": "words" } },
            });
            parse(&finished(&json, 0)).unwrap().state
        };
        assert!(matches!(scsi(15), State::Running { .. }) && matches!(scsi(4), State::Failed { .. }));
        assert!(matches!(scsi(2), State::BrokenOff { .. }) && scsi(0) == State::Passed);
        // of newer versions, beside a log that has only the one before
        let newer = json!({
            "device": { "protocol": "SCSI" },
            "scsi_self_test_status": { "in_progress": true, "completion_percent": 72 },
            "scsi_self_test_0": { "result": { "value": 0, "string": "Completed" } },
        });
        let status = parse(&finished(&newer, 0)).unwrap();
        assert_eq!(status.state, State::Running { percent_left: Some(28.0) });
        assert!(status.shows_running && !parse(&fixture("smartctl", "7.3-sas-good")).unwrap().shows_running);
    }

    #[test]
    fn no_answer_is_neither_started_nor_passed() {
        for case in ["bad-no-output", "bad-garbage", "bad-cut-short", "bad-killed", "bad-timed-out"] {
            let answer = fixture("smartctl", case);
            assert!(parse(&answer).is_err() && parse_start(&answer).is_err(), "{case}");
        }
        assert!(parse(&fixture("smartctl", "7.4-open-failed")).is_err());
        assert!(parse_start(&finished(&json!({}), 4)).is_err());
        // the disk is failing, but the test was started
        assert!(parse_start(&finished(&json!({}), 8)).is_ok());
        let silent = json!({ "device": { "protocol": "ATA" }, "ata_smart_data": {} });
        assert!(parse(&finished(&silent, 0)).is_err());
    }
}
