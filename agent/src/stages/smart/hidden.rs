//! Capacity that an ATA disk hides: a host protected area (HPA) or a device configuration overlay (DCO). No test reaches
//! it, and a disk sold with one is not what it says.

use serde_json::{Value, json};

use super::StageContext;
use crate::tools::hdparm;

/// Measures the sectors hidden, and gives what there is to know. A disk that does not answer has no measurement.
pub(super) fn measure(context: &StageContext<'_>, name: &str, device: &str) -> Value {
    let max = context
        .tools
        .run(&hdparm::max_sectors(device), &context.cancel, &mut |_, _| {})
        .and_then(|finished| hdparm::parse_max_sectors(&finished));
    let max = match max {
        Ok(max) => max,
        Err(error) => return json!({ "not_told": error.reason() }),
    };
    let overlay = context
        .tools
        .run(&hdparm::dco_identify(device), &context.cancel, &mut |_, _| {})
        .and_then(|finished| hdparm::parse_dco_identify(&finished));
    // without an overlay the native size is the real one
    let real = overlay.as_ref().ok().copied().unwrap_or(max.native).max(max.native);
    let hidden = real.saturating_sub(max.visible);
    context.measure("smart_attr", format!("{name}/hidden_sectors"), Some(hidden as f64), "count");
    json!({ "visible_sectors": max.visible, "native_sectors": max.native, "sectors_by_dco": overlay.ok() })
}
