//! `run ssh`: the system's SSH client with the key of a held machine, from whatever box the command line is used on.
//!
//! Key and known host lie in a folder of their own for as long as the client runs, for its user alone.

#![expect(clippy::disallowed_methods, reason = "the door to the SSH client of this box")]

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::{Command, ExitCode, ExitStatus};

use vetting_protocol::ids::RunId;
use vetting_protocol::operator_api::{HoldView, RunDetail, SshView};

use super::CommandError;
use super::client::Client;

/// Why nobody is logged in.
#[derive(Debug, thiserror::Error)]
pub enum SshError {
    /// The run holds no machine.
    #[error("run {run} holds no machine: it is {state}")]
    NotHeld {
        /// Which.
        run: RunId,
        /// Where it stands.
        state: String,
    },
    /// It has no SSH server.
    #[error("nobody can log in to the machine of run {run}: {why}")]
    Closed {
        /// Which.
        run: RunId,
        /// Why.
        why: String,
    },
    /// The key cannot be put where the client reads it.
    #[error("the key cannot be written for the SSH client")]
    Key(#[source] std::io::Error),
    /// The client cannot be started.
    #[error("`ssh` cannot be started; install an SSH client (Debian: openssh-client)")]
    Start(#[source] std::io::Error),
}

/// Logs in, or runs `command` there; ends with the exit code of the client.
pub(super) async fn run(client: &Client, id: RunId, command: &[String]) -> Result<ExitCode, CommandError> {
    let number = id.to_string();
    let detail: RunDetail = client.get(&["runs", &number], &[]).await?;
    let view = access(&detail)?;
    let key = client.bytes(&["runs", &number, "artifacts", "hold_key"]).await?;
    let folder = tempfile::tempdir().map_err(SshError::Key)?;
    write(&folder.path().join("key"), &key).map_err(SshError::Key)?;
    let known = format!("{}\n", view.known_hosts_line);
    write(&folder.path().join("known_hosts"), known.as_bytes()).map_err(SshError::Key)?;
    let mut ssh = ssh(folder.path(), view, command);
    let ended = tokio::task::spawn_blocking(move || ssh.status()).await;
    let status = ended.map_err(std::io::Error::other)?.map_err(SshError::Start)?;
    Ok(code(status))
}

fn access(detail: &RunDetail) -> Result<&SshView, SshError> {
    let run = detail.summary.id;
    let Some(HoldView { ssh, problem, .. }) = &detail.hold else {
        return Err(SshError::NotHeld { run, state: detail.summary.state.to_string() });
    };
    ssh.as_ref().ok_or_else(|| {
        let why =
            problem.clone().unwrap_or_else(|| "it has not told yet how; try again in a moment".to_owned());
        SshError::Closed { run, why }
    })
}

fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(bytes)
}

fn ssh(folder: &Path, view: &SshView, command: &[String]) -> Command {
    let mut ssh = Command::new("ssh");
    ssh.arg("-i").arg(folder.join("key"));
    ssh.arg("-o").arg(format!("UserKnownHostsFile={}", folder.join("known_hosts").display()));
    ssh.args(["-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=yes", "-l", "root", "-p"]);
    ssh.arg(view.port.to_string()).arg("--").arg(&view.address).args(command);
    ssh
}

/// A client that a signal ended says nothing of its command: an error.
fn code(status: ExitStatus) -> ExitCode {
    status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::from(255), ExitCode::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_never_taken_for_an_option() {
        let view = SshView {
            address: "-oProxyCommand=reboot".to_owned(),
            port: 22,
            known_hosts_line: String::new(),
            command: String::new(),
        };
        let ssh = ssh(Path::new("/tmp/x"), &view, &["dmesg".to_owned()]);
        let words: Vec<_> = ssh.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
        let end_of_options = words.iter().position(|word| word == "--").unwrap();
        assert_eq!(words[end_of_options + 1..], ["-oProxyCommand=reboot", "dmesg"]);
    }
}
