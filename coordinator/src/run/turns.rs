//! Turns of runs in stages that draw much power: who asked, who may begin, who waits and where.
//!
//! What is stored counts: a turn is durable before its agent hears of it, and whoever is in such a stage is reckoned with,
//! also one that began it without a turn. A turn ends with its stage and with its run, in the transaction that ends them.

use std::collections::HashMap;

use serde_json::json;
use vetting_protocol::agent_api::{Directive, EventLevel};
use vetting_protocol::ids::{RunId, StageName};
use vetting_protocol::queue::{BudgetView, PowerOnView, QueueView, QueuedRun, TurnView, WattsFrom};
use vetting_protocol::run::RunPlace;

use super::budget::{Budget, admitted, peak, reckoned};
use super::driver::{Driver, of_run};
use super::error::RunError;
use super::wake::waits_for_machine;
use crate::clock::timestamp_text;
use crate::store::{Connection, StoreError, events, runs, turns};

/// How long the queue is believed to be as it was, where nothing is known to have changed.
const BELIEVED_MS: i64 = 5_000;

/// What was last seen of the queue. A restart may lose it.
#[derive(Debug, Default)]
pub(super) struct LastLook {
    /// By the steady clock; absent: something changed since.
    at_ms: Option<i64>,
    /// Places of those that wait, from 1.
    places: HashMap<RunId, u32>,
}

impl LastLook {
    /// Somebody asked, or a turn ended.
    pub fn changed(&mut self) {
        self.at_ms = None;
    }
}

/// A run in the queue or at work.
struct Entry {
    run: RunId,
    host: String,
    stage: StageName,
    watts: f64,
    from: WattsFrom,
    since_ms: Option<i64>,
    told: bool,
}

impl Entry {
    fn view(&self, now_ms: i64) -> Result<QueuedRun, StoreError> {
        Ok(QueuedRun {
            run: self.run,
            host: self.host.clone(),
            stage: self.stage,
            watts: self.watts,
            watts_from: self.from,
            since: self.since_ms.map(timestamp_text).transpose()?,
            for_ms: self.since_ms.map_or(0, |since_ms| span(since_ms, now_ms)),
        })
    }
}

fn span(from_ms: i64, to_ms: i64) -> u64 {
    u64::try_from(to_ms.saturating_sub(from_ms)).unwrap_or(0)
}

/// Those at work and those that wait, in their order.
struct Queue {
    at_work: Vec<Entry>,
    waiting: Vec<Entry>,
}

impl Queue {
    fn read(connection: &Connection, budget: &Budget) -> Result<Self, StoreError> {
        let mut queue = Self { at_work: Vec::new(), waiting: Vec::new() };
        let counts = |stage: StageName| budget.stages.contains(&stage);
        for row in turns::under_way(connection)? {
            let turn = row.turn.filter(|turn| counts(turn.stage));
            let running = row.running.filter(|(stage, _)| counts(*stage));
            let measured = turn.as_ref().and_then(|turn| turn.measured);
            let (watts, from) = reckoned(budget, row.told_watts, measured);
            let told = turn.as_ref().is_some_and(|turn| turn.told);
            let entry =
                |stage, since_ms| Entry { run: row.run, host: row.host, stage, watts, from, since_ms, told };
            match (turn, running) {
                (Some(turn), _) if turn.granted_at_ms.is_some() => {
                    queue.at_work.push(entry(turn.stage, turn.granted_at_ms));
                }
                (_, Some((stage, since_ms))) => queue.at_work.push(entry(stage, since_ms)),
                (Some(turn), None) => queue.waiting.push(entry(turn.stage, Some(turn.asked_at_ms))),
                (None, None) => {}
            }
        }
        Ok(queue)
    }

    /// How many of those that wait may begin.
    fn admitted(&self, budget: &Budget) -> usize {
        let watts = |entries: &[Entry]| entries.iter().map(|entry| entry.watts).collect::<Vec<_>>();
        admitted(budget, &watts(&self.at_work), &watts(&self.waiting))
    }

    fn watts_at_work(&self) -> f64 {
        self.at_work.iter().map(|entry| entry.watts).sum()
    }

    /// Who has what there is, in words.
    fn in_the_way(&self, budget: &Budget) -> String {
        let machines = match budget.machines {
            Some(most) => format!("{} of {most} machines", self.at_work.len()),
            None => format!("{} machines", self.at_work.len()),
        };
        match budget.watts {
            Some(most) => format!("{machines} at work, {:.0} of {most:.0} W", self.watts_at_work()),
            None => format!("{machines} at work"),
        }
    }
}

/// Notes that a run asks for its turn.
pub(super) fn ask(
    connection: &Connection,
    run: RunId,
    stage: StageName,
    now_ms: i64,
) -> Result<(), StoreError> {
    let measured = peak(&turns::largest_power(connection, run)?);
    turns::ask(connection, run, stage, measured, now_ms)
}

/// Gives turns to those that may begin, and tells of those that have to wait; gives the places of these.
fn look(connection: &Connection, budget: &Budget, now_ms: i64) -> Result<HashMap<RunId, u32>, RunError> {
    let mut queue = Queue::read(connection, budget)?;
    let count = queue.admitted(budget);
    for entry in queue.waiting.drain(..count).collect::<Vec<_>>() {
        turns::grant(connection, entry.run, now_ms)?;
        let alone = budget.watts.filter(|most| entry.watts > *most);
        let level = if alone.is_some() { EventLevel::Warning } else { EventLevel::Info };
        let waited_s = entry.since_ms.map_or(0, |since_ms| span(since_ms, now_ms)) / 1_000;
        let over = alone.map_or_else(String::new, |most| {
            format!(", which alone is over the power budget of {most:.0} W; nothing else begins beside it")
        });
        let message = format!(
            "{} may begin after {waited_s} s: reckoned with {:.0} W ({}){over}",
            entry.stage, entry.watts, entry.from
        );
        let mut line = of_run(entry.run, now_ms, level, "turn_given", message);
        line.data = Some(json!({"stage": entry.stage, "watts": entry.watts, "watts_from": entry.from}));
        events::insert(connection, &line)?;
        queue.at_work.push(entry);
    }
    let in_the_way = queue.in_the_way(budget);
    let mut places = HashMap::new();
    for (place, entry) in (1_u32..).zip(&queue.waiting) {
        places.insert(entry.run, place);
        if entry.told {
            continue;
        }
        let message = format!(
            "{} waits for its turn, place {place}: {in_the_way}, and it is reckoned with {:.0} W ({})",
            entry.stage, entry.watts, entry.from
        );
        events::insert(connection, &of_run(entry.run, now_ms, EventLevel::Info, "turn_awaited", message))?;
        turns::set_told(connection, entry.run)?;
    }
    Ok(places)
}

/// What each run that waits is shown to wait for.
pub fn turn_views(
    connection: &Connection,
    budget: Option<&Budget>,
    now_ms: i64,
) -> Result<HashMap<RunId, TurnView>, StoreError> {
    let Some(budget) = budget else { return Ok(HashMap::new()) };
    let waiting = Queue::read(connection, budget)?.waiting;
    let of = u32::try_from(waiting.len()).unwrap_or(u32::MAX);
    let view = |(place, entry): (u32, Entry)| {
        let waited_ms = entry.since_ms.map_or(0, |since_ms| span(since_ms, now_ms));
        (entry.run, TurnView { stage: entry.stage, place, of, waited_ms })
    };
    Ok((1_u32..).zip(waiting).map(view).collect())
}

impl Driver {
    /// Whether a stage has to wait for its turn.
    pub(super) fn needs_turn(&self, stage: StageName) -> bool {
        self.settings.budget.as_ref().is_some_and(|budget| budget.stages.contains(&stage))
    }

    /// What an agent that asked for its turn is told while it has none.
    pub(super) async fn await_turn(&self, run: RunId) -> Result<Option<Directive>, RunError> {
        let Some(budget) = self.settings.budget.clone() else { return Ok(None) };
        let Some(stage) = self.waits_in(run).await? else { return Ok(None) };
        let now_ms = self.clock.steady_ms();
        let believed = self.memory().turns.at_ms.is_some_and(|at_ms| now_ms < at_ms + BELIEVED_MS);
        if !believed {
            // before the look: what changes meanwhile makes it look again
            self.memory().turns.at_ms = Some(now_ms);
            let wall_ms = self.clock.now_ms();
            let looked = self.store.write(move |connection| look(connection, &budget, wall_ms)).await;
            match looked {
                Ok(places) => self.memory().turns.places = places,
                Err(error) => {
                    self.memory().turns.changed();
                    return Err(error);
                }
            }
            if self.waits_in(run).await?.is_none() {
                return Ok(None);
            }
        }
        let (place, of) = {
            let memory = self.memory();
            (memory.turns.places.get(&run).copied(), memory.turns.places.len())
        };
        let place = place.map_or_else(|| "soon".to_owned(), |place| format!("place {place} of {of}"));
        let reason =
            format!("{stage} waits for its turn, since other machines draw the power there is: {place}");
        Ok(Some(Directive::AwaitTurn { stage, reason }))
    }

    /// The stage that a run waits to begin.
    async fn waits_in(&self, run: RunId) -> Result<Option<StageName>, RunError> {
        let turn = self.store.read(move |connection| turns::get(connection, run)).await?;
        let waiting = turn.filter(|turn| turn.granted_at_ms.is_none() && self.needs_turn(turn.stage));
        Ok(waiting.map(|turn| turn.stage))
    }

    /// Who is at work, who waits, and whose machine is to be switched on.
    pub async fn queue(&self) -> Result<QueueView, RunError> {
        let (budget, now_ms) = (self.settings.budget.clone(), self.clock.now_ms());
        let (queue, unwoken) = self
            .store
            .read(move |connection| {
                let queue = budget.map(|budget| Queue::read(connection, &budget)).transpose()?;
                Ok::<_, StoreError>((queue, runs::active(connection)?))
            })
            .await?;
        let boot_spacing_ms = u64::try_from(self.settings.boot_spacing_ms).unwrap_or(0);
        let memory = self.memory();
        let to_be_switched_on = unwoken
            .into_iter()
            .filter(|_| boot_spacing_ms > 0)
            .filter(|row| waits_for_machine(row.state) && row.override_flags.place == RunPlace::LiveImage)
            .filter(|row| !memory.woken.contains_key(&row.id))
            .map(|row| PowerOnView { run: row.id, host: row.host_name })
            .collect();
        drop(memory);
        let (at_work, waiting, watts_at_work) = match &queue {
            Some(queue) => {
                let views = |entries: &[Entry]| {
                    entries.iter().map(|entry| entry.view(now_ms)).collect::<Result<Vec<_>, _>>()
                };
                (views(&queue.at_work)?, views(&queue.waiting)?, queue.watts_at_work())
            }
            None => (Vec::new(), Vec::new(), 0.0),
        };
        let budget = self.settings.budget.as_ref().map(|budget| BudgetView {
            machines: budget.machines,
            watts: budget.watts,
            assumed_watts: budget.assumed_watts,
            stages: budget.stages.clone(),
        });
        Ok(QueueView { budget, at_work, watts_at_work, waiting, boot_spacing_ms, to_be_switched_on })
    }
}
