//! What a crash was, as far as its traces go. Pure: traces in, words out.
//!
//! Names what the traces show and nothing more: a machine that came back without a trace was reset or lost its power, and
//! nothing tells which.

use serde::{Deserialize, Serialize};
use vetting_protocol::crash::{CrashDump, LeftBehind};
use vetting_protocol::named_enum;

/// A dump that is older than this before the claim of the boot that crashed is of another crash. The machine's clock may
/// be off by as much.
const CLOCK_SLACK_MS: i64 = 2_000;

/// What a machine's BMC has in its event log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventLog {
    /// There is no BMC to ask.
    NoBmc,
    /// It could not be read.
    Unread {
        /// Why.
        why: String,
    },
    /// It was read.
    Read {
        /// Entries since the boot that crashed was claimed, in words, oldest first.
        entries: Vec<String>,
    },
}

/// What is known of how a machine went away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Traces {
    /// It restarted and was heard again; otherwise it fell silent.
    pub came_back: bool,
    /// The boot that crashed was claimed then, ms since the epoch; absent if that is not known.
    pub claimed_ms: Option<i64>,
    /// What the boot after it found; absent if no such boot told.
    pub left_behind: Option<LeftBehind>,
    /// What its BMC says of the power now; absent if it was not asked or did not answer.
    pub power_on: Option<bool>,
    /// What its BMC noted.
    pub event_log: EventLog,
}

named_enum! {
    /// What a crash was.
    CrashKind, "a kind of crash" {
        /// The hardware reported an error that it could not correct.
        HardwareError = "hardware error",
        /// The kernel gave up.
        KernelPanic = "kernel panic",
        /// The machine lost its power.
        PowerLoss = "power loss",
        /// It switched itself off, or was reset, before heat broke it.
        ThermalTrip = "thermal trip",
        /// A watchdog restarted it.
        Watchdog = "watchdog reset",
        /// It restarted, and nothing tells whether it was reset or lost its power.
        ResetOrPowerLoss = "reset or power loss",
        /// It is on and says nothing.
        Hang = "hang",
        /// It fell silent, and nothing tells whether it hangs, is off, or lost its network.
        Silence = "hang, power loss or lost network",
    }
}

/// A crash with its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribution {
    /// What it was.
    pub kind: CrashKind,
    /// The trace that says so, or what is missing.
    pub because: String,
}

/// Words of a BMC's event log that tell of heat, of a power loss, of a watchdog, and of broken hardware: IPMI 2.0 tables
/// 42-2 and 42-3 in ipmitool's words, and those of Redfish's message registries.
const THERMAL_WORDS: [&str; 3] = ["thermal trip", "thermtrip", "non-recoverable going high"];
const POWER_WORDS: [&str; 8] = [
    "ac lost",
    "power off/down",
    "power supply input lost",
    "ac failure",
    "ac power loss",
    "power cycle event: loss",
    "input is lost",
    "lost input power",
];
const WATCHDOG_WORDS: [&str; 1] = ["watchdog"];
const HARDWARE_WORDS: [&str; 9] = [
    "uncorrectable",
    "uncorrected",
    "multi-bit",
    "ierr",
    "machine check",
    "bus fatal",
    "fatal pci",
    "pcie fatal",
    "pci serr",
];
/// Entries that are told beside the reason.
const MOST_TOLD: usize = 3;

/// Says what a crash was. The first of these traces counts: errors of the hardware, the kernel's last words, the BMC's
/// event log, whether it is on.
pub fn attribute(traces: &Traces) -> Attribution {
    let found = |kind, because: String| Attribution { kind, because };
    if let Some(error) = hardware_error(traces) {
        return found(CrashKind::HardwareError, error);
    }
    if let Some(dump) = own_dumps(traces).last() {
        return found(CrashKind::KernelPanic, last_words(dump));
    }
    for (kind, words) in [
        (CrashKind::ThermalTrip, &THERMAL_WORDS[..]),
        (CrashKind::HardwareError, &HARDWARE_WORDS[..]),
        (CrashKind::PowerLoss, &POWER_WORDS[..]),
        (CrashKind::Watchdog, &WATCHDOG_WORDS[..]),
    ] {
        if let Some(entry) = event_with(traces, words) {
            return found(kind, format!("the BMC's event log has `{entry}`"));
        }
    }
    if traces.came_back {
        return found(CrashKind::ResetOrPowerLoss, nothing_left(traces));
    }
    match (traces.power_on, &traces.event_log) {
        (Some(true), _) => found(CrashKind::Hang, "its BMC says that it is on".to_owned()),
        (Some(false), _) => found(CrashKind::PowerLoss, "its BMC says that it is off".to_owned()),
        (None, EventLog::NoBmc) => found(CrashKind::Silence, "no BMC was asked whether it is on".to_owned()),
        (None, EventLog::Unread { .. } | EventLog::Read { .. }) => {
            found(CrashKind::Silence, "its BMC does not say whether it is on".to_owned())
        }
    }
}

/// What is to be said of the BMC's event log whatever the crash was: its last entries, or why it was not read.
pub fn event_log_words(log: &EventLog) -> Option<String> {
    match log {
        EventLog::NoBmc => None,
        EventLog::Unread { why } => Some(format!("Its BMC's event log could not be read: {why}.")),
        EventLog::Read { entries } if entries.is_empty() => {
            Some("Its BMC's event log has nothing since then.".to_owned())
        }
        EventLog::Read { entries } => {
            let last = &entries[entries.len().saturating_sub(MOST_TOLD)..];
            let count = entries.len();
            Some(format!(
                "Its BMC's event log has {count} entries since then, the last: {}.",
                last.join("; ")
            ))
        }
    }
}

/// Dumps of the boot that crashed, as far as their times tell.
pub fn own_dumps(traces: &Traces) -> impl Iterator<Item = &CrashDump> {
    let since_ms = traces.claimed_ms.map(|claimed_ms| claimed_ms.saturating_sub(CLOCK_SLACK_MS));
    let dumps = traces.left_behind.iter().flat_map(|left| &left.dumps);
    dumps.filter(move |dump| match (dump.ts_ms, since_ms) {
        (Some(ts_ms), Some(since_ms)) => ts_ms >= since_ms,
        // one without a time may be of any crash
        (None, _) => false,
        (Some(_), None) => true,
    })
}

fn hardware_error(traces: &Traces) -> Option<String> {
    let in_dumps = own_dumps(traces).flat_map(|dump| &dump.lines).find(|line| {
        line.contains("[Hardware Error]") || line.contains("Machine check") || line.contains("machine check")
    });
    if let Some(line) = in_dumps {
        return Some(format!("the kernel's last words have `{line}`"));
    }
    let after = traces.left_behind.as_ref()?.hardware_errors.first()?;
    Some(format!("the next boot found `{after}`"))
}

fn last_words(dump: &CrashDump) -> String {
    let telling = |line: &&String| {
        ["Kernel panic - not syncing", "BUG:", "Oops:", "RIP:"].iter().any(|word| line.contains(word))
    };
    match dump.lines.iter().find(telling).or_else(|| dump.lines.last()) {
        Some(line) => format!("`{line}`, kept in {}", dump.store),
        None => format!("{} kept a dump ({}) without a line", dump.store, dump.reason),
    }
}

fn event_with<'t>(traces: &'t Traces, words: &[&str]) -> Option<&'t String> {
    let EventLog::Read { entries } = &traces.event_log else { return None };
    entries.iter().find(|entry| {
        let entry = entry.to_lowercase();
        // that something is over tells of no crash
        !entry.contains("deasserted") && words.iter().any(|word| entry.contains(word))
    })
}

fn nothing_left(traces: &Traces) -> String {
    let mut looked = Vec::new();
    match &traces.left_behind {
        Some(left) if left.unread.is_empty() => looked.push("it left no dump and no error record".to_owned()),
        Some(left) => looked.push(format!("it left no dump; not looked at: {}", left.unread.join(", "))),
        None => looked.push("what it left behind was not told".to_owned()),
    }
    looked.push(match &traces.event_log {
        EventLog::Read { .. } => "nor an entry in its BMC's event log that tells".to_owned(),
        EventLog::Unread { .. } => "its BMC's event log could not be read".to_owned(),
        EventLog::NoBmc => "there is no BMC whose event log could tell".to_owned(),
    });
    looked.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: i64 = 1_800_000_000_000;

    fn traces(came_back: bool) -> Traces {
        let left_behind = came_back.then(LeftBehind::default);
        Traces { came_back, claimed_ms: Some(T0), left_behind, power_on: None, event_log: EventLog::NoBmc }
    }

    fn dump(ts_ms: Option<i64>, lines: &[&str]) -> CrashDump {
        CrashDump {
            store: "efi_pstore".to_owned(),
            reason: "Panic".to_owned(),
            ts_ms,
            lines: lines.iter().map(|line| (*line).to_owned()).collect(),
        }
    }

    fn with_dump(dump: CrashDump) -> Traces {
        Traces {
            left_behind: Some(LeftBehind { dumps: vec![dump], ..LeftBehind::default() }),
            ..traces(true)
        }
    }

    fn kind(traces: &Traces) -> CrashKind {
        attribute(traces).kind
    }

    #[test]
    fn a_panic_is_told_in_the_kernels_words() {
        let lines = ["sysrq: Trigger a crash", "Kernel panic - not syncing: sysrq triggered crash", "CPU: 0"];
        let found = attribute(&with_dump(dump(Some(T0 + 5), &lines)));
        assert_eq!(found.kind, CrashKind::KernelPanic);
        assert_eq!(found.because, "`Kernel panic - not syncing: sysrq triggered crash`, kept in efi_pstore");
    }

    #[test]
    fn a_dump_of_another_crash_is_no_trace_of_this_one() {
        for ts_ms in [Some(T0 - CLOCK_SLACK_MS - 1), None] {
            assert_eq!(kind(&with_dump(dump(ts_ms, &["Kernel panic"]))), CrashKind::ResetOrPowerLoss);
        }
        assert_eq!(
            kind(&with_dump(dump(Some(T0 - CLOCK_SLACK_MS), &["Kernel panic"]))),
            CrashKind::KernelPanic
        );
    }

    #[test]
    fn an_error_of_the_hardware_comes_before_the_panic_that_followed_it() {
        let lines =
            ["mce: [Hardware Error]: CPU 0: Machine Check Exception: 5 Bank 5", "Kernel panic - not syncing"];
        assert_eq!(kind(&with_dump(dump(Some(T0), &lines))), CrashKind::HardwareError);
        let mut after = traces(true);
        after.left_behind.as_mut().unwrap().hardware_errors =
            vec!["BERT: [Hardware Error]: fatal".to_owned()];
        let found = attribute(&after);
        assert_eq!(found.kind, CrashKind::HardwareError);
        assert!(found.because.contains("the next boot found `BERT"), "{}", found.because);
    }

    #[test]
    fn the_bmcs_log_tells_what_the_machine_cannot() {
        for (entry, expected) in [
            ("Power Supply #0x64 | Power Supply AC lost | Asserted", CrashKind::PowerLoss),
            ("Power Unit #0x01 | Power off/down | Asserted", CrashKind::PowerLoss),
            ("Watchdog2 #0x08 | Hard reset | Asserted", CrashKind::Watchdog),
            ("Memory #0x02 | Uncorrectable ECC | Asserted", CrashKind::HardwareError),
            ("Critical Interrupt #0x07 | Bus Fatal Error | Asserted", CrashKind::HardwareError),
            ("Processor #0x60 | Thermal Trip | Asserted", CrashKind::ThermalTrip),
            ("Temperature #0x01 | Upper Non-recoverable going high | Asserted", CrashKind::ThermalTrip),
            ("Critical: The power supply 1 input is lost.", CrashKind::PowerLoss),
            ("Power Supply #0x64 | Power Supply AC lost | Deasserted", CrashKind::ResetOrPowerLoss),
            ("Fan #0x30 | Lower Critical going low | Asserted", CrashKind::ResetOrPowerLoss),
        ] {
            let logged =
                Traces { event_log: EventLog::Read { entries: vec![entry.to_owned()] }, ..traces(true) };
            assert_eq!(kind(&logged), expected, "{entry}");
        }
    }

    #[test]
    fn silence_is_a_hang_only_where_the_machine_is_known_to_be_on() {
        for (power_on, expected) in
            [(Some(true), CrashKind::Hang), (Some(false), CrashKind::PowerLoss), (None, CrashKind::Silence)]
        {
            assert_eq!(kind(&Traces { power_on, ..traces(false) }), expected);
        }
    }

    #[test]
    fn what_was_not_looked_at_is_told() {
        let mut unread = traces(true);
        unread.left_behind.as_mut().unwrap().unread = vec!["/sys/fs/pstore: not mounted".to_owned()];
        let because = attribute(&unread).because;
        assert!(because.contains("/sys/fs/pstore: not mounted"), "{because}");
        assert!(because.contains("no BMC whose event log"), "{because}");
        unread.event_log = EventLog::Unread { why: "the BMC at 10.0.9.7: no answer".to_owned() };
        assert!(attribute(&unread).because.contains("event log could not be read"));
        let words = event_log_words(&unread.event_log).unwrap();
        assert!(words.contains("10.0.9.7: no answer"), "{words}");
        let silent = Traces { event_log: unread.event_log, ..traces(false) };
        assert!(attribute(&silent).because.contains("does not say"));
    }
}
