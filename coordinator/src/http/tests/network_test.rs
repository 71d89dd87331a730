//! Servers for network tests: who may ask for one, and what is answered.

use serde_json::json;
use vetting_protocol::network_test::NetworkTestAnswer;

use super::*;

fn asking(lab: &Lab, claimed: &Claimed) -> RequestBuilder {
    lab.agent(claimed, Method::POST, "network-test").json(&json!({"duration_ms": 1_000}))
}

#[tokio::test]
async fn a_coordinator_that_offers_no_test_says_so() {
    let lab = Lab::open().await;
    let claimed = lab.claimed().await;
    let answer: NetworkTestAnswer = good(asking(&lab, &claimed)).await;
    assert_eq!(answer, NetworkTestAnswer::SwitchedOff {});
}

#[tokio::test]
async fn only_a_run_under_way_may_ask() {
    let lab = Lab::open().await;
    let claimed = lab.claimed().await;
    let strange = Claimed {
        run: claimed.run,
        token: Secret::new("x".to_owned()),
        response: claimed.response.clone(),
        secret: claimed.secret.clone(),
    };
    assert_eq!(refused(asking(&lab, &strange)).await, refusal(401, "token-unknown"));
    let over = lab.operator(Method::POST, &format!("runs/{}/abort", claimed.run)).send().await.unwrap();
    assert!(over.status().is_success());
    lab.over(claimed.run).await;
    let (status, _) = refused(asking(&lab, &claimed)).await;
    assert!([401, 409].contains(&status), "{status}");
}

#[tokio::test]
async fn nonsense_is_refused() {
    let lab = Lab::open().await;
    let claimed = lab.claimed().await;
    let request = lab.agent(&claimed, Method::POST, "network-test").json(&json!({"duration_ms": -1}));
    let (status, _) = refused(request).await;
    assert!([400, 422].contains(&status), "{status}");
}
