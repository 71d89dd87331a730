//! Logging in and out.

use http::StatusCode;
use maud::html;
use warp::reply::Response;

use super::layout::bare_page;
use super::visitor::{self, Visitor};
use super::{Form, Request, see_other};
use crate::accounts::LoginError;
use crate::http::problem::ApiError;

/// Only a path of our own: nobody is sent elsewhere after a log-in.
fn own_path(next: Option<&str>) -> &str {
    match next {
        Some(path)
            if path.starts_with('/')
                && !path.starts_with("//")
                && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\') =>
        {
            path
        }
        Some(_) | None => "/",
    }
}

/// `GET /login`.
pub(super) fn page(request: &Request) -> Response {
    form(StatusCode::OK, own_path(request.query.get("next")), "", None)
}

fn form(status: StatusCode, next: &str, name: &str, wrong: Option<&str>) -> Response {
    let body = html! {
        section.login {
            h1 { "Log in" }
            @if let Some(wrong) = wrong { p.wrong role="alert" { (wrong) } }
            form.stacked method="post" action="/login" {
                input type="hidden" name="next" value=(next);
                label { "Name" input type="text" name="name" value=(name) autocomplete="username" autocapitalize="none"
                    spellcheck="false" required autofocus; }
                label { "Password" input type="password" name="password" autocomplete="current-password" required; }
                button type="submit" { "Log in" }
            }
            p.note { "Users are added on the coordinator's box: " code { "vetting-coordinator user add NAME" } }
        }
    };
    bare_page(status, "Log in", &body)
}

/// A browser that comes from another site does not send the cookie; coming from ours it does.
pub(super) fn once_more(here: &str) -> Response {
    let body = html! {
        meta http-equiv="refresh" content=(format!("0; url={}", own_path(Some(here))));
        section.login { h1 { "One moment" } p { a href=(own_path(Some(here))) { "Continue" } } }
    };
    bare_page(StatusCode::OK, "One moment", &body)
}

/// `POST /login`.
pub(super) async fn log_in(request: &Request, form_sent: &Form) -> Result<Response, ApiError> {
    visitor::check_origin(&request.headers)?;
    let name = form_sent.get("name").unwrap_or_default().trim();
    let next = own_path(form_sent.get("next"));
    let address = request.connection.remote.ip().to_canonical();
    match request.app.accounts.log_in(name, form_sent.secret("password"), address).await {
        Ok(logged_in) => Ok(visitor::begin(&request.app, &logged_in, next)),
        Err(LoginError::Run(error)) => Err(error.into()),
        Err(error @ (LoginError::Refused | LoginError::TooMany)) => {
            let said = error.to_string();
            let status = ApiError::from(error).kind.status();
            Ok(form(status, next, name, Some(&said)))
        }
    }
}

/// `POST /logout`.
pub(super) async fn log_out(visitor: &Visitor) -> Result<Response, ApiError> {
    visitor.log_out().await?;
    Ok(visitor::end())
}

/// `GET /logout`, as of somebody who typed it: a link of another site must not log anybody out.
pub(super) fn log_out_page() -> Response {
    see_other("/")
}

#[cfg(test)]
mod tests {
    use super::own_path;

    #[test]
    fn nobody_is_sent_to_another_site() {
        assert_eq!(own_path(Some("/runs/1?stage=CPUStress")), "/runs/1?stage=CPUStress");
        for next in
            ["", "//evil.example", "https://evil.example", "/\\evil.example", "/a b", "/a\r\nb", "runs"]
        {
            assert_eq!(own_path(Some(next)), "/", "{next}");
        }
        assert_eq!(own_path(None), "/");
    }
}
