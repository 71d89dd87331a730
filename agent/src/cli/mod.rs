//! The commands: what each is called, what it prints, and how it exits. Results go to standard output as JSON or a
//! table, everything else to standard error.

mod alone;
mod facts;
mod host;
mod interrupt;
mod machine;
mod run;
mod stage;

use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};

use crate::init;
use crate::uplink::{ClaimError, RequestError};
use crate::workers::{self, cpu::CpuWork, memory::MemoryWork};
use machine::Machine;

pub use alone::AloneArguments;
pub use host::HostArguments;
pub use run::RunArguments;
pub use stage::StageArguments;

/// How the program ends; the number is the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done; a stage or a run passed.
    Pass,
    /// The hardware is at fault.
    Fail,
    /// It could not be done or could not be judged.
    Error,
    /// The stage does not apply to this machine.
    Skip,
    /// An operator aborted the run.
    Aborted,
    /// The coordinator refuses to give the run.
    Refused,
    /// For PID 1: switch the machine off.
    PowerOff,
    /// For PID 1: restart the machine.
    Reboot,
}

impl Exit {
    /// The exit code.
    pub const fn code(self) -> u8 {
        match self {
            Self::Pass => 0,
            Self::Fail => 1,
            Self::Error => 2,
            Self::Skip => 3,
            Self::Aborted => 4,
            Self::Refused => 5,
            Self::PowerOff => 80,
            Self::Reboot => 81,
        }
    }
}

/// A command that could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// A file cannot be read or written.
    #[error("{path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A recorded tree is not one.
    #[error("{path} holds no recorded machine: neither root/ nor proc/ and sys/ are in it")]
    NoTree {
        /// The folder.
        path: PathBuf,
    },
    /// A fact of the machine that a run cannot do without.
    #[error("the machine does not tell {what}")]
    Machine {
        /// Which.
        what: &'static str,
        /// Why.
        source: crate::host::HostError,
    },
    /// No claim secret was given.
    #[error("no claim secret: name its file with --claim-file, or set VETTING_CLAIM")]
    NoClaim,
    /// What `--proxy-file` names holds no proxy's URL.
    #[error("{path}")]
    Proxy {
        /// The file.
        path: PathBuf,
        /// Why.
        source: vetting_protocol::stick::ProxyError,
    },
    /// The run was not given.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// No client can be made.
    #[error(transparent)]
    Client(#[from] crate::uplink::ClientError),
    /// The uplink cannot be started.
    #[error(transparent)]
    Uplink(#[from] crate::uplink::UplinkError),
    /// Stage parameters that the stage does not have.
    #[error("--param: not parameters of stage {stage}")]
    Parameters {
        /// The stage.
        stage: vetting_protocol::ids::StageName,
        /// What is wrong with them.
        source: serde_yaml::Error,
    },
    /// `--param` is no mapping.
    #[error("--param must be a YAML mapping such as `cpu_ms: 5000`")]
    NoMapping,
    /// The stage is not built in.
    #[error("this agent has no stage {stage}; `vetting-agent stages` lists those it has")]
    NoStage {
        /// The stage.
        stage: vetting_protocol::ids::StageName,
    },
    /// A result cannot be written.
    #[error("the result cannot be written as JSON")]
    Json(#[from] serde_json::Error),
    /// A spec cannot be written.
    #[error("the spec cannot be written as YAML")]
    Yaml(#[source] serde_yaml::Error),
    /// Standard output is gone.
    #[error("the result cannot be printed")]
    Print(#[source] std::io::Error),
    /// A capture failed.
    #[error(transparent)]
    Capture(#[from] crate::capture::CaptureError),
    /// Not the init of this machine.
    #[error(transparent)]
    Init(#[from] init::NotPidOne),
    /// A run without a coordinator cannot be made.
    #[error("{what}")]
    Alone {
        /// Why.
        what: String,
    },
    /// A worker could not do its work.
    #[error(transparent)]
    Worker(#[from] workers::WorkerError),
    /// The configuration file of host mode has a mistake.
    #[error("{path}: {mistake}")]
    Config {
        /// The file.
        path: PathBuf,
        /// Where and what.
        mistake: vetting_judge::yaml::Mistake,
    },
    /// The token file of host mode is empty.
    #[error("{path} holds no token; `vetting-coordinator host agent-token NAME` makes one")]
    NoToken {
        /// The file.
        path: PathBuf,
    },
    /// The coordinator does not take this machine's agent.
    #[error(transparent)]
    HostMode(#[from] crate::uplink::HostModeError),
    /// What the coordinator asks for does not go with an installed system.
    #[error("the run is refused, this being an installed system: {why}")]
    NotOnInstalledSystem {
        /// What it asks for.
        why: String,
    },
    /// Signals cannot be watched.
    #[error("signals cannot be watched")]
    Signals(#[source] std::io::Error),
}

impl CliError {
    /// How the program ends with it.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Claim(ClaimError::Refused(RequestError::Refused { .. })) => Exit::Refused,
            _ => Exit::Error,
        }
    }
}

/// Takes inventory of a machine, tests it, and tells a vetting coordinator.
#[derive(Debug, Parser)]
#[command(name = "vetting-agent", version, after_help = AFTER_HELP)]
pub struct Arguments {
    /// Look at a recorded machine: a folder with root/ and tools/, as `capture` writes it, or a bare tree
    #[arg(long, global = true, value_name = "DIR")]
    root: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Examples:
  vetting-agent inventory                      what this machine is made of, as JSON
  vetting-agent inventory | jq .memory.dimms   its memory modules
  vetting-agent inventory --spec > spec.yaml   the spec that this machine and its siblings meet
  vetting-agent stages                         what can be tested
  vetting-agent stage SMART                    one stage, here, without a coordinator
  vetting-agent stage CPUStress --param '{cpu_ms: 60000}'
  vetting-agent alone --results . --profile quick   a whole run, here, without a coordinator
  vetting-agent host --config /etc/vetting/agent.yaml   stay on an installed system
  vetting-agent capture ./rack1-03             record this machine as a test fixture
  vetting-agent --root ./rack1-03 inventory    look at the recorded one

Exit codes: 0 done or pass, 1 fail, 2 error (also wrong arguments), 3 skipped, 4 aborted by an operator,
5 the coordinator refuses the run.
`run --live-image` ends with 80 to ask PID 1 to switch the machine off, 81 to restart it.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Be PID 1 of the live image: mounts, modules, network, console, then `run`
    Init,
    /// Take a run from a coordinator and work through it
    Run(RunArguments),
    /// Work through a run without a coordinator, and leave its results in a folder
    Alone(AloneArguments),
    /// Stay on an installed system: show the coordinator that the machine is there, take runs that leave it alone
    Host(HostArguments),
    /// Print what the machine is made of
    Inventory {
        /// Print the expected spec, YAML, that this machine and its siblings meet
        #[arg(long)]
        spec: bool,
    },
    /// Print the firmware versions of its parts
    Firmware,
    /// List the stages
    Stages {
        /// Print JSON instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Run one stage here, without a coordinator
    Stage(StageArguments),
    /// Record this machine as a test fixture, serial numbers scrubbed
    Capture {
        /// A new or empty folder
        directory: PathBuf,
    },
    /// What the stage Memory starts: patterns over memory
    #[command(hide = true)]
    MemoryWorker(MemoryWork),
    /// What the stage CPUStress starts: computations with known answers on one CPU
    #[command(hide = true)]
    CpuWorker(CpuWork),
    /// What PID 1 starts: everything of the live image but reaping and rebooting
    #[command(hide = true)]
    Live {
        /// When PID 1 began, ms after the kernel
        #[arg(long, value_name = "MS")]
        init_ms: u64,
        /// How the live session before this one died: nothing is begun again, the coordinator is told
        #[arg(long, value_name = "HOW")]
        died: Option<String>,
    },
}

/// A text file that the user names.
#[expect(clippy::disallowed_methods, reason = "reads the files that the user names")]
fn read_file(path: &Path) -> Result<String, CliError> {
    std::fs::read_to_string(path).map_err(|source| CliError::File { path: path.to_owned(), source })
}

/// Whether the program was started as an init: by that name, or as PID 1 without a command. (PID 1 with a command
/// is a container.)
pub fn is_init(words: &[std::ffi::OsString]) -> bool {
    let program = words.first().map(Path::new).and_then(Path::file_name);
    program.is_some_and(|name| name == "init") || (std::process::id() == 1 && words.len() < 2)
}

/// Is init, whatever the arguments say: the kernel passes on words of its command line.
pub fn init() -> Result<Exit, CliError> {
    Ok(init::pid_one()?)
}

/// Does what the arguments say.
pub fn execute(arguments: Arguments) -> Result<Exit, CliError> {
    let machine = || Machine::at(arguments.root.as_deref());
    match arguments.command {
        Command::Init => init(),
        Command::Live { died: Some(how), .. } => Ok(init::after_death(&how)),
        Command::Live { init_ms, died: None } => Ok(init::live(init_ms)),
        Command::Host(arguments) => host::host(&machine()?, &arguments),
        Command::Alone(arguments) => alone::alone(&machine()?, &arguments),
        Command::MemoryWorker(work) => {
            workers::memory::run(&work).map(|()| Exit::Pass).map_err(CliError::Worker)
        }
        Command::CpuWorker(work) => workers::cpu::run(&work).map(|()| Exit::Pass).map_err(CliError::Worker),
        Command::Run(run) => run::run(&machine()?, &run),
        Command::Inventory { spec } => facts::inventory(&machine()?, spec),
        Command::Firmware => facts::firmware(&machine()?),
        Command::Stages { json } => facts::stages(json),
        Command::Stage(stage) => stage::stage(&machine()?, &stage),
        Command::Capture { directory } => facts::capture(&machine()?, &directory),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_refusal_has_an_exit_code_of_its_own() {
        let endpoint = || "10.0.0.1:8443".parse().unwrap();
        let refused = RequestError::Refused { endpoint: endpoint(), status: 409, detail: String::new() };
        assert_eq!(CliError::Claim(ClaimError::Refused(refused)).exit().code(), 5);
        let misunderstood = RequestError::NotUnderstood { endpoint: endpoint(), what: String::new() };
        assert_eq!(CliError::Claim(ClaimError::Refused(misunderstood)).exit(), Exit::Error);
        assert_eq!(CliError::NoClaim.exit(), Exit::Error);
    }

    #[test]
    fn a_file_name_of_init_means_init() {
        assert!(is_init(&["/init".into(), "single".into()]));
        assert!(is_init(&["init".into()]));
        assert!(!is_init(&["/usr/bin/vetting-agent".into(), "init".into()]));
        assert!(!is_init(&[]));
    }

    #[test]
    fn run_takes_what_the_boot_script_gives() {
        let pin = "ab".repeat(32);
        let ca = format!("sha256:{pin}");
        let words =
            ["vetting-agent", "run", "--coordinator", "https://[fd00::1]:8443", "--ca", &ca, "--run", "7"];
        assert!(Arguments::try_parse_from(words).is_ok());
        let words = ["vetting-agent", "run", "--coordinator", "10.0.0.1:8443", "--ca", &pin, "--run", "7"];
        assert!(Arguments::try_parse_from(words).is_err(), "a pin names its digest");
    }
}
