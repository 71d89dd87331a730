//! `metrics:` of the configuration.

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::Deserialize;

/// `/metrics`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MetricsConfig {
    /// Networks from which they are told without a token.
    pub allow: Vec<Network>,
    /// Last values of the sensors of machines under test are among them.
    pub sensors: bool,
}

/// A network, or a single address: `10.0.0.0/24`, `::1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Network(IpNet);

impl Network {
    /// Whether an address is in there. An IPv4 address that came through a socket of IPv6 is one of IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        network.map(Self).map_err(|_| {
            format!("`{text}` is no network; write an address and its prefix length, such as 10.0.0.0/24")
        })
    }
}

impl TryFrom<String> for Network {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_knows_its_addresses() {
        let contains = |network: &str, address: &str| {
            network.parse::<Network>().unwrap().contains(address.parse().unwrap())
        };
        assert!(contains("10.0.0.0/24", "10.0.0.255"));
        assert!(contains("10.0.0.0/24", "::ffff:10.0.0.1"));
        assert!(!contains("10.0.0.0/24", "10.0.1.0"));
        assert!(contains("127.0.0.1", "127.0.0.1"));
        assert!(!contains("127.0.0.1", "127.0.0.2"));
        assert!(contains("fd00::/8", "fdff::1"));
        for text in ["", "10.0.0.0/33", "lab", "10.0.0.0/24/1"] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }
}
