//! What is good and what is not: profiles, thresholds, expected specs, the verdict and the report.
//!
//! Pure: no I/O, no clock, no randomness. The coordinator judges with it, and so does the agent when it works without
//! a network. Missing, unknown or unparsable is never taken for good.

pub mod alone;
pub mod component;
pub mod course;
pub mod crash;
pub mod duration;
pub mod facts;
pub mod glob;
pub mod host_rules;
pub mod limit;
pub mod losses;
pub mod memtest;
pub mod parts;
pub mod profile;
pub mod quantity;
pub mod report;
pub mod rules;
pub mod siblings;
pub mod spec;
pub mod step;
pub mod stick;
pub mod tally;
pub mod threshold;
mod untested;
pub mod verdict;
pub mod waiver;
pub mod yaml;

#[cfg(test)]
mod fixtures;
