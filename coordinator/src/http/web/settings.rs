//! What the coordinator was told, its people and its tokens. The configuration is a file and read only; what changes people
//! and tokens has pages of its own.

use maud::{Markup, html};
use vetting_protocol::operator_api::TokenView;
use vetting_protocol::users::UserView;
use warp::reply::Response;

use super::layout::{Place, Tone, badge, or_dash, page as whole_page, scroll};
use super::visitor::Visitor;
use crate::clock::seconds_text;
use crate::config::Config;
use crate::http::problem::ApiError;
use crate::run::views;
use crate::store::{StoreError, tokens, users};

/// A key of the configuration with its value, in words.
pub(super) struct Setting {
    key: &'static str,
    value: String,
}

/// What of the configuration is shown. No secret is in a configuration, and none is shown.
pub(super) fn told(config: &Config) -> Vec<Setting> {
    let path = |path: &std::path::Path| path.display().to_string();
    let on = |on: bool| if on { "on" } else { "off" }.to_owned();
    let days = |kept: &crate::config::Kept| {
        kept.retention_days.map_or_else(|| "for ever".to_owned(), |days| format!("{days} days"))
    };
    let proxy = config.web.proxy_login.as_ref().map_or_else(
        || "off".to_owned(),
        |proxy| {
            let from: Vec<String> = proxy.from.iter().map(ToString::to_string).collect();
            format!("{} from {}", proxy.header, from.join(", "))
        },
    );
    [
        ("database.path", path(&config.database.path)),
        ("state_dir", path(&config.state_dir)),
        ("listen.https", config.listen.https.to_string()),
        ("listen.http", config.listen.http.to_string()),
        ("public_address", config.public_address.clone().unwrap_or_else(|| "as machines ask".to_owned())),
        ("image.dir", path(&config.image.dir)),
        ("netboot", on(config.netboot.enabled)),
        ("network_test", on(config.network_test.enabled)),
        ("enrolment.netboot", config.enrolment.netboot.to_string()),
        ("timeouts.wake", config.timeouts.wake.to_string()),
        ("timeouts.boot", config.timeouts.boot.to_string()),
        ("timeouts.silence", config.timeouts.silence.to_string()),
        ("timeouts.reboot", config.timeouts.reboot.to_string()),
        ("hold.limit", config.hold.limit.to_string()),
        ("after_run.pass", config.after_run.pass.to_string()),
        ("after_run.fail", config.after_run.fail.to_string()),
        ("artifacts.retention_days", days(&config.artifacts)),
        ("logs.retention_days", days(&config.logs)),
        ("web.session_lifetime", config.web.session_lifetime.to_string()),
        ("web.session_idle", config.web.session_idle.to_string()),
        ("web.proxy_login", proxy),
    ]
    .into_iter()
    .map(|(key, value)| Setting { key, value })
    .collect()
}

/// `GET /settings`.
pub(super) async fn page(visitor: &Visitor) -> Result<Response, ApiError> {
    let read = visitor.app.driver.store.read(|connection| {
        let users: Vec<UserView> =
            users::list(connection)?.into_iter().map(views::user).collect::<Result<_, _>>()?;
        let tokens: Vec<TokenView> =
            tokens::list(connection)?.into_iter().map(views::token).collect::<Result<_, _>>()?;
        Ok::<_, StoreError>((users, tokens))
    });
    let (users, tokens) = read.await?;
    let now = seconds_text(visitor.app.driver.clock.now_ms()).map_err(StoreError::from)?;
    let body = html! {
        h1 { "Settings" }
        p.buttons { a.button href="/settings/password" { "Change your password…" } }
        section { h2 { "Users" } (user_table(visitor, &users))
            @if visitor.is_operator() { p.buttons { a.button href="/settings/users/new" { "Add a user…" } } } }
        section { h2 { "Tokens" } (token_table(visitor, &tokens, &now))
            @if visitor.is_operator() { p.buttons { a.button href="/settings/tokens/new" { "Make a token…" } } } }
        section { h2 { "Configuration" }
            p.note { "Read only: it is the file that " code { "serve" } " was started with." }
            table.settings { tbody { @for setting in &visitor.app.web.settings { tr {
                th scope="row" { code { (setting.key) } } td { (setting.value) }
            } } } }
        }
        p.note { "vetting-coordinator " (env!("CARGO_PKG_VERSION")) }
    };
    Ok(whole_page(visitor, Place::Settings, "Settings", None, &body))
}

fn user_table(visitor: &Visitor, users: &[UserView]) -> Markup {
    let order = |user: &UserView| if user.disabled_at.is_some() { "enable" } else { "disable" };
    html! {
        (scroll("Users", &html! { table {
            thead { tr { th { "Name" } th { "Role" } th { "State" } th { "Created" } th { "Password set" } th { "Last log-in" }
                @if visitor.is_operator() { th { span.off-screen { "Order" } } } } }
            tbody { @for user in users { tr {
                th scope="row" { (user.name) } td { (user.role) }
                td { @if user.disabled_at.is_some() { (badge(Tone::Warn, "disabled")) } @else { (badge(Tone::Good, "can log in")) } }
                td.nowrap { (user.created_at) } td.nowrap { (user.password_set_at) }
                td.nowrap { (or_dash(user.last_login_at.as_deref())) }
                @if visitor.is_operator() { td { @if user.name != visitor.name() {
                    a href=(format!("/settings/users/{}/{}", user.name, order(user))) aria-label=(format!("{} {}", order(user), user.name)) { (order(user)) "…" }
                } } }
            } } }
        } }))
    }
}

/// Whether a token is good at `now`, a time as the API writes it.
fn token_badge(token: &TokenView, now: &str) -> Markup {
    match (&token.revoked_at, &token.expires_at) {
        (Some(_), _) => badge(Tone::Warn, "revoked"),
        (None, Some(end)) if end.as_str() <= now => badge(Tone::Warn, "over"),
        (None, _) => badge(Tone::Good, "good"),
    }
}

fn token_table(visitor: &Visitor, tokens: &[TokenView], now: &str) -> Markup {
    html! {
        (scroll("Tokens", &html! { table {
            thead { tr { th { "Nr" } th { "Name" } th { "Role" } th { "State" } th { "Created" } th { "Last used" } th { "Expires" }
                @if visitor.is_operator() { th { span.off-screen { "Order" } } } } }
            tbody { @for token in tokens { tr {
                td { (token.id) } th scope="row" { (token.name) } td { (token.role) }
                td { (token_badge(token, now)) }
                td.nowrap { (token.created_at) }
                td.nowrap { (or_dash(token.last_used_at.as_deref())) } td.nowrap { (or_dash(token.expires_at.as_deref())) }
                @if visitor.is_operator() { td { @if token.revoked_at.is_none() {
                    a href=(format!("/settings/tokens/{}/revoke", token.id)) aria-label=(format!("revoke {}", token.name)) { "revoke…" }
                } } }
            } } }
        } }))
    }
}
