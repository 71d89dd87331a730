//! The lab box of vetting: stores hosts and runs, serves boot files, talks to agents and operators, judges.

pub mod accounts;
pub mod backup;
pub mod byte_size;
pub mod cli;
pub mod clock;
pub mod config;
pub mod disk_space;
pub mod durable_file;
pub mod enrolment;
mod host_list;
pub mod http;
pub mod logging;
pub mod memtest;
pub mod metrics;
pub mod netboot;
pub mod network_test;
pub mod notify;
pub mod open_files;
#[cfg(test)]
mod peer_port;
pub mod pinned;
pub mod power;
pub mod privileges;
pub mod readiness;
pub mod results_folder;
pub mod run;
pub mod serial_console;
pub mod serve;
pub mod service_manager;
pub mod signing;
pub mod state_lock;
pub mod storage_check;
pub mod store;
pub mod tls;
pub mod usb;

/// An error with its sources on one line, for logs and events.
pub(crate) fn error_chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
