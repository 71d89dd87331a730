//! Parts that no stage can have tested since nothing showed them: what hangs on controllers that no driver works. By the
//! inventory alone; a GPU without a driver is left to the stage GPU, which says so itself.

use vetting_protocol::inventory::{Controller, Inventory, PciDevice};

/// Controllers that one sentence names; the inventory has all.
const NAMED: usize = 10;

/// What was not tested for want of a driver: a sentence a kind of controller.
pub(crate) fn without_driver(inventory: &Inventory) -> Vec<String> {
    let of_kind = |kind: Controller| {
        let without = inventory.pci.iter().filter(|device| device.working_driver().is_none());
        without.filter(move |device| device.controller() == Some(kind)).map(named).collect::<Vec<String>>()
    };
    let storage = of_kind(Controller::Storage);
    let network = of_kind(Controller::Network);
    let storage = match storage.as_slice() {
        [] => None,
        [one] => Some(format!(
            "No driver took storage controller {one}: disks behind it were not seen and not tested."
        )),
        several => Some(format!(
            "No driver took storage controllers {}: disks behind them were not seen and not tested.",
            listed(several)
        )),
    };
    let network = match network.as_slice() {
        [] => None,
        [one] => Some(format!("No driver took network controller {one}: it was not tested.")),
        several => {
            Some(format!("No driver took network controllers {}: they were not tested.", listed(several)))
        }
    };
    storage.into_iter().chain(network).collect()
}

fn named(device: &PciDevice) -> String {
    let PciDevice { address, vendor_id, device_id, driver, .. } = device;
    let model = device.model().unwrap_or_else(|| format!("{vendor_id}:{device_id}"));
    let kept = driver.as_ref().map(|driver| format!(", only kept by {driver}")).unwrap_or_default();
    format!("{address} ({model}{kept})")
}

fn listed(names: &[String]) -> String {
    let more = names.len().saturating_sub(NAMED);
    let first = names.iter().take(NAMED).cloned().collect::<Vec<String>>().join(", ");
    if more == 0 { first } else { format!("{first} and {more} more") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;

    fn function(address: &str, class: &str, device: Option<&str>, driver: Option<&str>) -> PciDevice {
        PciDevice {
            address: address.to_owned(),
            vendor_id: "1000".to_owned(),
            device_id: "0060".to_owned(),
            class: class.to_owned(),
            vendor: Some("Broadcom / LSI".to_owned()),
            device: device.map(str::to_owned),
            driver: driver.map(str::to_owned),
            numa_node: None,
            link: None,
        }
    }

    fn told(functions: Vec<PciDevice>) -> Vec<String> {
        let (mut inventory, _) = fixtures::server();
        inventory.pci = functions;
        without_driver(&inventory)
    }

    #[test]
    fn controllers_without_a_driver_are_named_and_no_other_function() {
        let raid = function("0000:03:00.0", "010400", Some("MegaRAID SAS 1078"), None);
        assert_eq!(
            told(vec![
                raid.clone(),
                function("0000:04:00.0", "010700", None, Some("mpt3sas")),
                function("0000:05:00.0", "060400", None, None),
                function("0000:06:00.0", "030000", None, None),
                function("0000:07:00.0", "020000", None, None),
            ]),
            [
                "No driver took storage controller 0000:03:00.0 (Broadcom / LSI MegaRAID SAS 1078): disks behind it \
                 were not seen and not tested.",
                "No driver took network controller 0000:07:00.0 (Broadcom / LSI device 0060): it was not tested.",
            ]
        );
        let unknown =
            PciDevice { vendor: None, device: None, ..function("0000:08:00.0", "010802", None, None) };
        assert_eq!(
            told(vec![raid, unknown]),
            ["No driver took storage controllers 0000:03:00.0 (Broadcom / LSI MegaRAID SAS 1078), \
              0000:08:00.0 (1000:0060): disks behind them were not seen and not tested."]
        );
        assert_eq!(told(vec![function("0000:04:00.0", "010802", None, Some("nvme"))]), Vec::<String>::new());
        let [kept]: [String; 1] =
            told(vec![function("0000:04:00.0", "010802", None, Some("vfio-pci"))]).try_into().unwrap();
        let named = "0000:04:00.0 (Broadcom / LSI device 0060, only kept by vfio-pci): disks behind it";
        assert!(kept.contains(named), "{kept}");
    }

    #[test]
    fn many_are_counted() {
        let many = (0..12).map(|slot| function(&format!("0000:07:{slot:02x}.0"), "020000", None, None));
        let [sentence]: [String; 1] = told(many.collect()).try_into().unwrap();
        assert!(sentence.contains("0000:07:09.0 (") && !sentence.contains("0000:07:0a.0"), "{sentence}");
        assert!(sentence.ends_with(" and 2 more: they were not tested."), "{sentence}");
    }
}
