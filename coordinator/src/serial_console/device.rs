//! A serial device of this box, 115200 baud, 8 bits, no parity, one stop bit, no flow control, raw.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Result, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::future::BoxFuture;
use nix::fcntl::OFlag;
use nix::sys::termios::{BaudRate, ControlFlags, SetArg, cfmakeraw, cfsetspeed, tcgetattr, tcsetattr};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{ConsoleError, OpenLine, Opener};

pub(super) struct SerialDevice {
    pub(super) path: PathBuf,
}

impl Opener for SerialDevice {
    fn open(&self) -> BoxFuture<'_, std::result::Result<Box<dyn OpenLine>, ConsoleError>> {
        Box::pin(async move {
            let failed = |source| ConsoleError::Device { path: self.path.clone(), source };
            let path = self.path.clone();
            let opened = tokio::task::spawn_blocking(move || open(&path)).await;
            let file = opened.map_err(|error| failed(std::io::Error::other(error)))?.map_err(failed)?;
            Ok(Box::new(Port::new(file).map_err(failed)?) as Box<dyn OpenLine>)
        })
    }
}

fn open(path: &Path) -> Result<File> {
    // a cable without modem lines never says that there is somebody: nothing waits for it
    let flags = OFlag::O_NOCTTY | OFlag::O_NONBLOCK;
    let file = OpenOptions::new().read(true).write(true).custom_flags(flags.bits()).open(path)?;
    let mut settings = tcgetattr(&file)?;
    cfmakeraw(&mut settings);
    cfsetspeed(&mut settings, BaudRate::B115200)?;
    settings.control_flags.insert(ControlFlags::CLOCAL | ControlFlags::CREAD);
    settings.control_flags.remove(ControlFlags::CRTSCTS | ControlFlags::CSTOPB | ControlFlags::PARENB);
    tcsetattr(&file, SetArg::TCSANOW, &settings)?;
    Ok(file)
}

/// A device that is read and written at the same time. As a file of tokio it would not be: there a write waits for a
/// read that is under way, and a machine that says nothing could not be told anything.
pub(super) struct Port(AsyncFd<File>);

impl Port {
    /// Of a file that never blocks.
    pub(super) fn new(file: File) -> Result<Self> {
        // SAFETY: a `File` is the same open descriptor from here until it is dropped with the `AsyncFd` that owns it
        unsafe { AsyncFd::register(file) }.map(Self).map_err(std::io::Error::from)
    }
}

impl AsyncRead for Port {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        loop {
            let mut guard = ready!(self.0.poll_read_ready(context))?;
            let space = buffer.initialize_unfilled();
            if let Ok(read) = guard.try_io(|port| port.get_ref().read(space)) {
                buffer.advance(read?);
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl AsyncWrite for Port {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        loop {
            let mut guard = ready!(self.0.poll_write_ready(context))?;
            if let Ok(written) = guard.try_io(|port| port.get_ref().write(bytes)) {
                return Poll::Ready(written);
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::termios::{InputFlags, LocalFlags, OutputFlags, cfgetospeed};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::super::cable::Cable;
    use super::*;

    async fn opened(cable: &Cable) -> Box<dyn OpenLine> {
        SerialDevice { path: cable.device.clone() }.open().await.unwrap()
    }

    #[tokio::test]
    async fn the_device_is_raw_and_ignores_modem_lines() {
        let cable = Cable::lay();
        let _line = opened(&cable).await;
        let settings = tcgetattr(&cable.held).unwrap();
        assert_eq!(cfgetospeed(&settings), BaudRate::B115200);
        assert!(
            settings.control_flags.contains(ControlFlags::CLOCAL | ControlFlags::CREAD | ControlFlags::CS8)
        );
        assert!(!settings.control_flags.intersects(ControlFlags::CRTSCTS | ControlFlags::PARENB));
        assert!(!settings.local_flags.intersects(LocalFlags::ECHO | LocalFlags::ICANON | LocalFlags::ISIG));
        assert!(!settings.input_flags.intersects(InputFlags::ICRNL | InputFlags::IXON));
        assert!(!settings.output_flags.contains(OutputFlags::OPOST));
    }

    #[tokio::test]
    async fn every_byte_goes_both_ways_as_it_is() {
        let mut cable = Cable::lay();
        let mut line = opened(&cable).await;
        let every: Vec<u8> = (0..=u8::MAX).collect();
        let mut read = vec![0; every.len()];
        cable.machine.write_all(&every).await.unwrap();
        line.read_exact(&mut read).await.unwrap();
        assert_eq!(read, every);
        line.write_all(&every).await.unwrap();
        read.fill(0);
        cable.machine.read_exact(&mut read).await.unwrap();
        assert_eq!(read, every);
    }

    #[tokio::test]
    async fn a_machine_that_says_nothing_can_be_told_something() {
        let mut cable = Cable::lay();
        let mut line = opened(&cable).await;
        // a read that has begun, and is given up for the write
        let mut nothing = [0];
        tokio::select! {
            biased;
            read = line.read(&mut nothing) => panic!("{read:?}"),
            () = std::future::ready(()) => {}
        }
        line.write_all(b"\x1b").await.unwrap();
        assert_eq!(cable.machine.read_u8().await.unwrap(), 0x1b);
    }

    #[tokio::test]
    async fn a_cable_that_is_pulled_ends_the_reading_and_what_is_no_terminal_is_refused() {
        let cable = Cable::lay();
        let mut line = opened(&cable).await;
        let device = SerialDevice { path: cable.device.clone() };
        drop(cable);
        let read = line.read(&mut [0]).await;
        assert!(!matches!(read, Ok(1..)), "{read:?}");
        let gone = device.open().await.err().unwrap();
        assert!(matches!(&gone, ConsoleError::Device { path, .. } if *path == device.path), "{gone}");
        let null = SerialDevice { path: "/dev/null".into() };
        assert!(matches!(null.open().await, Err(ConsoleError::Device { .. })));
    }
}
