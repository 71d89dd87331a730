//! `host`: stays on an installed system, shows the coordinator that the machine is there and what it is made of, and
//! takes runs that leave the system alone. What would disturb it or write to its disks is refused here, whatever the
//! coordinator says.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use vetting_judge::yaml;
use vetting_protocol::secret::Secret;
use vetting_protocol::stick::Proxy;

use super::machine::Machine;
use super::run::{self, RunArguments};
use super::{CliError, Exit, interrupt, read_file};
use crate::boot_parameters::{CaPin, Endpoint};
use crate::cancel::Cancel;
use crate::console::{Console, Terminal};
use crate::inventory;
use crate::uplink::{self, Client, Timing};

/// Arguments of `host`.
#[derive(Debug, clap::Args)]
#[command(after_help = "The configuration file:
  coordinator: https://10.0.0.1:8443
  ca: sha256:…                     # `ca_fingerprint` in the coordinator's <state_dir>/coordinator.json
  token_file: /etc/vetting/agent.token
  # proxy: http://proxy.example:3128

`vetting-coordinator host agent-token NAME` makes the token. Runs are ordered with
`vetting-coordinator run start NAME --host-mode`. SIGTERM ends it; a run at work is ended too.")]
pub struct HostArguments {
    /// Configuration file
    #[arg(long, value_name = "FILE", default_value = "/etc/vetting/agent.yaml")]
    config: PathBuf,
}

/// The configuration file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct HostConfig {
    coordinator: Endpoint,
    ca: CaPin,
    token_file: PathBuf,
    #[serde(default)]
    proxy: Option<Proxy>,
}

fn read_config(path: &Path) -> Result<HostConfig, CliError> {
    yaml::parse(&read_file(path)?, "write at least `coordinator`, `ca` and `token_file`; see `host --help`")
        .map_err(|mistake| CliError::Config { path: path.to_owned(), mistake })
}

fn read_token(path: &Path) -> Result<Secret, CliError> {
    let text = read_file(path)?;
    match text.trim() {
        "" => Err(CliError::NoToken { path: path.to_owned() }),
        token => Ok(Secret::new(token.to_owned())),
    }
}

pub(super) fn host(machine: &Machine, arguments: &HostArguments) -> Result<Exit, CliError> {
    let console: Arc<dyn Console> = Arc::new(Terminal::Stdout);
    let config = read_config(&arguments.config)?;
    let token = read_token(&config.token_file)?;
    let boot_id = machine.boot_id()?;
    let interrupted = Cancel::new();
    interrupt::watch(vec![interrupted.clone()])?;
    console.line(&format!("host mode: coordinator {}", config.coordinator));
    loop {
        // a connection belongs to the runtime it was made in
        let client = Client::new(config.coordinator.clone(), config.ca, config.proxy.as_ref())?;
        let look = || inventory::collect(&machine.host, &*machine.tools);
        let offered =
            uplink::attend(&client, Timing::NORMAL, &*console, &interrupted, &token, &boot_id, look)?;
        let Some(offered) = offered else { return Ok(Exit::Pass) };
        let order = RunArguments::on_installed_system(
            config.coordinator.clone(),
            config.ca,
            config.proxy.clone(),
            offered,
        );
        // the next heartbeat comes whatever became of this run
        match run::work(machine, &order, Arc::clone(&console), interrupted.clone()) {
            Ok(_) => {}
            Err(error) => console.line(&format!("the run was not done: {}", crate::console::chain(&error))),
        }
        if interrupted.is_raised() {
            return Ok(Exit::Pass);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Result<HostConfig, CliError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.yaml");
        std::fs::write(&path, text).unwrap();
        read_config(&path)
    }

    #[test]
    fn a_mistake_in_the_configuration_is_told_with_its_place() {
        let ca = format!("sha256:{}", "ab".repeat(32));
        let good =
            format!("coordinator: https://[fd00::1]:8443\nca: {ca}\ntoken_file: /etc/vetting/agent.token\n");
        assert_eq!(config(&good).unwrap().coordinator.port, 8443);
        for (text, place) in [
            (good.replace("token_file", "token"), "line 3"),
            (good.replace(":8443", ""), "line 1"),
            (good.replace("sha256:", ""), "line 2"),
            (String::new(), "line 1"),
        ] {
            let CliError::Config { mistake, .. } = config(&text).unwrap_err() else { panic!("{text}") };
            assert!(mistake.to_string().starts_with(place), "{mistake}");
        }
    }

    #[test]
    fn the_example_of_the_package_is_good() {
        let example = config(include_str!("../../../packaging/agent.yaml")).unwrap();
        assert_eq!(example.coordinator.port, 8443);
        assert_eq!(example.token_file, Path::new("/etc/vetting/agent.token"));
    }

    #[test]
    fn an_empty_token_file_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "\n").unwrap();
        assert!(matches!(read_token(&path), Err(CliError::NoToken { .. })));
        std::fs::write(&path, "s3cr3t\n").unwrap();
        assert_eq!(read_token(&path).unwrap().expose(), "s3cr3t");
    }
}
