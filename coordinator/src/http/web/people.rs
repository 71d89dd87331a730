//! People: one's own password, and who else may log in.

use std::net::IpAddr;

use http::StatusCode;
use maud::{Markup, html};
use vetting_protocol::users::{Role, UserCreate, UserEdit};
use warp::reply::{Reply, Response};

use super::layout::{Place, csrf_field, page as whole_page};
use super::visitor::{self, Visitor};
use super::{Form, no_page, see_other};
use crate::accounts::LoginError;
use crate::accounts::password::FEWEST_CHARACTERS;
use crate::http::problem::{ApiError, ProblemKind};
use crate::http::users::{add_user, change_user};

/// A page with one form in it, and what was wrong with what was sent.
pub(super) fn form_page(
    visitor: &Visitor,
    title: &str,
    action: &str,
    wrong: Option<&str>,
    fields: &Markup,
) -> Response {
    let body = html! {
        section.narrow {
            h1 { (title) }
            @if let Some(wrong) = wrong { p.wrong role="alert" { strong { "Nothing was done. " } (wrong) } }
            form.stacked method="post" action=(action) {
                (csrf_field(visitor))
                (fields)
                p.buttons {
                    button.go type="submit" { (title) }
                    a.button href="/settings" { "Leave it as it is" }
                }
            }
        }
    };
    let page = whole_page(visitor, Place::Settings, title, None, &body);
    let status = if wrong.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    warp::reply::with_status(page, status).into_response()
}

/// What is wrong with what somebody typed.
///
/// # Errors
/// It is not that.
pub(super) fn mistake(error: ApiError) -> Result<String, ApiError> {
    match error.kind {
        ProblemKind::Invalid | ProblemKind::Taken => Ok(error.detail),
        _ => Err(error),
    }
}

/// The choice of a role.
pub(super) fn roles(chosen: &str) -> Markup {
    html! {
        fieldset {
            legend { "May" }
            label.check { input type="radio" name="role" value=(Role::Viewer) checked[chosen != Role::Operator.as_str()];
                "read everything but the keys of held machines (viewer)" }
            label.check { input type="radio" name="role" value=(Role::Operator) checked[chosen == Role::Operator.as_str()];
                "do everything (operator)" }
        }
    }
}

/// A new password, typed twice.
fn new_password() -> Markup {
    html! {
        label { "New password, at least " (FEWEST_CHARACTERS) " characters"
            input type="password" name="password" autocomplete="new-password" minlength=(FEWEST_CHARACTERS) required; }
        label { "The same once more" input type="password" name="again" autocomplete="new-password" required; }
    }
}

fn typed_twice(form: &Form) -> bool {
    form.get("password") == form.get("again")
}

const DIFFERENT: &str = "The two passwords are not the same.";

/// `GET /settings/password`.
pub(super) fn password_page(visitor: &Visitor, wrong: Option<&str>) -> Response {
    let fields = html! {
        // for password managers
        input type="hidden" name="username" value=(visitor.name()) autocomplete="username";
        label { "Your password now" input type="password" name="current" autocomplete="current-password" required; }
        (new_password())
        p.note { "Every session of yours ends, this one as well: log in again." }
    };
    form_page(visitor, "Change your password", "/settings/password", wrong, &fields)
}

/// `POST /settings/password`: of whoever sends it, viewers too.
pub(super) async fn set_password(
    visitor: &Visitor,
    address: IpAddr,
    form: &Form,
) -> Result<Response, ApiError> {
    if !typed_twice(form) {
        return Ok(password_page(visitor, Some(DIFFERENT)));
    }
    let app = &visitor.app;
    match app.accounts.check(visitor.name(), form.secret("current"), address.to_canonical()).await {
        Ok(_) => {}
        Err(LoginError::Refused) => {
            return Ok(password_page(visitor, Some("That is not your password now.")));
        }
        Err(error) => return Err(error.into()),
    }
    let edit = UserEdit { role: None, password: Some(form.secret("password")), disabled: None };
    match change_user(app, visitor.name().to_owned(), edit).await {
        Ok(_) => Ok(visitor::end()),
        Err(error) => Ok(password_page(visitor, Some(&mistake(error)?))),
    }
}

/// `GET /settings/users/new`.
pub(super) fn new_page(visitor: &Visitor) -> Result<Response, ApiError> {
    visitor.app.require_operator()?;
    Ok(new_form(visitor, "", Role::Viewer.as_str(), None))
}

fn new_form(visitor: &Visitor, name: &str, role: &str, wrong: Option<&str>) -> Response {
    let fields = html! {
        label { "Name" input type="text" name="name" value=(name) required maxlength="63" autocomplete="off" autocapitalize="none" spellcheck="false"; }
        (roles(role))
        (new_password())
        p.note { "They can change it on this page once they are logged in." }
    };
    form_page(visitor, "Add a user", "/settings/users/new", wrong, &fields)
}

/// `POST /settings/users/new`.
pub(super) async fn add(visitor: &Visitor, form: &Form) -> Result<Response, ApiError> {
    let name = form.require("name")?.trim();
    let role: Role = form.parsed("role")?;
    if !typed_twice(form) {
        return Ok(new_form(visitor, name, role.as_str(), Some(DIFFERENT)));
    }
    let new = UserCreate { name: name.to_owned(), role, password: form.secret("password") };
    match add_user(&visitor.app, new).await {
        Ok(_) => Ok(see_other("/settings")),
        Err(error) => Ok(new_form(visitor, name, role.as_str(), Some(&mistake(error)?))),
    }
}

/// Whether an order keeps somebody out, and what it is called.
fn known(order: &str) -> Result<(bool, &'static str), ApiError> {
    match order {
        "disable" => Ok((true, "Disable the user")),
        "enable" => Ok((false, "Enable the user")),
        _ => Err(no_page()),
    }
}

/// `GET /settings/users/{name}/{order}`.
pub(super) fn order_page(visitor: &Visitor, name: &str, order: &str) -> Result<Response, ApiError> {
    visitor.app.require_operator()?;
    let (disables, title) = known(order)?;
    let fields = html! {
        p { strong { (name) } @if disables { ": every session of theirs ends, and they cannot log in any more. What they did stays in the log." }
            @else { " can log in again, with the password they had." } }
    };
    Ok(form_page(visitor, title, &format!("/settings/users/{name}/{order}"), None, &fields))
}

/// `POST /settings/users/{name}/{order}`.
pub(super) async fn carry_out(visitor: &Visitor, name: &str, order: &str) -> Result<Response, ApiError> {
    let (disables, _) = known(order)?;
    if disables && name == visitor.name() {
        let detail = "you would lock yourself out; let another operator do it, or `user disable` on the coordinator's box";
        return Err(ApiError::new(ProblemKind::Invalid, detail));
    }
    let edit = UserEdit { role: None, password: None, disabled: Some(disables) };
    change_user(&visitor.app, name.to_owned(), edit).await?;
    Ok(see_other("/settings"))
}
