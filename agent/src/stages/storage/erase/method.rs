//! Which means of erasing a disk has, best first, and why a better one cannot be taken. What the disk does not tell
//! plainly, it does not have: then it is overwritten.

use std::time::Duration;

use vetting_protocol::erasure::EraseMethod;
use vetting_protocol::inventory::DiskBus;

use super::super::Disk;
use crate::tools::hdparm::{self, Access, Security};
use crate::tools::nvme::{self, Capabilities, Reach};

/// How a disk will be erased.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) method: EraseMethod,
    /// Why no better one, one sentence each.
    pub(super) remarks: Vec<String>,
    /// How long the disk says that it takes.
    pub(super) takes: Option<Duration>,
}

impl Choice {
    fn new(method: EraseMethod) -> Self {
        Self { method, remarks: Vec::new(), takes: None }
    }

    fn overwrite(remark: impl Into<String>) -> Self {
        Self { remarks: vec![remark.into()], ..Self::new(EraseMethod::ZeroFill) }
    }
}

/// Asks the disk and chooses.
pub(super) fn choose(disk: &Disk<'_, '_, '_>) -> Choice {
    let device = &disk.target.device;
    match disk.target.disk.bus {
        Some(DiskBus::Nvme) => {
            let told = disk.ask(&nvme::id_ctrl(device)).and_then(|answer| nvme::parse_id_ctrl(&answer));
            let namespaces = disk.ask(&nvme::list_ns(device)).and_then(|answer| nvme::parse_list_ns(&answer));
            match (told, namespaces) {
                (Ok(told), Ok(namespaces)) => nvme_choice(told, namespaces),
                (Err(error), _) | (_, Err(error)) => {
                    Choice::overwrite(format!("the drive did not tell what it can erase: {}", error.reason()))
                }
            }
        }
        Some(DiskBus::Ata) => {
            match disk.ask(&hdparm::identify(device)).and_then(|answer| hdparm::parse_security(&answer)) {
                Ok(security) => ata_choice(security),
                Err(error) => Choice::overwrite(format!(
                    "the disk did not tell of its Security feature set: {}",
                    error.reason()
                )),
            }
        }
        Some(DiskBus::Scsi | DiskBus::Usb | DiskBus::Virtio | DiskBus::Mmc) | None => {
            Choice::overwrite("no means of its own is used for a disk on this bus")
        }
    }
}

/// Sanitizing reaches every namespace of the drive, so it is only for a drive with one.
fn nvme_choice(told: Capabilities, namespaces: usize) -> Choice {
    let alone = namespaces == 1;
    let mut remarks = Vec::new();
    if !alone && (told.block_erase || told.crypto_erase || told.format == Some(Reach::AllNamespaces)) {
        remarks.push(format!(
            "the drive has {namespaces} namespaces, and its own erasing would reach all of them"
        ));
    } else if !told.block_erase && !told.crypto_erase {
        remarks.push("the drive cannot sanitize".to_owned());
    }
    let method = match told {
        Capabilities { block_erase: true, .. } if alone => EraseMethod::NvmeSanitizeBlock,
        Capabilities { crypto_erase: true, .. } if alone => EraseMethod::NvmeSanitizeCrypto,
        Capabilities { format: Some(Reach::OneNamespace), .. } => EraseMethod::NvmeFormat,
        Capabilities { format: Some(Reach::AllNamespaces), .. } if alone => EraseMethod::NvmeFormat,
        Capabilities { .. } => EraseMethod::ZeroFill,
    };
    Choice { remarks, ..Choice::new(method) }
}

fn ata_choice(security: Option<Security>) -> Choice {
    match security {
        None => Choice::overwrite("the disk has no Security feature set"),
        Some(Security { access: Access::Frozen, .. }) => Choice::overwrite(
            "the firmware has frozen the disk's Security feature set; plugging it in with the machine on avoids that",
        ),
        Some(Security { access: Access::Password, .. }) => {
            Choice::overwrite("the disk has a password of somebody else's")
        }
        Some(Security { enhanced: true, enhanced_takes, .. }) => {
            Choice { takes: enhanced_takes, ..Choice::new(EraseMethod::AtaEnhancedSecureErase) }
        }
        Some(Security { erase_takes, .. }) => Choice {
            takes: erase_takes,
            remarks: vec!["the disk has no enhanced mode, which would reach sectors set aside".to_owned()],
            ..Choice::new(EraseMethod::AtaSecureErase)
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Capabilities = Capabilities { block_erase: false, crypto_erase: false, format: None };

    #[test]
    fn a_drive_is_erased_by_its_best_means_that_reaches_nothing_else() {
        let (one, every) = (Some(Reach::OneNamespace), Some(Reach::AllNamespaces));
        let all = Capabilities { block_erase: true, crypto_erase: true, format: one };
        let cases = [
            (all, 1, EraseMethod::NvmeSanitizeBlock, 0),
            (Capabilities { block_erase: false, ..all }, 1, EraseMethod::NvmeSanitizeCrypto, 0),
            (Capabilities { format: one, ..NOTHING }, 1, EraseMethod::NvmeFormat, 1),
            (Capabilities { format: every, ..NOTHING }, 1, EraseMethod::NvmeFormat, 1),
            (Capabilities { format: every, ..NOTHING }, 2, EraseMethod::ZeroFill, 1),
            (all, 2, EraseMethod::NvmeFormat, 1),
            // a list without the very namespace that is to be erased is not to be built on
            (all, 0, EraseMethod::NvmeFormat, 1),
            (NOTHING, 1, EraseMethod::ZeroFill, 1),
        ];
        for (told, namespaces, method, remarks) in cases {
            let choice = nvme_choice(told, namespaces);
            assert_eq!((choice.method, choice.remarks.len()), (method, remarks), "{told:?} {namespaces}");
        }
    }

    #[test]
    fn a_frozen_or_foreign_security_is_left_alone() {
        let fresh = Security {
            access: Access::Open,
            enhanced: true,
            erase_takes: None,
            enhanced_takes: Some(Duration::from_mins(8)),
        };
        let method = |security| ata_choice(Some(security)).method;
        assert_eq!(method(fresh), EraseMethod::AtaEnhancedSecureErase);
        assert_eq!(ata_choice(Some(fresh)).takes, Some(Duration::from_mins(8)));
        assert_eq!(method(Security { enhanced: false, ..fresh }), EraseMethod::AtaSecureErase);
        for access in [Access::Frozen, Access::Password] {
            assert_eq!(method(Security { access, ..fresh }), EraseMethod::ZeroFill);
        }
        assert_eq!(ata_choice(None).method, EraseMethod::ZeroFill);
    }
}
