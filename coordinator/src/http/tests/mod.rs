//! The whole coordinator in one process, spoken to through its real listeners on free ports of the loopback.

mod agent;
mod boot;
mod browser;
mod command_line;
mod command_line_export;
mod command_line_json;
mod contrast;
mod crash;
mod crash_points;
mod cut_short;
mod editing;
mod enrolment;
mod events;
mod exchange;
mod faults;
mod full_disk;
mod hold;
mod host_mode;
mod host_stages;
mod janitor;
mod lifecycle;
mod limits;
mod memtest;
mod metrics;
mod network_test;
mod notify;
mod openapi;
mod operator;
mod order_lines;
mod pdu;
mod power;
mod power_cut;
mod redfish;
mod resume;
mod rules;
mod run_imports;
mod siblings;
mod turns;
mod unread;
mod users;
mod waivers;
mod web;
mod web_hosts;
mod web_log;
mod web_many;
mod web_million;
mod web_people;
mod web_shown;
mod webdriver;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use futures_util::future::BoxFuture;
use reqwest::{Certificate, Client, Method, RequestBuilder, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tempfile::TempDir;
use vetting_protocol::PROTOCOL_VERSION;
use vetting_protocol::agent_api::{
    Acknowledgement, Batch, BootTimeline, ClaimRequest, ClaimResponse, Directive, Heartbeat, Record,
    TLS_SERVER_NAME,
};
use vetting_protocol::ids::{RunId, Sha256Hex, StageName};
use vetting_protocol::measurement::Measurement;
use vetting_protocol::operator_api::{EventView, RunDetail, RunSummary};
use vetting_protocol::outcome::Outcome;
use vetting_protocol::problem::Problem;
use vetting_protocol::run::BootTarget;
use vetting_protocol::secret::Secret;
use vetting_protocol::users::Role;

use crate::clock::Clock;
use crate::config::Config;
use crate::http::listener::Counted;
use crate::metrics::{Listener, Metrics};
use crate::power::{Power, PowerError, WakeTarget};
use crate::run::secrets;
use crate::serve::{Server, Surroundings, start};
use crate::store::StoreOptions;
use crate::store::tokens::{self, TokenValues};

pub(super) const MAC: &str = "52:54:00:ab:cd:01";
pub(super) const BOOT: &str = "6f1c0a52-0000-4000-8000-000000000001";
pub(super) const SPEC: &str = "memory: {total_gib: 1}\n";
pub(super) const START_MS: i64 = 1_700_000_000_000;

/// Remembers whom it was asked to wake.
#[derive(Default, Clone)]
pub(super) struct Recorder(Arc<Mutex<Vec<WakeTarget>>>);

impl Power for Recorder {
    fn wake(&self, target: WakeTarget) -> BoxFuture<'_, Result<(), PowerError>> {
        self.0.lock().unwrap().push(target);
        Box::pin(std::future::ready(Ok(())))
    }
}

pub(super) struct Lab {
    state: TempDir,
    pub config: Config,
    pub clock: Clock,
    pub power: Recorder,
    pub server: Server,
    options: StoreOptions,
    operator: Secret,
    http: Client,
}

pub(super) struct Claimed {
    pub run: RunId,
    pub token: Secret,
    pub response: ClaimResponse,
    pub secret: Secret,
}

/// An operator's token without an end.
pub(super) fn token_values(name: &str, token_hash: Sha256Hex) -> TokenValues {
    TokenValues { name: name.to_owned(), token_hash, role: Role::Operator, expires_at_ms: None }
}

fn client(state: &TempDir, https: SocketAddr) -> Client {
    let pem = std::fs::read(state.path().join("tls/ca.pem")).unwrap();
    Client::builder()
        .tls_certs_only([Certificate::from_pem(&pem).unwrap()])
        .no_proxy()
        .resolve(TLS_SERVER_NAME, https)
        .build()
        .unwrap()
}

impl Lab {
    pub async fn open() -> Self {
        Self::open_with(StoreOptions::default()).await
    }

    pub async fn open_with(options: StoreOptions) -> Self {
        Self::open_at(Ipv4Addr::LOCALHOST.into(), options).await
    }

    /// One with another configuration.
    pub async fn open_configured(change: impl FnOnce(&mut Config)) -> Self {
        Self::make(Ipv4Addr::LOCALHOST.into(), StoreOptions::default(), change).await
    }

    /// One that listens at this address.
    pub async fn open_at(address: IpAddr, options: StoreOptions) -> Self {
        Self::make(address, options, |_| {}).await
    }

    async fn make(address: IpAddr, options: StoreOptions, change: impl FnOnce(&mut Config)) -> Self {
        let state = tempfile::tempdir().unwrap();
        let mut config = Config { state_dir: state.path().to_owned(), ..Config::default() };
        config.database.path = state.path().join("vetting.db");
        config.listen.https = SocketAddr::from((address, 0));
        config.listen.http = config.listen.https;
        config.power.secrets = Some(state.path().join("power-secrets.yaml"));
        config.image.dir = state.path().join("image");
        change(&mut config);
        std::fs::create_dir(&config.image.dir).unwrap();
        std::fs::write(config.image.dir.join("vmlinuz"), "kernel").unwrap();
        std::fs::write(config.image.dir.join("initrd.zst"), "0123456789").unwrap();
        // another test of this process may have been first
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (clock, power) = (Clock::settable(START_MS), Recorder::default());
        let surroundings =
            Surroundings { clock: clock.clone(), power: Arc::new(power.clone()), store: options.clone() };
        let server = start(&config, surroundings).await.unwrap();
        let operator = secrets::fresh().unwrap();
        let hash = operator.sha256();
        server
            .driver
            .store
            .write(move |connection| tokens::create(connection, &token_values("test", hash), START_MS))
            .await
            .unwrap();
        let http = client(&state, server.https);
        Self { state, config, clock, power, server, options, operator, http }
    }

    /// Ends the coordinator and starts another on the same files.
    pub async fn restarted(self) -> Self {
        self.restarted_after(|_| {}).await
    }

    /// The same, with `meanwhile` done to the database's file while nobody has it open.
    pub async fn restarted_after(self, meanwhile: impl FnOnce(&Path)) -> Self {
        let Self { state, config, clock, power, server, options, operator, .. } = self;
        server.stop().await;
        meanwhile(&config.database.path);
        let surroundings =
            Surroundings { clock: clock.clone(), power: Arc::new(power.clone()), store: options.clone() };
        let server = start(&config, surroundings).await.unwrap();
        let http = client(&state, server.https);
        Self { state, config, clock, power, server, options, operator, http }
    }

    pub fn https(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("https://{TLS_SERVER_NAME}:{}{path}", self.server.https.port());
        self.http.request(method, url)
    }

    pub fn http(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("http://{}{path}", self.server.http))
    }

    pub fn operator(&self, method: Method, path: &str) -> RequestBuilder {
        self.https(method, &format!("/api/v1/{path}")).bearer_auth(self.operator.expose())
    }

    pub async fn add_host(&self, name: &str, mac: &str) {
        let body = json!({"name": name, "mac": mac, "expected_spec_yaml": SPEC});
        let answer = self.operator(Method::POST, "hosts").json(&body).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::CREATED, "{}", answer.text().await.unwrap());
    }

    pub async fn start_run(&self, host: &str) -> RunId {
        let body = json!({"host": host, "profile": "quick"});
        let answer = self.operator(Method::POST, "runs").json(&body).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::CREATED);
        answer.json::<RunSummary>().await.unwrap().id
    }

    pub async fn script(&self, mac: &str) -> String {
        self.http(Method::GET, &format!("/boot/ipxe?mac={mac}")).send().await.unwrap().text().await.unwrap()
    }

    /// The claim secret of a fresh boot script.
    pub async fn secret(&self) -> Secret {
        let script = self.script(MAC).await;
        let (_, rest) = script.split_once("vetting.claim=").unwrap_or_else(|| panic!("{script}"));
        Secret::new(rest.split(' ').next().unwrap().to_owned())
    }

    pub fn claim_request(run: RunId, secret: &Secret, boot: &str) -> ClaimRequest {
        ClaimRequest {
            protocol_version: PROTOCOL_VERSION,
            agent_version: "0".to_owned(),
            run_id: run,
            claim_secret: secret.clone(),
            boot_id: boot.to_owned(),
            system_uuid: None,
            macs: vec![MAC.parse().unwrap()],
            timeline: BootTimeline { init_ms: Some(2_000), network_ms: Some(3_000), claim_ms: 4_000 },
            left_behind: None,
        }
    }

    pub fn claiming(&self, request: &ClaimRequest) -> RequestBuilder {
        self.https(Method::POST, "/agent/v1/claim").json(request)
    }

    /// A host with a run that an agent has claimed.
    pub async fn claimed(&self) -> Claimed {
        self.add_host("node1", MAC).await;
        let run = self.start_run("node1").await;
        self.claim_again(run, BOOT).await
    }

    pub async fn claim_again(&self, run: RunId, boot: &str) -> Claimed {
        let secret = self.secret().await;
        let answer = self.claiming(&Self::claim_request(run, &secret, boot)).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        let response: ClaimResponse = answer.json().await.unwrap();
        Claimed { run, token: response.token.clone(), response, secret }
    }

    pub fn agent(&self, claimed: &Claimed, method: Method, what: &str) -> RequestBuilder {
        self.https(method, &format!("/agent/v1/runs/{}/{what}", claimed.run))
            .bearer_auth(claimed.token.expose())
    }

    pub fn sending(&self, claimed: &Claimed, sequence: u64, records: Vec<Record>) -> RequestBuilder {
        let batch = Batch { sequence, boot_id: BOOT.to_owned(), records };
        self.agent(claimed, Method::POST, "batches").json(&batch)
    }

    pub async fn send(&self, claimed: &Claimed, sequence: u64, records: Vec<Record>) -> Acknowledgement {
        good(self.sending(claimed, sequence, records)).await
    }

    pub async fn detail(&self, run: RunId) -> RunDetail {
        good(self.operator(Method::GET, &format!("runs/{run}"))).await
    }

    pub async fn events(&self) -> Vec<EventView> {
        good(self.operator(Method::GET, "events?after=0")).await
    }

    /// Asks until the verdict is there.
    pub async fn verdict(&self, claimed: &Claimed) -> Directive {
        loop {
            let heartbeat = Heartbeat { boot_id: BOOT.to_owned() };
            let request = self.agent(claimed, Method::POST, "heartbeat").json(&heartbeat);
            let answer: Acknowledgement = good(request).await;
            if answer.directive != Directive::AwaitVerdict {
                return answer.directive;
            }
        }
    }

    /// Asks until the run is over, however it ends.
    pub async fn over(&self, run: RunId) -> RunDetail {
        loop {
            let detail = self.detail(run).await;
            if detail.summary.state.is_terminal() {
                return detail;
            }
        }
    }

    pub fn path(&self, below: &str) -> PathBuf {
        self.state.path().join(below)
    }
}

/// For a listener that stands for something else than the coordinator.
pub(super) fn uncounted() -> Counted {
    Counted { listener: Listener::Http, metrics: Metrics::new(false) }
}

/// The body of a good answer.
pub(super) async fn good<T: DeserializeOwned>(request: RequestBuilder) -> T {
    let answer = request.send().await.unwrap();
    let status = answer.status();
    let text = answer.text().await.unwrap();
    assert!(status.is_success(), "{status}: {text}");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The stable word of a refusal, with its status.
pub(super) async fn refused(request: RequestBuilder) -> (u16, String) {
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    let problem: Problem = answer.json().await.unwrap();
    assert_eq!(problem.status, status);
    (status, problem.kind.trim_start_matches("about:blank#").to_owned())
}

pub(super) fn refusal(status: u16, word: &str) -> (u16, String) {
    (status, word.to_owned())
}

pub(super) fn started(stage: StageName) -> Record {
    Record::StageStarted { stage, ts_ms: START_MS }
}

pub(super) fn reboot_planned(stage: StageName, target: BootTarget) -> Record {
    Record::RebootPlanned { stage, target, budget_ms: 0, reason: "test".to_owned() }
}

pub(super) fn finished(stage: StageName, outcome: Outcome) -> Record {
    Record::StageFinished { stage, outcome, details: Value::Null, ts_ms: START_MS + 1 }
}

pub(super) fn temperature(stage: Option<StageName>, value: Option<f64>) -> Record {
    Record::Measurement(Measurement {
        ts_ms: START_MS,
        stage,
        kind: "temp".to_owned(),
        key: "cpu/0".to_owned(),
        value,
        unit: "celsius".to_owned(),
    })
}

/// A pipeline in which all is well.
pub(super) fn healthy(claimed: &Claimed) -> Vec<Record> {
    let mut records = Vec::new();
    for planned in &claimed.response.plan.stages {
        let stage = planned.work.name();
        records.push(started(stage));
        if stage == StageName::SpecValidate {
            records.push(Record::SpecDiffs { diffs: Vec::new() });
        }
        records.push(temperature(Some(stage), Some(50.0)));
        records.push(finished(stage, Outcome::Pass));
    }
    records.push(Record::PipelineFinished { ts_ms: START_MS + 2 });
    records
}
