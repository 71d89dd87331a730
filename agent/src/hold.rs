//! A held machine's door: an SSH server with a key of its own that lets in one key, the run's, and nobody else.
//!
//! Everything lies in memory below one folder for root alone, and goes when the door closes.

#![expect(clippy::disallowed_methods, reason = "the folder of the SSH server's keys, in memory")]

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use vetting_protocol::agent_api::{HoldOrder, SshAccess};

use crate::cancel::Cancel;
use crate::clock;
use crate::console::{Console, chain};
use crate::tools::dropbear;
use crate::tools::runner::{Happening, RunningTool, Service, SystemRunner, ToolError, ToolRunner as _};

/// The folder, in memory.
pub const DIRECTORY: &str = "/run/vetting/hold";
/// SSH's own port: nothing else listens on the live image.
const PORT: u16 = 22;
/// How long the server may take until it listens.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often is looked whether it does.
const LOOK: Duration = Duration::from_millis(100);

/// Why nobody is let in.
#[derive(Debug, thiserror::Error)]
pub enum HoldError {
    /// A file of the server cannot be made.
    #[error("{path} cannot be written")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The key is more than one line.
    #[error("the coordinator's key is not one line")]
    Key,
    /// A tool.
    #[error("the SSH server cannot be started")]
    Tool(#[from] ToolError),
    /// It ended at once.
    #[error("the SSH server ended at once: {said}")]
    Ended {
        /// The last it said.
        said: String,
    },
    /// It says nothing.
    #[error("the SSH server does not listen")]
    Late,
    /// Its lines cannot be followed.
    #[error("no thread follows the SSH server")]
    Thread(#[source] io::Error),
}

/// An open door. Dropping it ends the server and whoever is logged in.
pub struct Door {
    server: Option<Arc<RunningTool>>,
    directory: PathBuf,
    access: SshAccess,
}

impl Door {
    /// Lets in whom the order names, or says why not: a machine is held either way.
    pub fn open(order: &HoldOrder, runner: &SystemRunner, console: &Arc<dyn Console>) -> Self {
        let directory = PathBuf::from(DIRECTORY);
        match start(order, &directory, runner, console) {
            Ok((server, host_key)) => {
                Self { server: Some(server), directory, access: SshAccess::Open { port: PORT, host_key } }
            }
            Err(error) => {
                let reason = chain(&error);
                console.line(&format!("nobody can log in to this machine: {reason}"));
                Self { server: None, directory, access: SshAccess::Closed { reason } }
            }
        }
    }

    /// How a person gets in.
    pub fn access(&self) -> &SshAccess {
        &self.access
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        if let Some(server) = &self.server {
            server.kill();
        }
        // in memory, and of no use to anybody once the server is gone
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn start(
    order: &HoldOrder,
    directory: &Path,
    runner: &SystemRunner,
    console: &Arc<dyn Console>,
) -> Result<(Arc<RunningTool>, String), HoldError> {
    prepare(directory, &order.authorized_key)?;
    let host_key_file = directory.join("host_key");
    let made = runner.run(&dropbear::make_host_key(&host_key_file), &Cancel::new(), &mut |_, _| {})?;
    let host_key = dropbear::parse_host_key(&made)?;
    let server = listening(runner, &dropbear::server(PORT, &host_key_file, directory), PATIENCE)?;
    let server = Arc::new(server);
    let (followed, console) = (Arc::clone(&server), Arc::clone(console));
    // who comes and goes is told at the machine too; it ends with the server
    std::thread::Builder::new()
        .name("ssh".to_owned())
        .spawn(move || {
            followed.wait(|_, line| console.line(&format!("ssh: {line}")));
        })
        .map_err(HoldError::Thread)?;
    Ok((server, host_key))
}

/// An empty folder with nothing but the key that is let in.
fn prepare(directory: &Path, authorized_key: &str) -> Result<(), HoldError> {
    let key = authorized_key.trim_end();
    // a second line would let in a second key, options before it would run a command
    if key.chars().any(char::is_control) || !key.starts_with("ssh-ed25519 ") {
        return Err(HoldError::Key);
    }
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| HoldError::File { path, source }
    };
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(directory)(error)),
        Ok(()) | Err(_) => {}
    }
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed(directory))?;
    let file = directory.join("authorized_keys");
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&file)
        .and_then(|mut file| file.write_all(format!("{key}\n").as_bytes()))
        .map_err(failed(&file))
}

/// Starts the server and waits until it says that it listens.
fn listening(runner: &SystemRunner, service: &Service, patience: Duration) -> Result<RunningTool, HoldError> {
    let server = runner.spawn(service)?;
    let begin = clock::monotonic();
    let mut said = "nothing".to_owned();
    while begin.elapsed() < patience {
        match server.next(LOOK) {
            Some(Happening::Line(_, line)) if dropbear::listens(&line) => return Ok(server),
            Some(Happening::Line(_, line)) => said = line,
            Some(Happening::Exited(exit)) => {
                return Err(HoldError::Ended { said: format!("{said} ({exit})") });
            }
            None => {}
        }
    }
    Err(HoldError::Late)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::tools::runner::Leads;

    #[test]
    fn one_key_is_let_in_and_only_root_may_look() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("hold");
        for key in ["ssh-ed25519 AAAA one", "ssh-ed25519 BBBB two\n"] {
            prepare(&directory, key).unwrap();
            let file = directory.join("authorized_keys");
            assert_eq!(fs::read_to_string(&file).unwrap(), format!("{}\n", key.trim_end()));
            let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!((mode(&directory), mode(&file)), (0o700, 0o600));
        }
        for key in ["", "ssh-ed25519 AAAA\nssh-ed25519 BBBB", "command=\"reboot\" ssh-ed25519 AAAA"] {
            assert!(matches!(prepare(&directory, key), Err(HoldError::Key)), "{key}");
        }
    }

    fn shell(script: &str) -> Service {
        let args = vec!["-c".into(), script.into()];
        Service { program: "sh".into(), args, env: Vec::new(), leads: Leads::Group }
    }

    #[test]
    fn a_server_is_there_once_it_says_so_and_its_last_words_tell_why_it_is_not() {
        let runner = SystemRunner::new();
        let up = shell("echo '[7] Nov 25 19:57:22 Not backgrounding' >&2; exec sleep 600");
        listening(&runner, &up, PATIENCE).unwrap();
        let down = shell("echo 'Failed listening on 22: Address already in use' >&2; exit 1");
        let error = listening(&runner, &down, PATIENCE).unwrap_err().to_string();
        assert!(error.contains("Address already in use") && error.contains("code 1"), "{error}");
        let mute = listening(&runner, &shell("exec sleep 600"), Duration::ZERO);
        assert!(matches!(mute, Err(HoldError::Late)));
    }
}
