//! What switches machines on and off, behind two traits: a packet that any machine may hear, and control of one machine.
//! Refuses to know about runs.

mod ipmi;
pub mod secrets;
pub mod wake_on_lan;

use std::net::Ipv4Addr;

use futures_util::future::BoxFuture;
use vetting_protocol::ids::MacAddress;
use vetting_protocol::power::{BmcSettings, PowerAction, PowerState};

use ipmi::Ipmi;
use secrets::{PowerSecrets, SecretError};

pub use wake_on_lan::{PowerError, WakeOnLan};

/// Where a machine listens for its wake-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WakeTarget {
    /// The card it boots from.
    pub mac: MacAddress,
    /// Broadcast address of its LAN.
    pub broadcast_ip: Ipv4Addr,
    /// UDP port, usually 9.
    pub port: u16,
}

/// A way to switch a machine on.
pub trait Power: Send + Sync {
    /// Asks the machine to come up. That it was asked does not mean that it comes.
    ///
    /// # Errors
    /// The request did not leave this box.
    fn wake(&self, target: WakeTarget) -> BoxFuture<'_, Result<(), PowerError>>;
}

/// A machine whose power could not be controlled.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The password.
    #[error("the BMC's password cannot be had")]
    Secret(#[from] SecretError),
    /// The BMC refuses, or gave no answer.
    #[error("the BMC at {host}: {problem}")]
    Bmc {
        /// Which.
        host: String,
        /// In its or ipmitool's words.
        problem: String,
    },
    /// The tool is missing.
    #[error("`ipmitool` cannot be started; install it (Debian: ipmitool)")]
    Ipmitool {
        /// Why.
        source: std::io::Error,
    },
}

/// Control of one machine's power.
pub trait PowerControl: Send + Sync {
    /// Does it. That the machine follows is seen by [`PowerControl::state`].
    fn switch(&self, action: PowerAction) -> BoxFuture<'_, Result<(), ControlError>>;

    /// Whether it is on.
    fn state(&self) -> BoxFuture<'_, Result<PowerState, ControlError>>;

    /// Has its next boot, and only that, come from the network.
    fn boot_from_network_once(&self) -> BoxFuture<'_, Result<(), ControlError>>;
}

/// Control by a BMC, with the password that its settings name.
///
/// # Errors
/// [`ControlError::Secret`].
pub fn control(settings: BmcSettings, secrets: &PowerSecrets) -> Result<Box<dyn PowerControl>, ControlError> {
    let BmcSettings::Ipmi { host, port, user, secret, uefi } = settings;
    let password = secrets.get(&secret)?;
    Ok(Box::new(Ipmi { host, port, user, password, uefi }))
}

/// What is wrong with how a BMC is to be reached; absent if nothing is. The words go to a program's argument list.
pub fn mistake(settings: &BmcSettings) -> Option<String> {
    let BmcSettings::Ipmi { host, port, user, secret, .. } = settings;
    let plain = |text: &str, more: &[char]| {
        !text.is_empty()
            && text.len() <= 253
            && !text.starts_with('-')
            && text.chars().all(|character| character.is_ascii_alphanumeric() || more.contains(&character))
    };
    if !plain(host, &['.', '-', '_', ':']) {
        return Some(format!("`{host}` is no name or address of a BMC"));
    }
    if *port == 0 {
        return Some("a port is 1 to 65535".to_owned());
    }
    // IPMI 2.0 has 16 bytes for it
    if !plain(user, &['.', '-', '_', '@']) || user.len() > 16 {
        return Some(format!("`{user}` is no IPMI user: at most 16 letters, digits, `.`, `-`, `_`, `@`"));
    }
    if !plain(secret, &['.', '-', '_']) {
        return Some(format!("`{secret}` is no name of a secret: use letters, digits, `.`, `-`, `_`"));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ipmi(host: &str, user: &str, secret: &str) -> BmcSettings {
        let [host, user, secret] = [host, user, secret].map(str::to_owned);
        BmcSettings::Ipmi { host, port: 623, user, secret, uefi: false }
    }

    #[test]
    fn what_a_program_could_take_for_something_else_is_refused() {
        for good in
            [ipmi("192.0.2.7", "ADMIN", "rack1"), ipmi("fd00::7", "a.b", "r-1"), ipmi("bmc.lab", "x", "y")]
        {
            assert_eq!(mistake(&good), None);
        }
        for bad in [
            ipmi("-oX", "ADMIN", "rack1"),
            ipmi("", "ADMIN", "rack1"),
            ipmi("192.0.2.7", "-f/etc/shadow", "rack1"),
            ipmi("192.0.2.7", "seventeen_letters", "rack1"),
            ipmi("192.0.2.7", "ADMIN", "../x"),
        ] {
            assert!(mistake(&bad).is_some(), "{bad:?}");
        }
    }
}
