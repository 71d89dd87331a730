//! What happens to a run: its states (`state`), the one who carries them out (`driver`), and what its agent tells
//! (`ingest`). Refuses HTTP and SQL: `http` translates, `store` keeps.

#![deny(clippy::wildcard_enum_match_arm)]

pub mod boot;
pub mod budget;
pub mod claim;
mod claimant;
mod crash;
pub mod deadline;
pub mod diagram;
mod directive;
pub mod driver;
pub mod enrol;
pub mod error;
pub(crate) mod facts;
mod figures;
mod hold;
mod host_agent;
pub mod import;
mod ingest;
pub mod janitor;
pub mod live;
mod memtest;
mod orders;
mod patience;
pub mod power;
mod power_cut;
mod reboot;
mod records;
mod reopen;
mod report;
pub mod rules;
pub mod secrets;
pub mod specs;
pub mod stages;
pub mod state;
pub mod turns;
pub mod upload;
pub mod views;
mod waive;
mod wake;
