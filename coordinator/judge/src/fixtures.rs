//! Machines and runs for the tests: a Dell R640 and a QEMU machine as the agent tells them, and three runs.

use std::sync::{Arc, LazyLock};

use serde_json::{Value, json};
use vetting_protocol::agent_api::EventLevel;
use vetting_protocol::firmware::FirmwareReport;
use vetting_protocol::ids::{HostId, RunId, Sha256Hex, StageName};
use vetting_protocol::inventory::Inventory;
use vetting_protocol::measurement::Measurement;
use vetting_protocol::operator_api::{ArtifactView, BootView};
use vetting_protocol::outcome::Outcome;
use vetting_protocol::plan::DiskConsent;
use vetting_protocol::profile::ProfileName;
use vetting_protocol::run::{RunPlace, RunResult};

use crate::facts::{
    DiffFacts, Ending, EventFacts, HostFacts, PartBefore, RunFacts, RunHeader, Series, StageFacts,
    SubStepFacts,
};
use crate::profile::Registry;
use crate::rules::RuleSet;
use crate::siblings::Outlier;
use crate::spec::{self, Spec};
use crate::tally::Tally;

/// 2026-11-24 02:30:00 UTC.
const T0: i64 = 1_795_487_400_000;

/// The built-in profiles, read once.
pub fn registry() -> &'static Registry {
    static REGISTRY: LazyLock<Registry> = LazyLock::new(|| Registry::builtin().unwrap());
    &REGISTRY
}

/// A two-socket server with SATA, SAS and NVMe disks, a BMC's virtual floppy, and the USB stick it booted from.
pub fn server() -> (Inventory, FirmwareReport) {
    (
        serde_json::from_str(include_str!("../fixtures/dell-r640.inventory.json")).unwrap(),
        serde_json::from_str(include_str!("../fixtures/dell-r640.firmware.json")).unwrap(),
    )
}

/// A small QEMU machine that tells nothing of its DIMMs.
pub fn virtual_machine() -> (Inventory, FirmwareReport) {
    (
        serde_json::from_str(include_str!("../fixtures/qemu-q35.inventory.json")).unwrap(),
        serde_json::from_str(include_str!("../fixtures/qemu-q35.firmware.json")).unwrap(),
    )
}

/// The spec that the server was ordered by.
pub const SERVER_SPEC: &str = r#"
system: {manufacturer: "Dell*", product: PowerEdge R640}
cpu: {model: "Intel(R) Xeon(R) Gold 6130*", sockets: 2, physical_cores: 32, logical_cores: {min: 32, max: 64}}
memory:
  total_gib: 384
  dimms: {count: 12, size_gib: 32, type: DDR4, speed_mts: {min: 2666, severity: warning}, ecc: true}
disks:
  - {count: 2, kind: ssd, model: "INTEL SSDSC2K*", size_gb: 480, firmware: XCV10132}
  - {count: 2, kind: hdd, size_gb: {min: 4000}}
  - {kind: nvme, size_gb: 8000}
nics:
  - {count: 2, driver: ixgbe}
gpus: []
firmware:
  bios: {minimum: "2.10"}
  bmc: {version: "4.22", severity: warning}
  microcode: {minimum: "0x2006a08"}
  nvme_fw: "VDV101*"
"#;

fn stage(name: StageName, from_s: i64, to_s: i64, outcome: Outcome) -> StageFacts {
    StageFacts {
        name: name.to_string(),
        required: true,
        outcome: Some(outcome),
        reported: None,
        started_ms: Some(T0 + from_s * 1_000),
        ended_ms: Some(T0 + to_s * 1_000),
        details: Value::Null,
        sub_steps: Vec::new(),
    }
}

fn step(name: &str, from_s: i64, to_s: i64, outcome: Outcome, details: Value) -> SubStepFacts {
    SubStepFacts {
        name: name.to_owned(),
        outcome: Some(outcome),
        started_ms: Some(T0 + from_s * 1_000),
        ended_ms: Some(T0 + to_s * 1_000),
        details,
    }
}

fn sample(
    stage: StageName,
    at_s: i64,
    kind: &str,
    key: &str,
    value: impl Into<Option<f64>>,
    unit: &str,
) -> Measurement {
    Measurement {
        ts_ms: T0 + at_s * 1_000,
        stage: Some(stage),
        kind: kind.to_owned(),
        key: key.to_owned(),
        value: value.into(),
        unit: unit.to_owned(),
    }
}

const DISKS: [&str; 5] = ["nvme0n1", "sda", "sdb", "sdc", "sdd"];

fn stages() -> Vec<StageFacts> {
    let mut smart = stage(StageName::Smart, 96, 108, Outcome::Pass);
    let mut cpu = stage(StageName::CpuStress, 108, 234, Outcome::Pass);
    let mut storage = stage(StageName::Storage, 234, 610, Outcome::Pass);
    for (position, disk) in (0_i64..).zip(DISKS) {
        let at = 96 + position * 2;
        smart.sub_steps.push(step(&format!("{disk} SMART"), at, at + 2, Outcome::Pass, Value::Null));
        let at = 234 + position * 75;
        storage.sub_steps.push(step(&format!("{disk} fio"), at, at + 15, Outcome::Pass, Value::Null));
        let details = json!({"zones": 32, "zone_mib": 32});
        storage.sub_steps.push(step(&format!("{disk} badblocks"), at + 15, at + 75, Outcome::Pass, details));
    }
    cpu.sub_steps.push(step("CPU pass", 108, 170, Outcome::Pass, json!({"stressors": 64})));
    cpu.sub_steps.push(step("memory pass", 170, 234, Outcome::Pass, json!({"percent": 80})));
    vec![
        stage(StageName::Inventory, 88, 92, Outcome::Pass),
        stage(StageName::Firmware, 92, 95, Outcome::Pass),
        stage(StageName::SpecValidate, 95, 96, Outcome::Pass),
        smart,
        cpu,
        storage,
    ]
}

/// Temperatures that follow the load, and what the stages counted.
fn samples() -> Vec<Measurement> {
    let mut samples = Vec::new();
    for (position, at_s) in (88..610).step_by(5).enumerate() {
        let (stage, load) = match at_s {
            ..108 => (StageName::Smart, 0.0),
            108..234 => (StageName::CpuStress, 1.0),
            _ => (StageName::Storage, 0.25),
        };
        let ripple = f64::from(u8::try_from(position * 7 % 5).unwrap());
        let warm = 1.0 - (-(at_s as f64 - 88.0) / 60.0).exp();
        for (key, idle, rise) in [("cpu/0", 41.0, 36.0), ("cpu/1", 43.0, 39.0)] {
            let celsius = ((idle + rise * load * warm + ripple) * 10.0).round() / 10.0;
            samples.push(sample(stage, at_s, "temp", key, celsius, "celsius"));
        }
        for (key, idle) in [("disk/sda", 31.0), ("disk/sdc", 36.0), ("disk/nvme0n1", 44.0)] {
            samples.push(sample(
                stage,
                at_s,
                "temp",
                key,
                (idle + 8.0 * warm + ripple / 3.0).round(),
                "celsius",
            ));
        }
    }
    for disk in ["sda", "sdb"] {
        for attribute in
            ["5_reallocated_sector_ct", "197_current_pending_sector", "198_offline_uncorrectable"]
        {
            let key = format!("{disk}/{attribute}");
            samples.push(sample(StageName::Smart, 100, "smart_attr", &key, 0.0, "count"));
        }
    }
    samples.push(sample(StageName::CpuStress, 170, "stress", "cpu/verify_failures", 0.0, "count"));
    samples.push(sample(StageName::CpuStress, 234, "stress", "memory/verify_failures", 0.0, "count"));
    for disk in DISKS {
        let bandwidth = if disk.starts_with("nvme") { 3.12e9 } else { 2.05e8 };
        let key = |name: &str| format!("{disk}/{name}");
        samples.push(sample(
            StageName::Storage,
            500,
            "fio",
            &key("read_bandwidth"),
            bandwidth,
            "bytes_per_second",
        ));
        samples.push(sample(StageName::Storage, 500, "fio", &key("read_errors"), 0.0, "count"));
        samples.push(sample(StageName::Storage, 560, "badblocks", &key("bad_blocks"), 0.0, "count"));
    }
    samples
}

fn facts(stages: Vec<StageFacts>, samples: &[Measurement], inventory: Inventory) -> RunFacts {
    let (_, firmware) = server();
    let profile = registry().get(ProfileName::Quick);
    let rules: Vec<_> = (1_i64..).zip(profile.rules().cloned()).collect();
    let mut tally = Tally::new(Arc::new(RuleSet::compile(rules).unwrap()));
    for sample in samples {
        tally.observe(sample);
    }
    let series = ["cpu/0", "cpu/1", "disk/nvme0n1", "disk/sda", "disk/sdc"]
        .map(|key| {
            let of_key = samples.iter().filter(|sample| sample.kind == "temp" && sample.key == key);
            let points = of_key.map(|sample| (sample.ts_ms, sample.value.unwrap()));
            Series::thin_out("temp", key, "celsius", points, 60)
        })
        .to_vec();
    let diffs = spec::compare(&Spec::parse(SERVER_SPEC).unwrap(), &inventory, &firmware)
        .into_iter()
        .map(|diff| DiffFacts { diff, ignored: false })
        .collect();
    RunFacts {
        host: HostFacts {
            id: Some(HostId(7)),
            name: "rack4-node12".to_owned(),
            mac: Some("e4:43:4b:1c:d2:10".parse().unwrap()),
            notes: "Refurbished, order 2026-1187.".to_owned(),
        },
        run: RunHeader {
            id: Some(RunId(42)),
            uuid: None,
            report_version: 1,
            profile: ProfileName::Quick,
            own_profile: false,
            profile_description: profile.description.clone(),
            sampling_interval_ms: profile.sampling_interval_ms,
            started_ms: T0,
            ended_ms: T0 + 612_000,
            consent: DiskConsent::EmptyDisksOnly,
            place: RunPlace::LiveImage,
            judged_by: "vetting-coordinator 0.1.0".to_owned(),
        },
        ending: Ending::Regular,
        boot: BootView {
            woken_ms: Some(T0 + 400),
            script_served_ms: Some(T0 + 52_300),
            image_served_ms: Some(T0 + 61_900),
            claimed_ms: Some(T0 + 87_700),
            kernel_to_init_ms: Some(9_840),
            kernel_to_claim_ms: Some(14_210),
            kernel_to_network_ms: Some(13_420),
        },
        stages,
        attempts: Vec::new(),
        parts_in_doubt: Vec::new(),
        stage_changes: Vec::new(),
        diffs: Some(diffs),
        rules: profile.rules().cloned().collect(),
        sample_count: tally.samples(),
        evaluations: tally.into_evaluations(),
        inventory: Some(inventory),
        firmware: Some(firmware),
        series,
        events: vec![EventFacts {
            ts_ms: T0 + 87_700,
            level: EventLevel::Info,
            kind: "claimed".to_owned(),
            message: "the agent 0.1.0 claimed the run".to_owned(),
        }],
        artifacts: vec![ArtifactView {
            kind: "inventory".to_owned(),
            path: "/var/lib/vetting/artifacts/42/inventory.json".to_owned(),
            sha256: Sha256Hex::of(b"inventory"),
            size_bytes: 18_231,
        }],
        waivers: Vec::new(),
        outliers: Vec::new(),
        parts_before: Vec::new(),
    }
}

/// A good machine.
pub fn passing() -> RunFacts {
    facts(stages(), &samples(), server().0)
}

/// The same with unreadable sectors on one disk, which also ran warm, was slow, and failed in another machine before.
pub fn failing_in_storage() -> RunFacts {
    let mut stages = stages();
    let reason = "sdc: 3 unreadable blocks of 4096 bytes at 48210, 48211, 48214 (sectors 385680 to 385719)";
    let storage = stages.last_mut().unwrap();
    let details = json!({"bad_blocks": [48210, 48211, 48214], "block_bytes": 4096});
    let scan = storage.sub_steps.iter_mut().find(|step| step.name == "sdc badblocks").unwrap();
    scan.outcome = Some(Outcome::fail(reason));
    scan.details = details;
    storage.outcome = Some(Outcome::fail(reason));
    let mut samples = samples();
    for sample in &mut samples {
        match (sample.kind.as_str(), sample.key.as_str()) {
            ("badblocks", "sdc/bad_blocks") => sample.value = Some(3.0),
            ("temp", "disk/sdc") => sample.value = sample.value.map(|celsius| celsius + 13.0),
            _ => {}
        }
    }
    samples.push(sample(StageName::Storage, 430, "kernel", "sdc/io_errors", 6.0, "count"));
    samples.push(sample(StageName::Storage, 440, "kernel", "sdd/io_errors", None, "count"));
    let mut facts = facts(stages, &samples, server().0);
    facts.events.push(EventFacts {
        ts_ms: T0 + 430_000,
        level: EventLevel::Error,
        kind: "kernel_log".to_owned(),
        message: "critical medium error, dev sdc, sector 385680 op 0x0:(READ)".to_owned(),
    });
    let outlier = |kind: &str, key: &str, value, median, unit: &str| Outlier {
        stage: "Storage".to_owned(),
        kind: kind.to_owned(),
        key: key.to_owned(),
        value,
        median,
        unit: unit.to_owned(),
        siblings: 12,
    };
    facts.outliers = vec![
        outlier("fio", "sdc/read_bandwidth", 96e6, 214e6, "bytes_per_second"),
        outlier("temp", "disk/sdc", 58.0, 38.5, "celsius"),
    ];
    let before = |run, host: &str, days: i64, result, failed_stage: Option<&str>| PartBefore {
        kind: "disk".to_owned(),
        serial: "ZC1AB12C".to_owned(),
        place: "sda".to_owned(),
        host: host.to_owned(),
        run: RunId(run),
        started_ms: T0 - days * 24 * 3_600_000,
        result: Some(result),
        failed_stage: failed_stage.map(str::to_owned),
    };
    facts.parts_before = vec![
        before(31, "rack2-node03", 12, RunResult::Fail, Some("Storage")),
        before(9, "rack2-node01", 40, RunResult::Pass, None),
    ];
    facts
}

/// A machine that lacks a DIMM and bears another SSD; the run halted at SpecValidate.
pub fn not_as_ordered() -> RunFacts {
    let (mut inventory, _) = server();
    inventory.memory.dimms.pop();
    inventory.memory.installed_bytes = Some(11 * 34_359_738_368);
    inventory.memory.visible_bytes = 371_000_000_000;
    inventory.memory.dimms[3].speed_mts = Some(2_400);
    inventory.memory.dimms[3].configured_mts = Some(2_400);
    inventory.disks[2].model = Some("SAMSUNG MZ7LH480HAHQ-00005".to_owned());
    inventory.disks[2].firmware = Some("HXT7404Q".to_owned());
    let mut stages = stages();
    let reason = "the machine is not as ordered: memory.total_gib, memory.dimms.count and 2 more";
    stages[2].outcome = Some(Outcome::fail(reason));
    for stage in &mut stages[3..] {
        stage.outcome = Some(Outcome::skip("the pipeline halted at SpecValidate"));
        stage.started_ms = None;
        stage.ended_ms = None;
        stage.sub_steps.clear();
    }
    let mut facts = facts(stages, &[], inventory);
    if let Some(diff) = facts.diffs.iter_mut().flatten().find(|diff| diff.diff.field == "disks[0].firmware") {
        diff.ignored = true;
    }
    facts
}
