//! Network interfaces that stand for hardware: physical functions on PCI, virtio or USB. Bridges, bonds, tunnels and
//! virtual functions are left out.

use vetting_protocol::ids::MacAddress;
use vetting_protocol::inventory::{Nic, PciDevice};

use super::absences::Absences;
use super::bmc::{ask, error_chain};
use crate::host::Host;
use crate::tools::ethtool;
use crate::tools::runner::ToolRunner;

const CLASS: &str = "/sys/class/net";

/// `ARPHRD_ETHER` of the kernel's `if_arp.h`.
const ETHERNET: u32 = 1;
/// `IFF_UP` of the kernel's `if.h`.
const IFF_UP: u64 = 1;
/// `NET_ADDR_PERM` of the kernel's `netdevice.h`: the address is the one burnt in.
const ADDRESS_IS_PERMANENT: u32 = 0;

/// Interfaces that stand for hardware, sorted by name.
pub(super) fn nics(
    host: &Host,
    tools: &dyn ToolRunner,
    devices: &[PciDevice],
    absent: &mut Absences,
) -> Vec<Nic> {
    let Some(names) = absent.value("nics", host.list(CLASS)) else { return Vec::new() };
    names
        .into_iter()
        .filter(|name| stands_for_hardware(host, name))
        .map(|name| nic(host, tools, devices, name, absent))
        .collect()
}

/// Whether an interface that stands for hardware is up and has no carrier, or not yet.
pub(crate) fn without_carrier(host: &Host) -> bool {
    host.list(CLASS).unwrap_or_default().iter().any(|name| {
        stands_for_hardware(host, name)
            && !is_down(host, name)
            && !host.flag(&format!("{CLASS}/{name}/carrier")).unwrap_or(false)
    })
}

fn stands_for_hardware(host: &Host, name: &str) -> bool {
    let directory = format!("{CLASS}/{name}");
    host.exists(&format!("{directory}/device")) && !host.exists(&format!("{directory}/device/physfn"))
}

/// Administratively.
fn is_down(host: &Host, name: &str) -> bool {
    host.hex(&format!("{CLASS}/{name}/flags")).is_ok_and(|flags| flags & IFF_UP == 0)
}

fn nic(
    host: &Host,
    tools: &dyn ToolRunner,
    devices: &[PciDevice],
    name: String,
    absent: &mut Absences,
) -> Nic {
    let directory = format!("{CLASS}/{name}");
    let what = |field: &str| format!("nics.{name}.{field}");
    let pci_address = pci_address(host, &directory);
    let device =
        pci_address.as_ref().and_then(|address| devices.iter().find(|device| device.address == *address));
    // `carrier` gives EINVAL while the interface is down; `speed` and `duplex` mean nothing without a carrier.
    let link = if is_down(host, &name) {
        absent.note(what("link"), "the interface is administratively down");
        None
    } else {
        absent.value(&what("link"), host.flag(&format!("{directory}/carrier")))
    };
    let up = link == Some(true);
    let speed_mbps = host.number::<u32>(&format!("{directory}/speed")).ok().filter(|speed| *speed > 0 && up);
    if up && speed_mbps.is_none() {
        absent.note(what("speed_mbps"), "the driver does not say");
    }
    // drivers that know no speed (USB host interfaces of BMCs) say `half` of a duplex that they do not know either
    let full_duplex = match host.text(&format!("{directory}/duplex")).as_deref() {
        Ok("full") if speed_mbps.is_some() => Some(true),
        Ok("half") if speed_mbps.is_some() => Some(false),
        Ok(_) | Err(_) => None,
    };
    let driver = absent.value(&what("driver"), host.link_name(&format!("{directory}/device/driver")));
    // virtio has no firmware; what is on no PCI function of its own (USB) tells none either.
    let has_firmware = device.is_some() && driver.as_deref() != Some("virtio_net");
    Nic {
        mac: mac(host, tools, &name, absent),
        model: device.and_then(PciDevice::model),
        firmware: if has_firmware { firmware(tools, &name, absent) } else { None },
        driver,
        pci_address,
        speed_mbps,
        full_duplex,
        link,
        name,
    }
}

/// The PCI function that the interface is, itself or through virtio.
fn pci_address(host: &Host, directory: &str) -> Option<String> {
    let device = host.resolve(&format!("{directory}/device")).ok()?;
    let function = match host.link_name(&format!("{device}/subsystem")).ok()?.as_str() {
        "pci" => device,
        "virtio" => device.rsplit_once('/')?.0.to_owned(),
        _ => return None,
    };
    let name = function.rsplit_once('/')?.1;
    host.exists(&format!("/sys/bus/pci/devices/{name}")).then(|| name.to_owned())
}

/// The permanent address: the one in use if the kernel says it is burnt in, what a bond saved, or what ethtool says.
fn mac(host: &Host, tools: &dyn ToolRunner, name: &str, absent: &mut Absences) -> Option<MacAddress> {
    let directory = format!("{CLASS}/{name}");
    let what = format!("nics.{name}.mac");
    if absent.value(&what, host.number::<u32>(&format!("{directory}/type")))? != ETHERNET {
        absent.note(what, "is no Ethernet interface");
        return None;
    }
    let saved_by_bond = host.text(&format!("{directory}/bonding_slave/perm_hwaddr")).ok();
    let assigned = absent.value(&what, host.number::<u32>(&format!("{directory}/addr_assign_type")))?;
    let text = match saved_by_bond {
        Some(saved) => saved,
        None if assigned == ADDRESS_IS_PERMANENT => {
            absent.value(&what, host.text(&format!("{directory}/address")))?
        }
        None => {
            let asked =
                ask(tools, &ethtool::permanent_address_invocation(name), ethtool::parse_permanent_address);
            return match asked {
                Ok(Some(mac)) => Some(mac),
                Ok(None) => {
                    absent.note(what, "the interface has no permanent address; the one in use was made up");
                    None
                }
                Err(error) => {
                    absent.note(what, error_chain(&error));
                    None
                }
            };
        }
    };
    match text.parse() {
        Ok(mac) => Some(mac),
        Err(error) => {
            absent.note(what, error.to_string());
            None
        }
    }
}

fn firmware(tools: &dyn ToolRunner, name: &str, absent: &mut Absences) -> Option<String> {
    let what = format!("nics.{name}.firmware");
    match ask(tools, &ethtool::driver_invocation(name), ethtool::parse_driver) {
        Ok(info) => {
            if info.firmware_version.is_none() {
                absent.note(what, format!("driver {} does not say", info.driver));
            }
            info.firmware_version
        }
        Err(error) => {
            absent.note(what, error_chain(&error));
            None
        }
    }
}
