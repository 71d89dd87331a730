//! Sensors of a machine in a temporary folder.

use std::os::unix::fs::symlink;
use std::path::Path;

use super::*;

struct Machine {
    directory: tempfile::TempDir,
    state: SensorState,
}

impl Machine {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), state: SensorState::default() }
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
        sample(&Host::recorded(self.directory.path()), &mut self.state, 7)
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
