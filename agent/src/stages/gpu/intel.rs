//! GPUs of Intel, by what the drivers i915 and xe have in sysfs. Only data centre GPUs with Intel's own i915 count errors there
//! (`gt/gt*/error_counter`); of others there is only the link and what hwmon tells.

use serde_json::{Map, Value, json};

use super::cards::Card;
use super::health::{Health, Look};
use crate::host::Host;

const DRIVERS: [&str; 2] = ["i915", "xe"];

pub(super) fn look(host: &Host, card: &Card) -> Look {
    if let Some(reason) = card.without(&DRIVERS) {
        return Look::Skipped(reason);
    }
    let mut health = Health::default();
    let mut counters = Map::new();
    let mut sums: Option<[u64; 2]> = Some([0, 0]);
    for path in counter_files(host, &card.address) {
        let name = path.rsplit_once('/').map_or(path.as_str(), |(_, name)| name);
        // what is not called corrected is taken for the worse
        let which = usize::from(!name.contains("correctable") || name.contains("uncorrectable"));
        let count = health.told(card, host.number::<u64>(&path));
        counters.insert(path.clone(), json!(count));
        sums = sums.zip(count).map(|(mut sums, count)| {
            sums[which] = sums[which].saturating_add(count);
            sums
        });
    }
    if !counters.is_empty() {
        health.counts.insert("ras_corrected", sums.map(|[corrected, _]| corrected));
        health.counts.insert("ras_uncorrected", sums.map(|[_, uncorrected]| uncorrected));
    }
    health.identity.insert("error_counters".to_owned(), Value::Object(counters));
    Look::Health(health)
}

fn counter_files(host: &Host, address: &str) -> Vec<String> {
    let below = |directory: &str, begins: &str| -> Vec<String> {
        let names = host.list(directory).unwrap_or_default();
        names
            .into_iter()
            .filter(|name| name.starts_with(begins))
            .map(|name| format!("{directory}/{name}"))
            .collect()
    };
    below(&format!("/sys/bus/pci/devices/{address}/drm"), "card")
        .iter()
        .flat_map(|card| below(&format!("{card}/gt"), "gt"))
        .flat_map(|tile| below(&format!("{tile}/error_counter"), ""))
        .collect()
}
