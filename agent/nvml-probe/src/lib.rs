//! The document that `nvml-probe` prints: what NVIDIA's management library (NVML) says of every GPU it knows.
//!
//! Owns the form only. Each reading is a value, or says that the GPU has no such thing, or why there is no answer:
//! nothing is left out and nothing stands for a value that nobody gave. Unknown keys are refused.

use serde::{Deserialize, Serialize};

/// The form of the document; another number is another form.
pub const FORMAT: u32 = 1;

/// Everything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// [`FORMAT`].
    pub format: u32,
    /// What the library said.
    pub nvml: Nvml,
}

/// What became of asking the library.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Nvml {
    /// It is not installed: no `libnvidia-ml.so.1`.
    NoLibrary {
        /// The loader's words.
        message: String,
    },
    /// It is there, the kernel driver is not.
    NoDriver {
        /// The library's words.
        message: String,
    },
    /// It gave no list of GPUs.
    Failed(Trouble),
    /// It answered.
    Answered {
        /// Version of the driver.
        driver_version: Reading<String>,
        /// Version of the library.
        nvml_version: Reading<String>,
        /// Every GPU that it counts, those that cannot be opened among them.
        devices: Vec<Device>,
    },
}

/// One GPU by its number in the library's list, 0-based.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// Its number.
    pub index: u32,
    /// What it says.
    pub state: DeviceState,
}

/// What one GPU says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum DeviceState {
    /// It cannot be opened.
    Unopened(Trouble),
    /// It answers.
    Opened(Box<Readings>),
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trouble {
    /// Whose fault it is, as far as the library tells.
    pub cause: Cause,
    /// The library's words.
    pub message: String,
}

/// Whose fault it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The GPU's: it is lost, needs a reset, lacks power, its interrupt fails or its InfoROM is corrupt.
    Hardware,
    /// Anything else.
    Other,
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reading<T> {
    /// It is this.
    Value(T),
    /// This GPU has no such thing, or it is switched off.
    NotSupported,
    /// There is no answer.
    Failed(Trouble),
}

impl<T> Reading<T> {
    /// The value, if there is one.
    pub fn value(&self) -> Option<&T> {
        match self {
            Self::Value(value) => Some(value),
            Self::NotSupported | Self::Failed(_) => None,
        }
    }

    /// Why there is no answer, if there should be one.
    pub fn trouble(&self) -> Option<&Trouble> {
        match self {
            Self::Failed(trouble) => Some(trouble),
            Self::Value(_) | Self::NotSupported => None,
        }
    }
}

/// What a GPU that answers says. Clocks in MHz, temperatures in degrees Celsius, power in milliwatts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Readings {
    /// Model.
    pub name: Reading<String>,
    /// Serial number of the board; only boards for data centres have one.
    pub serial: Reading<String>,
    /// `GPU-…`.
    pub uuid: Reading<String>,
    /// As sysfs writes it: `0000:3b:00.0`.
    pub pci_address: Reading<String>,
    /// Version of its firmware.
    pub vbios_version: Reading<String>,
    /// Whether ECC is on, now and after the next start.
    pub ecc_mode: Reading<EccMode>,
    /// Errors of its memories, where ECC is on.
    pub ecc: EccCounters,
    /// Rows of its memory that were replaced by spare ones (Ampere and later).
    pub remapped_rows: Reading<RemappedRows>,
    /// Pages that the driver gave up (before Ampere).
    pub retired_pages: RetiredPages,
    /// Its link.
    pub pcie: Pcie,
    /// The GPU's temperature.
    pub temperature_celsius: Reading<u32>,
    /// From here on it slows itself down.
    pub slowdown_celsius: Reading<u32>,
    /// Here it switches itself off.
    pub shutdown_celsius: Reading<u32>,
    /// What it draws.
    pub power_milliwatts: Reading<u32>,
    /// What it may draw.
    pub power_limit_milliwatts: Reading<u32>,
    /// Clock of its multiprocessors.
    pub sm_mhz: Reading<u32>,
    /// The highest such.
    pub max_sm_mhz: Reading<u32>,
    /// Clock of its memory.
    pub memory_mhz: Reading<u32>,
    /// The highest such.
    pub max_memory_mhz: Reading<u32>,
    /// Why its clocks are not higher: NVML's `nvmlClocksEventReasons`, one bit a reason.
    pub clocks_event_reasons: Reading<u64>,
    /// Part of the time in which it computed, percent.
    pub gpu_utilization_percent: Reading<u32>,
    /// Part of the time in which its memory was read or written, percent.
    pub memory_utilization_percent: Reading<u32>,
    /// Size of its memory.
    pub memory_total_bytes: Reading<u64>,
    /// Of that, used.
    pub memory_used_bytes: Reading<u64>,
}

/// Whether ECC is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EccMode {
    /// Now.
    pub current: bool,
    /// After the next start.
    pub pending: bool,
}

/// Errors of a GPU's memories. Volatile: since the driver was loaded; aggregate: in its life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the names say it")]
pub struct EccCounters {
    pub volatile_corrected: Reading<u64>,
    pub volatile_uncorrected: Reading<u64>,
    pub aggregate_corrected: Reading<u64>,
    pub aggregate_uncorrected: Reading<u64>,
}

/// Rows of memory that were replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemappedRows {
    /// For corrected errors.
    pub correctable: u32,
    /// For uncorrected errors.
    pub uncorrectable: u32,
    /// A row waits for the next reset of the GPU to be replaced.
    pub pending: bool,
    /// A row could not be replaced: there are no spare ones.
    pub failure: bool,
}

/// Pages that the driver gave up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetiredPages {
    /// For many corrected errors.
    pub single_bit: Reading<u64>,
    /// For an uncorrected error.
    pub double_bit: Reading<u64>,
    /// A page waits for the next start to be given up.
    pub pending: Reading<bool>,
}

/// A GPU's PCIe link, as the GPU sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pcie {
    /// Lanes in use.
    pub width: Reading<u32>,
    /// Lanes that GPU and slot can use.
    pub max_width: Reading<u32>,
    /// Generation in use; an idle link goes down.
    pub generation: Reading<u32>,
    /// Highest generation of GPU and slot.
    pub max_generation: Reading<u32>,
    /// Packets sent again.
    pub replays: Reading<u32>,
}
