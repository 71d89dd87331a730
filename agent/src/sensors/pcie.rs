//! PCIe: errors that functions counted (Advanced Error Reporting, `aer_dev_*`), and the state of their links.
//!
//! | kind | key | unit |
//! |---|---|---|
//! | `aer` | `<address>/correctable`, `/nonfatal`, `/fatal`: new errors | `count` |
//! | `pcie` | `<address>/width` | `lanes` |
//! | `pcie` | `<address>/speed` | `gts` |
//! | `pcie` | `<address>/best_width`, `/best_speed`: the best of the run, of what both ends can | `percent` |
//!
//! An error may be counted at the partner, so ports are counted as well as what is plugged into them. An idle link
//! slows down, so only the best that a link showed says something; it is told when the run is over.

use std::collections::BTreeMap;

use super::counters::{NewCounts, Readings};
use super::{Moment, Sample};
use crate::host::Host;

const DEVICES: &str = "/sys/bus/pci/devices";
const ERRORS: [(&str, &str); 3] =
    [("correctable", "aer_dev_correctable"), ("nonfatal", "aer_dev_nonfatal"), ("fatal", "aer_dev_fatal")];

/// The functions found so far.
#[derive(Debug, Default)]
pub(super) struct Functions {
    addresses: Vec<String>,
    /// Those that count errors.
    counting: Vec<String>,
    links: BTreeMap<String, Link>,
    errors: NewCounts,
}

/// A link, seen from its lower end.
#[derive(Debug)]
struct Link {
    /// What both ends can.
    can: State,
    told: Option<State>,
    best: State,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct State {
    lanes: f64,
    gts: f64,
}

impl Functions {
    /// Counts errors and looks at links.
    pub(super) fn sample(&mut self, host: &Host, moment: Moment, sample: &mut Sample) {
        let addresses = host.list(DEVICES).unwrap_or_default();
        if addresses != self.addresses {
            let counts = |address: &&String| host.exists(&format!("{DEVICES}/{address}/aer_dev_correctable"));
            self.counting = addresses.iter().filter(counts).cloned().collect();
            self.links.retain(|address, _| addresses.contains(address));
            for address in &addresses {
                if !self.links.contains_key(address)
                    && let Some(can) = both_ends_can(host, address)
                {
                    let best = State { lanes: 0.0, gts: 0.0 };
                    self.links.insert(address.clone(), Link { can, told: None, best });
                }
            }
            self.addresses = addresses;
        }
        let mut readings = Readings::new();
        for address in &self.counting {
            for (name, file) in ERRORS {
                let text = host.text(&format!("{DEVICES}/{address}/{file}"));
                readings.insert(format!("{address}/{name}"), text.ok().as_deref().and_then(total));
            }
        }
        self.errors.update("aer", readings, moment.ts_ms, sample);
        for (address, link) in &mut self.links {
            // a function that sleeps, or whose slot was emptied, has no link to tell of
            if let Some(now) = state(host, address, "current") {
                link.note(address, now, moment, sample);
            }
        }
    }

    /// Tells the best that each link showed.
    pub(super) fn finish(&self, moment: Moment, sample: &mut Sample) {
        for (address, link) in &self.links {
            // one that showed nothing was never up: for the inventory to tell
            if link.best.lanes > 0.0 {
                let mut tell = |what, part: f64, of: f64| {
                    let percent = Some(100.0 * part / of);
                    sample.push(moment.ts_ms, "pcie", format!("{address}/{what}"), percent, "percent");
                };
                tell("best_width", link.best.lanes, link.can.lanes);
                tell("best_speed", link.best.gts, link.can.gts);
            }
        }
    }
}

impl Link {
    fn note(&mut self, address: &str, now: State, moment: Moment, sample: &mut Sample) {
        self.best.lanes = self.best.lanes.max(now.lanes);
        self.best.gts = self.best.gts.max(now.gts);
        if self.told != Some(now) {
            self.told = Some(now);
            sample.push(moment.ts_ms, "pcie", format!("{address}/width"), Some(now.lanes), "lanes");
            sample.push(moment.ts_ms, "pcie", format!("{address}/speed"), Some(now.gts), "gts");
        }
    }
}

/// What a function can, and the port above it; none where there is no such port (what is built into the root complex
/// has no link to speak of) or one of them does not tell.
fn both_ends_can(host: &Host, address: &str) -> Option<State> {
    let port = above(host, address)?;
    // several functions of a device share its link
    if !address.ends_with(".0") || !host.exists(&format!("{DEVICES}/{port}/max_link_width")) {
        return None;
    }
    let (lower, upper) = (state(host, address, "max")?, state(host, &port, "max")?);
    Some(State { lanes: lower.lanes.min(upper.lanes), gts: lower.gts.min(upper.gts) })
}

fn state(host: &Host, address: &str, which: &str) -> Option<State> {
    let lanes = host.number::<u32>(&format!("{DEVICES}/{address}/{which}_link_width")).ok()?;
    let gts = host.link_speed_gts(&format!("{DEVICES}/{address}/{which}_link_speed")).ok()?;
    (1..=32).contains(&lanes).then_some(State { lanes: f64::from(lanes), gts })
}

/// What is above a function: a port, or the root of its bus (`pci0000:00`).
fn above(host: &Host, address: &str) -> Option<String> {
    let place = host.resolve(&format!("{DEVICES}/{address}")).ok()?;
    Some(place.rsplit('/').nth(1)?.to_owned())
}

/// Width and speed of a function's link now, percent of what both its ends can; none where it has no link of its own or does
/// not tell. Of a card that was passed through to a virtual machine, which shows no port above it, what it can itself.
pub(crate) fn parts_of_best(host: &Host, address: &str) -> Option<(f64, f64)> {
    let of_itself = || {
        let has_no_port = above(host, address)?.starts_with("pci");
        has_no_port.then(|| state(host, address, "max")).flatten()
    };
    let (can, now) = (both_ends_can(host, address).or_else(of_itself)?, state(host, address, "current")?);
    Some((100.0 * now.lanes / can.lanes, 100.0 * now.gts / can.gts))
}

/// The `TOTAL_ERR_…` line of an `aer_dev_*` file (Documentation/ABI/testing/sysfs-bus-pci-devices-aer_stats).
fn total(text: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix("TOTAL_ERR_"))
        .and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_without_a_port_above_it_is_measured_by_itself() {
        let folder = tempfile::tempdir().unwrap();
        let host = Host::recorded(folder.path());
        let card = "sys/devices/pci0000:00/0000:00:06.0";
        std::fs::create_dir_all(folder.path().join(card)).unwrap();
        std::fs::create_dir_all(folder.path().join("sys/bus/pci/devices")).unwrap();
        let link = folder.path().join("sys/bus/pci/devices/0000:00:06.0");
        std::os::unix::fs::symlink("../../../devices/pci0000:00/0000:00:06.0", link).unwrap();
        let write =
            |file: &str, text: &str| std::fs::write(folder.path().join(card).join(file), text).unwrap();
        assert_eq!(parts_of_best(&host, "0000:00:06.0"), None);
        for (which, lanes) in [("max", "16"), ("current", "8")] {
            write(&format!("{which}_link_width"), lanes);
            write(&format!("{which}_link_speed"), "32.0 GT/s PCIe");
        }
        assert_eq!(parts_of_best(&host, "0000:00:06.0"), Some((50.0, 100.0)));
        // the sidecar leaves it alone: what is built into the root complex may tell of links that it does not have
        assert_eq!(both_ends_can(&host, "0000:00:06.0"), None);
    }

    #[test]
    fn the_total_is_what_counts() {
        assert_eq!(total("RxErr 2\nBadTLP 1\nTOTAL_ERR_COR 3"), Some(3));
        assert_eq!(total("Undefined 0\nTOTAL_ERR_FATAL 0\n"), Some(0));
        for wrong in ["", "RxErr 2\n", "TOTAL_ERR_COR", "TOTAL_ERR_COR many"] {
            assert_eq!(total(wrong), None, "{wrong}");
        }
    }
}
