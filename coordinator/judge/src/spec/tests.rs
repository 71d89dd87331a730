//! Specs against machines that fit, nearly fit, or tell nothing.

use proptest::prelude::*;
use vetting_protocol::diff::{Severity, SpecDiff};
use vetting_protocol::firmware::FirmwareReport;
use vetting_protocol::inventory::{Dimm, DiskKind, Inventory};

use super::*;
use crate::fixtures;

fn diffs_of(yaml: &str, (inventory, firmware): &(Inventory, FirmwareReport)) -> Vec<String> {
    let spec = Spec::parse(yaml).unwrap_or_else(|error| panic!("{error}"));
    compare(&spec, inventory, firmware)
        .iter()
        .map(|SpecDiff { field, expected, actual, severity }| {
            let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "∅".to_owned());
            format!("{field} | {} | {} | {severity}", text(expected), text(actual))
        })
        .collect()
}

#[test]
fn a_machine_that_fits_has_no_diff() {
    assert!(
        diffs_of(fixtures::SERVER_SPEC, &fixtures::server()).iter().all(|diff| diff.contains("microcode"))
    );
}

#[test]
fn every_kind_of_difference_is_named() {
    let server = fixtures::server();
    for (spec, expected) in [
        ("system: {product: PowerEdge R740}", "system.product | PowerEdge R740 | PowerEdge R640 | critical"),
        (
            "cpu: {model: {value: 'AMD*', severity: info}}",
            "cpu.model | matching AMD* | Intel(R) Xeon(R) Gold 6130 CPU @ 2.10GHz | info",
        ),
        ("cpu: {sockets: 1}", "cpu.sockets | 1 | 2 | critical"),
        ("cpu: {logical_cores: {min: 65, severity: warning}}", "cpu.logical_cores | >= 65 | 64 | warning"),
        ("memory: {total_gib: 512}", "memory.total_gib | 512 | 384 | critical"),
        ("memory: {dimms: {count: 16}}", "memory.dimms.count | 16 | 12 | critical"),
        ("memory: {dimms: {ecc: false}}", "memory.dimms.ecc | false | true | critical"),
        ("memory: {dimms: {ecc: {value: false, severity: info}}}", "memory.dimms.ecc | false | true | info"),
        (
            "gpus: [{model: '*H100*', count: 8}]",
            "gpus[0].count | 8 with model matching *H100* | ∅ | critical",
        ),
        ("nics: [{count: {min: 3}}]", "nics[0].count | >= 3 | 2 (eth0, eth1) | critical"),
        ("nics: [{count: 2, speed_mbps: {min: 10000}}]", "nics[0].speed_mbps | >= 10000 | ∅ | critical"),
        ("nics: [{count: 1}]", "nics[0].count | 1 | 2 (eth0, eth1) | critical"),
        ("nics: []", "nics.count | 0 | 2 (eth0, eth1) | critical"),
        ("disks: [{count: 5}, {kind: nvme}]", "disks[0].count | 5 | 4 (sda, sdb, sdc, sdd) | critical"),
        (
            "disks: [{count: 2, kind: ssd}, {count: 3, kind: hdd}, {kind: nvme}]",
            "disks[1].count | 3 with kind hdd | 2 (sdc, sdd) | critical",
        ),
        (
            "disks: [{count: 2, kind: ssd, size_gb: 960}, {count: 2, kind: hdd}, {kind: nvme}]",
            "disks[0].size_gb | 960 | 480.104 (sda) | critical",
        ),
        (
            "disks: [{count: 2, kind: ssd}, {count: 2, kind: hdd}]",
            "disks.nvme0n1 | ∅ | nvme0n1: INTEL SSDPE2KX080T8, nvme, 8001.563 GB | warning",
        ),
        ("firmware: {bios: {minimum: '2.13'}}", "firmware.bios[7XQ2M93] | >= 2.13 | 2.12.2 | critical"),
        (
            "firmware: {bios: {version: 2.12.2}, nic: 'x*'}",
            "firmware.nic[0000:19:00.0] | matching x* | 0x80000f32, 19.5.12 | critical",
        ),
        (
            "firmware: {microcode: {minimum: 0x2006e06}}",
            "firmware.microcode[cpu] | >= 0x2006e06 | 0x2006e05 | critical",
        ),
    ] {
        let found = diffs_of(spec, &server);
        assert_eq!(found.first().map(String::as_str), Some(expected), "{spec}: {found:#?}");
    }
}

#[test]
fn what_the_machine_does_not_tell_is_never_equal() {
    let mut server = fixtures::server();
    let (inventory, firmware) = &mut server;
    inventory.system.product = None;
    inventory.cpu.model = None;
    inventory.cpu.sockets = 0;
    inventory.memory.installed_bytes = None;
    inventory.memory.visible_bytes = 0;
    inventory.memory.ecc = None;
    inventory.memory.dimms.clear();
    inventory.disks.clear();
    inventory.nics.clear();
    firmware.versions.clear();
    let found = diffs_of(
        "{system: {product: '*'}, cpu: {model: '*', sockets: {min: 0}}, memory: {total_gib: {min: 0}, \
         dimms: {count: {min: 0}, size_gib: {min: 0}, type: '*', speed_mts: {min: 0}, ecc: false}}, \
         disks: [{model: '*'}], nics: [{}], gpus: [{}], firmware: {bios: '*', bmc: '*'}}",
        &server,
    );
    insta::assert_snapshot!(found.join("\n"));
}

#[test]
fn memory_that_only_linux_tells_may_be_a_little_less() {
    let mut machine = fixtures::virtual_machine();
    let total = |gib: &str, machine: &_| diffs_of(&format!("memory: {{total_gib: {gib}}}"), machine);
    // 768 MiB plugged in, 701 MiB visible
    assert!(total("0.75", &machine).is_empty());
    assert_eq!(
        total("1", &machine),
        ["memory.total_gib | 1 | 0.685 visible to Linux, installed not told | critical"]
    );
    assert_eq!(total("0.5", &machine).len(), 1);
    assert!(total("{max: 1}", &machine).is_empty());
    machine.0.memory.visible_bytes = 60 << 30;
    assert!(total("64", &machine).is_empty());
    assert_eq!(total("67", &machine).len(), 1);
}

#[test]
fn memory_that_is_plugged_in_must_also_be_seen() {
    let mut server = fixtures::server();
    server.0.memory.visible_bytes = 300 << 30;
    assert_eq!(
        diffs_of("memory: {total_gib: 384}", &server),
        ["memory.visible_gib | >= 345.6 of the 384 installed | 300 | critical"]
    );
}

#[test]
fn a_dead_dimm_does_not_hide_in_the_gap() {
    let (server, firmware) = fixtures::server();
    let found = |visible_bytes: u64, dimms: &[u64]| {
        let mut inventory = server.clone();
        let dimm = inventory.memory.dimms[0].clone();
        inventory.memory.dimms =
            dimms.iter().map(|gib| Dimm { size_bytes: gib << 30, ..dimm.clone() }).collect();
        inventory.memory.installed_bytes = Some(dimms.iter().sum::<u64>() << 30);
        inventory.memory.visible_bytes = visible_bytes;
        let total = dimms.iter().sum::<u64>();
        // its own severity does not soften it
        diffs_of(
            &format!("memory: {{total_gib: {{value: {total}, severity: warning}}}}"),
            &(inventory, firmware.clone()),
        )
    };
    // one of 12 is a twelfth: less than the tenth that the kernel may keep
    assert_eq!(
        found(352 << 30, &[32; 12]),
        ["memory.visible_gib | > 352 of the 384 installed, or a DIMM of 32 is not used | 352 | critical"]
    );
    assert_eq!(found((352 << 30) + 1, &[32; 12]), Vec::<String>::new());
    // of many small ones, one is lost in what firmware takes: 1 of 64 is 1.6 %, 2 are 3.1 %
    assert_eq!(found(63 << 30, &[1; 64]), Vec::<String>::new());
    assert_eq!(found(62 << 30, &[1; 64]).len(), 1);
    // exactly 3 % is not more than 3 %
    assert_eq!(found(97 << 30, &[1; 100]), Vec::<String>::new());
    assert_eq!(found((97 << 30) - 1, &[1; 100]).len(), 1);
    // the smallest counts, and a slot that tells no size does not
    assert_eq!(found(128 << 30, &[128, 8]).len(), 1);
    assert_eq!(found(128 << 30, &[128, 8, 0]).len(), 1);
}

#[test]
fn boot_medium_and_lent_drives_are_no_disks() {
    assert!(diffs_of("disks: [{count: 5}]", &fixtures::server()).is_empty());
    let mut machine = fixtures::virtual_machine();
    assert!(diffs_of("disks: [{count: 1, size_gb: {max: 1}}]", &machine).is_empty());
    machine.0.disks[0].boot_medium = true;
    assert!(diffs_of("disks: []", &machine).is_empty());
}

#[test]
fn groups_that_overlap_share_the_parts_as_well_as_can_be() {
    // the first group alone would take sda, which the second needs
    let mut server = fixtures::server();
    server.0.disks.retain(|disk| disk.kind == Some(DiskKind::Ssd));
    server.0.disks[1].model = Some("OTHER".to_owned());
    assert!(diffs_of("disks: [{kind: ssd}, {model: 'INTEL*'}]", &server).is_empty());
    assert!(diffs_of("disks: [{model: 'INTEL*'}, {kind: ssd}]", &server).is_empty());
}

#[test]
fn versions_compare_as_people_mean_it() {
    for (version, least, met) in [
        ("2.10", "2.9", true),
        ("2.9", "2.10", false),
        ("2.10.0", "2.10", true),
        ("U32 v2.10", "U32 v2.9", true),
        ("U32 v2.10", "2.9", false),
        ("0x2006e05", "0x2006a08", true),
        ("0x1f", "0x20", false),
        ("unknown", "0x20", false),
        ("", "1", false),
        ("1.0b", "1.0a", true),
    ] {
        assert_eq!(VersionRule::Minimum(least.to_owned()).is_met_by(version), met, "{version} >= {least}");
    }
}

#[test]
fn mistakes_are_told_with_their_place() {
    let mistakes: Vec<String> = [
        "",
        "# only a comment",
        "{}",
        "cpu: {}",
        "memory:\n  dimms: {}",
        "just a text",
        "cpu:\n  sockets: 1\ndisks:",
        "disks:\n  - kind: ssd\n    model:",
        "cpu:\n  cores: 8",
        "cpu:\n  sockets: two",
        "cpu:\n  sockets: {min: 4, max: 2}",
        "cpu:\n  sockets: {value: 4, max: 2}",
        "cpu:\n  sockets: {severity: warning}",
        "cpu:\n  sockets: -1",
        "cpu:\n  sockets: .inf",
        "cpu:\n  model: 6130",
        "cpu:\n  model: ''",
        "cpu:\n  model: 'a['",
        "disks:\n  - kind: ssd\n  - kind: floppy",
        "disks:\n  - kind: ssd\n    modell: x",
        "firmware:\n  bios: 2.10",
        "firmware:\n  bios: {version: '1', minimum: '2'}",
        "firmware:\n  bios: {minimum: '1', severity: fatal}",
        "cpu: {sockets: 1}\ncpu: {sockets: 2}",
        "cpu: {sockets: 1",
        "cpu: {sockets: 1}\n---\ncpu: {sockets: 1}",
    ]
    .iter()
    .map(|text| match Spec::parse(text) {
        Ok(spec) => panic!("{text} was read as {spec:?}"),
        Err(error) => format!("{text:?}\n  {error}"),
    })
    .collect();
    insta::assert_snapshot!(mistakes.join("\n"));
}

#[test]
fn a_spec_from_a_machine_reads_well_and_fits_it() {
    for (name, (inventory, firmware)) in
        [("server", fixtures::server()), ("virtual_machine", fixtures::virtual_machine())]
    {
        let yaml = Spec::from_inventory(&inventory, &firmware).to_yaml().unwrap();
        assert_eq!(diffs_of(&yaml, &(inventory, firmware)), Vec::<String>::new(), "{yaml}");
        insta::assert_snapshot!(format!("from_{name}"), yaml);
    }
}

#[test]
fn severity_survives_writing_and_reading() {
    let yaml = "cpu: {sockets: {value: 2, severity: info}}\ndisks: [{count: {min: 1, severity: warning}}]\n";
    let spec = Spec::parse(yaml).unwrap();
    assert_eq!(spec.cpu.as_ref().and_then(|cpu| cpu.sockets).unwrap().severity, Severity::Info);
    assert_eq!(Spec::parse(&spec.to_yaml().unwrap()).unwrap(), spec);
}

fn odd_text() -> impl Strategy<Value = Option<String>> {
    prop::option::of(prop_oneof![
        "[ -~]{1,20}",
        prop::sample::select(vec![
            "2.10", "null", "true", "0x1f", "~", "- a", "a: b", "[x]", "{a,b}", "*", "é\\"
        ])
        .prop_map(str::to_owned),
    ])
}

prop_compose! {
    fn machine()(
        texts in prop::collection::vec(odd_text(), 12),
        numbers in prop::collection::vec(1_u64..1 << 44, 8),
        installed in any::<bool>(),
        drop_dimms in 0..12_usize,
    ) -> (Inventory, FirmwareReport) {
        let (mut inventory, mut firmware) = fixtures::server();
        inventory.system.manufacturer = texts[0].clone();
        inventory.system.product = texts[1].clone();
        inventory.cpu.model = texts[2].clone();
        inventory.memory.visible_bytes = numbers[0];
        inventory.memory.installed_bytes = installed.then_some(numbers[0]);
        inventory.memory.dimms.truncate(drop_dimms);
        for (dimm, bytes) in inventory.memory.dimms.iter_mut().zip(&numbers) {
            dimm.size_bytes = *bytes;
            dimm.memory_type = texts[3].clone();
        }
        for ((disk, bytes), model) in inventory.disks.iter_mut().zip(&numbers).zip(&texts[4..8]) {
            disk.size_bytes = *bytes;
            disk.model = model.clone();
            disk.firmware = model.clone();
        }
        inventory.nics[0].model = texts[8].clone();
        inventory.nics[1].driver = texts[9].clone();
        firmware.versions[0].version = texts[10].clone().unwrap_or_default();
        firmware.versions[2].version = texts[11].clone().unwrap_or_default();
        (inventory, firmware)
    }
}

proptest! {
    #[test]
    fn a_machine_fits_the_spec_made_from_it((inventory, firmware) in machine()) {
        let spec = Spec::from_inventory(&inventory, &firmware);
        let yaml = spec.to_yaml().unwrap();
        let read = Spec::parse(&yaml);
        prop_assert_eq!(read.as_ref(), Ok(&spec), "{}", yaml);
        let diffs = compare(&spec, &inventory, &firmware);
        prop_assert!(diffs.is_empty(), "{:#?}\n{}", diffs, yaml);
    }

    #[test]
    fn no_text_makes_it_panic(text in "[ -~\n]{0,200}", at in 0..fixtures::SERVER_SPEC.len()) {
        let _ = Spec::parse(&text);
        let mut mutated = fixtures::SERVER_SPEC.to_owned();
        mutated.insert_str(at, &text[..text.len().min(6)]);
        if let Ok(spec) = Spec::parse(&mutated) {
            let (inventory, firmware) = fixtures::server();
            let _ = compare(&spec, &inventory, &firmware);
        }
    }
}

#[test]
fn pcie_links_and_settings_of_the_firmware_are_compared() {
    let mut server = fixtures::server();
    let inventory = &mut server.0;
    let link = |width: u32, speed_gts: f64| {
        Some(vetting_protocol::inventory::PcieLink { width, max_width: 16, speed_gts, max_speed_gts: 16.0 })
    };
    let mut card = inventory.pci[0].clone();
    card.vendor = Some("Mellanox Technologies".to_owned());
    card.device = Some("MT27800 Family [ConnectX-5]".to_owned());
    inventory.pci = ["0000:3b:00.0", "0000:3b:00.1"]
        .into_iter()
        .zip([link(8, 8.0), link(16, 8.0)])
        .map(|(address, link)| vetting_protocol::inventory::PciDevice {
            address: address.to_owned(),
            link,
            ..card.clone()
        })
        .collect();
    inventory.cpu.threads_per_core = 2;
    inventory.cpu.flags = vec!["sse".to_owned(), "vmx".to_owned()];
    inventory.bios.uefi = true;
    inventory.bios.secure_boot = Some(false);
    inventory.bios.iommu = None;
    for (spec, expected) in [
        ("pcie: [{device: '*ConnectX-5*', count: 2}]", vec![]),
        ("pcie: [{device: 'Mellanox*', width: 16}]", vec!["pcie[0].width[0000:3b:00.0] | 16 | 8 | critical"]),
        (
            "pcie: [{device: 'Mellanox*', count: 3}, {device: '*NVIDIA*'}]",
            vec![
                "pcie[0].count | 3 with device matching Mellanox* | 2 (0000:3b:00.0, 0000:3b:00.1) | critical",
                "pcie[1].count | >= 1 with device matching *NVIDIA* | ∅ | critical",
            ],
        ),
        ("bios: {uefi: true, smt: true, virtualization: true, secure_boot: false}", vec![]),
        (
            "bios: {smt: false, secure_boot: {value: true, severity: warning}, iommu: true}",
            vec![
                "bios.secure_boot | true | false | warning",
                "bios.smt | false | true | critical",
                "bios.iommu | true | ∅ | critical",
            ],
        ),
    ] {
        assert_eq!(diffs_of(spec, &server), expected, "{spec}");
    }
    server.0.pci[0].link = None;
    assert_eq!(diffs_of("pcie: [{device: '*', width: {min: 8}}]", &server).len(), 1);
    server.0.cpu.flags.clear();
    assert_eq!(
        diffs_of("bios: {virtualization: false}", &server),
        ["bios.virtualization | false | ∅ | critical"]
    );
}

#[test]
fn a_model_holds_for_what_the_host_does_not_say() {
    let rule = |threshold: u32, key: &str| {
        format!(
            "{{kind: temp, key: '{key}', op: lt, threshold: {threshold}, unit: celsius, severity: critical, note: x}}"
        )
    };
    let model = Spec::parse(&format!(
        "cpu: {{sockets: 2}}\nmemory: {{total_gib: 64}}\nthresholds: [{}, {}]\n",
        rule(80, "cpu/*"),
        rule(50, "disk/*")
    ))
    .unwrap();
    let host = format!("model: r640\nmemory: {{total_gib: 32}}\nthresholds: [{}]\n", rule(90, "cpu/*"));
    let host = HostSpec::parse(&host).unwrap();
    assert_eq!(host.model.as_deref(), Some("r640"));
    let expected = format!(
        "cpu: {{sockets: 2}}\nmemory: {{total_gib: 32}}\nthresholds: [{}, {}]\n",
        rule(50, "disk/*"),
        rule(90, "cpu/*")
    );
    assert_eq!(host.over(model.clone()), Spec::parse(&expected).unwrap());
    assert_eq!(HostSpec::parse("model: r640\n").unwrap().over(model.clone()), model);
    // without its model it would ask for less than was meant
    let error = Spec::parse("memory: {total_gib: 32}\nmodel: r640\n").unwrap_err();
    assert!(error.to_string().contains("line 2"), "{error}");
    assert!(HostSpec::parse("thresholds: []\n").is_err());
    assert!(HostSpec::parse("model: r640\ncpu: {}\n").is_err());
}
