//! A byte of a machine's memory that does not keep what is written to it, by physical address through QEMU's gdbstub: written
//! again and again, or once, at the right moment.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
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

/// Words of the kernel's command line that put its map of all physical memory where [`LostWrite`] looks for it.
pub const FIXED_DIRECT_MAP: &str = "nokaslr no5lvl";
/// Where that is (Linux, Documentation/arch/x86/x86_64/mm.rst).
const DIRECT_MAP: u64 = 0xffff_8880_0000_0000;
/// What `memtest=2` writes first (Linux, mm/memtest.c), as the stub tells it.
const FIRST_PATTERN: &str = "ffffffffffffffff";

/// A byte that loses what the kernel's own memory test writes to it: the machine is stopped by that write, and goes on when the
/// byte is another one. So the test reads what it did not write, however fast the machine or its box is.
#[derive(Debug)]
pub struct LostWrite {
    connection: UnixStream,
    thread: Option<JoinHandle<()>>,
}

impl LostWrite {
    /// Lets a machine that stands still before its first instruction go on; when the test comes to the byte at this physical
    /// address, it becomes `value`. Its kernel must run with [`FIXED_DIRECT_MAP`].
    ///
    /// # Errors
    /// The stub does not answer, or cannot watch that place.
    pub fn plant(socket: &Path, address: u64, value: u8) -> std::io::Result<Self> {
        let mut stub = Stub::connect(socket)?;
        stub.order(&format!("Z2,{:x},8", DIRECT_MAP + word_of(address)))?;
        stub.0.set_read_timeout(None)?;
        let connection = stub.0.try_clone()?;
        let thread = std::thread::spawn(move || {
            // a machine that ends before it comes to it is no error
            let _ = lose_first_pattern(&mut stub, address, value);
        });
        Ok(Self { connection, thread: Some(thread) })
    }
}

impl Drop for LostWrite {
    fn drop(&mut self) {
        // one that still waits for the write waits no longer
        let _ = self.connection.shutdown(Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn word_of(address: u64) -> u64 {
    address & !7
}

/// Lets the machine go on at each stop until the pattern stands there, loses that, and lets the machine alone.
fn lose_first_pattern(stub: &mut Stub, address: u64, value: u8) -> std::io::Result<()> {
    let word = word_of(address);
    loop {
        stub.send("c")?;
        stub.answer()?;
        stub.send(&format!("m{word:x},8"))?;
        if stub.answer()? == FIRST_PATTERN {
            break;
        }
    }
    stub.order(&write_of(address, value))?;
    stub.order(&format!("z2,{:x},8", DIRECT_MAP + word))?;
    stub.order("D")
}

fn write_once(socket: &Path, address: u64, value: u8) -> std::io::Result<()> {
    let mut stub = Stub::connect(socket)?;
    stub.order(&write_of(address, value))?;
    stub.order("D")
}

fn write_of(address: u64, value: u8) -> String {
    format!("M{address:x},1:{value:02x}")
}

/// A connection to a machine's gdbstub, which takes physical addresses. The machine stands still from then on.
struct Stub(UnixStream);

impl Stub {
    fn connect(socket: &Path) -> std::io::Result<Self> {
        let mut stub = Self(UnixStream::connect(socket)?);
        stub.0.set_read_timeout(Some(ANSWER))?;
        stub.order("Qqemu.PhyMemMode:1")?;
        Ok(stub)
    }

    fn send(&mut self, command: &str) -> std::io::Result<()> {
        let sum = command.bytes().fold(0_u8, u8::wrapping_add);
        self.0.write_all(format!("${command}#{sum:02x}").as_bytes())
    }

    /// Sends what is answered with `OK`. That the machine stopped may be told before it.
    fn order(&mut self, command: &str) -> std::io::Result<()> {
        self.send(command)?;
        loop {
            match self.answer()?.as_str() {
                "OK" => return Ok(()),
                stopped if stopped.starts_with('T') => {}
                other => return Err(std::io::Error::other(format!("`{command}` was answered by `{other}`"))),
            }
        }
    }

    /// What the next packet holds, which is acknowledged.
    fn answer(&mut self) -> std::io::Result<String> {
        let mut contents = String::new();
        let mut byte = [0_u8; 1];
        loop {
            self.0.read_exact(&mut byte)?;
            match byte[0] {
                b'$' => contents.clear(),
                b'#' => break,
                letter => contents.push(char::from(letter)),
            }
        }
        self.0.read_exact(&mut [0_u8; 2])?;
        self.0.write_all(b"+")?;
        Ok(contents)
    }
}
