//! Every parser of every tool in one table, for what is asked of all of them: that no answer makes one panic.
//!
//! Built for tests and for the fuzz target `agent/fuzz` alone.

use std::time::Duration;

use super::iperf3::Direction;
use super::runner::{Exit, Finished};
use super::{
    badblocks, blkdiscard, blkid, cpu_worker, dcgmi, dropbear, ethtool, fio, gpu_load, hdparm, ip, iperf3,
    ipmitool, memory_worker, nvme, nvml, smartctl, stress_ng, wipefs,
};

const ASKED: Duration = Duration::from_secs(10);

/// Reads an answer and throws away what it says.
type Parser = fn(&Finished);

/// Tool, and how its answers are read.
const PARSERS: &[(&str, Parser)] = &[
    ("badblocks", |answer| drop(badblocks::parse(answer))),
    ("badblocks", |answer| drop(badblocks::bad_blocks_so_far(answer))),
    ("badblocks", |answer| {
        lines(answer, &mut badblocks::Meter::new(badblocks::Mode::WriteRead), badblocks::Meter::read);
    }),
    ("blkdiscard", |answer| drop(blkdiscard::parse(answer, 1 << 40))),
    ("blkid", |answer| drop(blkid::parse(answer))),
    ("dcgmi", |answer| drop(dcgmi::parse(answer))),
    ("dropbearkey", |answer| drop(dropbear::parse_host_key(answer))),
    ("ethtool", |answer| drop(ethtool::parse_driver(answer))),
    ("ethtool", |answer| drop(ethtool::parse_permanent_address(answer))),
    ("ethtool", |answer| drop(ethtool::parse_fastest_common(answer))),
    ("fio", |answer| drop(fio::parse(answer))),
    ("gpu-load", |answer| drop(gpu_load::parse(answer))),
    ("hdparm", |answer| drop(hdparm::parse_security(answer))),
    ("hdparm", |answer| drop(hdparm::parse_max_sectors(answer))),
    ("hdparm", |answer| drop(hdparm::parse_dco_identify(answer))),
    ("ip", |answer| drop(ip::parse_addresses(answer))),
    ("iperf3", |answer| drop(iperf3::parse(answer, Direction::Send, ASKED))),
    ("iperf3", |answer| drop(iperf3::parse(answer, Direction::Receive, ASKED))),
    ("iperf3", |answer| drop(iperf3::parse(answer, Direction::Both, ASKED))),
    ("ipmitool", |answer| drop(ipmitool::parse_mc_info(answer))),
    ("ipmitool", |answer| drop(ipmitool::parse_lan_address(answer))),
    ("ipmitool", |answer| drop(ipmitool::dcmi::parse_power(answer))),
    ("ipmitool", |answer| drop(ipmitool::sdr::parse(answer))),
    ("ipmitool", |answer| drop(ipmitool::sdr::parse_some(answer))),
    ("ipmitool", |answer| drop(ipmitool::sel::parse_info(answer))),
    ("ipmitool", |answer| {
        let entries = ipmitool::sel::parse_list(answer, 0).unwrap_or_default();
        for entry in entries {
            entry.class();
        }
    }),
    ("ipmitool", |answer| drop(ipmitool::sensor::parse(answer))),
    ("nvme", |answer| drop(nvme::parse_id_ctrl(answer))),
    ("nvme", |answer| drop(nvme::parse_list_ns(answer))),
    ("nvme", |answer| drop(nvme::parse_sanitize_status(answer))),
    ("nvml-probe", |answer| drop(nvml::parse(answer))),
    ("smartctl", |answer| drop(smartctl::parse(answer))),
    ("smartctl", |answer| drop(smartctl::parse_scan(answer))),
    ("smartctl", |answer| drop(smartctl::parse_identity(answer))),
    ("smartctl", |answer| drop(smartctl::farm::parse(answer))),
    ("smartctl", |answer| drop(smartctl::self_test::parse(answer))),
    ("smartctl", |answer| drop(smartctl::self_test::parse_start(answer))),
    ("stress-ng", |answer| drop(stress_ng::parse(answer, "cpu", ASKED))),
    ("stress-ng", |answer| drop(stress_ng::parse(answer, "vm", ASKED))),
    ("vetting-agent", |answer| drop(cpu_worker::parse(answer))),
    ("vetting-agent", |answer| drop(memory_worker::parse(answer))),
    ("wipefs", |answer| drop(wipefs::parse(answer))),
];

fn lines<S, A>(answer: &Finished, state: &mut S, read: fn(&mut S, &str) -> A) {
    for line in answer.stdout_text().lines() {
        drop(read(state, line));
    }
}

/// Has every parser read these bytes as standard output of a tool that ended well, and of one that ended with `code`
/// and complained with them.
pub fn all(bytes: &[u8], code: i32) {
    let answer = |exit, stderr: &[u8]| Finished {
        exit: Exit::Code(exit),
        stdout: bytes.to_vec(),
        stderr: stderr.to_vec(),
        truncated: false,
        elapsed: ASKED,
    };
    for answer in [answer(0, b""), answer(code, bytes)] {
        for (_, read) in PARSERS {
            read(&answer);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::LazyLock;

    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;
    use crate::tools::{fixture_folder, runner};

    /// Each recorded answer with its tool.
    static RECORDED: LazyLock<Vec<(&str, Finished)>> = LazyLock::new(|| {
        let mut tools: Vec<&str> = PARSERS.iter().map(|(tool, _)| *tool).collect();
        tools.dedup();
        let mut recorded = Vec::new();
        for tool in tools {
            let Ok(cases) = fs::read_dir(fixture_folder(tool, "")) else { continue };
            recorded.extend(
                cases.map(|case| (tool, runner::read_recording(&case.unwrap().path(), tool).unwrap())),
            );
        }
        recorded
    });

    #[test]
    fn every_tool_that_was_recorded_has_its_parsers_here() {
        let folders = fs::read_dir(fixture_folder("", "")).unwrap().map(|entry| entry.unwrap());
        for folder in folders.filter(|entry| entry.file_type().unwrap().is_dir()) {
            let name = folder.file_name().into_string().unwrap();
            assert!(PARSERS.iter().any(|(tool, _)| *tool == name), "{name}");
        }
    }

    fn bent(text: &[u8], at: Index, gone: usize, new: &[u8]) -> Vec<u8> {
        let from = if text.is_empty() { 0 } else { at.index(text.len()) };
        let until = (from + gone).min(text.len());
        let mut bent = text.to_vec();
        bent.splice(from..until, new.iter().copied());
        bent
    }

    /// What breaks parsers: numbers beyond their types, words where numbers are, ends of structures, cut characters.
    fn intruder() -> impl Strategy<Value = Vec<u8>> {
        let word = prop::sample::select(vec![
            "",
            "-1",
            "0",
            "18446744073709551616",
            "1e999",
            "-0.0",
            "NaN",
            "null",
            "{}",
            "[]",
            "\"",
            ",",
            "\n",
            "\t",
            "|",
            ":",
            "\u{fffd}\u{2028}",
            "0x",
            "ff",
            "9999999999999999999999999999999",
        ]);
        prop_oneof![word.prop_map(|word| word.as_bytes().to_vec()), prop::collection::vec(any::<u8>(), 0..24)]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Each recorded answer cut short, with a piece replaced, and with another end of its process.
        #[test]
        fn no_answer_makes_a_parser_panic(
            at: Index, gone in 0_usize..40, new in intruder(), exit in prop_oneof![Just(0), 0_i32..256]
        ) {
            for (tool, answer) in &*RECORDED {
                let mut cut = answer.stdout.clone();
                cut.truncate(if cut.is_empty() { 0 } else { at.index(cut.len()) });
                for stdout in [cut, bent(&answer.stdout, at, gone, &new)] {
                    let bent = Finished {
                        stdout, exit: Exit::Code(exit), stderr: bent(&answer.stderr, at, gone, &new), ..answer.clone()
                    };
                    for (_, read) in PARSERS.iter().filter(|(of, _)| of == tool) {
                        read(&bent);
                    }
                }
            }
        }

        #[test]
        fn no_bytes_make_a_parser_panic(bytes: Vec<u8>, code in 0_i32..256) {
            all(&bytes, code);
        }
    }
}
