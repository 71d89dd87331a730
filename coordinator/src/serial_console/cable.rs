//! A serial cable of which both ends are here: a pseudo terminal. Tests play the machine at the other end.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::pty::openpty;
use nix::unistd::ttyname;

use super::OpenLine;
use super::device::Port;

pub(crate) struct Cable {
    /// The device of this box, as a terminal is at first: it echoes, edits and translates.
    pub device: PathBuf,
    /// What the machine has of it.
    pub machine: Box<dyn OpenLine>,
    /// Held, or the machine's end has nobody before the device is opened.
    pub held: OwnedFd,
}

impl Cable {
    pub fn lay() -> Self {
        let ends = openpty(None, None).unwrap();
        let device = ttyname(&ends.slave).unwrap();
        fcntl(&ends.master, FcntlArg::F_SETFL(OFlag::O_RDWR | OFlag::O_NONBLOCK)).unwrap();
        let machine = Port::new(File::from(ends.master)).unwrap();
        Self { device, machine: Box::new(machine), held: ends.slave }
    }
}
