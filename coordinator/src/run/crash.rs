//! How a machine went away: notes what is known of it and what it left behind at the moment, asks its BMC when nobody waits
//! for it any more but the report, and has the judge name it.

use serde::{Deserialize, Serialize};
use serde_json::json;
use vetting_judge::crash::{Attribution, EventLog, Traces, attribute, event_log_words, own_dumps};
use vetting_judge::facts::Ending;
use vetting_judge::quantity;
use vetting_protocol::agent_api::EventLevel;
use vetting_protocol::crash::{CrashDump, LeftBehind, MOST_DUMPS, MOST_LINE_CHARS, MOST_LINES};
use vetting_protocol::ids::RunId;
use vetting_protocol::outcome::StepState;

use super::driver::{Driver, of_run};
use super::error::RunError;
use crate::store::measurements::LastSample;
use crate::store::{Connection, StoreError, crashes, events, measurements, runs, sessions, stages};

/// Kinds whose last samples are told, each with the greatest of them first, and how many of each.
const TOLD: [(&str, usize); 4] = [("temp", 3), ("power", 2), ("volt", 2), ("fan", 1)];

/// A dump as it may be kept: what comes from the network has no control characters and is no longer than said.
fn cleaned(left: &LeftBehind) -> LeftBehind {
    let line = |text: &String| -> String {
        text.chars().filter(|character| !character.is_control()).take(MOST_LINE_CHARS).collect()
    };
    let last = |lines: &[String]| -> Vec<String> {
        lines.iter().skip(lines.len().saturating_sub(MOST_LINES)).map(line).collect()
    };
    let dumps = left.dumps.iter().skip(left.dumps.len().saturating_sub(MOST_DUMPS));
    LeftBehind {
        dumps: dumps
            .map(|dump| CrashDump {
                store: line(&dump.store),
                reason: line(&dump.reason),
                ts_ms: dump.ts_ms,
                lines: last(&dump.lines),
            })
            .collect(),
        hardware_errors: last(&left.hardware_errors),
        unread: last(&left.unread),
    }
}

/// What an earlier boot left behind that was no boot of this run: told, since nobody else will.
pub(super) fn tell_of_earlier(
    connection: &Connection,
    run: RunId,
    left: &LeftBehind,
    now_ms: i64,
) -> Result<(), RunError> {
    let LeftBehind { dumps, hardware_errors, .. } = cleaned(left);
    if dumps.is_empty() && hardware_errors.is_empty() {
        return Ok(());
    }
    let message = format!(
        "the machine came with traces of a crash before this run: {} dumps of a kernel, {} error records",
        dumps.len(),
        hardware_errors.len()
    );
    let mut line = of_run(run, now_ms, EventLevel::Warning, "earlier_crash", message);
    line.data = Some(json!({"dumps": dumps, "hardware_errors": hardware_errors}));
    events::insert(connection, &line)?;
    Ok(())
}

/// What is known of a crash at once; the BMC is asked later.
pub(super) fn traces(came_back: bool, claimed_ms: Option<i64>, left_behind: Option<&LeftBehind>) -> Traces {
    let left_behind = left_behind.map(cleaned);
    Traces { came_back, claimed_ms, left_behind, power_on: None, event_log: EventLog::NoBmc }
}

/// A crash that is not explained yet, with what only the moment knew.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Unexplained {
    traces: Traces,
    /// Sub-steps that were under way.
    under_way: Vec<String>,
    /// The last samples, in words.
    samples: Vec<String>,
}

/// Notes a crash, in the transaction that closes the run's pipeline and before it does: what was under way is closed then.
pub(super) fn note(connection: &Connection, run: RunId, traces: Traces) -> Result<(), RunError> {
    let samples = last_samples(connection, run)?.iter().map(sample_words).collect();
    let unexplained = Unexplained { traces, under_way: running_sub_steps(connection, run)?, samples };
    let noted = serde_json::to_value(unexplained)
        .map_err(|error| RunError::Corrupt { run, what: format!("its crash has no text: {error}") })?;
    Ok(crashes::set(connection, run, &noted)?)
}

impl Driver {
    /// Names the crash of a run that ended by one, unless that is done: asks its machine's BMC, notes all that is known in
    /// the event log, and puts it into words for the report.
    pub(super) async fn explain_crash(&self, run: RunId) -> Result<(), RunError> {
        let read = self.store.read(move |connection| {
            Ok::<_, StoreError>((crashes::get(connection, run)?, runs::get(connection, run)?.started_at_ms))
        });
        let (Some(noted), started_ms) = read.await? else { return Ok(()) };
        let mut unexplained: Unexplained = serde_json::from_value(noted)
            .map_err(|error| RunError::Corrupt { run, what: format!("its crash: {error}") })?;
        // what the log has of an earlier boot is of an earlier crash
        let since_ms = unexplained.traces.claimed_ms.unwrap_or(started_ms);
        (unexplained.traces.power_on, unexplained.traces.event_log) = self.ask_bmc(run, since_ms).await?;
        if unexplained.traces.came_back {
            // it is on again: that tells nothing of how it went away
            unexplained.traces.power_on = None;
        }
        let now_ms = self.clock.now_ms();
        self.store.write(move |connection| explain(connection, run, &unexplained, now_ms)).await
    }
}

/// Names a crash, notes all that is known of it in the event log, and in the run's ending.
fn explain(
    connection: &Connection,
    run: RunId,
    unexplained: &Unexplained,
    now_ms: i64,
) -> Result<(), RunError> {
    if crashes::get(connection, run)?.is_none() {
        // explained meanwhile
        return Ok(());
    }
    let Unexplained { traces, under_way, samples } = unexplained;
    let Attribution { kind, because } = attribute(traces);
    let mut sentences = vec![format!("It was a {kind}: {because}.")];
    sentences.extend(event_log_words(&traces.event_log));
    if !under_way.is_empty() {
        sentences.push(format!("Under way: {}.", under_way.join(", ")));
    }
    if !samples.is_empty() {
        sentences.push(format!("The last samples: {}.", samples.join(", ")));
    }
    let words = sentences.join(" ");
    let dumps: Vec<&CrashDump> = own_dumps(traces).collect();
    let mut line = of_run(run, now_ms, EventLevel::Error, "crash", words.clone());
    line.data = Some(json!({
        "kind": kind,
        "came_back": traces.came_back,
        "dumps": dumps,
        "hardware_errors": traces.left_behind.as_ref().map(|left| &left.hardware_errors),
        "unread": traces.left_behind.as_ref().map(|left| &left.unread),
        "power_on": traces.power_on,
        "event_log": traces.event_log,
    }));
    events::insert(connection, &line)?;
    let corrupt = |what: String| RunError::Corrupt { run, what };
    let closed = runs::verdict(connection, run)?.ok_or_else(|| corrupt("no ending is stored".to_owned()))?;
    let data = closed.ending_data.ok_or_else(|| corrupt("its ending has no words".to_owned()))?;
    let mut ending: Ending =
        serde_json::from_value(data).map_err(|error| corrupt(format!("its ending: {error}")))?;
    match &mut ending {
        Ending::WentSilent { evidence, .. } | Ending::UnplannedReboot { evidence, .. } => {
            *evidence = Some(words);
        }
        Ending::Regular
        | Ending::NeverAppeared { .. }
        | Ending::AgentCrashed { .. }
        | Ending::Aborted { .. }
        | Ending::CoordinatorFault { .. } => return Err(corrupt("its ending is no crash".to_owned())),
    }
    let data =
        serde_json::to_value(&ending).map_err(|error| corrupt(format!("its ending has no text: {error}")))?;
    runs::set_ending(connection, run, closed.ending, Some(&data))?;
    Ok(crashes::remove(connection, run)?)
}

/// When the boot that is spoken of was claimed: to be asked before the one after it claims.
pub(super) fn claimed_ms(connection: &Connection, run: RunId) -> Result<Option<i64>, RunError> {
    Ok(sessions::latest_claimed(connection, run)?.map(|session| session.claimed_at_ms))
}

fn running_sub_steps(connection: &Connection, run: RunId) -> Result<Vec<String>, RunError> {
    let rows = stages::list(connection, run)?;
    let sub_steps = rows.into_iter().flat_map(|row| row.sub_steps);
    Ok(sub_steps.filter(|row| row.state == StepState::Running).map(|row| row.name).collect())
}

fn sample_words(sample: &LastSample) -> String {
    format!("{} {} {}", sample.kind, sample.key, quantity::in_words(sample.value, &sample.unit))
}

/// The newest sample of each sensor that tells of heat and power, the greatest of a kind first.
fn last_samples(connection: &Connection, run: RunId) -> Result<Vec<LastSample>, RunError> {
    let mut told = Vec::new();
    let kinds: Vec<&str> = TOLD.iter().map(|(kind, _)| *kind).collect();
    let newest = measurements::last_of_each(connection, run, &kinds)?;
    for (kind, most) in TOLD {
        let of_kind = newest.iter().filter(|sample| sample.kind == kind);
        let mut of_kind: Vec<LastSample> = of_kind.cloned().collect();
        of_kind.sort_by(|one, other| other.value.total_cmp(&one.value));
        told.extend(of_kind.into_iter().take(most));
    }
    Ok(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_machine_left_is_cut_to_what_may_be_kept() {
        let lines: Vec<String> = (0..1_000).map(|number| format!("line {number}\u{1b}[2J")).collect();
        let dump = CrashDump {
            store: "x".repeat(1_000),
            reason: "Panic".to_owned(),
            ts_ms: None,
            lines: lines.clone(),
        };
        let left = LeftBehind { dumps: vec![dump; 9], hardware_errors: lines, unread: Vec::new() };
        let LeftBehind { dumps, hardware_errors, .. } = cleaned(&left);
        assert_eq!((dumps.len(), dumps[0].store.len()), (MOST_DUMPS, MOST_LINE_CHARS));
        assert_eq!((dumps[0].lines.len(), hardware_errors.len()), (MOST_LINES, MOST_LINES));
        assert_eq!(dumps[0].lines.last().unwrap(), "line 999[2J", "the end is what tells");
    }
}
