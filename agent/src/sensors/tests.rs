//! Sensors of a machine in a temporary folder.

use std::os::unix::fs::symlink;
use std::path::Path;

use super::*;

struct Machine {
    directory: tempfile::TempDir,
    state: SensorState,
    uptime_ms: u64,
}

impl Machine {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), state: SensorState::default(), uptime_ms: 0 }
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.directory.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn remove(&self, path: &str) {
        std::fs::remove_file(self.directory.path().join(path)).unwrap();
    }

    /// A chip with files, on a device.
    fn chip(&self, number: u32, name: &str, device: &str, files: &[(&str, &str)]) {
        let base = format!("sys/class/hwmon/hwmon{number}");
        self.write(&format!("{base}/name"), name);
        for (file, text) in files {
            self.write(&format!("{base}/{file}"), text);
        }
        let target = self.directory.path().join(device);
        std::fs::create_dir_all(target).unwrap();
        symlink(Path::new("../../../..").join(device), self.directory.path().join(format!("{base}/device")))
            .unwrap();
    }

    fn sample(&mut self) -> Sample {
        self.uptime_ms += 5_000;
        let moment = Moment { ts_ms: 7, uptime_ms: self.uptime_ms };
        sample(&Host::recorded(self.directory.path()), &mut self.state, moment)
    }

    fn values(&mut self) -> Vec<(String, Option<f64>)> {
        let sample = self.sample();
        assert!(sample.lost.is_empty(), "{:?}", sample.lost);
        sample.measurements.into_iter().map(|m| (format!("{} {}", m.kind, m.key), m.value)).collect()
    }
}

#[test]
fn an_intel_server_with_two_packages_and_its_board() {
    let mut machine = Machine::new();
    for package in 0..2_u32 {
        machine.chip(
            package,
            "coretemp",
            &format!("sys/devices/platform/coretemp.{package}"),
            &[
                ("temp1_input", "45000"),
                ("temp1_label", &format!("Package id {package}")),
                ("temp2_input", "44000"),
                ("temp2_label", "Core 0"),
            ],
        );
    }
    machine.chip(
        2,
        "nct6779",
        "sys/devices/platform/nct6775.656",
        &[
            ("in0_input", "1064"),
            ("fan1_input", "5400"),
            ("fan1_label", "CPU Fan"),
            ("temp1_input", "-5000"),
            ("temp2_input", "127000"),
            ("temp2_fault", "1"),
            ("intrusion0_alarm", "0"),
        ],
    );
    machine.chip(3, "power_meter", "sys/devices/acpi", &[("power1_average", "213000000")]);
    assert_eq!(
        machine.values(),
        [
            ("temp cpu/0".to_owned(), Some(45.0)),
            ("temp cpu/1".to_owned(), Some(45.0)),
            ("fan hwmon/nct6779/CPU_Fan".to_owned(), Some(5400.0)),
            ("volt hwmon/nct6779/in0".to_owned(), Some(1.064)),
            ("temp hwmon/nct6779/temp1".to_owned(), Some(-5.0)),
            ("power hwmon/power_meter/power1".to_owned(), Some(213.0)),
        ]
    );
}

#[test]
fn disks_are_named_by_their_kernel_name() {
    let mut machine = Machine::new();
    machine.chip(0, "drivetemp", "sys/devices/0:0:0:0", &[("temp1_input", "31000")]);
    machine.write("sys/devices/0:0:0:0/block/sda/size", "1");
    machine.chip(
        1,
        "nvme",
        "sys/devices/nvme1",
        &[
            ("temp1_input", "41850"),
            ("temp1_label", "Composite"),
            ("temp3_input", "50850"),
            ("temp3_label", "Sensor 2"),
        ],
    );
    machine.write("sys/devices/nvme1/nvme0c1n1/hidden", "1");
    machine.chip(
        2,
        "k10temp",
        "sys/devices/0000:00:18.3",
        &[("temp1_input", "60125"), ("temp1_label", "Tctl")],
    );
    machine.chip(3, "jc42", "sys/devices/0-0018", &[("temp1_input", "35000")]);
    machine.chip(4, "jc42", "sys/devices/0-0019", &[("temp1_input", "36000")]);
    assert_eq!(
        machine.values(),
        [
            ("temp disk/sda".to_owned(), Some(31.0)),
            ("temp disk/nvme0n1".to_owned(), Some(41.85)),
            ("temp hwmon/nvme/Sensor_2".to_owned(), Some(50.85)),
            ("temp cpu/0".to_owned(), Some(60.125)),
            ("temp hwmon/jc42-0-0018/temp1".to_owned(), Some(35.0)),
            ("temp hwmon/jc42-0-0019/temp1".to_owned(), Some(36.0)),
        ]
    );
}

#[test]
fn a_sensor_that_stops_answering_is_told_once_and_has_no_value() {
    let mut machine = Machine::new();
    machine.chip(0, "lm75", "sys/devices/1-0048", &[("temp1_input", "25000"), ("temp2_input", "garbage")]);
    assert_eq!(machine.values(), [("temp hwmon/lm75/temp1".to_owned(), Some(25.0))]);
    machine.write("sys/class/hwmon/hwmon0/temp1_input", "none");
    let lost = machine.sample();
    assert_eq!(
        lost.lost,
        ["temp hwmon/lm75/temp1: /sys/class/hwmon/hwmon0/temp1_input: `none` is not a number in range"]
    );
    assert_eq!(lost.measurements.iter().map(|m| m.value).collect::<Vec<_>>(), [None]);
    assert_eq!(machine.values(), [("temp hwmon/lm75/temp1".to_owned(), None)]);
    machine.write("sys/class/hwmon/hwmon0/temp1_input", "26000");
    assert_eq!(machine.values(), [("temp hwmon/lm75/temp1".to_owned(), Some(26.0))]);
    machine.remove("sys/class/hwmon/hwmon0/temp1_input");
    assert_eq!(machine.sample().lost.len(), 1);
    assert_eq!(machine.values(), [("temp hwmon/lm75/temp1".to_owned(), None)]);
    assert_eq!(machine.values(), []);
}

#[test]
fn a_chip_that_vanishes_takes_its_sensors_with_it() {
    let mut machine = Machine::new();
    machine.chip(0, "lm75", "sys/devices/1-0048", &[("temp1_input", "25000")]);
    machine.values();
    std::fs::remove_dir_all(machine.directory.path().join("sys/class/hwmon/hwmon0")).unwrap();
    let lost = machine.sample();
    assert_eq!(lost.lost.len(), 1);
    assert_eq!(lost.measurements[0].value, None);
    assert_eq!(machine.values(), []);
}

#[test]
fn load_needs_two_looks() {
    let mut machine = Machine::new();
    machine.write("proc/loadavg", "1.25 1.00 0.50 2/200 99\n");
    machine.write("proc/stat", "cpu  100 0 0 900 0 0 0 0 0 0\n");
    machine.write("sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq", "2400000\n");
    let first = [("cpu_freq cpu/0".to_owned(), Some(2400.0)), ("load_avg 1m".to_owned(), Some(1.25))];
    assert_eq!(machine.values(), first);
    machine.write("proc/stat", "cpu  175 0 0 925 0 0 0 0 0 0\n");
    assert!(machine.values().contains(&("cpu_load cpu/all".to_owned(), Some(75.0))));
    machine.write("proc/stat", "cpu  1 0 0 2 0 0 0 0 0 0\n");
    assert_eq!(machine.values(), first, "a counter that runs backwards is no load");
}

/// The recorded two-socket server, copied so that its counters can move.
fn two_socket_server() -> Machine {
    fn copy(from: &Path, to: &Path) {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let (entry, target) = (entry.as_ref().unwrap(), to.join(entry.as_ref().unwrap().file_name()));
            let kind = entry.file_type().unwrap();
            if kind.is_symlink() {
                symlink(std::fs::read_link(entry.path()).unwrap(), target).unwrap();
            } else if kind.is_dir() {
                copy(&entry.path(), &target);
            } else {
                std::fs::copy(entry.path(), &target).unwrap();
            }
        }
    }
    let machine = Machine::new();
    let recorded =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/hosts/handbuilt-2-socket-server/root");
    copy(&recorded, machine.directory.path());
    machine
}

/// A function of PCI, by its address.
fn function(address: &str, file: &str) -> String {
    format!("sys/bus/pci/devices/{address}/{file}")
}

#[test]
fn a_server_with_all_kinds_of_sensors() {
    let mut machine = two_socket_server();
    let sample = machine.sample();
    let limits: Vec<String> = sample
        .limits
        .iter()
        .map(|limit| {
            let (bound, grade) = (limit.bound, limit.grade);
            format!("{} {}: {bound} {grade} {} {}", limit.kind, limit.key, limit.value, limit.unit)
        })
        .collect();
    let measurements: Vec<String> = sample
        .measurements
        .iter()
        .map(|sample| format!("{} {}: {:?} {}", sample.kind, sample.key, sample.value, sample.unit))
        .collect();
    insta::assert_snapshot!(
        "two-socket-server",
        format!("{}\n\n{}", measurements.join("\n"), limits.join("\n"))
    );
}

#[test]
fn counters_tell_what_is_new_and_where() {
    let mut machine = two_socket_server();
    machine.sample();
    machine
        .write("sys/class/powercap/intel-rapl:0/energy_uj", &(52_134_567_890_u64 + 600_000_000).to_string());
    machine.write(&function("0000:3b:00.0", "aer_dev_correctable"), "RxErr 2\nTOTAL_ERR_COR 2\n");
    machine.write(&function("0000:3a:00.0", "aer_dev_fatal"), "TOTAL_ERR_FATAL 1\n");
    machine.write("sys/class/net/eth0/statistics/rx_crc_errors", "4");
    machine.write("sys/class/net/eth0/carrier_changes", "4");
    machine.write("sys/devices/system/edac/mc/mc1/ce_count", "7");
    machine.write("sys/devices/system/edac/mc/mc1/dimm0/dimm_ce_count", "7");
    // a thread of the first package counts for its core, both threads the same
    machine.write("sys/devices/system/cpu/cpu1/thermal_throttle/core_throttle_count", "5");
    machine.write("sys/devices/system/cpu/cpu5/thermal_throttle/core_throttle_count", "5");
    machine.write("sys/devices/system/cpu/cpu2/thermal_throttle/package_throttle_count", "6");
    let counted: Vec<(String, Option<f64>)> = machine
        .values()
        .into_iter()
        .filter(|(what, _)| {
            ["power rapl", "aer", "nic", "edac", "throttle"].iter().any(|kind| what.starts_with(kind))
        })
        .collect();
    let told = |what: &str, value: f64| (what.to_owned(), Some(value));
    assert_eq!(
        counted,
        [
            // 600 J in 5 s
            told("power rapl/package-0", 120.0),
            told("power rapl/package-0/dram", 0.0),
            told("power rapl/package-1", 0.0),
            told("power rapl/package-1/dram", 0.0),
            told("edac mc1/CPU_SrcID#1_MC#0_Chan#0_DIMM#0/ce", 7.0),
            told("aer 0000:3a:00.0/fatal", 1.0),
            told("aer 0000:3b:00.0/correctable", 2.0),
            told("nic eth0/carrier_changes", 2.0),
            told("nic eth0/rx_crc_errors", 4.0),
            told("throttle cpu/0/core", 2.0),
            told("throttle cpu/1/package", 1.0),
        ]
    );
}

#[test]
fn a_link_is_judged_by_its_best() {
    let mut machine = two_socket_server();
    let both = |machine: &Machine, file: &str, text: &str| {
        machine.write(&function("0000:18:00.0", file), text);
        machine.write(&function("0000:17:00.0", file), text);
    };
    both(&machine, "max_link_width", "8");
    both(&machine, "max_link_speed", "8.0 GT/s PCIe");
    // idle
    both(&machine, "current_link_width", "4");
    both(&machine, "current_link_speed", "2.5 GT/s PCIe");
    machine.sample();
    both(&machine, "current_link_speed", "8.0 GT/s PCIe");
    let changed = machine.values();
    assert!(changed.contains(&("pcie 0000:18:00.0/speed".to_owned(), Some(8.0))), "{changed:?}");
    both(&machine, "current_link_speed", "2.5 GT/s PCIe");
    machine.sample();
    let told: Vec<(String, Option<f64>)> = finish(&machine.state, Moment { ts_ms: 9, uptime_ms: 9 })
        .measurements
        .into_iter()
        .filter(|sample| sample.key.starts_with("0000:18:00.0"))
        .map(|sample| (sample.key, sample.value))
        .collect();
    let width = ("0000:18:00.0/best_width".to_owned(), Some(50.0));
    assert_eq!(told, [width, ("0000:18:00.0/best_speed".to_owned(), Some(100.0))]);
}

#[test]
fn a_gpu_is_named_by_its_address_and_energy_is_told_as_power() {
    let mut machine = Machine::new();
    machine.chip(
        0,
        "amdgpu",
        "sys/devices/pci0000:00/0000:03:00.0",
        &[
            ("temp1_input", "51000"),
            ("temp1_label", "edge"),
            ("temp1_crit", "100000"),
            ("power1_average", "31000000"),
        ],
    );
    machine.chip(1, "xe", "sys/devices/pci0000:00/0000:04:00.0", &[("energy1_input", "1000000")]);
    let first = machine.sample();
    assert_eq!((first.limits.len(), &*first.limits[0].key), (1, "gpu/0000:03:00.0/edge"));
    machine.write("sys/class/hwmon/hwmon1/energy1_input", "101000000");
    assert_eq!(
        machine.values(),
        [
            ("power gpu/0000:03:00.0/power1".to_owned(), Some(31.0)),
            ("temp gpu/0000:03:00.0/edge".to_owned(), Some(51.0)),
            ("power gpu/0000:04:00.0/energy1".to_owned(), Some(20.0)),
        ]
    );
}

#[test]
fn limits_are_read_once_with_what_the_chip_says_of_them() {
    let mut machine = Machine::new();
    machine.chip(
        0,
        "nvme",
        "sys/devices/nvme0",
        &[
            ("temp1_input", "90000"),
            ("temp1_max", "81850"),
            ("temp1_crit", "84850"),
            ("temp1_crit_alarm", "1"),
            ("temp1_min", "-273150"),
        ],
    );
    let told: Vec<(f64, Option<f64>, Option<bool>)> =
        machine.sample().limits.iter().map(|limit| (limit.value, limit.observed, limit.asserted)).collect();
    let now = Some(90.0);
    assert_eq!(told, [(84.85, now, Some(true)), (81.85, now, None), (-273.15, now, None)]);
    assert!(machine.sample().limits.is_empty());
}

/// NVMe disks and Super I/O chips, as they come.
#[test]
fn a_temperature_that_cannot_be_is_no_reading_and_the_most_of_a_fan_no_limit() {
    let mut machine = Machine::new();
    machine.chip(0, "nvme", "sys/devices/nvme0", &[("temp1_input", "-273150")]);
    machine.chip(
        1,
        "nct6798",
        "sys/devices/platform/nct6775.656",
        &[("temp3_input", "-128000"), ("temp4_input", "-62000")],
    );
    machine.chip(
        2,
        "amdgpu",
        "sys/devices/pci0000:00/0000:03:00.0",
        &[("fan1_input", "3300"), ("fan1_min", "500"), ("fan1_max", "3300")],
    );
    machine.chip(
        3,
        "coretemp",
        "sys/devices/platform/coretemp.0",
        &[("temp1_input", "55000"), ("temp1_label", "Physical id 0")],
    );
    let sample = machine.sample();
    let told: Vec<(&str, Option<f64>)> =
        sample.measurements.iter().map(|sample| (&*sample.key, sample.value)).collect();
    assert_eq!(
        told,
        [
            ("hwmon/nct6798/temp4", Some(-62.0)),
            ("gpu/0000:03:00.0/fan1", Some(3300.0)),
            ("cpu/0", Some(55.0)),
        ]
    );
    assert_eq!(sample.limits.iter().map(|limit| limit.value).collect::<Vec<_>>(), [500.0]);
    machine.write("sys/class/hwmon/hwmon3/temp1_input", "-273150");
    let lost = machine.sample();
    assert_eq!(lost.lost.len(), 1, "it answered before: {:?}", lost.lost);
}
