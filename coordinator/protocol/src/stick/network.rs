//! The network section of a stick's settings: which interfaces, and how each gets its addresses.
//!
//! One mapping, or a list of them, one an interface. Refuses what cannot work: a static address without a prefix, a
//! gateway outside it, a bond of nothing, an interface described twice, IPv4 and IPv6 both off.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::ids::{MacAddress, ParseIdError, named_enum};

/// How the network is set up. Without an interface: as if one entry without any key stood there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Network {
    /// In the order they stand in the file. More than one only if each says which interface it is for.
    pub interfaces: Vec<Interface>,
}

/// One interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interface {
    /// Which NIC; every NIC with a link if neither this nor `bond` is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<Nic>,
    /// NICs put together as one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bond: Option<Bond>,
    /// The VLAN (IEEE 802.1Q) of the addresses; untagged if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<VlanId>,
    /// IPv4; `dhcp` if left out.
    #[serde(default = "dhcp")]
    pub ipv4: Ipv4Method,
    /// IPv6; `auto` if left out.
    #[serde(default = "auto")]
    pub ipv6: Ipv6Method,
}

fn dhcp() -> Ipv4Method {
    Ipv4Method::Dhcp
}

fn auto() -> Ipv6Method {
    Ipv6Method::Auto
}

/// A NIC, by address or by the kernel's name. The address is surer: names change with slots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Nic {
    /// By MAC address.
    Mac(MacAddress),
    /// By name: `eno1`.
    Name(String),
}

impl FromStr for Nic {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        if let Ok(mac) = text.parse() {
            return Ok(Self::Mac(mac));
        }
        // the kernel's dev_valid_name()
        let valid = (1..=15).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'/' | b':'))
            && !matches!(text, "." | "..");
        if valid {
            Ok(Self::Name(text.to_owned()))
        } else {
            Err(ParseIdError {
                found: text.to_owned(),
                expected: "a MAC address such as aa:bb:cc:dd:ee:ff or an interface's name such as eno1",
            })
        }
    }
}

impl fmt::Display for Nic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mac(mac) => mac.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl TryFrom<String> for Nic {
    type Error = ParseIdError;

    fn try_from(text: String) -> Result<Self, ParseIdError> {
        text.parse()
    }
}

impl From<Nic> for String {
    fn from(nic: Nic) -> Self {
        nic.to_string()
    }
}

/// NICs put together as one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bond {
    /// How.
    pub mode: BondMode,
    /// Which; at least one.
    #[serde(deserialize_with = "at_least_one")]
    pub interfaces: Vec<Nic>,
}

fn at_least_one<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Nic>, D::Error> {
    let nics = Vec::<Nic>::deserialize(deserializer)?;
    if nics.is_empty() {
        return Err(D::Error::custom("a bond of no interface; name at least one"));
    }
    if let Some(twice) = first_repeated(&nics) {
        return Err(D::Error::custom(format!("`{twice}` stands there twice; remove one")));
    }
    Ok(nics)
}

fn first_repeated<T: PartialEq>(all: &[T]) -> Option<&T> {
    all.iter().enumerate().find(|(position, one)| all[..*position].contains(one)).map(|(_, one)| one)
}

named_enum! {
    /// Mode of a bond, in the words of the kernel's bonding driver.
    BondMode, "a bond mode (active-backup, 802.3ad, balance-rr, balance-xor, balance-tlb or balance-alb)" {
        /// One works, the others wait. Needs nothing of the switch.
        ActiveBackup = "active-backup",
        /// LACP: the switch must speak it on these ports.
        Lacp = "802.3ad",
        /// In turn.
        BalanceRr = "balance-rr",
        /// By address.
        BalanceXor = "balance-xor",
        /// By load, sending.
        BalanceTlb = "balance-tlb",
        /// By load, both ways.
        BalanceAlb = "balance-alb",
    }
}

/// A VLAN number of IEEE 802.1Q: 1 to 4094.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct VlanId(u16);

impl VlanId {
    /// The number.
    pub fn get(self) -> u16 {
        self.0
    }
}

impl TryFrom<u16> for VlanId {
    type Error = String;

    fn try_from(number: u16) -> Result<Self, String> {
        if (1..=4094).contains(&number) {
            Ok(Self(number))
        } else {
            Err(format!("{number} is no VLAN; write 1 to 4094"))
        }
    }
}

impl From<VlanId> for u16 {
    fn from(vlan: VlanId) -> Self {
        vlan.0
    }
}

/// How an interface gets its IPv4 address. In the file a word, or the mapping of [`StaticAddress`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ipv4Method {
    /// `dhcp`.
    Dhcp,
    /// `off`.
    Off,
    /// Fixed.
    Static(StaticAddress<Ipv4Addr>),
}

/// How an interface gets its IPv6 address. In the file a word, or the mapping of [`StaticAddress`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ipv6Method {
    /// `auto`: as the router advertises it, by SLAAC or DHCPv6.
    Auto,
    /// `dhcp`: by DHCPv6, whatever is advertised.
    Dhcp,
    /// `off`.
    Off,
    /// Fixed.
    Static(StaticAddress<Ipv6Addr>),
}

/// A fixed address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[serde(bound(
    deserialize = "Address: Family + Deserialize<'de>",
    serialize = "Address: Family + Serialize"
))]
pub struct StaticAddress<Address> {
    /// Address and prefix length: `10.0.0.5/24`.
    pub address: Prefixed<Address>,
    /// The router; without one only the own network is reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<Address>,
    /// Name servers, of either family.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<IpAddr>,
}

/// An address family.
pub trait Family: Copy + FromStr + fmt::Display + Into<IpAddr> {
    /// Length of an address, bits.
    const BITS: u8;
    /// What an address with its prefix looks like.
    const EXAMPLE: &'static str;
}

impl Family for Ipv4Addr {
    const BITS: u8 = 32;
    const EXAMPLE: &'static str = "10.0.0.5/24";
}

impl Family for Ipv6Addr {
    const BITS: u8 = 128;
    const EXAMPLE: &'static str = "2001:db8::5/64";
}

/// An address with the length of its network's prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[serde(bound(deserialize = "Address: Family", serialize = "Address: Family"))]
pub struct Prefixed<Address> {
    /// The address.
    pub address: Address,
    /// Length of the prefix, bits, at least 1.
    pub prefix_length: u8,
}

impl<Address: Family> Prefixed<Address> {
    /// Whether another address is in the same network.
    pub fn contains(&self, other: Address) -> bool {
        let bits = |address: Address| match address.into() {
            IpAddr::V4(address) => u128::from(address.to_bits()),
            IpAddr::V6(address) => address.to_bits(),
        };
        let host_bits = Address::BITS.saturating_sub(self.prefix_length);
        let network = |address| bits(address).checked_shr(host_bits.into()).unwrap_or(0);
        network(self.address) == network(other)
    }
}

impl<Address: Family> FromStr for Prefixed<Address> {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let refused = || ParseIdError { found: text.to_owned(), expected: Address::EXAMPLE };
        let (address, length) = text.split_once('/').ok_or_else(refused)?;
        let address: Address = address.parse().map_err(|_| refused())?;
        // u8's parser would take a sign
        if !length.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(refused());
        }
        let prefix_length = length.parse().map_err(|_| refused())?;
        let ip: IpAddr = address.into();
        if prefix_length == 0 || prefix_length > Address::BITS || ip.is_unspecified() || ip.is_multicast() {
            return Err(refused());
        }
        Ok(Self { address, prefix_length })
    }
}

impl<Address: Family> fmt::Display for Prefixed<Address> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_length)
    }
}

impl<Address: Family> TryFrom<String> for Prefixed<Address> {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse().map_err(|error: ParseIdError| {
            format!(
                "`{}` is not an address with the length of its prefix, such as {}",
                error.found, error.expected
            )
        })
    }
}

impl<Address: Family> From<Prefixed<Address>> for String {
    fn from(prefixed: Prefixed<Address>) -> Self {
        prefixed.to_string()
    }
}

/// A word or the mapping of a fixed address.
enum WordOr<Address> {
    Word(String),
    Static(StaticAddress<Address>),
}

struct WordOrVisitor<Address> {
    words: &'static str,
    family: std::marker::PhantomData<Address>,
}

impl<'de, Address: Family + Deserialize<'de>> Visitor<'de> for WordOrVisitor<Address> {
    type Value = WordOr<Address>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, or a mapping with address, gateway and dns", self.words)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(WordOr::Word(text.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        let fixed = StaticAddress::<Address>::deserialize(MapAccessDeserializer::new(map))?;
        if let Some(gateway) = fixed.gateway.filter(|gateway| !fixed.address.contains(*gateway)) {
            // a router of IPv6 is often known by its link-local address
            let link_local = matches!(gateway.into(), IpAddr::V6(address) if address.is_unicast_link_local());
            if !link_local {
                return Err(A::Error::custom(format!(
                    "the gateway {gateway} is not in the network of {}; correct one of them",
                    fixed.address
                )));
            }
        }
        Ok(WordOr::Static(fixed))
    }
}

fn word_or<'de, D, Address>(deserializer: D, words: &'static str) -> Result<WordOr<Address>, D::Error>
where
    D: Deserializer<'de>,
    Address: Family + Deserialize<'de>,
{
    deserializer.deserialize_any(WordOrVisitor { words, family: std::marker::PhantomData })
}

const IPV4_WORDS: &str = "dhcp or off";
const IPV6_WORDS: &str = "auto, dhcp or off";

fn unknown_word<E: serde::de::Error>(word: &str, words: &str) -> E {
    E::custom(format!("`{word}` is not {words}, nor a mapping with address, gateway and dns"))
}

impl<'de> Deserialize<'de> for Ipv4Method {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match word_or(deserializer, IPV4_WORDS)? {
            WordOr::Static(fixed) => Ok(Self::Static(fixed)),
            WordOr::Word(word) => match word.as_str() {
                "dhcp" => Ok(Self::Dhcp),
                "off" => Ok(Self::Off),
                _ => Err(unknown_word(&word, IPV4_WORDS)),
            },
        }
    }
}

impl Serialize for Ipv4Method {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Dhcp => serializer.serialize_str("dhcp"),
            Self::Off => serializer.serialize_str("off"),
            Self::Static(fixed) => fixed.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Ipv6Method {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match word_or(deserializer, IPV6_WORDS)? {
            WordOr::Static(fixed) => Ok(Self::Static(fixed)),
            WordOr::Word(word) => match word.as_str() {
                "auto" => Ok(Self::Auto),
                "dhcp" => Ok(Self::Dhcp),
                "off" => Ok(Self::Off),
                _ => Err(unknown_word(&word, IPV6_WORDS)),
            },
        }
    }
}

impl Serialize for Ipv6Method {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::Dhcp => serializer.serialize_str("dhcp"),
            Self::Off => serializer.serialize_str("off"),
            Self::Static(fixed) => fixed.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let interfaces = deserializer.deserialize_any(NetworkVisitor)?;
        check(&interfaces).map_err(D::Error::custom)?;
        Ok(Self { interfaces })
    }
}

struct NetworkVisitor;

impl<'de> Visitor<'de> for NetworkVisitor {
    type Value = Vec<Interface>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("one interface (a mapping) or a list of them")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        Interface::deserialize(MapAccessDeserializer::new(map)).map(|interface| vec![interface])
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
        let mut interfaces = Vec::new();
        while let Some(interface) = sequence.next_element()? {
            interfaces.push(interface);
        }
        Ok(interfaces)
    }
}

fn check(interfaces: &[Interface]) -> Result<(), String> {
    let mut seen: Vec<(&Nic, Option<VlanId>)> = Vec::new();
    for Interface { interface, bond, vlan, ipv4, ipv6 } in interfaces {
        let nics: Vec<&Nic> = match (interface, bond) {
            (Some(_), Some(_)) => return Err("an entry has `interface` or `bond`, not both".to_owned()),
            (Some(nic), None) => vec![nic],
            (None, Some(bond)) => bond.interfaces.iter().collect(),
            (None, None) if interfaces.len() > 1 => {
                return Err("with more than one entry each needs `interface` or `bond`".to_owned());
            }
            (None, None) => Vec::new(),
        };
        if *ipv4 == Ipv4Method::Off && *ipv6 == Ipv6Method::Off {
            return Err("ipv4 and ipv6 are both off; leave one on, or the entry out".to_owned());
        }
        for nic in nics {
            if seen.contains(&(nic, *vlan)) {
                return Err(format!("`{nic}` is described twice; remove one"));
            }
            seen.push((nic, *vlan));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn networks_hold_their_own_addresses_only() {
        let prefixed: Prefixed<Ipv4Addr> = "10.1.2.3/23".parse().unwrap();
        assert!(prefixed.contains("10.1.3.254".parse().unwrap()));
        assert!(!prefixed.contains("10.1.4.1".parse().unwrap()));
        let prefixed: Prefixed<Ipv6Addr> = "2001:db8::5/64".parse().unwrap();
        assert!(prefixed.contains("2001:db8::1".parse().unwrap()));
        assert!(!prefixed.contains("2001:db8:0:1::1".parse().unwrap()));
    }

    #[test]
    fn nonsense_is_no_address_with_a_prefix() {
        for text in [
            "",
            "10.0.0.5",
            "10.0.0.5/0",
            "10.0.0.5/33",
            "10.0.0.5/+8",
            "10.0.0.5/24/1",
            "0.0.0.0/8",
            "224.0.0.1/4",
            "x/24",
        ] {
            assert!(text.parse::<Prefixed<Ipv4Addr>>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in "\\PC{0,40}") {
            let _ = text.parse::<Prefixed<Ipv4Addr>>();
            let _ = text.parse::<Prefixed<Ipv6Addr>>();
            let _ = text.parse::<Nic>();
        }

        #[test]
        fn an_address_is_in_its_own_network(address: u32, length in 1_u8..=32) {
            let text = format!("{}/{length}", Ipv4Addr::from_bits(address));
            if let Ok(prefixed) = text.parse::<Prefixed<Ipv4Addr>>() {
                prop_assert!(prefixed.contains(prefixed.address));
                prop_assert_eq!(prefixed.to_string(), text);
            }
        }
    }
}
