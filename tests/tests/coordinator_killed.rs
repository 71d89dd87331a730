//! The coordinator dies as in a power cut, in the middle of a run, more than once. Nothing acknowledged is lost,
//! nothing is there twice, and the run ends as if nothing had happened.

use std::time::Duration;

use anyhow::ensure;
use rusqlite::{Connection, OpenFlags};
use vetting_agent::clock;
use vetting_protocol::agent_api::{Directive, Record};
use vetting_protocol::ids::StageName;
use vetting_protocol::measurement::Measurement;
use vetting_protocol::outcome::Outcome;
use vetting_protocol::run::RunState;
use vetting_tests::simulated::SimulatedAgent;
use vetting_tests::site::{Built, Site, SiteOptions};

const SAMPLES: u32 = 30_000;
const KILLED_AFTER: [u32; 3] = [4_000, 11_000, 23_000];
const MAC: &str = "52:54:00:56:45:77";

#[test]
fn every_measurement_is_there_once_after_three_power_cuts() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let mut site = Site::start(&Built::find()?, folder.path(), &SiteOptions::default())?;
    let run = site.host_with_run("endurance", MAC, "cpu: {logical_cores: 4}\n")?;
    let agent = SimulatedAgent::boot(&site, MAC, "11111111-2222-3333-4444-555555555555")?;

    let mut durable = 0;
    let stages: Vec<StageName> = agent.plan.stages.iter().map(|planned| planned.work.name()).collect();
    assert!(stages.contains(&StageName::CpuStress), "{stages:?}");
    for stage in stages {
        agent.start_stage(stage);
        if stage == StageName::SpecValidate {
            agent.say(Record::SpecDiffs { diffs: Vec::new() });
        }
        if stage == StageName::CpuStress {
            for number in 0..SAMPLES {
                agent.say(Record::Measurement(sample(number)));
                if KILLED_AFTER.contains(&number) {
                    // in the middle of the stream: the first batches since the last cut are durable, others under way
                    wait_for_more_rows(&site, &mut durable)?;
                    site.kill()?;
                    site.serve()?;
                }
            }
        }
        agent.finish_stage(stage, Outcome::Pass);
        assert_eq!(agent.flush()?, Directive::Continue, "after {stage}");
    }
    agent.say(Record::PipelineFinished { ts_ms: clock::now_ms() });
    agent.flush()?;

    let detail = site.wait_for_result(run, Duration::from_mins(1), |_| ())?;
    assert_eq!(detail.summary.state, RunState::Completed, "{:#?}", detail.reasons);
    let database = Connection::open(site.database())?;
    let (rows, distinct, sum): (u32, u32, f64) = database.query_row(
        "SELECT count(*), count(DISTINCT value), sum(value) FROM measurements WHERE run_id = ?1 AND kind = 'drill'",
        [run.0],
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
    )?;
    assert_eq!((rows, distinct), (SAMPLES, SAMPLES));
    assert!((sum - f64::from(SAMPLES) * f64::from(SAMPLES - 1) / 2.0).abs() < 0.5, "{sum}");
    Ok(())
}

/// Waits until the database holds more samples than `durable`, and says how many.
fn wait_for_more_rows(site: &Site, durable: &mut u32) -> anyhow::Result<()> {
    let database = Connection::open_with_flags(site.database(), OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let deadline = clock::monotonic() + Duration::from_mins(1);
    loop {
        let rows =
            database
                .query_row("SELECT count(*) FROM measurements WHERE kind = 'drill'", [], |row| row.get(0))?;
        if rows > *durable {
            *durable = rows;
            return Ok(());
        }
        ensure!(clock::monotonic() < deadline, "nothing more than {durable} rows arrives");
        std::thread::yield_now();
    }
}

fn sample(number: u32) -> Measurement {
    Measurement {
        ts_ms: clock::now_ms(),
        stage: Some(StageName::CpuStress),
        kind: "drill".to_owned(),
        key: format!("sensor/{}", number % 60),
        value: Some(f64::from(number)),
        unit: "count".to_owned(),
    }
}
