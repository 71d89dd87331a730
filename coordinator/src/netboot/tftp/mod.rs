//! TFTP, read-only (RFC 1350 with RFC 2347, 2348, 2349 and 7440): the datagrams, and one transfer as a state machine.
//!
//! Refuses: sockets and files, which `server` and `files` have; writes; netascii, which no firmware asks for.

pub mod packet;
pub mod transfer;
