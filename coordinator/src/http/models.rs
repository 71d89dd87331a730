//! The operator API for models and for the history of parts. The token is checked before a handler is called.

use bytes::Buf;
use futures_util::Stream;
use http::StatusCode;
use serde::Deserialize;
use vetting_judge::profile::host_stages;
use vetting_judge::spec::Spec;
use vetting_protocol::ids::RunId;
use vetting_protocol::models::{ComponentView, ModelCreate, ModelEdit, ModelView};
use warp::reply::{Reply, Response};

use super::hosts::check_name;
use super::operator::{MAX_BODY_BYTES, created, ok};
use super::paging::{self, page};
use super::problem::{ApiError, ProblemKind};
use super::version::{self, tagged};
use super::{App, body};
use crate::run::{specs, views};
use crate::store::models::ModelRow;
use crate::store::{Connection, StoreError, components, events, models, runs};

fn check_model_spec(app: &App, yaml: &str) -> Result<(), ApiError> {
    let checked = Spec::parse(yaml).and_then(|spec| host_stages::check(yaml, &spec, &app.driver.profiles));
    checked.map_err(|error| ApiError::new(ProblemKind::SpecInvalid, error.to_string()))
}

fn view(connection: &Connection, row: ModelRow) -> Result<ModelView, StoreError> {
    let hosts = specs::hosts_of(connection, &row.name)?;
    views::model(row, hosts)
}

fn view_of(connection: &Connection, name: &str) -> Result<ModelView, StoreError> {
    let row = models::get(connection, name)?.ok_or_else(|| models::unknown(name))?;
    view(connection, row)
}

/// Query of `GET models`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelsQuery {
    /// Only those whose names come after this one.
    after: Option<String>,
    /// So many; all, if absent.
    limit: Option<u32>,
}

/// `GET models`.
pub async fn list(app: App, query: ModelsQuery) -> Result<Response, ApiError> {
    let limit = query.limit.map(|limit| paging::limit(Some(limit)));
    let job = move |connection: &Connection| {
        let mut hosts = specs::hosts_by_model(connection)?;
        models::page(connection, query.after.as_deref(), limit.map(|limit| limit + 1))?
            .into_iter()
            .map(|row| {
                let hosts = hosts.remove(&row.name).unwrap_or_default();
                views::model(row, hosts)
            })
            .collect::<Result<Vec<_>, StoreError>>()
    };
    let views = app.driver.store.read(job).await?;
    let Some(limit) = limit else { return Ok(ok(&views)) };
    Ok(page("models", views, limit, |last: &ModelView| vec![("after", last.name.clone())]))
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
    check_model_spec(&app, &new.expected_spec_yaml)?;
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
    check_model_spec(&app, &edit.expected_spec_yaml)?;
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

/// Query of `GET components/{serial}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlacesQuery {
    /// Only older runs than this.
    before: Option<RunId>,
    /// The newest so many runs.
    limit: Option<u32>,
}

/// `GET components/{serial}`: where a part was, the newest run first. A run that told the number of several parts has a
/// place for each, all on one page.
pub async fn component(app: App, serial: String, query: PlacesQuery) -> Result<Response, ApiError> {
    let limit = paging::limit(query.limit);
    let missing = format!("no run saw a part with the serial number {serial}");
    let list = format!("components/{serial}");
    let job = move |connection: &Connection| {
        components::by_serial(connection, &serial, query.before, limit + 1)?
            .into_iter()
            .map(|part| {
                let run = views::summary(&runs::get(connection, part.run)?)?;
                let (kind, serial, model, place) = (part.kind, part.serial, part.model, part.place);
                Ok(ComponentView { kind, serial, model, place, run })
            })
            .collect::<Result<Vec<_>, StoreError>>()
    };
    let mut found = app.driver.store.read(job).await?;
    if found.is_empty() && query.before.is_none() {
        return Err(ApiError::not_found(missing));
    }
    let mut runs: Vec<RunId> = found.iter().map(|place| place.run.id).collect();
    runs.dedup();
    let next = runs.get(limit as usize).map(|beyond| {
        found.retain(|place| place.run.id > *beyond);
        vec![("before", runs[limit as usize - 1].to_string())]
    });
    Ok(paging::linked(&list, &found, limit, next))
}
