//! memtest86+ as it shows itself on a serial line: what it says (`screen`, `log_lines`) and what to make of it
//! (`watch`). Pure: bytes and times in, observations and decisions out. Refuses lines, runs and clocks.

mod log_lines;
mod screen;
pub mod watch;
