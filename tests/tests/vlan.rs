//! A machine on a trunk port: `vetting.vlan` brings it to a coordinator that is in one of the port's VLANs only.
//!
//! The switch is this test: it takes the tags off and puts them on between the machine's card and QEMU's user network,
//! since the kernel of the test's host may have no VLANs of its own.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use vetting_image::lab::{Boot, DirectBoot, Firmware};
use vetting_tests::machines::HEALTHY;
use vetting_tests::site::{Built, Site, SiteOptions};

/// Bounds only how long a broken build hangs.
const PATIENCE: Duration = Duration::from_mins(10);
/// The card on the trunk port.
const TRUNK_MAC: &str = "52:54:00:56:45:42";
const VLAN: u16 = 42;
/// IEEE 802.1Q: the tag stands behind the two addresses.
const TAG_AT: usize = 12;
const TAG_TYPE: [u8; 2] = [0x81, 0x00];

/// A trunk port whose untagged frames go nowhere.
struct TrunkPort {
    folder: PathBuf,
    untagged: Arc<AtomicUsize>,
}

impl TrunkPort {
    fn new(folder: &Path) -> anyhow::Result<Self> {
        let untagged = Arc::<AtomicUsize>::default();
        let port = Self { folder: folder.to_owned(), untagged: Arc::clone(&untagged) };
        let trunk = UnixDatagram::bind(port.socket("switch-trunk"))?;
        let access = UnixDatagram::bind(port.socket("switch-access"))?;
        let (to_trunk, to_access) = (trunk.try_clone()?, access.try_clone()?);
        let (machine, inside) = (port.socket("qemu-trunk"), port.socket("qemu-access"));
        std::thread::spawn(move || {
            forward(&trunk, &to_access, &inside, |frame| {
                let taken = without_tag(frame);
                untagged.fetch_add(usize::from(taken.is_none()), Ordering::Relaxed);
                taken
            });
        });
        std::thread::spawn(move || forward(&access, &to_trunk, &machine, |frame| Some(with_tag(frame))));
        Ok(port)
    }

    fn socket(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The machine's second card on the trunk, and QEMU's user network on the other side of the switch.
    fn qemu(&self) -> Vec<String> {
        let netdev = |id: &str| {
            let (ours, theirs) = (self.socket(&format!("qemu-{id}")), self.socket(&format!("switch-{id}")));
            format!(
                "dgram,id={id},local.type=unix,local.path={},remote.type=unix,remote.path={}",
                ours.display(),
                theirs.display()
            )
        };
        let list = [
            ("-netdev", netdev("trunk")),
            ("-device", format!("virtio-net-pci,netdev=trunk,mac={TRUNK_MAC},romfile=")),
            ("-netdev", netdev("access")),
            ("-netdev", "user,id=inside".to_owned()),
            ("-netdev", "hubport,id=hub0,hubid=9,netdev=access".to_owned()),
            ("-netdev", "hubport,id=hub1,hubid=9,netdev=inside".to_owned()),
        ];
        list.into_iter().flat_map(|(option, value)| [option.to_owned(), value]).collect()
    }
}

/// Ends with the test's process.
fn forward(from: &UnixDatagram, by: &UnixDatagram, to: &Path, change: impl Fn(&[u8]) -> Option<Vec<u8>>) {
    let mut frame = vec![0; 65_536];
    while let Ok(length) = from.recv(&mut frame) {
        if let Some(changed) = frame.get(..length).and_then(&change) {
            // a machine that is not there yet, or not any more, misses it, as on a wire
            let _missed = by.send_to(&changed, to);
        }
    }
}

/// The frame without its tag, if it is in our VLAN.
fn without_tag(frame: &[u8]) -> Option<Vec<u8>> {
    let (addresses, rest) = frame.split_at_checked(TAG_AT)?;
    let [first, second, high, low, content @ ..] = rest else { return None };
    let number = u16::from_be_bytes([*high, *low]) & 0x0fff;
    ([*first, *second] == TAG_TYPE && number == VLAN).then(|| [addresses, content].concat())
}

fn with_tag(frame: &[u8]) -> Vec<u8> {
    let (addresses, content) = frame.split_at(TAG_AT.min(frame.len()));
    [addresses, &TAG_TYPE, &VLAN.to_be_bytes(), content].concat()
}

/// The kernel's parameters, out of the boot script of this card.
fn kernel_parameters(site: &Site, mac: &str) -> anyhow::Result<String> {
    let http = site.listening().http;
    let mut stream = TcpStream::connect(http)?;
    // as a machine on QEMU's user network calls it
    write!(stream, "GET /boot/ipxe?mac={mac} HTTP/1.0\r\nHost: 10.0.2.2:{}\r\n\r\n", http.port())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let line = answer.lines().find(|line| line.starts_with("kernel "));
    let line = line.with_context(|| format!("the script boots a kernel: {answer}"))?;
    let words = line.split_ascii_whitespace().filter(|word| {
        word.starts_with("vetting.") || word.starts_with("BOOTIF=") || *word == "no_timer_check"
    });
    Ok(words.collect::<Vec<_>>().join(" "))
}

#[test]
fn qemu_a_machine_on_a_trunk_port_claims_in_its_vlan() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let options = SiteOptions { kernel_args: format!("vetting.vlan={VLAN}"), ..SiteOptions::default() };
    let built = Built::find()?;
    let site = Site::start(&built, folder.path(), &options)?;
    site.host_with_run(HEALTHY.name, TRUNK_MAC, HEALTHY.spec_yaml)?;
    let port = TrunkPort::new(folder.path())?;
    let boot = Boot::Direct(DirectBoot {
        kernel: built.image.join("vmlinuz"),
        initrd: built.image.join("initrd.zst"),
        append: format!("console=ttyS0,115200n8 {}", kernel_parameters(&site, TRUNK_MAC)?),
    });
    let machine = HEALTHY
        .machine(&site, folder.path(), Firmware::Bios)
        .boot(boot)
        .extra_args(port.qemu())
        .power_on()?;
    machine.wait_for("is claimed: host healthy", PATIENCE)?;
    let console = machine.serial().text();
    assert!(console.contains(&format!(".{VLAN}: address 10.0.2.15 by DHCP")), "{console}");
    // its other card would have an address untagged, too, and the trunk's own network is left alone
    assert_eq!(console.matches("by DHCP").count(), 1, "{console}");
    assert_eq!(port.untagged.load(Ordering::Relaxed), 0, "{console}");
    Ok(())
}
