//! GPUs that `gpu-load` works: without DCGM, and those that DCGM left out.

use super::*;

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
