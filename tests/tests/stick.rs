//! A stick that `usb image` made, from its own boot loader on: it leads a machine that nobody registered to its
//! coordinator, over a bond with a fixed address and through a proxy, and the machine is registered and vetted.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use vetting_image::lab::{Boot, Firmware};
use vetting_protocol::enrolment::EnrolmentTokenView;
use vetting_protocol::run::RunResult;
use vetting_tests::machines::{HEALTHY, WHAT_IT_IS_MADE_OF};
use vetting_tests::site::{Built, Site, SiteOptions};

/// Bounds only how long a broken build hangs.
const PATIENCE: Duration = Duration::from_mins(10);
/// The bond's second card; the first is the one that the machine comes with.
const SECOND_MAC: &str = "52:54:00:56:45:92";
/// A name that only the proxy can make an address of.
const COORDINATOR: &str = "coordinator.vetting.example";
const SPEC: &str = "cpu: {logical_cores: 2}\nnics:\n  - {count: 2, driver: virtio_net}\n";

/// An HTTP proxy that leads every `CONNECT HOST:PORT` for [`COORDINATOR`] to this port of the loopback.
struct Proxy {
    address: SocketAddr,
    tunnels: Arc<AtomicUsize>,
}

impl Proxy {
    /// Ends with the test's process.
    fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let proxy = Self { address: listener.local_addr()?, tunnels: Arc::default() };
        let tunnels = Arc::clone(&proxy.tunnels);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let tunnels = Arc::clone(&tunnels);
                // a client that breaks off, or asks for something else, is none that is tested here
                std::thread::spawn(move || tunnel(client, &tunnels).ok());
            }
        });
        Ok(proxy)
    }
}

fn tunnel(mut client: TcpStream, tunnels: &AtomicUsize) -> anyhow::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if line.trim().is_empty() {
            break;
        }
        lines.push(line);
    }
    let asked =
        lines.first().and_then(|line| line.strip_prefix("CONNECT ")).context("a tunnel is asked for")?;
    let port = asked.strip_prefix(COORDINATOR).and_then(|rest| rest.strip_prefix(':'));
    let port = port.and_then(|rest| rest.split(' ').next()).context("to the coordinator")?.parse::<u16>()?;
    let mut coordinator = TcpStream::connect(("127.0.0.1", port))?;
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
    tunnels.fetch_add(1, Ordering::Relaxed);
    let (mut to_coordinator, mut to_client) = (coordinator.try_clone()?, client);
    let back = std::thread::spawn(move || std::io::copy(&mut coordinator, &mut to_client));
    let said = std::io::copy(&mut reader, &mut to_coordinator);
    to_coordinator.shutdown(std::net::Shutdown::Write)?;
    let _ended = (said, back.join());
    Ok(())
}

/// Makes the stick's image; gives its path and what was said.
fn stick(site: &Site, proxy: &Proxy) -> anyhow::Result<(std::path::PathBuf, serde_json::Value)> {
    let path = |name: &str| site.directory().join(name);
    let text =
        |name: &str| path(name).to_str().map(str::to_owned).context("a temporary folder has a plain name");
    let listening = site.listening();
    std::fs::write(path("spec.yaml"), SPEC)?;
    std::fs::write(
        path("stick.yaml"),
        format!(
            "mode: auto\n\
             coordinator: {{url: 'https://{COORDINATOR}:{}', ca: 'sha256:{}'}}\n\
             proxy: http://10.0.2.2:{}\n\
             network:\n  bond: {{mode: active-backup, interfaces: ['{}', '{SECOND_MAC}']}}\n  \
             ipv4: {{address: 10.0.2.77/24, gateway: 10.0.2.2}}\n  ipv6: off\n",
            listening.https.port(),
            listening.ca_fingerprint,
            proxy.address.port(),
            HEALTHY.mac(),
        ),
    )?;
    let (image, settings, spec) = (text("stick.img")?, text("stick.yaml")?, text("spec.yaml")?);
    let words = ["usb", "image", &image, "--settings", &settings, "--enrol", "--spec", &spec, "--start-run"];
    let made = site.cli(&words)?;
    Ok((path("stick.img"), made))
}

#[test]
fn qemu_a_stick_brings_a_machine_over_its_bond_and_proxy_to_its_verdict() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let options =
        SiteOptions { quick_profile: Some(WHAT_IT_IS_MADE_OF.to_owned()), ..SiteOptions::default() };
    let site = Site::start(&Built::find()?, folder.path(), &options)?;
    let proxy = Proxy::start()?;
    let (stick, made) = stick(&site, &proxy)?;
    assert_eq!(made["enrolment_token_id"], 1, "{made}");

    let second = format!("virtio-net-pci,netdev=net1,mac={SECOND_MAC},romfile=");
    let machine = HEALTHY
        .machine(&site, folder.path(), Firmware::Bios)
        .boot(Boot::Usb(stick))
        .extra_args(["-uuid", "4c4c4544-0043-3010-8057-b5c04f503333"])
        .extra_args(["-netdev", "user,id=net1", "-device", &second])
        .power_on()?;
    machine.wait_for("this machine is vetting-healthy; run 1 waits for it", PATIENCE)?;
    let detail = site
        .wait_for_result("1".parse()?, PATIENCE, |_| ())
        .with_context(|| format!("the console ends with:\n{}", machine.serial().tail(40)))?;
    assert_eq!(detail.summary.result, Some(RunResult::Pass), "{:#?}", detail.reasons);
    let console = machine.serial().text();
    assert!(console.contains("bond0: address 10.0.2.77 as set"), "{console}");
    assert!(!console.contains("by DHCP"), "{console}");
    assert!(proxy.tunnels.load(Ordering::Relaxed) > 0, "nothing came through the proxy:\n{console}");
    let tokens: Vec<EnrolmentTokenView> = site.cli(&["enrolment", "list"])?;
    assert_eq!(tokens.iter().map(|token| (token.id, token.uses)).collect::<Vec<_>>(), [(1, 1)]);
    machine.wait_exit(PATIENCE)?;
    Ok(())
}
