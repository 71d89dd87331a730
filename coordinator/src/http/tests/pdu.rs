//! Power by outlets: net-snmp's `snmpd` with outlets that are files, a program, and a device on HTTP.

#![expect(clippy::disallowed_methods, reason = "starts the peers that the coordinator speaks to")]

use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Stdio};

use tokio::net::TcpListener;
use tokio::sync::watch;
use vetting_protocol::power::{PduView, PowerState, PowerView};
use vetting_protocol::run::RunState;
use warp::Filter as _;
use warp::reply::Reply as _;

use super::*;
use crate::http::listener::listen;
use crate::peer_port::PeerPort;

const COMMUNITY: &str = "c0mmun1ty \"quoted\"";
const PASSPHRASE: &str = "pa55phrase # of us";

/// snmpd calls it with `-g OID`, `-n OID`, or `-s OID TYPE VALUE`. Each object is a file; what is written to an object of
/// control is what it and the object of state beside it read.
const OUTLETS: &str = r#"#!/bin/sh
cd "$(dirname "$0")" || exit 1
apc=.1.3.6.1.4.1.318.1.1
px=.1.3.6.1.4.1.13742.6.4.1.2.1
case $1 in
-s)
  echo "$2 $4" >> calls
  echo "$4" > "oid$2"
  case $2 in
  $apc.12.3.3.1.1.4.7) echo "$4" > "oid$apc.12.3.5.1.1.4.7";;
  $apc.26.9.2.4.1.5.7) echo $((3 - $4)) > "oid$apc.26.9.2.3.1.5.7";;
  $px.2.1.7) echo $((8 - $4)) > "oid$px.3.1.7";;
  esac;;
-g)
  [ -f "oid$2" ] || exit 0
  echo "$2"; echo integer; cat "oid$2";;
esac
"#;

struct Snmpd {
    folder: TempDir,
    port: u16,
    _held: PeerPort,
    child: Child,
}

impl Snmpd {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let executable = |name: &str, text: &str| {
            std::fs::write(at(name), text).unwrap();
            std::fs::set_permissions(at(name), std::fs::Permissions::from_mode(0o755)).unwrap();
        };
        executable("outlets", OUTLETS);
        let held = PeerPort::take();
        let port = held.number;
        let script = at("outlets");
        let script = script.to_str().unwrap();
        let community = COMMUNITY.replace('"', "\\\"");
        std::fs::write(
            at("snmpd.conf"),
            format!(
                "agentaddress udp:127.0.0.1:{port}\nrwcommunity \"{community}\"\nrwuser vetting priv\n\
                 createUser vetting SHA-256 \"{PASSPHRASE}\" AES \"{PASSPHRASE}\"\n\
                 pass .1.3.6.1.4.1.318.1.1.12 {script}\npass .1.3.6.1.4.1.318.1.1.26 {script}\n\
                 pass .1.3.6.1.4.1.13742.6.4 {script}\npass .1.3.6.1.4.1.99999.7 {script}\n"
            ),
        )
        .unwrap();
        std::fs::create_dir(at("state")).unwrap();
        let log = std::fs::File::create(at("log")).unwrap();
        let child = Command::new("snmpd")
            .args(["-f", "-C", "-c", "snmpd.conf", "-Lo", "-m", "", "-M", "", "-I", "-smux"])
            .current_dir(folder.path())
            .env("SNMP_PERSISTENT_DIR", at("state"))
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("snmpd (Debian: snmpd) starts");
        Self { folder, port, _held: held, child }
    }

    fn calls(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.folder.path().join("calls")).unwrap_or_default();
        text.lines().map(|line| line.trim_start_matches(".1.3.6.1.4.1").to_owned()).collect()
    }

    /// What an object reads as from now on.
    fn set(&self, oid: &str, value: &str) {
        std::fs::write(self.folder.path().join(format!("oid.1.3.6.1.4.1{oid}")), value).unwrap();
    }

    fn settings(&self, outlet: &str, model: &Value, access: &Value) -> Value {
        json!({"via": "snmp", "host": "127.0.0.1", "port": self.port, "outlet": outlet, "model": model,
            "access": access})
    }
}

impl Drop for Snmpd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn write_secrets(path: &Path) {
    let text =
        json!({"community": COMMUNITY, "passphrase": PASSPHRASE, "wrong": "wr0ngword", "plug": "t0ken"});
    std::fs::write(path, text.to_string()).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// A lab with a host and these hooks, which waits not at all between off and on.
async fn lab_with(hooks: &str) -> Lab {
    let hooks: Config = Config::parse(&format!("power:\n  off_pause: 0s\n  hooks: {hooks}\n")).unwrap();
    let lab = Lab::open_configured(|config| {
        config.power.off_pause = hooks.power.off_pause;
        config.power.hooks = hooks.power.hooks;
    })
    .await;
    lab.add_host("node1", MAC).await;
    write_secrets(lab.config.power.secrets.as_ref().unwrap());
    lab
}

async fn told(lab: &Lab, settings: &Value) {
    let answer = lab.operator(Method::PUT, "hosts/node1/pdu").json(settings).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::NO_CONTENT, "{}", answer.text().await.unwrap());
}

async fn switch(lab: &Lab, action: &str) -> Result<(), String> {
    let answer = lab.operator(Method::POST, &format!("hosts/node1/pdu/{action}")).send().await.unwrap();
    if answer.status() == StatusCode::NO_CONTENT {
        return Ok(());
    }
    assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    Err(answer.json::<Problem>().await.unwrap().detail)
}

async fn view(lab: &Lab) -> PduView {
    good(lab.operator(Method::GET, "hosts/node1/pdu")).await
}

/// Switches the outlet off, on, and off and on again, and asks for its state in between.
async fn works(lab: &Lab) {
    for (action, state) in [("off", PowerState::Off), ("on", PowerState::On), ("cycle", PowerState::On)] {
        switch(lab, action).await.unwrap();
        let view = view(lab).await;
        assert_eq!((view.state, view.problem), (Some(state), None), "{action}");
    }
}

#[tokio::test]
async fn outlets_of_each_model_are_switched_by_snmp() {
    let (pdu, lab) = (Snmpd::start(), lab_with("{}").await);
    let v2c = json!({"version": "v2c", "secret": "community"});
    let v3 = json!({"version": "v3", "user": "vetting", "auth": "sha256", "secret": "passphrase", "privacy": "aes"});
    let own = json!({"oid": {"control": ".1.3.6.1.4.1.99999.7.1", "on": 5, "off": 6}});
    let mut told_so_far = 0;
    for (model, access, control, [on, off]) in [
        (json!("apc_rpdu"), &v2c, ".318.1.1.12.3.3.1.1.4.7", ["1", "2"]),
        (json!("apc_rpdu2"), &v3, ".318.1.1.26.9.2.4.1.5.7", ["1", "2"]),
        (json!("raritan_px2"), &v2c, ".13742.6.4.1.2.1.2.1.7", ["1", "0"]),
        (own, &v3, ".99999.7.1", ["5", "6"]),
    ] {
        told(&lab, &pdu.settings("7", &model, access)).await;
        works(&lab).await;
        let expected = [off, on, off, on].map(|value| format!("{control} {value}"));
        assert_eq!(pdu.calls()[told_so_far..], expected, "{model}");
        told_so_far += 4;
    }
    let unfit = json!({"oid": {"control": ".1.3.6.1.4.1.99999.7.2", "on": 5, "off": 6}});
    pdu.set(".99999.7.2", "7\n");
    told(&lab, &pdu.settings("7", &unfit, &v2c)).await;
    let view = view(&lab).await;
    assert!(
        view.problem.as_deref().is_some_and(|problem| problem.contains("neither on nor off")),
        "{view:?}"
    );
}

#[tokio::test]
async fn a_wrong_passphrase_is_told_and_no_secret_is_anywhere() {
    let (pdu, lab) = (Snmpd::start(), lab_with("{}").await);
    let v3 =
        json!({"version": "v3", "user": "vetting", "auth": "sha256", "secret": "wrong", "privacy": "aes"});
    told(&lab, &pdu.settings("7", &json!("apc_rpdu"), &v3)).await;
    let why = switch(&lab, "on").await.unwrap_err();
    assert!(why.contains("the PDU at 127.0.0.1"), "{why}");
    // an outlet that is not there
    let v2c = json!({"version": "v2c", "secret": "community"});
    told(&lab, &pdu.settings("8", &json!("apc_rpdu"), &v2c)).await;
    let view = view(&lab).await;
    assert!(view.problem.as_deref().is_some_and(|problem| problem.contains("No Such")), "{view:?}");
    assert_eq!(pdu.calls(), Vec::<String>::new());
    let said = format!("{why} {view:?} {:?}", lab.events().await);
    let secrets = ["wr0ngword", "c0mmun1ty"];
    assert!(!secrets.iter().any(|secret| said.contains(secret)), "{said}");
    let lab = lab.restarted_after(|path| {
        let database = std::fs::read(path).unwrap();
        assert!(!secrets.iter().any(|secret| database.windows(9).any(|bytes| bytes == secret.as_bytes())));
    });
    drop(lab.await);
}

#[tokio::test]
async fn a_program_switches_an_outlet_and_is_no_shell() {
    const STRIP: &str = "#!/bin/sh\ncd \"$(dirname \"$0\")\" || exit 1\necho \"$# $*\" >> calls\n\
        [ \"$VETTING_SECRET\" = t0ken ] || { echo 'who is that?' >&2; exit 7; }\n\
        case $1 in status) cat state;; *) echo $1 > state;; esac\n";
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("strip");
    std::fs::write(&script, STRIP).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let words = json!([script, "{action}", "outlet {outlet}; reboot"]);
    let hooks = json!({"strip": {"command": words, "secret": "plug"}, "stranger": {"command": words}});
    let lab = lab_with(&hooks.to_string()).await;
    told(&lab, &json!({"via": "hook", "hook": "strip", "outlet": "B7"})).await;
    works(&lab).await;
    let calls = std::fs::read_to_string(folder.path().join("calls")).unwrap();
    assert!(
        calls.lines().all(|line| line.starts_with("2 ") && line.ends_with("outlet B7; reboot")),
        "{calls}"
    );
    // by the machine's power too, where it has no BMC
    let answer = lab.operator(Method::POST, "hosts/node1/power/off").send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    let power: PowerView = good(lab.operator(Method::GET, "hosts/node1/power")).await;
    assert_eq!(power.state, Some(PowerState::Off));
    // a run gives its machine its mains, and then asks it to come up
    let run = lab.start_run("node1").await;
    assert_eq!(lab.detail(run).await.summary.state, RunState::Waking);
    assert_eq!(view(&lab).await.state, Some(PowerState::On));
    assert_eq!(lab.power.0.lock().unwrap().len(), 1);
    std::fs::write(folder.path().join("state"), "on fire\n").unwrap();
    assert!(view(&lab).await.problem.unwrap().contains("on fire"));
    told(&lab, &json!({"via": "hook", "hook": "stranger", "outlet": "B7"})).await;
    let why = switch(&lab, "on").await.unwrap_err();
    assert!(why.contains("who is that?"), "{why}");
    for unknown in
        [json!({"via": "hook", "hook": "none"}), json!({"via": "hook", "hook": "strip", "outlet": "`id`"})]
    {
        let request = lab.operator(Method::PUT, "hosts/node1/pdu").json(&unknown);
        assert_eq!(refused(request).await, refusal(422, "invalid"), "{unknown}");
    }
}

#[tokio::test]
async fn a_device_switches_an_outlet_by_http() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let at = listener.local_addr().unwrap();
    let (_stop, stopped) = watch::channel(false);
    let is_on = Arc::new(Mutex::new(false));
    let device = warp::path!("relay" / String)
        .and(warp::query::raw().or(warp::any().map(String::new)).unify())
        .and(warp::header::optional::<String>("authorization"))
        .map(move |outlet: String, turn: String, token: Option<String>| {
            if token.as_deref() != Some("Bearer t0ken") || outlet != "3" {
                return warp::reply::with_status("no such relay".to_owned(), StatusCode::NOT_FOUND)
                    .into_response();
            }
            let mut is_on = is_on.lock().unwrap();
            match turn.as_str() {
                "turn=on" => *is_on = true,
                "turn=off" => *is_on = false,
                _ => {}
            }
            json!({"ison": *is_on}).to_string().into_response()
        })
        .boxed();
    tokio::spawn(listen(listener, None, device, uncounted(), stopped));
    let url = format!("http://{at}/relay/{{outlet}}");
    let turn = |to: &str| json!({"method": "GET", "url": format!("{url}?turn={to}")});
    let status = json!({"url": url, "on": "\"ison\":true", "off": "\"ison\":false"});
    let hooks =
        json!({"plug": {"http": {"on": turn("on"), "off": turn("off"), "status": status, "secret": "plug"}}});
    let lab = lab_with(&hooks.to_string()).await;
    told(&lab, &json!({"via": "hook", "hook": "plug", "outlet": "3"})).await;
    works(&lab).await;
    told(&lab, &json!({"via": "hook", "hook": "plug", "outlet": "4"})).await;
    let why = switch(&lab, "off").await.unwrap_err();
    assert!(why.contains("404") && why.contains("no such relay"), "{why}");
}
