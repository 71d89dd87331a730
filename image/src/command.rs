//! The one door through which this crate starts host processes.
//!
//! Owns: argument vectors, environments, exit status, captured output, and the parent-death signal of long-running
//! children. Refuses: shells, interpolated command lines, and treating a signal or a non-zero exit as success.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

/// What went wrong while running a host program.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The program is not installed; [`crate::lab::doctor`] names the package.
    #[error("{program} is not installed{}", package_hint(.program))]
    Missing {
        /// Program name as it was looked up in PATH.
        program: String,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// The program could not be started or its output not be read.
    #[error("{program} could not be run")]
    Start {
        /// Program name.
        program: String,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// The program ran and reported failure (exit code other than 0, or a signal).
    #[error("{program} failed ({status}): {stderr}")]
    Failed {
        /// Program name and arguments.
        program: String,
        /// Exit code or signal.
        status: ExitStatus,
        /// Last part of its standard error.
        stderr: String,
    },
}

/// One invocation of a host program: no shell, everything an argument.
#[derive(Debug)]
pub struct Tool {
    program: String,
    command: Command,
}

impl Tool {
    /// Prepare `program` (looked up in PATH, `/usr/sbin` and `/sbin` added) without arguments.
    pub fn new(program: &str) -> Self {
        let mut command = Command::new(program);
        command.stdin(Stdio::null()).env("LC_ALL", "C").env("PATH", search_path());
        Self { program: program.to_owned(), command }
    }

    /// Add one argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    /// Add several arguments.
    #[must_use]
    pub fn args<I, S>(mut self, arguments: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        self.command.args(arguments);
        self
    }

    /// Set an environment variable for the program.
    #[must_use]
    pub fn env(mut self, key: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(key, value);
        self
    }

    /// Run in this directory.
    #[must_use]
    pub fn current_dir(mut self, directory: &Path) -> Self {
        self.command.current_dir(directory);
        self
    }

    /// Run to the end and return standard output. Errors: not installed, or any exit but 0.
    pub fn run(mut self) -> Result<Vec<u8>, CommandError> {
        let output = self
            .command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .output()
            .map_err(|source| start_error(&self.program, source))?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        Err(CommandError::Failed {
            program: self.describe(),
            status: output.status,
            stderr: tail(&output.stderr, 2000),
        })
    }

    /// Run to the end and return standard output as text; bytes that are not UTF-8 are replaced.
    pub fn run_text(self) -> Result<String, CommandError> {
        Ok(String::from_utf8_lossy(&self.run()?).into_owned())
    }

    /// Start as a long-running child which the kernel kills when the *starting thread* ends
    /// (`setpriv --pdeathsig`, from util-linux): the caller keeps that thread alive as long as the child.
    /// Standard input and output are pipes, standard error goes to `stderr_file`.
    pub(crate) fn spawn_guarded(self, stderr_file: std::fs::File) -> Result<Child, CommandError> {
        let mut guarded = Command::new("setpriv");
        guarded.args(["--pdeathsig", "KILL", "--"]).arg(&self.program).args(self.command.get_args());
        for (key, value) in self.command.get_envs() {
            if let Some(value) = value {
                guarded.env(key, value);
            }
        }
        guarded
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(stderr_file)
            .spawn()
            .map_err(|source| start_error(&self.program, source))
    }

    fn describe(&self) -> String {
        let mut text = self.program.clone();
        for argument in self.command.get_args().take(24) {
            text.push(' ');
            text.push_str(&argument.to_string_lossy());
        }
        text
    }
}

/// Whether `program` is found in PATH, `/usr/sbin` or `/sbin`.
pub fn is_installed(program: &str) -> bool {
    std::env::split_paths(&search_path()).any(|directory| directory.join(program).is_file())
}

fn search_path() -> OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/local/sbin:/usr/sbin:/sbin");
    path
}

fn package_hint(program: &str) -> String {
    crate::lab::doctor::package_of(program)
        .map(|package| format!(": apt-get install {package}"))
        .unwrap_or_default()
}

fn start_error(program: &str, source: std::io::Error) -> CommandError {
    let program = program.to_owned();
    if source.kind() == std::io::ErrorKind::NotFound {
        CommandError::Missing { program, source }
    } else {
        CommandError::Start { program, source }
    }
}

fn tail(bytes: &[u8], limit: usize) -> String {
    let start = bytes.len().saturating_sub(limit);
    String::from_utf8_lossy(&bytes[start..]).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn success_returns_stdout() {
        assert_eq!(Tool::new("printf").args(["%s", "a b"]).run_text().unwrap(), "a b");
    }

    #[test]
    fn exit_code_is_a_failure_with_stderr() {
        let error = Tool::new("ls").arg("/does-not-exist").run().unwrap_err();
        assert!(matches!(&error, CommandError::Failed { stderr, .. } if stderr.contains("does-not-exist")));
    }

    #[test]
    fn a_missing_program_names_its_package() {
        let source = std::io::Error::from(std::io::ErrorKind::NotFound);
        let text = start_error("qemu-system-x86_64", source).to_string();
        assert!(text.contains("apt-get install qemu-system-x86"), "{text}");
    }

    #[test]
    fn a_guarded_child_dies_with_the_thread_that_started_it() {
        use std::os::unix::process::ExitStatusExt;
        let log = tempfile::tempfile().unwrap();
        let starter = std::thread::spawn(move || {
            let mut child = Tool::new("sleep").arg("3600").spawn_guarded(log).unwrap();
            // the guard is in place once setpriv has become sleep
            let name = format!("/proc/{}/comm", child.id());
            while std::fs::read_to_string(&name).unwrap().trim() != "sleep" {
                std::thread::yield_now();
            }
            assert_eq!(child.try_wait().unwrap(), None);
            child
        });
        let mut child = starter.join().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9));
    }
}
