//! `network_test:` of the configuration.

use serde::Deserialize;

/// Servers that machines under test exchange data with: iperf3 on this box.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkTest {
    /// Off unless said so.
    pub enabled: bool,
    /// TCP ports, one for each test that is under way.
    pub ports: PortRange,
}

impl Default for NetworkTest {
    fn default() -> Self {
        Self { enabled: false, ports: PortRange { first: 5201, last: 5216 } }
    }
}

/// Ports from one to another, both included: `5201-5216`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct PortRange {
    /// Not 0.
    pub first: u16,
    /// Not below `first`.
    pub last: u16,
}

impl TryFrom<String> for PortRange {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (first, last) = text.split_once('-').unwrap_or((&text, &text));
        let port = |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port > 0);
        match (port(first), port(last)) {
            (Some(first), Some(last)) if first <= last => Ok(Self { first, last }),
            _ => {
                Err(format!("`{text}` is no range of ports; write the first and the last, such as 5201-5216"))
            }
        }
    }
}
