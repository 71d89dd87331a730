//! The lab box of vetting: stores hosts and runs, serves boot files, talks to agents and operators, judges.

pub mod cli;
pub mod clock;
pub mod config;
pub mod durable_file;
pub mod http;
pub mod netboot;
pub mod power;
pub mod run;
pub mod serve;
pub mod store;
pub mod tls;
