//! Sticks that lead machines here: settings put into the built image, and the image written to a disk of this box.
//!
//! Owns: what is changed in the image (`vetting.yaml`, nothing else), which disks may be overwritten, and the proof that
//! the disk holds what was written. Refuses: disks that are in use, and images it does not know.

pub mod block_device;
pub mod image;
pub mod settings;
pub mod write;
