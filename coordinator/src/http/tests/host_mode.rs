//! Agents on installed systems.

use vetting_protocol::host_mode::{HostDirective, HostHeartbeat, HostInventory, digest, objection};
use vetting_protocol::inventory::Inventory;
use vetting_protocol::operator_api::{HostAgentToken, HostView};
use vetting_protocol::plan::DiskConsent;
use vetting_protocol::run::RunState;

use super::*;

fn inventory(serial: &str) -> Inventory {
    let mut inventory: Inventory =
        serde_json::from_str(include_str!("../../../judge/fixtures/qemu-q35.inventory.json")).unwrap();
    inventory.system.serial = Some(serial.to_owned());
    inventory
}

fn heartbeat(inventory: &Inventory) -> HostHeartbeat {
    HostHeartbeat {
        protocol_version: PROTOCOL_VERSION,
        agent_version: "0".to_owned(),
        boot_id: BOOT.to_owned(),
        inventory_sha256: digest(inventory).unwrap(),
    }
}

struct Agent<'l> {
    lab: &'l Lab,
    token: Secret,
}

impl<'l> Agent<'l> {
    async fn of(lab: &'l Lab, host: &str) -> Self {
        let made: HostAgentToken =
            good(lab.operator(Method::POST, &format!("hosts/{host}/agent-token"))).await;
        Self { lab, token: made.token }
    }

    fn asking(&self, method: Method, what: &str) -> RequestBuilder {
        self.lab.https(method, &format!("/agent/v1/host/{what}")).bearer_auth(self.token.expose())
    }

    async fn beat(&self, inventory: &Inventory) -> HostDirective {
        good(self.asking(Method::POST, "heartbeat").json(&heartbeat(inventory))).await
    }

    async fn tell(&self, inventory: &Inventory) {
        let told = HostInventory { inventory: inventory.clone() };
        let _: Value = good(self.asking(Method::PUT, "inventory").json(&told)).await;
    }
}

async fn order(lab: &Lab) -> RunId {
    let body = json!({"host": "node1", "profile": "deep", "place": "installed_system"});
    good::<RunSummary>(lab.operator(Method::POST, "runs").json(&body)).await.id
}

#[tokio::test]
async fn a_heartbeat_is_seen_and_a_changed_part_is_told() {
    let lab = Lab::open().await;
    lab.add_host("node1", MAC).await;
    let agent = Agent::of(&lab, "node1").await;
    let (first, second) = (inventory("A1"), inventory("B2"));
    let directive = agent.beat(&first).await;
    assert!(directive.send_inventory && directive.run.is_none());
    agent.tell(&first).await;
    assert!(!agent.beat(&first).await.send_inventory);
    let host: HostView = good(lab.operator(Method::GET, "hosts/node1")).await;
    assert_eq!(host.last_seen_at.as_deref(), Some("2023-11-14 22:13:20"));
    let changed = async || {
        let events = lab.events().await.into_iter().filter(|event| event.kind == "inventory_changed");
        events.map(|event| event.message).collect::<Vec<_>>()
    };
    assert_eq!(changed().await, Vec::<String>::new());
    assert!(agent.beat(&second).await.send_inventory);
    agent.tell(&second).await;
    assert_eq!(changed().await.len(), 1);
    assert!(changed().await[0].contains("system A1"), "{:?}", changed().await);
}

#[tokio::test]
async fn only_the_newest_token_is_good_until_it_is_revoked() {
    let lab = Lab::open().await;
    lab.add_host("node1", MAC).await;
    let first = Agent::of(&lab, "node1").await;
    let second = Agent::of(&lab, "node1").await;
    let inventory = inventory("A1");
    let asking =
        |agent: &Agent<'_>| refused(agent.asking(Method::POST, "heartbeat").json(&heartbeat(&inventory)));
    assert_eq!(asking(&first).await, refusal(401, "token-unknown"));
    second.beat(&inventory).await;
    let revoked = lab.operator(Method::DELETE, "hosts/node1/agent-token").send().await.unwrap();
    assert!(revoked.status().is_success());
    assert_eq!(asking(&second).await, refusal(401, "token-unknown"));
    let nobody = lab.https(Method::POST, "/agent/v1/host/heartbeat").json(&heartbeat(&inventory));
    assert_eq!(refused(nobody).await, refusal(401, "token-missing"));
    assert_eq!(
        refused(lab.operator(Method::POST, "hosts/none/agent-token")).await,
        refusal(404, "not-found")
    );
}

#[tokio::test]
async fn a_run_on_the_installed_system_leaves_it_alone_and_says_so() {
    let lab = Lab::open().await;
    lab.add_host("node1", MAC).await;
    let body = json!({"host": "node1", "profile": "deep", "place": "installed_system"});
    let early = lab.operator(Method::POST, "runs").json(&body);
    assert_eq!(refused(early).await, refusal(422, "invalid"), "without an agent nobody would take it");
    let agent = Agent::of(&lab, "node1").await;
    let mut wiping = body.clone();
    wiping["wipe"] = json!(true);
    assert_eq!(refused(lab.operator(Method::POST, "runs").json(&wiping)).await, refusal(422, "invalid"));

    let run = order(&lab).await;
    assert!(lab.power.0.lock().unwrap().is_empty(), "it is on already");
    assert!(
        !lab.script(MAC).await.contains("vetting.claim="),
        "its disk is started, whatever boots meanwhile"
    );
    let offered = agent.beat(&inventory("A1")).await.run.unwrap();
    assert_eq!(offered.run_id, run);
    let request = Lab::claim_request(run, &offered.claim_secret, BOOT);
    let response: ClaimResponse = good(lab.claiming(&request)).await;
    assert_eq!(response.plan.consent, DiskConsent::NonDestructive);
    assert_eq!(objection(&response.plan), None);
    let stages: Vec<_> = response.plan.stages.iter().map(|planned| planned.work.name()).collect();
    assert!(stages.contains(&StageName::Smart) && !stages.contains(&StageName::Memory), "{stages:?}");
    assert!(agent.beat(&inventory("A1")).await.run.is_none(), "it is claimed");

    let claimed = Claimed { run, token: response.token.clone(), response, secret: offered.claim_secret };
    let mut records = healthy(&claimed);
    let last = records.pop().unwrap();
    // the stage Inventory's own fault, so that the run fails
    records.truncate(2);
    records.push(finished(StageName::Inventory, Outcome::fail("broken")));
    records.push(last);
    lab.send(&claimed, 1, records).await;
    let detail = lab.over(run).await;
    assert_eq!(detail.summary.state, RunState::Completed, "an installed system is not held");
    let report = std::fs::read_to_string(lab.path(&format!("artifacts/run-{run}/report.html"))).unwrap();
    assert!(report.contains("no vetting of the whole machine"), "the report says what was left out");
}
