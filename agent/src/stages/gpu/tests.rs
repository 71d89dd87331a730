//! The stage over what nvml-probe printed over the stand-in for NVIDIA's library, and over trees of AMD's driver.

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

/// Without DCGM: `gpu-load`, which worked an H100, and what is changed of its answer for the GPU that is asked for.
fn loads(change: fn(&mut Work)) -> impl Fn(&Invocation) -> Answer + Send + Sync {
    move |call| match call.tool {
        "nvml-probe" => recorded("nvml-probe", "0.1-good"),
        "gpu-load" => {
            let finished = recorded("gpu-load", "0.1-h100")?;
            let mut document: Document = serde_json::from_slice(&finished.stdout).unwrap();
            let Load::Worked(work) = &mut document.load else { panic!("{document:?}") };
            work.gpu.address = call.args[0].to_str().unwrap().to_owned();
            work.seconds = call.args[2].to_str().unwrap().parse().unwrap();
            change(work);
            Ok(Finished { stdout: serde_json::to_vec(&document).unwrap(), ..finished })
        }
        _ => missing(call),
    }
}

#[test]
fn a_gpu_without_diagnostics_is_worked_by_vulkan_and_passes() {
    let mut machine = a100(16);
    machine.inventory.gpus.push(Gpu {
        pci_address: "0000:3b:00.0".to_owned(),
        model: None,
        driver: None,
        serial: None,
        vbios_version: None,
        memory_bytes: Some(85_520_809_984),
    });
    let tools = Told::new(loads(|_| ()));
    let (report, kept, _) = machine.run(&WORK, &tools);
    let report = report.unwrap();
    assert_eq!(report.outcome, Outcome::Pass);
    assert_eq!(report.details["loaded"], true);
    let measured = kept.measurements();
    let value = |key: &str| measured[&format!("gpu 0000:3b:00.0/{key}")];
    for key in ["memory_errors", "product_errors", "chain_errors", "link_errors"] {
        assert_eq!(value(key), Some(0.0), "{key}");
    }
    assert!(value("memory_coverage").is_some_and(|percent| (90.0..100.0).contains(&percent)));
    assert!(value("memory_bandwidth").is_some_and(|bandwidth| bandwidth > 1e12));
    assert_eq!((value("loaded_width"), value("loaded_speed")), (Some(100.0), Some(100.0)));
    assert_eq!(tools.calls_of("gpu-load"), ["0000:3b:00.0 --seconds 130"]);
}

#[test]
fn wrong_answers_of_a_gpu_fail_with_their_number_and_the_first() {
    let fails = |change: fn(&mut Work), key: &str, wanted: &str| {
        let (report, kept, _) = a100(16).run(&WORK, &Told::new(loads(change)));
        let outcome = outcome(report);
        assert!(matches!(&outcome, Outcome::Fail { reason } if reason.contains(wanted)), "{outcome:?}");
        assert_eq!(kept.measurements()[&format!("gpu 0000:3b:00.0/{key}")], Some(2.0));
    };
    fails(
        |work| {
            work.memory.wrong.count = 2;
            work.memory.wrong.first = vec![Mismatch { place: 77, expected: 1, found: 0x8000_0001 }];
        },
        "memory_errors",
        "0000:3b:00.0 (ACME unknown): 2 words of its memory were not what was written (the first at 77: 80000001 instead \
         of 00000001)",
    );
    fails(|work| work.products.wrong.count = 2, "product_errors", "2 elements of matrix products");
    fails(|work| work.chains.wrong.count = 2, "chain_errors", "2 whole numbers");
    fails(|work| work.link.wrong.count = 2, "link_errors", "2 words came over its link wrong");
}

#[test]
fn a_load_by_vulkan_that_did_not_come_to_its_end_is_no_pass() {
    let load = |answer: fn(&Invocation) -> Answer| {
        let tools = Told::new(move |call: &Invocation| match call.tool {
            "nvml-probe" => recorded("nvml-probe", "0.1-good"),
            "gpu-load" if call.args[0] == "0000:3b:00.0" => answer(call),
            _ => missing(call),
        });
        let mut two = a100(16);
        two.inventory.pci.push(function("0000:af:00.0", "030200", "10de", Some("nvidia")));
        let (_, kept, _) = two.run(&WORK, &tools);
        kept.sub_steps()["load"].clone()
    };
    let lost = load(|_| {
        told(
            r#"{"format": 1, "load": {"lost": {"gpu": {"address": "0000:3b:00.0", "name": "", "driver": ""}, "message": "the GPU hangs"}}}"#,
        )
    });
    assert!(matches!(&lost, Outcome::Fail { reason } if reason.contains("the GPU hangs")), "{lost:?}");
    let refused = load(|_| told(r#"{"format": 1, "load": {"failed": {"message": "no memory"}}}"#));
    assert!(matches!(&refused, Outcome::Error { reason } if reason.contains("no memory")), "{refused:?}");
    let unknown = load(|_| told(r#"{"format": 1, "load": {"no_gpu": {"others": []}}}"#));
    assert!(matches!(&unknown, Outcome::Skip { reason } if reason.contains("by Vulkan")), "{unknown:?}");
    let left_out = load(|_| {
        told(
            r#"{"format": 1, "load": {"no_gpu": {"others": [{"address": "0000:af:00.0", "name": "", "driver": ""}]}}}"#,
        )
    });
    assert!(
        matches!(&left_out, Outcome::Error { reason } if reason.contains("0000:af:00.0")),
        "{left_out:?}"
    );
    let another = load(|_| recorded("gpu-load", "0.1-h100"));
    assert!(matches!(&another, Outcome::Error { reason } if reason.contains("another GPU")), "{another:?}");
    for answer in [hung, garbage] {
        let outcome = load(answer);
        assert!(matches!(outcome, Outcome::Error { .. }), "{outcome:?}");
    }
}

#[test]
fn a_load_that_fell_short_is_an_error() {
    let load = |change: fn(&mut Work)| {
        let (_, kept, _) = a100(16).run(&WORK, &Told::new(loads(change)));
        kept.sub_steps()["load"].clone()
    };
    assert_eq!(load(|_| ()), Outcome::Pass);
    let changes: [fn(&mut Work); 6] = [
        |work| work.seconds = 129.0,
        |work| work.memory.rounds = 0,
        |work| work.products.results = 0,
        |work| work.chains.results = 0,
        |work| work.link.bytes = 0,
        |work| work.memory.tested_bytes = 1 << 20,
    ];
    for change in changes {
        let outcome = load(change);
        assert!(matches!(outcome, Outcome::Error { .. }), "{outcome:?}");
    }
}

#[test]
fn each_gpu_is_worked_by_what_can_work_it() {
    let mut machine = a100(16);
    let others = [
        function("0000:af:00.0", "030000", "8086", Some("xe")),
        function("0000:d8:00.0", "030000", "1002", Some("vfio-pci")),
    ];
    machine.inventory.pci.extend(others);
    let by_vulkan = loads(|_| ());
    let tools = Told::new(
        move |call: &Invocation| {
            if call.tool == "dcgmi" { told(GOOD_DIAG) } else { by_vulkan(call) }
        },
    );
    let (_, kept, _) = machine.run(&WORK, &tools);
    assert_eq!(tools.calls_of("gpu-load"), ["0000:af:00.0 --seconds 130"]);
    assert!(tools.calls_of("dcgmi").contains(&"diag -j -r 2".to_owned()));
    let load = &kept.sub_steps()["load"];
    // the link of the second cannot be read, and the third belongs to a virtual machine
    assert!(matches!(load, Outcome::Error { reason } if reason.contains("0000:af:00.0")), "{load:?}");
}

/// The A100, another GPU beside it that DCGM's diagnostics leave out, and `gpu-load` for those that `offered` tells of.
fn two_of_which_dcgm_works_one(
    limit: Duration,
    offered: fn(&str) -> bool,
    change: fn(&mut Work),
) -> (Outcome, BTreeMap<String, Option<f64>>, Vec<String>) {
    const DIAG: &str = r#"{"DCGM GPU Diagnostic": {"test_categories": [{"category": "Integration", "tests": [{"name": "PCIe",
        "results": [{"gpu_id": "0", "status": "Pass"}, {"gpu_id": "1", "status": "Skip", "warnings": "not supported"}]}]}]}}"#;
    let mut machine = a100(16);
    machine.limit = limit;
    machine.inventory.pci.push(function("0000:3c:00.0", "030200", "10de", Some("nvidia")));
    let place = "sys/devices/pci0000:3a/0000:3a:00.0/0000:3c:00.0";
    for which in ["max", "current"] {
        machine.file(&format!("{place}/{which}_link_width"), "16\n");
        machine.file(&format!("{place}/{which}_link_speed"), "16.0 GT/s PCIe\n");
    }
    let link = machine.path("sys/bus/pci/devices/0000:3c:00.0");
    std::os::unix::fs::symlink("../../../devices/pci0000:3a/0000:3a:00.0/0000:3c:00.0", link).unwrap();
    let by_vulkan = loads(change);
    let tools = Told::new(move |call: &Invocation| match call.tool {
        "dcgmi" => told(DIAG),
        "gpu-load" if !offered(call.args[0].to_str().unwrap()) => {
            told(r#"{"format": 1, "load": {"no_gpu": {"others": []}}}"#)
        }
        _ => by_vulkan(call),
    });
    let (_, kept, _) = machine.run(&WORK, &tools);
    let mut calls = tools.calls_of("gpu-load");
    calls.sort_unstable();
    (kept.sub_steps()["load"].clone(), kept.measurements(), calls)
}

#[test]
fn gpus_that_dcgm_left_out_are_worked_by_vulkan_after_it() {
    let (load, measured, calls) = two_of_which_dcgm_works_one(Duration::MAX, |_| true, |_| ());
    assert_eq!(load, Outcome::Pass);
    // DCGM numbers them by itself: nobody knows which one it left out
    assert_eq!(calls, ["0000:3b:00.0 --seconds 130", "0000:3c:00.0 --seconds 130"]);
    for gpu in ["0000:3b:00.0", "0000:3c:00.0"] {
        assert_eq!(measured[&format!("gpu {gpu}/memory_errors")], Some(0.0));
        assert_eq!(measured[&format!("gpu {gpu}/loaded_width")], Some(100.0));
    }
    assert_eq!(measured["gpu dcgm/failed"], Some(0.0));

    let (wrong, ..) =
        two_of_which_dcgm_works_one(Duration::MAX, |_| true, |work| work.memory.wrong.count = 1);
    assert!(matches!(&wrong, Outcome::Fail { reason } if reason.contains("0000:3c:00.0")), "{wrong:?}");
}

#[test]
fn gpus_that_dcgm_left_out_and_nothing_else_can_work_are_no_pass() {
    let dcgms_word = "not loaded: DCGM worked 1 of 2 GPUs: PCIe (GPU 1 of DCGM): not supported";
    let (none, measured, calls) = two_of_which_dcgm_works_one(Duration::MAX, |_| false, |_| ());
    assert_eq!((none, calls.len()), (Outcome::skip(dcgms_word), 2));
    assert!(!measured.contains_key("gpu 0000:3c:00.0/memory_errors"));

    let (one, measured, _) =
        two_of_which_dcgm_works_one(Duration::MAX, |address| address == "0000:3b:00.0", |_| ());
    let Outcome::Skip { reason } = &one else { panic!("{one:?}") };
    assert!(reason.contains("0000:3c:00.0") && reason.contains("DCGM worked 1 of 2 GPUs"), "{reason}");
    // an idle link says nothing
    assert!(measured.contains_key("gpu 0000:3b:00.0/loaded_width"));
    assert!(!measured.contains_key("gpu 0000:3c:00.0/loaded_width"));

    let (late, _, calls) = two_of_which_dcgm_works_one(Duration::from_secs(59), |_| true, |_| ());
    assert_eq!((late, calls), (Outcome::skip(dcgms_word), Vec::<String>::new()));
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
