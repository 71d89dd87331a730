//! `netboot:` of the configuration.

use std::collections::BTreeMap;

use serde::Deserialize;
use vetting_protocol::named_enum;

/// Our own netboot server: proxyDHCP and TFTP beside whatever DHCP server the lab has.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Netboot {
    /// Off unless said so, here or by `serve --netboot`.
    pub enabled: bool,
    /// The interfaces that are served, by name; nothing is heard or said on others.
    pub interfaces: Vec<String>,
    /// Which machines are told where to boot from.
    pub answer: Answer,
    /// What UEFI machines load.
    pub secure_boot: SecureBoot,
    /// The same for single hosts, by name.
    pub secure_boot_by_host: BTreeMap<String, SecureBoot>,
}

named_enum! {
    /// Whether UEFI machines load shim and GRUB, which Secure Boot accepts, in place of iPXE. Both work without it.
    #[derive(Default)]
    SecureBoot, "auto, always or never" {
        /// iPXE first; shim once firmware did not start it.
        #[default]
        Auto = "auto",
        /// shim.
        Always = "always",
        /// iPXE.
        Never = "never",
    }
}

named_enum! {
    /// Which machines our proxyDHCP answers.
    #[derive(Default)]
    Answer, "registered, all or none" {
        /// Registered ones.
        #[default]
        Registered = "registered",
        /// Every one that boots from the network.
        All = "all",
        /// No one: the lab's own DHCP server names our TFTP and boot script (`netboot config` prints how).
        None = "none",
    }
}
