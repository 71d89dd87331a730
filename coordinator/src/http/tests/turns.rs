//! Stages that draw much power wait for their turn, and machines to be switched on.

use std::num::NonZeroU32;

use vetting_judge::duration::HumanDuration;
use vetting_protocol::queue::{QueueView, WattsFrom};
use vetting_protocol::run::RunState;

use super::*;
use crate::store::components::{self, MetricRow};

const BURN: StageName = StageName::Burn;

/// A lab with machines that are about to begin Burn.
struct Rack {
    lab: Lab,
    machines: Vec<(Claimed, u64)>,
}

impl Rack {
    /// `watts` of each machine as an operator says; 0: nobody says.
    async fn of(watts: &[u32], machines: Option<u32>, budget_watts: Option<u32>) -> Self {
        let lab = Lab::open_configured(|config| {
            let budget = &mut config.power.budget;
            budget.machines = machines.and_then(NonZeroU32::new);
            budget.watts = budget_watts.and_then(NonZeroU32::new);
            budget.stages = vec![BURN, StageName::CpuStress];
        })
        .await;
        let mut rack = Self { lab, machines: Vec::new() };
        for (number, watts) in (1..).zip(watts) {
            rack.add(number, *watts).await;
        }
        rack
    }

    async fn add(&mut self, number: usize, watts: u32) {
        let (name, mac) = (format!("node{number}"), format!("52:54:00:ab:cd:{number:02}"));
        self.lab.add_host(&name, &mac).await;
        let edit = self.lab.operator(Method::PATCH, &format!("hosts/{name}"));
        let view: Value = good(edit.json(&json!({"burn_watts": watts}))).await;
        assert_eq!(view["burn_watts"], if watts == 0 { Value::Null } else { json!(watts) });
        let order = json!({"host": name, "profile": "quick"});
        let run = good::<RunSummary>(self.lab.operator(Method::POST, "runs").json(&order)).await.id;
        let script = self.lab.script(&mac).await;
        let secret = script.split("vetting.claim=").nth(1).unwrap().split(' ').next().unwrap();
        let secret = Secret::new(secret.to_owned());
        let claim =
            ClaimRequest { macs: vec![mac.parse().unwrap()], ..Lab::claim_request(run, &secret, BOOT) };
        let response: ClaimResponse = good(self.lab.claiming(&claim)).await;
        for planned in &response.plan.stages {
            let heavy = matches!(planned.work.name(), BURN | StageName::CpuStress);
            assert_eq!(planned.needs_turn, heavy, "{}", planned.work.name());
        }
        self.machines.push((Claimed { run, token: response.token.clone(), response, secret }, 0));
    }

    async fn say(&mut self, machine: usize, records: Vec<Record>) -> Directive {
        let (claimed, sequence) = &mut self.machines[machine];
        *sequence += 1;
        self.lab.send(claimed, *sequence, records).await.directive
    }

    async fn ask(&mut self, machine: usize) -> Directive {
        self.say(machine, vec![Record::TurnAwaited { stage: BURN, ts_ms: START_MS }]).await
    }

    async fn beat(&self, machine: usize) -> Directive {
        let heartbeat = Heartbeat { boot_id: BOOT.to_owned() };
        let request = self.lab.agent(&self.machines[machine].0, Method::POST, "heartbeat").json(&heartbeat);
        good::<Acknowledgement>(request).await.directive
    }

    fn run(&self, machine: usize) -> RunId {
        self.machines[machine].0.run
    }

    async fn queue(&self) -> QueueView {
        good(self.lab.operator(Method::GET, "queue")).await
    }

    /// Runs at work and runs that wait.
    async fn standing(&self) -> (Vec<RunId>, Vec<RunId>) {
        let queue = self.queue().await;
        let runs = |runs: Vec<vetting_protocol::queue::QueuedRun>| runs.iter().map(|run| run.run).collect();
        (runs(queue.at_work), runs(queue.waiting))
    }

    fn runs(&self, machines: &[usize]) -> Vec<RunId> {
        machines.iter().map(|machine| self.run(*machine)).collect()
    }

    async fn abort(&self, machine: usize) {
        let order = self.lab.operator(Method::POST, &format!("runs/{}/abort", self.run(machine)));
        let _: RunSummary = good(order).await;
    }
}

fn waits(directive: &Directive) -> bool {
    matches!(directive, Directive::AwaitTurn { stage: BURN, .. })
}

#[tokio::test]
async fn turns_come_in_order_and_end_with_their_stage_with_an_abort_and_with_silence() {
    let mut rack = Rack::of(&[0; 6], Some(2), None).await;
    for machine in [2, 0, 1, 4, 3] {
        let told = rack.ask(machine).await;
        assert_eq!(waits(&told), !matches!(machine, 2 | 0), "{machine}: {told:?}");
    }
    assert_eq!(rack.standing().await, (rack.runs(&[2, 0]), rack.runs(&[1, 4, 3])));
    let detail = rack.lab.detail(rack.run(4)).await;
    let turn = detail.summary.turn.unwrap();
    assert_eq!((turn.stage, turn.place, turn.of), (BURN, 2, 3));
    let list: Vec<RunSummary> = good(rack.lab.operator(Method::GET, "runs")).await;
    assert_eq!(list.iter().filter(|run| run.turn.is_some()).count(), 3);

    // a turn that ends with its stage goes to the one that came first, and to no other
    rack.say(2, vec![started(BURN)]).await;
    assert!(waits(&rack.beat(1).await));
    rack.say(2, vec![finished(BURN, Outcome::Pass)]).await;
    assert!(waits(&rack.beat(3).await) && waits(&rack.beat(4).await));
    assert_eq!(rack.beat(1).await, Directive::Continue);
    // one that waits and is aborted is out of the way
    rack.abort(4).await;
    assert!(waits(&rack.beat(3).await));
    rack.abort(0).await;
    assert_eq!(rack.beat(3).await, Directive::Continue);
    assert_eq!(rack.standing().await, (rack.runs(&[1, 3]), vec![]));
    // silence is no turn either
    assert!(waits(&rack.ask(5).await));
    rack.lab.clock.set(START_MS + 60_000);
    assert!(waits(&rack.beat(5).await));
    rack.lab.clock.set(START_MS + 120_000);
    rack.lab.server.driver.check_deadlines().await.unwrap();
    while waits(&rack.beat(5).await) {}
    assert_eq!(rack.beat(5).await, Directive::Continue);
    assert_eq!(rack.standing().await, (rack.runs(&[5]), vec![]));
    let said = rack.lab.events().await;
    assert!(
        said.iter().any(|event| event.kind == "turn_awaited" && event.message.contains("2 of 2 machines"))
    );
    assert!(said.iter().any(|event| event.kind == "turn_given" && event.run_id == Some(rack.run(3))));
}

#[tokio::test]
async fn a_wait_outlives_the_coordinator_and_the_stages_own_limit_and_silence() {
    let mut rack = Rack::of(&[0; 3], Some(1), None).await;
    rack.ask(1).await;
    rack.say(1, vec![started(BURN)]).await;
    assert!(waits(&rack.ask(0).await) && waits(&rack.ask(2).await));
    let lab = rack.lab.restarted().await;
    let mut rack = Rack { lab, machines: rack.machines };
    assert_eq!(rack.standing().await, (rack.runs(&[1]), rack.runs(&[0, 2])));
    // far longer than Burn may take, with a word before anybody is taken for silent
    for word in 1..10 {
        rack.lab.clock.set(START_MS + word * 100_000);
        for machine in [0, 1, 2] {
            rack.beat(machine).await;
        }
        rack.lab.server.driver.check_deadlines().await.unwrap();
    }
    for machine in [0, 1, 2] {
        assert_eq!(rack.lab.detail(rack.run(machine)).await.summary.state, RunState::Running);
    }
    assert!(waits(&rack.ask(0).await), "one that asks again keeps its place");
    rack.say(1, vec![finished(BURN, Outcome::fail("too hot")), Record::PipelineFinished { ts_ms: START_MS }])
        .await;
    assert!(waits(&rack.beat(2).await));
    assert_eq!(rack.beat(0).await, Directive::Continue);
    // the turn is durable before its agent hears of it
    let lab = rack.lab.restarted().await;
    let rack = Rack { lab, machines: rack.machines };
    assert_eq!(rack.standing().await, (rack.runs(&[0]), rack.runs(&[2])));
    assert_eq!(rack.beat(0).await, Directive::Continue);
}

#[tokio::test]
async fn a_held_machine_whose_stage_is_run_again_asks_anew() {
    let mut rack = Rack::of(&[0; 2], Some(1), None).await;
    rack.ask(0).await;
    let failed = finished(BURN, Outcome::fail("too hot"));
    rack.say(0, vec![started(BURN), failed, Record::PipelineFinished { ts_ms: START_MS }]).await;
    while matches!(rack.beat(0).await, Directive::AwaitVerdict) {}
    assert_eq!(rack.ask(1).await, Directive::Continue);
    let again = rack.lab.operator(Method::POST, &format!("runs/{}/retry", rack.run(0)));
    let _: RunSummary = good(again.json(&json!({"stage": "Burn"}))).await;
    assert!(waits(&rack.ask(0).await));
}

#[tokio::test]
async fn watts_are_told_measured_or_assumed_and_one_that_is_too_large_is_alone() {
    let mut rack = Rack::of(&[0, 700, 0, 2_000, 10], None, Some(1_500)).await;
    let metrics = ["bmc/dcmi", "rapl/package-0"].map(|key| MetricRow {
        stage_name: "CPUStress".to_owned(),
        kind: "power".to_owned(),
        key: key.to_owned(),
        value: if key == "bmc/dcmi" { 320.0 } else { 900.0 },
        unit: "watts".to_owned(),
    });
    let measured = rack.run(0);
    let write =
        rack.lab.server.driver.store.write(move |tx| components::keep_metrics(tx, measured, &metrics));
    write.await.unwrap();
    for machine in 0..3 {
        let told = rack.ask(machine).await;
        assert_eq!(waits(&told), machine == 2, "{told:?}");
    }
    assert!(waits(&rack.ask(3).await) && waits(&rack.ask(4).await));
    let queue = rack.queue().await;
    let known: Vec<_> =
        queue.at_work.iter().chain(&queue.waiting).map(|run| (run.watts, run.watts_from)).collect();
    let expected = [
        (320.0, WattsFrom::Measured),
        (700.0, WattsFrom::Told),
        (500.0, WattsFrom::Assumed),
        (2_000.0, WattsFrom::Told),
        (10.0, WattsFrom::Told),
    ];
    assert_eq!(known, expected);
    assert!((queue.watts_at_work - 1_020.0).abs() < 0.1);
    rack.abort(0).await;
    assert_eq!(rack.beat(2).await, Directive::Continue);
    rack.abort(1).await;
    assert!(waits(&rack.beat(4).await), "the small one does not go before the large one");
    rack.abort(2).await;
    assert!(waits(&rack.beat(4).await));
    assert_eq!(rack.beat(3).await, Directive::Continue);
    assert!(waits(&rack.beat(4).await));
    let said = rack.lab.events().await;
    let alone =
        said.iter().find(|event| event.run_id == Some(rack.run(3)) && event.kind == "turn_given").unwrap();
    assert!(alone.level.as_str() == "warning" && alone.message.contains("over the power budget of 1500 W"));
}

#[tokio::test]
async fn without_a_budget_nobody_waits_and_one_who_did_not_ask_is_reckoned_with() {
    let lab = Lab::open().await;
    let claimed = lab.claimed().await;
    assert!(claimed.response.plan.stages.iter().all(|planned| !planned.needs_turn));
    let queue: QueueView = good(lab.operator(Method::GET, "queue")).await;
    assert_eq!((queue.budget, queue.boot_spacing_ms), (None, 0));

    let mut rack = Rack::of(&[0; 2], Some(1), None).await;
    rack.say(0, vec![started(BURN)]).await;
    assert!(waits(&rack.ask(1).await));
    assert_eq!(rack.queue().await.at_work[0].run, rack.run(0));
}

#[tokio::test]
async fn machines_are_switched_on_one_after_the_other_and_their_time_begins_then() {
    const SPACING_MS: i64 = 1_200_000;
    let lab = Lab::open_configured(|config| {
        config.power.budget.boot_spacing = HumanDuration::from_ms(1_200_000);
    })
    .await;
    for number in 1..=3 {
        let name = format!("node{number}");
        lab.add_host(&name, &format!("52:54:00:ab:cd:{number:02}")).await;
        lab.start_run(&name).await;
    }
    let woken = || lab.power.0.lock().unwrap().len();
    // each later than the patience with a machine that was woken
    for machines in 1..=3_usize {
        lab.clock.set(START_MS + SPACING_MS * i64::try_from(machines - 1).unwrap());
        lab.server.driver.check_deadlines().await.unwrap();
        while woken() < machines {
            tokio::task::yield_now().await;
        }
        lab.server.driver.check_deadlines().await.unwrap();
        assert_eq!(woken(), machines);
        let queue: QueueView = good(lab.operator(Method::GET, "queue")).await;
        assert_eq!(queue.to_be_switched_on.len(), 3 - machines);
        for run in queue.to_be_switched_on {
            assert_eq!(lab.detail(run.run).await.summary.state, RunState::Queued);
        }
    }
    let first: Vec<RunSummary> = good(lab.operator(Method::GET, "runs?host=node1")).await;
    let last: Vec<RunSummary> = good(lab.operator(Method::GET, "runs?host=node3")).await;
    assert_ne!(first[0].state, RunState::Waking, "its time is over");
    assert_eq!(last[0].state, RunState::Waking);
}
