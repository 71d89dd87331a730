//! `vetting-agent inventory` against `lshw -json`: whole processes, alternating, their output thrown away.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, ensure};

use super::{Comparison, Goal, Round};
use crate::site::Built;

/// Each takes a fraction of a second or a few.
const ROUNDS: usize = 11;

/// Compares.
pub fn compare(built: &Built) -> anyhow::Result<Comparison> {
    let ours = || timed(&built.agent, "inventory");
    let theirs = || timed(Path::new("lshw"), "-json");
    // both find the files they read in the page cache from now on
    ours()?;
    theirs()?;
    let rounds = (0..ROUNDS)
        .map(|_| Ok(Round { ours: ours()?, theirs: theirs()? }))
        .collect::<anyhow::Result<Vec<Round>>>()?;
    Ok(Comparison {
        subject: "inventory of this machine",
        ours: "vetting-agent inventory",
        theirs: "lshw -json",
        unit: "ms",
        rounds,
        goal: Goal::TimesFaster(5.0),
    })
}

/// Milliseconds from start to end.
fn timed(program: &Path, argument: &str) -> anyhow::Result<f64> {
    let started = Instant::now();
    let output = Command::new(program)
        .arg(argument)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .with_context(|| format!("starting {}", program.display()))?;
    let elapsed = started.elapsed();
    ensure!(
        output.status.success(),
        "{} {argument}: {}: {}",
        program.display(),
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(elapsed.as_secs_f64() * 1_000.0)
}
