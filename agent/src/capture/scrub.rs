//! Replaces what names one machine or part: the same text by the same replacement everywhere in a capture, of the same
//! length and kind, so that what is parsed stays as it was.
//!
//! Replacements come from a salted hash; the salt is forgotten with the capture.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use sha2::{Digest as _, Sha256};
use vetting_nvml_probe::{DeviceState, Document, Nvml};
use vetting_protocol::ids::MacAddress;
use vetting_protocol::inventory::Inventory;

use super::dmi;
use crate::inventory::is_placeholder;
use crate::tools::nvml;

/// Attributes of sysfs whose whole text names one part.
const IDENTIFYING_FILES: &[&str] = &[
    "serial",
    "serial_number",
    "wwid",
    "nguid",
    "eui",
    "uuid",
    "wwn",
    "cid",
    "sas_address",
    "host_sas_address",
    "board_tracer",
    "address",
    "perm_hwaddr",
    "hostnqn",
    "hostid",
    "port_name",
    "node_name",
    "node_guid",
    "sys_image_guid",
    "unique_id",
    "product_serial",
    "product_uuid",
    "board_serial",
    "board_asset_tag",
    "chassis_serial",
    "chassis_asset_tag",
];

/// Shorter ones are replaced only where a field is known to hold them: elsewhere they may be any number.
const SHORTEST_ANYWHERE: usize = 6;

/// Knows what to replace, and by what.
pub(super) struct Scrubber {
    salt: [u8; 32],
    /// Every spelling of every identifier.
    replacements: BTreeMap<Vec<u8>, Vec<u8>>,
    identifiers: BTreeMap<String, String>,
}

impl Scrubber {
    /// Knows nothing yet.
    pub(super) fn new(salt: [u8; 32]) -> Self {
        Self { salt, replacements: BTreeMap::new(), identifiers: BTreeMap::new() }
    }

    /// How many identifiers it knows.
    pub(super) fn identifiers(&self) -> usize {
        self.identifiers.len()
    }

    /// Learns what the inventory calls an identifier.
    pub(super) fn learn_inventory(&mut self, inventory: &Inventory) {
        let disks = inventory.disks.iter().flat_map(|disk| [&disk.serial, &disk.wwn]);
        let parts = [
            &inventory.system.serial,
            &inventory.system.uuid,
            &inventory.board.serial,
            &inventory.chassis.serial,
            &inventory.chassis.asset_tag,
        ];
        let dimms = inventory.memory.dimms.iter().map(|dimm| &dimm.serial);
        let psus = inventory.psus.iter().map(|psu| &psu.serial);
        let gpus = inventory.gpus.iter().map(|gpu| &gpu.serial);
        let macs = inventory.nics.iter().filter_map(|nic| nic.mac).map(|mac| mac.to_string());
        let mut found: Vec<String> =
            parts.into_iter().chain(disks).chain(dimms).chain(psus).chain(gpus).flatten().cloned().collect();
        found.extend(macs);
        for text in &found {
            self.learn(text);
        }
    }

    /// Learns what a file of the machine names.
    pub(super) fn learn_file(&mut self, path: &str, bytes: &[u8]) {
        if path == "/sys/firmware/dmi/tables/DMI" {
            for text in dmi::identifiers(bytes) {
                self.learn(&text);
            }
        } else if is_identifying(path) {
            self.learn(String::from_utf8_lossy(bytes).trim_matches(|c: char| c.is_whitespace() || c == '\0'));
        }
    }

    /// Learns MAC addresses in any tool's output, IP addresses in ipmitool's, serial numbers in smartctl's JSON, and what names
    /// a GPU in nvml-probe's.
    pub(super) fn learn_output(&mut self, tool: &str, output: &[u8]) {
        let text = String::from_utf8_lossy(output).into_owned();
        for word in text.split(|c: char| c.is_whitespace() || matches!(c, ',' | '"' | '[' | ']' | '(' | ')'))
        {
            if word.len() == 17 && word.parse::<MacAddress>().is_ok() {
                self.learn(word);
            }
            if tool == "ipmitool" && word.parse::<Ipv4Addr>().is_ok_and(is_assigned) {
                self.learn_address(word);
            }
        }
        if tool == "smartctl"
            && let Ok(answer) = serde_json::from_slice::<serde_json::Value>(output)
        {
            self.learn_json(&answer);
        }
        if tool == nvml::TOOL
            && let Ok(Document { nvml: Nvml::Answered { devices, .. }, .. }) = serde_json::from_slice(output)
        {
            for device in &devices {
                self.learn_gpu(&device.state);
            }
        }
    }

    fn learn_gpu(&mut self, state: &DeviceState) {
        let DeviceState::Opened(readings) = state else { return };
        if let Some(serial) = readings.serial.value() {
            self.learn(serial);
        }
        if let Some(uuid) = readings.uuid.value() {
            self.learn(uuid.strip_prefix("GPU-").unwrap_or(uuid));
        }
    }

    /// Serial numbers, logical unit ids and world wide names anywhere in a JSON answer.
    fn learn_json(&mut self, value: &serde_json::Value) {
        match value {
            serde_json::Value::Object(fields) => {
                for (name, field) in fields {
                    match (name.as_str(), field.as_str()) {
                        ("serial_number" | "logical_unit_id" | "sas_address", Some(text)) => self.learn(text),
                        _ if name == "wwn" => self.learn_wwn(field),
                        _ => self.learn_json(field),
                    }
                }
            }
            serde_json::Value::Array(items) => items.iter().for_each(|item| self.learn_json(item)),
            _ => {}
        }
    }

    /// smartctl splits a world wide name into numbers: the last of them, `id`, names the disk.
    fn learn_wwn(&mut self, wwn: &serde_json::Value) {
        if let Some(id) = wwn.get("id").and_then(serde_json::Value::as_u64) {
            self.learn(&id.to_string());
        }
    }

    fn learn_address(&mut self, text: &str) {
        let number = self.identifiers.values().filter(|value| value.starts_with("192.0.2.")).count() + 1;
        let replacement = format!("192.0.2.{}", number % 255);
        self.identifiers.entry(text.to_owned()).or_insert_with(|| replacement.clone());
        let replacement = self.identifiers[text].clone();
        self.replacements.insert(text.as_bytes().to_vec(), replacement.into_bytes());
    }

    fn learn(&mut self, text: &str) {
        let text = text.trim();
        if is_placeholder(text) || self.identifiers.contains_key(text) {
            return;
        }
        let replacement = self.replacement_of_field(text);
        self.identifiers.insert(text.to_owned(), replacement.clone());
        if text.len() < SHORTEST_ANYWHERE {
            return;
        }
        for (found, by) in spellings(text).into_iter().zip(spellings(&replacement)) {
            if found.len() >= SHORTEST_ANYWHERE && found.len() == by.len() && found != by {
                self.replacements.entry(found).or_insert(by);
            }
        }
    }

    /// What stands for a text that fills an identifying field; the text itself if it is a placeholder.
    pub(super) fn replacement_of_field(&self, text: &str) -> String {
        let trimmed = text.trim();
        if is_placeholder(trimmed) {
            return text.to_owned();
        }
        text.replace(trimmed, &self.replacement(trimmed))
    }

    fn replacement(&self, text: &str) -> String {
        if let Some(known) = self.identifiers.get(text) {
            return known.clone();
        }
        // Letter case and separators must not matter: one MAC address has many spellings.
        let canonical: String =
            text.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase();
        let kept = kept_prefix(text);
        let nothing_to_replace = text.chars().skip(kept).all(|c| !c.is_ascii_alphanumeric());
        // The odds that a hash gives a text back are small, and nil that it does so 64 times.
        (0_u32..64)
            .map(|round| self.scramble(text, &canonical, kept, round))
            .find(|replaced| replaced != text || nothing_to_replace)
            .unwrap_or_else(|| "x".repeat(text.len()))
    }

    fn scramble(&self, text: &str, canonical: &str, kept: usize, round: u32) -> String {
        let hex = is_hexadecimal(text);
        let digest = |block: u32| {
            let mut hash = Sha256::new();
            hash.update(self.salt);
            hash.update(round.to_le_bytes());
            hash.update(block.to_le_bytes());
            hash.update(canonical.as_bytes());
            hash.finalize()
        };
        let mut stream = (0_u32..).flat_map(digest);
        let mut pick = |from: &[u8]| {
            let byte = stream.next().unwrap_or_default();
            char::from(from[usize::from(byte) % from.len()])
        };
        text.chars()
            .enumerate()
            .map(|(position, character)| match character {
                _ if position < kept => character,
                'x' if text.starts_with("0x") && position == 1 => character,
                '0'..='9' | 'a'..='f' if hex => pick(b"0123456789abcdef"),
                'A'..='F' if hex => pick(b"0123456789abcdef").to_ascii_uppercase(),
                '0'..='9' => pick(b"0123456789"),
                'a'..='z' => pick(b"abcdefghijklmnopqrstuvwxyz"),
                'A'..='Z' => pick(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
                other if other.is_ascii() => other,
                // One byte a character keeps the length of what was not ASCII in bytes, not in characters.
                other => char::from(b"xxxx"[other.len_utf8() - 1]),
            })
            .collect()
    }

    /// A file's bytes with every identifier replaced.
    pub(super) fn scrub_file(&self, path: &str, bytes: &[u8]) -> Vec<u8> {
        if is_identifying(path)
            && let Ok(text) = std::str::from_utf8(bytes)
        {
            return self.replacement_of_field(text).into_bytes();
        }
        self.scrub(bytes)
    }

    /// Bytes with every known identifier replaced, the longest first.
    pub(super) fn scrub(&self, bytes: &[u8]) -> Vec<u8> {
        let mut by_length: Vec<(&Vec<u8>, &Vec<u8>)> = self.replacements.iter().collect();
        by_length.sort_by_key(|(found, _)| std::cmp::Reverse(found.len()));
        let mut scrubbed = Vec::with_capacity(bytes.len());
        let mut rest = bytes;
        while let Some((&first, tail)) = rest.split_first() {
            if let Some((found, by)) = by_length.iter().find(|(found, _)| rest.starts_with(found)) {
                scrubbed.extend_from_slice(by);
                rest = &rest[found.len()..];
            } else {
                scrubbed.push(first);
                rest = tail;
            }
        }
        scrubbed
    }
}

fn is_identifying(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    // `address` is a MAC address only for a network interface; for an NVMe controller it is its PCI function.
    IDENTIFYING_FILES.contains(&name) && (name != "address" || path.contains("/net/"))
}

fn is_assigned(address: Ipv4Addr) -> bool {
    !address.is_unspecified() && !address.is_loopback() && address.octets()[0] != 255
}

/// Hexadecimal digits and separators only, and enough of them: a MAC address, a UUID, a world wide name.
fn is_hexadecimal(text: &str) -> bool {
    let digits =
        ["naa.", "eui.", "uuid.", "0x"].iter().find_map(|prefix| text.strip_prefix(prefix)).unwrap_or(text);
    digits.len() >= 8
        && digits.chars().all(|c| c.is_ascii_hexdigit() || matches!(c, ':' | '-'))
        && digits.chars().any(|c| c.is_ascii_hexdigit() && !c.is_ascii_digit() || matches!(c, ':' | '-'))
}

/// How much of an identifier tells only who made the part: the OUI of a MAC address or of an NAA name.
fn kept_prefix(text: &str) -> usize {
    let is_mac = text.parse::<MacAddress>().is_ok();
    match text.len() {
        17 if is_mac => 8,
        12 if is_mac => 6,
        14 if is_mac => 7,
        _ if text.starts_with("naa.5") => 11,
        _ if text.starts_with("0x5") => 9,
        _ if text.starts_with("eui.") || text.starts_with("naa.") => 4,
        _ if text.starts_with("uuid.") => 5,
        _ => 0,
    }
}

/// Every way in which an identifier is written somewhere, in a fixed order.
fn spellings(text: &str) -> Vec<Vec<u8>> {
    let bare: String = ["naa.", "eui.", "uuid.", "0x"]
        .iter()
        .find_map(|prefix| text.strip_prefix(prefix))
        .unwrap_or(text)
        .to_owned();
    let mut found = Vec::new();
    for form in [text.to_owned(), bare.clone()] {
        for cased in [form.clone(), form.to_lowercase(), form.to_uppercase()] {
            found.push(cased.clone().into_bytes());
            // ATA IDENTIFY strings have the characters of each word swapped, wherever in the field they begin.
            found.push(swapped(&format!("{cased: <width$}", width = cased.len().next_multiple_of(2))));
            let shifted = format!(" {cased}");
            found.push(swapped(&format!("{shifted: <width$}", width = shifted.len().next_multiple_of(2))));
        }
    }
    if is_hexadecimal(text) {
        let plain: String = bare.chars().filter(char::is_ascii_hexdigit).collect();
        for cased in [plain.to_lowercase(), plain.to_uppercase()] {
            found.push(cased.clone().into_bytes());
            for separator in ["-", ":"] {
                let pairs: Vec<&str> =
                    (0..cased.len()).step_by(2).filter_map(|at| cased.get(at..at + 2)).collect();
                found.push(pairs.join(separator).into_bytes());
            }
        }
        let binary: Vec<u8> = (0..plain.len())
            .step_by(2)
            .filter_map(|at| u8::from_str_radix(plain.get(at..at + 2)?, 16).ok())
            .collect();
        found.push(binary.clone());
        found.push(binary.chunks(2).flat_map(|word| word.iter().rev().copied()).collect());
        // A UUID's first three fields are little-endian in SMBIOS.
        let mut little_endian = binary;
        if let Some(fields) = little_endian.get_mut(..8) {
            fields[0..4].reverse();
            fields[4..6].reverse();
            fields[6..8].reverse();
        }
        found.push(little_endian);
    }
    found
}

fn swapped(text: &str) -> Vec<u8> {
    text.as_bytes().chunks(2).flat_map(|word| word.iter().rev().copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scrubber(known: &[&str]) -> Scrubber {
        let mut scrubber = Scrubber::new([3; 32]);
        for text in known {
            scrubber.learn(text);
        }
        scrubber
    }

    #[test]
    fn the_same_text_gets_the_same_replacement_of_the_same_form() {
        let scrubber = scrubber(&["WD-WCC4N1234567", "52:54:00:ab:cd:ef", "naa.50014ee2b1234567"]);
        let text = b"a WD-WCC4N1234567 b 52:54:00:AB:CD:EF c 01-52-54-00-ab-cd-ef WD-WCC4N1234567 0x50014ee2b1234567";
        let clean = String::from_utf8(scrubber.scrub(text)).unwrap();
        assert_eq!(clean.len(), text.len());
        let words: Vec<&str> = clean.split(' ').collect();
        assert_eq!(words[1], words[6]);
        assert_ne!(words[1], "WD-WCC4N1234567");
        assert!(words[3].starts_with("52:54:00:") && words[3] != "52:54:00:AB:CD:EF");
        assert_eq!(words[5].replace('-', ":").to_uppercase(), format!("01:{}", words[3]));
        assert!(words[7].starts_with("0x50014ee") && words[7] != "0x50014ee2b1234567");
    }

    #[test]
    fn identify_data_and_binary_uuids_are_found() {
        let scrubber = scrubber(&["S3Z9NB0K12345", "12345678-9abc-def0-1122-334455667788"]);
        for padded in [swapped("S3Z9NB0K12345 "), swapped(" S3Z9NB0K12345")] {
            assert_ne!(scrubber.scrub(&padded), padded);
        }
        let uuid =
            [0x78, 0x56, 0x34, 0x12, 0xbc, 0x9a, 0xf0, 0xde, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88];
        assert_ne!(scrubber.scrub(&uuid), uuid);
    }

    #[test]
    fn placeholders_and_short_numbers_stay() {
        let scrubber = scrubber(&["Default string", "1234", "0000000000"]);
        assert_eq!(
            scrubber.scrub(b"size 1234 Default string 0000000000"),
            b"size 1234 Default string 0000000000"
        );
        assert_ne!(scrubber.replacement_of_field("1234"), "1234");
        assert_eq!(scrubber.replacement_of_field("Default string"), "Default string");
    }

    #[test]
    fn addresses_become_documentation_addresses() {
        let mut scrubber = scrubber(&[]);
        scrubber.learn_output("ipmitool", b"IP Address : 10.20.30.40\nSubnet Mask : 255.255.255.0\n");
        assert_eq!(scrubber.scrub(b"10.20.30.40 255.255.255.0"), b"192.0.2.1 255.255.255.0");
    }
}
