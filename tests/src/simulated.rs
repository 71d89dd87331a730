//! A machine without hardware: fetches its boot script, claims its run and talks through the agent's own uplink, saying
//! whatever a test wants said.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

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

/// How long a machine's firmware asks for its boot script while the coordinator is away.
const BOOT_PATIENCE: Duration = Duration::from_mins(2);
/// Pause before it asks again.
const BOOT_PAUSE: Duration = Duration::from_millis(200);

/// The boot script that a machine with this MAC address gets from a boot listener. Asks again, as firmware does, while nobody
/// listens there and where an answer is cut short, as by a coordinator that is killed.
pub fn boot_script(address: SocketAddr, mac: &str) -> anyhow::Result<String> {
    let begin = clock::monotonic();
    loop {
        match boot_answer(address, mac) {
            Ok((head, body)) => {
                ensure!(head.contains(" 200 "), "{head}");
                return Ok(body);
            }
            Err(error) if begin.elapsed() > BOOT_PATIENCE => {
                return Err(error).context("no whole boot script came");
            }
            Err(_) => std::thread::sleep(BOOT_PAUSE),
        }
    }
}

/// Head and body of one answer, whole.
fn boot_answer(address: SocketAddr, mac: &str) -> std::io::Result<(String, String)> {
    let mut stream = TcpStream::connect(address)?;
    // a listener that is up and never answers must not hang a test
    stream.set_read_timeout(Some(BOOT_PATIENCE))?;
    // in one piece, as firmware sends it
    let request = format!("GET /boot/ipxe?mac={mac} HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    whole(&answer).ok_or_else(|| std::io::Error::other(format!("an answer cut short: {answer:?}")))
}

/// Head and body of an answer, if it is as long as it says.
fn whole(answer: &str) -> Option<(String, String)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let said = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    said.is_none_or(|length| body.len() >= length).then(|| (head.to_owned(), body.to_owned()))
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

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn an_answer_that_is_cut_short_is_asked_for_again() {
        let good = "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n#!ipxe\n";
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let coordinator = std::thread::spawn(move || {
            // nothing, half a head, half a body, all of it
            for length in [0, 20, good.len() - 3, good.len()] {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 512];
                assert!(stream.read(&mut request).unwrap() > 0);
                stream.write_all(&good.as_bytes()[..length]).unwrap();
            }
        });
        assert_eq!(boot_script(address, "52:54:00:00:00:01").unwrap(), "#!ipxe\n");
        coordinator.join().unwrap();
    }

    #[test]
    fn a_refusal_is_not_asked_for_again() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let coordinator = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 512];
            assert!(stream.read(&mut request).unwrap() > 0);
            stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").unwrap();
        });
        let told = boot_script(address, "52:54:00:00:00:01").unwrap_err().to_string();
        assert!(told.contains("404"), "{told}");
        coordinator.join().unwrap();
    }
}
