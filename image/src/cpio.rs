//! A writer for cpio archives in the "newc" format, as the kernel reads them (kernel documentation,
//! `driver-api/early-userspace/buffer-format`).
//!
//! Owns: bytes that depend on nothing but names, modes and contents: everything belongs to root, times are zero,
//! inodes are counted. Refuses: device nodes (devtmpfs has them) and hard links.

use std::io::{self, Write};

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;

/// Writes one archive.
#[derive(Debug)]
pub struct CpioWriter<W> {
    out: W,
    next_inode: u32,
}

impl<W: Write> CpioWriter<W> {
    /// Start an archive.
    pub fn new(out: W) -> Self {
        Self { out, next_inode: 1 }
    }

    /// Add a folder; its parents come before it.
    pub fn directory(&mut self, path: &str, mode: u32) -> io::Result<()> {
        self.entry(path, DIRECTORY | mode, 2, &[])
    }

    /// Add a file.
    pub fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        self.entry(path, REGULAR | mode, 1, content)
    }

    /// Add a symbolic link.
    pub fn symlink(&mut self, path: &str, target: &str) -> io::Result<()> {
        self.entry(path, SYMLINK | 0o777, 1, target.as_bytes())
    }

    /// Write the trailer and give the output back.
    pub fn finish(mut self) -> io::Result<W> {
        self.next_inode = 0;
        self.entry("TRAILER!!!", 0, 1, &[])?;
        Ok(self.out)
    }

    fn entry(&mut self, path: &str, mode: u32, links: u32, content: &[u8]) -> io::Result<()> {
        let too_big = |_| io::Error::new(io::ErrorKind::FileTooLarge, path.to_owned());
        let size = u32::try_from(content.len()).map_err(too_big)?;
        let name_size = u32::try_from(path.len() + 1).map_err(too_big)?;
        let inode = self.next_inode;
        self.next_inode += 1;
        // magic, then 13 fields: ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
        let fields = [inode, mode, 0, 0, links, 0, size, 0, 0, 0, 0, name_size, 0];
        let fields = fields.map(|field| format!("{field:08x}"));
        let header = format!("070701{}", fields.concat());
        self.out.write_all(header.as_bytes())?;
        self.out.write_all(path.as_bytes())?;
        self.out.write_all(&[0])?;
        self.pad(header.len() + path.len() + 1)?;
        self.out.write_all(content)?;
        self.pad(content.len())
    }

    fn pad(&mut self, written: usize) -> io::Result<()> {
        let missing = written.next_multiple_of(4) - written;
        self.out.write_all(&[0; 3][..missing])
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::*;

    fn sample() -> Vec<u8> {
        let mut cpio = CpioWriter::new(Vec::new());
        cpio.directory("etc", 0o755).unwrap();
        cpio.file("etc/odd", 0o644, b"hello").unwrap();
        cpio.symlink("init", "etc/odd").unwrap();
        cpio.finish().unwrap()
    }

    #[test]
    fn the_header_is_newc() {
        let bytes = sample();
        assert!(bytes.starts_with(b"07070100000001000041ed"));
        assert_eq!(bytes.len() % 4, 0);
    }

    #[test]
    fn busybox_or_gnu_cpio_reads_it() {
        // an independent reader; cpio is part of every Debian with initramfs-tools, and of the lab's packages
        let Ok(mut reader) = Command::new("cpio")
            .args(["-t", "-v", "--quiet"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
        else {
            eprintln!("no cpio here: not compared with it");
            return;
        };
        reader.stdin.take().unwrap().write_all(&sample()).unwrap();
        let listing = String::from_utf8(reader.wait_with_output().unwrap().stdout).unwrap();
        let lines: Vec<&str> = listing.lines().collect();
        assert_eq!(lines.len(), 3, "{listing}");
        assert!(lines[0].starts_with("drwxr-xr-x") && lines[1].starts_with("-rw-r--r--"));
        assert!(lines[2].ends_with("init -> etc/odd"));
    }
}
