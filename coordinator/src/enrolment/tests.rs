//! The cases that people meet, and what must hold for all others.

use proptest::prelude::*;
use vetting_protocol::enrolment::{Identity, MAX_NICS, PresentedNic};
use vetting_protocol::ids::{HostId, MacAddress};

use super::recognise::{Claimant, Known, Recognition, is_movable, recognise, verify};
use super::uuid::SystemUuid;
use super::words::{self, CODE_LENGTH};

/// A Dell service tag in a UUID, as Dell makes them, and others of real makers' shape.
const DELL: &str = "4c4c4544-0043-3010-8057-b5c04f503332";
const SUPERMICRO: &str = "00000000-0000-0000-0000-ac1f6b8a1b2c";
const OTHER: &str = "3f8a5c1e-7d42-11eb-9a03-0242ac130003";
const AMI: &str = "03000200-0400-0500-0006-000700080009";

const CARD_1: &str = "b8:ca:3a:00:00:01";
const CARD_2: &str = "b8:ca:3a:00:00:02";
const CARD_3: &str = "ac:1f:6b:00:00:03";
const DONGLE: &str = "00:e0:4c:68:00:01";
const VIRTUAL: &str = "52:54:00:ab:cd:01";

fn mac(text: &str) -> MacAddress {
    text.parse().unwrap()
}

fn known(id: i64, name: &str, uuid: Option<&str>, macs: &[&str]) -> Known {
    let uuid = uuid.and_then(|uuid| uuid.parse().ok());
    Known { id: HostId(id), name: name.to_owned(), uuid, macs: macs.iter().map(|text| mac(text)).collect() }
}

fn presents(uuid: Option<&str>, macs: &[&str]) -> Identity {
    Identity {
        system_uuid: uuid.map(str::to_owned),
        manufacturer: None,
        product: None,
        system_serial: None,
        board_serial: None,
        chassis_serial: None,
        nics: macs.iter().map(|text| PresentedNic { mac: mac(text), removable: false }).collect(),
        boot_mac: None,
        cpu: None,
        memory_bytes: None,
        disks: None,
    }
}

/// What is expected: the number of a host, a new machine, or a conflict with these words.
enum Expected {
    Host(i64),
    New,
    Person(&'static [&'static str]),
}

#[test]
fn machines_are_recognised_by_uuid_and_cards_together() {
    use Expected::{Host, New, Person};
    let rack = [
        known(1, "r1", Some(DELL), &[CARD_1, CARD_2]),
        known(2, "r2", None, &[CARD_3]),
        known(3, "r3", Some(OTHER), &[DONGLE]),
        known(4, "vm", None, &[VIRTUAL]),
    ];
    let cases: &[(&str, Option<&str>, &[&str], Expected)] = &[
        ("as registered", Some(DELL), &[CARD_1, CARD_2], Host(1)),
        ("upper case", Some("4C4C4544-0043-3010-8057-B5C04F503332"), &[CARD_1], Host(1)),
        ("a card added", Some(DELL), &[CARD_1, "b8:ca:3a:00:00:09"], Host(1)),
        ("never seen before", Some(SUPERMICRO), &[CARD_3], Host(2)),
        ("never seen, and no UUID", None, &[CARD_3], Host(2)),
        ("nothing is known", Some(SUPERMICRO), &["ac:1f:6b:00:00:77"], New),
        ("nothing is known nor told", None, &["ac:1f:6b:00:00:77"], New),
        ("a shared UUID tells nothing", Some(AMI), &["ac:1f:6b:00:00:77"], New),
        ("cards replaced", Some(DELL), &["ac:1f:6b:00:00:77"], Person(&["UUID of r1", "replaced"])),
        ("board replaced, or card moved", Some(SUPERMICRO), &[CARD_1], Person(&["r1", "moved", SUPERMICRO])),
        ("card in a board without UUID", Some(AMI), &[CARD_1], Person(&["r1", "tells none"])),
        ("cards of two", Some(DELL), &[CARD_1, CARD_3], Person(&["r1 and r2"])),
        ("card of one, UUID of another", Some(DELL), &[CARD_3], Person(&["card of r2", "UUID of r1"])),
        ("dongle at another machine", Some(SUPERMICRO), &[DONGLE, "ac:1f:6b:00:00:77"], New),
        ("dongle, and nothing else", None, &[DONGLE], Person(&["r3", "carried"])),
        ("dongle at its machine", Some(OTHER), &[DONGLE], Host(3)),
        ("made-up address alone", None, &[VIRTUAL], Person(&["vm"])),
        ("made-up address of a host with no UUID", Some(SUPERMICRO), &[VIRTUAL], Person(&["vm"])),
        ("no card at all", None, &[], New),
    ];
    for (name, uuid, macs, expected) in cases {
        let found = recognise(&rack, &presents(*uuid, macs), &[]);
        match (expected, &found) {
            (Host(id), Recognition::Match { host }) if host.0 == *id => {}
            (New, Recognition::NewMachine) => {}
            (Person(words), Recognition::Conflict { why }) => {
                assert!(words.iter().all(|word| why.contains(word)), "{name}: {why}");
            }
            _ => panic!("{name}: {found:?}"),
        }
    }
}

#[test]
fn a_card_that_the_machine_calls_removable_does_not_identify_it() {
    let rack = [known(2, "r2", None, &[CARD_3])];
    let mut presented = presents(None, &[CARD_3]);
    presented.nics[0].removable = true;
    assert!(matches!(recognise(&rack, &presented, &[]), Recognition::Conflict { .. }));
}

#[test]
fn boards_that_share_a_uuid_are_told_apart_once_the_lab_says_so() {
    let rack = [known(1, "r1", Some(OTHER), &[CARD_1]), known(2, "r2", None, &[CARD_3])];
    let shared: Vec<SystemUuid> = vec![OTHER.parse().unwrap()];
    let second = presents(Some(OTHER), &[CARD_3]);
    assert!(matches!(recognise(&rack, &second, &[]), Recognition::Conflict { .. }));
    assert_eq!(recognise(&rack, &second, &shared), Recognition::Match { host: HostId(2) });
    let [first, claimant] = &rack;
    let others = std::slice::from_ref(first);
    let verified = |ignored: &[SystemUuid]| verify(claimant, others, Some(OTHER), &[mac(CARD_3)], ignored);
    assert!(matches!(verified(&[]), Claimant::Other { why } if why.contains("ignored_uuids")));
    assert_eq!(verified(&shared), Claimant::Same);
}

#[test]
fn a_run_is_not_given_to_another_machine() {
    let good = known(1, "good", Some(DELL), &[CARD_1]);
    let fresh = known(2, "fresh", None, &[CARD_3]);
    let claims = |host: &Known, others: &[&Known], uuid, macs: &[&str]| {
        let others: Vec<Known> = others.iter().map(|other| (*other).clone()).collect();
        let macs: Vec<MacAddress> = macs.iter().map(|text| mac(text)).collect();
        verify(host, &others, uuid, &macs, &[])
    };
    assert_eq!(claims(&good, &[&fresh], Some(DELL), &[CARD_1]), Claimant::Same);
    assert_eq!(claims(&fresh, &[&good], Some(SUPERMICRO), &[CARD_3]), Claimant::Same);
    // the good machine's card in a bad machine
    for uuid in [Some(SUPERMICRO), Some(AMI), None] {
        assert!(matches!(claims(&good, &[&fresh], uuid, &[CARD_1]), Claimant::Other { .. }), "{uuid:?}");
    }
    // a card that was never seen, in a machine that was
    assert!(matches!(claims(&fresh, &[&good], Some(DELL), &[CARD_3]), Claimant::Other { .. }));
    assert!(matches!(claims(&fresh, &[&good], Some(SUPERMICRO), &[CARD_2]), Claimant::Other { .. }));
    assert_eq!(claims(&fresh, &[&good], None, &[]), Claimant::Unverified);
    assert!(matches!(claims(&good, &[], None, &[]), Claimant::Other { .. }));
}

#[test]
fn uuids_that_many_boards_have_tell_nothing() {
    for text in [
        "",
        "Not Settable",
        "00000000-0000-0000-0000-000000000000",
        "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF",
        "11111111-1111-1111-1111-111111111111",
        AMI,
        "03000200-0400-0500-0006-00070008000",
        "03000200 0400 0500 0006 000700080009",
        "é3000200-0400-0500-0006-00070008000",
    ] {
        assert!(text.parse::<SystemUuid>().is_err(), "{text}");
    }
    for text in [DELL, SUPERMICRO, OTHER] {
        assert_eq!(text.to_uppercase().parse::<SystemUuid>().unwrap().to_string(), text);
    }
}

#[test]
fn a_machines_words_cannot_steer_a_terminal_or_name_a_path() {
    let mut hostile = presents(Some("\u{1b}]0;x\u{7}"), &[CARD_1]);
    hostile.manufacturer = Some("../../etc\n\u{202e}Dell".to_owned());
    hostile.system_serial = Some("\u{1b}[2J".repeat(100));
    hostile.boot_mac = Some(mac(CARD_2));
    let clean = words::cleaned(&hostile);
    assert_eq!(clean.manufacturer.as_deref(), Some("../../etc??Dell"));
    assert_eq!(clean.boot_mac, None, "a card it does not have");
    let text = serde_json::to_string(&clean).unwrap();
    assert!(text.chars().all(|c| c == ' ' || c.is_ascii_graphic()), "{text}");
    let name = words::host_name("{vendor}-{serial}", &clean, mac(CARD_1));
    assert!(name.len() <= 63 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'), "{name}");
}

#[test]
fn hosts_are_named_by_maker_and_serial_or_by_their_card() {
    let mut identity = presents(None, &[CARD_1]);
    identity.manufacturer = Some("Dell Inc.".to_owned());
    identity.system_serial = Some("C0W2P32".to_owned());
    assert_eq!(words::host_name(words::DEFAULT_PATTERN, &identity, mac(CARD_1)), "dell-c0w2p32");
    for placeholder in ["To Be Filled By O.E.M.", "0000000000", "Default string", "System Serial Number", "-"]
    {
        identity.system_serial = Some(placeholder.to_owned());
        assert_eq!(words::host_name("{serial}", &identity, mac(CARD_1)), "b8ca3a000001", "{placeholder}");
    }
    assert_eq!(words::distinct_name(&"x".repeat(63), mac(CARD_1)).len(), 63);
    for pattern in ["", "a b", "{colour}", "../{mac}"] {
        assert!(words::check_pattern(pattern).is_err(), "{pattern}");
    }
    assert!(words::check_pattern("lab1-{product}.{mac}").is_ok());
}

#[test]
fn a_code_is_read_as_it_is_typed() {
    let code = words::code([0, 1, 2, 22, 23, 24]).unwrap();
    assert_eq!(code, "ACD9AC");
    assert_eq!(words::typed_code("acd-9ac "), code);
    assert_eq!(words::code([0, 1, 2, 3, 4, 255]), None);
}

fn identities() -> impl Strategy<Value = Identity> {
    let uuids = prop::option::of(prop::sample::select(vec![DELL, OTHER, SUPERMICRO, AMI, "garbage"]));
    let cards = prop::collection::vec(
        (prop::sample::select(vec![CARD_1, CARD_2, CARD_3, DONGLE, VIRTUAL]), any::<bool>()),
        0..6,
    );
    (uuids, cards).prop_map(|(uuid, cards)| {
        let mut identity = presents(uuid, &[]);
        identity.nics =
            cards.into_iter().map(|(text, removable)| PresentedNic { mac: mac(text), removable }).collect();
        identity
    })
}

fn racks() -> impl Strategy<Value = Vec<Known>> {
    let uuids = || prop::option::of(prop::sample::select(vec![DELL, OTHER, SUPERMICRO]));
    // each card is at one host, as the database has it
    (uuids(), uuids(), uuids(), prop::collection::vec(0..4_usize, 5)).prop_map(|(a, b, c, places)| {
        let mut rack = vec![known(1, "a", a, &[]), known(2, "b", b, &[]), known(3, "c", c, &[])];
        for (card, place) in [CARD_1, CARD_2, CARD_3, DONGLE, VIRTUAL].iter().zip(places) {
            if let Some(host) = rack.get_mut(place) {
                host.macs.push(mac(card));
            }
        }
        rack
    })
}

proptest! {
    #[test]
    fn a_match_is_never_against_the_evidence(rack in racks(), identity in identities()) {
        let shown: Option<SystemUuid> = identity.system_uuid.as_deref().and_then(|text| text.parse().ok());
        let has = |host: &Known| identity.nics.iter().any(|nic| host.macs.contains(&nic.mac));
        match recognise(&rack, &identity, &[]) {
            Recognition::Match { host } => {
                let host = rack.iter().find(|known| known.id == host).unwrap();
                prop_assert!(has(host), "no card of it");
                prop_assert!(host.uuid.is_none() || host.uuid == shown, "another board");
                let firm = |nic: &PresentedNic| !nic.removable && !is_movable(nic.mac);
                for other in rack.iter().filter(|other| other.id != host.id) {
                    let shares = identity.nics.iter().any(|nic| firm(nic) && other.macs.contains(&nic.mac));
                    prop_assert!(!shares, "a card of another");
                }
            }
            Recognition::NewMachine => {
                prop_assert!(rack.iter().all(|host| shown.is_none() || host.uuid != shown));
            }
            Recognition::Conflict { why } => prop_assert!(!why.is_empty()),
        }
    }

    #[test]
    fn the_order_of_hosts_and_cards_does_not_matter(rack in racks(), identity in identities()) {
        let kind = |found: &Recognition| match found {
            Recognition::Match { host } => Some(host.0),
            Recognition::NewMachine => None,
            Recognition::Conflict { .. } => Some(-1),
        };
        let found = recognise(&rack, &identity, &[]);
        let mut turned = identity.clone();
        turned.nics.reverse();
        let rack: Vec<Known> = rack.into_iter().rev().collect();
        prop_assert_eq!(kind(&recognise(&rack, &turned, &[])), kind(&found));
    }

    #[test]
    fn no_text_gets_through_uncleaned(text in "\\PC{0,200}|.{0,200}", count in 0..200_usize) {
        let mut identity = presents(Some(&text), &[]);
        identity.product = Some(text.clone());
        identity.nics = (0..count)
            .map(|n| format!("b8ca3a0000{n:02x}").parse().unwrap())
            .map(|mac| PresentedNic { mac, removable: false })
            .collect();
        let clean = words::cleaned(&identity);
        prop_assert!(clean.nics.len() <= MAX_NICS);
        prop_assert!(clean.product.iter().all(|text| text.len() <= 96 && text.is_ascii()));
        let name = words::host_name("{product}-{serial}", &identity, mac(CARD_1));
        prop_assert!(!name.is_empty() && name.len() <= 63 && name.is_ascii());
    }

    #[test]
    fn codes_have_no_letters_that_look_alike(random: [u8; CODE_LENGTH]) {
        if let Some(code) = words::code(random) {
            prop_assert_eq!(code.len(), CODE_LENGTH);
            prop_assert!(!code.contains(['0', 'O', '1', 'I', 'L', '2', 'Z', '5', 'S', '8', 'B', 'U', 'V']));
        }
    }
}
