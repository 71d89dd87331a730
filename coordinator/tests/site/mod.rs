//! A folder with a coordinator that serves from it, and the program that talks to it.
#![expect(clippy::disallowed_methods, reason = "the program is what is tested")]
#![expect(clippy::unwrap_used, reason = "clippy knows tests only by their attribute, not their helpers")]
#![allow(dead_code, reason = "each test program uses its part of it")]

pub mod machine;

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

pub const SPEC: &str = "memory: {total_gib: 1}\n";
pub const MAC: &str = "52:54:00:ab:cd:01";

/// A folder with a coordinator that serves from it.
pub struct Site {
    pub folder: TempDir,
    pub serving: Child,
}

impl Drop for Site {
    fn drop(&mut self) {
        kill(&mut self.serving);
    }
}

pub fn kill(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

pub fn program(folder: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vetting-coordinator"));
    command.current_dir(folder).args(words).env("RUST_LOG", "error");
    for variable in ["VETTING_CONFIG", "VETTING_URL", "VETTING_CA", "VETTING_TOKEN"] {
        command.env_remove(variable);
    }
    command
}

/// Serves, and returns once it listens.
pub fn serve(folder: &Path) -> Child {
    let mut child = program(folder, &["serve"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("listening https=127.0.0.1:"), "{line}");
    child
}

impl Site {
    pub fn open() -> Self {
        Self::open_with("", &[])
    }

    /// With more in its configuration, and further files beside that.
    pub fn open_with(more: &str, files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = format!("listen: {{https: '127.0.0.1:0', http: '127.0.0.1:0'}}\n{more}");
        std::fs::write(folder.path().join("vetting.yaml"), config).unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        std::fs::write(folder.path().join("spec.yaml"), SPEC).unwrap();
        let made = json(&program(folder.path(), &["init", "--keep-config", "--json"]).output().unwrap());
        assert_eq!(made["config"], "vetting.yaml");
        let serving = serve(folder.path());
        Self { folder, serving }
    }

    pub fn say(&self, words: &[&str]) -> Output {
        program(self.folder.path(), words).output().unwrap()
    }

    /// The answer of a command that must work.
    pub fn json(&self, words: &[&str]) -> Value {
        json(&self.say(&[words, &["--json"]].concat()))
    }

    /// The text of a command that must work.
    pub fn text(&self, words: &[&str]) -> String {
        let output = self.say(words);
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What a command that must not work says.
    pub fn refused(&self, words: &[&str]) -> String {
        let output = self.say(words);
        assert_eq!(output.status.code(), Some(2), "{words:?}: {output:?}");
        assert!(output.stdout.is_empty(), "{words:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    pub fn add(&self, name: &str, mac: &str) -> Value {
        // the packet goes nowhere but here
        let words =
            ["host", "add", name, "--mac", mac, "--spec", "spec.yaml", "--wol-broadcast-ip", "127.0.0.1"];
        self.json(&words)
    }
}

pub fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}
