//! What switches machines on and off, behind two traits: a packet that any machine may hear, and control of one machine.
//! Refuses to know about runs.

mod ipmi;
mod pdu;
mod redfish;
pub mod secrets;
mod sel;
mod trust;
pub mod wake_on_lan;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use futures_util::future::BoxFuture;
use vetting_protocol::ids::MacAddress;
use vetting_protocol::power::{BmcSettings, MediaOrder, PduSettings, PowerAction, PowerState, Trust};

use crate::config::Hook;
use ipmi::Ipmi;
use redfish::Redfish;
use secrets::{PowerSecrets, SecretError};

pub use pdu::mistake as mistake_in_pdu;
pub use wake_on_lan::{PowerError, WakeOnLan};

/// How long a machine may take to be as it was told.
const SETTLING: Duration = Duration::from_mins(1);
/// Between two looks at it.
const LOOK: Duration = Duration::from_secs(1);

/// What power is controlled with, from the config.
#[derive(Debug, Clone)]
pub struct Means {
    /// Passwords.
    pub secrets: PowerSecrets,
    /// Programs and devices that switch outlets.
    pub hooks: BTreeMap<String, Hook>,
    /// Between off and on.
    pub off_pause: Duration,
    /// How long a machine that switches itself off may take before its power is cut.
    pub shutdown_wait: Duration,
}

/// How a machine's power may be controlled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Controls {
    /// Its BMC.
    pub bmc: Option<BmcSettings>,
    /// Its outlet.
    pub pdu: Option<PduSettings>,
}

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
    #[error("the password cannot be had")]
    Secret(#[from] SecretError),
    /// The BMC refuses, or gave no answer.
    #[error("the BMC at {host}: {problem}")]
    Bmc {
        /// Which.
        host: String,
        /// In its or ipmitool's words.
        problem: String,
    },
    /// The PDU refuses, or gave no answer.
    #[error("the PDU at {host}: {problem}")]
    Pdu {
        /// Which.
        host: String,
        /// In its or net-snmp's words.
        problem: String,
    },
    /// A hook did not do it.
    #[error("the hook `{name}`: {problem}")]
    Hook {
        /// Which.
        name: String,
        /// What.
        problem: String,
    },
    /// A machine is not as it was told.
    #[error("the machine is not {wanted} {} s after it was told", SETTLING.as_secs())]
    NotSettled {
        /// How it should be.
        wanted: PowerState,
    },
    /// A tool is missing.
    #[error("`{program}` cannot be started; install it (Debian: {package})")]
    Program {
        /// Which.
        program: &'static str,
        /// What it is in.
        package: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// Whoever controls the power has no way to do it.
    #[error("{what}")]
    NotPossible {
        /// What, and what would help.
        what: String,
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

    /// Puts an image into its virtual drive, or takes out what is in there.
    fn media(&self, order: Option<MediaOrder>) -> BoxFuture<'_, Result<(), ControlError>>;

    /// The entries of its event log since `since_ms`, in words, oldest first; both times are the coordinator's, `now_ms`
    /// is now. The log's own clock may be off.
    fn event_log(&self, since_ms: i64, now_ms: i64) -> BoxFuture<'_, Result<Vec<String>, ControlError>> {
        let _ = (since_ms, now_ms);
        let what = "an outlet has no event log".to_owned();
        Box::pin(std::future::ready(Err(ControlError::NotPossible { what })))
    }
}

/// Entries of an event log that are kept, the newest.
const MOST_ENTRIES: usize = 50;

/// Those of an event log's entries that came since a moment of its own clock. One without a time (before its clock was set)
/// counts if one that does count came before it.
fn since(entries: Vec<(Option<i64>, String)>, since_ms: i64) -> Vec<String> {
    let first = entries.iter().position(|(at_ms, _)| at_ms.is_some_and(|at_ms| at_ms >= since_ms));
    let counts = |(at_ms, _): &(Option<i64>, String)| at_ms.is_none_or(|at_ms| at_ms >= since_ms);
    let mut found: Vec<String> = first
        .map(|first| entries.into_iter().skip(first).filter(counts).map(|(_, words)| plain_words(&words)))
        .into_iter()
        .flatten()
        .collect();
    found.drain(..found.len().saturating_sub(MOST_ENTRIES));
    found
}

/// What a device said, fit to be shown: on one line, and no longer than 300 characters.
fn plain_words(said: &str) -> String {
    said.chars().filter(|character| !character.is_control()).take(300).collect()
}

impl Controls {
    /// Whether there is any.
    pub fn is_some(&self) -> bool {
        self.bmc.is_some() || self.pdu.is_some()
    }

    /// By the BMC, or else by the outlet; absent where there is neither.
    ///
    /// # Errors
    /// [`ControlError::Secret`]; a hook that is not known.
    pub fn control(self, means: &Means) -> Result<Option<Box<dyn PowerControl>>, ControlError> {
        match self {
            Self { bmc: Some(settings), .. } => by_bmc(settings, means).map(Some),
            Self { bmc: None, pdu: Some(settings) } => by_pdu(settings, means).map(Some),
            Self { bmc: None, pdu: None } => Ok(None),
        }
    }
}

/// Control by an outlet.
///
/// # Errors
/// [`ControlError::Secret`]; a hook that is not known.
pub fn by_pdu(settings: PduSettings, means: &Means) -> Result<Box<dyn PowerControl>, ControlError> {
    pdu::control(settings, means)
}

/// Control by a BMC, with the password that its settings name.
///
/// # Errors
/// [`ControlError::Secret`].
pub fn by_bmc(settings: BmcSettings, means: &Means) -> Result<Box<dyn PowerControl>, ControlError> {
    Ok(match settings {
        BmcSettings::Ipmi { host, port, user, secret, uefi, cipher_suite } => {
            Box::new(Ipmi { host, port, user, password: means.secrets.get(&secret)?, uefi, cipher_suite })
        }
        BmcSettings::Redfish { host, port, user, secret, system, trust, boot_mode } => {
            let password = means.secrets.get(&secret)?;
            Box::new(Redfish::new((host, port), (user, password), &trust, system, boot_mode)?)
        }
    })
}

/// Sees to it that a machine that switches itself off is off.
///
/// # Errors
/// It is not, or it is not known.
pub async fn off_after_shutdown(control: &dyn PowerControl, patience: Duration) -> Result<(), ControlError> {
    // the first look is not cut short
    if control.state().await? == PowerState::Off {
        return Ok(());
    }
    let watched = async {
        while control.state().await? != PowerState::Off {
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    };
    if let Ok(watched) = tokio::time::timeout(patience, watched).await {
        return watched;
    }
    control.switch(PowerAction::Off).await?;
    settles(control, PowerState::Off).await
}

/// Waits until a machine is as it was told.
///
/// # Errors
/// [`ControlError::NotSettled`] in the end; what keeps its state from being known.
pub async fn settles(control: &dyn PowerControl, wanted: PowerState) -> Result<(), ControlError> {
    let watched = async {
        while control.state().await? != wanted {
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    };
    tokio::time::timeout(SETTLING, watched).await.unwrap_or(Err(ControlError::NotSettled { wanted }))
}

/// Whether a word is letters, digits and these, and no option of a program.
fn is_plain(text: &str, more: &[char]) -> bool {
    !text.is_empty()
        && text.len() <= 253
        && !text.starts_with('-')
        && text.chars().all(|character| character.is_ascii_alphanumeric() || more.contains(&character))
}

/// What is wrong with how a BMC is to be reached; absent if nothing is. The words go to a program's argument list, or into
/// an address.
pub fn mistake(settings: &BmcSettings) -> Option<String> {
    let (BmcSettings::Ipmi { host, port, user, secret, .. }
    | BmcSettings::Redfish { host, port, user, secret, .. }) = settings;
    if !is_plain(host, &['.', '-', '_', ':']) {
        return Some(format!("`{host}` is no name or address of a BMC"));
    }
    if *port == 0 {
        return Some("a port is 1 to 65535".to_owned());
    }
    let of_user = match settings {
        // IPMI 2.0 has 16 bytes for it
        BmcSettings::Ipmi { .. } if user.len() > 16 => false,
        BmcSettings::Ipmi { .. } | BmcSettings::Redfish { .. } => is_plain(user, &['.', '-', '_', '@']),
    };
    if !of_user {
        return Some(format!(
            "`{user}` is no user of a BMC: letters, digits, `.`, `-`, `_`, `@`, for IPMI at most 16"
        ));
    }
    if !is_plain(secret, &['.', '-', '_']) {
        return Some(format!("`{secret}` is no name of a secret: use letters, digits, `.`, `-`, `_`"));
    }
    if let BmcSettings::Redfish { system, trust, .. } = settings {
        if let Some(system) = system
            && !is_plain(system, &['.', '-', '_', ':'])
        {
            return Some(format!(
                "`{system}` is no system of a BMC: the last part of its address is asked for"
            ));
        }
        return mistake_in_trust(trust);
    }
    None
}

/// What is wrong with whom a TLS connection is to believe.
fn mistake_in_trust(trust: &Trust) -> Option<String> {
    trust::client(trust)
        .err()
        .map(|error| format!("whom to trust cannot be used: {}", crate::error_chain(&error)))
}

/// What is wrong with where a BMC is to fetch an image; absent if nothing is.
pub fn mistake_in_media(address: &str) -> Option<String> {
    let url = match reqwest::Url::parse(address) {
        Ok(url) => url,
        Err(error) => return Some(format!("`{address}` is no address of an image: {error}")),
    };
    if !matches!(url.scheme(), "http" | "https" | "nfs" | "cifs") || !url.has_host() {
        return Some(format!("`{address}` is no address that a BMC fetches: http, https, nfs or cifs"));
    }
    if url.password().is_some() {
        return Some("leave the password out of the address: addresses are stored and shown".to_owned());
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_log_counts_what_came_since() {
        let entry = |at: Option<i64>, words: &str| (at, words.to_owned());
        let log = vec![
            entry(None, "before"),
            entry(Some(5), "old"),
            entry(Some(9), "first"),
            entry(None, "without a time"),
            entry(Some(3), "by a clock set back"),
            entry(Some(12), "last\u{7}"),
        ];
        assert_eq!(since(log.clone(), 9), ["first", "without a time", "last"]);
        assert_eq!(since(log, 13), Vec::<String>::new());
        let many = (0..200).map(|number| entry(Some(number), &number.to_string())).collect();
        let kept = since(many, 0);
        assert_eq!((kept.len(), kept.last().unwrap().as_str()), (MOST_ENTRIES, "199"));
    }

    fn ipmi(host: &str, user: &str, secret: &str) -> BmcSettings {
        let [host, user, secret] = [host, user, secret].map(str::to_owned);
        BmcSettings::Ipmi { host, port: 623, user, secret, uefi: false, cipher_suite: None }
    }

    fn redfish(system: &str, trust: Trust) -> BmcSettings {
        let [host, user, secret] = ["192.0.2.7", "ADMIN", "rack1"].map(str::to_owned);
        let system = Some(system.to_owned());
        BmcSettings::Redfish { host, port: 443, user, secret, system, trust, boot_mode: None }
    }

    #[test]
    fn redfish_needs_a_system_that_is_a_word_and_authorities_that_can_be_read() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        assert_eq!(mistake(&redfish("1", Trust::Insecure)), None);
        assert!(mistake(&redfish("../Managers/1", Trust::Insecure)).is_some());
        assert!(mistake(&redfish("1", Trust::Ca("no certificate".to_owned()))).is_some());
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
