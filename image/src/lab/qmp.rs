//! QEMU's machine protocol over a unix socket: the lab's power button.
//!
//! Owns: one connection, command and answer. Refuses: guessing (an answer that is neither return nor error is an
//! error).

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::LabError;

/// A connection to a machine's monitor.
#[derive(Debug)]
pub struct Qmp {
    machine: String,
    reader: BufReader<UnixStream>,
}

impl Qmp {
    pub(super) fn connect(machine: &str, socket: &Path) -> Result<Self, LabError> {
        let io = |doing| monitor_io(machine, doing);
        let stream = UnixStream::connect(socket).map_err(io("connecting"))?;
        stream.set_read_timeout(Some(Duration::from_secs(30))).map_err(io("setting its time limit"))?;
        let mut monitor = Self { machine: machine.to_owned(), reader: BufReader::new(stream) };
        monitor.read()?; // the greeting
        monitor.execute("qmp_capabilities", &json!({}))?;
        Ok(monitor)
    }

    /// Run one command with its arguments and return what it returned. Events in between are skipped.
    pub fn execute(&mut self, command: &str, arguments: &Value) -> Result<Value, LabError> {
        let mut request = json!({"execute": command, "arguments": arguments}).to_string();
        request.push('\n');
        self.reader
            .get_mut()
            .write_all(request.as_bytes())
            .map_err(monitor_io(&self.machine, "sending a command"))?;
        loop {
            let mut answer = self.read()?;
            if let Some(returned) = answer.get_mut("return") {
                return Ok(returned.take());
            }
            if answer.get("event").is_none() {
                return Err(LabError::MonitorAnswer {
                    machine: self.machine.clone(),
                    command: command.to_owned(),
                    answer: answer.to_string(),
                });
            }
        }
    }

    /// Pull the plug: QEMU ends.
    pub fn quit(&mut self) -> Result<(), LabError> {
        self.execute("quit", &json!({})).map(drop)
    }

    /// Press the reset button.
    pub fn reset(&mut self) -> Result<(), LabError> {
        self.execute("system_reset", &json!({})).map(drop)
    }

    /// Press the power button (ACPI).
    pub fn power_down(&mut self) -> Result<(), LabError> {
        self.execute("system_powerdown", &json!({})).map(drop)
    }

    /// Freeze all CPUs: to the network the machine falls silent.
    pub fn stop(&mut self) -> Result<(), LabError> {
        self.execute("stop", &json!({})).map(drop)
    }

    /// Let a frozen machine go on.
    pub fn cont(&mut self) -> Result<(), LabError> {
        self.execute("cont", &json!({})).map(drop)
    }

    /// When it restarts, the machine stands still until [`Self::reset_halted`].
    pub fn halt_on_restart(&mut self) -> Result<(), LabError> {
        self.execute("set-action", &json!({"reboot": "shutdown", "shutdown": "pause"})).map(drop)
    }

    /// Whether it stands still since it restarted.
    pub fn is_halted(&mut self) -> Result<bool, LabError> {
        self.execute("query-status", &json!({})).map(|status| status["status"] == "shutdown")
    }

    /// Puts a machine that halted so before its first instruction, where it stands still until somebody lets it go on. From then
    /// on it restarts and powers off as hardware does.
    pub fn reset_halted(&mut self) -> Result<(), LabError> {
        self.execute("set-action", &json!({"reboot": "reset", "shutdown": "poweroff"}))?;
        self.reset()?;
        // QEMU answers before it is done
        while self.is_halted()? {}
        Ok(())
    }

    /// Pull a device, such as `disk1` (`NVMe` and SCSI disks), out of the running machine.
    pub fn device_del(&mut self, id: &str) -> Result<(), LabError> {
        self.execute("device_del", &json!({"id": id})).map(drop)
    }

    fn read(&mut self) -> Result<Value, LabError> {
        let io = monitor_io(&self.machine, "reading an answer");
        let mut line = String::new();
        let count = self.reader.read_line(&mut line).map_err(&io)?;
        if count == 0 {
            return Err(io(std::io::ErrorKind::UnexpectedEof.into()));
        }
        serde_json::from_str(&line).map_err(|error| io(error.into()))
    }
}

fn monitor_io(machine: &str, doing: &'static str) -> impl Fn(std::io::Error) -> LabError + use<> {
    let machine = machine.to_owned();
    move |source| LabError::MonitorIo { machine: machine.clone(), doing, source }
}
