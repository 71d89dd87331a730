//! A laboratory of QEMU machines for the demo, the tests and the benches.
//!
//! Owns: how a machine is described ([`MachineBuilder`]), started, watched over its serial line, and ended.
//! Refuses: KVM (it hangs on nested hosts; TCG works everywhere), machines that outlive their owner, and the host's own
//! networks: machines are on QEMU's user network or on a [`Lan`] of their own.

pub mod bad_memory;
pub mod disk;
pub mod doctor;
pub mod lan;
pub mod machine;
pub mod netboot;
mod qemu_args;
pub mod qmp;
pub mod serial;

use std::path::PathBuf;
use std::time::Duration;

pub use bad_memory::{LostWrite, StuckByte};
pub use disk::{Disk, DiskBus};
pub use lan::{Lan, Member, Running, Tap};
pub use machine::{Machine, MachineBuilder};
pub use netboot::{Boot, DirectBoot, NetworkBoot};
pub use qmp::Qmp;
pub use serial::{SerialLine, SerialLog};

use crate::command::CommandError;

/// The firmware a machine powers on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Firmware {
    /// `SeaBIOS`; netboots by the network card's iPXE ROM.
    Bios,
    /// OVMF without Secure Boot; netboots by the firmware's own PXE.
    Uefi,
    /// The same with Secure Boot on and Microsoft's keys, as machines are sold.
    UefiSecureBoot,
}

/// What a machine is doing when `reboot` is called inside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnReboot {
    /// QEMU ends, as `-no-reboot` says.
    Exit,
    /// The machine starts over, as hardware does.
    Restart,
}

/// A network card's address on the lab's network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl std::fmt::Display for Mac {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let octets: Vec<String> = self.0.iter().map(|octet| format!("{octet:02x}")).collect();
        out.write_str(&octets.join(":"))
    }
}

/// What can go wrong in the lab.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// A file of the machine could not be made or read.
    #[error("{}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// QEMU could not be started.
    #[error("machine {machine} could not be started")]
    Start {
        /// Name of the machine.
        machine: String,
        /// Why.
        source: CommandError,
    },
    /// A network of its own could not be made, or a program not be started on it.
    #[error("the lab's network; it takes root and iproute2")]
    Network {
        /// Why.
        source: CommandError,
    },
    /// None of the places where Debian keeps this firmware file has it.
    #[error("no {what} found; install the package {package}")]
    NoFirmware {
        /// What was looked for.
        what: &'static str,
        /// Debian package that has it.
        package: &'static str,
    },
    /// The awaited text did not appear on the serial line in time.
    #[error("machine {machine}: no {pattern:?} on the serial line within {} s; it ended with:\n{tail}", waited.as_secs())]
    Deadline {
        /// Name of the machine.
        machine: String,
        /// What was waited for.
        pattern: String,
        /// For how long.
        waited: Duration,
        /// The end of the serial log.
        tail: String,
    },
    /// The machine ended before the awaited text appeared.
    #[error(
        "machine {machine} ended ({status}) before {pattern:?} appeared; QEMU said {stderr:?}; serial log ended with:\n{tail}"
    )]
    Ended {
        /// Name of the machine.
        machine: String,
        /// What was waited for.
        pattern: String,
        /// QEMU's exit status.
        status: std::process::ExitStatus,
        /// What QEMU printed to standard error.
        stderr: String,
        /// The end of the serial log.
        tail: String,
    },
    /// The machine still ran at the deadline.
    #[error("machine {machine} still runs after {} s; the serial log ended with:\n{tail}", waited.as_secs())]
    StillRunning {
        /// Name of the machine.
        machine: String,
        /// How long its end was awaited.
        waited: Duration,
        /// The end of the serial log.
        tail: String,
    },
    /// The monitor socket failed.
    #[error("machine {machine}: monitor connection failed while {doing}")]
    MonitorIo {
        /// Name of the machine.
        machine: String,
        /// What was being done.
        doing: &'static str,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// The monitor refused a command or answered with something unknown.
    #[error("machine {machine}: the monitor answered {answer} to {command}")]
    MonitorAnswer {
        /// Name of the machine.
        machine: String,
        /// Command name.
        command: String,
        /// Its answer as JSON.
        answer: String,
    },
}
