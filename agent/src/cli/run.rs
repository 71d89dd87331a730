//! `run`: claims a run, works through it, and shows its verdict.

#![expect(clippy::disallowed_methods, reason = "reads the files that the user and PID 1 name")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use vetting_protocol::PROTOCOL_VERSION;
use vetting_protocol::agent_api::{
    AfterRun, BootTimeline, ClaimRequest, ClaimResponse, HoldOrder, SshAccess,
};
use vetting_protocol::crash::LeftBehind;
use vetting_protocol::host_mode::{self, HostRun};
use vetting_protocol::ids::RunId;
use vetting_protocol::plan::Plan;
use vetting_protocol::run::{BootTarget, RunResult};
use vetting_protocol::secret::Secret;
use vetting_protocol::stick::Proxy;

use super::machine::Machine;
use super::{CliError, Exit, interrupt};
use crate::boot_parameters::{CaPin, Endpoint};
use crate::cancel::Cancel;
use crate::clock;
use crate::console::{Console, ConsoleReporter, Terminal, chain};
use crate::hold::Door;
use crate::init::session::SessionFile;
use crate::left_behind;
use crate::pipeline::{self, AfterHold, Pipeline, RunEnd};
use crate::stages;
use crate::tools::runner::SystemRunner;
use crate::uplink::{self, Client, CoordinatorEnd, Link, SPOOL_LIMIT_BYTES, Session, Timing, Uplink};

/// A clock that differs by less from the coordinator's is left as it is.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(2);
/// How often a file of PID 1 is looked for.
const LOOK: Duration = Duration::from_millis(10);
/// Longest wait for the driver that shows what an earlier boot left behind.
const DRIVER_PATIENCE: Duration = Duration::from_secs(3);
/// How long the coordinator may be away when it is asked something outside the stream.
const ASKING_PATIENCE: Duration = Duration::from_mins(10);
/// Longest wait for the machine's devices.
const DEVICES_PATIENCE: Duration = Duration::from_mins(1);

/// Arguments of `run`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The claim secret is read from --claim-file or from the environment variable VETTING_CLAIM.

Example:
  VETTING_CLAIM=… vetting-agent run --coordinator https://10.0.0.1:8443 --ca sha256:… --run 7"
)]
pub struct RunArguments {
    /// The coordinator: HOST:PORT or https://HOST:PORT
    #[arg(long, value_name = "URL")]
    coordinator: Endpoint,
    /// Fingerprint of the coordinator's CA certificate: sha256: and 64 hex digits
    #[arg(long, value_name = "FINGERPRINT")]
    ca: CaPin,
    /// Number of the run
    #[arg(long, value_name = "N")]
    run: RunId,
    /// File with the run's one-time claim secret
    #[arg(long, value_name = "FILE")]
    claim_file: Option<PathBuf>,
    /// File with the URL of the HTTP proxy that leads to the coordinator: http://[USER:PASSWORD@]HOST:PORT
    #[arg(long, value_name = "FILE")]
    proxy_file: Option<PathBuf>,
    /// Set the clock from the coordinator's, and end with 80 or 81 to ask PID 1 to power off or reboot
    #[arg(long, hide = true)]
    live_image: bool,
    /// Where to leave what PID 1 needs to report a crash
    #[arg(long, hide = true, value_name = "FILE")]
    session_file: Option<PathBuf>,
    /// A file that appears when every device of the machine is there; no stage starts before
    #[arg(long, hide = true, value_name = "FILE")]
    devices_ready_file: Option<PathBuf>,
    /// When PID 1 began, ms after the kernel
    #[arg(long, hide = true, value_name = "MS")]
    init_ms: Option<u64>,
    /// A file that appears when the first interface has an address, and tells when that was, ms after the kernel
    #[arg(long, hide = true, value_name = "FILE")]
    network_ready_file: Option<PathBuf>,
    /// What host mode was offered
    #[arg(skip)]
    host_mode: Option<HostMode>,
}

/// What a run on an installed system is begun with.
#[derive(Debug)]
struct HostMode {
    claim_secret: Secret,
    proxy: Option<Proxy>,
}

impl RunArguments {
    /// A run that was offered to an agent in host mode.
    pub(super) fn on_installed_system(
        coordinator: Endpoint,
        ca: CaPin,
        proxy: Option<Proxy>,
        offered: HostRun,
    ) -> Self {
        Self {
            coordinator,
            ca,
            run: offered.run_id,
            claim_file: None,
            proxy_file: None,
            live_image: false,
            session_file: None,
            devices_ready_file: None,
            init_ms: None,
            network_ready_file: None,
            host_mode: Some(HostMode { claim_secret: offered.claim_secret, proxy }),
        }
    }

    fn claim_secret(&self) -> Result<Secret, CliError> {
        if let Some(HostMode { claim_secret, .. }) = &self.host_mode {
            return Ok(claim_secret.clone());
        }
        let text = match &self.claim_file {
            Some(path) => std::fs::read_to_string(path)
                .map_err(|source| CliError::File { path: path.clone(), source })?,
            None => std::env::var("VETTING_CLAIM").map_err(|_| CliError::NoClaim)?,
        };
        let secret = text.trim();
        if secret.is_empty() { Err(CliError::NoClaim) } else { Ok(Secret::new(secret.to_owned())) }
    }

    /// From a file, since it may hold a password.
    fn proxy(&self) -> Result<Option<Proxy>, CliError> {
        if let Some(HostMode { proxy, .. }) = &self.host_mode {
            return Ok(proxy.clone());
        }
        let Some(path) = &self.proxy_file else { return Ok(None) };
        let text =
            std::fs::read_to_string(path).map_err(|source| CliError::File { path: path.clone(), source })?;
        text.trim().parse().map(Some).map_err(|source| CliError::Proxy { path: path.clone(), source })
    }

    /// Waits for the network of the live image; `None` on any other machine.
    fn network_ms(&self, interrupted: &Cancel) -> Option<u64> {
        let file = self.network_ready_file.as_ref()?;
        while !interrupted.is_raised() {
            // it appears whole
            if let Ok(text) = std::fs::read_to_string(file) {
                return text.trim().parse().ok();
            }
            std::thread::sleep(LOOK);
        }
        None
    }

    fn claim_request(
        &self,
        machine: &Machine,
        secret: &Secret,
        boot_id: &str,
        network_ms: Option<u64>,
    ) -> ClaimRequest {
        ClaimRequest {
            protocol_version: PROTOCOL_VERSION,
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            run_id: self.run,
            claim_secret: secret.clone(),
            boot_id: boot_id.to_owned(),
            system_uuid: machine.system_uuid(),
            macs: machine.macs(),
            timeline: BootTimeline { init_ms: self.init_ms, network_ms, claim_ms: clock::uptime_ms() },
            left_behind: None,
        }
    }
}

/// What an earlier boot left behind. Under UEFI the kernel needs a driver to see it, which is on its way.
fn left_behind(machine: &Machine) -> LeftBehind {
    let host = &machine.host;
    let begin = clock::monotonic();
    let awaited = || host.exists("/sys/firmware/efi") && !host.exists("/sys/module/efi_pstore");
    while awaited() && begin.elapsed() < DRIVER_PATIENCE {
        std::thread::sleep(LOOK);
    }
    let mut left = left_behind::collect(host);
    if awaited() {
        left.unread.push("UEFI variables: their driver is not there".to_owned());
    }
    left
}

/// Waits until every device of the live image is there (`file` appears); says so if they are not after `patience`.
/// Without a file there is nothing to wait for.
pub(super) fn devices_doubt(file: Option<&Path>, patience: Duration) -> Option<String> {
    let file = file?;
    let begin = clock::monotonic();
    while !file.exists() {
        if begin.elapsed() >= patience {
            return Some(format!("devices were still appearing after {} s", patience.as_secs()));
        }
        std::thread::sleep(LOOK);
    }
    None
}

pub(super) fn run(machine: &Machine, arguments: &RunArguments) -> Result<Exit, CliError> {
    let console: Arc<dyn Console> = Arc::new(Terminal::Stdout);
    let interrupted = Cancel::new();
    interrupt::watch(vec![interrupted.clone()])?;
    work(machine, arguments, console, interrupted)
}

/// Claims the run and works on it, until its end or until `interrupted` is raised.
pub(super) fn work(
    machine: &Machine,
    arguments: &RunArguments,
    console: Arc<dyn Console>,
    interrupted: Cancel,
) -> Result<Exit, CliError> {
    let secret = arguments.claim_secret()?;
    let boot_id = machine.boot_id()?;
    let proxy = arguments.proxy()?;
    let client = Client::new(arguments.coordinator.clone(), arguments.ca, proxy.as_ref())?;
    let network_ms = arguments.network_ms(&interrupted);
    let left_behind = arguments.live_image.then(|| left_behind(machine));
    let through = proxy.as_ref().map_or_else(String::new, |proxy| format!(" through the proxy {proxy}"));
    console
        .line(&format!("claiming run {} at coordinator {}{through}", arguments.run, arguments.coordinator));
    let answer = uplink::claim(&client, Timing::NORMAL, &*console, &interrupted, || ClaimRequest {
        left_behind: left_behind.clone(),
        ..arguments.claim_request(machine, &secret, &boot_id, network_ms)
    })?;
    if arguments.host_mode.is_some()
        && let Some(why) = host_mode::objection(&answer.plan)
    {
        return Err(CliError::NotOnInstalledSystem { why });
    }
    if left_behind.is_some_and(|left| !left.dumps.is_empty()) {
        for error in left_behind::forget(&machine.host) {
            console.line(&format!("a dump that was told of an earlier crash stays: {error}"));
        }
    }
    let session = Session { run: arguments.run, token: answer.token.clone(), boot_id, sequence: 0 };
    settle_in(arguments, &answer, proxy.as_ref(), &session, &*console)?;
    let inventory_doubt = devices_doubt(arguments.devices_ready_file.as_deref(), DEVICES_PATIENCE);
    let work = Work { machine, arguments, proxy, console, interrupted, inventory_doubt };
    work.to_the_end(session, answer.plan)
}

/// A claimed run, for as long as this process works on it.
struct Work<'a> {
    machine: &'a Machine,
    arguments: &'a RunArguments,
    proxy: Option<Proxy>,
    console: Arc<dyn Console>,
    interrupted: Cancel,
    inventory_doubt: Option<String>,
}

impl Work<'_> {
    /// Goes through the plan, and through the one that follows a hold, until the machine is let go.
    fn to_the_end(&self, mut session: Session, mut plan: Plan) -> Result<Exit, CliError> {
        loop {
            let (end, link) = self.go_through(session.clone(), plan)?;
            if !self.arguments.live_image {
                return Ok(exit_of(&end));
            }
            if let Some(exit) = self.leave(&end, &*link, &session)? {
                return Ok(exit);
            }
            // its batches are numbered on by the next one
            drop(link);
            self.console.line("the run goes on");
            let client = self.client()?;
            let answer =
                uplink::ask_for_plan(&client, &session, Timing::NORMAL, ASKING_PATIENCE, &*self.console)?;
            session.sequence = answer.acknowledged_sequence;
            plan = answer.plan;
        }
    }

    /// A connection belongs to the runtime it was made in, so each that asks gets a client of its own.
    fn client(&self) -> Result<Client, CliError> {
        Ok(Client::new(self.arguments.coordinator.clone(), self.arguments.ca, self.proxy.as_ref())?)
    }

    fn go_through(&self, session: Session, plan: Plan) -> Result<(RunEnd, Arc<dyn Link>), CliError> {
        let cancel = self.interrupted.below();
        let counterpart = CoordinatorEnd {
            endpoint: self.arguments.coordinator.clone(),
            pin: self.arguments.ca,
            proxy: self.proxy.clone(),
            run: session.run,
            token: session.token.clone(),
            timing: Timing::NORMAL,
        };
        let uplink: Arc<dyn Link> = Arc::new(Uplink::start(
            self.client()?,
            session,
            Timing::NORMAL,
            SPOOL_LIMIT_BYTES,
            Arc::clone(&self.console),
            cancel.clone(),
        )?);
        let order = plan.stages.iter().map(|planned| planned.work.name()).collect();
        let pipeline = Pipeline {
            subject: format!("host {}, run {}", plan.host_name, plan.run_id),
            plan,
            stages: stages::ALL,
            host: self.machine.host.clone(),
            tools: Arc::clone(&self.machine.tools),
            link: Arc::clone(&uplink),
            shown: Arc::new(ConsoleReporter::new(Arc::clone(&self.console), order)),
            console: Arc::clone(&self.console),
            counterpart: Arc::new(counterpart),
            inventory_doubt: self.inventory_doubt.clone(),
            restarts: self.arguments.live_image,
            cancel,
            grace: pipeline::STAGE_GRACE,
        };
        Ok((pipeline.run(), uplink))
    }

    /// In the live image the machine's fate follows the run's; while it is to stay, this stays. `None`: the run goes on.
    fn leave(&self, end: &RunEnd, link: &dyn Link, session: &Session) -> Result<Option<Exit>, CliError> {
        let then = match end {
            // the coordinator switches it on again
            RunEnd::Rebooting { target: BootTarget::LinuxCold, .. } => return Ok(Some(Exit::PowerOff)),
            RunEnd::Rebooting { .. } => return Ok(Some(Exit::Reboot)),
            RunEnd::Finished { then: AfterRun::Stay, hold, .. } => {
                self.console.line("this machine is kept up as it is; the coordinator says when to let it go");
                let _door = hold.as_ref().map(|order| self.open_door(order, session));
                match pipeline::stay(link, &self.interrupted)? {
                    AfterHold::GoOn => return Ok(None),
                    AfterHold::LetGo(then) => then,
                }
            }
            RunEnd::Aborted { then: AfterRun::Stay, .. } => match pipeline::stay(link, &self.interrupted)? {
                AfterHold::GoOn => return Ok(None),
                AfterHold::LetGo(then) => then,
            },
            end => match end.then() {
                None => return Ok(Some(Exit::Error)),
                Some(then) => then,
            },
        };
        Ok(Some(match then {
            AfterRun::PowerOff => Exit::PowerOff,
            AfterRun::Reboot => Exit::Reboot,
            // stay() ends only with another word
            AfterRun::Stay => Exit::Error,
        }))
    }

    /// Lets a person in. A coordinator that cannot be told of it holds the machine all the same.
    fn open_door(&self, order: &HoldOrder, session: &Session) -> Door {
        let door = Door::open(order, &SystemRunner::new(), &self.console);
        let told = self.client().and_then(|client| {
            let access = door.access();
            let timing = Timing::NORMAL;
            Ok(uplink::report_hold(&client, session, access, timing, ASKING_PATIENCE, &*self.console)?)
        });
        match told {
            Ok(_) if matches!(door.access(), SshAccess::Open { .. }) => {
                self.console.line("a person can log in by SSH, with the key of this run");
            }
            Ok(_) => {}
            Err(error) => {
                self.console.line(&format!("the coordinator is not told how to log in: {}", chain(&error)));
            }
        }
        door
    }
}

/// What is done once between claim and plan.
fn settle_in(
    arguments: &RunArguments,
    answer: &ClaimResponse,
    proxy: Option<&Proxy>,
    session: &Session,
    console: &dyn Console,
) -> Result<(), CliError> {
    if arguments.live_image {
        match clock::set_if_off(answer.server_time_ms, CLOCK_TOLERANCE) {
            Ok(None) => {}
            Ok(Some(difference)) => console.line(&format!("clock set: it was off by {difference} ms")),
            Err(error) => console.line(&format!("the clock cannot be set: {error}")),
        }
    }
    if let Some(path) = &arguments.session_file {
        SessionFile::new(&arguments.coordinator, arguments.ca, proxy.cloned(), session)
            .write(path)
            .map_err(|source| CliError::File { path: path.clone(), source })?;
    }
    let plan = &answer.plan;
    console.line(&format!(
        "run {} is claimed: host {}, profile {}, {} stages",
        plan.run_id,
        plan.host_name,
        plan.profile,
        plan.stages.len()
    ));
    Ok(())
}

fn exit_of(end: &RunEnd) -> Exit {
    match end {
        RunEnd::Finished { result: RunResult::Pass, .. } => Exit::Pass,
        RunEnd::Finished { result: RunResult::Fail, .. } => Exit::Fail,
        RunEnd::Aborted { .. } => Exit::Aborted,
        RunEnd::Rebooting { .. } | RunEnd::Interrupted | RunEnd::Lost(_) => Exit::Error,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        run: RunArguments,
    }

    fn arguments(more: &[&str]) -> RunArguments {
        let ca = format!("sha256:{}", "ab".repeat(32));
        let words = ["run", "--coordinator", "10.0.0.1:8443", "--ca", &ca, "--run", "7"];
        Line::parse_from(words.iter().chain(more)).run
    }

    #[test]
    fn devices_that_do_not_settle_put_the_inventory_in_doubt() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("devices-ready");
        let late = arguments(&["--devices-ready-file", file.to_str().unwrap()]).devices_ready_file;
        let doubt = devices_doubt(late.as_deref(), Duration::ZERO);
        assert_eq!(doubt.unwrap(), "devices were still appearing after 0 s");
        std::fs::write(&file, "").unwrap();
        assert_eq!(devices_doubt(late.as_deref(), Duration::ZERO), None);
        assert_eq!(devices_doubt(arguments(&[]).devices_ready_file.as_deref(), Duration::ZERO), None);
    }
}
