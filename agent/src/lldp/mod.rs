//! LLDP (IEEE 802.1AB): what a switch says of itself on a cable: its name, the port, the VLAN.
//!
//! Frames come from the network: anything may be in them. Refuses those that are cut short or lack what the standard
//! demands; never panics, and cuts texts that are too long.

mod listen;

pub use listen::Listener;

use serde::Serialize;

/// EtherType of its frames.
const ETHER_TYPE: u16 = 0x88cc;
/// Longest text that is kept, characters.
const MOST_TEXT: usize = 255;

/// Who is at the other end of a cable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Neighbour {
    /// What identifies the switch: a MAC address, as a rule.
    pub chassis: String,
    /// What identifies its port.
    pub port: String,
    /// The port in words.
    pub port_description: Option<String>,
    /// The switch's name.
    pub system_name: Option<String>,
    /// VLAN of frames without a tag; absent where the switch does not tell.
    pub port_vlan: Option<u16>,
}

impl std::fmt::Display for Neighbour {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let port = self.port_description.as_ref().unwrap_or(&self.port);
        write!(f, "port {port} of {}", self.system_name.as_ref().unwrap_or(&self.chassis))?;
        self.port_vlan.map_or(Ok(()), |vlan| write!(f, ", VLAN {vlan}"))
    }
}

/// Types of TLVs (clause 8.5).
const END: u16 = 0;
const CHASSIS_ID: u16 = 1;
const PORT_ID: u16 = 2;
const PORT_DESCRIPTION: u16 = 4;
const SYSTEM_NAME: u16 = 5;
const ORGANISATION: u16 = 127;
/// IEEE 802.1, subtype Port VLAN ID (annex D).
const PORT_VLAN_ID: [u8; 4] = [0x00, 0x80, 0xc2, 0x01];
/// Subtypes of chassis and port that are MAC addresses.
const CHASSIS_MAC: u8 = 4;
const PORT_MAC: u8 = 3;

/// Reads a frame after its Ethernet header. None for one that is no LLDPDU.
pub fn parse(frame: &[u8]) -> Option<Neighbour> {
    let (mut chassis, mut port) = (None, None);
    let (mut port_description, mut system_name, mut port_vlan) = (None, None, None);
    let mut rest = frame;
    while let [first, second, after @ ..] = rest {
        let head = u16::from_be_bytes([*first, *second]);
        let (kind, length) = (head >> 9, usize::from(head & 0x1ff));
        let (value, next) = after.split_at_checked(length)?;
        match kind {
            END => break,
            CHASSIS_ID => chassis = Some(identifier(value, CHASSIS_MAC)?),
            PORT_ID => port = Some(identifier(value, PORT_MAC)?),
            PORT_DESCRIPTION => port_description = text(value),
            SYSTEM_NAME => system_name = text(value),
            ORGANISATION => {
                if let Some([high, low]) = value.strip_prefix(PORT_VLAN_ID.as_slice()) {
                    // 0: the port knows no VLANs
                    port_vlan = Some(u16::from_be_bytes([*high, *low])).filter(|vlan| *vlan > 0);
                }
            }
            _ => {}
        }
        rest = next;
    }
    Some(Neighbour { chassis: chassis?, port: port?, port_description, system_name, port_vlan })
}

/// A subtype and what it identifies by.
fn identifier(value: &[u8], mac: u8) -> Option<String> {
    let (subtype, value) = value.split_first()?;
    if *subtype == mac && value.len() == 6 {
        return Some(hex(value, ":"));
    }
    text(value).or_else(|| Some(hex(value, "")))
}

fn hex(value: &[u8], between: &str) -> String {
    value.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(between)
}

/// A text without what would disturb a terminal or a report; none if nothing is left of it.
fn text(value: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(value).ok()?;
    let clean: String = text.chars().filter(|character| !character.is_control()).take(MOST_TEXT).collect();
    let clean = clean.trim();
    (!clean.is_empty()).then(|| clean.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As lldpd 1.0.16 sent it.
    const LLDPD: &str = "020704a6229c0b567c040703a6229c0b567c060200780a02766d0c0b54657374207377697463680e04009c00801\
        00c05010a63000202000000020010181102fe80000000000000a4229cfffe0b567c02000000020008027662fe0900120f03010000\
        0000fe0900120f0100800000360000";

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: String = hex.split_whitespace().collect();
        digits
            .as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    #[test]
    fn a_recorded_frame_is_read() {
        let neighbour = parse(&bytes(LLDPD)).unwrap();
        assert_eq!(
            neighbour,
            Neighbour {
                chassis: "a6:22:9c:0b:56:7c".to_owned(),
                port: "a6:22:9c:0b:56:7c".to_owned(),
                port_description: Some("vb".to_owned()),
                system_name: Some("vm".to_owned()),
                port_vlan: None,
            }
        );
        assert_eq!(neighbour.to_string(), "port vb of vm");
    }

    #[test]
    fn a_vlan_and_names_of_ports_are_read() {
        let mut frame = bytes("020704001122334455");
        frame.extend([0x04, 0x0c, 5]);
        frame.extend(b"Ethernet1/7");
        frame.extend(bytes("0602007808017efe060080c201002a0000"));
        let neighbour = parse(&frame).unwrap();
        assert_eq!(neighbour.to_string(), "port ~ of 00:11:22:33:44:55, VLAN 42");
        assert_eq!(neighbour.port, "Ethernet1/7");
    }

    #[test]
    fn what_lacks_chassis_or_port_or_is_cut_short_is_none() {
        let whole = bytes(LLDPD);
        assert_eq!(parse(&[]), None);
        assert_eq!(parse(&whole[9..]), None);
        for length in [1, 3, 8, 12, 30] {
            assert_eq!(parse(&whole[..length]), None, "{length}");
        }
    }

    proptest! {
        #[test]
        fn no_frame_makes_it_panic(frame in proptest::collection::vec(any::<u8>(), 0..300), at in 0usize..100) {
            let mut mixed = bytes(LLDPD);
            mixed.splice(at..at, frame.iter().copied());
            for frame in [frame, mixed] {
                if let Some(neighbour) = parse(&frame) {
                    prop_assert!(neighbour.to_string().chars().all(|character| !character.is_control()));
                }
            }
        }
    }
}
