//! What the BMC's event log holds of power supplies, from whenever it is. Only counts and tells: the log may be years old,
//! and what came in this run is told by the sidecar.

use std::time::Instant;

use serde_json::{Value, json};

use super::super::StageContext;
use crate::clock;
use crate::tools::ipmitool::sel::{self, SelClass, SelEntry};
use crate::tools::runner::{Invocation, ToolError};

/// Entries that are told one by one, the newest ones; of more only the number.
const TOLD: usize = 20;

/// Measures how many entries tell of a supply that failed or was about to; gives them in words. No value where the log
/// cannot be read by `until`: a log of thousands of entries takes a slow BMC minutes.
pub(super) fn measure(context: &StageContext<'_>, until: Instant) -> Value {
    match faults(context, until) {
        Ok(faults) => {
            let newest = &faults[faults.len().saturating_sub(TOLD)..];
            tell(context, Some(faults.len() as f64));
            json!({ "faults": faults.len(), "newest": newest })
        }
        Err(error) => not_read(context, &error.reason()),
    }
}

/// What is told of a log that was not read: no count, and why.
pub(super) fn not_read(context: &StageContext<'_>, reason: &str) -> Value {
    tell(context, None);
    json!({ "not_read": reason })
}

fn tell(context: &StageContext<'_>, count: Option<f64>) {
    context.measure("psu", "logged_faults", count, "count");
}

fn faults(context: &StageContext<'_>, until: Instant) -> Result<Vec<String>, ToolError> {
    let ask = |invocation| {
        // what the first question took is no longer there for the second
        let timeout = until.saturating_duration_since(clock::monotonic());
        context.tools.run(&Invocation { timeout, ..invocation }, &context.cancel, &mut |_, _| {})
    };
    let info = sel::parse_info(&ask(sel::info_invocation())?)?;
    let entries = sel::parse_list(&ask(sel::list_invocation())?, info.entries)?;
    let is_fault = |entry: &SelEntry| {
        entry.is_of_power() && matches!(entry.class(), SelClass::Critical | SelClass::Warning)
    };
    Ok(entries.into_iter().filter(is_fault).map(|entry| entry.text).collect())
}
