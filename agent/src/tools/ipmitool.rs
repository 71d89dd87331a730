//! `ipmitool` over the local interface: who the BMC is, where its LAN channel listens, what its sensors say, what its
//! event log holds.

pub mod dcmi;
pub mod sdr;
pub mod sel;
pub mod sensor;

use std::time::Duration;

use super::runner::{Finished, Invocation, ToolError};

const TOOL: &str = "ipmitool";
const TIMEOUT: Duration = Duration::from_secs(30);

/// Where the kernel shows its interface to a BMC; the first is the one of today.
pub const DEVICES: [&str; 3] = ["/dev/ipmi0", "/dev/ipmi/0", "/dev/ipmidev/0"];

/// What was told of sensors, and whether that was all.
#[derive(Debug, Clone, PartialEq)]
pub struct Partly<T> {
    /// A row a sensor, at least one unless all is told.
    pub rows: Vec<T>,
    /// What ipmitool says of the rest: it goes on to the next sensor where a BMC does not answer for one, and ends as failed,
    /// or stops there and ends well (openbmc issue 3326).
    pub missing: Option<String>,
}

fn partly<T>(
    finished: &Finished,
    rows: impl FnOnce(&Finished) -> Result<Vec<T>, ToolError>,
) -> Result<Partly<T>, ToolError> {
    let failed = finished.success(TOOL);
    finished.code(TOOL)?;
    match (failed, rows(finished)) {
        (Ok(()), rows) => rows.map(|rows| Partly { rows, missing: complaint(finished) }),
        (Err(error), Ok(rows)) if !rows.is_empty() => Ok(Partly { rows, missing: Some(error.reason()) }),
        (Err(error), _) => Err(error),
    }
}

/// The last line on stderr. That there is no list of makers' numbers, which the image leaves out, is said in each call and of no
/// sensor.
fn complaint(finished: &Finished) -> Option<String> {
    let text = String::from_utf8_lossy(&finished.stderr);
    let complains = |line: &&str| !line.is_empty() && !line.starts_with("IANA PEN registry");
    text.lines().map(str::trim).rfind(complains).map(ToOwned::to_owned)
}

/// Asks who the BMC is.
pub fn mc_info_invocation() -> Invocation {
    Invocation { tool: TOOL, args: vec!["mc".into(), "info".into()], timeout: TIMEOUT }
}

/// What `ipmitool mc info` tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct McInfo {
    /// Name of the manufacturer, or its IANA number where ipmitool has no name.
    pub manufacturer: Option<String>,
    /// Name of the product, or its number.
    pub product: Option<String>,
    /// Firmware revision.
    pub firmware: String,
    /// IPMI version.
    pub ipmi_version: Option<String>,
}

/// Reads the output of [`mc_info_invocation`].
pub fn parse_mc_info(finished: &Finished) -> Result<McInfo, ToolError> {
    finished.success(TOOL)?;
    let text = finished.stdout_text();
    // 0 is unspecified (IPMI 2.0 table 20-2)
    let number = |id: &str| field(&text, id).filter(|value| value.split_whitespace().next() != Some("0"));
    let named = |name: &str, id: &str| {
        field(&text, name).filter(|value| !value.starts_with("Unknown")).or_else(|| number(id))
    };
    let firmware = field(&text, "Firmware Revision")
        .ok_or_else(|| garbage("no `Firmware Revision` in the answer to `mc info`"))?;
    Ok(McInfo {
        manufacturer: named("Manufacturer Name", "Manufacturer ID"),
        product: named("Product Name", "Product ID"),
        firmware,
        ipmi_version: field(&text, "IPMI Version"),
    })
}

/// Asks where a LAN channel listens.
pub fn lan_print_invocation(channel: u8) -> Invocation {
    Invocation {
        tool: TOOL,
        args: vec!["lan".into(), "print".into(), channel.to_string().into()],
        timeout: TIMEOUT,
    }
}

/// Reads the output of [`lan_print_invocation`]; none when no address is set.
pub fn parse_lan_address(finished: &Finished) -> Result<Option<String>, ToolError> {
    finished.success(TOOL)?;
    let text = finished.stdout_text();
    let address =
        field(&text, "IP Address").ok_or_else(|| garbage("no `IP Address` in the answer to `lan print`"))?;
    let address: std::net::Ipv4Addr =
        address.parse().map_err(|_| garbage(&format!("the IP address is `{address}`")))?;
    Ok((!address.is_unspecified()).then(|| address.to_string()))
}

/// `Name       : value`; the name alone before the first colon.
fn field(text: &str, name: &str) -> Option<String> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(found, _)| found.trim() == name)
        .map(|(_, value)| value.trim().to_owned())
        .filter(|value| !value.is_empty())
}

fn garbage(message: &str) -> ToolError {
    ToolError::Garbage { tool: TOOL.to_owned(), message: message.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::runner::Exit;

    fn finished(code: i32, stdout: &str, stderr: &str) -> Finished {
        Finished {
            exit: Exit::Code(code),
            stdout: stdout.into(),
            stderr: stderr.into(),
            truncated: false,
            elapsed: Duration::ZERO,
        }
    }

    /// ipmitool 1.8.19.
    const MC_INFO: &str = "Device ID                 : 32\nDevice Revision           : 1\n\
        Firmware Revision         : 1.74\nIPMI Version              : 2.0\n\
        Manufacturer ID           : 10876\nManufacturer Name         : Super Micro Computer Inc.\n\
        Product ID                : 2396 (0x095c)\nProduct Name              : Unknown (0x95C)\n\
        Device Available          : yes\nAdditional Device Support :\n    Sensor Device\n    SEL Device\n\
        Aux Firmware Rev Info     : \n    0x01\n";

    const LAN: &str = "Set in Progress         : Set Complete\nAuth Type Support       : NONE MD5 PASSWORD\n\
        Auth Type Enable        : Callback : MD5 PASSWORD \nIP Address Source       : DHCP Address\n\
        IP Address              : 192.0.2.17\nSubnet Mask             : 255.255.255.0\n\
        MAC Address             : 3c:ec:ef:00:00:09\n";

    #[test]
    fn reads_who_the_bmc_is() {
        let info = parse_mc_info(&finished(0, MC_INFO, "")).unwrap();
        assert_eq!(info.manufacturer.as_deref(), Some("Super Micro Computer Inc."));
        assert_eq!(info.product.as_deref(), Some("2396 (0x095c)"));
        assert_eq!(info.firmware, "1.74");
        assert_eq!(info.ipmi_version.as_deref(), Some("2.0"));
    }

    #[test]
    fn reads_where_it_listens() {
        assert_eq!(parse_lan_address(&finished(0, LAN, "")).unwrap().as_deref(), Some("192.0.2.17"));
        let unset = LAN.replace("192.0.2.17", "0.0.0.0");
        assert_eq!(parse_lan_address(&finished(0, &unset, "")).unwrap(), None);
    }

    #[test]
    fn an_answer_that_is_none_is_an_error() {
        let closed = finished(1, "", "Could not open device at /dev/ipmi0\n");
        assert!(matches!(parse_mc_info(&closed), Err(ToolError::Failed { code: 1, .. })));
        assert!(matches!(parse_mc_info(&finished(0, "", "")), Err(ToolError::Garbage { .. })));
        assert!(matches!(
            parse_lan_address(&finished(0, "IP Address : x\n", "")),
            Err(ToolError::Garbage { .. })
        ));
    }
}
