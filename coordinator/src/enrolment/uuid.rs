//! SMBIOS system UUIDs, and those that tell no machine from another.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

/// UUIDs that makers left in more than one board, in lower case: what an unfilled AMI BIOS holds, in both byte orders
/// (SMBIOS before and after 2.6), and counting patterns of boards that were never filled in.
const SHARED: [&str; 7] = [
    "03000200-0400-0500-0006-000700080009",
    "00020003-0004-0005-0006-000700080009",
    "00010203-0405-0607-0809-0a0b0c0d0e0f",
    "03020100-0504-0706-0809-0a0b0c0d0e0f",
    "01234567-8910-1112-1314-151617181920",
    "12345678-1234-5678-90ab-cddeefaabbcc",
    "fefefefe-fefe-fefe-fefe-fefefefefefe",
];

/// A UUID that tells a machine from others, as far as can be known; lower case with hyphens.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct SystemUuid(String);

/// A text that is no such UUID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a UUID that tells a machine from others")]
pub struct NotTelling;

impl FromStr for SystemUuid {
    type Err = NotTelling;

    fn from_str(text: &str) -> Result<Self, NotTelling> {
        let text = text.trim().to_ascii_lowercase();
        let shape = text.len() == 36
            && text.bytes().enumerate().all(|(at, byte)| match at {
                8 | 13 | 18 | 23 => byte == b'-',
                _ => byte.is_ascii_hexdigit(),
            });
        let mut digits = text.bytes().filter(|byte| *byte != b'-');
        let first = digits.next();
        // all bits equal, or one digit over and over
        let varied = digits.any(|digit| Some(digit) != first);
        if shape && varied && !SHARED.contains(&text.as_str()) { Ok(Self(text)) } else { Err(NotTelling) }
    }
}

impl TryFrom<String> for SystemUuid {
    type Error = NotTelling;

    fn try_from(text: String) -> Result<Self, NotTelling> {
        text.parse()
    }
}

impl fmt::Display for SystemUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
