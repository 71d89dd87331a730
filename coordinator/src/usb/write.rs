//! Writes an image to a disk and reads it back.
//!
//! The beginning, with the partition table, is blanked first and written last: a stick that was pulled out, or whose
//! writing was stopped, boots nothing and shows no partition rather than half of one.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, PosixFadviseAdvice, posix_fadvise};

use super::block_device::Disk;

/// What is written at a time, and then waited for until the disk has it.
const CHUNK_BYTES: usize = 4 << 20;
/// The beginning, which is written last.
const HEAD_BYTES: usize = 1 << 20;

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Writing.
    Writing,
    /// Reading back and comparing.
    Comparing,
}

/// A disk that does not hold the image.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// It cannot be opened.
    #[error("cannot open {}{}", path.display(), hint(source))]
    Open {
        /// The device file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another disk has come under this name.
    #[error("{} is another device than a moment ago; look with `lsblk` which one is the stick, then start again", path.display())]
    Replaced {
        /// The device file.
        path: PathBuf,
    },
    /// Writing failed.
    #[error(
        "writing failed after {done_bytes} bytes; the stick boots nothing as it is: try again, or another stick"
    )]
    Write {
        /// How far it was.
        done_bytes: usize,
        /// Why.
        source: io::Error,
    },
    /// Reading back failed.
    #[error("the stick cannot be read back at byte {at_bytes}; take another stick")]
    Read {
        /// Where.
        at_bytes: usize,
        /// Why.
        source: io::Error,
    },
    /// The disk lies.
    #[error(
        "the stick gives back something else than was written, at byte {at_bytes}; it is worn out or claims more room than it has: take another stick"
    )]
    Different {
        /// The first wrong byte.
        at_bytes: usize,
    },
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "; this needs root",
        io::ErrorKind::ResourceBusy => ": something uses it",
        _ => "",
    }
}

/// Writes `image` to the disk that `examine` has looked at. `progress` hears bytes done.
///
/// # Errors
/// The disk is in use after all (the kernel is asked), was replaced meanwhile, or does not hold what was written.
pub fn write(disk: &Disk, image: &[u8], progress: &mut dyn FnMut(Phase, usize)) -> Result<(), WriteError> {
    let path = Path::new("/dev").join(disk.name.replace('!', "/"));
    let opened = OpenOptions::new().read(true).write(true).custom_flags(OFlag::O_EXCL.bits()).open(&path);
    let mut file = opened.map_err(|source| WriteError::Open { path: path.clone(), source })?;
    let metadata = file.metadata().map_err(|source| WriteError::Open { path: path.clone(), source })?;
    let (major, minor) = (nix::sys::stat::major(metadata.rdev()), nix::sys::stat::minor(metadata.rdev()));
    if !metadata.file_type().is_block_device() || format!("{major}:{minor}") != disk.number {
        return Err(WriteError::Replaced { path });
    }
    copy(&mut file, image, progress)?;
    compare(&mut file, image, progress)?;
    read_partitions_again(&file);
    Ok(())
}

fn copy(file: &mut File, image: &[u8], progress: &mut dyn FnMut(Phase, usize)) -> Result<(), WriteError> {
    let (head, body) = image.split_at(HEAD_BYTES.min(image.len()));
    let mut done_bytes = 0;
    let put = |file: &mut File, at: usize, bytes: &[u8]| -> io::Result<()> {
        file.seek(SeekFrom::Start(at as u64))?;
        file.write_all(bytes)?;
        // else the numbers shown would be those of this box's memory
        file.sync_data()
    };
    let failed = |done_bytes| move |source| WriteError::Write { done_bytes, source };
    put(file, 0, &vec![0; head.len()]).map_err(failed(0))?;
    for chunk in body.chunks(CHUNK_BYTES) {
        put(file, head.len() + done_bytes, chunk).map_err(failed(done_bytes))?;
        done_bytes += chunk.len();
        progress(Phase::Writing, done_bytes);
    }
    put(file, 0, head).map_err(failed(done_bytes))?;
    progress(Phase::Writing, image.len());
    file.sync_all().map_err(failed(image.len()))
}

fn compare(file: &mut File, image: &[u8], progress: &mut dyn FnMut(Phase, usize)) -> Result<(), WriteError> {
    let failed = |at_bytes| move |source| WriteError::Read { at_bytes, source };
    // what this box remembers of the disk is not what the disk holds
    posix_fadvise(&*file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)
        .map_err(|error| failed(0)(error.into()))?;
    file.seek(SeekFrom::Start(0)).map_err(failed(0))?;
    let mut found = vec![0; CHUNK_BYTES];
    let mut at_bytes = 0;
    for chunk in image.chunks(CHUNK_BYTES) {
        let found = &mut found[..chunk.len()];
        file.read_exact(found).map_err(failed(at_bytes))?;
        if let Some(wrong) = found.iter().zip(chunk).position(|(found, written)| found != written) {
            return Err(WriteError::Different { at_bytes: at_bytes + wrong });
        }
        at_bytes += chunk.len();
        progress(Phase::Comparing, at_bytes);
    }
    Ok(())
}

/// Has the kernel look at the new partition table. Disks without partitions refuse that; so nothing is made of it: whoever
/// plugs the stick in again sees it.
fn read_partitions_again(file: &File) {
    mod ioctl {
        // linux/fs.h
        nix::ioctl_none!(blkrrpart, 0x12, 95);
    }
    // SAFETY: BLKRRPART takes no argument, and the descriptor is open for the whole call.
    if let Err(error) = unsafe { ioctl::blkrrpart(file.as_raw_fd()) } {
        tracing::debug!(%error, "the kernel does not read the partition table again");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(bytes: usize) -> Vec<u8> {
        (1..=251_u8).cycle().take(bytes).collect()
    }

    #[test]
    fn everything_is_written_and_compared_and_the_rest_of_the_disk_is_kept() {
        for bytes in [100, HEAD_BYTES, HEAD_BYTES + 2 * CHUNK_BYTES + 7] {
            let image = image(bytes);
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&vec![9; bytes + 50]).unwrap();
            let mut seen = Vec::new();
            copy(&mut file, &image, &mut |phase, done| seen.push((phase, done))).unwrap();
            compare(&mut file, &image, &mut |phase, done| seen.push((phase, done))).unwrap();
            assert!(
                seen.contains(&(Phase::Writing, bytes)) && seen.last() == Some(&(Phase::Comparing, bytes))
            );
            let mut found = Vec::new();
            file.seek(SeekFrom::Start(0)).unwrap();
            file.read_to_end(&mut found).unwrap();
            assert!(found[..bytes] == image && found[bytes..] == [9; 50]);
        }
    }

    #[test]
    fn a_stick_that_is_stopped_half_way_has_no_partition_table() {
        let image = image(HEAD_BYTES + 3 * CHUNK_BYTES);
        let path = tempfile::NamedTempFile::new().unwrap();
        let mut file = path.reopen().unwrap();
        let mut looks = 0;
        copy(&mut file, &image, &mut |_, done| {
            if done < image.len() - HEAD_BYTES {
                looks += 1;
                assert!(std::fs::read(path.path()).unwrap()[..HEAD_BYTES].iter().all(|byte| *byte == 0));
            }
        })
        .unwrap();
        assert_eq!(looks, 2);
    }

    #[test]
    fn a_stick_that_gives_back_something_else_is_found_with_its_first_wrong_byte() {
        let image = image(HEAD_BYTES + CHUNK_BYTES + 1000);
        let mut file = tempfile::tempfile().unwrap();
        copy(&mut file, &image, &mut |_, _| ()).unwrap();
        let at_bytes = CHUNK_BYTES + 77;
        file.seek(SeekFrom::Start(at_bytes as u64)).unwrap();
        file.write_all(&[0]).unwrap();
        let error = compare(&mut file, &image, &mut |_, _| ()).unwrap_err();
        assert!(matches!(error, WriteError::Different { at_bytes: found } if found == at_bytes), "{error}");
        file.set_len(CHUNK_BYTES as u64 + 10).unwrap();
        let error = compare(&mut file, &image, &mut |_, _| ()).unwrap_err();
        assert!(matches!(error, WriteError::Read { .. }), "{error}");
    }

    #[test]
    fn what_is_no_block_device_is_not_written() {
        let disk = Disk {
            name: "null".to_owned(),
            number: "1:3".to_owned(),
            model: None,
            serial: None,
            size_bytes: 1 << 30,
            usb: true,
            partitions: Vec::new(),
        };
        let error = write(&disk, &image(10), &mut |_, _| ()).unwrap_err();
        assert!(matches!(error, WriteError::Replaced { .. }), "{error}");
    }
}
