//! The operator API's part about lists of hosts, and samples for other programs.

use bytes::Buf;
use futures_util::Stream;
use serde::Deserialize;
use vetting_judge::profile::Registry;
use vetting_protocol::exchange::{HostImport, HostImportView, HostListFormat, SampleView};
use vetting_protocol::ids::RunId;
use warp::reply::Response;

use super::operator::ok;
use super::paging::page;
use super::problem::{ApiError, ProblemKind};
use super::{App, body};
use crate::clock::timestamp_text;
use crate::host_list::{self, ListedHost, Mistake};
use crate::run::specs;
use crate::store::events::{self, EventValues};
use crate::store::{Connection, StoreError, hosts, identities, measurements, runs, serial_consoles, turns};

/// Largest list, bytes.
const MAX_LIST_BYTES: u64 = 8 * 1024 * 1024;
/// Samples in one answer, unless told otherwise, and at most.
const DEFAULT_SAMPLES: u32 = 10_000;
const MAX_SAMPLES: u32 = 50_000;
/// Mistakes that are told of a list.
const MOST_MISTAKES: usize = 200;

/// Why a list was not registered.
enum NotTaken {
    Mistakes(Vec<Mistake>),
    /// It would have been.
    OnlyTried(HostImportView),
    Store(StoreError),
}

impl From<StoreError> for NotTaken {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// `POST host-imports`.
pub async fn import_hosts<S, B>(app: App, body: S) -> Result<Response, ApiError>
where
    S: Stream<Item = Result<B, warp::Error>>,
    B: Buf,
{
    let HostImport { format, text, model, dry_run, skip_existing } = body::json(body, MAX_LIST_BYTES).await?;
    let read = match format {
        HostListFormat::Csv => host_list::from_csv(&text, model.as_deref()),
        HostListFormat::Yaml => host_list::from_yaml(&text, model.as_deref()),
    };
    let listed = read.map_err(|mistakes| refusal(&mistakes))?;
    let now_ms = app.driver.clock.now_ms();
    let line = app.did(None, "host_added", "");
    let profiles = app.driver.profiles.clone();
    let registered = app
        .driver
        .store
        .write(move |connection| {
            let view = register(connection, &profiles, &listed, skip_existing, &line, now_ms)?;
            // an error takes everything back
            if dry_run { Err(NotTaken::OnlyTried(HostImportView { dry_run, ..view })) } else { Ok(view) }
        })
        .await;
    match registered {
        Ok(view) | Err(NotTaken::OnlyTried(view)) => Ok(ok(&view)),
        Err(NotTaken::Mistakes(mistakes)) => Err(refusal(&mistakes)),
        Err(NotTaken::Store(error)) => Err(error.into()),
    }
}

fn refusal(mistakes: &[Mistake]) -> ApiError {
    let count = mistakes.len();
    let mut lines = vec![format!("{count} mistakes in the list, so nothing was registered:")];
    lines.extend(mistakes.iter().take(MOST_MISTAKES).map(ToString::to_string));
    if count > MOST_MISTAKES {
        lines.push(format!("and {} more", count - MOST_MISTAKES));
    }
    ApiError::new(ProblemKind::Invalid, lines.join("\n"))
}

/// Registers every host that can be, and tells of those that cannot.
fn register(
    connection: &Connection,
    profiles: &Registry,
    listed: &[ListedHost],
    skip_existing: bool,
    line: &EventValues,
    now_ms: i64,
) -> Result<HostImportView, NotTaken> {
    let mut view = HostImportView { dry_run: false, added: Vec::new(), existing: Vec::new() };
    let mut mistakes = Vec::new();
    for host in listed {
        let name = &host.values.name;
        if skip_existing && hosts::by_name(connection, name)?.is_some() {
            view.existing.push(name.clone());
            continue;
        }
        match one(connection, profiles, host, line, now_ms) {
            Ok(()) => view.added.push(name.clone()),
            Err((field, StoreError::Conflict { what } | StoreError::NotFound { what })) => {
                mistakes.push(Mistake { place: host.place(field), what: format!("{field}: {what}") });
            }
            Err((_, error)) => return Err(error.into()),
        }
    }
    if mistakes.is_empty() { Ok(view) } else { Err(NotTaken::Mistakes(mistakes)) }
}

/// Registers a host; names the field that keeps it from being.
fn one(
    connection: &Connection,
    profiles: &Registry,
    host: &ListedHost,
    line: &EventValues,
    now_ms: i64,
) -> Result<(), (&'static str, StoreError)> {
    let values = &host.values;
    specs::resolve(connection, &values.expected_spec_yaml).map_err(|error| ("model", error))?;
    specs::check(profiles, &values.expected_spec_yaml)
        .map_err(|error| ("spec", StoreError::conflict(error.to_string())))?;
    let taken = hosts::by_name(connection, &values.name).map_err(|error| ("name", error))?.is_some();
    let field = if taken { "name" } else { "mac" };
    let id = hosts::insert(connection, values, now_ms).map_err(|error| (field, error))?;
    for mac in &host.further_macs {
        identities::add_mac(connection, id, *mac, now_ms).map_err(|error| ("further_macs", error))?;
    }
    let rest = || {
        serial_consoles::set(connection, id, host.serial_console.as_ref())?;
        turns::set_told_watts(connection, id, host.burn_watts)?;
        let message = format!("{}imported host {}", line.message, values.name);
        events::insert(connection, &EventValues { host_id: Some(id), message, ..line.clone() }).map(drop)
    };
    rest().map_err(|error| ("name", error))
}

/// Query of `GET runs/{id}/measurements`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SamplesQuery {
    /// Only those with a greater key.
    after: Option<i64>,
    /// So many.
    limit: Option<u32>,
}

/// `GET runs/{id}/measurements`.
pub async fn samples(app: App, run: RunId, query: SamplesQuery) -> Result<Response, ApiError> {
    let limit = query.limit.unwrap_or(DEFAULT_SAMPLES).clamp(1, MAX_SAMPLES);
    let after = query.after.unwrap_or(0);
    let samples: Vec<SampleView> = app
        .driver
        .store
        .read(move |connection| {
            runs::get(connection, run)?;
            let view = |(id, sample): (i64, vetting_protocol::measurement::Measurement)| {
                Ok::<_, StoreError>(SampleView {
                    id,
                    ts: timestamp_text(sample.ts_ms)?,
                    stage: sample.stage.map(|stage| stage.to_string()),
                    kind: sample.kind,
                    key: sample.key,
                    value: sample.value,
                    unit: sample.unit,
                })
            };
            measurements::page(connection, run, after, limit + 1)?
                .into_iter()
                .map(view)
                .collect::<Result<_, _>>()
        })
        .await?;
    let next = |last: &SampleView| vec![("after", last.id.to_string())];
    Ok(page(&format!("runs/{run}/measurements"), samples, limit, next))
}
