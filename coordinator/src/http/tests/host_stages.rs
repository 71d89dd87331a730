//! Stages of hosts: from the edit, by its plan, to the report.

use vetting_protocol::agent_api::EventLevel;
use vetting_protocol::enrolment::EnrolAnswer;
use vetting_protocol::models::ModelView;
use vetting_protocol::operator_api::{HostAgentToken, HostView, VerdictView};
use vetting_protocol::plan::{PlannedStage, StageWork};
use vetting_protocol::profile::{ProfileName, StageChangeKind};
use vetting_protocol::run::RunResult;

use super::command_line::{caught, say};
use super::enrolment::{CARD, UUID, identity};
use super::web::{version_of, with_people};
use super::*;
use crate::store::hosts::{self, HostValues};

const STAGES: &str = "stages:
  - {stage: Burn, profiles: [quick], limit: 30m, duration: 10m, note: throttles late}
  - {stage: PSU, disabled: true, note: its BMC hangs}
  - {stage: Reboot, profiles: [quick], limit: 10m, restarts: 2, note: came back from repair}
";

async fn edit(lab: &Lab, spec: &str) {
    let body = json!({"expected_spec_yaml": spec});
    let _: HostView = good(lab.operator(Method::PATCH, "hosts/node1").json(&body)).await;
}

async fn with_stages(lab: &Lab, stages: &str) {
    lab.add_host("node1", MAC).await;
    edit(lab, &format!("{SPEC}{stages}")).await;
}

fn planned(claimed: &Claimed, name: StageName) -> Option<&PlannedStage> {
    claimed.response.plan.stages.iter().find(|planned| planned.work.name() == name)
}

fn burns_for(claimed: &Claimed) -> u64 {
    match planned(claimed, StageName::Burn).map(|planned| &planned.work) {
        Some(StageWork::Burn { duration_ms, .. }) => *duration_ms,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_host_is_tested_by_stages_of_its_own_and_its_report_says_so() {
    let lab = Lab::open().await;
    with_stages(&lab, STAGES).await;
    let run = lab.start_run("node1").await;
    let claimed = lab.claim_again(run, BOOT).await;
    assert_eq!(
        (burns_for(&claimed), planned(&claimed, StageName::Burn).unwrap().limit_ms),
        (600_000, 1_800_000)
    );
    assert_eq!(planned(&claimed, StageName::Psu), None);
    let last = claimed.response.plan.stages.last().unwrap();
    assert_eq!(last.work, StageWork::Reboot { restarts: 2, cold: 0 });

    lab.send(&claimed, 1, healthy(&claimed)).await;
    lab.verdict(&claimed).await;
    let view: VerdictView = good(lab.operator(Method::GET, &format!("runs/{run}/verdict"))).await;
    assert_eq!(view.summary.result, Some(RunResult::Pass), "{view:#?}");
    let remarks: Vec<&str> = view
        .remarks
        .iter()
        .filter(|remark| remark.cause == "host_stage")
        .map(|remark| remark.text.as_str())
        .collect();
    assert_eq!(
        remarks,
        [
            "The host's own stages: Burn: limit 30m, duration 10m, instead of: limit 2m, duration 30s (throttles late).",
            "The host's own stages: PSU is switched off, instead of: limit 1m, required false, load 20s (its BMC hangs).",
        ]
    );
    let report: Value = good(lab.operator(Method::GET, &format!("runs/{run}/artifacts/report"))).await;
    let kinds: Vec<_> =
        report["facts"]["stage_changes"].as_array().unwrap().iter().map(|change| &change["kind"]).collect();
    assert_eq!(kinds, ["changed", "off", "added"]);
    let ordered = lab.events().await.into_iter().find(|event| event.kind == "run_created").unwrap();
    assert!(ordered.message.contains("PSU is switched off"), "{}", ordered.message);
    let (_, told) = caught(say(&lab, &["run", "show", &run.to_string()])).await;
    assert!(
        told.contains("the host's own stages: Reboot is added: limit 10m, required true, restarts 2"),
        "{told}"
    );
}

#[tokio::test]
async fn a_stage_of_the_host_that_must_pass_fails_the_run_that_skips_it() {
    let lab = Lab::open().await;
    with_stages(&lab, "stages: [{stage: GPU, required: true, note: ordered with GPUs}]\n").await;
    let run = lab.start_run("node1").await;
    let claimed = lab.claim_again(run, BOOT).await;
    let mut records = healthy(&claimed);
    for record in &mut records {
        if matches!(record, Record::StageFinished { stage: StageName::Gpu, .. }) {
            *record = finished(StageName::Gpu, Outcome::skip("no GPU"));
        }
    }
    let gpu = records.iter().position(|record| *record == finished(StageName::Gpu, Outcome::skip("no GPU")));
    records.truncate(gpu.unwrap() + 1);
    records.push(Record::PipelineFinished { ts_ms: START_MS + 2 });
    lab.send(&claimed, 1, records).await;
    let Directive::Finished { result, .. } = lab.verdict(&claimed).await else { panic!() };
    assert_eq!(result, RunResult::Fail);
}

#[tokio::test]
async fn what_a_profile_cannot_have_is_refused_with_its_place_wherever_a_spec_is_said() {
    let (lab, browser) = with_people().await;
    lab.add_host("node1", MAC).await;
    let spec = format!("{SPEC}stages:\n  - {{stage: Storage, disabled: true, note: x}}\n");
    let line = spec.lines().count();
    let bodies = [
        (Method::PATCH, "hosts/node1", json!({"expected_spec_yaml": spec})),
        (
            Method::POST,
            "hosts",
            json!({"name": "n2", "mac": "52:54:00:00:00:99", "expected_spec_yaml": spec}),
        ),
        (Method::POST, "models", json!({"name": "m", "expected_spec_yaml": spec})),
        (
            Method::POST,
            "enrolment/tokens",
            json!({"uses": 1, "valid_ms": 60_000, "expected_spec_yaml": spec}),
        ),
    ];
    for (method, path, body) in bodies {
        let answer = lab.operator(method, path).json(&body).send().await.unwrap();
        assert_eq!(answer.status(), 422, "{path}");
        let told = answer.text().await.unwrap();
        assert!(
            told.contains(&format!("line {line}, column 5")) && told.contains("required there"),
            "{path}: {told}"
        );
    }
    let list = json!([{"name": "n2", "mac": "52:54:00:00:00:99", "spec": spec}]).to_string();
    let import = json!({"format": "yaml", "text": list, "dry_run": false, "skip_existing": false});
    let answer = lab.operator(Method::POST, "host-imports").json(&import).send().await.unwrap();
    assert_eq!(answer.status(), 422);
    assert!(answer.text().await.unwrap().contains("required there"));
    let seen = version_of(&browser.get("/hosts/node1/spec").await.text);
    let page = browser.post("/hosts/node1/spec", &[("seen", seen.as_str()), ("spec", spec.as_str())]).await;
    assert_eq!(page.status, 422);
    assert!(page.text.contains(&format!("data-line=\"{line}\"")) && page.text.contains("required there"));
    let file = lab.path("spec.yaml");
    std::fs::write(&file, &spec).unwrap();
    let refused = say(&lab, &["host", "edit", "node1", "--spec", file.to_str().unwrap()]).await;
    assert!(crate::error_chain(&refused.unwrap_err()).contains(&format!("line {line}, column 5")));
    let host: HostView = good(lab.operator(Method::GET, "hosts/node1")).await;
    assert_eq!(host.expected_spec_yaml, SPEC);

    std::fs::write(&file, format!("{SPEC}{STAGES}")).unwrap();
    say(&lab, &["host", "edit", "node1", "--spec", file.to_str().unwrap()]).await.unwrap();
    let run = lab.start_run("node1").await;
    let page = browser.get(&format!("/runs/{run}")).await.text;
    assert!(page.contains("Otherwise than the profile") && page.contains("its BMC hangs"), "{page}");
}

/// The same coordinator with a profile quick that was changed.
async fn with_quick(mut lab: Lab, from: &str, to: &str) -> Lab {
    let builtin = vetting_judge::profile::builtin_text(ProfileName::Quick);
    let replaced = builtin.replacen(from, to, 1);
    assert_ne!(replaced, builtin);
    let path = lab.path("quick.yaml");
    std::fs::write(&path, replaced).unwrap();
    lab.config.profiles.insert(ProfileName::Quick, path);
    lab.restarted().await
}

#[tokio::test]
async fn a_run_goes_by_what_it_was_ordered_with_and_none_is_ordered_that_its_profile_cannot_have() {
    let lab = Lab::open().await;
    with_stages(&lab, STAGES).await;
    let run = lab.start_run("node1").await;
    // the profile requires now what the host has switched off
    let lab = with_quick(lab, "load: 20s, required: false", "load: 25s").await;
    let claimed = lab.claim_again(run, BOOT).await;
    assert_eq!((burns_for(&claimed), planned(&claimed, StageName::Psu)), (600_000, None));
    let _: RunSummary = good(lab.operator(Method::POST, &format!("runs/{run}/abort"))).await;
    let order = || lab.operator(Method::POST, "runs").json(&json!({"host": "node1", "profile": "quick"}));
    let answer = order().send().await.unwrap();
    assert_eq!(answer.status(), 422);
    let told = answer.text().await.unwrap();
    assert!(told.contains("the stage PSU cannot be so in the profile quick"), "{told}");
    // nor where the spec came into the database by another way
    let driver = &lab.server.driver;
    let job = move |connection: &crate::store::Connection| {
        let host = hosts::require_by_name(connection, "node1")?;
        let id = host.id;
        let off = format!("{SPEC}stages: [{{stage: Storage, disabled: true, note: x}}]\n");
        let values = HostValues { expected_spec_yaml: off, ..HostValues::from(host) };
        hosts::update(connection, id, &values, START_MS)
    };
    driver.store.write(job).await.unwrap();
    assert_eq!(order().send().await.unwrap().status(), 422);
}

#[tokio::test]
async fn a_machine_whose_token_no_longer_fits_its_profile_is_registered_without_a_run() {
    let lab = Lab::open().await;
    let spec = format!("{SPEC}{STAGES}");
    let token = lab
        .token(json!({"uses": 1, "valid_ms": 3_600_000, "expected_spec_yaml": spec, "start_run": "quick"}))
        .await;
    let lab = with_quick(lab, "load: 20s, required: false", "load: 25s").await;
    // it is known when it asks again, which is no news
    for _ in 0..2 {
        let answer = lab.enrol(&identity(UUID, &[CARD]), Some(&token), None).await;
        assert!(matches!(answer, EnrolAnswer::Registered { .. }), "{answer:?}");
    }
    let told: Vec<EventView> =
        lab.events().await.into_iter().filter(|event| event.kind == "run_not_started").collect();
    let [told] = &told[..] else { panic!("{told:?}") };
    let host: HostView = good(lab.operator(Method::GET, "hosts/dell-c0w2p32")).await;
    assert_eq!((told.level, told.host_id, told.run_id), (EventLevel::Warning, Some(host.id), None));
    assert!(told.message.contains("the stage PSU cannot be so in the profile quick"), "{}", told.message);
}

#[tokio::test]
async fn a_model_has_stages_for_its_hosts_and_an_installed_system_only_those_that_leave_it_alone() {
    let lab = Lab::open().await;
    let stages = "stages:\n  - {stage: Burn, memory_percent: 30, note: big memory}\n  - {stage: SMART, limit: 9m, profiles: [quick], note: many disks}\n";
    let model = json!({"name": "m", "expected_spec_yaml": format!("{SPEC}{stages}")});
    let _: ModelView = good(lab.operator(Method::POST, "models").json(&model)).await;
    lab.add_host("node1", MAC).await;
    edit(&lab, "model: m\nstages: [{stage: SMART, limit: 20m, profiles: [quick], note: even more}]\n").await;
    let run = lab.start_run("node1").await;
    let changes = lab.detail(run).await.stage_changes;
    let told: Vec<_> = changes.iter().map(|change| (change.kind, change.note.as_str())).collect();
    assert_eq!(told, [(StageChangeKind::Changed, "big memory"), (StageChangeKind::Changed, "even more")]);
    let _: RunSummary = good(lab.operator(Method::POST, &format!("runs/{run}/abort"))).await;
    let _: HostAgentToken = good(lab.operator(Method::POST, "hosts/node1/agent-token")).await;
    let body = json!({"host": "node1", "profile": "quick", "place": "installed_system"});
    let run = good::<RunSummary>(lab.operator(Method::POST, "runs").json(&body)).await.id;
    let changes = lab.detail(run).await.stage_changes;
    assert_eq!(changes.iter().map(|change| change.stage).collect::<Vec<_>>(), [StageName::Smart]);
}
