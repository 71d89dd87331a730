//! Interfaces as files, an iperf3 that was recorded, and a coordinator that answers as told.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use serde_json::json;
use vetting_protocol::inventory::Nic;
use vetting_protocol::outcome::Outcome;
use vetting_protocol::plan::{ExpectedLinks, StageWork};

use crate::cancel::Cancel;
use crate::counterpart::{Counterpart, NoCounterpart, TestServer, Way};
use crate::stages::tests::{Kept, Machine, Told, arguments, missing, outcome, recorded, told};
use crate::tools::runner::{Finished, Invocation, ToolError};

const SERVER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(10, 99, 0, 2)), 5201);
const WORK: StageWork = StageWork::Network { duration_ms: 3_000, links: ExpectedLinks::Connected };
const ALL: StageWork = StageWork::Network { duration_ms: 3_000, links: ExpectedLinks::All };

/// A coordinator with a link of this speed that answers over these interfaces.
struct Coordinator {
    link_mbps: Option<u32>,
    over: &'static [&'static str],
    open: Result<(), NoCounterpart>,
}

const HEALTHY: Coordinator = Coordinator { link_mbps: Some(1_000), over: &["eth0", "eth1"], open: Ok(()) };

impl Counterpart for Coordinator {
    fn addresses(&self) -> Result<Vec<SocketAddr>, NoCounterpart> {
        Ok(vec![SERVER])
    }

    fn answers(&self, way: &Way, _at: SocketAddr) -> bool {
        self.over.contains(&way.interface.as_str())
    }

    fn open(&self, _test: std::time::Duration, _cancel: &Cancel) -> Result<TestServer, NoCounterpart> {
        self.open.clone().map(|()| TestServer { addresses: vec![SERVER], link_mbps: self.link_mbps })
    }
}

/// A machine with these interfaces, all connected with 100 Mbit/s, as they are in the recorded tests.
fn machine(nics: &[&str], coordinator: Coordinator) -> Machine {
    let mut machine = Machine::new();
    machine.counterpart = Box::new(coordinator);
    for name in nics {
        let file = |path: &str, text: &str| machine.file(&format!("sys/class/net/{name}/{path}"), text);
        file("carrier", "1\n");
        file("speed", "100\n");
        file("duplex", "full\n");
        file("carrier_changes", "2\n");
        for counter in crate::sensors::network::ERRORS.iter().chain(&["rx_bytes", "tx_bytes"]) {
            file(&format!("statistics/{counter}"), "7\n");
        }
        machine.inventory.nics.push(Nic {
            name: (*name).to_owned(),
            mac: None,
            driver: Some("igb".to_owned()),
            pci_address: None,
            model: None,
            speed_mbps: Some(100),
            full_duplex: Some(true),
            link: Some(true),
            firmware: None,
        });
    }
    machine
}

fn addresses(nics: &[&str]) -> String {
    let row = |(position, name): (usize, &&str)| {
        let local = format!("10.99.0.{}", position + 10);
        json!({"ifname": name, "addr_info": [{"family": "inet", "local": local, "scope": "global"}]})
    };
    json!(nics.iter().enumerate().map(row).collect::<Vec<_>>()).to_string()
}

/// iperf3 as it was recorded, over an interface that counts what flows.
fn iperf3(folder: &Path, call: &Invocation) -> Result<Finished, ToolError> {
    let words = arguments(call);
    let interface = words.split("--bind-dev=").nth(1).unwrap().split(' ').next().unwrap();
    for counter in ["rx_bytes", "tx_bytes"] {
        let path = folder.join(format!("sys/class/net/{interface}/statistics/{counter}"));
        let before: u64 = std::fs::read_to_string(&path).unwrap().trim().parse().unwrap();
        std::fs::write(path, format!("{}\n", before + 4_000_000_000)).unwrap();
    }
    let case = if words.contains("--bidir") {
        "3.12-good-both"
    } else if words.contains("--reverse") {
        "3.12-good-receive"
    } else {
        "3.12-good-send"
    };
    assert!(words.contains("--client=10.99.0.2 --port=5201 --bind=10.99.0.1"), "{words}");
    recorded("iperf3", case)
}

fn run(machine: &Machine, nics: &[&str], work: &StageWork) -> (Outcome, Kept) {
    let folder = machine.path("");
    let list = addresses(nics);
    let tools = Told::new(move |call: &Invocation| match call.tool {
        "ip" => told(&list),
        "iperf3" => iperf3(&folder, call),
        _ => missing(call),
    });
    let (report, kept, _) = machine.run(work, &tools);
    (outcome(report), kept)
}

fn value(kept: &Kept, key: &str) -> Option<f64> {
    *kept.measurements().get(key).unwrap_or_else(|| panic!("{key} in {:?}", kept.measurements()))
}

#[test]
fn a_link_is_tested_in_both_directions_and_its_speed_is_a_part_of_the_link() {
    let (outcome, kept) = run(&machine(&["eth0"], HEALTHY), &["eth0"], &WORK);
    assert_eq!(outcome, Outcome::Pass);
    assert_eq!(kept.sub_steps().keys().collect::<Vec<_>>(), ["all together", "eth0 iperf"]);
    let receive = value(&kept, "iperf eth0/receive_percent_of_link").unwrap();
    assert!((95.0..96.0).contains(&receive), "{receive}");
    assert!(value(&kept, "iperf eth0/send_percent_of_link").is_some());
    assert!(value(&kept, "iperf together/eth0/send_bandwidth").is_some());
    assert_eq!(value(&kept, "iperf eth0/tested_part_of_link"), Some(100.0));
    assert_eq!(value(&kept, "nic_load eth0/rx_crc_errors"), Some(0.0));
}

#[test]
fn a_slower_coordinator_is_the_measure_and_that_is_told() {
    let slow = Coordinator { link_mbps: Some(50), ..HEALTHY };
    let (outcome, kept) = run(&machine(&["eth0"], slow), &["eth0"], &WORK);
    assert_eq!(outcome, Outcome::Pass);
    assert_eq!(value(&kept, "iperf eth0/tested_part_of_link"), Some(50.0));
    assert!(value(&kept, "iperf eth0/receive_percent_of_link").unwrap() > 190.0);
}

#[test]
fn a_link_that_is_lost_half_duplex_or_slower_than_before_fails_by_name() {
    for (file, text, words) in [
        ("carrier", "0\n", "eth1 lost its link"),
        ("duplex", "half\n", "eth1: its link is half duplex"),
        ("speed", "10\n", "eth1: its link fell from 100 to 10 Mbit/s"),
    ] {
        let machine = machine(&["eth0", "eth1"], HEALTHY);
        machine.file(&format!("sys/class/net/eth1/{file}"), text);
        let (outcome, _) = run(&machine, &["eth0", "eth1"], &WORK);
        assert!(matches!(&outcome, Outcome::Fail { reason } if reason.contains(words)), "{outcome:?}");
    }
    let machine = machine(&["eth0", "eth1"], HEALTHY);
    std::fs::remove_dir_all(machine.path("sys/class/net/eth1")).unwrap();
    let (outcome, _) = run(&machine, &["eth0"], &WORK);
    assert!(matches!(&outcome, Outcome::Fail { reason } if reason.contains("eth1 is gone")), "{outcome:?}");
}

#[test]
fn an_interface_that_tells_no_speed_has_no_half_duplex() {
    let mut machine = machine(&["eth0", "usb0"], HEALTHY);
    machine.inventory.nics[1].speed_mbps = None;
    machine.file("sys/class/net/usb0/speed", "-1\n");
    machine.file("sys/class/net/usb0/duplex", "half\n");
    let (outcome, _) = run(&machine, &["eth0", "usb0"], &WORK);
    assert!(!matches!(&outcome, Outcome::Fail { .. }), "{outcome:?}");
}

#[test]
fn an_interface_that_never_had_a_link_fails_only_where_all_should_have_one() {
    let mut machine = machine(&["eth0", "eth1"], HEALTHY);
    machine.inventory.nics[1].link = Some(false);
    machine.inventory.nics[1].speed_mbps = None;
    machine.file("sys/class/net/eth1/carrier", "0\n");
    assert_eq!(run(&machine, &["eth0"], &WORK).0, Outcome::Pass);
    let all = run(&machine, &["eth0"], &ALL).0;
    assert!(matches!(&all, Outcome::Fail { reason } if reason.contains("eth1 has no link")), "{all:?}");
}

#[test]
fn what_cannot_be_tested_is_no_pass() {
    // no address
    let unaddressed = machine(&["eth0", "eth1"], HEALTHY);
    let (outcome, _) = run(&unaddressed, &["eth0"], &WORK);
    assert!(
        matches!(&outcome, Outcome::Skip { reason } if reason.contains("eth1 has a link, but no address"))
    );
    let (outcome, _) = run(&unaddressed, &["eth0"], &ALL);
    assert!(matches!(&outcome, Outcome::Error { reason } if reason.contains("eth1")), "{outcome:?}");
    // another network
    let apart = machine(&["eth0", "eth1"], Coordinator { over: &["eth0"], ..HEALTHY });
    let (outcome, _) = run(&apart, &["eth0", "eth1"], &WORK);
    assert!(
        matches!(&outcome, Outcome::Skip { reason } if reason.contains("eth1: the coordinator does not"))
    );
    // a driver that tells no speed
    let untold = machine(&["eth0"], HEALTHY);
    untold.file("sys/class/net/eth0/speed", "-1\n");
    let (outcome, kept) = run(&untold, &["eth0"], &WORK);
    assert!(matches!(&outcome, Outcome::Skip { reason } if reason.contains("speed")), "{outcome:?}");
    assert!(!kept.measurements().contains_key("iperf eth0/send_percent_of_link"));
    // a virtual one has none
    let mut virtual_machine = untold;
    virtual_machine.inventory.nics[0].driver = Some("virtio_net".to_owned());
    assert_eq!(run(&virtual_machine, &["eth0"], &WORK).0, Outcome::Pass);
}

#[test]
fn without_a_server_the_stage_is_skipped_or_an_error_but_never_passes() {
    let (outcome, _) = {
        let mut machine = machine(&["eth0"], HEALTHY);
        machine.counterpart = Box::new(crate::counterpart::Nobody);
        run(&machine, &["eth0"], &ALL)
    };
    assert!(matches!(&outcome, Outcome::Skip { reason } if reason.contains("no coordinator")), "{outcome:?}");
    let off = NoCounterpart::NotOffered { reason: "switched off".to_owned() };
    let (outcome, _) = run(&machine(&["eth0"], Coordinator { open: Err(off), ..HEALTHY }), &["eth0"], &WORK);
    assert_eq!(outcome, Outcome::skip("switched off"));
    let broken = NoCounterpart::Unavailable { reason: "apt install iperf3".to_owned() };
    let (outcome, _) =
        run(&machine(&["eth0"], Coordinator { open: Err(broken), ..HEALTHY }), &["eth0"], &WORK);
    assert_eq!(outcome, Outcome::error("apt install iperf3"));
}

#[test]
fn data_that_took_another_way_is_no_test() {
    let machine = machine(&["eth0"], HEALTHY);
    let tools = Told::new(|call: &Invocation| match call.tool {
        "ip" => told(&addresses(&["eth0"])),
        "iperf3" => recorded("iperf3", "3.12-good-send"),
        _ => missing(call),
    });
    let (report, _, _) = machine.run(&WORK, &tools);
    let outcome = outcome(report);
    assert!(
        matches!(&outcome, Outcome::Error { reason } if reason.contains("took another way")),
        "{outcome:?}"
    );
}

#[test]
fn a_counter_that_does_not_answer_has_no_value() {
    let machine = machine(&["eth0"], HEALTHY);
    std::fs::remove_file(machine.path("sys/class/net/eth0/statistics/rx_crc_errors")).unwrap();
    let (_, kept) = run(&machine, &["eth0"], &WORK);
    assert_eq!(value(&kept, "nic_load eth0/rx_crc_errors"), None);
}

#[test]
fn tools_that_fail_are_errors() {
    for case in ["3.12-busy", "3.12-server-killed", "3.12-refused"] {
        let machine = machine(&["eth0"], HEALTHY);
        let tools = Told::new(|call: &Invocation| match call.tool {
            "ip" => told(&addresses(&["eth0"])),
            "iperf3" => recorded("iperf3", case),
            _ => missing(call),
        });
        let (report, _, _) = machine.run(&WORK, &tools);
        assert!(matches!(outcome(report), Outcome::Error { .. }), "{case}");
    }
    let machine = machine(&["eth0"], HEALTHY);
    let (report, _, _) = machine.run(&WORK, &Told::new(missing));
    assert!(report.is_err());
}
