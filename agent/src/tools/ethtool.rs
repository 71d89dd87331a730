//! `ethtool`: a NIC's firmware, its permanent MAC address, and what its link could be, which sysfs does not tell.

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

/// Asks for the settings of an interface's link.
pub fn link_invocation(interface: &str) -> Invocation {
    Invocation { tool: TOOL, args: vec![interface.into()], timeout: TIMEOUT }
}

/// Reads the output of [`link_invocation`]: the fastest speed that both ends of the link offer each other, Mbit/s. None
/// where one of them does not tell, as without auto-negotiation.
pub fn parse_fastest_common(finished: &Finished) -> Result<Option<u32>, ToolError> {
    finished.success(TOOL)?;
    let text = finished.stdout_text();
    if !text.contains("Settings for ") {
        return Err(garbage("no `Settings for` line"));
    }
    let ours = speeds(&text, "Advertised link modes:");
    let theirs = speeds(&text, "Link partner advertised link modes:");
    Ok(ours.into_iter().filter(|speed| theirs.contains(speed)).max())
}

/// The speeds of the modes under a heading: `1000baseT/Full`, also on lines that go on without one.
fn speeds(text: &str, heading: &str) -> Vec<u32> {
    let mut lines = text.lines().map(str::trim).skip_while(|line| !line.starts_with(heading));
    let Some(first) = lines.next() else { return Vec::new() };
    let rest = lines.take_while(|line| !line.contains(':'));
    let modes = std::iter::once(&first[heading.len()..]).chain(rest);
    let speed = |mode: &str| mode.split_once("base")?.0.parse().ok();
    modes.flat_map(str::split_whitespace).filter_map(speed).collect()
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

    /// A gigabit card at a switch of 100 Mbit/s, as its owner published it.
    const R8169: &str = "Settings for eth0:\n\tSupported ports: [ TP MII ]\n\tSupported link modes:   \
        10baseT/Half 10baseT/Full \n\t                        100baseT/Half 100baseT/Full \n\t                        \
        1000baseT/Half 1000baseT/Full \n\tSupports auto-negotiation: Yes\n\tAdvertised link modes:  10baseT/Half \
        10baseT/Full \n\t                        100baseT/Half 100baseT/Full \n\tAdvertised pause frame use: No\n\t\
        Link partner advertised link modes:  10baseT/Half 10baseT/Full \n\t                                     \
        100baseT/Half 100baseT/Full \n\tLink partner advertised auto-negotiation: Yes\n\tSpeed: 100Mb/s\n\t\
        Duplex: Full\n\tPort: MII\n\tLink detected: yes\n";

    #[test]
    fn the_fastest_speed_of_both_ends_is_found() {
        let fastest = |text: &str| parse_fastest_common(&finished(0, text, "")).unwrap();
        assert_eq!(fastest(R8169), Some(100));
        let both = "Settings for a:\n\tAdvertised link modes:  100baseT/Full\n\t                        1000baseT/Full\n\
            \t                        10000baseCR/Full\n\tLink partner advertised link modes:  1000baseT/Full\n\
            \t                                     100baseT/Full\n\tSpeed: 100Mb/s\n";
        assert_eq!(fastest(both), Some(1_000));
        let fixed = "Settings for a:\n\tAdvertised link modes:  Not reported\n\tSpeed: 25000Mb/s\n";
        assert_eq!(fastest(fixed), None);
        assert!(parse_fastest_common(&finished(75, "", "netlink error: No such device\n")).is_err());
        assert!(parse_fastest_common(&finished(0, "", "")).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_settings_are_too_much(text in "(Settings for a:|Advertised link modes:|[0-9a-z/: \n\t]){0,60}") {
            let _ = parse_fastest_common(&finished(0, &text, ""));
        }
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
