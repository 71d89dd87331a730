//! The live session, PID 1's child: kernel parameters, modules, network, then `run`, whose lines it passes on and
//! whose death it reports.

#![expect(clippy::disallowed_methods, reason = "sets the kernel's log level and writes below /run/vetting")]

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::SigSet;
use vetting_protocol::agent_api::AfterRun;
use vetting_protocol::secret::Secret;
use vetting_protocol::stick::{Proxy, StickSettings};

use super::shell::Shells;
use super::{enrol, fate, haste, modules, network, stick};
use crate::boot_parameters::{BootParameters, EnrolParameters, RunParameters};
use crate::cli::Exit;
use crate::clock;
use crate::console::{Console, Terminal, chain, spoken};
use crate::host::Host;
use crate::tools::runner::{Exit as ToolExit, Leads, Service, SystemRunner};

/// Where the live session keeps its files: in memory, for root.
pub(super) const RUN_DIRECTORY: &str = "/run/vetting";

/// The boot script's time is as old as the download took, so a clock that is about right is better.
const STALE: Duration = Duration::from_mins(10);
/// Lines of `run` that are kept for a crash report.
const KEPT_LINES: usize = 60;
/// Time to read what went wrong before the machine restarts, seconds.
const READING_TIME_SECONDS: u64 = 60;

/// Appear in [`RUN_DIRECTORY`] when an interface has an address that reaches the coordinator, and when all devices are there.
const NETWORK_READY: &str = "network-ready";
const DEVICES_READY: &str = "devices-ready";
/// What `run` leaves there after its claim.
const SESSION_FILE: &str = "session.json";

fn run_file(name: &str) -> PathBuf {
    Path::new(RUN_DIRECTORY).join(name)
}

/// Does everything of the live image but what only PID 1 can. `init_ms` is when that began.
pub fn live(init_ms: u64) -> Exit {
    // PID 1 blocks signals to take them one by one; its children shall not
    let unblocked = SigSet::all().thread_unblock();
    let console: Arc<dyn Console> = Arc::new(Terminal::Stdout);
    if let Err(error) = unblocked {
        console.line(&format!("signals stay blocked: {error}"));
    }
    let runner = SystemRunner::new();
    let host = Host::live();
    let parameters = read_parameters(&host);
    let shells = shells_if_asked_for(parameters.as_ref().ok(), &runner, &console);
    let problem = match parameters {
        Ok(parameters) => match session(&parameters, init_ms, &host, &runner, &console) {
            Ok(exit) => return exit,
            Err(problem) => problem,
        },
        Err(problem) => problem,
    };
    restart_after(&problem, shells, &*console)
}

/// What follows when a live session died: no second one, but the coordinator is told, and what it says is done.
pub fn after_death(how: &str) -> Exit {
    let console: Arc<dyn Console> = Arc::new(Terminal::Stdout);
    if let Err(error) = SigSet::all().thread_unblock() {
        console.line(&format!("signals stay blocked: {error}"));
    }
    let runner = SystemRunner::new();
    let parameters = read_parameters(&Host::live());
    let shells = shells_if_asked_for(parameters.as_ref().ok(), &runner, &console);
    match obey_coordinator(&*console, &run_file(SESSION_FILE), how, Vec::new()) {
        Ok(exit) => exit,
        Err(problem) => restart_after(&problem, shells, &*console),
    }
}

fn shells_if_asked_for(
    parameters: Option<&BootParameters>,
    runner: &SystemRunner,
    console: &Arc<dyn Console>,
) -> Option<Shells> {
    let asked = parameters.is_some_and(|parameters| parameters.shell);
    asked.then(|| Shells::start(runner, console))
}

/// Shows why the session cannot go on, and leaves time to read it.
fn restart_after(problem: &str, shells: Option<Shells>, console: &dyn Console) -> Exit {
    console.line(problem);
    match shells {
        Some(shells) => shells.wait_for_end(console),
        None => fate::count_down(console, READING_TIME_SECONDS),
    }
    Exit::Reboot
}

fn read_parameters(host: &Host) -> Result<BootParameters, String> {
    let line =
        host.text("/proc/cmdline").map_err(|error| format!("no kernel command line: {}", chain(&error)))?;
    line.parse().map_err(|error| chain(&error))
}

/// From parameters to the end of `run`. An error is what to show before the machine restarts.
fn session(
    parameters: &BootParameters,
    init_ms: u64,
    host: &Host,
    runner: &SystemRunner,
    console: &Arc<dyn Console>,
) -> Result<Exit, String> {
    quiet_kernel(&**console);
    watch_machine_checks();
    for name in &parameters.unknown {
        console.line(&format!("kernel parameter {name} is not known and has no effect"));
    }
    if let Some(time_ms) = parameters.time_ms {
        match clock::set_if_off(time_ms, STALE) {
            Ok(None) => {}
            Ok(Some(difference)) => console.line(&format!("clock set: it was off by {difference} ms")),
            Err(error) => console.line(&format!("the clock cannot be set: {error}")),
        }
    }
    let missing = |names: Vec<&str>| {
        format!(
            "nothing to do: the kernel parameters {} are missing. Boot this machine through its coordinator",
            names.join(", ")
        )
    };
    let mut enrolling = match (&parameters.enrol, parameters.run) {
        (Some(_), None) => Some(parameters.enrol_parameters().map_err(missing)?),
        (Some(_), Some(_)) | (None, _) => None,
    };
    start_modules(host, console, parameters.medium.is_some())?;
    let mut settings = None;
    if let Some(label) = &parameters.medium {
        let ready = run_file(DEVICES_READY);
        match stick::coordinator_settings(host, runner, label, &**console, &ready) {
            Some(found) => {
                enrolling = found.coordinator.as_ref().map(EnrolParameters::from);
                settings = Some(found);
            }
            None => return run_alone(label, init_ms, runner, console),
        }
    }
    let network = wanted_network(parameters, settings.as_ref());
    network::start(host.clone(), runner.clone(), Arc::clone(console), network, run_file(NETWORK_READY))
        .map_err(|error| format!("the network cannot be brought up: {error}"))?;
    let run = match enrolling {
        Some(enrolling) => enrol::wait_for_run(
            &enrolling,
            settings.as_ref().and_then(|settings| settings.proxy.as_ref()),
            parameters.boot_interface,
            host,
            &**console,
            &run_file(NETWORK_READY),
            &run_file(DEVICES_READY),
        )?,
        None => parameters.run_parameters().map_err(missing)?,
    };
    // at once: it gets ready while modules and network do
    let proxy = settings.and_then(|settings| settings.proxy);
    run_agent(&run, proxy.as_ref(), init_ms, runner, console)
}

/// The network as the stick's settings say; where there are none, or they say nothing, as the kernel's parameters do.
fn wanted_network(parameters: &BootParameters, settings: Option<&StickSettings>) -> network::Wanted {
    let said = settings.map(|settings| &settings.network).filter(|network| !network.interfaces.is_empty());
    // whom the machine itself calls
    let proxy = settings.and_then(|settings| settings.proxy.as_ref()).map(|proxy| &proxy.endpoint);
    let named = settings.and_then(|settings| settings.coordinator.as_ref()).map(|named| &named.url);
    network::Wanted {
        network: said.cloned().unwrap_or_else(|| parameters.network()),
        boot_interface: parameters.boot_interface,
        family: network::Family::of(proxy.or(named).or(parameters.coordinator.as_ref())),
    }
}

/// Of the kernel's messages only what it cannot survive (below KERN_ERR) among our lines: a failing disk fills the
/// screen with hundreds, and slows the machine down while a serial line takes them. `dmesg` has them all.
fn quiet_kernel(console: &dyn Console) {
    if let Err(error) = std::fs::write("/proc/sys/kernel/printk", "3") {
        console.line(&format!("the kernel's messages cannot be quietened: {error}"));
    }
}

/// The kernel looks into the banks of CPUs without an interrupt for corrected errors every five minutes (`check_interval`,
/// Documentation/ABI/testing/sysfs-mce): too late for a short stage. A kernel or CPU without them has none.
fn watch_machine_checks() {
    let _ = std::fs::write("/sys/devices/system/machinecheck/machinecheck0/check_interval", "5");
}

fn start_modules(host: &Host, console: &Arc<dyn Console>, medium: bool) -> Result<(), String> {
    let (host, console) = (host.clone(), Arc::clone(console));
    std::thread::Builder::new()
        .name("modules".to_owned())
        .spawn(move || {
            let begin = clock::monotonic();
            let loaded = modules::load_until_settled(&host, &console, &run_file(NETWORK_READY), medium);
            let disks = if loaded.disks == 1 { "disk" } else { "disks" };
            let took = spoken(begin.elapsed());
            console.line(&format!("drivers are loaded: {} {disks} ({took})", loaded.disks));
            for (setting, error) in haste::end(Path::new(RUN_DIRECTORY)) {
                console.line(&format!("{setting} stays as it was for booting: {error}"));
            }
            if let Err(error) = std::fs::write(run_file(DEVICES_READY), "") {
                console.line(&format!("the devices are ready, but that cannot be written down: {error}"));
            }
        })
        .map(drop)
        .map_err(|error| format!("no thread for the modules: {error}"))
}

/// Starts `run`, passes its lines on, and sees to its end.
fn run_agent(
    run: &RunParameters,
    proxy: Option<&Proxy>,
    init_ms: u64,
    runner: &SystemRunner,
    console: &Arc<dyn Console>,
) -> Result<Exit, String> {
    let claim_file = run_file("claim");
    let session_file = run_file(SESSION_FILE);
    write_secret(&claim_file, &run.claim)?;
    let options: [(&str, OsString); 8] = [
        ("--coordinator", run.coordinator.to_string().into()),
        ("--ca", run.ca.to_string().into()),
        ("--run", run.run.to_string().into()),
        ("--claim-file", claim_file.into()),
        ("--session-file", session_file.clone().into()),
        ("--devices-ready-file", run_file(DEVICES_READY).into()),
        ("--init-ms", init_ms.to_string().into()),
        ("--network-ready-file", run_file(NETWORK_READY).into()),
    ];
    let mut args: Vec<OsString> = vec!["run".into(), "--live-image".into()];
    for (option, value) in options {
        args.extend([option.into(), value]);
    }
    if let Some(proxy) = proxy {
        let file = run_file("proxy");
        write_secret(&file, &proxy.url())?;
        args.extend(["--proxy-file".into(), file.into()]);
    }
    let (end, last_lines) = watch(args, runner, console)?;
    let how = match end {
        RunProcessEnd::Asked(exit) => return Ok(exit),
        RunProcessEnd::Refused => return Err(refusal(&last_lines)),
        RunProcessEnd::Died(how) => how,
    };
    fate::show_death(&**console, &how, &last_lines);
    obey_coordinator(&**console, &session_file, &how, last_lines)
}

/// Not for the command line, which everyone on the machine could read.
fn write_secret(path: &Path, secret: &Secret) -> Result<(), String> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(secret.expose().as_bytes()))
        .map_err(|error| format!("{}: {error}", path.display()))
}

/// Starts a run without a coordinator, with the menu at the console, and sees to its end.
fn run_alone(
    label: &str,
    init_ms: u64,
    runner: &SystemRunner,
    console: &Arc<dyn Console>,
) -> Result<Exit, String> {
    let options: [(&str, OsString); 3] = [
        ("--medium", label.into()),
        ("--devices-ready-file", run_file(DEVICES_READY).into()),
        ("--init-ms", init_ms.to_string().into()),
    ];
    let mut args: Vec<OsString> = vec!["alone".into()];
    for (option, value) in options {
        args.extend([option.into(), value]);
    }
    let (end, last_lines) = watch(args, runner, console)?;
    match end {
        RunProcessEnd::Asked(exit) => Ok(exit),
        RunProcessEnd::Refused => Err(refusal(&last_lines)),
        RunProcessEnd::Died(how) => {
            fate::show_death(&**console, &how, &last_lines);
            Err("this run is over, without a verdict; its records are on the stick as far as they were stored"
                .to_owned())
        }
    }
}

/// Starts this program with `args`, passes its lines on, and waits for its end; gives also the last of its lines.
fn watch(
    args: Vec<OsString>,
    runner: &SystemRunner,
    console: &Arc<dyn Console>,
) -> Result<(RunProcessEnd, Vec<String>), String> {
    let service = Service { program: "/proc/self/exe".into(), args, env: Vec::new(), leads: Leads::Group };
    let agent =
        runner.spawn(&service).map_err(|error| format!("the agent cannot be started: {}", chain(&error)))?;
    let mut last_lines: VecDeque<String> = VecDeque::new();
    let exit = agent.wait(|_, line| {
        console.line(line);
        if last_lines.len() == KEPT_LINES {
            last_lines.pop_front();
        }
        last_lines.push_back(line.to_owned());
    });
    Ok((run_end(exit), last_lines.into()))
}

/// How `run` ended.
#[derive(Debug, PartialEq, Eq)]
enum RunProcessEnd {
    /// Well: this is to become of the machine.
    Asked(Exit),
    /// The coordinator did not give it the run; there is no session, and nothing to report.
    Refused,
    /// In no such way.
    Died(String),
}

fn run_end(exit: Option<ToolExit>) -> RunProcessEnd {
    let Some(exit) = exit else { return RunProcessEnd::Died("its end was not seen".to_owned()) };
    let is = |wanted: Exit| exit == ToolExit::Code(wanted.code().into());
    if is(Exit::PowerOff) {
        RunProcessEnd::Asked(Exit::PowerOff)
    } else if is(Exit::Reboot) {
        RunProcessEnd::Asked(Exit::Reboot)
    } else if is(Exit::Refused) {
        RunProcessEnd::Refused
    } else {
        RunProcessEnd::Died(fate::exit_words(exit))
    }
}

/// A refusal in the words of `run`, whose last line tells why.
fn refusal(last_lines: &[String]) -> String {
    let why = last_lines.last().map_or("", String::as_str);
    let why = why.strip_prefix("vetting-agent: ").unwrap_or(why);
    format!("the coordinator refuses this machine: {why}")
}

/// Reports a death and does what the coordinator says; an error where it does not say.
fn obey_coordinator(
    console: &dyn Console,
    session_file: &Path,
    how: &str,
    last_lines: Vec<String>,
) -> Result<Exit, String> {
    match fate::report(console, session_file, how, last_lines) {
        Some(AfterRun::PowerOff) => Ok(Exit::PowerOff),
        Some(AfterRun::Reboot) => Ok(Exit::Reboot),
        Some(AfterRun::Stay) | None => Err(format!("this run is over: {how}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_no_death_of_the_agent() {
        let ended = |exit: Exit| run_end(Some(ToolExit::Code(exit.code().into())));
        assert_eq!(ended(Exit::Refused), RunProcessEnd::Refused);
        assert_eq!(ended(Exit::PowerOff), RunProcessEnd::Asked(Exit::PowerOff));
        assert_eq!(ended(Exit::Reboot), RunProcessEnd::Asked(Exit::Reboot));
        assert_eq!(ended(Exit::Error), RunProcessEnd::Died("exit code 2".to_owned()));
        assert!(matches!(run_end(Some(ToolExit::Signal(11))), RunProcessEnd::Died(_)));
        assert!(matches!(run_end(None), RunProcessEnd::Died(_)));
        let lines = ["claiming run 7".to_owned(), "vetting-agent: the run cannot be claimed: no".to_owned()];
        assert_eq!(refusal(&lines), "the coordinator refuses this machine: the run cannot be claimed: no");
    }

    #[test]
    fn a_sticks_network_goes_before_the_kernels_parameters_and_its_proxy_is_whom_the_machine_calls() {
        let parameters: BootParameters = "vetting.vlan=42 vetting.coordinator=10.0.0.1:8443".parse().unwrap();
        let wanted = |yaml: &str| {
            wanted_network(&parameters, Some(&serde_yaml::from_str::<StickSettings>(yaml).unwrap()))
        };
        let ca = format!("ca: 'sha256:{}'", "ab".repeat(32));
        let coordinator = format!("coordinator: {{url: 'https://[fd00::1]:8443', {ca}}}");

        let netbooted = wanted_network(&parameters, None);
        assert_eq!((netbooted.network, netbooted.family), (parameters.network(), network::Family::Ipv4));
        let silent = wanted(&coordinator);
        assert_eq!((silent.network, silent.family), (parameters.network(), network::Family::Ipv6));
        let fixed = "network: {interface: eno1, ipv4: {address: 192.0.2.5/24}, ipv6: off}";
        let said = wanted(&format!("{coordinator}\n{fixed}\nproxy: 'http://192.0.2.1:3128'"));
        assert_eq!(said.network.interfaces.len(), 1);
        assert_eq!(said.network.interfaces[0].vlan, None);
        assert_eq!(said.family, network::Family::Ipv4);
    }
}
