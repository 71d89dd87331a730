//! Many machines at once, whole runs, and a coordinator that is killed under them: every verdict is what the machine
//! deserves, and every acknowledged sample is stored once.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use rusqlite::Connection;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use vetting_tests::fleet::{Enlisted, Fate, MadeOf, Operator, Tally, enlist, live, runtime};
use vetting_tests::site::{Built, Site, SiteOptions};

const MACHINES: u32 = 30;
const SENSORS: usize = 60;
/// Between two sampling rounds of a machine.
const PAUSE: Duration = Duration::from_millis(20);
/// Acknowledged samples after which the coordinator dies.
const KILLED_AFTER: [u64; 2] = [9_000, 30_000];

/// Every machine lives its run, with so many sensors.
fn begin(
    runtime: &Runtime,
    site: &Site,
    cast: &[(Enlisted, Fate)],
    made_of: &MadeOf,
    sensors: usize,
    tally: &Arc<Tally>,
) -> JoinSet<anyhow::Result<()>> {
    let mut lives = JoinSet::new();
    for (member, fate) in cast.iter().cloned() {
        let (made_of, tally, boot) = (made_of.clone(), Arc::clone(tally), site.listening().http);
        let life = async move {
            live(boot, &member, fate, &made_of, (sensors, PAUSE), &tally)
                .await
                .with_context(|| format!("machine {} ({fate:?})", member.number))
        };
        lives.spawn_on(life, runtime.handle());
    }
    lives
}

/// Waits for the end of every life, and holds its verdict against what it deserves.
async fn as_deserved(
    mut lives: JoinSet<anyhow::Result<()>>,
    operator: &Operator,
    cast: Vec<(Enlisted, Fate)>,
) -> anyhow::Result<()> {
    while let Some(lived) = lives.join_next().await {
        lived??;
    }
    for (member, fate) in cast {
        let run = operator.run(member.run).await?;
        assert!(fate.deserves(&run.summary), "{fate:?}: {:?}, {:#?}", run.summary, run.reasons);
    }
    Ok(())
}

#[test]
fn every_verdict_is_deserved_and_nothing_acknowledged_is_lost_when_the_coordinator_is_killed()
-> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let mut site = Site::start(&Built::find()?, folder.path(), &SiteOptions::default())?;
    let (runtime, tally) = (runtime()?, Arc::new(Tally::default()));
    let (operator, made_of) = (Operator::of(&site)?, MadeOf::recorded()?);
    let members = runtime.block_on(enlist(&operator, MACHINES, &made_of.spec_yaml()?))?;
    let cast: Vec<_> = members.into_iter().zip(Fate::ALL.into_iter().cycle()).collect();
    let lives = begin(&runtime, &site, &cast, &made_of, SENSORS, &tally);
    for samples in KILLED_AFTER {
        while tally.samples() < samples {
            std::thread::yield_now();
        }
        site.kill()?;
        site.serve()?;
    }
    runtime.block_on(as_deserved(lives, &operator, cast))?;
    tally.ensure_stored(&Connection::open(site.database())?)
}

/// How many machines a budget lets into Burn at once, of how many.
const AT_ONCE: u32 = 2;
const IN_THE_RACK: u32 = 7;

#[test]
fn never_more_machines_burn_at_once_than_the_budget_allows_when_the_coordinator_is_killed()
-> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let options = SiteOptions { power_budget: format!("machines: {AT_ONCE}"), ..SiteOptions::default() };
    let mut site = Site::start(&Built::find()?, folder.path(), &options)?;
    let (runtime, tally) = (runtime()?, Arc::new(Tally::default()));
    let (operator, made_of) = (Operator::of(&site)?, MadeOf::recorded()?);
    let members = runtime.block_on(enlist(&operator, IN_THE_RACK, &made_of.spec_yaml()?))?;
    let cast: Vec<_> = members.into_iter().map(|member| (member, Fate::Sound)).collect();
    let lives = begin(&runtime, &site, &cast, &made_of, 1, &tally);
    let database = Connection::open(site.database())?;
    let count = |what: &str| database.query_row(what, [], |row| row.get::<_, u32>(0));
    for burned in [1, 4] {
        // somebody is at work and others wait
        while count("SELECT COUNT(*) FROM stages WHERE name = 'Burn' AND completed_at IS NOT NULL")? < burned
        {
            std::thread::yield_now();
        }
        site.kill()?;
        site.serve()?;
    }
    runtime.block_on(as_deserved(lives, &operator, cast))?;
    // at the begin of each Burn, how many were at it, itself included
    let most = count(
        "SELECT MAX(n) FROM (SELECT COUNT(*) AS n FROM stages AS a JOIN stages AS b ON b.name = 'Burn'
           AND b.started_at <= a.started_at AND b.completed_at > a.started_at WHERE a.name = 'Burn' GROUP BY a.id)",
    )?;
    assert!(most <= AT_ONCE, "{most} at once");
    assert_eq!(count("SELECT COUNT(*) FROM events WHERE kind = 'turn_given'")?, IN_THE_RACK);
    Ok(())
}
