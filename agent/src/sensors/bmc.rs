//! What the BMC tells over the local interface: its sensors and their limits, the power of the machine, and what is new in
//! its System Event Log.
//!
//! | kind | key | unit |
//! |---|---|---|
//! | `temp`, `fan`, `volt`, `current`, `power` | `bmc/<sensor>` | as elsewhere |
//! | `level` | `bmc/<sensor>`: those in percent | `percent` |
//! | `power` | `bmc/dcmi` | `watts` |
//! | `sel` | `critical`, `warning`, `info`: entries that are new in the run | `count` |
//!
//! A BMC is slow, so it is asked on a thread of its own and less often than the rest.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use vetting_protocol::agent_api::EventLevel;
use vetting_protocol::limit::{Bound, HardwareLimit, LimitGrade};

use super::hwmon::clean;
use super::{Notice, Sample};
use crate::cancel::Cancel;
use crate::host::Host;
use crate::tools::ipmitool::sdr::SdrRow;
use crate::tools::ipmitool::sel::{SelClass, SelEntry, SelInfo};
use crate::tools::ipmitool::sensor::{Sensor, Threshold};
use crate::tools::ipmitool::{DEVICES, Partly, dcmi, sdr, sel, sensor};
use crate::tools::runner::{Finished, Invocation, ToolError, ToolRunner};

/// The sensors' descriptions, so that they are asked for once. In a folder that only root may write to.
const CACHE: &str = "/run/vetting/sdr.cache";
const CLASSES: [SelClass; 3] = [SelClass::Critical, SelClass::Warning, SelClass::Info];
/// New entries that are told one by one in a round; of more only the number.
const ENTRIES_TOLD: usize = 20;

/// Whether the kernel has an interface to a BMC.
pub(super) fn is_there(host: &Host) -> bool {
    DEVICES.iter().any(|device| host.exists(device))
}

/// A BMC and what is known of it.
pub(super) struct Bmc<'r> {
    tools: &'r dyn ToolRunner,
    /// Kind and unit of each sensor that told a number once, by key.
    known: BTreeMap<String, (&'static str, &'static str)>,
    lost: BTreeSet<String>,
    prepared: bool,
    /// Whether it knows DCMI; not asked yet at first.
    has_dcmi: Option<bool>,
    /// Why the last round failed, so that it is told once.
    silent: bool,
    log: Option<EventLog>,
    /// It did not answer at the last look.
    log_lost: bool,
    new_entries: BTreeMap<SelClass, u64>,
}

/// The event log as it was.
struct EventLog {
    info: SelInfo,
    entries: BTreeSet<SelEntry>,
}

impl<'r> Bmc<'r> {
    pub(super) fn new(tools: &'r dyn ToolRunner) -> Self {
        Self {
            tools,
            known: BTreeMap::new(),
            lost: BTreeSet::new(),
            prepared: false,
            has_dcmi: None,
            silent: false,
            log: None,
            log_lost: false,
            new_entries: BTreeMap::new(),
        }
    }

    /// Asks for everything once.
    pub(super) fn sample(&mut self, ts_ms: i64, cancel: &Cancel) -> Sample {
        let mut sample = Sample::default();
        let limits = if self.prepared { None } else { self.prepare(cancel, &mut sample) };
        match self.ask(&sdr::readings_invocation(Path::new(CACHE)), cancel, sdr::parse_some) {
            Ok(Partly { rows, .. }) => {
                self.silent = false;
                if let Some(sensors) = limits {
                    sample.limits = limits_of(&rows, &sensors);
                }
                self.readings(&rows, ts_ms, &mut sample);
            }
            Err(ToolError::Cancelled { .. }) => return sample,
            Err(error) => self.no_readings(&error, ts_ms, &mut sample),
        }
        if self.has_dcmi != Some(false) {
            self.dcmi(ts_ms, cancel, &mut sample);
        }
        self.events(ts_ms, cancel, &mut sample);
        sample
    }

    /// A last look at the event log.
    pub(super) fn finish(&mut self, ts_ms: i64) -> Sample {
        let mut sample = Sample::default();
        self.events(ts_ms, &Cancel::new(), &mut sample);
        sample
    }

    fn ask<T>(
        &self,
        invocation: &Invocation,
        cancel: &Cancel,
        parse: impl FnOnce(&Finished) -> Result<T, ToolError>,
    ) -> Result<T, ToolError> {
        parse(&self.tools.run(invocation, cancel, &mut |_, _| {})?)
    }

    /// The descriptions into the cache, and the limits.
    fn prepare(&mut self, cancel: &Cancel, sample: &mut Sample) -> Option<Vec<Sensor>> {
        // without the cache each round only takes longer
        let _ = self
            .ask(&sdr::dump_invocation(Path::new(CACHE)), cancel, |finished| finished.success("ipmitool"));
        match self.ask(&sensor::invocation(), cancel, sensor::parse) {
            Ok(Partly { rows, missing }) => {
                self.prepared = true;
                sample.notices.extend(missing.map(|why| Notice {
                    level: EventLevel::Warning,
                    kind: "hardware_limits_unknown",
                    message: format!("the BMC may not have told the limits of all its sensors: {why}"),
                }));
                Some(rows)
            }
            Err(ToolError::Cancelled { .. }) => None,
            Err(error) => {
                self.prepared = true;
                sample.notices.push(Notice {
                    level: EventLevel::Warning,
                    kind: "hardware_limits_unknown",
                    message: format!("the BMC does not tell the limits of its sensors: {}", error.reason()),
                });
                None
            }
        }
    }

    fn readings(&mut self, rows: &[SdrRow], ts_ms: i64, sample: &mut Sample) {
        let mut seen = BTreeSet::new();
        for (key, row) in keyed(rows) {
            let Some((kind, unit, value)) = quantity(&row.text) else { continue };
            seen.insert(key.clone());
            if value.is_some() {
                self.lost.remove(&key);
                self.known.insert(key.clone(), (kind, unit));
            }
            sample.push(ts_ms, kind, key, value, unit);
        }
        for (key, (kind, unit)) in &self.known {
            if !seen.contains(key) {
                if self.lost.insert(key.clone()) {
                    sample.lost.push(format!("{kind} {key}: the BMC gives no reading any more"));
                }
                sample.push(ts_ms, kind, key.clone(), None, unit);
            }
        }
    }

    fn no_readings(&mut self, error: &ToolError, ts_ms: i64, sample: &mut Sample) {
        if !self.silent {
            self.silent = true;
            sample.lost.push(format!("the sensors of the BMC: {}", error.reason()));
        }
        for (key, (kind, unit)) in &self.known {
            sample.push(ts_ms, kind, key.clone(), None, unit);
        }
    }

    fn dcmi(&mut self, ts_ms: i64, cancel: &Cancel, sample: &mut Sample) {
        match self.ask(&dcmi::power_invocation(), cancel, dcmi::parse_power) {
            Ok(watts) => {
                if watts.is_some() || self.has_dcmi == Some(true) {
                    self.has_dcmi = Some(true);
                    sample.push(ts_ms, "power", "bmc/dcmi".to_owned(), watts, "watts");
                }
            }
            Err(ToolError::Cancelled { .. }) => {}
            // a BMC that knows no DCMI says so by failing
            Err(error) => match self.has_dcmi {
                Some(true) => {
                    self.has_dcmi = Some(false);
                    sample.lost.push(format!("power bmc/dcmi: {}", error.reason()));
                    sample.push(ts_ms, "power", "bmc/dcmi".to_owned(), None, "watts");
                }
                None | Some(false) => self.has_dcmi = Some(false),
            },
        }
    }

    /// What is new in the event log since the first look at it.
    fn events(&mut self, ts_ms: i64, cancel: &Cancel, sample: &mut Sample) {
        let fresh = match self.new_log(cancel) {
            Ok(fresh) => fresh,
            Err(ToolError::Cancelled { .. }) => return,
            Err(error) => {
                if !self.log_lost {
                    self.log_lost = true;
                    sample.lost.push(format!("the event log of the BMC: {}", error.reason()));
                    for class in CLASSES {
                        sample.push(ts_ms, "sel", class_word(class).to_owned(), None, "count");
                    }
                }
                return;
            }
        };
        let tell_all = self.log.is_none() || std::mem::take(&mut self.log_lost);
        let mut grown = BTreeSet::new();
        if let Some(fresh) = fresh {
            // what was there before the run is not of it
            let new: Vec<&SelEntry> =
                self.log.iter().flat_map(|known| fresh.entries.difference(&known.entries)).collect();
            for entry in &new {
                grown.insert(entry.class());
                *self.new_entries.entry(entry.class()).or_default() += 1;
            }
            tell_entries(&new, sample);
            self.log = Some(fresh);
        }
        for class in CLASSES {
            if tell_all || grown.contains(&class) {
                let count = self.new_entries.get(&class).copied().unwrap_or(0);
                sample.push(ts_ms, "sel", class_word(class).to_owned(), Some(count as f64), "count");
            }
        }
    }

    /// The event log, if it is another one than at the last look.
    fn new_log(&self, cancel: &Cancel) -> Result<Option<EventLog>, ToolError> {
        let info = self.ask(&sel::info_invocation(), cancel, sel::parse_info)?;
        if self.log.as_ref().is_some_and(|log| log.info == info) {
            return Ok(None);
        }
        let entries =
            self.ask(&sel::list_invocation(), cancel, |finished| sel::parse_list(finished, info.entries))?;
        Ok(Some(EventLog { info, entries: entries.into_iter().collect() }))
    }
}

fn class_word(class: SelClass) -> &'static str {
    match class {
        SelClass::Critical => "critical",
        SelClass::Warning => "warning",
        SelClass::Info => "info",
    }
}

fn tell_entries(new: &[&SelEntry], sample: &mut Sample) {
    let mut tell = |class: SelClass, message: String| {
        let level = match class {
            SelClass::Critical => EventLevel::Error,
            SelClass::Warning => EventLevel::Warning,
            SelClass::Info => EventLevel::Info,
        };
        sample.notices.push(Notice { level, kind: "sel_entry", message });
    };
    for entry in new.iter().take(ENTRIES_TOLD) {
        tell(entry.class(), format!("the BMC logged: {}", entry.text));
    }
    if let Some(more) = new.len().checked_sub(ENTRIES_TOLD).filter(|more| *more > 0) {
        tell(SelClass::Warning, format!("the BMC logged {more} more entries"));
    }
}

/// Each row with its key: by name, and where a name is not unique by name and number.
fn keyed(rows: &[SdrRow]) -> Vec<(String, &SdrRow)> {
    let mut names: BTreeMap<&str, u32> = BTreeMap::new();
    for row in rows {
        *names.entry(&row.name).or_default() += 1;
    }
    rows.iter()
        .map(|row| {
            let name = clean(&row.name);
            let is_unique = names.get(&*row.name) == Some(&1);
            let key = if is_unique { format!("bmc/{name}") } else { format!("bmc/{name}-{}", row.number) };
            (key, row)
        })
        .collect()
}

/// Kind, unit and value of a reading in words; none of what is no number: a state, or no reading.
fn quantity(text: &str) -> Option<(&'static str, &'static str, Option<f64>)> {
    let (number, unit) = text.split_once(' ')?;
    let value: Option<f64> = number.parse().ok().filter(|value: &f64| value.is_finite());
    let (kind, unit) = form(unit)?;
    Some((kind, unit, value))
}

/// Units as ipmitool writes them (IPMI 2.0 table 43-15).
fn form(unit: &str) -> Option<(&'static str, &'static str)> {
    match unit.trim() {
        "degrees C" => Some(("temp", "celsius")),
        "RPM" => Some(("fan", "rpm")),
        "Volts" => Some(("volt", "volts")),
        "Amps" => Some(("current", "amperes")),
        "Watts" => Some(("power", "watts")),
        "percent" => Some(("level", "percent")),
        _ => None,
    }
}

/// The limits of the sensors in `rows`. The list of limits has no numbers, so sensors of one name are told apart by their
/// order, which is that of the repository in both lists.
fn limits_of(rows: &[SdrRow], sensors: &[Sensor]) -> Vec<HardwareLimit> {
    let mut limits = Vec::new();
    for (key, row) in keyed(rows) {
        let Some((kind, unit, observed)) = quantity(&row.text) else { continue };
        let same_name = || rows.iter().filter(|other| other.name == row.name);
        let named: Vec<&Sensor> =
            sensors.iter().filter(|sensor| sensor.name == row.name && sensor.unit != "discrete").collect();
        let place = same_name().position(|other| other.number == row.number);
        if named.len() != same_name().count() {
            continue;
        }
        let Some(sensor) = place.and_then(|place| named.get(place)) else { continue };
        if form(&sensor.unit) != Some((kind, unit)) {
            continue;
        }
        for (threshold, value) in &sensor.limits {
            let (bound, grade, words) = meaning(*threshold);
            let beyond = observed.map(|observed| match bound {
                Bound::Upper => observed >= *value,
                Bound::Lower => observed <= *value,
            });
            limits.push(HardwareLimit {
                kind: kind.to_owned(),
                key: key.clone(),
                bound,
                grade,
                value: *value,
                unit: unit.to_owned(),
                origin: format!("BMC, {words} of {}", row.name),
                observed,
                asserted: beyond.map(|beyond| beyond && row.status != "ok"),
            });
        }
    }
    limits
}

fn meaning(threshold: Threshold) -> (Bound, LimitGrade, &'static str) {
    match threshold {
        Threshold::LowerNonRecoverable => (Bound::Lower, LimitGrade::Critical, "lower non-recoverable"),
        Threshold::LowerCritical => (Bound::Lower, LimitGrade::Critical, "lower critical"),
        Threshold::LowerNonCritical => (Bound::Lower, LimitGrade::Warning, "lower non-critical"),
        Threshold::UpperNonCritical => (Bound::Upper, LimitGrade::Warning, "upper non-critical"),
        Threshold::UpperCritical => (Bound::Upper, LimitGrade::Critical, "upper critical"),
        Threshold::UpperNonRecoverable => (Bound::Upper, LimitGrade::Critical, "upper non-recoverable"),
    }
}

#[cfg(test)]
mod tests;
