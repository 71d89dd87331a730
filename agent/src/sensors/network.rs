//! Errors that network interfaces counted, and how often they lost or found their carrier.
//!
//! | kind | key | unit |
//! |---|---|---|
//! | `nic` | `eth0/rx_crc_errors`, `/rx_frame_errors`, `/rx_length_errors`, `/rx_errors`, `/tx_carrier_errors`, `/tx_errors`, `/carrier_changes`: new ones | `count` |

use super::counters::{NewCounts, Readings};
use super::{Moment, Sample};
use crate::host::Host;

const CLASS: &str = "/sys/class/net";
/// Of `statistics` (Documentation/ABI/testing/sysfs-class-net-statistics).
pub(crate) const ERRORS: [&str; 6] =
    ["rx_crc_errors", "rx_frame_errors", "rx_length_errors", "rx_errors", "tx_carrier_errors", "tx_errors"];

/// The interfaces' counters.
#[derive(Debug, Default)]
pub(super) struct Interfaces(NewCounts);

impl Interfaces {
    /// Counts on every interface that stands for hardware.
    pub(super) fn sample(&mut self, host: &Host, moment: Moment, sample: &mut Sample) {
        let mut readings = Readings::new();
        for interface in host.list(CLASS).unwrap_or_default() {
            let directory = format!("{CLASS}/{interface}");
            if !host.exists(&format!("{directory}/device")) {
                continue;
            }
            for name in ERRORS {
                let count = host.number(&format!("{directory}/statistics/{name}")).ok();
                readings.insert(format!("{interface}/{name}"), count);
            }
            let changes = host.number(&format!("{directory}/carrier_changes")).ok();
            readings.insert(format!("{interface}/carrier_changes"), changes);
        }
        self.0.update("nic", readings, moment.ts_ms, sample);
    }
}
