//! The live image of vetting: kernel and initramfs from pinned Debian packages, and a QEMU lab to boot it in.
//!
//! Owns: what is in the image and how it is put together; lab machines. Refuses: running tests itself (the agent
//! does) and judging them.

pub mod apt;
pub mod archive;
pub mod build;
pub mod closure;
pub mod command;
pub mod contents;
pub mod cpio;
pub mod digest;
pub mod driver;
pub mod elf;
pub mod fetch;
pub mod folder;
pub mod index;
pub mod kernel_modules;
pub mod lab;
pub mod lock;
pub mod manifest;
pub mod media;
pub mod mirror;
pub mod prune;
pub mod recipe;
pub mod stubs;
pub mod tree;
