//! The BMC, asked over the local IPMI interface.

use vetting_protocol::inventory::Bmc;

use super::absences::Absences;
use super::smbios::Tables;
use crate::cancel::Cancel;
use crate::host::Host;
use crate::tools::ipmitool;
use crate::tools::runner::{Finished, Invocation, ToolError, ToolRunner};

/// The BMC, if the kernel has an interface to one.
pub(super) fn bmc(
    host: &Host,
    tools: &dyn ToolRunner,
    tables: &Tables,
    absent: &mut Absences,
) -> Option<Bmc> {
    if !ipmitool::DEVICES.iter().any(|device| host.exists(device)) {
        absent.note(
            "bmc",
            if tables.tells_of_bmc() {
                "SMBIOS tells of a BMC, but /dev/ipmi0 does not exist: is the ipmi_si module loaded?"
            } else {
                "/dev/ipmi0 does not exist and SMBIOS tells of no BMC"
            },
        );
        return None;
    }
    let info = match ask(tools, &ipmitool::mc_info_invocation(), ipmitool::parse_mc_info) {
        Ok(info) => info,
        Err(error) => {
            absent.note("bmc", error_chain(&error));
            return None;
        }
    };
    let address = match ask(tools, &ipmitool::lan_print_invocation(1), ipmitool::parse_lan_address) {
        Ok(Some(address)) => Some(address),
        Ok(None) => {
            absent.note("bmc.address", "LAN channel 1 has no address");
            None
        }
        Err(error) => {
            absent.note("bmc.address", error_chain(&error));
            None
        }
    };
    Some(Bmc {
        manufacturer: info.manufacturer,
        product: info.product,
        firmware: Some(info.firmware),
        ipmi_version: info.ipmi_version,
        address,
    })
}

/// Runs a tool to its end and reads its output. Its own time limit bounds it: taking stock is not cancelled.
pub(super) fn ask<T>(
    tools: &dyn ToolRunner,
    invocation: &Invocation,
    parse: impl FnOnce(&Finished) -> Result<T, ToolError>,
) -> Result<T, ToolError> {
    parse(&tools.run(invocation, &Cancel::new(), &mut |_, _| {})?)
}

/// An error with its causes, in one line.
pub(super) fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
