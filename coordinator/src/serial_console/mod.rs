//! The serial line of a machine under test, as this box can have it: a serial console server (TCP), a device of this
//! box, or IPMI serial over LAN. One file each, behind one trait. Refuses to know what is said on the line.

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
        /// Name or address of the BMC.
        host: String,
    },
}

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
    "`{found}` names no serial line: {problem}; write tcp://HOST:PORT, device:/dev/ttyUSB0 or ipmi://HOST, and \
     ?port=ttyS1 after it where the machine's end is not ttyS0"
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
        let (place, machine_port) = match text.split_once('?') {
            None => (text, MachinePort::FIRST),
            Some((place, query)) => {
                let port = query.strip_prefix("port=ttyS").and_then(|number| number.parse().ok());
                let port = port.filter(|number| *number <= 3).map(MachinePort);
                (place, port.ok_or_else(|| refused("after the `?` goes port=ttyS0 to port=ttyS3"))?)
            }
        };
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
        } else if let Some(host) = place.strip_prefix("ipmi://") {
            Line::Ipmi { host: host_name(host).ok_or_else(|| refused("its host is no name or address"))? }
        } else {
            return Err(refused("it begins with none of tcp://, device: and ipmi://"));
        };
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
            Line::Ipmi { host } => write!(f, "ipmi://{host}")?,
        }
        if self.machine_port == MachinePort::FIRST {
            Ok(())
        } else {
            write!(f, "?port={}", self.machine_port)
        }
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
    /// ipmitool cannot be started.
    #[error("ipmitool cannot be started; install the package ipmitool")]
    Ipmitool {
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
            Self::Ipmi { host } => {
                Box::new(ipmi::SerialOverLan { host: host.clone(), secrets: secrets.clone() })
            }
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
