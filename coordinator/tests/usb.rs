//! `usb image` and `usb write` as programs: what they make is read by other programs (mtools, fsck.vfat), and a loop device
//! stands in for a stick. Needs root for the loop device.
#![expect(clippy::disallowed_methods, reason = "the program is what is tested")]
#![expect(clippy::unwrap_used, reason = "clippy knows tests only by their attribute, not their helpers")]

use std::fs::OpenOptions;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;
use vetting_protocol::endpoint::CaPin;
use vetting_protocol::enrolment::EnrolmentTokenView;
use vetting_protocol::profile::ProfileName;
use vetting_protocol::stick::{Mode, Start, StickSettings};

const START: usize = 2048 * 512;

/// A folder with a built image in `image/`, as `make image` leaves it, but small.
fn site() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image/vetting-usb.img");
    std::fs::create_dir(folder.path().join("image")).unwrap();
    std::fs::write(&image, vec![0; START + (40 << 20)]).unwrap();
    succeeded(
        Command::new("mkfs.vfat")
            .args(["-F", "32", "-s", "1", "-n", "VETTING", "--offset", "2048"])
            .arg(&image)
            .arg((40 << 10).to_string()),
    );
    let mut bytes = std::fs::read(&image).unwrap();
    bytes[450] = 0x0c;
    bytes[454..458].copy_from_slice(&2048_u32.to_le_bytes());
    bytes[458..462].copy_from_slice(&(40_u32 << 11).to_le_bytes());
    bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
    std::fs::write(&image, bytes).unwrap();
    std::fs::write(folder.path().join("vetting.yaml"), "image: {dir: ./image}\n").unwrap();
    folder
}

fn program(folder: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vetting-coordinator"));
    command.current_dir(folder).args(words).env("RUST_LOG", "error").stdin(Stdio::null());
    for variable in ["VETTING_CONFIG", "VETTING_URL", "VETTING_CA", "VETTING_TOKEN"] {
        command.env_remove(variable);
    }
    command
}

fn succeeded(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn refused(folder: &Path, words: &[&str]) -> String {
    refusal(&program(folder, words).output().unwrap())
}

fn refusal(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The settings on a stick, as mtools reads them; the file system is whole.
fn settings(image: &Path) -> StickSettings {
    let text = succeeded(
        Command::new("mtype").arg("-i").arg(format!("{}@@{START}", image.display())).arg("::/vetting.yaml"),
    );
    let partition = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(partition.path(), &std::fs::read(image).unwrap()[START..START + (40 << 20)]).unwrap();
    succeeded(Command::new("fsck.vfat").arg("-n").arg(partition.path()));
    vetting_judge::stick::read(&text).unwrap()
}

#[test]
fn an_image_for_machines_that_work_alone() {
    let site = site();
    let words = [
        "usb",
        "image",
        "alone.img",
        "--offline",
        "--profile",
        "deep",
        "--wipe",
        "--start",
        "auto",
        "--json",
    ];
    let made: serde_json::Value =
        serde_json::from_str(&succeeded(&mut program(site.path(), &words))).unwrap();
    let image = site.path().join("alone.img");
    assert_eq!(made["bytes"], std::fs::metadata(&image).unwrap().len());
    assert_eq!(std::fs::metadata(&image).unwrap().permissions().mode() & 0o777, 0o600);
    let found = settings(&image);
    assert_eq!((found.mode, found.start, found.wipe), (Mode::Offline, Start::Auto, true));
    assert_eq!((found.profile, found.coordinator), (Some(ProfileName::Deep), None));
    assert!(refused(site.path(), &words).contains("--force"));
    let said = refused(site.path(), &["usb", "image", "other.img", "--offline", "--start", "auto"]);
    assert!(said.contains("profile"), "{said}");
    let said = refused(site.path(), &["usb", "image", "other.img", "--offline", "--network", "{vlan: 5000}"]);
    assert!(said.contains("--network") && said.contains("line 1"), "{said}");
    assert!(!site.path().join("other.img").exists());
}

#[test]
fn an_image_that_leads_to_the_coordinator_of_this_box() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let site = site();
    let said = refused(site.path(), &["usb", "image", "rack.img"]);
    assert!(said.contains("--coordinator") && said.contains("public_address"), "{said}");
    std::fs::write(site.path().join("vetting.yaml"), "image: {dir: ./image}\npublic_address: 192.0.2.10\n")
        .unwrap();
    let said = refused(site.path(), &["usb", "image", "rack.img"]);
    assert!(said.contains("ca.pem") && said.contains("serve"), "{said}");
    let tls = vetting_coordinator::tls::prepare(&site.path().join("var")).unwrap();
    std::fs::write(site.path().join("token"), "s3cr3t-token\n").unwrap();
    let words = [
        "usb",
        "image",
        "rack.img",
        "--enrolment-token-file",
        "token",
        "--network",
        "{interface: eno1, vlan: 42}",
    ];
    let said = succeeded(&mut program(site.path(), &words));
    assert!(said.contains("192.0.2.10:8443") && said.contains("ENROLMENT TOKEN"), "{said}");
    assert!(!said.contains("s3cr3t"));
    let found = settings(&site.path().join("rack.img"));
    let coordinator = found.coordinator.unwrap();
    assert_eq!(coordinator.url.to_string(), "192.0.2.10:8443");
    assert_eq!(coordinator.ca, CaPin(tls.fingerprint));
    assert_eq!(coordinator.enrolment_token.unwrap().expose(), "s3cr3t-token");
    assert_eq!(found.network.interfaces[0].vlan.map(u16::from), Some(42));
    let words = ["usb", "image", "rack.img", "--force", "--coordinator", "lab.example:9443"];
    succeeded(&mut program(site.path(), &words));
    let found = settings(&site.path().join("rack.img"));
    assert_eq!(found.coordinator.unwrap().url.to_string(), "lab.example:9443");
}

/// A coordinator that serves on the loopback.
struct Coordinator(Child);

impl Coordinator {
    fn start(folder: &Path) -> Self {
        std::fs::write(
            folder.join("vetting.yaml"),
            "image: {dir: ./image}\nlisten: {https: '127.0.0.1:0', http: '127.0.0.1:0'}\n",
        )
        .unwrap();
        succeeded(&mut program(folder, &["init", "--keep-config"]));
        let mut serving = program(folder, &["serve"]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(serving.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("listening "), "{line:?}");
        Self(serving)
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_token_is_made_for_a_stick_and_revoked_where_there_is_no_stick() {
    let site = site();
    let folder = site.path();
    let _coordinator = Coordinator::start(folder);
    let tokens = || -> Vec<EnrolmentTokenView> {
        serde_json::from_str(&succeeded(&mut program(folder, &["enrolment", "list", "--json"]))).unwrap()
    };
    let image = |file: &'static str, more: &[&'static str]| {
        [&["usb", "image", file, "--coordinator", "192.0.2.10:8443"], more].concat()
    };
    let enrol = ["--enrol", "--uses", "12", "--name", "rack3-{serial}"];
    let said = succeeded(&mut program(folder, &image("rack.img", &enrol)));
    assert!(said.contains("HOLDS AN ENROLMENT TOKEN") && said.contains("enrolment revoke 1"), "{said}");
    let coordinator = settings(&folder.join("rack.img")).coordinator.unwrap();
    let token = coordinator.enrolment_token.unwrap();
    assert!(!token.expose().is_empty() && !said.contains(token.expose()), "{said}");
    let made = tokens();
    assert_eq!((made.len(), made[0].uses_allowed, made[0].name_pattern.as_str()), (1, 12, "rack3-{serial}"));

    let said = refused(folder, &image("nowhere/rack.img", &enrol));
    assert!(said.contains("enrolment token 2, made for this stick, is revoked"), "{said}");
    let made = tokens();
    assert_eq!(
        made.iter().filter(|token| token.revoked_at.is_none()).map(|token| token.id).collect::<Vec<_>>(),
        [1]
    );

    let said = refused(folder, &image("other.img", &["--uses", "3"]));
    assert!(said.contains("add --enrol"), "{said}");
    let said = refused(folder, &["usb", "image", "other.img", "--offline", "--enrol"]);
    assert!(said.contains("cannot be used with"), "{said}");
    let elsewhere = format!(
        "mode: auto\ncoordinator: {{url: 'https://192.0.2.1:1', ca: 'sha256:{}'}}\n",
        "ab".repeat(32)
    );
    std::fs::write(folder.join("elsewhere.yaml"), elsewhere).unwrap();
    let said = refused(folder, &["usb", "image", "other.img", "--settings", "elsewhere.yaml", "--enrol"]);
    assert!(said.contains("192.0.2.1:1") && said.contains("--enrolment-token-file"), "{said}");
    assert_eq!(tokens().len(), 2, "what is refused makes no token");
    assert!(!folder.join("other.img").exists());
}

/// A loop device over a file.
struct Stick {
    device: PathBuf,
}

impl Stick {
    fn new(file: &Path, bytes: u64) -> Self {
        std::fs::File::create(file).unwrap().set_len(bytes).unwrap();
        let device = succeeded(Command::new("losetup").args(["--find", "--show"]).arg(file));
        Self { device: PathBuf::from(device.trim()) }
    }

    fn name(&self) -> &str {
        self.device.file_name().unwrap().to_str().unwrap()
    }

    fn bytes(&self) -> Vec<u8> {
        std::fs::read(&self.device).unwrap()
    }
}

impl Drop for Stick {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("--detach").arg(&self.device).status();
    }
}

#[test]
fn a_stick_is_written_after_its_name_was_typed() {
    let site = site();
    let stick = Stick::new(&site.path().join("stick"), 64 << 20);
    let device = stick.device.to_str().unwrap();
    let words = ["usb", "write", "--device", device, "--offline", "--force-fixed"];
    let said = refused(site.path(), &words[..words.len() - 1]);
    assert!(said.contains("is built in") && said.contains("--force-fixed"), "{said}");
    let said = refused(site.path(), &[&words[..], &["--yes", "sda"]].concat());
    assert!(said.contains("nothing was written") && said.contains("67 MB"), "{said}");
    let said = refused(site.path(), &words);
    assert!(said.contains("nothing was written"), "nobody answers: {said}");
    {
        let exclusive = nix::fcntl::OFlag::O_EXCL.bits();
        let _held = OpenOptions::new().read(true).custom_flags(exclusive).open(&stick.device).unwrap();
        let said = refused(site.path(), &[&words[..], &["--yes", stick.name()]].concat());
        assert!(said.contains("something uses it"), "{said}");
    }
    assert!(stick.bytes().iter().all(|byte| *byte == 0), "nothing was written");
    let mut writing = program(site.path(), &words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    writing.stdin.take().unwrap().write_all(format!("{}\n", stick.name()).as_bytes()).unwrap();
    let output = writing.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("writing: 100 %") && said.contains("reading back: 100 %"), "{said}");
    succeeded(&mut program(site.path(), &["usb", "image", "same.img", "--offline"]));
    let image = std::fs::read(site.path().join("same.img")).unwrap();
    assert!(stick.bytes()[..image.len()] == image);
    assert_eq!(settings(&stick.device).mode, Mode::Offline);
}

#[test]
fn a_stick_that_is_too_small_is_left_alone() {
    let site = site();
    let stick = Stick::new(&site.path().join("stick"), 8 << 20);
    let device = stick.device.to_str().unwrap();
    let said = refused(
        site.path(),
        &["usb", "write", "--device", device, "--offline", "--force-fixed", "--yes", stick.name()],
    );
    assert!(said.contains("holds 8 MB, the image needs 42 MB"), "{said}");
    assert!(stick.bytes().iter().all(|byte| *byte == 0));
}
