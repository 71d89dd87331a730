//! iproute2's `ip`: the addresses of the interfaces, and which frames they take.

use std::net::IpAddr;
use std::time::Duration;

use serde::Deserialize;

use super::runner::{Finished, Invocation, ToolError};

const TOOL: &str = "ip";
const TIMEOUT: Duration = Duration::from_secs(10);

/// Asks for all interfaces with their addresses.
pub fn addresses_invocation() -> Invocation {
    Invocation { tool: TOOL, args: vec!["-json".into(), "address".into(), "show".into()], timeout: TIMEOUT }
}

/// Has an interface take frames to all groups, or no longer.
pub fn all_groups_invocation(interface: &str, on: bool) -> Invocation {
    let state = if on { "on" } else { "off" };
    let args = ["link", "set", "dev", interface, "allmulticast", state].map(Into::into).to_vec();
    Invocation { tool: TOOL, args, timeout: TIMEOUT }
}

/// An interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Kernel name.
    pub name: String,
    /// The interface that it is a VLAN of.
    pub link: Option<String>,
    /// The bond or bridge that it is a part of.
    pub master: Option<String>,
    /// Addresses that can be used beyond the link, in the kernel's order.
    pub addresses: Vec<IpAddr>,
}

#[derive(Deserialize)]
struct Row {
    ifname: Option<String>,
    link: Option<String>,
    master: Option<String>,
    #[serde(default)]
    addr_info: Vec<Address>,
}

#[derive(Deserialize)]
struct Address {
    local: Option<IpAddr>,
    scope: Option<String>,
    #[serde(default)]
    tentative: bool,
    #[serde(default)]
    dadfailed: bool,
}

/// Reads the output of [`addresses_invocation`].
pub fn parse_addresses(finished: &Finished) -> Result<Vec<Interface>, ToolError> {
    finished.success(TOOL)?;
    let garbage = |message: String| ToolError::Garbage { tool: TOOL.to_owned(), message };
    let rows: Vec<Row> = serde_json::from_slice(&finished.stdout)
        .map_err(|error| garbage(format!("its JSON cannot be read: {error}")))?;
    rows.into_iter()
        .map(|row| {
            let usable = |address: Address| {
                let global = address.scope.as_deref() == Some("global");
                address.local.filter(|_| global && !address.tentative && !address.dadfailed)
            };
            Ok(Interface {
                name: row.ifname.ok_or_else(|| garbage("an interface has no name".to_owned()))?,
                link: row.link,
                master: row.master,
                addresses: row.addr_info.into_iter().filter_map(usable).collect(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::runner::Exit;

    fn read(stdout: &str) -> Result<Vec<Interface>, ToolError> {
        parse_addresses(&Finished {
            exit: Exit::Code(0),
            stdout: stdout.into(),
            stderr: Vec::new(),
            truncated: false,
            elapsed: Duration::ZERO,
        })
    }

    /// iproute2 6.1.
    const VETH: &str = r#"[{"ifindex":1,"ifname":"lo","flags":["LOOPBACK","UP","LOWER_UP"],"mtu":65536,"qdisc":"noqueue",
        "operstate":"UNKNOWN","group":"default","txqlen":1000,"link_type":"loopback","address":"00:00:00:00:00:00",
        "addr_info":[{"family":"inet","local":"127.0.0.1","prefixlen":8,"scope":"host","label":"lo"},
        {"family":"inet6","local":"::1","prefixlen":128,"scope":"host"}]},
        {"ifindex":2,"link_index":2,"ifname":"va","flags":["BROADCAST","MULTICAST","UP","LOWER_UP"],"mtu":1500,
        "operstate":"UP","link_type":"ether","address":"d6:c9:ff:6d:89:a3","link_netnsid":0,
        "addr_info":[{"family":"inet","local":"10.99.0.1","prefixlen":24,"scope":"global","label":"va"},
        {"family":"inet6","local":"fd77::3","prefixlen":64,"scope":"global","tentative":true,"dadfailed":true},
        {"family":"inet6","local":"fd77::4","prefixlen":64,"scope":"global"},
        {"family":"inet6","local":"fe80::d4c9:ffff:fe6d:89a3","prefixlen":64,"scope":"link"}]}]"#;

    #[test]
    fn addresses_that_can_be_used_are_read() {
        let read = read(VETH).unwrap();
        assert_eq!(read[0].addresses, [] as [IpAddr; 0]);
        let wanted: Vec<IpAddr> = ["10.99.0.1", "fd77::4"].iter().map(|text| text.parse().unwrap()).collect();
        assert_eq!((read[1].name.as_str(), &read[1].addresses), ("va", &wanted));
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        for none in ["", "{}", "[{}]", r#"[{"ifname": "a", "addr_info": [{"local": "nowhere"}]}]"#] {
            assert!(matches!(read(none), Err(ToolError::Garbage { .. })), "{none}");
        }
    }
}
