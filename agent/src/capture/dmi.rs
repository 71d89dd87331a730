//! SMBIOS tables without what names one machine: serial numbers, asset tags and the UUID replaced, vendor structures
//! and OEM strings blanked. Lengths and offsets stay, so the tables parse as before.

use super::scrub::Scrubber;

const HEADER: usize = 4;
const END_OF_TABLE: u8 = 127;

/// Formatted-area offsets of string numbers that name one part: serial numbers and asset tags, by structure type.
fn identifying_fields(structure_type: u8) -> &'static [usize] {
    match structure_type {
        1 | 22 => &[0x07],
        2 | 3 => &[0x07, 0x08],
        4 => &[0x20, 0x21],
        17 => &[0x18, 0x19],
        39 => &[0x08, 0x09],
        _ => &[],
    }
}

/// Whether only the vendor knows what a structure holds: OEM strings, configuration options, types of its own.
fn is_vendors(structure_type: u8) -> bool {
    matches!(structure_type, 11 | 12 | 128..=255)
}

struct Structure {
    start: usize,
    formatted: usize,
    end: usize,
}

/// Structures of a table, as far as it is well formed.
fn structures(table: &[u8]) -> Vec<Structure> {
    let mut found = Vec::new();
    let mut start = 0;
    while let Some(&formatted) = table.get(start + 1) {
        let formatted = usize::from(formatted);
        let strings_at = start + formatted;
        if formatted < HEADER || strings_at + 2 > table.len() {
            break;
        }
        let Some(end) = table[strings_at..].windows(2).position(|pair| pair == [0, 0]) else { break };
        let end = strings_at + end + 2;
        found.push(Structure { start, formatted, end });
        if table[start] == END_OF_TABLE {
            break;
        }
        start = end;
    }
    found
}

/// String number `number`, 1-based, of a structure: where it lies in the table.
fn string_range(table: &[u8], structure: &Structure, number: u8) -> Option<std::ops::Range<usize>> {
    let mut at = structure.start + structure.formatted;
    for position in 1..=number {
        let length = table[at..structure.end].iter().position(|byte| *byte == 0)?;
        if position == number {
            return (length > 0).then_some(at..at + length);
        }
        at += length + 1;
    }
    None
}

/// Every string of the table that names one part.
pub(super) fn identifiers(table: &[u8]) -> Vec<String> {
    structures(table)
        .iter()
        .flat_map(|structure| identifying_ranges(table, structure))
        .map(|range| String::from_utf8_lossy(&table[range]).trim().to_owned())
        .collect()
}

fn identifying_ranges(table: &[u8], structure: &Structure) -> Vec<std::ops::Range<usize>> {
    identifying_fields(table[structure.start])
        .iter()
        .filter(|offset| **offset < structure.formatted)
        .filter_map(|offset| string_range(table, structure, table[structure.start + offset]))
        .collect()
}

/// The table with every identifier replaced.
pub(super) fn scrubbed(table: &[u8], scrubber: &Scrubber) -> Vec<u8> {
    let mut nameless = table.to_vec();
    let structures = structures(table);
    for structure in &structures {
        if is_vendors(table[structure.start]) {
            // Types 11 and 12 have only the number of their strings there, which has to stay true.
            if table[structure.start] >= 128 {
                nameless[structure.start + HEADER..structure.start + structure.formatted].fill(0);
            }
            for byte in &mut nameless[structure.start + structure.formatted..structure.end] {
                if *byte != 0 {
                    *byte = b'x';
                }
            }
            continue;
        }
        for range in identifying_ranges(table, structure) {
            let text = String::from_utf8_lossy(&table[range.clone()]).into_owned();
            let replacement = scrubber.replacement_of_field(&text);
            if replacement.len() == range.len() {
                nameless[range].copy_from_slice(replacement.as_bytes());
            } else {
                nameless[range].fill(b'x');
            }
        }
    }
    // What comes after the last well-formed structure cannot be judged, so it is not kept.
    let known = structures.last().map_or(0, |last| last.end);
    nameless.truncate(known);
    scrubber.scrub(&nameless)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn structure(kind: u8, body: &[u8], strings: &[&str]) -> Vec<u8> {
        let mut bytes = vec![kind, u8::try_from(body.len() + HEADER).unwrap(), 1, 0];
        bytes.extend_from_slice(body);
        for text in strings {
            bytes.extend_from_slice(text.as_bytes());
            bytes.push(0);
        }
        if strings.is_empty() {
            bytes.push(0);
        }
        bytes.push(0);
        bytes
    }

    #[test]
    fn serial_numbers_go_and_makers_stay() {
        let mut table = structure(3, &[1, 0x17, 0, 2, 3], &["Acme", "SN-77", "To Be Filled By O.E.M."]);
        table.extend(structure(11, &[1], &["service tag ABC"]));
        table.extend(structure(221, &[9, 9, 9], &["secret"]));
        table.extend(structure(END_OF_TABLE, &[], &[]));
        table.extend(b"left over");
        assert_eq!(identifiers(&table), ["SN-77", "To Be Filled By O.E.M."]);
        let nameless = scrubbed(&table, &Scrubber::new([7; 32]));
        let text = String::from_utf8_lossy(&nameless).into_owned();
        assert!(text.contains("Acme") && text.contains("To Be Filled By O.E.M."));
        for secret in ["SN-77", "ABC", "secret", "left over"] {
            assert!(!text.contains(secret), "{secret}");
        }
        assert_eq!(nameless.len(), table.len() - "left over".len());
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(table in proptest::collection::vec(prop_oneof![Just(0_u8), Just(4), any::<u8>()], 0..300)) {
            let _ = identifiers(&table);
            prop_assert!(scrubbed(&table, &Scrubber::new([1; 32])).len() <= table.len());
        }
    }
}
