//! Registered machines.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::runs::RunSummary;
use crate::enrolment::HostIdentityView;
use crate::ids::{HostId, MacAddress};
use crate::secret::Secret;

/// A registered machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct HostView {
    /// Key.
    pub id: HostId,
    /// Unique name.
    pub name: String,
    /// MAC address of the card it boots from.
    pub mac: MacAddress,
    /// Its further cards.
    #[serde(default)]
    pub further_macs: Vec<MacAddress>,
    /// By what it is recognised besides its cards; absent until it first showed a UUID that tells it from others.
    #[serde(default)]
    pub identity: Option<HostIdentityView>,
    /// Where magic packets go.
    pub wol_broadcast_ip: Ipv4Addr,
    /// UDP port for them.
    pub wol_port: u16,
    /// The expected spec, YAML, as it was saved; empty for a machine that enrolled and was not described yet.
    pub expected_spec_yaml: String,
    /// Operator's notes.
    pub notes: String,
    /// The machine's serial line: `tcp://HOST:PORT`, `device:PATH` or `ipmi://HOST`.
    #[serde(default)]
    pub serial_console: Option<String>,
    /// What it draws in its hardest stage, watts, as an operator said; absent: as measured, or assumed.
    #[serde(default)]
    pub burn_watts: Option<u32>,
    /// UTC, `YYYY-MM-DD HH:MM:SS`.
    pub created_at: String,
    /// UTC.
    pub updated_at: String,
    /// When the agent on its installed system was last heard, UTC; absent if there is none, or never was.
    pub last_seen_at: Option<String>,
    /// The newest run, if there is one.
    pub latest_run: Option<RunSummary>,
}

/// A new machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct HostCreate {
    /// Unique; letters, digits, `.`, `_`, `-`; at most 63.
    pub name: String,
    /// Any common notation.
    pub mac: String,
    /// Default `255.255.255.255`.
    #[serde(default)]
    pub wol_broadcast_ip: Option<Ipv4Addr>,
    /// Default 9.
    #[serde(default)]
    pub wol_port: Option<u16>,
    /// YAML; checked before it is saved.
    pub expected_spec_yaml: String,
    /// Operator's notes.
    #[serde(default)]
    pub notes: String,
    /// The machine's serial line: `tcp://HOST:PORT`, `device:PATH` or `ipmi://HOST`.
    #[serde(default)]
    pub serial_console: Option<String>,
}

/// Changes to a machine: what is absent stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct HostEdit {
    /// New name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// New MAC address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// New broadcast address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wol_broadcast_ip: Option<Ipv4Addr>,
    /// New port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wol_port: Option<u16>,
    /// New spec.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_spec_yaml: Option<String>,
    /// New notes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notes: Option<String>,
    /// Another serial line; `none` takes it away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial_console: Option<String>,
    /// What it draws in its hardest stage, watts; 0 takes it away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burn_watts: Option<u32>,
}

/// The token of a host's agent, told this one time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct HostAgentToken {
    /// Name of the host.
    pub host: String,
    /// What the agent shows.
    pub token: Secret,
}
