//! `ethtool`: a NIC's firmware and its permanent MAC address, which sysfs does not tell.

use std::time::Duration;

use vetting_protocol::ids::MacAddress;

use super::runner::{Finished, Invocation, ToolError};

const TOOL: &str = "ethtool";
const TIMEOUT: Duration = Duration::from_secs(10);

/// Asks for driver and firmware of an interface.
pub fn driver_invocation(interface: &str) -> Invocation {
    Invocation { tool: TOOL, args: vec!["-i".into(), interface.into()], timeout: TIMEOUT }
}

/// What `ethtool -i` tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriverInfo {
    /// Kernel driver.
    pub driver: String,
    /// Firmware version; absent when the driver leaves it empty or writes `N/A`.
    pub firmware_version: Option<String>,
    /// Version of the expansion ROM, likewise.
    pub expansion_rom_version: Option<String>,
}

/// Reads the output of [`driver_invocation`].
pub fn parse_driver(finished: &Finished) -> Result<DriverInfo, ToolError> {
    finished.success(TOOL)?;
    let text = finished.stdout_text();
    let field = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .map(str::trim)
            .filter(|value| !value.is_empty() && !value.eq_ignore_ascii_case("n/a"))
            .map(str::to_owned)
    };
    let driver = field("driver").ok_or_else(|| garbage("no `driver:` line"))?;
    Ok(DriverInfo {
        driver,
        firmware_version: field("firmware-version"),
        expansion_rom_version: field("expansion-rom-version"),
    })
}

/// Asks for the permanent MAC address of an interface.
pub fn permanent_address_invocation(interface: &str) -> Invocation {
    Invocation { tool: TOOL, args: vec!["-P".into(), interface.into()], timeout: TIMEOUT }
}

/// Reads the output of [`permanent_address_invocation`]; none when the interface has none (`not set`, all zero).
pub fn parse_permanent_address(finished: &Finished) -> Result<Option<MacAddress>, ToolError> {
    finished.success(TOOL)?;
    let text = finished.stdout_text();
    let address = text
        .lines()
        .find_map(|line| line.strip_prefix("Permanent address:"))
        .map(str::trim)
        .ok_or_else(|| garbage("no `Permanent address:` line"))?;
    if address == "not set" || address == "00:00:00:00:00:00" {
        return Ok(None);
    }
    address
        .parse()
        .map(Some)
        .map_err(|error: vetting_protocol::ids::ParseIdError| garbage(&error.to_string()))
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

    /// ethtool 6.1 on an Intel X710.
    const X710: &str = "driver: i40e\nversion: 6.1.0-18-amd64\nfirmware-version: 8.30 0x8000a4ae 1.2926.0\n\
        expansion-rom-version: \nbus-info: 0000:3b:00.0\nsupports-statistics: yes\nsupports-test: yes\n\
        supports-eeprom-access: yes\nsupports-register-dump: yes\nsupports-priv-flags: yes\n";

    #[test]
    fn reads_driver_and_firmware() {
        let info = parse_driver(&finished(0, X710, "")).unwrap();
        assert_eq!(info.driver, "i40e");
        assert_eq!(info.firmware_version.as_deref(), Some("8.30 0x8000a4ae 1.2926.0"));
        assert_eq!(info.expansion_rom_version, None);
        let virtio = "driver: virtio_net\nversion: 1.0.0\nfirmware-version: \nexpansion-rom-version: \n";
        assert_eq!(parse_driver(&finished(0, virtio, "")).unwrap().firmware_version, None);
        let not_available = "driver: bnxt_en\nfirmware-version: N/A\n";
        assert_eq!(parse_driver(&finished(0, not_available, "")).unwrap().firmware_version, None);
    }

    #[test]
    fn an_answer_that_is_none_is_an_error() {
        let no_device = finished(71, "", "Cannot get driver information: No such device\n");
        assert!(matches!(parse_driver(&no_device), Err(ToolError::Failed { code: 71, .. })));
        assert!(matches!(parse_driver(&finished(0, "hello", "")), Err(ToolError::Garbage { .. })));
        assert!(matches!(parse_permanent_address(&finished(0, "", "")), Err(ToolError::Garbage { .. })));
        let cut = finished(0, "Permanent address: 3c:ec\n", "");
        assert!(matches!(parse_permanent_address(&cut), Err(ToolError::Garbage { .. })));
    }

    #[test]
    fn reads_the_permanent_address() {
        let address = |text| parse_permanent_address(&finished(0, text, "")).unwrap();
        assert_eq!(
            address("Permanent address: 3C:EC:EF:00:00:01\n").map(|mac| mac.to_string()).as_deref(),
            Some("3c:ec:ef:00:00:01")
        );
        assert_eq!(address("Permanent address: not set\n"), None);
        assert_eq!(address("Permanent address: 00:00:00:00:00:00\n"), None);
    }
}
