//! Rules of hosts and models, breaches that count only after a while, and stages that are ended for them.

use reqwest::Method;
use vetting_protocol::agent_api::{Directive, Record};
use vetting_protocol::ids::StageName;
use vetting_protocol::models::{ComponentView, ModelView};
use vetting_protocol::operator_api::{HostView, RunSummary, VerdictView};
use vetting_protocol::outcome::Outcome;
use vetting_protocol::run::RunResult;

use super::*;

fn add_host(lab: &Lab, spec: &str) -> RequestBuilder {
    let body = json!({"name": "node1", "mac": MAC, "expected_spec_yaml": spec});
    lab.operator(Method::POST, "hosts").json(&body)
}

async fn claimed_with(lab: &Lab, spec: &str) -> Claimed {
    let _: HostView = good(add_host(lab, spec)).await;
    let run = lab.start_run("node1").await;
    lab.claim_again(run, BOOT).await
}

/// A healthy pipeline with these temperatures in its last stage.
fn with_temperatures(claimed: &Claimed, celsius: &[f64]) -> Vec<Record> {
    let mut records = healthy(claimed);
    let last = claimed.response.plan.stages.last().unwrap().work.name();
    let at = records.len() - 2;
    for value in celsius.iter().rev() {
        records.insert(at, temperature(Some(last), Some(*value)));
    }
    records
}

async fn judged(lab: &Lab, claimed: &Claimed, celsius: &[f64]) -> VerdictView {
    lab.send(claimed, 1, with_temperatures(claimed, celsius)).await;
    lab.verdict(claimed).await;
    good(lab.operator(Method::GET, &format!("runs/{}/verdict", claimed.run))).await
}

#[tokio::test]
async fn a_glitch_of_a_sensor_is_shown_and_does_not_fail() {
    let lab = Lab::open().await;
    let claimed = lab.claimed().await;
    let view = judged(&lab, &claimed, &[120.0, 50.0]).await;
    assert_eq!(view.summary.result, Some(RunResult::Pass), "{view:#?}");
    let glitch = view.remarks.iter().find(|remark| remark.text.contains("120 °C")).unwrap();
    assert!(glitch.text.ends_with("It came back each time before that counted."), "{glitch:?}");
    assert_eq!(glitch.finding, None);
}

#[tokio::test]
async fn a_stage_that_is_too_hot_is_ended_at_once_also_after_a_restart() {
    let lab = Lab::open().await;
    let claimed = lab.claimed().await;
    let stage = StageName::Inventory;
    let hot = || temperature(Some(stage), Some(101.0));
    let answer = lab.send(&claimed, 1, vec![started(stage), hot()]).await;
    assert_eq!(answer.directive, Directive::Continue);
    let lab = lab.restarted().await;
    let answer = lab.send(&claimed, 2, vec![hot()]).await;
    let Directive::EndStage { stage: ended, reason } = answer.directive else { panic!("{answer:?}") };
    assert_eq!(ended, stage);
    assert_eq!(reason, "temp cpu/0 must be < 95 °C (2 samples in a row count), but was 101 °C");
    let end = finished(stage, Outcome::fail(format!("it was ended early: {reason}")));
    let answer = lab.send(&claimed, 3, vec![end]).await;
    assert!(matches!(answer.directive, Directive::HaltPipeline { .. }), "{answer:?}");
}

#[tokio::test]
async fn a_stage_that_was_too_hot_and_is_run_again_is_not_ended_by_what_was_measured_before() {
    let lab = Lab::open().await;
    let claimed = lab.claimed().await;
    let stage = StageName::Inventory;
    let hot = || temperature(Some(stage), Some(101.0));
    let answer = lab.send(&claimed, 1, vec![started(stage), hot(), hot()]).await;
    assert!(matches!(answer.directive, Directive::EndStage { .. }), "{answer:?}");
    let end = finished(stage, Outcome::fail("too hot"));
    lab.send(&claimed, 2, vec![end, Record::PipelineFinished { ts_ms: START_MS }]).await;
    lab.verdict(&claimed).await;
    let retry = lab.operator(Method::POST, &format!("runs/{}/retry", claimed.run));
    let _: RunSummary = good(retry.json(&json!({"stage": stage}))).await;
    let answer = lab.send(&claimed, 3, vec![started(stage), temperature(Some(stage), Some(50.0))]).await;
    assert_eq!(answer.directive, Directive::Continue);
    // nor by one of its own samples and one from before; nor after a restart, which reads all samples again
    let answer = lab.send(&claimed, 4, vec![hot()]).await;
    assert_eq!(answer.directive, Directive::Continue);
    let lab = lab.restarted().await;
    let answer = lab.send(&claimed, 5, vec![temperature(Some(stage), Some(50.0))]).await;
    assert_eq!(answer.directive, Directive::Continue);
    let answer = lab.send(&claimed, 6, vec![hot(), hot()]).await;
    assert!(matches!(answer.directive, Directive::EndStage { .. }), "{answer:?}");
}

#[tokio::test]
async fn a_host_is_judged_by_rules_of_its_own_and_its_report_says_so() {
    let rule = "kind: temp, key: 'cpu/*', op: lt, severity: critical";
    for (entry, change, celsius, result) in [
        (
            format!("{rule}, threshold: 60, unit: celsius, note: cold aisle"),
            "stricter",
            70.0,
            RunResult::Fail,
        ),
        (
            format!("{rule}, threshold: 110, unit: celsius, samples: 2, note: old rack"),
            "looser",
            100.0,
            RunResult::Pass,
        ),
        (format!("{rule}, disabled: true, note: broken sensor"), "off", 130.0, RunResult::Pass),
    ] {
        let lab = Lab::open().await;
        let claimed = claimed_with(&lab, &format!("{SPEC}thresholds:\n  - {{{entry}}}\n")).await;
        let view = judged(&lab, &claimed, &[celsius, celsius]).await;
        assert_eq!(view.summary.result, Some(result), "{change}: {view:#?}");
        let report: Value =
            good(lab.operator(Method::GET, &format!("runs/{}/artifacts/report", claimed.run))).await;
        let rules = report["facts"]["rules"].as_array().unwrap();
        let own: Vec<_> = rules.iter().filter(|rule| rule["source"] == json!("host_override")).collect();
        assert_eq!(own.len(), 1, "{change}");
        assert_eq!(own[0]["change"]["kind"], json!(change));
        let told = view.remarks.iter().any(|remark| remark.cause == "host_rule");
        assert_eq!(told, change != "stricter", "{view:#?}");
    }
}

#[tokio::test]
async fn a_disk_whose_hours_nobody_knows_does_not_pass_where_the_spec_asks_for_them() {
    let lab = Lab::open().await;
    let disks = "disks: [{count: 2, kind: ssd, power_on_hours: {max: 100}}]\n";
    let claimed = claimed_with(&lab, &format!("{SPEC}{disks}")).await;
    let hours = |disk: &str, value| {
        Record::Measurement(Measurement {
            ts_ms: START_MS,
            stage: Some(StageName::Smart),
            kind: "smart_attr".to_owned(),
            key: format!("{disk}/power_on_hours"),
            value,
            unit: "hours".to_owned(),
        })
    };
    let mut records = healthy(&claimed);
    let smart = records.iter().position(|record| *record == started(StageName::Smart)).unwrap();
    // the pipeline halts there
    records.truncate(smart + 1);
    records.extend([hours("sda", Some(5.0)), hours("sdb", None), finished(StageName::Smart, Outcome::Pass)]);
    records.push(Record::PipelineFinished { ts_ms: START_MS + 2 });
    lab.send(&claimed, 1, records).await;
    lab.verdict(&claimed).await;
    let view: VerdictView = good(lab.operator(Method::GET, &format!("runs/{}/verdict", claimed.run))).await;
    assert_eq!(view.summary.result, Some(RunResult::Fail));
    let told: Vec<&str> = view.reasons.iter().map(|reason| reason.text.as_str()).collect();
    let unknown = |text: &&str| text.contains("sdb/power_on_hours") && text.contains("none had a value");
    assert!(told.iter().any(unknown) && !told.iter().any(|text| text.contains("sda")), "{told:?}");
}

#[tokio::test]
async fn hosts_share_the_spec_of_a_model() {
    let lab = Lab::open().await;
    assert_eq!(refused(add_host(&lab, "model: r640\n")).await, refusal(404, "not-found"));
    let model = |yaml: &str| json!({"name": "r640", "expected_spec_yaml": yaml});
    let bad = lab.operator(Method::POST, "models").json(&model("model: other\n"));
    assert_eq!(refused(bad).await, refusal(422, "spec-invalid"));
    let add =
        || lab.operator(Method::POST, "models").json(&model("cpu: {sockets: 2}\nmemory: {total_gib: 384}\n"));
    let _: ModelView = good(add()).await;
    assert_eq!(refused(add()).await, refusal(409, "taken"));

    let claimed = claimed_with(&lab, "model: r640\nmemory: {total_gib: 192}\n").await;
    let given = &claimed.response.plan.expected_spec_yaml;
    let spec = vetting_judge::spec::Spec::parse(given).unwrap();
    let expected = vetting_judge::spec::Spec::parse("cpu: {sockets: 2}\nmemory: {total_gib: 192}\n").unwrap();
    assert_eq!(spec, expected);
    // an edit is for the runs that are ordered from now on
    let edit = json!({"expected_spec_yaml": "cpu: {sockets: 4}\n"});
    let edited: ModelView = good(lab.operator(Method::PATCH, "models/r640").json(&edit)).await;
    assert_eq!(edited.hosts, ["node1"]);
    let run = claimed.run;
    let job = move |connection: &crate::store::Connection| crate::store::models::of_run(connection, run);
    let kept = lab.server.driver.store.read(job).await.unwrap().unwrap();
    assert_eq!((kept.model.as_deref(), &kept.expected_spec_yaml), (Some("r640"), given));
    assert_eq!(refused(lab.operator(Method::DELETE, "models/r640")).await, refusal(409, "taken"));
    let own = json!({"expected_spec_yaml": SPEC});
    let _: HostView = good(lab.operator(Method::PATCH, "hosts/node1").json(&own)).await;
    assert_eq!(lab.operator(Method::DELETE, "models/r640").send().await.unwrap().status(), 204);
    assert_eq!(refused(lab.operator(Method::GET, "models/r640")).await, refusal(404, "not-found"));
}

#[tokio::test]
async fn a_part_is_followed_by_its_serial_number() {
    let lab = Lab::open().await;
    let claimed = lab.claimed().await;
    let inventory: vetting_protocol::inventory::Inventory =
        serde_json::from_str(include_str!("../../../judge/fixtures/dell-r640.inventory.json")).unwrap();
    let serial = inventory.disks[1].serial.clone().unwrap();
    let mut records = healthy(&claimed);
    records.insert(1, Record::Inventory(Box::new(inventory)));
    lab.send(&claimed, 1, records).await;
    lab.verdict(&claimed).await;
    let path = format!("components/{serial}");
    let places: Vec<ComponentView> = good(lab.operator(Method::GET, &path)).await;
    let places: Vec<_> =
        places.iter().map(|place| (place.kind.as_str(), place.run.host.as_str(), place.run.result)).collect();
    assert_eq!(places, [("disk", "node1", Some(RunResult::Pass))]);
    assert_eq!(refused(lab.operator(Method::GET, "components/none")).await, refusal(404, "not-found"));
    let _: Vec<RunSummary> = good(lab.operator(Method::GET, "runs")).await;
}
