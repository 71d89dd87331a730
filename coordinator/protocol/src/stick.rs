//! `vetting.yaml` of a stick: what a machine that starts from it is to do, and how it reaches its coordinator.
//!
//! Types and their words only; the text is read by `vetting_judge::stick`, which names line and column of a mistake.
//! Refuses unknown keys. Whatever is left out is asked on the machine's console or has the default named here.

pub mod network;
mod proxy;

use serde::{Deserialize, Serialize};

use crate::endpoint::{CaPin, Endpoint};
use crate::ids::named_enum;
use crate::profile::ProfileName;
use crate::secret::Secret;
use network::Network;
pub use proxy::{Proxy, ProxyError};

/// Name of the settings file in the top folder of the stick.
pub const FILE_NAME: &str = "vetting.yaml";

/// Name of the expected spec in the top folder of the stick, for runs without a coordinator.
pub const SPEC_FILE_NAME: &str = "spec.yaml";

/// The settings file of a new stick: every key, explained, all but `mode` commented out.
pub const DEFAULT_TEXT: &str = include_str!("stick/vetting.yaml");

/// The settings of a stick.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StickSettings {
    /// With a coordinator or without; `auto` if left out.
    #[serde(default = "auto")]
    pub mode: Mode,
    /// The coordinator; without one the machine works alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coordinator: Option<StickCoordinator>,
    /// The profile of a run without a coordinator; asked for if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<ProfileName>,
    /// Consent: every disk of the machine but the stick may be overwritten. `false` if left out.
    #[serde(default)]
    pub wipe: bool,
    /// What starts a run without a coordinator; a person at the menu if left out.
    #[serde(default = "ask")]
    pub start: Start,
    /// How the network is set up; DHCP and router advertisements on every NIC with a link if left out.
    #[serde(default)]
    pub network: Network,
    /// The HTTP proxy between the machine and its coordinator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<Proxy>,
}

/// The coordinator that a stick leads to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StickCoordinator {
    /// Where it listens: `https://HOST:PORT`.
    pub url: Endpoint,
    /// Fingerprint of its CA certificate: `sha256:` and 64 hex digits. Without it anyone could pretend to be it.
    pub ca: CaPin,
    /// What a machine enrols with. Without one it shows a code on its console, which an operator accepts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enrolment_token: Option<Secret>,
}

named_enum! {
    /// With a coordinator or without.
    Mode, "a mode (auto or offline)" {
        /// With the coordinator, if the settings name one; else alone.
        Auto = "auto",
        /// Alone, even where the settings name a coordinator. The network stays down.
        Offline = "offline",
    }
}

named_enum! {
    /// What starts a run without a coordinator.
    Start, "a start (ask or auto)" {
        /// A person at the console's menu.
        Ask = "ask",
        /// The end of a countdown on the console, which a key and Enter stop.
        Auto = "auto",
    }
}

fn auto() -> Mode {
    Mode::Auto
}

fn ask() -> Start {
    Start::Ask
}
