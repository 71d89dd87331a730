//! The agent: takes inventory, works every part hard, samples the sensors, and tells the coordinator.
//!
//! Static musl binary, PID 1 of the live image or a plain command on any Linux machine. Stages run on plain
//! threads; only the uplink is async. It reports facts; the judge decides.

#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        reason = "tests build machines out of files; the walls are for what ships"
    )
)]

pub mod alone;
pub mod boot_parameters;
pub mod cancel;
pub mod capture;
pub mod cli;
pub mod clock;
pub mod console;
pub mod counterpart;
pub mod hold;
pub mod host;
pub mod identity;
pub mod init;
pub mod inventory;
pub mod left_behind;
pub mod lldp;
pub mod pipeline;
pub mod reporter;
pub mod sensors;
pub mod stages;
pub mod tools;
pub mod uplink;
pub mod workers;
