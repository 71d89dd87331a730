//! Which interfaces the settings make of the NICs that are found: plain ones, VLANs on them, bonds of them.
//!
//! Pure: decides, and says what the settings name that is not there. Refuses nothing: what contradicts itself is
//! refused where settings are read.

use vetting_protocol::ids::MacAddress;
use vetting_protocol::stick::network::{Bond, Interface, Ipv4Method, Ipv6Method, Network, Nic, VlanId};

/// How an interface gets its addresses, and in which VLAN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Addressing {
    pub(super) vlan: Option<VlanId>,
    pub(super) ipv4: Ipv4Method,
    pub(super) ipv6: Ipv6Method,
}

impl Addressing {
    fn of(entry: &Interface) -> Self {
        Self { vlan: entry.vlan, ipv4: entry.ipv4.clone(), ipv6: entry.ipv6.clone() }
    }

    /// What nobody said anything about: whatever the network gives, untagged.
    fn automatic() -> Self {
        Self { vlan: None, ipv4: Ipv4Method::Dhcp, ipv6: Ipv6Method::Auto }
    }
}

/// What becomes of a NIC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    /// It carries addresses itself, or those of VLANs on it.
    Own(Vec<Addressing>),
    /// It is a cable of the bond of this name.
    Member(String),
    /// The settings do not name it.
    Unused,
}

/// The bonds of the settings, with what each carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BondPlan {
    pub(super) name: String,
    pub(super) bond: Bond,
    pub(super) carries: Vec<Addressing>,
}

/// What the settings ask for.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    network: Network,
    pub(super) bonds: Vec<BondPlan>,
}

impl Layout {
    pub(super) fn new(network: Network) -> Self {
        let mut bonds: Vec<BondPlan> = Vec::new();
        for entry in &network.interfaces {
            let Some(bond) = &entry.bond else { continue };
            match bonds.iter_mut().find(|plan| plan.bond == *bond) {
                // the same cables, another VLAN on them
                Some(plan) => plan.carries.push(Addressing::of(entry)),
                None => bonds.push(BondPlan {
                    name: format!("bond{}", bonds.len()),
                    bond: bond.clone(),
                    carries: vec![Addressing::of(entry)],
                }),
            }
        }
        Self { network, bonds }
    }

    /// What becomes of the NIC of this name and address.
    pub(super) fn part(&self, name: &str, mac: Option<MacAddress>) -> Part {
        let is_it = |nic: &Nic| same(nic, name, mac);
        if let Some(plan) = self.bonds.iter().find(|plan| plan.bond.interfaces.iter().any(is_it)) {
            return Part::Member(plan.name.clone());
        }
        if self.network.interfaces.is_empty() {
            return Part::Own(vec![Addressing::automatic()]);
        }
        let every = |entry: &&Interface| {
            entry.bond.is_none() && entry.interface.as_ref().is_none_or(|nic| same(nic, name, mac))
        };
        let own: Vec<Addressing> = self.network.interfaces.iter().filter(every).map(Addressing::of).collect();
        if own.is_empty() { Part::Unused } else { Part::Own(own) }
    }

    /// What the settings name and none of these NICs is, in words.
    pub(super) fn missing(&self, there: &[(String, Option<MacAddress>)]) -> Vec<String> {
        let found = |nic: &Nic| there.iter().any(|(name, mac)| same(nic, name, *mac));
        let mut words = Vec::new();
        for entry in &self.network.interfaces {
            match (&entry.interface, entry.vlan) {
                (Some(nic), Some(vlan)) if !found(nic) => {
                    words.push(format!("VLAN {} is on {nic}, which is not there", vlan.get()));
                }
                (Some(nic), None) if !found(nic) => words.push(format!("{nic} is not there")),
                (Some(_) | None, _) => {}
            }
        }
        for plan in &self.bonds {
            let absent: Vec<String> =
                plan.bond.interfaces.iter().filter(|nic| !found(nic)).map(ToString::to_string).collect();
            let list = absent.join(", ");
            if absent.len() == plan.bond.interfaces.len() {
                words.push(format!("the bond {} has no cable: none of {list} is there", plan.name));
            } else if !absent.is_empty() {
                words.push(format!("the bond {} goes without {list}, not there", plan.name));
            }
        }
        words
    }
}

fn same(nic: &Nic, name: &str, mac: Option<MacAddress>) -> bool {
    match nic {
        Nic::Name(wanted) => wanted == name,
        Nic::Mac(wanted) => Some(*wanted) == mac,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(yaml: &str) -> Layout {
        Layout::new(serde_yaml::from_str(yaml).unwrap())
    }

    fn mac(text: &str) -> MacAddress {
        text.parse().unwrap()
    }

    #[test]
    fn without_settings_every_nic_is_tried() {
        let layout = Layout::new(Network::default());
        assert_eq!(layout.part("eth0", None), Part::Own(vec![Addressing::automatic()]));
        assert!(layout.missing(&[]).is_empty());
    }

    #[test]
    fn a_vlan_without_an_interface_is_on_every_nic() {
        let layout = layout("{vlan: 42, ipv4: off}");
        for name in ["eth0", "eth1"] {
            let Part::Own(own) = layout.part(name, None) else { panic!("{name}") };
            assert_eq!((own.len(), own[0].vlan.map(VlanId::get)), (1, Some(42)));
            assert_eq!((&own[0].ipv4, &own[0].ipv6), (&Ipv4Method::Off, &Ipv6Method::Auto));
        }
    }

    #[test]
    fn named_nics_are_found_by_name_and_by_address_and_others_are_left_alone() {
        let layout = layout("[{interface: eth1}, {interface: '52:54:00:00:00:01', vlan: 7}]");
        assert!(
            matches!(layout.part("eth1", Some(mac("52:54:00:00:00:09"))), Part::Own(own) if own[0].vlan.is_none())
        );
        assert!(
            matches!(layout.part("eth0", Some(mac("52:54:00:00:00:01"))), Part::Own(own) if own[0].vlan.is_some())
        );
        assert_eq!(layout.part("eth2", Some(mac("52:54:00:00:00:02"))), Part::Unused);
        assert_eq!(layout.part("eth2", None), Part::Unused);
    }

    #[test]
    fn one_bond_may_carry_several_vlans() {
        let bond = "bond: {mode: active-backup, interfaces: [eth0, eth1]}";
        let layout = layout(&format!("[{{{bond}}}, {{{bond}, vlan: 5}}]"));
        assert_eq!(layout.bonds.len(), 1);
        assert_eq!(layout.bonds[0].carries.len(), 2);
        assert_eq!(layout.part("eth1", None), Part::Member("bond0".to_owned()));
    }

    #[test]
    fn what_is_not_there_is_named() {
        let layout = layout(
            "[{interface: eth7, vlan: 42}, {interface: eth8}, {bond: {mode: 802.3ad, interfaces: [eth0, eth1]}}]",
        );
        let words = |names: &[&str]| {
            let there: Vec<_> = names.iter().map(|name| ((*name).to_owned(), None)).collect();
            layout.missing(&there)
        };
        assert_eq!(
            words(&[]),
            [
                "VLAN 42 is on eth7, which is not there",
                "eth8 is not there",
                "the bond bond0 has no cable: none of eth0, eth1 is there",
            ]
        );
        assert_eq!(words(&["eth0", "eth7", "eth8"]), ["the bond bond0 goes without eth1, not there"]);
        assert!(words(&["eth0", "eth1", "eth7", "eth8"]).is_empty());
    }
}
