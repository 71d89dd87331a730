//! Disks of a lab machine: raw sparse files, with unreadable sectors where wanted.
//!
//! Owns: image files and their QEMU arguments. Refuses: touching block devices of the lab host.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::LabError;

/// The bus a disk hangs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DiskBus {
    /// SATA on the chipset's AHCI (`ide-hd`): has SMART attributes and a short self-test; cannot be unplugged.
    Sata,
    /// `NVMe` behind its own root port: has the health log, no self-test; can be unplugged by `device_del`.
    Nvme,
    /// SCSI on virtio: identity only; can be unplugged by `device_del`.
    Scsi,
}

/// One disk of a lab machine.
#[derive(Debug, Clone)]
pub struct Disk {
    /// Bus it hangs on.
    pub bus: DiskBus,
    /// Serial number, at most 20 characters; also names the image file.
    pub serial: String,
    /// Size in MiB; the file is sparse.
    pub size_mib: u64,
    /// Sectors of 512 bytes, from the start of the disk, that answer every read with a medium error.
    pub unreadable_sectors: Vec<u64>,
    /// Sectors of 512 bytes that answer every write with an error.
    pub unwritable_sectors: Vec<u64>,
    /// Model string, where the bus lets QEMU set it (SATA).
    pub model: Option<String>,
}

impl Disk {
    /// A healthy, empty disk.
    pub fn new(bus: DiskBus, serial: &str, size_mib: u64) -> Self {
        Self {
            bus,
            serial: serial.to_owned(),
            size_mib,
            unreadable_sectors: Vec::new(),
            unwritable_sectors: Vec::new(),
            model: None,
        }
    }

    /// Let these 512-byte sectors fail on read.
    #[must_use]
    pub fn unreadable(mut self, sectors: &[u64]) -> Self {
        self.unreadable_sectors.extend_from_slice(sectors);
        self
    }

    /// Let these 512-byte sectors fail on write.
    #[must_use]
    pub fn unwritable(mut self, sectors: &[u64]) -> Self {
        self.unwritable_sectors.extend_from_slice(sectors);
        self
    }

    /// Set the model string (SATA only).
    #[must_use]
    pub fn model(mut self, model: &str) -> Self {
        self.model = Some(model.to_owned());
        self
    }

    /// Create the sparse image file in `directory` unless it is there with its content from an earlier power-on.
    pub(super) fn create_file(&self, directory: &Path) -> Result<PathBuf, LabError> {
        let name: String = self
            .serial
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' })
            .collect();
        let path = directory.join(format!("disk-{name}.img"));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|source| LabError::File { path: path.clone(), source })?;
        file.set_len(self.size_mib * 1024 * 1024)
            .map_err(|source| LabError::File { path: path.clone(), source })?;
        Ok(path)
    }

    /// QEMU arguments of this disk, the `index`-th of its machine. Its device id is `disk{index}`.
    pub(super) fn arguments(&self, index: usize, image: &Path) -> Vec<String> {
        let node = format!("node{index}");
        let mut arguments = vec!["-blockdev".to_owned(), self.backend(&node, image).to_string()];
        let serial = escape(&self.serial);
        let mut device = |text: String| arguments.extend(["-device".to_owned(), text]);
        match self.bus {
            DiskBus::Sata => {
                let model =
                    self.model.as_deref().map(|m| format!(",model={}", escape(m))).unwrap_or_default();
                device(format!(
                    "ide-hd,id=disk{index},drive={node},bus=ide.{index},serial={serial}{model},rerror=report,werror=report"
                ));
            }
            DiskBus::Nvme => {
                device(format!("pcie-root-port,id=port{index},chassis={}", index + 1));
                device(format!("nvme,id=disk{index},drive={node},serial={serial},bus=port{index}"));
            }
            DiskBus::Scsi => {
                device(format!("virtio-scsi-pci,id=scsi{index}"));
                device(format!(
                    "scsi-hd,id=disk{index},drive={node},bus=scsi{index}.0,serial={serial},rerror=report,werror=report"
                ));
            }
        }
        arguments
    }

    fn backend(&self, node: &str, image: &Path) -> Value {
        let file = json!({"driver": "file", "filename": image, "discard": "unmap"});
        let reads = self.unreadable_sectors.iter().map(|sector| inject("read_aio", *sector));
        let writes = self.unwritable_sectors.iter().map(|sector| inject("write_aio", *sector));
        let rules: Vec<Value> = reads.chain(writes).collect();
        let below = if rules.is_empty() {
            file
        } else {
            json!({"driver": "blkdebug", "image": file, "inject-error": rules})
        };
        json!({"driver": "raw", "node-name": node, "file": below})
    }
}

fn inject(event: &str, sector: u64) -> Value {
    const EIO: u8 = 5;
    json!({"event": event, "errno": EIO, "sector": sector, "once": false})
}

/// QEMU's option syntax doubles a comma inside a value.
pub(super) fn escape(value: &str) -> String {
    value.replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_healthy_disk_has_no_blkdebug() {
        let arguments = Disk::new(DiskBus::Sata, "S1", 8).arguments(0, Path::new("/x.img"));
        assert!(!arguments.join(" ").contains("blkdebug"));
    }

    #[test]
    fn bad_sectors_become_inject_rules() {
        let disk = Disk::new(DiskBus::Nvme, "N1", 8).unreadable(&[7, 9]).unwritable(&[11]);
        let arguments = disk.arguments(2, Path::new("/x.img"));
        let backend: Value = serde_json::from_str(&arguments[1]).unwrap();
        let rules = backend["file"]["inject-error"].as_array().unwrap();
        assert_eq!(rules.len(), 3);
        assert_eq!((rules[1]["sector"].as_u64(), rules[1]["event"].as_str()), (Some(9), Some("read_aio")));
        assert_eq!(rules[2]["event"], "write_aio");
        assert!(arguments.iter().any(|a| a.starts_with("nvme,id=disk2,")));
    }

    #[test]
    fn the_image_is_sparse_and_keeps_its_content() {
        let directory = tempfile::tempdir().unwrap();
        let disk = Disk::new(DiskBus::Sata, "../S 1", 64);
        let path = disk.create_file(directory.path()).unwrap();
        assert_eq!(path.parent(), Some(directory.path()));
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 64 << 20);
        assert_eq!(disk.create_file(directory.path()).unwrap(), path);
    }
}
