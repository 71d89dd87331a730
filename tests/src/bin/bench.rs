//! `make bench`: one table of ratios. `vetting-bench boot inventory ingest sampling fleet pages` takes only those it names.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context as _;
use vetting_tests::bench::{Comparison, boot, fleet, ingest, inventory, pages, sampling, table};
use vetting_tests::site::Built;

type Compare = fn(&Built, &Path) -> anyhow::Result<Vec<Comparison>>;

/// In the order of the table.
const BENCHES: [(&str, Compare); 6] = [
    ("boot", |built, folder| Ok(vec![boot::compare(built, folder)?])),
    ("inventory", |built, _| Ok(vec![inventory::compare(built)?])),
    ("ingest", |built, folder| Ok(vec![ingest::compare(built, folder)?])),
    ("sampling", sampling::compare),
    ("fleet", |built, folder| Ok(vec![fleet::compare(built, folder)?])),
    ("pages", pages::compare),
];

fn main() -> anyhow::Result<()> {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    for name in &wanted {
        anyhow::ensure!(
            BENCHES.iter().any(|(known, _)| known == name),
            "`{name}` is no bench; there are {}",
            BENCHES.map(|(known, _)| known).join(", ")
        );
    }
    let built = Built::find()?;
    let (mut comparisons, mut failures) = (Vec::new(), Vec::new());
    for (name, compare) in BENCHES {
        if !wanted.is_empty() && !wanted.iter().any(|wanted| wanted == name) {
            continue;
        }
        let started = Instant::now();
        println!("{name}: load average {}", load_average()?);
        match fresh_folder(&built, name).and_then(|folder| compare(&built, &folder)) {
            Ok(found) => comparisons.extend(found),
            Err(error) => failures.push((name, error)),
        }
        println!("{name}: {:.0} s", started.elapsed().as_secs_f64());
    }
    println!("\n{}", table(&comparisons));
    println!(
        "Ratios are medians over rounds in which both sides took turns. Other work on this machine widens them."
    );
    for (name, error) in &failures {
        eprintln!("{name} was NOT measured: {error:#}");
    }
    anyhow::ensure!(failures.is_empty(), "{} of the benches failed", failures.len());
    Ok(())
}

fn fresh_folder(built: &Built, name: &str) -> anyhow::Result<PathBuf> {
    let folder =
        built.image.parent().context("the image lies in the target folder")?.join("bench").join(name);
    if folder.exists() {
        std::fs::remove_dir_all(&folder).with_context(|| format!("emptying {}", folder.display()))?;
    }
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// Of the last minute.
fn load_average() -> anyhow::Result<String> {
    let text = std::fs::read_to_string("/proc/loadavg")?;
    Ok(text.split(' ').next().unwrap_or_default().to_owned())
}
