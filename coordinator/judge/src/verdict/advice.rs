//! What to do next, by what was found: what a person does to the machine, in a sentence or two.

use vetting_protocol::ids::StageName;

/// After a stage that found the hardware at fault.
pub(super) fn after_failure(stage: StageName) -> &'static str {
    match stage {
        StageName::Inventory | StageName::Firmware => {
            "Look at the part that could not be read, then vet again."
        }
        StageName::SpecValidate => "Correct the machine, or its spec if that is wrong, then vet again.",
        StageName::Smart | StageName::Storage => "Replace the disk, then vet again.",
        StageName::Memory => {
            "Replace the memory module that is named, or find it by swapping, then vet again."
        }
        StageName::Network => {
            "Check the cable, its plugs and the switch port, try another one, replace the card, then vet again."
        }
        StageName::Gpu => {
            "Reseat the GPU and its power cables, look at its cooling, replace it if it goes on, then vet again."
        }
        StageName::Psu => "Check the cord and the bay of that supply, replace it, then vet again.",
        StageName::Burn => {
            "Look at the part that is named, and at cooling and power: it may only fail when all work, then vet again."
        }
        StageName::Reboot => {
            "Reseat the part that went missing and its cables, or replace it, then vet again."
        }
        StageName::Memtest => {
            "Replace the DIMM that holds the failing addresses; swap DIMMs to find it, then vet again."
        }
        StageName::CpuStress => "Find the CPU or DIMM by swapping, replace it, then vet again.",
    }
}

/// After a breach of a rule about this quantity, of this part.
pub(super) fn after_breach(kind: &str, key: &str) -> String {
    let part = key.split('/').next().unwrap_or(key);
    match kind {
        "temp" => "Check fans, heat sinks and air flow there.".to_owned(),
        "psu" if key == "logged_faults" => {
            "Read the entries in the details of stage PSU: they name the supply. Clear the log once it is known why.".to_owned()
        }
        "psu" => format!("Check the cord and the bay of {part}, then replace it."),
        "volt" | "power" | "current" => "Check the power supply with the BMC's own reading.".to_owned(),
        "fan" => "Check this fan: that it turns, and that nothing blocks it.".to_owned(),
        "sel" => "Read the new entries in the run's event log: they name the part.".to_owned(),
        "kernel_log" => "Read the kernel's messages in the run's event log: they name the part.".to_owned(),
        "edac" => match key.split('/').collect::<Vec<&str>>().as_slice() {
            [_, dimm, _] => format!("Reseat the DIMM {dimm}; replace it if that does not help."),
            _ => format!("Find the DIMM of memory controller {part} by swapping, then replace it."),
        },
        "aer" | "pcie" => {
            format!("Reseat the card at PCI address {part}, its riser or cable; try another slot.")
        }
        "nic" => format!("Replace the cable or transceiver of {part}, then look at its switch port."),
        "throttle" => "Check fans, heat sinks and air flow of that CPU.".to_owned(),
        "smart_attr" | "nvme" | "sas" | "badblocks" | "kernel" => {
            format!("Replace the disk {part}, or its cable if only transfers failed.")
        }
        "fio" => format!("Check the link speed and the cable of {part}, then replace it."),
        "stress" if key == "memory/coverage" => {
            "The memory pass reached too little: free memory, or a larger share in the profile.".to_owned()
        }
        "stress" => {
            "Find the CPU or DIMM: look for machine checks and ECC errors, swap and repeat.".to_owned()
        }
        _ => "Look at this part, then vet again.".to_owned(),
    }
}
