//! Interfaces made and given addresses by iproute2's `ip`: VLANs, bonds, fixed addresses, and IPv6; and the IPv6
//! addresses that the kernel has.
//!
//! The calls are pure; [`change`] makes them. What DHCP gives over IPv4 is put into force without a process, see
//! [`super::lease`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use vetting_protocol::stick::network::{BondMode, Family, Prefixed, VlanId};

use crate::cancel::Cancel;
use crate::tools::runner::{Invocation, ToolError, ToolRunner};

/// Longest time that one change takes.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How often the driver looks whether a cable of a bond still has a link, ms. Without it a bond never notices.
const BOND_LOOK_MS: &str = "100";

/// Makes the changes in their order, up to the first that fails.
pub(super) fn change(runner: &dyn ToolRunner, changes: Vec<Invocation>) -> Result<(), ToolError> {
    for invocation in changes {
        runner.run(&invocation, &Cancel::new(), &mut |_, _| {})?.success(invocation.tool)?;
    }
    Ok(())
}

/// The name of a VLAN's interface.
pub(super) fn vlan_name(link: &str, vlan: VlanId) -> String {
    format!("{link}.{}", vlan.get())
}

/// Makes the interface of a VLAN.
pub(super) fn add_vlan(link: &str, vlan: VlanId) -> Vec<Invocation> {
    let (name, id) = (vlan_name(link, vlan), vlan.get().to_string());
    vec![
        call("modprobe", &["8021q"]),
        ip(&["link", "add", "link", link, "name", &name, "type", "vlan", "id", &id]),
    ]
}

/// Makes a bond without a cable.
pub(super) fn add_bond(name: &str, mode: BondMode) -> Vec<Invocation> {
    let mode = mode.to_string();
    vec![
        // the driver would make a bond0 of its own
        call("modprobe", &["bonding", "max_bonds=0"]),
        ip(&["link", "add", "name", name, "type", "bond", "mode", &mode, "miimon", BOND_LOOK_MS]),
    ]
}

/// Puts a cable to a bond: only an interface that is down can join.
pub(super) fn join_bond(bond: &str, member: &str) -> Vec<Invocation> {
    vec![
        ip(&["link", "set", "dev", member, "down"]),
        ip(&["link", "set", "dev", member, "master", bond]),
        ip(&["link", "set", "dev", member, "up"]),
    ]
}

/// Gives an interface a fixed address, and its router.
pub(super) fn add_fixed<Address: Family>(
    interface: &str,
    address: Prefixed<Address>,
    gateway: Option<Address>,
    metric: u16,
) -> Vec<Invocation> {
    let family = if matches!(address.address.into(), IpAddr::V6(_)) { "-6" } else { "-4" };
    let mut changes = vec![ip(&[family, "addr", "replace", &address.to_string(), "dev", interface])];
    if let Some(gateway) = gateway {
        let (via, metric) = (gateway.to_string(), metric.to_string());
        let route = [family, "route", "replace", "default", "via", &via, "dev", interface, "metric", &metric];
        changes.push(ip(&route));
    }
    changes
}

/// Gives an interface the address of a DHCPv6 lease. Which network is on the cable is the router's word, not the DHCP
/// server's: no prefix.
pub(super) fn add_leased(interface: &str, address: Ipv6Addr) -> Vec<Invocation> {
    vec![ip(&["-6", "addr", "replace", &format!("{address}/128"), "dev", interface])]
}

/// Takes it away.
pub(super) fn remove_leased(interface: &str, address: Ipv6Addr) -> Vec<Invocation> {
    vec![ip(&["-6", "addr", "del", &format!("{address}/128"), "dev", interface])]
}

/// Asks the cable whether another machine has this address (RFC 5227): busybox's `arping -D` ends with 1 if one
/// answers.
pub(super) fn is_taken(
    runner: &dyn ToolRunner,
    interface: &str,
    address: Ipv4Addr,
) -> Result<bool, ToolError> {
    let invocation =
        call("arping", &["-D", "-q", "-c", "2", "-w", "2", "-I", interface, &address.to_string()]);
    let finished = runner.run(&invocation, &Cancel::new(), &mut |_, _| {})?;
    match finished.code(invocation.tool)? {
        1 => Ok(true),
        _ => finished.success(invocation.tool).map(|()| false),
    }
}

fn ip(args: &[&str]) -> Invocation {
    call("ip", args)
}

fn call(tool: &'static str, args: &[&str]) -> Invocation {
    Invocation { tool, args: args.iter().map(Into::into).collect(), timeout: TIMEOUT }
}

/// An IPv6 address of an interface, as `/proc/net/if_inet6` has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KernelAddress {
    pub(super) interface: String,
    pub(super) address: Ipv6Addr,
    pub(super) state: AddressState,
}

/// Whether an address can be used (RFC 4862).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AddressState {
    /// It is ours.
    Usable,
    /// Being asked for: may be somebody else's.
    Tentative,
    /// Somebody else has it.
    Duplicate,
}

/// Flags of linux/if_addr.h.
const IFA_F_DADFAILED: u32 = 0x08;
const IFA_F_TENTATIVE: u32 = 0x40;

/// Reads `/proc/net/if_inet6`: `ADDRESS INDEX PREFIX SCOPE FLAGS NAME`, all but the name in hexadecimal. A line that is
/// something else is left out.
pub(super) fn parse_if_inet6(text: &str) -> Vec<KernelAddress> {
    let line = |line: &str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [address, _index, _prefix, _scope, flags, interface] = fields.as_slice() else { return None };
        let address = (address.len() == 32).then(|| u128::from_str_radix(address, 16).ok()).flatten()?;
        let flags = u32::from_str_radix(flags, 16).ok()?;
        let state = if flags & IFA_F_DADFAILED != 0 {
            AddressState::Duplicate
        } else if flags & IFA_F_TENTATIVE != 0 {
            AddressState::Tentative
        } else {
            AddressState::Usable
        };
        Some(KernelAddress {
            interface: (*interface).to_owned(),
            address: Ipv6Addr::from_bits(address),
            state,
        })
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::AddressState::{Duplicate, Tentative, Usable};
    use super::*;

    fn words(changes: &[Invocation]) -> Vec<String> {
        let args = |call: &Invocation| {
            call.args.iter().map(|arg| arg.to_str().unwrap().to_owned()).collect::<Vec<_>>().join(" ")
        };
        changes.iter().map(|call| format!("{} {}", call.tool, args(call))).collect()
    }

    #[test]
    fn interfaces_are_made_as_ip_wants_it() {
        let vlan = VlanId::try_from(42).unwrap();
        assert_eq!(
            words(&add_vlan("eth0", vlan)),
            ["modprobe 8021q", "ip link add link eth0 name eth0.42 type vlan id 42"]
        );
        let bond = words(&add_bond("bond0", BondMode::Lacp));
        assert!(
            bond.contains(&"ip link add name bond0 type bond mode 802.3ad miimon 100".to_owned()),
            "{bond:?}"
        );
        assert_eq!(words(&join_bond("bond0", "eth0"))[0], "ip link set dev eth0 down");
    }

    #[test]
    fn a_fixed_address_comes_with_its_router() {
        let fixed =
            add_fixed("eth0", "fd00::5/64".parse().unwrap(), Some("fe80::1".parse::<Ipv6Addr>().unwrap()), 1);
        assert_eq!(
            words(&fixed),
            [
                "ip -6 addr replace fd00::5/64 dev eth0",
                "ip -6 route replace default via fe80::1 dev eth0 metric 1",
            ]
        );
        let fixed: Prefixed<Ipv4Addr> = "10.0.0.5/24".parse().unwrap();
        assert_eq!(words(&add_fixed("eth0", fixed, None, 1)), ["ip -4 addr replace 10.0.0.5/24 dev eth0"]);
    }

    #[test]
    fn the_kernels_table_is_read() {
        // as Linux 6.18 had it: one address just set, one that the neighbour has already
        let text = "fe80000000000000505400fffe000002 02 40 20 80     eth1\n\
                    fd770000000000000000000000000004 02 40 00 c0     eth1\n\
                    00000000000000000000000000000001 01 80 10 80       lo\n\
                    fd770000000000000000000000000003 02 40 00 c8     eth1\n";
        let read = parse_if_inet6(text);
        let states: Vec<AddressState> = read.iter().map(|address| address.state).collect();
        assert_eq!(states, [Usable, Tentative, Usable, Duplicate]);
        assert_eq!((read[3].interface.as_str(), read[3].address), ("eth1", "fd77::3".parse().unwrap()));
    }

    proptest! {
        #[test]
        fn no_table_is_too_much(text in "\\PC{0,80}", hex in "[0-9a-f]{0,40}") {
            let _ = parse_if_inet6(&text);
            let line = format!("{hex} 02 40 00 80 eth0");
            prop_assert!(parse_if_inet6(&line).len() <= 1);
        }
    }
}
