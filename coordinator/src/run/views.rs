//! Rows as the operator API shows them.

use vetting_judge::step::StepSummary;
use vetting_judge::verdict::{Reason, Verdict};
use vetting_protocol::enrolment::{EnrolmentTokenView, HostIdentityView, PendingView};
use vetting_protocol::ids::RunId;
use vetting_protocol::models::ModelView;
use vetting_protocol::operator_api::{
    ArtifactView, AttemptView, BootView, BreachView, EventView, HostView, ReasonView, RunDetail, RunSummary,
    StageView, SubStepView, TokenView, VerdictView, WaiverView, WithdrawnView,
};
use vetting_protocol::users::UserView;

use super::error::RunError;
use super::live::Live;
use super::stages::read_summary;
use super::{reopen, rules};
use crate::clock::{TimeError, seconds_text, timestamp_text};
use crate::store::artifacts::ArtifactRow;
use crate::store::attempts::AttemptRow;
use crate::store::enrolment::{self, EnrolmentRow};
use crate::store::events::EventRow;
use crate::store::hosts::HostWithRun;
use crate::store::identities::IdentityRow;
use crate::store::measurements::BreachRow;
use crate::store::models::ModelRow;
use crate::store::runs::{self, RunRow};
use crate::store::sessions::{self, Timeline};
use crate::store::stages::StageRow;
use crate::store::thresholds::{TermsValues, ThresholdSource, ThresholdValues};
use crate::store::tokens::TokenRow;
use crate::store::users::UserRow;
use crate::store::waivers::{self, WaiverRow, WithdrawnValues};
use crate::store::{Connection, StoreError, artifacts, diffs, limits, measurements, plans, stages};

fn seconds(ms: Option<i64>) -> Result<Option<String>, TimeError> {
    ms.map(seconds_text).transpose()
}

fn milliseconds(ms: Option<i64>) -> Result<Option<String>, TimeError> {
    ms.map(timestamp_text).transpose()
}

/// A run's line in a list.
pub fn summary(row: &RunRow) -> Result<RunSummary, StoreError> {
    Ok(RunSummary {
        id: row.id,
        host: row.host_name.clone(),
        state: row.state,
        result: row.result,
        profile: row.profile,
        failed_stage: row.failed_stage.clone(),
        started_at: seconds_text(row.started_at_ms)?,
        completed_at: seconds(row.completed_at_ms)?,
        // the queue's to say
        turn: None,
    })
}

/// A machine with its newest run.
pub fn host(row: HostWithRun) -> Result<HostView, StoreError> {
    let HostWithRun { host, latest_run, further_macs, identity, serial_console, burn_watts } = row;
    Ok(HostView {
        id: host.id,
        name: host.name,
        mac: host.mac,
        further_macs,
        identity: identity.map(identity_view).transpose()?,
        wol_broadcast_ip: host.wol_broadcast_ip,
        wol_port: host.wol_port,
        expected_spec_yaml: host.expected_spec_yaml,
        notes: host.notes,
        serial_console: serial_console.map(|console| console.to_string()),
        burn_watts,
        created_at: seconds_text(host.created_at_ms)?,
        updated_at: seconds_text(host.updated_at_ms)?,
        last_seen_at: host.last_seen_at_ms.map(seconds_text).transpose()?,
        latest_run: latest_run.as_ref().map(summary).transpose()?,
    })
}

fn identity_view(row: IdentityRow) -> Result<HostIdentityView, StoreError> {
    Ok(HostIdentityView { system_uuid: row.system_uuid, recorded_at: seconds_text(row.recorded_at_ms)? })
}

/// An enrolment token, without its text.
pub fn enrolment_token(row: enrolment::TokenRow) -> Result<EnrolmentTokenView, StoreError> {
    let values = row.values;
    Ok(EnrolmentTokenView {
        id: row.id,
        uses_allowed: values.uses_allowed,
        uses: row.uses,
        created_at: seconds_text(row.created_at_ms)?,
        expires_at: seconds_text(values.expires_at_ms)?,
        revoked_at: seconds(row.revoked_at_ms)?,
        name_pattern: values.name_pattern,
        has_spec: !values.expected_spec_yaml.is_empty(),
        start_run: values.start_profile,
    })
}

/// A machine that waits for an operator.
pub fn pending(row: EnrolmentRow, now_ms: i64) -> Result<PendingView, StoreError> {
    Ok(PendingView {
        code: row.code,
        identity: row.identity,
        address: row.address,
        since: seconds_text(row.created_at_ms)?,
        age_ms: u64::try_from(now_ms.saturating_sub(row.created_at_ms)).unwrap_or(0),
        note: row.note,
    })
}

/// Where the time before the stages went.
pub fn boot(timeline: &Timeline) -> BootView {
    BootView {
        woken_ms: timeline.woken_ms,
        script_served_ms: timeline.script_served_ms,
        image_served_ms: timeline.image_served_ms,
        claimed_ms: timeline.claimed_ms,
        kernel_to_init_ms: timeline.kernel_to_init_ms,
        kernel_to_claim_ms: timeline.kernel_to_claim_ms,
        kernel_to_network_ms: timeline.kernel_to_network_ms,
    }
}

/// A file of a run.
pub fn artifact(row: ArtifactRow) -> ArtifactView {
    let values = row.values;
    ArtifactView {
        kind: values.kind,
        path: values.path,
        sha256: values.sha256,
        size_bytes: values.size_bytes,
    }
}

/// A line of the event log.
pub fn event(row: EventRow) -> Result<EventView, StoreError> {
    let values = row.values;
    Ok(EventView {
        id: row.id,
        run_id: values.run_id,
        host_id: values.host_id,
        ts: timestamp_text(values.ts_ms)?,
        level: values.level,
        kind: values.kind,
        message: values.message,
        data: values.data,
    })
}

/// A token, without its text.
pub fn token(row: TokenRow) -> Result<TokenView, StoreError> {
    Ok(TokenView {
        id: row.id,
        name: row.name,
        role: row.role,
        created_at: seconds_text(row.created_at_ms)?,
        last_used_at: seconds(row.last_used_at_ms)?,
        expires_at: seconds(row.expires_at_ms)?,
        revoked_at: seconds(row.revoked_at_ms)?,
    })
}

/// A person, without anything of their password.
pub fn user(row: UserRow) -> Result<UserView, StoreError> {
    Ok(UserView {
        name: row.name,
        role: row.role,
        created_at: seconds_text(row.created_at_ms)?,
        password_set_at: seconds_text(row.password_set_at_ms)?,
        last_login_at: seconds(row.last_login_at_ms)?,
        disabled_at: seconds(row.disabled_at_ms)?,
    })
}

/// A model with the hosts that take it.
pub fn model(row: ModelRow, hosts: Vec<String>) -> Result<ModelView, StoreError> {
    Ok(ModelView {
        name: row.name,
        expected_spec_yaml: row.expected_spec_yaml,
        hosts,
        created_at: seconds_text(row.created_at_ms)?,
        updated_at: seconds_text(row.updated_at_ms)?,
    })
}

/// A run with all that hangs from it but the samples; `live` is its memory, while it has one.
pub fn detail(connection: &Connection, run: RunId, live: Option<&Live>) -> Result<RunDetail, RunError> {
    let row = runs::get(connection, run)?;
    let verdict = runs::verdict(connection, run)?;
    let stages = stages::list(connection, run)?;
    let mut breaches = measurements::breaches(connection, run)?;
    breaches.extend(limits::breaches(connection, run)?);
    breaches.sort_by_key(|breach| breach.first_ts_ms);
    Ok(RunDetail {
        summary: summary(&row)?,
        reasons: verdict.map(|verdict| verdict.reasons).unwrap_or_default(),
        hold_ip: row.hold_ip.clone(),
        // the driver's to say: it knows where the key is
        hold: None,
        non_destructive: row.non_destructive,
        wipe: row.override_flags.wipe,
        erase: row.override_flags.erase,
        place: row.override_flags.place,
        stages: stages.into_iter().map(|row| stage(run, row, live)).collect::<Result<_, _>>()?,
        stage_changes: plans::changes(connection, run)?,
        attempts: reopen::earlier_attempts(connection, run)?
            .into_iter()
            .map(|(row, summary)| attempt(&row, summary.as_ref()))
            .collect::<Result<_, _>>()?,
        diffs: diffs::list(connection, run)?.into_iter().map(|row| row.diff).collect(),
        breaches: breaches.into_iter().map(|row| breach(run, row)).collect::<Result<_, _>>()?,
        measurement_count: measurements::count(connection, run)?,
        artifacts: artifacts::list(connection, run)?.into_iter().map(artifact).collect(),
        boot: boot(&sessions::timeline(connection, run)?),
        waivers: waivers::list(connection, run)?.into_iter().map(waiver).collect::<Result<_, _>>()?,
    })
}

fn waiver(row: WaiverRow) -> Result<WaiverView, StoreError> {
    let WaiverRow { values, withdrawn } = row;
    let withdrawn = withdrawn
        .map(|withdrawn| {
            let at = seconds_text(withdrawn.at_ms)?;
            let WithdrawnValues { reason, operator: by, caller, .. } = withdrawn;
            Ok::<_, TimeError>(WithdrawnView { reason, by, caller, at })
        })
        .transpose()?;
    Ok(WaiverView {
        id: values.number,
        finding: values.finding,
        found: values.found,
        reason: values.reason,
        by: values.operator,
        caller: values.caller,
        given_at: seconds_text(values.given_at_ms)?,
        withdrawn,
    })
}

/// The verdict of a run, explained.
pub fn verdict(
    row: &RunRow,
    report_version: u32,
    verdict: Option<Verdict>,
    waivers: Vec<WaiverRow>,
) -> Result<VerdictView, StoreError> {
    let (reasons, remarks) = verdict.map(|verdict| (verdict.reasons, verdict.remarks)).unwrap_or_default();
    let reason = |reason: Reason| ReasonView {
        cause: reason.cause.to_string(),
        stage: reason.stage,
        text: reason.text,
        next: reason.next,
        finding: reason.finding,
        waiver: reason.waiver,
    };
    Ok(VerdictView {
        summary: summary(row)?,
        report_version,
        reasons: reasons.into_iter().map(reason).collect(),
        remarks: remarks.into_iter().map(reason).collect(),
        waivers: waivers.into_iter().map(waiver).collect::<Result<_, _>>()?,
    })
}

fn attempt(row: &AttemptRow, summary: Option<&StepSummary>) -> Result<AttemptView, RunError> {
    Ok(AttemptView {
        stage: row.stage.to_string(),
        attempt: row.attempt,
        state: row.state,
        started_at: milliseconds(row.started_at_ms).map_err(StoreError::from)?,
        completed_at: milliseconds(row.completed_at_ms).map_err(StoreError::from)?,
        reason: summary.and_then(StepSummary::reason).map(str::to_owned),
    })
}

fn stage(run: RunId, row: StageRow, live: Option<&Live>) -> Result<StageView, RunError> {
    let summary = read_summary(run, row.name.as_str(), row.summary.as_ref())?;
    let progress = if row.state.is_finished() { None } else { live.and_then(|live| live.progress(row.name)) };
    let sub_steps = row
        .sub_steps
        .into_iter()
        .map(|row| {
            let summary = read_summary(run, &row.name, Some(&row.summary))?;
            Ok(SubStepView {
                name: row.name,
                state: row.state,
                started_at: milliseconds(row.started_at_ms).map_err(StoreError::from)?,
                completed_at: milliseconds(row.completed_at_ms).map_err(StoreError::from)?,
                reason: summary.as_ref().and_then(StepSummary::reason).map(str::to_owned),
                summary: row.summary,
            })
        })
        .collect::<Result<_, RunError>>()?;
    Ok(StageView {
        name: row.name.to_string(),
        state: row.state,
        started_at: milliseconds(row.started_at_ms).map_err(StoreError::from)?,
        completed_at: milliseconds(row.completed_at_ms).map_err(StoreError::from)?,
        percent: progress.map(|progress| progress.percent),
        eta_ms: progress.and_then(|progress| progress.eta_ms),
        reason: summary.as_ref().and_then(StepSummary::reason).map(str::to_owned),
        summary: row.summary.unwrap_or_default(),
        sub_steps,
    })
}

fn breach(run: RunId, row: BreachRow) -> Result<BreachView, RunError> {
    let rule = rules::read(
        run,
        &ThresholdValues {
            stage_name: row.stage_name.clone(),
            kind: row.kind.clone(),
            key: "*".to_owned(),
            op: row.op,
            threshold: row.threshold,
            nominal: row.nominal,
            unit: row.unit,
            severity: row.severity,
            source: ThresholdSource::Profile,
            fallback: false,
            terms: TermsValues::default(),
        },
    )?;
    Ok(BreachView {
        stage: row.stage_name,
        kind: row.kind,
        key: row.key,
        rule: rule.describe(),
        severity: row.severity,
        worst: row.worst,
        samples: row.samples,
        first_at: timestamp_text(row.first_ts_ms).map_err(StoreError::from)?,
    })
}
