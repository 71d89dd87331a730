//! People, for the operator API.

use bytes::Buf;
use futures_util::Stream;
use vetting_protocol::users::{UserCreate, UserEdit, UserView};
use warp::reply::Response;

use super::hosts::check_name;
use super::operator::{MAX_BODY_BYTES, created, ok};
use super::problem::{ApiError, ProblemKind};
use super::{App, body};
use crate::accounts::password::{self, PasswordError};
use crate::run::views;
use crate::store::users::{self, UserChange, UserValues};
use crate::store::{Connection, StoreError, events};

impl From<PasswordError> for ApiError {
    fn from(error: PasswordError) -> Self {
        match error {
            PasswordError::TooShort | PasswordError::TooLong => {
                Self::new(ProblemKind::Invalid, error.to_string())
            }
            PasswordError::Hash { .. } => Self::internal(&error),
        }
    }
}

/// `GET users`.
pub async fn list(app: App) -> Result<Response, ApiError> {
    let list: Vec<_> = app
        .driver
        .store
        .read(|connection| {
            users::list(connection)?.into_iter().map(views::user).collect::<Result<_, StoreError>>()
        })
        .await?;
    Ok(ok(&list))
}

/// `POST users`.
pub async fn add<S, B>(app: App, body: S) -> Result<Response, ApiError>
where
    S: Stream<Item = Result<B, warp::Error>>,
    B: Buf,
{
    Ok(created(&add_user(&app, body::json(body, MAX_BODY_BYTES).await?).await?))
}

/// Checks a new person and adds them.
pub(super) async fn add_user(app: &App, new: UserCreate) -> Result<UserView, ApiError> {
    let UserCreate { name, role, password } = new;
    check_name(&name)?;
    let password_hash = app.accounts.hashed(move || password::hash(&password)).await??;
    let line = app.did(None, "user_added", &format!("added the user {name} as {role}"));
    let (values, now_ms) = (UserValues { name, role, password_hash }, app.driver.clock.now_ms());
    let job = move |connection: &Connection| {
        events::insert(connection, &line)?;
        views::user(users::create(connection, &values, now_ms)?)
    };
    Ok(app.driver.store.write(job).await?)
}

/// What an edit changes, in words.
fn edited(edit: &UserEdit) -> String {
    let mut words = Vec::new();
    if let Some(role) = edit.role {
        words.push(format!("role to {role}"));
    }
    if edit.password.is_some() {
        words.push("password".to_owned());
    }
    match edit.disabled {
        Some(true) => words.push("to disabled".to_owned()),
        Some(false) => words.push("to enabled".to_owned()),
        None => {}
    }
    words.join(", ")
}

/// `PATCH users/{name}`.
pub async fn edit<S, B>(app: App, name: String, body: S) -> Result<Response, ApiError>
where
    S: Stream<Item = Result<B, warp::Error>>,
    B: Buf,
{
    Ok(ok(&change_user(&app, name, body::json(body, MAX_BODY_BYTES).await?).await?))
}

/// Checks changes to a person and carries them out.
pub(super) async fn change_user(app: &App, name: String, edit: UserEdit) -> Result<UserView, ApiError> {
    let line = app.did(None, "user_changed", &format!("changed user {name}: {}", edited(&edit)));
    let password_hash = match edit.password {
        Some(password) => Some(app.accounts.hashed(move || password::hash(&password)).await??),
        None => None,
    };
    let change = UserChange { role: edit.role, password_hash, disabled: edit.disabled };
    let now_ms = app.driver.clock.now_ms();
    let job = move |connection: &Connection| {
        let view = views::user(users::change(connection, &name, &change, now_ms)?)?;
        events::insert(connection, &line)?;
        Ok::<_, StoreError>(view)
    };
    Ok(app.driver.store.write(job).await?)
}
