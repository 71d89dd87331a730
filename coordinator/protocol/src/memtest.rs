//! What was seen of memtest86+ on a machine's serial line. Kept as JSON with the planned reboot, and sent to the agent
//! when it is back: the machine that ran memtest86+ remembers nothing of it.

use serde::{Deserialize, Serialize};

use crate::ids::named_enum;

/// Failing addresses that are kept; the count of errors goes on.
pub const MOST_ADDRESSES: usize = 64;

named_enum! {
    /// How the watch of a machine in memtest86+ ended.
    MemtestEnd, "an end of memtest86+" {
        /// It had gone over the memory as often as wanted, and was told to leave.
        Stopped = "stopped",
        /// It said that it is done and found nothing.
        DonePass = "done_pass",
        /// It said that it is done and found errors.
        DoneFail = "done_fail",
        /// The time for it was over before the passes were; it was told to leave.
        OutOfTime = "out_of_time",
        /// The machine left it before it was told to.
        Left = "left",
        /// It was seen, and then no more.
        FellSilent = "fell_silent",
        /// It was never seen on the line.
        NeverSeen = "never_seen",
        /// The coordinator has no serial line to this machine, or could not use it.
        NoLine = "no_line",
    }
}

/// What was seen of memtest86+.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct MemtestObservation {
    /// Its name and version as it wrote them; absent while it was not seen.
    pub program: Option<String>,
    /// Passes it had finished.
    pub passes: u32,
    /// Errors it had counted.
    pub errors: u64,
    /// Failing physical addresses in the order they were seen, each once, at most [`MOST_ADDRESSES`].
    pub addresses: Vec<u64>,
    /// How it ended; absent while it goes on.
    pub end: Option<MemtestEnd>,
    /// More about the end, such as why the line could not be used.
    pub note: Option<String>,
}

impl MemtestObservation {
    /// Nothing was seen yet.
    pub fn nothing() -> Self {
        Self { program: None, passes: 0, errors: 0, addresses: Vec::new(), end: None, note: None }
    }
}
