//! Orders to a run. Each has a page that says what will happen and asks; its button sends the order.

use maud::{Markup, html};
use vetting_judge::waiver::author;
use vetting_protocol::agent_api::AfterRun;
use vetting_protocol::ids::{FindingId, RunId};
use vetting_protocol::operator_api::{RunDetail, RunRelease, WaiverCreate, WaiverWithdraw};
use vetting_protocol::outcome::StepState;
use warp::reply::Response;

use super::layout::{Place, csrf_field, page as whole_page};
use super::visitor::Visitor;
use super::{Form, no_page, see_other};
use crate::http::problem::{ApiError, ProblemKind};

/// `GET /runs/{id}/{order}`.
pub(super) async fn page(
    visitor: &Visitor,
    run: RunId,
    order: &str,
    query: &Form,
) -> Result<Response, ApiError> {
    visitor.app.require_operator()?;
    let detail = visitor.app.driver.detail(run).await?;
    let (title, question) = match order {
        "abort" => ("Abort the run", abort()),
        "release" => ("Release the machine", release()),
        "retry" => ("Retry a stage", retry(&detail)),
        "resume" => ("Resume the run", resume()),
        "waive" => ("Waive a finding", waive(visitor, run, query.parsed("finding")?).await?),
        "withdraw" => ("Withdraw a waiver", withdraw(&detail, query.parsed("waiver")?)?),
        _ => return Err(no_page()),
    };
    let path = format!("/runs/{run}");
    let body = html! {
        section.narrow {
            p.note { "Run " (run) " of " (detail.summary.host) }
            h1 { (title) }
            form.stacked method="post" action=(format!("{path}/{order}")) {
                (csrf_field(visitor))
                (question)
                p.buttons {
                    button.go type="submit" { (title) }
                    a.button href=(path) { "Leave it as it is" }
                }
            }
        }
    };
    Ok(whole_page(visitor, Place::Runs, title, None, &body))
}

fn abort() -> Markup {
    html! { p { "The machine stops what it is at and the run ends without a verdict. What was measured so far is kept." } }
}

fn release() -> Markup {
    html! {
        p { "The machine is let go; its verdict stays a fail. Nobody can log in to it any more." }
        fieldset {
            legend { "Afterwards the machine" }
            label.check { input type="radio" name="then" value="power_off" checked; "switches off" }
            label.check { input type="radio" name="then" value="reboot"; "reboots, and finds its own disk" }
        }
    }
}

fn retry(run: &RunDetail) -> Markup {
    let ran = run.stages.iter().filter(|stage| stage.state != StepState::Pending);
    html! {
        p { "The held machine runs this one stage again, and the run is judged anew." }
        label { "Stage"
            select name="stage" {
                @for stage in ran {
                    option value=(stage.name) selected[stage.state == StepState::Failed] { (stage.name) " (" (stage.state) ")" }
                }
            }
        }
    }
}

fn resume() -> Markup {
    html! {
        p { "Every stage that has not passed runs again; the others keep their results. The run is judged anew. A machine that is no longer held is booted for it." }
    }
}

async fn waive(visitor: &Visitor, run: RunId, finding: FindingId) -> Result<Markup, ApiError> {
    let verdict = visitor.app.driver.verdict(run).await?;
    let found = verdict
        .reasons
        .iter()
        .chain(&verdict.remarks)
        .find(|reason| reason.finding.as_ref() == Some(&finding))
        .ok_or_else(|| ApiError::not_found(format!("run {run} has no such finding")))?;
    Ok(html! {
        blockquote { (found.text) }
        p { "It no longer counts against this run. The run is judged anew, and its report says who waived what and why." }
        input type="hidden" name="finding" value=(finding);
        label { "Why it does not count" textarea name="reason" rows="4" required {} }
    })
}

fn withdraw(run: &RunDetail, number: i64) -> Result<Markup, ApiError> {
    let waiver = run
        .waivers
        .iter()
        .find(|waiver| waiver.id == number)
        .ok_or_else(|| ApiError::not_found(format!("run {} has no waiver {number}", run.summary.id)))?;
    Ok(html! {
        blockquote { (waiver.found) }
        p { "Waived by " (author(&waiver.by, waiver.caller.as_deref())) ": " (waiver.reason) }
        p { "It counts again, and the run is judged anew." }
        input type="hidden" name="waiver" value=(number);
        label { "Why" textarea name="reason" rows="4" required {} }
    })
}

/// `POST /runs/{id}/{order}`.
pub(super) async fn carry_out(
    visitor: &Visitor,
    run: RunId,
    order: &str,
    form: &Form,
) -> Result<Response, ApiError> {
    let app = &visitor.app;
    match order {
        "abort" => {
            app.driver.abort(run, app.order(Some(run), "aborted the run")).await?;
        }
        "release" => {
            let then = match form.require("then")? {
                "power_off" => AfterRun::PowerOff,
                "reboot" => AfterRun::Reboot,
                other => {
                    let detail = format!("`{other}` is not what a released machine can do");
                    return Err(ApiError::new(ProblemKind::Invalid, detail));
                }
            };
            let line = app.order(Some(run), "released the machine");
            app.driver.release(run, RunRelease { then: Some(then) }, line).await?;
        }
        "retry" => {
            let stage = form.parsed("stage")?;
            let line = app.order(Some(run), &format!("had stage {stage} run again"));
            app.driver.retry(run, stage, line).await?;
        }
        "resume" => {
            app.driver.resume_run(run, app.order(Some(run), "had the run go on")).await?;
        }
        "waive" => {
            let (finding, reason) = (form.parsed("finding")?, said(form)?);
            let order = WaiverCreate { finding, reason, by: visitor.name().to_owned() };
            app.driver.waive(run, order, app.caller_name()).await?;
        }
        "withdraw" => {
            let (number, reason) = (form.parsed("waiver")?, said(form)?);
            let order = WaiverWithdraw { reason, by: visitor.name().to_owned() };
            app.driver.withdraw_waiver(run, number, order, app.caller_name()).await?;
        }
        _ => return Err(no_page()),
    }
    Ok(see_other(&format!("/runs/{run}")))
}

/// Why, as somebody typed it.
fn said(form: &Form) -> Result<String, ApiError> {
    let reason = form.require("reason")?.trim().replace("\r\n", "\n");
    if reason.is_empty() {
        return Err(ApiError::new(ProblemKind::Invalid, "say why; it stands in the report"));
    }
    Ok(reason)
}
