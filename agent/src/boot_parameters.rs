//! What the boot script says on the kernel's command line: `vetting.*` and `BOOTIF`.
//!
//! Reads; never prints a secret. A value that is not what its name asks for is an error that names it, and a
//! parameter given twice with different values is one, too.

use std::str::FromStr;

pub use vetting_protocol::endpoint::{CaPin, Endpoint};
use vetting_protocol::ids::{MacAddress, RunId};
use vetting_protocol::secret::Secret;

/// The parameters this program knows; each may be absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BootParameters {
    /// `vetting.coordinator=HOST:PORT`.
    pub coordinator: Option<Endpoint>,
    /// `vetting.ca=sha256:…`.
    pub ca: Option<CaPin>,
    /// `vetting.run=N`.
    pub run: Option<RunId>,
    /// `vetting.claim=…`.
    pub claim: Option<Secret>,
    /// `vetting.time=…`, the coordinator's clock when it wrote the script, ms since the Unix epoch.
    pub time_ms: Option<i64>,
    /// `BOOTIF=…`, the NIC that the machine booted from.
    pub boot_interface: Option<MacAddress>,
    /// `vetting.medium=LABEL`, the label of the stick or disc that the machine started from.
    pub medium: Option<String>,
    /// `vetting.shell`: root shells on the first screen and the first serial line, from the start and as long as the
    /// machine is up. With it, a machine whose run cannot go on stays up for them instead of restarting. For
    /// finding faults: whoever is at the machine is root on it. `vetting.shell=0` is as good as none.
    pub shell: bool,
    /// `vetting.` parameters that this program does not know, without their values.
    pub unknown: Vec<String>,
}

/// A command line that cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BootParameterError {
    /// A value is not what its name asks for. The value is not told: it may be a secret.
    #[error("kernel parameter {name} is not {expected}")]
    Malformed {
        /// The parameter.
        name: String,
        /// What would have been right.
        expected: &'static str,
    },
    /// Given twice with different values.
    #[error("kernel parameter {name} is given twice with different values")]
    Contradiction {
        /// The parameter.
        name: String,
    },
}

/// What is needed to ask a coordinator for a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunParameters {
    /// Where to ask.
    pub coordinator: Endpoint,
    /// Whom to believe.
    pub ca: CaPin,
    /// For which run.
    pub run: RunId,
    /// With which one-time secret.
    pub claim: Secret,
}

impl BootParameters {
    /// What is needed for a run, or the names of the parameters that are missing.
    pub fn run_parameters(&self) -> Result<RunParameters, Vec<&'static str>> {
        let mut missing = Vec::new();
        let mut require = |name: &'static str, present: bool| {
            if !present {
                missing.push(name);
            }
        };
        require("vetting.coordinator", self.coordinator.is_some());
        require("vetting.ca", self.ca.is_some());
        require("vetting.run", self.run.is_some());
        require("vetting.claim", self.claim.is_some());
        match (&self.coordinator, self.ca, self.run, &self.claim) {
            (Some(coordinator), Some(ca), Some(run), Some(claim)) => {
                Ok(RunParameters { coordinator: coordinator.clone(), ca, run, claim: claim.clone() })
            }
            _ => Err(missing),
        }
    }
}

impl FromStr for BootParameters {
    type Err = BootParameterError;

    fn from_str(command_line: &str) -> Result<Self, BootParameterError> {
        let mut parameters = Self::default();
        for word in command_line.split_ascii_whitespace() {
            let (name, value) = match word.split_once('=') {
                Some((name, value)) => (name, Some(value.trim_matches('"'))),
                None => (word, None),
            };
            parameters.take(name, value)?;
        }
        Ok(parameters)
    }
}

impl BootParameters {
    fn take(&mut self, name: &str, value: Option<&str>) -> Result<(), BootParameterError> {
        let text = value.unwrap_or_default();
        match name {
            "vetting.coordinator" => set(&mut self.coordinator, name, text.parse().ok(), "HOST:PORT"),
            "vetting.ca" => set(&mut self.ca, name, text.parse().ok(), "sha256: and 64 hex digits"),
            "vetting.run" => set(&mut self.run, name, text.parse().ok(), "a run number"),
            "vetting.claim" => {
                let secret = (!text.is_empty()).then(|| Secret::new(text.to_owned()));
                set(&mut self.claim, name, secret, "a claim secret")
            }
            "vetting.time" => {
                let time = text.parse().ok().filter(|ms: &i64| *ms > 0);
                set(&mut self.time_ms, name, time, "milliseconds since 1970")
            }
            "vetting.medium" => set(&mut self.medium, name, medium_label(text), "a medium's label"),
            "vetting.shell" => {
                self.shell = !matches!(text, "0" | "off" | "no");
                Ok(())
            }
            "BOOTIF" => set(&mut self.boot_interface, name, boot_interface(text), "a MAC address"),
            _ => {
                if name.starts_with("vetting.") {
                    self.unknown.push(name.to_owned());
                }
                Ok(())
            }
        }
    }
}

/// At most as long as an ISO's volume id; a FAT label is shorter.
fn medium_label(text: &str) -> Option<String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    ((1..=32).contains(&text.len()) && text.bytes().all(plain)).then(|| text.to_owned())
}

/// PXELINUX writes the hardware type first: `01-52-54-00-…`.
fn boot_interface(text: &str) -> Option<MacAddress> {
    let address = if text.len() == 20 { text.get(3..)? } else { text };
    address.parse().ok()
}

fn set<T: PartialEq>(
    place: &mut Option<T>,
    name: &str,
    value: Option<T>,
    expected: &'static str,
) -> Result<(), BootParameterError> {
    let value = value.ok_or_else(|| BootParameterError::Malformed { name: name.to_owned(), expected })?;
    if place.as_ref().is_some_and(|earlier| *earlier != value) {
        return Err(BootParameterError::Contradiction { name: name.to_owned() });
    }
    *place = Some(value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PIN: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn a_boot_script_is_read_whole() {
        let line = format!(
            "console=ttyS0 vetting.coordinator=10.0.2.2:8443 vetting.ca={PIN} vetting.run=7 \
             vetting.claim=s3cr3t vetting.time=1795000000000 BOOTIF=01-52-54-00-ab-cd-01 vetting.shell quiet"
        );
        let parameters: BootParameters = line.parse().unwrap();
        assert_eq!(parameters.coordinator.as_ref().unwrap().to_string(), "10.0.2.2:8443");
        assert_eq!(parameters.ca.unwrap().to_string(), PIN);
        assert_eq!(parameters.run, Some(RunId(7)));
        assert_eq!(parameters.claim.as_ref().unwrap().expose(), "s3cr3t");
        assert_eq!(parameters.time_ms, Some(1_795_000_000_000));
        assert_eq!(parameters.boot_interface.unwrap().to_string(), "52:54:00:ab:cd:01");
        assert!(parameters.shell);
        assert!(parameters.run_parameters().is_ok());
        assert!(!format!("{parameters:?}").contains("s3cr3t"));
    }

    #[test]
    fn what_is_missing_is_named() {
        let parameters: BootParameters = "vetting.run=7 vetting.colour=red".parse().unwrap();
        assert_eq!(
            parameters.run_parameters().unwrap_err(),
            ["vetting.coordinator", "vetting.ca", "vetting.claim"]
        );
        assert_eq!(parameters.unknown, ["vetting.colour"]);
    }

    #[test]
    fn nonsense_is_an_error_that_names_the_parameter_and_keeps_the_value() {
        for line in [
            "vetting.run=0",
            "vetting.run=x",
            "vetting.run",
            "vetting.ca=ba78",
            "vetting.claim=",
            "vetting.time=-4",
            "vetting.coordinator=10.0.0.1",
            "BOOTIF=01-00-5e",
            "vetting.run=1 vetting.run=2",
            "vetting.medium=",
            "vetting.medium=../x",
        ] {
            let error = line.parse::<BootParameters>().unwrap_err().to_string();
            assert!(error.contains("vetting.") || error.contains("BOOTIF"), "{error}");
        }
        assert!("vetting.run=1 vetting.run=1".parse::<BootParameters>().is_ok());
    }

    proptest! {
        #[test]
        fn parsing_never_panics(line in ".{0,200}", name in "(vetting\\.(run|ca|claim|time|coordinator)|BOOTIF)", value in "\\PC{0,70}") {
            let _ = line.parse::<BootParameters>();
            let _ = format!("{name}={value}").parse::<BootParameters>();
        }

        #[test]
        fn an_error_never_tells_a_value(value in "[a-z]{12,20}") {
            let line = format!("vetting.run={value}");
            let error = line.parse::<BootParameters>().unwrap_err();
            prop_assert!(!error.to_string().contains(&value));
        }
    }
}
