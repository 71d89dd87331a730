//! External tools: how each is called and how its output is read. Only [`runner`] starts processes.
//!
//! Each tool file has two pure functions, `invocation(..) -> Invocation` and `parse(&Finished) -> Result<_, ToolError>`.

pub mod ethtool;
pub mod ipmitool;
pub mod runner;
