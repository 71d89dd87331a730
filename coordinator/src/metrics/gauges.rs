//! What is asked at each scrape: runs, machines, the database, the disks, the agents.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use vetting_protocol::ids::RunId;
use vetting_protocol::run::{RunResult, RunState};

use super::{Labels, Sample};
use crate::disk_space;
use crate::run::driver::Driver;
use crate::store::totals::Totals;
use crate::store::{DatabaseSize, StoreError, totals};

/// What `result` says of a run that has none.
const NO_RESULT: &str = "none";
/// An agent in host mode that was heard within so long is there: it tells of itself every minute.
const HOST_AGENT_SILENCE_MS: i64 = 180_000;

/// One moment of the coordinator.
#[derive(Debug, Default)]
pub struct Gauges {
    totals: Totals,
    run_agents: u64,
    waiting_jobs: u64,
    most_waiting_jobs: u64,
    database: DatabaseSize,
    free: Vec<(PathBuf, u64)>,
    sensors: Vec<(String, RunId, Vec<Sample>)>,
}

impl Gauges {
    /// Looks at everything.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn look(driver: &Driver) -> Result<Self, StoreError> {
        let since_ms = driver.clock.now_ms().saturating_sub(HOST_AGENT_SILENCE_MS);
        let totals = driver.store.read(move |connection| totals::of_all(connection, since_ms)).await?;
        let sensors = driver.metrics.sensors.as_ref().map(|sensors| {
            let under_way: HashMap<RunId, String> = totals.under_way.iter().cloned().collect();
            let named = |(run, samples)| under_way.get(&run).map(|host| (host.clone(), run, samples));
            sensors.of(&under_way).into_iter().filter_map(named).collect()
        });
        let free = driver.settings.retention.folders.iter().filter_map(|folder| {
            // one that cannot be looked at has no value, and an alert tells of that
            disk_space::free(folder).ok().map(|free| (folder.clone(), free.0))
        });
        let (waiting, most) = driver.store.waiting_jobs();
        Ok(Self {
            totals,
            run_agents: driver.connected_agents() as u64,
            waiting_jobs: waiting as u64,
            most_waiting_jobs: most as u64,
            database: driver.store.size(),
            free: free.collect(),
            sensors: sensors.unwrap_or_default(),
        })
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        let version = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
        one(registry, "build_info", "The version; always 1", [(version, 1)]);
        one(registry, "runs", "Runs in the database by state and result", self.runs());
        one(registry, "hosts", "Registered machines", [(Labels::new(), self.totals.hosts)]);
        let agents = [("run", self.run_agents), ("host", self.totals.host_agents)];
        let agents = agents.map(|(of, count)| (vec![("of", of.to_owned())], count));
        one(registry, "agents_connected", "Agents heard lately: of runs under way, and in host mode", agents);
        let queue = [(Labels::new(), self.waiting_jobs)];
        one(registry, "writer_queue_depth", "Jobs that wait for the one that writes to the database", queue);
        let most = [(Labels::new(), self.most_waiting_jobs)];
        one(registry, "writer_queue_limit", "Jobs that may wait; beyond that, requests wait", most);
        let sizes = [("main", self.database.main), ("wal", self.database.wal)];
        let sizes = sizes.map(|(file, size)| (vec![("file", file.to_owned())], size));
        one(registry, "database_bytes", "Size of the database's files", sizes);
        let free =
            self.free.iter().map(|(folder, free)| (vec![("folder", folder.display().to_string())], *free));
        one(registry, "disk_free_bytes", "Room where the coordinator writes", free);
        self.register_sensors(registry);
    }

    /// Every state and result there can be: a series that is not there cannot be told from a coordinator that is away.
    fn runs(&self) -> impl Iterator<Item = (Labels, u64)> {
        let results = || RunResult::ALL.iter().copied().map(Some).chain([None]);
        RunState::ALL.iter().flat_map(move |state| {
            results().filter_map(move |result| {
                let count = self.totals.runs.get(&(*state, result)).copied();
                // only what is over has a result
                let possible = result.is_none() || state.is_terminal();
                let result = result.map_or(NO_RESULT, RunResult::as_str).to_owned();
                let labels = vec![("state", state.to_string()), ("result", result)];
                count.or(possible.then_some(0)).map(|count| (labels, count))
            })
        })
    }

    fn register_sensors(&self, registry: &mut Registry) {
        let values = Family::<Labels, Gauge<f64, AtomicU64>>::default();
        for (host, run, samples) in &self.sensors {
            for sample in samples {
                let labels = vec![
                    ("host", host.clone()),
                    ("run", run.to_string()),
                    ("kind", sample.kind.clone()),
                    ("key", sample.key.clone()),
                    ("unit", sample.unit.clone()),
                ];
                values.get_or_create(&labels).set(sample.value);
            }
        }
        registry.register("sensor_value", "The last value of a sensor of a machine under test", values);
    }
}

fn one(registry: &mut Registry, name: &str, help: &str, values: impl IntoIterator<Item = (Labels, u64)>) {
    let family = Family::<Labels, Gauge<u64, AtomicU64>>::default();
    for (labels, value) in values {
        family.get_or_create(&labels).set(value);
    }
    registry.register(name, help, family);
}
