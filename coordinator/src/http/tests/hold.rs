//! Failed machines that are kept up for a person, and how they are let go.

use reqwest::Method;
use vetting_protocol::agent_api::{AfterRun, Directive, HoldReport, PlanAnswer, Record, SshAccess};
use vetting_protocol::ids::StageName;
use vetting_protocol::inventory::Inventory;
use vetting_protocol::operator_api::RunSummary;
use vetting_protocol::outcome::Outcome;
use vetting_protocol::run::{RunResult, RunState};

use super::*;

const HOST_KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB9dG4kjRhQTtWTVzd2t27+t0DEHBPW7iOD23TUiYLio";

/// A run that failed, with its agent alive.
async fn held(lab: &Lab) -> Claimed {
    let claimed = lab.claimed().await;
    let stage = StageName::Inventory;
    let records = vec![
        started(stage),
        finished(stage, Outcome::fail("a DIMM is missing")),
        Record::PipelineFinished { ts_ms: START_MS },
    ];
    lab.send(&claimed, 1, records).await;
    assert_eq!(then(lab, &claimed).await, AfterRun::Stay);
    // the verdict is known a moment before the hold's time is: from here it runs since now, whatever the clock does next
    lab.server.driver.check_deadlines().await.unwrap();
    claimed
}

/// What the agent is told to do with its machine.
async fn then(lab: &Lab, claimed: &Claimed) -> AfterRun {
    let Directive::Finished { then, .. } = lab.verdict(claimed).await else { panic!() };
    then
}

#[tokio::test]
async fn a_held_machine_has_its_address_and_takes_no_new_run_until_it_is_released() {
    let lab = Lab::open().await;
    let claimed = held(&lab).await;
    let detail = lab.detail(claimed.run).await;
    assert_eq!(
        (detail.summary.state, detail.hold_ip.as_deref()),
        (RunState::FailedHolding, Some("127.0.0.1"))
    );
    let again = || lab.operator(Method::POST, "runs").json(&json!({"host": "node1", "profile": "quick"}));
    let problem: Problem = again().send().await.unwrap().json().await.unwrap();
    assert_eq!(problem.status, 409);
    assert!(problem.detail.contains("`run release 1`"), "{}", problem.detail);
    let remove = lab.operator(Method::DELETE, "hosts/node1?with_runs=true");
    assert_eq!(refused(remove).await, refusal(409, "taken"));
    // a person may have switched it off and on: the disk, not the live image
    assert!(lab.script(MAC).await.contains("sanboot"));

    let release = || lab.operator(Method::POST, &format!("runs/{}/release", claimed.run)).json(&json!({}));
    assert_eq!(good::<RunSummary>(release()).await.state, RunState::Released);
    assert_eq!(good::<RunSummary>(release()).await.state, RunState::Released);
    assert_eq!(then(&lab, &claimed).await, AfterRun::PowerOff);
    assert_eq!(lab.detail(claimed.run).await.hold_ip, None);
    let _: RunSummary = good(again()).await;
}

#[tokio::test]
async fn a_machine_nobody_looks_at_is_let_go_also_over_a_restart() {
    let lab = Lab::open().await;
    let claimed = held(&lab).await;
    let limit_ms = i64::try_from(lab.config.hold.limit.as_ms()).unwrap();
    lab.clock.set(START_MS + limit_ms - 1);
    lab.server.driver.check_deadlines().await.unwrap();
    assert_eq!(then(&lab, &claimed).await, AfterRun::Stay);
    let lab = lab.restarted().await;
    lab.clock.set(START_MS + limit_ms);
    lab.server.driver.check_deadlines().await.unwrap();
    assert_eq!(lab.detail(claimed.run).await.summary.state, RunState::Released);
    assert_eq!(then(&lab, &claimed).await, AfterRun::PowerOff);
}

fn order(lab: &Lab, claimed: &Claimed, verb: &str, body: &Value) -> RequestBuilder {
    lab.operator(Method::POST, &format!("runs/{}/{verb}", claimed.run)).json(body)
}

async fn told(lab: &Lab, claimed: &Claimed, access: SshAccess) {
    let report = HoldReport { boot_id: BOOT.to_owned(), access };
    let _: Acknowledgement = good(lab.agent(claimed, Method::POST, "hold").json(&report)).await;
}

#[tokio::test]
async fn a_held_machine_is_entered_with_a_key_that_lasts_as_long_as_the_hold() {
    use std::os::unix::fs::PermissionsExt as _;

    let lab = Lab::open().await;
    let claimed = held(&lab).await;
    let Directive::Finished { hold: Some(order_to_hold), .. } = lab.verdict(&claimed).await else { panic!() };
    let detail = lab.detail(claimed.run).await;
    let key = detail.artifacts.iter().find(|file| file.kind == "hold_key").unwrap();
    let private = std::fs::read_to_string(&key.path).unwrap();
    assert_eq!(std::fs::metadata(&key.path).unwrap().permissions().mode() & 0o777, 0o600);
    let pair = ssh_key::PrivateKey::from_openssh(&private).unwrap();
    assert_eq!(pair.public_key().to_openssh().unwrap(), order_to_hold.authorized_key);
    let served = lab.operator(Method::GET, &format!("runs/{}/artifacts/hold_key", claimed.run));
    assert_eq!(served.send().await.unwrap().text().await.unwrap(), private);

    assert_eq!(detail.hold.unwrap().ssh, None, "the machine has not told yet");
    told(&lab, &claimed, SshAccess::Open { port: 22, host_key: format!("{HOST_KEY} root@live") }).await;
    let ssh = lab.detail(claimed.run).await.hold.unwrap().ssh.unwrap();
    assert_eq!(ssh.known_hosts_line, format!("127.0.0.1 {HOST_KEY}"));
    assert!(ssh.command.contains(&key.path) && ssh.command.ends_with("root@127.0.0.1"), "{}", ssh.command);
    let said = lab.events().await;
    assert!(said.iter().any(|event| event.kind == "hold_open" && event.message.contains(&ssh.command)));
    let secret = private.lines().nth(1).unwrap();
    assert!(!said.iter().any(|event| event.message.contains(secret)));

    let released: RunSummary = good(order(&lab, &claimed, "release", &json!({"then": "reboot"}))).await;
    assert_eq!(released.state, RunState::Released);
    assert_eq!(then(&lab, &claimed).await, AfterRun::Reboot);
    while std::fs::exists(&key.path).unwrap() {
        tokio::task::yield_now().await;
    }
    while lab.detail(claimed.run).await.artifacts.iter().any(|file| file.kind == "hold_key") {}
    assert_eq!(lab.detail(claimed.run).await.hold, None);
}

#[tokio::test]
async fn a_machine_without_a_door_says_why_and_no_nonsense_is_believed() {
    let lab = Lab::open().await;
    let claimed = held(&lab).await;
    let reason = "dropbear is not installed".to_owned();
    told(&lab, &claimed, SshAccess::Closed { reason: reason.clone() }).await;
    assert_eq!(lab.detail(claimed.run).await.hold.unwrap().problem, Some(reason));
    let host_key = "ssh-ed25519 AAAA\n* ssh-ed25519 AAAA".to_owned();
    let report = HoldReport { boot_id: BOOT.to_owned(), access: SshAccess::Open { port: 22, host_key } };
    let nonsense = lab.agent(&claimed, Method::POST, "hold").json(&report);
    assert_eq!(refused(nonsense).await, refusal(422, "invalid"));
    let stays = order(&lab, &claimed, "release", &json!({"then": "stay"}));
    assert_eq!(refused(stays).await, refusal(422, "invalid"));
}

#[tokio::test]
async fn a_key_that_outlived_its_hold_goes_at_the_next_start() {
    let lab = Lab::open().await;
    let claimed = held(&lab).await;
    let key = lab.path(&format!("artifacts/run-{}/hold_key", claimed.run));
    assert!(key.exists());
    let lab = lab
        .restarted_after(|path| crate::store::rival::execute(path, "UPDATE runs SET state = 'Released'"))
        .await;
    assert!(!key.exists());
    assert!(lab.detail(claimed.run).await.artifacts.iter().all(|file| file.kind != "hold_key"));
}

#[tokio::test]
async fn the_end_of_a_hold_is_announced_once() {
    let lab = Lab::open().await;
    let claimed = held(&lab).await;
    let ms = |duration: vetting_judge::duration::HumanDuration| i64::try_from(duration.as_ms()).unwrap();
    let warning_ms = START_MS + ms(lab.config.hold.limit) - ms(lab.config.hold.warning);
    for (at_ms, warnings) in [(warning_ms - 1, 0), (warning_ms, 1), (warning_ms + 1_000, 1)] {
        lab.clock.set(at_ms);
        lab.server.driver.check_deadlines().await.unwrap();
        let told = async || lab.events().await.iter().filter(|event| event.kind == "hold_ending").count();
        // the coordinator's own look at the clock may have been first, and be writing still
        while told().await < warnings {
            tokio::task::yield_now().await;
        }
        assert_eq!(told().await, warnings, "{at_ms}");
    }
    assert_eq!(then(&lab, &claimed).await, AfterRun::Stay);
}

/// What the agent does when its run goes on: it asks for the plan, and tells what the machine is made of now.
async fn planned(lab: &Lab, claimed: &Claimed) -> (u64, Vec<StageName>) {
    assert_eq!(lab.verdict(claimed).await, Directive::Continue);
    let answer: PlanAnswer = good(lab.agent(claimed, Method::POST, "plan").json(&json!({}))).await;
    (answer.acknowledged_sequence, answer.plan.stages.iter().map(|planned| planned.work.name()).collect())
}

fn inventory(disk: &str) -> Record {
    let text = include_str!("../../../judge/fixtures/qemu-q35.inventory.json");
    let mut inventory: Inventory = serde_json::from_str(text).unwrap();
    inventory.disks[0].serial = Some(disk.to_owned());
    Record::Inventory(Box::new(inventory))
}

/// A run in which every stage passed but the last one, where the CPU ran far too hot.
async fn failed_in_the_last_stage(lab: &Lab) -> (Claimed, StageName) {
    let claimed = lab.claimed().await;
    let mut records = healthy(&claimed);
    records.insert(1, inventory("S1"));
    let last = claimed.response.plan.stages.last().unwrap().work.name();
    let end = records.iter().position(|record| *record == finished(last, Outcome::Pass)).unwrap();
    records.insert(end, temperature(Some(last), Some(120.0)));
    lab.send(&claimed, 1, records).await;
    assert_eq!(then(lab, &claimed).await, AfterRun::Stay);
    (claimed, last)
}

#[tokio::test]
async fn one_stage_is_run_again_and_its_earlier_attempt_is_kept_and_decides_no_more() {
    let lab = Lab::open().await;
    let (claimed, last) = failed_in_the_last_stage(&lab).await;
    let before = lab.detail(claimed.run).await;
    assert!(!before.breaches.is_empty());
    let again: RunSummary = good(order(&lab, &claimed, "retry", &json!({"stage": last}))).await;
    assert_eq!((again.state, again.result, again.failed_stage), (RunState::Running, None, None));
    assert_eq!(planned(&lab, &claimed).await, (1, vec![last]));
    let records = vec![
        inventory("S1"),
        started(last),
        temperature(Some(last), Some(50.0)),
        finished(last, Outcome::Pass),
        Record::PipelineFinished { ts_ms: START_MS + 9 },
    ];
    lab.send(&claimed, 2, records).await;
    assert_eq!(then(&lab, &claimed).await, AfterRun::PowerOff);
    let detail = lab.detail(claimed.run).await;
    assert_eq!(detail.summary.result, Some(RunResult::Pass), "{:?}", detail.reasons);
    let [attempt] = detail.attempts.as_slice() else { panic!("{:?}", detail.attempts) };
    assert_eq!((attempt.stage.as_str(), attempt.attempt), (last.as_str(), 1));
    assert!(attempt.reason.as_ref().unwrap().contains("120"), "{attempt:?}");
    assert!(detail.breaches.is_empty(), "{:?}", detail.breaches);
    let report = std::fs::read_to_string(lab.path(&format!("artifacts/run-{}/report-2.json", claimed.run)));
    assert!(report.unwrap().contains("was run again; attempt 1 failed"));
}

#[tokio::test]
async fn the_new_attempt_is_judged_alone_also_after_a_restart_in_its_middle() {
    let lab = Lab::open().await;
    let (claimed, last) = failed_in_the_last_stage(&lab).await;
    let _: RunSummary = good(order(&lab, &claimed, "retry", &json!({"stage": last}))).await;
    let lab = lab.restarted().await;
    let hot = vec![inventory("S1"), started(last), temperature(Some(last), Some(121.0))];
    lab.send(&claimed, 2, hot).await;
    let lab = lab.restarted().await;
    let over = vec![finished(last, Outcome::Pass), Record::PipelineFinished { ts_ms: START_MS + 9 }];
    lab.send(&claimed, 3, over).await;
    assert_eq!(then(&lab, &claimed).await, AfterRun::Stay);
    let reasons = lab.detail(claimed.run).await.reasons.join(" ");
    assert!(reasons.contains("121") && !reasons.contains("120"), "{reasons}");
}

#[tokio::test]
async fn a_machine_with_another_disk_does_not_pass_on_what_the_old_one_passed() {
    for (records, word) in [(vec![inventory("S2")], "disk S2"), (Vec::new(), "no inventory")] {
        let lab = Lab::open().await;
        let (claimed, last) = failed_in_the_last_stage(&lab).await;
        let _: RunSummary = good(order(&lab, &claimed, "retry", &json!({"stage": last}))).await;
        let mut records = records;
        records.extend([
            started(last),
            temperature(Some(last), Some(50.0)),
            finished(last, Outcome::Pass),
            Record::PipelineFinished { ts_ms: START_MS + 9 },
        ]);
        lab.send(&claimed, 2, records).await;
        assert_eq!(then(&lab, &claimed).await, AfterRun::Stay);
        let reasons = lab.detail(claimed.run).await.reasons.join(" ");
        assert!(reasons.contains(word), "{reasons}");
    }
}

#[tokio::test]
async fn a_run_goes_on_with_all_that_did_not_pass() {
    let lab = Lab::open().await;
    let claimed = held(&lab).await;
    let everything: Vec<_> = claimed.response.plan.stages.iter().map(|planned| planned.work.name()).collect();
    let _: RunSummary = good(order(&lab, &claimed, "resume", &json!({}))).await;
    assert_eq!(planned(&lab, &claimed).await, (1, everything));
    let mut records = healthy(&claimed);
    records.insert(1, inventory("S1"));
    lab.send(&claimed, 2, records).await;
    assert_eq!(then(&lab, &claimed).await, AfterRun::PowerOff);
    assert_eq!(lab.detail(claimed.run).await.summary.result, Some(RunResult::Pass));
    // what passed is not gone on with
    assert_eq!(refused(order(&lab, &claimed, "resume", &json!({}))).await, refusal(422, "invalid"));
}

#[tokio::test]
async fn a_machine_that_fell_silent_is_booted_anew_to_go_on() {
    let lab = Lab::open().await;
    let claimed = lab.claimed().await;
    let (first, second) = (StageName::Inventory, StageName::Firmware);
    let records = vec![started(first), inventory("S1"), finished(first, Outcome::Pass), started(second)];
    lab.send(&claimed, 1, records).await;
    let silence_ms = i64::try_from(lab.config.timeouts.silence.as_ms()).unwrap();
    lab.clock.set(START_MS + silence_ms);
    lab.server.driver.check_deadlines().await.unwrap();
    assert_eq!(lab.over(claimed.run).await.summary.state, RunState::Completed);
    let retry = order(&lab, &claimed, "retry", &json!({"stage": second}));
    assert_eq!(refused(retry).await, refusal(409, "not-now"));

    let resumed: RunSummary = good(order(&lab, &claimed, "resume", &json!({}))).await;
    assert_eq!((resumed.state, resumed.result), (RunState::Waking, None));
    let back = lab.claim_again(claimed.run, "another-boot").await;
    let left: Vec<_> = back.response.plan.stages.iter().map(|planned| planned.work.name()).collect();
    assert!(!left.contains(&first) && left.first() == Some(&second), "{left:?}");
    assert_eq!(lab.detail(claimed.run).await.attempts.len(), 1);
}

#[tokio::test]
async fn nothing_is_taken_up_that_goes_on_or_is_not_there() {
    let lab = Lab::open().await;
    let claimed = lab.claimed().await;
    for (verb, body) in [("retry", json!({"stage": "Storage"})), ("resume", json!({}))] {
        assert_eq!(refused(order(&lab, &claimed, verb, &body)).await, refusal(409, "not-now"), "{verb}");
    }
    let lab = Lab::open().await;
    let claimed = held(&lab).await;
    let unknown = order(&lab, &claimed, "retry", &json!({"stage": "Nonsense"}));
    assert_eq!(refused(unknown).await, refusal(400, "malformed"));
    let _: RunSummary = good(order(&lab, &claimed, "release", &json!({}))).await;
    for (verb, body) in [("retry", json!({"stage": "Inventory"})), ("resume", json!({}))] {
        assert_eq!(refused(order(&lab, &claimed, verb, &body)).await, refusal(409, "not-now"), "{verb}");
    }
}
