//! Which PCI functions are GPUs to vet, and which displays are none.

use vetting_protocol::inventory::PciDevice;

use crate::inventory::is_screen;

/// Where Intel's processors have the GPU that is a part of them.
const INTEGRATED: &str = "0000:00:02.";

/// The GPUs of a machine.
pub(super) struct Cards {
    /// Those to vet, by PCI address.
    pub(super) gpus: Vec<Card>,
    /// Displays that are none, in words.
    pub(super) left_out: Vec<String>,
}

/// A GPU.
pub(super) struct Card {
    /// PCI address.
    pub(super) address: String,
    /// Who made it.
    pub(super) maker: Maker,
    /// The kernel driver bound to it.
    pub(super) driver: Option<String>,
    is_worked: bool,
    model: String,
}

/// Who made a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Maker {
    Nvidia,
    Amd,
    Intel,
    Other,
}

impl Cards {
    /// Display controllers (PCI class 03) and processing accelerators (class 12) among these functions.
    pub(super) fn of(functions: &[PciDevice]) -> Self {
        let (mut gpus, mut left_out) = (Vec::new(), Vec::new());
        for function in functions {
            if !function.class.starts_with("03") && !function.class.starts_with("1200") {
                continue;
            }
            let words = [&function.vendor, &function.device].map(|part| part.as_deref().unwrap_or("unknown"));
            let card = Card {
                address: function.address.clone(),
                maker: match function.vendor_id.as_str() {
                    "10de" => Maker::Nvidia,
                    "1002" => Maker::Amd,
                    "8086" => Maker::Intel,
                    _ => Maker::Other,
                },
                driver: function.driver.clone(),
                is_worked: function.working_driver().is_some(),
                model: words.join(" "),
            };
            let integrated = card.maker == Maker::Intel && card.address.starts_with(INTEGRATED);
            if integrated || is_screen(function) {
                left_out.push(card.name());
            } else {
                gpus.push(card);
            }
        }
        Self { gpus, left_out }
    }
}

impl Card {
    /// Address and model, for people.
    pub(super) fn name(&self) -> String {
        format!("{} ({})", self.address, self.model)
    }

    /// Whether a driver has it that may work it; one of a virtual machine's host only passes it on.
    pub(super) fn is_worked(&self) -> bool {
        self.is_worked
    }

    /// Why it cannot be asked, where it is not this driver that has it.
    pub(super) fn without(&self, wanted: &[&str]) -> Option<String> {
        let has = self.driver.as_deref();
        if has.is_some_and(|driver| wanted.contains(&driver)) {
            return None;
        }
        let bound = has.map_or_else(
            || "no driver is bound to it".to_owned(),
            |driver| format!("it is bound to {driver}"),
        );
        Some(format!("{}: {bound}, and only {} can tell of its health", self.name(), wanted.join(" or ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::gpu::tests::function;

    #[test]
    fn displays_of_bmcs_virtual_machines_and_cpus_are_left_out_by_name() {
        let functions = [
            function("0000:00:02.0", "030000", "8086", Some("i915")),
            function("0000:01:00.0", "030000", "1234", None),
            function("0000:02:00.0", "030000", "102b", Some("mgag200")),
            function("0000:03:00.0", "030000", "1a03", Some("ast")),
            function("0000:04:00.0", "038000", "1af4", None),
            function("0000:05:00.0", "020000", "10de", None),
            function("0000:3b:00.0", "030200", "10de", Some("nvidia")),
            function("0000:5e:00.0", "120000", "1002", Some("amdgpu")),
            function("0000:86:00.0", "038000", "8086", Some("xe")),
            function("0000:87:00.0", "030000", "1d17", None),
        ];
        let Cards { gpus, left_out } = Cards::of(&functions);
        let gpus: Vec<_> = gpus.iter().map(|card| (card.address.as_str(), card.maker)).collect();
        assert_eq!(
            gpus,
            [
                ("0000:3b:00.0", Maker::Nvidia),
                ("0000:5e:00.0", Maker::Amd),
                ("0000:86:00.0", Maker::Intel),
                ("0000:87:00.0", Maker::Other)
            ]
        );
        assert_eq!(left_out.len(), 5);
        assert!(left_out[1].starts_with("0000:01:00.0"));
    }

    #[test]
    fn the_screens_of_other_hypervisors_are_left_out_too() {
        let screen = |address: &str, vendor_id: &str, device_id: &str| PciDevice {
            device_id: device_id.to_owned(),
            ..function(address, "030000", vendor_id, None)
        };
        let screens = [screen("0000:00:08.0", "1414", "5353"), screen("0000:00:09.0", "80ee", "beef")];
        let Cards { gpus, left_out } = Cards::of(&screens);
        assert_eq!((gpus.len(), left_out.len()), (0, 2));
    }
}
