//! Prints what NVIDIA's management library says of every GPU, as one JSON document ([`vetting_nvml_probe::Document`]).
//!
//! A program of its own because the agent is static and cannot load a library (glibc, dynamically linked). It changes
//! nothing and takes no arguments. It ends with 0 whenever it printed the document, also where there is no library, no
//! driver or no GPU: the document says so.

use std::io::Write as _;
use std::process::ExitCode;

use nvml_wrapper::bitmasks::device::ThrottleReasons;
use nvml_wrapper::enum_wrappers::device::{
    Clock, EccCounter, MemoryError, RetirementCause, TemperatureSensor, TemperatureThreshold,
};
use nvml_wrapper::error::{NvmlError, nvml_sym, nvml_try};
use nvml_wrapper::{Device as Handle, Nvml as Library};
use vetting_nvml_probe::{
    Cause, Device, DeviceState, Document, EccCounters, EccMode, FORMAT, Nvml, Pcie, Reading, Readings,
    RemappedRows, RetiredPages, Trouble,
};

/// By the name that the driver's own package gives it; without the number only development files have it.
const LIBRARY: &str = "libnvidia-ml.so.1";

fn main() -> ExitCode {
    let document = Document { format: FORMAT, nvml: ask() };
    let mut text = match serde_json::to_string_pretty(&document) {
        Ok(text) => text,
        Err(error) => return failed(&error.to_string()),
    };
    text.push('\n');
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error.to_string()),
    }
}

fn failed(why: &str) -> ExitCode {
    // without stderr there is only the exit code left
    let _ = writeln!(std::io::stderr(), "nvml-probe: the document cannot be printed: {why}");
    ExitCode::FAILURE
}

fn ask() -> Nvml {
    let library = match Library::builder().lib_path(LIBRARY.as_ref()).init() {
        Ok(library) => library,
        Err(error @ (NvmlError::LibloadingError(_) | NvmlError::LibraryNotFound)) => {
            return Nvml::NoLibrary { message: error.to_string() };
        }
        Err(error @ NvmlError::DriverNotLoaded) => return Nvml::NoDriver { message: error.to_string() },
        Err(error) => return Nvml::Failed(trouble(&error)),
    };
    let count = match library.device_count() {
        Ok(count) => count,
        Err(error) => return Nvml::Failed(trouble(&error)),
    };
    let device = |index| Device {
        index,
        state: match library.device_by_index(index) {
            Ok(handle) => DeviceState::Opened(Box::new(readings(&library, &handle))),
            Err(error) => DeviceState::Unopened(trouble(&error)),
        },
    };
    Nvml::Answered {
        driver_version: reading(library.sys_driver_version()),
        nvml_version: reading(library.sys_nvml_version()),
        devices: (0..count).map(device).collect(),
    }
}

fn trouble(error: &NvmlError) -> Trouble {
    let cause = match error {
        NvmlError::GpuLost
        | NvmlError::ResetRequired
        | NvmlError::InsufficientPower
        | NvmlError::IrqIssue
        | NvmlError::CorruptedInfoROM => Cause::Hardware,
        _ => Cause::Other,
    };
    Trouble { cause, message: error.to_string() }
}

fn reading<T>(answer: Result<T, NvmlError>) -> Reading<T> {
    match answer {
        Ok(value) => Reading::Value(value),
        Err(NvmlError::NotSupported) => Reading::NotSupported,
        Err(error) => Reading::Failed(trouble(&error)),
    }
}

fn readings(library: &Library, gpu: &Handle<'_>) -> Readings {
    let threshold = |kind| reading(gpu.temperature_threshold(kind));
    let (utilization, memory) = (gpu.utilization_rates(), gpu.memory_info());
    let (gpu_utilization, memory_utilization) = both(utilization, |rates| (rates.gpu, rates.memory));
    let (memory_total_bytes, memory_used_bytes) = both(memory, |memory| (memory.total, memory.used));
    Readings {
        name: reading(gpu.name()),
        serial: reading(gpu.serial()),
        uuid: reading(gpu.uuid()),
        pci_address: reading(
            gpu.pci_info().map(|pci| format!("{:04x}:{:02x}:{:02x}.0", pci.domain, pci.bus, pci.device)),
        ),
        vbios_version: reading(gpu.vbios_version()),
        ecc_mode: reading(
            gpu.is_ecc_enabled()
                .map(|mode| EccMode { current: mode.currently_enabled, pending: mode.pending_enabled }),
        ),
        ecc: ecc(gpu),
        remapped_rows: reading(remapped_rows(library, gpu)),
        retired_pages: RetiredPages {
            single_bit: retired(gpu, RetirementCause::MultipleSingleBitEccErrors),
            double_bit: retired(gpu, RetirementCause::DoubleBitEccError),
            pending: reading(gpu.are_pages_pending_retired()),
        },
        pcie: Pcie {
            width: reading(gpu.current_pcie_link_width()),
            max_width: reading(gpu.max_pcie_link_width()),
            generation: reading(gpu.current_pcie_link_gen()),
            max_generation: reading(gpu.max_pcie_link_gen()),
            replays: reading(gpu.pcie_replay_counter()),
        },
        temperature_celsius: reading(gpu.temperature(TemperatureSensor::Gpu)),
        slowdown_celsius: threshold(TemperatureThreshold::Slowdown),
        shutdown_celsius: threshold(TemperatureThreshold::Shutdown),
        power_milliwatts: reading(gpu.power_usage()),
        power_limit_milliwatts: reading(gpu.enforced_power_limit()),
        sm_mhz: reading(gpu.clock_info(Clock::SM)),
        max_sm_mhz: reading(gpu.max_clock_info(Clock::SM)),
        memory_mhz: reading(gpu.clock_info(Clock::Memory)),
        max_memory_mhz: reading(gpu.max_clock_info(Clock::Memory)),
        clocks_event_reasons: reading(
            gpu.current_throttle_reasons().map(|reasons: ThrottleReasons| reasons.bits()),
        ),
        gpu_utilization_percent: gpu_utilization,
        memory_utilization_percent: memory_utilization,
        memory_total_bytes,
        memory_used_bytes,
    }
}

/// Two readings of one answer.
fn both<A, T>(answer: Result<A, NvmlError>, parts: impl FnOnce(A) -> (T, T)) -> (Reading<T>, Reading<T>) {
    match answer {
        Ok(answer) => {
            let (one, other) = parts(answer);
            (Reading::Value(one), Reading::Value(other))
        }
        Err(NvmlError::NotSupported) => (Reading::NotSupported, Reading::NotSupported),
        Err(error) => (Reading::Failed(trouble(&error)), Reading::Failed(trouble(&error))),
    }
}

fn ecc(gpu: &Handle<'_>) -> EccCounters {
    let count = |error, counter| reading(gpu.total_ecc_errors(error, counter));
    EccCounters {
        volatile_corrected: count(MemoryError::Corrected, EccCounter::Volatile),
        volatile_uncorrected: count(MemoryError::Uncorrected, EccCounter::Volatile),
        aggregate_corrected: count(MemoryError::Corrected, EccCounter::Aggregate),
        aggregate_uncorrected: count(MemoryError::Uncorrected, EccCounter::Aggregate),
    }
}

fn retired(gpu: &Handle<'_>, cause: RetirementCause) -> Reading<u64> {
    reading(gpu.retired_pages(cause).map(|pages| pages.len() as u64))
}

/// The wrapper has no call for it yet.
fn remapped_rows(library: &Library, gpu: &Handle<'_>) -> Result<RemappedRows, NvmlError> {
    let call = nvml_sym(library.lib().nvmlDeviceGetRemappedRows.as_ref())?;
    let (mut correctable, mut uncorrectable, mut pending, mut failure) = (0, 0, 0, 0);
    // SAFETY: the symbol has this signature (nvml.h); the handle is of this library, which is loaded and initialised as
    // long as `library` lives; the four places to write to outlive the call
    nvml_try(unsafe {
        call(gpu.handle(), &raw mut correctable, &raw mut uncorrectable, &raw mut pending, &raw mut failure)
    })?;
    Ok(RemappedRows { correctable, uncorrectable, pending: pending != 0, failure: failure != 0 })
}
