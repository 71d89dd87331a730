//! What the stages that restart the machine share: which of their restarts are behind them.

use serde_json::json;
use vetting_protocol::outcome::Outcome;
use vetting_protocol::plan::RebootMade;

use super::{BootEnd, StageContext, StageReport};

/// The restarts that this stage has made, in order; `None` where the machine would not get its run back after one.
pub(super) fn made<'a>(context: &'a StageContext<'_>) -> Option<&'a [RebootMade]> {
    if !context.reboots.possible {
        return None;
    }
    match &context.reboots.resumed {
        Some(resumed) if resumed.stage == context.stage => Some(&resumed.reboots),
        Some(_) | None => Some(&[]),
    }
}

/// The end of a stage where nothing would bring the machine back.
pub(super) fn not_here() -> BootEnd {
    let reason =
        "it restarts the machine, and only a run of a coordinator on the live image goes on after that";
    over(Outcome::skip(reason))
}

/// The end of a stage.
pub(super) fn over(outcome: Outcome) -> BootEnd {
    BootEnd::Finished(StageReport { outcome, details: json!({}) })
}
