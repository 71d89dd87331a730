//! What the stages' tests share: a machine as a tree of files, tools that answer as told, and a reporter that keeps.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use vetting_protocol::inventory::{
    Bios, Board, Chassis, Cpu, Disk, DiskBus, DiskKind, Inventory, Memory, System,
};

use vetting_protocol::plan::SelfTest;

use super::*;
use crate::counterpart::Nobody;
use crate::tools::fixture;
use crate::tools::runner::{Exit, Finished, Invocation, Stream};

/// Keeps what is reported.
#[derive(Default)]
pub(super) struct Kept(Mutex<Vec<Record>>);

impl Reporter for Kept {
    fn record(&self, record: Record) {
        self.0.lock().unwrap().push(record);
    }
}

impl Kept {
    pub(super) fn records(&self) -> Vec<Record> {
        self.0.lock().unwrap().clone()
    }

    /// Values by `kind key`.
    pub(super) fn measurements(&self) -> BTreeMap<String, Option<f64>> {
        let measurement = |record| match record {
            Record::Measurement(measurement) => {
                Some((format!("{} {}", measurement.kind, measurement.key), measurement.value))
            }
            _ => None,
        };
        self.records().into_iter().filter_map(measurement).collect()
    }

    /// Outcomes of the sub-steps by name, having checked that each was begun and ended once.
    pub(super) fn sub_steps(&self) -> BTreeMap<String, Outcome> {
        let mut names = BTreeMap::new();
        let mut outcomes = BTreeMap::new();
        for record in self.records() {
            match record {
                Record::SubStepStarted { ordinal, name, .. } => {
                    assert!(names.insert(ordinal, name).is_none());
                }
                Record::SubStepFinished { ordinal, outcome, .. } => {
                    assert!(outcomes.insert(names[&ordinal].clone(), outcome).is_none());
                }
                _ => {}
            }
        }
        assert_eq!(names.len(), outcomes.len());
        outcomes
    }
}

type Answer = Result<Finished, ToolError>;

/// Tools that answer what the test says.
pub(super) struct Told<F: Fn(&Invocation) -> Answer + Send + Sync> {
    answer: F,
    pub(super) calls: Mutex<Vec<Invocation>>,
}

impl<F: Fn(&Invocation) -> Answer + Send + Sync> Told<F> {
    pub(super) fn new(answer: F) -> Self {
        Self { answer, calls: Mutex::new(Vec::new()) }
    }

    /// The calls of one tool, as text.
    pub(super) fn calls_of(&self, tool: &str) -> Vec<String> {
        let calls = self.calls.lock().unwrap();
        calls.iter().filter(|call| call.tool == tool).map(arguments).collect()
    }
}

impl<F: Fn(&Invocation) -> Answer + Send + Sync> ToolRunner for Told<F> {
    fn run(
        &self,
        invocation: &Invocation,
        cancel: &Cancel,
        on_line: &mut dyn FnMut(Stream, &str),
    ) -> Result<Finished, ToolError> {
        if cancel.is_raised() {
            return Err(ToolError::Cancelled { tool: invocation.tool.to_owned() });
        }
        self.calls.lock().unwrap().push(invocation.clone());
        let finished = (self.answer)(invocation)?;
        for line in String::from_utf8_lossy(&finished.stderr).split(['\n', '\x08']) {
            on_line(Stream::Stderr, line);
        }
        Ok(finished)
    }
}

pub(super) fn arguments(invocation: &Invocation) -> String {
    let words: Vec<_> = invocation.args.iter().map(|arg| arg.to_string_lossy()).collect();
    words.join(" ")
}

pub(super) fn missing(invocation: &Invocation) -> Answer {
    Err(ToolError::Missing { tool: invocation.tool.to_owned() })
}

#[expect(clippy::unnecessary_wraps, reason = "the signature of a test's tool")]
pub(super) fn hung(invocation: &Invocation) -> Answer {
    Ok(Finished {
        exit: Exit::TimedOut,
        stdout: Vec::new(),
        stderr: Vec::new(),
        truncated: false,
        elapsed: invocation.timeout,
    })
}

#[expect(clippy::unnecessary_wraps, reason = "the signature of a test's tool")]
pub(super) fn garbage(_invocation: &Invocation) -> Answer {
    Ok(Finished {
        exit: Exit::Code(0),
        stdout: b"\xff\x00 what?".to_vec(),
        stderr: b"\xfe".to_vec(),
        truncated: false,
        elapsed: Duration::ZERO,
    })
}

#[expect(clippy::unnecessary_wraps, reason = "the signature of a test's tool")]
pub(super) fn told(stdout: &str) -> Answer {
    Ok(Finished {
        exit: Exit::Code(0),
        stdout: stdout.as_bytes().to_vec(),
        stderr: Vec::new(),
        truncated: false,
        elapsed: Duration::from_secs(1),
    })
}

#[expect(clippy::unnecessary_wraps, reason = "the signature of a test's tool")]
pub(super) fn recorded(tool: &'static str, case: &str) -> Answer {
    Ok(fixture(tool, case))
}

/// A machine as files, and what Inventory would have found on it.
pub(super) struct Machine {
    folder: tempfile::TempDir,
    pub(super) inventory: Inventory,
    pub(super) consent: DiskConsent,
    pub(super) spec: Option<String>,
    pub(super) cancel: Cancel,
    pub(super) limit: Duration,
    pub(super) counterpart: Box<dyn Counterpart>,
    pub(super) reboots: Reboots,
    firmware: Option<FirmwareReport>,
}

pub(super) const MIB: u64 = 1024 * 1024;

impl Machine {
    pub(super) fn new() -> Self {
        Self::below(tempfile::tempdir().unwrap())
    }

    /// Where direct reads and writes work: not below /tmp, which may be a file system without them.
    pub(super) fn on_real_disk() -> Self {
        let test = std::env::current_exe().unwrap();
        Self::below(tempfile::tempdir_in(test.parent().unwrap()).unwrap())
    }

    fn below(folder: tempfile::TempDir) -> Self {
        let machine = Self {
            folder,
            inventory: bare_inventory(),
            consent: DiskConsent::EmptyDisksOnly,
            spec: None,
            cancel: Cancel::new(),
            limit: Duration::MAX,
            counterpart: Box::new(Nobody),
            reboots: Reboots::default(),
            firmware: None,
        };
        machine.file("proc/meminfo", "MemTotal:       1000 kB\nMemFree: 1 kB\nMemAvailable:    800 kB\n");
        machine.file("proc/interrupts", "    CPU0 CPU1\nMCE:  0  0  Machine check exceptions\n");
        machine.file("proc/self/mountinfo", "22 1 254:0 / / rw - ext4 /dev/vda rw\n");
        machine.file("sys/devices/system/cpu/online", "0-1\n");
        machine.file("proc/swaps", "Filename Type Size Used Priority\n");
        machine.file("dev/kmsg", "6,1,0,-;booted\n");
        machine
    }

    /// With Firmware having found nothing.
    pub(super) fn with_firmware(mut self) -> Self {
        self.firmware = Some(FirmwareReport { versions: Vec::new(), absent: Vec::new() });
        self
    }

    /// With a blank disk of 64 MiB.
    pub(super) fn with_disk(mut self, name: &str) -> Self {
        let number = self.inventory.disks.len();
        self.file(&format!("sys/block/{name}/size"), "131072\n");
        self.file(&format!("sys/block/{name}/dev"), &format!("8:{}\n", number * 16));
        std::fs::create_dir_all(self.path(&format!("sys/block/{name}/holders"))).unwrap();
        let disk = std::fs::File::create(self.path(&format!("dev/{name}"))).unwrap();
        disk.set_len(64 * MIB).unwrap();
        self.inventory.disks.push(disk_of_64_mib(name));
        self
    }

    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    pub(super) fn file(&self, path: &str, text: &str) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// The disk is pulled out.
    pub(super) fn pull(&self, disk: &str) {
        std::fs::remove_dir_all(self.path("sys/block").join(disk)).unwrap();
    }

    /// Runs a stage of the list as the pipeline would.
    pub(super) fn run(
        &self,
        work: &StageWork,
        tools: &dyn ToolRunner,
    ) -> (Result<StageReport, StageError>, Kept, Facts) {
        self.run_on(&Host::recorded(self.folder.path()), work, tools)
    }

    /// The same with the files of another machine.
    pub(super) fn run_on(
        &self,
        host: &Host,
        work: &StageWork,
        tools: &dyn ToolRunner,
    ) -> (Result<StageReport, StageError>, Kept, Facts) {
        let mut facts = Facts {
            inventory: Some(self.inventory.clone()),
            firmware: self.firmware.clone(),
            disks_first_seen: disks::first_seen(host, &self.inventory),
            ..Facts::default()
        };
        let (report, kept) = self.run_on_with(host, &mut facts, work, tools);
        (report, kept, facts)
    }

    /// Gives `work` what a stage works with.
    pub(super) fn with_context<T>(
        &self,
        tools: &dyn ToolRunner,
        work: impl FnOnce(&StageContext<'_>) -> T,
    ) -> T {
        let mut facts = Facts { inventory: Some(self.inventory.clone()), ..Facts::default() };
        work(&StageContext {
            stage: StageName::Smart,
            host: &Host::recorded(self.folder.path()),
            tools,
            reporter: &Kept::default(),
            cancel: self.cancel.clone(),
            begun: clock::monotonic(),
            limit: self.limit,
            consent: self.consent,
            expected_spec_yaml: None,
            counterpart: &Nobody,
            reboots: &self.reboots,
            facts: &mut facts,
        })
    }

    /// With the facts that stages before it left.
    pub(super) fn run_with(
        &self,
        facts: &mut Facts,
        work: &StageWork,
        tools: &dyn ToolRunner,
    ) -> (Result<StageReport, StageError>, Kept) {
        self.run_on_with(&Host::recorded(self.folder.path()), facts, work, tools)
    }

    /// Runs what the stage does in this boot.
    pub(super) fn run_in_this_boot(
        &self,
        work: &StageWork,
        tools: &dyn ToolRunner,
    ) -> (Result<BootEnd, StageError>, Kept) {
        let host = Host::recorded(self.folder.path());
        let mut facts = Facts { inventory: Some(self.inventory.clone()), ..Facts::default() };
        self.in_a_context(&host, &mut facts, work, tools, |stage, context| {
            stage.run_in_this_boot(context, work)
        })
    }

    fn run_on_with(
        &self,
        host: &Host,
        facts: &mut Facts,
        work: &StageWork,
        tools: &dyn ToolRunner,
    ) -> (Result<StageReport, StageError>, Kept) {
        self.in_a_context(host, facts, work, tools, |stage, context| stage.run(context, work))
    }

    fn in_a_context<T>(
        &self,
        host: &Host,
        facts: &mut Facts,
        work: &StageWork,
        tools: &dyn ToolRunner,
        act: impl FnOnce(&dyn Stage, &mut StageContext<'_>) -> T,
    ) -> (T, Kept) {
        let kept = Kept::default();
        let stage = ALL.iter().find(|stage| stage.description().name == work.name()).unwrap();
        let mut context = StageContext {
            stage: work.name(),
            host,
            tools,
            reporter: &kept,
            cancel: self.cancel.clone(),
            begun: clock::monotonic(),
            limit: self.limit,
            consent: self.consent,
            expected_spec_yaml: self.spec.as_deref(),
            counterpart: &*self.counterpart,
            reboots: &self.reboots,
            facts,
        };
        let end = act(*stage, &mut context);
        (end, kept)
    }
}

/// The kernel logs a line.
pub(super) fn log_to(path: &Path, message: &str) {
    use std::io::Write as _;
    let mut file = std::fs::OpenOptions::new().append(true).open(path).unwrap();
    writeln!(file, "3,9,9,-;{message}").unwrap();
}

pub(super) fn disk_of_64_mib(name: &str) -> Disk {
    Disk {
        name: name.to_owned(),
        kind: Some(DiskKind::Hdd),
        bus: Some(DiskBus::Ata),
        model: Some("EXAMPLE HD".to_owned()),
        vendor: None,
        serial: Some("TEST1".to_owned()),
        wwn: None,
        firmware: None,
        size_bytes: 64 * MIB,
        logical_sector_bytes: 512,
        physical_sector_bytes: 512,
        rotational: Some(true),
        removable: false,
        by_path: None,
        boot_medium: false,
    }
}

fn bare_inventory() -> Inventory {
    Inventory {
        system: System {
            manufacturer: None,
            product: None,
            version: None,
            serial: None,
            uuid: None,
            sku: None,
            family: None,
        },
        board: Board { manufacturer: None, product: None, version: None, serial: None },
        bios: Bios {
            vendor: None,
            version: None,
            release_date: None,
            uefi: false,
            secure_boot: None,
            iommu: None,
        },
        chassis: Chassis { manufacturer: None, chassis_type: None, serial: None, asset_tag: None },
        cpu: Cpu {
            model: None,
            vendor: None,
            sockets: 1,
            physical_cores: 2,
            logical_cores: 2,
            threads_per_core: 1,
            numa_nodes: 1,
            microcode: None,
            max_mhz: None,
            flags: Vec::new(),
            packages: Vec::new(),
        },
        memory: Memory {
            visible_bytes: 1_024_000,
            installed_bytes: None,
            ecc: None,
            slots: None,
            dimms: vec![],
        },
        disks: Vec::new(),
        nics: Vec::new(),
        pci: Vec::new(),
        gpus: Vec::new(),
        psus: Vec::new(),
        bmc: None,
        absent: Vec::new(),
    }
}

pub(super) fn outcome(report: Result<StageReport, StageError>) -> Outcome {
    report.unwrap().outcome
}

#[test]
fn the_list_has_every_stage_once_in_its_order() {
    let names: Vec<StageName> = ALL.iter().map(|stage| stage.description().name).collect();
    assert_eq!(names, StageName::ALL);
}

#[test]
fn a_stage_refuses_the_parameters_of_another() {
    let machine = Machine::new();
    let host = Host::recorded(machine.folder.path());
    let kept = Kept::default();
    let tools = Told::new(missing);
    for stage in ALL {
        let name = stage.description().name;
        let other = if name == StageName::Smart {
            StageWork::Firmware {}
        } else {
            StageWork::Smart { self_test: SelfTest::None }
        };
        let mut facts = Facts::default();
        let reboots = Reboots::default();
        let mut context = StageContext {
            stage: name,
            host: &host,
            tools: &tools,
            reporter: &kept,
            cancel: Cancel::new(),
            begun: clock::monotonic(),
            limit: Duration::MAX,
            consent: DiskConsent::NonDestructive,
            expected_spec_yaml: None,
            counterpart: &Nobody,
            reboots: &reboots,
            facts: &mut facts,
        };
        let answer = stage.run(&mut context, &other);
        assert!(matches!(answer, Err(StageError::WrongWork { stage }) if stage == name), "{name}");
    }
}

#[test]
fn inventory_and_firmware_leave_their_facts() {
    let machine = Machine::new().with_disk("sda");
    let tools = Told::new(missing);
    let (report, kept, facts) = machine.run(&StageWork::Inventory {}, &tools);
    assert_eq!(outcome(report), Outcome::Pass);
    assert!(facts.inventory.is_some());
    assert!(matches!(kept.records()[..], [Record::Inventory(_)]));

    let (report, kept, facts) = machine.run(&StageWork::Firmware {}, &tools);
    assert_eq!(outcome(report), Outcome::Pass);
    assert!(facts.firmware.is_some());
    assert!(matches!(kept.records()[..], [Record::Firmware(_)]));
}
