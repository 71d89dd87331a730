//! What operators' tools and the coordinator say to each other: `/api/v1/…`, JSON, bearer token.
//!
//! `hosts` GET POST · `hosts/{name}` GET PATCH DELETE · `hosts/{name}/agent-token` POST DELETE · `runs` GET POST ·
//! `runs/{id}` GET · `runs/{id}/abort` POST · `runs/{id}/release` POST · `runs/{id}/retry` POST · `runs/{id}/resume` POST ·
//! `runs/{id}/verdict` GET · `runs/{id}/waivers` POST · `runs/{id}/waivers/{id}/withdraw` POST ·
//! `runs/{id}/artifacts/{kind}` GET · `events` GET · `tokens` GET POST · `tokens/{id}` DELETE ·
//! `netboot` GET; what enrolment adds is in [`crate::enrolment`], people are in [`crate::users`].

mod events;
mod hosts;
mod netboot;
mod runs;
mod tokens;
mod verdicts;

pub use events::EventView;
pub use hosts::{HostAgentToken, HostCreate, HostEdit, HostView};
pub use netboot::{NetbootInterface, NetbootView};
pub use runs::{
    ArtifactView, AttemptView, BootView, BreachView, HoldView, RunCreate, RunDetail, RunRelease, RunRetry,
    RunSummary, SshView, StageView, SubStepView,
};
pub use tokens::{TokenCreate, TokenCreated, TokenView};
pub use verdicts::{ReasonView, VerdictView, WaiverCreate, WaiverView, WaiverWithdraw, WithdrawnView};
