//! Old files go, rows stay, and nothing else is touched.

use std::fs::File;
use std::num::NonZeroU32;
use std::time::{Duration, UNIX_EPOCH};

use reqwest::Method;
use vetting_protocol::housekeeping::{SweepOrder, SweepView};
use vetting_protocol::ids::Sha256Hex;
use vetting_protocol::inventory::Inventory;
use vetting_protocol::outcome::Outcome;
use vetting_protocol::run::RunState;

use super::agent::inventory;
use super::*;
use crate::store::rival;

const DAY_MS: i64 = 24 * 3_600_000;

async fn lab() -> Lab {
    let edit = |config: &mut Config| {
        config.artifacts.retention_days = NonZeroU32::new(365);
        config.logs.retention_days = NonZeroU32::new(90);
    };
    Lab::open_configured(edit).await
}

/// A run that passed and has an inventory, a log and its reports, all as old as the run.
async fn passed(lab: &Lab) -> Claimed {
    let claimed = lab.claimed().await;
    let body = "tool said";
    let upload = lab
        .agent(&claimed, Method::PUT, "artifacts/tool_output/smart.txt")
        .header("X-Content-SHA256", Sha256Hex::of(body.as_bytes()).to_string());
    let _: Value = good(upload.body(body)).await;
    let mut records = healthy(&claimed);
    records.insert(1, inventory("SN1"));
    lab.send(&claimed, 1, records).await;
    lab.verdict(&claimed).await;
    for artifact in lab.detail(claimed.run).await.artifacts {
        aged(Path::new(&artifact.path), START_MS);
    }
    claimed
}

fn aged(path: &Path, ms: i64) {
    let time = UNIX_EPOCH + Duration::from_millis(ms.try_into().unwrap());
    File::options().append(true).open(path).unwrap().set_modified(time).unwrap();
}

async fn sweep(lab: &Lab, dry_run: bool, orphans: bool) -> SweepView {
    let order = SweepOrder { dry_run, orphans };
    good(lab.operator(Method::POST, "janitor").json(&order)).await
}

fn kinds(view: &SweepView) -> Vec<&str> {
    let mut kinds: Vec<&str> = view.removed.iter().map(|file| file.kind.as_str()).collect();
    kinds.sort_unstable();
    kinds
}

#[tokio::test]
async fn logs_go_first_then_the_rest_and_every_row_stays() {
    let lab = lab().await;
    let claimed = passed(&lab).await;
    let rows = lab.detail(claimed.run).await.artifacts;
    let there = || rows.iter().filter(|row| Path::new(&row.path).exists()).count();
    lab.clock.set(START_MS + 90 * DAY_MS);
    assert!(sweep(&lab, false, false).await.removed.is_empty());
    lab.clock.set(START_MS + 91 * DAY_MS);
    assert_eq!(kinds(&sweep(&lab, true, false).await), ["tool_output"]);
    assert_eq!(there(), rows.len());
    assert_eq!(kinds(&sweep(&lab, false, false).await), ["tool_output"]);
    assert_eq!(there(), rows.len() - 1);
    assert!(sweep(&lab, false, false).await.removed.is_empty());

    lab.clock.set(START_MS + 366 * DAY_MS);
    // a report that was written anew is as old as its file
    let page = rows.iter().find(|row| row.kind == "report_html").unwrap();
    aged(Path::new(&page.path), START_MS + 300 * DAY_MS);
    let view = sweep(&lab, false, false).await;
    assert!(kinds(&view).contains(&"report") && kinds(&view).contains(&"inventory"), "{view:?}");
    assert!(!kinds(&view).contains(&"report_html") && view.problems.is_empty(), "{view:?}");
    assert_eq!(there(), 1);
    assert_eq!(lab.detail(claimed.run).await.artifacts, rows);
    let get = |kind: &str| lab.operator(Method::GET, &format!("runs/{}/artifacts/{kind}", claimed.run));
    assert_eq!(refused(get("report")).await, refusal(410, "gone"));
    assert_eq!(get("report_html").send().await.unwrap().status(), StatusCode::OK);
    let removed = lab.events().await.into_iter().filter(|event| event.kind == "files_removed");
    let removed: Vec<_> = removed.collect();
    assert_eq!(removed.len(), 2);
    assert!(removed.iter().all(|event| event.run_id == Some(claimed.run)));
    assert!(removed[0].data.as_ref().unwrap()["files"][0].as_str().unwrap().ends_with("smart.txt"));
}

#[tokio::test]
async fn runs_that_are_under_way_or_held_keep_their_files() {
    let lab = lab().await;
    let claimed = lab.claimed().await;
    let stage = StageName::Inventory;
    let records = vec![started(stage), inventory("SN1")];
    lab.send(&claimed, 1, records).await;
    let path = lab.path("artifacts/run-1/stray");
    std::fs::write(&path, "x").unwrap();
    aged(&path, START_MS);
    let untouched = async |state| {
        for artifact in lab.detail(claimed.run).await.artifacts {
            if artifact.kind != "hold_key" {
                aged(Path::new(&artifact.path), START_MS);
            }
        }
        assert_eq!(lab.detail(claimed.run).await.summary.state, state);
        // no time passes, so that the hold does not end
        lab.clock.jump(START_MS + 1_000 * DAY_MS);
        let view = sweep(&lab, false, true).await;
        assert!(view.removed.is_empty() && view.orphans.is_empty(), "{view:?}");
        lab.clock.jump(START_MS);
    };
    untouched(RunState::Running).await;
    let records = vec![
        finished(stage, Outcome::fail("a DIMM is missing")),
        Record::PipelineFinished { ts_ms: START_MS },
    ];
    lab.send(&claimed, 2, records).await;
    lab.verdict(&claimed).await;
    untouched(RunState::FailedHolding).await;
    assert!(path.exists());
    let release = lab.operator(Method::POST, "runs/1/release").json(&json!({}));
    let _: RunSummary = good(release).await;
    lab.clock.jump(START_MS + 1_000 * DAY_MS);
    let view = sweep(&lab, false, true).await;
    assert!(kinds(&view).contains(&"inventory") && view.orphans.len() == 1, "{view:?}");
}

#[tokio::test]
async fn nothing_outside_the_folder_of_the_run_is_touched() {
    let lab = lab().await;
    let claimed = passed(&lab).await;
    let outside = tempfile::tempdir().unwrap();
    let precious = outside.path().join("precious");
    std::fs::write(&precious, "x").unwrap();
    aged(&precious, START_MS);
    let neighbour = lab.path("artifacts/run-7");
    std::fs::create_dir(&neighbour).unwrap();
    std::fs::write(neighbour.join("report.json"), "x").unwrap();
    aged(&neighbour.join("report.json"), START_MS);
    let folder = lab.path("artifacts/run-1").canonicalize().unwrap();
    // a link in the place of a file, and one in the place of a folder
    let linked = folder.join("linked.json");
    std::os::unix::fs::symlink(&precious, &linked).unwrap();
    std::os::unix::fs::symlink(outside.path(), folder.join("elsewhere")).unwrap();
    let paths = [
        precious.clone(),
        folder.join("../run-7/report.json"),
        neighbour.canonicalize().unwrap().join("report.json"),
        folder.clone(),
        linked.clone(),
        folder.join("elsewhere/precious"),
    ];
    for path in &paths {
        let sql = format!(
            "INSERT INTO artifacts (run_id, kind, path, sha256, size_bytes) VALUES (1, 'fio', '{}', '{}', 1)",
            path.display(),
            Sha256Hex::of(b"x")
        );
        rival::execute(&lab.config.database.path, &sql);
    }
    lab.clock.set(START_MS + 1_000 * DAY_MS);
    let view = sweep(&lab, false, true).await;
    for path in &paths {
        let told = |problem: &String| problem.starts_with(&format!("{}: ", path.display()));
        assert!(view.problems.iter().any(told), "{}: {:?}", path.display(), view.problems);
    }
    assert!(precious.exists() && linked.symlink_metadata().is_ok() && folder.join("elsewhere").exists());
    assert!(view.removed.iter().all(|file| file.kind != "fio"), "{view:?}");
    let _ = claimed;
}

#[tokio::test]
async fn orphans_are_told_and_go_only_when_asked() {
    let lab = lab().await;
    passed(&lab).await;
    let stray = lab.path("artifacts/run-1/stray.json");
    let of_nobody = lab.path("artifacts/run-99/report.json");
    std::fs::create_dir(of_nobody.parent().unwrap()).unwrap();
    for path in [&stray, &of_nobody] {
        std::fs::write(path, "x").unwrap();
        aged(path, START_MS);
    }
    // one that is on its way to its row
    let fresh = lab.path("artifacts/run-1/fresh.json");
    std::fs::write(&fresh, "x").unwrap();
    aged(&fresh, START_MS + DAY_MS);
    lab.clock.set(START_MS + DAY_MS + 1);
    for (dry_run, orphans, gone) in [(false, false, false), (true, true, false), (false, true, true)] {
        let view = sweep(&lab, dry_run, orphans).await;
        assert_eq!(view.orphans.len(), 2, "{view:?}");
        assert_eq!(stray.exists(), !gone);
        assert_eq!(of_nobody.exists(), !gone);
    }
    assert!(fresh.exists());
    assert!(lab.events().await.iter().any(|event| event.kind == "orphans_removed"));
}

#[tokio::test]
async fn it_sweeps_by_itself_once_a_day_and_a_run_without_its_files_is_not_judged_anew() {
    let lab = lab().await;
    let claimed = passed(&lab).await;
    let driver = &lab.server.driver;
    driver.sweep_if_due().await.unwrap();
    lab.clock.set(START_MS + 366 * DAY_MS);
    assert!(!driver.sweep_if_due().await.unwrap().unwrap().removed.is_empty());
    assert!(driver.sweep_if_due().await.unwrap().is_none());
    lab.clock.set(START_MS + 367 * DAY_MS);
    assert!(driver.sweep_if_due().await.unwrap().is_some());
    // a clock that is set back does not put it off for a year
    lab.clock.jump(START_MS);
    assert!(driver.sweep_if_due().await.unwrap().is_some());
    let read: Result<(), _> = driver
        .store
        .read(move |connection| {
            crate::run::facts::latest_document::<Inventory>(connection, claimed.run, "inventory").map(drop)
        })
        .await;
    let error = read.unwrap_err().to_string();
    assert!(error.contains("removed by its age") && error.contains("order a new one"), "{error}");
}

#[tokio::test]
async fn little_room_is_told_once_and_again_when_it_is_over() {
    let lab = lab().await;
    let mut driver = lab.server.driver.clone();
    let low = |driver: &mut crate::run::driver::Driver, bytes: u64| {
        let mut settings = driver.settings.clone();
        settings.retention.free_space.warning = crate::byte_size::ByteSize(bytes);
        let (store, clock, power) = (driver.store.clone(), driver.clock.clone(), driver.power.clone());
        *driver = crate::run::driver::Driver::new(store, clock, power, driver.profiles.clone(), settings);
    };
    low(&mut driver, u64::MAX);
    assert!(driver.look_at_room(false).await.unwrap());
    assert!(driver.look_at_room(true).await.unwrap());
    low(&mut driver, 0);
    assert!(!driver.look_at_room(true).await.unwrap());
    assert!(!driver.look_at_room(false).await.unwrap());
    let events = lab.events().await;
    let kinds = events.iter().map(|event| event.kind.as_str());
    let told: Vec<_> = kinds.filter(|kind| kind.starts_with("disk_")).collect();
    assert_eq!(told, ["disk_low", "disk_room"]);
}
