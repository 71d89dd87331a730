//! Power control of registered machines: what operators' tools and the coordinator say of it.

use serde::{Deserialize, Serialize};

use crate::ids::named_enum;

/// UDP port of IPMI over LAN (RMCP+).
pub const IPMI_PORT: u16 = 623;

named_enum! {
    /// What a machine's power is to do.
    PowerAction, "a power action" {
        /// Switch it on.
        On = "on",
        /// Switch it off at once.
        Off = "off",
        /// Off, and on again.
        Cycle = "cycle",
        /// Ask its system to shut down.
        Soft = "soft",
    }
}

named_enum! {
    /// Whether a machine is on.
    PowerState, "a power state" {
        /// It is.
        On = "on",
        /// It is not.
        Off = "off",
    }
}

/// How a machine's BMC is reached. Stored as it is: the password is only named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "via", rename_all = "snake_case", deny_unknown_fields)]
pub enum BmcSettings {
    /// IPMI 2.0 over LAN.
    Ipmi {
        /// Name or address.
        host: String,
        /// UDP port.
        #[serde(default = "ipmi_port")]
        port: u16,
        /// Who the BMC knows the coordinator as.
        user: String,
        /// Name of the password: in the secrets file of the configuration, or in the environment.
        secret: String,
        /// The machine boots by UEFI: the wish to boot from the network is made for that.
        #[serde(default)]
        uefi: bool,
    },
}

fn ipmi_port() -> u16 {
    IPMI_PORT
}

/// A machine's power.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PowerView {
    /// How its BMC is reached; absent: by Wake-on-LAN alone, and only to switch it on.
    pub bmc: Option<BmcSettings>,
    /// Whether it is on, as far as somebody was asked.
    pub state: Option<PowerState>,
    /// Why that is not known.
    pub problem: Option<String>,
}
