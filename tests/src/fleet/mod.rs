//! Thousands of machines without hardware against one real coordinator: registered by the operator API, booted by the
//! boot script, and speaking the agent's protocol over connections of their own.
//!
//! Owns what the machines say and what was acknowledged of it. What they are made of comes from a recorded machine. One
//! runtime serves all of them: a fleet is started by one process beside the coordinator.

mod enlist;
mod fate;
mod life;
mod machine;
mod made_of;
mod operator;
mod sensors;
mod steady;
mod tally;

pub use enlist::{Enlisted, enlist};
pub use fate::Fate;
pub use life::live;
pub use machine::Machine;
pub use made_of::MadeOf;
pub use operator::Operator;
pub use sensors::Sensors;
pub use steady::{Pace, backlog, begin, sample};
pub use tally::{Latencies, Tally};

/// The runtime for all machines of a fleet. Two threads: more would take the cores that the coordinator works on.
pub fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()
}
