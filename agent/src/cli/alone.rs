//! `alone`: a whole run without a coordinator, judged here; in the live image with the menu at the console.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use vetting_judge::alone;
use vetting_judge::profile::builtin_text;
use vetting_judge::spec::Spec;
use vetting_protocol::PROTOCOL_VERSION;
use vetting_protocol::agent_api::BootTimeline;
use vetting_protocol::ids::RunId;
use vetting_protocol::plan::{DiskConsent, Plan};
use vetting_protocol::profile::ProfileName;
use vetting_protocol::results::{HEADER_FILE, PROFILE_FILE, RESULTS_FORMAT, ResultsHeader, SPEC_FILE};
use vetting_protocol::run::RunResult;

use super::machine::Machine;
use super::run::devices_doubt;
use super::{CliError, Exit, interrupt};
use crate::alone::keys::{Consoles, Keys};
use crate::alone::link::AloneLink;
use crate::alone::machine_name;
use crate::alone::medium::{self, MEDIUM_DIRECTORY};
use crate::alone::menu::{self, Afterwards, Choice, Decision};
use crate::alone::papers::Papers;
use crate::alone::results::Results;
use crate::alone::shelf::{Folder, Shelf, Stick};
use crate::cancel::Cancel;
use crate::clock;
use crate::console::{Console, ConsoleReporter, Terminal, chain, verdict_lines};
use crate::counterpart::Nobody;
use crate::pipeline::{self, Pipeline, RunEnd};
use crate::stages;
use crate::uplink::Link;

/// Where the live image keeps results until they are on the stick, and after.
const MEMORY: &str = "/run/vetting/results";
/// Longest wait for the machine's devices.
const DEVICES_PATIENCE: Duration = Duration::from_mins(1);
/// How long a stick is looked for at the menu.
const STICK_PATIENCE: Duration = Duration::from_secs(5);

/// Arguments of `alone`.
#[derive(Debug, clap::Args)]
#[command(after_help = "The results are a folder below DIR/results; `vetting-coordinator import` takes them.

Examples:
  vetting-agent alone --results . --profile quick
  vetting-agent alone --results /mnt/stick --profile deep --spec model.yaml")]
pub struct AloneArguments {
    /// Folder that gets the results
    #[arg(long, value_name = "DIR", required_unless_present = "medium")]
    results: Option<PathBuf>,
    /// quick, deep or soak
    #[arg(long, value_name = "NAME", required_unless_present = "medium")]
    profile: Option<ProfileName>,
    /// A profile to use instead of the one that comes with the program
    #[arg(long, value_name = "FILE")]
    profile_file: Option<PathBuf>,
    /// The hardware that is expected; without it nothing is compared
    #[arg(long, value_name = "FILE")]
    spec: Option<PathBuf>,
    /// Consent: every disk that is not in use may be overwritten
    #[arg(long)]
    wipe: bool,
    /// Label of the medium of the live image, which brings everything above
    #[arg(long, hide = true, value_name = "LABEL")]
    medium: Option<String>,
    /// A file that appears when every device of the machine is there
    #[arg(long, hide = true, value_name = "FILE")]
    devices_ready_file: Option<PathBuf>,
    /// When PID 1 began, ms after the kernel
    #[arg(long, hide = true, value_name = "MS")]
    init_ms: Option<u64>,
}

/// What is to be run.
struct Order {
    choice: Choice,
    /// The profile's text where it is not the one of the program.
    profile_text: Option<String>,
    spec: Option<String>,
    memory: PathBuf,
    shelf: Arc<dyn Shelf>,
}

pub(super) fn alone(machine: &Machine, arguments: &AloneArguments) -> Result<Exit, CliError> {
    match &arguments.medium {
        Some(label) => at_the_console(machine, arguments, label),
        None => here(machine, arguments),
    }
}

/// As a command on any machine.
fn here(machine: &Machine, arguments: &AloneArguments) -> Result<Exit, CliError> {
    let read = |path: &Option<PathBuf>| path.as_ref().map(|path| super::read_file(path)).transpose();
    let spec = read(&arguments.spec)?;
    if let Some(text) = &spec {
        Spec::parse(text).map_err(|error| CliError::Alone { what: format!("--spec: {error}") })?;
    }
    let (Some(profile), Some(folder)) = (arguments.profile, &arguments.results) else {
        return Err(CliError::Alone { what: "--results and --profile are needed".to_owned() });
    };
    let order = Order {
        choice: Choice { profile, wipe: arguments.wipe },
        profile_text: read(&arguments.profile_file)?,
        spec,
        memory: std::env::temp_dir().join(format!("vetting-results-{}", std::process::id())),
        shelf: Arc::new(Folder(folder.clone())),
    };
    let console: Arc<dyn Console> = Arc::new(Terminal::Stdout);
    let (result, results) = run(machine, arguments, order, &console)?;
    let stored = results.store();
    results.close();
    match stored {
        Ok(()) => console.line(&format!("results: {}", results.place())),
        Err(_) => return Ok(Exit::Error),
    }
    Ok(match result {
        RunResult::Pass => Exit::Pass,
        RunResult::Fail => Exit::Fail,
    })
}

/// In the live image: the menu, the run, and what becomes of the machine.
fn at_the_console(machine: &Machine, arguments: &AloneArguments, label: &str) -> Result<Exit, CliError> {
    let console: Arc<dyn Console> = Arc::new(Terminal::Stdout);
    let keys = Consoles::listen(&machine.host);
    let order = loop {
        let (papers, stick_is_known) = read_stick(machine, label, &*console);
        let mut preset = papers.preset();
        preset.may_wipe = stick_is_known;
        preset.wipe &= stick_is_known;
        match menu::before(&keys, &*console, &preset) {
            Decision::Start(choice) => {
                let stick = Stick::new(Arc::clone(&machine.tools), label.to_owned(), MEDIUM_DIRECTORY.into());
                break Order {
                    choice,
                    profile_text: papers.profiles.get(&choice.profile).cloned(),
                    spec: papers.spec,
                    memory: MEMORY.into(),
                    shelf: Arc::new(stick),
                };
            }
            Decision::ReadAgain => {}
            Decision::Reboot => return Ok(Exit::Reboot),
            Decision::PowerOff => return Ok(Exit::PowerOff),
        }
    };
    let (_, results) = run(machine, arguments, order, &console)?;
    Ok(after_the_run(&keys, &*console, &results))
}

fn after_the_run(keys: &dyn Keys, console: &dyn Console, results: &Results) -> Exit {
    let mut missing = results.store().err();
    loop {
        if missing.is_none() {
            results.close();
            console.line(&format!("results: {}; in memory: {}", results.place(), results.memory().display()));
        }
        match menu::after(keys, console, missing.as_deref()) {
            Afterwards::StoreAgain => missing = results.store().err(),
            Afterwards::Reboot => return Exit::Reboot,
            Afterwards::PowerOff => return Exit::PowerOff,
        }
    }
}

/// The papers of the stick, and whether the stick was found, so that no stage can take it for a disk to test.
fn read_stick(machine: &Machine, label: &str, console: &dyn Console) -> (Papers, bool) {
    let begin = clock::monotonic();
    let found = medium::wait_for(&*machine.tools, label, console, || {
        std::thread::sleep(Duration::from_millis(200));
        begin.elapsed() < STICK_PATIENCE
    });
    match found {
        Ok(_) => (Papers::read(&machine.host, MEDIUM_DIRECTORY), true),
        Err(error) => {
            let what = format!("the stick cannot be read: {}. Put it in and type r", chain(&error));
            (Papers { mistakes: vec![what], ..Papers::default() }, false)
        }
    }
}

/// The run, to its verdict, which is shown and stored as far as that is possible.
fn run(
    machine: &Machine,
    arguments: &AloneArguments,
    order: Order,
    console: &Arc<dyn Console>,
) -> Result<(RunResult, Arc<Results>), CliError> {
    let cannot = |what: String| CliError::Alone { what };
    let cancel = Cancel::new();
    interrupt::watch(vec![cancel.clone()])?;
    let inventory_doubt = devices_doubt(arguments.devices_ready_file.as_deref(), DEVICES_PATIENCE);
    let header = header(machine, arguments, &order)?;
    let profile_text =
        order.profile_text.clone().unwrap_or_else(|| builtin_text(order.choice.profile).to_owned());
    let file_name = arguments.profile_file.as_deref().unwrap_or(Path::new(PROFILE_FILE)).to_string_lossy();
    let profile = alone::profile(&header, &profile_text, &file_name, order.spec.as_deref())
        .map_err(|error| cannot(chain(&error)))?;
    let header_text = serde_json::to_vec_pretty(&header)?;
    let mut files: Vec<(&str, &[u8])> =
        vec![(HEADER_FILE, &header_text), (PROFILE_FILE, profile_text.as_bytes())];
    if let Some(spec) = &order.spec {
        files.push((SPEC_FILE, spec.as_bytes()));
    }
    let name = folder_name(&header);
    let results = Results::begin(&order.memory, &name, &files, order.shelf, Arc::clone(console))
        .map_err(|error| cannot(chain(&error)))?;
    let results = Arc::new(results);
    // told on the console if it fails
    let _ = results.store();
    let storing = Arc::clone(&results);
    std::thread::Builder::new()
        .name("results".to_owned())
        .spawn(move || storing.store_regularly())
        .map_err(|error| cannot(format!("no thread that stores the results: {error}")))?;
    announce(&header, &**console, &results);

    let link = AloneLink::new(header.clone(), profile.clone(), Arc::clone(&results))
        .map_err(|error| cannot(chain(&error)))?;
    let link = Arc::new(link);
    let stages = profile.planned_stages();
    let shown = stages.iter().map(|planned| planned.work.name()).collect();
    let subject = format!("machine {}", header.machine_name);
    let pipeline = Pipeline {
        plan: Plan {
            // nobody asks for it: the results are told apart by the uuid
            run_id: RunId(0),
            host_name: header.machine_name,
            profile: profile.name,
            sampling_interval_ms: profile.sampling_interval_ms,
            expected_spec_yaml: order.spec.unwrap_or_default(),
            consent: if order.choice.wipe { DiskConsent::WipeAllowed } else { DiskConsent::EmptyDisksOnly },
            stages,
            resumed: None,
            serial_console: false,
            power_control: false,
        },
        subject: subject.clone(),
        stages: stages::ALL,
        host: machine.host.clone(),
        tools: Arc::clone(&machine.tools),
        link: Arc::clone(&link) as Arc<dyn Link>,
        shown: Arc::new(ConsoleReporter::new(Arc::clone(console), shown)),
        console: Arc::clone(console),
        counterpart: Arc::new(Nobody),
        inventory_doubt,
        restarts: false,
        cancel,
        grace: pipeline::STAGE_GRACE,
    };
    let result = match pipeline.run() {
        RunEnd::Finished { result, .. } => result,
        RunEnd::Aborted { .. } | RunEnd::Interrupted => {
            conclude(&link, Some("interrupted"), &subject, &**console)?
        }
        // nothing here restarts the machine
        RunEnd::Rebooting { .. } | RunEnd::Lost(_) => conclude(&link, None, &subject, &**console)?,
    };
    Ok((result, results))
}

/// A run that did not come to its end gets its report, too.
fn conclude(
    link: &AloneLink,
    interrupted: Option<&str>,
    subject: &str,
    console: &dyn Console,
) -> Result<RunResult, CliError> {
    let verdict = link.conclude(interrupted)?.verdict;
    let reasons: Vec<String> = verdict.reasons.iter().map(ToString::to_string).collect();
    for line in verdict_lines(subject, verdict.result, &reasons) {
        console.line(&line);
    }
    Ok(verdict.result)
}

fn header(machine: &Machine, arguments: &AloneArguments, order: &Order) -> Result<ResultsHeader, CliError> {
    let (system_uuid, macs) = (machine.system_uuid(), machine.macs());
    Ok(ResultsHeader {
        format: RESULTS_FORMAT,
        protocol_version: PROTOCOL_VERSION,
        uuid: Machine::fresh_uuid()?,
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        machine_name: machine_name(&machine.host, system_uuid.as_deref(), &macs),
        system_uuid,
        macs,
        profile: order.choice.profile,
        own_profile: order.profile_text.is_some(),
        wipe: order.choice.wipe,
        has_spec: order.spec.is_some(),
        started_ms: clock::now_ms(),
        timeline: BootTimeline { init_ms: arguments.init_ms, network_ms: None, claim_ms: clock::uptime_ms() },
    })
}

/// `20261125-162300-SN42`: sorts by time, and no file system refuses it.
fn folder_name(header: &ResultsHeader) -> String {
    let time = jiff::Timestamp::from_millisecond(header.started_ms).unwrap_or_default();
    format!("{}-{}", time.strftime("%Y%m%d-%H%M%S"), header.machine_name)
}

fn announce(header: &ResultsHeader, console: &dyn Console, results: &Results) {
    let own = if header.own_profile { " (NOT the shipped one: the stick's)" } else { "" };
    console.line(&format!(
        "vetting {} alone: profile {}{own}, results: {}",
        header.machine_name,
        header.profile,
        results.place()
    ));
    if !header.has_spec {
        console.line("there is no expected spec: the machine is not compared with what was ordered");
    }
    if header.wipe {
        console.line("DISKS MAY BE OVERWRITTEN");
    }
}

#[cfg(test)]
mod tests;
