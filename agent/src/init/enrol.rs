//! A live session with a coordinator but no run: the machine asks to be taken in, and waits for an operator if it must.

use std::path::Path;
use std::time::Duration;

use vetting_protocol::PROTOCOL_VERSION;
use vetting_protocol::enrolment::EnrolRequest;
use vetting_protocol::ids::MacAddress;
use vetting_protocol::stick::{Proxy, StickCoordinator};

use crate::boot_parameters::{EnrolParameters, RunParameters};
use crate::clock;
use crate::console::{Console, chain};
use crate::host::Host;
use crate::identity;
use crate::uplink::{self, Client, Timing};

/// How often a file of this session is looked for.
const LOOK: Duration = Duration::from_millis(50);
/// Longest wait for the machine's devices: a card that comes later is not shown.
const DEVICES_PATIENCE: Duration = Duration::from_mins(1);
/// A clock that differs by less from the coordinator's is left as it is.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(2);

impl From<&StickCoordinator> for EnrolParameters {
    fn from(stick: &StickCoordinator) -> Self {
        Self { coordinator: stick.url.clone(), ca: stick.ca, token: stick.enrolment_token.clone() }
    }
}

/// Asks until there is a run. The files tell that the network and the devices are there. An error is what to show
/// before the machine restarts.
pub(super) fn wait_for_run(
    parameters: &EnrolParameters,
    proxy: Option<&Proxy>,
    boot_mac: Option<MacAddress>,
    host: &Host,
    console: &dyn Console,
    network_ready: &Path,
    devices_ready: &Path,
) -> Result<RunParameters, String> {
    let EnrolParameters { coordinator, ca, token } = parameters;
    let begin = clock::monotonic();
    while !devices_ready.exists() && begin.elapsed() < DEVICES_PATIENCE {
        std::thread::sleep(LOOK);
    }
    while !network_ready.exists() {
        std::thread::sleep(LOOK);
    }
    let client = Client::new(coordinator.clone(), *ca, proxy).map_err(|error| chain(&error))?;
    let request = EnrolRequest {
        protocol_version: PROTOCOL_VERSION,
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        token: token.clone(),
        ticket: None,
        identity: identity::present(host, boot_mac),
    };
    console.line(&format!("this machine has no run; it asks coordinator {coordinator} to be taken in"));
    let enrolled = uplink::enrol(&client, Timing::NORMAL, console, request).map_err(|error| chain(&error))?;
    match clock::set_if_off(enrolled.server_time_ms, CLOCK_TOLERANCE) {
        Ok(None) => {}
        Ok(Some(difference)) => console.line(&format!("clock set: it was off by {difference} ms")),
        Err(error) => console.line(&format!("the clock cannot be set: {error}")),
    }
    console.line(&format!("this machine is {}; run {} waits for it", enrolled.host_name, enrolled.run));
    Ok(RunParameters { coordinator: coordinator.clone(), ca: *ca, run: enrolled.run, claim: enrolled.claim })
}
