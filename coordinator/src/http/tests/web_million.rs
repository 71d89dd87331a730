//! The page of a run with a million samples, beside that of a run with a few. Not of `make test`: to be run by hand, in a
//! release build, where the question is how long it takes.

use reqwest::Method;

use super::web::Browser;
use super::*;
use crate::store::measurements::{self, EvaluationValues, MeasurementValues};
use crate::store::{StoreError, thresholds};

const SENSORS: usize = 60;
const ROUNDS: usize = 16_667;
/// Samples of a transaction, about.
const AT_A_TIME: usize = 1_000;

/// Kinds as a server has them.
fn kind_of(sensor: usize) -> (&'static str, &'static str) {
    match sensor % 6 {
        0 | 1 => ("temp", "celsius"),
        2 => ("fan", "rpm"),
        3 => ("power", "watts"),
        4 => ("cpu_freq", "mhz"),
        _ => ("volt", "volts"),
    }
}

/// A day of sixty sensors, a third of the samples judged, one in ten thousand of those a breach.
async fn a_day_of_samples(lab: &Lab, run: RunId, rounds: usize) {
    for first in (0..rounds).step_by(AT_A_TIME) {
        let written: Result<(), StoreError> = lab
            .server
            .driver
            .store
            .write(move |connection| {
                let rule = thresholds::list(connection, run)?.remove(0).id;
                let (mut samples, mut evaluations) = (Vec::new(), Vec::new());
                for (round, sensor) in (first..(first + AT_A_TIME).min(rounds))
                    .flat_map(|round| (0..SENSORS).map(move |sensor| (round, sensor)))
                {
                    let (kind, unit) = kind_of(sensor);
                    let (ts_ms, key) =
                        (START_MS + 5_000 * i64::try_from(round).unwrap(), format!("sensor/{sensor}"));
                    let value = 50.0 + ((round * 7 + sensor * 13) % 41) as f64;
                    if sensor % 3 == 0 {
                        evaluations.push(EvaluationValues {
                            threshold_id: rule,
                            stage_name: "CPUStress".to_owned(),
                            kind: kind.to_owned(),
                            key: key.clone(),
                            ts_ms,
                            observed: value,
                            passed: !(round * SENSORS + sensor).is_multiple_of(10_000),
                        });
                    }
                    let (kind, unit) = (kind.to_owned(), unit.to_owned());
                    samples.push(MeasurementValues {
                        stage_id: None,
                        ts_ms,
                        kind,
                        key,
                        value: Some(value),
                        unit,
                    });
                }
                measurements::insert(connection, run, &samples)?;
                measurements::insert_evaluations(connection, run, &evaluations)
            })
            .await;
        written.unwrap();
    }
}

#[tokio::test]
#[ignore = "tells how long something takes; by hand"]
async fn the_page_of_a_run_with_a_million_samples_beside_one_with_few() {
    let lab = Lab::open().await;
    lab.add_user("alice", "viewer").await;
    let mut runs = Vec::new();
    for (name, mac, rounds) in [("few", "52:54:00:ab:cd:02", 10), ("many", MAC, ROUNDS)] {
        lab.add_host(name, mac).await;
        let run = lab.start_run(name).await;
        a_day_of_samples(&lab, run, rounds).await;
        runs.push(run);
    }
    let mut browser = Browser::of(&lab);
    browser.log_in("alice").await;
    let steady = Clock::system();
    for run in &runs {
        let path = format!("/runs/{run}");
        let mut took_ms = Vec::new();
        let mut page = String::new();
        for _ in 0..5 {
            let begun_ms = steady.steady_ms();
            page = browser.get(&path).await.text;
            took_ms.push(steady.steady_ms() - begun_ms);
        }
        let begun_ms = steady.steady_ms();
        let mut stream = browser.request(Method::GET, &format!("/live{path}")).send().await.unwrap();
        let mut live = String::new();
        while !live.contains("<svg") {
            live += std::str::from_utf8(&stream.chunk().await.unwrap().unwrap()).unwrap();
        }
        let live_ms = steady.steady_ms() - begun_ms;
        let begun_ms = steady.steady_ms();
        let detail = lab.detail(*run).await;
        println!(
            "{} samples: page {took_ms:?} ms ({} KiB), followed with charts after {live_ms} ms, by the API {} ms",
            detail.measurement_count,
            page.len() / 1024,
            steady.steady_ms() - begun_ms
        );
        assert!(!detail.breaches.is_empty());
    }
}
