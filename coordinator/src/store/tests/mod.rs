//! Tests of the store as a whole, on a database of their own each.

mod claims;
mod contract;
mod durability;
mod findings;
mod hosts_and_runs;
mod migrations;
mod reduced;
mod siblings;
mod writer;

use std::path::PathBuf;

use tempfile::TempDir;
use vetting_protocol::ids::{HostId, RunId};
use vetting_protocol::profile::ProfileName;
use vetting_protocol::run::BootTarget;

use super::{Connection, Store, StoreError, StoreOptions, hosts, measurements, runs};
use crate::clock::Clock;

/// 2023-11-14 22:13:20 UTC.
const NOW_MS: i64 = 1_700_000_000_000;

struct Scratch {
    store: Store,
    path: PathBuf,
    /// Deleted last.
    _folder: TempDir,
}

fn options() -> StoreOptions {
    StoreOptions { clock: Clock::settable(NOW_MS), ..StoreOptions::default() }
}

fn scratch() -> Scratch {
    scratch_with(options())
}

fn scratch_with(options: StoreOptions) -> Scratch {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("var/vetting.db");
    Scratch { store: Store::open_with(&path, options).unwrap(), path, _folder: folder }
}

fn host_values(name: &str, mac: &str) -> hosts::HostValues {
    hosts::HostValues {
        name: name.to_owned(),
        mac: mac.parse().unwrap(),
        wol_broadcast_ip: "192.0.2.255".parse().unwrap(),
        wol_port: 9,
        expected_spec_yaml: "cpu: {}\n".to_owned(),
        notes: String::new(),
    }
}

fn run_values(host_id: HostId) -> runs::RunValues {
    runs::RunValues {
        host_id,
        profile: ProfileName::Quick,
        non_destructive: false,
        override_flags: runs::OverrideFlags { wipe: true, ..runs::OverrideFlags::NONE },
        next_boot_target: BootTarget::Linux,
    }
}

/// A host with a run.
fn host_and_run(connection: &Connection) -> Result<(HostId, RunId), StoreError> {
    let host = hosts::insert(connection, &host_values("r1", "52:54:00:00:00:01"), NOW_MS)?;
    Ok((host, runs::create(connection, &run_values(host), NOW_MS)?))
}

/// Runs `test` as one job on a database of its own.
fn on_a_database<T: Send + 'static>(
    test: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
) -> T {
    scratch().store.write_blocking(test).unwrap()
}

fn sample(ts_ms: i64, key: &str, value: Option<f64>) -> measurements::MeasurementValues {
    measurements::MeasurementValues {
        stage_id: None,
        ts_ms,
        kind: "temp".to_owned(),
        key: key.to_owned(),
        value,
        unit: "celsius".to_owned(),
    }
}
