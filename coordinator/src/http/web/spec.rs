//! The expected spec of a machine, edited and checked.

use http::StatusCode;
use maud::{Markup, html};
use vetting_judge::yaml::Mistake;
use vetting_protocol::operator_api::{HostEdit, HostView};
use warp::reply::{Reply, Response};

use super::layout::{Place, csrf_field, page as whole_page};
use super::visitor::Visitor;
use super::{Form, see_other};
use crate::http::hosts::{change_host, host_view};
use crate::http::problem::{ApiError, ProblemKind};
use crate::http::version::Versioned as _;
use crate::run::specs;

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
    Ok(editor(
        visitor,
        &Editor { name: &host.name, seen: &host.tag(), text: &host.expected_spec_yaml, refused: None },
    ))
}

/// Why nothing was saved.
enum Refused<'a> {
    /// The text is no spec.
    Mistake(&'a Mistake),
    /// It is one, but cannot be this machine's.
    Other(&'a ApiError),
    /// Somebody else changed the machine since the text was begun.
    Changed(&'a HostView),
}

/// What is in the form.
struct Editor<'a> {
    /// The machine's.
    name: &'a str,
    /// The version that the text was made of.
    seen: &'a str,
    text: &'a str,
    refused: Option<Refused<'a>>,
}

fn editor(visitor: &Visitor, form: &Editor<'_>) -> Response {
    let Editor { name, seen, text, refused } = form;
    let rows = text.lines().count().clamp(12, 40);
    let mistake = match refused {
        Some(Refused::Mistake(mistake)) => Some(*mistake),
        _ => None,
    };
    let body = html! {
        section {
            p.note { a href=(format!("/hosts/{name}")) { (name) } }
            h1 { "Expected spec" }
            @if let Some(refused) = refused { (told_why(refused, text)) }
            form.stacked method="post" action=(format!("/hosts/{name}/spec")) {
                (csrf_field(visitor))
                input type="hidden" name="seen" value=(seen);
                label { "YAML; every key is in docs/configuration.md"
                    // a line break that begins the text would be swallowed
                    textarea.code name="spec" rows=(rows) spellcheck="false" autocapitalize="none"
                        data-line=[mistake.map(|mistake| mistake.line)] data-column=[mistake.map(|mistake| mistake.column)] { "\n" (text) }
                }
                p.note { "Runs that are ordered from now on are compared with it; those under way are not." }
                p.buttons {
                    button.go type="submit" { "Check and save" }
                    a.button href=(format!("/hosts/{name}")) { "Leave it as it is" }
                }
            }
        }
    };
    whole_page(visitor, Place::Hosts, "Expected spec", None, &body)
}

fn told_why(refused: &Refused<'_>, text: &str) -> Markup {
    match refused {
        Refused::Mistake(mistake) => told(mistake, text),
        Refused::Other(error) => html! { div.wrong role="alert" { p { strong { "Not saved. " } (error) } } },
        Refused::Changed(host) => html! {
            div.wrong role="alert" {
                p { strong { "Not saved. " } "Somebody else changed " (host.name) " since this page was loaded. "
                    @if host.expected_spec_yaml == text { "Its spec is what you wrote." } @else {
                        "Its spec is now as below; your text is in the field. Saving again puts yours in its place."
                    }
                }
                @if host.expected_spec_yaml != text { pre.excerpt { "\n" (host.expected_spec_yaml) } }
            }
        },
    }
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
    let seen = form.require("seen")?;
    let again = |status: StatusCode, seen: &str, refused: Refused<'_>| {
        let page = editor(visitor, &Editor { name, seen, text: &text, refused: Some(refused) });
        Ok(warp::reply::with_status(page, status).into_response())
    };
    if let Err(error) = specs::check(&visitor.app.driver.profiles, &text) {
        return again(StatusCode::UNPROCESSABLE_ENTITY, seen, Refused::Mistake(&error.mistake));
    }
    let edit = HostEdit {
        name: None,
        mac: None,
        wol_broadcast_ip: None,
        wol_port: None,
        expected_spec_yaml: Some(text.clone()),
        notes: None,
        serial_console: None,
        burn_watts: None,
    };
    // looked at in the transaction that saves: of two who save at once, one is told
    let error = match change_host(&visitor.app.on_version(seen), name.to_owned(), edit).await {
        Ok(_) => return Ok(see_other(&format!("/hosts/{name}"))),
        Err(error) if error.kind.status().is_client_error() => error,
        Err(error) => return Err(error),
    };
    let host = host(visitor, name).await?;
    if error.kind == ProblemKind::OtherVersion {
        again(error.kind.status(), &host.tag(), Refused::Changed(&host))
    } else {
        again(StatusCode::UNPROCESSABLE_ENTITY, seen, Refused::Other(&error))
    }
}
