//! Where stages and sensors put what they learn: records on their way to the uplink, the console or a terminal.

use std::sync::Arc;

use vetting_protocol::agent_api::Record;

/// Takes records in the order they happen. Never blocks for long and never fails: delivery is the uplink's business.
pub trait Reporter: Send + Sync {
    /// Takes one record.
    fn record(&self, record: Record);

    /// Waits while too much is on its way. The sensors ask before each sample, so that they stand back when the
    /// coordinator is away for long; stages never wait.
    fn wait_for_room(&self) {}
}

/// Gives every record to several reporters, in their order.
pub struct Tee(pub Vec<Arc<dyn Reporter>>);

impl Reporter for Tee {
    fn record(&self, record: Record) {
        if let Some((last, others)) = self.0.split_last() {
            for reporter in others {
                reporter.record(record.clone());
            }
            last.record(record);
        }
    }
}
