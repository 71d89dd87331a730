//! Receivers of notifications: real ones, dead ones, and ones that hang.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use reqwest::Method;
use ring::hmac;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use vetting_judge::yaml;
use vetting_protocol::housekeeping::{NotificationState, NotificationsView, RetriedView};
use vetting_protocol::ids::Sha256Hex;
use vetting_protocol::run::RunState;

use super::*;

const SECRETS: &str = "hook: s3cret-of-hook\nphone: tk_phone\nmail: s3cret-of-mail\n";

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Answer {
    Status(u16),
    Nothing,
}

#[derive(Debug)]
struct Request {
    head: String,
    body: String,
}

impl Request {
    fn header(&self, name: &str) -> &str {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value).unwrap_or_default()
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// An HTTP server that takes what comes and answers as it is told.
pub(super) struct Receiver {
    address: SocketAddr,
    answer: Arc<Mutex<Answer>>,
    requests: UnboundedReceiver<Request>,
}

impl Receiver {
    pub async fn open(answer: Answer) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (heard, requests) = unbounded_channel();
        let answer = Arc::new(Mutex::new(answer));
        let shared = Arc::clone(&answer);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(take(stream, Arc::clone(&shared), heard.clone()));
            }
        });
        Self { address, answer, requests }
    }

    fn answers(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    async fn next(&mut self) -> Request {
        self.requests.recv().await.unwrap()
    }
}

async fn take(stream: TcpStream, answer: Arc<Mutex<Answer>>, requests: UnboundedSender<Request>) {
    let mut stream = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).await.unwrap() == 0 {
            return;
        }
    }
    let request = Request { head, body: String::new() };
    let mut body = vec![0; request.header("content-length").parse().unwrap()];
    stream.read_exact(&mut body).await.unwrap();
    let _ = requests.send(Request { body: String::from_utf8(body).unwrap(), ..request });
    let answer = *answer.lock().unwrap();
    match answer {
        Answer::Status(status) => {
            let text = format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream.write_all(text.as_bytes()).await.unwrap();
        }
        // until the other side goes
        Answer::Nothing => drop(stream.read_to_end(&mut Vec::new()).await),
    }
}

/// A lab whose config has this under `notifications`.
async fn lab(notifications: &str) -> Lab {
    let notifications = yaml::parse(notifications, "receivers").unwrap();
    let edit = |config: &mut Config| {
        config.notifications = notifications;
        let path = config.power.secrets.clone().unwrap();
        std::fs::write(&path, SECRETS).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    };
    Lab::open_configured(edit).await
}

pub(super) fn webhook(name: &str, receiver: &Receiver, on: &str) -> String {
    format!(
        "  {name}:\n    webhook: {{url: 'http://{}/hook', secret: hook}}\n    on: [{on}]\n",
        receiver.address
    )
}

async fn listed(lab: &Lab) -> NotificationsView {
    good(lab.operator(Method::GET, "notifications")).await
}

/// Asks until the list is as wanted.
async fn until(lab: &Lab, wanted: impl Fn(&NotificationsView) -> bool) -> NotificationsView {
    loop {
        let view = listed(lab).await;
        if wanted(&view) {
            return view;
        }
        tokio::task::yield_now().await;
    }
}

async fn pass(lab: &Lab) -> RunId {
    let claimed = lab.claimed().await;
    lab.send(&claimed, 1, healthy(&claimed)).await;
    lab.verdict(&claimed).await;
    claimed.run
}

#[tokio::test]
async fn a_webhook_tells_the_verdict_and_is_signed() {
    let mut hook = Receiver::open(Answer::Status(204)).await;
    let lab = lab(&format!("receivers:\n{}", webhook("hook", &hook, "pass, fail"))).await;
    let run = pass(&lab).await;
    let request = hook.next().await;
    assert!(request.head.starts_with("POST /hook HTTP/1.1\r\n"), "{}", request.head);
    let told = request.json();
    assert_eq!(told["version"], 1);
    assert_eq!(told["notification"]["title"], format!("PASS: node1, run {run}"));
    assert_eq!(told["notification"]["run"]["result"], "pass");
    assert_eq!(told["delivery"].to_string(), request.header("vetting-delivery"));
    // as a receiver would check it
    let signature = request.header("vetting-signature");
    let (time, digest) = signature.split_once(",v1=").unwrap();
    assert_eq!(time, format!("t={}", START_MS / 1_000));
    let signed = format!("{}.{}", time.trim_start_matches("t="), request.body);
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"s3cret-of-hook");
    let expected: [u8; 32] = hmac::sign(&key, signed.as_bytes()).as_ref().try_into().unwrap();
    assert_eq!(digest, Sha256Hex::from_bytes(expected).to_string());
    until(&lab, |view| view.notifications.iter().all(|row| row.state == NotificationState::Delivered)).await;
    // only the verdict was wanted, and no secret is anywhere
    assert_eq!(listed(&lab).await.notifications.len(), 1);
    let database = std::fs::read(&lab.config.database.path).unwrap();
    assert!(!database.windows(14).any(|bytes| bytes == b"s3cret-of-hook"));
}

#[tokio::test]
async fn a_receiver_that_hangs_holds_up_nobody_and_loses_nothing_over_a_restart() {
    let mut dead = Receiver::open(Answer::Nothing).await;
    let mut fine = Receiver::open(Answer::Status(200)).await;
    let on = "pass, 'event:host_added'";
    let receivers = [webhook("dead", &dead, on), webhook("fine", &fine, on)].concat();
    let lab = lab(&format!("receivers:\n{receivers}")).await;
    let run = pass(&lab).await;
    assert_eq!(lab.detail(run).await.summary.state, RunState::Completed);
    let titles = [fine.next().await.json(), fine.next().await.json()];
    assert_eq!(titles.map(|told| told["notification"]["event"].clone()), ["host_added", "run_state"]);
    let first = dead.next().await;
    let view = until(&lab, |view| view.receivers[1].pending == 0).await;
    assert_eq!(view.receivers[0].pending, 2);

    // the coordinator ends while an answer is waited for
    dead.answers(Answer::Status(200));
    let lab = lab.restarted().await;
    let again = dead.next().await;
    assert_eq!(again.header("vetting-delivery"), first.header("vetting-delivery"));
    assert_eq!(again.body, first.body);
    assert_eq!(dead.next().await.json()["notification"]["event"], "run_state");
    until(&lab, |view| view.receivers.iter().all(|receiver| receiver.pending == 0)).await;
    // nobody is told twice who took it
    assert!(fine.requests.is_empty() && dead.requests.is_empty());
}

#[tokio::test]
async fn a_receiver_that_says_no_is_tried_again_later_and_later() {
    let mut hook = Receiver::open(Answer::Status(503)).await;
    let lab = lab(&format!("receivers:\n{}", webhook("hook", &hook, "'event:host_added'"))).await;
    lab.add_host("node1", MAC).await;
    let tried = |attempts: u32| {
        move |view: &NotificationsView| view.notifications.first().is_some_and(|row| row.attempts == attempts)
    };
    hook.next().await;
    let view = until(&lab, tried(1)).await;
    let row = &view.notifications[0];
    assert_eq!(row.last_error.as_deref(), Some("the receiver answered 503 Service Unavailable"));
    assert_eq!(row.next_attempt_at.as_deref(), Some("2023-11-14 22:13:25"));
    lab.clock.set(START_MS + 5_000);
    hook.next().await;
    until(&lab, tried(2)).await;
    // an operator who mended it need not wait
    hook.answers(Answer::Status(200));
    let _: RetriedView = good(lab.operator(Method::POST, "notifications/retry").json(&json!({}))).await;
    hook.next().await;
    let view = until(&lab, tried(3)).await;
    assert_eq!(view.notifications[0].state, NotificationState::Delivered);
    assert_eq!(view.receivers[0].pending, 0);
}

#[tokio::test]
async fn ntfy_gets_its_form_and_its_token() {
    let mut ntfy = Receiver::open(Answer::Status(200)).await;
    let lab = lab(&format!(
        "receivers:\n  phone:\n    ntfy: {{server: 'http://{}', topic: lab, token: phone, tags: [server]}}\n    \
         on: [fail]\n    title: '{{host}} {{result}}'\n    text: '{{reasons}}'\n",
        ntfy.address
    ))
    .await;
    let claimed = lab.claimed().await;
    let records = vec![
        started(StageName::Inventory),
        finished(StageName::Inventory, Outcome::fail("das Gerät ist zu heiß")),
        Record::PipelineFinished { ts_ms: START_MS },
    ];
    lab.send(&claimed, 1, records).await;
    lab.verdict(&claimed).await;
    let request = ntfy.next().await;
    assert_eq!(request.header("authorization"), "Bearer tk_phone");
    let told = request.json();
    assert_eq!(
        (&told["topic"], &told["title"], &told["priority"]),
        (&json!("lab"), &json!("node1 fail"), &json!(4))
    );
    assert_eq!(told["tags"], json!(["server", "x"]));
    assert!(told["message"].as_str().unwrap().contains("das Gerät ist zu heiß"), "{told}");
}

#[tokio::test]
async fn a_test_says_at_once_what_is_wrong() {
    let mut hook = Receiver::open(Answer::Status(200)).await;
    let unknown = "  lost:\n    webhook: {url_secret: nobody}\n";
    let lab = lab(&format!("receivers:\n{}{unknown}", webhook("hook", &hook, "fail"))).await;
    let test = |name: &str| lab.operator(Method::POST, &format!("notifications/{name}/test"));
    assert_eq!(test("hook").send().await.unwrap().status(), StatusCode::NO_CONTENT);
    assert_eq!(hook.next().await.json()["notification"]["event"], "test");
    hook.answers(Answer::Status(401));
    let problem: Problem = test("hook").send().await.unwrap().json().await.unwrap();
    assert_eq!(problem.status, 502);
    assert!(problem.detail.contains("401"), "{}", problem.detail);
    let problem: Problem = test("lost").send().await.unwrap().json().await.unwrap();
    assert!(problem.detail.contains("there is no secret `nobody`"), "{}", problem.detail);
    assert_eq!(refused(test("x")).await, refusal(404, "not-found"));
}

#[tokio::test]
async fn what_happened_before_anybody_was_to_be_told_is_not_told() {
    let mut hook = Receiver::open(Answer::Status(200)).await;
    let mut lab = lab("receivers: {}\n").await;
    lab.add_host("node1", MAC).await;
    let receivers = format!("receivers:\n{}", webhook("hook", &hook, "'event:host_added'"));
    lab.config.notifications = yaml::parse(&receivers, "receivers").unwrap();
    // the log is followed also while it has no listeners
    let lab = loop {
        let read = lab.server.driver.store.read(|connection| {
            let seen = crate::store::settings::get(connection, "notifications.last_event")?;
            Ok::<_, crate::store::StoreError>((seen, crate::store::events::last_id(connection)?))
        });
        let (seen, last) = read.await.unwrap();
        if seen == Some(last.to_string()) {
            break lab.restarted().await;
        }
        tokio::task::yield_now().await;
    };
    lab.add_host("node2", "52:54:00:ab:cd:02").await;
    assert_eq!(hook.next().await.json()["notification"]["host"], "node2");
}

/// A mail server (aiosmtpd) that asks for STARTTLS and a password, and prints what it takes.
const MAIL_SERVER: &str = r#"
import json, ssl, sys
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
class Handler:
    async def handle_DATA(self, server, session, envelope):
        print(json.dumps({"from": envelope.mail_from, "to": envelope.rcpt_tos, "starttls": session.ssl is not None,
                          "text": envelope.content.decode()}), flush=True)
        return "250 taken"
def login(server, session, envelope, mechanism, data):
    good = data.login == b"lab" and data.password == b"s3cret-of-mail"
    return AuthResult(success=good, handled=False)
mode, folder = sys.argv[1:]
tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
tls.load_cert_chain(folder + "/cert.pem", folder + "/key.pem")
options = {}
if mode == "starttls":
    options = dict(tls_context=tls, require_starttls=True, authenticator=login, auth_required=True)
if mode == "tls":
    options = dict(ssl_context=tls)
class OnAnyPort(Controller):
    def _trigger_server(self):
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()
controller = OnAnyPort(Handler(), hostname="127.0.0.1", port=0, ready_timeout=60, **options)
controller.start()
print(controller.server.sockets[0].getsockname()[1], flush=True)
sys.stdin.read()
"#;

struct MailServer {
    port: u16,
    lines: Lines<BufReader<ChildStdout>>,
    _child: Child,
}

impl MailServer {
    #[expect(clippy::disallowed_methods, reason = "a real mail server is another program")]
    async fn open(mode: &str, folder: &Path) -> Self {
        let mut child = Command::new("/usr/bin/python3")
            .args(["-c", MAIL_SERVER, mode])
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port =
            lines.next_line().await.unwrap().expect("aiosmtpd does not start; `make packages` installs it");
        Self { port: port.parse().unwrap(), lines, _child: child }
    }

    async fn next(&mut self) -> Value {
        serde_json::from_str(&self.lines.next_line().await.unwrap().unwrap()).unwrap()
    }
}

/// A certificate of its own authority for `localhost`, as a lab has it.
fn certificate(folder: &Path) {
    let mut authority = rcgen::CertificateParams::default();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let authority_pem = authority.self_signed(&authority_key).unwrap().pem();
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let names = vec!["localhost".to_owned()];
    let server = rcgen::CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
    std::fs::write(folder.join("ca.pem"), authority_pem).unwrap();
    std::fs::write(folder.join("cert.pem"), server.pem()).unwrap();
    std::fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
}

#[tokio::test]
async fn mail_goes_by_starttls_with_a_password_by_tls_and_on_this_box_without() {
    let folder = tempfile::tempdir().unwrap();
    certificate(folder.path());
    for mode in ["starttls", "tls", "none"] {
        let mut server = MailServer::open(mode, folder.path()).await;
        let login = if mode == "starttls" { "user: lab, password: mail, " } else { "" };
        let lab = lab(&format!(
            "ca: {}\nreceivers:\n  mail:\n    smtp: {{host: localhost, port: {}, tls: {mode}, {login}\
             from: 'Lab <lab@example.org>', to: [a@example.org, b@example.org]}}\n    on: [pass]\n    \
             title: 'Prüfstand: {{headline}}'\n",
            folder.path().join("ca.pem").display(),
            server.port
        ))
        .await;
        pass(&lab).await;
        let mail = server.next().await;
        assert_eq!(mail["from"], "lab@example.org", "{mode}");
        assert_eq!(mail["to"], json!(["a@example.org", "b@example.org"]));
        assert_eq!(mail["starttls"], mode == "starttls");
        let text = mail["text"].as_str().unwrap();
        assert!(text.contains("Subject: =?utf-8?b?UHLDvGZzdGFuZDo=?= PASS"), "{text}");
        assert!(text.contains("Message-ID: <vetting-1-") && text.contains("Reporting"), "{text}");
        until(&lab, |view| view.receivers[0].pending == 0).await;
    }
}

#[tokio::test]
async fn a_mail_server_that_nobody_vouches_for_gets_nothing() {
    let folder = tempfile::tempdir().unwrap();
    certificate(folder.path());
    let server = MailServer::open("starttls", folder.path()).await;
    let receiver = |name: &str, login: &str| {
        format!(
            "  {name}:\n    smtp: {{host: localhost, port: {}, {login}from: a@example.org, to: [a@example.org]}}\n",
            server.port
        )
    };
    let strange = lab(&format!("receivers:\n{}", receiver("mail", "user: lab, password: mail, "))).await;
    let test = strange.operator(Method::POST, "notifications/mail/test");
    let problem: Problem = test.send().await.unwrap().json().await.unwrap();
    assert!(
        problem.detail.contains("ertificate") || problem.detail.contains("UnknownIssuer"),
        "{}",
        problem.detail
    );
    let ca = folder.path().join("ca.pem");
    let wrong = receiver("mail", "user: lab, password: hook, ");
    let wrong = lab(&format!("ca: {}\nreceivers:\n{wrong}", ca.display())).await;
    let test = wrong.operator(Method::POST, "notifications/mail/test");
    let problem: Problem = test.send().await.unwrap().json().await.unwrap();
    assert!(problem.detail.contains("535") && !problem.detail.contains("s3cret"), "{}", problem.detail);
}
