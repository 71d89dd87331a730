//! A serial device of this box, 115200 baud, 8 bits, no parity, one stop bit, no flow control, raw.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use futures_util::future::BoxFuture;
use nix::fcntl::OFlag;
use nix::sys::termios::{BaudRate, ControlFlags, SetArg, cfmakeraw, cfsetspeed, tcgetattr, tcsetattr};

use super::{ConsoleError, OpenLine, Opener};

pub(super) struct SerialDevice {
    pub(super) path: PathBuf,
}

impl Opener for SerialDevice {
    fn open(&self) -> BoxFuture<'_, Result<Box<dyn OpenLine>, ConsoleError>> {
        Box::pin(async move {
            let failed = |source| ConsoleError::Device { path: self.path.clone(), source };
            let path = self.path.clone();
            let opened = tokio::task::spawn_blocking(move || open(&path)).await;
            let file = opened.map_err(|error| failed(std::io::Error::other(error)))?.map_err(failed)?;
            Ok(Box::new(tokio::fs::File::from_std(file)) as Box<dyn OpenLine>)
        })
    }
}

fn open(path: &Path) -> std::io::Result<std::fs::File> {
    let flags = OFlag::O_NOCTTY.bits();
    let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)?;
    let mut settings = tcgetattr(&file)?;
    cfmakeraw(&mut settings);
    cfsetspeed(&mut settings, BaudRate::B115200)?;
    // the modem lines of a console cable are often not there
    settings.control_flags.insert(ControlFlags::CLOCAL | ControlFlags::CREAD);
    settings.control_flags.remove(ControlFlags::CRTSCTS | ControlFlags::CSTOPB | ControlFlags::PARENB);
    tcsetattr(&file, SetArg::TCSANOW, &settings)?;
    Ok(file)
}
