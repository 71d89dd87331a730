//! The lab box of vetting: stores hosts and runs, serves boot files, talks to agents and operators, judges.

pub mod durable_file;
pub mod http;
pub mod netboot;
pub mod power;
pub mod run;
pub mod tls;
