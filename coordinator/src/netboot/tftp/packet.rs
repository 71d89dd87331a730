//! The datagrams of TFTP: what a client can say, what a server says.
//!
//! Refuses: everything that is not exactly a datagram of the RFCs.

use std::fmt::Write as _;

/// A request is never longer (RFC 2347).
const LONGEST_REQUEST: usize = 512;

/// A datagram that is none of TFTP's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a datagram of TFTP: {0}")]
pub struct Malformed(pub &'static str);

/// What a client says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromClient {
    /// Send me this file.
    Read {
        /// Its name, as it came.
        name: String,
        /// How.
        wanted: Wanted,
    },
    /// Take this file.
    Write,
    /// A request in a transfer mode other than `octet`.
    OtherMode,
    /// I have all up to this block.
    Ack(u16),
    /// I give up.
    Error(u16),
}

/// The options of a read request that are valid; RFC 2347 lets a server leave out the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wanted {
    /// Bytes in a block, 8 to 65464 (RFC 2348).
    pub block_bytes: Option<u16>,
    /// Blocks before an acknowledgement, 1 to 65535 (RFC 7440).
    pub window: Option<u16>,
    /// Seconds before something is sent again, 1 to 255 (RFC 2349).
    pub timeout_seconds: Option<u8>,
    /// Whether the size is asked for (RFC 2349).
    pub size: bool,
}

/// Error codes of RFC 1350 that we send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorCode {
    /// What it says is in the message.
    NotDefined = 0,
    /// There is no such file.
    NotFound = 1,
    /// Not to be had.
    AccessViolation = 2,
    /// Not something this server does.
    IllegalOperation = 4,
}

/// Reads a client's datagram.
///
/// # Errors
/// Anything that is not exactly one.
pub fn read(bytes: &[u8]) -> Result<FromClient, Malformed> {
    match bytes {
        [0, 1 | 2, ..] if bytes.len() > LONGEST_REQUEST => Err(Malformed("a request of more than 512 bytes")),
        [0, 1, request @ ..] => read_request(request),
        [0, 2, ..] => Ok(FromClient::Write),
        [0, 4, high, low] => Ok(FromClient::Ack(u16::from_be_bytes([*high, *low]))),
        [0, 5, high, low, ..] => Ok(FromClient::Error(u16::from_be_bytes([*high, *low]))),
        _ => Err(Malformed("no known operation")),
    }
}

fn read_request(request: &[u8]) -> Result<FromClient, Malformed> {
    let Some(([], texts)) = request
        .split(|byte| *byte == 0)
        .collect::<Vec<_>>()
        .split_last()
        .map(|(last, texts)| (*last, texts.to_vec()))
    else {
        return Err(Malformed("a text without its end"));
    };
    let [name, mode, options @ ..] = texts.as_slice() else {
        return Err(Malformed("no file name or no mode"));
    };
    let name = std::str::from_utf8(name).map_err(|_| Malformed("a file name that is no text"))?;
    if name.is_empty() {
        return Err(Malformed("an empty file name"));
    }
    if !mode.eq_ignore_ascii_case(b"octet") {
        return Ok(FromClient::OtherMode);
    }
    if !options.len().is_multiple_of(2) {
        return Err(Malformed("an option without a value"));
    }
    let mut wanted = Wanted::default();
    for pair in options.chunks_exact(2) {
        if let [option, value] = pair {
            wanted.keep(option, value);
        }
    }
    Ok(FromClient::Read { name: name.to_owned(), wanted })
}

impl Wanted {
    fn keep(&mut self, option: &[u8], value: &[u8]) {
        let number = std::str::from_utf8(value)
            .ok()
            .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|text| text.parse::<u32>().ok());
        let within = |low: u16, high: u16| {
            number
                .and_then(|number| u16::try_from(number).ok())
                .filter(|number| (low..=high).contains(number))
        };
        match option.to_ascii_lowercase().as_slice() {
            b"blksize" => self.block_bytes = within(8, 65_464),
            b"windowsize" => self.window = within(1, u16::MAX),
            b"timeout" => self.timeout_seconds = within(1, 255).and_then(|number| u8::try_from(number).ok()),
            b"tsize" => self.size = number.is_some(),
            _ => {}
        }
    }
}

/// A block of the file; blocks count from 1 and start over after 65535.
pub fn data(block: u16, content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(4 + content.len());
    bytes.extend([0, 3]);
    bytes.extend(block.to_be_bytes());
    bytes.extend(content);
    bytes
}

/// Which options are granted, with their values.
pub fn option_acknowledgement(options: &[(&str, u64)]) -> Vec<u8> {
    let mut text = String::new();
    for (name, value) in options {
        let _ = write!(text, "{name}\0{value}\0");
    }
    [&[0, 6], text.as_bytes()].concat()
}

/// The end of a transfer that does not succeed.
pub fn error(code: ErrorCode, message: &str) -> Vec<u8> {
    [&[0, 5, 0, code as u8], message.as_bytes(), &[0]].concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As OVMF and iPXE send them.
    #[test]
    fn requests_of_firmware_are_read() {
        let first = b"\0\x01snponly.efi\0octet\0tsize\x000\0blksize\x001468\0windowsize\x004\0";
        let wanted = Wanted { block_bytes: Some(1468), window: Some(4), timeout_seconds: None, size: true };
        assert_eq!(read(first), Ok(FromClient::Read { name: "snponly.efi".to_owned(), wanted }));
        let second = b"\0\x01autoexec.ipxe\0octet\0blksize\x001432\0tsize\x000\0";
        let wanted = Wanted { block_bytes: Some(1432), size: true, ..Wanted::default() };
        assert_eq!(read(second), Ok(FromClient::Read { name: "autoexec.ipxe".to_owned(), wanted }));
        assert_eq!(read(b"\0\x04\x01\x02"), Ok(FromClient::Ack(258)));
        assert_eq!(read(b"\0\x05\0\x08User aborted the transfer\0"), Ok(FromClient::Error(8)));
    }

    #[test]
    fn values_that_are_not_valid_are_left_out() {
        let request =
            b"\0\x01f\0OCTET\0BLKSIZE\x007\0windowsize\x000\0timeout\x00256\0tsize\0-1\0colour\0red\0";
        assert_eq!(read(request), Ok(FromClient::Read { name: "f".to_owned(), wanted: Wanted::default() }));
        let huge = b"\0\x01f\0octet\0windowsize\x0099999999999999999999\0blksize\x0065465\0";
        assert_eq!(read(huge), Ok(FromClient::Read { name: "f".to_owned(), wanted: Wanted::default() }));
    }

    #[test]
    fn what_is_no_datagram_is_refused() {
        let long = [b"\0\x01".as_slice(), &[b'a'; 600], b"\0octet\0"].concat();
        for bytes in [
            b"".as_slice(),
            b"\0",
            b"\0\x01",
            b"\0\x01f",
            b"\0\x01f\0",
            b"\0\x01f\0octet",
            b"\0\x01\0octet\0",
            b"\0\x01f\0octet\0blksize\0",
            b"\0\x01\xff\xfe\0octet\0",
            b"\0\x03\0\x01data",
            b"\0\x04\0",
            b"\0\x04\0\0\0",
            b"\x01\x01f\0octet\0",
            &long,
        ] {
            assert!(read(bytes).is_err(), "{bytes:?}");
        }
        assert_eq!(read(b"\0\x02f\0octet\0"), Ok(FromClient::Write));
        assert_eq!(read(b"\0\x01f\0netascii\0"), Ok(FromClient::OtherMode));
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes: Vec<u8>) {
            let _ = read(&bytes);
            let _ = read(&[b"\0\x01".as_slice(), &bytes].concat());
        }

        #[test]
        fn what_is_wanted_lies_within_the_rfcs(name in "[a-z]{1,9}", options in proptest::collection::vec(("(?i)blksize|windowsize|timeout|tsize", "[0-9]{0,8}"), 0..5)) {
            let mut bytes = [b"\0\x01".as_slice(), name.as_bytes(), b"\0octet\0"].concat();
            for (option, value) in &options {
                bytes.extend([option.as_bytes(), b"\0", value.as_bytes(), b"\0"].concat());
            }
            let Ok(FromClient::Read { wanted, .. }) = read(&bytes) else { return Err(TestCaseError::fail("refused")) };
            prop_assert!(wanted.block_bytes.is_none_or(|bytes| (8..=65_464).contains(&bytes)));
            prop_assert!(wanted.window.is_none_or(|window| window > 0));
            prop_assert!(wanted.timeout_seconds.is_none_or(|seconds| seconds > 0));
        }
    }
}
