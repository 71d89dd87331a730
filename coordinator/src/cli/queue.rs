//! `queue`: runs that wait for their turn in a stage that draws much power, and those that have it.

use clap::Args;
use vetting_protocol::queue::{BudgetView, QueueView, QueuedRun, TurnView};

use super::client::Client;
use super::{CommandError, output};

#[derive(Debug, Args)]
pub(super) struct Queue {}

impl Queue {
    pub(super) async fn run(self, client: &Client, json: bool) -> Result<(), CommandError> {
        let Self {} = self;
        let queue: QueueView = client.get(&["queue"], &[]).await?;
        if json {
            return Ok(output::json(&queue)?);
        }
        match &queue.budget {
            Some(budget) => runs(&queue, budget)?,
            None => output::line(
                "no stage waits for another: `power.budget` in the configuration has neither machines nor watts",
            )?,
        }
        if queue.boot_spacing_ms > 0 {
            let spacing = for_words(queue.boot_spacing_ms);
            output::line("")?;
            let rows = queue.to_be_switched_on.iter().map(|run| [run.run.to_string(), run.host.clone()]);
            let nothing = format!("no machine is to be switched on; {spacing} would lie between two");
            output::table(&["RUN", "HOST TO BE SWITCHED ON"], rows, &nothing)?;
        }
        Ok(())
    }
}

fn runs(queue: &QueueView, budget: &BudgetView) -> Result<(), CommandError> {
    let machines = match budget.machines {
        Some(most) => format!("{} of {most} machines", queue.at_work.len()),
        None => format!("{} machines", queue.at_work.len()),
    };
    let watts = match budget.watts {
        Some(most) => format!("{:.0} of {most:.0} W", queue.watts_at_work),
        None => format!("{:.0} W", queue.watts_at_work),
    };
    let stages: Vec<String> = budget.stages.iter().map(ToString::to_string).collect();
    output::line(&format!("at work in {}: {machines}, {watts}", stages.join(", ")))?;
    let at_work = queue.at_work.iter().map(|run| row("at work", run));
    let waiting = (1..).zip(&queue.waiting).map(|(place, run)| row(&format!("place {place}"), run));
    let header = ["RUN", "HOST", "STAGE", "TURN", "FOR", "WATTS"];
    Ok(output::table(&header, at_work.chain(waiting), "nobody is at work there and nobody waits")?)
}

fn row(turn: &str, run: &QueuedRun) -> [String; 6] {
    [
        run.run.to_string(),
        run.host.clone(),
        run.stage.to_string(),
        turn.to_owned(),
        for_words(run.for_ms),
        format!("{:.0} ({})", run.watts, run.watts_from),
    ]
}

/// `12 s`, `7 min`, `3 h 05 min`.
fn for_words(ms: u64) -> String {
    let minutes = ms / 60_000;
    match minutes {
        0 => format!("{} s", ms / 1_000),
        1..60 => format!("{minutes} min"),
        _ => format!("{} h {:02} min", minutes / 60, minutes % 60),
    }
}

/// `waits for its turn in Burn: place 2 of 5, for 7 min`.
pub(super) fn waits(turn: &TurnView) -> String {
    format!(
        "waits for its turn in {}: place {} of {}, for {}",
        turn.stage,
        turn.place,
        turn.of,
        for_words(turn.waited_ms)
    )
}

#[cfg(test)]
mod tests {
    use vetting_protocol::ids::StageName;

    use super::*;

    #[test]
    fn a_wait_is_told_in_the_unit_that_fits() {
        for (ms, words) in
            [(59_999, "59 s"), (60_000, "1 min"), (3_599_999, "59 min"), (11_100_000, "3 h 05 min")]
        {
            assert_eq!(for_words(ms), words);
        }
        let turn = TurnView { stage: StageName::Burn, place: 2, of: 5, waited_ms: 420_000 };
        assert_eq!(waits(&turn), "waits for its turn in Burn: place 2 of 5, for 7 min");
    }
}
