//! The consoles of the live image: every line to every one there is, each line in one write.
//!
//! A console that hangs (a serial line that nobody takes from) holds nothing up: its lines wait, and when too many
//! do, the newest are left out and counted.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use crate::clock;
use crate::console::{Console, printable};

/// The screen and the first serial line.
pub(super) const CONSOLES: &[&str] = &["/dev/tty0", "/dev/ttyS0"];

/// Lines that may wait for a slow console.
const WAITING_LINES: usize = 512;

/// All consoles together. Lines bear the time since the kernel started, as the kernel's own do.
pub(super) struct TtyConsole {
    ttys: Vec<Tty>,
    pending: Arc<Pending>,
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
    pub(super) fn open(devices: &[&str]) -> Self {
        let pending = Arc::new(Pending::default());
        let ttys = devices.iter().filter_map(|device| Tty::open(Path::new(device), &pending)).collect();
        Self { ttys, pending }
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
        let line = format!("[{:5}.{:01}] {}", uptime_ms / 1000, uptime_ms % 1000 / 100, printable(text));
        for tty in &self.ttys {
            tty.send(&line, &self.pending);
        }
    }
}

impl Tty {
    fn open(device: &Path, pending: &Arc<Pending>) -> Option<Self> {
        let file = OpenOptions::new().write(true).open(device).ok()?;
        let serial = device.file_name()?.to_string_lossy().starts_with("ttyS");
        let (lines, receiver) = bounded(WAITING_LINES);
        let pending = Arc::clone(pending);
        std::thread::Builder::new()
            .name(device.display().to_string())
            .spawn(move || write_lines(file, serial, &receiver, &pending))
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

/// The terminal makes a line feed what it needs.
fn write_lines(mut file: File, serial: bool, lines: &Receiver<Vec<u8>>, pending: &Pending) {
    if serial {
        // firmware and boot loader leave the line in the middle
        let _ = file.write_all(b"\n");
    }
    for line in lines {
        // /dev/ttyS0 exists on machines without the port: then the lines go nowhere
        let _ = file.write_all(&line);
        pending.done();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_console_gets_every_line() {
        let folder = tempfile::tempdir().unwrap();
        let [screen, serial, absent] = ["tty0", "ttyS0", "none/tty1"].map(|name| folder.path().join(name));
        std::fs::write(&screen, "").unwrap();
        std::fs::write(&serial, "").unwrap();
        let devices = [&screen, &serial, &absent].map(|path| path.to_str().unwrap());
        let console = TtyConsole::open(&devices);
        console.line("first\x1b[2J");
        console.line("second");
        console.drain(Duration::from_mins(1));
        let shown = std::fs::read_to_string(&screen).unwrap();
        assert!(shown.starts_with('[') && shown.contains("] first [2J\n") && shown.ends_with("] second\n"));
        assert_eq!(std::fs::read_to_string(&serial).unwrap(), format!("\n{shown}"));
    }
}
