//! GPUs of AMD, by what the driver amdgpu has in sysfs (Documentation/gpu/amdgpu: driver-misc, ras).

use serde_json::{Map, Value, json};

use super::cards::Card;
use super::health::{Health, Look};
use super::text_or_null;
use crate::host::Host;

const DRIVERS: [&str; 1] = ["amdgpu"];

pub(super) fn look(host: &Host, card: &Card) -> Look {
    if let Some(reason) = card.without(&DRIVERS) {
        return Look::Skipped(reason);
    }
    let directory = format!("/sys/bus/pci/devices/{}", card.address);
    let mut health = Health::default();
    for file in ["unique_id", "serial_number", "vbios_version", "product_name"] {
        let text = host.text(&format!("{directory}/{file}")).ok().filter(|text| !text.is_empty());
        health.identity.insert(file.to_owned(), text_or_null(text));
    }
    for file in ["mem_info_vram_total", "mem_info_vram_used", "gpu_busy_percent"] {
        health
            .identity
            .insert(file.to_owned(), json!(host.number::<u64>(&format!("{directory}/{file}")).ok()));
    }
    let replays = format!("{directory}/pcie_replay_count");
    if host.exists(&replays) {
        let count = health.told(card, host.number(&replays));
        health.counts.insert("replays", count);
    }
    errors(host, card, &format!("{directory}/ras"), &mut health);
    Look::Health(health)
}

/// Errors by block of the GPU (`umc_err_count`: its memory), and pages of its memory that were given up. A GPU without RAS has
/// no such folder.
fn errors(host: &Host, card: &Card, directory: &str, health: &mut Health) {
    if !host.is_directory(directory) {
        return;
    }
    let files = match host.list(directory) {
        Ok(files) => files,
        Err(error) => {
            health.unknown.push(format!("{}: {}", card.name(), error.reason()));
            return;
        }
    };
    let mut blocks = Map::new();
    // a block whose count is not known leaves the sum not known
    let mut sums = Some((0_u64, 0_u64));
    for file in files.iter().filter(|file| file.ends_with("_err_count")) {
        let path = format!("{directory}/{file}");
        let counts = match host.text(&path) {
            Ok(text) => error_counts(&text).ok_or_else(|| format!("{path}: `{text}` is no pair of counts")),
            Err(error) => Err(error.reason()),
        };
        match counts {
            Ok((uncorrected, corrected)) => {
                blocks.insert(file.clone(), json!({ "ue": uncorrected, "ce": corrected }));
                sums = sums.map(|(ue, ce)| (ue.saturating_add(uncorrected), ce.saturating_add(corrected)));
            }
            Err(reason) => {
                blocks.insert(file.clone(), Value::Null);
                sums = None;
                health.unknown.push(format!("{}: {reason}", card.name()));
            }
        }
    }
    if !blocks.is_empty() {
        health.counts.insert("ras_uncorrected", sums.map(|(uncorrected, _)| uncorrected));
        health.counts.insert("ras_corrected", sums.map(|(_, corrected)| corrected));
    }
    health.identity.insert("ras".to_owned(), Value::Object(blocks));
    let bad_pages = format!("{directory}/gpu_vram_bad_pages");
    if host.exists(&bad_pages) {
        let pages = health.told(card, host.text(&bad_pages)).map(|text| pages_given_up(&text));
        health.counts.insert("retired_pages", pages);
    }
}

/// `ue: 0`, `ce: 3`, one a line.
fn error_counts(text: &str) -> Option<(u64, u64)> {
    let count = |name: &str| {
        let rest = text.lines().find_map(|line| line.trim().strip_prefix(name))?;
        rest.strip_prefix(':')?.trim().parse().ok()
    };
    Some((count("ue")?, count("ce")?))
}

/// One page a line: `0x00000001 : 0x00001000 : R`.
fn pages_given_up(text: &str) -> u64 {
    text.lines().filter(|line| line.trim_start().starts_with("0x")).count() as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn counts_as_the_driver_writes_them() {
        assert_eq!(error_counts("ue: 1\nce: 22"), Some((1, 22)));
        for wrong in ["", "ue: 1", "ue: one\nce: 0", "ce: 0", "ue 1\nce 0", "ue: -1\nce: 0"] {
            assert_eq!(error_counts(wrong), None, "{wrong}");
        }
        assert_eq!(pages_given_up("0x00000001 : 0x00001000 : R\n0x00000002 : 0x00001000 : P\n"), 2);
        assert_eq!(pages_given_up(""), 0);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".*") {
            let _ = error_counts(&text);
            let _ = pages_given_up(&text);
        }
    }
}
