//! Where stages and sensors put what they learn: records on their way to the uplink, the console or a terminal.

use vetting_protocol::agent_api::Record;

/// Takes records in the order they happen. Never blocks for long and never fails: delivery is the uplink's business.
pub trait Reporter: Send + Sync {
    /// Takes one record.
    fn record(&self, record: Record);
}
