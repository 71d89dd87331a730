//! The stage over what nvml-probe printed over the stand-in for NVIDIA's library, and over trees of AMD's driver.

mod by_vulkan;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

use vetting_gpu_load::{Document, Load, Mismatch, Work};
use vetting_protocol::inventory::{Gpu, PciDevice};

use super::*;
use crate::stages::tests::{Machine, Told, garbage, hung, log_to, missing, outcome, recorded, told};
use crate::tools::runner::{Exit, Finished, Invocation, ToolError};

const WORK: StageWork = StageWork::Gpu { dcgm_level: 2 };
const GOOD_DIAG: &str = r#"{"DCGM GPU Diagnostic": {"test_categories": [
    {"category": "Integration", "tests": [{"name": "PCIe", "results": [{"gpu_id": "0", "status": "Pass"}]}]}]}}"#;

pub(in crate::stages) fn function(
    address: &str,
    class: &str,
    vendor_id: &str,
    driver: Option<&str>,
) -> PciDevice {
    PciDevice {
        address: address.to_owned(),
        vendor_id: vendor_id.to_owned(),
        device_id: "0001".to_owned(),
        class: class.to_owned(),
        vendor: Some("ACME".to_owned()),
        device: None,
        driver: driver.map(str::to_owned),
        numa_node: None,
        link: None,
    }
}

fn with(functions: &[PciDevice]) -> Machine {
    let mut machine = Machine::new();
    machine.inventory.pci.extend_from_slice(functions);
    machine
}

/// The A100 of the stand-in, whose link runs at this width.
fn a100(width: u32) -> Machine {
    let machine = with(&[function("0000:3b:00.0", "030200", "10de", Some("nvidia"))]);
    let port = "sys/devices/pci0000:3a/0000:3a:00.0";
    for (place, width) in [(port.to_owned(), 16), (format!("{port}/0000:3b:00.0"), width)] {
        machine.file(&format!("{place}/max_link_width"), "16\n");
        machine.file(&format!("{place}/max_link_speed"), "16.0 GT/s PCIe\n");
        machine.file(&format!("{place}/current_link_width"), &format!("{width}\n"));
        machine.file(&format!("{place}/current_link_speed"), "16.0 GT/s PCIe\n");
    }
    let devices = machine.path("sys/bus/pci/devices");
    std::fs::create_dir_all(&devices).unwrap();
    for (name, place) in [("0000:3a:00.0", "0000:3a:00.0"), ("0000:3b:00.0", "0000:3a:00.0/0000:3b:00.0")] {
        std::os::unix::fs::symlink(format!("../../../devices/pci0000:3a/{place}"), devices.join(name))
            .unwrap();
    }
    machine
}

type Answer = Result<Finished, ToolError>;

/// A probe that says `before` at the first look and `after` from then on, and diagnostics.
fn tools(
    before: &'static str,
    after: &'static str,
    diagnostics: fn(&Invocation) -> Answer,
) -> Told<impl Fn(&Invocation) -> Answer + Send + Sync> {
    let looks = AtomicU32::new(0);
    Told::new(move |call: &Invocation| match call.tool {
        "nvml-probe" => {
            recorded("nvml-probe", if looks.fetch_add(1, Ordering::SeqCst) == 0 { before } else { after })
        }
        "dcgmi" => diagnostics(call),
        _ => missing(call),
    })
}

#[test]
fn a_good_gpu_that_was_worked_passes() {
    let tools = tools("0.1-good", "0.1-good", |_| told(GOOD_DIAG));
    let (report, kept, _) = a100(16).run(&WORK, &tools);
    let report = report.unwrap();
    assert_eq!(report.outcome, Outcome::Pass);
    assert_eq!(report.details["loaded"], true);
    let steps: Vec<String> = kept.sub_steps().into_keys().collect();
    assert_eq!(steps, ["0000:3b:00.0 health after", "0000:3b:00.0 health before", "load"]);
    let measured = kept.measurements();
    for key in ["ecc_uncorrected", "remap_failure", "retired_pages", "new_replays", "new_ecc_uncorrected"] {
        assert_eq!(measured[&format!("gpu 0000:3b:00.0/{key}")], Some(0.0), "{key}");
    }
    assert_eq!(measured["gpu 0000:3b:00.0/ecc_enabled"], Some(1.0));
    assert_eq!(measured["gpu 0000:3b:00.0/loaded_width"], Some(100.0));
    assert_eq!(tools.calls_of("dcgmi"), ["discovery -l", "diag -j -r 2"]);
}

#[test]
fn dcgms_daemon_is_started_before_it_is_asked() {
    let (started, start) = crossbeam_channel::bounded(1);
    let tools = Told::new(move |call: &Invocation| match call.tool {
        "nvml-probe" => recorded("nvml-probe", "0.1-good"),
        "nv-hostengine" => {
            started.send(()).unwrap();
            told("Started host engine version 3.3.5 using port number: 5555")
        }
        "dcgmi" if call.args[0] == "discovery" => {
            start.recv().unwrap();
            told("1 GPU found.")
        }
        "dcgmi" => told(GOOD_DIAG),
        _ => missing(call),
    });
    let (report, ..) = a100(16).run(&WORK, &tools);
    assert_eq!(outcome(report), Outcome::Pass);
    assert_eq!(tools.calls_of("nv-hostengine"), ["--no-daemon"]);
}

#[test]
fn dcgm_without_its_daemon_is_no_load_and_with_one_that_does_not_answer_an_error() {
    const UNANSWERED: &str = "Error: unable to establish a connection to the specified host: localhost";
    let load = |engine: fn(&Invocation) -> Answer| {
        let tools = Told::new(move |call: &Invocation| match call.tool {
            "nvml-probe" => recorded("nvml-probe", "0.1-good"),
            "nv-hostengine" => engine(call),
            "dcgmi" => told(UNANSWERED).map(|finished| Finished { exit: Exit::Code(1), ..finished }),
            _ => missing(call),
        });
        let (_, kept, _) = a100(16).run(&WORK, &tools);
        kept.sub_steps()["load"].clone()
    };
    let skipped = load(missing);
    assert!(matches!(&skipped, Outcome::Skip { reason } if reason.contains("nv-hostengine")), "{skipped:?}");
    let error = load(|_| told("Error: Failed to initialize NVML"));
    assert!(
        matches!(&error, Outcome::Error { reason } if reason.contains("unable to establish")),
        "{error:?}"
    );
}

#[test]
fn a_gpu_that_no_test_worked_or_whose_link_is_not_told_is_no_pass() {
    let diagnosed = |_: &Invocation| told(GOOD_DIAG);
    let mut two = a100(16);
    two.inventory.pci.push(function("0000:af:00.0", "030200", "10de", Some("nvidia")));
    let (report, ..) = two.run(&WORK, &tools("0.1-good", "0.1-good", diagnosed));
    let outcome = outcome(report);
    assert_ne!(outcome, Outcome::Pass);
    let (_, kept, _) = two.run(&WORK, &tools("0.1-good", "0.1-good", diagnosed));
    let load = &kept.sub_steps()["load"];
    assert!(matches!(load, Outcome::Skip { reason } if reason.contains("1 of 2 GPUs")), "{load:?}");

    let unread = a100(16);
    std::fs::remove_dir_all(unread.path("sys/bus/pci/devices")).unwrap();
    let (_, kept, _) = unread.run(&WORK, &tools("0.1-good", "0.1-good", diagnosed));
    let load = &kept.sub_steps()["load"];
    assert!(matches!(load, Outcome::Error { reason } if reason.contains("link cannot be read")), "{load:?}");
    assert_eq!(kept.measurements()["gpu 0000:3b:00.0/loaded_width"], None);
}

#[test]
fn without_a_load_it_is_skipped_and_says_so() {
    let tools = tools("0.1-good", "0.1-good", missing);
    let (report, kept, _) = a100(16).run(&WORK, &tools);
    let report = report.unwrap();
    let Outcome::Skip { reason } = &report.outcome else { panic!("{:?}", report.outcome) };
    let wanted =
        "not loaded: 0000:3b:00.0 (ACME unknown): DCGM (dcgmi) is not installed here, and gpu-load is not";
    assert!(reason.contains(wanted), "{reason}");
    assert_eq!(report.details["loaded"], false);
    assert_eq!(kept.sub_steps()["0000:3b:00.0 health after"], Outcome::Pass);
    // an idle link says nothing
    assert!(!kept.measurements().contains_key("gpu 0000:3b:00.0/loaded_width"));
}

#[test]
fn what_it_counted_under_load_is_told_as_growth() {
    let tools = tools("0.1-good", "0.1-faulty", |_| told(GOOD_DIAG));
    let (report, kept, _) = a100(8).run(&WORK, &tools);
    // counts are for the thresholds
    assert_eq!(outcome(report), Outcome::Pass);
    let measured = kept.measurements();
    let value = |key: &str| measured[&format!("gpu 0000:3b:00.0/{key}")];
    assert_eq!((value("ecc_uncorrected"), value("new_ecc_uncorrected")), (Some(2.0), Some(2.0)));
    assert_eq!((value("remap_pending"), value("remap_failure")), (Some(1.0), Some(1.0)));
    assert_eq!((value("retired_pages"), value("retired_pending")), (Some(3.0), Some(1.0)));
    assert_eq!(value("new_replays"), Some(91.0));
    assert_eq!((value("loaded_width"), value("loaded_speed")), (Some(50.0), Some(100.0)));
}

#[test]
fn a_gpu_that_is_lost_fails_by_name_and_its_counts_have_no_value() {
    let fails = |after| {
        let tools = tools("0.1-good", after, |_| told(GOOD_DIAG));
        let (report, kept, _) = a100(16).run(&WORK, &tools);
        assert!(matches!(outcome(report), Outcome::Fail { reason } if reason.contains("0000:3b:00.0")));
        assert_eq!(kept.measurements()["gpu 0000:3b:00.0/ecc_uncorrected"], None);
        assert_eq!(kept.measurements()["gpu 0000:3b:00.0/new_ecc_uncorrected"], None);
    };
    fails("0.1-lost");
    let other = with(&[function("0000:5e:00.0", "030000", "10de", Some("nvidia"))]);
    let tools = tools("0.1-faulty", "0.1-faulty", |_| told(GOOD_DIAG));
    let (report, _, _) = other.run(&WORK, &tools);
    assert!(
        matches!(outcome(report), Outcome::Fail { reason } if reason.contains("fell off the bus") || reason.contains("fallen") || reason.contains("fell"))
    );
}

#[test]
fn no_driver_and_no_library_skip_with_that_reason() {
    for (driver, case, wanted) in [
        (None, "0.1-good", "no driver is bound to it"),
        (Some("nouveau"), "0.1-good", "it is bound to nouveau"),
        (Some("nvidia"), "0.1-no-library", "libnvidia-ml.so.1 is not installed"),
        (Some("nvidia"), "0.1-no-driver", "driver is not loaded"),
    ] {
        let machine = with(&[function("0000:3b:00.0", "030200", "10de", driver)]);
        let (report, _, _) = machine.run(&WORK, &tools(case, case, missing));
        let outcome = outcome(report);
        assert!(matches!(&outcome, Outcome::Skip { reason } if reason.contains(wanted)), "{outcome:?}");
    }
}

#[test]
fn a_probe_that_gives_no_answer_is_an_error() {
    let gives = |answer: fn(&Invocation) -> Answer| {
        let tools = Told::new(
            move |call: &Invocation| if call.tool == "dcgmi" { told(GOOD_DIAG) } else { answer(call) },
        );
        outcome(a100(16).run(&WORK, &tools).0)
    };
    for answer in [hung, garbage, missing, |_: &Invocation| recorded("nvml-probe", "0.1-version-mismatch")] {
        let outcome = gives(answer);
        assert!(matches!(outcome, Outcome::Error { .. }), "{outcome:?}");
    }
    // the library knows other GPUs, and not this one
    let machine = with(&[function("0000:99:00.0", "030200", "10de", Some("nvidia"))]);
    let (report, _, _) = machine.run(&WORK, &tools("0.1-good", "0.1-good", |_| told(GOOD_DIAG)));
    assert!(matches!(outcome(report), Outcome::Error { reason } if reason.contains("does not list it")));
}

#[test]
fn diagnostics_that_fail_fail_and_those_that_hang_are_an_error() {
    let ends = |diagnostics| outcome(a100(16).run(&WORK, &tools("0.1-good", "0.1-good", diagnostics)).0);
    let failed = ends(|_| told(&GOOD_DIAG.replace("Pass", "Fail")));
    assert!(matches!(failed, Outcome::Fail { reason } if reason.contains("PCIe")));
    assert!(matches!(ends(hung), Outcome::Error { .. }));
    let (_, kept, _) = a100(16).run(&WORK, &tools("0.1-good", "0.1-good", garbage));
    assert_eq!(kept.measurements()["gpu dcgm/failed"], None);
    assert!(matches!(ends(garbage), Outcome::Error { .. }));
    let nothing = ends(|_| told(&GOOD_DIAG.replace("Pass", "Skip")));
    assert!(matches!(nothing, Outcome::Skip { reason } if reason.contains("worked 0 of 1 GPUs")));
}

#[test]
fn xids_are_counted_by_gpu_and_code() {
    let machine = a100(16);
    let line = "NVRM: Xid (PCI:0000:3b:00): 79, pid=1122, GPU has fallen off the bus.";
    log_to(&machine.path("dev/kmsg"), line);
    log_to(&machine.path("dev/kmsg"), line);
    let (_, kept, _) = machine.run(&WORK, &tools("0.1-good", "0.1-good", |_| told(GOOD_DIAG)));
    assert_eq!(kept.measurements()["gpu 0000:3b:00.0/xid/79"], Some(2.0));
}

fn amd() -> Machine {
    let machine = with(&[function("0000:03:00.0", "038000", "1002", Some("amdgpu"))]);
    let below =
        |file: &str, text: &str| machine.file(&format!("sys/bus/pci/devices/0000:03:00.0/{file}"), text);
    below("unique_id", "8a1b2c3d4e5f6071\n");
    below("vbios_version", "113-D67301-063\n");
    below("pcie_replay_count", "0\n");
    below("ras/umc_err_count", "ue: 0\nce: 4\n");
    below("ras/gfx_err_count", "ue: 1\nce: 0\n");
    below("ras/gpu_vram_bad_pages", "0x00000001 : 0x00001000 : R\n");
    machine
}

#[test]
fn amd_tells_by_sysfs_and_nothing_there_works_it() {
    let (report, kept, _) = amd().run(&WORK, &Told::new(missing));
    assert!(matches!(outcome(report), Outcome::Skip { reason } if reason.contains("not loaded")));
    let measured = kept.measurements();
    let value = |key: &str| measured[&format!("gpu 0000:03:00.0/{key}")];
    assert_eq!((value("ras_uncorrected"), value("ras_corrected")), (Some(1.0), Some(4.0)));
    assert_eq!(
        (value("retired_pages"), value("new_ras_corrected"), value("replays")),
        (Some(1.0), Some(0.0), Some(0.0))
    );
}

#[test]
fn a_counter_of_amd_that_cannot_be_understood_is_an_error_and_has_no_value() {
    let machine = amd();
    machine.file("sys/bus/pci/devices/0000:03:00.0/ras/sdma_err_count", "not supported\n");
    let (report, kept, _) = machine.run(&WORK, &Told::new(missing));
    assert!(matches!(outcome(report), Outcome::Error { reason } if reason.contains("sdma_err_count")));
    assert_eq!(kept.measurements()["gpu 0000:03:00.0/ras_uncorrected"], None);
}

#[test]
fn intel_counts_what_is_not_called_corrected_as_the_worse() {
    let machine = with(&[function("0000:86:00.0", "038000", "8086", Some("i915"))]);
    let counter = |name: &str, count: &str| {
        machine
            .file(&format!("sys/bus/pci/devices/0000:86:00.0/drm/card1/gt/gt0/error_counter/{name}"), count);
    };
    counter("correctable_eu_grf", "3\n");
    counter("fatal_eu_grf", "1\n");
    let (_, kept, _) = machine.run(&WORK, &Told::new(missing));
    let measured = kept.measurements();
    assert_eq!(measured["gpu 0000:86:00.0/ras_corrected"], Some(3.0));
    assert_eq!(measured["gpu 0000:86:00.0/ras_uncorrected"], Some(1.0));
}

#[test]
fn without_a_gpu_it_is_skipped_and_displays_are_named() {
    let (report, _, _) = Machine::new().run(&WORK, &Told::new(missing));
    assert!(matches!(outcome(report), Outcome::Skip { reason } if reason == "this machine has no GPU"));
    let display = with(&[function("0000:01:00.0", "030000", "1a03", Some("ast"))]);
    let (report, _, _) = display.run(&WORK, &Told::new(missing));
    assert!(
        matches!(outcome(report), Outcome::Skip { reason } if reason.contains("0000:01:00.0 (ACME unknown)"))
    );
}

#[test]
fn the_recorded_gpu_server_is_healthy_and_nothing_there_works_its_gpus() {
    let (_, folder) = crate::inventory::tests::recorded_machines()
        .into_iter()
        .find(|(name, _)| name == "handbuilt-gpu-server")
        .unwrap();
    let (host, tools) = crate::inventory::tests::machine(&folder);
    let inventory = crate::inventory::collect(&host, &tools);
    let gpus = Cards::of(&inventory.pci);
    assert_eq!(gpus.left_out.len(), 1);
    let names: Vec<_> = inventory.gpus.iter().map(|gpu| (gpu.serial.as_deref(), gpu.memory_bytes)).collect();
    assert_eq!(
        names,
        [
            (Some("1320000000001"), Some(42_949_672_960)),
            (Some("GPU-00000000-0000-0000-0000-00000000005e"), Some(42_949_672_960)),
            (Some("692211000042"), Some(68_702_699_520)),
        ]
    );
    let mut machine = Machine::new();
    machine.inventory = inventory;
    std::os::unix::fs::symlink(folder.join("root/sys/bus"), machine.path("sys/bus")).unwrap();
    let (report, kept, _) = machine.run(&WORK, &tools);
    assert!(
        matches!(outcome(report), Outcome::Skip { reason } if reason.contains("not loaded: 0000:3b:00.0"))
    );
    let passed = kept.sub_steps().into_values().filter(|outcome| *outcome == Outcome::Pass).count();
    assert_eq!(passed, 6);
    assert_eq!(kept.measurements()["gpu 0000:86:00.0/ras_uncorrected"], Some(0.0));
}
