//! The expected spec of a machine, edited and checked.

use http::StatusCode;
use maud::{Markup, html};
use vetting_judge::spec::HostSpec;
use vetting_judge::yaml::Mistake;
use vetting_protocol::operator_api::{HostEdit, HostView};
use warp::reply::{Reply, Response};

use super::layout::{Place, csrf_field, page as whole_page};
use super::visitor::Visitor;
use super::{Form, see_other};
use crate::http::hosts::{change_host, host_view};
use crate::http::problem::{ApiError, ProblemKind};

/// Lines that are shown before and after a mistake.
const AROUND: usize = 2;

async fn host(visitor: &Visitor, name: &str) -> Result<HostView, ApiError> {
    let name = name.to_owned();
    Ok(visitor.app.driver.store.read(move |connection| host_view(connection, &name)).await?)
}

/// `GET /hosts/{name}/spec`.
pub(super) async fn page(visitor: &Visitor, name: &str) -> Result<Response, ApiError> {
    visitor.app.require_operator()?;
    let host = host(visitor, name).await?;
    Ok(editor(visitor, &host, &host.expected_spec_yaml, None))
}

fn editor(visitor: &Visitor, host: &HostView, text: &str, mistake: Option<&Mistake>) -> Response {
    let rows = text.lines().count().clamp(12, 40);
    let body = html! {
        section {
            p.note { a href=(format!("/hosts/{}", host.name)) { (host.name) } }
            h1 { "Expected spec" }
            @if let Some(mistake) = mistake { (told(mistake, text)) }
            form.stacked method="post" action=(format!("/hosts/{}/spec", host.name)) {
                (csrf_field(visitor))
                input type="hidden" name="seen" value=(host.updated_at);
                label { "YAML; every key is in docs/configuration.md"
                    // a line break that begins the text would be swallowed
                    textarea.code name="spec" rows=(rows) spellcheck="false" autocapitalize="none"
                        data-line=[mistake.map(|mistake| mistake.line)] data-column=[mistake.map(|mistake| mistake.column)] { "\n" (text) }
                }
                p.note { "Runs that are ordered from now on are compared with it; those under way are not." }
                p.buttons {
                    button.go type="submit" { "Check and save" }
                    a.button href=(format!("/hosts/{}", host.name)) { "Leave it as it is" }
                }
            }
        }
    };
    whole_page(visitor, Place::Hosts, "Expected spec", None, &body)
}

/// A mistake with the lines around it.
pub(super) fn told(mistake: &Mistake, text: &str) -> Markup {
    let first = mistake.line.saturating_sub(AROUND + 1);
    html! {
        div.wrong role="alert" {
            p { strong { "Not saved. " } (mistake) }
            pre.excerpt {
                @for (position, line) in text.lines().enumerate().skip(first).take(2 * AROUND + 1) {
                    @let number = position + 1;
                    @if number == mistake.line {
                        mark { (format!("{number:>4} │ {line}\n")) }
                        (format!("     │ {}↑\n", " ".repeat(mistake.column.saturating_sub(1))))
                    } @else { (format!("{number:>4} │ {line}\n")) }
                }
            }
        }
    }
}

/// `POST /hosts/{name}/spec`.
pub(super) async fn save(visitor: &Visitor, name: &str, form: &Form) -> Result<Response, ApiError> {
    let text = form.require("spec")?.replace("\r\n", "\n");
    let host = host(visitor, name).await?;
    if form.require("seen")? != host.updated_at {
        let detail = format!(
            "{name} was changed since this page was loaded, so nothing was saved; go back, keep your text, load the page \
             anew and compare"
        );
        return Err(ApiError::new(ProblemKind::Taken, detail));
    }
    if let Err(error) = HostSpec::parse(&text) {
        let page = editor(visitor, &host, &text, Some(&error.mistake));
        return Ok(warp::reply::with_status(page, StatusCode::UNPROCESSABLE_ENTITY).into_response());
    }
    let edit = HostEdit {
        name: None,
        mac: None,
        wol_broadcast_ip: None,
        wol_port: None,
        expected_spec_yaml: Some(text),
        notes: None,
        serial_console: None,
        burn_watts: None,
    };
    change_host(&visitor.app, name.to_owned(), edit).await?;
    Ok(see_other(&format!("/hosts/{name}")))
}
