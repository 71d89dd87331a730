//! The disk of the artifacts is full: nothing half stays, nothing is lost, and all goes on when there is room.

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use reqwest::Method;
use vetting_protocol::agent_api::{ArtifactReceipt, Heartbeat};
use vetting_protocol::ids::Sha256Hex;
use vetting_protocol::run::{RunResult, RunState};

use super::*;

const NONE: Option<&str> = None;

/// A small disk of one's own below the artifacts; as root, and for this test's threads only.
fn small_disk(path: &Path) {
    mount(Some("small"), path, Some("tmpfs"), MsFlags::empty(), Some("size=1m")).unwrap();
}

#[tokio::test]
async fn an_artifact_that_does_not_fit_leaves_nothing_and_is_taken_when_there_is_room() {
    // before any thread is started that is to see the disk
    unshare(CloneFlags::CLONE_NEWNS).expect("this test is run as root");
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE).unwrap();
    let lab = Lab::open().await;
    let claimed = lab.claimed().await;
    small_disk(&lab.path("artifacts"));
    let body = vec![7_u8; 600_000];
    let digest = Sha256Hex::of(&body);
    let upload = |name: &str| {
        lab.agent(&claimed, Method::PUT, &format!("artifacts/fio/{name}"))
            .header("X-Content-SHA256", digest.to_string())
            .body(body.clone())
    };
    let _: ArtifactReceipt = good(upload("sda.bin")).await;
    let answer = upload("sdb.bin").send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers()["retry-after"].to_str().unwrap()), (503, "5"));
    let problem: Problem = answer.json().await.unwrap();
    assert!(problem.detail.contains("No space left"), "{}", problem.detail);
    let folder = lab.path("artifacts/run-1/fio");
    let names =
        || std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
    assert_eq!(names(), ["sda.bin"]);
    assert_eq!(lab.detail(claimed.run).await.artifacts.len(), 1);
    // the run is none the worse
    let heartbeat = Heartbeat { boot_id: BOOT.to_owned() };
    let _: Acknowledgement = good(lab.agent(&claimed, Method::POST, "heartbeat").json(&heartbeat)).await;
    std::fs::remove_file(folder.join("sda.bin")).unwrap();
    let receipt: ArtifactReceipt = good(upload("sdb.bin")).await;
    assert_eq!(receipt.size_bytes, 600_000);
    lab.send(&claimed, 1, healthy(&claimed)).await;
    lab.verdict(&claimed).await;
    let detail = lab.detail(claimed.run).await;
    assert_eq!((detail.summary.state, detail.summary.result), (RunState::Completed, Some(RunResult::Pass)));
}
