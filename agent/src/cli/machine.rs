//! The machine a command looks at: this one, or a recorded one.

use std::path::Path;
use std::sync::Arc;

use vetting_protocol::ids::MacAddress;

use super::CliError;
use crate::host::Host;
use crate::tools::runner::{RecordedRunner, SystemRunner, ToolRunner};

/// A machine and its tools.
pub(super) struct Machine {
    pub(super) host: Host,
    pub(super) tools: Arc<dyn ToolRunner>,
}

impl Machine {
    /// This machine, or the one recorded in a folder.
    pub(super) fn at(recorded: Option<&Path>) -> Result<Self, CliError> {
        let Some(folder) = recorded else {
            return Ok(Self { host: Host::live(), tools: Arc::new(SystemRunner::new()) });
        };
        let tree = folder.join("root");
        let (tree, tools) = if tree.is_dir() {
            (tree, folder.join("tools"))
        } else if folder.join("proc").is_dir() || folder.join("sys").is_dir() {
            (folder.to_owned(), folder.with_file_name("tools"))
        } else {
            return Err(CliError::NoTree { path: folder.to_owned() });
        };
        Ok(Self { host: Host::recorded(tree), tools: Arc::new(RecordedRunner::new(tools)) })
    }

    /// The kernel's boot_id. A recorded machine boots anew each time it is used.
    pub(super) fn boot_id(&self) -> Result<String, CliError> {
        let machine = if self.host.is_live() { &self.host } else { &Host::live() };
        let id = if self.host.is_live() { "boot_id" } else { "uuid" };
        machine
            .text(&format!("/proc/sys/kernel/random/{id}"))
            .map_err(|source| CliError::Machine { what: "its boot_id", source })
    }

    /// A random UUID of the kernel.
    pub(super) fn fresh_uuid() -> Result<String, CliError> {
        Host::live()
            .text("/proc/sys/kernel/random/uuid")
            .map_err(|source| CliError::Machine { what: "a random UUID", source })
    }

    /// SMBIOS system UUID, where it may be read.
    pub(super) fn system_uuid(&self) -> Option<String> {
        self.host.text("/sys/class/dmi/id/product_uuid").ok().filter(|uuid| !uuid.is_empty())
    }

    /// MAC addresses of the network interfaces that stand for hardware.
    pub(super) fn macs(&self) -> Vec<MacAddress> {
        let interfaces = self.host.list("/sys/class/net").unwrap_or_default();
        interfaces
            .iter()
            .filter(|name| self.host.exists(&format!("/sys/class/net/{name}/device")))
            .filter_map(|name| self.host.text(&format!("/sys/class/net/{name}/address")).ok()?.parse().ok())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_machine_is_found_with_its_tools_or_bare() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(Machine::at(Some(folder.path())), Err(CliError::NoTree { .. })));
        let net = folder.path().join("root/sys/class/net/eth0");
        std::fs::create_dir_all(net.join("device")).unwrap();
        std::fs::write(net.join("address"), "52:54:00:AB:cd:01\n").unwrap();
        std::fs::create_dir_all(folder.path().join("root/sys/class/net/lo")).unwrap();
        for place in [folder.path().to_owned(), folder.path().join("root")] {
            let machine = Machine::at(Some(&place)).unwrap();
            assert!(!machine.host.is_live());
            assert_eq!(machine.macs(), ["52:54:00:ab:cd:01".parse().unwrap()]);
            assert_eq!(machine.system_uuid(), None);
            assert_ne!(machine.boot_id().unwrap(), machine.boot_id().unwrap());
        }
    }
}
