//! Whatever a tool prints, whatever it exits with: no parser panics.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // the last byte, so that a recorded answer is a seed as it stands
    let code = bytes.last().copied().map_or(0, i32::from);
    vetting_agent::tools::parsers::all(bytes, code);
});
