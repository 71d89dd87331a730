//! Redfish (DMTF DSP0266, schemas of DSP2046): power, the next boot, and virtual media of one system.

mod log;
mod session;

use futures_util::future::BoxFuture;
use serde_json::{Map, Value, json};
use vetting_protocol::power::{FirmwareMode, MediaOrder, PowerAction, PowerState, Trust};
use vetting_protocol::secret::Secret;

use super::{ControlError, PowerControl};
use session::Session;

const SYSTEMS: &str = "/redfish/v1/Systems";

/// A BMC.
pub(super) struct Redfish {
    session: Session,
    system: Option<String>,
    boot_mode: Option<FirmwareMode>,
}

impl Redfish {
    pub(super) fn new(
        place: (String, u16),
        who: (String, Secret),
        trust: &Trust,
        system: Option<String>,
        boot_mode: Option<FirmwareMode>,
    ) -> Result<Self, ControlError> {
        Ok(Self { session: Session::new(place, who, trust)?, system, boot_mode })
    }

    /// Where its system is: the one that the settings name, or the only one.
    async fn system_path(&self) -> Result<String, ControlError> {
        let all = self.session.get(SYSTEMS).await?.body;
        let paths = members(&all);
        let names = paths.iter().map(|path| last_part(path)).collect::<Vec<_>>();
        let wanted = match (&self.system, names.as_slice()) {
            (Some(system), _) => names.iter().position(|name| name == system),
            (None, [_]) => Some(0),
            (None, _) => None,
        };
        wanted.and_then(|at| paths.get(at)).map(|path| (*path).to_owned()).ok_or_else(|| {
            let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            let what = match &self.system {
                Some(system) => format!("it has no system `{system}`; it has: {known}"),
                None => format!("which of its systems is the machine? Name one (--system): {known}"),
            };
            self.session.failed(what)
        })
    }

    async fn system(&self) -> Result<(String, session::Answer), ControlError> {
        let path = self.system_path().await?;
        let answer = self.session.get(&path).await?;
        Ok((path, answer))
    }

    async fn reset(&self, action: PowerAction) -> Result<(), ControlError> {
        let (path, answer) = self.system().await?;
        let described = &answer.body["Actions"]["#ComputerSystem.Reset"];
        let target = described["target"]
            .as_str()
            .map_or_else(|| format!("{path}/Actions/ComputerSystem.Reset"), str::to_owned);
        let kind = reset_kind(action, &described["ResetType@Redfish.AllowableValues"])
            .map_err(|known| self.session.failed(format!("it cannot {action}; it knows {known}")))?;
        self.session.post(&target, &json!({"ResetType": kind})).await
    }

    async fn boot_once(&self, target: &str) -> Result<(), ControlError> {
        let path = self.system_path().await?;
        let mut boot = Map::new();
        boot.insert("BootSourceOverrideEnabled".to_owned(), json!("Once"));
        boot.insert("BootSourceOverrideTarget".to_owned(), json!(target));
        if let Some(mode) = self.boot_mode {
            let mode = match mode {
                FirmwareMode::Uefi => "UEFI",
                FirmwareMode::Legacy => "Legacy",
            };
            boot.insert("BootSourceOverrideMode".to_owned(), json!(mode));
        }
        self.session.patch(&path, &json!({"Boot": boot})).await
    }

    /// The virtual drive for discs: of the system, or of the manager that it is managed by.
    async fn drive(&self) -> Result<(String, Value), ControlError> {
        let (_, system) = self.system().await?;
        let mut owners = vec![system.body];
        if owners[0]["VirtualMedia"].is_null() {
            let managers = owners[0]["Links"]["ManagedBy"].as_array().cloned().unwrap_or_default();
            owners.clear();
            for manager in managers.iter().filter_map(|manager| manager["@odata.id"].as_str()) {
                owners.push(self.session.get(manager).await?.body);
            }
        }
        for owner in &owners {
            let Some(path) = owner["VirtualMedia"]["@odata.id"].as_str() else { continue };
            let all = self.session.get(path).await?.body;
            for path in members(&all) {
                let drive = self.session.get(path).await?.body;
                if takes_discs(&drive) {
                    return Ok((path.to_owned(), drive));
                }
            }
        }
        Err(self.session.failed("it has no virtual drive for discs".to_owned()))
    }

    async fn eject(&self, path: &str, drive: &Value) -> Result<(), ControlError> {
        match drive["Actions"]["#VirtualMedia.EjectMedia"]["target"].as_str() {
            Some(target) => self.session.post(target, &json!({})).await,
            None => self.session.patch(path, &json!({"Image": null, "Inserted": false})).await,
        }
    }

    async fn insert(&self, order: &MediaOrder) -> Result<(), ControlError> {
        let (path, drive) = self.drive().await?;
        if drive["Inserted"].as_bool() == Some(true) {
            self.eject(&path, &drive).await?;
        }
        let image = json!({"Image": order.url, "Inserted": true, "WriteProtected": true});
        match drive["Actions"]["#VirtualMedia.InsertMedia"]["target"].as_str() {
            Some(target) => self.session.post(target, &image).await?,
            None => self.session.patch(&path, &image).await?,
        }
        if order.boot_once { self.boot_once("Cd").await } else { Ok(()) }
    }
}

/// The addresses of a collection's members.
fn members(collection: &Value) -> Vec<&str> {
    let members = collection["Members"].as_array().map(Vec::as_slice).unwrap_or_default();
    members.iter().filter_map(|member| member["@odata.id"].as_str()).collect()
}

fn last_part(path: &str) -> String {
    path.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned()
}

fn takes_discs(drive: &Value) -> bool {
    let kinds = drive["MediaTypes"].as_array().map(Vec::as_slice).unwrap_or_default();
    kinds.iter().any(|kind| matches!(kind.as_str(), Some("CD" | "DVD")))
}

/// What the BMC calls that action (Resource.ResetType); what it knows, if it knows no word for it. One that does not tell
/// is believed to know the first.
fn reset_kind(action: PowerAction, allowed: &Value) -> Result<&'static str, String> {
    let words: &[&'static str] = match action {
        PowerAction::On => &["On", "ForceOn"],
        PowerAction::Off => &["ForceOff"],
        PowerAction::Cycle => &["ForceRestart", "PowerCycle"],
        PowerAction::Soft => &["GracefulShutdown"],
    };
    let Some(allowed) = allowed.as_array() else { return Ok(words[0]) };
    let allowed: Vec<&str> = allowed.iter().filter_map(Value::as_str).collect();
    words.iter().copied().find(|word| allowed.contains(word)).ok_or_else(|| allowed.join(", "))
}

/// Reads `PowerState`. A machine on its way to off is still on.
fn power_state(system: &Value) -> Option<PowerState> {
    match system["PowerState"].as_str()? {
        "On" | "PoweringOff" | "PoweringOn" => Some(PowerState::On),
        "Off" => Some(PowerState::Off),
        _ => None,
    }
}

impl PowerControl for Redfish {
    fn switch(&self, action: PowerAction) -> BoxFuture<'_, Result<(), ControlError>> {
        Box::pin(self.reset(action))
    }

    fn state(&self) -> BoxFuture<'_, Result<PowerState, ControlError>> {
        Box::pin(async move {
            let (_, system) = self.system().await?;
            let unknown = || self.session.failed("it does not say whether the machine is on".to_owned());
            power_state(&system.body).ok_or_else(unknown)
        })
    }

    fn boot_from_network_once(&self) -> BoxFuture<'_, Result<(), ControlError>> {
        Box::pin(self.boot_once("Pxe"))
    }

    fn event_log(&self, since_ms: i64, now_ms: i64) -> BoxFuture<'_, Result<Vec<String>, ControlError>> {
        Box::pin(async move {
            let (_, system) = self.system().await?;
            log::read(&self.session, &system.body, since_ms, now_ms).await
        })
    }

    fn media(&self, order: Option<MediaOrder>) -> BoxFuture<'_, Result<(), ControlError>> {
        Box::pin(async move {
            if let Some(order) = order {
                return self.insert(&order).await;
            }
            let (path, drive) = self.drive().await?;
            self.eject(&path, &drive).await
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bmc_is_told_only_what_it_knows() {
        let allowed = json!(["On", "ForceOff", "PowerCycle"]);
        assert_eq!(reset_kind(PowerAction::Cycle, &allowed), Ok("PowerCycle"));
        assert_eq!(reset_kind(PowerAction::Off, &allowed), Ok("ForceOff"));
        assert_eq!(reset_kind(PowerAction::Soft, &allowed), Err("On, ForceOff, PowerCycle".to_owned()));
        assert_eq!(reset_kind(PowerAction::Cycle, &Value::Null), Ok("ForceRestart"));
    }

    #[test]
    fn what_is_not_understood_is_no_state() {
        for (state, expected) in [
            (json!("On"), Some(PowerState::On)),
            (json!("PoweringOff"), Some(PowerState::On)),
            (json!("Off"), Some(PowerState::Off)),
            (json!("Paused"), None),
            (json!(1), None),
            (Value::Null, None),
        ] {
            assert_eq!(power_state(&json!({"PowerState": state})), expected, "{state}");
        }
        assert_eq!(power_state(&json!([])), None);
    }
}
