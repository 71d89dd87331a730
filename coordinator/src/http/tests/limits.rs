//! Limits that the machine's hardware gives become rules of the run.

use vetting_protocol::agent_api::{Directive, Record};
use vetting_protocol::ids::StageName;
use vetting_protocol::limit::{Bound, HardwareLimit, LimitGrade};
use vetting_protocol::outcome::Outcome;
use vetting_protocol::run::RunResult;

use super::*;

fn limit(value: f64, observed: f64) -> HardwareLimit {
    HardwareLimit {
        kind: "temp".to_owned(),
        key: "cpu/0".to_owned(),
        bound: Bound::Upper,
        grade: LimitGrade::Critical,
        value,
        unit: "celsius".to_owned(),
        origin: "/sys/class/hwmon/hwmon0/temp1_crit".to_owned(),
        observed: Some(observed),
        asserted: Some(observed >= value),
    }
}

fn given(limits: Vec<HardwareLimit>) -> Record {
    Record::HardwareLimits { limits }
}

const STAGE: StageName = StageName::Inventory;

#[tokio::test]
async fn beyond_a_limit_of_the_hardware_the_stage_fails_and_says_whose_limit_it_is() {
    let lab = Lab::open().await;
    let claimed = lab.claimed().await;
    lab.send(&claimed, 1, vec![given(vec![limit(80.0, 40.0)]), started(STAGE)]).await;
    // within the profile's 95 °C
    lab.send(&claimed, 2, vec![temperature(Some(STAGE), Some(81.0))]).await;
    // what the rules said must come back from the database
    let lab = lab.restarted().await;
    let answer = lab.send(&claimed, 3, vec![finished(STAGE, Outcome::Pass)]).await;
    assert!(matches!(answer.directive, Directive::HaltPipeline { .. }), "{answer:?}");
    lab.send(&claimed, 4, vec![Record::PipelineFinished { ts_ms: START_MS }]).await;
    let Directive::Finished { result, reasons, .. } = lab.verdict(&claimed).await else { panic!() };
    assert_eq!(result, RunResult::Fail);
    let expected = "temp cpu/0 must be < 80 °C (2 samples in a row count) (the limit that the hardware gives), but was 81 °C";
    assert!(reasons.iter().any(|reason| reason.contains(expected)), "{reasons:?}");
    let breaches = lab.detail(claimed.run).await.breaches;
    assert_eq!((breaches.len(), &*breaches[0].key, breaches[0].worst), (1, "cpu/0", 81.0));
}

#[tokio::test]
async fn the_hardwares_limit_takes_the_place_of_the_profiles_fallback() {
    let lab = Lab::open().await;
    let claimed = lab.claimed().await;
    let mut records = vec![given(vec![limit(105.0, 40.0)])];
    for record in healthy(&claimed) {
        let is_sample = matches!(record, Record::Measurement(_));
        records.push(record);
        if is_sample {
            let Some(Record::Measurement(sample)) = records.last().cloned() else { panic!() };
            records.push(Record::Measurement(Measurement { value: Some(97.0), ..sample }));
        }
    }
    lab.send(&claimed, 1, records).await;
    lab.verdict(&claimed).await;
    let detail = lab.detail(claimed.run).await;
    assert_eq!(detail.summary.result, Some(RunResult::Pass));
    // the fallback that only warns is of another severity, and stays
    assert!(detail.breaches.iter().all(|breach| breach.rule == "must be < 90 °C"), "{:?}", detail.breaches);
}

#[tokio::test]
async fn a_limit_that_cannot_be_believed_judges_nothing_and_is_told() {
    let lab = Lab::open().await;
    let claimed = lab.claimed().await;
    let unset = HardwareLimit { asserted: None, ..limit(30.0, 40.0) };
    let mut records = vec![given(vec![limit(0.0, 40.0), limit(255.0, 40.0), unset.clone()])];
    records.extend(healthy(&claimed));
    records.insert(1, given(vec![unset]));
    lab.send(&claimed, 1, records).await;
    lab.verdict(&claimed).await;
    assert_eq!(lab.detail(claimed.run).await.summary.result, Some(RunResult::Pass));
    let events = lab.events().await;
    let told: Vec<&str> = events
        .iter()
        .filter(|event| event.kind == "hardware_limit_ignored")
        .map(|event| &*event.message)
        .collect();
    assert_eq!(told.len(), 1, "{told:?}");
    for part in ["0 °C", "255 °C", "the sensor said 40 °C", "temp1_crit"] {
        assert!(told[0].contains(part), "{part} in {told:?}");
    }
}
