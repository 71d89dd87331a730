//! Machines that come back from a planned reboot by their power; it is switched by a program that writes down what it is told.

use std::os::unix::fs::PermissionsExt as _;

use vetting_judge::memtest::outcome;
use vetting_protocol::memtest::MemtestEnd;
use vetting_protocol::plan::{PowerCut, RebootMade};
use vetting_protocol::run::RunState;

use super::*;

const AGAIN: &str = "6f1c0a52-0000-4000-8000-000000000002";
const STRIP: &str = "#!/bin/sh\ncd \"$(dirname \"$0\")\" || exit 1\n\
    [ \"$1\" = status ] && { cat state; exit; }\n\
    [ -e stuck ] && { echo 'the relay is stuck' >&2; exit 7; }\necho $1 >> calls\necho $1 > state\n";

/// A machine on an outlet, in stage `stage` of a deep run.
struct Bench {
    lab: Lab,
    folder: TempDir,
    run: RunId,
    claimed: Claimed,
}

impl Bench {
    async fn at(stage: StageName) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("strip");
        std::fs::write(&script, STRIP).unwrap();
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::write(folder.path().join("state"), "on\n").unwrap();
        let hooks = json!({"strip": {"command": [script, "{action}"]}});
        let text = format!("power: {{off_pause: 0s, shutdown_wait: 0s, hooks: {hooks}}}\n");
        let power = Config::parse(&text).unwrap().power;
        let lab = Lab::open_configured(|config| {
            config.power = crate::config::PowerConfig { secrets: config.power.secrets.clone(), ..power };
        })
        .await;
        std::fs::create_dir(lab.config.image.dir.join("netboot")).unwrap();
        std::fs::write(lab.config.image.dir.join("netboot/memtest86+x64.bin"), "memtest").unwrap();
        lab.add_host("node1", MAC).await;
        let outlet = json!({"via": "hook", "hook": "strip"});
        let answer = lab.operator(Method::PUT, "hosts/node1/pdu").json(&outlet).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::NO_CONTENT);
        let order = lab.operator(Method::POST, "runs").json(&json!({"host": "node1", "profile": "deep"}));
        let run = good::<RunSummary>(order).await.id;
        let claimed = lab.claim_again(run, BOOT).await;
        assert!(claimed.response.plan.power_control);
        lab.send(&claimed, 1, vec![started(stage)]).await;
        Self { lab, folder, run, claimed }
    }

    async fn announce(&self, stage: StageName, target: BootTarget, budget_ms: u64) {
        let planned = Record::RebootPlanned { stage, target, budget_ms, reason: "a test".to_owned() };
        self.lab.send(&self.claimed, 2, vec![planned]).await;
        assert_eq!(self.lab.detail(self.run).await.summary.state, RunState::Rebooting);
    }

    fn calls(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.folder.path().join("calls")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    async fn told(&self, calls: &[&str]) {
        while self.calls().len() < calls.len() {
            tokio::task::yield_now().await;
        }
        assert_eq!(self.calls(), calls);
    }

    /// The events about its power, once there is one.
    async fn power_events(&self) -> Vec<String> {
        loop {
            let events = self.lab.events().await;
            let told = events.into_iter().filter(|event| event.kind == "power_cut");
            let told: Vec<String> = told.map(|event| event.message).collect();
            if !told.is_empty() {
                return told;
            }
        }
    }

    /// The machine is back: what its agent is told of its reboot.
    async fn back(&self) -> (Claimed, RebootMade) {
        let claimed = self.lab.claim_again(self.run, AGAIN).await;
        let mut reboots = claimed.response.plan.resumed.clone().unwrap().reboots;
        assert_eq!(reboots.len(), 1);
        (claimed, reboots.remove(0))
    }
}

#[tokio::test]
async fn a_cold_start_is_seen_off_and_then_switched_on() {
    let bench = Bench::at(StageName::Reboot).await;
    bench.announce(StageName::Reboot, BootTarget::LinuxCold, 0).await;
    bench.told(&["off", "on"]).await;
    assert!(bench.power_events().await[0].contains("off for its cold start"));
    let (_, made) = bench.back().await;
    assert_eq!((made.target, made.power), (BootTarget::LinuxCold, Some(PowerCut::Off)));
}

#[tokio::test]
async fn a_machine_that_was_seen_off_is_switched_on_by_the_next_coordinator() {
    let mut bench = Bench::at(StageName::Reboot).await;
    std::fs::write(bench.folder.path().join("stuck"), "").unwrap();
    std::fs::write(bench.folder.path().join("state"), "off\n").unwrap();
    bench.announce(StageName::Reboot, BootTarget::LinuxCold, 0).await;
    assert!(bench.power_events().await[0].contains("off for its cold start"));
    std::fs::remove_file(bench.folder.path().join("stuck")).unwrap();
    bench.lab = bench.lab.restarted().await;
    bench.told(&["on"]).await;
    assert_eq!(bench.back().await.1.power, Some(PowerCut::Off));
}

#[tokio::test]
async fn power_that_cannot_be_switched_is_told_once_and_the_agent_learns_it() {
    let bench = Bench::at(StageName::Reboot).await;
    std::fs::write(bench.folder.path().join("stuck"), "").unwrap();
    bench.announce(StageName::Reboot, BootTarget::LinuxCold, 0).await;
    assert!(bench.power_events().await[0].contains("the relay is stuck"));
    // it came back by itself
    let (_, made) = bench.back().await;
    assert!(matches!(made.power, Some(PowerCut::Failed { why }) if why.contains("the relay is stuck")));
}

#[tokio::test]
async fn a_machine_that_memtest_does_not_let_go_is_cycled_after_its_time_and_that_is_no_pass() {
    let bench = Bench::at(StageName::Memtest).await;
    bench.announce(StageName::Memtest, BootTarget::Memtest, 3_600_000).await;
    let script = bench.lab.script(MAC).await;
    assert!(script.contains("/boot/files/memtest.bin") && script.contains("unwatched"), "{script}");
    let limit_ms = 3_600_000 + i64::try_from(bench.lab.config.timeouts.reboot.as_ms()).unwrap();
    bench.lab.clock.set(START_MS + limit_ms - 1);
    bench.lab.server.driver.check_deadlines().await.unwrap();
    assert_eq!(bench.calls(), Vec::<String>::new());
    bench.lab.clock.set(START_MS + limit_ms);
    bench.lab.server.driver.check_deadlines().await.unwrap();
    bench.told(&["off", "on"]).await;
    bench.power_events().await;
    assert_eq!(bench.lab.detail(bench.run).await.summary.state, RunState::Rebooting);
    let (_, made) = bench.back().await;
    assert_eq!(made.power, Some(PowerCut::Restarted));
    let seen = made.memtest.unwrap();
    assert_eq!(seen.end, Some(MemtestEnd::NoLine));
    assert!(matches!(outcome(&seen, 1), Outcome::Error { reason } if reason.contains("not observed")));
    // once
    bench.lab.server.driver.check_deadlines().await.unwrap();
    assert_eq!(bench.calls(), ["off", "on"]);
}

#[tokio::test]
async fn a_stage_that_is_run_again_makes_its_restarts_anew() {
    let bench = Bench::at(StageName::Reboot).await;
    bench.announce(StageName::Reboot, BootTarget::Linux, 0).await;
    let (claimed, _) = bench.back().await;
    let records = vec![
        finished(StageName::Reboot, Outcome::fail("a disk is gone")),
        Record::PipelineFinished { ts_ms: START_MS + 2 },
    ];
    let batch = Batch { sequence: 1, boot_id: AGAIN.to_owned(), records };
    good::<Acknowledgement>(bench.lab.agent(&claimed, Method::POST, "batches").json(&batch)).await;
    while bench.lab.detail(bench.run).await.summary.state != RunState::FailedHolding {
        tokio::task::yield_now().await;
    }
    let retry = bench.lab.operator(Method::POST, &format!("runs/{}/retry", bench.run));
    good::<RunSummary>(retry.json(&json!({"stage": "Reboot"}))).await;
    let plan: Value = good(bench.lab.agent(&claimed, Method::POST, "plan").json(&json!({}))).await;
    assert_eq!(plan["plan"]["resumed"], Value::Null, "{plan}");
    assert_eq!(plan["plan"]["stages"].as_array().unwrap().len(), 1);
}
