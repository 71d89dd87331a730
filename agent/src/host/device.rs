//! Device files: disks claimed for oneself, and the kernel's log.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::PathBuf;

use nix::fcntl::OFlag;

use super::{FILE_LIMIT_BYTES, Host, HostError};

/// The kernel log from some moment on.
#[derive(Debug)]
pub struct KernelLog {
    file: File,
    path: PathBuf,
}

impl Host {
    /// The kernel log from now on (`/dev/kmsg`; in a recorded tree a file that lines may be added to).
    pub fn kernel_log_from_now(&self) -> Result<KernelLog, HostError> {
        self.kernel_log(SeekFrom::End(0))
    }

    /// The kernel log from the oldest message that its ring still has.
    pub fn kernel_log_from_boot(&self) -> Result<KernelLog, HostError> {
        self.kernel_log(SeekFrom::Start(0))
    }

    /// The messages that the kernel's ring still holds.
    pub fn kernel_log_so_far(&self) -> Result<Vec<String>, HostError> {
        self.kernel_log_from_boot()?.new_messages()
    }

    fn kernel_log(&self, from: SeekFrom) -> Result<KernelLog, HostError> {
        let absolute = "/dev/kmsg";
        let path = PathBuf::from(absolute);
        let failed = |source| HostError::Read { path: path.clone(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .custom_flags(OFlag::O_NONBLOCK.bits())
            .open(self.path(absolute))
            .map_err(failed)?;
        file.seek(from).map_err(failed)?;
        Ok(KernelLog { file, path })
    }

    /// Opens a disk (`/dev/sda`) for reading with a claim on it (`O_EXCL`): the kernel refuses with EBUSY while it or
    /// a partition of it is mounted, swapped to, or held by another driver.
    pub fn claim_disk(&self, device: &str) -> Result<File, HostError> {
        OpenOptions::new()
            .read(true)
            .custom_flags((OFlag::O_EXCL | OFlag::O_NONBLOCK).bits())
            .open(self.checked(device)?)
            .map_err(|source| HostError::Read { path: PathBuf::from(device), source })
    }
}

impl Host {
    /// Opens a terminal (`/dev/ttyS0`) for reading what a person types there. It does not become this program's own.
    pub fn terminal(&self, device: &str) -> Result<File, HostError> {
        let failed = |source| HostError::Read { path: PathBuf::from(device), source };
        // a serial line without a carrier would keep the open waiting
        let flags = OFlag::O_NOCTTY | OFlag::O_NONBLOCK;
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(flags.bits())
            .open(self.checked(device)?)
            .map_err(failed)?;
        let blocking = nix::fcntl::FcntlArg::F_SETFL(OFlag::empty());
        nix::fcntl::fcntl(&file, blocking).map_err(|errno| failed(errno.into()))?;
        Ok(file)
    }
}

/// Memory for direct reads starts and is sized in multiples of this, which no disk's own sector size exceeds.
const DIRECT_ALIGNMENT_BYTES: usize = 4096;

/// A disk that is read or written one block at a time, past the page cache (`O_DIRECT`).
#[derive(Debug)]
pub struct DiskBlocks {
    file: File,
    block_bytes: u64,
    buffer: Vec<u8>,
}

impl Host {
    /// Opens a disk (`/dev/sda`) for reading blocks of `block_bytes`, a multiple of its logical sector.
    pub fn disk_reader(&self, device: &str, block_bytes: u64) -> Result<DiskBlocks, HostError> {
        self.disk_blocks(device, block_bytes, OpenOptions::new().read(true), OFlag::empty())
    }

    /// Opens a disk for writing as well, with a claim on it as [`Host::claim_disk`] has it. Only where destroying what
    /// is on it was consented to.
    pub fn disk_writer(&self, device: &str, block_bytes: u64) -> Result<DiskBlocks, HostError> {
        self.disk_blocks(device, block_bytes, OpenOptions::new().read(true).write(true), OFlag::O_EXCL)
    }

    fn disk_blocks(
        &self,
        device: &str,
        block_bytes: u64,
        options: &mut OpenOptions,
        more: OFlag,
    ) -> Result<DiskBlocks, HostError> {
        let failed = |source| HostError::Read { path: PathBuf::from(device), source };
        let length = usize::try_from(block_bytes).map_err(|error| failed(std::io::Error::other(error)))?;
        let file = options
            .custom_flags((OFlag::O_DIRECT | OFlag::O_NONBLOCK | more).bits())
            .open(self.checked(device)?)
            .map_err(failed)?;
        let buffer = vec![0; length.saturating_add(DIRECT_ALIGNMENT_BYTES)];
        Ok(DiskBlocks { file, block_bytes, buffer })
    }
}

impl DiskBlocks {
    /// Reads one block, 0-based.
    ///
    /// # Errors
    /// What the disk says of it (EIO, ENODATA, EILSEQ, …), or of the reading as such (ENXIO: it is gone).
    pub fn read(&mut self, block: u64) -> std::io::Result<&[u8]> {
        let (file, offset, place) = self.parts(block)?;
        file.read_exact_at(place, offset)?;
        Ok(place)
    }

    /// Writes one block, 0-based; on the disk when this succeeds, as far as the disk tells.
    ///
    /// # Errors
    /// As for reading; also where `content` is not as long as a block.
    pub fn write(&mut self, block: u64, content: &[u8]) -> std::io::Result<()> {
        let (file, offset, place) = self.parts(block)?;
        if place.len() != content.len() {
            return Err(std::io::Error::other("not the length of a block"));
        }
        place.copy_from_slice(content);
        file.write_all_at(place, offset)?;
        file.sync_data()
    }

    fn parts(&mut self, block: u64) -> std::io::Result<(&File, u64, &mut [u8])> {
        let start = self.buffer.as_ptr().align_offset(DIRECT_ALIGNMENT_BYTES);
        let length = self.buffer.len() - DIRECT_ALIGNMENT_BYTES;
        let place = self.buffer.get_mut(start..start.saturating_add(length));
        let place = place.ok_or_else(|| std::io::Error::other("no aligned memory"))?;
        let offset = block.checked_mul(self.block_bytes);
        let offset = offset.ok_or_else(|| std::io::Error::other("no disk is that large"))?;
        Ok((&self.file, offset, place))
    }
}

impl KernelLog {
    /// The messages that came since the last look. Those that the kernel's ring had no room for are lost, so a count
    /// of them is a lower bound.
    pub fn new_messages(&mut self) -> Result<Vec<String>, HostError> {
        // a record is at most 8 KiB long and read whole
        let mut chunk = vec![0_u8; 16 * 1024];
        let mut bytes = Vec::new();
        // a kernel that logs faster than we read must not keep us here
        while (bytes.len() as u64) < FILE_LIMIT_BYTES {
            match self.file.read(&mut chunk) {
                Ok(0) => break,
                Ok(count) => bytes.extend_from_slice(chunk.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                // EPIPE: records were overwritten before they were read; the next read goes on with the oldest
                Err(error)
                    if error.kind() == std::io::ErrorKind::Interrupted
                        || error.kind() == std::io::ErrorKind::BrokenPipe => {}
                Err(source) => return Err(HostError::Read { path: self.path.clone(), source }),
            }
        }
        let text = String::from_utf8_lossy(&bytes);
        Ok(text.lines().filter_map(message_of).map(ToOwned::to_owned).collect())
    }
}

/// `4,1021,5140900,-;I/O error, dev sda, sector 8` → the part after the semicolon; ` SUBSYSTEM=block` is none.
fn message_of(line: &str) -> Option<&str> {
    if line.starts_with(' ') {
        return None;
    }
    line.split_once(';').map(|(_prefix, message)| message)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn only_what_comes_later_is_told() {
        let tree = tempfile::tempdir().unwrap();
        std::fs::create_dir(tree.path().join("dev")).unwrap();
        let path = tree.path().join("dev/kmsg");
        std::fs::write(&path, "6,1,0,-;old\n").unwrap();
        let mut log = Host::recorded(tree.path()).kernel_log_from_now().unwrap();
        assert!(log.new_messages().unwrap().is_empty());
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"3,2,9,-;I/O error, dev sda, sector 8; really\n SUBSYSTEM=block\n6,3,9,c;last\n")
            .unwrap();
        assert_eq!(log.new_messages().unwrap(), ["I/O error, dev sda, sector 8; really", "last"]);
        assert!(log.new_messages().unwrap().is_empty());
    }

    #[test]
    fn blocks_are_read_to_the_end_of_the_disk_and_not_beyond() {
        // not below /tmp, which may be a file system without direct reads
        let test = std::env::current_exe().unwrap();
        let tree = tempfile::tempdir_in(test.parent().unwrap()).unwrap();
        std::fs::create_dir(tree.path().join("dev")).unwrap();
        std::fs::write(tree.path().join("dev/sda"), vec![0; 8192]).unwrap();
        let mut reader = Host::recorded(tree.path()).disk_reader("/dev/sda", 512).unwrap();
        for sector in 0..16 {
            reader.read(sector).unwrap();
        }
        assert_eq!(reader.read(16).unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
        assert!(reader.read(u64::MAX).is_err());
        assert!(reader.write(0, &[1; 512]).is_err(), "opened for reading only");
        let mut writer = Host::recorded(tree.path()).disk_writer("/dev/sda", 4096).unwrap();
        assert!(writer.write(0, &[1; 512]).is_err(), "less than a block");
        writer.write(1, &[7; 4096]).unwrap();
        assert_eq!(writer.read(0).unwrap(), [0; 4096]);
        assert_eq!(reader.read(8).unwrap(), [7; 512]);
    }

    #[test]
    fn garbage_in_the_log_hides_no_message_and_breaks_nothing() {
        let tree = tempfile::tempdir().unwrap();
        std::fs::create_dir(tree.path().join("dev")).unwrap();
        let path = tree.path().join("dev/kmsg");
        std::fs::write(&path, "").unwrap();
        let mut log = Host::recorded(tree.path()).kernel_log_from_now().unwrap();
        let lines: [&[u8]; 7] = [
            b"\xff\xfe\x00",
            b";",
            b"4,1,2,-",
            b"",
            b" DEVICE=b8:0;x",
            b"3,7,9,-;blk_print_req_error: 23 callbacks suppressed",
            b"3,8,9,-;I/O error, dev sda, sector \xc3\x28",
        ];
        std::fs::write(&path, lines.join(&b'\n')).unwrap();
        assert_eq!(
            log.new_messages().unwrap(),
            ["", "blk_print_req_error: 23 callbacks suppressed", "I/O error, dev sda, sector \u{fffd}("]
        );
    }

    #[test]
    fn without_a_log_there_is_an_error() {
        let tree = tempfile::tempdir().unwrap();
        assert!(Host::recorded(tree.path()).kernel_log_from_now().unwrap_err().is_missing());
    }
}
