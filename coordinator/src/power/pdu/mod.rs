//! Outlets of power distribution units, as power control: on, off, and off and on again. A machine on one cannot be asked to
//! shut down, nor where it boots from.

mod hook;
mod snmp;

use std::time::Duration;

use futures_util::future::BoxFuture;
use vetting_protocol::power::{MediaOrder, PduModel, PduSettings, PowerAction, PowerState, SnmpAccess};

use super::{ControlError, Means, PowerControl, is_plain, settles};
use crate::config::Hook;

/// One outlet.
trait Outlet: Send + Sync {
    /// Switches it.
    fn set(&self, state: PowerState) -> BoxFuture<'_, Result<(), ControlError>>;

    /// How it is.
    fn get(&self) -> BoxFuture<'_, Result<PowerState, ControlError>>;
}

/// An outlet as power control.
struct Pdu {
    outlet: Box<dyn Outlet>,
    off_pause: Duration,
}

/// Control by an outlet.
///
/// # Errors
/// A secret or a hook that is not known.
pub(super) fn control(settings: PduSettings, means: &Means) -> Result<Box<dyn PowerControl>, ControlError> {
    let outlet: Box<dyn Outlet> = match settings {
        PduSettings::Snmp { host, port, outlet, model, access } => {
            Box::new(snmp::Snmp::new((host, port), &outlet, model, access, &means.secrets)?)
        }
        PduSettings::Hook { hook, outlet } => hook_outlet(&hook, outlet, means)?,
    };
    Ok(Box::new(Pdu { outlet, off_pause: means.off_pause }))
}

fn hook_outlet(name: &str, outlet: String, means: &Means) -> Result<Box<dyn Outlet>, ControlError> {
    let hook = means.hooks.get(name).ok_or_else(|| ControlError::NotPossible {
        what: format!("the coordinator's configuration has no `power.hooks.{name}`"),
    })?;
    Ok(match hook {
        Hook::Command(command) => {
            Box::new(hook::CommandHook::new(name.to_owned(), command.clone(), outlet, &means.secrets)?)
        }
        Hook::Http(http) => Box::new(hook::HttpHook::new(name.to_owned(), http, outlet, &means.secrets)?),
    })
}

/// What is wrong with how an outlet is to be switched; absent if nothing is. Words go to programs' argument lists.
pub fn mistake(settings: &PduSettings) -> Option<String> {
    let no_secret = |name: &str| {
        (!is_plain(name, &['.', '-', '_']))
            .then(|| format!("`{name}` is no name of a secret: use letters, digits, `.`, `-`, `_`"))
    };
    match settings {
        PduSettings::Hook { hook, outlet } => {
            if !is_plain(hook, &['.', '-', '_']) {
                return Some(format!("`{hook}` is no name of a hook"));
            }
            let fits = outlet.is_empty() || is_plain(outlet, &['.', '-', '_', ':']);
            (!fits).then(|| format!("`{outlet}` is no outlet: use letters, digits, `.`, `-`, `_`, `:`"))
        }
        PduSettings::Snmp { host, port, outlet, model, access } => {
            if !is_plain(host, &['.', '-', '_', ':']) || *port == 0 {
                return Some(format!("`{host}` port {port} is no place of a PDU"));
            }
            if let PduModel::Oid(objects) = model {
                let status = objects.status.as_ref().map(|status| &status.oid);
                let bad = std::iter::once(&objects.control).chain(status).find(|oid| !is_oid(oid))?;
                return Some(format!(
                    "`{bad}` is no object in numbers, such as 1.3.6.1.4.1.318.1.1.12.3.3.1.1.4.7"
                ));
            }
            if !is_oid(outlet) {
                return Some(format!("`{outlet}` is no outlet: give its number"));
            }
            match access {
                SnmpAccess::V2c { secret } => no_secret(secret),
                SnmpAccess::V3 { user, secret, privacy_secret, .. } => {
                    if !is_plain(user, &['.', '-', '_', '@']) {
                        return Some(format!(
                            "`{user}` is no user of a PDU: letters, digits, `.`, `-`, `_`, `@`"
                        ));
                    }
                    no_secret(secret).or_else(|| privacy_secret.as_deref().and_then(no_secret))
                }
            }
        }
    }
}

/// Whether a text is numbers with dots between.
fn is_oid(text: &str) -> bool {
    let numbers = text.strip_prefix('.').unwrap_or(text);
    numbers.len() <= 200
        && numbers.split('.').all(|number| {
            number.parse::<u32>().is_ok_and(|_| number.bytes().all(|digit| digit.is_ascii_digit()))
        })
}

impl PowerControl for Pdu {
    fn switch(&self, action: PowerAction) -> BoxFuture<'_, Result<(), ControlError>> {
        Box::pin(async move {
            match action {
                PowerAction::On => self.outlet.set(PowerState::On).await,
                PowerAction::Off => self.outlet.set(PowerState::Off).await,
                PowerAction::Cycle => {
                    self.outlet.set(PowerState::Off).await?;
                    settles(self, PowerState::Off).await?;
                    tokio::time::sleep(self.off_pause).await;
                    self.outlet.set(PowerState::On).await
                }
                PowerAction::Soft => Err(ControlError::NotPossible {
                    what: "an outlet cannot ask a system to shut down; only a BMC can".to_owned(),
                }),
            }
        })
    }

    fn state(&self) -> BoxFuture<'_, Result<PowerState, ControlError>> {
        self.outlet.get()
    }

    fn boot_from_network_once(&self) -> BoxFuture<'_, Result<(), ControlError>> {
        let what = "an outlet does not say where a machine boots from".to_owned();
        Box::pin(std::future::ready(Err(ControlError::NotPossible { what })))
    }

    fn media(&self, _order: Option<MediaOrder>) -> BoxFuture<'_, Result<(), ControlError>> {
        let what = "an outlet has no virtual media".to_owned();
        Box::pin(std::future::ready(Err(ControlError::NotPossible { what })))
    }
}

#[cfg(test)]
mod tests {
    use vetting_protocol::power::PduObjects;

    use super::*;

    #[test]
    fn what_a_program_could_take_for_something_else_is_refused() {
        let snmp = |host: &str, outlet: &str, secret: &str, model: PduModel| PduSettings::Snmp {
            host: host.to_owned(),
            port: 161,
            outlet: outlet.to_owned(),
            model,
            access: SnmpAccess::V2c { secret: secret.to_owned() },
        };
        let oid = |control: &str| {
            PduModel::Oid(PduObjects { control: control.to_owned(), on: 1, off: 2, status: None })
        };
        let hook =
            |hook: &str, outlet: &str| PduSettings::Hook { hook: hook.to_owned(), outlet: outlet.to_owned() };
        for good in [
            snmp("192.0.2.9", "7", "rack1", PduModel::ApcRpdu),
            snmp("fd00::9", "2.7", "rack1", PduModel::RaritanPx2),
            snmp("pdu.lab", "", "rack1", oid(".1.3.6.1.4.1.318.1")),
            hook("strip", "B7"),
            hook("strip", ""),
        ] {
            assert_eq!(mistake(&good), None, "{good:?}");
        }
        for bad in [
            snmp("-Dall", "7", "rack1", PduModel::ApcRpdu),
            snmp("192.0.2.9", "7 i 1", "rack1", PduModel::ApcRpdu),
            snmp("192.0.2.9", "+7", "rack1", PduModel::ApcRpdu),
            snmp("192.0.2.9", "7", "../rack1", PduModel::ApcRpdu),
            snmp("192.0.2.9", "7", "rack1", oid("sysName.0")),
            snmp("192.0.2.9", "7", "rack1", oid("")),
            hook("../x", "1"),
            hook("strip", "$(reboot)"),
        ] {
            assert!(mistake(&bad).is_some(), "{bad:?}");
        }
    }
}
