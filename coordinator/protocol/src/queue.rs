//! Turns: stages that draw much power wait for each other. What operators are shown of it; agents are told by
//! [`crate::agent_api::Directive::AwaitTurn`].

use serde::{Deserialize, Serialize};

use crate::ids::{RunId, StageName, named_enum};

named_enum! {
    /// Where the power that a machine is reckoned with comes from.
    WattsFrom, "measured, told or assumed" {
        /// The largest that was measured in its earlier runs.
        Measured = "measured",
        /// An operator said so (`host edit --burn-watts`).
        Told = "told",
        /// `power.budget.assumed_watts`: nobody knows.
        Assumed = "assumed",
    }
}

/// A run that waits for its turn, beside its other facts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct TurnView {
    /// The stage that waits.
    pub stage: StageName,
    /// Its place in the queue, 1 is the next.
    pub place: u32,
    /// How many wait.
    pub of: u32,
    /// For how long, ms.
    pub waited_ms: u64,
}

/// A run in the queue, or one that has its turn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct QueuedRun {
    /// The run.
    pub run: RunId,
    /// Name of the host.
    pub host: String,
    /// The stage.
    pub stage: StageName,
    /// What the machine is reckoned to draw in it, watts.
    pub watts: f64,
    /// How that is known.
    pub watts_from: WattsFrom,
    /// Since when it waits, or has its turn; UTC. Absent for a stage that began without one.
    pub since: Option<String>,
    /// How long it waited, or has its turn, ms.
    pub for_ms: u64,
}

/// What may be drawn at once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct BudgetView {
    /// Machines at once; absent: any number.
    pub machines: Option<u32>,
    /// Watts at once; absent: any.
    pub watts: Option<f64>,
    /// Of a machine that nobody measured, watts.
    pub assumed_watts: f64,
    /// The stages that wait for their turn.
    pub stages: Vec<StageName>,
}

/// A run whose machine is not switched on yet, since others are before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PowerOnView {
    /// The run.
    pub run: RunId,
    /// Name of the host.
    pub host: String,
}

/// `GET queue`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct QueueView {
    /// Absent: no stage waits for another.
    pub budget: Option<BudgetView>,
    /// Runs that have their turn.
    pub at_work: Vec<QueuedRun>,
    /// What they are reckoned to draw together, watts.
    pub watts_at_work: f64,
    /// Runs that wait, the next first.
    pub waiting: Vec<QueuedRun>,
    /// Between two machines that are switched on, ms; 0: nothing is waited for.
    pub boot_spacing_ms: u64,
    /// Machines that are still to be switched on, the next first.
    pub to_be_switched_on: Vec<PowerOnView>,
}
