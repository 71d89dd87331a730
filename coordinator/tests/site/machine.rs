//! A machine that is vetted at a site, without a machine: what its agent would say.

use std::net::SocketAddr;

use reqwest::{Certificate, Client, RequestBuilder};
use serde::de::DeserializeOwned;
use serde_json::Value;
use vetting_protocol::PROTOCOL_VERSION;
use vetting_protocol::agent_api::{
    Acknowledgement, Batch, BootTimeline, ClaimRequest, ClaimResponse, Directive, Heartbeat, Record,
    TLS_SERVER_NAME,
};
use vetting_protocol::ids::{RunId, StageName};
use vetting_protocol::inventory::Inventory;
use vetting_protocol::measurement::Measurement;
use vetting_protocol::outcome::Outcome;
use vetting_protocol::secret::Secret;

use super::Site;

const BOOT: &str = "6f1c0a52-0000-4000-8000-000000000001";

/// What differs between machines that are alike.
pub struct Machine {
    pub mac: &'static str,
    /// Of its first DIMM, or of all that Linux sees.
    pub memory_bytes: u64,
    /// Of a CPU, in the last stage.
    pub celsius: f64,
}

async fn good<T: DeserializeOwned>(request: RequestBuilder) -> T {
    let answer = request.send().await.unwrap();
    let status = answer.status();
    let text = answer.text().await.unwrap();
    assert!(status.is_success(), "{status}: {text}");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

impl Machine {
    fn records(&self, plan: &ClaimResponse) -> Vec<Record> {
        let text = include_str!("../../judge/fixtures/qemu-q35.inventory.json");
        let mut inventory: Inventory = serde_json::from_str(text).unwrap();
        inventory.memory.visible_bytes = self.memory_bytes;
        inventory.memory.installed_bytes = Some(self.memory_bytes);
        let text = include_str!("../../judge/fixtures/qemu-q35.firmware.json");
        let firmware = serde_json::from_str(text).unwrap();
        let (mut records, ts_ms) = (Vec::new(), 1_700_000_000_000);
        for planned in &plan.plan.stages {
            let stage = planned.work.name();
            records.push(Record::StageStarted { stage, ts_ms });
            if stage == StageName::SpecValidate {
                records.push(Record::SpecDiffs { diffs: Vec::new() });
            }
            records.push(Record::StageFinished {
                stage,
                outcome: Outcome::Pass,
                details: Value::Null,
                ts_ms,
            });
        }
        let (kind, key) = ("temp".to_owned(), "cpu/0".to_owned());
        let stage = plan.plan.stages.last().map(|planned| planned.work.name());
        let (value, unit) = (Some(self.celsius), "celsius".to_owned());
        records.insert(
            records.len() - 1,
            Record::Measurement(Measurement { ts_ms, stage, kind, key, value, unit }),
        );
        records.insert(1, Record::Inventory(Box::new(inventory)));
        records.insert(2, Record::Firmware(firmware));
        records.push(Record::PipelineFinished { ts_ms });
        records
    }

    /// Goes through a run to its verdict.
    pub fn is_vetted(&self, site: &Site, run: RunId) {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let work = async {
            let told = std::fs::read(site.folder.path().join("var/coordinator.json")).unwrap();
            let told: Value = serde_json::from_slice(&told).unwrap();
            let https: SocketAddr = told["https"].as_str().unwrap().parse().unwrap();
            let ca = std::fs::read(site.folder.path().join("var/tls/ca.pem")).unwrap();
            let client = Client::builder()
                .tls_certs_only([Certificate::from_pem(&ca).unwrap()])
                .no_proxy()
                .resolve(TLS_SERVER_NAME, https)
                .build()
                .unwrap();
            let script = format!("http://{}/boot/ipxe?mac={}", told["http"].as_str().unwrap(), self.mac);
            let script = client.get(script).send().await.unwrap().text().await.unwrap();
            let (_, rest) = script.split_once("vetting.claim=").unwrap_or_else(|| panic!("{script}"));
            let claim = ClaimRequest {
                protocol_version: PROTOCOL_VERSION,
                agent_version: "0".to_owned(),
                run_id: run,
                claim_secret: Secret::new(rest.split(' ').next().unwrap().to_owned()),
                boot_id: BOOT.to_owned(),
                system_uuid: None,
                macs: vec![self.mac.parse().unwrap()],
                timeline: BootTimeline { init_ms: None, network_ms: None, claim_ms: 4_000 },
                left_behind: None,
            };
            let agent = format!("https://{TLS_SERVER_NAME}:{}/agent/v1", https.port());
            let plan: ClaimResponse = good(client.post(format!("{agent}/claim")).json(&claim)).await;
            let post = |what: &str| {
                client.post(format!("{agent}/runs/{run}/{what}")).bearer_auth(plan.token.expose())
            };
            let batch = Batch { sequence: 1, boot_id: BOOT.to_owned(), records: self.records(&plan) };
            let _: Acknowledgement = good(post("batches").json(&batch)).await;
            let alive = Heartbeat { boot_id: BOOT.to_owned() };
            while good::<Acknowledgement>(post("heartbeat").json(&alive)).await.directive
                == Directive::AwaitVerdict
            {}
        };
        tokio::runtime::Runtime::new().unwrap().block_on(work);
    }
}
