//! `enrolment:` of the configuration.

use serde::Deserialize;
use vetting_judge::duration::HumanDuration;
use vetting_protocol::named_enum;

use crate::enrolment::uuid::SystemUuid;

/// Machines that nobody registered.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Enrolment {
    /// Whether they may boot the live image from the network and wait there for an operator.
    pub netboot: EnrolmentNetboot,
    /// How long the code on a machine's console is good for, and how long one that was turned away is remembered.
    pub code_lifetime: HumanDuration,
    /// SMBIOS UUIDs that several machines of this lab have: they tell none from another.
    pub ignored_uuids: Vec<SystemUuid>,
}

impl Default for Enrolment {
    fn default() -> Self {
        Self {
            netboot: EnrolmentNetboot::Refused,
            code_lifetime: HumanDuration::from_ms(24 * 3_600_000),
            ignored_uuids: Vec::new(),
        }
    }
}

named_enum! {
    /// What an unknown machine that boots from the network is told.
    EnrolmentNetboot, "refused or allowed" {
        /// To start from its disk.
        Refused = "refused",
        /// To boot the live image and ask to be taken in.
        Allowed = "allowed",
    }
}
