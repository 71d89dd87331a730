//! States and results of a run, as the database, the API and the UI name them.

use crate::ids::named_enum;

named_enum! {
    /// `runs.state`.
    RunState, "a run state" {
        /// Created; nothing has been sent to the machine.
        Queued = "Queued",
        /// A magic packet was sent; the machine has not asked for its boot script.
        Waking = "Waking",
        /// The boot script was served; the agent has not claimed the run.
        Booting = "Booting",
        /// The agent holds the run and works through the stages.
        Running = "Running",
        /// The agent announced a reboot; another boot_id is expected.
        Rebooting = "Rebooting",
        /// The last stage is over; verdict and report are being made.
        Reporting = "Reporting",
        /// Over, with a result.
        Completed = "Completed",
        /// Failed, and the machine is kept up for a person to look at.
        FailedHolding = "FailedHolding",
        /// Failed, and the machine was let go.
        Released = "Released",
        /// Ended by an operator before a verdict.
        Aborted = "Aborted",
    }
}

impl RunState {
    /// The run has its result: the machine's pipeline is over. (`FailedHolding` can still become `Released`.)
    pub fn is_terminal(self) -> bool {
        match self {
            Self::Queued
            | Self::Waking
            | Self::Booting
            | Self::Running
            | Self::Rebooting
            | Self::Reporting => false,
            Self::Completed | Self::FailedHolding | Self::Released | Self::Aborted => true,
        }
    }
}

named_enum! {
    /// On which system of the machine a run is made.
    RunPlace, "a place of a run" {
        /// The live image, with the machine for itself.
        LiveImage = "live_image",
        /// The installed system, by an agent in host mode: no stage that disturbs it, and nothing is written.
        InstalledSystem = "installed_system",
    }
}

impl RunPlace {
    /// Where a run is made that does not say.
    pub fn live_image() -> Self {
        Self::LiveImage
    }
}

named_enum! {
    /// `runs.result`.
    RunResult, "a run result" {
        /// The hardware may be trusted, as far as the profile looked.
        Pass = "pass",
        /// It may not.
        Fail = "fail",
    }
}

named_enum! {
    /// `runs.next_boot_target`.
    BootTarget, "a boot target" {
        /// The live image.
        Linux = "linux",
        /// The live image, once the machine's power was off.
        LinuxCold = "linux-cold",
        /// memtest86+.
        Memtest = "memtest",
        /// The live image, with the kernel's own early memory test before it.
        MemtestKernel = "memtest-kernel",
        /// The machine's own disk.
        Disk = "disk",
    }
}
