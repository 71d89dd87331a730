//! Identifiers: run and host ids, MAC addresses, stage names, digests. Refuses text that is not exactly one.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A text that is not the identifier it should be. The message names what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{found}` is not {expected}")]
pub struct ParseIdError {
    /// What was given.
    pub found: String,
    /// What would have been right.
    pub expected: &'static str,
}

/// Key of a row in `runs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct RunId(pub i64);

/// Key of a row in `hosts`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct HostId(pub i64);

macro_rules! integer_id {
    ($name:ident, $expected:literal) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                match text.parse::<i64>() {
                    Ok(number) if number > 0 => Ok(Self(number)),
                    Ok(_) | Err(_) => Err(ParseIdError { found: text.to_owned(), expected: $expected }),
                }
            }
        }
    };
}
integer_id!(RunId, "a run number");
integer_id!(HostId, "a host number");

/// A 48-bit IEEE 802 MAC address. Reads `aa:bb:…`, `AA-BB-…`, `aabb.ccdd.eeff` and twelve bare hex digits;
/// writes lower case with colons, as the database holds it. Refuses the zero address and group addresses,
/// since no network card has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(try_from = "String", into = "String")]
pub struct MacAddress([u8; 6]);

impl MacAddress {
    /// The six octets, in transmission order.
    pub fn octets(self) -> [u8; 6] {
        self.0
    }
}

impl FromStr for MacAddress {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let refused =
            || ParseIdError { found: text.to_owned(), expected: "a MAC address such as aa:bb:cc:dd:ee:ff" };
        let trimmed = text.trim();
        let group_length = match trimmed.len() {
            17 => 2,
            14 => 4,
            12 => 12,
            _ => return Err(refused()),
        };
        let mut digits = String::with_capacity(12);
        let mut separator = None;
        for (position, character) in trimmed.chars().enumerate() {
            if group_length < 12 && position % (group_length + 1) == group_length {
                let allowed = matches!((group_length, character), (2, ':' | '-') | (4, '.'));
                if !allowed || *separator.get_or_insert(character) != character {
                    return Err(refused());
                }
            } else if character.is_ascii_hexdigit() {
                digits.push(character);
            } else {
                return Err(refused());
            }
        }
        let mut octets = [0_u8; 6];
        for (octet, pair) in octets.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| refused())?;
            *octet = u8::from_str_radix(pair, 16).map_err(|_| refused())?;
        }
        if octets == [0; 6] || octets[0] & 1 == 1 {
            return Err(refused());
        }
        Ok(Self(octets))
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, octet) in self.0.iter().enumerate() {
            let separator = if position == 0 { "" } else { ":" };
            write!(f, "{separator}{octet:02x}")?;
        }
        Ok(())
    }
}

impl TryFrom<String> for MacAddress {
    type Error = ParseIdError;

    fn try_from(text: String) -> Result<Self, ParseIdError> {
        text.parse()
    }
}

impl From<MacAddress> for String {
    fn from(mac: MacAddress) -> Self {
        mac.to_string()
    }
}

/// Declares an enum whose variants have one text form each: for serde, `Display`, `FromStr` and `ALL`.
/// The using crate needs `serde` with `derive`.
#[macro_export]
macro_rules! named_enum {
    ($(#[$meta:meta])* $name:ident, $expected:literal { $($(#[$variant_meta:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        pub enum $name {
            $($(#[$variant_meta])* #[serde(rename = $text)] $variant,)+
        }

        impl $name {
            /// Every variant, in declaration order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The text form, as on the wire and in the database.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::ids::ParseIdError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $($text => Ok(Self::$variant),)+
                    _ => Err($crate::ids::ParseIdError { found: text.to_owned(), expected: $expected }),
                }
            }
        }

        $crate::named_enum_schema!($name);
    };
}
pub(crate) use named_enum;

/// The JSON Schema of such an enum, where schemas are wanted.
#[cfg(feature = "schema")]
#[macro_export]
macro_rules! named_enum_schema {
    ($name:ident) => {
        impl $crate::schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut $crate::schemars::SchemaGenerator) -> $crate::schemars::Schema {
                let words: Vec<&str> = Self::ALL.iter().map(|variant| variant.as_str()).collect();
                $crate::schemars::json_schema!({ "type": "string", "enum": words })
            }
        }
    };
}

/// Nothing, since no schemas are wanted.
#[cfg(not(feature = "schema"))]
#[macro_export]
macro_rules! named_enum_schema {
    ($name:ident) => {};
}

named_enum! {
    /// A stage of the pipeline, named as the database's `stages.name` holds it. `ALL` is the default stage order.
    StageName, "the name of a stage" {
        /// What the machine is made of.
        Inventory = "Inventory",
        /// Firmware versions of its parts.
        Firmware = "Firmware",
        /// Inventory and firmware against the expected spec.
        SpecValidate = "SpecValidate",
        /// Drive health as the drives report it.
        Smart = "SMART",
        /// CPU and memory load with checked answers.
        CpuStress = "CPUStress",
        /// Patterns over all memory that can be had.
        Memory = "Memory",
        /// Reading, and with consent writing, every disk.
        Storage = "Storage",
        /// Every network link, alone and all together.
        Network = "Network",
        /// Graphics processors and accelerators, before and after load.
        Gpu = "GPU",
        /// Power supplies, idle and under load.
        Psu = "PSU",
        /// Everything at once.
        Burn = "Burn",
        /// Restarts, with the inventory compared after each.
        Reboot = "Reboot",
        /// Memory tested by programs that have the machine to themselves.
        Memtest = "Memtest",
    }
}

/// Tells one finding of a run from all others: a digest of all that was found, so that it never means anything more.
/// 12 lower-case hex digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(try_from = "String", into = "String")]
pub struct FindingId(String);

impl FindingId {
    /// Digits of one.
    const DIGITS: usize = 12;

    /// The finding that these bytes describe whole.
    pub fn of(bytes: &[u8]) -> Self {
        let mut digits = Sha256Hex::of(bytes).to_string();
        digits.truncate(Self::DIGITS);
        Self(digits)
    }
}

impl fmt::Display for FindingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for FindingId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let is_id =
            text.len() == Self::DIGITS && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if is_id {
            return Ok(Self(text.to_owned()));
        }
        Err(ParseIdError {
            found: text.to_owned(),
            expected: "a finding: 12 hex digits, as `run verdict` shows them",
        })
    }
}

impl TryFrom<String> for FindingId {
    type Error = ParseIdError;

    fn try_from(text: String) -> Result<Self, ParseIdError> {
        text.parse()
    }
}

impl From<FindingId> for String {
    fn from(id: FindingId) -> Self {
        id.0
    }
}

/// A SHA-256 digest; 64 lower-case hex digits in text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(try_from = "String", into = "String")]
pub struct Sha256Hex([u8; 32]);

impl Sha256Hex {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// A digest computed elsewhere.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for Sha256Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Sha256Hex {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let refused = || ParseIdError { found: text.to_owned(), expected: "a SHA-256 in 64 hex digits" };
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(refused());
        }
        let mut bytes = [0_u8; 32];
        for (byte, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
            *byte = u8::from_str_radix(&text[at..at + 2], 16).map_err(|_| refused())?;
        }
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for Sha256Hex {
    type Error = ParseIdError;

    fn try_from(text: String) -> Result<Self, ParseIdError> {
        text.parse()
    }
}

impl From<Sha256Hex> for String {
    fn from(digest: Sha256Hex) -> Self {
        digest.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_common_notation_of_a_mac_reads_alike() {
        for text in [
            "52:54:00:AB:cd:01",
            "52-54-00-ab-cd-01",
            "5254.00ab.cd01",
            "525400abcd01",
            " 52:54:00:ab:cd:01\n",
        ] {
            assert_eq!(
                text.parse::<MacAddress>().map(|mac| mac.to_string()),
                Ok("52:54:00:ab:cd:01".to_owned()),
                "{text}"
            );
        }
    }

    #[test]
    fn nonsense_is_no_mac() {
        for text in [
            "",
            "hello",
            "52:54:00:ab:cd",
            "52:54-00:ab:cd:01",
            "525400abcd0g",
            "5254:00ab:cd01",
            "00:00:00:00:00:00",
            "ff:ff:ff:ff:ff:ff",
            "01:00:5e:00:00:01",
            "52:54:00:ab:cd:01:02",
            "5é5400abcd0",
        ] {
            assert!(text.parse::<MacAddress>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_digest_round_trips_and_is_the_known_one() {
        let digest = Sha256Hex::of(b"abc");
        assert_eq!(digest.to_string(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert!("é".repeat(32).parse::<Sha256Hex>().is_err());
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in ".{0,80}") {
            let _ = text.parse::<MacAddress>();
            let _ = text.parse::<Sha256Hex>();
            let _ = text.parse::<RunId>();
            let _ = text.parse::<StageName>();
        }

        #[test]
        fn a_mac_round_trips(mut octets: [u8; 6]) {
            octets[0] = (octets[0] & !1) | 2;
            let mac = MacAddress(octets);
            prop_assert_eq!(mac.to_string().parse(), Ok(mac));
        }
    }
}
