//! IPMI 2.0 over LAN, by `ipmitool -I lanplus`. The password goes to ipmitool through its environment, so that it stands
//! in no argument list.

#![expect(clippy::disallowed_methods, reason = "the door to ipmitool, which speaks IPMI")]

use std::process::Stdio;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::process::Command;
use vetting_protocol::power::{MediaOrder, PowerAction, PowerState};
use vetting_protocol::secret::Secret;

use super::{ControlError, PowerControl, plain_words, sel, since};

/// How long a BMC may take for one answer. ipmitool itself tries four times in twenty seconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// A BMC.
pub(super) struct Ipmi {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) user: String,
    pub(super) password: Secret,
    pub(super) uefi: bool,
    /// Absent: ipmitool asks for the best one first.
    pub(super) cipher_suite: Option<u8>,
}

impl Ipmi {
    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("ipmitool");
        let port = self.port.to_string();
        command.args(["-I", "lanplus", "-H", &self.host, "-p", &port, "-U", &self.user, "-E"]);
        if let Some(suite) = self.cipher_suite {
            command.arg("-C").arg(suite.to_string());
        }
        command.args(words);
        command
            .env("IPMI_PASSWORD", self.password.expose())
            .env("LC_ALL", "C")
            .env("TZ", "UTC")
            .kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// What ipmitool printed.
    async fn ask(&self, words: &[&str]) -> Result<String, ControlError> {
        let failed = |problem: String| ControlError::Bmc { host: self.host.clone(), problem };
        let asked = tokio::time::timeout(PATIENCE, self.command(words).output()).await;
        let output = asked
            .map_err(|_| failed(format!("it gave no answer within {} s", PATIENCE.as_secs())))?
            .map_err(|source| ControlError::Program { program: "ipmitool", package: "ipmitool", source })?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().map(str::trim).rfind(|line| !line.is_empty());
        let last = last.unwrap_or("it said nothing");
        Err(failed(plain_words(last)))
    }
}

/// Reads `Chassis Power is on`.
fn parse_status(text: &str) -> Option<PowerState> {
    match text.trim() {
        "Chassis Power is on" => Some(PowerState::On),
        "Chassis Power is off" => Some(PowerState::Off),
        _ => None,
    }
}

impl PowerControl for Ipmi {
    fn switch(&self, action: PowerAction) -> BoxFuture<'_, Result<(), ControlError>> {
        Box::pin(async move { self.ask(&["chassis", "power", action.as_str()]).await.map(drop) })
    }

    fn state(&self) -> BoxFuture<'_, Result<PowerState, ControlError>> {
        Box::pin(async move {
            let text = self.ask(&["chassis", "power", "status"]).await?;
            parse_status(&text).ok_or_else(|| ControlError::Bmc {
                host: self.host.clone(),
                problem: "it does not say whether the machine is on".to_owned(),
            })
        })
    }

    fn boot_from_network_once(&self) -> BoxFuture<'_, Result<(), ControlError>> {
        Box::pin(async move {
            let words = ["chassis", "bootdev", "pxe", "options=efiboot"];
            let words = if self.uefi { &words[..] } else { &words[..3] };
            self.ask(words).await.map(drop)
        })
    }

    fn event_log(&self, since_ms: i64, now_ms: i64) -> BoxFuture<'_, Result<Vec<String>, ControlError>> {
        Box::pin(async move {
            let garbage = |problem: String| ControlError::Bmc { host: self.host.clone(), problem };
            // by its own clock, which nobody may ever have set
            let own_now_ms = sel::parse_clock(&self.ask(&["sel", "time", "get"]).await?).map_err(garbage)?;
            let own_since_ms = own_now_ms.saturating_sub(now_ms.saturating_sub(since_ms));
            let text = self.ask(&["sel", "list", "last", sel::MOST]).await?;
            Ok(since(sel::parse_list(&text).map_err(garbage)?, own_since_ms))
        })
    }

    fn media(&self, _order: Option<MediaOrder>) -> BoxFuture<'_, Result<(), ControlError>> {
        let what =
            "IPMI has no virtual media; a BMC that speaks Redfish may have (`host bmc --redfish`)".to_owned();
        Box::pin(std::future::ready(Err(ControlError::NotPossible { what })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bmc() -> Ipmi {
        Ipmi {
            host: "192.0.2.7".to_owned(),
            port: 623,
            user: "ADMIN".to_owned(),
            password: Secret::new("s3cr3t".to_owned()),
            uefi: false,
            cipher_suite: None,
        }
    }

    #[test]
    fn a_cipher_suite_is_named_only_where_it_is_told() {
        let words = |bmc: &Ipmi| {
            let command = bmc.command(&["sel", "list"]);
            command
                .as_std()
                .get_args()
                .map(|word| word.to_string_lossy().into_owned())
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert!(words(&bmc()).ends_with("-E sel list"));
        assert!(words(&Ipmi { cipher_suite: Some(17), ..bmc() }).ends_with("-E -C 17 sel list"));
    }

    #[test]
    fn the_password_stands_in_no_argument() {
        let command = bmc().command(&["chassis", "power", "status"]);
        let words: Vec<_> =
            command.as_std().get_args().map(|word| word.to_string_lossy().into_owned()).collect();
        assert!(!words.iter().any(|word| word.contains("s3cr3t")), "{words:?}");
        assert!(words.contains(&"-E".to_owned()));
    }

    #[test]
    fn what_is_not_understood_is_no_state() {
        assert_eq!(parse_status("Chassis Power is on\n"), Some(PowerState::On));
        assert_eq!(parse_status("Chassis Power is off\n"), Some(PowerState::Off));
        for text in ["", "Chassis Power is unknown", "Chassis Power is on fire"] {
            assert_eq!(parse_status(text), None, "{text}");
        }
    }
}
