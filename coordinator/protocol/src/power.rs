//! Power control of registered machines: what operators' tools and the coordinator say of it.

use serde::{Deserialize, Serialize};

use crate::ids::{Sha256Hex, named_enum};

/// UDP port of IPMI over LAN (RMCP+).
pub const IPMI_PORT: u16 = 623;

/// TCP port of HTTPS.
pub const HTTPS_PORT: u16 = 443;

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

named_enum! {
    /// How a machine's firmware boots.
    FirmwareMode, "uefi or legacy" {
        /// UEFI.
        Uefi = "uefi",
        /// By the BIOS's rules.
        Legacy = "legacy",
    }
}

/// Whose certificate is believed on a TLS connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Trust {
    /// The server's own, by the SHA-256 of its DER form; whatever name stands in it.
    Fingerprint(Sha256Hex),
    /// One that these authorities signed for the name or address that is called: PEM.
    Ca(String),
    /// One that an authority of the coordinator's system signed.
    System,
    /// Any: whoever is in between reads the password.
    Insecure,
}

/// How a machine's BMC is reached. Stored as it is: the password is only named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
        /// The cipher suite (IPMI 2.0, table 22-20), such as 3 or 17; absent: the BMC is asked for its best.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cipher_suite: Option<u8>,
    },
    /// Redfish (DMTF DSP0266) over HTTPS.
    Redfish {
        /// Name or address.
        host: String,
        /// TCP port.
        #[serde(default = "https_port")]
        port: u16,
        /// Who the BMC knows the coordinator as.
        user: String,
        /// Name of the password.
        secret: String,
        /// The last part of the system's address, where the BMC has several; absent: its only one.
        #[serde(default)]
        system: Option<String>,
        /// Whose certificate is believed.
        trust: Trust,
        /// What the wish to boot from the network is made for; absent: as the machine is set.
        #[serde(default)]
        boot_mode: Option<FirmwareMode>,
    },
}

fn ipmi_port() -> u16 {
    IPMI_PORT
}

fn https_port() -> u16 {
    HTTPS_PORT
}

/// UDP port of SNMP.
pub const SNMP_PORT: u16 = 161;

/// How the outlet that a machine hangs on is switched. Stored as it is: passwords and hooks are only named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "via", rename_all = "snake_case", deny_unknown_fields)]
pub enum PduSettings {
    /// SNMP (RFC 3411 to 3418, and RFC 1901 for v2c).
    Snmp {
        /// Name or address of the PDU.
        host: String,
        /// UDP port.
        #[serde(default = "snmp_port")]
        port: u16,
        /// Number of the outlet, as the end of its objects' names: `7`, or `2.7` for the seventh of the second unit.
        outlet: String,
        /// Which objects switch it.
        model: PduModel,
        /// Who the PDU knows the coordinator as.
        access: SnmpAccess,
    },
    /// A program or a device that the coordinator's configuration describes under `power.hooks`.
    Hook {
        /// Its name there.
        hook: String,
        /// What takes the place of `{outlet}` there.
        #[serde(default)]
        outlet: String,
    },
}

/// Which objects of a PDU switch an outlet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum PduModel {
    /// APC, PowerNet-MIB, rPDUOutletControl: AP79xx.
    ApcRpdu,
    /// APC, PowerNet-MIB, rPDU2OutletSwitched: AP86xx, AP89xx.
    ApcRpdu2,
    /// Raritan PX2, PX3 and their relatives, PDU2-MIB.
    RaritanPx2,
    /// Any other with integers for on and off.
    Oid(PduObjects),
}

/// The objects of an outlet, in full, in numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PduObjects {
    /// Written to switch it. The outlet's number is not added.
    pub control: String,
    /// Written for on.
    pub on: i32,
    /// Written for off.
    pub off: i32,
    /// Read for its state; absent: `control`, with the same values.
    #[serde(default)]
    pub status: Option<PduStatus>,
}

/// Where the state of an outlet is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PduStatus {
    /// The object.
    pub oid: String,
    /// What it is when the outlet is on.
    pub on: i32,
    /// What it is when the outlet is off.
    pub off: i32,
}

/// Who a PDU knows the coordinator as.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "version", rename_all = "snake_case", deny_unknown_fields)]
pub enum SnmpAccess {
    /// By a community, which travels in the clear.
    V2c {
        /// Name of the community.
        secret: String,
    },
    /// By a user (RFC 3414), with authentication and privacy.
    V3 {
        /// The user.
        user: String,
        /// How messages are signed.
        auth: SnmpAuth,
        /// Name of the passphrase for that.
        secret: String,
        /// How messages are encrypted.
        privacy: SnmpPrivacy,
        /// Name of the passphrase for that; absent: the same.
        #[serde(default)]
        privacy_secret: Option<String>,
    },
}

named_enum! {
    /// How messages of SNMPv3 are signed.
    SnmpAuth, "sha, sha256 or sha512" {
        /// HMAC-SHA-96 (RFC 3414).
        Sha = "sha",
        /// RFC 7860.
        Sha256 = "sha256",
        /// RFC 7860.
        Sha512 = "sha512",
    }
}

named_enum! {
    /// How messages of SNMPv3 are encrypted.
    SnmpPrivacy, "aes or des" {
        /// AES-128 (RFC 3826).
        Aes = "aes",
        /// For old devices (RFC 3414).
        Des = "des",
    }
}

fn snmp_port() -> u16 {
    SNMP_PORT
}

/// A machine's outlet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PduView {
    /// How it is switched; absent: nobody told.
    pub pdu: Option<PduSettings>,
    /// Whether it is on, as far as somebody was asked.
    pub state: Option<PowerState>,
    /// Why that is not known.
    pub problem: Option<String>,
}

/// What a BMC's virtual drive is to hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct MediaOrder {
    /// Where the BMC fetches the image: http, https, nfs or cifs.
    pub url: String,
    /// The machine's next boot, and only that, comes from it.
    #[serde(default)]
    pub boot_once: bool,
}

/// A machine's power.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PowerView {
    /// How its BMC is reached.
    pub bmc: Option<BmcSettings>,
    /// How its outlet is switched, which stands in for a BMC. Without either a machine can only be asked to come up, by
    /// Wake-on-LAN.
    pub pdu: Option<PduSettings>,
    /// Whether it is on, as far as somebody was asked.
    pub state: Option<PowerState>,
    /// Why that is not known.
    pub problem: Option<String>,
}
