//! Memory errors that the memory controllers counted: `/sys/devices/system/edac/mc` (Documentation/admin-guide/RAS).
//!
//! | kind | key | unit |
//! |---|---|---|
//! | `edac` | `mc0/<DIMM label>/ce`, `/ue`: corrected and uncorrected errors of a DIMM | `count` |
//! | `edac` | `mc0/ce`, `/ue`: those that the controller cannot tell the DIMM of | `count` |
//!
//! The counters run since the driver was loaded; what is told is how many are new: by the sidecar in the whole run so far,
//! by a stage since it began. A machine without EDAC has none.

use std::collections::{BTreeMap, BTreeSet};

use super::hwmon::clean;
use crate::host::Host;

const CONTROLLERS: &str = "/sys/devices/system/edac/mc";

/// The counters at one moment, by key; `None` where one did not answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters(BTreeMap<String, Option<u64>>);

/// Errors that came between two moments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewErrors {
    /// `mc0/DIMM_A1/ce`.
    pub key: String,
    /// How many; `None` when the counter did not answer, then or before, or is gone.
    pub count: Option<u64>,
}

impl Counters {
    /// Reads every counter of every controller.
    pub fn read(host: &Host) -> Self {
        let mut counters = BTreeMap::new();
        for controller in host.list(CONTROLLERS).unwrap_or_default() {
            if numbered(&controller, "mc") {
                read_controller(host, &controller, &mut counters);
            }
        }
        Self(counters)
    }

    /// What they stand at, by key.
    pub(super) fn into_readings(self) -> BTreeMap<String, Option<u64>> {
        self.0
    }

    /// What came since `before`.
    pub fn since(&self, before: &Self) -> Vec<NewErrors> {
        let keys: BTreeSet<&String> = before.0.keys().chain(self.0.keys()).collect();
        let new = |key: &String| {
            // the driver came after: it began at 0
            let then = before.0.get(key).copied().unwrap_or(Some(0));
            let now = self.0.get(key).copied().flatten();
            // fewer than before: it was loaded again and began anew
            now.zip(then).map(|(now, then)| now.checked_sub(then).unwrap_or(now))
        };
        keys.into_iter().map(|key| NewErrors { key: key.clone(), count: new(key) }).collect()
    }
}

/// Those of each DIMM, or else of each channel, and the rest of the controller's total under its own name.
fn read_controller(host: &Host, controller: &str, counters: &mut BTreeMap<String, Option<u64>>) {
    let directory = format!("{CONTROLLERS}/{controller}");
    let modules = modules(host, &directory);
    for (errors, file) in [("ce", "ce_count"), ("ue", "ue_count")] {
        let mut of_modules = Some(0_u64);
        for module in &modules {
            let Some(path) = (if errors == "ce" { &module.corrected } else { &module.uncorrected }) else {
                continue;
            };
            let count = host.number::<u64>(path).ok();
            of_modules = of_modules.zip(count).map(|(sum, count)| sum.saturating_add(count));
            counters.insert(format!("{controller}/{}/{errors}", module.label), count);
        }
        let total = host.number::<u64>(&format!("{directory}/{file}")).ok();
        let rest = total.zip(of_modules).map(|(total, known)| total.saturating_sub(known));
        counters.insert(format!("{controller}/{errors}"), rest);
    }
}

/// A DIMM, or a channel of it, with the counters that it has.
struct Module {
    label: String,
    corrected: Option<String>,
    uncorrected: Option<String>,
}

fn modules(host: &Host, controller: &str) -> Vec<Module> {
    let entries = host.list(controller).unwrap_or_default();
    let mut modules: Vec<Module> = Vec::new();
    let mut add =
        |label: Option<String>, name: &str, corrected: Option<String>, uncorrected: Option<String>| {
            let label = label.map(|label| clean(&label)).filter(|label| !label.is_empty());
            // two with one label are told apart by their place
            let label = label.filter(|label| modules.iter().all(|module| module.label != *label));
            modules.push(Module { label: label.unwrap_or_else(|| name.to_owned()), corrected, uncorrected });
        };
    let mut found = false;
    for entry in entries.iter().filter(|entry| numbered(entry, "dimm") || numbered(entry, "rank")) {
        let file = |name: &str| Some(format!("{controller}/{entry}/{name}")).filter(|path| host.exists(path));
        let label = host.text(&format!("{controller}/{entry}/dimm_label")).ok();
        found = true;
        add(label, entry, file("dimm_ce_count"), file("dimm_ue_count"));
    }
    if found {
        return modules;
    }
    // the older form: rows of chip select, with a label and the corrected errors of each channel
    for row in entries.iter().filter(|entry| numbered(entry, "csrow")) {
        for name in host.list(&format!("{controller}/{row}")).unwrap_or_default() {
            let Some(channel) = name.strip_suffix("_ce_count").filter(|name| numbered(name, "ch")) else {
                continue;
            };
            let label = host.text(&format!("{controller}/{row}/{channel}_dimm_label")).ok();
            let place = format!("{row}-{channel}");
            add(label, &place, Some(format!("{controller}/{row}/{name}")), None);
        }
    }
    modules
}

/// `mc0` is a numbered `mc`.
fn numbered(name: &str, kind: &str) -> bool {
    name.strip_prefix(kind)
        .is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, Host) {
        let directory = tempfile::tempdir().unwrap();
        let host = Host::recorded(directory.path());
        write(&host, files);
        (directory, host)
    }

    fn write(host: &Host, files: &[(&str, &str)]) {
        for (file, text) in files {
            let path = host.path(&format!("{CONTROLLERS}/{file}"));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, format!("{text}\n")).unwrap();
        }
    }

    fn news(host: &Host, before: &Counters) -> Vec<(String, Option<u64>)> {
        Counters::read(host).since(before).into_iter().map(|new| (new.key, new.count)).collect()
    }

    fn told(key: &str, count: Option<u64>) -> (String, Option<u64>) {
        (key.to_owned(), count)
    }

    #[test]
    fn only_new_errors_count_and_the_dimm_is_named() {
        let (_directory, host) = tree(&[
            ("mc0/ce_count", "7"),
            ("mc0/ue_count", "0"),
            ("mc0/dimm0/dimm_label", "CPU0 Channel0/DIMM0"),
            ("mc0/dimm0/dimm_ce_count", "7"),
            ("mc0/dimm0/dimm_ue_count", "0"),
            ("mc0/dimm3/dimm_label", ""),
            ("mc0/dimm3/dimm_ce_count", "0"),
            ("mc0/dimm3/dimm_ue_count", "0"),
            ("power/ce_count", "99"),
        ]);
        let before = Counters::read(&host);
        assert!(before.since(&before).iter().all(|new| new.count == Some(0)));
        write(&host, &[("mc0/ce_count", "12"), ("mc0/dimm0/dimm_ce_count", "10")]);
        write(&host, &[("mc0/ue_count", "1"), ("mc0/dimm3/dimm_ue_count", "1")]);
        assert_eq!(
            news(&host, &before),
            [
                told("mc0/CPU0_Channel0_DIMM0/ce", Some(3)),
                told("mc0/CPU0_Channel0_DIMM0/ue", Some(0)),
                // of 5 new ones 3 are of a DIMM
                told("mc0/ce", Some(2)),
                told("mc0/dimm3/ce", Some(0)),
                told("mc0/dimm3/ue", Some(1)),
                told("mc0/ue", Some(0)),
            ]
        );
    }

    #[test]
    fn rows_of_chip_select_and_controllers_without_parts_are_read() {
        let (_directory, host) = tree(&[
            ("mc0/ce_count", "0"),
            ("mc0/ue_count", "0"),
            ("mc0/csrow0/ch0_ce_count", "0"),
            ("mc0/csrow0/ch0_dimm_label", "DIMM_A1"),
            ("mc1/ce_count", "4"),
            ("mc1/ue_count", "4"),
        ]);
        let before = Counters::read(&host);
        write(&host, &[("mc0/ce_count", "2"), ("mc0/csrow0/ch0_ce_count", "2"), ("mc1/ce_count", "5")]);
        let news = news(&host, &before);
        assert!(news.contains(&told("mc0/DIMM_A1/ce", Some(2))) && news.contains(&told("mc0/ce", Some(0))));
        assert!(news.contains(&told("mc1/ce", Some(1))) && news.contains(&told("mc1/ue", Some(0))));
    }

    #[test]
    fn a_counter_that_does_not_answer_is_no_zero() {
        let (_directory, host) = tree(&[("mc0/ce_count", "0"), ("mc0/ue_count", "0")]);
        let before = Counters::read(&host);
        write(&host, &[("mc0/ce_count", "many")]);
        std::fs::remove_file(host.path(&format!("{CONTROLLERS}/mc0/ue_count"))).unwrap();
        assert_eq!(news(&host, &before), [told("mc0/ce", None), told("mc0/ue", None)]);
        // a driver that was loaded again
        write(&host, &[("mc0/ce_count", "9"), ("mc0/ue_count", "0")]);
        let before = Counters::read(&host);
        write(&host, &[("mc0/ce_count", "1")]);
        assert_eq!(news(&host, &before)[0], told("mc0/ce", Some(1)));
    }

    #[test]
    fn a_machine_without_edac_has_no_counters() {
        let (_directory, host) = tree(&[]);
        assert_eq!(news(&host, &Counters::read(&host)), []);
    }
}
