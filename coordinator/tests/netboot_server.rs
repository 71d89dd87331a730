//! The netboot server on its real ports, in a network of its own: what it is as a process once root is given up, and what
//! it answers to packets that mean it harm. Takes root, as its ports do.
#![expect(clippy::disallowed_methods, reason = "the program is what is tested")]
#![expect(clippy::unwrap_used, reason = "clippy knows tests only by their attribute, not their helpers")]

use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use serde_json::Value;
use tempfile::TempDir;

const TFTP: &str = "127.0.0.1:69";
const IPV6: &str = "fd77::3";
const DHCP: &str = "127.0.0.1:67";
const PROXY: &str = "127.0.0.1:4011";
/// Where answers go to machines that have no address yet.
const EVERYONE: &str = "255.255.255.255:68";
/// A file that must not be had.
const SECRET: &[u8] = b"not to be had";
/// Longer than one window of 16 blocks of 512 bytes.
const LOADER_BYTES: usize = 40_000;
const CONFIG: &str = "listen: {https: '127.0.0.1:0', http: '[::]:0'}\nrun_as: nobody\nimage: {dir: image}\n\
                      netboot: {enabled: true, interfaces: [lo], answer: all}\n";
/// A request of OVMF to the proxy's port: fields of BOOTP.
const OVMF: &[u8] = include_bytes!("../src/netboot/recorded/ovmf-pxe-request.bin");

/// A coordinator that serves in the network of this thread.
struct Site {
    folder: TempDir,
    serving: Child,
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = self.serving.kill();
        let _ = self.serving.wait();
    }
}

/// Runs `test` where nobody else has the ports.
fn alone(test: impl FnOnce(&Site) + Send + 'static) {
    let thread = std::thread::spawn(move || {
        // EPERM: it takes root
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let ip = |words: &[&str]| assert!(Command::new("ip").args(words).status().unwrap().success());
        ip(&["link", "set", "lo", "up"]);
        ip(&["addr", "add", &format!("{IPV6}/64"), "dev", "lo", "nodad"]);
        test(&Site::open());
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

impl Site {
    fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(at("image/netboot/sub")).unwrap();
        std::fs::write(at("vetting.yaml"), CONFIG).unwrap();
        std::fs::write(at("image/netboot/snponly.efi"), vec![7; LOADER_BYTES]).unwrap();
        std::fs::write(at("image/secret"), SECRET).unwrap();
        std::fs::write(at("image/netboot/sub/inner"), SECRET).unwrap();
        std::os::unix::fs::symlink("../secret", at("image/netboot/link.efi")).unwrap();
        std::os::unix::fs::symlink("..", at("image/netboot/folder")).unwrap();
        assert!(program(folder.path(), &["init", "--keep-config"]).status().unwrap().success());
        assert!(Command::new("chown").args(["-R", "nobody:"]).arg(folder.path()).status().unwrap().success());
        let mut serving = program(folder.path(), &["serve"]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(serving.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("listening "), "{line:?}");
        Self { folder, serving }
    }

    /// Packets so far, by what became of them, as an operator sees them.
    fn packets(&self, outcome: &str) -> u64 {
        let output = program(self.folder.path(), &["netboot", "status", "--json"])
            .stdout(Stdio::piped())
            .output()
            .unwrap();
        let view: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(view["interfaces"][0]["name"], "lo");
        view["packets"][outcome].as_u64().unwrap()
    }

    /// Asks until so many packets came to this end: they are read one after another, and nobody answers these.
    fn heard(&self, outcome: &str, packets: u64) {
        while self.packets(outcome) < packets {}
        assert_eq!(self.packets(outcome), packets, "{outcome}");
    }
}

fn program(folder: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vetting-coordinator"));
    command.current_dir(folder).args(words).env("RUST_LOG", "warn").stdout(Stdio::null());
    for variable in ["VETTING_CONFIG", "VETTING_URL", "VETTING_CA", "VETTING_TOKEN"] {
        command.env_remove(variable);
    }
    command
}

/// A client's socket; its patience bounds only how long a broken server hangs the test.
fn client(address: &str) -> UdpSocket {
    let socket = UdpSocket::bind((address, 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    socket
}

/// The first answer to a datagram, and where it came from.
fn ask(socket: &UdpSocket, server: &str, bytes: &[u8]) -> (Vec<u8>, SocketAddr) {
    socket.send_to(bytes, server).unwrap();
    let mut buffer = vec![0; 65_536];
    let (length, from) = socket.recv_from(&mut buffer).unwrap();
    (buffer[..length].to_vec(), from)
}

/// A request of these words, each with its zero byte.
fn request(operation: u8, words: &[&str]) -> Vec<u8> {
    let mut bytes = vec![0, operation];
    for word in words {
        bytes.extend(word.bytes());
        bytes.push(0);
    }
    bytes
}

/// Reads a file to its end, in blocks of 512 bytes.
fn fetch(socket: &UdpSocket, server: &str, name: &str) -> Vec<u8> {
    let (mut datagram, from) = ask(socket, server, &request(1, &[name, "octet"]));
    let mut content = Vec::new();
    loop {
        assert_eq!(datagram[..2], [0, 3], "{datagram:?}");
        content.extend(&datagram[4..]);
        let acknowledgement = [0, 4, datagram[2], datagram[3]];
        if datagram.len() < 4 + 512 {
            socket.send_to(&acknowledgement, from).unwrap();
            return content;
        }
        datagram = ask(socket, &from.to_string(), &acknowledgement).0;
    }
}

/// A request of UEFI firmware to the proxy's port.
fn pxe_request() -> Vec<u8> {
    let options: [&[u8]; 4] = [&[53, 1, 3], &[60, 9], b"PXEClient", &[93, 2, 0, 7, 255]];
    [&OVMF[..240], &options.concat()].concat()
}

fn status_of(task: &Path) -> String {
    std::fs::read_to_string(task.join("status")).unwrap()
}

fn field<'a>(status: &'a str, name: &str) -> Vec<&'a str> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
    line.split_whitespace().collect()
}

#[test]
fn root_is_given_up_for_good_and_machines_are_answered_all_the_same() {
    alone(|site| {
        let process = Path::new("/proc").join(site.serving.id().to_string());
        let mut threads = 0;
        for thread in std::fs::read_dir(process.join("task")).unwrap() {
            let status = status_of(&thread.unwrap().path());
            for (name, wanted) in [("Uid", "65534"), ("Gid", "65534"), ("Groups", "65534")] {
                assert!(field(&status, name).iter().all(|value| *value == wanted), "{status}");
            }
            for name in ["CapPrm", "CapEff", "CapInh", "CapAmb"] {
                assert_eq!(field(&status, name), ["0000000000000000"], "{status}");
            }
            threads += 1;
        }
        assert!(threads > 1, "the runtime's threads were looked at too");
        let database = std::fs::metadata(site.folder.path().join("var/vetting.db")).unwrap();
        assert_eq!(database.uid(), 65_534);

        let socket = client("127.0.0.1");
        assert_eq!(fetch(&socket, TFTP, "snponly.efi"), vec![7; LOADER_BYTES]);
        let (answer, _) = ask(&socket, PROXY, &pxe_request());
        assert!(answer.windows(11).any(|window| window == b"snponly.efi"), "{answer:?}");
        assert_eq!((site.packets("tftp_sent"), site.packets("dhcp_answered")), (1, 1));
    });
}

#[test]
fn nothing_but_boot_files_can_be_had_and_nothing_written() {
    alone(|site| {
        let socket = client("127.0.0.1");
        let outside = [
            "../secret",
            "../../../../../../etc/passwd",
            "/etc/passwd",
            "//secret",
            "./snponly.efi",
            "sub/inner",
            "..\\secret",
            "%2e%2e/secret",
            "folder/secret",
            "snponly.efi/../../secret",
            ".",
            "..",
        ];
        for name in outside {
            let (answer, _) = ask(&socket, TFTP, &request(1, &[name, "octet"]));
            assert_eq!(answer[..4], [0, 5, 0, 1], "{name}: {}", String::from_utf8_lossy(&answer));
        }
        for name in ["link.efi", "folder", "sub"] {
            let (answer, _) = ask(&socket, TFTP, &request(1, &[name, "octet"]));
            assert_eq!(answer[..4], [0, 5, 0, 2], "{name}: {}", String::from_utf8_lossy(&answer));
        }
        for name in ["snponly.efi", "new", "../secret"] {
            let (answer, _) = ask(&socket, TFTP, &request(2, &[name, "octet"]));
            assert_eq!(answer[..4], [0, 5, 0, 2], "a write of {name}");
        }
        assert!(!site.folder.path().join("image/netboot/new").exists());
        assert_eq!(std::fs::read(site.folder.path().join("image/secret")).unwrap(), SECRET);
        site.heard("tftp_refused", 18);
    });
}

#[test]
fn what_is_asked_for_too_much_is_granted_in_part() {
    alone(|site| {
        let socket = client("127.0.0.1");
        let greedy = ["snponly.efi", "octet", "blksize", "65464", "windowsize", "65535", "tsize", "0"];
        let (answer, from) = ask(&socket, TFTP, &request(1, &greedy));
        assert_eq!(answer, request(6, &["blksize", "1468", "windowsize", "16", "tsize", "40000"]));
        let (first, _) = ask(&socket, &from.to_string(), &[0, 4, 0, 0]);
        assert_eq!((first.len(), &first[..4]), (4 + 1468, [0, 3, 0, 1].as_slice()));
        for block in 2..=16 {
            let mut buffer = [0; 2048];
            let length = socket.recv(&mut buffer).unwrap();
            assert_eq!((length, buffer[3]), (4 + 1468, block));
        }
        // the next is the first again: no more than a window is sent without an acknowledgement
        let mut buffer = [0; 2048];
        socket.recv(&mut buffer).unwrap();
        assert_eq!(buffer[3], 1);
        socket.send_to(b"\0\x05\0\0enough\0", from).unwrap();
        site.heard("tftp_unfinished", 1);
    });
}

#[test]
fn malformed_packets_are_dropped_and_counted() {
    alone(|site| {
        let socket = client("127.0.0.1");
        let long_name = "a".repeat(600);
        let tftp = [
            vec![],
            vec![0],
            vec![0, 1],
            request(1, &["snponly.efi"]),
            request(1, &["snponly.efi", "octet", "blksize"]),
            request(1, &["", "octet"]),
            request(1, &[&long_name, "octet"]),
            request(9, &["snponly.efi", "octet"]),
            vec![0, 3, 0, 1, 1, 2, 3],
            vec![0xff; 1500],
        ];
        for bytes in &tftp {
            socket.send_to(bytes, TFTP).unwrap();
        }
        let whole = pxe_request();
        let mut long_option = whole.clone();
        *long_option.last_mut().unwrap() = 77;
        let dhcp = [vec![], vec![1; 100], whole[..200].to_vec(), whole[..248].to_vec(), long_option];
        for bytes in &dhcp {
            socket.send_to(bytes, DHCP).unwrap();
            socket.send_to(bytes, PROXY).unwrap();
        }
        site.heard("tftp_malformed", tftp.len() as u64);
        site.heard("dhcp_malformed", 2 * dhcp.len() as u64);
        assert_eq!(fetch(&socket, TFTP, "snponly.efi").len(), LOADER_BYTES, "and it serves on");
    });
}

#[test]
fn a_flood_is_limited_and_others_are_served() {
    alone(|site| {
        let socket = client("127.0.0.1");
        // no client waits for these; a full socket drops some of them, as a network does
        for _ in 0..2_000 {
            socket.send_to(&request(2, &["f", "octet"]), TFTP).unwrap();
        }
        while site.packets("tftp_limited") == 0 {
            socket.send_to(&request(2, &["f", "octet"]), TFTP).unwrap();
        }
        assert_eq!(site.packets("tftp_refused"), 40, "answers a minute to one client");
        assert_eq!(fetch(&client("127.0.0.2"), TFTP, "snponly.efi").len(), LOADER_BYTES);

        for _ in 0..30 {
            socket.send_to(&pxe_request(), PROXY).unwrap();
        }
        while site.packets("dhcp_answered") + site.packets("dhcp_limited") < 30 {}
        assert_eq!(site.packets("dhcp_answered"), 20, "answers a minute to one machine");
        let mut another = pxe_request();
        another[33] ^= 0xff;
        let waiting = client("127.0.0.3");
        assert!(!ask(&waiting, PROXY, &another).0.is_empty());
    });
}

#[test]
fn boot_files_are_had_over_ipv6_with_their_script_there() {
    alone(|site| {
        let socket = client("::1");
        let server = format!("[{IPV6}]:69");
        assert_eq!(fetch(&socket, &server, "snponly.efi"), vec![7; LOADER_BYTES]);
        let script = String::from_utf8(fetch(&socket, &server, "autoexec.ipxe")).unwrap();
        assert!(script.contains(&format!("http://[{IPV6}]:")), "{script}");
        site.heard("tftp_sent", 2);
    });
}

/// What another server tells a machine to boot.
fn offer_of_another(boot_file: &str) -> Vec<u8> {
    let mut fields = OVMF[..240].to_vec();
    fields[0] = 2;
    let name = [&[67, u8::try_from(boot_file.len()).unwrap()], boot_file.as_bytes()].concat();
    let options: [&[u8]; 4] = [&[53, 1, 2], &[54, 4, 192, 0, 2, 9], &name, &[255]];
    [fields, options.concat()].concat()
}

/// The events about other servers, and what they say.
fn events_of_others(site: &Site) -> Vec<(String, String)> {
    let output = program(site.folder.path(), &["events", "--json"]).stdout(Stdio::piped()).output().unwrap();
    let events: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let texts = events.iter().map(|event| {
        let text = |key: &str| event[key].as_str().unwrap().to_owned();
        (text("kind"), text("message"))
    });
    texts.filter(|(kind, _)| kind.ends_with("_boot_server")).collect()
}

#[test]
fn other_boot_servers_are_told_of() {
    alone(|site| {
        let socket = client("127.0.0.1");
        socket.set_broadcast(true).unwrap();
        // the loopback has no route for broadcasts
        socket2::SockRef::from(&socket).bind_device(Some(b"lo")).unwrap();
        for packets in [1, 2] {
            let script = offer_of_another("http://192.0.2.9:8080/boot/ipxe?mac=52:54:00:00:00:01");
            socket.send_to(&script, EVERYONE).unwrap();
            site.heard("dhcp_other_server", packets);
        }
        let mac: Vec<String> = OVMF[28..34].iter().map(|octet| format!("{octet:02x}")).collect();
        std::fs::write(site.folder.path().join("spec.yaml"), "cpu: {logical_cores: 2}\n").unwrap();
        let words = ["host", "add", "u07", "--mac", &mac.join(":"), "--spec", "spec.yaml"];
        assert!(program(site.folder.path(), &words).status().unwrap().success());
        for packets in [3, 4] {
            socket.send_to(&offer_of_another("theirs.efi"), EVERYONE).unwrap();
            site.heard("dhcp_other_server", packets);
        }
        // the event of the last packet that is told of was stored before that packet's successor was counted
        let events = events_of_others(site);
        let [(neighbour, first), (rival, second)] = events.as_slice() else { panic!("{events:#?}") };
        assert_eq!((neighbour.as_str(), rival.as_str()), ("other_boot_server", "foreign_boot_server"));
        assert!(first.starts_with("192.0.2.9 is another coordinator"), "{first}");
        assert!(second.contains("tells u07 to boot \"theirs.efi\""), "{second}");
    });
}
