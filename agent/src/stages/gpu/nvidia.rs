//! GPUs of NVIDIA, by what nvml-probe prints; and the errors that their driver reports to the kernel's log.

use std::collections::BTreeMap;

use serde_json::json;
use vetting_nvml_probe::{Cause, DeviceState, Nvml, Reading, Readings, Trouble};

use super::cards::Card;
use super::health::{Health, Look};
use crate::sensors::kernel_log::{Class, classify};
use crate::stages::StageContext;
use crate::tools::nvml;
use crate::tools::runner::ToolError;

const DRIVER: &str = "nvidia";

/// What the probe printed in one look at all GPUs; it is asked when the first of them is.
#[derive(Default)]
pub(super) struct Answers(Option<Result<Nvml, String>>);

impl Answers {
    pub(super) fn look(&mut self, context: &StageContext<'_>, card: &Card) -> Look {
        if let Some(reason) = card.without(&[DRIVER]) {
            return Look::Skipped(reason);
        }
        let ask = || {
            let answer = context.tools.run(&nvml::invocation(), &context.cancel, &mut |_, _| {});
            answer.and_then(|finished| nvml::parse(&finished)).map_err(|error: ToolError| error.reason())
        };
        match self.0.get_or_insert_with(ask) {
            Err(reason) => Look::Unknown(format!("{}: {reason}", card.name())),
            Ok(Nvml::NoLibrary { message }) => {
                let reason = format!(
                    "{}: NVIDIA's library libnvidia-ml.so.1 is not installed: {message}",
                    card.name()
                );
                Look::Skipped(reason)
            }
            Ok(Nvml::NoDriver { message }) => Look::Skipped(format!("{}: {message}", card.name())),
            Ok(Nvml::Failed(trouble)) => does_not_answer(card, trouble),
            Ok(Nvml::Answered { driver_version, devices, .. }) => {
                let opened = devices.iter().find_map(|device| match &device.state {
                    DeviceState::Opened(readings) if readings.pci_address.value() == Some(&card.address) => {
                        Some(readings)
                    }
                    DeviceState::Opened(_) | DeviceState::Unopened(_) => None,
                });
                match opened {
                    Some(readings) => Look::Health(health(card, readings, driver_version)),
                    None => without_answer(card, devices.iter().map(|device| &device.state)),
                }
            }
        }
    }
}

fn does_not_answer(card: &Card, trouble: &Trouble) -> Look {
    let reason = format!("{}: {}", card.name(), trouble.message);
    match trouble.cause {
        Cause::Hardware => Look::Lost(reason),
        Cause::Other => Look::Unknown(reason),
    }
}

/// The driver has the GPU and the library does not know its address: it is one that cannot be opened, or that lost its
/// address with everything else.
fn without_answer<'d>(card: &Card, devices: impl Iterator<Item = &'d DeviceState>) -> Look {
    let troubles: Vec<&Trouble> = devices
        .filter_map(|state| match state {
            DeviceState::Unopened(trouble) => Some(trouble),
            DeviceState::Opened(readings) => readings.pci_address.trouble(),
        })
        .collect();
    let worst = troubles.iter().find(|trouble| trouble.cause == Cause::Hardware).or(troubles.first());
    match worst {
        Some(trouble) => does_not_answer(card, trouble),
        None => Look::Unknown(format!(
            "{}: NVIDIA's library does not list it, though the driver has it",
            card.name()
        )),
    }
}

fn health(card: &Card, readings: &Readings, driver_version: &Reading<String>) -> Health {
    let mut health = Health::default();
    let Readings { ecc, retired_pages, pcie, .. } = readings;
    health.identity.insert("driver_version".to_owned(), json!(driver_version));
    health.identity.insert("readings".to_owned(), json!(readings));
    health.note(card, "name", &readings.name);
    health.note(card, "uuid", &readings.uuid);
    health.note(card, "vbios_version", &readings.vbios_version);
    health.note(card, "temperature", &readings.temperature_celsius);
    health.count(card, "ecc_enabled", &readings.ecc_mode, |mode| mode.current.into());
    health.count(card, "ecc_corrected", &ecc.volatile_corrected, |count| *count);
    health.count(card, "ecc_uncorrected", &ecc.volatile_uncorrected, |count| *count);
    health.count(card, "ecc_lifetime_corrected", &ecc.aggregate_corrected, |count| *count);
    health.count(card, "ecc_lifetime_uncorrected", &ecc.aggregate_uncorrected, |count| *count);
    let rows = &readings.remapped_rows;
    health.count(card, "remapped_correctable", rows, |rows| rows.correctable.into());
    health.count(card, "remapped_uncorrectable", rows, |rows| rows.uncorrectable.into());
    health.count(card, "remap_pending", rows, |rows| rows.pending.into());
    health.count(card, "remap_failure", rows, |rows| rows.failure.into());
    health.count(card, "retired_single_bit", &retired_pages.single_bit, |pages| *pages);
    health.count(card, "retired_double_bit", &retired_pages.double_bit, |pages| *pages);
    health.count(card, "retired_pending", &retired_pages.pending, |pending| (*pending).into());
    if let (Some(single), Some(double)) = (retired_pages.single_bit.value(), retired_pages.double_bit.value())
    {
        health.counts.insert("retired_pages", Some(single.saturating_add(*double)));
    }
    health.count(card, "replays", &pcie.replays, |count| (*count).into());
    health
}

impl Health {
    /// A reading that is a count. What a GPU does not have is none.
    fn count<T>(
        &mut self,
        card: &Card,
        key: &'static str,
        reading: &Reading<T>,
        count: impl FnOnce(&T) -> u64,
    ) {
        match reading {
            Reading::Value(value) => {
                self.counts.insert(key, Some(count(value)));
            }
            Reading::NotSupported => {}
            Reading::Failed(trouble) => {
                self.counts.insert(key, None);
                self.trouble(card, key, trouble);
            }
        }
    }

    /// A reading that is no count: only whether there is an answer.
    fn note<T>(&mut self, card: &Card, what: &str, reading: &Reading<T>) {
        if let Reading::Failed(trouble) = reading {
            self.trouble(card, what, trouble);
        }
    }

    fn trouble(&mut self, card: &Card, what: &str, trouble: &Trouble) {
        match trouble.cause {
            Cause::Hardware => {
                // a GPU that is lost says so in every reading
                let fault = format!("{}: {}", card.name(), trouble.message);
                if !self.faults.contains(&fault) {
                    self.faults.push(fault);
                }
            }
            Cause::Other => self.unknown.push(format!("{}: {what}: {}", card.name(), trouble.message)),
        }
    }
}

/// `0000:3b:00.0/xid/79` and how often it was reported. A message names the GPU without its function, which is always 0.
pub(super) fn xids(messages: &[String]) -> BTreeMap<String, u32> {
    let mut counts = BTreeMap::new();
    for message in messages {
        let Some(finding) = classify(message).filter(|finding| finding.class == Class::Xid) else { continue };
        if let Some((gpu, code)) = finding.subject.as_deref().and_then(|subject| subject.split_once('/')) {
            *counts.entry(format!("{gpu}.0/xid/{code}")).or_default() += 1;
        }
    }
    counts
}
