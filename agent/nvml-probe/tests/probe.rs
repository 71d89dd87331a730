//! The program itself, over a stand-in for NVIDIA's library that is compiled here (`standin.c`).

#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]
#![expect(clippy::disallowed_methods, reason = "starts the program under test and the C compiler")]

use std::path::{Path, PathBuf};
use std::process::Command;

use vetting_nvml_probe::{Cause, DeviceState, Document, FORMAT, Nvml, Reading, Readings, RemappedRows};

/// A folder with the stand-in under the library's name.
fn library() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/standin.c");
    let made = folder.path().join("libnvidia-ml.so.1");
    let compiler = ["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"];
    assert!(Command::new("cc").args(compiler).arg(made).arg(source).status().unwrap().success());
    folder
}

/// What the program prints on the machine that the stand-in plays.
fn probe(libraries: &Path, machine: &str) -> Nvml {
    let answer = Command::new(env!("CARGO_BIN_EXE_nvml-probe"))
        .env("LD_LIBRARY_PATH", libraries)
        .env("NVML_STANDIN", machine)
        .output()
        .unwrap();
    assert!(answer.status.success(), "{answer:?}");
    if let Some(folder) = std::env::var_os("NVML_PROBE_KEEP") {
        std::fs::write(PathBuf::from(folder).join(machine), &answer.stdout).unwrap();
    }
    let document: Document = serde_json::from_slice(&answer.stdout).unwrap();
    assert_eq!(document.format, FORMAT);
    document.nvml
}

fn devices(nvml: Nvml) -> Vec<DeviceState> {
    let Nvml::Answered { driver_version, devices, .. } = nvml else { panic!("{nvml:?}") };
    assert_eq!(driver_version, Reading::Value("550.54.15".to_owned()));
    assert!(devices.iter().map(|device| device.index).eq(0..u32::try_from(devices.len()).unwrap()));
    devices.into_iter().map(|device| device.state).collect()
}

fn opened(state: &DeviceState) -> &Readings {
    let DeviceState::Opened(readings) = state else { panic!("{state:?}") };
    readings
}

#[test]
fn everything_that_a_gpu_has_is_told_and_what_it_has_not_is_named() {
    let libraries = library();
    let devices = devices(probe(libraries.path(), "good"));
    let (data_centre, desk) = (opened(&devices[0]), opened(&devices[1]));
    assert_eq!(data_centre.pci_address, Reading::Value("0000:3b:00.0".to_owned()));
    assert_eq!(data_centre.serial, Reading::Value("1320000000001".to_owned()));
    assert!(data_centre.ecc_mode.value().unwrap().current);
    assert_eq!(data_centre.ecc.volatile_uncorrected, Reading::Value(0));
    assert_eq!(data_centre.retired_pages.double_bit, Reading::Value(0));
    let none = RemappedRows { correctable: 0, uncorrectable: 0, pending: false, failure: false };
    assert_eq!(data_centre.remapped_rows, Reading::Value(none));
    assert_eq!(data_centre.slowdown_celsius, Reading::Value(92));
    assert_eq!(data_centre.shutdown_celsius, Reading::Value(95));
    assert_eq!(data_centre.power_milliwatts, Reading::Value(52_100));
    assert_eq!((&data_centre.sm_mhz, &data_centre.memory_mhz), (&Reading::Value(765), &Reading::Value(1215)));
    assert_eq!(data_centre.memory_total_bytes, Reading::Value(42_949_672_960));
    assert_eq!(desk.name, Reading::Value("NVIDIA GeForce RTX 3060".to_owned()));
    assert_eq!((&desk.serial, &desk.ecc_mode), (&Reading::NotSupported, &Reading::NotSupported));
    assert_eq!(desk.remapped_rows, Reading::NotSupported);
    assert_eq!(desk.retired_pages.pending, Reading::NotSupported);
}

#[test]
fn errors_are_told_and_a_gpu_that_cannot_be_opened_is_not_left_out() {
    let libraries = library();
    let devices = devices(probe(libraries.path(), "faulty"));
    let faulty = opened(&devices[0]);
    assert_eq!(faulty.ecc.volatile_corrected, Reading::Value(40));
    assert_eq!(faulty.ecc.volatile_uncorrected, Reading::Value(2));
    assert_eq!(faulty.ecc.aggregate_uncorrected, Reading::Value(3));
    let rows = RemappedRows { correctable: 1, uncorrectable: 2, pending: true, failure: true };
    assert_eq!(faulty.remapped_rows, Reading::Value(rows));
    assert_eq!(faulty.retired_pages.double_bit, Reading::Value(3));
    assert_eq!(faulty.retired_pages.single_bit, Reading::Value(0));
    assert_eq!((&faulty.pcie.width, &faulty.pcie.max_width), (&Reading::Value(8), &Reading::Value(16)));
    assert_eq!(faulty.clocks_event_reasons, Reading::Value(0x48));
    assert!(matches!(&devices[1], DeviceState::Unopened(trouble) if trouble.cause == Cause::Hardware));
}

#[test]
fn a_gpu_that_is_lost_says_so_in_every_reading() {
    let libraries = library();
    let devices = devices(probe(libraries.path(), "lost"));
    let lost = opened(&devices[0]);
    for trouble in [lost.name.trouble(), lost.ecc.volatile_uncorrected.trouble(), lost.pcie.width.trouble()] {
        assert_eq!(trouble.unwrap().cause, Cause::Hardware);
    }
}

#[test]
fn no_library_and_no_driver_are_told_apart_from_a_library_that_fails() {
    let libraries = library();
    assert!(matches!(probe(libraries.path(), "no_driver"), Nvml::NoDriver { .. }));
    assert!(
        matches!(probe(libraries.path(), "mismatch"), Nvml::Failed(trouble) if trouble.cause == Cause::Other)
    );
    let empty = tempfile::tempdir().unwrap();
    let without = probe(empty.path(), "no_library");
    assert!(matches!(without, Nvml::NoLibrary { .. }), "{without:?}");
}
