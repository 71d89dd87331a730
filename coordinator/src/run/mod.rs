//! What happens to a run: its states (`state`), the one who carries them out (`driver`), and what its agent tells
//! (`ingest`). Refuses HTTP: `http` translates.

#![deny(clippy::wildcard_enum_match_arm)]

pub mod diagram;
pub mod state;
