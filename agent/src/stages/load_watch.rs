//! What a machine counts while it is worked hard: machine checks, CPUs that slowed down for heat, memory errors.

use vetting_protocol::outcome::Outcome;

use super::StageContext;
use super::cpu_stress::throttle::Throttling;
use super::kernel_watch::KernelWatch;
use crate::host::{Host, HostError};
use crate::inventory::dimm_map::DimmMap;
use crate::sensors::edac;

/// The counters as they stood when the load began.
pub(super) struct LoadWatch<'h> {
    kernel: Result<KernelWatch<'h>, HostError>,
    memory_errors: edac::Counters,
    throttling: Throttling,
}

impl<'h> LoadWatch<'h> {
    pub(super) fn from_now(host: &'h Host) -> Self {
        Self {
            kernel: KernelWatch::from_now(host),
            memory_errors: edac::Counters::read(host),
            throttling: Throttling::read(host),
        }
    }

    /// Measures what is new, and judges what leaves no doubt; gives the count of machine checks, too.
    pub(super) fn conclude(self, context: &StageContext<'_>) -> (Outcome, Option<f64>) {
        for (kind, count) in Throttling::read(context.host).since(&self.throttling) {
            context.measure("throttle", kind, count.map(|count| count as f64), "count");
        }
        for new in edac::Counters::read(context.host).since(&self.memory_errors) {
            context.measure("edac", new.key, new.count.map(|count| count as f64), "count");
        }
        KernelWatch::conclude(self.kernel, context, &DimmMap::read(context.host))
    }
}
