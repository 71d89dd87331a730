//! The agent API: claims, batches, artifacts, and what is refused.

use reqwest::Method;
use vetting_protocol::agent_api::{
    Acknowledgement, AgentCrash, ArtifactReceipt, Directive, MAX_BODY_BYTES, Record,
};
use vetting_protocol::ids::{Sha256Hex, StageName};
use vetting_protocol::inventory::Inventory;
use vetting_protocol::operator_api::RunDetail;
use vetting_protocol::outcome::Outcome;
use vetting_protocol::run::RunState;
use vetting_protocol::secret::Secret;

use super::*;

#[tokio::test]
async fn a_claim_gives_the_plan_and_only_once() {
    let lab = Lab::open().await;
    let claimed = lab.claimed().await;
    let plan = &claimed.response.plan;
    assert_eq!((plan.host_name.as_str(), plan.expected_spec_yaml.as_str()), ("node1", SPEC));
    let detail = lab.detail(claimed.run).await;
    assert_eq!(detail.summary.state, RunState::Running);
    assert_eq!(detail.stages.len(), plan.stages.len());
    assert_eq!((detail.boot.kernel_to_init_ms, detail.boot.kernel_to_claim_ms), (Some(2_000), Some(4_000)));
    assert_eq!(detail.boot.kernel_to_network_ms, Some(3_000));

    let other = Lab::claim_request(claimed.run, &claimed.secret, "another-boot");
    assert_eq!(refused(lab.claiming(&other)).await, refusal(409, "claim-used"));
    let warned = lab.events().await.into_iter().filter(|event| event.kind == "claim_refused").count();
    assert_eq!(warned, 1);
    assert_eq!(lab.detail(claimed.run).await.summary.state, RunState::Running);
    // the one who has it keeps it
    lab.send(&claimed, 1, vec![]).await;
}

#[tokio::test]
async fn the_same_boot_may_claim_again_while_it_has_said_nothing() {
    let lab = Lab::open().await;
    let claimed = lab.claimed().await;
    let again = Lab::claim_request(claimed.run, &claimed.secret, BOOT);
    let response: ClaimResponse = good(lab.claiming(&again)).await;
    assert_ne!(response.token, claimed.token);
    assert_eq!(refused(lab.sending(&claimed, 1, vec![])).await, refusal(401, "token-unknown"));
    let claimed = Claimed { token: response.token.clone(), ..claimed };
    lab.send(&claimed, 1, vec![]).await;
    assert_eq!(refused(lab.claiming(&again)).await, refusal(409, "claim-used"));
}

#[tokio::test]
async fn claims_that_are_no_good_are_refused() {
    let lab = Lab::open().await;
    lab.add_host("node1", MAC).await;
    let run = lab.start_run("node1").await;
    let guess = Secret::new("guess".to_owned());
    let refusing = |request: ClaimRequest| refused(lab.claiming(&request));
    assert_eq!(refusing(Lab::claim_request(run, &guess, BOOT)).await, refusal(403, "claim-unknown"));
    assert_eq!(refusing(Lab::claim_request(RunId(99), &guess, BOOT)).await, refusal(403, "claim-unknown"));

    let first = lab.secret().await;
    let second = lab.secret().await;
    assert_eq!(refusing(Lab::claim_request(run, &first, BOOT)).await, refusal(403, "claim-unknown"));
    let old = ClaimRequest { protocol_version: 0, ..Lab::claim_request(run, &second, BOOT) };
    assert_eq!(refusing(old).await, refusal(409, "protocol-version"));

    lab.clock.set(START_MS + 16 * 60 * 1_000);
    assert_eq!(refusing(Lab::claim_request(run, &second, BOOT)).await, refusal(403, "claim-expired"));
}

#[tokio::test]
async fn a_token_opens_its_own_run_only() {
    let lab = Lab::open().await;
    let claimed = lab.claimed().await;
    lab.add_host("node2", "52:54:00:ab:cd:02").await;
    let other = lab.start_run("node2").await;
    let stranger = Claimed { run: other, ..lab_copy(&claimed) };
    assert_eq!(refused(lab.sending(&stranger, 1, vec![])).await, refusal(403, "other-run"));
    let forged = Claimed { token: Secret::new("x".to_owned()), ..lab_copy(&claimed) };
    assert_eq!(refused(lab.sending(&forged, 1, vec![])).await, refusal(401, "token-unknown"));
    let path = format!("/agent/v1/runs/{}/heartbeat", claimed.run);
    assert_eq!(refused(lab.https(Method::POST, &path)).await, refusal(401, "token-missing"));
    // an agent is no operator
    let request = lab.https(Method::GET, "/api/v1/hosts").bearer_auth(claimed.token.expose());
    assert_eq!(refused(request).await, refusal(401, "token-unknown"));
}

fn lab_copy(claimed: &Claimed) -> Claimed {
    Claimed {
        run: claimed.run,
        token: claimed.token.clone(),
        response: claimed.response.clone(),
        secret: claimed.secret.clone(),
    }
}

#[tokio::test]
async fn a_batch_counts_once_and_gaps_are_refused() {
    let lab = Lab::open().await;
    let claimed = lab.claimed().await;
    let records = || vec![started(StageName::Inventory), temperature(Some(StageName::Inventory), Some(40.0))];
    for _ in 0..2 {
        assert_eq!(lab.send(&claimed, 1, records()).await.acknowledged_sequence, 1);
    }
    assert_eq!(lab.detail(claimed.run).await.measurement_count, 1);
    assert_eq!(refused(lab.sending(&claimed, 3, records())).await, refusal(409, "sequence-gap"));
    assert_eq!(lab.send(&claimed, 2, records()).await.acknowledged_sequence, 2);
    assert_eq!(lab.detail(claimed.run).await.measurement_count, 2);
}

#[tokio::test]
async fn a_batch_is_applied_whole_or_not_at_all() {
    let lab = Lab::open().await;
    let claimed = lab.claimed().await;
    let inventory = StageName::Inventory;
    lab.send(&claimed, 1, vec![started(inventory), finished(inventory, Outcome::Pass)]).await;
    let late = vec![temperature(None, Some(1.0)), temperature(Some(inventory), Some(1.0))];
    assert_eq!(refused(lab.sending(&claimed, 2, late)).await, refusal(409, "stage-finished"));
    assert_eq!(lab.detail(claimed.run).await.measurement_count, 0);
    let unheard = Record::SubStepFinished {
        stage: StageName::Firmware,
        ordinal: 3,
        outcome: Outcome::Pass,
        details: Value::Null,
        ts_ms: START_MS,
    };
    assert_eq!(refused(lab.sending(&claimed, 2, vec![unheard])).await, refusal(422, "unknown-stage"));
    assert_eq!(lab.send(&claimed, 2, vec![temperature(None, Some(1.0))]).await.acknowledged_sequence, 2);
}

#[tokio::test]
async fn bodies_over_their_limits_are_refused() {
    let lab = Lab::open().await;
    let claimed = lab.claimed().await;
    let long = vec![b' '; usize::try_from(MAX_BODY_BYTES).unwrap() + 1];
    let request = lab.agent(&claimed, Method::POST, "batches").body(long);
    assert_eq!(refused(request).await, refusal(413, "too-large"));
    let many = vec![temperature(None, Some(1.0)); 2_001];
    assert_eq!(refused(lab.sending(&claimed, 1, many)).await, refusal(413, "too-large"));
    let garbage = lab.agent(&claimed, Method::POST, "batches").body("{\"sequence\": 1");
    assert_eq!(refused(garbage).await, refusal(400, "malformed"));
}

#[tokio::test]
async fn a_critical_breach_fails_its_stage_and_halts_the_pipeline() {
    let lab = Lab::open().await;
    let claimed = lab.claimed().await;
    let inventory = StageName::Inventory;
    let hot = vec![
        started(inventory),
        temperature(Some(inventory), Some(120.0)),
        // one alone would be a glitch
        temperature(Some(inventory), Some(119.0)),
        temperature(Some(inventory), Some(50.0)),
        finished(inventory, Outcome::Pass),
    ];
    let answer = lab.send(&claimed, 1, hot).await;
    let Directive::HaltPipeline { reason } = answer.directive else { panic!("{answer:?}") };
    assert!(reason.contains("temp cpu/0"), "{reason}");
    let detail: RunDetail = lab.detail(claimed.run).await;
    assert_eq!(detail.summary.failed_stage.as_deref(), Some("Inventory"));
    let states: Vec<_> = detail.stages.iter().map(|stage| stage.state.as_str()).collect();
    assert_eq!(states[0], "failed");
    assert!(states[1..].iter().all(|state| *state == "skipped"), "{states:?}");
    // the critical rule and the warning below it
    assert_eq!(detail.breaches.iter().map(|breach| breach.worst).collect::<Vec<_>>(), [120.0, 120.0]);
}

#[tokio::test]
async fn a_restart_without_a_word_ends_the_run_as_failed() {
    let lab = Lab::open().await;
    let claimed = lab.claimed().await;
    lab.send(&claimed, 1, vec![started(StageName::Inventory)]).await;
    let returned = lab.claim_again(claimed.run, "another-boot").await;
    assert!(returned.response.plan.stages.is_empty());
    assert_eq!(refused(lab.sending(&claimed, 2, vec![])).await, refusal(401, "token-unknown"));
    let detail = lab.over(claimed.run).await;
    assert_eq!(detail.summary.state, RunState::FailedHolding);
    assert!(detail.reasons[0].contains("restarted in stage Inventory"), "{:?}", detail.reasons);
}

#[tokio::test]
async fn an_announced_restart_goes_on_with_what_is_left() {
    let lab = Lab::open().await;
    let claimed = lab.claimed().await;
    let inventory = StageName::Inventory;
    let records = vec![
        started(inventory),
        finished(inventory, Outcome::Pass),
        started(StageName::Firmware),
        reboot_planned(StageName::Firmware, BootTarget::Linux),
    ];
    lab.send(&claimed, 1, records).await;
    assert_eq!(lab.detail(claimed.run).await.summary.state, RunState::Rebooting);
    let returned = lab.claim_again(claimed.run, "another-boot").await;
    assert_eq!(lab.detail(claimed.run).await.summary.state, RunState::Running);
    assert_eq!(returned.response.plan.stages.len(), claimed.response.plan.stages.len() - 1);
}

#[tokio::test]
async fn an_agent_that_died_ends_the_run() {
    let lab = Lab::open().await;
    let claimed = lab.claimed().await;
    let crash = AgentCrash {
        boot_id: BOOT.to_owned(),
        how: "signal SIGSEGV".to_owned(),
        last_lines: vec!["x".to_owned()],
    };
    let _: Acknowledgement = good(lab.agent(&claimed, Method::POST, "crash").json(&crash)).await;
    let detail = lab.over(claimed.run).await;
    assert_eq!(detail.summary.state, RunState::Completed);
    assert!(detail.reasons[0].contains("SIGSEGV"), "{:?}", detail.reasons);
}

#[tokio::test]
async fn an_artifact_is_kept_only_if_it_is_the_announced_one() {
    let lab = Lab::open().await;
    let claimed = lab.claimed().await;
    let upload = |path: &str, announced: Sha256Hex| {
        lab.agent(&claimed, Method::PUT, &format!("artifacts/{path}"))
            .header("X-Content-SHA256", announced.to_string())
            .body("content")
    };
    let digest = Sha256Hex::of(b"content");
    let receipt: ArtifactReceipt = good(upload("fio/sda.json", digest)).await;
    assert_eq!((receipt.sha256, receipt.size_bytes), (digest, 7));
    assert_eq!(std::fs::read(lab.path("artifacts/run-1/fio/sda.json")).unwrap(), b"content");
    let other = upload("fio/sdb.json", Sha256Hex::of(b"other"));
    assert_eq!(refused(other).await, refusal(422, "digest-mismatch"));
    assert_eq!(std::fs::read_dir(lab.path("artifacts/run-1/fio")).unwrap().count(), 1);
    for path in ["report/x.json", "fio/.hidden", "fio/%2e%2e%2fx"] {
        assert_eq!(refused(upload(path, digest)).await, refusal(422, "invalid"), "{path}");
    }
    assert_eq!(lab.detail(claimed.run).await.artifacts.len(), 1);
}

/// What a virtual machine tells of itself, under this serial number.
pub(super) fn inventory(serial: &str) -> Record {
    let text = include_str!("../../../judge/fixtures/qemu-q35.inventory.json");
    let mut inventory: Inventory = serde_json::from_str(text).unwrap();
    inventory.system.serial = Some(serial.to_owned());
    Record::Inventory(Box::new(inventory))
}

#[tokio::test]
async fn a_batch_that_is_not_taken_leaves_the_documents_as_they_are() {
    let lab = Lab::open().await;
    let claimed = lab.claimed().await;
    lab.send(&claimed, 1, vec![inventory("first")]).await;
    let stored = lab.detail(claimed.run).await.artifacts;
    let [document] = stored.as_slice() else { panic!("{stored:?}") };
    let files = || std::fs::read_dir(lab.path("artifacts/run-1")).unwrap().count();
    let unchanged = async |said: &str| {
        assert_eq!(lab.detail(claimed.run).await.artifacts, stored, "{said}");
        let bytes = std::fs::read(&document.path).unwrap();
        assert_eq!(Sha256Hex::of(&bytes), document.sha256, "{said}");
    };
    // a resend with another content, and one out of order
    lab.send(&claimed, 1, vec![inventory("again")]).await;
    assert_eq!(files(), 1);
    unchanged("a batch that was applied before").await;
    let early = lab.sending(&claimed, 3, vec![inventory("early")]);
    assert_eq!(refused(early).await, refusal(409, "sequence-gap"));
    unchanged("a batch out of order").await;
    lab.send(&claimed, 2, healthy(&claimed)).await;
    lab.verdict(&claimed).await;
    let before = files();
    lab.send(&claimed, 3, vec![inventory("late")]).await;
    assert_eq!(files(), before);
    assert_eq!(Sha256Hex::of(&std::fs::read(&document.path).unwrap()), document.sha256);
    let report = lab.operator(Method::GET, &format!("runs/{}/artifacts/report", claimed.run));
    let report = report.send().await.unwrap().text().await.unwrap();
    assert!(report.contains("\"first\"") && !report.contains("\"early\""));
}

#[tokio::test]
async fn a_document_from_another_boot_is_not_kept() {
    let lab = Lab::open().await;
    let claimed = lab.claimed().await;
    let batch =
        Batch { sequence: 1, boot_id: "another-boot".to_owned(), records: vec![inventory("foreign")] };
    let foreign = lab.agent(&claimed, Method::POST, "batches").json(&batch);
    assert_eq!(refused(foreign).await, refusal(409, "other-boot"));
    let detail = lab.over(claimed.run).await;
    assert!(detail.artifacts.iter().all(|artifact| artifact.kind != "inventory"));
    let names: Vec<_> = std::fs::read_dir(lab.path("artifacts/run-1")).unwrap().flatten().collect();
    assert!(names.iter().all(|entry| !entry.file_name().to_string_lossy().starts_with("inventory")));
}
