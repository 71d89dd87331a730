//! What of a machine's words may be stored and shown, what a new host is called, and the codes that people type.

use vetting_protocol::enrolment::{Identity, MAX_NICS, MAX_TEXT_BYTES};
use vetting_protocol::ids::MacAddress;

/// Letters and digits that nobody takes for another: no 0 O, 1 I L, 2 Z, 5 S, 8 B, U V.
const CODE_ALPHABET: &[u8; 23] = b"ACDEFGHJKMNPQRTWXY34679";
/// Characters of a code.
pub const CODE_LENGTH: usize = 6;
/// Longest name of a host (RFC 1035 section 2.3.4: a label).
const MAX_NAME_BYTES: usize = 63;
/// The name of a host whose token says nothing else.
pub const DEFAULT_PATTERN: &str = "{vendor}-{serial}";

/// A code from random bytes; `None` if a byte would make some letters likelier than others.
pub fn code(random: [u8; CODE_LENGTH]) -> Option<String> {
    let letters = CODE_ALPHABET.len();
    let fair = u8::MAX - (u8::MAX % 23);
    random
        .iter()
        .map(|byte| (*byte < fair).then(|| char::from(CODE_ALPHABET[usize::from(*byte) % letters])))
        .collect()
}

/// A code as a person typed it: any case, spaces and hyphens left out.
pub fn typed_code(text: &str) -> String {
    text.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_uppercase()).collect()
}

/// What is left of a machine's text: printable ASCII, as SMBIOS has it, of bounded length.
pub fn clean(text: &str) -> Option<String> {
    let printable = |c: char| if c == ' ' || c.is_ascii_graphic() { c } else { '?' };
    let cut: String = text.trim().chars().take(MAX_TEXT_BYTES).map(printable).collect();
    (!cut.is_empty()).then_some(cut)
}

/// The same identity with nothing in it that could steer a terminal or fill a database. Each card is there once.
pub fn cleaned(identity: &Identity) -> Identity {
    let text = |text: &Option<String>| text.as_deref().and_then(clean);
    let mut nics = identity.nics.clone();
    nics.sort_by_key(|nic| nic.mac);
    nics.dedup_by_key(|nic| nic.mac);
    nics.truncate(MAX_NICS);
    let boot_mac = identity.boot_mac.filter(|mac| nics.iter().any(|nic| nic.mac == *mac));
    Identity {
        system_uuid: text(&identity.system_uuid),
        manufacturer: text(&identity.manufacturer),
        product: text(&identity.product),
        system_serial: text(&identity.system_serial),
        board_serial: text(&identity.board_serial),
        chassis_serial: text(&identity.chassis_serial),
        nics,
        boot_mac,
        cpu: text(&identity.cpu),
        memory_bytes: identity.memory_bytes,
        disks: identity.disks,
    }
}

/// A pattern that names a host.
///
/// # Errors
/// What is wrong with it, in words.
pub fn check_pattern(pattern: &str) -> Result<(), String> {
    let mut rest = pattern.to_owned();
    for placeholder in ["{vendor}", "{product}", "{serial}", "{mac}"] {
        rest = rest.replace(placeholder, "");
    }
    let plain = rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
    if pattern.is_empty() || pattern.len() > MAX_NAME_BYTES || !plain {
        return Err(format!(
            "`{pattern}` is no pattern for host names; use letters, digits, `.`, `_`, `-` and {{vendor}}, \
             {{product}}, {{serial}}, {{mac}}"
        ));
    }
    Ok(())
}

/// The name that a pattern gives to a machine: letters, digits and hyphens only, whatever the machine says.
pub fn host_name(pattern: &str, identity: &Identity, mac: MacAddress) -> String {
    let digits: String = mac.to_string().replace(':', "");
    let serials = [&identity.system_serial, &identity.chassis_serial, &identity.board_serial];
    let serial =
        serials.into_iter().flatten().find(|serial| is_serial(serial)).map_or(digits.as_str(), |s| s);
    let vendor = identity.manufacturer.as_deref().and_then(|maker| maker.split([' ', ',']).next());
    let filled = pattern
        .replace("{vendor}", &plain(vendor.unwrap_or("host")))
        .replace("{product}", &plain(identity.product.as_deref().unwrap_or("machine")))
        .replace("{serial}", &plain(serial))
        .replace("{mac}", &digits);
    let mut name = filled.trim_matches(['-', '.', '_']).to_owned();
    name.truncate(MAX_NAME_BYTES);
    if name.is_empty() { format!("host-{digits}") } else { name }
}

/// The same with something that no other machine has, for a name that is taken.
pub fn distinct_name(name: &str, mac: MacAddress) -> String {
    let suffix = mac.to_string().replace(':', "");
    let room = MAX_NAME_BYTES - suffix.len() - 1;
    let short: String = name.chars().take(room).collect();
    format!("{}-{suffix}", short.trim_end_matches(['-', '.', '_']))
}

/// Whether a serial number is more than a placeholder of the board's maker.
fn is_serial(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let filler =
        ["to be filled", "default", "not specified", "none", "n/a", "o.e.m", "system serial", "123456789"];
    let characters: Vec<char> = lower.chars().filter(char::is_ascii_alphanumeric).collect();
    characters.len() >= 3
        && characters.iter().any(|c| *c != characters[0])
        && !filler.iter().any(|filler| lower.contains(filler))
}

fn plain(text: &str) -> String {
    let mut name = String::new();
    for c in text.chars() {
        if c.is_ascii_alphanumeric() {
            name.push(c.to_ascii_lowercase());
        } else if !name.is_empty() && !name.ends_with('-') {
            name.push('-');
        }
    }
    name.trim_end_matches('-').to_owned()
}
