//! Messages that real machines wrote, as people posted them.

use proptest::prelude::*;

use super::*;

fn told(message: &str) -> Option<(&'static str, String)> {
    classify(message).map(|found| (found.class.as_str(), found.subject.unwrap_or_default()))
}

#[test]
fn storage_controllers_tell_of_their_drives_and_of_themselves() {
    for (class, subject, message) in [
        (
            "hardware_error",
            "0000:02:00.0",
            "megaraid_sas 0000:02:00.0: 1512 (595831198s/0x0004/CRIT) - Enclosure PD 20(c None/p1) phy bad for slot 7",
        ),
        (
            "hardware_error",
            "0000:18:00.0",
            "megaraid_sas 0000:18:00.0: FW in FAULT state Fault code:0x10000 subcode:0x0 func:megasas_wait_for_outstanding_fusion",
        ),
        ("link_reset", "0000:18:00.0", "megaraid_sas 0000:18:00.0: resetting fusion adapter scsi0."),
        ("hardware_error", "mpt3sas_cm0", "mpt3sas_cm0: fault_state(0x5862)!"),
        (
            "hardware_error",
            "0000:5c:00.0",
            "smartpqi 0000:5c:00.0: controller offline: reason code 0x4 (no controller heartbeat detected)",
        ),
        (
            "hardware_error",
            "0000:03:00.0",
            "hpsa 0000:03:00.0: Controller lockup detected: 0x0015002f after 30",
        ),
        ("link_reset", "mpt3sas_cm0", "mpt3sas_cm0: sending diag reset !!"),
    ] {
        assert_eq!(told(message), Some((class, subject.to_owned())), "{message}");
    }
}

#[test]
fn each_message_has_its_class_and_names_the_part() {
    for (class, subject, message) in [
        ("machine_check", "", "mce: [Hardware Error]: Machine check events logged"),
        (
            "machine_check",
            "",
            "mce: [Hardware Error]: CPU 0: Machine Check Exception: 4 Bank 0: b2000000c0060001",
        ),
        ("machine_check", "", "mce: [Hardware Error]: CPU 2: Machine Check: 0 Bank 4: e600000000020408"),
        ("hardware_error", "", "[Hardware Error]: System Fatal error."),
        ("hardware_error", "", "mce: [Hardware Error]: Machine check: Processor context corrupt"),
        ("hardware_error", "", "{1}[Hardware Error]: event severity: recoverable"),
        ("hardware_error", "", "Memory failure: 0x7740c0: recovery action for dirty page: Recovered"),
        (
            "hardware_error",
            "CPU_SrcID#0_MC#0_Chan#1_DIMM#0",
            "EDAC MC0: 1 UE memory read error on CPU_SrcID#0_MC#0_Chan#1_DIMM#0 (channel:1 slot:0 page:0x7740c0)",
        ),
        (
            "corrected_error",
            "CPU_SrcID#0_Ha#0_Chan#2_DIMM#0",
            "EDAC MC0: 4223 CE memory read error on CPU_SrcID#0_Ha#0_Chan#2_DIMM#0 (channel:2 slot:0 page:0x7f3ee offset:0xec0)",
        ),
        (
            "corrected_error",
            "unknown_memory",
            "EDAC MC0: 1 CE single-symbol chipkill ECC on unknown memory (node: 0 card: 0 module: 0 rank: 0)",
        ),
        ("corrected_error", "", "[Hardware Error]: Corrected error, no action required."),
        ("corrected_error", "", "{2}[Hardware Error]: event severity: corrected"),
        ("corrected_error", "", "mce: CMCI storm detected: switching to poll mode"),
        ("io_error", "sda", "I/O error, dev sda, sector 8 op 0x0:(READ) flags 0x0 phys_seg 1 prio class 0"),
        ("io_error", "sdc", "blk_update_request: critical medium error, dev sdc, sector 557528"),
        (
            "io_error",
            "nvme0n1",
            "print_req_error: critical medium error, dev nvme0n1, sector 40910720 flags 84700",
        ),
        ("io_error", "sdc1", "Buffer I/O error on dev sdc1, logical block 0, async page read"),
        (
            "io_error",
            "nvme0n1",
            "nvme0n1: I/O Cmd(0x2) @ LBA 1234, 8 blocks, I/O Error (sct 0x2 / sc 0x81) MORE",
        ),
        ("link_reset", "ata1", "ata1: hard resetting link"),
        ("link_reset", "ata7.00", "ata7.00: limiting SATA link speed to 1.5 Gbps"),
        (
            "link_reset",
            "nvme1",
            "nvme nvme1: controller is down; will reset: CSTS=0xffffffff, PCI_STATUS=0xffff",
        ),
        ("link_reset", "nvme0", "nvme nvme0: I/O 12 QID 3 timeout, reset controller"),
        ("link_reset", "nvme2", "nvme nvme2: Disabling device after reset failure: -19"),
        ("link_reset", "usb_2-1", "usb 2-1: reset SuperSpeed USB device number 3 using xhci_hcd"),
        ("link_reset", "4:0:1:0", "sd 4:0:1:0: attempting task abort! scmd(ffff880204baee80)"),
        ("link_reset", "6:0:3:0", "sd 6:0:3:0: Power-on or device reset occurred"),
        ("link_reset", "eth0", "NETDEV WATCHDOG: eth0 (igb): transmit queue 0 timed out"),
        ("xid", "0000:01:00/79", "NVRM: Xid (PCI:0000:01:00): 79, pid=1122, GPU has fallen off the bus."),
        (
            "xid",
            "0000:00:06/31",
            "NVRM: Xid (PCI:0000:00:06): 31, pid=79749, name=exe, Ch 0000000a, intr 00000000. MMU Fault",
        ),
        (
            "thermal",
            "",
            "mce: CPU0: Core temperature above threshold, cpu clock throttled (total events = 11)",
        ),
        ("thermal", "", "thermal thermal_zone0: critical temperature reached (98 C), shutting down"),
        ("out_of_memory", "", "Out of memory: Killed process 4242 (python) total-vm:1234kB"),
        (
            "aer_corrected",
            "0000:00:1c.0",
            "pcieport 0000:00:1c.0: PCIe Bus Error: severity=Corrected, type=Physical Layer, (Receiver ID)",
        ),
        (
            "aer_corrected",
            "0000:07:00.0",
            "pcieport 0000:07:00.0: PCIe Bus Error: severity=Correctable, type=Data Link Layer, (Receiver ID)",
        ),
        (
            "aer_uncorrected",
            "0000:09:00.0",
            "igb 0000:09:00.0: AER: PCIe Bus Error: severity=Uncorrected (Non-Fatal), type=Transaction Layer, (Requester ID)",
        ),
        (
            "aer_uncorrected",
            "0000:c0:01.1",
            "pcieport 0000:c0:01.1: PCIe Bus Error: severity=Uncorrected (Fatal), type=Transaction Layer, (Requester ID)",
        ),
        ("stall", "", "watchdog: BUG: soft lockup - CPU#3 stuck for 23s! [stress-ng:812]"),
        ("stall", "", "INFO: task kworker/1:0 blocked for more than 120 seconds."),
    ] {
        assert_eq!(told(message), Some((class, subject.to_owned())), "{message}");
    }
}

#[test]
fn what_tells_of_nothing_wrong_has_no_class() {
    for message in [
        "ata2: SATA link up 6.0 Gbps (SStatus 133 SControl 300)",
        "ata1: EH complete",
        "sd 6:0:7:0: [sdq] Write cache: enabled, read cache: enabled, doesn't support DPO or FUA",
        "ata2.00: configured for UDMA/133",
        "nvme nvme0: 32/0/0 default/read/poll queues",
        "nvme nvme0: Shutdown timeout set to 8 seconds",
        "nvme nvme0: I/O 256 QID 1 timeout, completion polled",
        "usb 2-1: new SuperSpeed USB device number 3 using xhci_hcd",
        "EDAC MC: UMC0 chip selects:",
        "EDAC sbridge MC0: HANDLING MCE MEMORY ERROR",
        "EDAC amd64: MC: 0:     0MB 1:     0MB",
        "pcieport 0000:00:1c.0: AER: enabled with IRQ 122",
        "pcieport 0000:00:1c.0:   device [8086:9d13] error status/mask=00000001/00002000",
        "[Hardware Error]: CPU:0 (19:61:2) MC21_STATUS[Over|CE|MiscV|AddrV|-|-|SyndV|CECC|-|-|-]: 0xdc2040000400011b",
        "{1}[Hardware Error]:  fru_text: Card01, ChnG, DIMM0",
        "sd 6:0:0:0: [sdb] Attached SCSI disk",
        "eth0: link up",
        "",
    ] {
        assert_eq!(told(message), None, "{message}");
    }
}

fn log_of(host: &Host, lines: &str) {
    use std::io::Write as _;
    let mut file = std::fs::OpenOptions::new().append(true).open(host.path("/dev/kmsg")).unwrap();
    file.write_all(lines.as_bytes()).unwrap();
}

fn sampled(watch: &mut Watch, host: &Host) -> Sample {
    let mut sample = Sample::default();
    watch.sample(host, Moment { ts_ms: 1, uptime_ms: 1 }, &mut sample);
    sample
}

#[test]
fn messages_are_counted_and_told_once() {
    let tree = tempfile::tempdir().unwrap();
    std::fs::create_dir(tree.path().join("dev")).unwrap();
    std::fs::write(tree.path().join("dev/kmsg"), "6,1,0,-;ata9: hard resetting link\n").unwrap();
    let host = Host::recorded(tree.path());
    let mut watch = Watch::default();
    let first = sampled(&mut watch, &host);
    assert_eq!(first.measurements.len(), ALL.len());
    assert!(
        first.measurements.iter().all(|m| m.value == Some(0.0)),
        "what was there before is not of the run"
    );
    for number in 0..12 {
        log_of(&host, &format!("3,{number},9,-;I/O error, dev sda, sector {number} op 0x0:(READ)\n"));
    }
    let second = sampled(&mut watch, &host);
    let values: Vec<(&str, Option<f64>)> = second.measurements.iter().map(|m| (&*m.key, m.value)).collect();
    assert_eq!(values, [("io_error", Some(12.0)), ("io_error/sda", Some(12.0))]);
    let notices: Vec<&str> = second.notices.iter().map(|notice| &*notice.message).collect();
    assert_eq!(
        notices,
        [
            "io_error sda: I/O error, dev sda, sector 0 op 0x0:(READ)",
            "io_error sda: I/O error, dev sda, sector 9 op 0x0:(READ) (10 messages so far)",
        ]
    );
    assert_eq!(sampled(&mut watch, &host), Sample::default());
}

#[test]
fn without_a_log_nothing_is_known() {
    let tree = tempfile::tempdir().unwrap();
    let (host, mut watch) = (Host::recorded(tree.path()), Watch::default());
    let sample = sampled(&mut watch, &host);
    assert!(sample.measurements.iter().all(|m| m.value.is_none()) && sample.lost.len() == 1);
    assert_eq!(sampled(&mut watch, &host), Sample::default());
}

proptest! {
    #[test]
    fn garbage_never_panics(message in "(EDAC MC0: |dev |error|: |nvme |ata|PCIe Bus Error: severity=|NVRM: Xid \\(|\\):|[ -~é]){0,40}") {
        if let Some(Finding { subject: Some(subject), .. }) = classify(&message) {
            prop_assert!(subject.len() <= 400 && !subject.contains(char::is_whitespace));
        }
    }
}
