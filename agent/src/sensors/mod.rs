//! What the machine's sensors say, and the sidecar that asks them while stages run.
//!
//! Yields measurements; judges none of them.

mod sidecar;

use vetting_protocol::measurement::Measurement;

use crate::host::Host;

pub use sidecar::{Sidecar, StageCell};

/// What sampling needs to remember from one time to the next.
#[derive(Debug, Default)]
pub struct SensorState {}

/// Asks every sensor once. `stage` of the measurements is empty: the sidecar fills it in.
pub fn sample(_host: &Host, _state: &mut SensorState, _ts_ms: i64) -> Vec<Measurement> {
    Vec::new()
}
