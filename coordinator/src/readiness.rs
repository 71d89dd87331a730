//! Whether the coordinator can do its work now: what it is told can be stored, there is room, and it is not being
//! stopped.

use std::path::Path;
use std::time::Duration;

use tokio::sync::{Mutex, watch};

use crate::disk_space::{self, Room};
use crate::error_chain;
use crate::run::driver::Driver;
use crate::store::{StoreError, settings};

/// Longest wait for the database.
const WRITE_LIMIT: Duration = Duration::from_secs(5);
/// An answer is good for so long, ms: each new one costs a write, and anyone may ask.
const GOOD_FOR_MS: i64 = 2_000;
/// Where the write goes.
const WRITTEN: &str = "readiness.written_ms";

/// Asks, and remembers for a moment.
pub struct Readiness {
    driver: Driver,
    stopping: watch::Receiver<bool>,
    last: Mutex<Option<(i64, Vec<String>)>>,
}

impl Readiness {
    /// Nobody asked yet.
    pub fn new(driver: Driver, stopping: watch::Receiver<bool>) -> Self {
        Self { driver, stopping, last: Mutex::new(None) }
    }

    /// What is in the way; empty: ready.
    pub async fn obstacles(&self) -> Vec<String> {
        if *self.stopping.borrow() {
            return vec!["the coordinator is being stopped".to_owned()];
        }
        // who asks meanwhile waits for the same answer
        let mut last = self.last.lock().await;
        let now_ms = self.driver.clock.steady_ms();
        if let Some((at_ms, obstacles)) = last.as_ref()
            && now_ms - at_ms < GOOD_FOR_MS
        {
            return obstacles.clone();
        }
        let obstacles: Vec<String> = [self.database().await, self.room()].into_iter().flatten().collect();
        *last = Some((self.driver.clock.steady_ms(), obstacles.clone()));
        obstacles
    }

    async fn database(&self) -> Option<String> {
        let now_ms = self.driver.clock.now_ms();
        let write = self
            .driver
            .store
            .write(move |connection| settings::set(connection, WRITTEN, &now_ms.to_string()));
        let written: Result<Result<(), StoreError>, _> = tokio::time::timeout(WRITE_LIMIT, write).await;
        match written {
            Ok(Ok(())) => None,
            Ok(Err(error)) => {
                tracing::warn!(error = %error_chain(&error), "not ready: the database cannot be written to");
                Some("the database cannot be written to; the log has the cause".to_owned())
            }
            Err(_) => Some(format!("the database did not take a write within {} s", WRITE_LIMIT.as_secs())),
        }
    }

    fn room(&self) -> Option<String> {
        let retention = &self.driver.settings.retention;
        let folders: Vec<&Path> = retention.folders.iter().map(AsRef::as_ref).collect();
        let space = &retention.free_space;
        match disk_space::look(&folders, space.warning, space.refuse) {
            Ok(Room::Enough | Room::Low { .. }) => None,
            Ok(Room::TooLittle { free, .. }) => {
                Some(format!("only {free} are free on a disk; `free_space.refuse` asks for {}", space.refuse))
            }
            Err(error) => {
                tracing::warn!(%error, "not ready: the room on a disk cannot be seen");
                Some("the room on a disk cannot be seen; the log has the cause".to_owned())
            }
        }
    }
}
