//! What a person types at the consoles of the live image, or at a terminal: whole lines, from whichever console they
//! come. Nothing here needs arrows, colours or a screen size, so that it works on any serial line.

use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, unbounded};

use crate::host::Host;

/// The screen and the first serial line.
const CONSOLES: [&str; 2] = ["/dev/tty0", "/dev/ttyS0"];

/// Lines that a person types.
pub trait Keys {
    /// The next line without its end, trimmed; `None` when none came within `patience`.
    fn line(&self, patience: Duration) -> Option<String>;
}

/// The consoles of the live image.
pub struct Consoles {
    lines: Receiver<String>,
}

impl Consoles {
    /// Listens to those consoles that there are.
    pub fn listen(host: &Host) -> Self {
        let (sender, lines) = unbounded();
        for device in CONSOLES {
            // a serial line that the machine does not have ends at the first read
            let Ok(reader) = host.terminal(device) else { continue };
            let sender = sender.clone();
            // without a thread this console is deaf; the others are not
            let _ = std::thread::Builder::new().name(format!("keys of {device}")).spawn(move || {
                for line in std::io::BufRead::lines(std::io::BufReader::new(reader)) {
                    let Ok(line) = line else { return };
                    if sender.send(line.trim().to_owned()).is_err() {
                        return;
                    }
                }
            });
        }
        Self { lines }
    }
}

impl Keys for Consoles {
    fn line(&self, patience: Duration) -> Option<String> {
        match self.lines.recv_timeout(patience) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => {
                // no console to read: whoever asks again must not spin
                std::thread::sleep(patience);
                None
            }
        }
    }
}
