//! Power by Redfish: against sushy-tools' emulator, and against a service that is as strict as the standard allows (ETags,
//! tasks, extended errors), which the emulator is not.

#![expect(clippy::disallowed_methods, reason = "starts the peer that the coordinator speaks to")]

use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Stdio};

use tokio::net::TcpListener;
use tokio::sync::watch;
use vetting_protocol::ids::Sha256Hex;
use vetting_protocol::power::{PowerState, PowerView};
use vetting_protocol::run::RunState;
use warp::Filter as _;
use warp::reply::{Reply as _, Response};

use super::*;
use crate::http::listener::listen;
use crate::peer_port::PeerPort;
use crate::tls;

const PASSWORD: &str = "s3cr3tword";
/// What the emulator knows the password by: bcrypt of [`PASSWORD`].
const LOGIN: &str = "ADMIN:$2b$04$eZSn7idVxA6VQ1rNZuznROXhW7xA2t/gQ2BwJb8d05GSPMRab5fsG\n";
const SYSTEM: &str = "27946b59-9e44-4fa7-8e91-f3527a1ef094";

struct Emulator {
    folder: TempDir,
    port: u16,
    _held: PeerPort,
    certificate: Sha256Hex,
    child: Child,
}

impl Emulator {
    /// One with these systems, each off.
    async fn start(systems: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let file = |name: &str, text: &str| std::fs::write(at(name), text).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let own = rcgen::CertificateParams::new(vec!["bmc".to_owned()]).unwrap().self_signed(&key).unwrap();
        file("cert.pem", &own.pem());
        file("key.pem", &key.serialize_pem());
        file("login", LOGIN);
        let held = PeerPort::take();
        let port = held.number;
        let systems: Vec<Value> = systems
            .iter()
            .map(|(uuid, name)| json!({"uuid": uuid, "name": name, "power_state": "Off", "nics": []}))
            .collect();
        let [cert, key, login, state] = ["cert.pem", "key.pem", "login", "state"].map(at);
        std::fs::create_dir(&state).unwrap();
        // its machines take a random while to follow; here they follow at once
        file(
            "config.py",
            &format!(
                "import random\nrandom.randint = lambda low, high: 0\n\
                 SUSHY_EMULATOR_LISTEN_IP = '127.0.0.1'\nSUSHY_EMULATOR_LISTEN_PORT = {port}\n\
                 SUSHY_EMULATOR_SSL_CERT = {cert:?}\nSUSHY_EMULATOR_SSL_KEY = {key:?}\n\
                 SUSHY_EMULATOR_AUTH_FILE = {login:?}\nSUSHY_EMULATOR_STATE_DIR = {state:?}\n\
                 SUSHY_EMULATOR_FAKE_SYSTEMS = {}\n",
                Value::from(systems)
            ),
        );
        let program = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/tools/emulators/bin/sushy-emulator");
        let log = std::fs::File::create(at("log")).unwrap();
        let child = Command::new(program)
            .args(["--fake", "--config", "config.py"])
            .current_dir(folder.path())
            .env("TMPDIR", folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("sushy-emulator starts; `make emulators` installs it");
        let emulator = Self { certificate: Sha256Hex::of(own.der()), folder, port, _held: held, child };
        while tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_err() {
            tokio::task::yield_now().await;
        }
        emulator
    }

    fn settings(&self, trust: &Value) -> Value {
        json!({"via": "redfish", "host": "127.0.0.1", "port": self.port, "user": "ADMIN", "secret": "rack1",
            "trust": trust})
    }

    fn pinned(&self) -> Value {
        self.settings(&json!({"fingerprint": self.certificate}))
    }

    /// What it was told, in order.
    fn orders(&self) -> Vec<String> {
        let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap();
        // the log is coloured
        let told = log.lines().filter_map(|line| {
            let from = line.find("POST /").or_else(|| line.find("PATCH /"))?;
            Some(line[from..].split_once(" HTTP/")?.0.to_owned())
        });
        told.collect()
    }

    async fn ask(&self, path: &str) -> Value {
        let client = Client::builder().tls_danger_accept_invalid_certs(true).no_proxy().build().unwrap();
        let request = client.get(format!("https://127.0.0.1:{}/redfish/v1/{path}", self.port));
        good(request.basic_auth("ADMIN", Some(PASSWORD))).await
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn lab_with(password: &str) -> Lab {
    let lab = Lab::open().await;
    lab.add_host("node1", MAC).await;
    let secrets = lab.config.power.secrets.clone().unwrap();
    std::fs::write(&secrets, format!("rack1: {password}\n")).unwrap();
    std::fs::set_permissions(&secrets, std::fs::Permissions::from_mode(0o600)).unwrap();
    lab
}

async fn told(lab: &Lab, settings: &Value) {
    let answer = lab.operator(Method::PUT, "hosts/node1/bmc").json(settings).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::NO_CONTENT, "{}", answer.text().await.unwrap());
}

async fn switch(lab: &Lab, action: &str) -> Result<(), String> {
    done(lab.operator(Method::POST, &format!("hosts/node1/power/{action}"))).await
}

async fn done(request: RequestBuilder) -> Result<(), String> {
    let answer = request.send().await.unwrap();
    if answer.status() == StatusCode::NO_CONTENT {
        return Ok(());
    }
    assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    Err(answer.json::<Problem>().await.unwrap().detail)
}

async fn view(lab: &Lab) -> PowerView {
    good(lab.operator(Method::GET, "hosts/node1/power")).await
}

/// Asks until the machine is as told.
async fn becomes(lab: &Lab, state: PowerState) {
    loop {
        let view = view(lab).await;
        assert_eq!(view.problem, None);
        if view.state == Some(state) {
            return;
        }
    }
}

#[tokio::test]
async fn a_machine_is_switched_and_says_whether_it_is_on() {
    let (bmc, lab) = (Emulator::start(&[(SYSTEM, "one")]).await, lab_with(PASSWORD).await);
    told(&lab, &bmc.pinned()).await;
    becomes(&lab, PowerState::Off).await;
    for (action, state) in [
        ("on", PowerState::On),
        ("cycle", PowerState::On),
        ("soft", PowerState::Off),
        ("on", PowerState::On),
        ("off", PowerState::Off),
    ] {
        switch(&lab, action).await.unwrap();
        becomes(&lab, state).await;
    }
    let reset = format!("POST /redfish/v1/Systems/{SYSTEM}/Actions/ComputerSystem.Reset");
    assert_eq!(bmc.orders(), vec![reset; 5]);
}

#[tokio::test]
async fn a_run_boots_its_machine_from_the_network_once() {
    let (bmc, lab) = (Emulator::start(&[(SYSTEM, "one")]).await, lab_with(PASSWORD).await);
    told(&lab, &bmc.pinned()).await;
    let run = lab.start_run("node1").await;
    assert_eq!(lab.detail(run).await.summary.state, RunState::Waking);
    assert_eq!(bmc.ask(&format!("Systems/{SYSTEM}")).await["Boot"]["BootSourceOverrideTarget"], "Pxe");
    becomes(&lab, PowerState::On).await;
    assert_eq!(lab.power.0.lock().unwrap().len(), 0, "no magic packet beside it");
}

#[tokio::test]
async fn an_image_is_put_into_the_virtual_drive_and_taken_out() {
    let (bmc, lab) = (Emulator::start(&[(SYSTEM, "one")]).await, lab_with(PASSWORD).await);
    told(&lab, &bmc.pinned()).await;
    let url = format!("http://{}/boot/files/vmlinuz", lab.server.http);
    let order = json!({"url": url, "boot_once": true});
    // the second finds the first in there
    for _ in 0..2 {
        done(lab.operator(Method::PUT, "hosts/node1/media").json(&order)).await.unwrap();
        let drive = bmc.ask(&format!("Systems/{SYSTEM}/VirtualMedia/Cd")).await;
        assert_eq!((&drive["Image"], &drive["Inserted"]), (&json!(url), &json!(true)));
    }
    assert_eq!(bmc.ask(&format!("Systems/{SYSTEM}")).await["Boot"]["BootSourceOverrideTarget"], "Cd");
    done(lab.operator(Method::DELETE, "hosts/node1/media")).await.unwrap();
    assert_eq!(bmc.ask(&format!("Systems/{SYSTEM}/VirtualMedia/Cd")).await["Inserted"], false);
    let said: Vec<_> = lab.events().await.into_iter().filter(|event| event.kind == "media").collect();
    let by = |event: &EventView| event.data.as_ref().is_some_and(|data| data["by"] == "test");
    assert!(said.iter().all(|event| by(event) && event.host_id.is_some()), "{said:?}");
    let said: Vec<_> = said.into_iter().map(|event| event.message).collect();
    let put = format!("test put {url} into the virtual drive of host node1");
    assert_eq!(said, [put.clone(), put, "test emptied the virtual drive of host node1".to_owned()]);
    let gone = json!({"url": format!("http://{}/boot/files/none", lab.server.http)});
    let why = done(lab.operator(Method::PUT, "hosts/node1/media").json(&gone)).await.unwrap_err();
    assert!(why.contains("404"), "the BMC's own words: {why}");
    for address in ["file:///etc/shadow", "http://admin:hunter2@192.0.2.1/x.iso", "vetting.iso"] {
        let request = lab.operator(Method::PUT, "hosts/node1/media").json(&json!({"url": address}));
        assert_eq!(refused(request).await, refusal(422, "invalid"), "{address}");
    }
}

#[tokio::test]
async fn whom_to_believe_is_said_and_a_wrong_password_is_told_without_it() {
    let (bmc, lab) = (Emulator::start(&[(SYSTEM, "one")]).await, lab_with("wr0ngword").await);
    let without = json!({"via": "redfish", "host": "127.0.0.1", "user": "ADMIN", "secret": "rack1"});
    assert_eq!(
        lab.operator(Method::PUT, "hosts/node1/bmc").json(&without).send().await.unwrap().status(),
        400
    );
    told(&lab, &bmc.settings(&json!({"fingerprint": Sha256Hex::of(b"another")}))).await;
    let why = switch(&lab, "on").await.unwrap_err();
    assert!(why.contains(&bmc.certificate.to_string()), "it names what it was shown: {why}");
    told(&lab, &bmc.settings(&json!("system"))).await;
    assert!(switch(&lab, "on").await.is_err(), "no authority signed it");
    for trust in [json!({"fingerprint": bmc.certificate}), json!("insecure")] {
        told(&lab, &bmc.settings(&trust)).await;
        let why = switch(&lab, "on").await.unwrap_err();
        assert!(why.contains("does not accept the user or the password"), "{why}");
    }
    assert_eq!(bmc.orders(), Vec::<String>::new());
    let said = format!("{:?} {:?}", view(&lab).await, lab.events().await);
    assert!(!said.contains("wr0ngword"), "{said}");
    let lab = lab.restarted_after(|path| {
        let database = std::fs::read(path).unwrap();
        assert!(!database.windows(9).any(|bytes| bytes == b"wr0ngword"));
    });
    drop(lab.await);
}

#[tokio::test]
async fn of_several_systems_one_must_be_named() {
    const OTHER: &str = "27946b59-9e44-4fa7-8e91-f3527a1ef095";
    let (bmc, lab) = (Emulator::start(&[(SYSTEM, "one"), (OTHER, "two")]).await, lab_with(PASSWORD).await);
    told(&lab, &bmc.pinned()).await;
    let why = switch(&lab, "on").await.unwrap_err();
    assert!(why.contains("--system") && why.contains(OTHER), "{why}");
    let mut settings = bmc.pinned();
    settings["system"] = json!(OTHER);
    told(&lab, &settings).await;
    switch(&lab, "on").await.unwrap();
    becomes(&lab, PowerState::On).await;
    assert_eq!(bmc.ask(&format!("Systems/{SYSTEM}")).await["PowerState"], "Off");
    settings["system"] = json!("three");
    told(&lab, &settings).await;
    let why = switch(&lab, "on").await.unwrap_err();
    assert!(why.contains("no system `three`"), "{why}");
}

/// A service that asks for the current ETag, works by tasks, and answers in extended messages.
struct Strict {
    port: u16,
    /// The authority that signed its certificate.
    ca_pem: String,
    calls: Arc<Mutex<Vec<String>>>,
    _stop: watch::Sender<bool>,
}

fn json_answer(status: u16, headers: &[(&str, &str)], body: &Value) -> Response {
    let mut answer = http::Response::builder().status(status).header("content-type", "application/json");
    for (name, value) in headers {
        answer = answer.header(*name, *value);
    }
    answer.body(body.to_string()).unwrap().into_response()
}

/// Whether a task succeeds, by the kind of reset it is for.
fn strict_answer(
    calls: &Mutex<Vec<String>>,
    method: &str,
    path: &str,
    tag: Option<&str>,
    body: &Value,
) -> Response {
    let told = calls.lock().unwrap().len();
    if method != "GET" {
        calls.lock().unwrap().push(format!("{method} {path} {} {body}", tag.unwrap_or("-")));
    }
    let system = "/redfish/v1/Systems/1";
    match (method, path) {
        ("GET", "/redfish/v1/Systems") => json_answer(200, &[], &json!({"Members": [{"@odata.id": system}]})),
        ("GET", path) if path == system => {
            // the tag changes with every order
            let tag = format!("W/\"{told}\"");
            json_answer(
                200,
                &[("etag", &tag)],
                &json!({"PowerState": "On", "Actions": {"#ComputerSystem.Reset": {
                "target": "/redfish/v1/Systems/1/Actions/Reset",
                "ResetType@Redfish.AllowableValues": ["On", "ForceOff", "ForceRestart"]}}}),
            )
        }
        ("PATCH", path) if path == system => match tag {
            None => json_answer(428, &[], &json!({})),
            Some(tag) if tag == format!("\"{told}\"") => json_answer(200, &[], &json!({})),
            Some(_) => json_answer(412, &[], &json!({})),
        },
        ("POST", "/redfish/v1/Systems/1/Actions/Reset") => match body["ResetType"].as_str() {
            Some("ForceOff") => json_answer(
                400,
                &[],
                &json!({"error": {"code": "Base.1.8.GeneralError",
                "message": "See @Message.ExtendedInfo.", "@Message.ExtendedInfo": [{
                "Message": "The chassis is locked.", "Resolution": "Unlock it at its front."}]}}),
            ),
            Some("ForceRestart") => json_answer(202, &[("location", "https://192.0.2.9/steal")], &json!({})),
            _ => json_answer(
                202,
                &[("location", "/redfish/v1/TaskService/TaskMonitors/7"), ("retry-after", "0")],
                &json!({}),
            ),
        },
        ("GET", "/redfish/v1/TaskService/TaskMonitors/7") => {
            calls.lock().unwrap().push("task".to_owned());
            let state = if told < 2 { "Running" } else { "Exception" };
            json_answer(
                if told < 2 { 202 } else { 200 },
                &[("retry-after", "0")],
                &json!({"TaskState": state,
                "Messages": [{"Message": "No power supply answers."}]}),
            )
        }
        _ => json_answer(404, &[], &json!({})),
    }
}

impl Strict {
    async fn start(state: &Path) -> Self {
        let tls = tls::prepare(state).unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (stop, stopped) = watch::channel(false);
        let calls = Arc::new(Mutex::new(Vec::new()));
        let answering = Arc::clone(&calls);
        let routes = warp::method()
            .and(warp::path::full())
            .and(warp::header::optional::<String>("if-match"))
            .and(warp::body::bytes())
            .map(
                move |method: Method, path: warp::path::FullPath, tag: Option<String>, body: bytes::Bytes| {
                    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
                    strict_answer(&answering, method.as_str(), path.as_str(), tag.as_deref(), &body)
                },
            )
            .boxed();
        tokio::spawn(listen(listener, Some(tls.config), routes, uncounted(), stopped));
        let ca_pem = std::fs::read_to_string(tls.ca_pem_path).unwrap();
        Self { port, ca_pem, calls, _stop: stop }
    }

    async fn lab(&self) -> Lab {
        let lab = lab_with(PASSWORD).await;
        let settings = json!({"via": "redfish", "host": "127.0.0.1", "port": self.port, "user": "ADMIN",
            "secret": "rack1", "trust": {"ca": self.ca_pem}, "boot_mode": "uefi"});
        told(&lab, &settings).await;
        lab
    }

    fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }
}

#[tokio::test]
async fn a_change_carries_the_tag_of_what_it_changes() {
    let state = tempfile::tempdir().unwrap();
    let bmc = Strict::start(state.path()).await;
    let lab = bmc.lab().await;
    let run = lab.start_run("node1").await;
    let boot = r#"{"Boot":{"BootSourceOverrideEnabled":"Once","BootSourceOverrideMode":"UEFI","BootSourceOverrideTarget":"Pxe"}}"#;
    let calls = bmc.calls();
    let expected = [
        format!("PATCH /redfish/v1/Systems/1 W/\"0\" {boot}"),
        format!("PATCH /redfish/v1/Systems/1 \"1\" {boot}"),
    ];
    assert_eq!(calls[..2], expected);
    // a task that is elsewhere is not followed there with the password
    assert!(calls[2].contains("ForceRestart") && calls.len() == 3, "{calls:?}");
    let failed = lab.events().await.into_iter().find(|event| event.kind == "wake_failed").unwrap();
    assert!(failed.message.contains("not its own"), "{}", failed.message);
    assert_eq!(lab.detail(run).await.summary.state, RunState::Queued);
}

#[tokio::test]
async fn a_task_is_followed_to_its_end_and_errors_are_told_in_the_services_words() {
    let state = tempfile::tempdir().unwrap();
    let bmc = Strict::start(state.path()).await;
    let lab = bmc.lab().await;
    let why = switch(&lab, "on").await.unwrap_err();
    assert!(why.contains("Exception: No power supply answers."), "{why}");
    assert_eq!(bmc.calls().iter().filter(|call| *call == "task").count(), 2);
    let why = switch(&lab, "off").await.unwrap_err();
    assert!(why.contains("The chassis is locked. Unlock it at its front."), "{why}");
    let why = switch(&lab, "soft").await.unwrap_err();
    assert!(why.contains("it cannot soft; it knows On, ForceOff, ForceRestart"), "{why}");
}
