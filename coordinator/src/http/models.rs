//! The operator API for models and for the history of parts. The token is checked before a handler is called.

use bytes::Buf;
use futures_util::Stream;
use http::StatusCode;
use vetting_judge::spec::Spec;
use vetting_protocol::models::{ComponentView, ModelCreate, ModelEdit, ModelView};
use warp::reply::{Reply, Response};

use super::hosts::check_name;
use super::operator::{MAX_BODY_BYTES, created, ok};
use super::problem::{ApiError, ProblemKind};
use super::version::{self, tagged};
use super::{App, body};
use crate::run::{specs, views};
use crate::store::models::ModelRow;
use crate::store::{Connection, StoreError, components, events, models, runs};

/// Earlier places of a part that are told.
const MOST_PLACES: u32 = 200;

fn check_model_spec(yaml: &str) -> Result<(), ApiError> {
    Spec::parse(yaml).map(drop).map_err(|error| ApiError::new(ProblemKind::SpecInvalid, error.to_string()))
}

fn view(connection: &Connection, row: ModelRow) -> Result<ModelView, StoreError> {
    let hosts = specs::hosts_of(connection, &row.name)?;
    views::model(row, hosts)
}

fn view_of(connection: &Connection, name: &str) -> Result<ModelView, StoreError> {
    let row = models::get(connection, name)?.ok_or_else(|| models::unknown(name))?;
    view(connection, row)
}

/// `GET models`.
pub async fn list(app: App) -> Result<Response, ApiError> {
    let job = |connection: &Connection| {
        models::list(connection)?
            .into_iter()
            .map(|row| view(connection, row))
            .collect::<Result<Vec<_>, StoreError>>()
    };
    Ok(ok(&app.driver.store.read(job).await?))
}

/// `GET models/{name}`.
pub async fn show(app: App, name: String) -> Result<Response, ApiError> {
    let view = app.driver.store.read(move |connection| view_of(connection, &name)).await?;
    Ok(tagged(ok(&view), &view))
}

/// `POST models`.
pub async fn add<S, B>(app: App, body: S) -> Result<Response, ApiError>
where
    S: Stream<Item = Result<B, warp::Error>>,
    B: Buf,
{
    let new: ModelCreate = body::json(body, MAX_BODY_BYTES).await?;
    check_name(&new.name)?;
    check_model_spec(&new.expected_spec_yaml)?;
    let now_ms = app.driver.clock.now_ms();
    let line = app.did(None, "model_added", &format!("added model {}", new.name));
    let job = move |connection: &Connection| {
        models::insert(connection, &new.name, &new.expected_spec_yaml, now_ms)?;
        events::insert(connection, &line)?;
        view_of(connection, &new.name)
    };
    let view = app.driver.store.write(job).await?;
    Ok(tagged(created(&view), &view))
}

/// `PATCH models/{name}`: for the runs that are ordered from now on.
pub async fn edit<S, B>(app: App, name: String, body: S) -> Result<Response, ApiError>
where
    S: Stream<Item = Result<B, warp::Error>>,
    B: Buf,
{
    let edit: ModelEdit = body::json(body, MAX_BODY_BYTES).await?;
    check_model_spec(&edit.expected_spec_yaml)?;
    let (now_ms, if_match) = (app.driver.clock.now_ms(), app.if_match.clone());
    let line = app.did(None, "model_edited", &format!("edited the spec of model {name}"));
    let job = move |connection: &Connection| {
        version::check(if_match.as_deref(), &view_of(connection, &name)?)?;
        models::update(connection, &name, &edit.expected_spec_yaml, now_ms)?;
        events::insert(connection, &line)?;
        Ok::<_, ApiError>(view_of(connection, &name)?)
    };
    let view = app.driver.store.write(job).await?;
    Ok(tagged(ok(&view), &view))
}

/// `DELETE models/{name}`: refused while a host takes it.
pub async fn remove(app: App, name: String) -> Result<Response, ApiError> {
    let line = app.did(None, "model_removed", &format!("removed model {name}"));
    let if_match = app.if_match.clone();
    let job = move |connection: &Connection| {
        let current = view_of(connection, &name)?;
        version::check(if_match.as_deref(), &current)?;
        if let Some(host) = current.hosts.first() {
            return Err(ApiError::from(StoreError::conflict(format!(
                "{} hosts take their spec from {name}, {host} among them; give them another first",
                current.hosts.len()
            ))));
        }
        models::delete(connection, &name)?;
        Ok(events::insert(connection, &line)?)
    };
    app.driver.store.write(job).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `GET components/{serial}`: where a part was, the newest run first.
pub async fn component(app: App, serial: String) -> Result<Response, ApiError> {
    let missing = format!("no run saw a part with the serial number {serial}");
    let job = move |connection: &Connection| {
        components::by_serial(connection, &serial, MOST_PLACES)?
            .into_iter()
            .map(|part| {
                let run = views::summary(&runs::get(connection, part.run)?)?;
                let (kind, serial, model, place) = (part.kind, part.serial, part.model, part.place);
                Ok(ComponentView { kind, serial, model, place, run })
            })
            .collect::<Result<Vec<_>, StoreError>>()
    };
    let found = app.driver.store.read(job).await?;
    if found.is_empty() { Err(ApiError::not_found(missing)) } else { Ok(ok(&found)) }
}
