//! The serial line of a machine under test, as this box can have it: a serial console server (TCP), a device of this
//! box, or IPMI serial over LAN. One file each, behind one trait. Refuses to know what is said on the line.

#[cfg(test)]
pub(crate) mod cable;
mod device;
mod ipmi;
mod tcp;

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};

pub use ipmi::IpmiSecrets;

/// Where a serial line can be had, and which port of the machine is at its other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SerialConsole {
    /// Where.
    pub line: Line,
    /// The machine's own name for it, as its programs are told: `ttyS0`.
    pub machine_port: MachinePort,
}

/// A way to a serial line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// A serial console server: a raw TCP connection.
    Tcp {
        /// Name or address, without brackets.
        host: String,
        /// Port.
        port: u16,
    },
    /// A serial device of this box, 115200 baud.
    Device {
        /// Such as `/dev/ttyUSB0`.
        path: PathBuf,
    },
    /// IPMI serial over LAN, by ipmitool.
    Ipmi {
        /// Name or address of the BMC, without brackets.
        host: String,
        /// UDP port.
        port: u16,
        /// Cipher suite (IPMI 2.0, table 22-20); `None` lets ipmitool ask for the best.
        cipher_suite: Option<u8>,
    },
}

/// The port that BMCs listen on (IPMI 2.0, 13.1.2).
const IPMI_PORT: u16 = 623;
/// Cipher suites are below this (IPMI 2.0, table 22-20).
const CIPHER_SUITES: u8 = 18;

/// A serial port of a PC: `ttyS0` to `ttyS3`, at 115200 baud.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MachinePort(u8);

impl MachinePort {
    /// The first one.
    pub const FIRST: Self = Self(0);
}

impl fmt::Display for MachinePort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ttyS{}", self.0)
    }
}

/// A text that names no serial line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{found}` names no serial line: {problem}; write tcp://HOST:PORT, device:/dev/ttyUSB0 or ipmi://HOST, and after it \
     ?port=ttyS1 where the machine's end is not ttyS0, ?cipher_suite=3 where the BMC is slow to tell its own"
)]
pub struct ParseConsoleError {
    /// What was given.
    pub found: String,
    /// What is wrong with it.
    pub problem: &'static str,
}

impl FromStr for SerialConsole {
    type Err = ParseConsoleError;

    fn from_str(text: &str) -> Result<Self, ParseConsoleError> {
        let refused = |problem| ParseConsoleError { found: text.to_owned(), problem };
        let (place, query) = text.split_once('?').map_or((text, None), |(place, query)| (place, Some(query)));
        let (mut machine_port, mut cipher_suite) = (MachinePort::FIRST, None);
        for setting in query.into_iter().flat_map(|query| query.split('&')) {
            if let Some(number) = setting.strip_prefix("port=ttyS") {
                let number = number.parse().ok().filter(|number| *number <= 3);
                machine_port =
                    number.map(MachinePort).ok_or_else(|| refused("its port is none of ttyS0 to ttyS3"))?;
            } else if let Some(number) = setting.strip_prefix("cipher_suite=") {
                let number = number.parse().ok().filter(|number| *number < CIPHER_SUITES);
                cipher_suite = Some(number.ok_or_else(|| refused("its cipher suite is none of 0 to 17"))?);
            } else {
                return Err(refused("after the `?` goes port=ttyS1 or, with ipmi://, cipher_suite=3"));
            }
        }
        let line = if let Some(address) = place.strip_prefix("tcp://") {
            let (host, port) = address.rsplit_once(':').ok_or_else(|| refused("it has no port"))?;
            let port =
                port.parse().ok().filter(|port| *port > 0).ok_or_else(|| refused("its port is no number"))?;
            Line::Tcp {
                host: host_name(host).ok_or_else(|| refused("its host is no name or address"))?,
                port,
            }
        } else if let Some(path) = place.strip_prefix("device:") {
            let path = PathBuf::from(path);
            if !path.starts_with("/dev/")
                || path.components().any(|part| part == std::path::Component::ParentDir)
            {
                return Err(refused("its device is not below /dev/"));
            }
            Line::Device { path }
        } else if let Some(address) = place.strip_prefix("ipmi://") {
            // an address without brackets has colons of its own
            let (host, port) = match address.rsplit_once(':').filter(|_| address.parse::<IpAddr>().is_err()) {
                None => (address, IPMI_PORT),
                Some((host, _)) if host.starts_with('[') && !host.ends_with(']') => (address, IPMI_PORT),
                Some((host, port)) => {
                    let port = port.parse().ok().filter(|port| *port > 0);
                    (host, port.ok_or_else(|| refused("its port is no number"))?)
                }
            };
            let host = host_name(host).ok_or_else(|| refused("its host is no name or address"))?;
            Line::Ipmi { host, port, cipher_suite }
        } else {
            return Err(refused("it begins with none of tcp://, device: and ipmi://"));
        };
        if cipher_suite.is_some() && !matches!(line, Line::Ipmi { .. }) {
            return Err(refused("only ipmi:// has a cipher suite"));
        }
        Ok(Self { line, machine_port })
    }
}

/// A DNS name, or an address with or without brackets. Nothing that a program could take for an option.
fn host_name(text: &str) -> Option<String> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let is_name = |name: &str| {
        !name.is_empty()
            && name.len() <= 253
            && !name.starts_with(['-', '.'])
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
    };
    (bare.parse::<IpAddr>().is_ok() || (bare == text && is_name(bare))).then(|| bare.to_owned())
}

impl fmt::Display for SerialConsole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.line {
            Line::Tcp { host, port } if host.contains(':') => write!(f, "tcp://[{host}]:{port}")?,
            Line::Tcp { host, port } => write!(f, "tcp://{host}:{port}")?,
            Line::Device { path } => write!(f, "device:{}", path.display())?,
            Line::Ipmi { host, port: IPMI_PORT, .. } => write!(f, "ipmi://{host}")?,
            Line::Ipmi { host, port, .. } if host.contains(':') => write!(f, "ipmi://[{host}]:{port}")?,
            Line::Ipmi { host, port, .. } => write!(f, "ipmi://{host}:{port}")?,
        }
        let mut before = '?';
        if self.machine_port != MachinePort::FIRST {
            write!(f, "{before}port={}", self.machine_port)?;
            before = '&';
        }
        if let Line::Ipmi { cipher_suite: Some(suite), .. } = &self.line {
            write!(f, "{before}cipher_suite={suite}")?;
        }
        Ok(())
    }
}

/// Why there is no line.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    /// The console server does not answer.
    #[error("no connection to the serial console server {address}")]
    Connect {
        /// Where.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// The device cannot be used.
    #[error("the serial device {} cannot be used", path.display())]
    Device {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// No credentials.
    #[error(
        "no credentials for the BMC {host}: set VETTING_IPMI_USER and VETTING_IPMI_PASSWORD in the coordinator's environment"
    )]
    NoCredentials {
        /// The BMC.
        host: String,
    },
    /// The BMC gives no session.
    #[error(
        "the BMC {host} gives no serial over LAN ({why}): look at its address, the user and password, \
         whether serial over LAN is enabled, and whether another program has it"
    )]
    NoSession {
        /// The BMC.
        host: String,
        /// How ipmitool ended, or that it did not.
        why: String,
    },
    /// ipmitool cannot be started.
    #[error("ipmitool cannot be started; install the package ipmitool")]
    Ipmitool {
        /// Why.
        source: std::io::Error,
    },
    /// What makes ipmitool write line by line cannot be started.
    #[error("stdbuf, which starts ipmitool, cannot be started; install the package coreutils")]
    Stdbuf {
        /// Why.
        source: std::io::Error,
    },
}

/// An open serial line; dropping it hangs up.
pub trait OpenLine: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> OpenLine for T {}

/// A way to open a serial line.
pub trait Opener: Send + Sync {
    /// Opens it.
    ///
    /// # Errors
    /// It cannot be had now; trying again later may help.
    fn open(&self) -> BoxFuture<'_, Result<Box<dyn OpenLine>, ConsoleError>>;
}

impl Line {
    /// What opens this line.
    pub fn opener(&self, secrets: &IpmiSecrets) -> Box<dyn Opener> {
        match self {
            Self::Tcp { host, port } => Box::new(tcp::ConsoleServer { host: host.clone(), port: *port }),
            Self::Device { path } => Box::new(device::SerialDevice { path: path.clone() }),
            Self::Ipmi { host, port, cipher_suite } => Box::new(ipmi::SerialOverLan {
                host: host.clone(),
                port: *port,
                cipher_suite: *cipher_suite,
                secrets: secrets.clone(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_kind_of_line_reads_as_it_is_written() {
        for text in [
            "tcp://console.lab.example:7001",
            "tcp://192.0.2.7:7001?port=ttyS1",
            "tcp://[fd00::7]:7001",
            "device:/dev/ttyUSB0",
            "ipmi://bmc-u07.lab.example?port=ttyS1",
            "ipmi://fd00::7",
            "ipmi://[fd00::7]:6230?cipher_suite=3",
            "ipmi://bmc:6230?port=ttyS1&cipher_suite=17",
        ] {
            let console: SerialConsole = text.parse().unwrap();
            assert_eq!(console.to_string(), text);
        }
        assert_eq!("tcp://h:1".parse::<SerialConsole>().unwrap().machine_port, MachinePort::FIRST);
    }

    #[test]
    fn what_names_no_line_is_refused_with_what_to_write() {
        for text in [
            "",
            "console:7001",
            "tcp://console",
            "tcp://console:0",
            "tcp://-oProxyCommand:22",
            "tcp://a b:22",
            "device:/etc/shadow",
            "device:/dev/../etc/shadow",
            "device:ttyS0",
            "ipmi://",
            "ipmi://-U",
            "ipmi://bmc?port=ttyS9",
            "ipmi://bmc?port=sda",
            "ipmi://bmc:0",
            "ipmi://bmc:ssh",
            "ipmi://bmc?cipher_suite=18",
            "ipmi://bmc?user=root",
            "tcp://console:7001?cipher_suite=3",
        ] {
            let error = text.parse::<SerialConsole>().unwrap_err().to_string();
            assert!(error.contains("tcp://HOST:PORT"), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn reading_never_panics_and_what_reads_is_written_back_readable(text in "(tcp://|device:|ipmi://)?.{0,40}") {
            if let Ok(console) = text.parse::<SerialConsole>() {
                prop_assert_eq!(console.to_string().parse(), Ok(console));
            }
        }
    }
}
