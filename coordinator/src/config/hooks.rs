//! `power.hooks`: programs and devices that switch outlets. What is run and called stands only here.

use serde::Deserialize;
use vetting_protocol::ids::Sha256Hex;
use vetting_protocol::named_enum;
use vetting_protocol::power::Trust;

/// What switches an outlet.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "HookText")]
pub enum Hook {
    /// A program.
    Command(CommandHookConfig),
    /// A device.
    Http(Box<HttpHookConfig>),
}

/// A hook as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct HookText {
    command: Option<Vec<String>>,
    secret: Option<String>,
    http: Option<HttpHookConfig>,
}

impl TryFrom<HookText> for Hook {
    type Error = String;

    fn try_from(text: HookText) -> Result<Self, String> {
        match text {
            HookText { command: Some(command), secret, http: None } => {
                if !command.first().is_some_and(|program| program.starts_with('/')) {
                    return Err("`command` begins with the whole path of a program".to_owned());
                }
                if !command.iter().skip(1).any(|word| word.contains("{action}")) {
                    return Err("`command` has no word with {action} in it: on, off or status".to_owned());
                }
                Ok(Self::Command(CommandHookConfig { command, secret }))
            }
            HookText { command: None, secret: None, http: Some(http) } => {
                http.trust_is_one()?;
                Ok(Self::Http(Box::new(http)))
            }
            HookText { command: None, secret: Some(_), http: Some(_) } => {
                Err("the secret of a device stands under `http`".to_owned())
            }
            HookText { command: Some(_), http: Some(_), .. } | HookText { command: None, http: None, .. } => {
                Err("a hook has either `command` or `http`".to_owned())
            }
        }
    }
}

/// A program that is given the action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandHookConfig {
    /// The program's whole path and its arguments, in which `{action}` and `{outlet}` are replaced.
    pub command: Vec<String>,
    /// Name of what it finds in `VETTING_SECRET`.
    pub secret: Option<String>,
}

/// A device that is sent requests. `{outlet}` is replaced in addresses and bodies.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpHookConfig {
    /// What switches it on.
    pub on: HookRequest,
    /// What switches it off.
    pub off: HookRequest,
    /// What asks whether it is on.
    pub status: HookStatus,
    /// For basic authentication, with `secret` as the password.
    pub user: Option<String>,
    /// Name of the password, or without `user` of a bearer token.
    pub secret: Option<String>,
    /// The SHA-256 of the only certificate that is believed.
    pub fingerprint: Option<Sha256Hex>,
    /// The authorities that are believed, PEM; without any of the three those of the system are.
    pub ca: Option<String>,
    /// Any certificate is believed.
    #[serde(default)]
    pub insecure: bool,
}

impl HttpHookConfig {
    fn trust_is_one(&self) -> Result<(), String> {
        let said = usize::from(self.fingerprint.is_some())
            + usize::from(self.ca.is_some())
            + usize::from(self.insecure);
        if said > 1 { Err("say one of `fingerprint`, `ca` and `insecure`".to_owned()) } else { Ok(()) }
    }

    /// Whose certificate is believed.
    pub fn trust(&self) -> Trust {
        match (self.fingerprint, &self.ca, self.insecure) {
            (Some(pin), _, _) => Trust::Fingerprint(pin),
            (None, Some(pem), _) => Trust::Ca(pem.clone()),
            (None, None, true) => Trust::Insecure,
            (None, None, false) => Trust::System,
        }
    }
}

named_enum! {
    /// How a device is asked.
    #[derive(Default)]
    HookMethod, "GET, POST, PUT or PATCH" {
        /// GET.
        Get = "GET",
        /// POST.
        #[default]
        Post = "POST",
        /// PUT.
        Put = "PUT",
        /// PATCH.
        Patch = "PATCH",
    }
}

/// One request.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HookRequest {
    /// POST if not said.
    #[serde(default)]
    pub method: HookMethod,
    /// Where to.
    pub url: String,
    /// JSON that goes along.
    pub body: Option<String>,
}

/// How a device is asked whether the outlet is on: by `GET`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HookStatus {
    /// Where to.
    pub url: String,
    /// In the answer when it is on.
    pub on: String,
    /// In the answer when it is off.
    pub off: String,
}

impl HookStatus {
    /// The request.
    pub fn request(&self) -> HookRequest {
        HookRequest { method: HookMethod::Get, url: self.url.clone(), body: None }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    use super::*;

    fn hook(text: &str) -> Result<Hook, String> {
        let whole = format!("power:\n  hooks:\n    strip: {text}\n");
        let config = Config::parse(&whole).map_err(|mistake| mistake.to_string())?;
        Ok(config.power.hooks["strip"].clone())
    }

    #[test]
    fn a_hook_is_a_program_or_a_device() {
        assert!(matches!(hook("{command: [/usr/bin/strip, '{action}']}"), Ok(Hook::Command(_))));
        let device = "{on: {url: 'http://d/on'}, off: {url: 'http://d/off'}, status: {url: 'http://d', on: '1', off: '0'}";
        assert!(matches!(hook(&format!("{{http: {device}}}}}")), Ok(Hook::Http(_))));
        for (text, word) in [
            ("{command: [strip, '{action}']}".to_owned(), "whole path"),
            ("{command: [/usr/bin/strip]}".to_owned(), "{action}"),
            ("{}".to_owned(), "either"),
            (format!("{{http: {device}, insecure: true, ca: x}}}}"), "one of"),
            (format!("{{secret: x, http: {device}}}}}"), "under `http`"),
        ] {
            let mistake = hook(&text).unwrap_err();
            assert!(mistake.contains(word), "{mistake}");
        }
    }
}
