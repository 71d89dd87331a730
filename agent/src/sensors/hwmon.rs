//! Chips of `/sys/class/hwmon`: temperatures, fans, voltages, currents and power, in the units of the kernel's hwmon ABI
//! (Documentation/hwmon/sysfs-interface), and the limits they hold.
//!
//! The chips are looked over once, and again when their number changes or one of them stopped answering.

use std::collections::BTreeMap;

use vetting_protocol::limit::{Bound, HardwareLimit, LimitGrade};

use super::power::EnergyAt;
use super::{Moment, Sample};
use crate::host::{Host, HostError};

const CLASS: &str = "/sys/class/hwmon";

/// The chips found, and how each of their channels did so far.
#[derive(Debug, Default)]
pub(super) struct Chips {
    names: Vec<String>,
    channels: Vec<Channel>,
    look_again: bool,
}

/// One input of a chip.
#[derive(Debug, Clone)]
struct Channel {
    path: String,
    /// Its `*_fault` attribute, if it has one: 1 says that the sensor is not connected or broken.
    fault: Option<String>,
    quantity: Quantity,
    key: String,
    limits: Vec<LimitFile>,
    /// Of a counter of energy, where it stood.
    energy: Option<EnergyAt>,
    answered: bool,
    lost: bool,
}

/// A limit that a channel holds.
#[derive(Debug, Clone)]
struct LimitFile {
    path: String,
    /// Says 1 while the limit is passed.
    alarm: Option<String>,
    bound: Bound,
    grade: LimitGrade,
}

/// Millidegrees Celsius. Below is what chips say for want of a reading: 0 K (NVMe), -128 °C (registers of 8 bits).
const COLDEST: i64 = -100_000;

/// Attributes of limits.
const LIMITS: [(&str, Bound, LimitGrade); 5] = [
    ("crit", Bound::Upper, LimitGrade::Critical),
    ("emergency", Bound::Upper, LimitGrade::Critical),
    ("max", Bound::Upper, LimitGrade::Warning),
    ("lcrit", Bound::Lower, LimitGrade::Critical),
    ("min", Bound::Lower, LimitGrade::Warning),
];

/// What a channel measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quantity {
    Temperature,
    Fan,
    Voltage,
    Current,
    Power,
    /// A counter, told as the power that it stands for.
    Energy,
}

impl Quantity {
    /// Kind and unit of its measurements, and how many of the kernel's units make one of ours.
    fn form(self) -> (&'static str, &'static str, f64) {
        match self {
            Self::Temperature => ("temp", "celsius", 1_000.0),
            Self::Fan => ("fan", "rpm", 1.0),
            Self::Voltage => ("volt", "volts", 1_000.0),
            Self::Current => ("current", "amperes", 1_000.0),
            Self::Power | Self::Energy => ("power", "watts", 1_000_000.0),
        }
    }
}

impl Chips {
    /// Reads every channel.
    pub(super) fn sample(&mut self, host: &Host, moment: Moment, sample: &mut Sample) {
        let ts_ms = moment.ts_ms;
        let names = host.list(CLASS).unwrap_or_default();
        if self.look_again || names != self.names {
            let gone = self.renew(discover(host, &names));
            for channel in gone {
                let (kind, unit, _) = channel.quantity.form();
                if !channel.lost {
                    sample
                        .lost
                        .push(format!("{kind} {}: {} does not exist any more", channel.key, channel.path));
                }
                sample.push(ts_ms, kind, channel.key, None, unit);
            }
            self.names = names;
            self.look_again = false;
        }
        for channel in &mut self.channels {
            let (kind, unit, scale) = channel.quantity.form();
            match channel.read(host) {
                Ok(raw) => {
                    let value = channel.value(raw, scale, moment);
                    if !channel.answered {
                        sample.limits.extend(channel.read_limits(host, value));
                    }
                    (channel.answered, channel.lost) = (true, false);
                    if let Some(value) = value {
                        sample.push(ts_ms, kind, channel.key.clone(), Some(value), unit);
                    }
                }
                Err(reason) if channel.answered => {
                    self.look_again = true;
                    if !channel.lost {
                        channel.lost = true;
                        sample.lost.push(format!("{kind} {}: {reason}", channel.key));
                    }
                    sample.push(ts_ms, kind, channel.key.clone(), None, unit);
                }
                // Boards wire only some inputs of a chip: one that never answered is no sensor.
                Err(_) => {}
            }
        }
    }

    /// Takes over what was found now; gives back the channels that had answered and are gone.
    fn renew(&mut self, found: Vec<Channel>) -> Vec<Channel> {
        let mut known: BTreeMap<(&'static str, String), Channel> = std::mem::take(&mut self.channels)
            .into_iter()
            .map(|channel| ((channel.quantity.form().0, channel.key.clone()), channel))
            .collect();
        self.channels = found
            .into_iter()
            .map(|mut channel| {
                if let Some(old) = known.remove(&(channel.quantity.form().0, channel.key.clone())) {
                    (channel.answered, channel.lost, channel.energy) = (old.answered, old.lost, old.energy);
                }
                channel
            })
            .collect();
        known.into_values().filter(|channel| channel.answered).collect()
    }
}

impl Channel {
    fn read(&self, host: &Host) -> Result<i64, String> {
        if let Some(fault) = &self.fault
            && host.flag(fault).unwrap_or(false)
        {
            return Err(format!("{fault}: the chip reports a fault of the sensor"));
        }
        let raw = host.number(&self.path).map_err(|error: HostError| error.reason())?;
        if self.quantity == Quantity::Temperature && raw < COLDEST {
            return Err(format!("{}: `{raw}` is no temperature", self.path));
        }
        Ok(raw)
    }

    /// In our unit. The first look at a counter of energy gives none.
    fn value(&mut self, raw: i64, scale: f64, moment: Moment) -> Option<f64> {
        if self.quantity != Quantity::Energy {
            return Some(raw as f64 / scale);
        }
        let now = EnergyAt::new(u64::try_from(raw).ok()?, moment);
        self.energy.replace(now).and_then(|before| now.watts_since(before, None))
    }

    /// The limits that have a number now; a chip may hold the attribute and refuse to read it.
    fn read_limits(&self, host: &Host, observed: Option<f64>) -> Vec<HardwareLimit> {
        let (kind, unit, scale) = self.quantity.form();
        let limit = |file: &LimitFile| {
            let raw: i64 = host.number(&file.path).ok()?;
            Some(HardwareLimit {
                kind: kind.to_owned(),
                key: self.key.clone(),
                bound: file.bound,
                grade: file.grade,
                value: raw as f64 / scale,
                unit: unit.to_owned(),
                origin: file.path.clone(),
                observed,
                asserted: file.alarm.as_ref().and_then(|alarm| host.flag(alarm).ok()),
            })
        };
        self.limits.iter().filter_map(limit).collect()
    }
}

fn discover(host: &Host, names: &[String]) -> Vec<Channel> {
    let chips: Vec<(String, String)> = names
        .iter()
        .map(|name| {
            let directory = format!("{CLASS}/{name}");
            let chip = host.text(&format!("{directory}/name")).unwrap_or_else(|_| name.clone());
            (directory, clean(&chip))
        })
        .collect();
    let mut taken: BTreeMap<(&'static str, String), u32> = BTreeMap::new();
    let mut packages_seen = 0;
    let mut channels = Vec::new();
    for (directory, chip) in &chips {
        let shared = chips.iter().filter(|(_, other)| other == chip).count() > 1;
        let place = host.link_name(&format!("{directory}/device")).ok().filter(|_| shared);
        let long_name = place.map_or_else(|| chip.clone(), |place| format!("{chip}-{}", clean(&place)));
        let mut of_chip = inputs(host, directory);
        let subject = Subject::of(host, directory, chip, &of_chip, packages_seen);
        if matches!(subject, Subject::Package(..)) {
            packages_seen += 1;
        }
        of_chip.retain(|input| subject.wants(input));
        for input in of_chip {
            let mut key = subject.key(&input).unwrap_or_else(|| format!("hwmon/{long_name}/{}", input.label));
            let again = taken.entry((input.quantity.form().0, key.clone())).or_default();
            *again += 1;
            if *again > 1 {
                key = format!("{key}-{again}");
            }
            channels.push(Channel {
                path: format!("{directory}/{}", input.file),
                fault: input.fault.map(|file| format!("{directory}/{file}")),
                quantity: input.quantity,
                key,
                limits: input.limits.into_iter().map(|limit| limit.below(directory)).collect(),
                energy: None,
                answered: false,
                lost: false,
            });
        }
    }
    channels
}

/// An input as the chip's directory lists it.
struct Input {
    file: String,
    fault: Option<String>,
    limits: Vec<LimitFile>,
    quantity: Quantity,
    label: String,
}

impl LimitFile {
    fn of(files: &[String], channel: &str, quantity: Quantity) -> Vec<Self> {
        let named = |file: String| Some(file).filter(|file| files.contains(file));
        LIMITS
            .iter()
            // the most of a fan (amdgpu, applesmc, dell_smm) is what it can do, and under load it does
            .filter(|(_, bound, _)| quantity != Quantity::Fan || *bound == Bound::Lower)
            .filter_map(|(attribute, bound, grade)| {
                Some(Self {
                    path: named(format!("{channel}_{attribute}"))?,
                    alarm: named(format!("{channel}_{attribute}_alarm")),
                    bound: *bound,
                    grade: *grade,
                })
            })
            .collect()
    }

    fn below(self, directory: &str) -> Self {
        let below = |file: String| format!("{directory}/{file}");
        Self { path: below(self.path), alarm: self.alarm.map(below), ..self }
    }
}

fn inputs(host: &Host, directory: &str) -> Vec<Input> {
    let files = host.list(directory).unwrap_or_default();
    files
        .iter()
        .filter_map(|file| {
            let (channel, attribute) = file.split_once('_')?;
            let digits = channel.trim_start_matches(|c: char| c.is_ascii_alphabetic());
            let quantity = match (channel.strip_suffix(digits)?, attribute) {
                ("temp", "input") => Quantity::Temperature,
                ("fan", "input") => Quantity::Fan,
                ("in", "input") => Quantity::Voltage,
                ("curr", "input") => Quantity::Current,
                ("energy", "input") => Quantity::Energy,
                ("power", "input") => Quantity::Power,
                ("power", "average") if !files.contains(&format!("{channel}_input")) => Quantity::Power,
                _ => return None,
            };
            let fault = Some(format!("{channel}_fault")).filter(|fault| files.contains(fault));
            let label = host
                .text(&format!("{directory}/{channel}_label"))
                .ok()
                .map(|label| clean(&label))
                .filter(|label| !label.is_empty())
                .unwrap_or_else(|| channel.to_owned());
            let limits = LimitFile::of(&files, channel, quantity);
            Some(Input { file: file.clone(), fault, limits, quantity, label })
        })
        .collect()
}

/// What a chip sits on, where that has a name of its own.
enum Subject {
    /// A processor package, and the label of its temperature.
    Package(u32, String),
    /// A disk.
    Disk(String),
    /// A GPU, by its PCI address.
    Gpu(String),
    Other,
}

impl Subject {
    fn of(host: &Host, directory: &str, chip: &str, inputs: &[Input], packages_seen: u32) -> Self {
        let labels = || inputs.iter().map(|input| input.label.as_str());
        match chip {
            "coretemp" => labels()
                .find_map(|label| {
                    // the second is of kernels before 4.12
                    let number =
                        label.strip_prefix("Package_id_").or_else(|| label.strip_prefix("Physical_id_"))?;
                    let package = number.parse().ok()?;
                    Some(Self::Package(package, label.to_owned()))
                })
                .unwrap_or(Self::Other),
            // Tdie is the temperature itself; Tctl has an offset on some models, and is all that newer ones have.
            "k10temp" | "zenpower" => ["Tdie", "Tctl"]
                .into_iter()
                .find(|wanted| labels().any(|label| label == *wanted))
                .map_or(Self::Other, |label| Self::Package(packages_seen, label.to_owned())),
            "drivetemp" => {
                first_in(host, &format!("{directory}/device/block")).map_or(Self::Other, Self::Disk)
            }
            "nvme" => nvme_disk(host, directory).map_or(Self::Other, Self::Disk),
            "amdgpu" | "radeon" | "i915" | "xe" | "nouveau" => {
                host.link_name(&format!("{directory}/device")).map_or(Self::Other, Self::Gpu)
            }
            _ => Self::Other,
        }
    }

    /// A package's temperature is that of its hottest core, so the cores are not sampled beside it.
    fn wants(&self, input: &Input) -> bool {
        !(matches!(self, Self::Package(..)) && input.label.starts_with("Core_"))
    }

    fn key(&self, input: &Input) -> Option<String> {
        let is_first = input.file == "temp1_input";
        match self {
            Self::Package(number, label) if *label == input.label => Some(format!("cpu/{number}")),
            Self::Disk(disk) if is_first => Some(format!("disk/{disk}")),
            Self::Gpu(address) => Some(format!("gpu/{address}/{}", input.label)),
            Self::Package(..) | Self::Disk(_) | Self::Other => None,
        }
    }
}

fn first_in(host: &Host, directory: &str) -> Option<String> {
    host.list(directory).ok()?.into_iter().next()
}

/// The first namespace of the controller that a chip sits on, named as the kernel shows it: the hidden path
/// `nvme0c1n1` of multipath NVMe stands for `nvme0n1`. Without a namespace, the controller.
fn nvme_disk(host: &Host, directory: &str) -> Option<String> {
    let controller = host.link_name(&format!("{directory}/device")).ok()?;
    let entries = host.list(&format!("{directory}/device")).unwrap_or_default();
    let namespace = entries.into_iter().find_map(|entry| {
        let (owner, namespace) = entry.strip_prefix("nvme")?.rsplit_once('n')?;
        let subsystem = owner.split_once('c').map_or(owner, |(subsystem, _)| subsystem);
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        (digits(subsystem) && digits(namespace)).then(|| format!("nvme{subsystem}n{namespace}"))
    });
    Some(namespace.unwrap_or(controller))
}

/// A label that can be part of a key.
pub(super) fn clean(text: &str) -> String {
    text.trim()
        .chars()
        .map(|character| if character.is_whitespace() || character == '/' { '_' } else { character })
        .collect()
}
