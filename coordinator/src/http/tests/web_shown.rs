//! What lists of the web page show: filters, and machines of one model side by side.

use vetting_protocol::run::{RunResult, RunState};

use super::web::{Browser, with_people};
use super::*;
use crate::store::StoreError;
use crate::store::components::{self, MetricRow};
use crate::store::runs::{self, RunChange};

impl Lab {
    /// Has a run end so, whatever the machine did.
    async fn ends(&self, run: RunId, state: RunState, result: Option<RunResult>) {
        let change = RunChange { result, completed_at_ms: Some(START_MS), ..RunChange::to(state, START_MS) };
        let done: Result<(), StoreError> =
            self.server.driver.store.write(move |connection| runs::set_state(connection, run, &change)).await;
        done.unwrap();
    }
}

/// The machines that a list has, in its order.
fn names_in(list: &str) -> Vec<&str> {
    let links = list.split("<a ").skip(1).filter_map(|link| Some(link.split_once('>')?.1.split_once('<')?.0));
    links.filter(|text| text.starts_with("node-")).collect()
}

/// What is between two marks.
fn between<'a>(page: &'a str, begin: &str, end: &str) -> &'a str {
    let Some((_, rest)) = page.split_once(begin) else { return "" };
    rest.split_once(end).map_or(rest, |(list, _)| list)
}

#[tokio::test]
async fn the_filters_of_dashboard_and_list_show_each_machine_where_it_is() {
    let (lab, browser) = with_people().await;
    let ends = [
        ("active", None),
        ("held", Some((RunState::FailedHolding, Some(RunResult::Fail)))),
        ("failed", Some((RunState::Released, Some(RunResult::Fail)))),
        ("passed", Some((RunState::Completed, Some(RunResult::Pass)))),
        ("aborted", Some((RunState::Aborted, None))),
    ];
    lab.add_host("node-never", "52:54:00:ab:cd:00").await;
    for (number, (word, end)) in ends.into_iter().enumerate() {
        let name = format!("node-{word}");
        lab.add_host(&name, &format!("52:54:00:ab:cd:1{number}")).await;
        let run = lab.start_run(&name).await;
        if let Some((state, result)) = end {
            lab.ends(run, state, result).await;
        }
    }
    let tiles = |page: &str| names_in(between(page, "<ol class=\"tiles\"", "</ol>")).join(" ");
    let rows = |page: &str| names_in(between(page, "<table class=\"hosts\"", "</table>")).join(" ");
    let all = "node-aborted node-active node-failed node-held node-never node-passed";
    for word in ["active", "held", "failed", "passed", "aborted", "never"] {
        let name = format!("node-{word}");
        let page = browser.get(&format!("/?show={word}")).await.text;
        assert_eq!(tiles(&page), name, "/?show={word}");
        assert!(page.contains(&format!("data-live=\"/live/dashboard?show={word}\"")), "{page}");
        assert_eq!(rows(&browser.get(&format!("/hosts?show={word}")).await.text), name, "/hosts?show={word}");
        // with a search as well
        assert_eq!(rows(&browser.get(&format!("/hosts?show={word}&q=NODE")).await.text), name);
        assert_eq!(rows(&browser.get(&format!("/hosts?show={word}&q=other")).await.text), "");
    }
    for word in ["", "nonsense"] {
        assert_eq!(tiles(&browser.get(&format!("/?show={word}")).await.text), all);
        assert_eq!(rows(&browser.get(&format!("/hosts?show={word}")).await.text), all);
    }
    // the counts above lead there
    let page = browser.get("/").await.text;
    for word in ["active", "held", "failed", "passed", "aborted", "never"] {
        assert!(page.contains(&format!("<a href=\"/?show={word}\">")), "{word}");
    }
}

#[tokio::test]
async fn machines_of_a_model_stand_side_by_side_and_what_is_far_is_marked() {
    let (lab, browser) = with_people().await;
    let model = json!({"name": "r640", "expected_spec_yaml": SPEC});
    let _: Value = good(lab.operator(Method::POST, "models").json(&model)).await;
    let temperatures = [50.0, 51.0, 95.0, 52.0, 50.0, 51.0, 52.0];
    for (number, celsius) in temperatures.into_iter().enumerate() {
        let name = format!("node-{number}");
        let mac = format!("52:54:00:ab:cd:2{number}");
        let host = json!({"name": name, "mac": mac, "expected_spec_yaml": "model: r640\n"});
        let _: Value = good(lab.operator(Method::POST, "hosts").json(&host)).await;
        let run = lab.start_run(&name).await;
        lab.ends(run, RunState::Completed, Some(RunResult::Pass)).await;
        let metric = |kind: &str, key: &str, value: f64, unit: &str| MetricRow {
            stage_name: "CPUStress".to_owned(),
            kind: kind.to_owned(),
            key: key.to_owned(),
            value,
            unit: unit.to_owned(),
        };
        let mut metrics = vec![metric("temp", "cpu/0", celsius, "celsius")];
        // one machine has no second fan
        if number != 4 {
            metrics.push(metric("power", "psu/1", 300.0, "watts"));
        }
        let kept: Result<(), StoreError> = lab
            .server
            .driver
            .store
            .write(move |connection| components::keep_metrics(connection, run, &metrics))
            .await;
        kept.unwrap();
    }
    assert!(browser.get("/models").await.text.contains("/models/compare?model=r640\">r640</a>"));
    let page = browser.get("/models/compare?model=r640").await.text;
    let table = between(&page, "<table class=\"compare\"", "</table>");
    assert_eq!(names_in(table).len(), 7, "{table}");
    let cells = |of: &str| {
        let row = table.split("<tr>").find(|row| row.contains(of)).unwrap();
        row.split("<td class=\"num\">").skip(1).map(str::to_owned).collect::<Vec<_>>()
    };
    let hot = cells("cpu/0");
    assert_eq!(hot.len(), 7);
    for (position, cell) in hot.iter().enumerate() {
        assert_eq!(cell.contains("far"), position == 2, "{cell}");
        assert!(cell.starts_with(&format!("{}", temperatures[position])), "{cell}");
    }
    let power = cells("psu/1");
    assert!(power.iter().all(|cell| !cell.contains("far")), "{power:?}");
    assert!(power[4].starts_with("</td>"), "not known is nothing, and no zero: {}", power[4]);
}

#[tokio::test]
async fn log_ins_are_counted_by_address_whatever_the_names() {
    let lab = Lab::open().await;
    lab.add_user("alice", "operator").await;
    let browser = Browser::of(&lab);
    // too long to be hashed: this is about how often
    let long = "x".repeat(1_025);
    for number in 0..30 {
        assert_eq!(browser.try_log_in(&format!("nobody{number}"), &long).await.status(), 401, "{number}");
    }
    let over = browser.try_log_in("alice", users::PASSWORD).await;
    assert_eq!(over.status(), 429, "the right password does not help");
    assert!(over.text().await.unwrap().contains("wait ten minutes"));
    lab.clock.set(START_MS + 10 * 60_000);
    assert_eq!(browser.try_log_in("alice", users::PASSWORD).await.status(), 303);
}
