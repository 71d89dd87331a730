//! Takes the coordinator's place in the pipeline: keeps the records, judges each stage as it ends, and the run at the
//! end.
//!
//! Refuses to call a run passed of which a record was lost: one that does not fit or that the memory cannot hold ends
//! the run, and it fails.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vetting_judge::alone;
use vetting_judge::course::Course;
use vetting_judge::facts::Ending;
use vetting_judge::profile::Profile;
use vetting_judge::report::Report;
use vetting_judge::threshold::RuleError;
use vetting_protocol::agent_api::{AfterRun, Directive, Record};
use vetting_protocol::results::{REPORT_FILE, REPORT_HTML_FILE, ResultsHeader, artifact_file};

use super::results::Results;
use crate::cancel::Cancel;
use crate::console::chain;
use crate::reporter::Reporter;
use crate::uplink::{Link, UplinkError};

/// The link of a run without a coordinator.
pub struct AloneLink {
    header: ResultsHeader,
    profile: Profile,
    results: Arc<Results>,
    state: Mutex<State>,
}

struct State {
    course: Course,
    lost: Option<String>,
    verdict: Option<Directive>,
}

impl AloneLink {
    /// For a run that begins now.
    ///
    /// # Errors
    /// A rule of the profile that cannot judge.
    pub fn new(header: ResultsHeader, profile: Profile, results: Arc<Results>) -> Result<Self, RuleError> {
        let course = Course::new(&profile, header.started_ms)?;
        let state = Mutex::new(State { course, lost: None, verdict: None });
        Ok(Self { header, profile, results, state })
    }

    /// Judges the run, however it ended, and stores report and manifest. What cannot be stored is told on the console;
    /// [`Results::store`] tries again.
    ///
    /// # Errors
    /// The report cannot even be kept in memory.
    pub fn conclude(&self, interrupted: Option<&str>) -> Result<Report, UplinkError> {
        let state = self.lock();
        let ending = match (interrupted, &state.lost) {
            (_, Some(lost)) => Ending::AgentCrashed { how: format!("a record was lost: {lost}") },
            (Some(reason), None) => Ending::Aborted { reason: reason.to_owned() },
            (None, None) => alone::ending(&state.course),
        };
        let report = alone::report(&self.header, &self.profile, &state.course, ending);
        drop(state);
        let cannot = |what: String| UplinkError::Alone { what };
        let json = report.to_json().map_err(|error| cannot(format!("the report has no text: {error}")))?;
        let files = [(REPORT_FILE, json), (REPORT_HTML_FILE, report.to_html())];
        for (name, text) in files {
            self.results.keep(name, text.as_bytes()).map_err(|error| cannot(chain(&error)))?;
        }
        self.results.seal().map_err(|error| cannot(chain(&error)))?;
        // told on the console; the person there may try again
        let _ = self.results.store();
        Ok(report)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self) -> Option<UplinkError> {
        self.lock().lost.clone().map(|what| UplinkError::Alone { what })
    }
}

impl Reporter for AloneLink {
    fn record(&self, record: Record) {
        let mut state = self.lock();
        if state.lost.is_some() {
            return;
        }
        let taken = state
            .course
            .apply(&record)
            .map_err(|error| chain(&error))
            .and_then(|()| self.results.append(&record).map_err(|error| chain(&error)));
        state.lost = taken.err();
    }
}

impl Link for AloneLink {
    fn flush(&self, _cancel: &Cancel) -> Result<Directive, UplinkError> {
        if let Some(failure) = self.failed() {
            return Err(failure);
        }
        let finished = self.lock().course.finished_ms().is_some();
        if finished && self.lock().verdict.is_none() {
            let report = self.conclude(None)?;
            self.lock().verdict = Some(Directive::Finished {
                result: report.verdict.result,
                reasons: report.verdict.reasons.iter().map(ToString::to_string).collect(),
                then: AfterRun::Stay,
                hold: None,
            });
        } else {
            // told on the console; the run goes on, since in memory nothing is lost
            let _ = self.results.store();
        }
        Ok(self.directive())
    }

    fn directive(&self) -> Directive {
        let kept = self.lock();
        match (&kept.verdict, kept.course.halted(), kept.course.must_end()) {
            (Some(verdict), ..) => verdict.clone(),
            (None, Some(why), _) => Directive::HaltPipeline { reason: why.to_owned() },
            (None, None, Some((stage, why))) => Directive::EndStage { stage, reason: why.to_owned() },
            (None, None, None) => Directive::Continue,
        }
    }

    fn failure(&self) -> Option<UplinkError> {
        self.failed()
    }

    /// In memory at once; on the stick with the records around it.
    fn store(&self, kind: &str, name: &str, body: Vec<u8>, _cancel: &Cancel) -> Result<(), UplinkError> {
        self.results
            .keep(&artifact_file(kind, name), &body)
            .map_err(|error| UplinkError::Alone { what: chain(&error) })
    }

    fn next_answer(&self, _seen: u64, _cancel: &Cancel) -> Result<(Directive, u64), UplinkError> {
        // the verdict is there before the pipeline asks for it: nothing else will come
        match self.failed() {
            Some(failure) => Err(failure),
            None if self.lock().verdict.is_some() => Ok((self.directive(), 1)),
            None => Err(UplinkError::Interrupted),
        }
    }
}
