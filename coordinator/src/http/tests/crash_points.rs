//! kill -9 after each commit of a run: the database as it was on disk after every single one, and a coordinator that
//! starts from it. The run goes on to the very end it had, or ends with an explanation where its machine is gone, too.

use reqwest::Method;
use vetting_protocol::ids::StageName;
use vetting_protocol::operator_api::RunSummary;
use vetting_protocol::outcome::Outcome;
use vetting_protocol::run::{BootTarget, RunResult, RunState};

use super::agent::inventory as inventory_of;
use super::*;

const SECOND_BOOT: &str = "6f1c0a52-0000-4000-8000-000000000002";
const DAY_MS: i64 = 24 * 3_600_000;

/// A machine that remembers what it was told, whatever becomes of the coordinator.
#[derive(Default)]
struct Machine {
    first: Option<Claimed>,
    second: Option<Claimed>,
}

/// What it tells in its first boot, up to a planned restart.
fn before_restart() -> Vec<Vec<Record>> {
    let (inventory, firmware) = (StageName::Inventory, StageName::Firmware);
    vec![
        vec![started(inventory), temperature(Some(inventory), Some(40.0))],
        vec![inventory_of("SN1"), finished(inventory, Outcome::Pass), started(firmware)],
        vec![temperature(Some(firmware), Some(41.0)), reboot_planned(firmware, BootTarget::Linux)],
    ]
}

/// What it tells after that: a disk is broken.
fn after_restart(claimed: &Claimed) -> Vec<Vec<Record>> {
    let mut batches = Vec::new();
    for planned in &claimed.response.plan.stages {
        let stage = planned.work.name();
        let mut records = vec![started(stage), temperature(Some(stage), Some(50.0))];
        if stage == StageName::SpecValidate {
            records.push(Record::SpecDiffs { diffs: Vec::new() });
        }
        let broken = stage == StageName::Smart;
        let outcome = if broken { Outcome::fail("sda is failing") } else { Outcome::Pass };
        records.push(finished(stage, outcome));
        batches.push(records);
        if broken {
            break;
        }
    }
    batches.push(vec![Record::PipelineFinished { ts_ms: START_MS + 2 }]);
    batches
}

/// Sends everything from the begin: what is there already counts once. False where the claim is not known.
async fn tell(lab: &Lab, claimed: &Claimed, boot: &str, batches: Vec<Vec<Record>>) -> bool {
    for (index, records) in batches.into_iter().enumerate() {
        let batch = Batch { sequence: index as u64 + 1, boot_id: boot.to_owned(), records };
        let answer = lab.agent(claimed, Method::POST, "batches").json(&batch).send().await.unwrap();
        match answer.status() {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED => return false,
            status => panic!("{status}: {}", answer.text().await.unwrap()),
        }
    }
    true
}

/// Carries a run to its end from wherever it stands.
async fn carry_on(lab: &Lab, run: RunId, machine: &mut Machine) -> RunDetail {
    loop {
        let detail = lab.detail(run).await;
        match detail.summary.state {
            RunState::Queued | RunState::Waking | RunState::Booting => {
                machine.first = Some(lab.claim_again(run, BOOT).await);
            }
            RunState::Running => {
                let later = match &machine.second {
                    Some(second) => tell(lab, second, SECOND_BOOT, after_restart(second)).await,
                    None => false,
                };
                let first = machine.first.as_ref().unwrap();
                assert!(later || tell(lab, first, BOOT, before_restart()).await);
            }
            RunState::Rebooting => machine.second = Some(lab.claim_again(run, SECOND_BOOT).await),
            RunState::Reporting => tokio::task::yield_now().await,
            RunState::FailedHolding => {
                let release = lab.operator(Method::POST, &format!("runs/{run}/release")).json(&json!({}));
                let _: RunSummary = good(release).await;
            }
            RunState::Completed | RunState::Released | RunState::Aborted => return detail,
        }
    }
}

/// A run from its order to its release, and what its commits left on disk.
struct Driven {
    lab: Lab,
    machine: Machine,
    end: RunDetail,
    /// The database's file before the first commit; it did not change since.
    base: Vec<u8>,
    /// All commits since.
    wal: Vec<u8>,
    /// Lengths of the WAL after each of them.
    points: Vec<usize>,
}

fn wal_path(lab: &Lab) -> PathBuf {
    PathBuf::from(format!("{}-wal", lab.config.database.path.display()))
}

/// Where each commit ends (sqlite.org/fileformat2.html, section 4).
fn commits(wal: &[u8]) -> Vec<usize> {
    let number = |at: usize| u32::from_be_bytes(wal[at..at + 4].try_into().unwrap()) as usize;
    let (header, frame) = (32, 24 + number(8));
    let mut points = vec![0];
    let mut at = header;
    while at + frame <= wal.len() && wal[at + 8..at + 16] == wal[16..24] {
        if number(at + 4) != 0 {
            points.push(at + frame);
        }
        at += frame;
    }
    points
}

async fn driven() -> Driven {
    let lab = Lab::open().await;
    lab.add_host("node1", MAC).await;
    // what is before this belongs to no commit of the run
    let lab = lab.restarted().await;
    let base = std::fs::read(&lab.config.database.path).unwrap();
    let run = lab.start_run("node1").await;
    let mut machine = Machine::default();
    let end = carry_on(&lab, run, &mut machine).await;
    assert_eq!((end.summary.state, end.summary.result), (RunState::Released, Some(RunResult::Fail)));
    let wal = std::fs::read(wal_path(&lab)).unwrap();
    assert!(std::fs::read(&lab.config.database.path).unwrap() == base, "a checkpoint hides commits");
    let points = commits(&wal);
    // how many exactly depends on which jobs shared a commit
    assert!(points.len() > 10, "{}", points.len());
    Driven { lab, machine, end, base, wal, points }
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name())).unwrap();
        if path.is_dir() {
            copy_folder(&path, &to.join(name));
        } else if !name.to_str().unwrap().starts_with("vetting.db") {
            std::fs::copy(&path, to.join(name)).unwrap();
        }
    }
}

impl Driven {
    /// A coordinator that starts from what was on disk after a commit.
    async fn restarted_at(&self, point: usize) -> Lab {
        let state = tempfile::tempdir().unwrap();
        copy_folder(self.lab.state.path(), state.path());
        let mut config = self.lab.config.clone();
        config.state_dir = state.path().to_owned();
        config.database.path = state.path().join("vetting.db");
        config.image.dir = state.path().join("image");
        std::fs::write(&config.database.path, &self.base).unwrap();
        if point > 0 {
            std::fs::write(state.path().join("vetting.db-wal"), &self.wal[..point]).unwrap();
        }
        let (clock, power) = (Clock::settable(START_MS), Recorder::default());
        let options = StoreOptions::default();
        let surroundings =
            Surroundings { clock: clock.clone(), power: Arc::new(power.clone()), store: options.clone() };
        let server = start(&config, surroundings).await.unwrap();
        let http = client(&state, server.https);
        let operator = self.lab.operator.clone();
        Lab { state, config, clock, power, server, options, operator, http }
    }

    /// The tokens that the machine holds.
    fn machine(&self) -> Machine {
        let copy = |claimed: &Option<Claimed>| {
            claimed.as_ref().map(|claimed| Claimed {
                run: claimed.run,
                token: claimed.token.clone(),
                response: claimed.response.clone(),
                secret: claimed.secret.clone(),
            })
        };
        Machine { first: copy(&self.machine.first), second: copy(&self.machine.second) }
    }
}

async fn is_there(lab: &Lab, run: RunId) -> bool {
    let answer = lab.operator(Method::GET, &format!("runs/{run}")).send().await.unwrap();
    answer.status() == StatusCode::OK
}

#[tokio::test]
async fn after_every_commit_the_run_goes_on_to_the_same_end() {
    let driven = driven().await;
    let run = driven.end.summary.id;
    let mut states = std::collections::BTreeSet::new();
    for point in &driven.points {
        let lab = driven.restarted_at(*point).await;
        if !is_there(&lab, run).await {
            // a commit from before the order, such as that a token was used
            assert!(states.is_empty(), "an order that was acknowledged is lost: {point}");
            continue;
        }
        states.insert(lab.detail(run).await.summary.state.to_string());
        let end = carry_on(&lab, run, &mut driven.machine()).await;
        assert_eq!(
            (end.summary.state, end.summary.result),
            (RunState::Released, Some(RunResult::Fail)),
            "{point}"
        );
        assert_eq!(end.reasons, driven.end.reasons, "{point}");
        assert_eq!(end.measurement_count, driven.end.measurement_count, "{point}");
        let outcomes = |detail: &RunDetail| -> Vec<_> {
            detail.stages.iter().map(|stage| (stage.name.clone(), stage.state)).collect()
        };
        assert_eq!(outcomes(&end), outcomes(&driven.end), "{point}");
        lab.server.stop().await;
    }
    // every state that a machine can be in was met
    for state in ["Waking", "Booting", "Running", "Rebooting", "Reporting", "FailedHolding", "Released"] {
        assert!(states.contains(state), "{state}: {states:?}");
    }
}

#[tokio::test]
async fn after_every_commit_a_machine_that_is_gone_leaves_an_explained_run() {
    let driven = driven().await;
    let run = driven.end.summary.id;
    for point in &driven.points {
        let lab = driven.restarted_at(*point).await;
        if !is_there(&lab, run).await {
            continue;
        }
        let mut now_ms = START_MS;
        let end = loop {
            let detail = lab.detail(run).await;
            let state = detail.summary.state;
            if state.is_terminal() && state != RunState::FailedHolding {
                break detail;
            }
            now_ms += DAY_MS;
            lab.clock.set(now_ms);
            lab.server.driver.check_deadlines().await.unwrap();
        };
        assert_eq!(end.summary.result, Some(RunResult::Fail), "{point}");
        assert!(!end.reasons.is_empty(), "{point}: {end:?}");
        let report: Value = good(lab.operator(Method::GET, &format!("runs/{run}/artifacts/report"))).await;
        assert_eq!(report["verdict"]["result"], "fail", "{point}");
        assert!(!lab.path("artifacts/run-1/hold_key").exists(), "{point}: a key outlives its hold");
        lab.server.stop().await;
    }
}
