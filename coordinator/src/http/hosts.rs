//! The operator API's part about registered machines, and what makes a name, an address or a spec a good one.

use std::net::Ipv4Addr;

use bytes::Buf;
use futures_util::Stream;
use http::StatusCode;
use serde::Deserialize;
use vetting_protocol::ids::{MacAddress, ParseIdError};
use vetting_protocol::operator_api::{HostCreate, HostEdit, HostView};
use warp::reply::{Reply, Response};

use super::operator::{MAX_BODY_BYTES, created, ok};
use super::paging::{self, page};
use super::problem::{ApiError, ProblemKind};
use super::version::{self, tagged};
use super::{App, body};
use crate::run::{specs, views};
use crate::serial_console::{ParseConsoleError, SerialConsole};
use crate::store::events::{self, EventValues};
use crate::store::hosts::{self, HostValues};
use crate::store::{Connection, StoreError, runs, serial_consoles, turns};

/// UDP port of Wake-on-LAN, unless told otherwise.
pub(crate) const WOL_PORT: u16 = 9;

/// Query of `GET hosts`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostsQuery {
    /// Only those whose names come after this one.
    after: Option<String>,
    /// So many; all, if absent.
    limit: Option<u32>,
}

/// Query of `DELETE hosts/{name}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemoveQuery {
    /// Also every run of it, with its results and files.
    #[serde(default)]
    with_runs: bool,
}

pub(super) fn check_spec(app: &App, yaml: &str) -> Result<(), ApiError> {
    specs::check(&app.driver.profiles, yaml)
        .map_err(|error| ApiError::new(ProblemKind::SpecInvalid, error.to_string()))
}

/// What is wrong with the name of a host; absent if nothing is.
pub(crate) fn name_mistake(name: &str) -> Option<String> {
    let plain = !name.is_empty()
        && name.len() <= 63
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
    (!plain).then(|| format!("`{name}` is no name; use letters, digits, `.`, `_`, `-`, at most 63"))
}

pub(crate) fn check_name(name: &str) -> Result<(), ApiError> {
    name_mistake(name).map_or(Ok(()), |what| Err(ApiError::new(ProblemKind::Invalid, what)))
}

pub(super) fn check_mac(mac: &str) -> Result<MacAddress, ApiError> {
    mac.parse().map_err(|error: ParseIdError| ApiError::new(ProblemKind::Invalid, error.to_string()))
}

/// The field that nothing can be sent to, and what is wrong with it: an order to wake the machine would only fail later.
pub(crate) fn wake_target_mistake(
    broadcast_ip: Option<Ipv4Addr>,
    port: Option<u16>,
) -> Option<(&'static str, &'static str)> {
    if broadcast_ip.is_some_and(|address| address.is_unspecified()) {
        return Some((
            "wol_broadcast_ip",
            "must be an address packets can be sent to, such as 255.255.255.255",
        ));
    }
    (port == Some(0)).then_some(("wol_port", "must be 1 to 65535"))
}

fn check_wake_target(broadcast_ip: Option<Ipv4Addr>, port: Option<u16>) -> Result<(), ApiError> {
    wake_target_mistake(broadcast_ip, port)
        .map_or(Ok(()), |(field, what)| Err(ApiError::new(ProblemKind::Invalid, format!("`{field}` {what}"))))
}

/// `none` takes the serial line away.
fn check_serial_console(text: &str) -> Result<Option<SerialConsole>, ApiError> {
    if text == "none" {
        return Ok(None);
    }
    text.parse()
        .map(Some)
        .map_err(|error: ParseConsoleError| ApiError::new(ProblemKind::Invalid, error.to_string()))
}

/// `GET hosts`.
pub async fn hosts(app: App, query: HostsQuery) -> Result<Response, ApiError> {
    let limit = query.limit.map(|limit| paging::limit(Some(limit)));
    let views: Vec<_> = app
        .driver
        .store
        .read(move |connection| {
            let rows = hosts::page(connection, query.after.as_deref(), limit.map(|limit| limit + 1))?;
            rows.into_iter().map(views::host).collect::<Result<_, StoreError>>()
        })
        .await?;
    let Some(limit) = limit else { return Ok(ok(&views)) };
    Ok(page("hosts", views, limit, |last: &HostView| vec![("after", last.name.clone())]))
}

pub(super) fn host_view(connection: &Connection, name: &str) -> Result<HostView, StoreError> {
    let host = hosts::require_by_name(connection, name)?;
    views::host(hosts::with_run(connection, host)?)
}

/// `GET hosts/{name}`.
pub async fn host(app: App, name: String) -> Result<Response, ApiError> {
    let view = app.driver.store.read(move |connection| host_view(connection, &name)).await?;
    Ok(tagged(ok(&view), &view))
}

/// `POST hosts`.
pub async fn add_host<S, B>(app: App, body: S) -> Result<Response, ApiError>
where
    S: Stream<Item = Result<B, warp::Error>>,
    B: Buf,
{
    let view = create_host(&app, body::json(body, MAX_BODY_BYTES).await?).await?;
    Ok(tagged(created(&view), &view))
}

/// Checks a new machine and registers it.
pub(super) async fn create_host(app: &App, new: HostCreate) -> Result<HostView, ApiError> {
    check_name(&new.name)?;
    check_spec(app, &new.expected_spec_yaml)?;
    check_wake_target(new.wol_broadcast_ip, new.wol_port)?;
    let values = HostValues {
        mac: check_mac(&new.mac)?,
        name: new.name,
        wol_broadcast_ip: new.wol_broadcast_ip.unwrap_or(Ipv4Addr::BROADCAST),
        wol_port: new.wol_port.unwrap_or(WOL_PORT),
        expected_spec_yaml: new.expected_spec_yaml,
        notes: new.notes,
    };
    let console = new.serial_console.as_deref().map(check_serial_console).transpose()?.flatten();
    let now_ms = app.driver.clock.now_ms();
    let line = app.did(None, "host_added", &format!("added host {}", values.name));
    let view = app
        .driver
        .store
        .write(move |connection| {
            // a model that does not exist is refused now, not when the first run is ordered
            specs::resolve(connection, &values.expected_spec_yaml)?;
            let id = hosts::insert(connection, &values, now_ms)?;
            serial_consoles::set(connection, id, console.as_ref())?;
            events::insert(connection, &EventValues { host_id: Some(id), ..line })?;
            host_view(connection, &values.name)
        })
        .await?;
    Ok(view)
}

/// What an edit changes, in words.
fn edited(edit: &HostEdit) -> Vec<&'static str> {
    let changed = [
        (edit.name.is_some(), "name"),
        (edit.mac.is_some(), "MAC address"),
        (edit.wol_broadcast_ip.is_some() || edit.wol_port.is_some(), "Wake-on-LAN address"),
        (edit.expected_spec_yaml.is_some(), "spec"),
        (edit.notes.is_some(), "notes"),
        (edit.serial_console.is_some(), "serial line"),
        (edit.burn_watts.is_some(), "power under load"),
    ];
    changed.into_iter().filter(|(changed, _)| *changed).map(|(_, word)| word).collect()
}

/// `PATCH hosts/{name}`.
pub async fn edit_host<S, B>(app: App, name: String, body: S) -> Result<Response, ApiError>
where
    S: Stream<Item = Result<B, warp::Error>>,
    B: Buf,
{
    let edit: HostEdit = body::json(body, MAX_BODY_BYTES).await?;
    let view = change_host(&app, name, edit).await?;
    Ok(tagged(ok(&view), &view))
}

/// Checks changes to a machine and carries them out.
pub(super) async fn change_host(app: &App, name: String, edit: HostEdit) -> Result<HostView, ApiError> {
    edit.name.as_deref().map(check_name).transpose()?;
    edit.expected_spec_yaml.as_deref().map(|yaml| check_spec(app, yaml)).transpose()?;
    check_wake_target(edit.wol_broadcast_ip, edit.wol_port)?;
    let mac = edit.mac.as_deref().map(check_mac).transpose()?;
    let console = edit.serial_console.as_deref().map(check_serial_console).transpose()?;
    let (now_ms, if_match) = (app.driver.clock.now_ms(), app.if_match.clone());
    let line = app.did(None, "host_edited", &format!("edited {} of host {name}", edited(&edit).join(", ")));
    let view = app
        .driver
        .store
        .write(move |connection| {
            version::check(if_match.as_deref(), &host_view(connection, &name)?)?;
            let host = hosts::require_by_name(connection, &name)?;
            let id = host.id;
            let mut values = HostValues::from(host);
            values.name = edit.name.unwrap_or(values.name);
            values.mac = mac.unwrap_or(values.mac);
            values.wol_broadcast_ip = edit.wol_broadcast_ip.unwrap_or(values.wol_broadcast_ip);
            values.wol_port = edit.wol_port.unwrap_or(values.wol_port);
            if let Some(yaml) = edit.expected_spec_yaml {
                specs::resolve(connection, &yaml)?;
                values.expected_spec_yaml = yaml;
            }
            values.notes = edit.notes.unwrap_or(values.notes);
            hosts::update(connection, id, &values, now_ms)?;
            if let Some(console) = &console {
                serial_consoles::set(connection, id, console.as_ref())?;
            }
            if let Some(watts) = edit.burn_watts {
                turns::set_told_watts(connection, id, Some(watts).filter(|watts| *watts > 0))?;
            }
            events::insert(connection, &EventValues { host_id: Some(id), ..line })?;
            Ok::<_, ApiError>(host_view(connection, &values.name)?)
        })
        .await?;
    Ok(view)
}

/// `DELETE hosts/{name}`; a history goes only where the query says so.
pub async fn remove_host(app: App, name: String, query: RemoveQuery) -> Result<Response, ApiError> {
    let (with_runs, if_match) = (query.with_runs, app.if_match.clone());
    // a line of the host's own would go with it
    let mut line = app.did(None, "host_removed", "");
    let runs = app
        .driver
        .store
        .write(move |connection| {
            version::check(if_match.as_deref(), &host_view(connection, &name)?)?;
            let host = hosts::require_by_name(connection, &name)?;
            let runs = runs::ids_of_host(connection, host.id)?;
            if !runs.is_empty() && !with_runs {
                return Err(ApiError::from(StoreError::conflict(format!(
                    "{name} has runs ({}), and their results would go with it; `host remove {name} --with-runs` \
                     (`?with_runs=true`) removes both",
                    runs.len()
                ))));
            }
            hosts::delete(connection, host.id)?;
            let what = format!("removed host {name} ({}) and its {} runs", host.mac, runs.len());
            line.message += &what;
            events::insert(connection, &line)?;
            Ok::<_, ApiError>(runs)
        })
        .await?;
    app.driver.remove_files(runs).await;
    Ok(StatusCode::NO_CONTENT.into_response())
}
