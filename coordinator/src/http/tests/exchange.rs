//! Lists of hosts, and samples for other programs.

use vetting_protocol::exchange::{HostImportView, SampleView};
use vetting_protocol::operator_api::HostView;

use super::*;

fn import(lab: &Lab, text: &str, more: &Value) -> RequestBuilder {
    let mut body = json!({"format": "csv", "text": text});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    lab.operator(Method::POST, "host-imports").json(&body)
}

async fn names(lab: &Lab) -> Vec<String> {
    let hosts: Vec<HostView> = good(lab.operator(Method::GET, "hosts")).await;
    hosts.into_iter().map(|host| host.name).collect()
}

async fn problem(request: RequestBuilder) -> Problem {
    request.send().await.unwrap().json().await.unwrap()
}

#[tokio::test]
async fn a_list_is_registered_whole_or_not_at_all() {
    const LIST: &str = "name,mac,spec,burn_watts,further_macs\n\
        r1,52:54:00:ab:cd:02,memory: {total_gib: 1},650,52:54:00:ab:cd:12\n\
        node1,52:54:00:ab:cd:03,memory: {total_gib: 1},,\n\
        r3,52:54:00:ab:cd:01,memory: {total_gib: 1},,\n\
        r4,52:54:00:ab:cd:04,model: r640,,\n";
    let lab = Lab::open().await;
    lab.add_host("node1", MAC).await;
    let refused = problem(import(&lab, LIST, &json!({}))).await;
    assert_eq!(refused.status, 422);
    for line in [
        "3 mistakes",
        "line 3, column 1: name: a host named node1 exists already",
        "line 4, column 2: mac: host node1 has the MAC address 52:54:00:ab:cd:01 already",
        "line 5, column 1: model: ",
    ] {
        assert!(refused.detail.contains(line), "`{line}` is in {}", refused.detail);
    }
    assert_eq!(names(&lab).await, ["node1"]);

    let two = LIST.lines().take(3).collect::<Vec<_>>().join("\n");
    let options = json!({"skip_existing": true, "dry_run": true});
    let tried: HostImportView = good(import(&lab, &two, &options)).await;
    let expected = ("r1".to_owned(), "node1".to_owned());
    assert_eq!((tried.dry_run, &tried.added[0], &tried.existing[0]), (true, &expected.0, &expected.1));
    assert_eq!(names(&lab).await, ["node1"], "it was only tried");
    let done: HostImportView = good(import(&lab, &two, &json!({"skip_existing": true}))).await;
    assert_eq!((done.added.len(), done.existing.len()), (1, 1));
    let host: HostView = good(lab.operator(Method::GET, "hosts/r1")).await;
    assert_eq!((host.burn_watts, host.further_macs.len()), (Some(650), 1));
    let said = lab.events().await;
    assert!(said.iter().any(|event| event.kind == "host_added" && event.message == "test imported host r1"));
}

#[tokio::test]
async fn samples_come_page_by_page() {
    let lab = Lab::open().await;
    let claimed = lab.claimed().await;
    let stage = StageName::Inventory;
    let records = vec![started(stage), temperature(Some(stage), Some(41.0)), temperature(None, None)];
    lab.send(&claimed, 1, records).await;
    let page = |after: i64| {
        let path = format!("runs/{}/measurements?after={after}&limit=1", claimed.run);
        lab.operator(Method::GET, &path)
    };
    let first: Vec<SampleView> = good(page(0)).await;
    assert_eq!((first[0].stage.as_deref(), first[0].value, first.len()), (Some("Inventory"), Some(41.0), 1));
    let second: Vec<SampleView> = good(page(first[0].id)).await;
    assert_eq!((second[0].stage.as_deref(), second[0].value), (None, None));
    assert_eq!(good::<Vec<SampleView>>(page(second[0].id)).await, []);
    assert_eq!(refused(lab.operator(Method::GET, "runs/99/measurements")).await, refusal(404, "not-found"));
}
