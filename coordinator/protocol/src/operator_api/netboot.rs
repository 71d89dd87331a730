//! The coordinator's netboot server.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// What the coordinator's netboot server does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct NetbootView {
    /// Where it serves; none: it is switched off.
    pub interfaces: Vec<NetbootInterface>,
    /// Which machines are told where to boot from over IPv4: `registered`, `all` or `none`. Over IPv6 none: that is the
    /// word of the lab's own DHCPv6 server.
    pub answer: String,
    /// Packets since the start, by what became of them.
    pub packets: BTreeMap<String, u64>,
    /// Port of the boot endpoints.
    pub http_port: u16,
    /// `HOST` or `HOST:PORT` that machines are told to call, where the configuration names one.
    pub public_address: Option<String>,
}

/// An interface that the netboot server serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct NetbootInterface {
    /// Its name.
    pub name: String,
    /// The coordinator's address on it.
    pub address: IpAddr,
    /// `http://ADDRESS:PORT` of the boot endpoints as machines there are told.
    pub boot_url: String,
}
