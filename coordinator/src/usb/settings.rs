//! The text of a stick's `vetting.yaml`: the settings, then what else may stand there, commented out.

use vetting_judge::yaml::Mistake;
use vetting_protocol::stick::{DEFAULT_TEXT, StickSettings};

/// Settings that have no text.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// They cannot be written as YAML.
    #[error("the settings cannot be written as YAML")]
    Yaml(#[from] serde_yaml::Error),
    /// A machine would refuse them.
    #[error("machines would refuse these settings: {mistake}")]
    Refused {
        /// What the machine would show.
        mistake: Mistake,
    },
    /// A machine would read something else than was meant.
    #[error("the settings do not read as they were written; write them by hand and use --settings FILE")]
    Different,
}

/// The text. A machine reads exactly `settings` from it.
///
/// # Errors
/// Settings that a machine would refuse, such as `start: auto` without a profile.
pub fn text(settings: &StickSettings) -> Result<String, SettingsError> {
    let yaml = serde_yaml::to_string(settings)?;
    let mut text = format!(
        "# Settings of this vetting stick, as `vetting-coordinator usb` wrote them. Any text editor can change them.\n\
         {yaml}\n# --- What may stand here ---\n#\n"
    );
    for line in DEFAULT_TEXT.lines() {
        if !line.is_empty() && !line.starts_with('#') {
            text.push_str("# ");
        }
        text.push_str(line);
        text.push('\n');
    }
    match vetting_judge::stick::read(&text) {
        Ok(read) if read == *settings => Ok(text),
        Ok(_) => Err(SettingsError::Different),
        Err(mistake) => Err(SettingsError::Refused { mistake }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_every_kind_are_read_as_they_were_written() {
        let network = "network:\n  - bond: {mode: 802.3ad, interfaces: [eno1, eno2]}\n    vlan: 42\n  - interface: eno3\n    \
                       ipv4: {address: 10.0.0.5/24, gateway: 10.0.0.1, dns: [10.0.0.1]}\n    ipv6: off\n";
        let coordinator = format!(
            "coordinator:\n  url: https://[fd00::1]:8443\n  ca: sha256:{}\n  enrolment_token: \"a: 'b' #\\\"\"\n",
            "0a".repeat(32)
        );
        for written in [
            "mode: offline\n".to_owned(),
            "mode: auto\nprofile: soak\nwipe: true\nstart: auto\n".to_owned(),
            format!("mode: auto\n{coordinator}proxy: http://ann:pa55@proxy.example:3128\n{network}"),
        ] {
            let settings = vetting_judge::stick::read(&written).unwrap();
            let text = text(&settings).unwrap();
            assert_eq!(vetting_judge::stick::read(&text).unwrap(), settings, "{text}");
            assert!(text.contains("# mode: auto\n"), "what else may stand there is explained: {text}");
        }
    }

    #[test]
    fn what_a_machine_would_refuse_is_not_written() {
        let mut settings = vetting_judge::stick::read("mode: auto\nprofile: quick\nstart: auto\n").unwrap();
        settings.profile = None;
        let error = text(&settings).unwrap_err();
        assert!(matches!(error, SettingsError::Refused { .. }), "{error}");
    }
}
