//! Which boot loader a UEFI machine is told: iPXE, or shim and GRUB, which Secure Boot accepts.
//!
//! Firmware does not say over DHCP whether Secure Boot is on. Under `auto` a machine is told iPXE; where iPXE was not
//! heard of when its firmware asks anew, firmware has refused to start it, and the machine is told shim from then on.
//! That is remembered only while we run. Refuses to grow with the number of machines: anyone can make up addresses.

use std::collections::{BTreeMap, HashMap};

use vetting_protocol::ids::MacAddress;

use crate::config::SecureBoot;

/// Machines that are remembered; one more pushes another out.
const MOST_MACHINES: usize = 4096;

/// What a UEFI machine loads first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UefiLoader {
    /// iPXE, unsigned.
    Ipxe,
    /// shim, which loads GRUB; both signed.
    Shim,
}

/// A choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// What the machine is told.
    pub loader: UefiLoader,
    /// It is told so for the first time because iPXE did not start.
    pub newly_assumed: bool,
}

/// What became of the last offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Last {
    /// iPXE was told in this transaction.
    ToldIpxe(u32),
    /// And it ran.
    IpxeRan,
    /// It did not run: shim was told.
    ToldShim,
}

/// The choices made so far.
#[derive(Debug)]
pub struct UefiLoaders {
    setting: SecureBoot,
    by_host: BTreeMap<String, SecureBoot>,
    machines: HashMap<MacAddress, Last>,
}

impl UefiLoaders {
    /// As configured.
    pub fn new(setting: SecureBoot, by_host: BTreeMap<String, SecureBoot>) -> Self {
        Self { setting, by_host, machines: HashMap::new() }
    }

    /// What to tell a machine whose firmware looks for offers; `transaction` is the same in repeats.
    pub fn offer(&mut self, mac: MacAddress, host_name: Option<&str>, transaction: u32) -> Choice {
        let told = |loader| Choice { loader, newly_assumed: false };
        match self.setting_of(host_name) {
            SecureBoot::Never => return told(UefiLoader::Ipxe),
            SecureBoot::Always => return told(UefiLoader::Shim),
            SecureBoot::Auto => {}
        }
        match self.machines.get(&mac) {
            Some(Last::ToldShim) => told(UefiLoader::Shim),
            Some(Last::ToldIpxe(before)) if *before != transaction => {
                self.remember(mac, Last::ToldShim);
                Choice { loader: UefiLoader::Shim, newly_assumed: true }
            }
            Some(Last::ToldIpxe(_) | Last::IpxeRan) | None => {
                self.remember(mac, Last::ToldIpxe(transaction));
                told(UefiLoader::Ipxe)
            }
        }
    }

    /// What was told to a machine that asks again at the proxy's own port.
    pub fn repeat(&self, mac: MacAddress, host_name: Option<&str>) -> UefiLoader {
        match (self.setting_of(host_name), self.machines.get(&mac)) {
            (SecureBoot::Always, _) | (SecureBoot::Auto, Some(Last::ToldShim)) => UefiLoader::Shim,
            (SecureBoot::Never | SecureBoot::Auto, _) => UefiLoader::Ipxe,
        }
    }

    /// iPXE was heard of from this machine.
    pub fn ipxe_ran(&mut self, mac: MacAddress) {
        if let Some(Last::ToldIpxe(_)) = self.machines.get(&mac) {
            self.remember(mac, Last::IpxeRan);
        }
    }

    fn setting_of(&self, host_name: Option<&str>) -> SecureBoot {
        host_name.and_then(|name| self.by_host.get(name)).copied().unwrap_or(self.setting)
    }

    fn remember(&mut self, mac: MacAddress, last: Last) {
        if self.machines.len() >= MOST_MACHINES
            && !self.machines.contains_key(&mac)
            && let Some(any) = self.machines.keys().next().copied()
        {
            self.machines.remove(&any);
        }
        self.machines.insert(mac, last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mac(last: u32) -> MacAddress {
        let [_, high, middle, low] = last.to_be_bytes();
        format!("52:54:00:{high:02x}:{middle:02x}:{low:02x}").parse().unwrap()
    }

    fn loaders(setting: SecureBoot) -> UefiLoaders {
        UefiLoaders::new(setting, BTreeMap::from([("sealed".to_owned(), SecureBoot::Always)]))
    }

    #[test]
    fn a_machine_on_which_ipxe_does_not_start_is_told_shim() {
        let mut loaders = loaders(SecureBoot::Auto);
        let mut offer = |transaction| {
            let Choice { loader, newly_assumed } = loaders.offer(mac(1), None, transaction);
            assert_eq!(loaders.repeat(mac(1), None), loader, "both ports say the same");
            (loader, newly_assumed)
        };
        assert_eq!(offer(7), (UefiLoader::Ipxe, false));
        assert_eq!(offer(7), (UefiLoader::Ipxe, false), "a repeat");
        assert_eq!(offer(8), (UefiLoader::Shim, true));
        assert_eq!(offer(9), (UefiLoader::Shim, false), "and it stays so");
        assert_eq!(loaders.offer(mac(2), None, 9).loader, UefiLoader::Ipxe, "another machine");
    }

    #[test]
    fn a_machine_on_which_ipxe_starts_is_told_it_again() {
        let mut loaders = loaders(SecureBoot::Auto);
        for transaction in 1..4 {
            assert_eq!(loaders.offer(mac(1), None, transaction).loader, UefiLoader::Ipxe);
            loaders.ipxe_ran(mac(1));
        }
    }

    #[test]
    fn what_the_config_says_holds() {
        for (setting, loader) in
            [(SecureBoot::Never, UefiLoader::Ipxe), (SecureBoot::Always, UefiLoader::Shim)]
        {
            let mut loaders = loaders(setting);
            for transaction in [1, 2, 3] {
                assert_eq!(
                    loaders.offer(mac(1), Some("open"), transaction),
                    Choice { loader, newly_assumed: false }
                );
                assert_eq!(loaders.repeat(mac(1), Some("open")), loader);
                assert_eq!(loaders.offer(mac(1), Some("sealed"), transaction).loader, UefiLoader::Shim);
            }
        }
    }

    #[test]
    fn made_up_machines_do_not_fill_the_memory() {
        let mut loaders = loaders(SecureBoot::Auto);
        for made_up in 0..10_000 {
            loaders.offer(mac(made_up), None, 1);
        }
        assert!(loaders.machines.len() <= MOST_MACHINES);
    }
}
