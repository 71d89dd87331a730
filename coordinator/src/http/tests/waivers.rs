//! Waivers: given and taken back over the API, by one operator or two, with the reports that follow.

use reqwest::Method;
use vetting_protocol::agent_api::{AfterRun, Directive, Record};
use vetting_protocol::diff::{Severity, SpecDiff};
use vetting_protocol::ids::{FindingId, StageName};
use vetting_protocol::operator_api::{RunSummary, VerdictView};
use vetting_protocol::outcome::{Outcome, StepState};
use vetting_protocol::run::{RunResult, RunState};

use super::agent::inventory;
use super::*;

/// A run that worked to its end and failed by the heat of a CPU in its last stage alone.
async fn too_hot(lab: &Lab) -> Claimed {
    let claimed = lab.claimed().await;
    let mut records = healthy(&claimed);
    let at = records.len() - 2;
    let last = claimed.response.plan.stages.last().unwrap().work.name();
    records.insert(at, temperature(Some(last), Some(104.5)));
    lab.send(&claimed, 1, records).await;
    let Directive::Finished { result, then, .. } = lab.verdict(&claimed).await else { panic!() };
    assert_eq!((result, then), (RunResult::Fail, AfterRun::Stay));
    claimed
}

async fn verdict(lab: &Lab, run: RunId) -> VerdictView {
    good(lab.operator(Method::GET, &format!("runs/{run}/verdict"))).await
}

/// The only finding that counts against a run and can be waived.
async fn finding(lab: &Lab, run: RunId) -> FindingId {
    let view = verdict(lab, run).await;
    let found: Vec<_> = view.reasons.iter().filter_map(|reason| reason.finding.clone()).collect();
    assert_eq!(found.len(), 1, "{view:#?}");
    found[0].clone()
}

fn waiving(lab: &Lab, run: RunId, finding: &FindingId, by: &str) -> RequestBuilder {
    let body = json!({"finding": finding, "reason": "the sensor is known to be wrong", "by": by});
    lab.operator(Method::POST, &format!("runs/{run}/waivers")).json(&body)
}

fn withdrawing(lab: &Lab, run: RunId, number: i64) -> RequestBuilder {
    let body = json!({"reason": "it was not the sensor", "by": "bob"});
    lab.operator(Method::POST, &format!("runs/{run}/waivers/{number}/withdraw")).json(&body)
}

#[tokio::test]
async fn a_waiver_makes_a_new_report_and_keeps_the_old_one() {
    let lab = Lab::open().await;
    let claimed = too_hot(&lab).await;
    let run = claimed.run;
    let first = std::fs::read(lab.path("artifacts/run-1/report.json")).unwrap();
    let before = verdict(&lab, run).await;
    assert_eq!((before.report_version, before.summary.result), (1, Some(RunResult::Fail)));

    let view: VerdictView = good(waiving(&lab, run, &finding(&lab, run).await, "ada")).await;
    assert_eq!((view.report_version, view.summary.result), (2, Some(RunResult::Pass)), "{view:#?}");
    assert_eq!(view.summary.failed_stage, None);
    assert_eq!(view.waivers.len(), 1);
    assert!(view.waivers[0].found.contains("104.5 °C"), "{view:#?}");
    // nothing holds the machine any more
    assert_eq!(view.summary.state, RunState::Released);
    let Directive::Finished { result, then, .. } = lab.verdict(&claimed).await else { panic!() };
    assert_eq!((result, then), (RunResult::Pass, AfterRun::PowerOff));

    assert_eq!(std::fs::read(lab.path("artifacts/run-1/report.json")).unwrap(), first);
    let detail = lab.detail(run).await;
    let reports: Vec<_> = detail.artifacts.iter().filter(|file| file.kind == "report").collect();
    assert_eq!(reports.len(), 2);
    let newest: Value = good(lab.operator(Method::GET, &format!("runs/{run}/artifacts/report"))).await;
    assert_eq!(newest["verdict"]["result"], json!("pass"));
    assert_eq!(newest["facts"]["run"]["report_version"], json!(2));
    let waiver = &newest["facts"]["waivers"][0];
    assert_eq!((&waiver["by"], &waiver["caller"]), (&json!("ada"), &json!("test")));
    let html = std::fs::read_to_string(lab.path("artifacts/run-1/report-2.html")).unwrap();
    for text in
        ["Waivers", "ada (sent as test)", "the sensor is known to be wrong", "with waivers", "version 2"]
    {
        assert!(html.contains(text), "{text}");
    }
    let kinds: Vec<_> = lab.events().await.into_iter().map(|event| event.kind).collect();
    for kind in ["finding_waived", "judged_again"] {
        assert!(kinds.iter().any(|known| known == kind), "{kinds:?}");
    }
    let events = lab.events().await;
    let data = events.iter().find(|event| event.kind == "finding_waived").unwrap().data.as_ref().unwrap();
    assert_eq!((&data["by"], &data["caller"]), (&json!("ada"), &json!("test")));
}

#[tokio::test]
async fn a_waiver_taken_back_fails_the_run_again_and_outlives_a_restart() {
    let lab = Lab::open().await;
    let run = too_hot(&lab).await.run;
    let finding = finding(&lab, run).await;
    let _: VerdictView = good(waiving(&lab, run, &finding, "ada")).await;
    let lab = lab.restarted().await;
    let view: VerdictView = good(withdrawing(&lab, run, 1)).await;
    assert_eq!((view.report_version, view.summary.result), (3, Some(RunResult::Fail)));
    assert!(view.summary.failed_stage.is_some());
    let withdrawn = view.waivers[0].withdrawn.as_ref().unwrap();
    assert_eq!((withdrawn.by.as_str(), withdrawn.caller.as_deref()), ("bob", Some("test")));
    assert_eq!(view.waivers[0].caller.as_deref(), Some("test"));
    assert_eq!(refused(withdrawing(&lab, run, 1)).await, refusal(404, "not-found"));
    assert_eq!(refused(withdrawing(&lab, run, 2)).await, refusal(404, "not-found"));
    // and may be given again
    let view: VerdictView = good(waiving(&lab, run, &finding, "eve")).await;
    assert_eq!((view.report_version, view.summary.result, view.waivers.len()), (4, Some(RunResult::Pass), 2));
}

#[tokio::test]
async fn of_two_operators_one_waives_and_the_other_is_told() {
    let lab = Lab::open().await;
    let run = too_hot(&lab).await.run;
    let finding = finding(&lab, run).await;
    let send = |by: &'static str| waiving(&lab, run, &finding, by).send();
    let (one, other) = tokio::join!(send("ada"), send("bob"));
    let mut statuses = [one.unwrap().status().as_u16(), other.unwrap().status().as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409]);
    let view = verdict(&lab, run).await;
    assert_eq!((view.waivers.len(), view.report_version), (1, 2));
}

#[tokio::test]
async fn what_was_not_found_or_is_not_over_cannot_be_waived() {
    let lab = Lab::open().await;
    let claimed = lab.claimed().await;
    let run = claimed.run;
    let unknown = "0123456789ab".parse().unwrap();
    assert_eq!(refused(waiving(&lab, run, &unknown, "ada")).await, refusal(409, "not-now"));
    let view = verdict(&lab, run).await;
    assert_eq!((view.report_version, view.reasons.len(), view.summary.result), (0, 0, None));
    lab.send(&claimed, 1, healthy(&claimed)).await;
    lab.verdict(&claimed).await;
    assert_eq!(refused(waiving(&lab, run, &unknown, "ada")).await, refusal(422, "invalid"));
    assert_eq!(refused(waiving(&lab, run, &unknown, " ")).await, refusal(422, "invalid"));
    assert_eq!(refused(waiving(&lab, RunId(9), &unknown, "ada")).await, refusal(404, "not-found"));
    assert_eq!(verdict(&lab, run).await.report_version, 1);
    let bad = json!({"finding": "DEADBEEF", "reason": "x", "by": "ada"});
    let bad = lab.operator(Method::POST, &format!("runs/{run}/waivers")).json(&bad);
    assert_eq!(refused(bad).await, refusal(400, "malformed"));
}

#[tokio::test]
async fn a_stage_that_did_not_pass_by_itself_is_waived_whatever_it_said() {
    for outcome in [Outcome::fail("fan 3 stands still"), Outcome::error("the tool is missing")] {
        let lab = Lab::open().await;
        let claimed = lab.claimed().await;
        let run = claimed.run;
        let mut records = healthy(&claimed);
        let (at, last) = (records.len() - 2, claimed.response.plan.stages.last().unwrap().work.name());
        records[at] = finished(last, outcome.clone());
        lab.send(&claimed, 1, records).await;
        lab.verdict(&claimed).await;
        let found = finding(&lab, run).await;
        let view: VerdictView = good(waiving(&lab, run, &found, "ada")).await;
        assert_eq!(view.summary.result, Some(RunResult::Pass), "{view:#?}");
        assert!(view.waivers[0].found.contains(outcome.reason().unwrap()), "{view:#?}");
        // the stage itself stays what it was
        let stage = lab.detail(run).await.stages.pop().unwrap();
        assert_eq!((stage.name.as_str(), stage.state), (last.as_str(), StepState::Failed));
    }
}

/// What SpecValidate tells of a machine with so much memory.
fn with_less_memory(gib: &str) -> Vec<Record> {
    let stage = StageName::SpecValidate;
    let diff = SpecDiff {
        field: "memory.total_gib".to_owned(),
        expected: Some("32".to_owned()),
        actual: Some(gib.to_owned()),
        severity: Severity::Critical,
    };
    let outcome = Outcome::fail(format!("memory.total_gib: expected 32, found {gib}"));
    vec![started(stage), Record::SpecDiffs { diffs: vec![diff] }, finished(stage, outcome)]
}

/// A run that failed by its spec, and is held.
async fn halted_at_its_spec(lab: &Lab) -> Claimed {
    let claimed = lab.claimed().await;
    let mut records = Vec::new();
    for stage in [StageName::Inventory, StageName::Firmware] {
        records.extend([started(stage), finished(stage, Outcome::Pass)]);
    }
    records.insert(1, inventory("SN1"));
    records.extend(with_less_memory("16"));
    records.push(Record::PipelineFinished { ts_ms: START_MS });
    lab.send(&claimed, 1, records).await;
    lab.verdict(&claimed).await;
    claimed
}

#[tokio::test]
async fn a_run_goes_on_after_its_spec_was_waived_unless_it_differs_in_another_way() {
    let lab = Lab::open().await;
    let claimed = halted_at_its_spec(&lab).await;
    let run = claimed.run;
    let resume = || lab.operator(Method::POST, &format!("runs/{run}/resume")).json(&json!({}));
    let _: VerdictView = good(waiving(&lab, run, &finding(&lab, run).await, "ada")).await;

    // half of what is left is gone
    let _: RunSummary = good(resume()).await;
    let mut records = vec![inventory("SN1")];
    records.extend(with_less_memory("8"));
    lab.send(&claimed, 2, records).await;
    let halted = matches!(lab.verdict(&claimed).await, Directive::HaltPipeline { .. });
    assert!(halted, "a difference that nobody waived");
    lab.send(&claimed, 3, vec![Record::PipelineFinished { ts_ms: START_MS }]).await;
    lab.verdict(&claimed).await;

    let _: RunSummary = good(resume()).await;
    let mut records = vec![inventory("SN1")];
    records.extend(with_less_memory("16"));
    lab.send(&claimed, 4, records).await;
    assert_eq!(lab.verdict(&claimed).await, Directive::Continue);
    let all = healthy(&claimed);
    let spec = all.iter().position(|record| *record == finished(StageName::SpecValidate, Outcome::Pass));
    lab.send(&claimed, 5, all[spec.unwrap() + 1..].to_vec()).await;
    let Directive::Finished { result, .. } = lab.verdict(&claimed).await else { panic!() };
    let detail = lab.detail(run).await;
    assert_eq!(result, RunResult::Pass, "{:?}", detail.reasons);
    let stage = detail.stages.iter().find(|stage| stage.name == "SpecValidate").unwrap();
    assert_eq!((stage.state, &stage.summary["reported"]["outcome"]), (StepState::Passed, &json!("fail")));
    let view = verdict(&lab, run).await;
    let waived = view.remarks.iter().find(|remark| remark.waiver == Some(1)).unwrap();
    assert!(waived.text.contains("expected 32, found 16"), "{view:#?}");
    let report: Value = good(lab.operator(Method::GET, &format!("runs/{run}/artifacts/report"))).await;
    assert_eq!(report["verdict"]["result"], json!("pass"));
    assert_eq!(report["facts"]["waivers"][0]["by"], json!("ada"));
    // it counts again once the waiver is taken back
    let view: VerdictView = good(withdrawing(&lab, run, 1)).await;
    assert_eq!(view.summary.result, Some(RunResult::Fail));
    assert_eq!(view.summary.failed_stage.as_deref(), Some("SpecValidate"));
}

/// A run that goes on after its spec was waived, with what SpecValidate says this time.
async fn looked_again(lab: &Lab, again: Vec<Record>) -> (Claimed, Directive) {
    let claimed = halted_at_its_spec(lab).await;
    let run = claimed.run;
    let _: VerdictView = good(waiving(lab, run, &finding(lab, run).await, "ada")).await;
    let retry = lab.operator(Method::POST, &format!("runs/{run}/resume")).json(&json!({}));
    let _: RunSummary = good(retry).await;
    assert!(lab.detail(run).await.diffs.is_empty(), "what it found before is not there while it looks again");
    let mut records = vec![inventory("SN1"), started(StageName::SpecValidate)];
    records.extend(again);
    lab.send(&claimed, 2, records).await;
    let directive = lab.verdict(&claimed).await;
    (claimed, directive)
}

async fn report(lab: &Lab, run: RunId) -> Value {
    good(lab.operator(Method::GET, &format!("runs/{run}/artifacts/report"))).await
}

#[tokio::test]
async fn a_waived_difference_that_was_not_looked_for_again_explains_no_failure() {
    let lab = Lab::open().await;
    let failed = vec![finished(StageName::SpecValidate, Outcome::fail("memory.total_gib: expected 32"))];
    let (claimed, directive) = looked_again(&lab, failed).await;
    assert!(matches!(directive, Directive::HaltPipeline { .. }), "{directive:?}");
    lab.send(&claimed, 3, vec![Record::PipelineFinished { ts_ms: START_MS }]).await;
    let Directive::Finished { result, .. } = lab.verdict(&claimed).await else { panic!() };
    assert_eq!(result, RunResult::Fail);
    // nor does the report say that there is no difference
    assert_eq!(report(&lab, claimed.run).await["facts"]["diffs"], Value::Null);
}

#[tokio::test]
async fn a_waived_difference_that_is_gone_neither_counts_nor_shows() {
    let lab = Lab::open().await;
    let good_now =
        vec![Record::SpecDiffs { diffs: Vec::new() }, finished(StageName::SpecValidate, Outcome::Pass)];
    let (claimed, directive) = looked_again(&lab, good_now).await;
    assert_eq!(directive, Directive::Continue);
    let all = healthy(&claimed);
    let spec = all.iter().position(|record| *record == finished(StageName::SpecValidate, Outcome::Pass));
    lab.send(&claimed, 3, all[spec.unwrap() + 1..].to_vec()).await;
    let Directive::Finished { result, .. } = lab.verdict(&claimed).await else { panic!() };
    assert_eq!(result, RunResult::Pass);
    assert!(lab.detail(claimed.run).await.diffs.is_empty());
    let report = report(&lab, claimed.run).await;
    assert_eq!(report["facts"]["diffs"], json!([]));
    let stage = &report["facts"]["stages"][2];
    assert_eq!(
        (&stage["name"], stage.get("reported")),
        (&json!("SpecValidate"), None),
        "it passed by itself"
    );
    let view = verdict(&lab, claimed.run).await;
    let of_waivers: Vec<_> = view.remarks.iter().filter(|remark| remark.cause == "waiver").collect();
    assert_eq!(of_waivers.len(), 1, "{view:#?}");
    assert!(of_waivers[0].text.contains("waived what is not found any more"), "{view:#?}");
}

#[tokio::test]
async fn a_run_that_halted_at_its_spec_does_not_pass_by_a_waiver() {
    let lab = Lab::open().await;
    let claimed = halted_at_its_spec(&lab).await;
    let finding = finding(&lab, claimed.run).await;
    let view: VerdictView = good(waiving(&lab, claimed.run, &finding, "ada")).await;
    assert_eq!((view.summary.result, view.summary.state), (Some(RunResult::Fail), RunState::FailedHolding));
    assert_eq!(view.reasons.len(), 1, "{view:#?}");
    assert!(view.reasons[0].text.starts_with("Not finished: SMART"), "{view:#?}");
    let ignored = |lab: &Lab| {
        let store = lab.server.driver.store.clone();
        let run = claimed.run;
        async move {
            store.read(move |connection| crate::store::diffs::list(connection, run)).await.unwrap()[0].ignored
        }
    };
    assert!(ignored(&lab).await);
    let _: VerdictView = good(withdrawing(&lab, claimed.run, 1)).await;
    assert!(!ignored(&lab).await);
    // an aborted run, too, stays what it is
    let release = lab.operator(Method::POST, &format!("runs/{}/release", claimed.run)).json(&json!({}));
    let _: RunSummary = good(release).await;
    let run = lab.start_run("node1").await;
    let abort = lab.operator(Method::POST, &format!("runs/{run}/abort")).json(&json!({}));
    let _: RunSummary = good(abort).await;
    assert_eq!(refused(waiving(&lab, run, &finding, "ada")).await, refusal(409, "not-now"));
}

#[tokio::test]
async fn a_host_removed_meanwhile_takes_its_waivers_along() {
    let lab = Lab::open().await;
    let run = too_hot(&lab).await.run;
    let finding = finding(&lab, run).await;
    let _: VerdictView = good(waiving(&lab, run, &finding, "ada")).await;
    let remove = lab.operator(Method::DELETE, "hosts/node1?with_runs=true").send().await.unwrap();
    assert_eq!(remove.status(), 204);
    assert_eq!(refused(waiving(&lab, run, &finding, "ada")).await, refusal(404, "not-found"));
    assert!(!lab.path("artifacts/run-1").exists());
}
