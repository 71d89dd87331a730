//! `/metrics` and `/readyz`: who may see them, what they say, and that dashboard and alert rules ask for what is there.

use std::collections::BTreeSet;

use super::*;
use crate::byte_size::ByteSize;
use crate::readiness::Readiness;
use crate::run::driver::Driver;
use crate::store::rival::WriteLock;

const DASHBOARD: &str = include_str!("../../../../docs/monitoring/grafana-dashboard.json");
const ALERTS: &str = include_str!("../../../../docs/monitoring/alerts.yaml");

async fn open(metrics: &str) -> Lab {
    let metrics = metrics.to_owned();
    Lab::open_configured(move |config| {
        config.metrics = Config::parse(&format!("metrics: {metrics}")).unwrap().metrics;
    })
    .await
}

async fn text(request: RequestBuilder) -> String {
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    answer.text().await.unwrap()
}

fn value<'a>(text: &'a str, series: &str) -> &'a str {
    let found = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    found.unwrap_or_else(|| panic!("{series} is not in\n{text}"))
}

#[tokio::test]
async fn a_token_opens_them_over_tls_and_a_network_of_the_config_without_one() {
    let lab = open("{allow: [10.9.8.0/24]}").await;
    assert_eq!(refused(lab.https(Method::GET, "/metrics")).await, refusal(401, "token-missing"));
    assert_eq!(refused(lab.http(Method::GET, "/metrics")).await, refusal(403, "address-refused"));
    let bearer = |request: RequestBuilder| request.bearer_auth(lab.operator.expose());
    assert_eq!(refused(bearer(lab.http(Method::GET, "/metrics"))).await, refusal(403, "address-refused"));
    text(bearer(lab.https(Method::GET, "/metrics"))).await;
    let lab = open("{allow: [127.0.0.0/8]}").await;
    text(lab.https(Method::GET, "/metrics")).await;
    text(lab.http(Method::GET, "/metrics")).await;
}

#[tokio::test]
async fn they_tell_what_happened() {
    let lab = open("{allow: [127.0.0.1], sensors: true}").await;
    let claimed = lab.claimed().await;
    let look = async || text(lab.http(Method::GET, "/metrics")).await;
    lab.send(&claimed, 1, vec![temperature(None, Some(50.0)), temperature(None, Some(61.5))]).await;
    // the same again is acknowledged and not stored
    lab.send(&claimed, 1, vec![temperature(None, Some(99.0))]).await;
    let found = look().await;
    assert_eq!(value(&found, "vetting_samples_ingested_total"), "2");
    assert_eq!(value(&found, "vetting_batches_ingested_total"), "1");
    assert_eq!(value(&found, "vetting_acknowledgement_seconds_count"), "2");
    assert_eq!(value(&found, "vetting_hosts"), "1");
    assert_eq!(value(&found, "vetting_agents_connected{of=\"run\"}"), "1");
    assert_eq!(value(&found, "vetting_runs{state=\"Running\",result=\"none\"}"), "1");
    assert_eq!(value(&found, "vetting_runs{state=\"Completed\",result=\"pass\"}"), "0");
    assert_ne!(value(&found, "vetting_database_bytes{file=\"main\"}"), "0");
    let sensor =
        "vetting_sensor_value{host=\"node1\",run=\"1\",kind=\"temp\",key=\"cpu/0\",unit=\"celsius\"}";
    assert_eq!(value(&found, sensor), "61.5");

    lab.send(&claimed, 2, healthy(&claimed)).await;
    lab.verdict(&claimed).await;
    lab.over(claimed.run).await;
    let found = look().await;
    assert_eq!(value(&found, "vetting_runs{state=\"Completed\",result=\"pass\"}"), "1");
    assert_eq!(value(&found, "vetting_runs{state=\"Running\",result=\"none\"}"), "0");
    assert_eq!(value(&found, "vetting_agents_connected{of=\"run\"}"), "0");
    assert!(!found.contains("vetting_sensor_value{"), "{found}");
}

/// Names that a text with expressions of Prometheus asks for.
fn named(text: &str) -> BTreeSet<String> {
    let word = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    text.split(|letter: char| !word(letter))
        .filter(|name| name.starts_with("vetting_"))
        .map(str::to_owned)
        .collect()
}

#[tokio::test]
async fn dashboard_and_alerts_ask_for_what_is_there() {
    let lab = open("{allow: [127.0.0.1], sensors: true}").await;
    let claimed = lab.claimed().await;
    lab.send(&claimed, 1, vec![temperature(None, Some(50.0))]).await;
    let found = text(lab.http(Method::GET, "/metrics")).await;
    let there = named(&found);
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let alerts: Value = serde_yaml::from_str(ALERTS).unwrap();
    let rules = alerts["groups"][0]["rules"].as_array().unwrap();
    let mut asked = BTreeSet::new();
    for rule in rules {
        assert!(rule["annotations"]["summary"].is_string(), "{rule}");
        asked.extend(named(rule["expr"].as_str().unwrap()));
    }
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            let of_target = named(target["expr"].as_str().unwrap());
            assert!(!of_target.is_empty(), "{panel}");
            asked.extend(of_target);
        }
    }
    let missing: Vec<_> = asked.difference(&there).collect();
    assert!(missing.is_empty(), "not in /metrics: {missing:?}\n{found}");
    // and what is there is looked at by somebody
    let family = |name: &str| name.trim_end_matches("_bucket").trim_end_matches("_total").to_owned();
    let families: BTreeSet<String> = asked.iter().map(|name| family(name)).collect();
    for name in found.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()) {
        let unused = ["vetting_batches_ingested"];
        let name = family(name);
        assert!(families.contains(&name) || unused.contains(&name.as_str()), "{name}");
    }
}

#[tokio::test]
async fn ready_means_that_a_write_is_taken() {
    let impatient =
        StoreOptions { busy_timeout: std::time::Duration::from_millis(1), ..StoreOptions::default() };
    let lab = Lab::open_with(impatient).await;
    let ready = || lab.http(Method::GET, "/readyz");
    let answer = ready().send().await.unwrap();
    assert_eq!((answer.status(), answer.text().await.unwrap().as_str()), (StatusCode::OK, "ready\n"));
    let rival = WriteLock::take(&lab.config.database.path);
    // the answer before is good for two seconds
    assert_eq!(ready().send().await.unwrap().status(), StatusCode::OK);
    lab.clock.set(START_MS + 2_000);
    let problem: Problem = ready().send().await.unwrap().json().await.unwrap();
    assert_eq!((problem.status, problem.kind.as_str()), (503, "about:blank#not-ready"));
    assert!(problem.detail.contains("database"), "{}", problem.detail);
    drop(rival);
    lab.clock.set(START_MS + 4_000);
    assert_eq!(lab.https(Method::GET, "/readyz").send().await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn a_coordinator_without_room_is_not_ready() {
    let lab = Lab::open().await;
    let mut settings = lab.server.driver.settings.clone();
    settings.retention.free_space.refuse = ByteSize(u64::MAX);
    let driver = Driver::new(
        lab.server.driver.store.clone(),
        lab.clock.clone(),
        lab.server.driver.power.clone(),
        lab.server.driver.profiles.clone(),
        settings,
    );
    let (stop, stopping) = tokio::sync::watch::channel(false);
    let readiness = Readiness::new(driver, stopping);
    let obstacles = readiness.obstacles().await;
    assert!(obstacles.len() == 1 && obstacles[0].contains("free_space.refuse"), "{obstacles:?}");
    stop.send(true).unwrap();
    let obstacles = readiness.obstacles().await;
    assert!(obstacles.len() == 1 && obstacles[0].contains("stopped"), "{obstacles:?}");
}
