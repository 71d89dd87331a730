//! How a machine that nobody registered gets to be vetted: what it says of itself, what it is answered, and what an
//! operator sees and decides.
//!
//! `POST /agent/v1/enrol` carries [`EnrolRequest`] and answers [`EnrolAnswer`]; it takes no bearer token. Nothing of an
//! [`Identity`] is proof: whoever is on the network can send one.

use serde::{Deserialize, Serialize};

use crate::ids::{HostId, MacAddress, RunId};
use crate::profile::ProfileName;
use crate::secret::Secret;

/// Largest body of an enrolment, bytes.
pub const MAX_ENROL_BYTES: u64 = 64 * 1024;

/// Most cards of one machine.
pub const MAX_NICS: usize = 64;

/// Longest text of an identity, bytes; a longer one is cut.
pub const MAX_TEXT_BYTES: usize = 96;

/// A network card as a machine presents it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PresentedNic {
    /// Its address.
    pub mac: MacAddress,
    /// Whether it is plugged in from outside (USB), so that it may be at another machine tomorrow.
    pub removable: bool,
}

/// What a machine says it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// SMBIOS type 1 UUID, as the machine tells it.
    pub system_uuid: Option<String>,
    /// SMBIOS type 1 manufacturer.
    pub manufacturer: Option<String>,
    /// SMBIOS type 1 product name.
    pub product: Option<String>,
    /// SMBIOS type 1 serial number.
    pub system_serial: Option<String>,
    /// SMBIOS type 2 serial number.
    pub board_serial: Option<String>,
    /// SMBIOS type 3 serial number.
    pub chassis_serial: Option<String>,
    /// Every card that stands for hardware, at most [`MAX_NICS`].
    pub nics: Vec<PresentedNic>,
    /// The card it booted from, where the boot loader told.
    pub boot_mac: Option<MacAddress>,
    /// Model name of its processor.
    pub cpu: Option<String>,
    /// Memory that Linux sees, bytes.
    pub memory_bytes: Option<u64>,
    /// Whole disks, the boot medium among them.
    pub disks: Option<u32>,
}

/// Asks to be taken in, and again until there is a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct EnrolRequest {
    /// [`crate::PROTOCOL_VERSION`] of the agent.
    pub protocol_version: u32,
    /// The agent's package version.
    pub agent_version: String,
    /// The enrolment token that the boot script or the stick gave.
    pub token: Option<Secret>,
    /// What the first answer gave: by it the coordinator knows the machine that waits.
    pub ticket: Option<Secret>,
    /// Who asks.
    pub identity: Identity,
}

/// Where an enrolment stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "state", rename_all = "snake_case", deny_unknown_fields)]
pub enum EnrolAnswer {
    /// An operator must decide: show the code.
    Waiting {
        /// What the operator types.
        code: String,
        /// To be sent with the next request.
        ticket: Secret,
        /// Why nobody could be taken in at once: a token that is no good, a machine that resembles another.
        note: Option<String>,
        /// When to ask again, ms.
        retry_ms: u64,
    },
    /// It is registered, but no run is ordered.
    Registered {
        /// Its name.
        host_name: String,
        /// To be sent with the next request.
        ticket: Option<Secret>,
        /// When to ask again, ms.
        retry_ms: u64,
    },
    /// A run waits for it.
    Run {
        /// Its name.
        host_name: String,
        /// The run.
        run_id: RunId,
        /// Good once, as that of a boot script.
        claim_secret: Secret,
        /// The coordinator's clock, ms since the Unix epoch.
        server_time_ms: i64,
    },
    /// An operator does not want it.
    Rejected,
}

/// A new enrolment token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct EnrolmentTokenCreate {
    /// Machines it may register, at least 1.
    pub uses: u32,
    /// For how long, ms.
    pub valid_ms: u64,
    /// Names of its machines: `{vendor}`, `{product}`, `{serial}`, `{mac}` are filled in.
    #[serde(default)]
    pub name_pattern: Option<String>,
    /// Expected spec of its machines, YAML; without it they are registered, but get no run.
    #[serde(default)]
    pub expected_spec_yaml: Option<String>,
    /// Start a run of this profile at once. Needs a spec.
    #[serde(default)]
    pub start_run: Option<ProfileName>,
}

/// The one time an enrolment token's text is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct EnrolmentTokenCreated {
    /// Its entry in the list.
    pub view: EnrolmentTokenView,
    /// The text.
    pub token: Secret,
}

/// An enrolment token in the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct EnrolmentTokenView {
    /// Key.
    pub id: i64,
    /// Machines it may register.
    pub uses_allowed: u32,
    /// Machines it has registered.
    pub uses: u32,
    /// UTC.
    pub created_at: String,
    /// UTC.
    pub expires_at: String,
    /// UTC; absent while it is not revoked.
    pub revoked_at: Option<String>,
    /// Names of its machines.
    pub name_pattern: String,
    /// Whether its machines have an expected spec.
    pub has_spec: bool,
    /// Profile of the run that it starts.
    pub start_run: Option<ProfileName>,
}

/// A machine that waits for an operator. Every text of it came from the network; only printable ASCII is left of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PendingView {
    /// The code on its console.
    pub code: String,
    /// Who it says it is.
    pub identity: Identity,
    /// Whence it asks.
    pub address: String,
    /// UTC, when it first asked.
    pub since: String,
    /// Age in ms.
    pub age_ms: u64,
    /// What an operator should know before the decision.
    pub note: Option<String>,
}

/// Takes a waiting machine in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Adopt {
    /// Name of the new host; from maker and serial number if absent.
    #[serde(default)]
    pub name: Option<String>,
    /// It is this registered host, with another board or other cards: its recorded identity is replaced.
    #[serde(default)]
    pub into: Option<String>,
    /// Expected spec, YAML; without it the host is registered, but gets no run.
    #[serde(default)]
    pub expected_spec_yaml: Option<String>,
    /// Start a run of this profile at once. Needs a spec.
    #[serde(default)]
    pub start_run: Option<ProfileName>,
}

/// What became of a machine that was taken in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Adopted {
    /// Its key.
    pub host_id: HostId,
    /// Its name.
    pub name: String,
    /// The run that was started.
    pub run: Option<RunId>,
}

/// Names a further card of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct MacAdd {
    /// Any common notation.
    pub mac: String,
}

/// By what a host is recognised besides its cards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct HostIdentityView {
    /// SMBIOS system UUID of the machine that was taken in or that first claimed a run.
    pub system_uuid: String,
    /// UTC, when it was recorded.
    pub recorded_at: String,
}
