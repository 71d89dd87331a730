//! A rack of machines, each with a story of its own: what they are made of, measure and tell.

use vetting_protocol::agent_api::EventLevel;
use vetting_protocol::inventory::Inventory;

use super::*;

pub(super) const SPEC_OF_RACK: &str = "\
# what was ordered: 24 of these
memory:
  total_gib: 256
cpu:
  sockets: 2
  model: Intel(R) Xeon(R) Gold 6338*
disks:
  - {model: INTEL*, count: 4, size_gb: {min: 900}}
";

/// A sensor: kind, key, unit, at rest, under load.
const SENSORS: [(&str, &str, &str, f64, f64); 13] = [
    ("temp", "cpu/0", "celsius", 38.0, 78.0),
    ("temp", "cpu/1", "celsius", 36.0, 74.0),
    ("temp", "disk/sda", "celsius", 30.0, 37.0),
    ("temp", "disk/sdb", "celsius", 31.0, 39.0),
    ("temp", "hwmon/jc42-0", "celsius", 34.0, 52.0),
    ("temp", "hwmon/jc42-1", "celsius", 33.0, 50.0),
    ("fan", "hwmon/nct6798/fan1", "rpm", 3_100.0, 7_400.0),
    ("fan", "hwmon/nct6798/fan2", "rpm", 3_080.0, 7_310.0),
    ("fan", "hwmon/nct6798/fan3", "rpm", 3_120.0, 7_390.0),
    ("power", "hwmon/power_meter/0", "watts", 140.0, 412.0),
    ("cpu_freq", "cpu/0", "mhz", 800.0, 2_900.0),
    ("cpu_freq", "cpu/1", "mhz", 800.0, 2_890.0),
    ("fio", "sda/randread/bandwidth", "bytes_per_second", 380e6, 410e6),
];

/// How a machine's run goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Story {
    Never,
    Waits,
    Runs,
    Passes,
    Fails,
    FailsAndIsReleased,
}

pub(super) const STORIES: [Story; 12] = [
    Story::Passes,
    Story::Runs,
    Story::Passes,
    Story::Fails,
    Story::Runs,
    Story::Waits,
    Story::Passes,
    Story::FailsAndIsReleased,
    Story::Never,
    Story::Runs,
    Story::Passes,
    Story::Never,
];

/// The beginning of what smartctl writes of a disk.
const SMART_OF_SDB: &str = r#"{
  "json_format_version": [1, 0],
  "smartctl": {"version": [7, 3], "platform_info": "x86_64-linux-6.12", "exit_status": 64},
  "device": {"name": "/dev/sdb", "info_name": "/dev/sdb [SAT]", "type": "sat", "protocol": "ATA"},
  "ata_smart_error_log": {"extended": {"revision": 1, "sectors": 1, "count": 12}},
  "smart_status": {"passed": true}
}"#;

pub(super) fn mac_of(number: usize) -> String {
    format!("52:54:00:ab:00:{number:02x}")
}

/// What the sensors read from one time to another, every five seconds.
fn samples(stage: StageName, from_ms: i64, seconds: i64, load: f64) -> Vec<Record> {
    let mut records = Vec::new();
    for step in 0..seconds / 5 {
        let warm = load * (1.0 - (-(step as f64) / 18.0).exp());
        let ripple = ((step * 7 % 11) as f64 - 5.0) / 400.0;
        for (kind, key, unit, rest, full) in SENSORS {
            records.push(Record::Measurement(Measurement {
                ts_ms: from_ms + step * 5_000,
                stage: Some(stage),
                kind: kind.to_owned(),
                key: key.to_owned(),
                value: Some((rest + (full - rest) * warm) * (1.0 + ripple)),
                unit: unit.to_owned(),
            }));
        }
    }
    records
}

/// What a machine of the rack is made of; no serial number is another's, but for one disk that came from the first machine.
fn made_of(number: usize) -> Record {
    let text = include_str!("../../../../judge/fixtures/dell-r640.inventory.json");
    let mut inventory: Inventory = serde_json::from_str(text).unwrap();
    let own = |serial: &mut Option<String>| {
        if let Some(serial) = serial {
            *serial = format!("{serial}{number:02}");
        }
    };
    own(&mut inventory.system.serial);
    own(&mut inventory.board.serial);
    inventory.memory.dimms.iter_mut().for_each(|dimm| own(&mut dimm.serial));
    inventory.disks.iter_mut().skip(1).for_each(|disk| own(&mut disk.serial));
    inventory.nics.clear();
    Record::Inventory(Box::new(inventory))
}

impl Lab {
    async fn claim_as(&self, run: RunId, mac: &str) -> Claimed {
        let script = self.script(mac).await;
        let (_, rest) = script.split_once("vetting.claim=").unwrap_or_else(|| panic!("{script}"));
        let secret = Secret::new(rest.split(' ').next().unwrap().to_owned());
        let mut request = Self::claim_request(run, &secret, BOOT);
        request.macs = vec![mac.parse().unwrap()];
        let answer = self.claiming(&request).send().await.unwrap();
        let response: ClaimResponse = answer.json().await.unwrap();
        Claimed { run, token: response.token.clone(), response, secret }
    }

    /// A machine of the rack, as far as its story goes.
    pub(super) async fn lives(&self, number: usize, story: Story) -> Option<Claimed> {
        let (name, mac) = (format!("rack1-u{:02}", number + 1), mac_of(number));
        let body = json!({"name": name, "mac": mac, "expected_spec_yaml": SPEC_OF_RACK, "notes": "row B, delivery of May"});
        let _: Value = good(self.operator(Method::POST, "hosts").json(&body)).await;
        if story == Story::Never {
            return None;
        }
        let run = self.start_run(&name).await;
        if story == Story::Waits {
            return None;
        }
        let claimed = self.claim_as(run, &mac).await;
        match story {
            Story::Never | Story::Waits => {}
            Story::Passes => {
                let mut records = healthy(&claimed);
                records.insert(1, made_of(number));
                self.send(&claimed, 1, records).await;
                self.verdict(&claimed).await;
            }
            Story::Fails | Story::FailsAndIsReleased => {
                self.store_smart_output(&claimed).await;
                self.send(&claimed, 1, until_storage_fails(&claimed, number)).await;
                self.verdict(&claimed).await;
                if story == Story::FailsAndIsReleased {
                    let released = self.operator(Method::POST, &format!("runs/{run}/release")).send().await;
                    assert_eq!(released.unwrap().status(), 200);
                }
            }
            Story::Runs => self.work_half_way(&claimed, number).await,
        }
        Some(claimed)
    }

    /// What smartctl wrote, as the agent keeps it.
    async fn store_smart_output(&self, claimed: &Claimed) {
        let call = |args: [&str; 3], exit: &str, stdout: &str| {
            json!({"ts_ms": START_MS + 90_000, "tool": "smartctl", "args": args, "exit": exit, "elapsed_ms": 412, "stdout": stdout, "stderr": ""})
                .to_string()
                + "\n"
        };
        let body = call(["-x", "-j", "/dev/sda"], "code 0", SMART_OF_SDB)
            + &call(["-x", "-j", "/dev/sdb"], "code 64", SMART_OF_SDB);
        let upload = self
            .agent(claimed, Method::PUT, "artifacts/tool_output/SMART.jsonl")
            .header("X-Content-SHA256", Sha256Hex::of(body.as_bytes()).to_string());
        let _: Value = good(upload.body(body)).await;
    }

    async fn work_half_way(&self, claimed: &Claimed, number: usize) {
        let mut at_ms = START_MS;
        let mut sequence = 0;
        for planned in &claimed.response.plan.stages {
            let stage = planned.work.name();
            let is_last = stage == StageName::CpuStress;
            let seconds = if is_last { 600 } else { 30 };
            let mut records = vec![Record::StageStarted { stage, ts_ms: at_ms }];
            if stage == StageName::Inventory {
                records.push(made_of(number));
            }
            records.extend(samples(stage, at_ms, seconds, if is_last { 1.0 } else { 0.1 }));
            at_ms += seconds * 1_000;
            if stage == StageName::SpecValidate {
                records.push(Record::SpecDiffs { diffs: Vec::new() });
            }
            if is_last {
                let percent = 31.0 + 17.0 * number as f64 % 60.0;
                records.push(Record::Progress {
                    stage,
                    sub_step: None,
                    percent,
                    eta_ms: Some(252_000),
                    ts_ms: at_ms,
                });
            } else {
                let details = Value::Null;
                records.push(Record::StageFinished { stage, outcome: Outcome::Pass, details, ts_ms: at_ms });
            }
            sequence += 1;
            self.send(claimed, sequence, records).await;
            if is_last {
                return;
            }
        }
    }
}

/// A run whose disk has sectors that cannot be read, and a CPU that was too hot for a while.
fn until_storage_fails(claimed: &Claimed, number: usize) -> Vec<Record> {
    let mut records = Vec::new();
    let mut at_ms = START_MS;
    for planned in &claimed.response.plan.stages {
        let stage = planned.work.name();
        let seconds = if stage == StageName::CpuStress { 300 } else { 60 };
        records.push(Record::StageStarted { stage, ts_ms: at_ms });
        records.extend(samples(stage, at_ms, seconds, if stage == StageName::CpuStress { 0.9 } else { 0.2 }));
        at_ms += seconds * 1_000;
        if stage == StageName::Inventory {
            records.push(made_of(number));
        }
        if stage == StageName::SpecValidate {
            records.push(Record::SpecDiffs { diffs: Vec::new() });
        }
        let is_bad = stage == StageName::Storage;
        if is_bad {
            records.extend(reading_of_disks(stage, at_ms - 60_000));
        }
        let outcome = if is_bad {
            Outcome::Fail { reason: "sdb: 3 sectors cannot be read (LBA 1953525100 and two more)".to_owned() }
        } else {
            Outcome::Pass
        };
        records.push(Record::StageFinished { stage, outcome, details: Value::Null, ts_ms: at_ms });
        if is_bad {
            break;
        }
    }
    records.push(Record::PipelineFinished { ts_ms: at_ms });
    records
}

/// Two disks are read; the second has sectors that cannot be, and the kernel says so.
fn reading_of_disks(stage: StageName, from_ms: i64) -> Vec<Record> {
    let begins = |ordinal: u32, name: &str| Record::SubStepStarted {
        stage,
        ordinal,
        name: name.to_owned(),
        ts_ms: from_ms,
    };
    let ends = |ordinal, outcome, ts_ms| Record::SubStepFinished {
        stage,
        ordinal,
        outcome,
        details: Value::Null,
        ts_ms,
    };
    let said = |message: &str, ts_ms| Record::Event {
        level: EventLevel::Warning,
        kind: "kernel_log".to_owned(),
        message: message.to_owned(),
        ts_ms,
    };
    vec![
        begins(0, "sda read"),
        begins(1, "sdb read"),
        said("ata2.00: exception Emask 0x0 SAct 0x0 SErr 0x0 action 0x0", from_ms + 21_000),
        said(
            "I/O error, dev sdb, sector 1953525100 op 0x0:(READ) flags 0x0 phys_seg 1 prio class 2",
            from_ms + 21_400,
        ),
        ends(0, Outcome::Pass, from_ms + 48_000),
        ends(
            1,
            Outcome::Fail { reason: "3 sectors cannot be read (LBA 1953525100 and two more)".to_owned() },
            from_ms + 55_000,
        ),
    ]
}
