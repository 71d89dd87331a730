//! Tokens of programs: made, shown once, and revoked.

use maud::{Markup, html};
use vetting_protocol::operator_api::{TokenCreate, TokenCreated};
use vetting_protocol::users::Role;
use warp::reply::Response;

use super::layout::{Place, page as whole_page};
use super::people::{form_page, mistake, roles};
use super::visitor::Visitor;
use super::{Form, no_page, see_other};
use crate::http::operator::{make_token, revoke_token};
use crate::http::problem::{ApiError, ProblemKind};
use crate::run::views;
use crate::store::{StoreError, tokens};

const DAY_MS: u64 = 24 * 60 * 60 * 1_000;
/// Days that a token can be good at most, where it ends at all: a century.
const MOST_DAYS: u64 = 36_500;

/// `GET /settings/tokens/new`.
pub(super) fn new_page(visitor: &Visitor) -> Result<Response, ApiError> {
    visitor.app.require_operator()?;
    Ok(new_form(visitor, "", Role::Viewer.as_str(), "365", None))
}

fn new_form(visitor: &Visitor, name: &str, role: &str, days: &str, wrong: Option<&str>) -> Response {
    let fields = html! {
        label { "What it is for" input type="text" name="name" value=(name) required maxlength="63" placeholder="grafana"
            autocomplete="off" autocapitalize="none" spellcheck="false"; }
        (roles(role))
        label { "Days that it is good; empty: until it is revoked"
            input type="number" name="days" value=(days) min="1" max=(MOST_DAYS) step="1"; }
    };
    form_page(visitor, "Make a token", "/settings/tokens/new", wrong, &fields)
}

/// How long, ms.
fn valid_ms(days: &str) -> Result<Option<u64>, String> {
    if days.is_empty() {
        return Ok(None);
    }
    match days.parse() {
        Ok(days @ 1..=MOST_DAYS) => Ok(Some(days * DAY_MS)),
        _ => Err(format!("`{days}` is no number of days from 1 to {MOST_DAYS}.")),
    }
}

/// `POST /settings/tokens/new`.
pub(super) async fn make(visitor: &Visitor, form: &Form) -> Result<Response, ApiError> {
    let (name, days) = (form.require("name")?.trim(), form.get("days").unwrap_or_default().trim());
    let role: Role = form.parsed("role")?;
    let again = |wrong: &str| new_form(visitor, name, role.as_str(), days, Some(wrong));
    let valid_ms = match valid_ms(days) {
        Ok(valid_ms) => valid_ms,
        Err(wrong) => return Ok(again(&wrong)),
    };
    match make_token(&visitor.app, TokenCreate { name: name.to_owned(), role, valid_ms }).await {
        Ok(made) => Ok(whole_page(visitor, Place::Settings, "A new token", None, &shown_once(&made))),
        Err(error) => Ok(again(&mistake(error)?)),
    }
}

/// Its text is in this answer and nowhere else.
fn shown_once(made: &TokenCreated) -> Markup {
    html! {
        section.narrow {
            h1 { "The token " (made.view.name) }
            p { "Copy it now: it is shown this once, and only its digest is kept." }
            pre.token tabindex="0" { (made.token.expose()) }
            p.note { "It is a " (made.view.role) "'s"
                @match &made.view.expires_at { Some(end) => { ", good until " (end) " UTC." } None => { ", good until it is revoked." } } }
            p.buttons { a.button href="/settings" { "It is copied" } }
        }
    }
}

fn key(id: &str) -> Result<i64, ApiError> {
    id.parse().map_err(|_| no_page())
}

/// `GET /settings/tokens/{id}/revoke`.
pub(super) async fn revoke_page(visitor: &Visitor, id: &str) -> Result<Response, ApiError> {
    visitor.app.require_operator()?;
    let key = key(id)?;
    let read = visitor.app.driver.store.read(move |connection| {
        let rows = tokens::list(connection)?;
        rows.into_iter().find(|row| row.id == key).map(views::token).transpose()
    });
    let token: Option<_> = read.await.map_err(|error: StoreError| ApiError::from(error))?;
    let token =
        token.ok_or_else(|| ApiError::new(ProblemKind::NotFound, format!("there is no token {id}")))?;
    let fields = html! {
        p { strong { (token.name) } ": whoever uses it is refused from now on. It cannot be taken back." }
    };
    Ok(form_page(visitor, "Revoke the token", &format!("/settings/tokens/{key}/revoke"), None, &fields))
}

/// `POST /settings/tokens/{id}/revoke`.
pub(super) async fn revoke(visitor: &Visitor, id: &str) -> Result<Response, ApiError> {
    revoke_token(visitor.app.clone(), key(id)?).await?;
    Ok(see_other("/settings"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_whole_and_none_is_for_ever() {
        assert_eq!(valid_ms(""), Ok(None));
        assert_eq!(valid_ms("1"), Ok(Some(86_400_000)));
        for wrong in ["0", "-1", "1.5", "36501", "99999999999999999999", "soon"] {
            assert!(valid_ms(wrong).is_err(), "{wrong}");
        }
    }
}
