//! Many machines at once, whole runs, and a coordinator that is killed under them: every verdict is what the machine
//! deserves, and every acknowledged sample is stored once.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use rusqlite::Connection;
use tokio::task::JoinSet;
use vetting_tests::fleet::{Fate, MadeOf, Operator, Tally, enlist, live, runtime};
use vetting_tests::site::{Built, Site, SiteOptions};

const MACHINES: u32 = 30;
const SENSORS: usize = 60;
/// Between two sampling rounds of a machine.
const PAUSE: Duration = Duration::from_millis(20);
/// Acknowledged samples after which the coordinator dies.
const KILLED_AFTER: [u64; 2] = [9_000, 30_000];

#[test]
fn every_verdict_is_deserved_and_nothing_acknowledged_is_lost_when_the_coordinator_is_killed()
-> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let mut site = Site::start(&Built::find()?, folder.path(), &SiteOptions::default())?;
    let (runtime, tally) = (runtime()?, Arc::new(Tally::default()));
    let (operator, made_of) = (Operator::of(&site)?, MadeOf::recorded()?);
    let members = runtime.block_on(enlist(&operator, MACHINES, &made_of.spec_yaml()?))?;
    let mut lives = JoinSet::new();
    let cast: Vec<_> = members.into_iter().zip(Fate::ALL.into_iter().cycle()).collect();
    for (member, fate) in cast.clone() {
        let (made_of, tally, boot) = (made_of.clone(), Arc::clone(&tally), site.listening().http);
        let life = async move {
            live(boot, &member, fate, &made_of, (SENSORS, PAUSE), &tally)
                .await
                .with_context(|| format!("machine {} ({fate:?})", member.number))
        };
        lives.spawn_on(life, runtime.handle());
    }
    for samples in KILLED_AFTER {
        while tally.samples() < samples {
            std::thread::yield_now();
        }
        site.kill()?;
        site.serve()?;
    }
    runtime.block_on(async {
        while let Some(lived) = lives.join_next().await {
            lived??;
        }
        for (member, fate) in cast {
            let run = operator.run(member.run).await?;
            assert!(fate.deserves(&run.summary), "{fate:?}: {:?}, {:#?}", run.summary, run.reasons);
        }
        anyhow::Ok(())
    })?;
    tally.ensure_stored(&Connection::open(site.database())?)
}
