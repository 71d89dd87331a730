//! The lab box: the store of hosts and runs, what happens to a run, and the ways to reach a machine.

pub mod clock;
pub mod durable_file;
pub mod netboot;
pub mod power;
pub mod run;
pub mod store;
pub mod tls;
