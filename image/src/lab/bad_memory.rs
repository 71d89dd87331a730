//! A byte of a machine's memory that does not keep what is written to it: written again and again through QEMU's
//! gdbstub, by physical address.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Between two writes. The machine stands still while one is made.
const BETWEEN: Duration = Duration::from_millis(100);
/// An answer of the stub comes at once, unless the machine has ended.
const ANSWER: Duration = Duration::from_secs(5);

/// QEMU arguments that give a machine a gdbstub at this socket.
pub fn stub_arguments(socket: &Path) -> [String; 4] {
    [
        "-chardev".to_owned(),
        format!("socket,id=gdb0,path={},server=on,wait=off", socket.display()),
        "-gdb".to_owned(),
        "chardev:gdb0".to_owned(),
    ]
}

/// A stuck byte, until it is dropped.
#[derive(Debug)]
pub struct StuckByte {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl StuckByte {
    /// Sticks the byte at a physical address of a machine to `value`. A machine that ends is no error.
    pub fn stick(socket: &Path, address: u64, value: u8) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (socket, stopped) = (socket.to_owned(), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                // while the machine is being reset the stub may not answer
                let _ = write_once(&socket, address, value);
                std::thread::sleep(BETWEEN);
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for StuckByte {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn write_once(socket: &PathBuf, address: u64, value: u8) -> std::io::Result<()> {
    let mut stub = UnixStream::connect(socket)?;
    stub.set_read_timeout(Some(ANSWER))?;
    for command in [
        "?".to_owned(),
        "Qqemu.PhyMemMode:1".to_owned(),
        format!("M{address:x},1:{value:02x}"),
        "D".to_owned(),
    ] {
        let sum = command.bytes().fold(0_u8, u8::wrapping_add);
        stub.write_all(format!("${command}#{sum:02x}").as_bytes())?;
        read_packet(&mut stub)?;
        stub.write_all(b"+")?;
    }
    Ok(())
}

/// Reads to the end of a packet: `#` and two digits.
fn read_packet(stub: &mut UnixStream) -> std::io::Result<()> {
    let mut byte = [0_u8; 1];
    loop {
        stub.read_exact(&mut byte)?;
        if byte == *b"#" {
            return stub.read_exact(&mut [0_u8; 2]);
        }
    }
}
