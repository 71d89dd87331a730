//! Power by a BMC: a real IPMI peer (OpenIPMI's `ipmi_sim`) whose chassis is a folder.

#![expect(clippy::disallowed_methods, reason = "starts the peer that the coordinator speaks to")]

use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Stdio};

use vetting_protocol::power::{PowerState, PowerView};
use vetting_protocol::run::RunState;

use super::*;
use crate::peer_port::PeerPort;

const PASSWORD: &str = "s3cr3tword";

/// Called as `chassis 0x20 get|set|check PARAMETER [VALUE] …`: each parameter is a file.
const CHASSIS: &str = r#"#!/bin/sh
cd "$(dirname "$0")" || exit 1
what=$2
echo "$@" >> calls
shift 2
while [ $# -gt 0 ]; do
  case $what in
  get) echo "$1:$(cat "is.$1")"; shift;;
  set) echo "$2" > "is.$1"; shift 2;;
  *) shift 2;;
  esac
done
"#;

struct Peer {
    folder: TempDir,
    port: u16,
    _held: PeerPort,
    child: Child,
}

impl Peer {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        let held = PeerPort::take();
        let port = held.number;
        let levels = ["callback", "user", "operator", "admin"];
        let methods =
            levels.map(|level| format!("    allowed_auths_{level} none md2 md5 straight\n")).concat();
        file(
            "lan.conf",
            &format!(
                "name \"lab\"\nset_working_mc 0x20\n  startlan 1\n    addr 127.0.0.1 {port}\n    priv_limit admin\n\
                 {methods}    guid a123456789abcdefa123456789abcdef\n  endlan\n  chassis_control \"./chassis 0x20\"\n  \
                 user 2 true \"ADMIN\" \"{PASSWORD}\" admin 10 none md2 md5 straight\n"
            ),
        );
        file(
            "main.emu",
            "mc_setbmc 0x20\nmc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02\nsel_enable 0x20 1000 0x0a\n\
             mc_enable 0x20\n",
        );
        file("chassis", CHASSIS);
        file("is.power", "0\n");
        file("is.boot", "none\n");
        std::fs::create_dir(folder.path().join("state")).unwrap();
        let script = folder.path().join("chassis");
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
        let child = Command::new("ipmi_sim")
            .args(["-c", "lan.conf", "-f", "main.emu", "-s", "state", "-n"])
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("ipmi_sim (Debian: openipmi) starts");
        Self { folder, port, _held: held, child }
    }

    fn is(&self, parameter: &str) -> String {
        let text = std::fs::read_to_string(self.folder.path().join(format!("is.{parameter}")));
        text.unwrap_or_default().trim().to_owned()
    }

    fn set(&self, parameter: &str, value: &str) {
        std::fs::write(self.folder.path().join(format!("is.{parameter}")), format!("{value}\n")).unwrap();
    }

    /// Tells it something by ipmitool.
    fn tell(&self, words: &[&str]) {
        let mut command = Command::new("ipmitool");
        command.args(["-I", "lanplus", "-C", "3", "-H", "127.0.0.1", "-U", "ADMIN", "-P", PASSWORD, "-p"]);
        let output =
            command.arg(self.port.to_string()).args(words).env("TZ", "UTC").env("LC_ALL", "C").output();
        let output = output.expect("ipmitool starts");
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Puts an entry into its event log: `sel add`'s seven bytes.
    fn log(&self, entry: &str) {
        let file = self.folder.path().join("entry");
        std::fs::write(&file, format!("{entry} # test\n")).unwrap();
        self.tell(&["sel", "add", &file.to_string_lossy()]);
    }

    fn calls(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.folder.path().join("calls")).unwrap_or_default();
        text.lines().filter(|line| line.contains(" set ")).map(str::to_owned).collect()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A host whose BMC is the peer, which has the password that is in the secrets file.
async fn lab_with(peer: &Peer, password: &str) -> Lab {
    let lab = Lab::open().await;
    lab.add_host("node1", MAC).await;
    told(&lab, peer, password).await;
    lab
}

async fn told(lab: &Lab, peer: &Peer, password: &str) {
    let secrets = lab.config.power.secrets.clone().unwrap();
    std::fs::write(&secrets, format!("rack1: {password}\n")).unwrap();
    std::fs::set_permissions(&secrets, std::fs::Permissions::from_mode(0o600)).unwrap();
    told_at(lab, peer.port, "rack1").await;
}

async fn told_at(lab: &Lab, port: u16, secret: &str) {
    // the suite is named: asking for it takes the simulator ten seconds
    let settings = json!({
        "via": "ipmi", "host": "127.0.0.1", "port": port, "user": "ADMIN", "secret": secret, "cipher_suite": 3
    });
    let answer = lab.operator(Method::PUT, "hosts/node1/bmc").json(&settings).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::NO_CONTENT, "{}", answer.text().await.unwrap());
}

async fn switched(lab: &Lab, action: &str) {
    let request = lab.operator(Method::POST, &format!("hosts/node1/power/{action}"));
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::NO_CONTENT, "{}", answer.text().await.unwrap());
}

async fn view(lab: &Lab) -> PowerView {
    good(lab.operator(Method::GET, "hosts/node1/power")).await
}

#[tokio::test]
async fn a_machine_is_switched_and_says_whether_it_is_on() {
    let peer = Peer::start();
    let lab = lab_with(&peer, PASSWORD).await;
    let orders = [("on", PowerState::On, 1), ("cycle", PowerState::On, 3), ("off", PowerState::Off, 4)];
    for (action, state, calls) in orders {
        switched(&lab, action).await;
        // the simulator answers before the second half of a cycle
        while peer.calls().len() < calls {
            tokio::task::yield_now().await;
        }
        let view = view(&lab).await;
        assert_eq!((view.state, view.problem), (Some(state), None), "{action}");
    }
    switched(&lab, "soft").await;
    assert_eq!(peer.is("shutdown"), "1");
    let nonsense = lab.operator(Method::POST, "hosts/node1/power/explode");
    assert_eq!(refused(nonsense).await, refusal(422, "invalid"));
}

#[tokio::test]
async fn a_wrong_password_is_told_and_no_password_is_anywhere() {
    let peer = Peer::start();
    let lab = lab_with(&peer, "wr0ngword").await;
    let problem: Problem =
        lab.operator(Method::POST, "hosts/node1/power/on").send().await.unwrap().json().await.unwrap();
    assert_eq!(problem.status, 502, "{}", problem.detail);
    assert_eq!(peer.calls(), Vec::<String>::new());
    let said = format!("{} {:?} {:?}", problem.detail, view(&lab).await, lab.events().await);
    assert!(!said.contains("wr0ngword"), "{said}");
    let lab = lab.restarted_after(|path| {
        let database = std::fs::read(path).unwrap();
        assert!(!database.windows(9).any(|bytes| bytes == b"wr0ngword"));
    });
    drop(lab.await);
}

#[tokio::test]
async fn a_run_boots_its_machine_from_the_network_once() {
    let peer = Peer::start();
    let lab = lab_with(&peer, PASSWORD).await;
    peer.set("power", "1");
    let run = lab.start_run("node1").await;
    assert_eq!(lab.detail(run).await.summary.state, RunState::Waking);
    let restarted = ["0x20 set boot pxe", "0x20 set power 0", "0x20 set power 1"];
    // the simulator answers before the second half of a cycle
    while peer.calls().len() < restarted.len() {
        tokio::task::yield_now().await;
    }
    assert_eq!(peer.calls(), restarted);
    // one that is on its way is not restarted again; one that went off is switched on
    lab.clock.set(START_MS + 30_000);
    lab.server.driver.check_deadlines().await.unwrap();
    assert_eq!(peer.calls(), restarted);
    peer.set("power", "0");
    lab.clock.set(START_MS + 60_000);
    while peer.calls().len() < restarted.len() + 2 {
        // the last question to the BMC may still be under way
        lab.server.driver.check_deadlines().await.unwrap();
    }
    assert_eq!(peer.calls()[3..], ["0x20 set boot pxe", "0x20 set power 1"]);
    assert_eq!(lab.power.0.lock().unwrap().len(), 0, "no magic packet beside it");
}

#[tokio::test]
async fn nobody_pulls_the_power_from_under_a_run_by_mistake() {
    let peer = Peer::start();
    let lab = lab_with(&peer, PASSWORD).await;
    let run = lab.start_run("node1").await;
    lab.claim_again(run, BOOT).await;
    let problem: Problem =
        lab.operator(Method::POST, "hosts/node1/power/off").send().await.unwrap().json().await.unwrap();
    assert!(problem.detail.contains("run abort 1"), "{}", problem.detail);
    assert_eq!(peer.is("power"), "1");
}

/// Ends a run by silence, with an old entry in its BMC's event log and this one since the run was claimed.
async fn silent(power: &str, within: Option<&str>) -> String {
    let peer = Peer::start();
    peer.set("power", power);
    let lab = Lab::open().await;
    let claimed = lab.claimed().await;
    peer.tell(&["sel", "time", "set", "01/01/27 10:00:00"]);
    peer.log("0x04 0x23 0x08 0x6f 0x01 0xff 0xff");
    peer.tell(&["sel", "time", "set", "01/01/27 11:00:00"]);
    if let Some(entry) = within {
        peer.log(entry);
    }
    told(&lab, &peer, PASSWORD).await;
    let silence_ms = i64::try_from(lab.config.timeouts.silence.as_ms()).unwrap();
    lab.clock.set(START_MS + silence_ms);
    lab.server.driver.check_deadlines().await.unwrap();
    lab.over(claimed.run).await.reasons.remove(0)
}

#[tokio::test]
async fn the_bmc_and_its_event_log_tell_what_the_machine_could_not() {
    let thermal_trip = "0x04 0x07 0x60 0x6f 0x01 0xff 0xff";
    let (hang, lost, hot) =
        tokio::join!(silent("1", None), silent("0", None), silent("0", Some(thermal_trip)));
    assert!(hang.contains("It was a hang") && hang.contains("event log has nothing since then"), "{hang}");
    assert!(lost.contains("It was a power loss"), "{lost}");
    assert!(hot.contains("It was a thermal trip: the BMC's event log has `Processor #0x60"), "{hot}");
    assert!(hot.contains("has 1 entries since then") && !hot.contains("Watchdog"), "{hot}");
}

#[tokio::test]
async fn a_bmc_that_does_not_answer_holds_nobody_up_and_one_that_cannot_be_asked_is_said() {
    let lab = Lab::open().await;
    let claimed = lab.claimed().await;
    let mute = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    told_at(&lab, mute.local_addr().unwrap().port(), "rack1").await;
    std::fs::write(lab.config.power.secrets.as_ref().unwrap(), "rack1: x\n").unwrap();
    let silence_ms = i64::try_from(lab.config.timeouts.silence.as_ms()).unwrap();
    lab.clock.set(START_MS + silence_ms);
    lab.server.driver.check_deadlines().await.unwrap();
    assert_eq!(lab.detail(claimed.run).await.summary.state, RunState::Reporting);
    // a coordinator that dies while it asks, asks again
    told_at(&lab, 9, "nobody-knows").await;
    let lab = lab.restarted().await;
    let reason = lab.over(claimed.run).await.reasons.remove(0);
    assert!(reason.contains("event log could not be read: the password cannot be had"), "{reason}");
    assert!(reason.contains("does not say whether it is on"), "{reason}");
}
