//! What the BMC says the whole machine draws (DCMI 1.5 section 6.6.1 "Get Power Reading").

use std::time::Duration;

use super::{TOOL, field, garbage};
use crate::tools::runner::{Finished, Invocation, ToolError};

/// Asks for the power that the machine draws.
pub fn power_invocation() -> Invocation {
    let args = vec!["dcmi".into(), "power".into(), "reading".into()];
    Invocation { tool: TOOL, args, timeout: Duration::from_secs(30) }
}

/// Watts; none while the BMC does not measure, which it tells.
///
/// # Errors
/// The tool failed, as it does where the BMC knows no DCMI, or wrote something else.
pub fn parse_power(finished: &Finished) -> Result<Option<f64>, ToolError> {
    finished.success(TOOL)?;
    let text = finished.stdout_text();
    let told =
        |name: &str| field(&text, name).ok_or_else(|| garbage(&format!("no `{name}` in `dcmi power`")));
    let reading = told("Instantaneous power reading")?;
    let watts: Option<f64> = reading.strip_suffix("Watts").and_then(|number| number.trim().parse().ok());
    let watts = watts.ok_or_else(|| garbage(&format!("`{reading}` is no power in watts")))?;
    // there are BMCs that take the command and measure nothing: no running machine draws 0 W
    Ok((told("Power reading state is")? == "activated" && watts > 0.0).then_some(watts))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::fixture;

    /// The form of ipmitool 1.8.19.
    const READING: &str = "\n    Instantaneous power reading:                   220 Watts\n\
        \x20   Minimum during sampling period:                 18 Watts\n\
        \x20   Maximum during sampling period:                451 Watts\n\
        \x20   Average power reading over sample period:      221 Watts\n\
        \x20   IPMI timestamp:                           Wed Nov 12 10:00:00 2025\n\
        \x20   Sampling period:                          00000001 Seconds.\n\
        \x20   Power reading state is:                   activated\n\n\n";

    fn watts(text: &str) -> Result<Option<f64>, ToolError> {
        parse_power(&Finished { stdout: text.into(), ..fixture("ipmitool", "1.8.19-good-sdr-full") })
    }

    #[test]
    fn the_power_now() {
        assert_eq!(watts(READING).unwrap(), Some(220.0));
        assert_eq!(watts(&READING.replace("220", "0")).unwrap(), None);
        assert_eq!(watts(&READING.replace("activated", "deactivated")).unwrap(), None);
    }

    #[test]
    fn a_bmc_without_dcmi_is_an_error() {
        let refused = parse_power(&fixture("ipmitool", "1.8.19-no-dcmi"));
        assert!(matches!(refused, Err(ToolError::Failed { code: 1, .. })));
        assert!(matches!(watts(&READING[..60]), Err(ToolError::Garbage { .. })));
        assert!(matches!(watts(""), Err(ToolError::Garbage { .. })));
    }
}
