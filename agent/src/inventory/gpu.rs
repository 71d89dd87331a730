//! Graphics processors and accelerators: which they are by PCI, who they are by their drivers.

use vetting_nvml_probe::{DeviceState, Nvml, Readings};
use vetting_protocol::inventory::{Gpu, PciDevice};

use super::absences::Absences;
use super::pci;
use crate::cancel::Cancel;
use crate::host::Host;
use crate::tools::nvml;
use crate::tools::runner::ToolRunner;

/// Display controllers (class 03) and processing accelerators (class 12), without the VGA of BMCs and the screens of virtual
/// machines. NVIDIA's are asked by nvml-probe, and only where their driver has them.
pub(super) fn gpus(
    host: &Host,
    tools: &dyn ToolRunner,
    devices: &[PciDevice],
    absent: &mut Absences,
) -> Vec<Gpu> {
    let mut gpus = pci::gpus(devices);
    let has_driver = |gpu: &Gpu, driver: &str| gpu.driver.as_deref() == Some(driver);
    if gpus.iter().any(|gpu| has_driver(gpu, "nvidia")) {
        let answers = nvidia(tools, absent);
        for gpu in gpus.iter_mut().filter(|gpu| has_driver(gpu, "nvidia")) {
            match answers.iter().find(|answer| answer.pci_address.value() == Some(&gpu.pci_address)) {
                Some(answer) => {
                    gpu.serial = answer.serial.value().or(answer.uuid.value()).cloned();
                    gpu.vbios_version = answer.vbios_version.value().cloned();
                    gpu.memory_bytes = answer.memory_total_bytes.value().copied();
                }
                None => absent.note(format!("gpu.{}", gpu.pci_address), "nvml-probe does not tell of it"),
            }
        }
    }
    for gpu in gpus.iter_mut().filter(|gpu| has_driver(gpu, "amdgpu")) {
        let below = |file: &str| format!("/sys/bus/pci/devices/{}/{file}", gpu.pci_address);
        // not every model has each of them
        let text = |file: &str| host.text(&below(file)).ok().filter(|text| !text.is_empty());
        gpu.serial = text("serial_number").or_else(|| text("unique_id"));
        gpu.vbios_version = text("vbios_version");
        gpu.memory_bytes = host.number(&below("mem_info_vram_total")).ok();
    }
    gpus
}

/// What those that answer say.
fn nvidia(tools: &dyn ToolRunner, absent: &mut Absences) -> Vec<Readings> {
    let answer = tools.run(&nvml::invocation(), &Cancel::new(), &mut |_, _| {});
    match answer.and_then(|finished| nvml::parse(&finished)) {
        Ok(Nvml::Answered { devices, .. }) => {
            let opened = devices.into_iter().filter_map(|device| match device.state {
                DeviceState::Opened(readings) => Some(*readings),
                DeviceState::Unopened(trouble) => {
                    absent.note(format!("gpu.{}", device.index), trouble.message);
                    None
                }
            });
            opened.collect()
        }
        Ok(Nvml::NoLibrary { message } | Nvml::NoDriver { message }) => {
            absent.note("gpu", message);
            Vec::new()
        }
        Ok(Nvml::Failed(trouble)) => {
            absent.note("gpu", trouble.message);
            Vec::new()
        }
        Err(error) => {
            absent.note("gpu", error.reason());
            Vec::new()
        }
    }
}
