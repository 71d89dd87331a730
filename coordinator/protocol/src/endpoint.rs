//! Where a coordinator listens and which certificate authority it is believed for: as boot scripts, options and the
//! settings of a stick write them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ids::Sha256Hex;

/// Where a coordinator listens: a name or an address, and a port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Endpoint {
    /// DNS name, IPv4 address, or IPv6 address without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let refused = || EndpointError { found: text.to_owned() };
        let authority = text.strip_prefix("https://").unwrap_or(text);
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        let (host, port) = authority.rsplit_once(':').ok_or_else(refused)?;
        let host = if let Some(bracketed) = host.strip_prefix('[') {
            let address = bracketed.strip_suffix(']').ok_or_else(refused)?;
            address.parse::<std::net::Ipv6Addr>().map_err(|_| refused())?.to_string()
        } else {
            let valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
            if host.is_empty() || !host.bytes().all(valid) {
                return Err(refused());
            }
            host.to_owned()
        };
        // u16's parser would take a sign
        if !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(refused());
        }
        match port.parse() {
            Ok(port) if port > 0 => Ok(Self { host, port }),
            Ok(_) | Err(_) => Err(refused()),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl TryFrom<String> for Endpoint {
    type Error = EndpointError;

    fn try_from(text: String) -> Result<Self, EndpointError> {
        text.parse()
    }
}

impl From<Endpoint> for String {
    fn from(endpoint: Endpoint) -> Self {
        endpoint.to_string()
    }
}

/// A text that names no endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{found}` is not HOST:PORT, such as 10.0.0.1:8443, lab.example:8443 or [fd00::1]:8443")]
pub struct EndpointError {
    /// What was given.
    pub found: String,
}

/// The pin of a CA as boot scripts and options write it: `sha256:` and 64 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CaPin(pub Sha256Hex);

impl FromStr for CaPin {
    type Err = CaPinError;

    fn from_str(text: &str) -> Result<Self, CaPinError> {
        text.strip_prefix("sha256:")
            .and_then(|digits| digits.parse().ok())
            .map(Self)
            .ok_or_else(|| CaPinError { found: text.to_owned() })
    }
}

impl fmt::Display for CaPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.0)
    }
}

impl TryFrom<String> for CaPin {
    type Error = CaPinError;

    fn try_from(text: String) -> Result<Self, CaPinError> {
        text.parse()
    }
}

impl From<CaPin> for String {
    fn from(pin: CaPin) -> Self {
        pin.to_string()
    }
}

/// A text that is no CA fingerprint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{found}` is not a CA fingerprint: sha256: and 64 hex digits")]
pub struct CaPinError {
    /// What was given.
    pub found: String,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn endpoints_of_every_kind_read_and_write_alike() {
        for text in ["10.0.0.1:8443", "lab.example:1", "[fd00::1]:65535", "[::1]:8443"] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
        assert_eq!("https://lab:8443/".parse::<Endpoint>().unwrap().to_string(), "lab:8443");
        for text in
            ["", ":1", "a:0", "a:65536", "a:+1", "fd00::1:8443x", "[::1]8443", "[x]:1", "a b:1", "a/b:1"]
        {
            assert!(text.parse::<Endpoint>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in "\\PC{0,70}") {
            let _ = text.parse::<Endpoint>();
            let _ = text.parse::<CaPin>();
        }

        #[test]
        fn an_address_and_port_round_trip(address: std::net::IpAddr, port in 1_u16..) {
            let endpoint = Endpoint { host: address.to_string(), port };
            prop_assert_eq!(endpoint.to_string().parse(), Ok(endpoint));
        }
    }
}
