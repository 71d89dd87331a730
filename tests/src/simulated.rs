//! A machine without hardware: fetches its boot script, claims its run and talks through the agent's own uplink, saying
//! whatever a test wants said.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use vetting_agent::boot_parameters::{BootParameters, RunParameters};
use vetting_agent::cancel::Cancel;
use vetting_agent::clock;
use vetting_agent::console::Console;
use vetting_agent::reporter::Reporter as _;
use vetting_agent::uplink::{Client, Link as _, SPOOL_LIMIT_BYTES, Session, Timing, Uplink, claim};
use vetting_protocol::agent_api::{BootTimeline, ClaimRequest, Directive, Record};
use vetting_protocol::ids::StageName;
use vetting_protocol::outcome::Outcome;
use vetting_protocol::plan::Plan;

use crate::site::Site;

/// The connection of a simulated machine.
pub struct SimulatedAgent {
    /// What it was asked to do.
    pub plan: Plan,
    uplink: Uplink,
    cancel: Cancel,
}

struct Silent;

impl Console for Silent {
    fn line(&self, _text: &str) {}
}

/// The boot script that a machine with this MAC address gets from a boot listener.
pub fn boot_script(address: SocketAddr, mac: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    write!(stream, "GET /boot/ipxe?mac={mac} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("an HTTP answer")?;
    ensure!(head.contains(" 200 "), "{head}");
    Ok(body.to_owned())
}

/// The kernel parameters in a boot script.
pub fn run_parameters(script: &str) -> anyhow::Result<RunParameters> {
    let line = script
        .lines()
        .find(|line| line.contains("vetting.claim="))
        .context("the script boots the live image")?;
    let parameters: BootParameters = line.parse()?;
    parameters.run_parameters().map_err(|missing| anyhow::anyhow!("missing: {missing:?}"))
}

/// What a machine says of itself in its claim.
pub fn claim_request(parameters: &RunParameters, boot_id: &str) -> ClaimRequest {
    ClaimRequest {
        protocol_version: vetting_protocol::PROTOCOL_VERSION,
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        run_id: parameters.run,
        claim_secret: parameters.claim.clone(),
        boot_id: boot_id.to_owned(),
        system_uuid: None,
        macs: Vec::new(),
        timeline: BootTimeline { init_ms: None, network_ms: None, claim_ms: 1_000 },
        left_behind: None,
    }
}

impl SimulatedAgent {
    /// Boots and claims the waiting run of the host with this MAC address.
    pub fn boot(site: &Site, mac: &str, boot_id: &str) -> anyhow::Result<Self> {
        let parameters = run_parameters(&boot_script(site.listening().http, mac)?)?;
        let client = Client::new(parameters.coordinator.clone(), parameters.ca, None)?;
        let cancel = Cancel::new();
        let claimed =
            claim(&client, Timing::NORMAL, &Silent, &cancel, || claim_request(&parameters, boot_id))?;
        let session =
            Session { run: parameters.run, token: claimed.token, boot_id: boot_id.to_owned(), sequence: 0 };
        let uplink = Uplink::start(
            client,
            session,
            Timing::NORMAL,
            SPOOL_LIMIT_BYTES,
            Arc::new(Silent),
            cancel.clone(),
        )?;
        Ok(Self { plan: claimed.plan, uplink, cancel })
    }

    /// Says something.
    pub fn say(&self, record: Record) {
        self.uplink.record(record);
    }

    /// Begins a stage.
    pub fn start_stage(&self, stage: StageName) {
        self.say(Record::StageStarted { stage, ts_ms: clock::now_ms() });
    }

    /// Ends a stage.
    pub fn finish_stage(&self, stage: StageName, outcome: Outcome) {
        self.say(Record::StageFinished {
            stage,
            outcome,
            details: serde_json::json!({}),
            ts_ms: clock::now_ms(),
        });
    }

    /// Waits until all that was said is durable at the coordinator.
    pub fn flush(&self) -> anyhow::Result<Directive> {
        Ok(self.uplink.flush(&self.cancel)?)
    }
}
