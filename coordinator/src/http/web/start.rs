//! Ordering a run of a machine.

use maud::{Markup, html};
use vetting_protocol::operator_api::{HostView, RunCreate};
use vetting_protocol::profile::ProfileName;
use vetting_protocol::run::RunPlace;
use warp::reply::Response;

use super::layout::{Place, csrf_field, page as whole_page};
use super::visitor::Visitor;
use super::{Form, see_other};
use crate::http::hosts::host_view;
use crate::http::problem::{ApiError, ProblemKind};

/// `GET /hosts/{name}/start`.
pub(super) async fn page(visitor: &Visitor, name: &str) -> Result<Response, ApiError> {
    visitor.app.require_operator()?;
    let wanted = name.to_owned();
    let host = visitor.app.driver.store.read(move |connection| host_view(connection, &wanted)).await?;
    let body = html! {
        section.narrow {
            p.note { (host.name) }
            h1 { "Start a run" }
            (form(visitor, &host))
        }
    };
    Ok(whole_page(visitor, Place::Hosts, "Start a run", None, &body))
}

/// A profile with what it takes.
pub(super) fn profile_words(profile: ProfileName) -> &'static str {
    match profile {
        ProfileName::Quick => "quick: half an hour at most",
        ProfileName::Deep => "deep: about a day, every disk read whole",
        ProfileName::Soak => "soak: three days and more",
    }
}

fn form(visitor: &Visitor, host: &HostView) -> Markup {
    html! {
        form.stacked method="post" action=(format!("/hosts/{}/start", host.name)) {
            (csrf_field(visitor))
            fieldset {
                legend { "Profile" }
                @for profile in ProfileName::ALL {
                    label.check { input type="radio" name="profile" value=(profile) checked[*profile == ProfileName::Quick]; (profile_words(*profile)) }
                }
            }
            fieldset {
                legend { "Where" }
                label.check { input type="radio" name="place" value=(RunPlace::LiveImage) checked; "in the live image: the machine is booted for it" }
                label.check { input type="radio" name="place" value=(RunPlace::InstalledSystem);
                    "on its installed system, by the agent there: nothing that disturbs it" }
            }
            fieldset {
                legend { "Disks" }
                label.check { input type="radio" name="disks" value="empty" checked; span { "empty ones may be written to" } }
                label.check { input type="radio" name="disks" value="read"; span { "none is written to" } }
                label.check { input type="radio" name="disks" value="wipe"; span { "all may be overwritten: " strong { "what is on them is lost" } } }
                label.check { input type="radio" name="disks" value="erase"; span { "all are overwritten and erased, with a certificate: "
                    strong { "what is on them is lost" } } }
                label { "To overwrite disks, type the name of the machine"
                    input type="text" name="confirm" autocomplete="off" autocapitalize="none" spellcheck="false"; }
            }
            p.buttons {
                button.go type="submit" { "Start the run" }
                a.button href=(format!("/hosts/{}", host.name)) { "Leave it as it is" }
            }
        }
    }
}

/// `POST /hosts/{name}/start`.
pub(super) async fn start(visitor: &Visitor, name: &str, form: &Form) -> Result<Response, ApiError> {
    let (non_destructive, wipe, erase) = match form.require("disks")? {
        "empty" => (false, false, false),
        "read" => (true, false, false),
        "wipe" => (false, true, false),
        "erase" => (false, true, true),
        other => {
            return Err(ApiError::new(ProblemKind::Invalid, format!("`{other}` is no word for the disks")));
        }
    };
    if wipe && form.get("confirm").map(str::trim) != Some(name) {
        let detail = format!(
            "to overwrite the disks of {name}, type its name into the field below the choice; nothing was started"
        );
        return Err(ApiError::new(ProblemKind::Invalid, detail));
    }
    let order = RunCreate {
        host: name.to_owned(),
        profile: form.parsed("profile")?,
        non_destructive,
        wipe,
        erase,
        place: form.parsed("place")?,
        after_pass: None,
        after_fail: None,
    };
    let app = &visitor.app;
    let run = app.driver.start_run(order, app.order(None, "ordered the run")).await?;
    Ok(see_other(&format!("/runs/{run}")))
}
