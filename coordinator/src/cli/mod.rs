//! The command line: what can be said, and who does it. `serve`, `init`, `migrate`, `backup` and `restore` work on this box; the rest
//! speaks the operator API, so that it does the same from anywhere.

mod authority;
mod backup;
mod client;
mod client_config;
mod enrolment;
mod events;
mod export;
mod host_import;
mod hosts;
mod import;
mod init;
mod janitor;
mod live_view;
mod models;
mod netboot;
mod netbox;
mod notify;
mod output;
mod pdu;
mod power;
mod profiles;
mod progress;
mod queue;
mod remote;
mod report;
mod run_pages;
mod runs;
mod shell;
mod specs;
mod ssh;
mod tokens;
mod usb;
mod usb_enrol;
mod users;
mod verdict;
mod watch;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{self, Config, ConfigError};
use crate::logging::LogFormat;
use client::Client;
use remote::{Remote, connect};

pub use client::ClientError;

/// Vets server hardware: drives the runs, judges them, writes the reports.
///
/// `init`, `migrate`, `serve`, `backup` and `restore` work on this box. What is told of hosts, runs and all else comes from a
/// coordinator, on this box or elsewhere.
#[derive(Debug, Parser)]
#[command(
    name = "vetting-coordinator",
    version,
    after_help = "Examples:\n  vetting-coordinator init\n  vetting-coordinator serve\n  \
                  vetting-coordinator host add rack1-u07 --mac 3c:ec:ef:12:34:56 --spec model.yaml\n  \
                  vetting-coordinator run start rack1-u07 --profile quick\n  vetting-coordinator run watch 1\n\n\
                  Exit codes:\n  \
                  0  done; of `run wait` and `run watch`: the run passed\n  \
                  1  only of `run wait` and `run watch`: the run failed\n  \
                  2  something went wrong: a refusal, no answer, bad words; of `run wait` and `run watch` also: the run\n     \
                  broke off (aborted, machine or coordinator gone, not over in time), so that nobody knows\n  \
                  n  of `run ssh`: that of the SSH client\n\
                  A reader of the output that goes away (`| head`) ends a command quietly, with 0."
)]
pub struct CommandLine {
    /// The configuration file.
    #[arg(long, global = true, env = "VETTING_CONFIG", default_value = config::DEFAULT_PATH)]
    config: PathBuf,
    #[command(flatten)]
    remote: Remote,
    /// Print JSON instead of tables and sentences.
    #[arg(long, global = true)]
    json: bool,
    /// How the log on standard error is written; `RUST_LOG` chooses what is logged.
    #[arg(long, global = true, env = "VETTING_LOG_FORMAT", value_enum, default_value = "text")]
    log_format: LogFormat,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write a commented configuration, make the first operator token and, where wanted, the first user.
    #[command(after_help = "Examples:\n  vetting-coordinator init\n  \
                            vetting-coordinator init --user alice < password.txt\n  \
                            vetting-coordinator --config /etc/vetting/vetting.yaml init --keep-config")]
    Init(init::Init),
    /// Bring the database up to date, then end. `serve` does so too.
    Migrate,
    /// Serve machines and operators until SIGTERM or Ctrl-C.
    Serve {
        /// Also serve machines that boot from the network (proxyDHCP and TFTP), as `netboot:` in the configuration
        /// describes, with or without `enabled`.
        #[arg(long)]
        netboot: bool,
    },
    /// Save results and keys in one file, also while the coordinator runs.
    Backup(backup::Backup),
    /// Put a backup back.
    Restore(backup::Restore),
    /// Remove old files of runs now, or tell which would go.
    Janitor(janitor::Janitor),
    /// Who is told what happened.
    #[command(subcommand)]
    Notify(notify::NotifyCommand),
    /// Boot from the network.
    #[command(subcommand)]
    Netboot(netboot::NetbootCommand),
    /// Registered machines.
    #[command(subcommand)]
    Host(hosts::HostCommand),
    /// Vettings.
    #[command(subcommand)]
    Run(runs::RunCommand),
    /// Runs that wait for their turn in a stage that draws much power, and those that have it.
    #[command(
        after_help = "What may be drawn at once is `power.budget` of the configuration.\n\nExamples:\n  \
                      vetting-coordinator queue\n  vetting-coordinator queue --json | jq '.waiting[].host'"
    )]
    Queue(queue::Queue),
    /// Signed reports.
    #[command(subcommand)]
    Report(report::ReportCommand),
    /// Specs that several machines share.
    #[command(subcommand)]
    Model(models::ModelCommand),
    /// Expected specs: check one, make one from a run, compare machines.
    #[command(subcommand)]
    Spec(specs::SpecCommand),
    /// What runs are made of: stages, durations, rules.
    #[command(subcommand)]
    Profile(profiles::ProfileCommand),
    /// Parts, by serial number.
    #[command(subcommand)]
    Component(models::ComponentCommand),
    /// Runs, samples and machines for other programs.
    #[command(subcommand)]
    Export(export::ExportCommand),
    /// Take the results of machines that worked without a coordinator into the database.
    Import(import::Import),
    /// People who log in to the web page.
    #[command(subcommand)]
    User(users::UserCommand),
    /// Operator tokens.
    #[command(subcommand)]
    Token(tokens::TokenCommand),
    /// Tokens by which machines register themselves.
    #[command(subcommand)]
    Enrolment(enrolment::EnrolmentCommand),
    /// USB sticks that start machines.
    #[command(subcommand)]
    Usb(usb::UsbCommand),
    /// The event log.
    #[command(after_help = "Examples:\n  vetting-coordinator events --run 12\n  \
                      vetting-coordinator events --host rack1-u07 --kind 'hold_*'\n  \
                      vetting-coordinator events --follow --json")]
    Events(events::Events),
    /// Print the completion script of a shell.
    #[command(after_help = "Example:\n  vetting-coordinator completions bash > \
                            /usr/share/bash-completion/completions/vetting-coordinator")]
    Completions(shell::Completions),
    /// Write a manual page for each command into a folder.
    #[command(after_help = "Example:\n  vetting-coordinator man /usr/local/share/man/man1")]
    Man(shell::ManualPages),
}

/// What a command works on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The coordinator's own files: on its box alone.
    ThisBox,
    /// Nothing but what it is given.
    Nowhere,
    /// A coordinator, here or elsewhere.
    Coordinator,
}

impl Command {
    /// Where it works, and how it is called.
    fn place(&self) -> (Place, &'static str) {
        match self {
            Self::Init(_) => (Place::ThisBox, "init"),
            Self::Migrate => (Place::ThisBox, "migrate"),
            Self::Serve { .. } => (Place::ThisBox, "serve"),
            Self::Backup(_) => (Place::ThisBox, "backup"),
            Self::Restore(_) => (Place::ThisBox, "restore"),
            Self::Report(_) => (Place::Nowhere, "report"),
            Self::Spec(command) if command.is_local() => (Place::Nowhere, "spec check and spec schema"),
            Self::Profile(command) if command.is_local() => (Place::Nowhere, "profile check"),
            Self::Completions(_) => (Place::Nowhere, "completions"),
            Self::Man(_) => (Place::Nowhere, "man"),
            Self::Janitor(_)
            | Self::Notify(_)
            | Self::Netboot(_)
            | Self::Host(_)
            | Self::Run(_)
            | Self::Queue(_)
            | Self::Model(_)
            | Self::Spec(_)
            | Self::Profile(_)
            | Self::Component(_)
            | Self::Export(_)
            | Self::Import(_)
            | Self::User(_)
            | Self::Token(_)
            | Self::Enrolment(_)
            | Self::Usb(_)
            | Self::Events(_) => (Place::Coordinator, "this command"),
        }
    }
}

/// What a command could not do.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// Another coordinator was named for what is done to this one.
    #[error(
        "`{verb}` works on the coordinator of this box, and {url} is another: say it on that box, or leave out --url \
         (VETTING_URL)"
    )]
    OnlyHere {
        /// The command.
        verb: &'static str,
        /// As given.
        url: String,
    },
    /// A coordinator was named for what needs none.
    #[error("{verb} asks no coordinator; leave out --url")]
    AsksNobody {
        /// The command.
        verb: &'static str,
    },
    /// The configuration.
    #[error("the configuration cannot be used")]
    Config(#[from] ConfigError),
    /// The coordinator.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// First set-up.
    #[error(transparent)]
    Init(#[from] init::InitError),
    /// A backup.
    #[error(transparent)]
    Backup(#[from] crate::backup::BackupError),
    /// Results of machines that worked alone.
    #[error(transparent)]
    Import(#[from] import::ImportError),
    /// Boot from the network.
    #[error(transparent)]
    Netboot(#[from] netboot::NetbootError),
    /// A report.
    #[error(transparent)]
    Report(#[from] report::ReportError),
    /// A spec.
    #[error(transparent)]
    Spec(#[from] specs::SpecCommandError),
    /// A profile.
    #[error(transparent)]
    Profile(#[from] vetting_judge::profile::ProfileError),
    /// A stick.
    #[error(transparent)]
    Usb(#[from] usb::UsbError),
    /// Logging in to a held machine.
    #[error(transparent)]
    Ssh(#[from] ssh::SshError),
    /// The database.
    #[error("the database cannot be used")]
    Store(#[from] crate::store::StoreError),
    /// Serving.
    #[error("the coordinator cannot serve")]
    Serve(#[from] crate::serve::ServeError),
    /// A file named on the command line.
    #[error("cannot read {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// No password could be read.
    #[error("no password can be read")]
    Password {
        /// Why.
        source: std::io::Error,
    },
    /// The second time it was another.
    #[error("the two passwords differ; nothing was changed")]
    PasswordsDiffer,
    /// NetBox.
    #[error(transparent)]
    NetBox(#[from] netbox::NetBoxError),
    /// A file or folder to be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A machine that no run looked at.
    #[error("{host} has no run yet, so nothing is known of what it is made of")]
    NoRun {
        /// Which.
        host: String,
    },
    /// A run is not over in time.
    #[error("run {run} is not over after {}; it goes on", vetting_judge::duration::HumanDuration::from_ms(*ms))]
    NotOver {
        /// Which.
        run: vetting_protocol::ids::RunId,
        /// How long was waited, ms.
        ms: u64,
    },
    /// The answer cannot be printed.
    #[error("cannot print the answer")]
    Print(#[from] std::io::Error),
}

impl CommandError {
    /// Whether all that went wrong is that nobody reads the output any more.
    pub fn is_closed_output(&self) -> bool {
        matches!(self, Self::Print(source) if source.kind() == std::io::ErrorKind::BrokenPipe)
    }
}

impl CommandLine {
    /// How the log is written.
    pub fn log_format(&self) -> LogFormat {
        self.log_format
    }

    /// Does what was said.
    pub async fn run(self) -> Result<ExitCode, CommandError> {
        self.remote.check(self.command.place())?;
        match self.command {
            Command::Init(init) => init.run(&self.config, self.json).await?,
            Command::Migrate => init::migrate(&Config::load(&self.config)?, self.json)?,
            Command::Serve { netboot } => {
                let mut config = Config::load(&self.config)?;
                config.netboot.enabled |= netboot;
                crate::serve::run(config).await?;
            }
            Command::Backup(backup) => backup.run(Config::load(&self.config)?, self.json).await?,
            Command::Restore(restore) => restore.run(Config::load(&self.config)?, self.json).await?,
            Command::Janitor(janitor) => {
                janitor.run(&connect(&self.config, &self.remote)?, self.json).await?;
            }
            Command::Notify(command) => {
                command.run(&connect(&self.config, &self.remote)?, self.json).await?;
            }
            Command::Netboot(command) => {
                command.run(&self.config, &self.remote, self.json).await?;
            }
            Command::Import(import) => {
                let target = match self.remote.elsewhere(&self.config)? {
                    Some(elsewhere) => import::Target::Elsewhere(Client::elsewhere(&elsewhere)?),
                    None => import::Target::here(&Config::load(&self.config)?)?,
                };
                import.run(&target, self.json).await?;
            }
            Command::Host(command) => command.run(&connect(&self.config, &self.remote)?, self.json).await?,
            Command::Run(command) => {
                return command.run(&|| connect(&self.config, &self.remote), self.json).await;
            }
            Command::Export(command) => command.run(&connect(&self.config, &self.remote)?, self.json).await?,
            Command::Queue(queue) => queue.run(&connect(&self.config, &self.remote)?, self.json).await?,
            Command::Report(command) => command.run(self.json)?,
            Command::Model(command) => command.run(&connect(&self.config, &self.remote)?, self.json).await?,
            Command::Component(command) => {
                command.run(&connect(&self.config, &self.remote)?, self.json).await?;
            }
            Command::Spec(command) => {
                command.run(&|| connect(&self.config, &self.remote), self.json).await?;
            }
            Command::Profile(command) => {
                command.run(&|| connect(&self.config, &self.remote), self.json).await?;
            }
            Command::User(command) => command.run(&connect(&self.config, &self.remote)?, self.json).await?,
            Command::Token(command) => command.run(&connect(&self.config, &self.remote)?, self.json).await?,
            Command::Enrolment(command) => {
                command.run(&connect(&self.config, &self.remote)?, self.json).await?;
            }
            Command::Usb(command) => {
                let (config, remote) = (self.config.as_path(), &self.remote);
                command.run(&usb::Surroundings { config, remote, json: self.json }).await?;
            }
            Command::Completions(completions) => completions.run(self.json)?,
            Command::Man(pages) => pages.run(self.json)?,
            Command::Events(events) => events.run(&|| connect(&self.config, &self.remote), self.json).await?,
        }
        Ok(ExitCode::SUCCESS)
    }
}
