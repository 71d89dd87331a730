//! kill -9 after each commit of a run: the database as it was on disk after every single one, and a coordinator that
//! starts from it. The run goes on to the very end it had, or ends with an explanation where its machine is gone, too.

use std::collections::BTreeSet;

use futures_util::stream::{self, StreamExt as _};
use reqwest::Method;
use vetting_protocol::agent_api::PlanAnswer;
use vetting_protocol::ids::StageName;
use vetting_protocol::operator_api::{RunSummary, VerdictView};
use vetting_protocol::outcome::Outcome;
use vetting_protocol::plan::PlannedStage;
use vetting_protocol::run::{BootTarget, RunResult, RunState};

use super::agent::inventory as inventory_of;
use super::*;
use crate::store::rival;

const SECOND_BOOT: &str = "6f1c0a52-0000-4000-8000-000000000002";
const DAY_MS: i64 = 24 * 3_600_000;
/// Coordinators that are started from a commit at a time.
const AT_A_TIME: usize = 8;

/// How a run goes: what its machine and its operator do where they are asked.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Life {
    /// A disk is broken; the machine is held, and released.
    Released,
    /// All is well.
    Passes,
    /// Aborted after its restart.
    Aborted,
    /// The stage with the broken disk is run again, and the machine released.
    Retried,
    /// The disk is mended, and the run goes on.
    Resumed,
    /// A machine that was too hot is waived.
    Waived,
}

impl Life {
    fn fault(self) -> Fault {
        match self {
            Self::Passes => Fault::None,
            Self::Released | Self::Aborted | Self::Retried | Self::Resumed => Fault::BrokenDisk,
            Self::Waived => Fault::Heat,
        }
    }

    fn end(self) -> (RunState, Option<RunResult>) {
        match self {
            Self::Released | Self::Retried => (RunState::Released, Some(RunResult::Fail)),
            Self::Passes | Self::Resumed => (RunState::Completed, Some(RunResult::Pass)),
            Self::Aborted => (RunState::Aborted, Some(RunResult::Fail)),
            Self::Waived => (RunState::Released, Some(RunResult::Pass)),
        }
    }
}

/// A machine that remembers what it was told, whatever becomes of the coordinator.
#[derive(Default)]
struct Machine {
    first: Option<Claimed>,
    second: Option<Claimed>,
    /// How long the WAL was when its run was no longer as that of [`Life::Released`].
    unlike: Option<usize>,
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

/// What is wrong with the machine.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    /// Nothing.
    None,
    /// A disk, which SMART finds.
    BrokenDisk,
    /// It is too hot in its last stage.
    Heat,
}

/// One batch a stage, and the end.
fn stages(plan: &[PlannedStage], fault: Fault) -> Vec<Vec<Record>> {
    let mut batches = Vec::new();
    let last = plan.last().map(|planned| planned.work.name());
    for planned in plan {
        let stage = planned.work.name();
        let celsius = if fault == Fault::Heat && last == Some(stage) { 104.5 } else { 50.0 };
        let mut records = vec![started(stage), temperature(Some(stage), Some(celsius))];
        if stage == StageName::SpecValidate {
            records.push(Record::SpecDiffs { diffs: Vec::new() });
        }
        let broken = fault == Fault::BrokenDisk && stage == StageName::Smart;
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

/// What it tells after the restart.
fn after_restart(claimed: &Claimed, life: Life) -> Vec<Vec<Record>> {
    let batches = stages(&claimed.response.plan.stages, life.fault());
    match life {
        Life::Released | Life::Aborted => batches,
        // each stage's commit alone is looked at in the lives above
        Life::Passes | Life::Retried | Life::Resumed | Life::Waived => vec![batches.concat()],
    }
}

/// Sends what comes after batch `sequence`: what is there already counts once. False where the claim is not known.
async fn tell(lab: &Lab, claimed: &Claimed, boot: &str, sequence: u64, batches: Vec<Vec<Record>>) -> bool {
    for (index, records) in batches.into_iter().enumerate() {
        let batch = Batch { sequence: sequence + index as u64 + 1, boot_id: boot.to_owned(), records };
        let answer = lab.agent(claimed, Method::POST, "batches").json(&batch).send().await.unwrap();
        match answer.status() {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED => return false,
            status => panic!("{status}: {}", answer.text().await.unwrap()),
        }
    }
    true
}

/// What a machine does whose run goes on: it asks what there is to do, and tells what it is made of now.
async fn go_on(lab: &Lab, claimed: &Claimed) {
    let answer: PlanAnswer = good(lab.agent(claimed, Method::POST, "plan").json(&json!({}))).await;
    let mut batches = stages(&answer.plan.stages, Fault::None);
    batches.insert(0, vec![inventory_of("SN1")]);
    assert!(tell(lab, claimed, SECOND_BOOT, answer.acknowledged_sequence, batches).await);
}

/// What an operator does with the machine that is held.
async fn decide(lab: &Lab, life: Life, detail: &RunDetail) {
    let run = detail.summary.id;
    let order =
        |verb: &str, body: Value| lab.operator(Method::POST, &format!("runs/{run}/{verb}")).json(&body);
    let request = match life {
        Life::Retried if detail.attempts.is_empty() => order("retry", json!({"stage": StageName::Smart})),
        Life::Released | Life::Retried => order("release", json!({})),
        Life::Resumed => order("resume", json!({})),
        Life::Waived => {
            let verdict: VerdictView = good(lab.operator(Method::GET, &format!("runs/{run}/verdict"))).await;
            let finding = verdict.reasons.iter().find_map(|reason| reason.finding.clone()).unwrap();
            let waiver = json!({"finding": finding, "reason": "the sensor is wrong", "by": "ada"});
            let _: VerdictView = good(order("waivers", waiver)).await;
            return;
        }
        Life::Passes | Life::Aborted => panic!("nothing is held: {detail:?}"),
    };
    let _: RunSummary = good(request).await;
}

/// Carries a run to its end from wherever it stands.
async fn carry_on(lab: &Lab, run: RunId, machine: &mut Machine, life: Life) -> RunDetail {
    let wal = || usize::try_from(std::fs::metadata(wal_path(lab)).unwrap().len()).unwrap();
    loop {
        let detail = lab.detail(run).await;
        match detail.summary.state {
            RunState::Queued | RunState::Waking | RunState::Booting => {
                machine.first = Some(lab.claim_again(run, BOOT).await);
            }
            RunState::Running if detail.attempts.is_empty() => {
                let later = match &machine.second {
                    Some(_) if life == Life::Aborted => {
                        machine.unlike.get_or_insert_with(wal);
                        let abort = lab.operator(Method::POST, &format!("runs/{run}/abort")).send().await;
                        // a restart may have forgotten the second claim, not the run
                        abort.unwrap().status().is_success()
                    }
                    Some(second) => {
                        machine.unlike.get_or_insert_with(wal);
                        tell(lab, second, SECOND_BOOT, 0, after_restart(second, life)).await
                    }
                    None => false,
                };
                let first = machine.first.as_ref().unwrap();
                assert!(later || tell(lab, first, BOOT, 0, before_restart()).await);
            }
            RunState::Running => go_on(lab, machine.second.as_ref().unwrap()).await,
            RunState::Rebooting => machine.second = Some(lab.claim_again(run, SECOND_BOOT).await),
            RunState::Reporting => tokio::task::yield_now().await,
            RunState::FailedHolding => decide(lab, life, &detail).await,
            RunState::Completed | RunState::Released | RunState::Aborted => return detail,
        }
    }
}

/// A run from its order to its end, and what its commits left on disk.
struct Driven {
    life: Life,
    lab: Lab,
    machine: Machine,
    end: RunDetail,
    /// The database's file before the first commit; it did not change since.
    base: Vec<u8>,
    /// All commits since.
    wal: Vec<u8>,
    /// Lengths of the WAL after each of them that is to be looked at.
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

async fn driven(life: Life) -> Driven {
    let lab = Lab::open().await;
    lab.add_host("node1", MAC).await;
    // what is before this belongs to no commit of the run
    let lab = lab.restarted().await;
    let base = std::fs::read(&lab.config.database.path).unwrap();
    let run = lab.start_run("node1").await;
    let mut machine = Machine::default();
    let end = carry_on(&lab, run, &mut machine, life).await;
    assert_eq!((end.summary.state, end.summary.result), life.end(), "{life:?}: {:?}", end.reasons);
    let wal = std::fs::read(wal_path(&lab)).unwrap();
    assert!(std::fs::read(&lab.config.database.path).unwrap() == base, "a checkpoint hides commits");
    let mut points = commits(&wal);
    // how many exactly depends on which jobs shared a commit
    assert!(points.len() > 10, "{}", points.len());
    if life != Life::Released {
        // what comes before is the same as there
        points.retain(|point| *point > machine.unlike.unwrap());
    }
    Driven { life, lab, machine, end, base, wal, points }
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
        self.write_database(state.path(), point);
        let (clock, power) = (Clock::settable(START_MS), Recorder::default());
        let options = StoreOptions::default();
        let surroundings =
            Surroundings { clock: clock.clone(), power: Arc::new(power.clone()), store: options.clone() };
        let server = start(&config, surroundings).await.unwrap();
        let http = client(&state, server.https);
        let operator = self.lab.operator.clone();
        Lab { state, config, clock, power, server, options, operator, http }
    }

    /// The database as it was after a commit.
    fn write_database(&self, folder: &Path, point: usize) -> PathBuf {
        let path = folder.join("vetting.db");
        std::fs::write(&path, &self.base).unwrap();
        if point > 0 {
            std::fs::write(folder.join("vetting.db-wal"), &self.wal[..point]).unwrap();
        }
        path
    }

    /// The state that the run had on disk after a commit: a coordinator that starts from it goes on at once.
    fn state_at(&self, point: usize, run: RunId) -> RunState {
        let folder = tempfile::tempdir().unwrap();
        rival::run_state(&self.write_database(folder.path(), point), run)
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
        let (first, second) = (copy(&self.machine.first), copy(&self.machine.second));
        Machine { first, second, unlike: None }
    }
}

async fn is_there(lab: &Lab, run: RunId) -> bool {
    let answer = lab.operator(Method::GET, &format!("runs/{run}")).send().await.unwrap();
    answer.status() == StatusCode::OK
}

/// What an operator did stands nowhere without the name of who it was.
async fn orders_have_names(lab: &Lab) {
    let events = lab.events().await;
    let count = |kind: &str, text: &str| {
        events.iter().filter(|event| event.kind == kind && event.message.contains(text)).count()
    };
    for (kind, done, line) in [
        ("run_created", "ordered", "test ordered the run"),
        ("run_state", "→ Reporting: an operator aborted", "test aborted the run"),
        ("run_state", "→ Released: an operator released", "test released the machine"),
        ("run_state", "→ Running: an operator has SMART run again", "test had stage SMART run again"),
        ("run_state", "→ Running: an operator has the run go on", "test had the run go on"),
    ] {
        assert_eq!(count(kind, done), count("operator_order", line), "{line}: {events:#?}");
    }
}

/// Looks at each point: some at a time, as most of it is waiting for the disk.
async fn at_each<T, F: Future<Output = T>>(driven: &Driven, look: impl Fn(usize) -> F) -> Vec<(usize, T)> {
    let looks = driven.points.iter().map(|point| {
        let look = look(*point);
        async move { (*point, look.await) }
    });
    let mut found: Vec<_> = stream::iter(looks).buffer_unordered(AT_A_TIME).collect().await;
    found.sort_by_key(|(point, _)| *point);
    found
}

/// With its machine, the run goes on to the very end it had. Gives the state that it was found in.
async fn goes_on_to_the_same_end(driven: &Driven, point: usize) -> Option<RunState> {
    let run = driven.end.summary.id;
    let lab = driven.restarted_at(point).await;
    if !is_there(&lab, run).await {
        return None;
    }
    let found = driven.state_at(point, run);
    orders_have_names(&lab).await;
    let end = carry_on(&lab, run, &mut driven.machine(), driven.life).await;
    assert_eq!((end.summary.state, end.summary.result), driven.life.end(), "{point}");
    assert_eq!(end.reasons, driven.end.reasons, "{point}");
    assert_eq!(end.measurement_count, driven.end.measurement_count, "{point}");
    let outcomes = |detail: &RunDetail| -> Vec<_> {
        detail.stages.iter().map(|stage| (stage.name.clone(), stage.state)).collect()
    };
    assert_eq!(outcomes(&end), outcomes(&driven.end), "{point}");
    lab.server.stop().await;
    Some(found)
}

/// Without its machine, it ends with an explanation: as it had, where all was told, or else as failed.
async fn is_explained_without_its_machine(driven: &Driven, point: usize) {
    let run = driven.end.summary.id;
    let lab = driven.restarted_at(point).await;
    if !is_there(&lab, run).await {
        return;
    }
    let detail = lab.detail(run).await;
    let told_all = match driven.state_at(point, run) {
        // of these, the first verdict is another than the last
        RunState::Reporting if driven.life == Life::Waived => false,
        RunState::Reporting if driven.life == Life::Resumed => !detail.attempts.is_empty(),
        RunState::Reporting => true,
        state => state.is_terminal() && state != RunState::FailedHolding,
    };
    let expected = if told_all { driven.end.summary.result } else { Some(RunResult::Fail) };
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
    assert_eq!(end.summary.result, expected, "{point}");
    assert!(!end.reasons.is_empty(), "{point}: {end:?}");
    let report: Value = good(lab.operator(Method::GET, &format!("runs/{run}/artifacts/report"))).await;
    assert_eq!(report["verdict"]["result"], json!(expected), "{point}");
    assert!(!lab.path("artifacts/run-1/hold_key").exists(), "{point}: a key outlives its hold");
    lab.server.stop().await;
}

#[tokio::test]
async fn after_every_commit_the_run_goes_on_to_the_same_end() {
    let driven = driven(Life::Released).await;
    let found = at_each(&driven, |point| goes_on_to_the_same_end(&driven, point)).await;
    // a commit from before the order, such as that a token was used, knows no run; none after it does
    let found: Vec<_> = found.into_iter().map(|(_, state)| state).skip_while(Option::is_none).collect();
    assert!(found.iter().all(Option::is_some), "an order that was acknowledged is lost: {found:?}");
    // every state that a machine can be in was met
    let states: BTreeSet<String> = found.into_iter().flatten().map(|state| state.to_string()).collect();
    for state in ["Waking", "Booting", "Running", "Rebooting", "Reporting", "FailedHolding", "Released"] {
        assert!(states.contains(state), "{state}: {states:?}");
    }
}

#[tokio::test]
async fn after_every_commit_a_machine_that_is_gone_leaves_an_explained_run() {
    let driven = driven(Life::Released).await;
    at_each(&driven, |point| is_explained_without_its_machine(&driven, point)).await;
}

/// Both for the part of a life that is its own.
async fn stands_every_commit(life: Life) {
    let driven = driven(life).await;
    assert!(!driven.points.is_empty());
    let found = at_each(&driven, |point| goes_on_to_the_same_end(&driven, point)).await;
    assert!(found.iter().all(|(_, state)| state.is_some()), "{found:?}");
    at_each(&driven, |point| is_explained_without_its_machine(&driven, point)).await;
}

#[tokio::test]
async fn after_every_commit_a_pass_stays_one() {
    stands_every_commit(Life::Passes).await;
}

#[tokio::test]
async fn after_every_commit_an_abort_is_one() {
    stands_every_commit(Life::Aborted).await;
}

#[tokio::test]
async fn after_every_commit_a_stage_is_run_again_once() {
    stands_every_commit(Life::Retried).await;
}

#[tokio::test]
async fn after_every_commit_what_goes_on_goes_on() {
    stands_every_commit(Life::Resumed).await;
}

#[tokio::test]
async fn after_every_commit_a_waiver_stands_with_its_report() {
    stands_every_commit(Life::Waived).await;
}
