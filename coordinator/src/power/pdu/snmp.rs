//! Outlets by SNMP, with net-snmp's `snmpget` and `snmpset`. Communities and passphrases go to them in a configuration
//! file of a folder that only we can read (snmp.conf(5)), so that they stand in no argument list.

#![expect(clippy::disallowed_methods, reason = "the door to net-snmp's tools, which speak SNMP")]

use std::process::Stdio;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tempfile::TempDir;
use tokio::process::Command;
use vetting_protocol::power::{PduModel, PduObjects, PduStatus, PowerState, SnmpAccess};
use vetting_protocol::secret::Secret;

use super::Outlet;
use crate::config::with_port;
use crate::power::secrets::PowerSecrets;
use crate::power::{ControlError, plain_words};

/// Beyond the tools' own three tries of five seconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// An outlet.
pub(super) struct Snmp {
    host: String,
    port: u16,
    objects: PduObjects,
    /// What stands in the tools' configuration file.
    access: Secret,
}

impl Snmp {
    pub(super) fn new(
        (host, port): (String, u16),
        outlet: &str,
        model: PduModel,
        access: SnmpAccess,
        secrets: &PowerSecrets,
    ) -> Result<Self, ControlError> {
        let access = access_text(access, secrets)?;
        Ok(Self { host, port, objects: objects(model, outlet), access })
    }

    fn failed(&self, problem: String) -> ControlError {
        ControlError::Pdu { host: self.host.clone(), problem }
    }

    /// What a tool printed.
    async fn call(&self, program: &'static str, words: &[&str]) -> Result<String, ControlError> {
        let folder = self
            .private_folder()
            .map_err(|source| self.failed(format!("no folder for its access: {source}")))?;
        let transport = if self.host.contains(':') { "udp6" } else { "udp" };
        let agent = format!("{transport}:{}", with_port(&self.host, self.port));
        let mut command = Command::new(program);
        // numbers only: no MIB files are read, and values have no names
        command.args(["-m", "", "-M", "", "-t", "5", "-r", "2", "-Oqve", &agent]).args(words);
        command.env("SNMPCONFPATH", folder.path()).env("SNMP_PERSISTENT_DIR", folder.path());
        command.env("LC_ALL", "C").kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let asked = tokio::time::timeout(PATIENCE, command.output()).await;
        let output = asked
            .map_err(|_| self.failed(format!("it gave no answer within {} s", PATIENCE.as_secs())))?
            .map_err(|source| ControlError::Program { program, package: "snmp", source })?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(text);
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let words: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        Err(self.failed(if words.is_empty() {
            format!("{program} failed and said nothing")
        } else {
            plain_words(&words.join("; "))
        }))
    }

    fn private_folder(&self) -> std::io::Result<TempDir> {
        // mode 0700
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join("snmp.conf"), self.access.expose())?;
        Ok(folder)
    }
}

/// The lines of snmp.conf(5) that say who we are.
fn access_text(access: SnmpAccess, secrets: &PowerSecrets) -> Result<Secret, ControlError> {
    let text = match access {
        SnmpAccess::V2c { secret } => {
            format!("defVersion 2c\ndefCommunity {}\n", quoted(&secret, secrets)?)
        }
        SnmpAccess::V3 { user, auth, secret, privacy, privacy_secret } => {
            let auth = match auth.as_str() {
                "sha" => "SHA",
                "sha256" => "SHA-256",
                _ => "SHA-512",
            };
            let privacy_secret = privacy_secret.as_deref().unwrap_or(&secret);
            format!(
                "defVersion 3\ndefSecurityName {user}\ndefSecurityLevel authPriv\ndefAuthType {auth}\n\
                 defAuthPassphrase {}\ndefPrivType {}\ndefPrivPassphrase {}\n",
                quoted(&secret, secrets)?,
                privacy.as_str().to_ascii_uppercase(),
                quoted(privacy_secret, secrets)?
            )
        }
    };
    Ok(Secret::new(text))
}

/// A secret as a word of that file.
fn quoted(name: &str, secrets: &PowerSecrets) -> Result<String, ControlError> {
    let secret = secrets.get(name)?;
    let text = secret.expose();
    if text.chars().any(char::is_control) {
        return Err(ControlError::NotPossible {
            what: format!("the secret `{name}` has a control character in it"),
        });
    }
    Ok(format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")))
}

/// The objects of an outlet. PowerNet-MIB: 1 is on and 2 off, but in rPDU2's state 1 is off and 2 on. PDU2-MIB: 0 is off and
/// 1 on, and 7 and 8 in the state.
fn objects(model: PduModel, outlet: &str) -> PduObjects {
    let outlet = outlet.trim_start_matches('.');
    let with_unit = if outlet.contains('.') { outlet.to_owned() } else { format!("1.{outlet}") };
    let of = |control: String, (on, off): (i32, i32), oid: String, (is_on, is_off): (i32, i32)| PduObjects {
        control,
        on,
        off,
        status: Some(PduStatus { oid, on: is_on, off: is_off }),
    };
    match model {
        PduModel::ApcRpdu => of(
            format!(".1.3.6.1.4.1.318.1.1.12.3.3.1.1.4.{outlet}"),
            (1, 2),
            format!(".1.3.6.1.4.1.318.1.1.12.3.5.1.1.4.{outlet}"),
            (1, 2),
        ),
        PduModel::ApcRpdu2 => of(
            format!(".1.3.6.1.4.1.318.1.1.26.9.2.4.1.5.{outlet}"),
            (1, 2),
            format!(".1.3.6.1.4.1.318.1.1.26.9.2.3.1.5.{outlet}"),
            (2, 1),
        ),
        PduModel::RaritanPx2 => of(
            format!(".1.3.6.1.4.1.13742.6.4.1.2.1.2.{with_unit}"),
            (1, 0),
            format!(".1.3.6.1.4.1.13742.6.4.1.2.1.3.{with_unit}"),
            (7, 8),
        ),
        PduModel::Oid(objects) => objects,
    }
}

impl Outlet for Snmp {
    fn set(&self, state: PowerState) -> BoxFuture<'_, Result<(), ControlError>> {
        Box::pin(async move {
            let value = match state {
                PowerState::On => self.objects.on,
                PowerState::Off => self.objects.off,
            };
            self.call("snmpset", &[&self.objects.control, "i", &value.to_string()]).await.map(drop)
        })
    }

    fn get(&self) -> BoxFuture<'_, Result<PowerState, ControlError>> {
        Box::pin(async move {
            let PduObjects { control, on, off, status } = &self.objects;
            let (oid, on, off) =
                status.as_ref().map_or((control, *on, *off), |status| (&status.oid, status.on, status.off));
            let text = self.call("snmpget", &[oid]).await?;
            match text.trim().parse::<i32>() {
                Ok(value) if value == on => Ok(PowerState::On),
                Ok(value) if value == off => Ok(PowerState::Off),
                _ => Err(self.failed(format!(
                    "the state of the outlet is `{}`, neither on nor off",
                    plain_words(text.trim())
                ))),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raritan_counts_units_and_others_do_not() {
        let control = |model, outlet| objects(model, outlet).control;
        assert_eq!(control(PduModel::RaritanPx2, "7"), ".1.3.6.1.4.1.13742.6.4.1.2.1.2.1.7");
        assert_eq!(control(PduModel::RaritanPx2, "2.7"), ".1.3.6.1.4.1.13742.6.4.1.2.1.2.2.7");
        assert_eq!(control(PduModel::ApcRpdu, "7"), ".1.3.6.1.4.1.318.1.1.12.3.3.1.1.4.7");
    }
}
