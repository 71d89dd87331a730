//! The live image of vetting: kernel and initramfs from pinned Debian packages, and a QEMU lab to boot it in.
//!
//! Owns: what is in the image and how it is put together; lab machines. Refuses: running tests itself (the agent
//! does) and judging them.

pub mod command;
pub mod lab;
