//! The consoles of the live image: every line to every one there is, each line in one write.
//!
//! A console that hangs (a serial line that nobody takes from) holds nothing up: its lines wait, and when too many
//! do, the newest are left out and counted.

#![expect(clippy::disallowed_methods, reason = "writes to the consoles")]

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Sender, TrySendError, bounded};
use nix::fcntl::OFlag;

use crate::clock;
use crate::console::{Console, printable};

/// The screen and the first serial line.
pub(super) const CONSOLES: &[&str] = &["/dev/tty0", "/dev/ttyS0"];

/// Lines that may wait for a slow console.
const WAITING_LINES: usize = 512;

/// All consoles together. Lines bear the time since the kernel started, as the kernel's own do.
pub(super) struct TtyConsole {
    ttys: Vec<Tty>,
    line_start: LineStart,
    pending: Arc<Pending>,
}

/// Where a line finds the cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LineStart {
    /// At the start of the line.
    Alone,
    /// Perhaps behind the prompt of a shell, which is shorter than a time stamp and is written over.
    OverPrompt,
}

struct Tty {
    lines: Sender<Vec<u8>>,
    left_out: AtomicU64,
}

/// How many lines are on their way to all consoles.
#[derive(Default)]
struct Pending {
    count: Mutex<u64>,
    fewer: Condvar,
}

impl Pending {
    fn add(&self) {
        *self.count.lock().unwrap_or_else(PoisonError::into_inner) += 1;
    }

    fn done(&self) {
        *self.count.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.fewer.notify_all();
    }
}

impl TtyConsole {
    /// Opens those of the given devices that exist.
    pub(super) fn open(devices: &[&str], line_start: LineStart) -> Self {
        let pending = Arc::new(Pending::default());
        let ttys = devices.iter().filter_map(|device| Tty::open(Path::new(device), &pending)).collect();
        Self { ttys, line_start, pending }
    }

    /// Waits until all lines are written, at most for `patience`.
    pub(super) fn drain(&self, patience: Duration) {
        let count = self.pending.count.lock().unwrap_or_else(PoisonError::into_inner);
        // a console that still hangs after that loses what waits
        drop(self.pending.fewer.wait_timeout_while(count, patience, |count| *count > 0));
    }
}

impl Console for TtyConsole {
    fn line(&self, text: &str) {
        let uptime_ms = clock::uptime_ms();
        let start = match self.line_start {
            LineStart::Alone => "",
            LineStart::OverPrompt => "\r",
        };
        let (seconds, tenths) = (uptime_ms / 1000, uptime_ms % 1000 / 100);
        let line = format!("{start}[{seconds:5}.{tenths:01}] {}", printable(text));
        for tty in &self.ttys {
            tty.send(&line, &self.pending);
        }
    }
}

impl Tty {
    fn open(device: &Path, pending: &Arc<Pending>) -> Option<Self> {
        let mut file = open_tty(device).ok()?;
        let device = device.to_owned();
        let (lines, receiver) = bounded::<Vec<u8>>(WAITING_LINES);
        let pending = Arc::clone(pending);
        std::thread::Builder::new()
            .name(device.display().to_string())
            .spawn(move || {
                if is_serial(&device) {
                    // firmware and boot loader leave the line in the middle
                    write(&device, &mut file, b"\n");
                }
                for line in receiver {
                    write(&device, &mut file, &line);
                    pending.done();
                }
            })
            .ok()?;
        Some(Self { lines, left_out: AtomicU64::new(0) })
    }

    fn send(&self, line: &str, pending: &Pending) {
        let left_out = self.left_out.load(Ordering::Relaxed);
        let note = if left_out > 0 { format!("({left_out} lines left out)\n") } else { String::new() };
        pending.add();
        match self.lines.try_send(format!("{note}{line}\n").into_bytes()) {
            Ok(()) => {
                self.left_out.fetch_sub(left_out, Ordering::Relaxed);
            }
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.left_out.fetch_add(1, Ordering::Relaxed);
                pending.done();
            }
        }
    }
}

fn is_serial(device: &Path) -> bool {
    device.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"ttyS"))
}

fn open_tty(device: &Path) -> std::io::Result<File> {
    OpenOptions::new().write(true).custom_flags(OFlag::O_NOCTTY.bits()).open(device)
}

/// Writes to a terminal, which makes of a line feed what it needs. When a shell on it has ended, the kernel has hung
/// it up (EIO), and only who opens it anew may write.
fn write(device: &Path, file: &mut File, bytes: &[u8]) {
    if file.write_all(bytes).is_ok() {
        return;
    }
    // /dev/ttyS0 exists on machines without the port: then the lines go nowhere
    if let Ok(anew) = open_tty(device) {
        *file = anew;
        let _ = file.write_all(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_that_was_hung_up_is_opened_anew() {
        let folder = tempfile::tempdir().unwrap();
        let device = folder.path().join("ttyS0");
        std::fs::write(&device, "").unwrap();
        // not open for writing: as with one that was hung up, each write fails
        let mut file = File::open(&device).unwrap();
        write(&device, &mut file, b"first\n");
        write(&device, &mut file, b"second\n");
        assert_eq!(std::fs::read_to_string(&device).unwrap(), "first\nsecond\n");
    }

    #[test]
    fn every_console_gets_every_line() {
        let folder = tempfile::tempdir().unwrap();
        let [screen, serial, absent] = ["tty0", "ttyS0", "none/tty1"].map(|name| folder.path().join(name));
        std::fs::write(&screen, "").unwrap();
        std::fs::write(&serial, "").unwrap();
        let devices = [&screen, &serial, &absent].map(|path| path.to_str().unwrap());
        let console = TtyConsole::open(&devices, LineStart::Alone);
        console.line("first\x1b[2J");
        console.line("second");
        console.drain(Duration::from_mins(1));
        let shown = std::fs::read_to_string(&screen).unwrap();
        assert!(shown.starts_with('[') && shown.contains("] first [2J\n") && shown.ends_with("] second\n"));
        assert_eq!(std::fs::read_to_string(&serial).unwrap(), format!("\n{shown}"));
    }
}
