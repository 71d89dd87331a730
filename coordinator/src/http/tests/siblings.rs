//! A machine against others of its model: what is far from theirs is a remark in its verdict and its report.

use reqwest::Method;
use vetting_judge::siblings::FEWEST;
use vetting_protocol::operator_api::VerdictView;
use vetting_protocol::run::RunResult;

use super::agent::inventory;
use super::*;

/// A run of a machine of the model that its agent has claimed.
async fn claimed_by(lab: &Lab, number: usize) -> Claimed {
    let (name, mac) = (format!("node{number}"), format!("52:54:00:ab:cd:{number:02}"));
    let body = json!({"name": name, "mac": mac, "expected_spec_yaml": "model: r640\n"});
    let _: Value = good(lab.operator(Method::POST, "hosts").json(&body)).await;
    let run = lab.start_run(&name).await;
    let script = lab.script(&mac).await;
    let secret = script.split("vetting.claim=").nth(1).unwrap().split(' ').next().unwrap();
    let secret = Secret::new(secret.to_owned());
    let claim = ClaimRequest { macs: vec![mac.parse().unwrap()], ..Lab::claim_request(run, &secret, BOOT) };
    let response: ClaimResponse = good(lab.claiming(&claim)).await;
    Claimed { run, token: response.token.clone(), response, secret }
}

fn figure(stage: StageName, kind: &str, key: &str, value: f64, unit: &str) -> Record {
    Record::Measurement(Measurement {
        ts_ms: START_MS,
        stage: Some(stage),
        kind: kind.to_owned(),
        key: key.to_owned(),
        value: Some(value),
        unit: unit.to_owned(),
    })
}

/// All is well; the disk was read at these speeds, and the CPUs computed that fast.
fn measured(claimed: &Claimed, bandwidths: &[f64], operations: f64) -> Vec<Record> {
    let mut records = healthy(claimed);
    let mut add = |stage: StageName, record: Record| {
        let end = records.iter().position(|known| *known == finished(stage, Outcome::Pass)).unwrap();
        records.insert(end, record);
    };
    for bandwidth in bandwidths {
        add(
            StageName::Storage,
            figure(StageName::Storage, "fio", "sda/read_bandwidth", *bandwidth, "bytes_per_second"),
        );
    }
    let stress = StageName::CpuStress;
    add(stress, figure(stress, "stress", "cpu/bogo_ops_per_second", operations, "per_second"));
    add(stress, figure(stress, "memory", "bandwidth", 9e10 + operations, "bytes_per_second"));
    records
}

#[tokio::test]
async fn a_machine_that_is_slower_than_its_siblings_is_told_so_and_passes() {
    let lab = Lab::open().await;
    let model = json!({"name": "r640", "expected_spec_yaml": SPEC});
    let _: Value = good(lab.operator(Method::POST, "models").json(&model)).await;
    for number in 1..=FEWEST {
        let claimed = claimed_by(&lab, number).await;
        let wobble = number as f64;
        lab.send(&claimed, 1, measured(&claimed, &[5e8 + wobble * 1e6, 4.9e8], 8_000.0 + wobble)).await;
        lab.verdict(&claimed).await;
        let detail = lab.detail(claimed.run).await;
        assert_eq!(detail.summary.result, Some(RunResult::Pass), "{:?}", detail.reasons);
    }
    // fast once, and slow once; and too hot in an attempt that does not count
    let odd = claimed_by(&lab, FEWEST + 1).await;
    let last = odd.response.plan.stages.last().unwrap().work.name();
    let mut records = measured(&odd, &[5e8, 2e8], 5_000.0);
    let end = records.len() - 2;
    records.insert(end, temperature(Some(last), Some(120.0)));
    records.insert(1, inventory("SN1"));
    lab.send(&odd, 1, records).await;
    lab.verdict(&odd).await;
    let retry = lab.operator(Method::POST, &format!("runs/{}/retry", odd.run)).json(&json!({"stage": last}));
    let _: RunSummary = good(retry).await;
    let again = vec![
        inventory("SN1"),
        started(last),
        temperature(Some(last), Some(50.0)),
        finished(last, Outcome::Pass),
        Record::PipelineFinished { ts_ms: START_MS + 9 },
    ];
    lab.send(&odd, 2, again).await;
    lab.verdict(&odd).await;

    let verdict: VerdictView = good(lab.operator(Method::GET, &format!("runs/{}/verdict", odd.run))).await;
    assert_eq!(verdict.summary.result, Some(RunResult::Pass), "{verdict:#?}");
    let told: Vec<&str> = verdict
        .remarks
        .iter()
        .filter(|remark| remark.cause == "outlier")
        .map(|remark| remark.text.as_str())
        .collect();
    assert_eq!(told.len(), 2, "{verdict:#?}");
    for (text, says) in
        [("fio sda/read_bandwidth", "was only 200"), ("stress cpu/bogo_ops_per_second", "was only 5000")]
    {
        assert!(told.iter().any(|told| told.contains(text) && told.contains(says)), "{says}: {told:?}");
    }
    let report: Value = good(lab.operator(Method::GET, &format!("runs/{}/artifacts/report", odd.run))).await;
    let outliers = report["facts"]["outliers"].as_array().unwrap();
    let keys: Vec<_> = outliers.iter().map(|outlier| outlier["key"].as_str().unwrap()).collect();
    assert_eq!(keys, ["cpu/bogo_ops_per_second", "sda/read_bandwidth"]);
    assert_eq!(outliers[1]["value"], json!(2e8));
    assert_eq!(outliers[1]["siblings"], json!(FEWEST));
    let page = lab.operator(Method::GET, &format!("runs/{}/artifacts/report_html", odd.run));
    let page = page.send().await.unwrap().text().await.unwrap();
    assert!(page.contains("was only 200") && page.contains("unlike its siblings"), "{page}");
}
